//! The best one-to-one assignment of rows to columns, exactly.
//!
//! Called by the tracker for every frame with the pairs that may belong together at all. Those fall into many small
//! groups that do not touch each other (people stand apart), so each group is solved on its own by shortest augmenting
//! paths (Kuhn 1955; Jonker and Volgenant 1987), over the pairs there are and not over a matrix of all. Called by `link`
//! with the tracklets of a whole match.

use std::{cmp::Ordering, collections::BinaryHeap};

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
    let mut pairs: Vec<Pair> = group.to_vec();
    for pair in &mut pairs {
        pair.row = rows.partition_point(|&row| row < pair.row);
        pair.column = columns.partition_point(|&column| column < pair.column);
    }
    pairs.sort_by_key(|pair| (pair.row, pair.column));
    for (column, row) in shortest_paths(&pairs, rows.len(), columns.len()).into_iter().enumerate() {
        let Some(row) = row else { continue };
        if let Ok(at) = pairs.binary_search_by_key(&(row, column), |pair| (pair.row, pair.column)) {
            chosen.push(Pair { row: rows[row], column: columns[column], gain: pairs[at].gain });
        }
    }
}

/// What a search knows of a column.
#[derive(Debug, Clone, Copy)]
struct Reach {
    distance: f64,
    from: usize,
    done: bool,
}

/// A column that a search may go on to; the nearest comes first, of equals the first.
#[derive(Debug, PartialEq)]
struct Ahead {
    distance: f64,
    column: usize,
}

impl Eq for Ahead {}

impl Ord for Ahead {
    fn cmp(&self, other: &Self) -> Ordering {
        other.distance.total_cmp(&self.distance).then(other.column.cmp(&self.column))
    }
}

impl PartialOrd for Ahead {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The row of every column, for pairs sorted by row. One row after the other is taken in by the cheapest change of what
/// was chosen before: Dijkstra's search over reduced costs. Only pairs are looked at and most searches end nearby, so
/// thousands of rows are no burden.
fn shortest_paths(pairs: &[Pair], rows: usize, columns: usize) -> Vec<Option<usize>> {
    // A row may also stay alone, which is a column of its own behind the real ones and costs nothing.
    let mut row_price = vec![0.0; rows];
    let mut column_price = vec![0.0; columns + rows];
    let mut row_of: Vec<Option<usize>> = vec![None; columns + rows];
    let unknown = Reach { distance: f64::INFINITY, from: 0, done: false };
    let mut reach = vec![unknown; columns + rows];
    let (mut touched, mut ahead) = (Vec::new(), BinaryHeap::new());
    let mut column_of: Vec<usize> = vec![usize::MAX; rows];
    let mut starts = vec![0; rows + 1];
    pairs.iter().for_each(|pair| starts[pair.row + 1] += 1);
    (0..rows).for_each(|row| starts[row + 1] += starts[row]);

    for start in 0..rows {
        let of = |row: usize| {
            let alone = std::iter::once((columns + row, 0.0));
            pairs[starts[row]..starts[row + 1]].iter().map(|pair| (pair.column, -pair.gain)).chain(alone)
        };
        row_price[start] = of(start).map(|(column, cost)| cost - column_price[column]).fold(f64::INFINITY, f64::min);
        let (mut row, mut distance) = (start, 0.0);
        let end = loop {
            for (column, cost) in of(row) {
                let through = distance + cost - row_price[row] - column_price[column];
                let known = &mut reach[column];
                if through < known.distance && !known.done {
                    if known.distance == f64::INFINITY {
                        touched.push(column);
                    }
                    (known.distance, known.from) = (through, row);
                    ahead.push(Ahead { distance: through, column });
                }
            }
            // A row's own column is always free, so a search never runs dry.
            let Some(next) = ahead.pop() else { break columns + start };
            let known = &mut reach[next.column];
            if known.done {
                continue;
            }
            known.done = true;
            match row_of[next.column] {
                Some(holder) => (row, distance) = (holder, next.distance),
                None => break next.column,
            }
        };
        let total = reach[end].distance;
        for &column in &touched {
            let Reach { distance, done, .. } = reach[column];
            if done {
                column_price[column] += distance - total;
                if let Some(holder) = row_of[column] {
                    row_price[holder] += total - distance;
                }
            }
        }
        row_price[start] += total;
        // Hand every column on the path to the row that reached it.
        let mut column = end;
        loop {
            let row = reach[column].from;
            row_of[column] = Some(row);
            let before = std::mem::replace(&mut column_of[row], column);
            if row == start {
                break;
            }
            column = before;
        }
        touched.drain(..).for_each(|column| reach[column] = unknown);
        ahead.clear();
    }
    row_of.truncate(columns);
    row_of
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
