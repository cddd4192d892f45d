//! Whether a daemon lives and whether it is ready, for probes. Liveness is a main loop that beats; readiness is what the
//! daemon itself says, at every beat: what it said a while ago is no answer.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Shared by the main loop and the server. Clones show the same.
#[derive(Debug, Clone)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    beat: Instant,
    longest: Duration,
    /// Why it is not ready.
    lack: Option<String>,
}

impl Health {
    /// A main loop that has not beaten for `longest` is taken for dead.
    #[must_use]
    pub fn new(longest: Duration) -> Self {
        let state = State { beat: Instant::now(), longest, lack: Some("it has just started".to_owned()) };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main loop is here; `lack` is what is missing before it can do its work.
    pub fn beat(&self, lack: Option<String>) {
        let mut state = self.state();
        state.beat = Instant::now();
        state.lack = lack;
    }

    /// # Errors
    /// For how long the main loop has stood still.
    pub fn live(&self) -> Result<(), String> {
        let state = self.state();
        let still = state.beat.elapsed();
        if still <= state.longest { Ok(()) } else { Err(format!("no beat for {:.1} s", still.as_secs_f64())) }
    }

    /// # Errors
    /// What is missing.
    pub fn ready(&self) -> Result<(), String> {
        self.live()?;
        self.state().lack.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_who_said_so_lately() {
        let health = Health::new(Duration::from_millis(60));
        assert!(health.live().is_ok() && health.ready().is_err(), "nobody is ready before the first beat");
        health.beat(None);
        assert!(health.ready().is_ok());
        health.beat(Some("the bus is away".into()));
        assert_eq!(health.ready().unwrap_err(), "the bus is away");
        health.beat(None);
        std::thread::sleep(Duration::from_millis(90));
        assert!(health.live().unwrap_err().contains("no beat") && health.ready().is_err());
    }
}
