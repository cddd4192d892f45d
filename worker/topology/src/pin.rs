//! A lane binds itself to its place: first the processors, then the memory, and then asks the kernel what has come of it.
//! To be called on a process's only thread, before anything else is built: threads inherit both.
//!
//! Containers may refuse any of it (Docker's default profile forbids memory policies); nothing here fails, it only says so.

use std::{fmt, io, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{CpuSet, Memory};

/// Processors and nodes that the kernel's masks have room for.
const MOST: usize = 8192;
const WORDS: usize = MOST / 64;

/// Where a lane belongs. As text: `8-15,24-31@bind:1`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub cores: CpuSet,
    pub memory: Memory,
}

/// What has come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pinned {
    /// As the kernel says it now is. `refused`: of the memory policy; without one, memory comes from the node of whoever
    /// touches it first, which is the same unless that node is full.
    Pinned {
        place: Place,
        refused: Option<String>,
    },
    None {
        why: Unpinned,
    },
}

/// Why a lane is not bound to a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unpinned {
    Off,
    NoNuma,
    OneNode,
    /// In the kernel's words.
    Refused(String),
}

impl fmt::Display for Unpinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("pinning is switched off"),
            Self::NoNuma => f.write_str("not pinned: the kernel knows no NUMA nodes"),
            Self::OneNode => f.write_str("not pinned: the machine has one node"),
            Self::Refused(words) => write!(f, "not pinned: {words}"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cores)?;
        match self.memory {
            Memory::Anywhere => Ok(()),
            Memory::Prefer(node) => write!(f, "@prefer:{node}"),
            Memory::Bind(node) => write!(f, "@bind:{node}"),
        }
    }
}

/// A text that is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place such as 8-15@bind:1")]
pub struct NoPlace(String);

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let no_place = || NoPlace(text.to_owned());
        let (cores, memory) = text.split_once('@').map_or((text, None), |(cores, memory)| (cores, Some(memory)));
        let memory = match memory.map(|memory| memory.split_once(':').ok_or_else(no_place)).transpose()? {
            None => Memory::Anywhere,
            Some(("prefer", node)) => Memory::Prefer(node.parse().map_err(|_| no_place())?),
            Some(("bind", node)) => Memory::Bind(node.parse().map_err(|_| no_place())?),
            Some(_) => return Err(no_place()),
        };
        let cores: CpuSet = cores.parse().map_err(|_| no_place())?;
        if cores.is_empty() { Err(no_place()) } else { Ok(Self { cores, memory }) }
    }
}

impl fmt::Display for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned { place, refused: None } => write!(f, "pinned to {place}"),
            Self::Pinned { place, refused: Some(words) } => write!(f, "pinned to {place}, but {words}"),
            Self::None { why } => write!(f, "{why}"),
        }
    }
}

/// Binds this thread, and all that it will start, to the place.
#[must_use]
pub fn pin(place: &Place) -> Pinned {
    let refused = |call: &str, error: &io::Error| format!("{call} was refused: {error}");
    if let Err(error) = set_affinity(&place.cores) {
        return Pinned::None { why: Unpinned::Refused(refused("sched_setaffinity", &error)) };
    }
    let cores = match affinity() {
        Ok(cores) if cores.is_subset(&place.cores) => cores,
        Ok(cores) => {
            return Pinned::None { why: Unpinned::Refused(format!("the kernel made {cores} of {}", place.cores)) };
        }
        Err(error) => return Pinned::None { why: Unpinned::Refused(refused("sched_getaffinity", &error)) },
    };
    let (memory, refused) = match set_policy(place.memory) {
        Err(error) => (Memory::Anywhere, Some(refused("set_mempolicy", &error))),
        Ok(()) => match policy() {
            Err(error) => (Memory::Anywhere, Some(refused("get_mempolicy", &error))),
            Ok(memory) if memory == place.memory => (memory, None),
            Ok(memory) => (memory, Some("the kernel made another memory policy of it".to_owned())),
        },
    };
    Pinned::Pinned { place: Place { cores, memory }, refused }
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn set_affinity(cpus: &CpuSet) -> io::Result<()> {
    let words = cpus.words();
    // SAFETY: the kernel reads the mask, whose length is given in bytes; 0 is the calling thread.
    checked(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, words.len() * 8, words.as_ptr()) }).map(drop)
}

/// Processors that this thread may run on.
///
/// # Errors
/// The kernel does not tell.
pub fn affinity() -> io::Result<CpuSet> {
    let mut words = [0_u64; WORDS];
    // SAFETY: the kernel writes at most the length given, in bytes.
    let bytes = checked(unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, 0, std::mem::size_of_val(&words), words.as_mut_ptr())
    })?;
    Ok(CpuSet::from_words(&words[..(bytes as usize).div_ceil(8)]))
}

/// See set_mempolicy(2).
mod mode {
    pub const DEFAULT: i32 = 0;
    pub const PREFERRED: i32 = 1;
    pub const BIND: i32 = 2;
}

fn set_policy(memory: Memory) -> io::Result<()> {
    let mode = match memory {
        Memory::Anywhere => mode::DEFAULT,
        Memory::Prefer(_) => mode::PREFERRED,
        Memory::Bind(_) => mode::BIND,
    };
    let nodes: CpuSet = memory.node().into_iter().collect();
    let words = nodes.words();
    // The kernel takes one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { words.len() * 64 + 1 };
    // SAFETY: the kernel reads as many bits of the mask.
    checked(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, words.as_ptr(), bits) }).map(drop)
}

/// Where this thread's memory comes from.
///
/// # Errors
/// The kernel does not tell, or it is a policy of somebody else's.
pub fn policy() -> io::Result<Memory> {
    let (mut words, mut mode) = ([0_u64; WORDS], 0_i32);
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: the kernel writes a mode and as many bits of a mask; without flags it looks at no address.
    checked(unsafe {
        libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, words.as_mut_ptr(), MOST, nothing, 0_usize)
    })?;
    let node = CpuSet::from_words(&words).iter().next();
    match (mode, node) {
        (mode::DEFAULT, _) | (mode::PREFERRED, None) => Ok(Memory::Anywhere),
        (mode::PREFERRED, Some(node)) => Ok(Memory::Prefer(node)),
        (mode::BIND, Some(node)) => Ok(Memory::Bind(node)),
        _ => Err(io::Error::other(format!("an unknown memory policy ({mode})"))),
    }
}

/// The node of every page of a buffer, `None` for pages that nobody has touched yet.
///
/// # Errors
/// The kernel does not tell.
pub fn nodes_of(buffer: &[u8]) -> io::Result<Vec<Option<u32>>> {
    // SAFETY: asks for a constant of the system.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as usize;
    let begin = buffer.as_ptr() as usize / page * page;
    let pages: Vec<usize> = (begin..buffer.as_ptr() as usize + buffer.len()).step_by(page).collect();
    let mut nodes = vec![0_i32; pages.len()];
    // SAFETY: without target nodes the kernel moves nothing: it reads the addresses and writes a number for each.
    checked(unsafe {
        let anywhere = std::ptr::null::<libc::c_int>();
        libc::syscall(libc::SYS_move_pages, 0, pages.len(), pages.as_ptr(), anywhere, nodes.as_mut_ptr(), 0)
    })?;
    Ok(nodes.into_iter().map(|node| u32::try_from(node).ok()).collect())
}

/// The processors that each thread of this process may run on, by the kernel's number of the thread.
///
/// # Errors
/// No procfs.
pub fn threads() -> io::Result<Vec<(u32, CpuSet)>> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir("/proc/self/task")?.flatten() {
        // One that ends meanwhile is none.
        let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")?.trim().parse().ok());
        let id = task.file_name().to_str().and_then(|name| name.parse().ok());
        threads.extend(id.zip(allowed));
    }
    threads.sort();
    Ok(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_as_they_are_written() {
        for text in ["0", "8-15,24-31@bind:1", "3@prefer:0"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        for text in ["", "x", "1@bind", "1@hold:2", "@bind:1"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_thread_that_is_pinned_runs_where_it_was_told_and_so_do_its_children() {
        let all = affinity().unwrap();
        let one: CpuSet = all.iter().take(1).collect();
        let place = Place { cores: one.clone(), memory: Memory::Anywhere };
        let child = std::thread::spawn(move || {
            let pinned = pin(&place);
            (pinned, std::thread::spawn(|| affinity().unwrap()).join().unwrap())
        });
        let (pinned, inherited) = child.join().unwrap();
        assert!(matches!(&pinned, Pinned::Pinned { place, .. } if place.cores == one), "{pinned}");
        assert_eq!(inherited, one);
        assert_eq!(affinity().unwrap(), all, "other threads stay where they are");
        let nowhere = Place { cores: "8000".parse().unwrap(), memory: Memory::Anywhere };
        assert!(matches!(pin(&nowhere), Pinned::None { why: Unpinned::Refused(_) }));
    }

    #[test]
    fn pages_are_where_they_are_and_untouched_ones_nowhere() {
        let buffer = vec![1_u8; 64 << 10];
        match nodes_of(&buffer) {
            Ok(nodes) => assert!(nodes.len() >= 16 && nodes.iter().all(Option::is_some), "{nodes:?}"),
            Err(error) => eprintln!("skipped: this kernel does not tell where pages are ({error})"),
        }
        assert!(!threads().unwrap().is_empty());
    }
}
