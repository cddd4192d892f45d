//! The way of a process's events to the broker. One message is under way at a time and takes all events that came while
//! the last one was: a lane that speaks alone is heard at once, a thousand that speak together share a message.

use std::{collections::BTreeMap, sync::Arc};

use async_nats::HeaderMap;
use tokio::sync::{mpsc, oneshot};

use super::{
    QueueError,
    ask::GoneError,
    broker,
    streams::{EVENTS, Streams, event_subject},
};
use crate::wire::{self, Event};

/// Events in one message: far from the broker's limit of a megabyte, however long the causes they name.
const BATCH: usize = 128;

type Kept = oneshot::Sender<Result<(), Arc<QueueError>>>;

/// The way to the emitter of a connection. Ends it when dropped.
#[derive(Debug)]
pub(super) struct Emitter {
    events: mpsc::UnboundedSender<(Event, Kept)>,
}

impl Emitter {
    pub fn start(streams: Arc<Streams>) -> Self {
        // Whoever speaks waits until it is kept, so no more events can be in it than there are lanes.
        let (events, incoming) = mpsc::unbounded_channel();
        tokio::spawn(run(streams, incoming));
        Self { events }
    }

    /// Waits until the event is kept.
    pub async fn emit(&self, event: &Event) -> Result<(), QueueError> {
        let (kept, answer) = oneshot::channel();
        self.events.send((event.clone(), kept)).map_err(|_| GoneError::Closed)?;
        let answer = answer.await.map_err(|_| GoneError::Closed)?;
        answer.map_err(broker("emit an event"))
    }
}

async fn run(streams: Arc<Streams>, mut incoming: mpsc::UnboundedReceiver<(Event, Kept)>) {
    let mut taken = Vec::new();
    while incoming.recv_many(&mut taken, BATCH).await > 0 {
        let mut jobs: BTreeMap<String, (Vec<Event>, Vec<Kept>)> = BTreeMap::new();
        for (event, kept) in taken.drain(..) {
            let (events, waiting) = jobs.entry(event_subject(&event.job)).or_default();
            events.push(event);
            waiting.push(kept);
        }
        for (subject, (events, waiting)) in jobs {
            let result = publish(&streams, subject, &events).await.map_err(Arc::new);
            for kept in waiting {
                // Whoever has stopped waiting needs no answer.
                let _ = kept.send(result.clone());
            }
        }
    }
}

async fn publish(streams: &Streams, subject: String, events: &Vec<Event>) -> Result<(), QueueError> {
    streams.publish(EVENTS, "emit events", subject, HeaderMap::new(), wire::encode(events)?).await
}
