//! What a machine is, as far as lanes care. Read by the edges, decided upon by the plan, shown by `fulltime topology`.

use std::{collections::BTreeMap, ffi::OsString, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{CpuSet, NVML, health, limits, nvml, sysfs};

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// By number. Empty where the kernel knows no NUMA.
    pub nodes: Vec<Node>,
    /// Logical processors that are online.
    pub cpus: CpuSet,
    /// Logical processors that are one core, a set each, in the order of their first.
    pub cores: Vec<CpuSet>,
    pub memory_bytes: u64,
    pub limits: Limits,
    /// Display and 3D controllers on the PCI bus, whatever driver they have.
    pub cards: Vec<Card>,
    pub gpus: Gpus,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub id: u32,
    pub cpus: CpuSet,
    pub memory_bytes: u64,
    /// To every node in order; 10 is near.
    pub distances: Vec<u32>,
}

/// What of the machine this process may use: affinity, cpusets and cgroups taken together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub cpus: CpuSet,
    /// Numbers of the NUMA nodes whose memory may be taken.
    pub nodes: CpuSet,
    pub memory_bytes: Option<u64>,
    /// Processors' worth of time, if that is limited.
    pub cpu_quota: Option<f64>,
    /// Version of the cgroups that were found.
    pub cgroup: Option<u8>,
}

/// A device of PCI class 0x0300 (VGA) or 0x0302 (3D controller, as are GPUs without an output).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// `0000:1b:00.0`, in lower case.
    pub address: String,
    pub vendor: u16,
    pub device: u16,
    pub class: u32,
    /// `None` where the firmware does not say.
    pub node: Option<u32>,
    pub cpus: CpuSet,
}

impl Card {
    pub const NVIDIA: u16 = 0x10de;
}

/// What NVML knows, or why it knows nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gpus {
    Found { driver: Option<String>, cuda: Option<String>, gpus: Vec<Gpu> },
    None { why: String },
}

impl Default for Gpus {
    fn default() -> Self {
        Self::None { why: "nobody looked".to_owned() }
    }
}

impl Gpus {
    #[must_use]
    pub fn list(&self) -> &[Gpu] {
        match self {
            Self::Found { gpus, .. } => gpus,
            Self::None { .. } => &[],
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// NVML's number, in the order of the bus. CUDA counts in another order unless it is told otherwise: name by uuid.
    pub index: u32,
    pub name: String,
    pub uuid: String,
    /// As in [`Card::address`].
    pub pci: Option<String>,
    /// By sysfs; else the only node that has all of `cpus`.
    pub node: Option<u32>,
    /// Processors near it.
    pub cpus: CpuSet,
    pub memory_bytes: u64,
    pub memory_used_bytes: u64,
    pub compute: Option<(u32, u32)>,
    pub mig: bool,
    /// Only with MIG.
    pub slices: Vec<Slice>,
    /// By peer.
    pub nvlink: Vec<Link>,
    pub decoder: Decoder,
    pub reading: health::Reading,
    /// What the library could not tell, by function: an old driver, or a feature that the device lacks.
    pub untold: Vec<String>,
}

/// A MIG device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    pub uuid: String,
    pub name: String,
    pub memory_bytes: u64,
    pub decoders: Option<u32>,
}

/// NVLinks to one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The peer's [`Gpu::index`].
    pub gpu: u32,
    pub links: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoder {
    /// NVDEC engines.
    pub engines: Option<u32>,
    pub busy_percent: Option<u32>,
}

impl Machine {
    /// Reads this machine; the library is `$FULLTIME_NVML` or the driver's own.
    ///
    /// # Errors
    /// No `/sys` or `/proc`.
    pub fn here() -> io::Result<Self> {
        Self::read(Path::new("/"), std::env::var_os(NVML))
    }

    /// Reads `sys` and `proc` below `root`, which may be a recorded tree, and asks this NVML library.
    ///
    /// # Errors
    /// The processors that are online cannot be read.
    pub fn read(root: &Path, library: Option<OsString>) -> io::Result<Self> {
        let mut machine = sysfs::read(root)?;
        machine.limits = limits::read(root, &machine.cpus);
        if machine.limits.nodes.is_empty() {
            machine.limits.nodes = machine.nodes.iter().map(|node| node.id).collect();
        }
        machine.gpus = nvml::read(library);
        machine.locate();
        Ok(machine)
    }

    /// Joins what NVML and sysfs know about where a GPU is.
    fn locate(&mut self) {
        let Gpus::Found { gpus, .. } = &mut self.gpus else { return };
        let cards: BTreeMap<_, _> = self.cards.iter().map(|card| (card.address.as_str(), card)).collect();
        for gpu in gpus {
            let card = gpu.pci.as_deref().and_then(|pci| cards.get(pci));
            if let Some(card) = card.filter(|card| !card.cpus.is_empty()) {
                gpu.cpus.clone_from(&card.cpus);
            }
            let near = &gpu.cpus;
            let mut having = self.nodes.iter().filter(|node| !near.is_empty() && near.is_subset(&node.cpus));
            let only = having.next().filter(|_| having.next().is_none()).map(|node| node.id);
            gpu.node = card.and_then(|card| card.node).or(only);
        }
    }

    /// Processors that this process may use and that are there.
    #[must_use]
    pub fn usable(&self) -> CpuSet {
        self.limits.cpus.intersection(&self.cpus)
    }

    /// How many threads can run at once: processors, or less where their time is limited.
    #[must_use]
    pub fn parallelism(&self) -> usize {
        let usable = self.usable().len().max(1);
        self.limits.cpu_quota.map_or(usable, |quota| usable.min(quota.ceil().max(1.0) as usize))
    }

    #[must_use]
    pub fn node(&self, id: u32) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(card: Option<Card>, near: &str) -> Machine {
        let node = |id, cpus: &str| Node { id, cpus: cpus.parse().unwrap(), ..Node::default() };
        let gpu = Gpu { pci: Some("0000:1b:00.0".into()), cpus: near.parse().unwrap(), ..Gpu::default() };
        Machine {
            nodes: vec![node(0, "0-3"), node(1, "4-7")],
            cards: card.into_iter().collect(),
            gpus: Gpus::Found { driver: None, cuda: None, gpus: vec![gpu] },
            ..Machine::default()
        }
    }

    #[test]
    fn a_gpus_node_is_the_firmwares_or_follows_from_its_processors() {
        let located = |mut machine: Machine| {
            machine.locate();
            machine.gpus.list()[0].node
        };
        let card = |node| Card { address: "0000:1b:00.0".into(), node, ..Card::default() };
        assert_eq!(located(machine(Some(card(Some(1))), "0-3")), Some(1));
        assert_eq!(located(machine(Some(card(None)), "4-7")), Some(1));
        assert_eq!(located(machine(None, "4-5")), Some(1));
        assert_eq!(located(machine(None, "3-4")), None, "on both nodes");
        assert_eq!(located(machine(None, "")), None);
    }
}
