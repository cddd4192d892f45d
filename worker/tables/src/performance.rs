//! How lanes did, in windows of about ten seconds: what a job keeps in its `metrics` folder, for people with a query. No
//! result depends on it, and no two runs have the same.

use std::sync::Arc;

use bytes::Bytes;

use crate::{error::TableError, file::Writer, row::table};

table! {
    #[derive(Default)]
    /// One lane for a while.
    Performance in "performance" {
        /// When the window ended, since 1970.
        t_us: i64, "us";
        seconds: f64, "s";
        worker: Arc<str>, "";
        /// Number within the worker.
        lane: i32, "";
        frames: i64, "frames";
        /// Crops that were inferred.
        images: i64, "";
        batches: i64, "";
        shards: i64, "";
        bytes_read: i64, "bytes";
        bytes_written: i64, "bytes";
        cache_hits: i64, "";
        cache_misses: i64, "";
        store_calls: i64, "";
        store_errors: i64, "";
        store_p50: f64, "s";
        store_p95: f64, "s";
        store_p99: f64, "s";
        /// Time of the lane by what it was doing; the sum is `seconds`.
        doing_idle: f64, "s";
        doing_fetch: f64, "s";
        doing_load: f64, "s";
        doing_pictures: f64, "s";
        doing_infer: f64, "s";
        doing_postprocess: f64, "s";
        doing_describe: f64, "s";
        doing_tables: f64, "s";
        doing_commit: f64, "s";
        doing_index: f64, "s";
        doing_reduce: f64, "s";
        doing_canary: f64, "s";
        /// Time of one picture.
        decode_p50: Option<f64>, "s";
        decode_p95: Option<f64>, "s";
        decode_p99: Option<f64>, "s";
        preprocess_p50: Option<f64>, "s";
        preprocess_p95: Option<f64>, "s";
        preprocess_p99: Option<f64>, "s";
        /// Time of one batch.
        infer_p50: Option<f64>, "s";
        infer_p95: Option<f64>, "s";
        infer_p99: Option<f64>, "s";
        postprocess_p50: Option<f64>, "s";
        postprocess_p95: Option<f64>, "s";
        postprocess_p99: Option<f64>, "s";
        /// From a batch's first decoded picture to its last detection.
        total_p50: Option<f64>, "s";
        total_p95: Option<f64>, "s";
        total_p99: Option<f64>, "s";
        /// Of the lane's process: processor time, and memory at the end.
        cpu: f64, "s";
        memory: i64, "bytes";
        /// Of the worker's machine: share of processors that was busy; worker and all its lanes.
        machine_cpu: f64, "0..1";
        worker_memory: i64, "bytes";
        /// Greatest of the worker's GPUs at the end of the window; null without one, or where the driver does not tell.
        gpu_utilisation: Option<f64>, "0..1";
        decoder_utilisation: Option<f64>, "0..1";
        gpu_memory: Option<i64>, "bytes";
        gpu_temperature: Option<f64>, "°C";
        /// Of all the worker's GPUs together.
        gpu_power: Option<f64>, "W";
    }
}

/// # Errors
/// When the rows do not fit a table.
pub fn write_performance(rows: &[Performance]) -> Result<Bytes, TableError> {
    let mut writer = Writer::new(&[])?;
    rows.iter().cloned().try_for_each(|row| writer.push(row))?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reader;

    #[test]
    fn figures_come_out_as_they_went_in() {
        let row = |lane| Performance {
            t_us: 1_700_000_000_000_000,
            worker: "w".into(),
            lane,
            infer_p95: Some(0.04),
            gpu_memory: None,
            ..Performance::default()
        };
        let rows = vec![row(0), row(1)];
        let read: Result<Vec<_>, _> = Reader::<Performance>::new(write_performance(&rows).unwrap()).unwrap().collect();
        assert_eq!(read.unwrap(), rows);
    }
}
