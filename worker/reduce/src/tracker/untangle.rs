//! Second thoughts about tracks that came close to each other: after both have gone on for a while, would their motion be
//! smoother had they been exchanged while they could hardly be told apart? (The observation-centred view of OC-SORT: Cao
//! et al., 2023, taken to its end: what was seen decides, not what was predicted.) Where people were described, what they
//! look like before and after has a say, too.

use std::{collections::VecDeque, ops::Range};

use super::{
    Fate, Live, STEPS_PER_SECOND, Serial, Tracker,
    camera::{CameraMotion, CameraPath},
    motion::{Bounds, Motion},
    tuning::Tuning,
};
use crate::identity::Look;

/// Nats for each unit of cosine by which a look fits better here than there, and what looks say at most.
const LOOK_SLOPE: f64 = 18.0;
const LOOK_MOST: f64 = 12.0;
/// Least sightings of each track on either side of an exchange.
const LEAST: usize = 3;

/// Two tracks were mixed up: in these frames what was said of one is true of the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    pub a: Serial,
    pub b: Serial,
    pub frames: Range<u32>,
}

impl Exchange {
    /// Whose the sighting is that was said to be a track's.
    #[must_use]
    pub fn put_right(&self, frame: u32, track: Serial) -> Serial {
        match track {
            _ if !self.frames.contains(&frame) => track,
            _ if track == self.a => self.b,
            _ if track == self.b => self.a,
            _ => track,
        }
    }
}

/// Two tracks that are close to each other, or were just now.
#[derive(Debug, Clone)]
pub(super) struct Close {
    pub a: Serial,
    pub b: Serial,
    pub since: u32,
    pub last: u32,
}

/// What a track remembers of its last seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub frame: u32,
    pub score: f64,
    pub bounds: Bounds,
}

/// What a track looked like: all before its memory as one, and one by one since.
#[derive(Debug, Clone, Default)]
pub(super) struct Looks {
    known: Look,
    recent: VecDeque<(u32, Box<[u8]>)>,
}

impl Looks {
    pub(super) fn of(frame: u32, look: Option<&[u8]>) -> Self {
        Self { known: Look::default(), recent: look.map(|look| (frame, look.into())).into_iter().collect() }
    }

    pub(super) fn remember(&mut self, frame: u32, look: Option<&[u8]>, frames: u32) {
        self.recent.extend(look.map(|look| (frame, look.into())));
        while self.recent.front().is_some_and(|(old, _)| frame - *old > frames) {
            self.recent.pop_front().into_iter().for_each(|(_, old)| self.known.add(&old));
        }
    }

    pub(super) fn all(&self) -> Look {
        let mut sum = self.known.clone();
        self.recent.iter().for_each(|(_, look)| sum.add(look));
        sum
    }

    fn before(&self, frame: u32) -> Look {
        let mut sum = self.known.clone();
        self.recent.iter().filter(|(seen, _)| *seen < frame).for_each(|(_, look)| sum.add(look));
        sum
    }

    fn after(&self, frame: u32) -> Look {
        let mut sum = Look::default();
        self.recent.iter().filter(|(seen, _)| *seen > frame).for_each(|(_, look)| sum.add(look));
        sum
    }

    fn exchange(&mut self, other: &mut Self, after: u32) {
        let tail = |looks: &mut Self| {
            let at = looks.recent.partition_point(|(frame, _)| *frame <= after);
            looks.recent.split_off(at)
        };
        let (gone, come) = (tail(self), tail(other));
        self.recent.extend(come);
        other.recent.extend(gone);
    }
}

/// What looks say for two tracks' having stayed who they were while they were close, in nats.
fn stayed(close: &Close, a: &Looks, b: &Looks) -> f64 {
    let before = [a, b].map(|looks| looks.before(close.since));
    let after = [a, b].map(|looks| looks.after(close.last));
    let alike = |i: usize, j: usize| before[i].direction().cosine(&after[j].direction());
    // Each look of after says to whom of before it fits, where both are known; or each of before says the same of after.
    let say = |own: Option<f64>, other: Option<f64>, counts: [u32; 3]| {
        let least = f64::from(counts.into_iter().min().unwrap_or_default());
        own.zip(other).map_or(0.0, |(own, other)| LOOK_SLOPE * (own - other) * least / (least + 1.0))
    };
    let of_after = (0..2).map(|j| {
        let counts = [before[0].count, before[1].count, after[j].count];
        say(alike(j, j), alike(1 - j, j), counts)
    });
    let of_before = (0..2).map(|i| {
        let counts = [after[0].count, after[1].count, before[i].count];
        say(alike(i, i), alike(i, 1 - i), counts)
    });
    let all: f64 = of_after.chain(of_before).sum();
    (all / 2.0).clamp(-LOOK_MOST, LOOK_MOST)
}

impl Live {
    /// Each goes on as the other after a frame; what they were before stays with them.
    fn exchange(&mut self, other: &mut Self, after: u32) {
        let tail = |track: &mut Self| {
            let at = track.memory.partition_point(|memory| memory.frame <= after);
            Vec::from(track.memory.split_off(at))
        };
        let (gone, come) = (tail(self), tail(other));
        self.story.exchange(after, &gone, &come);
        other.story.exchange(after, &come, &gone);
        self.memory.extend(come);
        other.memory.extend(gone);
        self.looks.exchange(&mut other.looks, after);
        std::mem::swap(&mut self.last, &mut other.last);
        std::mem::swap(&mut self.motion, &mut other.motion);
        std::mem::swap(&mut self.seen, &mut other.seen);
    }
}

impl Tracker {
    /// Notes who is close to whom in this frame.
    pub(super) fn watch(&mut self, frame: u32) {
        let sure = |track: &&Live| track.last == frame && self.fate(track.serial) == Fate::Reported;
        let here: Vec<&Live> = self.live.iter().filter(sure).collect();
        let mut found = Vec::new();
        for (i, a) in here.iter().enumerate() {
            for b in &here[i + 1..] {
                if a.class == b.class && a.seen.iou(&b.seen) > self.tuning.close_iou {
                    found.push((a.serial.min(b.serial), a.serial.max(b.serial)));
                }
            }
        }
        for (a, b) in found {
            match self.close.iter_mut().find(|close| (close.a, close.b) == (a, b)) {
                Some(close) => close.last = frame,
                None => self.close.push(Close { a, b, since: frame, last: frame }),
            }
        }
    }

    /// Thinks again about tracks that were close and have been apart for a while, or that are about to end.
    pub(super) fn untangle(&mut self, frame: u32) {
        let mut i = 0;
        while i < self.close.len() {
            let close = &self.close[i];
            let ending = |track: &&Live| {
                [close.a, close.b].contains(&track.serial) && frame.saturating_sub(track.last) > self.lost
            };
            let due = frame.saturating_sub(close.last) > self.watch
                || frame.saturating_sub(close.since) + self.watch > self.remember
                || self.live.iter().any(|track| ending(&track));
            if due {
                let close = self.close.remove(i);
                self.decide(&close, frame);
            } else {
                i += 1;
            }
        }
    }

    pub(super) fn decide(&mut self, close: &Close, frame: u32) {
        let place = |serial: Serial| self.live.iter().position(|track| track.serial == serial);
        let (Some(i), Some(j)) = (place(close.a), place(close.b)) else { return };
        let [a, b] = [&self.live[i], &self.live[j]];
        let stayed = stayed(close, &a.looks, &b.looks);
        let split = split(close, [&a.memory, &b.memory], stayed, &self.camera, &self.tuning, self.fps);
        let Some(after) = split else { return };
        if let Ok([a, b]) = self.live.get_disjoint_mut([i, j]) {
            a.exchange(b, after);
        }
        self.exchanges.push(Exchange { a: close.a, b: close.b, frames: after + 1..frame });
        // Whoever else is close to one of them is close to the other from now on.
        for other in &mut self.close {
            let swap = |serial: Serial| match serial {
                _ if serial == close.a => close.b,
                _ if serial == close.b => close.a,
                _ => serial,
            };
            if other.last > after {
                let (a, b) = (swap(other.a), swap(other.b));
                (other.a, other.b) = (a.min(b), a.max(b));
            }
        }
    }
}

/// The frame after which two tracks should be exchanged, if they should. Both are followed anew with either's sightings
/// from every frame on at which they were close; the cost is the filter's surprise in nats, and what looks say for their
/// having `stayed`.
fn split(
    close: &Close,
    [a, b]: [&VecDeque<Memory>; 2],
    stayed: f64,
    camera: &CameraPath,
    tuning: &Tuning,
    fps: f64,
) -> Option<u32> {
    let anchor = a.front()?.frame.min(b.front()?.frame);
    let (a, b) = (still(a, anchor, camera)?, still(b, anchor, camera)?);
    let from_start = |all: &[Memory]| {
        let mut run = Run::new(&all[0], tuning, fps);
        let mut states = vec![run.clone()];
        for memory in &all[1..] {
            run.add(memory, tuning);
            states.push(run.clone());
        }
        states
    };
    let (states_a, states_b) = (from_start(&a), from_start(&b));
    let as_they_are = states_a[a.len() - 1].cost + states_b[b.len() - 1].cost;
    // Of exchanges that save too little none is made; of those that save as much the first.
    let (mut best, mut least) = (None, as_they_are - tuning.exchange_margin - stayed);
    let earliest = close.since.saturating_sub(1);
    let mut splits: Vec<u32> = a.iter().chain(&b).map(|memory| memory.frame).collect();
    splits.sort_unstable();
    splits.dedup();
    for split in splits.into_iter().filter(|split| (earliest..=close.last).contains(split)) {
        let at = |all: &[Memory]| all.partition_point(|memory| memory.frame <= split);
        let (i, j) = (at(&a), at(&b));
        if i.min(j) < LEAST || (a.len() - i).min(b.len() - j) < LEAST {
            continue;
        }
        let follow = |state: &Run, rest: &[Memory]| {
            let mut run = state.clone();
            rest.iter().for_each(|memory| run.add(memory, tuning));
            run.cost
        };
        let exchanged = follow(&states_a[i - 1], &b[j..]) + follow(&states_b[j - 1], &a[i..]);
        if exchanged < least {
            (best, least) = (Some(split), exchanged);
        }
    }
    best
}

/// The sightings as the camera would have seen them had it stood still; `None` over a cut.
fn still(all: &VecDeque<Memory>, anchor: u32, camera: &CameraPath) -> Option<Vec<Memory>> {
    all.iter()
        .map(|memory| {
            let back: CameraMotion = camera.between(memory.frame, anchor)?;
            let ((cx, cy), scale) = (back.point(memory.bounds.cx, memory.bounds.cy), back.scale());
            let bounds = Bounds { cx, cy, w: memory.bounds.w * scale, h: memory.bounds.h * scale };
            Some(Memory { bounds, ..*memory })
        })
        .collect()
}

/// A filter's way along some sightings.
#[derive(Debug, Clone)]
struct Run {
    motion: Motion,
    frame: u32,
    fps: f64,
    cost: f64,
}

impl Run {
    fn new(first: &Memory, tuning: &Tuning, fps: f64) -> Self {
        Self { motion: Motion::new(&first.bounds, &tuning.noise), frame: first.frame, fps, cost: 0.0 }
    }

    fn add(&mut self, memory: &Memory, tuning: &Tuning) {
        let steps = f64::from(memory.frame.saturating_sub(self.frame)) / self.fps * STEPS_PER_SECOND;
        let ahead = self.motion.predict(steps, &tuning.noise);
        self.cost += ahead.surprise(&memory.bounds, &tuning.noise);
        self.motion = ahead.correct(&memory.bounds, &tuning.noise);
        self.frame = memory.frame;
    }
}
