//! A bus that misbehaves on purpose: any other bus, with faults at chosen calls or strewn by a seed. What it does to its
//! callers, a broker or a network may do to them, too.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};

use super::{Asked, Bus, Delivery, Lease, QueueError, Register, Ticket};
use crate::{
    digest::Digest,
    wire::{Control, Event, Hello, Pool, Reply, Request, Task},
};

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Release,
    Pull,
    Emit,
    /// An event on its way to a reader.
    Hear,
    Renew,
    Finish,
    GiveBack,
    Claim,
}

/// How it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing has happened.
    Refuse,
    /// It happens, and its answer is lost: the caller sees a failure.
    LoseAnswer,
    /// It is said to have happened, and is lost: a write that was acknowledged before it was kept.
    Swallow,
    /// It happens twice: for a pull, the same delivery goes to two takers.
    Repeat,
    /// It happens late.
    Delay(Duration),
}

/// The failure that callers see.
#[derive(Debug, thiserror::Error)]
#[error("injected fault in {0:?}")]
struct InjectedError(Operation);

/// [`Bus`] with faults around another.
#[derive(Debug, Clone)]
pub struct FaultyBus {
    inner: Arc<dyn Bus>,
    script: Arc<Script>,
}

impl FaultyBus {
    /// The `n`-th call of an operation, from 1, goes wrong.
    #[must_use]
    pub fn scripted(inner: Arc<dyn Bus>, faults: impl IntoIterator<Item = (Operation, u64, Fault)>) -> Self {
        let planned = faults.into_iter().map(|(operation, nth, fault)| ((operation, nth), fault)).collect();
        Self { inner, script: Arc::new(Script { planned, seeded: None, calls: Mutex::default() }) }
    }

    /// About one call in `one_in` goes wrong; the same seed does the same to the same calls.
    #[must_use]
    pub fn seeded(inner: Arc<dyn Bus>, seed: u64, one_in: u64) -> Self {
        let seeded = Some((seed, one_in.max(1)));
        Self { inner, script: Arc::new(Script { planned: BTreeMap::new(), seeded, calls: Mutex::default() }) }
    }

    /// How often an operation has been called.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.script.calls.lock().unwrap_or_else(PoisonError::into_inner).get(&operation).copied().unwrap_or(0)
    }

    /// A delivery of the inner bus, with faults around its lease.
    fn wrap(&self, delivery: Delivery) -> Delivery {
        let Delivery { task, delivered, lease } = delivery;
        Delivery { task, delivered, lease: Box::new(FaultyLease { inner: lease, script: Arc::clone(&self.script) }) }
    }
}

#[derive(Debug)]
struct Script {
    planned: BTreeMap<(Operation, u64), Fault>,
    seeded: Option<(u64, u64)>,
    calls: Mutex<BTreeMap<Operation, u64>>,
}

impl Script {
    /// Counts a call and says what goes wrong with it.
    fn next(&self, operation: Operation) -> Option<Fault> {
        let call = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let call = calls.entry(operation).or_default();
            *call += 1;
            *call
        };
        let drawn = || {
            let (seed, one_in) = self.seeded?;
            let number = mix(mix(seed ^ operation as u64) ^ call);
            let faults = [
                Fault::Refuse,
                Fault::LoseAnswer,
                Fault::Repeat,
                Fault::Delay(Duration::from_millis(number >> 32 & 0x1f)),
                Fault::Swallow,
            ];
            number.is_multiple_of(one_in).then(|| faults[(number >> 40) as usize % faults.len()])
        };
        self.planned.get(&(operation, call)).copied().or_else(drawn)
    }

    /// Does something (or does it not), `doing` each time.
    async fn act<'a, T: Default>(
        &self,
        operation: Operation,
        doing: impl Fn() -> BoxFuture<'a, Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        let failure = || QueueError::Broker { action: "inject a fault", source: Box::new(InjectedError(operation)) };
        match self.next(operation) {
            None => doing().await,
            Some(Fault::Refuse) => Err(failure()),
            Some(Fault::LoseAnswer) => {
                doing().await?;
                Err(failure())
            }
            Some(Fault::Swallow) => Ok(T::default()),
            Some(Fault::Repeat) => {
                doing().await?;
                doing().await
            }
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                doing().await
            }
        }
    }
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Bus for FaultyBus {
    fn release<'a>(&'a self, tasks: &'a [Task]) -> BoxFuture<'a, Result<(), QueueError>> {
        self.script.act(Operation::Release, || self.inner.release(tasks)).boxed()
    }

    fn pull<'a>(
        &'a self,
        pools: &'a [Pool],
        most: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        async move {
            // Only what brings something counts as a call: idle lanes ask as often as they like.
            let mut pulled = self.inner.pull(pools, most, wait).await?;
            let fault = if pulled.is_empty() { None } else { self.script.next(Operation::Pull) };
            match fault {
                None => {}
                Some(Fault::Refuse) => {
                    for delivery in pulled {
                        delivery.give_back(Duration::ZERO).await?;
                    }
                    let source = Box::new(InjectedError(Operation::Pull));
                    return Err(QueueError::Broker { action: "pull", source });
                }
                // Delivered to nobody: they come again when their leases have run out.
                Some(Fault::Swallow | Fault::LoseAnswer) => pulled.clear(),
                Some(Fault::Repeat) => {
                    let twin = |d: &Delivery| Delivery::new(d.task.clone(), d.delivered, self.inner.adopt(&d.ticket()));
                    let twins: Vec<_> = pulled.iter().map(twin).collect();
                    pulled.extend(twins);
                }
                Some(Fault::Delay(delay)) => tokio::time::sleep(delay).await,
            }
            Ok(pulled.into_iter().map(|delivery| self.wrap(delivery)).collect())
        }
        .boxed()
    }

    fn adopt(&self, ticket: &Ticket) -> Box<dyn Lease> {
        Box::new(FaultyLease { inner: self.inner.adopt(ticket), script: Arc::clone(&self.script) })
    }

    fn withdraw<'a>(&'a self, job: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        self.inner.withdraw(job)
    }

    fn discard<'a>(&'a self, job: &'a str, work: &'a [Digest]) -> BoxFuture<'a, Result<(), QueueError>> {
        self.inner.discard(job, work)
    }

    fn emit<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), QueueError>> {
        self.script.act(Operation::Emit, || self.inner.emit(event)).boxed()
    }

    fn events(&self) -> BoxFuture<'_, Result<BoxStream<'static, Event>, QueueError>> {
        async move {
            let script = Arc::clone(&self.script);
            let heard = self.inner.events().await?.flat_map(move |event| {
                let copies = match script.next(Operation::Hear) {
                    Some(Fault::Refuse | Fault::Swallow | Fault::LoseAnswer) => 0,
                    Some(Fault::Repeat) => 2,
                    None | Some(Fault::Delay(_)) => 1,
                };
                futures::stream::iter(std::iter::repeat_n(event, copies))
            });
            Ok(heard.boxed())
        }
        .boxed()
    }

    fn advisories(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        self.inner.advisories()
    }

    fn leader(&self) -> BoxFuture<'_, Result<Option<Register>, QueueError>> {
        self.inner.leader()
    }

    fn claim<'a>(&'a self, expected: Option<u64>, value: &'a [u8]) -> BoxFuture<'a, Result<Option<u64>, QueueError>> {
        self.script.act(Operation::Claim, move || self.inner.claim(expected, value)).boxed()
    }

    fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }

    fn hello<'a>(&'a self, hello: &'a Hello) -> BoxFuture<'a, Result<(), QueueError>> {
        self.inner.hello(hello)
    }

    fn hellos(&self) -> BoxFuture<'_, Result<BoxStream<'static, Hello>, QueueError>> {
        self.inner.hellos()
    }

    fn control<'a>(&'a self, control: &'a Control) -> BoxFuture<'a, Result<(), QueueError>> {
        self.inner.control(control)
    }

    fn controls(&self) -> BoxFuture<'_, Result<BoxStream<'static, Control>, QueueError>> {
        self.inner.controls()
    }

    fn request<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, QueueError>> {
        self.inner.request(request)
    }

    fn requests(&self) -> BoxFuture<'_, Result<BoxStream<'static, Asked>, QueueError>> {
        self.inner.requests()
    }
}

#[derive(Debug)]
struct FaultyLease {
    inner: Box<dyn Lease>,
    script: Arc<Script>,
}

impl Lease for FaultyLease {
    fn renew(&self) -> BoxFuture<'_, Result<(), QueueError>> {
        self.script.act(Operation::Renew, || self.inner.renew()).boxed()
    }

    fn finish(&self) -> BoxFuture<'_, Result<(), QueueError>> {
        self.script.act(Operation::Finish, || self.inner.finish()).boxed()
    }

    fn give_back(&self, after: Duration) -> BoxFuture<'_, Result<(), QueueError>> {
        self.script.act(Operation::GiveBack, move || self.inner.give_back(after)).boxed()
    }

    fn ticket(&self) -> Ticket {
        self.inner.ticket()
    }
}
