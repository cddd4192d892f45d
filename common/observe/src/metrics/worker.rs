//! A worker's sample on its board.

use super::{Board, *};
use crate::sample::{CacheTally, GpuReading, Sample};

/// Adds a second of a worker and its lanes.
pub fn show_sample(board: &Board, sample: &Sample) {
    for lane in &sample.lanes {
        let number = lane.lane.to_string();
        for (doing, seconds) in &lane.doing {
            board.add(&LANE_SECONDS, &[&number, doing.name()], *seconds);
        }
    }
    let total = sample.total();
    for stage in &total.stages {
        board.add(&STAGE_BUSY, &[&stage.stage], stage.busy);
        board.add(&STAGE_CPU, &[&stage.stage], stage.cpu);
        board.merge(&STAGE_SECONDS, &[&stage.stage], &stage.latency);
    }
    for (metric, value) in [
        (&BATCHES, total.batches),
        (&IMAGES, total.images),
        (&FRAMES, total.frames),
        (&SHARDS, total.shards),
        (&READ_BYTES, total.bytes_read),
        (&WRITTEN_BYTES, total.bytes_written),
        (&STORE_ERRORS, total.store_errors),
    ] {
        board.add(metric, &[], value as f64);
    }
    board.add(&CACHE, &["hit"], total.cache_hits as f64);
    board.add(&CACHE, &["miss"], total.cache_misses as f64);
    board.merge(&STORE_SECONDS, &[], &total.store);
    board.set(&MEMORY, &[], sample.memory as f64);
    board.set(&MEMORY_LIMIT, &[], sample.memory_limit as f64);
    board.add(&CPU, &[], sample.cpu);
    board.set(&MACHINE_CPU, &[], sample.machine_cpu);
    sample.gpus.iter().for_each(|gpu| show_gpu(board, gpu));
}

/// Adds lookups of caches.
pub fn show_lookups(board: &Board, tallies: &[CacheTally]) {
    for CacheTally { kind, what, fault, count } in tallies {
        let metric = if *fault { &CACHE_FAULTS } else { &CACHE_ANSWERS };
        board.add(metric, &[kind, what], *count as f64);
    }
}

fn show_gpu(board: &Board, gpu: &GpuReading) {
    let (number, numa) = (gpu.gpu.to_string(), gpu.numa_node.map(|node| node.to_string()).unwrap_or_default());
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    for (metric, value) in [
        (&GPU_UTILISATION, gpu.utilisation),
        (&GPU_DECODER, gpu.decoder_utilisation),
        (&GPU_MEMORY, bytes(gpu.memory_used)),
        (&GPU_MEMORY_TOTAL, bytes(gpu.memory_total)),
        (&GPU_TEMPERATURE, gpu.temperature),
        (&GPU_POWER, gpu.power),
        (&GPU_CLOCK, bytes(gpu.clock)),
        (&GPU_THROTTLED, Some(f64::from(u8::from(gpu.throttled.is_some())))),
    ] {
        if let Some(value) = value {
            board.set(metric, &[&number, &numa], value);
        }
    }
}
