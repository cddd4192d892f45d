//! NUMA nodes, processors and cards as the kernel's sysfs shows them.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Card, CpuSet, Machine, Node};

/// The machine without its limits and GPUs.
pub fn read(root: &Path) -> io::Result<Machine> {
    let sys = root.join("sys");
    let online = sys.join("devices/system/cpu/online");
    let cpus: CpuSet = fs::read_to_string(&online)?.parse().map_err(io::Error::other)?;
    let nodes = nodes(&sys.join("devices/system/node"));
    let cores = cores(&sys.join("devices/system/cpu"), &cpus);
    let memory_bytes = text(&root.join("proc/meminfo")).and_then(|info| kilobytes(&info, "MemTotal:")).unwrap_or(0);
    Ok(Machine { nodes, cpus, cores, memory_bytes, cards: cards(&sys.join("bus/pci/devices")), ..Machine::default() })
}

/// What a file says, if it is there and says something.
pub fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

pub fn list(path: &Path) -> CpuSet {
    text(path).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The folder's entries that are `prefix` and a number, by number.
fn numbered(folder: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let number = |name: &str| name.strip_prefix(prefix)?.parse().ok();
    let mut found: Vec<_> =
        entries.filter_map(|entry| Some((number(entry.file_name().to_str()?)?, entry.path()))).collect();
    found.sort();
    found
}

fn nodes(folder: &Path) -> Vec<Node> {
    let node = |(id, path): (u32, PathBuf)| {
        let memory = text(&path.join("meminfo")).and_then(|info| kilobytes(&info, "MemTotal:"));
        let distances = text(&path.join("distance")).unwrap_or_default();
        let distances = distances.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        Node { id, cpus: list(&path.join("cpulist")), memory_bytes: memory.unwrap_or(0), distances }
    };
    numbered(folder, "node").into_iter().map(node).collect()
}

/// Hardware threads that share a core; a processor whose siblings are not told is a core of its own.
fn cores(folder: &Path, cpus: &CpuSet) -> Vec<CpuSet> {
    let mut told = BTreeSet::new();
    let mut cores = Vec::new();
    for cpu in cpus.iter() {
        if told.contains(&cpu) {
            continue;
        }
        let mut core = list(&folder.join(format!("cpu{cpu}/topology/thread_siblings_list"))).intersection(cpus);
        core.extend([cpu]);
        told.extend(core.iter());
        cores.push(core);
    }
    cores
}

fn cards(folder: &Path) -> Vec<Card> {
    let mut addresses: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    addresses.sort();
    addresses.iter().filter_map(|address| card(&folder.join(address), address.to_str()?)).collect()
}

fn card(path: &Path, address: &str) -> Option<Card> {
    let hex = |name: &str| {
        let text = text(&path.join(name))?;
        u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    let class = hex("class")?;
    if !matches!(class >> 8, 0x0300 | 0x0302) {
        return None;
    }
    let id = |name| hex(name).and_then(|id| u16::try_from(id).ok()).unwrap_or(0);
    // The kernel says -1 where it does not know.
    let node = text(&path.join("numa_node")).and_then(|node| node.parse().ok());
    let (vendor, device, cpus) = (id("vendor"), id("device"), list(&path.join("local_cpulist")));
    Some(Card { address: address.to_lowercase(), vendor, device, class, node, cpus })
}

/// `name … 123 kB` as bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(name))?;
    line.split_once(name)?.1.split_whitespace().next()?.parse::<u64>().ok().map(|kb| kb * 1024)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Writes files (`path = text` each) below a new root.
    pub fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn nodes_cores_and_cards_are_read_as_recorded() {
        const CPU: &str = "sys/devices/system/cpu";
        const NODE: &str = "sys/devices/system/node";
        const PCI: &str = "sys/bus/pci/devices";
        let siblings = |cpu: u32| {
            (format!("{CPU}/cpu{cpu}/topology/thread_siblings_list"), format!("{},{}", cpu % 4, cpu % 4 + 4))
        };
        let siblings: Vec<_> = (0..8).map(siblings).collect();
        let mut files: Vec<(&str, &str)> = siblings.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        let online = format!("{CPU}/online");
        let entries = [
            (format!("{NODE}/node0/cpulist"), "0-1,4-5\n"),
            (format!("{NODE}/node0/meminfo"), "Node 0 MemTotal:       1000 kB\nNode 0 MemFree: 5 kB\n"),
            (format!("{NODE}/node0/distance"), "10 21\n"),
            (format!("{NODE}/node10/cpulist"), "2-3,6-7\n"),
            (format!("{NODE}/possible"), "0-1\n"),
            (format!("{PCI}/0000:1B:00.0/class"), "0x030200\n"),
            (format!("{PCI}/0000:1B:00.0/vendor"), "0x10de\n"),
            (format!("{PCI}/0000:1B:00.0/device"), "0x2330\n"),
            (format!("{PCI}/0000:1B:00.0/numa_node"), "10\n"),
            (format!("{PCI}/0000:1B:00.0/local_cpulist"), "2-3,6-7\n"),
            (format!("{PCI}/0000:00:02.0/class"), "0x030000\n"),
            (format!("{PCI}/0000:00:02.0/numa_node"), "-1\n"),
            (format!("{PCI}/0000:00:03.0/class"), "0x010802\n"),
        ];
        files.extend(entries.iter().map(|(path, text)| (path.as_str(), *text)));
        files.push((&online, "0-7\n"));
        files.push(("proc/meminfo", "MemTotal:       2000 kB\n"));
        let machine = read(tree(&files).path()).unwrap();
        assert_eq!(machine.nodes.iter().map(|node| node.id).collect::<Vec<_>>(), [0, 10]);
        assert_eq!((machine.nodes[0].memory_bytes, &machine.nodes[0].distances[..]), (1_024_000, &[10, 21][..]));
        assert_eq!(machine.cores.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0,4", "1,5", "2,6", "3,7"]);
        assert_eq!(machine.memory_bytes, 2_048_000);
        let cards: Vec<_> = machine.cards.iter().map(|card| (card.address.as_str(), card.class, card.node)).collect();
        assert_eq!(cards, [("0000:00:02.0", 0x03_0000, None), ("0000:1b:00.0", 0x03_0200, Some(10))]);
    }

    #[test]
    fn a_kernel_without_numa_has_no_nodes_and_a_tree_without_processors_is_none() {
        let machine = read(tree(&[("sys/devices/system/cpu/online", "0-1")]).path()).unwrap();
        assert!(machine.nodes.is_empty() && machine.cards.is_empty());
        assert_eq!(machine.cores.len(), 2);
        assert!(read(tree(&[]).path()).is_err());
    }
}
