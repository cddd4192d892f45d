//! The cheapest one-to-one assignment of a full matrix, by shortest augmenting paths (Jonker and Volgenant 1987, in the
//! rectangular form of Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 52(4), 2016).
//!
//! The reduce has an assignment of its own, for sparse gains. Here ties count: where two assignments cost the same, scores
//! are only comparable with published ones if the same one is taken, so columns are visited as SciPy's
//! `linear_sum_assignment` visits them (from the last to the first; of equally cheap columns the last free one).

/// Chosen pairs (row, column) by ascending row: as many as the shorter side has. `cost(row, column)` must be finite.
#[must_use]
pub fn cheapest(rows: usize, columns: usize, cost: impl Fn(usize, usize) -> f64) -> Vec<(usize, usize)> {
    if columns < rows {
        let mut pairs: Vec<_> = solve(columns, rows, |row, column| cost(column, row)).collect();
        pairs.iter_mut().for_each(|pair| *pair = (pair.1, pair.0));
        pairs.sort_unstable();
        return pairs;
    }
    solve(rows, columns, cost).collect()
}

/// Needs `rows <= columns`.
fn solve(rows: usize, columns: usize, cost: impl Fn(usize, usize) -> f64) -> impl Iterator<Item = (usize, usize)> {
    const FREE: usize = usize::MAX;
    let cost: Vec<f64> = (0..rows * columns).map(|i| cost(i / columns, i % columns)).collect();
    let mut search = Search {
        open: Vec::with_capacity(columns),
        length: vec![0.0; columns],
        from: vec![FREE; columns],
        rows_seen: Vec::with_capacity(rows),
        columns_done: Vec::with_capacity(columns),
    };
    let (mut row_price, mut column_price) = (vec![0.0; rows], vec![0.0; columns]);
    let (mut column_of, mut row_of) = (vec![FREE; rows], vec![FREE; columns]);
    for start in 0..rows {
        let (end, total) = search.path(start, &cost, &row_price, &column_price, &row_of);
        row_price[start] += total;
        for &row in search.rows_seen.iter().filter(|&&row| row != start) {
            row_price[row] += total - search.length[column_of[row]];
        }
        for &column in &search.columns_done {
            column_price[column] -= total - search.length[column];
        }
        // Hand every column on the path to the row before it.
        let mut column = end;
        loop {
            let row = search.from[column];
            row_of[column] = row;
            std::mem::swap(&mut column_of[row], &mut column);
            if row == start {
                break;
            }
        }
    }
    column_of.into_iter().enumerate()
}

/// Working memory of the search for one path (Dijkstra over reduced costs).
struct Search {
    /// Columns that are not reached for good, in the order in which they are looked at.
    open: Vec<usize>,
    length: Vec<f64>,
    /// Row from which a column was reached.
    from: Vec<usize>,
    rows_seen: Vec<usize>,
    columns_done: Vec<usize>,
}

impl Search {
    /// The free column at the end of the shortest path from a row, and the path's length.
    fn path(
        &mut self,
        start: usize,
        cost: &[f64],
        row_price: &[f64],
        column_price: &[f64],
        row_of: &[usize],
    ) -> (usize, f64) {
        let columns = column_price.len();
        self.open.clear();
        self.open.extend((0..columns).rev());
        self.length.fill(f64::INFINITY);
        self.rows_seen.clear();
        self.columns_done.clear();
        let (mut row, mut total) = (start, 0.0);
        loop {
            self.rows_seen.push(row);
            let costs = &cost[row * columns..(row + 1) * columns];
            let (mut at, mut least) = (0, f64::INFINITY);
            for (i, &column) in self.open.iter().enumerate() {
                let length = total + costs[column] - row_price[row] - column_price[column];
                if length < self.length[column] {
                    self.length[column] = length;
                    self.from[column] = row;
                }
                let length = self.length[column];
                if length < least || (length == least && row_of[column] == usize::MAX) {
                    least = length;
                    at = i;
                }
            }
            total = least;
            // Costs are finite and rows are no more than columns, so an open column is always left.
            let column = self.open.swap_remove(at);
            self.columns_done.push(column);
            match row_of[column] {
                usize::MAX => return (column, total),
                holder => row = holder,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Tries everything.
    fn least(rows: usize, columns: usize, cost: &dyn Fn(usize, usize) -> f64, row: usize, used: u32) -> f64 {
        if row == rows {
            return 0.0;
        }
        let free = (0..columns).filter(|column| used >> column & 1 == 0);
        free.map(|column| cost(row, column) + least(rows, columns, cost, row + 1, used | 1 << column))
            .fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn ties_are_broken_as_scipy_breaks_them() {
        // What scipy.optimize.linear_sum_assignment (1.17) says of these.
        fn columns<const N: usize, const M: usize>(costs: [[u8; M]; N]) -> Vec<(usize, usize)> {
            cheapest(N, M, |row, column| f64::from(costs[row][column]))
        }
        assert_eq!(columns([[0; 3]; 2]), [(0, 0), (1, 1)]);
        assert_eq!(columns([[0; 2]; 3]), [(0, 0), (1, 1)]);
        let wide = [[1, 1, 2, 2, 0, 0], [2, 2, 0, 0, 2, 1], [0, 2, 0, 1, 1, 1], [0, 0, 2, 2, 2, 1]];
        assert_eq!(columns(wide), [(0, 4), (1, 2), (2, 0), (3, 1)]);
        let square = [[1, 0, 0, 1, 0], [0, 0, 0, 1, 0], [0, 0, 1, 0, 1], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]];
        assert_eq!(columns(square), [(0, 1), (1, 0), (2, 3), (3, 4), (4, 2)]);
        let tall = [[1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0]];
        assert_eq!(columns(tall), [(0, 1), (1, 2), (2, 0), (3, 3)]);
        assert_eq!(cheapest(0, 3, |_, _| 0.0), []);
    }

    proptest! {
        #[test]
        fn no_assignment_is_cheaper(costs in vec(-9i8..9, 36), rows in 1usize..6, columns in 1usize..7) {
            let cost = |row: usize, column: usize| f64::from(costs[row * 6 + column]);
            let pairs = cheapest(rows, columns, cost);
            prop_assert_eq!(pairs.len(), rows.min(columns));
            for (i, pair) in pairs.iter().enumerate() {
                prop_assert!(pairs[..i].iter().all(|other| other.0 < pair.0 && other.1 != pair.1));
            }
            let total: f64 = pairs.iter().map(|&(row, column)| cost(row, column)).sum();
            let best = if rows <= columns {
                least(rows, columns, &cost, 0, 0)
            } else {
                least(columns, rows, &|row, column| cost(column, row), 0, 0)
            };
            prop_assert_eq!(total, best);
        }
    }
}
