//! What a leader keeps an eye on besides the work: bookings of lane time, the month, and jobs that wait for room.

use std::{collections::BTreeMap, time::Duration};

use fulltime_common::store::StoreError;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Message, Reign};
use crate::{
    ledger::{Action, Booking, Decision, Input, JobId},
    usage,
};

/// Between two looks for room; doubles each time up to the second.
const ROOM: Duration = Duration::from_secs(10);
const ROOM_MOST: Duration = Duration::from_secs(300);
/// Longest time for the last bookings of a leader that goes.
const CLOSING: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
pub(super) struct Keeping {
    bookings: u64,
    month: Option<String>,
    /// When to look for room for these jobs, and how long to wait the next time.
    room: BTreeMap<JobId, (Instant, Duration)>,
}

impl Reign {
    pub(super) fn book(&mut self, booking: Booking) {
        self.keeping.bookings += 1;
        let (state, mandate, number) = (self.state.clone(), self.mandate.clone(), self.keeping.bookings);
        self.chores.step(async move {
            if let Err(error) = usage::book(&state, &booking, number, &mandate).await {
                warn!(%error, job = %booking.job, seconds = booking.time.as_secs_f64(), "lane time could not be booked");
            }
            None
        });
    }

    /// Whoever leads next knows all that was used.
    pub(super) async fn close_books(&mut self) {
        let booking = async {
            for action in self.ledger.close_books(self.started.elapsed()) {
                let Action::Book(booking) = action else { continue };
                self.keeping.bookings += 1;
                if let Err(error) = usage::book(&self.state, &booking, self.keeping.bookings, &self.mandate).await {
                    warn!(%error, job = %booking.job, "lane time could not be booked");
                }
            }
        };
        if tokio::time::timeout(CLOSING, booking).await.is_err() {
            warn!("not all lane time could be booked in time");
        }
    }

    /// Quotas are of a month.
    pub(super) fn look_at_the_calendar(&mut self) {
        let tenants: Vec<_> = self.ledger.tenants_with_quotas().cloned().collect();
        let month = usage::month();
        if tenants.is_empty() || self.keeping.month.as_ref() == Some(&month) {
            return;
        }
        let fresh = self.keeping.month.replace(month.clone()).is_some();
        let (state, epoch) = (self.state.clone(), self.mandate.epoch);
        self.chores.step(async move {
            let mut pause = Duration::from_secs(1);
            loop {
                match usage::of_tenants(&state, &month, &tenants, epoch).await {
                    Ok(tenants) => return Some(Message::Ledger(Input::Spent { tenants, fresh })),
                    Err(error) => warn!(%error, "cannot tell what tenants have used; trying again"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ROOM_MOST);
            }
        });
    }

    /// Jobs that paused because a disk was full, or could only be read, go on once it can be written.
    pub(super) fn look_for_room(&mut self) {
        let now = Instant::now();
        for job in self.ledger.wanting_room() {
            let Some(files) = self.files.get(&job).cloned() else { continue };
            let (due, pause) = self.keeping.room.entry(job.clone()).or_insert((now + ROOM, ROOM));
            if now < *due {
                continue;
            }
            *pause = (*pause * 2).min(ROOM_MOST);
            *due = now + *pause;
            self.chores.step(async move {
                let room = async {
                    files.out.probe_room().await?;
                    files.store.probe_room().await?;
                    Ok::<_, StoreError>(())
                };
                room.await.ok().map(|()| Message::Room(job))
            });
        }
    }

    /// As if a person had resumed it, if it still waits.
    pub(super) fn go_on(&mut self, job: JobId) {
        if self.ledger.wanting_room().contains(&job) {
            info!(%job, "there is room again: the job goes on");
            self.decide(job, Decision::Resume, None);
        }
    }
}
