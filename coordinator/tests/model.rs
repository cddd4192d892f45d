//! The shard protocol, checked exhaustively for small sizes: lease expiry, late ack, duplicate delivery, crash between
//! commit and event, lost messages and events, quarantine against late commit, two leaders, reduce release. The ledger in
//! the model is the coordinator's own; only bus, store and workers are modelled.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may panic, too")]

#[path = "model/ground.rs"]
mod ground;
#[path = "model/protocol.rs"]
mod protocol;

use protocol::{Faults, Protocol};
use stateright::{Checker as _, Model as _};

/// Checks every state that can be reached, and that what the model is for can be reached at all.
fn check(protocol: Protocol) {
    let checker = protocol.checker().threads(2).spawn_bfs().join();
    println!("{} states, {} of them different", checker.state_count(), checker.unique_state_count());
    assert!(checker.is_done());
    checker.assert_properties();
}

#[test]
fn nothing_is_lost_when_workers_crash_and_messages_get_lost() {
    check(Protocol { shards: 2, faults: Faults { crash: 1, lease: 1, message: 1, ..Faults::NONE }, flaky: false });
}

#[test]
fn events_that_come_twice_or_never_change_nothing() {
    check(Protocol { shards: 2, faults: Faults { event: 1, crash: 1, ..Faults::NONE }, flaky: false });
}

#[test]
fn a_second_leader_repeats_nothing_that_counts() {
    check(Protocol { shards: 1, faults: Faults { leader: 1, crash: 1, ..Faults::NONE }, flaky: false });
}

#[test]
fn quarantine_needs_proof_and_yields_to_a_commit() {
    check(Protocol { shards: 1, faults: Faults { lease: 1, ..Faults::NONE }, flaky: true });
}

#[test]
fn evidence_outlives_the_leader_that_heard_it() {
    check(Protocol { shards: 1, faults: Faults { leader: 1, ..Faults::NONE }, flaky: true });
}

#[test]
fn two_leaders_freeze_one_list() {
    check(Protocol { shards: 2, faults: Faults { leader: 1, ..Faults::NONE }, flaky: false });
}
