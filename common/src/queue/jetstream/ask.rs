//! One pull request to one consumer, and every message that answers it. Exact: a request ends when the broker has said
//! so, and whatever arrives for one that nobody reads any more is handed back at once, never left lying under a lease.

use std::time::Duration;

use async_nats::{Client, Message, StatusCode, Subscriber, connection::State, jetstream::AckKind};
use futures::StreamExt as _;
use tokio::time::Instant;

use super::{
    QueueError, broker,
    streams::{Lineup, TASKS},
};

/// How long after its own end a request may stay unanswered: then the consumer, or the way to it, is gone. The broker
/// ends every request, so that this is the watchdog on the consumer's heartbeat.
const GRACE: Duration = Duration::from_secs(2);
/// How long messages may trail in for a request that was given up.
const STRAGGLERS: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// What is there now.
    Look,
    /// The next ones, for so long.
    Wait(Duration),
}

#[derive(Debug)]
pub(super) enum Answer {
    Message(Message),
    /// There was nothing (more).
    Empty,
    /// The consumer or its stream is not there, or the broker is not.
    Gone(GoneError),
}

/// Why a consumer did not answer a pull request.
#[derive(Debug, thiserror::Error)]
pub(super) enum GoneError {
    #[error("nobody serves the consumer")]
    NoResponders,
    #[error("{status} {description}")]
    Refused { status: StatusCode, description: String },
    #[error("no answer in time")]
    Silent,
    #[error("the subscription ended")]
    Closed,
    #[error("not connected")]
    Disconnected,
}

impl From<GoneError> for QueueError {
    fn from(error: GoneError) -> Self {
        broker("pull")(error)
    }
}

pub(super) struct Ask {
    client: Client,
    /// Taken when the request is given up before its end.
    subscriber: Option<Subscriber>,
    left: usize,
    until: Instant,
}

impl Ask {
    pub async fn send(client: &Client, lineup: &Lineup, batch: usize, patience: Patience) -> Result<Self, QueueError> {
        // Requests that wait for a reconnect would come true much later, when nobody waits for them.
        if client.connection_state() != State::Connected {
            return Err(GoneError::Disconnected.into());
        }
        let (body, wait) = match patience {
            Patience::Look => (format!(r#"{{"batch":{batch},"no_wait":true}}"#), Duration::ZERO),
            Patience::Wait(wait) => (format!(r#"{{"batch":{batch},"expires":{}}}"#, wait.as_nanos()), wait),
        };
        let inbox = client.new_inbox();
        let subscriber = client.subscribe(inbox.clone()).await.map_err(broker("pull"))?;
        let ask = Self {
            client: client.clone(),
            subscriber: Some(subscriber),
            left: batch,
            until: Instant::now() + wait + GRACE,
        };
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{TASKS}.{}", lineup.consumer());
        client.publish_with_reply(subject, inbox, body.into()).await.map_err(broker("pull"))?;
        Ok(ask)
    }

    /// The next message, or why there is none. After anything but a message the request is over.
    pub async fn next(&mut self) -> Answer {
        loop {
            let Some(subscriber) = self.subscriber.as_mut().filter(|_| self.left > 0) else { return Answer::Empty };
            let message = match tokio::time::timeout_at(self.until, subscriber.next()).await {
                Ok(Some(message)) => message,
                Ok(None) => return self.over(Answer::Gone(GoneError::Closed)),
                // Not over: what comes yet is handed back when this is dropped.
                Err(_) => return Answer::Gone(GoneError::Silent),
            };
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.left -= 1;
                    return Answer::Message(message);
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => return self.over(Answer::Empty),
                Some(StatusCode::NO_RESPONDERS) => return self.over(Answer::Gone(GoneError::NoResponders)),
                Some(status) => {
                    let description = message.description.unwrap_or_default().to_string();
                    return self.over(Answer::Gone(GoneError::Refused { status, description }));
                }
            }
        }
    }

    fn over(&mut self, answer: Answer) -> Answer {
        self.left = 0;
        answer
    }
}

impl Drop for Ask {
    fn drop(&mut self) {
        let (Some(mut subscriber), true) = (self.subscriber.take(), self.left > 0) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (client, until) = (self.client.clone(), self.until + STRAGGLERS);
        runtime.spawn(async move {
            while let Ok(Some(message)) = tokio::time::timeout_at(until, subscriber.next()).await {
                if message.status.is_some_and(|status| status != StatusCode::OK) {
                    return;
                }
                hand_back(&client, &message).await;
            }
        });
    }
}

/// Gives a message that nobody wants to the next who asks. Where that fails, its lease runs out.
pub(super) async fn hand_back(client: &Client, message: &Message) {
    if let Some(reply) = &message.reply {
        let _ = client.publish(reply.clone(), AckKind::Nak(None).into()).await;
    }
}
