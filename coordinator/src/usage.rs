//! Bookings of lane time, `usage/{month}/{tenant}/{job}/…` below the state: put once, kept when their job is deleted. Their
//! names say all, so that whoever takes over only lists them.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fulltime_common::{
    keys,
    plan::encode,
    store::{Store, StoreError},
};
use serde::Serialize;

use crate::{
    campaign::Mandate,
    crash::{self, Deed},
    ledger::Booking,
    planning::PlanError,
};

/// What a booking's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name {
    epoch: u64,
    /// Counts the bookings of an epoch.
    number: u64,
    round: u32,
    time: Duration,
}

impl Name {
    fn file(&self) -> String {
        let Self { epoch, number, round, time } = self;
        format!("{epoch:08}-{number:06}-{round}-{}.json", time.as_millis())
    }

    fn of(key: &str) -> Option<Self> {
        let mut parts = key.rsplit('/').next()?.strip_suffix(".json")?.splitn(4, '-');
        let epoch = parts.next()?.parse().ok()?;
        let number = parts.next()?.parse().ok()?;
        let round = parts.next()?.parse().ok()?;
        let time = Duration::from_millis(parts.next()?.parse().ok()?);
        Some(Self { epoch, number, round, time })
    }
}

/// For people.
#[derive(Serialize)]
struct Entry<'a> {
    job: &'a str,
    tenant: Option<&'a str>,
    lane_seconds: f64,
    round: u32,
}

/// The calendar month by this machine's clock, in UTC: `2026-11`.
#[must_use]
pub(crate) fn month() -> String {
    let mut now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.truncate("2026-11".len());
    now
}

/// Makes a booking durable; `number` counts those of this epoch.
///
/// # Errors
/// The lead is lost, or the state cannot be written.
pub(crate) async fn book(state: &Store, booking: &Booking, number: u64, mandate: &Mandate) -> Result<(), PlanError> {
    let tenant = booking.tenant.as_deref();
    let name = Name { epoch: mandate.epoch, number, round: booking.round, time: booking.time };
    let folder = keys::state::usage(&month(), tenant.unwrap_or_default(), &booking.job);
    let lane_seconds = booking.time.as_secs_f64();
    let entry = Entry { job: &booking.job, tenant, lane_seconds, round: booking.round };
    mandate.check()?;
    let key = format!("{folder}/{}", name.file());
    crash::around(Deed::Book, state.put_json_once(&key, &entry)).await?;
    Ok(())
}

async fn names(state: &Store, folder: &str) -> Result<Vec<Name>, StoreError> {
    let objects = state.list(Some(folder)).await?;
    Ok(objects.iter().filter_map(|object| Name::of(object.location.as_ref())).collect())
}

/// What a job has used in this round, by all leaders.
///
/// # Errors
/// Whatever the store says.
pub(crate) async fn of_job(state: &Store, tenant: Option<&str>, job: &str, round: u32) -> Result<Duration, StoreError> {
    let mut spent = Duration::ZERO;
    for month in state.folders(keys::state::USAGE).await? {
        let names = names(state, &keys::state::usage(&month, tenant.unwrap_or_default(), job)).await?;
        spent += names.iter().filter(|name| name.round == round).map(|name| name.time).sum::<Duration>();
    }
    Ok(spent)
}

/// What tenants have used in a month, but for what was booked in this epoch: its leader knows.
///
/// # Errors
/// Whatever the store says.
pub(crate) async fn of_tenants(
    state: &Store,
    month: &str,
    tenants: impl IntoIterator<Item = &Arc<str>>,
    epoch: u64,
) -> Result<BTreeMap<String, Duration>, StoreError> {
    let mut spent = BTreeMap::new();
    for tenant in tenants {
        let folder = format!("{}/{month}/{}", keys::state::USAGE, encode(tenant));
        let names = names(state, &folder).await?;
        let time = names.iter().filter(|name| name.epoch != epoch).map(|name| name.time).sum();
        spent.insert(tenant.to_string(), time);
    }
    Ok(spent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bookings_are_summed_by_round_for_the_job_and_by_month_for_its_tenant() {
        let dir = tempfile::tempdir().unwrap();
        let state = Store::create(dir.path().to_str().unwrap()).unwrap();
        let none = of_job(&state, None, "j", 0).await.unwrap();
        assert_eq!(none, Duration::ZERO, "where nothing was ever booked");
        let seconds = Duration::from_secs;
        let blue = Some(Arc::<str>::from("blue/ü"));
        for (number, (job, tenant, round, time)) in
            [("j", &blue, 0, 10), ("j", &blue, 0, 5), ("j", &blue, 1, 7), ("k", &blue, 0, 1), ("j", &None, 0, 100)]
                .into_iter()
                .enumerate()
        {
            let booking = Booking { job: job.into(), tenant: tenant.clone(), round, time: seconds(time) };
            let mandate = Mandate::without_end(1 + number as u64 / 4);
            book(&state, &booking, number as u64, &mandate).await.unwrap();
        }
        for (tenant, round, time) in [(blue.as_deref(), 0, 15), (blue.as_deref(), 1, 7), (None, 0, 100)] {
            assert_eq!(of_job(&state, tenant, "j", round).await.unwrap(), seconds(time));
        }
        for (epoch, time) in [(9, 23), (1, 0)] {
            let spent = of_tenants(&state, &month(), &blue, epoch).await.unwrap();
            assert_eq!(spent["blue/ü"], seconds(time));
        }
    }
}
