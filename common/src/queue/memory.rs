//! The bus in memory: what tests of coordinator and workers run on, and the shortest statement of what a bus promises.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::sync::{Notify, broadcast, mpsc};

use super::{Asked, Bus, Delivery, LEASE, Lease, QueueError, Register, Ticket};
use crate::{
    digest::Digest,
    wire::{Band, Control, Event, Hello, Pool, Reply, Request, Task},
};

/// For so long the same release is the same task.
const DUPLICATES: Duration = Duration::from_secs(120);

/// [`Bus`] in memory. Clones are the same bus.
#[derive(Debug, Clone)]
pub struct MemoryBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    lease: Duration,
    tasks: Mutex<Tasks>,
    changed: Notify,
    register: Mutex<Option<Register>>,
    events: broadcast::Sender<Event>,
    hellos: broadcast::Sender<Hello>,
    controls: broadcast::Sender<Control>,
    api: Mutex<Option<mpsc::UnboundedSender<Asked>>>,
}

#[derive(Debug, Default)]
struct Tasks {
    /// Message ids of the last [`DUPLICATES`], and when each came.
    seen: HashSet<String>,
    came: VecDeque<(Instant, String)>,
    entries: VecDeque<Entry>,
    next: u64,
    given_back: u64,
}

impl Tasks {
    fn is_new(&mut self, id: String, now: Instant) -> bool {
        while self.came.front().is_some_and(|(came, _)| now.duration_since(*came) >= DUPLICATES) {
            self.came.pop_front().map(|(_, old)| self.seen.remove(&old));
        }
        let new = self.seen.insert(id.clone());
        if new {
            self.came.push_back((now, id));
        }
        new
    }
}

#[derive(Debug)]
struct Entry {
    id: u64,
    task: Task,
    delivered: u64,
    /// Not to be delivered before.
    hidden_until: Option<Instant>,
}

impl Default for MemoryBus {
    fn default() -> Self {
        Self::with_lease(LEASE)
    }
}

impl MemoryBus {
    #[must_use]
    pub fn with_lease(lease: Duration) -> Self {
        let shared = Shared {
            lease,
            tasks: Mutex::default(),
            changed: Notify::new(),
            register: Mutex::default(),
            events: broadcast::channel(4096).0,
            hellos: broadcast::channel(256).0,
            controls: broadcast::channel(256).0,
            api: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Shared {
    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, pools: &[Pool]) -> Option<Delivery> {
        let now = Instant::now();
        let mut tasks = self.tasks();
        let free = |entry: &Entry| entry.hidden_until.is_none_or(|until| until <= now);
        let at = Band::ALL.into_iter().find_map(|band| {
            pools.iter().find_map(|pool| {
                tasks.entries.iter().position(|e| free(e) && e.task.band == band && e.task.pool() == *pool)
            })
        })?;
        let entry = &mut tasks.entries[at];
        entry.delivered += 1;
        entry.hidden_until = Some(now + self.lease);
        let lease = MemoryLease { id: entry.id, shared: Arc::clone(self) };
        Some(Delivery::new(entry.task.clone(), entry.delivered, Box::new(lease)))
    }
}

fn receive<T: Clone + Send + 'static>(receiver: broadcast::Receiver<T>) -> BoxStream<'static, T> {
    stream::unfold(receiver, |mut receiver| async move {
        loop {
            match receiver.recv().await {
                Ok(value) => return Some((value, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
    .boxed()
}

impl Bus for MemoryBus {
    fn release<'a>(&'a self, released: &'a [Task]) -> BoxFuture<'a, Result<(), QueueError>> {
        let (mut tasks, now) = (self.shared.tasks(), Instant::now());
        for task in released {
            if tasks.is_new(task.message_id(), now) {
                let id = tasks.next;
                tasks.next += 1;
                tasks.entries.push_back(Entry { id, task: task.clone(), delivered: 0, hidden_until: None });
            }
        }
        drop(tasks);
        self.shared.changed.notify_waiters();
        futures::future::ready(Ok(())).boxed()
    }

    fn pull<'a>(
        &'a self,
        pools: &'a [Pool],
        most: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        async move {
            let end = Instant::now() + wait;
            loop {
                let changed = self.shared.changed.notified();
                let taken: Vec<_> = std::iter::from_fn(|| self.shared.take(pools)).take(most).collect();
                let left = end.saturating_duration_since(Instant::now());
                if !taken.is_empty() || left.is_zero() {
                    return Ok(taken);
                }
                // Leases run out without a notification: look again now and then.
                let _ = tokio::time::timeout(left.min(Duration::from_millis(20)), changed).await;
            }
        }
        .boxed()
    }

    fn adopt(&self, ticket: &Ticket) -> Box<dyn Lease> {
        // A ticket of another bus names nothing, like one of a delivery that is over.
        Box::new(MemoryLease { id: ticket.0.parse().unwrap_or(u64::MAX), shared: Arc::clone(&self.shared) })
    }

    fn withdraw<'a>(&'a self, job: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        self.shared.tasks().entries.retain(|entry| entry.task.job != job);
        futures::future::ready(Ok(())).boxed()
    }

    fn discard<'a>(&'a self, job: &'a str, work: &'a [Digest]) -> BoxFuture<'a, Result<(), QueueError>> {
        self.shared.tasks().entries.retain(|entry| entry.task.job != job || !work.contains(&entry.task.digest));
        futures::future::ready(Ok(())).boxed()
    }

    fn emit<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), QueueError>> {
        // Nobody listening is fine: the truth is in the store.
        let _ = self.shared.events.send(event.clone());
        futures::future::ready(Ok(())).boxed()
    }

    fn events(&self) -> BoxFuture<'_, Result<BoxStream<'static, Event>, QueueError>> {
        futures::future::ready(Ok(receive(self.shared.events.subscribe()))).boxed()
    }

    fn advisories(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        futures::future::ready(Ok(self.shared.tasks().given_back)).boxed()
    }

    fn leader(&self) -> BoxFuture<'_, Result<Option<Register>, QueueError>> {
        let register = self.shared.register.lock().unwrap_or_else(PoisonError::into_inner).clone();
        futures::future::ready(Ok(register)).boxed()
    }

    fn claim<'a>(&'a self, expected: Option<u64>, value: &'a [u8]) -> BoxFuture<'a, Result<Option<u64>, QueueError>> {
        let mut register = self.shared.register.lock().unwrap_or_else(PoisonError::into_inner);
        let stands = register.as_ref().map(|register| register.revision);
        let claimed = (stands == expected).then(|| {
            let revision = stands.unwrap_or(0) + 1;
            *register = Some(Register { revision, value: value.to_vec() });
            revision
        });
        futures::future::ready(Ok(claimed)).boxed()
    }

    fn hello<'a>(&'a self, hello: &'a Hello) -> BoxFuture<'a, Result<(), QueueError>> {
        let _ = self.shared.hellos.send(hello.clone());
        futures::future::ready(Ok(())).boxed()
    }

    fn hellos(&self) -> BoxFuture<'_, Result<BoxStream<'static, Hello>, QueueError>> {
        futures::future::ready(Ok(receive(self.shared.hellos.subscribe()))).boxed()
    }

    fn control<'a>(&'a self, control: &'a Control) -> BoxFuture<'a, Result<(), QueueError>> {
        let _ = self.shared.controls.send(control.clone());
        futures::future::ready(Ok(())).boxed()
    }

    fn controls(&self) -> BoxFuture<'_, Result<BoxStream<'static, Control>, QueueError>> {
        futures::future::ready(Ok(receive(self.shared.controls.subscribe()))).boxed()
    }

    fn request<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, QueueError>> {
        async move {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let answer = move |reply: Reply| {
                let _ = sender.send(reply);
                futures::future::ready(Ok(())).boxed()
            };
            let asked = Asked { request: request.clone(), answer: Box::new(answer) };
            let api = self.shared.api.lock().unwrap_or_else(PoisonError::into_inner).clone();
            api.ok_or(QueueError::NoCoordinator)?.send(asked).map_err(|_| QueueError::NoCoordinator)?;
            receiver.await.map_err(|_| QueueError::NoCoordinator)
        }
        .boxed()
    }

    fn requests(&self) -> BoxFuture<'_, Result<BoxStream<'static, Asked>, QueueError>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.shared.api.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let asked = stream::unfold(receiver, |mut r| async move { r.recv().await.map(|asked| (asked, r)) });
        futures::future::ready(Ok(asked.boxed())).boxed()
    }
}

#[derive(Debug)]
struct MemoryLease {
    id: u64,
    shared: Arc<Shared>,
}

impl MemoryLease {
    fn hide_until(&self, until: Instant) -> BoxFuture<'_, Result<(), QueueError>> {
        if let Some(entry) = self.shared.tasks().entries.iter_mut().find(|entry| entry.id == self.id) {
            entry.hidden_until = Some(until);
        }
        self.shared.changed.notify_waiters();
        futures::future::ready(Ok(())).boxed()
    }
}

impl Lease for MemoryLease {
    fn renew(&self) -> BoxFuture<'_, Result<(), QueueError>> {
        self.hide_until(Instant::now() + self.shared.lease)
    }

    fn finish(&self) -> BoxFuture<'_, Result<(), QueueError>> {
        self.shared.tasks().entries.retain(|entry| entry.id != self.id);
        futures::future::ready(Ok(())).boxed()
    }

    fn give_back(&self, after: Duration) -> BoxFuture<'_, Result<(), QueueError>> {
        self.shared.tasks().given_back += 1;
        self.hide_until(Instant::now() + after)
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.id.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_remembered_for_their_window_and_not_longer() {
        let (mut tasks, start) = (Tasks::default(), Instant::now());
        for second in 0..10_000 {
            let now = start + Duration::from_secs(second);
            assert!(tasks.is_new(second.to_string(), now));
            assert!(!tasks.is_new(second.to_string(), now));
            assert!(tasks.seen.len() <= 120 && tasks.came.len() <= 120, "bounded");
        }
        let end = start + Duration::from_secs(9_999);
        assert!(!tasks.is_new("9900".into(), end));
        assert!(tasks.is_new("9879".into(), end));
    }
}
