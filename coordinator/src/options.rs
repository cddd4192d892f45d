//! What a coordinator is started with: flags over environment over defaults.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use fulltime_common::{
    error::Failure,
    queue::{JetStream, LEASE},
    store::Store,
};

use crate::{Leadership, Policy, Service};

/// Plans fulltime jobs and hands their work to the workers on a bus.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "fulltime-coordinator", version)]
pub struct Options {
    /// NATS server with JetStream.
    #[arg(long, env = "FULLTIME_NATS", value_name = "URL", default_value = "nats://127.0.0.1:4222")]
    pub nats: String,
    /// URL or folder of the registry of jobs: the same that `fulltime submit` writes to.
    #[arg(long, env = "FULLTIME_STATE", value_name = "URL")]
    pub state: String,
    /// How long a task stays with a worker that shows no progress. The same for all workers of a bus.
    #[arg(long, env = "FULLTIME_LEASE", value_name = "TIME", default_value_t = LEASE.into())]
    pub lease: humantime::Duration,
    /// How long this coordinator leads without being heard of. Standbys wait as long before they take over. The same for
    /// all coordinators of a bus.
    #[arg(long, env = "FULLTIME_LEADER_LEASE", value_name = "TIME", default_value_t = Leadership::default().lease.into())]
    pub leader_lease: humantime::Duration,
    /// No other coordinator is ever started on this bus: leads at once where nobody has led.
    #[arg(long)]
    pub alone: bool,
}

impl Options {
    /// Opens the registry, then connects to the bus.
    ///
    /// # Errors
    /// One of them cannot be reached.
    pub async fn start(&self) -> Result<Service, Failure> {
        let state = Store::create(&self.state)?;
        let lease = self.lease.into();
        let bus = JetStream::connect_with_lease(&self.nats, lease).await?;
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let policy = Policy { first_release: clock.as_secs() as u32, ..Policy::new(lease) };
        let leadership = Leadership { lease: self.leader_lease.into(), alone: self.alone };
        Ok(Service::new(Arc::new(bus), state, policy).with_leadership(leadership))
    }
}
