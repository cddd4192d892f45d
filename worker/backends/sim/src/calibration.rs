//! A device's figures in a file, so that machines that are not there can be rehearsed: `--sim @h100.toml`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use crate::{SimOptions, script};

/// What was measured, or is believed, of one model on one device (TOML).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Which device and model, and where the figures are from. For people.
    pub device: String,
    pub source: String,
    /// Whether anybody has measured this.
    pub measured: bool,
    /// Costs of batches, ascending.
    pub latency: Vec<Point>,
    #[serde(default)]
    pub memory: Memory,
    /// Pictures a second that the device decodes at most.
    #[serde(default)]
    pub decoded_per_second: Option<f64>,
    /// What goes wrong, and when: `RUN:KIND` as in scripts, such as `12:out-of-memory`.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// A batch and how long it takes.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    pub batch: usize,
    pub ms: f64,
}

/// Bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Of the device; none: unlimited.
    pub total: Option<u64>,
    #[serde(default)]
    pub model: u64,
    /// Each item of a batch.
    #[serde(default)]
    pub item: u64,
}

/// A calibration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    #[error("read the calibration `{path}`")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the calibration `{path}` does not read")]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("calibration of `{device}`: {what}")]
    Figures { device: String, what: &'static str },
    #[error("calibration of `{device}`: the fault `{fault}` is not RUN:out-of-memory|device-lost|hang|crash")]
    Fault { device: String, fault: String },
}

impl Calibration {
    /// # Errors
    /// A file that is not there or does not read; the source names line and column.
    pub fn read(path: &Path) -> Result<Self, CalibrationError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| CalibrationError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text)
            .map_err(|source| CalibrationError::Parse { path: path.to_owned(), source: Box::new(source) })
    }

    /// The device that behaves so.
    ///
    /// # Errors
    /// Figures that no device has.
    pub fn options(&self) -> Result<SimOptions, CalibrationError> {
        let wrong = |what| CalibrationError::Figures { device: self.device.clone(), what };
        if self.latency.is_empty() {
            return Err(wrong("`latency` needs a point at least"));
        }
        let ascending = |pair: &[Point]| pair[0].batch < pair[1].batch && pair[0].ms <= pair[1].ms;
        if self.latency[0].batch == 0 || !self.latency.windows(2).all(ascending) {
            return Err(wrong("`latency` ascends in batch, from 1, and no larger batch is faster"));
        }
        if !self.latency.iter().all(|point| point.ms.is_finite() && point.ms > 0.0 && point.ms < 3.6e6) {
            return Err(wrong("`latency` is more than 0 and less than an hour"));
        }
        if self.decoded_per_second.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
            return Err(wrong("`decoded_per_second` is more than 0"));
        }
        let read = |text: &String| {
            let bad = || CalibrationError::Fault { device: self.device.clone(), fault: text.clone() };
            script::fault(text).ok_or_else(bad)
        };
        let curve = self.latency.iter().map(|point| (point.batch, Duration::from_secs_f64(point.ms / 1e3)));
        Ok(SimOptions {
            curve: curve.collect(),
            decoded_per_second: self.decoded_per_second,
            model_bytes: self.memory.model,
            item_bytes: self.memory.item,
            memory_bytes: self.memory.total,
            faults: self.faults.iter().map(read).collect::<Result<_, _>>()?,
            ..SimOptions::default()
        })
    }
}

/// The cost of a batch on a curve that is not empty and ascends. Below the first point as much as there: a device is not
/// faster because there is less to do.
pub(crate) fn on_curve(curve: &[(usize, Duration)], batch: usize) -> Duration {
    let seconds = |at: usize| curve[at].1.as_secs_f64();
    let after = curve.partition_point(|&(size, _)| size < batch);
    if after == 0 {
        return curve[0].1;
    }
    let (left, right) =
        if after == curve.len() { (curve.len().saturating_sub(2), curve.len() - 1) } else { (after - 1, after) };
    let steep = match curve[right].0 - curve[left].0 {
        // A single point: as much again for each of its batches.
        0 => seconds(right) / curve[right].0.max(1) as f64,
        apart => (seconds(right) - seconds(left)) / apart as f64,
    };
    let from = if after == curve.len() { right } else { left };
    Duration::from_secs_f64(seconds(from) + steep * (batch - curve[from].0) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, FaultKind};

    const TEXT: &str = r#"
        device = "made up"
        source = "this test"
        measured = false
        latency = [{ batch = 1, ms = 2.0 }, { batch = 8, ms = 9.0 }, { batch = 16, ms = 25.0 }]
        memory = { total = 1000, model = 100, item = 50 }
        decoded_per_second = 1000.0
        faults = ["3:out-of-memory"]
    "#;

    fn written(text: &str) -> Result<SimOptions, crate::ScriptError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("device.toml");
        std::fs::write(&path, text).unwrap();
        format!("@{}", path.display()).parse()
    }

    #[test]
    fn a_file_becomes_a_device() {
        let options = written(TEXT).unwrap();
        assert_eq!(options.faults, [Fault { run: 3, what: FaultKind::OutOfMemory }]);
        assert_eq!((options.memory_bytes, options.model_bytes, options.item_bytes), (Some(1000), 100, 50));
        let ms = |batch| options.cost(batch).as_secs_f64() * 1e3;
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(near(ms(1), 2.0) && near(ms(8), 9.0) && near(ms(4), 5.0), "on the lines");
        assert!(near(ms(12), 17.0) && near(ms(20), 33.0), "and beyond");
    }

    #[test]
    fn the_example_in_the_docs_reads_and_says_that_it_is_not_measured() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/sim-h100.toml");
        let read = Calibration::read(&path).unwrap();
        assert!(!read.measured);
        let options = read.options().unwrap();
        // Decoding is what limits it from a batch of 8 on.
        assert_eq!(options.cost(64), Duration::from_secs_f64(64.0 / 4550.0));
    }

    #[test]
    fn decoding_holds_the_model_up() {
        let options = SimOptions { decoded_per_second: Some(100.0), ..written(TEXT).unwrap() };
        assert_eq!(options.cost(8), Duration::from_millis(80));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let error = |text: &str| {
            let error = written(text).unwrap_err();
            std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source())
                .map(|e| format!("{e}\n"))
                .collect::<String>()
        };
        assert!(error("device = 3").contains("line 1"), "{}", error("device = 3"));
        assert!(error(&TEXT.replace("3:out", "3-out")).contains("`3-out-of-memory`"));
        assert!(error(&TEXT.replace("ms = 25.0", "ms = 1.0")).contains("no larger batch is faster"));
        assert!(error(&TEXT.replace("1000.0", "-1.0")).contains("decoded_per_second"));
        assert!(error(&TEXT.replace("memory =", "memroy =")).contains("memroy"));
        let missing = "@/nonexistent/device.toml".parse::<SimOptions>().unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/device.toml"));
    }
}
