//! From files to matches. Pure: the archive's listing and the job go in, the match list comes out, or one error that
//! names the files an operator has to look at. The planner calls it once a job; the list is then fixed by an object.

use std::collections::{BTreeMap, BTreeSet};

use fulltime_common::{
    error::{Exit, Explain},
    plan::{MatchId, MatchList, Placement, PlannedMatch, RecordingRef},
    spec::{Job, TableRow, Unmatched, first_period, main_camera},
};
use globset::GlobBuilder;

pub mod template;

use template::{Template, TemplateError};

/// Season of matches for which nothing names one.
pub const DEFAULT_SEASON: &str = "archive";

/// Containers that are taken for recordings without being named by a template or table.
const VIDEO: [&str; 12] = ["mp4", "mov", "m4v", "mkv", "ts", "m2ts", "mts", "avi", "webm", "flv", "mpg", "mpeg"];

/// An object of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub size: u64,
    pub etag: Option<String>,
}

/// Why the archive and the job do not make a match list.
#[derive(Debug, thiserror::Error)]
pub enum MatchingError {
    #[error("`{archive}` is empty")]
    Empty { archive: String },
    #[error("none of the {files} files in `{archive}` is a video")]
    NoVideos { archive: String, files: usize },
    #[error("`{select}` selects none of the {videos} videos in `{archive}`")]
    NothingSelected { archive: String, select: String, videos: usize },
    #[error("`{select}` is not a glob")]
    BadSelect {
        select: String,
        #[source]
        source: globset::Error,
    },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("the {rule} places {} in no match", some(.files))]
    Unmatched { rule: &'static str, files: Vec<String> },
    #[error("the {rule} places none of the videos in `{archive}`")]
    NothingPlaced { rule: &'static str, archive: String },
    #[error("the table names {} that the archive does not have", some(.files))]
    NotInArchive { files: Vec<String> },
    #[error("the table names {} more than once", some(.files))]
    ListedTwice { files: Vec<String> },
    #[error("the table gives `{file}` {what}")]
    BadRow { file: String, what: &'static str },
    #[error(transparent)]
    Collision(Box<Collision>),
    #[error("`{archive}` gives no ETag for `{file}`")]
    NoEtag { archive: String, file: String },
}

/// Two recordings that claim the same place of a match.
#[derive(Debug, thiserror::Error)]
#[error("`{first}` and `{second}` are both period {period}, camera `{camera}` of match `{id}`{}", more(*.others))]
pub struct Collision {
    pub id: MatchId,
    pub period: u32,
    pub camera: String,
    pub first: String,
    pub second: String,
    /// How many more such pairs there are.
    pub others: usize,
}

/// The first ten names and how many there are.
fn some(files: &[String]) -> String {
    let named = files.iter().take(10).map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", ");
    match files.len() {
        1 => named,
        n @ 2..=10 => format!("{n} files ({named})"),
        n => format!("{n} files ({named}, …)"),
    }
}

fn more(others: usize) -> String {
    if others == 0 { String::new() } else { format!(" ({others} more such pairs)") }
}

impl Explain for MatchingError {
    fn exit(&self) -> Exit {
        match self {
            Self::BadSelect { .. } | Self::Template(_) | Self::BadRow { .. } | Self::ListedTwice { .. } => Exit::Usage,
            Self::Empty { .. }
            | Self::NoVideos { .. }
            | Self::NothingSelected { .. }
            | Self::Unmatched { .. }
            | Self::NothingPlaced { .. }
            | Self::NotInArchive { .. }
            | Self::Collision(_)
            | Self::NoEtag { .. } => Exit::Archive,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Empty { .. } => {
                "check the archive's address; its recordings must lie there before a job is submitted"
            }
            Self::NoVideos { .. } => {
                "recordings are found by extension: mp4, mov, m4v, mkv, ts, m2ts, mts, avi, webm, flv, mpg"
            }
            Self::NothingSelected { .. } => {
                "the glob is matched against the whole key below the archive; `**/` spans folders"
            }
            Self::BadSelect { .. } => "write a glob such as `**/2024-*/*.mp4`",
            Self::Template(_) => "fields are {season}, {match}, {period}, {camera} and {ignore} or `*`",
            Self::Unmatched { .. } => "name them, or set `unmatched = \"skip\"` under [matches]",
            Self::NothingPlaced { .. } => "compare the rule with a key below the archive; it must fit the whole key",
            Self::NotInArchive { .. } => "correct the table, or put the files there",
            Self::ListedTwice { .. } | Self::BadRow { .. } => "correct the table",
            Self::Collision(_) => "give each recording of a match its own period or camera",
            Self::NoEtag { .. } => "use a store that reports ETags: without them a changed recording goes unnoticed",
        };
        Some(hint.to_owned())
    }
}

/// A recording and the match it belongs to, before grouping.
struct Placed {
    id: MatchId,
    placement: Placement,
}

/// Fixes which recordings make which match.
///
/// # Errors
/// See [`MatchingError`].
pub fn match_list(job: &Job, mut listing: Vec<Listed>) -> Result<MatchList, MatchingError> {
    let archive = || job.archive.clone();
    listing.retain(|file| !file.key.split('/').any(|part| part.starts_with('.')));
    listing.sort_by(|a, b| a.key.cmp(&b.key));
    if listing.is_empty() {
        return Err(MatchingError::Empty { archive: archive() });
    }
    let all: BTreeSet<String> = listing.iter().map(|file| file.key.clone()).collect();
    let videos = listing.iter().filter(|file| is_video(&file.key)).count();
    let by_rule = job.table.is_some() || job.template.is_some();
    // A rule that places a file makes it a recording, whatever its extension.
    if videos == 0 && !by_rule {
        return Err(MatchingError::NoVideos { archive: archive(), files: listing.len() });
    }
    if let Some(select) = &job.select {
        let bad = |source| MatchingError::BadSelect { select: select.clone(), source };
        let glob = GlobBuilder::new(select).literal_separator(true).build().map_err(bad)?.compile_matcher();
        listing.retain(|file| glob.is_match(&file.key));
        if listing.is_empty() || (!by_rule && !listing.iter().any(|file| is_video(&file.key))) {
            return Err(MatchingError::NothingSelected { archive: archive(), select: select.clone(), videos });
        }
    }
    let (rule, (placed, unplaced)) = match (&job.table, &job.template) {
        (Some(rows), _) => ("table", by_table(rows, listing, &all, job)?),
        (None, Some(template)) => ("template", by_template(&Template::parse(template)?, listing, job)?),
        (None, None) => ("default rule", (by_path(listing, job)?, Vec::new())),
    };
    if placed.is_empty() && (unplaced.is_empty() || job.unmatched == Unmatched::Skip) {
        return Err(MatchingError::NothingPlaced { rule, archive: archive() });
    }
    if !unplaced.is_empty() && job.unmatched == Unmatched::Refuse {
        return Err(MatchingError::Unmatched { rule, files: unplaced });
    }
    Ok(MatchList { job: job.id.clone(), archive: archive(), matches: group(placed)?, skipped: unplaced })
}

fn is_video(key: &str) -> bool {
    key.rsplit_once('.').is_some_and(|(_, extension)| VIDEO.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// Reads the table's rows for the selected files; what is selected, a video and in no row is left over.
fn by_table(
    rows: &[TableRow],
    listing: Vec<Listed>,
    all: &BTreeSet<String>,
    job: &Job,
) -> Result<(Vec<Placed>, Vec<String>), MatchingError> {
    let mut by_file: BTreeMap<&str, &TableRow> = BTreeMap::new();
    let mut twice = Vec::new();
    for row in rows {
        let file = row.file.trim_start_matches("./").trim_start_matches('/');
        let bad = |what| MatchingError::BadRow { file: file.to_owned(), what };
        if row.name.is_empty() {
            return Err(bad("no match"));
        }
        if row.period == 0 {
            return Err(bad("period 0; periods count from 1"));
        }
        if !row.offset.is_finite() {
            return Err(bad("an offset that is no number"));
        }
        if by_file.insert(file, row).is_some() {
            twice.push(file.to_owned());
        }
    }
    if !twice.is_empty() {
        return Err(MatchingError::ListedTwice { files: twice });
    }
    let missing: Vec<_> = by_file.keys().filter(|file| !all.contains(**file)).map(|file| (*file).to_owned()).collect();
    if !missing.is_empty() {
        return Err(MatchingError::NotInArchive { files: missing });
    }
    place(listing, job, |file| {
        by_file.get(file.key.as_str()).map(|row| {
            let camera = if row.camera.is_empty() { main_camera() } else { row.camera.clone() };
            (season(Some(&row.season)), row.name.clone(), row.period, camera, (row.offset * 1e6).round() as i64)
        })
    })
}

fn by_template(
    template: &Template,
    listing: Vec<Listed>,
    job: &Job,
) -> Result<(Vec<Placed>, Vec<String>), MatchingError> {
    place(listing, job, |file| {
        template.read(&file.key).map(|fields| {
            let period = fields.period.unwrap_or_else(first_period);
            (season(fields.season.as_deref()), fields.name, period, fields.camera.unwrap_or_else(main_camera), 0)
        })
    })
}

/// One match a file, named by its path without the extension, unless two files differ in nothing else.
fn by_path(listing: Vec<Listed>, job: &Job) -> Result<Vec<Placed>, MatchingError> {
    let mut stems: BTreeMap<String, u32> = BTreeMap::new();
    for file in listing.iter().filter(|file| is_video(&file.key)) {
        *stems.entry(without_extension(&file.key).to_owned()).or_default() += 1;
    }
    let (placed, _) = place(listing, job, |file| {
        let stem = without_extension(&file.key);
        let name = if stems.get(stem) == Some(&1) { stem } else { &file.key };
        is_video(&file.key).then(|| (season(None), name.to_owned(), first_period(), main_camera(), 0))
    })?;
    Ok(placed)
}

fn without_extension(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(stem, _)| stem)
}

fn season(named: Option<&str>) -> String {
    named.filter(|season| !season.is_empty()).unwrap_or(DEFAULT_SEASON).to_owned()
}

type Place = (String, String, u32, String, i64);

/// Applies a rule to every file; videos that it does not place are returned by name.
fn place(
    listing: Vec<Listed>,
    job: &Job,
    rule: impl Fn(&Listed) -> Option<Place>,
) -> Result<(Vec<Placed>, Vec<String>), MatchingError> {
    let (mut placed, mut unplaced) = (Vec::new(), Vec::new());
    for file in listing {
        match rule(&file) {
            Some((season, name, period, camera, offset_us)) => {
                let no_etag = || MatchingError::NoEtag { archive: job.archive.clone(), file: file.key.clone() };
                let etag = file.etag.clone().ok_or_else(no_etag)?;
                let recording = RecordingRef { key: file.key, size: file.size, etag };
                let placement = Placement { recording, period, camera, offset_us };
                placed.push(Placed { id: MatchId { season, name }, placement });
            }
            None if is_video(&file.key) => unplaced.push(file.key),
            None => {}
        }
    }
    Ok((placed, unplaced))
}

/// Sorts into matches; two recordings at the same place are an error.
fn group(placed: Vec<Placed>) -> Result<Vec<PlannedMatch>, MatchingError> {
    let mut matches: BTreeMap<MatchId, Vec<Placement>> = BTreeMap::new();
    for Placed { id, placement } in placed {
        matches.entry(id).or_default().push(placement);
    }
    let mut collision: Option<Collision> = None;
    for (id, recordings) in &mut matches {
        recordings
            .sort_by(|a, b| (a.period, &a.camera, &a.recording.key).cmp(&(b.period, &b.camera, &b.recording.key)));
        for pair in recordings.windows(2) {
            let [first, second] = pair else { continue };
            if (first.period, &first.camera) != (second.period, &second.camera) {
                continue;
            }
            match &mut collision {
                Some(known) => known.others += 1,
                None => {
                    collision = Some(Collision {
                        id: id.clone(),
                        period: first.period,
                        camera: first.camera.clone(),
                        first: first.recording.key.clone(),
                        second: second.recording.key.clone(),
                        others: 0,
                    });
                }
            }
        }
    }
    match collision {
        Some(collision) => Err(MatchingError::Collision(Box::new(collision))),
        None => Ok(matches.into_iter().map(|(id, recordings)| PlannedMatch { id, recordings }).collect()),
    }
}

#[cfg(test)]
mod tests;
