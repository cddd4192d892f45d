//! Epochs: one object for each take-over, put once. Whoever has seen a higher one refuses what a lower one says.

use fulltime_common::{
    keys,
    store::{Put, Store, StoreError},
};
use serde::Serialize;

use crate::crash::{self, Deed};

/// `epoch/{n}`, for people.
#[derive(Serialize)]
struct Entry<'a> {
    leader: &'a str,
}

/// The highest epoch so far; 0 where there was none.
///
/// # Errors
/// Whatever the store says.
pub(crate) async fn highest(state: &Store) -> Result<u64, StoreError> {
    let objects = state.list(Some(keys::state::EPOCHS)).await?;
    let numbers = objects.iter().filter_map(|object| object.location.filename()?.parse::<u64>().ok());
    Ok(numbers.max().unwrap_or(0))
}

/// Begins the next epoch.
///
/// # Errors
/// Whatever the store says.
pub(crate) async fn begin(state: &Store, leader: &str) -> Result<u64, StoreError> {
    let mut epoch = highest(state).await? + 1;
    let begun = async {
        while state.put_json_once(&keys::state::epoch(epoch), &Entry { leader }).await? == Put::Existed {
            epoch += 1;
        }
        Ok::<_, StoreError>(epoch)
    };
    crash::around(Deed::Epoch, begun).await
}
