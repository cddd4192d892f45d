//! Many messages to the task stream with two answers. The broker keeps what one connection sends in the order in which it
//! is sent, and numbers it: if first and last message are as far apart as they were sent, all between them are kept. If
//! not (one was a repetition, another leader wrote in between), each is sent again and its own answer waited for; ids
//! make that harmless.

use async_nats::{HeaderMap, jetstream::context::PublishAckFuture};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    QueueError, broker,
    streams::{self, Streams, TASKS},
};
use crate::wire::{self, Task};

const ACTION: &str = "release a task";
/// Messages whose own answers are under way at once.
const UNDER_WAY: usize = 500;

pub(super) async fn release(streams: &Streams, tasks: &[Task]) -> Result<(), QueueError> {
    // Whatever goes wrong on the short way: the long one heals it.
    if tasks.len() > 2 && together(streams, tasks).await.unwrap_or(false) {
        return Ok(());
    }
    let sent: Vec<_> = tasks.iter().map(|task| alone(streams, task)).collect();
    // In their order, and many on their way before the first answer is there.
    stream::iter(sent).buffered(UNDER_WAY).try_collect().await
}

async fn alone(streams: &Streams, task: &Task) -> Result<(), QueueError> {
    streams.publish(TASKS, ACTION, streams::task_subject(task), headers(task), wire::encode(task)?).await
}

/// Whether all are known to be kept.
async fn together(streams: &Streams, tasks: &[Task]) -> Result<bool, QueueError> {
    let [first, between @ .., last] = tasks else { return Ok(false) };
    let first = answered(streams, first).await?;
    for task in between {
        let (subject, headers) = (streams::task_subject(task), headers(task));
        let sent = streams.client.publish_with_headers(subject, headers, wire::encode(task)?.into());
        sent.await.map_err(broker(ACTION))?;
    }
    let last = answered(streams, last).await?;
    let first = first.await.map_err(broker(ACTION))?;
    let last = last.await.map_err(broker(ACTION))?;
    let apart = between.len() as u64 + 1;
    Ok(!first.duplicate && !last.duplicate && first.sequence.checked_add(apart) == Some(last.sequence))
}

async fn answered(streams: &Streams, task: &Task) -> Result<PublishAckFuture, QueueError> {
    let (subject, headers) = (streams::task_subject(task), headers(task));
    let sent = streams.context.publish_with_headers(subject, headers, wire::encode(task)?.into());
    sent.await.map_err(broker(ACTION))
}

fn headers(task: &Task) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", task.message_id());
    if let Some(trace) = &task.trace {
        // For whoever looks at the queue with other tools; workers take it from the task itself.
        headers.insert("traceparent", trace.as_str());
    }
    headers
}
