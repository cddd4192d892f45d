//! Every metric there is.

use super::{
    Kind::{Counter, Gauge, Histogram},
    Metric,
};

macro_rules! metrics {
    ($(#[$doc:meta])* $list:ident: $($name:ident = $text:literal, $kind:ident, $unit:literal, [$($label:literal),*], $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $name: Metric = Metric { name: $text, kind: $kind, unit: $unit, labels: &[$($label),*], help: $help };
        )*

        $(#[$doc])*
        pub const $list: &[Metric] = &[$($name),*];
    };
}

metrics! {
    /// What a coordinator serves. Standbys serve the first few of them.
    COORDINATOR:
    LEADING = "fulltime_leading", Gauge, "", [], "1 while this coordinator leads, 0 while it stands by.";
    EPOCH = "fulltime_epoch", Gauge, "", [], "Epoch of this coordinator's reign; 0 before its first.";
    COORDINATOR_MEMORY = "fulltime_coordinator_memory_bytes", Gauge, "bytes", [], "Memory that the coordinator holds.";
    COORDINATOR_CPU = "fulltime_coordinator_cpu_seconds", Counter, "seconds", [], "Processor time of the coordinator.";
    BACKLOG = "fulltime_backlog_tasks", Gauge, "tasks", ["class"], "Tasks that wait or run and that a worker could do now, by the engine class that their job is pinned to (`any` before it is). Jobs that are paused, outside of their window or over their quota do not count. From the leader's ledger, not from the broker: scale on this.";
    RUNNING = "fulltime_running_tasks", Gauge, "tasks", [], "Tasks on lanes, as workers say.";
    JOBS = "fulltime_jobs", Gauge, "jobs", ["state"], "Jobs by state.";
    FRAMES_DONE = "fulltime_committed_frames", Counter, "frames", [], "Frames of shards that were committed in this reign, found ones left out.";
    TASKS_DONE = "fulltime_committed_tasks", Counter, "tasks", ["found"], "Tasks that ended with a result; `found` is `true` where it was there already.";
    FAILURES = "fulltime_failed_attempts", Counter, "attempts", ["disposition"], "Attempts without a result, by what the failure means for the task.";
    RELEASES = "fulltime_releases", Counter, "tasks", [], "Tasks put on the queue, repetitions included.";
    QUARANTINED = "fulltime_quarantined", Gauge, "", [], "Recordings, shards and matches that the present jobs gave up.";
    WORKERS = "fulltime_workers", Gauge, "workers", ["class"], "Workers that are heard of, by engine class.";
    ANOMALIES = "fulltime_anomalies", Gauge, "findings", ["kind"], "Findings that hold at the moment, by kind.";
    ETA = "fulltime_longest_eta_seconds", Gauge, "seconds", [], "Until the last of the running jobs is expected to end; absent while nobody can tell.";
}

metrics! {
    /// What a worker serves, its lane processes included.
    WORKER:
    LANES = "fulltime_lanes", Gauge, "lanes", ["state"], "Lanes by state: `busy`, `idle`, and `down` for those whose process is not ready.";
    WAITING = "fulltime_waiting_tasks", Gauge, "tasks", [], "Tasks that are held here (their leases are kept) and are on no lane yet.";
    DRAINING = "fulltime_draining", Gauge, "", [], "1 while the worker hands its work back and takes no more.";
    LANE_SECONDS = "fulltime_lane_seconds", Counter, "seconds", ["lane", "doing"], "Time of every lane by what it was doing. The sum over `doing` is the lane's time on the clock.";
    STAGE_BUSY = "fulltime_stage_busy_seconds", Counter, "seconds", ["stage"], "Time that a stage was at work, by the wall. Stages overlap.";
    STAGE_CPU = "fulltime_stage_cpu_seconds", Counter, "seconds", ["stage"], "Processor time of a stage's thread.";
    STAGE_SECONDS = "fulltime_stage_seconds", Histogram, "seconds", ["stage"], "Time of one batch (decode, preprocess: of one picture) in a stage; `total` is from a batch's first decoded picture to its last detection.";
    BATCHES = "fulltime_batches", Counter, "batches", [], "Batches that were inferred.";
    IMAGES = "fulltime_images", Counter, "images", [], "Crops that were inferred; divided by batches, the mean size of a batch.";
    FRAMES = "fulltime_frames", Counter, "frames", [], "Frames that left the pipeline, committed or not.";
    SHARDS = "fulltime_shards", Counter, "shards", [], "Shards that were computed.";
    READ_BYTES = "fulltime_read_bytes", Counter, "bytes", [], "Bytes read from archive and store.";
    WRITTEN_BYTES = "fulltime_written_bytes", Counter, "bytes", [], "Bytes of results that were put into the store.";
    STORE_SECONDS = "fulltime_store_call_seconds", Histogram, "seconds", [], "Time of one call of archive or store.";
    STORE_ERRORS = "fulltime_store_errors", Counter, "calls", [], "Calls of archive or store that failed.";
    CACHE = "fulltime_cache_lookups", Counter, "lookups", ["result"], "Pipelines, container indexes and models that were here already (`hit`) or had to be fetched (`miss`).";
    CACHE_ANSWERS = "fulltime_cache_answers", Counter, "lookups", ["kind", "level"], "Lookups of the caches by kind of entry and by who had the answer: `memory`, `disk`, `redis`, or `source` where it had to be read from the store or computed. Their sum over `level` is all lookups; a level's share of it is its hit rate.";
    CACHE_FAULTS = "fulltime_cache_faults", Counter, "lookups", ["kind", "fault"], "What went wrong with the caches, none of which stops anything: `unsound` (a damaged entry, dropped and made again), `failed` (Redis gave no answer in time), `skipped` (it was not asked, since it had failed before), `unkept` (an entry was not put: too large, or too many on their way).";
    ATTEMPTS = "fulltime_attempts", Counter, "attempts", ["disposition"], "Attempts that ended, by disposition; `committed` for those with a result.";
    LEASES = "fulltime_lease_renewals", Counter, "leases", ["result"], "Leases that were renewed (`ok`), or could not be (`error`).";
    MEMORY = "fulltime_worker_memory_bytes", Gauge, "bytes", [], "Memory that worker and lanes hold.";
    MEMORY_LIMIT = "fulltime_worker_memory_limit_bytes", Gauge, "bytes", [], "Memory that they may hold: the container's limit, or the machine's memory.";
    CPU = "fulltime_worker_cpu_seconds", Counter, "seconds", [], "Processor time of worker and lanes.";
    MACHINE_CPU = "fulltime_machine_cpu_ratio", Gauge, "0..1", [], "Share of the machine's processors that is busy, whoever uses them.";
    GPU_UTILISATION = "fulltime_gpu_utilisation_ratio", Gauge, "0..1", ["gpu", "numa"], "Share of time in which the GPU computed; `numa` is its NUMA node, empty where unknown, as in all rows below.";
    GPU_DECODER = "fulltime_gpu_decoder_utilisation_ratio", Gauge, "0..1", ["gpu", "numa"], "Share of time in which its video decoders worked. Does not show in its utilisation.";
    GPU_MEMORY = "fulltime_gpu_memory_used_bytes", Gauge, "bytes", ["gpu", "numa"], "GPU memory in use.";
    GPU_MEMORY_TOTAL = "fulltime_gpu_memory_total_bytes", Gauge, "bytes", ["gpu", "numa"], "GPU memory there is.";
    GPU_TEMPERATURE = "fulltime_gpu_temperature_celsius", Gauge, "°C", ["gpu", "numa"], "Temperature of the GPU.";
    GPU_POWER = "fulltime_gpu_power_watts", Gauge, "watts", ["gpu", "numa"], "Power that the GPU draws.";
    GPU_CLOCK = "fulltime_gpu_clock_hertz", Gauge, "hertz", ["gpu", "numa"], "Clock of its multiprocessors.";
    GPU_THROTTLED = "fulltime_gpu_throttled", Gauge, "", ["gpu", "numa"], "1 while the driver holds the clocks down.";
}
