//! The command line, to the word: what `--help` shows is written here and nowhere else.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fulltime_common::{spec::ShardLength, wire::Band};

/// Exit codes are a contract with scripts (`common::error::Exit`).
const EXIT_CODES: &str = "\
Exit codes:
    0  every match committed
    1  a bug in fulltime
    2  usage: wrong arguments, job or pipeline file
    3  finished, but recordings, shards or matches were quarantined
    4  archive: missing, empty, nothing matched
    5  output or store: read-only, full, unreachable, without conditional PUT
    6  model: missing, wrong sha256, does not fit its manifest
    7  NATS: not installed, port taken, unreachable
    8  runtime library missing (ONNX Runtime)
    9  the job was cancelled
   10  the job is paused after too many infrastructure failures; resume it with --resume
  130  interrupted by Ctrl-C or SIGTERM; resume it with --resume

Every failure prints `error: …` and `  fix: …` to standard error; with --json the last line of
standard output is then {\"error\": …, \"fix\": …, \"exit\": …}.";

const RUN_HELP: &str = "\
Examples:
  fulltime run --archive ./videos --out ./out --pipeline pipeline.toml --workers 2
  fulltime run --archive s3://league --out s3://results --pipeline pipeline.toml \\
      --template '{season}/{match}/half{period}_{camera}.mp4' --select '2024/**/*.mp4'
  fulltime run --job season.toml --json

A folder of videos without a template is one match a file. The same command run again finds what
is finished. With --json the last line of standard output is one object with job, state, matches,
recordings, shards, frames, detections, quarantined, elapsed_s, fps, manifest, report, out,
problems, exit; fps is frames / elapsed_s, start-up included.";

const GC_HELP: &str = "\
Every job below every output that has ever used the store keeps its shards, reduced matches, container
indexes, pipelines and models, whatever its state; `fulltime delete` ends that. It may run beside
coordinators and workers. What is younger than --older-than stays, since its job may be on its way.
Examples:
  fulltime gc --out ./out --dry-run
  fulltime gc --store s3://results/store --older-than 7days --json";

/// Reprocesses whole archives of match video on many workers, and proves that nothing was lost.
#[derive(Debug, Parser)]
#[command(name = "fulltime", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a job here, all in one: a private nats-server, a coordinator and workers, ended with the job.
    #[command(after_help = format!("{RUN_HELP}\n\n{EXIT_CODES}"))]
    Run(RunArgs),
    /// Hands a job to a running coordinator and returns at once with the job's id.
    #[command(after_help = EXIT_CODES)]
    Submit(SubmitArgs),
    /// Shows where jobs and workers stand.
    Status(StatusArgs),
    /// Follows a job until it is over; the exit code is the job's.
    #[command(after_help = EXIT_CODES)]
    Watch(WatchArgs),
    /// Looks at a job or a worker for a while: what each operation takes, and a trace for Perfetto.
    #[command(after_help = EXIT_CODES)]
    Profile(ProfileArgs),
    /// Pauses a job: what runs may end, nothing more is begun until it is resumed.
    Pause(ControlArgs),
    /// Goes on with a paused job, with fresh patience for stores, network and workers.
    Resume(ControlArgs),
    /// Cancels a job for good; what it has finished stays in the store.
    Cancel(ControlArgs),
    /// Tries what a finished job had to quarantine again, as its next generation; nothing is overwritten.
    Retry(ControlArgs),
    /// Changes how urgent a job is.
    Priority(PriorityArgs),
    /// Lets the leading coordinator read everything from the objects again; it does so by itself when it takes over.
    Rebuild(RebuildArgs),
    /// Deletes a finished or cancelled job's own objects (tables, report, plans); results that jobs share are left to `gc`.
    #[command(after_help = EXIT_CODES)]
    Delete(DeleteArgs),
    /// Removes from a store what no job refers to any more.
    #[command(after_help = format!("{GC_HELP}\n\n{EXIT_CODES}"))]
    Gc(GcArgs),
    /// Shows or clears what workers keep in Redis; whatever others keep there is left alone.
    #[command(after_help = EXIT_CODES)]
    Cache(CacheArgs),
    /// Shows where the tables, pictures and report of a finished job lie, and the first rows.
    Results(ResultsArgs),
    /// Shows what a finished job had to give up, and tries it again.
    #[command(after_help = EXIT_CODES)]
    Quarantine(QuarantineArgs),
    /// Writes a finished job's tables in a format that others read, a file a recording.
    #[command(after_help = EXPORT_HELP)]
    Export(ExportArgs),
    /// Scores results against ground truth: detections, tracks and identities.
    #[command(after_help = EVAL_HELP)]
    Eval(EvalArgs),
    /// Follows objects through public detections (`MOTChallenge` text) and writes them with identities.
    #[command(after_help = EXIT_CODES)]
    Track(TrackArgs),
    /// Shows this machine as lanes see it (NUMA nodes, processors, GPUs) and which lanes a worker would run on it, and why.
    Topology(TopologyArgs),
    /// Looks for everything that a run needs; the exit code is the one that a run would end with.
    #[command(after_help = EXIT_CODES)]
    Doctor(DoctorArgs),
    /// Prints the JSON schema of a file that fulltime reads.
    Schema { file: SchemaOf },
    /// Prints completions for a shell: `fulltime completions bash > /etc/bash_completion.d/fulltime`.
    Completions { shell: clap_complete::Shell },
    /// Writes the manual pages of all commands into a folder: `fulltime man /usr/local/share/man/man1`.
    Man { folder: PathBuf },
}

impl Command {
    /// Whether failures are to be told in JSON, too.
    #[must_use]
    pub fn json(&self) -> bool {
        match self {
            Self::Run(a) => a.output.json,
            Self::Submit(a) => a.json,
            Self::Status(a) => a.json,
            Self::Watch(a) => a.output.json,
            Self::Profile(a) => a.json,
            Self::Pause(a) | Self::Resume(a) | Self::Cancel(a) | Self::Retry(a) => a.json,
            Self::Priority(a) => a.control.json,
            Self::Rebuild(a) => a.json,
            Self::Delete(a) => a.json,
            Self::Gc(a) => a.json,
            Self::Cache(CacheArgs { command: CacheCommand::Stats(a) }) => a.json,
            Self::Cache(CacheArgs { command: CacheCommand::Clear(a) }) => a.json,
            Self::Results(a) => a.json,
            Self::Quarantine(a) => match &a.command {
                QuarantineCommand::List(a) => a.json,
                QuarantineCommand::Show(a) => a.of.json,
                QuarantineCommand::Retry(a) => a.json,
            },
            Self::Eval(a) => a.json,
            Self::Export(a) => a.json,
            Self::Track(a) => a.json,
            Self::Topology(a) => a.json,
            Self::Doctor(a) => a.json,
            Self::Schema { .. } | Self::Completions { .. } | Self::Man { .. } => false,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SchemaOf {
    /// The job file of `--job`
    Job,
    /// The pipeline file of `--pipeline`
    Pipeline,
    /// The manifest of a model
    Manifest,
    /// The squads file that a job file names
    Squads,
    /// The pitch file that a job file names
    Pitch,
}

/// What to do, as flags or as a file.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Job")]
pub struct JobArgs {
    /// Job file (TOML) instead of the flags below; `fulltime schema job` describes it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["archive", "out", "pipeline", "select", "shard_length", "template", "resume"])]
    pub job: Option<PathBuf>,
    /// Folder or URL of the recordings; only read, with FULLTIME_ARCHIVE_AWS_… for credentials of its own
    #[arg(long, value_name = "URL", required_unless_present_any = ["job", "resume"])]
    pub archive: Option<String>,
    /// Folder or URL that gets jobs/JOB/ with tables, report and manifest
    #[arg(long, value_name = "URL", required_unless_present = "job")]
    pub out: Option<String>,
    /// Pipeline file (TOML); `fulltime schema pipeline` describes it
    #[arg(long, value_name = "FILE", required_unless_present_any = ["job", "resume"])]
    pub pipeline: Option<PathBuf>,
    /// Only recordings whose path below the archive matches, such as '**/2024-*/*.mp4'
    #[arg(long, value_name = "GLOB")]
    pub select: Option<String>,
    /// Target length of a shard: 10s, 2m, or whole for one shard a recording [default: 10s]
    #[arg(long, value_name = "TIME")]
    pub shard_length: Option<ShardLength>,
    /// How paths name matches, such as '{season}/{match}/half{period}_{camera}.mp4' [default: one match a file]
    #[arg(long, value_name = "TEMPLATE")]
    pub template: Option<String>,
    /// Begins the job's id; letters, digits and dashes
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Goes on with this interrupted or paused job below --out
    #[arg(long, value_name = "JOB", conflicts_with_all = ["archive", "pipeline", "select", "shard_length", "template", "name"])]
    pub resume: Option<String>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Prints one JSON object as the last line of standard output, and nothing else there
    #[arg(long)]
    pub json: bool,
    /// No progress and no summary, only errors
    #[arg(long, short)]
    pub quiet: bool,
}

const PROCESSES: &str = "Processes";

#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub job: JobArgs,
    /// Worker processes
    #[arg(long, help_heading = PROCESSES, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// Tasks at once in each worker [default: cores / workers, at least 1]
    #[arg(long, help_heading = PROCESSES, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub lanes: Option<u16>,
    /// What runs the models
    #[arg(long, help_heading = PROCESSES, value_enum, default_value_t)]
    pub engine: Engine,
    /// Fixed port for the private nats-server on 127.0.0.1, for `fulltime status --nats` [default: a free one]
    #[arg(long, help_heading = PROCESSES, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub nats_port: Option<u16>,
    /// Folder or URL of the coordinator's state [default: jobs/JOB/state below --out]
    #[arg(long, help_heading = PROCESSES, value_name = "URL")]
    pub state: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// As the worker's `--engine`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// The best engine that is here
    #[default]
    Auto,
    /// ONNX Runtime, on the CPU or as `FULLTIME_ONNX` says
    Onnx,
    /// libtorch, on the CPU or as `FULLTIME_TORCH` says, where the workers were built with it
    Torch,
    /// No model at all: made-up detections, to try everything around them
    Sim,
}

impl Engine {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Onnx => "onnx",
            Self::Torch => "torch",
            Self::Sim => "sim",
        }
    }
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Coordinator")]
pub struct BusArgs {
    /// NATS server that the coordinator is on
    #[arg(
        long,
        value_name = "URL",
        env = "FULLTIME_NATS",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222"
    )]
    pub nats: String,
}

#[derive(Debug, Clone, Args)]
pub struct SubmitArgs {
    #[command(flatten)]
    pub job: JobArgs,
    #[command(flatten)]
    pub bus: BusArgs,
    /// The coordinator's state, the same folder or URL that it was started with [default: state below --out]
    #[arg(long, value_name = "URL", env = "FULLTIME_STATE")]
    pub state: Option<String>,
    /// Prints one JSON object instead of the id
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// One job; without it, all of them
    pub job: Option<String>,
    /// Shows it again every second until Ctrl-C; with --json one object a line
    #[arg(long, short)]
    pub watch: bool,
    #[command(flatten)]
    pub bus: BusArgs,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

/// As a worker would be started.
#[derive(Debug, Clone, Args)]
pub struct LaneArgs {
    /// Lanes to plan [default: one a GPU, or one a processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub lanes: Option<u16>,
    /// all, none, or a list of numbers, uuids (of MIG devices, too) and PCI addresses
    #[arg(long, value_name = "LIST", env = "FULLTIME_GPUS", default_value = "all")]
    pub gpus: String,
    /// GPUs that one lane splits a model over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub gpus_a_lane: u16,
    /// Folder with `sys` and `proc` of a machine that was recorded elsewhere
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub struct TopologyArgs {
    #[command(flatten)]
    pub lanes: LaneArgs,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Folders or URLs that will be written to: outputs, stores, states
    #[arg(long, value_name = "URL")]
    pub store: Vec<String>,
    /// A cluster's NATS server, instead of looking for one to start
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    #[command(flatten)]
    pub lanes: LaneArgs,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    pub job: String,
    #[command(flatten)]
    pub bus: BusArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ProfileArgs {
    /// A job or a worker
    #[arg(value_name = "JOB|WORKER")]
    pub target: String,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// File that gets a trace of the lanes for ui.perfetto.dev or chrome://tracing
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    #[command(flatten)]
    pub bus: BusArgs,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ControlArgs {
    pub job: String,
    #[command(flatten)]
    pub bus: BusArgs,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct PriorityArgs {
    #[command(flatten)]
    pub control: ControlArgs,
    /// Jobs of a higher one go first
    #[arg(value_enum)]
    pub priority: Priority,
}

/// As the job file's `priority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Priority {
    High,
    Normal,
    Low,
}

impl From<Priority> for Band {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::High => Self::High,
            Priority::Normal => Self::Normal,
            Priority::Low => Self::Low,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub struct RebuildArgs {
    #[command(flatten)]
    pub bus: BusArgs,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ResultsArgs {
    /// The job; without it, the one that finished last
    pub job: Option<String>,
    /// Folder or URL that was the job's --out
    #[arg(long, value_name = "URL")]
    pub out: String,
    /// Table of which rows are shown
    #[arg(long, value_parser = fulltime_common::keys::TABLES, default_value = "players")]
    pub table: String,
    /// How many rows
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub rows: usize,
    /// Prints the manifest's URL and content as one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    pub command: QuarantineCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum QuarantineCommand {
    /// Lists what was given up, by number
    List(GivenUpArgs),
    /// Shows one of them at length
    Show(ShowGivenUpArgs),
    /// Tries all of it again, as the job's next generation; the same as `fulltime retry`
    Retry(ControlArgs),
}

#[derive(Debug, Clone, Args)]
pub struct GivenUpArgs {
    /// The job
    pub job: String,
    /// Folder or URL that was the job's --out
    #[arg(long, value_name = "URL")]
    pub out: String,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ShowGivenUpArgs {
    #[command(flatten)]
    pub of: GivenUpArgs,
    /// As `list` counts
    #[arg(value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub number: u32,
}

#[derive(Debug, Clone, Args)]
pub struct DeleteArgs {
    /// The job
    pub job: String,
    /// Folder or URL that was the job's --out
    #[arg(long, value_name = "URL")]
    pub out: String,
    /// The coordinator's state, the same folder or URL that it was started with [default: state below --out]
    #[arg(long, value_name = "URL", env = "FULLTIME_STATE")]
    pub state: Option<String>,
    /// Only says what would be deleted
    #[arg(long)]
    pub dry_run: bool,
    /// Does not ask; needed where standard input is not a terminal
    #[arg(long)]
    pub yes: bool,
    /// Also a job that is neither finished nor cancelled; no coordinator may be working on it
    #[arg(long)]
    pub force: bool,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    pub command: CacheCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub enum CacheCommand {
    /// Shows entries and bytes by kind, and how the server does
    Stats(CacheStatsArgs),
    /// Removes entries; they are made again when they are needed
    Clear(CacheClearArgs),
}

#[derive(Debug, Clone, Args)]
pub struct CacheStatsArgs {
    #[command(flatten)]
    pub redis: RedisArgs,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct CacheClearArgs {
    #[command(flatten)]
    pub redis: RedisArgs,
    /// Only entries of this kind: index, pipeline, model or detections
    #[arg(long)]
    pub kind: Option<fulltime_cache::Kind>,
    /// Only says what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Args)]
pub struct RedisArgs {
    /// The workers' Redis, with its credentials, if any: better in the environment, which other users do not see
    #[arg(long, env = "FULLTIME_REDIS", hide_env_values = true, value_name = "URL")]
    pub redis: String,
}

impl std::fmt::Debug for RedisArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisArgs")
    }
}

#[derive(Debug, Clone, Args)]
pub struct GcArgs {
    /// Folder or URL that was a job's --out; its results lie in store below it
    #[arg(long, value_name = "URL", required_unless_present = "store")]
    pub out: Option<String>,
    /// Store that jobs share, if their job files name one
    #[arg(long, value_name = "URL", conflicts_with = "out")]
    pub store: Option<String>,
    /// Leaves what has changed since then, by the store's clock and this machine's
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub older_than: humantime::Duration,
    /// An output that is gone for good with all its jobs: what only it referred to may go
    #[arg(long, value_name = "URL")]
    pub gone: Vec<String>,
    /// Only says what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

const EXPORT_HELP: &str = "\
Examples:
  fulltime export --format mot out/jobs/JOB --out exported/
  fulltime export --format gsr out/jobs/JOB/g1 --out exported/ --json
  fulltime export --format video out/jobs/JOB --archive ./videos --out exported/

A file of one of the data formats is taken in place of a job, too, and converted.";

#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    /// Folder or URL of the job (its newest finished generation is taken) or of one generation
    #[arg(value_name = "JOB")]
    pub source: String,
    #[arg(long, value_enum)]
    pub format: ExportFormat,
    /// Folder that gets the files
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Folder or URL of the recordings, for videos
    #[arg(long, value_name = "URL", required_if_eq("format", "video"))]
    pub archive: Option<String>,
    /// Prints one JSON object instead of the files' paths
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// MOTChallenge text: boxes with identities
    Mot,
    /// SoccerNet game state: people on the pitch with role, team side and number
    Gsr,
    /// Common Data Format: tracking.jsonl and meta.json of each match
    Cdf,
    /// COCO detections: a data set, and the bare list of results
    Coco,
    /// The tables as they lie
    Parquet,
    /// The recordings with boxes, identities and numbers drawn
    Video,
}

impl ExportFormat {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Mot => "mot",
            Self::Gsr => "gsr",
            Self::Cdf => "cdf",
            Self::Coco => "coco",
            Self::Parquet => "parquet",
            Self::Video => "video",
        }
    }

    /// What the format has no place for.
    #[must_use]
    pub fn why_left_out(self) -> &'static str {
        match self {
            Self::Mot => "they belong to no track",
            Self::Gsr => "they have no place on the pitch (give the job a view of the pitch)",
            Self::Cdf => {
                "they have no place on the pitch (give the job a view of the pitch), or belong to neither team"
            }
            Self::Coco | Self::Parquet | Self::Video => "they have no box",
        }
    }
}

const EVAL_HELP: &str = "\
Examples:
  fulltime eval --ground-truth gt.txt --results res.txt --json
  fulltime eval --ground-truth mot15/ --results results/

Figures and their conventions are those of TrackEval 1.3.0 (HOTA, CLEAR MOT, identity) and
pycocotools (AP, AR); shares are 0 to 1. With --json one object: HOTA, IDF1, MOTA, FP, FN, IDSW and
their parts of everything together, and of each recording below `sequences`.";

#[derive(Debug, Clone, Args)]
pub struct EvalArgs {
    /// What is really there: a file, or a folder with one a recording
    #[arg(long, value_name = "PATH")]
    pub ground_truth: String,
    /// What was found: a file, or a folder with one a recording
    #[arg(long, value_name = "PATH")]
    pub results: String,
    /// What the ground truth leaves out of scoring
    #[arg(long, value_enum, default_value_t)]
    pub benchmark: Benchmark,
    /// Prints one JSON object instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Benchmark {
    /// mot17 where the ground truth has its classes, otherwise plain
    #[default]
    Auto,
    /// Everything is one class (MOT15, SportsMOT)
    Plain,
    /// Only class 1 counts, results on static people, reflections and the like are left out (MOT16, MOT17)
    Mot17,
    /// As mot17, and results on vehicles are left out
    Mot20,
}

#[derive(Debug, Clone, Args)]
pub struct TrackArgs {
    /// Detections in `MOTChallenge` text (frame,id,left,top,width,height,confidence,…), packed with gzip or not
    #[arg(long, value_name = "FILE")]
    pub detections: PathBuf,
    /// File that gets the tracked boxes in the same format, the id in the second column; it is overwritten
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Frames a second of the recording
    #[arg(long, value_name = "N", default_value_t = 25.0, value_parser = frame_rate)]
    pub fps: f64,
    /// Prints frames, detections, objects, rows and speed as one JSON object
    #[arg(long)]
    pub json: bool,
}

fn frame_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(fps) if (0.1..=1000.0).contains(&fps) => Ok(fps),
        _ => Err("a number of frames a second from 0.1 to 1000 is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use fulltime_common::Exit;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_priority_is_one_of_three_words() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|_| ()).map_err(|e| e.exit_code());
        assert_eq!(parse("fulltime priority job-1 low --json"), Ok(()));
        assert_eq!(parse("fulltime priority job-1 lowest"), Err(2));
        assert_eq!(parse("fulltime retry"), Err(2));
    }

    #[test]
    fn the_help_names_every_exit_code() {
        for exit in Exit::ALL {
            let code = format!("{:>5}  ", exit as u8);
            assert!(EXIT_CODES.lines().any(|line| line.starts_with(&code)), "{exit:?}");
        }
    }

    #[test]
    fn a_run_needs_flags_or_a_job_file_or_a_job_to_resume() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|_| ()).map_err(|e| e.exit_code());
        assert_eq!(parse("fulltime run --archive a --out o --pipeline p.toml"), Ok(()));
        assert_eq!(parse("fulltime run --job j.toml --workers 3 --json"), Ok(()));
        assert_eq!(parse("fulltime run --resume x --out o"), Ok(()));
        assert_eq!(parse("fulltime run --archive a --out o"), Err(2));
        assert_eq!(parse("fulltime run --resume x"), Err(2));
        assert_eq!(parse("fulltime run --job j.toml --archive a"), Err(2));
        assert_eq!(parse("fulltime run --archive a --out o --pipeline p --shard-length soon"), Err(2));
        assert_eq!(parse("fulltime run --job j.toml --workers 0"), Err(2));
    }
}
