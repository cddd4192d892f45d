//! The best one-to-one assignment of rows to columns, exactly.
//!
//! Called by the tracker for every frame with the pairs that may belong together at all. Those fall into many small
//! groups that do not touch each other (people stand apart), so each group is solved on its own with the Hungarian
//! method (Kuhn 1955; shortest augmenting paths after Jonker and Volgenant 1987).

/// A pair that may be chosen, and what choosing it is worth (more than 0).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    pub row: usize,
    pub column: usize,
    pub gain: f64,
}

/// The chosen pairs, by ascending row. Their sum of gains is the greatest there is; of equal sums the same one is chosen
/// every time.
#[must_use]
pub fn assign(pairs: &[Pair], rows: usize, columns: usize) -> Vec<Pair> {
    let mut chosen = Vec::new();
    for group in groups(pairs, rows, columns) {
        match group[..] {
            [pair] => chosen.push(pair),
            _ => solve(&group, &mut chosen),
        }
    }
    chosen.sort_by_key(|pair| pair.row);
    chosen
}

/// Pairs that share rows or columns, directly or through others, in the order of their first pair.
fn groups(pairs: &[Pair], rows: usize, columns: usize) -> Vec<Vec<Pair>> {
    // Disjoint sets over rows and, after them, columns.
    let mut parent: Vec<usize> = (0..rows + columns).collect();
    fn root(parent: &mut [usize], mut node: usize) -> usize {
        while parent[node] != node {
            parent[node] = parent[parent[node]];
            node = parent[node];
        }
        node
    }
    for pair in pairs {
        let (a, b) = (root(&mut parent, pair.row), root(&mut parent, rows + pair.column));
        parent[a.max(b)] = a.min(b);
    }
    let mut groups: Vec<Vec<Pair>> = Vec::new();
    let mut group_of = vec![usize::MAX; rows + columns];
    for pair in pairs {
        let root = root(&mut parent, pair.row);
        if group_of[root] == usize::MAX {
            group_of[root] = groups.len();
            groups.push(Vec::new());
        }
        groups[group_of[root]].push(*pair);
    }
    groups
}

fn solve(group: &[Pair], chosen: &mut Vec<Pair>) {
    let distinct = |of: fn(&Pair) -> usize| {
        let mut all: Vec<usize> = group.iter().map(of).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let (rows, columns) = (distinct(|pair| pair.row), distinct(|pair| pair.column));
    // The method wants no more rows than columns; a pair that may not be chosen costs as much as none: nothing.
    let turned = rows.len() > columns.len();
    let (height, width) = if turned { (columns.len(), rows.len()) } else { (rows.len(), columns.len()) };
    let mut gain = vec![0.0; height * width];
    for pair in group {
        let row = rows.partition_point(|&row| row < pair.row);
        let column = columns.partition_point(|&column| column < pair.column);
        gain[if turned { column * width + row } else { row * width + column }] = pair.gain;
    }
    for (i, j) in hungarian(&gain, height, width).into_iter().enumerate() {
        let gain = gain[i * width + j];
        if gain > 0.0 {
            let (row, column) = if turned { (j, i) } else { (i, j) };
            chosen.push(Pair { row: rows[row], column: columns[column], gain });
        }
    }
}

/// The column of every row, for `height <= width`, of the assignment with the greatest sum.
fn hungarian(gain: &[f64], height: usize, width: usize) -> Vec<usize> {
    // Row 0 and column 0 are sentinels; `taken[j]` is the row that holds column j.
    let mut row_price = vec![0.0; height + 1];
    let mut column_price = vec![0.0; width + 1];
    let mut taken = vec![0; width + 1];
    let mut way = vec![0; width + 1];
    for row in 1..=height {
        taken[0] = row;
        let mut column = 0;
        let mut least = vec![f64::INFINITY; width + 1];
        let mut used = vec![false; width + 1];
        while taken[column] != 0 {
            used[column] = true;
            let holder = taken[column];
            let (mut delta, mut next) = (f64::INFINITY, 0);
            for j in (1..=width).filter(|&j| !used[j]) {
                let reduced = -gain[(holder - 1) * width + j - 1] - row_price[holder] - column_price[j];
                if reduced < least[j] {
                    least[j] = reduced;
                    way[j] = column;
                }
                if least[j] < delta {
                    delta = least[j];
                    next = j;
                }
            }
            for j in 0..=width {
                if used[j] {
                    row_price[taken[j]] += delta;
                    column_price[j] -= delta;
                } else {
                    least[j] -= delta;
                }
            }
            column = next;
        }
        // Hand every column on the path to the row before it.
        while column != 0 {
            taken[column] = taken[way[column]];
            column = way[column];
        }
    }
    let mut column_of = vec![0; height];
    for j in 1..=width {
        if taken[j] != 0 {
            column_of[taken[j] - 1] = j - 1;
        }
    }
    column_of
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Tries everything.
    fn best(pairs: &[Pair], row: usize, rows: usize, used: &mut Vec<usize>) -> f64 {
        if row == rows {
            return 0.0;
        }
        let mut most = best(pairs, row + 1, rows, used);
        for pair in pairs.iter().filter(|pair| pair.row == row) {
            if !used.contains(&pair.column) {
                used.push(pair.column);
                most = most.max(pair.gain + best(pairs, row + 1, rows, used));
                used.pop();
            }
        }
        most
    }

    proptest! {
        #[test]
        fn no_assignment_is_better(gains in vec(0u8..12, 30), rows in 1usize..6, columns in 1usize..7) {
            let pairs: Vec<Pair> = (0..rows * columns)
                .map(|i| Pair { row: i / columns, column: i % columns, gain: f64::from(gains[i % gains.len()]) - 4.0 })
                .filter(|pair| pair.gain > 0.0)
                .collect();
            let chosen = assign(&pairs, rows, columns);
            for (i, pair) in chosen.iter().enumerate() {
                prop_assert!(pairs.contains(pair));
                prop_assert!(chosen[..i].iter().all(|other| other.row < pair.row && other.column != pair.column));
            }
            prop_assert_eq!(chosen.iter().map(|pair| pair.gain).sum::<f64>(), best(&pairs, 0, rows, &mut Vec::new()));
        }
    }
}
