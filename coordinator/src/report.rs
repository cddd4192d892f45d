//! `report.html`: what a job did, on one page that needs nothing but itself. Pure; `finish` hands it the manifest, then one
//! match after the other, so that a season's summaries and pictures are never in memory beside it.

use std::fmt::{self, Write as _};

use fulltime_common::{
    plan::MatchId,
    results::{MatchSummary, RecordingSummary},
    spec::Cost,
};

use crate::{ledger::RunFigures, manifest::Manifest};

mod people;
mod run;
pub(crate) mod text;

use text::{Esc, base64, count, counted, duration};

/// Pictures that are part of the page. A season has hundreds: the rest lie beside it (`previews/`) and are linked.
const EMBEDDED: usize = 48;
/// Problems that are listed; the manifest has all of them.
const LISTED: usize = 200;

/// Collects the page.
#[derive(Debug)]
pub struct Report<'a> {
    manifest: &'a Manifest,
    run: &'a RunFigures,
    cost: Option<&'a Cost>,
    cards: String,
    pictures: usize,
    video_seconds: f64,
}

impl<'a> Report<'a> {
    #[must_use]
    pub fn new(manifest: &'a Manifest, run: &'a RunFigures) -> Self {
        Self { manifest, run, cost: None, cards: String::new(), pictures: 0, video_seconds: 0.0 }
    }

    /// With what a lane costs.
    #[must_use]
    pub fn with_cost(self, cost: Option<&'a Cost>) -> Self {
        Self { cost, ..self }
    }

    /// Whether the next match's picture, if it has one, would become part of the page; otherwise it need not be read.
    #[must_use]
    pub fn wants_picture(&self) -> bool {
        self.pictures < EMBEDDED
    }

    /// Adds a match, with its picture as JPEG.
    pub fn add(&mut self, summary: &MatchSummary, picture: Option<&[u8]>) {
        let seconds = |r: &RecordingSummary| if r.fps > 0.0 { f64::from(r.frames) / r.fps } else { 0.0 };
        self.video_seconds += summary.recordings.iter().map(seconds).sum::<f64>();
        self.pictures += usize::from(picture.is_some());
        // Writing to a string cannot fail.
        let _ = card(&mut self.cards, summary, picture);
    }

    /// The finished page.
    #[must_use]
    pub fn finish(self) -> String {
        let mut page = String::with_capacity(self.cards.len() + 16_384);
        let _ = self.page(&mut page);
        page
    }

    fn page(&self, out: &mut String) -> fmt::Result {
        let manifest = self.manifest;
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>{} · fulltime</title>\n\
             <style>\n{}</style>\n</head>\n<body>\n<main>\n",
            Esc(&manifest.job),
            include_str!("report/style.css"),
        )?;
        self.head(out)?;
        problems(out, manifest)?;
        run::run(out, self.run, self.cost, manifest.matches.len() as u64)?;
        writeln!(
            out,
            "<h2>{}</h2>\n<div class=\"cards\">",
            counted(manifest.matches.len() as u64, "match", "matches")
        )?;
        out.push_str(&self.cards);
        writeln!(out, "</div>")?;
        self.provenance(out)?;
        writeln!(out, "</main>\n</body>\n</html>")
    }

    fn head(&self, out: &mut String) -> fmt::Result {
        let (manifest, run, totals) = (self.manifest, self.run, &self.manifest.totals);
        writeln!(out, "<header>\n<div class=\"eyebrow\">fulltime report</div>\n<h1>{}</h1>", Esc(&manifest.job))?;
        let (archive, pipeline) = (Esc(&manifest.archive), Esc(&manifest.pipeline.name));
        writeln!(out, "<p class=\"soft\"><code>{archive}</code> through pipeline <b>{pipeline}</b></p>")?;
        match totals.quarantined {
            0 => writeln!(out, "<span class=\"state\">everything committed</span>")?,
            n => {
                let problems = counted(n, "problem", "problems");
                writeln!(out, "<span class=\"state warn\">finished with {problems}</span>")?;
            }
        }
        writeln!(out, "</header>\n<div class=\"tiles\">")?;
        let mut tile =
            |value: String, name: &str| writeln!(out, "<div class=\"tile\"><b>{value}</b><span>{name}</span></div>");
        tile(count(manifest.matches.len() as u64), if manifest.matches.len() == 1 { "match" } else { "matches" })?;
        tile(duration(self.video_seconds), "of video")?;
        tile(count(totals.frames), "frames")?;
        tile(count(totals.detections), "detections")?;
        tile(count(totals.tracks), "tracks")?;
        if totals.gap_frames > 0 {
            tile(count(totals.gap_frames), "frames missing")?;
        }
        tile(duration(run.elapsed_seconds), "elapsed")?;
        if run.frames > 0 && run.elapsed_seconds > 0.0 {
            tile(count((run.frames as f64 / run.elapsed_seconds).round() as u64), "frames per second")?;
        }
        writeln!(out, "</div>")?;
        if run.frames < totals.frames {
            let found = counted(totals.frames - run.frames, "frame was", "frames were");
            writeln!(
                out,
                "<p class=\"soft\">{found} not run: their results were there already, or cannot be had.</p>"
            )?;
        }
        Ok(())
    }

    fn provenance(&self, out: &mut String) -> fmt::Result {
        let manifest = self.manifest;
        writeln!(out, "<h2>Where it comes from</h2>\n<div class=\"panel\"><dl>")?;
        let mut row =
            |name: &str, value: &dyn fmt::Display| writeln!(out, "<dt>{name}</dt><dd><code>{}</code></dd>", Esc(value));
        row("Archive", &manifest.archive)?;
        row("Output", &format_args!("{}/jobs/{}/g{}", manifest.out, manifest.job, manifest.generation))?;
        row("Store", &manifest.store)?;
        row("Pipeline", &format_args!("{} {}", manifest.pipeline.name, manifest.pipeline.digest))?;
        for model in &manifest.pipeline.models {
            row("Model", &format_args!("{} sha256:{}", model.name, model.sha256))?;
        }
        for engine in &manifest.engines {
            row("Engine class", engine)?;
        }
        let s = &manifest.semantics;
        row(
            "Semantics",
            &format_args!(
                "index {} · decode {} · preprocess {} · postprocess {} · shard {} · reduce {}",
                s.index, s.decode, s.preprocess, s.postprocess, s.shard, s.reduce
            ),
        )?;
        let (shards, length) = (counted(manifest.totals.shards, "shard", "shards"), manifest.shard_length);
        row("Shards", &format_args!("{shards} of about {length}"))?;
        writeln!(out, "</dl></div>")
    }
}

fn problems(out: &mut String, manifest: &Manifest) -> fmt::Result {
    let (given_up, left_out) = (&manifest.quarantined, manifest.skipped.len() as u64);
    if given_up.is_empty() && left_out == 0 {
        return Ok(());
    }
    writeln!(out, "<h2>Problems</h2>\n<div class=\"panel warn\"><ul>")?;
    for entry in given_up.iter().take(LISTED) {
        writeln!(out, "<li>{}</li>", Code(&entry.to_string()))?;
    }
    if given_up.len() > LISTED {
        writeln!(out, "<li>and {} more, in the manifest</li>", count((given_up.len() - LISTED) as u64))?;
    }
    if left_out > 0 {
        let files = counted(left_out, "video file", "video files");
        writeln!(out, "<li>{files} left out as the job asks, since no rule places them; the manifest names them</li>")?;
    }
    writeln!(out, "</ul></div>")
}

fn card(out: &mut String, summary: &MatchSummary, picture: Option<&[u8]>) -> fmt::Result {
    let MatchId { season, name } = &summary.id;
    writeln!(out, "<article>")?;
    match (&summary.preview, picture) {
        (None, _) => writeln!(out, "<div class=\"noimage\">no preview picture</div>")?,
        (Some(info), picture) => {
            let (frame, recording) = (info.frame, Esc(&info.recording));
            write!(out, "<img alt=\"Frame {frame} of {recording}, with boxes and track numbers\" loading=\"lazy\" ")?;
            write!(out, "width=\"{}\" height=\"{}\" src=\"", info.width, info.height)?;
            match picture {
                Some(jpeg) => write!(out, "data:image/jpeg;base64,{}", base64(jpeg))?,
                // A percent sign in a file's name is another in its URL.
                None => write!(out, "previews/{}.jpg", Esc(summary.id.slug().replace('%', "%25")))?,
            }
            writeln!(out, "\">")?;
        }
    }
    writeln!(out, "<div class=\"body\">\n<div class=\"eyebrow\">{}</div>\n<h3>{}</h3>", Esc(season), Esc(name))?;
    writeln!(out, "<div class=\"figures\">")?;
    for (value, one, many) in [
        (summary.frames, "frame", "frames"),
        (summary.detections, "detection", "detections"),
        (summary.tracks, "track", "tracks"),
        (summary.players, "person", "people"),
    ] {
        writeln!(out, "<div><b>{}</b> <span>{}</span></div>", count(value), if value == 1 { one } else { many })?;
    }
    writeln!(out, "</div>\n<div class=\"scroll\"><table>")?;
    writeln!(
        out,
        "<thead><tr><th>recording</th><th>frames</th><th>detections</th><th>per frame</th><th>tracks</th></tr></thead>\n<tbody>"
    )?;
    let most = summary.recordings.iter().map(|r| r.detections_mean).fold(0.0, f64::max);
    for recording in &summary.recordings {
        row(out, recording, most)?;
    }
    writeln!(out, "</tbody></table></div>")?;
    people::people(out, &summary.people)?;
    writeln!(out, "</div>\n</article>")
}

fn row(out: &mut String, recording: &RecordingSummary, most: f64) -> fmt::Result {
    let RecordingSummary { key, period, camera, width, height, fps, .. } = recording;
    write!(out, "<tr><td>{}<small>period {period} · {}", Esc(key), Esc(camera))?;
    if *width > 0 {
        write!(out, " · {width}×{height} · {} fps", (fps * 100.0).round() / 100.0)?;
    }
    write!(out, "</small>")?;
    let missing: u64 = recording.gaps.iter().map(|gap| u64::from(gap.frames.end - gap.frames.start)).sum();
    if let Some(refused) = recording.gaps.iter().find(|gap| gap.frames.is_empty()) {
        write!(out, "<small class=\"lack\">{}</small>", Esc(&refused.reason))?;
    }
    if missing > 0 {
        write!(out, "<small class=\"lack\">{} missing</small>", counted(missing, "frame", "frames"))?;
    }
    let share = if most > 0.0 { recording.detections_mean / most } else { 0.0 };
    writeln!(
        out,
        "</td><td>{}</td><td>{}</td><td>{:.1}<svg width=\"64\" height=\"5\" role=\"presentation\">\
         <rect class=\"track\" width=\"64\" height=\"5\" rx=\"2.5\"/>\
         <rect class=\"fill\" width=\"{:.1}\" height=\"5\" rx=\"2.5\"/></svg><small>most {}</small></td><td>{}</td></tr>",
        count(recording.frames.into()),
        count(recording.detections),
        recording.detections_mean,
        share * 64.0,
        recording.detections_max,
        count(recording.tracks),
    )
}

/// Shows a message with what stands in backticks as code.
struct Code<'a>(&'a str);

impl fmt::Display for Code<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.split('`').enumerate() {
            match i % 2 {
                0 => write!(f, "{}", Esc(part))?,
                _ => write!(f, "<code>{}</code>", Esc(part))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
