//! How models are run: devices, precision and switches. Everything in here that can change a bit is part of the engine class.

use std::{fmt, str::FromStr};

/// A device of torch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// By CUDA's own number.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// What the arithmetic is done in. Input and output are f32 whatever it is; `Fp16` and `Bf16` by autocast, which leaves what
/// needs the range (sums, softmax, sigmoid) in f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    Fp32,
    Fp16,
    Bf16,
}

impl Precision {
    /// As on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
        }
    }
}

/// How a model is run. As text: `device=cuda:0+cuda:1,precision=bf16,tf32,channels-last,memory=0.8`.
#[derive(Debug, Clone, PartialEq)]
pub struct TorchOptions {
    /// One, or several for a model in stages. `cpu*3` is three virtual devices: threads.
    pub devices: Vec<Device>,
    pub precision: Precision,
    /// Whether f32 products may be rounded to TF32 on their way in (Ampere and later). Off: full f32.
    pub tf32: bool,
    /// Channels lie innermost: what tensor cores want.
    pub channels_last: bool,
    /// cuDNN measures its algorithms and takes the fastest: another one each time, with other bits. Off, its heuristics
    /// choose, the same on every machine of the engine class.
    pub autotune: bool,
    /// Whether scaled dot-product attention may use its flash kernel.
    pub flash: bool,
    /// Or the memory-efficient one.
    pub memory_efficient: bool,
    /// No autograd bookkeeping at all. Only a model that changes tensors in place against its rules needs it off.
    pub inference_mode: bool,
    /// Share of each GPU's memory that this process may take.
    pub memory_fraction: Option<f64>,
    /// Items in a micro-batch of a split model.
    pub micro_batch: usize,
}

impl Default for TorchOptions {
    fn default() -> Self {
        Self {
            devices: vec![Device::Cpu],
            precision: Precision::Fp32,
            tf32: false,
            channels_last: false,
            autotune: false,
            flash: true,
            memory_efficient: true,
            inference_mode: true,
            memory_fraction: None,
            micro_batch: 1,
        }
    }
}

impl TorchOptions {
    /// The part of the engine class that these options are: `fp32`, `bf16-nhwc`, `fp32-tf32-noflash`. Numbers of devices and
    /// micro-batches are not in it: they are used only where warm-up has shown them bit-equal.
    #[must_use]
    pub fn class(&self) -> String {
        let switches = [
            (self.tf32, "-tf32"),
            (self.channels_last, "-nhwc"),
            (self.autotune, "-tuned"),
            (!self.flash, "-noflash"),
            (!self.memory_efficient, "-noefficient"),
        ];
        let on: String = switches.iter().filter(|(on, _)| *on).map(|(_, text)| *text).collect();
        format!("{}{on}", self.precision.name())
    }

    /// Whether another process with the same class gives the same bits. Shards may only be worked on by such; benches need
    /// not care.
    #[must_use]
    pub fn repeatable(&self) -> bool {
        !self.autotune
    }
}

/// Options that do not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error(
        "`{part}` is none of device=cpu|cpu*N|cuda:N[+cuda:M...], precision=fp32|fp16|bf16, memory=SHARE, micro-batch=N, \
         tf32, channels-last, autotune, no-flash, no-memory-efficient, no-inference-mode"
    )]
    Unknown { part: String },
    #[error("`{part}`: a share is more than 0 and at most 1")]
    Share { part: String },
    #[error("`{part}` names a device twice, or CPU and GPU together")]
    Devices { part: String },
}

impl FromStr for TorchOptions {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let mut options = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let unknown = || OptionsError::Unknown { part: part.to_owned() };
            match part.split_once('=').unwrap_or((part, "")) {
                ("device", value) => options.devices = devices(value, part)?,
                ("precision", "fp32") => options.precision = Precision::Fp32,
                ("precision", "fp16") => options.precision = Precision::Fp16,
                ("precision", "bf16") => options.precision = Precision::Bf16,
                ("memory", value) => {
                    let share: f64 = value.parse().map_err(|_| unknown())?;
                    if !(share > 0.0 && share <= 1.0) {
                        return Err(OptionsError::Share { part: part.to_owned() });
                    }
                    options.memory_fraction = Some(share);
                }
                ("micro-batch", value) => {
                    options.micro_batch = value.parse().ok().filter(|&items| items > 0).ok_or_else(unknown)?;
                }
                ("tf32", "") => options.tf32 = true,
                ("channels-last", "") => options.channels_last = true,
                ("autotune", "") => options.autotune = true,
                ("no-flash", "") => options.flash = false,
                ("no-memory-efficient", "") => options.memory_efficient = false,
                ("no-inference-mode", "") => options.inference_mode = false,
                _ => return Err(unknown()),
            }
        }
        Ok(options)
    }
}

fn devices(value: &str, part: &str) -> Result<Vec<Device>, OptionsError> {
    let unknown = || OptionsError::Unknown { part: part.to_owned() };
    if value == "cpu" {
        return Ok(vec![Device::Cpu]);
    }
    if let Some(count) = value.strip_prefix("cpu*") {
        let count = count.parse().ok().filter(|count| (1..=64).contains(count)).ok_or_else(unknown)?;
        return Ok(vec![Device::Cpu; count]);
    }
    let cuda = |name: &str| name.strip_prefix("cuda:").and_then(|index| index.parse().ok()).map(Device::Cuda);
    let mut found = Vec::new();
    for name in value.split('+') {
        let device = if name == "cpu" { Device::Cpu } else { cuda(name).ok_or_else(unknown)? };
        if found.contains(&device) || (device == Device::Cpu && value.contains('+')) {
            return Err(OptionsError::Devices { part: part.to_owned() });
        }
        found.push(device);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_and_tell_their_class() {
        let read: TorchOptions =
            "device=cuda:0+cuda:2,precision=bf16,tf32,channels-last,no-flash,memory=0.8,micro-batch=4".parse().unwrap();
        let expected = TorchOptions {
            devices: vec![Device::Cuda(0), Device::Cuda(2)],
            precision: Precision::Bf16,
            tf32: true,
            channels_last: true,
            flash: false,
            memory_fraction: Some(0.8),
            micro_batch: 4,
            ..TorchOptions::default()
        };
        assert_eq!(read, expected);
        assert_eq!(read.class(), "bf16-tf32-nhwc-noflash");
        assert_eq!("".parse::<TorchOptions>().unwrap().class(), "fp32");
        assert_eq!("device=cpu*3".parse::<TorchOptions>().unwrap().devices, [Device::Cpu; 3]);
    }

    #[test]
    fn what_changes_bits_changes_the_class_and_the_rest_does_not() {
        let class = |text: &str| text.parse::<TorchOptions>().unwrap().class();
        let changing = ["precision=fp16", "precision=bf16", "tf32", "channels-last", "autotune", "no-flash"];
        let classes: std::collections::BTreeSet<_> = changing.iter().map(|text| class(text)).collect();
        assert_eq!(classes.len(), changing.len());
        for neutral in ["device=cpu*4", "memory=0.5", "micro-batch=8", "no-inference-mode"] {
            assert_eq!(class(neutral), "fp32", "{neutral}");
        }
        assert!(!"autotune".parse::<TorchOptions>().unwrap().repeatable());
    }

    #[test]
    fn what_does_not_read_is_named() {
        let bad = ["device=tpu", "device=cuda:x", "device=cuda:0+cuda:0", "device=cpu+cuda:0", "device=cpu*0"];
        for bad in bad.into_iter().chain(["precision=fp8", "memory=1.5", "memory=0", "micro-batch=0", "tf32=yes", "x"])
        {
            let error = format!("channels-last,{bad}").parse::<TorchOptions>().unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }
}
