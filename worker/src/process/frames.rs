//! What a worker and its lane processes say to each other, over a socket pair that is the lane's standard input: frames
//! of a length (four bytes, little end first) and a message in the bus's own encoding.

use std::io::{self, Read, Write};

use fulltime_common::{
    Digest,
    wire::{self, Outcome, Task},
};
use fulltime_observe::{CacheTally, LaneSample};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use wincode::{SchemaRead, SchemaReadOwned, SchemaWrite, config::DefaultConfig};

use crate::{attempt::Phase, executor::TaskFailure};

/// Beyond any task: a longer frame is none of ours.
const LONGEST: u32 = 16 << 20;

/// From the worker to a lane.
#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub enum Order {
    /// Fetch this, and run it when the task before it is done. `id` names the attempt.
    Run { id: u64, task: Box<Task>, may_exist: bool },
    /// End it at the next batch.
    Halt { id: u64 },
    /// Look at the canary, with the models of this task if there is one.
    Canary { task: Option<Box<Task>> },
}

/// From a lane to the worker.
#[derive(Debug, PartialEq, SchemaRead, SchemaWrite)]
pub enum Report {
    /// The first word: the class of this lane's results, and what has come of the place that it was given (whether it is
    /// bound, and to which processors or why not).
    Ready {
        class: String,
        place: Option<(bool, String)>,
    },
    /// What the canary's answers amount to, by the map pipeline they were made with; or why there are none.
    Canary {
        map: Option<Digest>,
        answers: u64,
        failure: Option<String>,
    },
    /// The first and last word: there will be no lane.
    Hopeless {
        exit: u8,
        cause: String,
        hint: Option<String>,
    },
    Phase {
        id: u64,
        phase: Phase,
    },
    /// Something was finished, and so many frames since the last beat.
    Beat {
        id: u64,
        frames: u64,
    },
    Committed {
        id: u64,
        outcome: Outcome,
    },
    Failed {
        id: u64,
        failure: TaskFailure,
    },
    /// What the lane did in the last second. Not a sign of progress.
    Samples(Vec<LaneSample>),
    /// Where its caches had their answers from in the last second.
    Lookups(Vec<CacheTally>),
}

/// A message as a frame.
///
/// # Errors
/// A message that does not fit the format.
pub fn frame<T>(message: &T) -> io::Result<Vec<u8>>
where
    T: SchemaWrite<DefaultConfig, Src = T>,
{
    let body = wire::encode(message).map_err(io::Error::other)?;
    let mut frame = u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes().to_vec();
    frame.extend(body);
    Ok(frame)
}

fn message<T>(body: &[u8]) -> io::Result<T>
where
    T: SchemaReadOwned<DefaultConfig, Dst = T>,
{
    wire::decode(body).map_err(io::Error::other)
}

fn length(bytes: [u8; 4]) -> io::Result<usize> {
    let length = u32::from_le_bytes(bytes);
    if length > LONGEST { Err(io::ErrorKind::InvalidData.into()) } else { Ok(length as usize) }
}

/// The next message. Blocks.
///
/// # Errors
/// The other end is gone (`UnexpectedEof`), or does not speak our language.
pub fn read<T>(from: &mut impl Read) -> io::Result<T>
where
    T: SchemaReadOwned<DefaultConfig, Dst = T>,
{
    let mut head = [0; 4];
    from.read_exact(&mut head)?;
    let mut body = vec![0; length(head)?];
    from.read_exact(&mut body)?;
    message(&body)
}

/// As [`read`]. Not to be dropped half-way.
///
/// # Errors
/// As [`read`].
pub async fn read_async<T>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T>
where
    T: SchemaReadOwned<DefaultConfig, Dst = T>,
{
    let mut head = [0; 4];
    from.read_exact(&mut head).await?;
    let mut body = vec![0; length(head)?];
    from.read_exact(&mut body).await?;
    message(&body)
}

/// Blocks until the message is on its way: who crashes right afterwards has been heard.
///
/// # Errors
/// The other end is gone.
pub fn write<T>(to: &mut impl Write, message: &T) -> io::Result<()>
where
    T: SchemaWrite<DefaultConfig, Src = T>,
{
    to.write_all(&frame(message)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_out_as_they_went_in_and_half_a_frame_is_an_end() {
        let sent = [
            Report::Ready { class: "sim".into(), place: Some((true, "0-3".into())) },
            Report::Phase { id: 7, phase: Phase::Running },
        ];
        let mut bytes = Vec::new();
        sent.iter().for_each(|report| write(&mut bytes, report).unwrap());
        let mut reader = &bytes[..];
        for report in &sent {
            assert_eq!(read::<Report>(&mut reader).unwrap(), *report);
        }
        let mut reader = &bytes[..];
        assert_eq!(read_async::<Report>(&mut reader).await.unwrap(), sent[0]);
        let cut = &mut &bytes[..bytes.len() - 1];
        read::<Report>(cut).unwrap();
        assert_eq!(read::<Report>(cut).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_no_frame_is_refused_before_memory_is_taken_for_it() {
        let error = read::<Report>(&mut &[0xff; 64][..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
