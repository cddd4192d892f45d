//! Who builds. Claims are numbered objects that are put once, each with beats below it that are put while its builder works.
//! A claim is over when its beats have stood still for too long, by the clock of whoever looks; then the next number may be
//! put, and whoever puts it builds. Two builders at a time do no harm, since the engine itself is put once, too.

use std::time::Duration;

/// The newest claim, and how often its builder has shown that it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub number: u64,
    pub beats: u64,
}

/// What one look into the store has shown, with what the looker remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Whether the engine is there.
    pub engine: bool,
    pub newest: Option<Claim>,
    /// The number that this looker has put itself.
    pub ours: Option<u64>,
    /// How long the newest claim has looked the same to this looker, by its own monotonic clock.
    pub quiet: Duration,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The engine is there.
    Fetch,
    /// Put the claim with this number; whoever has put it builds.
    Claim(u64),
    /// It is ours.
    Build,
    /// Another builds: look again later, run something else meanwhile.
    Wait,
}

/// The decision. A claim that has been quiet for `patience` is over.
#[must_use]
pub fn decide(seen: &Seen, patience: Duration) -> Step {
    match seen.newest {
        _ if seen.engine => Step::Fetch,
        None => Step::Claim(0),
        // A newer claim than ours: we were taken for dead. Let them.
        Some(newest) if seen.ours == Some(newest.number) => Step::Build,
        Some(newest) if seen.quiet >= patience => Step::Claim(newest.number + 1),
        Some(_) => Step::Wait,
    }
}

/// Remembers since when the newest claim looks as it does.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    newest: Option<Claim>,
    since: Duration,
}

impl Watch {
    /// How long, at `now`.
    pub fn quiet(&mut self, newest: Option<Claim>, now: Duration) -> Duration {
        if newest != self.newest {
            (self.newest, self.since) = (newest, now);
        }
        now.saturating_sub(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn seen(newest: Option<(u64, u64)>, ours: Option<u64>, quiet: u64) -> Seen {
        let newest = newest.map(|(number, beats)| Claim { number, beats });
        Seen { engine: false, newest, ours, quiet: Duration::from_secs(quiet) }
    }

    #[test]
    fn the_first_claims_the_others_wait() {
        assert_eq!(decide(&seen(None, None, 0), PATIENCE), Step::Claim(0));
        assert_eq!(decide(&seen(Some((0, 0)), Some(0), 0), PATIENCE), Step::Build);
        assert_eq!(decide(&seen(Some((0, 7)), None, 59), PATIENCE), Step::Wait);
    }

    #[test]
    fn a_builder_that_stands_still_is_succeeded_and_does_not_come_back() {
        assert_eq!(decide(&seen(Some((0, 7)), None, 60), PATIENCE), Step::Claim(1));
        // The first wakes up again: there is a newer claim, and it is alive.
        assert_eq!(decide(&seen(Some((1, 0)), Some(0), 3), PATIENCE), Step::Wait);
        // Our own claim never expires to ourselves.
        assert_eq!(decide(&seen(Some((0, 7)), Some(0), 600), PATIENCE), Step::Build);
    }

    #[test]
    fn an_engine_ends_it_whoever_made_it() {
        for newest in [None, Some((3, 9))] {
            assert_eq!(decide(&Seen { engine: true, ..seen(newest, Some(3), 0) }, PATIENCE), Step::Fetch);
        }
    }

    #[test]
    fn quiet_counts_from_the_last_beat_that_was_seen() {
        let mut watch = Watch::default();
        let at = |seconds: u64| Duration::from_secs(seconds);
        let claim = |beats| Some(Claim { number: 0, beats });
        assert_eq!(watch.quiet(claim(0), at(100)), at(0), "just seen: nothing is known about before");
        assert_eq!(watch.quiet(claim(0), at(130)), at(30));
        assert_eq!(watch.quiet(claim(1), at(150)), at(0));
        assert_eq!(watch.quiet(claim(1), at(210)), at(60));
    }
}
