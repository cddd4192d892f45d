//! The bus over NATS: a work-queue stream of tasks, limits streams of events and advisories, a register for the leader,
//! core subjects for what may be lost. Nothing here is precious: every operation makes again what the broker has lost.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, RequestErrorKind,
    jetstream::{AckKind, Message},
};
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use percent_encoding::percent_decode_str;
use tracing::warn;
use url::Url;

use super::{Asked, Bus, Delivery, LEASE, Lease, QueueError, Register, Ticket};
use crate::{
    digest::Digest,
    wire::{self, Control, Event, Hello, Pool, Reply, Request, Task},
};

mod acker;
mod ask;
mod emitter;
mod follow;
mod puller;
mod register;
mod release;
mod streams;

use acker::Acker;
use emitter::Emitter;
use puller::Puller;
use streams::{ADVISORIES, Streams, TASKS};

const HELLO: &str = "fulltime.hello";
const CONTROL: &str = "fulltime.control";
/// A subject for each kind of request below it: what a role may ask for is a permission on subjects.
const API: &str = "fulltime.api";
/// How long the CLI waits for the coordinator.
const ANSWER: Duration = Duration::from_secs(5);
/// How long anything waits for the broker.
const PATIENCE: Duration = Duration::from_secs(5);
/// Messages of one call that are under way at once.
const UNDER_WAY: usize = 500;

/// [`Bus`] over NATS `JetStream`.
#[derive(Debug)]
pub struct JetStream {
    client: Client,
    streams: Arc<Streams>,
    puller: Puller,
    emitter: Emitter,
    acker: Acker,
}

fn broker<E: Into<Box<dyn std::error::Error + Send + Sync>>>(action: &'static str) -> impl Fn(E) -> QueueError {
    move |source| QueueError::Broker { action, source: source.into() }
}

impl JetStream {
    /// Connects, and makes the streams where they are missing.
    ///
    /// # Errors
    /// No server there, or one without `JetStream`.
    pub async fn connect(url: &str) -> Result<Self, QueueError> {
        Self::connect_with_lease(url, LEASE).await
    }

    /// As [`JetStream::connect`], with another lease (tests).
    ///
    /// # Errors
    /// As [`JetStream::connect`].
    pub async fn connect_with_lease(url: &str, lease: Duration) -> Result<Self, QueueError> {
        let (address, who) = identity(url);
        let mut options = async_nats::ConnectOptions::new()
            .name("fulltime")
            .connection_timeout(Duration::from_secs(3))
            .request_timeout(Some(PATIENCE))
            // A broker that comes back is found within a second: failover is short.
            .reconnect_delay_callback(|attempts| Duration::from_millis(50 * attempts.min(20) as u64));
        if let Some((user, password)) = who {
            // Answers come below an inbox of the role, so that no role can be allowed to hear another's.
            options = options.custom_inbox_prefix(format!("_INBOX.{user}")).user_and_password(user, password);
        }
        let connected = options.connect(address.as_str()).await;
        let client = connected.map_err(|source| QueueError::Connect { url: address, source })?;
        let streams = Arc::new(Streams::new(client.clone(), lease));
        streams.ensure(0).await?;
        let acker = Acker::start(client.clone());
        let puller = Puller::start(Arc::clone(&streams), acker.clone());
        let emitter = Emitter::start(Arc::clone(&streams));
        Ok(Self { client, streams, puller, emitter, acker })
    }

    async fn purge(&self, action: &'static str, filter: String) -> Result<(), QueueError> {
        let attempt = || async {
            let tasks = self.streams.context.get_stream_no_info(TASKS).await.map_err(broker(action))?;
            tasks.purge().filter(filter.clone()).await.map_err(broker(action))?;
            Ok(())
        };
        self.streams.healing(TASKS, attempt).await
    }

    async fn broadcasts<T: Send + 'static>(
        &self,
        subject: &'static str,
        decode: fn(&[u8]) -> Result<T, wire::WireError>,
    ) -> Result<BoxStream<'static, T>, QueueError> {
        let subscriber = self.client.subscribe(subject).await.map_err(broker("subscribe"))?;
        // Heard from now on: by whoever speaks after this.
        self.client.flush().await.map_err(broker("subscribe"))?;
        Ok(decoded(subscriber.map(|message| message.payload), decode))
    }

    async fn broadcast(&self, subject: &'static str, bytes: Vec<u8>) -> Result<(), QueueError> {
        self.client.publish(subject, bytes.into()).await.map_err(broker("publish"))
    }
}

/// An address without the name and password in it, and these. The address is what may be printed.
fn identity(url: &str) -> (String, Option<(String, String)>) {
    let Ok(mut address) = Url::parse(url) else { return (url.to_owned(), None) };
    let plain = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let (user, password) = (plain(address.username()), plain(address.password().unwrap_or_default()));
    if user.is_empty() || address.set_username("").is_err() || address.set_password(None).is_err() {
        return (url.to_owned(), None);
    }
    (address.to_string(), Some((user, password)))
}

/// Messages of other versions are dropped with a warning, not an end of the stream.
fn decoded<T: Send + 'static>(
    payloads: impl futures::Stream<Item = bytes::Bytes> + Send + 'static,
    decode: fn(&[u8]) -> Result<T, wire::WireError>,
) -> BoxStream<'static, T> {
    payloads
        .filter_map(move |payload| async move {
            decode(&payload).inspect_err(|error| warn!(%error, "dropped a message")).ok()
        })
        .boxed()
}

impl Bus for JetStream {
    fn release<'a>(&'a self, tasks: &'a [Task]) -> BoxFuture<'a, Result<(), QueueError>> {
        release::release(&self.streams, tasks).boxed()
    }

    fn pull<'a>(
        &'a self,
        pools: &'a [Pool],
        most: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        self.puller.pull(pools, most, wait).boxed()
    }

    fn adopt(&self, ticket: &Ticket) -> Box<dyn Lease> {
        Box::new(AckLease { client: self.client.clone(), acker: self.acker.clone(), ticket: ticket.clone() })
    }

    fn withdraw<'a>(&'a self, job: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        self.purge("withdraw a job", streams::job_filter(job)).boxed()
    }

    fn discard<'a>(&'a self, job: &'a str, work: &'a [Digest]) -> BoxFuture<'a, Result<(), QueueError>> {
        let purged = work.iter().map(move |digest| self.purge("discard work", streams::work_filter(job, digest)));
        stream::iter(purged).buffer_unordered(UNDER_WAY).try_collect().boxed()
    }

    fn emit<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), QueueError>> {
        self.emitter.emit(event).boxed()
    }

    fn events(&self) -> BoxFuture<'_, Result<BoxStream<'static, Event>, QueueError>> {
        follow::follow(Arc::clone(&self.streams)).boxed()
    }

    fn advisories(&self) -> BoxFuture<'_, Result<u64, QueueError>> {
        let attempt = || async {
            let stream = self.streams.context.get_stream(ADVISORIES).await.map_err(broker("count advisories"))?;
            Ok(stream.cached_info().state.messages)
        };
        async move { self.streams.healing(ADVISORIES, attempt).await }.boxed()
    }

    fn leader(&self) -> BoxFuture<'_, Result<Option<Register>, QueueError>> {
        register::read(&self.streams).boxed()
    }

    fn claim<'a>(&'a self, expected: Option<u64>, value: &'a [u8]) -> BoxFuture<'a, Result<Option<u64>, QueueError>> {
        register::claim(&self.streams, expected, value).boxed()
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    fn hello<'a>(&'a self, hello: &'a Hello) -> BoxFuture<'a, Result<(), QueueError>> {
        async move { self.broadcast(HELLO, wire::encode(hello)?).await }.boxed()
    }

    fn hellos(&self) -> BoxFuture<'_, Result<BoxStream<'static, Hello>, QueueError>> {
        self.broadcasts(HELLO, wire::decode_hello).boxed()
    }

    fn control<'a>(&'a self, control: &'a Control) -> BoxFuture<'a, Result<(), QueueError>> {
        async move { self.broadcast(CONTROL, wire::encode(control)?).await }.boxed()
    }

    fn controls(&self) -> BoxFuture<'_, Result<BoxStream<'static, Control>, QueueError>> {
        self.broadcasts(CONTROL, wire::decode::<Control>).boxed()
    }

    fn request<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Reply, QueueError>> {
        async move {
            let body = serde_json::to_vec(request).map_err(broker("ask the coordinator"))?;
            let subject = format!("{API}.{}", request.kind());
            let answer = tokio::time::timeout(ANSWER, self.client.request(subject, body.into())).await;
            let message = match answer {
                Ok(Ok(message)) => message,
                Ok(Err(_)) | Err(_) => return Err(QueueError::NoCoordinator),
            };
            serde_json::from_slice(&message.payload).map_err(broker("read the coordinator's answer"))
        }
        .boxed()
    }

    fn requests(&self) -> BoxFuture<'_, Result<BoxStream<'static, Asked>, QueueError>> {
        async move {
            let subscriber = self.client.subscribe(format!("{API}.*")).await.map_err(broker("subscribe"))?;
            self.client.flush().await.map_err(broker("subscribe"))?;
            let client = self.client.clone();
            let asked = subscriber.filter_map(move |message| {
                let client = client.clone();
                async move {
                    let reply_to = message.reply?;
                    let request: Request = serde_json::from_slice(&message.payload)
                        .inspect_err(|error| warn!(%error, "dropped a request"))
                        .ok()?;
                    // What was allowed is the subject; what is done has to be the same.
                    if message.subject.strip_prefix(API) != Some(&format!(".{}", request.kind())) {
                        warn!(subject = %message.subject, "dropped a request under another's subject");
                        return None;
                    }
                    let answer = move |reply: Reply| {
                        async move {
                            let body = serde_json::to_vec(&reply).map_err(broker("answer"))?;
                            client.publish(reply_to, body.into()).await.map_err(broker("answer"))
                        }
                        .boxed()
                    };
                    Some(Asked { request, answer: Box::new(answer) })
                }
            });
            Ok(asked.boxed())
        }
        .boxed()
    }
}

/// The lease of a delivery, here or in another process: its acknowledgement subject is all it takes.
#[derive(Debug)]
struct AckLease {
    client: Client,
    acker: Acker,
    ticket: Ticket,
}

impl AckLease {
    fn of(client: &Client, acker: &Acker, message: &Message) -> Self {
        let ticket = Ticket(message.reply.as_deref().unwrap_or_default().to_owned());
        Self { client: client.clone(), acker: acker.clone(), ticket }
    }
}

impl Lease for AckLease {
    fn renew(&self) -> BoxFuture<'_, Result<(), QueueError>> {
        // Not waited for: the next batch renews, too.
        let sent = self.client.publish(self.ticket.0.clone(), AckKind::Progress.into());
        sent.map(|sent| sent.map_err(broker("renew a lease"))).boxed()
    }

    fn finish(&self) -> BoxFuture<'_, Result<(), QueueError>> {
        self.acker.finish(&self.ticket.0).boxed()
    }

    fn give_back(&self, after: Duration) -> BoxFuture<'_, Result<(), QueueError>> {
        let nak = AckKind::Nak((!after.is_zero()).then_some(after));
        let answer = self.client.request(self.ticket.0.clone(), nak.into());
        let heard = answer.map(|answer| match answer {
            Ok(_) => Ok(()),
            // The broker is there and knows nothing of this delivery: then there is nothing left to end.
            Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
            Err(error) => Err(broker("give a delivery back")(error)),
        });
        heard.boxed()
    }

    fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }
}
