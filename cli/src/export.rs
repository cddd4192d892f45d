//! `fulltime export`: a finished job's tables in formats that others read, a file a recording.

mod video;

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use fulltime_common::{
    Exit,
    error::Failure,
    keys,
    results::{MatchSummary, RecordingSummary},
    store::Store,
};
use fulltime_score::{Attributes, FormatError, Object, Sequence, cdf, coco, gsr, mot};
use serde_json::{Value, json};

use crate::{
    args::{ExportArgs, ExportFormat},
    screen::Screen,
    sources::{
        job::{By, Job, Tables, stem},
        name_of, read,
    },
    text::plural,
};

/// `fulltime export`.
///
/// # Errors
/// No such job, or a folder that cannot be written.
pub async fn export(args: ExportArgs) -> Result<Exit, Failure> {
    let screen = Screen::new(args.json);
    let folder = Folder { root: args.out.clone() };
    let exported = match Job::open(&args.source).await? {
        Some(job) => export_job(&job, &args, &folder, &screen).await,
        None => export_file(Path::new(&args.source), &args, &folder),
    };
    screen.clear();
    let exported = exported?;
    let files: Vec<String> = exported.iter().map(|done| done.path.display().to_string()).collect();
    if args.json {
        let lines: Vec<Value> = exported.iter().map(Exported::json).collect();
        println!("{}", json!({ "format": args.format.name(), "out": args.out, "files": lines }));
    } else {
        files.iter().for_each(|file| println!("{file}"));
        let left = exported.iter().map(|done| done.left_out).sum::<usize>();
        if left > 0 {
            eprintln!("! {} left out: {}", plural(left as u64, "object"), args.format.why_left_out());
        }
    }
    Ok(Exit::Ok)
}

/// A file that was written.
#[derive(Debug)]
struct Exported {
    path: PathBuf,
    objects: usize,
    /// Objects that the format cannot hold.
    left_out: usize,
}

impl Exported {
    fn json(&self) -> Value {
        json!({ "path": self.path, "objects": self.objects, "left_out": self.left_out })
    }
}

async fn export_job(job: &Job, args: &ExportArgs, folder: &Folder, screen: &Screen) -> Result<Vec<Exported>, Failure> {
    let mut exported = Vec::new();
    // Sequences of game states are numbered, and the evaluator wants nothing but numbers.
    let mut number = 0;
    for summary in job.matches() {
        screen.doing(&format!("export {}", summary.id));
        if args.format == ExportFormat::Parquet {
            for name in keys::TABLES {
                let bytes = job.table(name, &summary.id).await?;
                let path = format!("{name}/{}/part-0.parquet", summary.id.partition());
                exported.push(folder.write(&path, |file| Ok((file.write_all(&bytes).map(|()| 0)?, 0)))?);
            }
            continue;
        }
        let tables = job.tables(&summary.id).await?;
        if args.format == ExportFormat::Cdf {
            let (sequence, periods) = whole_match(summary, &tables);
            let of = cdf::Match {
                competition: "unknown".to_owned(),
                season: summary.id.season.clone(),
                id: summary.id.name.clone(),
                periods,
            };
            exported.extend(export_cdf(folder, &summary.id.slug(), sequence, &of)?);
            continue;
        }
        for recording in &summary.recordings {
            number += 1;
            let sequence = tables.sequence(recording, By::Identity);
            if let (ExportFormat::Video, Some(archive)) = (args.format, &args.archive) {
                let path = folder.place(&format!("{}.mp4", stem(&recording.key)))?;
                let archive = Store::archive(archive)?;
                video::draw(&archive, &recording.key, &sequence, &path, screen).await?;
                exported.push(Exported { path, objects: sequence.len(), left_out: 0 });
                continue;
            }
            exported.extend(export_sequence(folder, stem(&recording.key), number, sequence, args.format)?);
        }
    }
    Ok(exported)
}

/// Converts a single file of another format.
fn export_file(source: &Path, args: &ExportArgs, folder: &Folder) -> Result<Vec<Exported>, Failure> {
    let name = name_of(source);
    match args.format {
        ExportFormat::Cdf => {
            let of = cdf::Match {
                competition: "unknown".to_owned(),
                season: "unknown".to_owned(),
                id: name.clone(),
                periods: vec![1],
            };
            export_cdf(folder, &name, read(source)?, &of)
        }
        ExportFormat::Parquet | ExportFormat::Video => Err(Failure::new(
            Exit::Usage,
            format!("`{}` is no finished job", source.display()),
            "give a job's folder, jobs/JOB below its --out",
        )),
        ExportFormat::Mot | ExportFormat::Gsr | ExportFormat::Coco => {
            export_sequence(folder, &name, 1, read(source)?, args.format)
        }
    }
}

fn export_sequence(
    folder: &Folder,
    name: &str,
    number: u16,
    sequence: Sequence,
    format: ExportFormat,
) -> Result<Vec<Exported>, Failure> {
    let all = sequence.len();
    match format {
        ExportFormat::Mot => {
            // Evaluators read places as classes, and know one class only.
            let mut rows = sequence.only(|object| object.id.is_some() && object.bounds.is_some());
            for object in rows.frames.values_mut().flatten() {
                (object.class, object.visibility, object.world) = (None, None, None);
            }
            let kept = rows.len();
            let path = format!("{name}.txt");
            Ok(vec![folder.write(&path, |file| mot::write(&rows, file).map(|()| (kept, all - kept)))?])
        }
        ExportFormat::Coco => {
            let boxes = sequence.objects().filter(|(_, object)| object.bounds.is_some()).count();
            let counts = (boxes, all - boxes);
            Ok(vec![
                folder.write(&format!("{name}.json"), |file| coco::write(&sequence, file).map(|()| counts))?,
                folder.write(&format!("{name}.detections.json"), |file| {
                    coco::write_results(&sequence, file).map(|()| counts)
                })?,
            ])
        }
        ExportFormat::Gsr => {
            let sequence = sided(sequence);
            if number > 999 {
                let cause = "a folder of game states holds 999 recordings";
                return Err(Failure::new(Exit::Usage, cause, "export the matches of a season one by one"));
            }
            let path = format!("SNGS-{number:03}.json");
            let written = folder.write(&path, |file| {
                gsr::write(&sequence, gsr::Kind::Results, (4, number), file).map(|written| (written, all - written))
            })?;
            Ok(vec![written])
        }
        ExportFormat::Cdf | ExportFormat::Parquet | ExportFormat::Video => Ok(Vec::new()),
    }
}

fn export_cdf(folder: &Folder, name: &str, sequence: Sequence, of: &cdf::Match) -> Result<Vec<Exported>, Failure> {
    let sequence = homed(sequence);
    let all = sequence.len();
    let tracking = folder.write(&format!("{name}/tracking.jsonl"), |file| {
        cdf::write(&sequence, of, file).map(|left| {
            let left = left.placeless + left.teamless;
            (all - left, left)
        })
    })?;
    let meta =
        folder.write(&format!("{name}/meta.json"), |file| cdf::write_meta(&sequence, of, file).map(|()| (0, 0)))?;
    Ok(vec![tracking, meta])
}

/// The periods of a match one after the other, each from the camera that knows most places; and their first frames.
fn whole_match(summary: &MatchSummary, tables: &Tables) -> (Sequence, Vec<u32>) {
    let mut periods: Vec<u32> = summary.recordings.iter().map(|recording| recording.period).collect();
    periods.sort_unstable();
    periods.dedup();
    let (mut whole, mut first, mut starts) = (Sequence::new(), 1, Vec::new());
    for period in periods {
        let of_period = summary.recordings.iter().filter(|recording| recording.period == period);
        let places = |recording: &&RecordingSummary| {
            let sequence = tables.sequence(recording, By::Identity);
            sequence.objects().filter(|(_, object)| object.world.is_some()).count()
        };
        // The first of equals.
        let Some(recording) = of_period.rev().max_by_key(places) else { continue };
        let sequence = tables.sequence(recording, By::Identity);
        starts.push(first);
        if whole.info.fps == 0.0 {
            whole.info = sequence.info.clone();
        }
        for (frame, object) in sequence.objects() {
            let attributes = sequence.attributes_of(object).cloned().map(|known| whole.describe(known));
            whole.push(first + frame - 1, Object { attributes, ..object.clone() });
        }
        first += recording.frames;
    }
    whole.info.frames = first - 1;
    (whole, starts)
}

/// Teams by the names `home` and `away`: as they are where they are called so, otherwise in the order of their names.
fn homed(sequence: Sequence) -> Sequence {
    let names = team_names(&sequence);
    if names.iter().all(|name| matches!(&**name, "home" | "away")) {
        return sequence;
    }
    renamed(sequence, &[(names.first(), "home"), (names.get(1), "away")])
}

/// Teams by the side of the pitch that they keep to: who stands further to the left on average is `left`.
fn sided(sequence: Sequence) -> Sequence {
    let mut names = team_names(&sequence);
    if names.iter().all(|name| matches!(&**name, "left" | "right")) {
        return sequence;
    }
    let mean = |team: &Arc<str>| {
        let (mut sum, mut count) = (0.0, 0.0_f64);
        for (_, object) in sequence.objects() {
            let known = sequence.attributes_of(object);
            if let (Some([x, ..]), true) = (object.world, known.is_some_and(|k| k.team.as_ref() == Some(team))) {
                sum += x;
                count += 1.0;
            }
        }
        sum / count.max(1.0)
    };
    names.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
    renamed(sequence, &[(names.first(), "left"), (names.get(1), "right")])
}

fn team_names(sequence: &Sequence) -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> =
        sequence.objects().filter_map(|(_, object)| sequence.attributes_of(object)?.team.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The same with other names of teams; a team without a new name is unknown.
fn renamed(sequence: Sequence, names: &[(Option<&Arc<str>>, &str)]) -> Sequence {
    let mut renamed = Sequence::new();
    (renamed.info, renamed.classes) = (sequence.info.clone(), sequence.classes.clone());
    for (frame, objects) in &sequence.frames {
        renamed.frames.entry(*frame).or_default();
        for object in objects {
            let attributes = sequence.attributes_of(object).cloned().map(|known| {
                let team = names.iter().find(|(old, _)| old.is_some() && *old == known.team.as_ref());
                renamed.describe(Attributes { team: team.map(|(_, new)| Arc::from(*new)), ..known })
            });
            renamed.push(*frame, Object { attributes, ..object.clone() });
        }
    }
    renamed
}

/// Where files go.
struct Folder {
    root: PathBuf,
}

fn unwritable(path: &Path, error: &FormatError) -> Failure {
    let cause = format!("write `{}`: {}", path.display(), fulltime_common::error::chain(error));
    Failure::new(Exit::Store, cause, "make room, or give another folder with --out")
}

impl Folder {
    /// The path of a file below the folder, whose own folder is made.
    fn place(&self, path: &str) -> Result<PathBuf, Failure> {
        let path = self.root.join(path);
        let made = fs::create_dir_all(path.parent().unwrap_or(Path::new("")));
        made.map(|()| path.clone()).map_err(|error| unwritable(&path, &error.into()))
    }

    /// Writes a file below the folder; `write` says how many objects are in it and how many it left out.
    fn write(
        &self,
        path: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> Result<(usize, usize), FormatError>,
    ) -> Result<Exported, Failure> {
        let path = self.place(path)?;
        let failed = |error: FormatError| unwritable(&path, &error);
        let mut file = BufWriter::new(File::create(&path).map_err(|error| failed(error.into()))?);
        let (objects, left_out) = write(&mut file).map_err(failed)?;
        file.flush().map_err(|error| failed(error.into()))?;
        Ok(Exported { path, objects, left_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two people and the ball, one picture, as `fulltime-synth` tells it.
    const TRUTH: &str = r#"{"frame":0,"view":"main","frozen":false,"replay":false,"homography":[1,0,0,0,1,0,0,0,1],"objects":[
{"id":1,"role":"goalkeeper","team":"home","number":1,"box":[10.5,20,12,30],"visible":1,"pitch":[-40.25,1]},
{"id":30,"role":"referee","box":[60,20,12,30],"visible":0.5,"pitch":[3,-2.5]},
{"id":40,"role":"ball","box":[90,40,4,4],"visible":1,"pitch":[5,6]}]}"#;

    async fn exported(format: ExportFormat) -> (tempfile::TempDir, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("half.truth.jsonl");
        fs::write(&source, TRUTH.replace('\n', "") + "\n").unwrap();
        let out = dir.path().join("out");
        let source = source.display().to_string();
        let args = ExportArgs { source, format, out: out.clone(), archive: None, json: true };
        assert_eq!(export(args).await.unwrap(), Exit::Ok);
        let mut files = Vec::new();
        let mut folders = vec![out];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() { folders.push(entry) } else { files.push(entry.display().to_string()) }
            }
        }
        files.sort();
        (dir, files)
    }

    #[tokio::test]
    async fn a_file_becomes_each_of_the_data_formats_and_is_read_again() {
        for (format, count) in [(ExportFormat::Mot, 3), (ExportFormat::Gsr, 3), (ExportFormat::Coco, 3)] {
            let (_dir, files) = exported(format).await;
            for file in &files {
                assert_eq!(read(Path::new(file)).unwrap().len(), count, "{file}");
            }
        }
    }

    #[tokio::test]
    async fn the_common_data_format_knows_places_teams_and_numbers() {
        let (_dir, files) = exported(ExportFormat::Cdf).await;
        let tracking = files.iter().find(|file| file.ends_with("tracking.jsonl")).unwrap();
        let sequence = read(Path::new(tracking)).unwrap();
        let keeper = &sequence.frame(1)[0];
        assert_eq!((keeper.id, keeper.world), (Some(1), Some([-40.25, 1.0, 0.0])));
        let known = sequence.attributes_of(keeper).unwrap();
        assert_eq!((known.team.as_deref(), known.number), (Some("home"), Some(1)));
        assert_eq!(sequence.len(), 3);
    }

    #[tokio::test]
    async fn a_video_needs_a_job() {
        let args = ExportArgs {
            source: "nothing-here.txt".into(),
            format: ExportFormat::Video,
            out: "unused".into(),
            archive: Some("unused".into()),
            json: true,
        };
        let failure = export(args).await.unwrap_err();
        assert!(failure.cause.contains("is no finished job"), "{}", failure.cause);
    }
}
