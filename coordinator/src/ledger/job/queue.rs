//! What of a job waits to be taken up, in plan order, and what it is as a task.

use std::sync::Arc;

use fulltime_common::{digest::Digest, keys, wire::TaskKind};

use super::{
    super::{
        Action, Place, Step, WorkId,
        entry::Subscriber,
        fixture::{Fixture, Stage},
    },
    Job,
};

/// Figures of matches that were done before, asked for at once.
const RECALLS: usize = 16;

/// What was taken up.
pub(in crate::ledger) enum TakenUp {
    /// A match: the coordinator's own step.
    Match,
    Work(WorkId, Subscriber, u64),
}

impl Job {
    /// Whether work of this match may be released.
    pub fn takes(&self, at: u32) -> bool {
        self.over.is_none()
            && self.paused.is_none()
            && self.fixtures.get(at as usize).is_some_and(|fixture| fixture.held.is_none())
    }

    /// Whether it has something to take up. At most `most` matches are prepared at once, since planned matches hold
    /// their shards in memory.
    pub fn is_runnable(&self, most: usize) -> bool {
        let opens = !self.unopened.is_empty() && self.preparing < most;
        let shut = self.closed || self.over_quota;
        self.over.is_none() && self.paused.is_none() && !shut && (opens || !self.ready.is_empty())
    }

    /// Whether it has shards, or will have some, that nobody has taken up.
    pub fn has_more(&self) -> bool {
        !self.ready.is_empty() || !self.unopened.is_empty() || self.preparing > 0
    }

    /// Puts everything of a match that waits into the queue of what is ready.
    pub fn enlist(&mut self, at: u32) {
        let Some(fixture) = self.fixtures.get(at as usize).filter(|fixture| fixture.held.is_none()) else { return };
        if fixture.stage == Stage::Listed {
            self.unopened.insert(at);
        }
        self.ready.extend(fixture.waiting().into_iter().map(|step| Place { at, step }));
    }

    /// Takes everything of a match out of the queue of what is ready.
    pub fn delist(&mut self, at: u32) {
        self.unopened.remove(&at);
        self.unplanned.remove(&at);
        let mut later = self.ready.split_off(&Place { at, step: Step::FIRST });
        if let Some(next) = at.checked_add(1) {
            let mut beyond = later.split_off(&Place { at: next, step: Step::FIRST });
            self.ready.append(&mut beyond);
        }
    }

    /// Work that had been taken up waits again.
    pub fn put_back(&mut self, place: Place) {
        self.change(place.at, |fixture| fixture.mark(place.step, false));
        let waits = |fixture: &Fixture| fixture.held.is_none() && fixture.is_waiting(place.step);
        if self.fixtures.get(place.at as usize).is_some_and(waits) {
            self.ready.insert(place);
        }
    }

    /// Work of this job with this digest, shared or its own.
    pub fn work_ids(&self, digest: Digest) -> impl Iterator<Item = WorkId> {
        let shared = self.setting.as_ref().map(|setting| Arc::clone(&setting.store));
        shared.into_iter().chain([self.id.clone()]).map(move |scope| WorkId { digest, scope })
    }

    /// The next work in plan order; a new match only when there is none.
    pub fn take(&mut self, most: usize, actions: &mut Vec<Action>) -> Option<TakenUp> {
        let Some(place) = self.ready.pop_first() else {
            if self.preparing >= most {
                return None;
            }
            let at = self.unopened.pop_first()?;
            let archive = self.setting.as_ref()?.archive.clone();
            self.change(at, |fixture| fixture.open(&archive))?;
            self.ask(at, actions);
            return Some(TakenUp::Match);
        };
        let work = self.work_at(place)?;
        let cost = match place.step {
            Step::Map { recording, shard } => {
                self.fixture(place.at).and_then(|f| f.slot(recording, shard)).map_or(1, |slot| slot.length().max(1))
            }
            Step::Index { .. } | Step::Reduce => 1,
        };
        self.change(place.at, |fixture| fixture.mark(place.step, true));
        Some(TakenUp::Work(work, Subscriber { job: self.id.clone(), place }, cost))
    }

    fn work_at(&self, place: Place) -> Option<WorkId> {
        let fixture = self.fixture(place.at)?;
        let shared = |digest| Some(WorkId { digest, scope: Arc::clone(&self.setting.as_ref()?.store) });
        match place.step {
            Step::Index { recording } => shared(fixture.recordings.get(recording as usize)?.index),
            Step::Map { recording, shard } => shared(fixture.slot(recording, shard)?.digest),
            Step::Reduce => match fixture.stage {
                Stage::Reducing { reduce, .. } => Some(WorkId { digest: reduce, scope: self.id.clone() }),
                _ => None,
            },
        }
    }

    pub fn task(&self, place: Place) -> Option<TaskKind> {
        let setting = self.setting.as_ref()?;
        let fixture = self.fixture(place.at)?;
        Some(match place.step {
            Step::Index { recording } => TaskKind::Index { recording: fixture.placement(recording)?.recording.clone() },
            Step::Map { recording, shard } => {
                TaskKind::Map { shard: fixture.shard(recording, shard, setting.pipeline, setting.map)? }
            }
            Step::Reduce => TaskKind::Reduce {
                inputs: keys::job::inputs(&self.id, &fixture.id, setting.generation),
                generation: setting.generation,
            },
        })
    }

    /// Asks for the figures of matches that were done before, a few at a time.
    pub fn ask_for_the_past(&mut self, actions: &mut Vec<Action>) {
        while self.recalling < RECALLS
            && let Some(at) = self.past.pop()
        {
            self.recalling += 1;
            self.ask(at, actions);
        }
    }

    pub fn recalled(&mut self) {
        self.recalling = self.recalling.saturating_sub(1);
    }

    /// Whether the figures of all closed matches are known, and no other is left.
    pub fn is_complete(&self) -> bool {
        self.over.is_none()
            && self.setting.is_some()
            && self.open_matches == 0
            && self.past.is_empty()
            && self.recalling == 0
    }
}
