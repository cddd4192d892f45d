//! Following the events. What is kept is read without a gap, through lost connections and lost consumers; when the
//! stream itself is another (the broker lost its disk), following ends, so that its reader starts anew from the store.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tracing::warn;

use super::{
    QueueError, broker,
    streams::{EVENTS, Streams},
};
use crate::wire::{self, Event};

/// Two of these without a sign of the consumer, and it counts as gone.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Messages under way to this reader.
const BATCH: usize = 1000;
/// How often, and how long after each other, it is tried to go on where the reading stopped.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

struct Follower {
    streams: Arc<Streams>,
    /// When the stream was made: tells it from its successor.
    born: String,
    /// Sequence of the last message read.
    last: u64,
    /// Of this consumer's deliveries: a number left out is a message lost on the way.
    delivered: u64,
    messages: pull::Stream,
    /// Of the last message, those that nobody has asked for yet.
    events: std::vec::IntoIter<Event>,
}

/// Events from now on.
pub(super) async fn follow(streams: Arc<Streams>) -> Result<BoxStream<'static, Event>, QueueError> {
    let follower = Follower::open(streams, None).await?;
    let events = stream::unfold(follower, |mut follower| async move {
        loop {
            if let Some(event) = follower.events.next() {
                return Some((event, follower));
            }
            match follower.next().await {
                Some(Ok(events)) => follower.events = events.into_iter(),
                Some(Err(error)) => warn!(%error, "dropped a message of events"),
                None => follower = follower.resume().await?,
            }
        }
    });
    Ok(events.boxed())
}

impl Follower {
    /// Follows from the end of the stream, or after `(born, last)` where that stream still is.
    async fn open(streams: Arc<Streams>, after: Option<(&str, u64)>) -> Result<Self, QueueError> {
        let (born, last, messages) = streams.healing(EVENTS, || Self::subscribe(&streams, after)).await?;
        Ok(Self { streams, born, last, delivered: 0, messages, events: Vec::new().into_iter() })
    }

    async fn subscribe(
        streams: &Streams,
        after: Option<(&str, u64)>,
    ) -> Result<(String, u64, pull::Stream), QueueError> {
        let stream = streams.context.get_stream(EVENTS).await.map_err(broker("open the event stream"))?;
        let info = stream.cached_info();
        let born = info.created.to_string();
        let last = match after {
            Some((known, last)) if known == born => last,
            Some(_) => return Err(broker("follow events")(OtherStreamError)),
            None => info.state.last_sequence,
        };
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
            ack_policy: AckPolicy::None,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: Duration::from_secs(30),
            ..Default::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(broker("follow events"))?;
        let messages = consumer.stream().max_messages_per_batch(BATCH).heartbeat(HEARTBEAT).messages().await;
        Ok((born, last, messages.map_err(broker("follow events"))?))
    }

    /// The next message, one that cannot be read, or nothing where the consumer is lost.
    async fn next(&mut self) -> Option<Result<Vec<Event>, wire::WireError>> {
        let message = self.messages.next().await?.inspect_err(|error| warn!(%error, "events stopped coming")).ok()?;
        let info = message.info().ok()?;
        if info.consumer_sequence != self.delivered + 1 {
            return None;
        }
        self.delivered = info.consumer_sequence;
        self.last = info.stream_sequence;
        Some(wire::decode(&message.payload))
    }

    /// Goes on after the last message read, or not at all.
    async fn resume(self) -> Option<Self> {
        let Self { streams, born, last, messages, .. } = self;
        drop(messages);
        for attempt in 1..=ATTEMPTS {
            match Self::open(Arc::clone(&streams), Some((&born, last))).await {
                Ok(follower) => return Some(follower),
                Err(error) if attempt == ATTEMPTS || error.is_of::<OtherStreamError>() => {
                    warn!(error = crate::error::chain(&error), "no longer following events");
                    return None;
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        None
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the event stream is a new one")]
struct OtherStreamError;

impl QueueError {
    fn is_of<E: std::error::Error + 'static>(&self) -> bool {
        matches!(self, Self::Broker { source, .. } if source.is::<E>())
    }
}
