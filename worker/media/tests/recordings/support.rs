//! A folder as an archive that counts what is read from it, test recordings, and the reference decode.

use std::{
    fmt,
    hash::{DefaultHasher, Hasher},
    ops::{ControlFlow, Range},
    path::{Path as FsPath, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use ffmpeg_next as ff;
use fulltime_common::{index::RecordingIndex, plan::RecordingRef, store::Store};
use fulltime_media::{IntervalDecoder, IntervalOutcome, MediaError, Picture, index_recording};
use fulltime_synth::{EncodeOptions, Encoder, testcard};
use futures::stream::BoxStream;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, local::LocalFileSystem, path::Path,
};

/// A folder of recordings.
pub struct Archive {
    folder: tempfile::TempDir,
    pub store: Store,
    counting: Arc<Counting>,
}

#[derive(Debug)]
struct Counting {
    inner: LocalFileSystem,
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counting({})", self.inner)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let result = self.inner.get_opts(location, options).await?;
        if head {
            return Ok(result);
        }
        self.bytes.fetch_add(result.range.end - result.range.start, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

impl Archive {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inner = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let counting = Arc::new(Counting { inner, bytes: AtomicU64::new(0), requests: AtomicU64::new(0) });
        let url = url::Url::from_file_path(folder.path()).unwrap();
        Self { store: Store::over(url, counting.clone()), counting, folder }
    }

    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join(key)
    }

    /// A recording of numbered test cards.
    pub fn record(&self, key: &str, frames: u32, options: &EncodeOptions) {
        let mut encoder = Encoder::create(self.path(key), options).unwrap();
        for n in 0..frames {
            encoder.push(&testcard(n, options.width, options.height)).unwrap();
        }
        encoder.finish().unwrap();
    }

    pub fn write(&self, key: &str, bytes: &[u8]) {
        std::fs::write(self.path(key), bytes).unwrap();
    }

    pub async fn recording(&self, key: &str) -> RecordingRef {
        let meta = self.store.object_store().head(&Path::from(key)).await.unwrap();
        RecordingRef { key: key.to_owned(), size: meta.size, etag: meta.e_tag.unwrap() }
    }

    pub async fn index(&self, key: &str) -> Result<RecordingIndex, MediaError> {
        index_recording(&self.store, &self.recording(key).await).await
    }

    /// Bytes and requests since the last call.
    pub fn taken(&self) -> (u64, u64) {
        (self.counting.bytes.swap(0, Ordering::Relaxed), self.counting.requests.swap(0, Ordering::Relaxed))
    }

    /// What a worker fetches of the recording.
    pub async fn fetch(&self, index: &RecordingIndex, range: Range<u64>) -> Bytes {
        if range.is_empty() {
            return Bytes::new();
        }
        self.store.get_range_if_match(&index.recording.key, range, &index.recording.etag).await.unwrap()
    }

    /// Decodes one interval alone, from exactly its own bytes.
    pub async fn decode(&self, index: &RecordingIndex, interval: usize) -> Interval {
        let range = index.intervals[interval].bytes.clone();
        let bytes = self.fetch(index, range.clone()).await;
        decode(&mut IntervalDecoder::new(index).unwrap(), interval, &bytes, range.start)
    }
}

/// What came out of an interval.
#[derive(Debug, PartialEq)]
pub struct Interval {
    pub outcome: IntervalOutcome,
    /// Frame number and content.
    pub frames: Vec<(u32, u64)>,
    /// Numbers read from the test cards.
    pub cards: Vec<Option<u32>>,
}

pub fn decode(decoder: &mut IntervalDecoder, interval: usize, bytes: &Bytes, start: u64) -> Interval {
    let (mut frames, mut cards) = (Vec::new(), Vec::new());
    let sink = &mut |number, picture: Picture| {
        frames.push((number, picture_hash(&picture)));
        let luma = picture.plane(0);
        let card = fulltime_synth::read_testcard(luma.data, luma.stride, luma.width as u32, luma.height as u32);
        cards.push(card.map(u32::from));
        ControlFlow::Continue(())
    };
    let outcome = decoder.decode(interval, bytes, start, sink).unwrap();
    Interval { outcome, frames, cards }
}

fn picture_hash(picture: &Picture) -> u64 {
    let mut hasher = DefaultHasher::new();
    (0..picture.planes()).flat_map(|plane| picture.plane(plane).rows()).for_each(|row| hasher.write(row));
    hasher.finish()
}

/// The content of every frame as libav shows them when it plays the file from the start.
pub fn straight(path: &FsPath) -> Vec<u64> {
    let mut input = ff::format::input(&path).unwrap();
    let stream = input.streams().best(ff::media::Type::Video).unwrap();
    let index = stream.index();
    let mut context = ff::codec::context::Context::from_parameters(stream.parameters()).unwrap();
    context.set_threading(ff::threading::Config { count: 1, ..Default::default() });
    let mut decoder = context.decoder().video().unwrap();
    let mut hashes = Vec::new();
    let mut frame = ff::frame::Video::empty();
    let mut drain = |decoder: &mut ff::decoder::Video| {
        while decoder.receive_frame(&mut frame).is_ok() {
            hashes.push(frame_hash(&frame));
        }
    };
    for (stream, packet) in input.packets() {
        if stream.index() == index {
            // Damage is libav's own affair here.
            let _ = decoder.send_packet(&packet);
            drain(&mut decoder);
        }
    }
    decoder.send_eof().unwrap();
    drain(&mut decoder);
    hashes
}

fn frame_hash(frame: &ff::frame::Video) -> u64 {
    let mut hasher = DefaultHasher::new();
    for plane in 0..frame.planes() {
        let (width, height) = (frame.plane_width(plane) as usize, frame.plane_height(plane) as usize);
        let (data, stride) = (frame.data(plane), frame.stride(plane));
        (0..height).for_each(|y| hasher.write(&data[y * stride..y * stride + width]));
    }
    hasher.finish()
}

/// The test assets, or a line that says why a test does nothing.
pub fn assets() -> Option<PathBuf> {
    let beside = FsPath::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("shared/assets"));
    let above = FsPath::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("../shared/assets"));
    let given = std::env::var_os("FULLTIME_ASSETS").map(PathBuf::from);
    let found = given.into_iter().chain(beside).chain(above).find(|folder| folder.join("clips").is_dir());
    if found.is_none() {
        println!("skipped: no test assets (set FULLTIME_ASSETS to their folder)");
    }
    found
}
