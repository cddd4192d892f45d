//! Identity metrics (Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking", ECCV
//! workshops 2016): every true identity is given at most one found one, for the whole sequence.

use std::collections::BTreeMap;

use crate::{assignment::cheapest, comparison::Comparison};

/// Similarity that a match needs.
const THRESHOLD: f64 = 0.5;

/// Counts of a sequence. Those of several add up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity {
    pub tp: u64,
    pub missed: u64,
    pub false_: u64,
}

impl Identity {
    #[must_use]
    pub fn of(comparison: &Comparison) -> Self {
        let mut together: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for frame in &comparison.frames {
            for pair in frame.pairs.iter().filter(|pair| pair.similarity >= THRESHOLD) {
                *together.entry((frame.truth[pair.row], frame.found[pair.column])).or_default() += 1;
            }
        }
        // The most frames that identities can have in common. Those without anything in common do not compete.
        let tp = groups(&together).iter().map(|group| most(group)).sum();
        let (truth, found) = (comparison.truth_objects(), comparison.found_objects());
        Self { tp, missed: truth - tp, false_: found - tp }
    }

    /// Takes the counts of another sequence in.
    pub fn add(&mut self, other: &Self) {
        self.tp += other.tp;
        self.missed += other.missed;
        self.false_ += other.false_;
    }

    #[must_use]
    pub fn f1(&self) -> f64 {
        self.tp as f64 / (self.tp as f64 + 0.5 * (self.missed + self.false_) as f64).max(1.0)
    }

    #[must_use]
    pub fn recall(&self) -> f64 {
        self.tp as f64 / (self.tp + self.missed).max(1) as f64
    }

    #[must_use]
    pub fn precision(&self) -> f64 {
        self.tp as f64 / (self.tp + self.false_).max(1) as f64
    }
}

type Common = ((usize, usize), u64);

/// Pairs that share identities, directly or through others.
fn groups(together: &BTreeMap<(usize, usize), u64>) -> Vec<Vec<Common>> {
    let rows = together.keys().map(|&(row, _)| row + 1).max().unwrap_or(0);
    let columns = together.keys().map(|&(_, column)| column + 1).max().unwrap_or(0);
    let mut parent: Vec<usize> = (0..rows + columns).collect();
    fn root(parent: &mut [usize], mut node: usize) -> usize {
        while parent[node] != node {
            parent[node] = parent[parent[node]];
            node = parent[node];
        }
        node
    }
    for &(row, column) in together.keys() {
        let (a, b) = (root(&mut parent, row), root(&mut parent, rows + column));
        parent[a.max(b)] = a.min(b);
    }
    let mut groups: BTreeMap<usize, Vec<Common>> = BTreeMap::new();
    for (&pair, &frames) in together {
        groups.entry(root(&mut parent, pair.0)).or_default().push((pair, frames));
    }
    groups.into_values().collect()
}

fn most(group: &[Common]) -> u64 {
    let number = |of: fn(&Common) -> usize| {
        let mut all: Vec<usize> = group.iter().map(of).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let (rows, columns) = (number(|c| c.0.0), number(|c| c.0.1));
    let mut common = vec![0_u64; rows.len() * columns.len()];
    for &((row, column), frames) in group {
        let (row, column) = (rows.partition_point(|&r| r < row), columns.partition_point(|&c| c < column));
        common[row * columns.len() + column] = frames;
    }
    let at = |row: usize, column: usize| common[row * columns.len() + column];
    let pairs = cheapest(rows.len(), columns.len(), |row, column| -(at(row, column) as f64));
    pairs.into_iter().map(|(row, column)| at(row, column)).sum()
}
