//! The bus over NATS: a work-queue stream of tasks, a limits stream of events, core subjects for what may be lost.

use std::{collections::HashMap, time::Duration};

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        self, AckKind, Message,
        consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
        stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
    },
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use tokio::sync::Mutex;
use tracing::warn;

use super::{Asked, Bus, Delivery, LEASE, Lease, QueueError, Ticket};
use crate::{
    plan::encode,
    wire::{self, Control, Event, Hello, Pool, Reply, Request, Task},
};

const TASKS: &str = "FULLTIME_TASKS";
const EVENTS: &str = "FULLTIME_EVENTS";
const HELLO: &str = "fulltime.hello";
const CONTROL: &str = "fulltime.control";
const API: &str = "fulltime.api";
/// How long the CLI waits for the coordinator.
const ANSWER: Duration = Duration::from_secs(5);

/// [`Bus`] over NATS JetStream.
#[derive(Debug)]
pub struct JetStream {
    client: Client,
    context: jetstream::Context,
    lease: Duration,
    tasks: Stream,
    /// Durable consumers by pool, made on first use.
    consumers: Mutex<HashMap<Pool, PullConsumer>>,
}

fn broker<E: Into<Box<dyn std::error::Error + Send + Sync>>>(action: &'static str) -> impl Fn(E) -> QueueError {
    move |source| QueueError::Broker { action, source: source.into() }
}

/// A pool as one subject token.
fn token(pool: &Pool) -> String {
    match pool {
        Pool::Any => "any".to_owned(),
        Pool::Class(class) => encode(&class.0).replace('.', "%2E"),
    }
}

/// Tasks of one pool and job share a subject, so that a job can be withdrawn by filter.
fn subject(pool: &Pool, job: &str) -> String {
    format!("fulltime.task.{}.{}", token(pool), encode(job).replace('.', "%2E"))
}

impl JetStream {
    /// Connects, and makes the streams where they are missing.
    ///
    /// # Errors
    /// No server there, or one without JetStream.
    pub async fn connect(url: &str) -> Result<Self, QueueError> {
        Self::connect_with_lease(url, LEASE).await
    }

    /// As [`JetStream::connect`], with another lease (tests).
    ///
    /// # Errors
    /// As [`JetStream::connect`].
    pub async fn connect_with_lease(url: &str, lease: Duration) -> Result<Self, QueueError> {
        let client = async_nats::ConnectOptions::new()
            .name("fulltime")
            .connection_timeout(Duration::from_secs(3))
            .connect(url)
            .await
            .map_err(|source| QueueError::Connect { url: url.to_owned(), source })?;
        let context = jetstream::new(client.clone());
        let tasks = context
            .get_or_create_stream(Config {
                name: TASKS.to_owned(),
                subjects: vec!["fulltime.task.>".to_owned()],
                retention: RetentionPolicy::WorkQueue,
                discard: DiscardPolicy::New,
                storage: StorageType::File,
                duplicate_window: Duration::from_secs(120),
                ..Default::default()
            })
            .await
            .map_err(broker("create the task stream"))?;
        context
            .get_or_create_stream(Config {
                name: EVENTS.to_owned(),
                subjects: vec!["fulltime.event.>".to_owned()],
                retention: RetentionPolicy::Limits,
                discard: DiscardPolicy::Old,
                storage: StorageType::File,
                max_age: Duration::from_secs(24 * 3600),
                max_bytes: 1 << 30,
                ..Default::default()
            })
            .await
            .map_err(broker("create the event stream"))?;
        Ok(Self { client, context, lease, tasks, consumers: Mutex::default() })
    }

    async fn consumer(&self, pool: &Pool) -> Result<PullConsumer, QueueError> {
        let mut consumers = self.consumers.lock().await;
        if let Some(consumer) = consumers.get(pool) {
            return Ok(consumer.clone());
        }
        // Consumer names allow neither dots nor percent signs.
        let name = token(pool).replace('%', "_");
        let consumer = self
            .tasks
            .get_or_create_consumer(
                &name,
                pull::Config {
                    durable_name: Some(name.clone()),
                    filter_subject: format!("fulltime.task.{}.*", token(pool)),
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: self.lease,
                    max_deliver: -1,
                    max_ack_pending: 20_000,
                    ..Default::default()
                },
            )
            .await
            .map_err(broker("create a consumer"))?;
        consumers.insert(pool.clone(), consumer.clone());
        Ok(consumer)
    }

    async fn ask_one(&self, pool: &Pool, wait: Duration) -> Result<Option<Delivery>, QueueError> {
        let consumer = self.consumer(pool).await?;
        let request = consumer.fetch().max_messages(1);
        let request = if wait.is_zero() { request } else { request.expires(wait) };
        let batch = match request.messages().await {
            Ok(batch) => batch,
            Err(error) => {
                // The consumer may be gone with the broker's disk: make it again next time.
                self.consumers.lock().await.remove(pool);
                return Err(broker("pull")(error));
            }
        };
        let mut batch = std::pin::pin!(batch);
        while let Some(message) = batch.next().await {
            let message = message.map_err(|source| QueueError::Broker { action: "pull", source })?;
            match wire::decode::<Task>(&message.payload) {
                Ok(task) => {
                    let delivered = message.info().map_or(1, |info| u64::try_from(info.delivered).unwrap_or(1));
                    return Ok(Some(Delivery::new(task, delivered, Box::new(MessageLease(message)))));
                }
                Err(error) => {
                    warn!(%error, "dropped a task that this version cannot read");
                    message
                        .ack_with(AckKind::Term)
                        .await
                        .map_err(|source| QueueError::Broker { action: "drop", source })?;
                }
            }
        }
        Ok(None)
    }

    async fn broadcasts<T: Send + 'static>(
        &self,
        subject: &'static str,
        decode: fn(&[u8]) -> Result<T, wire::WireError>,
    ) -> Result<BoxStream<'static, T>, QueueError> {
        let subscriber = self.client.subscribe(subject).await.map_err(broker("subscribe"))?;
        Ok(decoded(subscriber.map(|message| message.payload), decode))
    }

    async fn broadcast(&self, subject: &'static str, bytes: Vec<u8>) -> Result<(), QueueError> {
        self.client.publish(subject, bytes.into()).await.map_err(broker("publish"))
    }
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
        async move {
            // All are on their way before the first answer is waited for.
            let mut acks = Vec::with_capacity(tasks.len());
            for task in tasks {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Msg-Id", task.message_id());
                let bytes = wire::encode(task)?;
                let subject = subject(&task.pool(), &task.job);
                let ack = self.context.publish_with_headers(subject, headers, bytes.into());
                acks.push(ack.await.map_err(broker("release a task"))?);
            }
            for ack in acks {
                ack.await.map_err(broker("release a task"))?;
            }
            Ok(())
        }
        .boxed()
    }

    fn pull<'a>(
        &'a self,
        pools: &'a [Pool],
        _most: usize,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        async move {
            // First a look at every pool without waiting, in order; then wait on all of them at once. A delivery that
            // arrives on the losing side of the wait goes back to the queue when its lease runs out, so it is taken
            // instead: the waits are joined, and each is short.
            for pool in pools {
                if let Some(delivery) = self.ask_one(pool, Duration::ZERO).await? {
                    return Ok(vec![delivery]);
                }
            }
            let waits = pools.iter().map(|pool| self.ask_one(pool, wait).boxed());
            let (first, _, rest) = futures::future::select_all(waits).await;
            let mut found = first?;
            // The others have been asked, too: whatever they bring in this instant is handed back at once.
            for other in rest {
                if let Some(Ok(Some(delivery))) = other.now_or_never() {
                    if found.is_none() {
                        found = Some(delivery);
                    } else {
                        delivery.give_back(Duration::ZERO).await?;
                    }
                }
            }
            Ok(found.into_iter().collect())
        }
        .boxed()
    }

    fn adopt(&self, ticket: &Ticket) -> Box<dyn Lease> {
        Box::new(AdoptedLease { client: self.client.clone(), ticket: ticket.clone() })
    }

    fn withdraw<'a>(&'a self, job: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        async move {
            let filter = format!("fulltime.task.*.{}", encode(job).replace('.', "%2E"));
            self.tasks.purge().filter(filter).await.map_err(broker("withdraw a job"))?;
            Ok(())
        }
        .boxed()
    }

    fn emit<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<(), QueueError>> {
        async move {
            let subject = format!("fulltime.event.{}", encode(&event.job).replace('.', "%2E"));
            let bytes = wire::encode(event)?;
            let ack = self.context.publish(subject, bytes.into()).await.map_err(broker("emit an event"))?;
            ack.await.map_err(broker("emit an event"))?;
            Ok(())
        }
        .boxed()
    }

    fn events(&self) -> BoxFuture<'_, Result<BoxStream<'static, Event>, QueueError>> {
        async move {
            let stream = self.context.get_stream(EVENTS).await.map_err(broker("open the event stream"))?;
            let consumer = stream
                .create_consumer(pull::OrderedConfig { deliver_policy: DeliverPolicy::New, ..Default::default() })
                .await
                .map_err(broker("follow events"))?;
            let messages = consumer.messages().await.map_err(broker("follow events"))?;
            let payloads = messages.filter_map(|message| async move {
                message.inspect_err(|error| warn!(%error, "event stream stumbled")).ok().map(|m| m.message.payload)
            });
            Ok(decoded(payloads, wire::decode::<Event>))
        }
        .boxed()
    }

    fn hello<'a>(&'a self, hello: &'a Hello) -> BoxFuture<'a, Result<(), QueueError>> {
        async move { self.broadcast(HELLO, wire::encode(hello)?).await }.boxed()
    }

    fn hellos(&self) -> BoxFuture<'_, Result<BoxStream<'static, Hello>, QueueError>> {
        self.broadcasts(HELLO, wire::decode::<Hello>).boxed()
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
            let answer = tokio::time::timeout(ANSWER, self.client.request(API, body.into())).await;
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
            let subscriber = self.client.subscribe(API).await.map_err(broker("subscribe"))?;
            let client = self.client.clone();
            let asked = subscriber.filter_map(move |message| {
                let client = client.clone();
                async move {
                    let reply_to = message.reply?;
                    let request = serde_json::from_slice(&message.payload)
                        .inspect_err(|error| warn!(%error, "dropped a request"))
                        .ok()?;
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

struct MessageLease(Message);

impl std::fmt::Debug for MessageLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MessageLease").field(&self.0.subject).finish()
    }
}

impl MessageLease {
    async fn answer(&self, kind: AckKind) -> Result<(), QueueError> {
        self.0.ack_with(kind).await.map_err(|source| QueueError::Broker { action: "answer a delivery", source })
    }
}

impl Lease for MessageLease {
    fn renew(&self) -> BoxFuture<'_, Result<(), QueueError>> {
        self.answer(AckKind::Progress).boxed()
    }

    fn finish(&self) -> BoxFuture<'_, Result<(), QueueError>> {
        async move {
            self.0.double_ack().await.map_err(|source| QueueError::Broker { action: "finish a delivery", source })
        }
        .boxed()
    }

    fn give_back(&self, after: Duration) -> BoxFuture<'_, Result<(), QueueError>> {
        self.answer(AckKind::Nak((!after.is_zero()).then_some(after))).boxed()
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.0.reply.as_deref().unwrap_or_default().to_owned())
    }
}

/// The lease of a delivery that another process pulled: its acknowledgement subject is all it takes.
#[derive(Debug)]
struct AdoptedLease {
    client: Client,
    ticket: Ticket,
}

impl AdoptedLease {
    async fn answer(&self, kind: AckKind) -> Result<(), QueueError> {
        let answered = self.client.request(self.ticket.0.clone(), kind.into());
        answered.await.map(|_| ()).map_err(broker("answer a delivery"))
    }
}

impl Lease for AdoptedLease {
    fn renew(&self) -> BoxFuture<'_, Result<(), QueueError>> {
        self.answer(AckKind::Progress).boxed()
    }

    fn finish(&self) -> BoxFuture<'_, Result<(), QueueError>> {
        self.answer(AckKind::Ack).boxed()
    }

    fn give_back(&self, after: Duration) -> BoxFuture<'_, Result<(), QueueError>> {
        self.answer(AckKind::Nak((!after.is_zero()).then_some(after))).boxed()
    }

    fn ticket(&self) -> Ticket {
        self.ticket.clone()
    }
}
