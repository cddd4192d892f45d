//! The way of a process's acknowledgements to the broker. The broker hears what one connection says to one consumer in
//! the order in which it is said, so its answer to the last of many confirms them all: a lane that ends alone is
//! confirmed at once, a thousand that end together share an answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use async_nats::{Client, RequestErrorKind, jetstream::AckKind};
use futures::future;
use tokio::sync::{mpsc, oneshot};

use super::{QueueError, ask::GoneError, broker};

/// Acknowledgements in one turn.
const BATCH: usize = 512;
const ACTION: &str = "finish a delivery";

type Confirmed = oneshot::Sender<Result<(), Arc<QueueError>>>;

/// The way to the acker of a connection, which ends with the last of them.
#[derive(Debug, Clone)]
pub(super) struct Acker {
    tickets: mpsc::UnboundedSender<(String, Confirmed)>,
}

impl Acker {
    pub fn start(client: Client) -> Self {
        // Whoever finishes waits until it is confirmed, so no more can be in it than there are deliveries.
        let (tickets, incoming) = mpsc::unbounded_channel();
        tokio::spawn(run(client, incoming));
        Self { tickets }
    }

    /// Waits until the broker has confirmed that the delivery is over.
    pub async fn finish(&self, ticket: &str) -> Result<(), QueueError> {
        let (confirmed, answer) = oneshot::channel();
        self.tickets.send((ticket.to_owned(), confirmed)).map_err(|_| GoneError::Closed)?;
        let answer = answer.await.map_err(|_| GoneError::Closed)?;
        answer.map_err(broker(ACTION))
    }
}

async fn run(client: Client, mut incoming: mpsc::UnboundedReceiver<(String, Confirmed)>) {
    let mut taken = Vec::new();
    while incoming.recv_many(&mut taken, BATCH).await > 0 {
        let mut consumers: BTreeMap<String, (Vec<String>, Vec<Confirmed>)> = BTreeMap::new();
        for (ticket, confirmed) in taken.drain(..) {
            let (tickets, waiting) = consumers.entry(consumer(&ticket).to_owned()).or_default();
            tickets.push(ticket);
            waiting.push(confirmed);
        }
        let client = &client;
        let told = consumers.into_values().map(|(tickets, waiting)| async move {
            let result = tell(client, &tickets).await.map_err(Arc::new);
            for confirmed in waiting {
                // Whoever has stopped waiting needs no answer.
                let _ = confirmed.send(result.clone());
            }
        });
        future::join_all(told).await;
    }
}

/// Acknowledges deliveries of one consumer.
async fn tell(client: &Client, tickets: &[String]) -> Result<(), QueueError> {
    let Some((last, before)) = tickets.split_last() else { return Ok(()) };
    let connection = || client.statistics().connects.load(Ordering::Relaxed);
    let begun = connection();
    for ticket in before {
        client.publish(ticket.clone(), AckKind::Ack.into()).await.map_err(broker(ACTION))?;
    }
    confirm(client, last).await?;
    if connection() == begun {
        return Ok(());
    }
    // What was said before the connection broke may have been lost with it.
    future::try_join_all(before.iter().map(|ticket| confirm(client, ticket))).await.map(drop)
}

async fn confirm(client: &Client, ticket: &str) -> Result<(), QueueError> {
    match client.request(ticket.to_owned(), AckKind::Ack.into()).await {
        Ok(_) => Ok(()),
        // The broker is there and knows nothing of this delivery: then there is nothing left to end.
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Ok(()),
        Err(error) => Err(broker(ACTION)(error)),
    }
}

/// What the subjects of one consumer's deliveries have in common: all but the numbers of the delivery, which are the last
/// five parts, and a random one after them in the longer form. A form that nobody knows stands for itself.
fn consumer(ticket: &str) -> &str {
    let numbers = match ticket.split('.').count() {
        9 => 5,
        12 => 6,
        _ => return ticket,
    };
    ticket.rsplitn(numbers + 1, '.').last().unwrap_or(ticket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_of_one_consumer_are_told_from_those_of_others() {
        assert_eq!(consumer("$JS.ACK.TASKS.any_high.1.22.3.1795598143413.0"), "$JS.ACK.TASKS.any_high");
        let long = "$JS.ACK.hub.a1b2c3.TASKS.any_high.1.22.3.1795598143413.0.xyz";
        assert_eq!(consumer(long), "$JS.ACK.hub.a1b2c3.TASKS.any_high");
        assert_eq!(consumer("_INBOX.something.else"), "_INBOX.something.else");
    }
}
