//! How the job ran: speed of light, throughput, where the lanes' time went, stages, lanes over time, troubles, cost. From
//! samples that workers took of themselves; where there are none (nothing was run), nothing is drawn.

use std::fmt::{self, Write as _};

use fulltime_common::spec::Cost;
use fulltime_observe::{
    chart,
    record::{Bin, Colour, Record},
};

use super::text::{Esc, count, counted, duration, short};
use crate::ledger::RunFigures;

/// Stages in the order of the way that pictures go; others follow.
const ORDER: [&str; 9] =
    ["fetch", "decode", "evidence", "preprocess", "infer", "postprocess", "describe", "tables", "commit"];

/// Everything about the run.
pub fn run(out: &mut String, run: &RunFigures, cost: Option<&Cost>, matches: u64) -> fmt::Result {
    let record = &run.seen.record;
    if record.lane_seconds > 0.0 {
        speed(out, run)?;
        throughput(out, run)?;
        lane_time(out, record)?;
        stages(out, record)?;
        lanes(out, run)?;
    }
    troubles(out, run)?;
    costs(out, run, cost, matches)
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        p if p > 0.0 && p < 0.5 => "< 1 %".to_owned(),
        p => format!("{p:.0} %"),
    }
}

/// How near the job came to its limit.
fn speed(out: &mut String, run: &RunFigures) -> fmt::Result {
    let record = &run.seen.record;
    let Some(speed) = record.speed_of_light(run.elapsed_seconds) else { return Ok(()) };
    let (stage, ratio) = (Esc(&speed.bottleneck), speed.ratio());
    writeln!(out, "<h2>Speed of light</h2>\n<div class=\"panel\">")?;
    writeln!(
        out,
        "<p class=\"lead\"><b>{}</b> of what the bottleneck alone allows. Bottleneck: <b>{stage}</b>.</p>",
        percent(ratio)
    )?;
    let width = (ratio * 100.0).clamp(0.0, 100.0);
    writeln!(
        out,
        "<div class=\"gauge\" role=\"img\" aria-label=\"{} of the limit\"><span style=\"width:{width:.1}%\"></span></div>",
        percent(ratio)
    )?;
    writeln!(
        out,
        "<p class=\"soft\">{} frames/s from start to end; {} frames/s if <b>{stage}</b> had never waited, on the lanes there were. ",
        short(speed.achieved),
        short(speed.alone),
    )?;
    let (processors, gpus) = record.utilisation();
    if let Some(busy) = processors {
        write!(out, "Processors of the workers' machines were {} busy", percent(busy))?;
        if let Some(gpus) = gpus {
            write!(out, ", GPUs {}", percent(gpus))?;
        }
        out.push_str(". ");
        if busy > 0.9 && gpus.is_none() {
            out.push_str("They are the limit that all stages share. ");
        }
    }
    writeln!(out, "</p>\n</div>")
}

/// Frames a second from start to end.
fn throughput(out: &mut String, run: &RunFigures) -> fmt::Result {
    let points = run.seen.record.frames.rates();
    if points.len() < 2 {
        return Ok(());
    }
    let span = run.elapsed_seconds.max(points.last().map_or(0.0, |(at, _)| *at));
    let most = points.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    let top = chart::round_up(most);
    writeln!(out, "<h2>Throughput</h2>\n<div class=\"panel\">")?;
    let label = format!("Frames a second over {}; at most {}", duration(span), short(most));
    writeln!(out, "<figure class=\"plot\" role=\"img\" aria-label=\"{label}\">\n<div class=\"y\">")?;
    for share in [1.0, 0.75, 0.5, 0.25, 0.0] {
        write!(out, "<span>{}</span>", short(top * share))?;
    }
    writeln!(out, "</div>\n{}", chart::area(&points, span, top))?;
    time_axis(out, span)?;
    writeln!(
        out,
        "</figure>\n<p class=\"soft\">Frames a second, all lanes together. Time since the job began.</p>\n</div>"
    )
}

fn time_axis(out: &mut String, span: f64) -> fmt::Result {
    write!(out, "<div class=\"x\">")?;
    for time in chart::times(span) {
        // A label that would hang over the edge is left out.
        if time <= span * 0.96 {
            write!(out, "<span style=\"left:{:.2}%\">{}</span>", time / span * 100.0, moment(time))?;
        }
    }
    writeln!(out, "</div>")
}

/// A time on an axis: `40 s`, `5 min`, `1:30 h`.
fn moment(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0 => "0".to_owned(),
        1..60 => format!("{whole} s"),
        60..3600 if whole.is_multiple_of(60) => format!("{} min", whole / 60),
        60..3600 => format!("{}:{:02} min", whole / 60, whole % 60),
        _ => format!("{}:{:02} h", whole / 3600, whole % 3600 / 60),
    }
}

/// What the lanes did, as one bar.
fn lane_time(out: &mut String, record: &Record) -> fmt::Result {
    let (_, strips) = record.strips();
    let sums = strips
        .iter()
        .flat_map(|strip| &strip.bins)
        .fold(Bin::default(), |sum, bin| std::array::from_fn(|colour| sum[colour] + bin[colour]));
    let all: f32 = sums.iter().sum();
    if all <= 0.0 {
        return Ok(());
    }
    let shares: Vec<(Colour, f64)> = Colour::ALL
        .into_iter()
        .map(|colour| (colour, f64::from(sums[colour as usize] / all)))
        .filter(|(_, s)| *s > 0.0)
        .collect();
    writeln!(out, "<h2>Where the lanes' time went</h2>\n<div class=\"panel\">")?;
    let classes: Vec<(String, f64)> =
        shares.iter().map(|(colour, share)| (format!("c-{}", chart::class(*colour)), *share)).collect();
    let classes: Vec<(&str, f64)> = classes.iter().map(|(class, share)| (class.as_str(), *share)).collect();
    writeln!(out, "<div class=\"bar\">{}</div>\n<ul class=\"legend\">", chart::bar(&classes))?;
    for (colour, share) in shares {
        let (class, name, share) = (chart::class(colour), colour.name(), percent(share));
        writeln!(out, "<li><i class=\"b-{class}\"></i>{name} <span class=\"soft\">{share}</span></li>")?;
    }
    let explained = (record.explained / record.lane_seconds).min(1.0) * 100.0;
    writeln!(
        out,
        "</ul>\n<p class=\"soft\">{} of lane time by the clock, of which {explained:.1} % is accounted for here. A lane does one of these at any moment.</p>\n</div>",
        duration(record.lane_seconds)
    )
}

/// Stages with what they took.
fn stages(out: &mut String, record: &Record) -> fmt::Result {
    let known = ORDER.iter().filter_map(|name| Some((*name, record.stages.get(*name)?)));
    let others = record.stages.iter().filter(|(name, _)| !ORDER.contains(&name.as_str()) && *name != "total");
    let rows: Vec<_> = known.chain(others.map(|(name, stage)| (name.as_str(), stage))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Stages</h2>\n<div class=\"panel\">\n<div class=\"scroll\"><table class=\"stages\">")?;
    writeln!(
        out,
        "<thead><tr><th>stage</th><th>at work</th><th>processor</th><th>pieces</th><th>p50</th><th>p95</th><th>p99</th></tr></thead>\n<tbody>"
    )?;
    for (name, stage) in rows {
        let share = stage.busy / record.lane_seconds;
        let latency = stage.latency.quantiles();
        let width = (share * 64.0).clamp(0.0, 64.0);
        writeln!(
            out,
            "<tr><td>{}</td><td>{} <span class=\"soft\">· {}</span><svg width=\"64\" height=\"5\" role=\"presentation\"><rect class=\"track\" width=\"64\" \
             height=\"5\" rx=\"2.5\"/><rect class=\"fill\" width=\"{width:.1}\" height=\"5\" rx=\"2.5\"/></svg></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            Esc(name),
            percent(share),
            duration(stage.busy),
            duration(stage.cpu),
            count(stage.latency.count),
            brief(latency.p50),
            brief(latency.p95),
            brief(latency.p99),
        )?;
    }
    writeln!(out, "</tbody></table></div>")?;
    if let Some(total) = record.quantiles("total") {
        let (p50, p95, p99) = (brief(total.p50), brief(total.p95), brief(total.p99));
        writeln!(
            out,
            "<p>A batch takes {p50} from its first picture to its last detection (p95 {p95}, p99 {p99}).</p>"
        )?;
    }
    writeln!(
        out,
        "<p class=\"soft\">At work: share of the lanes' time, by the clock. Stages have threads of their own and overlap. A piece is \
         a batch; of evidence, decode and preprocess a picture; of fetch, tables and commit a shard.</p>\n</div>"
    )
}

/// `0.8 ms`, `24 ms`, `1.2 s`.
fn brief(seconds: f64) -> String {
    match seconds {
        s if s < 0.0095 => format!("{:.1} ms", s * 1e3),
        s if s < 0.95 => format!("{:.0} ms", s * 1e3),
        s => duration(s),
    }
}

/// Each lane over time.
fn lanes(out: &mut String, run: &RunFigures) -> fmt::Result {
    let (width, strips) = run.seen.record.strips();
    if strips.is_empty() {
        return Ok(());
    }
    let seen = strips.iter().map(|strip| strip.bins.len()).max().unwrap_or_default() as f64 * width;
    let span = run.elapsed_seconds.max(seen - width / 2.0);
    writeln!(out, "<h2>Lanes</h2>\n<div class=\"panel\">\n<div class=\"lanes\">")?;
    let mut colours = [false; Colour::ALL.len()];
    for strip in &strips {
        for bin in &strip.bins {
            bin.iter().zip(&mut colours).for_each(|(seconds, used)| *used |= *seconds > 0.0);
        }
        let (worker, lane) = (Esc(&strip.worker), strip.lane);
        writeln!(
            out,
            "<div class=\"lane\"><span title=\"{worker}, lane {lane}\"><span>{worker}</span> · {lane}</span>{}</div>",
            chart::strip(&strip.bins, width, span)
        )?;
    }
    write!(out, "<div class=\"lane axis\"><span></span>")?;
    time_axis(out, span)?;
    writeln!(out, "</div>\n</div>\n<ul class=\"legend\">")?;
    for colour in Colour::ALL.into_iter().filter(|colour| colours[*colour as usize] && *colour != Colour::Idle) {
        writeln!(out, "<li><i class=\"b-{}\"></i>{}</li>", chart::class(colour), colour.name())?;
    }
    writeln!(
        out,
        "</ul>\n<p class=\"soft\">What each lane did; where nothing is drawn it stood idle, or was not there.</p>\n</div>"
    )
}

/// Attempts that failed, and what was wrong with workers.
fn troubles(out: &mut String, run: &RunFigures) -> fmt::Result {
    let (failures, findings) = (&run.seen.failures, &run.seen.findings);
    if failures.is_empty() && findings.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Troubles on the way</h2>\n<div class=\"panel\">")?;
    if !failures.is_empty() {
        let most = failures.iter().map(|(_, count)| *count).max().unwrap_or(1) as f64;
        writeln!(out, "<h3>Attempts that failed</h3>\n<div class=\"scroll\"><table>\n<tbody>")?;
        for (disposition, failed) in failures {
            let width = *failed as f64 / most * 120.0;
            writeln!(
                out,
                "<tr><td>{}<small>{}</small></td><td>{}<svg width=\"120\" height=\"5\" role=\"presentation\"><rect class=\"fill warn\" \
                 width=\"{width:.1}\" height=\"5\" rx=\"2.5\"/></svg></td></tr>",
                Esc(disposition),
                meaning(*disposition),
                count(*failed),
            )?;
        }
        writeln!(out, "</tbody></table></div>")?;
    }
    if !findings.is_empty() {
        writeln!(out, "<h3>Anomalies</h3>\n<ul class=\"findings\">")?;
        for past in findings {
            let finding = &past.finding;
            let (subject, title) = (finding.subject(), finding.kind.title());
            writeln!(
                out,
                "<li><b>{}</b>: {title} <span class=\"soft\">({} to {})</span><br>{}<br><span class=\"soft\">{}</span></li>",
                Esc(subject),
                moment(past.first.max(1.0)),
                moment(past.last.max(1.0)),
                Esc(&finding.evidence),
                Esc(&finding.action),
            )?;
        }
        writeln!(out, "</ul>")?;
    }
    writeln!(out, "</div>")
}

/// For people who do not know the words.
fn meaning(disposition: fulltime_common::Disposition) -> &'static str {
    use fulltime_common::Disposition as D;
    match disposition {
        D::Transient => "store or network trouble; tried again",
        D::PreEmpted => "the worker had to go or vanished; another took over",
        D::OutOfMemory => "too little memory; tried with less at once",
        D::PoisonInput => "the input cannot be processed; quarantined once it is proven",
        D::InputChanged => "the recording is not the one that was planned; planned anew",
        D::WorkerUnfit => "the worker cannot do such work; others did it",
        D::JobUnfit => "the job's models or settings cannot work",
        D::Cancelled => "no longer wanted",
    }
}

/// What it cost, as far as anybody said what things cost.
fn costs(out: &mut String, run: &RunFigures, cost: Option<&Cost>, matches: u64) -> fmt::Result {
    let hours = run.seen.lane_seconds / 3600.0;
    let price = cost.and_then(|cost| cost.lane_hour).map(|price| price * hours);
    let given = cost.and_then(|cost| cost.lane_watts).map(|watts| watts * hours);
    let measured = run.seen.record.joules.map(|joules| joules / 3600.0);
    if hours <= 0.0 || matches == 0 || (price.is_none() && given.is_none() && measured.is_none()) {
        return Ok(());
    }
    let each = |total: f64| total / matches as f64;
    writeln!(out, "<h2>Cost</h2>\n<div class=\"tiles\">")?;
    let mut tile =
        |value: String, name: &str| writeln!(out, "<div class=\"tile\"><b>{}</b><span>{name}</span></div>", Esc(value));
    tile(duration(run.seen.lane_seconds), "of lane time for shards")?;
    if let Some(price) = price {
        let currency = cost.and_then(|cost| cost.currency.as_deref()).unwrap_or_default();
        tile(format!("{} {currency}", money(price)), "in all")?;
        tile(format!("{} {currency}", money(each(price))), "a match")?;
    }
    if let Some(energy) = given.or(measured) {
        tile(watt_hours(energy), if given.is_some() { "by the watts given" } else { "drawn by GPUs" })?;
        tile(watt_hours(each(energy)), "a match")?;
    }
    writeln!(out, "</div>")?;
    let stated = cost.map(|cost| {
        let price = cost
            .lane_hour
            .map(|price| format!("{price} {} an hour of a lane", cost.currency.as_deref().unwrap_or_default()));
        let watts = cost.lane_watts.map(|watts| format!("{watts} W a lane"));
        price.into_iter().chain(watts).collect::<Vec<_>>().join(", ")
    });
    let found = counted(matches, "match", "matches");
    match stated.filter(|stated| !stated.is_empty()) {
        Some(stated) => writeln!(out, "<p class=\"soft\">As the job says: {}; over {found}.</p>", Esc(stated)),
        None => writeln!(out, "<p class=\"soft\">Over {found}.</p>"),
    }
}

fn money(amount: f64) -> String {
    if amount >= 0.995 { format!("{amount:.2}") } else { format!("{amount:.4}") }
}

fn watt_hours(energy: f64) -> String {
    match energy {
        e if e >= 1000.0 => format!("{:.2} kWh", e / 1000.0),
        e if e >= 10.0 => format!("{e:.0} Wh"),
        e => format!("{e:.2} Wh"),
    }
}
