//! Who leads: one machine per coordinator over the leader's register on the bus. Pure: it is told what was seen of the
//! register and when, and says what to do next; `campaign` does it.
//!
//! A leader renews its claim and may act until a lease after the *start* of its last successful claim, less a margin.
//! A standby waits a whole lease after the last change that it *saw*, then claims on condition that nothing has changed
//! since. So, with clocks of equal rate, two never lead at once, however long messages take. A register that is gone
//! (the broker lost its disk) is first given a placeholder: every wait then counts from a revision of its own.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// Time since some fixed moment of this process.
pub type Now = Duration;

/// What a coordinator writes into the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    Leads,
    /// Led, and has stopped: anybody may lead at once.
    Resigned,
    /// Found the register empty and waits.
    Waits,
}

/// The register as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    pub revision: u64,
    pub claim: Claim,
    /// Written by this very process.
    pub ours: bool,
}

/// What came of the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: time goes by.
    Time,
    Register(Option<Sighting>),
    /// A claim that was started then ended so; `None`: somebody else was faster.
    Claimed {
        claim: Claim,
        started: Now,
        revision: Option<u64>,
    },
    /// No answer. The claim may have been written all the same, or still be on its way.
    Silence,
    /// Whether a coordinator of a higher epoch has taken over meanwhile.
    Rank {
        outranked: bool,
    },
}

/// What to do next, one thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Wait {
        until: Now,
    },
    Read,
    Claim {
        claim: Claim,
        expected: Option<u64>,
    },
    /// Look for an epoch above our own before the register is made anew.
    Rank,
}

/// A lead: from the claim that won it until `until`, unless a renewal moves that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    /// Counts the leads of this process, so that one won back is not taken for one never lost.
    pub term: u64,
    pub until: Now,
    revision: u64,
}

/// The machine of one coordinator.
#[derive(Debug, Clone)]
pub struct Election {
    lease: Duration,
    /// Nobody else is on this bus: an empty register need not be waited for.
    alone: bool,
    lead: Option<Lead>,
    terms: u64,
    /// The register as last seen, and since when it has not changed.
    seen: Option<(Sighting, Now)>,
    due: Now,
}

impl Election {
    #[must_use]
    pub fn new(lease: Duration, alone: bool) -> Self {
        Self { lease, alone, lead: None, terms: 0, seen: None, due: Duration::ZERO }
    }

    /// The lead, while it lasts.
    #[must_use]
    pub fn lead(&self, now: Now) -> Option<Lead> {
        self.lead.filter(|lead| now < lead.until)
    }

    pub fn step(&mut self, seen: Seen, now: Now) -> Next {
        if self.lead.is_some_and(|lead| now >= lead.until) {
            self.step_down();
        }
        match seen {
            Seen::Time if now < self.due => self.wait(),
            Seen::Time => match self.lead {
                Some(lead) => Next::Claim { claim: Claim::Leads, expected: Some(lead.revision) },
                None => Next::Read,
            },
            Seen::Register(sighting) => match self.lead {
                Some(_) => self.look_after_the_lead(sighting, now),
                None => self.look_for_a_lead(sighting, now),
            },
            Seen::Claimed { claim: Claim::Leads, started, revision: Some(revision) } => {
                self.claimed(revision, started, now)
            }
            Seen::Claimed { .. } => Next::Read,
            Seen::Silence => self.later(now, self.patience()),
            Seen::Rank { outranked: false } if self.lead.is_some() => {
                Next::Claim { claim: Claim::Leads, expected: None }
            }
            Seen::Rank { .. } => {
                self.step_down();
                self.later(now, self.patience())
            }
        }
    }

    /// Gives the lead up; what to write, so that the next one need not wait. Call it once nothing acts on it any more.
    pub fn resign(&mut self, now: Now) -> Option<Next> {
        let lead = self.lead(now);
        self.step_down();
        lead.map(|lead| Next::Claim { claim: Claim::Resigned, expected: Some(lead.revision) })
    }

    fn claimed(&mut self, revision: u64, started: Now, now: Now) -> Next {
        let until = (started + self.lease).saturating_sub(self.margin());
        if now >= until {
            // The answer took too long to be of use.
            self.step_down();
            return Next::Read;
        }
        let term = match self.lead {
            Some(lead) => lead.term,
            None => {
                self.terms += 1;
                self.terms
            }
        };
        self.lead = Some(Lead { term, until, revision });
        self.seen = None;
        self.due = (started + self.lease / 4).max(now);
        self.wait()
    }

    /// A renewal was lost, so the register is not what we wrote last.
    fn look_after_the_lead(&mut self, sighting: Option<Sighting>, now: Now) -> Next {
        match sighting {
            // An earlier renewal had arrived although nobody said so.
            Some(Sighting { ours: true, claim: Claim::Leads, revision }) => {
                Next::Claim { claim: Claim::Leads, expected: Some(revision) }
            }
            // Somebody found the register empty before we did.
            Some(Sighting { claim: Claim::Waits, revision, .. }) => {
                Next::Claim { claim: Claim::Leads, expected: Some(revision) }
            }
            Some(Sighting { claim: Claim::Leads | Claim::Resigned, .. }) => {
                self.step_down();
                self.later(now, self.patience())
            }
            None => Next::Rank,
        }
    }

    fn look_for_a_lead(&mut self, sighting: Option<Sighting>, now: Now) -> Next {
        let Some(sighting) = sighting else {
            self.seen = None;
            let claim = if self.alone { Claim::Leads } else { Claim::Waits };
            return Next::Claim { claim, expected: None };
        };
        let since = match self.seen {
            Some((before, since)) if before.revision == sighting.revision => since,
            _ => now,
        };
        self.seen = Some((sighting, since));
        let vacant = match sighting.claim {
            Claim::Resigned => true,
            Claim::Leads | Claim::Waits => now.saturating_sub(since) >= self.lease,
        };
        if vacant {
            return Next::Claim { claim: Claim::Leads, expected: Some(sighting.revision) };
        }
        // Not a poll later than need be.
        let ripe = (since + self.lease).saturating_sub(now);
        self.later(now, self.patience().min(ripe))
    }

    fn step_down(&mut self) {
        self.lead = None;
        self.seen = None;
    }

    fn later(&mut self, now: Now, pause: Duration) -> Next {
        self.due = now + pause;
        self.wait()
    }

    fn wait(&self) -> Next {
        Next::Wait { until: self.lead.map_or(self.due, |lead| self.due.min(lead.until)) }
    }

    /// Between two looks at the register.
    fn patience(&self) -> Duration {
        self.lease / 12
    }

    /// What a leader leaves of its lease unused: for what it has just begun when it looked at the clock.
    fn margin(&self) -> Duration {
        self.lease / 6
    }
}
