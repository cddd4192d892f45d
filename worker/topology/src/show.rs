//! Machine and plan as tables: headings and rows of text, for whoever lays them out.

use std::collections::BTreeMap;

use crate::{Card, CpuSet, Gpu, Gpus, LanePlan, Machine, Memory, health::Health};

/// A table, and what stands below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub title: &'static str,
    pub columns: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
    pub notes: Vec<String>,
}

fn gigabytes(bytes: u64) -> String {
    if bytes == 0 { "?".to_owned() } else { format!("{:.1} GB", bytes as f64 / 1e9) }
}

fn or_unknown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| value.to_string())
}

/// Nodes and GPUs.
#[must_use]
pub fn machine(machine: &Machine) -> Vec<Table> {
    vec![nodes(machine), gpus(machine)]
}

fn nodes(machine: &Machine) -> Table {
    let usable = machine.usable();
    let row = |id: String, cpus: &CpuSet, memory: u64| {
        vec![id, cpus.to_string(), cpus.intersection(&usable).to_string(), gigabytes(memory)]
    };
    let mut rows: Vec<_> =
        machine.nodes.iter().map(|node| row(node.id.to_string(), &node.cpus, node.memory_bytes)).collect();
    if rows.is_empty() {
        rows.push(row("none".to_owned(), &machine.cpus, machine.memory_bytes));
    }
    let limits = &machine.limits;
    let mut notes = Vec::new();
    if !machine.cpus.is_subset(&limits.cpus) {
        let (may, all) = (usable.len(), machine.cpus.len());
        notes.push(format!("this process may use {may} of {all} processors: {usable}"));
    }
    if let Some(quota) = limits.cpu_quota {
        notes.push(format!("its group may use {quota:.1} processors' worth of time"));
    }
    if let Some(bytes) = limits.memory_bytes {
        notes.push(format!("its group may use {} of memory", gigabytes(bytes)));
    }
    Table { title: "nodes", columns: vec!["node", "processors", "usable", "memory"], rows, notes }
}

fn gpus(machine: &Machine) -> Table {
    let columns =
        vec!["gpu", "name", "address", "node", "memory", "used", "compute", "decoders", "nvlink", "mig", "health"];
    let mut table = Table { title: "gpus", columns, ..Table::default() };
    match &machine.gpus {
        Gpus::None { why } => {
            table.notes.push(format!("no GPU: {why}"));
            let cards = machine.cards.iter().filter(|card| card.vendor == Card::NVIDIA);
            table.notes.extend(cards.map(|card| format!("but there is an NVIDIA card at {}", card.address)));
        }
        Gpus::Found { driver, cuda, gpus } => {
            table.rows = gpus.iter().map(gpu_row).collect();
            let (driver, cuda) = (or_unknown(driver.as_ref()), or_unknown(cuda.as_ref()));
            table.notes.push(format!("driver {driver}, CUDA up to {cuda}"));
            for gpu in gpus.iter().filter(|gpu| !gpu.untold.is_empty()) {
                let untold = gpu.untold.join(", ");
                table.notes.push(format!("gpu {}: this driver is too old to tell {untold}", gpu.index));
            }
        }
    }
    table
}

fn gpu_row(gpu: &Gpu) -> Vec<String> {
    // Peers by the number of links to each.
    let mut peers: BTreeMap<u32, CpuSet> = BTreeMap::new();
    gpu.nvlink.iter().for_each(|link| peers.entry(link.links).or_default().extend([link.gpu]));
    let links: Vec<_> = peers.iter().map(|(links, peers)| format!("{links} to {peers}")).collect();
    let mig = match (gpu.mig, gpu.slices.len()) {
        (false, _) => "off".to_owned(),
        (true, 1) => "1 slice".to_owned(),
        (true, slices) => format!("{slices} slices"),
    };
    vec![
        gpu.index.to_string(),
        gpu.name.clone(),
        or_unknown(gpu.pci.as_ref()),
        or_unknown(gpu.node),
        gigabytes(gpu.memory_bytes),
        if gpu.memory_bytes == 0 { "?".to_owned() } else { format!("{:.1} GB", gpu.memory_used_bytes as f64 / 1e9) },
        gpu.compute.map_or_else(|| "?".to_owned(), |(major, minor)| format!("{major}.{minor}")),
        or_unknown(gpu.decoder.engines),
        if links.is_empty() { "-".to_owned() } else { links.join(", ") },
        mig,
        Health::at_first_sight(&gpu.reading).to_string(),
    ]
}

/// The lanes, and what has none.
#[must_use]
pub fn lanes(plan: &LanePlan) -> Table {
    let row = |lane: &crate::Lane| {
        let devices: Vec<_> = lane.devices.iter().map(|device| device.gpu.to_string()).collect();
        let memory = match lane.memory {
            Memory::Anywhere => "anywhere".to_owned(),
            Memory::Prefer(node) => format!("preferably node {node}"),
            Memory::Bind(node) => format!("node {node}"),
        };
        vec![
            lane.index.to_string(),
            if devices.is_empty() { "-".to_owned() } else { devices.join("+") },
            lane.node.map_or_else(|| "-".to_owned(), |node| node.to_string()),
            lane.cores.to_string(),
            memory,
            lane.why.clone(),
        ]
    };
    let mut notes: Vec<_> = plan.left_out.iter().map(|out| format!("{} has no lane: {}", out.what, out.why)).collect();
    if !plan.supervisor.is_empty() {
        notes.push(format!("left to the supervisor: {}", plan.supervisor));
    }
    notes.extend(plan.notes.iter().cloned());
    let columns = vec!["lane", "gpu", "node", "processors", "memory", "why"];
    Table { title: "lanes", columns, rows: plan.lanes.iter().map(row).collect(), notes }
}
