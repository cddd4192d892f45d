//! Pictures of a record as SVG, without any text: labels are HTML beside them, so that they keep their size on a phone and
//! on paper. Shapes are stretched to the width there is. Colours are CSS classes (`c-infer`).

use std::fmt::Write as _;

use crate::record::{Bin, Colour};

/// Width of a drawing in its own units.
const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 200.0;
const STRIP: f64 = 20.0;

/// The next number whose quarters are round enough for an axis.
#[must_use]
pub fn round_up(value: f64) -> f64 {
    if value.is_nan() || value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    let step = [1.0, 1.2, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
        .into_iter()
        .find(|step| step * power >= value * (1.0 - 1e-9));
    step.unwrap_or(10.0) * power
}

/// Round times from 0 to near `span` seconds for an axis, four to seven of them.
#[must_use]
pub fn times(span: f64) -> Vec<f64> {
    const STEPS: [f64; 20] = [
        0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10_800.0,
        21_600.0, 43_200.0, 86_400.0, 172_800.0,
    ];
    let step = STEPS.into_iter().find(|step| span / step <= 6.0).unwrap_or(span / 5.0).max(1e-3);
    (0..8).map(|i| f64::from(i) * step).take_while(|time| *time <= span * 1.001).collect()
}

/// A rate over time, from 0 to `top`, over `span` seconds. Points are ends of bins.
#[must_use]
pub fn area(points: &[(f64, f64)], span: f64, top: f64) -> String {
    let x = |at: f64| (at / span.max(1e-9) * WIDTH).clamp(0.0, WIDTH);
    let y = |value: f64| HEIGHT - (value / top.max(1e-9)).clamp(0.0, 1.0) * HEIGHT;
    let mut line = String::new();
    let mut before = 0.0;
    for (i, &(end, value)) in points.iter().enumerate() {
        // A bin is level.
        let _ = write!(
            line,
            "{}{:.1} {:.1}L{:.1} {:.1}",
            if i == 0 { 'M' } else { 'L' },
            x(before),
            y(value),
            x(end),
            y(value)
        );
        before = end;
    }
    let mut svg = open(HEIGHT);
    for quarter in 0..=4 {
        let at = f64::from(quarter) * HEIGHT / 4.0;
        let _ = write!(svg, "<path class=\"grid\" d=\"M0 {at:.0}H{WIDTH:.0}\"/>");
    }
    if !line.is_empty() {
        let right = x(before);
        let _ = write!(svg, "<path class=\"area\" d=\"{line}L{right:.1} {HEIGHT:.0}L0 {HEIGHT:.0}Z\"/>");
        let _ = write!(svg, "<path class=\"line\" d=\"{line}\"/>");
    }
    svg + "</svg>"
}

/// One lane over `span` seconds: what it did, stacked by its share of each bin of `width` seconds. Idle is left free.
#[must_use]
pub fn strip(bins: &[Bin], width: f64, span: f64) -> String {
    let mut svg = open(STRIP);
    let mut floor: Vec<f64> = vec![0.0; bins.len()];
    for colour in Colour::ALL.into_iter().filter(|colour| *colour != Colour::Idle) {
        let share = |bin: &Bin| {
            let all = f64::from(bin.iter().sum::<f32>());
            // A bin of which little was seen (the first, the last) is as tall as what was seen of it.
            f64::from(bin[colour as usize]) / all.max(0.5 * width.min(span)).max(1e-9)
        };
        let top: Vec<f64> = bins.iter().zip(&floor).map(|(bin, floor)| (floor + share(bin)).min(1.0)).collect();
        for (first, last) in runs(&top, &floor) {
            let x = |bin: usize| (bin as f64 * width / span.max(1e-9) * WIDTH).min(WIDTH);
            let y = |share: f64| STRIP - share * STRIP;
            let mut path = format!("M{:.1} {:.1}", x(first), y(top[first]));
            for (bin, top) in (first..last).zip(&top[first..last]) {
                let _ = write!(path, "V{:.1}H{:.1}", y(*top), x(bin + 1));
            }
            for (bin, floor) in (first..last).zip(&floor[first..last]).rev() {
                let _ = write!(path, "V{:.1}H{:.1}", y(*floor), x(bin));
            }
            let _ = write!(svg, "<path class=\"c-{}\" d=\"{path}Z\"/>", class(colour));
        }
        floor = top;
    }
    svg + "</svg>"
}

/// Bins that show anything of a colour, as runs.
fn runs(top: &[f64], floor: &[f64]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for bin in (0..top.len()).filter(|bin| top[*bin] - floor[*bin] > 0.004) {
        match runs.last_mut() {
            Some((_, last)) if *last == bin => *last += 1,
            _ => runs.push((bin, bin + 1)),
        }
    }
    runs
}

/// Shares of one whole as one bar, each with its class.
#[must_use]
pub fn bar(shares: &[(&str, f64)]) -> String {
    let mut svg = open(STRIP);
    let whole: f64 = shares.iter().map(|(_, share)| share).sum();
    let mut left = 0.0;
    for (class, share) in shares {
        let width = share / whole.max(1e-9) * WIDTH;
        // A hair's breadth between two, unless there is nothing to part.
        let drawn = if width > 6.0 { width - 2.0 } else { width };
        let _ = write!(svg, "<rect class=\"{class}\" x=\"{left:.1}\" width=\"{drawn:.1}\" height=\"{STRIP:.0}\"/>");
        left += width;
    }
    svg + "</svg>"
}

/// As in a class name.
#[must_use]
pub fn class(colour: Colour) -> &'static str {
    match colour {
        Colour::Infer => "infer",
        Colour::Postprocess => "postprocess",
        Colour::Pictures => "pictures",
        Colour::Describe => "describe",
        Colour::Store => "store",
        Colour::Other => "other",
        Colour::Elsewhere => "elsewhere",
        Colour::Idle => "idle",
    }
}

fn open(height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH:.0} {height:.0}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round() {
        for (value, round) in
            [(0.0, 1.0), (0.9, 1.0), (1.2, 1.2), (210.9, 240.0), (281.0, 300.0), (51.0, 60.0), (1000.0, 1000.0)]
        {
            assert!((round_up(value) - round).abs() < 1e-9, "{value}: {}", round_up(value));
        }
        assert_eq!(times(62.0), [0.0, 20.0, 40.0, 60.0]);
        for span in [0.3, 3.0, 70.0, 4000.0, 90_000.0, 1e7] {
            let times = times(span);
            assert!(
                (1..=7).contains(&times.len()) && times.iter().all(|time| *time <= span * 1.01),
                "{span}: {times:?}"
            );
        }
    }

    #[test]
    fn drawings_hold_no_text_and_no_figure_that_is_none() {
        let mut busy = Bin::default();
        busy[Colour::Infer as usize] = 0.7;
        busy[Colour::Pictures as usize] = 0.3;
        let drawn = [
            area(&[(1.0, 30.0), (2.0, 50.0)], 2.0, 50.0),
            area(&[], 0.0, 0.0),
            strip(&[busy, Bin::default(), busy], 1.0, 3.0),
            strip(&[], 1.0, 0.0),
            bar(&[("c-infer", 3.0), ("c-idle", 0.0)]),
            bar(&[]),
        ];
        for svg in &drawn {
            assert!(
                svg.starts_with("<svg") && svg.ends_with("</svg>") && !svg.contains("NaN") && !svg.contains("inf\""),
                "{svg}"
            );
            assert!(!svg.contains("<text"));
        }
        assert_eq!(drawn[2].matches("c-infer").count(), 2, "a gap parts it");
        assert!(drawn[0].contains("L1000.0 0.0"), "{}", drawn[0]);
    }
}
