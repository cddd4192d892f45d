//! What the faults did to the results: rows lost, rows twice, bytes that differ.

use std::collections::BTreeMap;

use fulltime_common::{Digest, keys, store::Store};
use serde::Serialize;

/// The published tables of a generation: path below its folder, and the rows of each as text.
pub type Tables = BTreeMap<String, Table>;

#[derive(Debug)]
pub struct Table {
    digest: Digest,
    rows: BTreeMap<Vec<String>, u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub lost: u64,
    pub duplicated: u64,
    pub identical: bool,
}

/// The tables of a job's generation.
pub async fn read(out: &Store, job: &str, generation: u32) -> Tables {
    let (mut found, folder) = (Tables::new(), keys::job::generation(job, generation));
    for name in keys::TABLES {
        let table = format!("{folder}/{name}");
        for object in out.list(Some(&table)).await.expect("list tables") {
            let key = object.location.to_string();
            let bytes = out.get(&key).await.expect("read a table").expect("it was listed");
            let digest = Digest::of_bytes(&bytes);
            let all = fulltime_tables::show::preview_rows(bytes, usize::MAX).expect("a table");
            let mut rows = BTreeMap::new();
            for row in all.rows {
                *rows.entry(row).or_default() += 1;
            }
            let name = key.strip_prefix(&folder).expect("below it").to_owned();
            found.insert(name, Table { digest, rows });
        }
    }
    found
}

pub fn compare(expected: &Tables, got: &Tables) -> Verdict {
    let none = BTreeMap::new();
    let mut verdict = Verdict { identical: expected.len() == got.len(), ..Verdict::default() };
    for (key, wanted) in expected {
        let found = got.get(key);
        verdict.identical &= found.is_some_and(|found| found.digest == wanted.digest);
        let found = found.map_or(&none, |found| &found.rows);
        let short = |(row, count): (&Vec<String>, &u64)| count.saturating_sub(found.get(row).copied().unwrap_or(0));
        verdict.lost += wanted.rows.iter().map(short).sum::<u64>();
        let long =
            |(row, count): (&Vec<String>, &u64)| count.saturating_sub(wanted.rows.get(row).copied().unwrap_or(0));
        verdict.duplicated += found.iter().map(long).sum::<u64>();
    }
    verdict.duplicated += got
        .iter()
        .filter(|(key, _)| !expected.contains_key(*key))
        .flat_map(|(_, table)| table.rows.values())
        .sum::<u64>();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&str]) -> Tables {
        let mut counted = BTreeMap::new();
        for row in rows {
            *counted.entry(vec![(*row).to_owned()]).or_default() += 1;
        }
        let digest = Digest::of_bytes(rows.concat().as_bytes());
        [("t".to_owned(), Table { digest, rows: counted })].into()
    }

    #[test]
    fn lost_and_doubled_rows_are_told_apart() {
        let expected = table(&["a", "b", "b"]);
        assert_eq!(compare(&expected, &table(&["a", "b", "b"])), Verdict { lost: 0, duplicated: 0, identical: true });
        assert_eq!(compare(&expected, &table(&["a", "b"])), Verdict { lost: 1, duplicated: 0, identical: false });
        assert_eq!(
            compare(&expected, &table(&["a", "a", "b", "b"])),
            Verdict { lost: 0, duplicated: 1, identical: false }
        );
        assert_eq!(compare(&expected, &Tables::new()), Verdict { lost: 3, duplicated: 0, identical: false });
        assert_eq!(compare(&expected, &table(&["b", "a", "b"])), Verdict { lost: 0, duplicated: 0, identical: false });
    }
}
