//! What a worker is started with: flags over environment over defaults.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use fulltime_common::{
    queue::LEASE,
    telemetry::{LOG_FORMAT, LogFormat},
};
use fulltime_observe::http::Listen;
use fulltime_topology::Place;

/// Runs shards, container indexes and reduces for a fulltime coordinator.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "fulltime-worker", version)]
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
    /// Tasks worked on at once; default: one per GPU, or one per core.
    #[arg(long, env = "FULLTIME_LANES", value_name = "N")]
    pub lanes: Option<NonZeroUsize>,
    /// Name in events and status; default: host and process id.
    #[arg(long, env = "FULLTIME_WORKER_NAME")]
    pub name: Option<String>,
    /// Folder for models, checked by sha256 and shared by all workers of a machine; default: `fulltime` below the user's
    /// cache folder.
    #[arg(long, env = "FULLTIME_CACHE", value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// What runs the models.
    #[arg(long, env = "FULLTIME_ENGINE", value_enum, default_value_t)]
    pub engine: EngineChoice,
    /// GPUs that lanes run on: `auto` (all, if the engine can use them), `all`, `none`, or a list of numbers, uuids (of MIG
    /// devices, too) and PCI addresses. `fulltime topology` shows what becomes of it.
    #[arg(long, env = "FULLTIME_GPUS", value_name = "LIST", default_value = "auto")]
    pub gpus: String,
    /// GPUs that one lane splits a model over.
    #[arg(long, env = "FULLTIME_GPUS_A_LANE", value_name = "N", default_value = "1")]
    pub gpus_a_lane: NonZeroUsize,
    /// Whether lanes are bound to processors and memory of their GPU's NUMA node.
    #[arg(long, env = "FULLTIME_PIN", value_enum, default_value_t)]
    pub pin: PinChoice,
    /// How long a task stays with a worker that shows no progress. The same for all workers of a bus.
    #[arg(long, env = "FULLTIME_LEASE", value_name = "TIME", default_value_t = LEASE.into())]
    pub lease: humantime::Duration,
    /// A task without progress for so long has its lane ended; it is tried elsewhere.
    #[arg(long, env = "FULLTIME_STALL", value_name = "TIME", default_value_t = STALL.into())]
    pub stall: humantime::Duration,
    /// How long what runs may go on after SIGTERM before it is handed back.
    #[arg(long, env = "FULLTIME_GRACE", value_name = "TIME", default_value = "20s")]
    pub grace: humantime::Duration,
    /// Where metrics and probes are served, as address and port, or `off`; default: 127.0.0.1:9871, or a free port where
    /// that is taken.
    #[arg(long, env = "FULLTIME_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<Listen>,
    /// File with a token that is demanded for everything but metrics and probes. Needed where others than this machine
    /// can reach the address.
    #[arg(long, env = "FULLTIME_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
    /// How logs are written: pretty or json.
    #[arg(long, env = LOG_FORMAT, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
    /// How ONNX Runtime computes: `provider=auto|cpu|cuda|tensorrt`, `device=N`, `precision=fp16`, ...
    #[arg(long, env = "FULLTIME_ONNX", value_name = "OPTIONS", default_value = "")]
    pub onnx: String,
    /// How torch computes: `device=cpu|cuda:0+cuda:1`, `precision=fp32|fp16|bf16`, `channels-last`, ...
    #[arg(long, env = "FULLTIME_TORCH", value_name = "OPTIONS", default_value = "")]
    pub torch: String,
    /// How the sim engine behaves, such as `item-ms=5,memory=4000,fault=12:hang`, or `@FILE` for the figures of a device;
    /// for tests and planning.
    #[arg(long, env = "FULLTIME_SIM", value_name = "SCRIPT", hide = true)]
    pub sim: Option<String>,
    /// Infer every picture, even one that equals the one before: to measure what that saves, and to prove that it leaves no
    /// trace.
    #[arg(long, env = "FULLTIME_NO_REUSE", hide = true)]
    pub no_reuse: bool,
    /// Be a lane of the worker at the other end of standard input.
    #[arg(long, hide = true)]
    pub lane_process: bool,
    /// Where a lane process binds itself to, such as `8-15@bind:1`.
    #[arg(long, hide = true)]
    pub place: Option<Place>,
}

/// Whether lanes are bound to their place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PinChoice {
    /// Where the machine has more than one node.
    #[default]
    Auto,
    Off,
}

/// Of metrics and probes, if not said otherwise and not taken.
const PORT: u16 = 9871;

/// Longest time without progress, if not said otherwise.
pub const STALL: Duration = Duration::from_secs(60);

/// What runs the models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineChoice {
    /// The best engine that is here.
    #[default]
    Auto,
    /// ONNX Runtime, on the CPU if `--onnx` says no other.
    Onnx,
    /// libtorch, if this was built with it, on the CPU if `--torch` says no other.
    Torch,
    /// No model at all: made-up detections, for tests of everything around them.
    Sim,
}

impl EngineChoice {
    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Onnx => "onnx",
            Self::Torch => "torch",
            Self::Sim => "sim",
        }
    }
}

impl Options {
    /// How many lanes to run.
    #[must_use]
    pub fn lane_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.lanes.unwrap_or_else(cores).get()
    }

    /// The given name, or `host-pid`.
    #[must_use]
    pub fn worker_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("{}-{}", host(), std::process::id()))
    }

    /// The given cache folder, or the user's.
    #[must_use]
    pub fn cache_folder(&self) -> PathBuf {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.cache.clone().unwrap_or_else(|| {
            let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
            base.unwrap_or_else(std::env::temp_dir).join("fulltime")
        })
    }

    /// Where to listen.
    pub(crate) fn listen(&self) -> Listen {
        self.listen.unwrap_or(Listen::Default(PORT))
    }

    pub(crate) fn lease(&self) -> Duration {
        self.lease.into()
    }
}

/// This machine's name.
#[must_use]
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "host".to_owned(), |s| s.trim().to_owned())
}
