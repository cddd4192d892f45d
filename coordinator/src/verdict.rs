//! Verdicts: what a leader fixes once and for all. Each carries the epoch that it was made in, for people who want to
//! know which leader it was; readers do not need it.

use fulltime_common::store::{Put, Store};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    campaign::Mandate,
    crash::{self, Deed},
    planning::PlanError,
};

/// A value and the epoch in which it was decided.
#[derive(Debug, Serialize)]
pub(crate) struct Stamped<'a, T> {
    #[serde(flatten)]
    value: &'a T,
    epoch: u64,
}

impl<'a, T> Stamped<'a, T> {
    pub fn new(value: &'a T, mandate: &Mandate) -> Self {
        Self { value, epoch: mandate.epoch }
    }
}

/// Fixes a value and returns what is there: an earlier one counts. A leader whose time has run out fixes nothing.
pub(crate) async fn fix<T: Serialize + DeserializeOwned>(
    store: &Store,
    key: &str,
    value: T,
    mandate: &Mandate,
    deed: Deed,
) -> Result<T, PlanError> {
    mandate.check()?;
    match crash::around(deed, store.put_json_once(key, &Stamped::new(&value, mandate))).await? {
        Put::Created => Ok(value),
        Put::Existed => required(store, "object", key).await,
    }
}

pub(crate) async fn required<T: DeserializeOwned>(
    store: &Store,
    what: &'static str,
    key: &str,
) -> Result<T, PlanError> {
    store.get_json(key).await?.ok_or_else(|| PlanError::Missing { what, url: store.url_of(key) })
}
