//! A coordinator from start to end: it runs for the lead and, whenever it has it, begins an epoch and reigns. A standby
//! holds nothing: who takes over builds its ledger from the objects.

use std::{sync::Arc, time::Duration};

use fulltime_common::{
    error::{Exit, Explain},
    queue::{Bus, QueueError},
    store::{Store, StoreError},
};
use fulltime_observe::http::{Server, Serving};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    campaign::{Campaign, Leadership, Mandate},
    epoch,
    face::{Face, Gallery},
    ledger::Policy,
    outlook::Outlook,
    reign::{Ended, Reign},
};

/// How often a standby says how it stands.
const BEAT: Duration = Duration::from_secs(1);

/// Why the coordinator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("read the registry")]
    Registry(#[source] StoreError),
    #[error("begin an epoch")]
    Epoch(#[source] StoreError),
    #[error("serve metrics and dashboard")]
    Serve(#[source] std::io::Error),
}

impl Explain for ServiceError {
    fn exit(&self) -> Exit {
        match self {
            Self::Queue(error) => error.exit(),
            Self::Registry(error) | Self::Epoch(error) => error.exit(),
            Self::Serve(_) => Exit::Internal,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Queue(error) => error.hint(),
            Self::Registry(error) | Self::Epoch(error) => error.hint(),
            Self::Serve(_) => Some("try another address with --listen".to_owned()),
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
    outlook: Outlook,
    serving: Option<Serving>,
}

impl Service {
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, state: Store, policy: Policy) -> Self {
        let name = unique_name();
        let outlook = Outlook::new(&name);
        Self { bus, state, policy, leadership: Leadership::default(), name, outlook, serving: None }
    }

    /// Serves metrics, probes and the dashboard.
    ///
    /// # Errors
    /// The system does not tell the server's address.
    pub fn with_server(mut self, server: Server) -> Result<Self, ServiceError> {
        let Outlook { board, health, .. } = self.outlook.clone();
        let gallery = Gallery::new(self.state.clone());
        let face = Face { standing: self.outlook.standing(), bus: Arc::clone(&self.bus), gallery };
        let serving = server.serve(board, health, Arc::new(face)).map_err(ServiceError::Serve)?;
        self.outlook.dashboard = Some(format!("http://{}/", serving.address));
        self.serving = Some(serving);
        Ok(self)
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
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let result = loop {
            let mandate = tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                mandate = campaign.elected() => mandate,
                _ = ticks.tick() => {
                    let heard = campaign.heard();
                    self.outlook.stand_by(self.bus.is_connected(), heard.as_ref(), self.leadership.lease);
                    continue;
                }
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
        let (bus, state, outlook) = (Arc::clone(&self.bus), self.state.clone(), self.outlook.clone());
        let reign = Reign::begin(bus, state, policy, &self.leadership, mandate, outlook).await?;
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
