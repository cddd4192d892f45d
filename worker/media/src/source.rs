//! A recording in the archive as the index makers read it: pieces fetched by ranged, conditional reads, each counted.
//! Lives on a blocking thread; every fetch waits for the runtime.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use fulltime_common::{
    plan::RecordingRef,
    store::{Store, StoreError},
};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::runtime::Handle;

use crate::av::Input;

/// Ranged requests under way at the same time.
const IN_FLIGHT: usize = 16;
/// No single request asks for more.
const REQUEST: u64 = 2 << 20;
/// What an unforeseen read fetches while only the header is wanted.
const HEADER_GRAIN: u64 = 4 << 10;
/// What it fetches while the whole file is being read.
const SCAN_GRAIN: u64 = 8 << 20;
/// Bytes kept behind the reader while the whole file is being read. Packets lie at most that far behind it.
const SCAN_WINDOW: u64 = 64 << 20;

/// What to do for a read of bytes that are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Fetch a little.
    Header,
    /// Invent zeros: the payload does not matter, only where it lies (the hollow read of [`crate::mp4`]).
    Hollow,
    /// Fetch much, and forget what lies far behind.
    Scan,
}

#[derive(Debug)]
pub(crate) struct Source {
    store: Store,
    pub recording: RecordingRef,
    runtime: Handle,
    pub mode: Mode,
    /// Pieces by their first byte; they never overlap.
    pieces: BTreeMap<u64, Bytes>,
    pub bytes_read: u64,
    /// The first failure; libav sees only that a read failed.
    error: Option<StoreError>,
}

impl Source {
    pub fn new(store: Store, recording: RecordingRef, runtime: Handle) -> Self {
        Self { store, recording, runtime, mode: Mode::Header, pieces: BTreeMap::new(), bytes_read: 0, error: None }
    }

    /// What planning an indexed recording may read: 2 % of it, or 256 KiB where that is more.
    pub fn budget(&self) -> u64 {
        (self.recording.size / 50).max(256 << 10).saturating_sub(self.bytes_read)
    }

    /// The store's error behind a failure that libav reported.
    pub fn take_error(&mut self) -> Result<(), StoreError> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// The part of a piece that begins at `at`, without fetching.
    fn here(&self, at: u64) -> Option<Bytes> {
        let (start, piece) = self.pieces.range(..=at).next_back()?;
        let skip = at - start;
        (skip < piece.len() as u64).then(|| piece.slice(skip as usize..))
    }

    /// What of `range` is not here, cut into requests.
    fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let (mut at, end) = (range.start, range.end.min(self.recording.size));
        let mut missing = Vec::new();
        while at < end {
            if let Some(piece) = self.here(at) {
                at += piece.len() as u64;
                continue;
            }
            let next = self.pieces.range(at..).next().map_or(end, |(&start, _)| start);
            let stop = next.min(end).min(at + REQUEST);
            missing.push(at..stop);
            at = stop;
        }
        missing
    }

    /// Fetches what is not here yet, several requests at a time.
    pub fn fetch(&mut self, ranges: impl IntoIterator<Item = Range<u64>>) -> Result<(), StoreError> {
        let mut wanted: Vec<Range<u64>> = ranges.into_iter().flat_map(|range| self.missing(range)).collect();
        wanted.sort_by_key(|range| range.start);
        // Neighbouring wishes may overlap each other.
        let mut end = 0;
        wanted.retain_mut(|range| {
            range.start = range.start.max(end);
            end = end.max(range.end);
            range.start < range.end
        });
        let (store, recording) = (&self.store, &self.recording);
        let requests = futures::stream::iter(wanted.into_iter().map(|range| async move {
            let bytes = store.get_range_if_match(&recording.key, range.clone(), &recording.etag).await?;
            Ok::<_, StoreError>((range.start, bytes))
        }));
        let pieces: Vec<_> = self.runtime.block_on(requests.buffered(IN_FLIGHT).try_collect())?;
        for (start, bytes) in pieces {
            self.bytes_read += bytes.len() as u64;
            self.pieces.insert(start, bytes);
        }
        Ok(())
    }

    /// The bytes of a range, fewer at the end of the file.
    pub fn bytes(&mut self, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.fetch([range.clone()])?;
        let mut out = Vec::new();
        let mut at = range.start;
        while let Some(piece) = (at < range.end).then(|| self.here(at)).flatten() {
            let piece = piece.slice(..piece.len().min((range.end - at) as usize));
            if out.is_empty() && at + piece.len() as u64 == range.end {
                return Ok(piece);
            }
            at += piece.len() as u64;
            out.extend_from_slice(&piece);
        }
        Ok(out.into())
    }

    /// Forgets all but the pieces near `at`.
    fn forget_behind(&mut self, at: u64) {
        if self.mode == Mode::Scan {
            self.pieces.retain(|start, piece| start + piece.len() as u64 + SCAN_WINDOW > at);
        }
    }
}

impl Input for Source {
    fn read(&mut self, at: u64, into: &mut [u8]) -> Option<usize> {
        if self.mode == Mode::Hollow && self.here(at).is_none() {
            let next = self.pieces.range(at..).next().map_or(u64::MAX, |(&start, _)| start);
            let len = into.len().min(usize::try_from(next - at).unwrap_or(usize::MAX));
            into[..len].fill(0);
            return Some(len);
        }
        if self.here(at).is_none() {
            let grain = if self.mode == Mode::Scan { SCAN_GRAIN } else { HEADER_GRAIN };
            self.forget_behind(at);
            if let Err(error) = self.fetch([at..at + grain]) {
                self.error.get_or_insert(error);
                return None;
            }
        }
        let piece = self.here(at)?;
        let len = into.len().min(piece.len());
        into[..len].copy_from_slice(&piece[..len]);
        Some(len)
    }

    fn len(&self) -> u64 {
        match self.mode {
            // Packets beyond the end of a truncated recording are listed, too: they make gaps.
            Mode::Hollow => u64::MAX >> 2,
            Mode::Header | Mode::Scan => self.recording.size,
        }
    }

    fn seekable(&self) -> bool {
        true
    }
}
