//! Where sequences come from: files of any format that can be scored, folders of them, and the tables of a finished job.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use fulltime_common::{Exit, error::Failure};
use fulltime_score::{FormatError, Sequence, mot};

/// A sequence and what it is called.
#[derive(Debug)]
pub struct Named {
    pub name: String,
    pub sequence: Sequence,
}

/// Ground truth and results that belong together, by name.
///
/// # Errors
/// Files that cannot be read, results without truth.
pub async fn pairs(truth: &str, results: &str) -> Result<Vec<(Named, Named)>, Failure> {
    let (truth, results) = (Path::new(truth), Path::new(results));
    if !results.is_dir() {
        return Ok(vec![(read(truth)?, read(results)?)]);
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
        let place = truth_of(truth, &name).ok_or_else(|| {
            let cause = format!("no ground truth for `{}` below `{}`", file.display(), truth.display());
            Failure::new(Exit::Usage, cause, format!("put it at `{name}/gt/gt.txt` or `{name}.txt` there"))
        })?;
        pairs.push((read(&place)?, read(&file)?));
    }
    if pairs.is_empty() {
        let cause = format!("no results below `{}`", results.display());
        return Err(Failure::new(Exit::Usage, cause, "give a result file, or a folder of them"));
    }
    Ok(pairs)
}

/// Reads a file of any of the formats.
///
/// # Errors
/// No such file, or not of its format.
pub fn read(path: &Path) -> Result<Named, Failure> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let sequence = mot::read(file).map_err(|error| malformed(path, &error))?;
    Ok(Named { name: name_of(path), sequence })
}

const ENDINGS: [&str; 2] = ["txt", "gz"];

fn is_format(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ENDINGS.iter().any(|known| extension == *known))
}

/// `TUD-Campus` of `TUD-Campus.txt`, `mot15/TUD-Campus/gt/gt.txt` and `TUD-Campus.gt.txt`.
fn name_of(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.split('.').next().unwrap_or_default();
    if !matches!(stem, "gt" | "det" | "res") {
        return stem.to_owned();
    }
    let folders = path.ancestors().skip(1).filter_map(|folder| folder.file_name());
    folders.map(|name| name.to_string_lossy().into_owned()).find(|name| name != "gt").unwrap_or_else(|| stem.to_owned())
}

fn truth_of(folder: &Path, name: &str) -> Option<PathBuf> {
    let places = [
        format!("{name}/gt/gt.txt"),
        format!("{name}/gt/gt.txt.gz"),
        format!("{name}/gt.txt"),
        format!("{name}.gt.txt"),
        format!("{name}.txt"),
    ];
    places.iter().map(|place| folder.join(place)).find(|path| path.is_file())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("read `{}`: {error}", path.display()), "check the path")
}

fn malformed(path: &Path, error: &FormatError) -> Failure {
    let cause = format!("`{}`: {}", path.display(), fulltime_common::error::chain(error));
    Failure::new(Exit::Usage, cause, "correct the file, or give one of a format that can be scored")
}
