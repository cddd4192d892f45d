//! A machine as a file (TOML): what its GPUs are, and what happens to them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    pub driver: String,
    /// `12040` is 12.4.
    pub cuda: i32,
    #[serde(default)]
    pub gpu: Vec<Gpu>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpu {
    pub name: String,
    pub uuid: String,
    /// `0000:1b:00.0`
    pub pci: String,
    pub memory_mb: u64,
    pub used_mb: u64,
    pub compute: [i32; 2],
    /// Processors near it: `0-7,16-23`.
    pub cpus: String,
    /// Engines, if the library is to tell.
    pub decoders: Option<u32>,
    pub decoder_percent: u32,
    /// Addresses at the other ends of its links, one a link.
    pub nvlink: Vec<String>,
    pub mig: bool,
    pub slices: Vec<Slice>,
    pub temperature: u32,
    pub slowdown_at: u32,
    pub shutdown_at: u32,
    pub throttle: u64,
    pub clock_mhz: u32,
    pub clock_max_mhz: u32,
    pub ecc_corrected: u64,
    pub ecc_uncorrected: u64,
    /// How fast they grow.
    pub corrected_a_second: u64,
    pub uncorrected_a_second: u64,
    pub rows_remapped: u32,
    pub remap_pending: bool,
    pub remap_failed: bool,
    /// Not there from the beginning.
    pub lost: bool,
    pub xid: Vec<Xid>,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            name: "NVIDIA H100 80GB HBM3".into(),
            uuid: String::new(),
            pci: "0000:00:00.0".into(),
            memory_mb: 81_559,
            used_mb: 0,
            compute: [9, 0],
            cpus: String::new(),
            decoders: None,
            decoder_percent: 0,
            nvlink: Vec::new(),
            mig: false,
            slices: Vec::new(),
            temperature: 38,
            slowdown_at: 92,
            shutdown_at: 97,
            throttle: 0,
            clock_mhz: 1980,
            clock_max_mhz: 1980,
            ecc_corrected: 0,
            ecc_uncorrected: 0,
            corrected_a_second: 0,
            uncorrected_a_second: 0,
            rows_remapped: 0,
            remap_pending: false,
            remap_failed: false,
            lost: false,
            xid: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    pub uuid: String,
    pub name: String,
    pub memory_mb: u64,
    pub decoders: u32,
}

/// Thrown once, when its time has come or when a file is there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Xid {
    pub code: u64,
    pub after_seconds: Option<f64>,
    pub when_file: Option<PathBuf>,
}

impl Xid {
    pub fn is_due(&self, elapsed: Duration) -> bool {
        self.after_seconds.is_some_and(|seconds| elapsed.as_secs_f64() >= seconds)
            || self.when_file.as_ref().is_some_and(|path| path.exists())
    }
}

impl Gpu {
    /// One that has fallen off the bus answers nothing any more.
    pub fn is_lost(&self, elapsed: Duration) -> bool {
        self.lost || self.xid.iter().any(|xid| xid.code == 79 && xid.is_due(elapsed))
    }

    pub fn link(&self, link: u32) -> Option<&str> {
        self.nvlink.get(link as usize).map(String::as_str)
    }

    pub fn ecc(&self, uncorrected: bool, elapsed: Duration) -> Option<u64> {
        let (start, growth) = match uncorrected {
            true => (self.ecc_uncorrected, self.uncorrected_a_second),
            false => (self.ecc_corrected, self.corrected_a_second),
        };
        Some(start + growth * elapsed.as_secs())
    }
}

pub fn read(path: &Path) -> Result<Machine, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("read {}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Domain, bus and device.
pub fn address(text: &str) -> [u32; 3] {
    let mut parts = text.split([':', '.']).map(|part| u32::from_str_radix(part, 16).unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

/// A list of processors as a mask.
pub fn mask(cpus: &str, words: usize) -> Vec<u64> {
    let mut mask = vec![0; words];
    for part in cpus.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().unwrap_or(0);
        for cpu in number(first)..=number(last) {
            if let Some(word) = mask.get_mut(cpu / 64) {
                *word |= 1 << (cpu % 64);
            }
        }
    }
    mask
}
