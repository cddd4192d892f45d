//! Sets of processors in the kernel's notation: `0-3,8`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Numbers of logical processors (or of NUMA nodes, where it says so), in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CpuSet(BTreeSet<u32>);

/// A text that is no list of numbers and ranges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no list of processors such as 0-3,8")]
pub struct NoList(String);

/// Beyond any machine: a longer range is a mistake, and must not take memory.
const MOST: u32 = 1 << 16;

impl CpuSet {
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).copied().collect()
    }

    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.0.difference(&other.0).copied().collect()
    }

    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    #[must_use]
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.0.is_disjoint(&other.0)
    }

    /// As a mask for the kernel, 64 processors a word, lowest first.
    #[must_use]
    pub fn words(&self) -> Vec<u64> {
        let mut words = vec![0; self.0.last().map_or(1, |last| *last as usize / 64 + 1)];
        self.iter().for_each(|cpu| words[cpu as usize / 64] |= 1 << (cpu % 64));
        words
    }

    #[must_use]
    pub fn from_words(words: &[u64]) -> Self {
        let bits = |(at, word): (usize, &u64)| {
            let word = *word;
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| at as u32 * 64 + bit)
        };
        words.iter().enumerate().flat_map(bits).collect()
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl Extend<u32> for CpuSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, cpus: I) {
        self.0.extend(cpus);
    }
}

impl FromStr for CpuSet {
    type Err = NoList;

    fn from_str(text: &str) -> Result<Self, NoList> {
        let no_list = || NoList(text.trim().to_owned());
        let mut set = BTreeSet::new();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n < MOST).ok_or_else(no_list);
            set.extend(number(first)?..=number(last)?);
        }
        Ok(Self(set))
    }
}

impl TryFrom<String> for CpuSet {
    type Error = NoList;

    fn try_from(text: String) -> Result<Self, NoList> {
        text.parse()
    }
}

impl From<CpuSet> for String {
    fn from(set: CpuSet) -> Self {
        set.to_string()
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut comma = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(f, "{comma}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_and_print_as_the_kernel_writes_them() {
        for text in ["", "0", "0-3", "0-3,8", "0,2,4-5,127"] {
            assert_eq!(text.parse::<CpuSet>().unwrap().to_string(), text);
        }
        assert_eq!("0-1\n".parse::<CpuSet>().unwrap().len(), 2);
        for text in ["a", "3-", "0-99999999", "-1"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn masks_are_what_the_kernel_takes() {
        let set: CpuSet = "0-1,64,130".parse().unwrap();
        assert_eq!(set.words(), [3, 1, 4]);
        assert_eq!(CpuSet::from_words(&set.words()), set);
        assert_eq!(CpuSet::default().words(), [0]);
    }
}
