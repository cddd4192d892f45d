//! What a coordinator is started with: flags over environment over defaults.

use std::{
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fulltime_common::{
    error::{Exit, Failure, chain},
    queue::{JetStream, LEASE},
    store::Store,
    telemetry::{LOG_FORMAT, LogFormat},
};
use fulltime_observe::http::{HttpError, Listen, Server};

use crate::{Leadership, Policy, Service};

/// Plans fulltime jobs and hands their work to the workers on a bus.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "fulltime-coordinator", version)]
pub struct Options {
    /// NATS server with JetStream.
    #[arg(
        long,
        env = "FULLTIME_NATS",
        hide_env_values = true,
        value_name = "URL",
        default_value = "nats://127.0.0.1:4222"
    )]
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
    /// Lane hours that a tenant's jobs may use in a calendar month (UTC), such as blue=500; repeated or with commas. A
    /// tenant without a quota has no limit. The same for all coordinators of a bus.
    #[arg(long = "quota", env = "FULLTIME_QUOTAS", value_name = "TENANT=HOURS", value_delimiter = ',')]
    pub quotas: Vec<Quota>,
    /// Where the dashboard, metrics and probes are served, as address and port, or `off`; default: 127.0.0.1:9870, or a free
    /// port where that is taken.
    #[arg(long, env = "FULLTIME_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<Listen>,
    /// File with a token that is demanded for everything but metrics and probes: as Bearer, or as the password of any user.
    /// Needed where others than this machine can reach the address.
    #[arg(long, env = "FULLTIME_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
    /// How logs are written: pretty or json.
    #[arg(long, env = LOG_FORMAT, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
    /// No other coordinator is ever started on this bus: leads at once where nobody has led.
    #[arg(long)]
    pub alone: bool,
}

/// Of dashboard and metrics, if not said otherwise and not taken.
const PORT: u16 = 9870;

/// What a tenant may use in a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    tenant: String,
    most: Duration,
}

/// Not a quota.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a quota: write a tenant and hours, such as `blue=500`")]
pub struct NotAQuota(String);

impl FromStr for Quota {
    type Err = NotAQuota;

    fn from_str(text: &str) -> Result<Self, NotAQuota> {
        let quota = text.rsplit_once('=').and_then(|(tenant, hours)| {
            let hours = hours.trim().parse::<f64>().ok().filter(|hours| (0.0..=1e9).contains(hours))?;
            let tenant = Some(tenant.trim().to_owned()).filter(|tenant| !tenant.is_empty())?;
            Some(Self { tenant, most: Duration::from_secs_f64(hours * 3600.0) })
        });
        quota.ok_or_else(|| NotAQuota(text.to_owned()))
    }
}

impl Options {
    /// Opens the registry, then connects to the bus.
    ///
    /// # Errors
    /// One of them cannot be reached.
    pub async fn start(&self) -> Result<Service, Failure> {
        let listen = self.listen.unwrap_or(Listen::Default(PORT));
        let deaf = |error: HttpError| Failure::new(Exit::Usage, chain(&error), error.hint());
        let server = Server::bind(listen, self.api_token_file.as_ref()).await.map_err(deaf)?;
        let state = Store::create(&self.state)?;
        let lease = self.lease.into();
        let bus = JetStream::connect_with_lease(&self.nats, lease).await?;
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let quotas = self.quotas.iter().map(|quota| (quota.tenant.as_str().into(), quota.most)).collect();
        let policy = Policy { first_release: clock.as_secs() as u32, quotas, ..Policy::new(lease) };
        let leadership = Leadership { lease: self.leader_lease.into(), alone: self.alone };
        let service = Service::new(Arc::new(bus), state, policy).with_leadership(leadership);
        Ok(match server {
            Some(server) => service.with_server(server)?,
            None => service,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn quotas_are_tenants_and_hours() {
        let parse = |more: &[&str]| {
            let args = ["fulltime-coordinator", "--state", "s"].into_iter().chain(more.iter().copied());
            Options::try_parse_from(args).map(|options| options.quotas)
        };
        let quotas = parse(&["--quota", "blue=500,red team=1.5", "--quota", "a=b=0"]).unwrap();
        let hours = |hours: f64| Duration::from_secs_f64(hours * 3600.0);
        let quota = |tenant: &str, most| Quota { tenant: tenant.into(), most };
        assert_eq!(quotas, [quota("blue", hours(500.0)), quota("red team", hours(1.5)), quota("a=b", hours(0.0))]);
        for bad in ["blue", "blue=", "=5", "blue=-1", "blue=nan", "blue=lots"] {
            assert!(parse(&["--quota", bad]).unwrap_err().to_string().contains("is not a quota"), "{bad}");
        }
    }
}
