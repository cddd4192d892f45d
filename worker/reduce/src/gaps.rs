//! Gaps of a recording, free of shard boundaries.

use fulltime_common::plan::Gap;

/// Sorted, without overlaps, and joined where one reason goes on: the same list however the recording was cut.
#[must_use]
pub fn normalise(mut gaps: Vec<Gap>) -> Vec<Gap> {
    gaps.sort_by(|a, b| (a.frames.start, a.frames.end, &a.reason).cmp(&(b.frames.start, b.frames.end, &b.reason)));
    let mut joined: Vec<Gap> = Vec::new();
    for mut gap in gaps {
        let Some(last) = joined.last_mut().filter(|last| gap.frames.start <= last.frames.end) else {
            joined.push(gap);
            continue;
        };
        if gap.reason == last.reason {
            last.frames.end = last.frames.end.max(gap.frames.end);
        } else if gap.frames.end > last.frames.end || gap.frames.is_empty() {
            gap.frames.start = last.frames.end.min(gap.frames.end);
            joined.push(gap);
        }
    }
    joined
}

/// Frames in a normalised list.
#[must_use]
pub fn frames(gaps: &[Gap]) -> u32 {
    gaps.iter().map(|gap| gap.frames.end - gap.frames.start).sum()
}

/// How many frames of `0..frames` outside the gaps are divisible by `every`.
#[must_use]
pub fn looked_at(frames: u32, gaps: &[Gap], every: u32) -> u32 {
    let below = |frame: u32| frame.div_ceil(every.max(1));
    below(frames) - gaps.iter().map(|gap| below(gap.frames.end) - below(gap.frames.start)).sum::<u32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap(frames: std::ops::Range<u32>, reason: &str) -> Gap {
        Gap { frames, reason: reason.into() }
    }

    #[test]
    fn gaps_do_not_show_where_the_shards_were_cut() {
        let whole = vec![gap(50..100, "corrupt"), gap(100..125, "missing")];
        assert_eq!(normalise(whole.clone()), whole);
        assert_eq!(normalise(vec![gap(100..125, "missing"), gap(75..100, "corrupt"), gap(50..75, "corrupt")]), whole);
        assert_eq!(normalise(vec![gap(50..100, "corrupt"), gap(75..125, "missing")]), whole);
        assert_eq!(frames(&whole), 75);
    }

    #[test]
    fn a_refused_recording_keeps_its_reason() {
        assert_eq!(normalise(vec![gap(0..0, "audio only")]), [gap(0..0, "audio only")]);
    }

    #[test]
    fn frames_in_gaps_are_not_looked_at() {
        assert_eq!(looked_at(100, &[], 1), 100);
        assert_eq!(looked_at(100, &[gap(50..75, "")], 1), 75);
        assert_eq!(looked_at(100, &[], 3), 34);
        assert_eq!(looked_at(100, &[gap(1..99, "")], 3), 1 + 1);
    }
}
