//! The leader's register: one value with a revision, changed by compare-and-set.

use async_nats::{
    HeaderMap,
    jetstream::{context::PublishErrorKind, stream::LastRawMessageErrorKind},
};

use super::{
    QueueError, broker,
    streams::{LEADER, LEADER_KEY, Streams},
};
use crate::queue::Register;

/// What stands there; nothing where the bucket is gone, too.
pub(super) async fn read(streams: &Streams) -> Result<Option<Register>, QueueError> {
    let read = || async {
        let bucket = streams.context.get_stream_no_info(LEADER).await.map_err(broker("open the leader's register"))?;
        match bucket.get_last_raw_message_by_subject(LEADER_KEY).await {
            Ok(entry) => Ok(Some(Register { revision: entry.sequence, value: entry.payload.to_vec() })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(broker("read the leader's register")(error)),
        }
    };
    streams.healing(LEADER, read).await
}

/// Writes `value` where the register stands at `expected`; the new revision, or nothing where it stood elsewhere.
pub(super) async fn claim(streams: &Streams, expected: Option<u64>, value: &[u8]) -> Result<Option<u64>, QueueError> {
    let write = || async {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", expected.unwrap_or(0).to_string());
        let written = streams.context.publish_with_headers(LEADER_KEY, headers, value.to_vec().into());
        match written.await.map_err(broker("claim the lead"))?.await {
            Ok(ack) => Ok(Some(ack.sequence)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(None),
            Err(error) => Err(broker("claim the lead")(error)),
        }
    };
    streams.healing(LEADER, write).await
}
