//! Which lanes a worker runs, and where: a pure function of the machine and of what was asked for. Every decision carries a
//! sentence that says why, since nobody can guess a plan of 8 GPUs and 128 processors back from its numbers.
//!
//! Every healthy GPU (or MIG slice) that was asked for is a lane, or part of one where a lane takes several. A lane's cores
//! are its GPU's node's, disjoint from those of other lanes, whole cores where there are enough. Without GPUs there are CPU
//! lanes, spread over the nodes by their cores.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    CpuSet, Gpu, Gpus, Machine, Place,
    health::{Health, Verdict},
    pin::Unpinned,
};

/// Below so much memory a lane on its node, the node is only preferred: a lane must not die of its place.
const ROOMY: u64 = 4 << 30;
/// A core in so many is left to the supervisor.
const SHARE: usize = 16;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// How many lanes; else one a GPU, or one for every thread that can run at once.
    pub lanes: Option<usize>,
    pub gpus: Choice,
    /// GPUs that one lane splits a model over.
    pub gpus_a_lane: usize,
    pub pin: bool,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { lanes: None, gpus: Choice::All, gpus_a_lane: 1, pin: true }
    }
}

/// Which GPUs may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// All there are; without any, the processors.
    All,
    None,
    /// By number, uuid (of a GPU or a MIG device) or PCI address.
    These(Vec<String>),
}

impl std::str::FromStr for Choice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.trim() {
            "all" => Self::All,
            "none" | "" => Self::None,
            list => Self::These(list.split(',').map(|name| name.trim().to_owned()).collect()),
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::These(list) => f.write_str(&list.join(",")),
        }
    }
}

/// Where a lane's memory comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    #[default]
    Anywhere,
    /// This node's while it has any.
    Prefer(u32),
    /// This node's, or none.
    Bind(u32),
}

impl Memory {
    #[must_use]
    pub fn node(self) -> Option<u32> {
        match self {
            Self::Anywhere => None,
            Self::Prefer(node) | Self::Bind(node) => Some(node),
        }
    }
}

/// A GPU or MIG slice of a lane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Of the GPU, for people.
    pub gpu: u32,
    pub name: String,
    /// What CUDA is told to use.
    pub uuid: String,
    pub memory_bytes: u64,
    /// Of a slice: the whole GPU's uuid, which faults are reported for.
    pub parent: String,
    pub health: Verdict,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lane {
    pub index: usize,
    /// None: a CPU lane.
    pub devices: Vec<Device>,
    /// `None` where the machine has no nodes, or the GPU's is unknown.
    pub node: Option<u32>,
    pub cores: CpuSet,
    pub memory: Memory,
    /// Whether it is to be bound to those; see [`LanePlan::unpinned`].
    pub pinned: bool,
    pub why: String,
}

impl Lane {
    /// What its process is to bind itself to.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.pinned.then(|| Place { cores: self.cores.clone(), memory: self.memory })
    }
}

/// A GPU without a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub what: String,
    pub why: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LanePlan {
    pub lanes: Vec<Lane>,
    pub left_out: Vec<LeftOut>,
    /// Cores that no lane has.
    pub supervisor: CpuSet,
    /// Why no lane is bound to its place.
    pub unpinned: Option<Unpinned>,
    pub notes: Vec<String>,
}

/// See the module.
#[must_use]
pub fn plan(machine: &Machine, wishes: &Wishes) -> LanePlan {
    let mut plan = LanePlan { unpinned: unpinned(machine, wishes), ..LanePlan::default() };
    let mut drafts = match units(machine, wishes, &mut plan.left_out) {
        Some(units) => gpu_lanes(units, wishes, &mut plan.left_out),
        None => cpu_lanes(machine, wishes),
    };
    let shares = share_out(machine, &mut drafts, &mut plan);
    let pinned = plan.unpinned.is_none();
    plan.lanes = drafts
        .into_iter()
        .zip(shares)
        .enumerate()
        .map(|(index, (draft, share))| {
            let node = if pinned { share.node } else { draft.node };
            let memory = if pinned { memory(machine, &draft, share.node, share.lanes) } else { Memory::Anywhere };
            let why = draft.why.into_iter().chain(share.why).collect::<Vec<_>>().join("; ");
            Lane { index, devices: draft.devices, node, cores: share.cores, memory, pinned, why }
        })
        .collect();
    if let Some(quota) = machine.limits.cpu_quota.filter(|quota| *quota < plan.lanes.len() as f64) {
        let lanes = plan.lanes.len();
        plan.notes
            .push(format!("{lanes} lanes share {quota:.1} processors' worth of time: that is this group's limit"));
    }
    plan
}

fn unpinned(machine: &Machine, wishes: &Wishes) -> Option<Unpinned> {
    let having = machine.nodes.iter().filter(|node| !node.cpus.is_empty()).count();
    match having {
        _ if !wishes.pin => Some(Unpinned::Off),
        0 => Some(Unpinned::NoNuma),
        1 => Some(Unpinned::OneNode),
        _ => None,
    }
}

/// A lane before it has cores.
#[derive(Debug, Default)]
struct Draft {
    devices: Vec<Device>,
    node: Option<u32>,
    why: Vec<String>,
}

/// What one lane runs on: a GPU, a slice, or several GPUs. `None`: there is no GPU, or none is wanted.
fn units(machine: &Machine, wishes: &Wishes, left_out: &mut Vec<LeftOut>) -> Option<Vec<Draft>> {
    let gpus = match (&wishes.gpus, &machine.gpus) {
        (Choice::None, _) | (Choice::All, Gpus::None { .. }) => return None,
        (Choice::These(_), Gpus::None { why }) => {
            left_out.push(LeftOut { what: format!("GPUs {}", wishes.gpus), why: why.clone() });
            return Some(Vec::new());
        }
        (_, Gpus::Found { gpus, .. }) => gpus,
    };
    let mut out = |what: String, why: &str| left_out.push(LeftOut { what, why: why.to_owned() });
    for name in unknown(&wishes.gpus, gpus) {
        out(format!("GPU {name}"), "there is no such GPU");
    }
    let span = wishes.gpus_a_lane.max(1);
    let (mut units, mut whole) = (Vec::new(), Vec::new());
    for gpu in gpus {
        let (what, health) = (format!("GPU {} ({})", gpu.index, gpu.name), Health::at_first_sight(&gpu.reading));
        let slices: Vec<_> = gpu.slices.iter().filter(|slice| chosen(&wishes.gpus, gpu, Some(&slice.uuid))).collect();
        if slices.is_empty() && !chosen(&wishes.gpus, gpu, None) {
            out(what, "it was not asked for");
        } else if !health.state.works() {
            out(what, &health.to_string());
        } else if !gpu.mig {
            whole.push((gpu, health));
        } else if slices.is_empty() {
            out(what, "MIG is switched on, but it has no instance that may be used");
        } else if span > 1 {
            out(what, "MIG slices cannot work together in one lane");
        } else {
            units.extend(slices.into_iter().map(|slice| {
                let why = format!("{} is a MIG slice of GPU {}", slice.name, gpu.index);
                let device = Device {
                    gpu: gpu.index,
                    name: slice.name.clone(),
                    uuid: slice.uuid.clone(),
                    memory_bytes: slice.memory_bytes,
                    parent: gpu.uuid.clone(),
                    health: health.clone(),
                };
                Draft { devices: vec![device], node: gpu.node, why: vec![why] }
            }));
        }
    }
    units.extend(groups(whole, span, left_out));
    units.sort_by_key(|unit| unit.devices.first().map(|device| device.gpu));
    Some(units)
}

/// Whether one of the chosen names is this GPU's, or this slice's.
fn chosen(choice: &Choice, gpu: &Gpu, slice: Option<&str>) -> bool {
    match choice {
        Choice::All => true,
        Choice::None => false,
        Choice::These(names) => names.iter().any(|name| is_called(gpu, slice, name)),
    }
}

fn is_called(gpu: &Gpu, slice: Option<&str>, name: &str) -> bool {
    name == gpu.uuid || slice == Some(name) || gpu.pci.as_deref() == Some(name) || name.parse() == Ok(gpu.index)
}

fn unknown(choice: &Choice, gpus: &[Gpu]) -> Vec<String> {
    let Choice::These(names) = choice else { return Vec::new() };
    let known = |name: &String| {
        let of = |gpu: &Gpu| is_called(gpu, None, name) || gpu.slices.iter().any(|slice| slice.uuid == *name);
        gpus.iter().any(of)
    };
    names.iter().filter(|name| !known(name)).cloned().collect()
}

/// Whole GPUs in groups of `span`: first those that NVLinks join, then those of one node.
fn groups(mut gpus: Vec<(&Gpu, Verdict)>, span: usize, left_out: &mut Vec<LeftOut>) -> Vec<Draft> {
    let links = |a: &Gpu, b: &Gpu| a.nvlink.iter().find(|link| link.gpu == b.index).map_or(0, |link| link.links);
    let mut groups = Vec::new();
    while gpus.len() >= span {
        let mut group = vec![gpus.remove(0)];
        while group.len() < span {
            // Of equals the first on the bus.
            let near = |(at, (gpu, _)): &(usize, &(&Gpu, Verdict))| {
                let joined: u32 = group.iter().map(|(member, _)| links(member, gpu)).sum();
                let beside = gpu.node.is_some() && gpu.node == group[0].0.node;
                (joined, beside, std::cmp::Reverse(*at))
            };
            let Some((at, _)) = gpus.iter().enumerate().max_by_key(near) else { break };
            group.push(gpus.remove(at));
        }
        groups.push(draft(group, links));
    }
    for (gpu, _) in gpus {
        let what = format!("GPU {} ({})", gpu.index, gpu.name);
        left_out.push(LeftOut { what, why: format!("a lane takes {span} GPUs, and this one is over") });
    }
    groups
}

fn draft(group: Vec<(&Gpu, Verdict)>, links: impl Fn(&Gpu, &Gpu) -> u32) -> Draft {
    let first = group[0].0;
    let mut why = Vec::new();
    if group.len() > 1 {
        let joined = group[1..].iter().all(|(gpu, _)| links(first, gpu) > 0);
        let beside = first.node.is_some() && group.iter().all(|(gpu, _)| gpu.node == first.node);
        why.push(match (joined, beside) {
            (true, _) => "its GPUs are joined by NVLink".to_owned(),
            (false, true) => "its GPUs are on one node, without NVLink".to_owned(),
            (false, false) => "its GPUs are on different nodes, without NVLink: slow".to_owned(),
        });
    }
    for (gpu, health) in group.iter().filter(|(_, health)| health.reason.is_some()) {
        why.push(format!("GPU {} is {health}", gpu.index));
    }
    let device = |(gpu, health): (&Gpu, Verdict)| Device {
        gpu: gpu.index,
        name: gpu.name.clone(),
        uuid: if gpu.uuid.is_empty() { gpu.index.to_string() } else { gpu.uuid.clone() },
        memory_bytes: gpu.memory_bytes,
        parent: gpu.uuid.clone(),
        health,
    };
    let node = first.node;
    Draft { devices: group.into_iter().map(device).collect(), node, why }
}

/// One lane a unit, or as many as were asked for: fewer take units of different nodes in turn, more share them.
fn gpu_lanes(units: Vec<Draft>, wishes: &Wishes, left_out: &mut Vec<LeftOut>) -> Vec<Draft> {
    let lanes = if units.is_empty() { 0 } else { wishes.lanes.unwrap_or(units.len()) };
    if lanes < units.len() {
        let mut rank: BTreeMap<Option<u32>, usize> = BTreeMap::new();
        let mut ranked: Vec<_> = units
            .into_iter()
            .map(|unit| {
                let rank = rank.entry(unit.node).or_default();
                *rank += 1;
                (*rank, unit)
            })
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let mut kept: Vec<_> = ranked.into_iter().map(|(_, unit)| unit).collect();
        for unit in kept.split_off(lanes) {
            let device = unit.devices.first().map(|d| format!("GPU {} ({})", d.gpu, d.name)).unwrap_or_default();
            left_out.push(LeftOut { what: device, why: format!("only {lanes} lanes were asked for") });
        }
        kept.sort_by_key(|unit| unit.devices.first().map(|device| device.gpu));
        return kept;
    }
    let shared = lanes > units.len();
    let lane = |n: usize| {
        let unit = &units[n % units.len()];
        let mut why = unit.why.clone();
        if shared {
            why.push(format!("{lanes} lanes were asked for, and share {} GPUs", units.len()));
        }
        Draft { devices: unit.devices.clone(), node: unit.node, why }
    };
    let mut drafts: Vec<_> = (0..lanes).map(lane).collect();
    drafts.sort_by_key(|draft| draft.devices.first().map(|device| device.gpu));
    drafts
}

/// Every next lane goes to the node that then has the most cores a lane.
fn cpu_lanes(machine: &Machine, wishes: &Wishes) -> Vec<Draft> {
    let usable = machine.usable();
    let (lanes, why) = match wishes.lanes {
        Some(lanes) => (lanes, "as many lanes as were asked for"),
        None => (machine.parallelism(), "a lane for every thread that can run at once"),
    };
    let cores: Vec<_> = machine.nodes.iter().map(|node| (node.id, node.cpus.intersection(&usable).len())).collect();
    let mut taken: BTreeMap<u32, usize> = BTreeMap::new();
    let lane = |_| {
        let best = cores.iter().filter(|(_, cores)| *cores > 0).min_by(|(a, of_a), (b, of_b)| {
            let next = |node| taken.get(node).copied().unwrap_or(0) + 1;
            // Cores a lane, without dividing.
            (next(a) * of_b).cmp(&(next(b) * of_a)).then(a.cmp(b))
        });
        let node = best.map(|(id, _)| *id);
        if let Some(node) = node {
            *taken.entry(node).or_default() += 1;
        }
        Draft { node, why: vec![why.to_owned()], ..Draft::default() }
    };
    let mut drafts: Vec<_> = (0..lanes).map(lane).collect();
    drafts.sort_by_key(|draft| draft.node);
    drafts
}

/// A lane's part of its node.
#[derive(Debug, Default)]
struct Share {
    node: Option<u32>,
    cores: CpuSet,
    /// Lanes of that node.
    lanes: usize,
    why: Option<String>,
}

/// Splits every node's usable cores over its lanes. In the order of the drafts.
fn share_out(machine: &Machine, drafts: &mut [Draft], plan: &mut LanePlan) -> Vec<Share> {
    let usable = machine.usable();
    if let Some(unpinned) = &plan.unpinned {
        let share = |_| Share { cores: usable.clone(), why: Some(unpinned.to_string()), ..Share::default() };
        return drafts.iter().map(share).collect();
    }
    let mut free: BTreeMap<u32, Vec<CpuSet>> =
        machine.nodes.iter().map(|node| (node.id, cores_of(machine, &node.cpus.intersection(&usable)))).collect();
    free.retain(|_, cores| !cores.is_empty());
    if free.is_empty() {
        // A cpuset of processors that no node has: the kernel knows better.
        return drafts.iter().map(|_| Share { cores: usable.clone(), ..Share::default() }).collect();
    }

    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, draft) in drafts.iter_mut().enumerate() {
        let node = match draft.node {
            Some(node) if free.contains_key(&node) => node,
            Some(node) => {
                let near = nearest(machine, node, free.keys().copied());
                draft.why.push(format!("this process may use no core of node {node}, so node {near} has its threads"));
                near
            }
            None => {
                let roomy = free.iter().max_by_key(|(id, cores)| {
                    let lanes = members.get(id).map_or(0, Vec::len);
                    (cores.len() * 1000 / (lanes + 1), std::cmp::Reverse(**id))
                });
                draft.why.push("nobody tells which node its GPU is on".to_owned());
                roomy.map_or(0, |(id, _)| *id)
            }
        };
        members.entry(node).or_default().push(at);
    }
    plan.supervisor = reserve(&mut free, &members);

    let mut shares: Vec<Share> = drafts.iter().map(|_| Share::default()).collect();
    for (node, lanes) in members {
        let (parts, shared) = split(&free[&node], lanes.len());
        for (at, cores) in lanes.iter().zip(parts) {
            let mut why = format!("{} of node {node}", count(cores.len(), "processor"));
            if shared {
                why.push_str(&format!(", shared by its {} lanes: it has fewer", lanes.len()));
            }
            shares[*at] = Share { node: Some(node), cores, lanes: lanes.len(), why: Some(why) };
        }
    }
    shares
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Whole cores of these processors.
fn cores_of(machine: &Machine, cpus: &CpuSet) -> Vec<CpuSet> {
    let told: Vec<_> =
        machine.cores.iter().map(|core| core.intersection(cpus)).filter(|core| !core.is_empty()).collect();
    let known: CpuSet = told.iter().flat_map(CpuSet::iter).collect();
    let alone = cpus.difference(&known);
    told.into_iter().chain(alone.iter().map(|cpu| CpuSet::from_iter([cpu]))).collect()
}

fn nearest(machine: &Machine, node: u32, among: impl Iterator<Item = u32>) -> u32 {
    let distances = machine.node(node).map(|node| node.distances.clone()).unwrap_or_default();
    let place = |id: u32| machine.nodes.iter().position(|node| node.id == id);
    let distance = |id: &u32| place(*id).and_then(|at| distances.get(at)).copied().unwrap_or(u32::MAX);
    among.min_by_key(|id| (distance(id), *id)).unwrap_or(node)
}

/// A core in sixteen, at least one, from wherever lanes have the most; none where every core is a lane's only one.
fn reserve(free: &mut BTreeMap<u32, Vec<CpuSet>>, members: &BTreeMap<u32, Vec<usize>>) -> CpuSet {
    let lanes = |node: &u32| members.get(node).map_or(0, Vec::len);
    let total: usize = free.values().map(Vec::len).sum();
    let mut reserved = CpuSet::default();
    for _ in 0..(total / SHARE).max(1) {
        let spare = |(node, cores): &(&u32, &mut Vec<CpuSet>)| {
            let left = cores.len().saturating_sub(1);
            left > 0 && left >= 2 * lanes(node)
        };
        let most = free
            .iter_mut()
            .filter(spare)
            .max_by_key(|(node, cores)| (cores.len() * 1000 / (lanes(node) + 1), std::cmp::Reverse(**node)));
        let Some((_, cores)) = most else { break };
        // The first one: that is where the kernel itself does most.
        reserved.extend(cores.remove(0).iter());
    }
    reserved
}

/// Parts that differ by one core at most; whole cores if there are enough, else processors, else all have all.
fn split(cores: &[CpuSet], lanes: usize) -> (Vec<CpuSet>, bool) {
    let all: CpuSet = cores.iter().flat_map(CpuSet::iter).collect();
    if all.len() < lanes {
        return (vec![all; lanes], true);
    }
    let single: Vec<_>;
    let pieces = if cores.len() >= lanes {
        cores
    } else {
        single = all.iter().map(|cpu| CpuSet::from_iter([cpu])).collect::<Vec<_>>();
        &single
    };
    let bound = |n: usize| n * pieces.len() / lanes;
    let part = |n: usize| pieces[bound(n)..bound(n + 1)].iter().flat_map(CpuSet::iter).collect();
    ((0..lanes).map(part).collect(), false)
}

/// GPU lanes must have their staging buffers near the GPU; CPU lanes had better.
fn memory(machine: &Machine, draft: &Draft, of_cores: Option<u32>, lanes: usize) -> Memory {
    let has =
        |id: &u32| machine.limits.nodes.contains(*id) && machine.node(*id).is_some_and(|node| node.memory_bytes > 0);
    let node = draft.node.filter(has).or(of_cores.filter(has));
    let Some(node) = node else { return Memory::Anywhere };
    let room = machine.node(node).map_or(0, |node| node.memory_bytes / lanes.max(1) as u64);
    if !draft.devices.is_empty() && room >= ROOMY { Memory::Bind(node) } else { Memory::Prefer(node) }
}

#[cfg(test)]
mod tests;
