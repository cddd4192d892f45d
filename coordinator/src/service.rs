//! A coordinator from start to end: it runs for the lead and, whenever it has it, begins an epoch and reigns. A standby
//! holds nothing: who takes over builds its ledger from the objects.

use std::{sync::Arc, time::Duration};

use fulltime_common::{
    error::{Exit, Explain},
    queue::{Bus, QueueError},
    store::{Store, StoreError},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    campaign::{Campaign, Leadership, Mandate},
    epoch,
    ledger::Policy,
    reign::{Ended, Reign},
};

/// Why the coordinator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("read the registry")]
    Registry(#[source] StoreError),
    #[error("begin an epoch")]
    Epoch(#[source] StoreError),
}

impl Explain for ServiceError {
    fn exit(&self) -> Exit {
        match self {
            Self::Queue(error) => error.exit(),
            Self::Registry(error) | Self::Epoch(error) => error.exit(),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Queue(error) => error.hint(),
            Self::Registry(error) | Self::Epoch(error) => error.hint(),
        }
    }
}

/// A coordinator over one bus and one registry.
#[derive(Debug)]
pub struct Service {
    bus: Arc<dyn Bus>,
    state: Store,
    policy: Policy,
    leadership: Leadership,
    name: String,
}

impl Service {
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, state: Store, policy: Policy) -> Self {
        Self { bus, state, policy, leadership: Leadership::default(), name: unique_name() }
    }

    #[must_use]
    pub fn with_leadership(self, leadership: Leadership) -> Self {
        Self { leadership, ..self }
    }

    /// Works until `shutdown`. Whatever it has not finished, the next coordinator continues from the objects alone.
    ///
    /// # Errors
    /// Bus or registry cannot be reached the first time it leads. Later troubles are waited out.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServiceError> {
        let mut campaign =
            Campaign::start(Arc::clone(&self.bus), self.state.clone(), &self.leadership, self.name.clone());
        info!(name = self.name, "running for the lead");
        let mut led = false;
        let result = loop {
            let mandate = tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                mandate = campaign.elected() => mandate,
            };
            match self.reign(mandate, &campaign, &shutdown).await {
                Ok(Ended::Shutdown) => break Ok(()),
                Ok(Ended::Deposed) => warn!("another coordinator leads, or may; standing by"),
                Ok(Ended::Rebuild) => info!("building the ledger again from the objects"),
                Err(error) if !led => break Err(error),
                Err(error) => {
                    warn!(error = fulltime_common::error::chain(&error), "cannot lead; standing back");
                    campaign.resign().await;
                }
            }
            led = true;
        };
        campaign.end().await;
        result
    }

    async fn reign(
        &self,
        mandate: Mandate,
        campaign: &Campaign,
        shutdown: &CancellationToken,
    ) -> Result<Ended, ServiceError> {
        let epoch = tokio::select! {
            () = mandate.lost() => return Ok(Ended::Deposed),
            epoch = epoch::begin(&self.state, &self.name) => epoch.map_err(ServiceError::Epoch)?,
        };
        let mandate = campaign.begin(mandate, epoch);
        info!(epoch, name = self.name, "leading");
        let policy = Policy { epoch, ..self.policy.clone() };
        let reign = Reign::begin(Arc::clone(&self.bus), self.state.clone(), policy, &self.leadership, mandate).await?;
        reign.run(shutdown).await
    }
}

/// Names this process among all coordinators there ever were.
fn unique_name() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // The standard library seeds this from the operating system.
    let random = std::hash::RandomState::new().build_hasher().finish();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}-{random:016x}", host.trim(), std::process::id())
}

/// The longest pause between two turns of a loop that does not wait for anything else.
#[must_use]
pub(crate) fn beat(policy: &Policy, leadership: &Leadership) -> Duration {
    let (least, most) = (Duration::from_millis(20), Duration::from_millis(500));
    (policy.lease / 20).min(leadership.lease / 6).clamp(least, most)
}
