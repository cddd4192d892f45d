//! The sim's behaviour as one line of text, for command lines: `item-ms=5,memory=4000,item=100,fault=12:hang`, or
//! `@h100.toml` for a calibration file.

use std::{str::FromStr, time::Duration};

use crate::{Calibration, CalibrationError, Fault, FaultKind, SimOptions};

/// A script that does not read.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    #[error("`{part}` is none of batch-ms=N, item-ms=N, model=BYTES, item=BYTES, memory=BYTES, fault=RUN:KIND, @FILE")]
    Part { part: String },
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
}

impl FromStr for SimOptions {
    type Err = ScriptError;

    fn from_str(text: &str) -> Result<Self, ScriptError> {
        if let Some(file) = text.strip_prefix('@') {
            return Ok(Calibration::read(file.as_ref())?.options()?);
        }
        let mut options = Self::default();
        for part in text.split(',') {
            let bad = || ScriptError::Part { part: part.to_owned() };
            let (key, value) = part.split_once('=').ok_or_else(bad)?;
            let number = || value.parse::<u64>().map_err(|_| bad());
            match key {
                "batch-ms" => options.per_batch = Duration::from_millis(number()?),
                "item-ms" => options.per_item = Duration::from_millis(number()?),
                "model" => options.model_bytes = number()?,
                "item" => options.item_bytes = number()?,
                "memory" => options.memory_bytes = Some(number()?),
                "fault" => options.faults.push(fault(value).ok_or_else(bad)?),
                _ => return Err(bad()),
            }
        }
        Ok(options)
    }
}

pub(crate) fn fault(text: &str) -> Option<Fault> {
    let (run, kind) = text.split_once(':')?;
    let what = match kind {
        "out-of-memory" => FaultKind::OutOfMemory,
        "device-lost" => FaultKind::DeviceLost,
        "hang" => FaultKind::Hang,
        "crash" => FaultKind::Crash,
        _ => return None,
    };
    Some(Fault { run: run.parse().ok()?, what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_reads_as_options() {
        let read: SimOptions = "item-ms=5,memory=4000,item=100,fault=12:hang,fault=3:out-of-memory".parse().unwrap();
        let expected = SimOptions {
            per_item: Duration::from_millis(5),
            item_bytes: 100,
            memory_bytes: Some(4000),
            faults: vec![Fault { run: 12, what: FaultKind::Hang }, Fault { run: 3, what: FaultKind::OutOfMemory }],
            ..SimOptions::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_does_not_read_is_named() {
        for bad in ["item-ms", "item-ms=x", "fault=1", "fault=x:hang", "fault=1:explode", "colour=red"] {
            let error = format!("memory=1,{bad}").parse::<SimOptions>().unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }
}
