//! Ports for servers that must be told their port before they start.
//!
//! They lie below the range from which the kernel serves outgoing connections (32768 and up): a port of that range is
//! free when it is asked for and can be some client's by the time that the server binds it.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

const FIRST: u32 = 15_000;
const COUNT: u32 = 17_000;

/// Processes begin at places of their own, so that tests side by side rarely look at the same port.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// A port of the loopback interface that nobody listens at; none is given twice.
///
/// # Panics
/// If every port is taken.
#[must_use]
pub fn free_port() -> u16 {
    let begin = std::process::id().wrapping_mul(127);
    (0..COUNT)
        .find_map(|_| {
            let step = ASKED.fetch_add(1, Ordering::Relaxed);
            let port = u16::try_from(FIRST + begin.wrapping_add(step) % COUNT).ok()?;
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|_| port)
        })
        .expect("a free port")
}
