//! Stories and properties of the ledger.

mod decisions;
mod evidence;
mod fairness;
mod properties;
mod recovery;
mod scale;
mod stories;
mod world;

const SEASON: [(&str, &[&str]); 3] = [("a", &["a1", "a2"]), ("b", &["b1"]), ("c", &["c1", "c2"])];
