//! Coordinators, a register and messages that take as long as they like, in simulated time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const LEASE: Duration = Duration::from_millis(1200);

/// What happens to one coordinator's operation on the register: delays there and back, in ms; `None` is lost.
#[derive(Debug, Clone, Copy)]
struct Trip {
    there: u64,
    back: Option<u64>,
}

/// One coordinator does not run (SIGSTOP), or the broker loses its disk.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Stop { node: usize, from: u64, length: u64 },
    Wipe { at: u64 },
    Resign { node: usize, at: u64 },
}

struct Node {
    election: Election,
    next: Next,
    /// The operation under way: what comes back, and when.
    answer: Option<Answer>,
    /// Its clock runs as fast as all others, but started elsewhere.
    offset: u64,
    stopped_until: u64,
}

#[derive(Clone, Copy)]
struct Answer {
    trip: u64,
    due: u64,
    seen: Seen,
}

/// Something that reaches the register.
struct Arrival {
    node: usize,
    trip: u64,
    started: Now,
    next: Next,
    back: Option<u64>,
}

struct World {
    nodes: Vec<Node>,
    register: Option<(u64, usize, Claim)>,
    revisions: u64,
    arrivals: BTreeMap<(u64, u64), Arrival>,
    sent: u64,
    trips: Vec<Trip>,
}

/// No operation is waited for longer, as in `campaign`.
const TIMEOUT: u64 = 600;

impl World {
    fn new(nodes: usize, trips: Vec<Trip>) -> Self {
        let node = |n: usize| Node {
            election: Election::new(LEASE, false),
            next: Next::Read,
            answer: None,
            offset: 1_000 * n as u64,
            stopped_until: 0,
        };
        let nodes = (0..nodes).map(node).collect();
        Self { nodes, register: None, revisions: 0, arrivals: BTreeMap::new(), sent: 0, trips }
    }

    fn clock(&self, node: usize, at: u64) -> Now {
        Duration::from_millis(at + self.nodes[node].offset)
    }

    fn leaders(&self, at: u64) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&n| self.nodes[n].election.lead(self.clock(n, at)).is_some()).collect()
    }

    fn turn(&mut self, at: u64) {
        while let Some(entry) = self.arrivals.first_entry().filter(|entry| entry.key().0 <= at) {
            let arrival = entry.remove();
            let seen = self.arrive(&arrival);
            let waiting = &mut self.nodes[arrival.node].answer;
            // The node may have given up waiting; the write has happened all the same.
            if let (Some(back), Some(answer)) = (arrival.back, waiting)
                && answer.trip == arrival.trip
                && at + back < answer.due
            {
                (answer.due, answer.seen) = (at + back, seen);
            }
        }
        for node in 0..self.nodes.len() {
            self.run(node, at);
        }
    }

    fn arrive(&mut self, arrival: &Arrival) -> Seen {
        match arrival.next {
            Next::Read => Seen::Register(self.register.map(|(revision, by, claim)| Sighting {
                revision,
                claim,
                ours: by == arrival.node,
            })),
            Next::Claim { claim, expected } => {
                let stands = self.register.map(|(revision, ..)| revision);
                let written = stands == expected;
                if written {
                    self.revisions += 1;
                    self.register = Some((self.revisions, arrival.node, claim));
                }
                Seen::Claimed { claim, started: arrival.started, revision: written.then_some(self.revisions) }
            }
            Next::Rank => Seen::Rank { outranked: false },
            Next::Wait { .. } => Seen::Time,
        }
    }

    fn run(&mut self, node: usize, at: u64) {
        let now = self.clock(node, at);
        if self.nodes[node].stopped_until > at {
            return;
        }
        let seen = match (self.nodes[node].answer, self.nodes[node].next) {
            (Some(answer), _) if answer.due <= at => answer.seen,
            (None, Next::Wait { until }) if now >= until => Seen::Time,
            (None, Next::Read) => return self.send(node, at),
            _ => return,
        };
        self.nodes[node].answer = None;
        self.nodes[node].next = self.nodes[node].election.step(seen, now);
        if !matches!(self.nodes[node].next, Next::Wait { .. }) {
            self.send(node, at);
        }
    }

    fn send(&mut self, node: usize, at: u64) {
        let trip = self.trips[self.sent as usize % self.trips.len()];
        self.sent += 1;
        let (started, next) = (self.clock(node, at), self.nodes[node].next);
        // Until it is answered, the node is set to hear nothing.
        self.nodes[node].answer = Some(Answer { trip: self.sent, due: at + TIMEOUT, seen: Seen::Silence });
        self.arrivals
            .insert((at + trip.there, self.sent), Arrival { node, trip: self.sent, started, next, back: trip.back });
    }

    fn befall(&mut self, fault: Fault, at: u64) {
        match fault {
            Fault::Stop { node, from, length } if from == at => self.nodes[node].stopped_until = at + length,
            Fault::Wipe { at: then } if then == at => self.register = None,
            Fault::Resign { node, at: then } if then == at && self.nodes[node].stopped_until <= at => {
                let now = self.clock(node, at);
                if let Some(next) = self.nodes[node].election.resign(now) {
                    self.nodes[node].next = next;
                    self.send(node, at);
                }
            }
            Fault::Stop { .. } | Fault::Wipe { .. } | Fault::Resign { .. } => {}
        }
    }
}

fn trips() -> impl Strategy<Value = Vec<Trip>> {
    let back = prop_oneof![4 => (0..400_u64).prop_map(Some), 1 => Just(None)];
    let there = prop_oneof![6 => 0..300_u64, 1 => 300..4000_u64];
    proptest::collection::vec((there, back).prop_map(|(there, back)| Trip { there, back }), 1..60)
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        (0..3_usize, 0..20_000_u64, 1..6_000_u64).prop_map(|(node, from, length)| Fault::Stop { node, from, length }),
        (0..20_000_u64).prop_map(|at| Fault::Wipe { at }),
        (0..3_usize, 0..20_000_u64).prop_map(|(node, at)| Fault::Resign { node, at }),
    ];
    proptest::collection::vec(fault, 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_never_lead_at_once(trips in trips(), faults in faults()) {
        let mut world = World::new(3, trips);
        for at in 0..22_000 {
            faults.iter().for_each(|fault| world.befall(*fault, at));
            world.turn(at);
            let leaders = world.leaders(at);
            prop_assert!(leaders.len() <= 1, "at {at} ms: {leaders:?}");
        }
    }

    #[test]
    fn somebody_leads_again_soon_after_the_last_fault(delay in 0..40_u64, node in 0..3_usize, wiped in any::<bool>()) {
        let mut world = World::new(3, vec![Trip { there: delay, back: Some(delay) }]);
        let faults = [Fault::Stop { node, from: 4_000, length: 60_000 }, Fault::Wipe { at: 4_500 }];
        let mut reigns = 0;
        for at in 0..12_000 {
            faults.iter().take(1 + usize::from(wiped)).for_each(|fault| world.befall(*fault, at));
            world.turn(at);
            reigns += usize::from(!world.leaders(at).is_empty());
        }
        // One lease at the start, and at most two (and some polls) when the leader is the one that stops.
        prop_assert!(reigns > 12_000 - 4 * 1_200 - 800, "{reigns} ms led");
    }
}

#[test]
fn an_empty_register_is_claimed_at_once_by_a_coordinator_that_is_alone() {
    let mut election = Election::new(LEASE, true);
    let at = Duration::from_millis;
    assert_eq!(election.step(Seen::Time, at(0)), Next::Read);
    let claim = election.step(Seen::Register(None), at(1));
    assert_eq!(claim, Next::Claim { claim: Claim::Leads, expected: None });
    election.step(Seen::Claimed { claim: Claim::Leads, started: at(1), revision: Some(1) }, at(2));
    assert_eq!(election.lead(at(2)).map(|lead| lead.until), Some(at(1 + 1000)));
    assert!(election.lead(at(1001)).is_none(), "it stops by its own clock");
}

#[test]
fn a_register_that_was_lost_is_made_anew_by_its_leader_unless_it_is_outranked() {
    let at = Duration::from_millis;
    for outranked in [false, true] {
        let mut election = Election::new(LEASE, true);
        election.step(Seen::Register(None), at(0));
        election.step(Seen::Claimed { claim: Claim::Leads, started: at(0), revision: Some(1) }, at(0));
        election.step(Seen::Time, at(300));
        let lost = Seen::Claimed { claim: Claim::Leads, started: at(300), revision: None };
        assert_eq!(election.step(lost, at(301)), Next::Read);
        assert_eq!(election.step(Seen::Register(None), at(302)), Next::Rank);
        let next = election.step(Seen::Rank { outranked }, at(303));
        assert_eq!(election.lead(at(303)).is_some(), !outranked);
        let anew = Next::Claim { claim: Claim::Leads, expected: None };
        assert_eq!(next == anew, !outranked);
    }
}
