//! The bytes of one shard on their way from the archive to the decoder: fetched in parts, a few in flight and a few
//! ahead, each byte once, and kept only until no interval needs them any more. So a shard of a whole recording takes no
//! more memory than one of ten seconds.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use fulltime_common::{
    plan::RecordingRef,
    store::{Store, StoreError},
};
use futures::StreamExt as _;
use tokio::{sync::mpsc, task::AbortHandle};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    crash::{self, Point},
    error::TaskError,
};

/// Bytes of one request.
const PART: u64 = 4 << 20;
/// Requests in flight.
const IN_FLIGHT: usize = 3;
/// Parts that wait for the decoder.
const AHEAD: usize = 3;

/// A moving view of a byte range. Filled by a task, read by the decode thread.
#[derive(Debug)]
pub struct Window {
    arriving: mpsc::Receiver<Result<Bytes, StoreError>>,
    /// Parts that arrived, adjoining.
    held: VecDeque<Bytes>,
    /// Offset of the first held byte.
    start: u64,
    busy: Arc<AtomicU64>,
    task: AbortOnDropHandle<()>,
}

impl Window {
    /// Begins to fetch. A range that leaves the file is cut there: the decoder finds its packets missing.
    pub fn open(archive: Store, recording: RecordingRef, range: Range<u64>) -> Self {
        let (sender, arriving) = mpsc::channel(AHEAD);
        let busy = Arc::new(AtomicU64::new(0));
        let (start, end, tally) = (range.start, range.end.min(recording.size), Arc::clone(&busy));
        let task = tokio::spawn(async move {
            let mut parts = futures::stream::iter((start..end).step_by(PART as usize))
                .map(|from| archive.get_range_if_match(&recording.key, from..end.min(from + PART), &recording.etag))
                .buffered(IN_FLIGHT);
            loop {
                let since = Instant::now();
                let Some(part) = parts.next().await else { return };
                tally.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
                crash::point(Point::AfterFetch);
                let failed = part.is_err();
                if sender.send(part).await.is_err() || failed {
                    return;
                }
            }
        });
        Self { arriving, held: VecDeque::new(), start, busy, task: AbortOnDropHandle::new(task) }
    }

    /// Ends the fetching; whoever waits in [`Window::read`] gets what is there.
    pub fn abort_handle(&self) -> AbortHandle {
        self.task.abort_handle()
    }

    /// Time spent waiting for the store.
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy.load(Ordering::Relaxed))
    }

    /// The bytes of `range`, fewer where the recording ends before. Bytes below `keep` are not asked for again. Blocks:
    /// for threads only.
    pub fn read(&mut self, range: Range<u64>, keep: u64) -> Result<Bytes, TaskError> {
        while self.held.front().is_some_and(|part| self.start + part.len() as u64 <= keep) {
            self.start += self.held.pop_front().map_or(0, |part| part.len() as u64);
        }
        let mut end = self.start + self.held.iter().map(|part| part.len() as u64).sum::<u64>();
        while end < range.end {
            let Some(part) = self.arriving.blocking_recv().transpose()? else { break };
            end += part.len() as u64;
            if self.held.is_empty() && end <= keep {
                self.start = end;
            } else {
                self.held.push_back(part);
            }
        }
        // Nothing is better than bytes of another place, should an index ever go back below what it said to keep.
        Ok(if range.start < self.start { Bytes::new() } else { self.cut(range.start..range.end.min(end)) })
    }

    /// Shares the bytes if they lie in one part, else joins them.
    fn cut(&self, range: Range<u64>) -> Bytes {
        let mut joined = Vec::new();
        let mut at = self.start;
        for part in &self.held {
            let next = at + part.len() as u64;
            let (from, to) = (range.start.max(at), range.end.min(next));
            if from < to {
                let piece = (from - at) as usize..(to - at) as usize;
                if (from, to) == (range.start, range.end) {
                    return part.slice(piece);
                }
                joined.extend_from_slice(&part[piece]);
            }
            at = next;
        }
        joined.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn overlapping_intervals_are_read_once_and_a_short_file_gives_less() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(dir.path().to_str().unwrap()).unwrap();
        let content: Vec<u8> = (0..11_000_000u32).map(|i| (i / 7) as u8).collect();
        store.put("v", content.clone()).await.unwrap();
        let etag = store.head("v").await.unwrap().unwrap().e_tag.unwrap();
        let read = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&read);
        let store = store.observed(move |bytes| {
            counter.fetch_add(bytes, Ordering::Relaxed);
        });
        let recording = RecordingRef { key: "v".into(), size: content.len() as u64, etag };
        let mut window = Window::open(store, recording, 1_000..12_000_000);
        let check = move || {
            for (range, keep) in [
                (1_000..2_000_000, 1_000),
                (1_900_000..6_000_000, 1_900_000),
                (6_000_000..6_000_100, 6_000_000),
                (10_900_000..12_000_000, 10_900_000),
            ] {
                let bytes = window.read(range.clone(), keep).unwrap();
                let end = content.len().min(range.end as usize);
                assert!(bytes == content[range.start as usize..end], "{range:?}");
            }
            assert!(window.held.len() <= 2, "what no interval needs is let go");
        };
        tokio::task::spawn_blocking(check).await.unwrap();
        assert_eq!(read.load(Ordering::Relaxed), 11_000_000 - 1_000);
    }
}
