//! What an Xid, NVIDIA's number for a GPU's trouble, means for the lane that used the GPU. One table, so that it can be
//! read, argued with and changed in one place.
//!
//! Source: NVIDIA, "XID Errors", the catalogue (<https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html>):
//! its immediate actions `RESTART_APP`, `RESET_GPU`, `RESTART_BM` (restart the machine), `RESTART_VM`, `IGNORE`. Where it says
//! `CONTACT_SUPPORT` or a workflow of its own, we take the GPU out of use rather than go on with it.

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Noted. Nothing is wrong with results.
    Note,
    /// What ran is at fault: its own failure is judged, the lane stays.
    Application,
    /// What ran is lost without fault of its own; the lane pulls again after a canary.
    Retry,
    /// The GPU is of no use until it is reset or the machine restarted.
    DrainLane,
    /// No GPU of this machine can be trusted until it is restarted.
    DrainNode,
}

/// Number, what it is, what is done. By number.
pub const XIDS: [(u64, &str, Action); 45] = [
    (8, "GPU stopped processing", Action::Application),
    (11, "invalid or corrupted push buffer stream", Action::Application),
    (13, "graphics engine exception", Action::Application),
    (31, "GPU memory page fault", Action::Application),
    (32, "invalid or corrupted push buffer stream", Action::Retry),
    (38, "driver firmware error", Action::DrainLane),
    (39, "copy engine exception", Action::Retry),
    (40, "copy engine exception", Action::Retry),
    (41, "copy engine exception", Action::Retry),
    (43, "GPU stopped processing", Action::Application),
    (44, "fault in a context switch", Action::DrainLane),
    (45, "pre-emptive clean-up after an earlier error", Action::Retry),
    (46, "GPU stopped processing", Action::DrainLane),
    (48, "double-bit ECC error", Action::DrainLane),
    (54, "auxiliary power is not connected", Action::DrainLane),
    (61, "internal micro-controller breakpoint", Action::DrainLane),
    (62, "internal micro-controller halt", Action::DrainLane),
    (63, "a memory row was remapped, or a page retired", Action::Note),
    (64, "a memory row could not be remapped", Action::DrainLane),
    (65, "video processor exception", Action::Retry),
    (66, "illegal access by the driver", Action::Application),
    (67, "illegal access by the driver", Action::Application),
    (68, "video decoder exception", Action::Retry),
    (69, "graphics engine class error", Action::Application),
    (70, "copy engine exception", Action::Retry),
    (71, "copy engine exception", Action::Retry),
    (74, "NVLink error", Action::DrainLane),
    (79, "the GPU has fallen off the bus", Action::DrainLane),
    (92, "many single-bit ECC errors", Action::Note),
    (94, "contained memory error", Action::Retry),
    (95, "uncontained memory error", Action::DrainLane),
    (109, "time-out of a context switch", Action::DrainLane),
    (110, "security fault", Action::DrainNode),
    (119, "time-out of the GPU's system processor", Action::DrainLane),
    (120, "error of the GPU's system processor", Action::DrainLane),
    (121, "error on the link to the processor", Action::Note),
    (122, "the GPU's firmware store cannot be read", Action::Note),
    (123, "time-out of the GPU's power management", Action::DrainLane),
    (136, "a link could not be trained", Action::DrainLane),
    (137, "NVLink refused an access", Action::Application),
    (140, "unrecovered ECC error", Action::DrainLane),
    (143, "the GPU could not be initialised", Action::DrainLane),
    (145, "NVLink error", Action::DrainLane),
    (149, "NVLink error", Action::DrainLane),
    (154, "the driver asks for a reset or a restart", Action::DrainLane),
];

/// What an Xid is and what is done about it. One that is not in the table is new: its shard is tried elsewhere, and a
/// canary says whether the GPU can still be used.
#[must_use]
pub fn action(xid: u64) -> (&'static str, Action) {
    let found = XIDS.binary_search_by_key(&xid, |(number, _, _)| *number);
    found.map_or(("unknown", Action::Retry), |at| (XIDS[at].1, XIDS[at].2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_so_that_every_number_is_found() {
        assert!(XIDS.is_sorted_by(|a, b| a.0 < b.0));
        for (number, what, todo) in XIDS {
            assert_eq!(action(number), (what, todo));
        }
        assert_eq!(action(79).1, Action::DrainLane);
        assert_eq!(action(31).1, Action::Application);
        assert_eq!(action(4711).1, Action::Retry);
    }
}
