//! Where sequences come from: files of any format that can be scored, folders of them, and the tables of a finished job.

pub mod job;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read},
    path::{Path, PathBuf},
};

use fulltime_common::{Exit, error::Failure};
use fulltime_score::{FormatError, Sequence, cdf, coco, gsr, mot, truth};

use self::job::{By, Job};

/// Ground truth and results of one recording.
#[derive(Debug)]
pub struct Pair {
    pub name: String,
    /// Recordings of one match are one group.
    pub group: String,
    pub truth: Sequence,
    /// By identity.
    pub found: Sequence,
    /// By track, where identities are more than tracks.
    pub tracks: Option<Sequence>,
}

/// Ground truth and results that belong together, by name.
///
/// # Errors
/// Files that cannot be read, results without truth.
pub async fn pairs(truth: &str, results: &str) -> Result<Vec<Pair>, Failure> {
    let place = Path::new(truth);
    if let Some(job) = Job::open(results).await? {
        return pairs_of_job(place, &job).await;
    }
    let results = Path::new(results);
    if !results.is_dir() {
        let name = name_of(results);
        return Ok(vec![Pair { group: name.clone(), name, truth: read(place)?, found: read(results)?, tracks: None }]);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(results)
        .map_err(|error| unreadable(results, &error))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_file() && is_format(path))
        .collect();
    files.sort();
    let mut pairs = Vec::new();
    for file in files {
        let name = name_of(&file);
        let truth = read(&truth_of(place, &name, &file.display().to_string())?)?;
        pairs.push(Pair { group: name.clone(), name, truth, found: read(&file)?, tracks: None });
    }
    if pairs.is_empty() {
        let cause = format!("no results below `{}`", results.display());
        return Err(Failure::new(
            Exit::Usage,
            cause,
            "give a result file, a folder of them, or a job's folder jobs/JOB/gN",
        ));
    }
    Ok(pairs)
}

async fn pairs_of_job(truth: &Path, job: &Job) -> Result<Vec<Pair>, Failure> {
    let mut pairs = Vec::new();
    for summary in job.matches() {
        let tables = job.tables(&summary.id).await?;
        for recording in &summary.recordings {
            let stem = job::stem(&recording.key);
            let place = match truth.is_dir() {
                true => truth_of(truth, stem, &recording.key)?,
                false => truth.to_owned(),
            };
            pairs.push(Pair {
                name: stem.to_owned(),
                group: summary.id.to_string(),
                truth: read(&place)?,
                found: tables.sequence(recording, By::Identity),
                tracks: Some(tables.sequence(recording, By::Track)),
            });
        }
    }
    if !truth.is_dir() && pairs.len() > 1 {
        let cause = format!("`{}` is one file, and the job has {} recordings", truth.display(), pairs.len());
        return Err(Failure::new(Exit::Usage, cause, "give the folder that holds the truth of each recording"));
    }
    Ok(pairs)
}

/// Reads a file of any of the formats; what it is follows from its name and its first line.
///
/// # Errors
/// No such file, or not of its format.
pub fn read(path: &Path) -> Result<Sequence, Failure> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let mut input = BufReader::new(file);
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    let sequence = match ending.as_str() {
        "jsonl" => {
            let head = input.fill_buf().map_err(|error| unreadable(path, &error))?;
            // Every line of the synthetic truth says what the camera sees; tracking data of the CDF has no camera.
            let is_truth = String::from_utf8_lossy(&head[..head.len().min(4096)]).contains("\"homography\"");
            if is_truth { truth::read(input) } else { read_cdf(path, input) }
        }
        "json" => {
            let mut text = String::new();
            input.read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
            let is_gsr = text.contains("\"bbox_image\"")
                || text.contains("\"supercategory\"") && text.contains("\"image_id\":\"");
            if is_gsr { gsr::read(text.as_bytes()) } else { coco::read(text.as_bytes()) }
        }
        _ => mot::read(input),
    };
    sequence.map_err(|error| malformed(path, &error))
}

/// Shirt numbers are in `meta.json` beside the tracking data, if it is there.
fn read_cdf(path: &Path, input: impl Read) -> Result<Sequence, FormatError> {
    match File::open(path.with_file_name("meta.json")) {
        Ok(mut meta) => cdf::read(input, Some(&mut meta)),
        Err(_) => cdf::read(input, None),
    }
}

const ENDINGS: [&str; 4] = ["txt", "gz", "json", "jsonl"];

fn is_format(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ENDINGS.iter().any(|known| extension == *known))
}

/// `TUD-Campus` of `TUD-Campus.txt`, `mot15/TUD-Campus/gt/gt.txt` and `TUD-Campus.gt.txt`.
pub fn name_of(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.split('.').next().unwrap_or_default();
    if !matches!(stem, "gt" | "det" | "res") {
        return stem.to_owned();
    }
    let folders = path.ancestors().skip(1).filter_map(|folder| folder.file_name());
    folders.map(|name| name.to_string_lossy().into_owned()).find(|name| name != "gt").unwrap_or_else(|| stem.to_owned())
}

fn truth_of(folder: &Path, name: &str, whose: &str) -> Result<PathBuf, Failure> {
    let endings = [".truth.jsonl", "/gt/gt.txt", "/gt/gt.txt.gz", "/gt.txt", ".gt.txt", ".txt", ".jsonl", ".json"];
    let places = endings.iter().map(|ending| folder.join(format!("{name}{ending}")));
    places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let cause = format!("no ground truth for `{whose}` below `{}`", folder.display());
        Failure::new(Exit::Usage, cause, format!("put it there as `{name}.txt`, `{name}/gt/gt.txt` or `{name}.json`"))
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("read `{}`: {error}", path.display()), "check the path")
}

fn malformed(path: &Path, error: &FormatError) -> Failure {
    let cause = format!("`{}`: {}", path.display(), fulltime_common::error::chain(error));
    Failure::new(Exit::Usage, cause, "correct the file, or give one of a format that can be scored")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_is_called_as_its_benchmark_calls_it() {
        for path in ["x/TUD-Campus.txt", "x/TUD-Campus/gt/gt.txt", "x/TUD-Campus.gt.txt", "TUD-Campus/gt/gt.txt.gz"] {
            assert_eq!(name_of(Path::new(path)), "TUD-Campus", "{path}");
        }
    }

    #[tokio::test]
    async fn results_without_truth_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (truth, results) = (dir.path().join("truth"), dir.path().join("results"));
        std::fs::create_dir_all(&truth).unwrap();
        std::fs::create_dir_all(&results).unwrap();
        std::fs::write(results.join("a.txt"), "1,1,0,0,5,5,1\n").unwrap();
        let (truth, results) = (truth.display().to_string(), results.display().to_string());
        let failure = pairs(&truth, &results).await.unwrap_err();
        assert!(failure.cause.contains("no ground truth for"), "{}", failure.cause);
        std::fs::write(dir.path().join("truth/a.txt"), "1,1,0,0,5,oops,1\n").unwrap();
        let failure = pairs(&truth, &results).await.unwrap_err();
        assert!(failure.cause.contains("a.txt`: line 1, column 6 (height)"), "{}", failure.cause);
    }
}
