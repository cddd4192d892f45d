//! The intake: pulls for lanes that stand idle, and one task ahead of every lane that does not, so that the next shard
//! is fetched while this one runs.

use std::{sync::Arc, time::Duration};

use fulltime_common::{
    error::chain,
    queue::{Delivery, QueueError},
    wire::Pool,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    crash::{self, Point},
    executor::Fitness,
    orders::Admission,
    service::Shared,
};

/// Longest pull, and with it the longest wait to notice that the worker should stop. A pull is not dropped half-way:
/// what the broker has sent by then would be lost until its lease runs out.
const PULL: Duration = Duration::from_millis(500);
/// Most deliveries of one pull.
const MOST: usize = 256;
/// Pause after the broker failed to answer.
const BROKER_PAUSE: Duration = Duration::from_secs(1);
/// Before a task that must run elsewhere is shown to the workers again.
const ELSEWHERE: Duration = Duration::from_secs(2);

/// Where deliveries find room: lanes, and as many again if the executor fetches ahead.
#[derive(Debug)]
pub struct Room {
    lanes: usize,
    slots: usize,
    free: Arc<Semaphore>,
}

impl Room {
    pub fn new(lanes: usize, fetch_ahead: bool) -> Self {
        let slots = if fetch_ahead { 2 * lanes } else { lanes };
        Self { lanes, slots, free: Arc::new(Semaphore::new(slots)) }
    }

    /// Waits for room, and takes what the next pull may fill: idle lanes at once, but what is only fetched ahead one by
    /// one, since another worker may have a lane for it.
    async fn take(&self) -> Vec<OwnedSemaphorePermit> {
        let Ok(first) = Arc::clone(&self.free).acquire_owned().await else { return Vec::new() };
        let busy = self.slots - self.free.available_permits() - 1;
        let more = self.lanes.saturating_sub(busy).clamp(1, MOST) - 1;
        let more = std::iter::from_fn(|| Arc::clone(&self.free).try_acquire_owned().ok()).take(more);
        std::iter::once(first).chain(more).collect()
    }

    /// Takes room away while lanes do not work, and gives it back when they do; until `over`.
    pub async fn follow(&self, mut fitness: watch::Receiver<Fitness>, over: &CancellationToken) {
        let a_lane = self.slots / self.lanes.max(1);
        let mut taken = Vec::new();
        loop {
            let working = fitness.borrow_and_update().working.min(self.lanes);
            let due = a_lane * (self.lanes - working);
            taken.truncate(due);
            let short = (due - taken.len()) as u32;
            let free = Arc::clone(&self.free);
            tokio::select! {
                () = over.cancelled() => return,
                changed = fitness.changed() => if changed.is_err() { return },
                // What the lanes hold comes back first.
                room = free.acquire_many_owned(1), if short > 0 => taken.extend(room),
            }
        }
    }

    /// Comes back when nothing runs any more.
    pub async fn empty(&self) {
        let _ = self.free.acquire_many(self.slots as u32).await;
    }
}

/// Pulls until the worker is drained.
pub async fn run(shared: Arc<Shared>, room: Arc<Room>) {
    // Index and reduce tasks are few and short, and everything else waits for them.
    let pools = [Pool::Any, Pool::Class(shared.class.clone())];
    loop {
        let mut permits = tokio::select! {
            biased;
            () = shared.drain.cancelled() => return,
            permits = room.take() => permits,
        };
        let given_up = async {
            shared.drain.cancelled().await;
            tokio::time::sleep(2 * PULL).await;
        };
        let pulled = tokio::select! {
            pulled = shared.bus.pull(&pools, permits.len(), PULL) => pulled,
            // A broker that does not answer must not keep the worker.
            () = given_up => return,
        };
        match pulled {
            Ok(deliveries) => {
                for delivery in deliveries {
                    let permit = permits.pop();
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        shared.receive(delivery).await;
                        drop(permit);
                    });
                }
            }
            Err(error) => {
                drop(permits);
                warn!(error = chain(&error), "could not pull; trying again");
                tokio::select! {
                    () = tokio::time::sleep(BROKER_PAUSE) => {}
                    () = shared.drain.cancelled() => {}
                }
            }
        }
    }
}

impl Shared {
    async fn receive(&self, delivery: Delivery) {
        crash::point(Point::BeforeFetch);
        let mut admission = Admission::Run;
        self.orders.send_if_modified(|orders| {
            admission = orders.admit(&delivery.task, &self.name);
            false
        });
        let (digest, epoch) = (delivery.task.digest.short(), delivery.task.epoch);
        let refused: Result<(), QueueError> = match admission {
            Admission::Run => return self.work(delivery).await,
            Admission::Void => {
                info!(%digest, epoch, "a task of an earlier leader is dropped");
                delivery.finish().await
            }
            Admission::Elsewhere => delivery.give_back(ELSEWHERE).await,
        };
        if let Err(error) = refused {
            warn!(error = chain(&error), %digest, "could not refuse a delivery; its lease will run out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn idle_lanes_are_filled_at_once_and_the_rest_one_by_one() {
        let room = Room::new(3, true);
        let idle = room.take().await;
        assert_eq!(idle.len(), 3);
        let ahead = [room.take().await, room.take().await, room.take().await];
        assert_eq!(ahead.each_ref().map(Vec::len), [1, 1, 1]);
        assert_eq!(room.free.available_permits(), 0);
        drop((idle, ahead));
        room.empty().await;
        assert_eq!(Room::new(1000, false).take().await.len(), MOST);
    }
}
