//! From packets to numbered frames and to the intervals that are decoded on their own. Pure: no bytes, no libav.
//! Used by every index maker that has a packet table (all but indexed Matroska).

use std::ops::Range;

use fulltime_common::index::{Interval, NEVER_SHOWN, Packets};

/// Shorter groups of pictures are decoded together: a cut costs a fresh decoder and, when planning, a ranged read.
/// A little under a second, so that one-second groups stay groups of their own.
pub(crate) const MIN_INTERVAL_US: i64 = 900_000;

/// One packet of the video stream, in decoding order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub pos: u64,
    pub size: u32,
    /// Presentation time in ticks; `None` for packets that are decoded but never shown.
    pub pts: Option<i64>,
    pub dts: Option<i64>,
    /// The container or parser calls it a keyframe.
    pub key: bool,
    /// Reading can start at `pos`: no earlier packet shares it.
    pub entry: bool,
}

/// Rows with their numbers.
#[derive(Debug)]
pub(crate) struct Table {
    pub rows: Vec<Row>,
    /// Frame number of each row, or [`NEVER_SHOWN`].
    pub frame: Vec<u32>,
    /// Presentation time of each frame, ascending.
    pub frame_us: Vec<i64>,
}

impl Table {
    /// Numbers the frames in presentation order. `time_base` is seconds per tick; `from_zero` shifts the first frame to
    /// time 0, for containers whose clock starts anywhere.
    pub fn new(mut rows: Vec<Row>, time_base: (i64, i64), from_zero: bool) -> Self {
        join_time_lines(&mut rows, time_base);
        let mut shown: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].pts.is_some()).collect();
        // Equal times (broken files) stay in decoding order, since the sort is stable.
        shown.sort_by_key(|&i| rows[i].pts);
        let mut frame = vec![NEVER_SHOWN; rows.len()];
        let zero = shown.first().and_then(|&i| rows[i].pts).filter(|_| from_zero).unwrap_or(0);
        let (num, den) = time_base;
        let mut frame_us = Vec::with_capacity(shown.len());
        for (number, &i) in shown.iter().enumerate() {
            frame[i] = number as u32;
            let ticks = i128::from(rows[i].pts.unwrap_or(zero) - zero);
            frame_us.push((ticks * i128::from(num) * 1_000_000).div_euclid(i128::from(den)) as i64);
        }
        Self { rows, frame, frame_us }
    }

    pub fn frames(&self) -> u32 {
        self.frame_us.len() as u32
    }

    /// Rows where an interval may start if decoding can: keyframes after which no frame comes, in decoding order, that
    /// an earlier row has left behind. At least `spacing_us` apart. The first row is not among them: it always starts one.
    pub fn candidates(&self, spacing_us: i64) -> Vec<usize> {
        let mut chosen = Vec::new();
        let mut highest = None;
        let mut last_us = self.frame_us.first().copied().unwrap_or_default();
        for (i, (row, &frame)) in self.rows.iter().zip(&self.frame).enumerate() {
            if frame == NEVER_SHOWN {
                continue;
            }
            let us = self.frame_us[frame as usize];
            let in_order = highest.is_some_and(|highest| highest < frame);
            if row.key && row.entry && in_order && us - last_us >= spacing_us {
                chosen.push(i);
                last_us = us;
            }
            highest = highest.max(Some(frame));
        }
        chosen
    }

    /// Cuts at these rows (candidates that are clean). `reach` turns a range of rows into the bytes that hold them.
    pub fn intervals(&self, cuts: &[usize], reach: impl Fn(Range<usize>) -> Range<u64>) -> Vec<Interval> {
        let starts: Vec<usize> = std::iter::once(0).chain(cuts.iter().copied()).collect();
        let mut firsts: Vec<u32> = starts.iter().map(|&row| self.frame[row]).collect();
        firsts[0] = 0;
        // An interval ends after its last packet, which lies behind the next keyframe when that has leading pictures.
        let mut ends: Vec<usize> = starts.iter().skip(1).copied().chain([self.rows.len()]).collect();
        for (row, &frame) in self.frame.iter().enumerate() {
            if frame != NEVER_SHOWN {
                let owner = firsts.partition_point(|&first| first <= frame) - 1;
                ends[owner] = ends[owner].max(row + 1);
            }
        }
        let lasts = firsts.iter().skip(1).copied().chain([self.frames()]);
        let spans = starts.iter().zip(ends).zip(firsts.iter().zip(lasts));
        spans
            .map(|((&start, end), (&first, last))| Interval {
                frames: first..last,
                packets: start as u32..end as u32,
                bytes: reach(start..end),
            })
            .collect()
    }

    /// Average frame rate, where libav has none.
    pub fn frame_rate(&self) -> (u32, u32) {
        match (self.frame_us.first(), self.frame_us.last()) {
            (Some(first), Some(last)) if last > first => {
                let micros = (last - first) as u64;
                let frames = u64::from(self.frames() - 1) * 1_000_000_000 / micros.max(1);
                (frames.min(u64::from(u32::MAX)) as u32, 1000)
            }
            _ => (25, 1),
        }
    }

    pub fn into_packets(self) -> (Packets, Vec<i64>) {
        let packets = Packets {
            pos: self.rows.iter().map(|row| row.pos).collect(),
            size: self.rows.iter().map(|row| row.size).collect(),
            frame: self.frame,
        };
        (packets, self.frame_us)
    }
}

/// A clock that jumps back by more than a second (recordings glued together, a restarted encoder) starts a new time
/// line: it is moved behind the one before, so that presentation order follows the file.
fn join_time_lines(rows: &mut [Row], (num, den): (i64, i64)) {
    let second = (den / num.max(1)).max(1);
    let (mut shift, mut last) = (0, None::<i64>);
    let mut step = second / 25;
    for row in rows {
        if let (Some(dts), Some(last)) = (row.dts, last) {
            if dts + shift < last - second {
                shift = last + step - dts;
            } else if dts + shift > last {
                step = (dts + shift - last).min(second);
            }
        }
        row.pts = row.pts.map(|t| t + shift);
        row.dts = row.dts.map(|t| t + shift);
        last = row.dts.or(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pts: i64, dts: i64, key: bool) -> Row {
        Row { pos: dts as u64 * 100, size: 100, pts: Some(pts), dts: Some(dts), key, entry: true }
    }

    fn spans(table: &Table, cuts: &[usize]) -> Vec<(Range<u32>, Range<u32>)> {
        let intervals = table.intervals(cuts, |_| 0..0);
        intervals.into_iter().map(|i| (i.frames, i.packets)).collect()
    }

    #[test]
    fn leading_pictures_of_an_open_gop_belong_to_the_interval_before() {
        // Presentation: I0 B1 P2 | B3 I4 P5; decoding: I0 P2 B1 I4 B3 P5.
        let order = [(0, true), (2, false), (1, false), (4, true), (3, false), (5, false)];
        let rows = order.iter().enumerate().map(|(i, &(pts, key))| row(pts, i as i64, key)).collect();
        let table = Table::new(rows, (1, 1), false);
        assert_eq!(table.candidates(1), [3]);
        assert_eq!(spans(&table, &[3]), [(0..4, 0..5), (4..6, 3..6)]);
    }

    #[test]
    fn a_keyframe_that_is_shown_before_an_earlier_packet_is_no_cut() {
        let rows = vec![row(0, 0, true), row(3, 1, false), row(2, 2, true), row(4, 3, false)];
        assert!(Table::new(rows, (1, 1), false).candidates(0).is_empty());
    }

    #[test]
    fn close_keyframes_share_an_interval() {
        let rows = (0..100).map(|i| row(i, i, i % 10 == 0)).collect();
        let table = Table::new(rows, (1, 25), false);
        assert_eq!(table.candidates(MIN_INTERVAL_US), [30, 60, 90]);
    }

    #[test]
    fn packets_of_an_edit_list_that_are_never_shown_get_no_number() {
        let mut rows: Vec<Row> = (0..4).map(|i| row(i, i, i == 0)).collect();
        rows[0].pts = None;
        let table = Table::new(rows, (1, 1), false);
        assert_eq!(table.frame, [NEVER_SHOWN, 0, 1, 2]);
        assert_eq!(spans(&table, &[]), [(0..3, 0..4)]);
    }

    #[test]
    fn a_clock_that_starts_again_continues_behind_what_was_before() {
        let rows = [900, 901, 902, 10, 11].map(|t| row(t * 90_000, t * 90_000, true)).to_vec();
        let table = Table::new(rows, (1, 90_000), true);
        assert_eq!(table.frame, [0, 1, 2, 3, 4]);
        assert_eq!(table.frame_us, [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000]);
    }

    proptest::proptest! {
        #[test]
        fn intervals_cover_every_frame_once_and_hold_its_packet(
            order in proptest::collection::vec((0i64..200, proptest::bool::weighted(0.2)), 1..80),
        ) {
            let rows: Vec<Row> = order.iter().enumerate().map(|(i, &(pts, key))| row(pts, i as i64, key)).collect();
            let table = Table::new(rows, (1, 25), false);
            let cuts = table.candidates(0);
            let intervals = table.intervals(&cuts, |_| 0..0);
            let mut next = 0;
            for interval in &intervals {
                proptest::prop_assert_eq!(interval.frames.start, next);
                next = interval.frames.end;
                for frame in interval.frames.clone() {
                    let row = table.frame.iter().position(|&f| f == frame).unwrap() as u32;
                    proptest::prop_assert!(interval.packets.contains(&row));
                }
            }
            proptest::prop_assert_eq!(next, table.frames());
        }
    }
}
