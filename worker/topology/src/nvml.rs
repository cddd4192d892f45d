//! NVIDIA's management library. It is loaded when it is asked and each of its functions when it is called, so that a
//! machine without a driver, and a driver that is years old, are answers and no errors.

use std::{collections::BTreeMap, ffi::OsString};

use nvml_wrapper::{
    Device, Nvml,
    enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor, TemperatureThreshold},
    enums::device::SampleValue,
    error::NvmlError,
    structs::device::FieldId,
    sys_exports::field_id::{NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING, NVML_FI_DEV_REMAPPED_UNC},
};

use crate::{CpuSet, Decoder, Gpu, Gpus, Link, Slice, health::Reading};

/// No GPU has more NVLinks.
const LINKS: u32 = 18;
/// Words of a mask of processors that NVML fills: 1024 of them.
const WORDS: usize = 16;
/// `NVML_GPU_INSTANCE_PROFILE_7_SLICE`: all of a GPU as one instance.
const WHOLE: u32 = 4;

/// NVDEC engines by name, where the library does not tell: NVIDIA's "Video Encode and Decode GPU Support Matrix"
/// (<https://developer.nvidia.com/video-encode-decode-support-matrix>). Names are matched as words.
const DECODERS: [(&str, u32); 12] = [
    ("H200", 7),
    ("H100", 7),
    ("A100", 5),
    ("A30", 4),
    ("L4", 4),
    ("L40S", 3),
    ("L40", 3),
    ("A40", 2),
    ("A10", 2),
    ("A2", 2),
    ("T4", 2),
    ("V100", 1),
];

pub fn open(library: Option<OsString>) -> Result<Nvml, NvmlError> {
    match library {
        Some(path) => Nvml::builder().lib_path(&path).init(),
        None => Nvml::init(),
    }
}

/// Every GPU there is, or why there is none.
pub fn read(library: Option<OsString>) -> Gpus {
    let name = library.as_ref().map_or_else(|| "libnvidia-ml.so.1".into(), |path| path.to_string_lossy().into_owned());
    let nvml = match open(library) {
        Ok(nvml) => nvml,
        Err(error) => return Gpus::None { why: why_not(&name, &error) },
    };
    let count = match nvml.device_count() {
        Ok(0) => return Gpus::None { why: "the NVIDIA driver is here, but no GPU".to_owned() },
        Ok(count) => count,
        Err(error) => return Gpus::None { why: why_not(&name, &error) },
    };
    let version = |n: i32| format!("{}.{}", n / 1000, n % 1000 / 10);
    let mut gpus: Vec<_> = (0..count).map(|index| gpu(&nvml, index)).collect();
    link(&mut gpus);
    Gpus::Found {
        driver: nvml.sys_driver_version().ok(),
        cuda: nvml.sys_cuda_driver_version().ok().map(version),
        gpus: gpus.into_iter().map(|(gpu, _)| gpu).collect(),
    }
}

fn why_not(name: &str, error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            format!("no NVIDIA driver: {name} cannot be loaded")
        }
        NvmlError::DriverNotLoaded => "the NVIDIA driver is installed, but its kernel module is not loaded".to_owned(),
        NvmlError::NoPermission => "this user may not use the NVIDIA driver".to_owned(),
        NvmlError::LibRmVersionMismatch => {
            "the NVIDIA driver was replaced and the machine not restarted: library and kernel module differ".to_owned()
        }
        other => format!("the NVIDIA driver does not answer: {other}"),
    }
}

/// Asks, and keeps what the driver is too old for apart from what the device just does not have.
struct Asker<'a> {
    device: Device<'a>,
    untold: Vec<String>,
}

impl<'a> Asker<'a> {
    fn ask<T>(&mut self, what: &str, answer: impl FnOnce(&Device<'a>) -> Result<T, NvmlError>) -> Option<T> {
        match answer(&self.device) {
            Ok(answer) => Some(answer),
            Err(error) => {
                if matches!(error, NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) {
                    self.untold.push(what.to_owned());
                }
                None
            }
        }
    }
}

/// The GPU, and the PCI addresses at the other ends of its NVLinks.
fn gpu(nvml: &Nvml, index: u32) -> (Gpu, BTreeMap<String, u32>) {
    let device = match nvml.device_by_index(index) {
        Ok(device) => device,
        Err(error) => {
            let lost = Gpu {
                index,
                name: "a GPU that does not answer".to_owned(),
                reading: Reading { lost: Some(error.to_string()), ..Reading::default() },
                ..Gpu::default()
            };
            return (lost, BTreeMap::new());
        }
    };
    let reading = reading(&device);
    let mut asker = Asker { device, untold: Vec::new() };
    let name = asker.ask("name", Device::name).unwrap_or_else(|| "a GPU without a name".to_owned());
    let uuid = asker.ask("uuid", Device::uuid).unwrap_or_default();
    let pci = asker.ask("PCI address", Device::pci_info).map(|pci| address(pci.domain, pci.bus, pci.device));
    let memory = asker.ask("memory", Device::memory_info);
    let near = asker.ask("CPU affinity", |device| device.cpu_affinity(WORDS));
    let compute = asker.ask("compute capability", Device::cuda_compute_capability);
    let mig = asker.ask("MIG mode", Device::mig_mode).is_some_and(|mode| mode.current == 1);
    let slices = if mig { slices(&mut asker) } else { Vec::new() };
    let busy = asker.ask("decoder utilisation", Device::decoder_utilization).map(|busy| busy.utilization);
    let told = asker.device.profile_info(WHOLE).ok().map(|profile| profile.decoder_count).filter(|n| *n > 0);
    let links = links(&mut asker);
    let gpu = Gpu {
        index,
        decoder: Decoder { engines: told.or_else(|| decoders(&name)), busy_percent: busy },
        name,
        uuid,
        pci,
        node: None,
        cpus: near.map(|words| CpuSet::from_words(&words)).unwrap_or_default(),
        memory_bytes: memory.as_ref().map_or(0, |memory| memory.total),
        memory_used_bytes: memory.as_ref().map_or(0, |memory| memory.used),
        compute: compute.map(|c| (c.major.unsigned_abs(), c.minor.unsigned_abs())),
        mig,
        slices,
        nvlink: Vec::new(),
        reading,
        untold: asker.untold,
    };
    (gpu, links)
}

/// As sysfs writes it. NVIDIA's GPUs are function 0 of their device.
fn address(domain: u32, bus: u32, device: u32) -> String {
    format!("{domain:04x}:{bus:02x}:{device:02x}.0")
}

fn decoders(name: &str) -> Option<u32> {
    let is = |known: &str| name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == known);
    DECODERS.iter().find(|(known, _)| is(known)).map(|(_, engines)| *engines)
}

fn slices(asker: &mut Asker<'_>) -> Vec<Slice> {
    let most = asker.ask("number of MIG devices", Device::mig_device_count).unwrap_or(0);
    let slice = |index| {
        // Places without an instance are "not found".
        let slice = asker.device.mig_device_by_index(index).ok()?;
        let attributes = slice.attributes().ok();
        let memory = slice.memory_info().ok().map(|memory| memory.total);
        Some(Slice {
            uuid: slice.uuid().ok()?,
            name: slice.name().unwrap_or_default(),
            memory_bytes: memory.or(attributes.as_ref().map(|a| a.memory_size_mb << 20)).unwrap_or(0),
            decoders: attributes.map(|attributes| attributes.shared_decoder_count),
        })
    };
    (0..most).filter_map(slice).collect()
}

/// Active NVLinks by the PCI address at their other end.
fn links(asker: &mut Asker<'_>) -> BTreeMap<String, u32> {
    let mut ends = BTreeMap::new();
    for link in 0..LINKS {
        match asker.ask("NVLink state", |device| device.link_wrapper_for(link).is_active()) {
            Some(true) => {}
            Some(false) => continue,
            None => break,
        }
        let Some(end) = asker.ask("NVLink peer", |device| device.link_wrapper_for(link).remote_pci_info()) else {
            break;
        };
        *ends.entry(address(end.domain, end.bus, end.device)).or_insert(0) += 1;
    }
    ends
}

/// Links that end at no GPU lead to a switch, which joins all GPUs that have such links.
fn link(gpus: &mut [(Gpu, BTreeMap<String, u32>)]) {
    let address: BTreeMap<String, u32> =
        gpus.iter().filter_map(|(gpu, _)| Some((gpu.pci.clone()?, gpu.index))).collect();
    let switched: BTreeMap<u32, u32> = gpus
        .iter()
        .map(|(gpu, ends)| {
            (gpu.index, ends.iter().filter(|(end, _)| !address.contains_key(*end)).map(|(_, n)| n).sum())
        })
        .collect();
    for (gpu, ends) in gpus {
        let mut peers: BTreeMap<u32, u32> = BTreeMap::new();
        for (end, links) in ends.iter() {
            if let Some(peer) = address.get(end) {
                *peers.entry(*peer).or_default() += links;
            }
        }
        let own = switched.get(&gpu.index).copied().unwrap_or(0);
        for (peer, theirs) in switched.iter().filter(|(peer, _)| **peer != gpu.index) {
            if own.min(*theirs) > 0 {
                *peers.entry(*peer).or_default() += own.min(*theirs);
            }
        }
        gpu.nvlink = peers.into_iter().map(|(gpu, links)| Link { gpu, links }).collect();
    }
}

/// How a device is right now. What it cannot tell is left out.
pub fn reading(device: &Device<'_>) -> Reading {
    let ecc = |kind| device.total_ecc_errors(kind, EccCounter::Volatile).ok();
    let ids = [NVML_FI_DEV_REMAPPED_UNC, NVML_FI_DEV_REMAPPED_PENDING, NVML_FI_DEV_REMAPPED_FAILURE];
    let fields = device.field_values_for(&ids.map(FieldId)).unwrap_or_default();
    let field = |at: usize| match fields.get(at)?.as_ref().ok()?.value.as_ref().ok()? {
        SampleValue::U32(n) => Some(u64::from(*n)),
        SampleValue::U64(n) => Some(*n),
        SampleValue::I64(n) => u64::try_from(*n).ok(),
        SampleValue::F64(_) => None,
    };
    let temperature = device.temperature(TemperatureSensor::Gpu);
    let lost = match &temperature {
        Err(error @ (NvmlError::GpuLost | NvmlError::ResetRequired)) => Some(error.to_string()),
        Ok(_) | Err(_) => None,
    };
    Reading {
        lost,
        temperature: temperature.ok(),
        slowdown_at: device.temperature_threshold(TemperatureThreshold::Slowdown).ok(),
        shutdown_at: device.temperature_threshold(TemperatureThreshold::Shutdown).ok(),
        throttle: device.current_throttle_reasons().map_or(0, |reasons| reasons.bits()),
        clock_mhz: device.clock_info(Clock::SM).ok(),
        clock_max_mhz: device.max_clock_info(Clock::SM).ok(),
        ecc_corrected: ecc(MemoryError::Corrected),
        ecc_uncorrected: ecc(MemoryError::Uncorrected),
        rows_remapped: field(0),
        remap_pending: field(1).is_some_and(|n| n > 0),
        remap_failed: field(2).is_some_and(|n| n > 0),
        decoder_percent: device.decoder_utilization().ok().map(|busy| busy.utilization),
    }
}

/// What a GPU does right now. What the driver cannot tell is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pulse {
    pub index: u32,
    pub name: String,
    pub uuid: String,
    pub pci: Option<String>,
    /// Percent of the last sample period in which a kernel ran, and in which the decoders worked.
    pub busy_percent: Option<u32>,
    pub decoder_percent: Option<u32>,
    /// Bytes.
    pub memory_used: Option<u64>,
    pub memory_total: Option<u64>,
    pub power_milliwatts: Option<u32>,
    pub reading: Reading,
}

/// The library, kept open for whoever asks again and again.
#[derive(Debug)]
pub struct Watcher(Nvml);

impl Watcher {
    /// `None` without a driver. The library is `$FULLTIME_NVML` or the driver's own.
    #[must_use]
    pub fn open() -> Option<Self> {
        open(std::env::var_os(crate::NVML)).ok().map(Self)
    }

    /// All GPUs, by the driver's numbers.
    #[must_use]
    pub fn pulses(&self) -> Vec<Pulse> {
        let count = self.0.device_count().unwrap_or(0);
        (0..count).filter_map(|index| Some(pulse(index, &self.0.device_by_index(index).ok()?))).collect()
    }
}

fn pulse(index: u32, device: &Device<'_>) -> Pulse {
    let memory = device.memory_info().ok();
    let reading = reading(device);
    Pulse {
        index,
        name: device.name().unwrap_or_default(),
        uuid: device.uuid().unwrap_or_default(),
        pci: device.pci_info().ok().map(|pci| address(pci.domain, pci.bus, pci.device)),
        busy_percent: device.utilization_rates().ok().map(|rates| rates.gpu),
        decoder_percent: reading.decoder_percent,
        memory_used: memory.as_ref().map(|memory| memory.used),
        memory_total: memory.map(|memory| memory.total),
        power_milliwatts: device.power_usage().ok(),
        reading,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_as_words() {
        assert_eq!(decoders("NVIDIA H100 80GB HBM3"), Some(7));
        assert_eq!(decoders("NVIDIA A100-SXM4-80GB"), Some(5));
        assert_eq!(decoders("NVIDIA L40S"), Some(3));
        assert_eq!(decoders("NVIDIA GeForce RTX 4090"), None);
    }

    #[test]
    fn a_machine_without_a_driver_says_so() {
        let Gpus::None { why } = read(Some("/nowhere/libnvidia-ml.so.1".into())) else { panic!("found a GPU") };
        assert!(why.contains("no NVIDIA driver"), "{why}");
    }

    #[test]
    fn switches_join_all_and_bridges_two() {
        let gpu = |index: u32| Gpu { index, pci: Some(address(0, index, 0)), ..Gpu::default() };
        let ends = |ends: &[(&str, u32)]| ends.iter().map(|(end, n)| ((*end).to_owned(), *n)).collect();
        let mut gpus = vec![
            (gpu(0), ends(&[("0000:01:00.0", 4), ("0000:99:00.0", 2)])),
            (gpu(1), ends(&[("0000:00:00.0", 4)])),
            (gpu(2), ends(&[("0000:99:00.0", 6)])),
        ];
        link(&mut gpus);
        let peers = |at: usize| gpus[at].0.nvlink.iter().map(|l| (l.gpu, l.links)).collect::<Vec<_>>();
        assert_eq!((peers(0), peers(1), peers(2)), (vec![(1, 4), (2, 2)], vec![(0, 4)], vec![(0, 2)]));
    }
}
