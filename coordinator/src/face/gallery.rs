//! What the viewer shows of a match: the objects that its reduce has published, and the pictures that map tasks stored. They
//! pass as they are; nothing is decoded. Pictures lie inside the shards' tables, so no URL names one alone: ranges of the
//! tables are read here instead, few at once, and each answer is bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fulltime_common::{
    keys::{self, TABLES},
    pipeline::Pipeline,
    plan::{MatchId, MatchList, ReduceInputs, ReduceRecording},
    results::MatchSummary,
    spec::{Job, Registered},
    store::{Store, StoreError},
};
use fulltime_tables::{
    Reader, Row, TableError,
    matches::{Detection, Player, Track},
    pick::{self, Ranges},
};
use tokio::{sync::Semaphore, time::Instant};

use crate::manifest::{Manifest, Quarantined};

/// Pictures whose boxes are told at once.
pub(super) const WINDOW: usize = 32;
/// Tables that are read at once, over all visitors.
const READS: usize = 2;
/// Bytes of the largest table that is read whole (tracks, players) and of the largest picture that is passed on.
const LARGEST: u64 = 16 << 20;
/// Matches that are kept in mind, and for how long.
const KEPT: usize = 8;
const FRESH: Duration = Duration::from_secs(30);

/// Why something is not shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum GalleryError {
    #[error("there is no job `{0}`")]
    NoJob(String),
    #[error("no match `{0}` of this job is finished")]
    NoMatch(String),
    #[error("there is no picture of this frame")]
    NoPicture,
    #[error("`{key}` has {size} bytes, more than is passed on")]
    TooLarge { key: String, size: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("read `{key}`")]
    Table {
        key: String,
        #[source]
        source: TableError,
    },
    #[error("the coordinator stops")]
    Stops,
}

impl GalleryError {
    /// HTTP status.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::NoJob(_) | Self::NoMatch(_) | Self::NoPicture => 404,
            Self::TooLarge { .. } => 413,
            Self::Store(_) | Self::Table { .. } | Self::Stops => 503,
        }
    }
}

type Shown<T> = Result<T, GalleryError>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Gallery {
    state: Store,
    room: Semaphore,
    kept: Mutex<Vec<(Instant, Arc<Album>)>>,
}

/// One job: its matches, those that can be looked at, and what was given up.
#[derive(Debug)]
pub(super) struct Season {
    pub job: String,
    /// The newest finished generation; 0 before the first.
    pub finished: u32,
    pub matches: Vec<MatchId>,
    /// Slugs of those that a reduce has published.
    pub done: BTreeSet<String>,
    pub given_up: Vec<Quarantined>,
}

/// One match as its reduce has published it.
#[derive(Debug)]
pub(super) struct Album {
    pub job: String,
    pub slug: String,
    generation: u32,
    out: Store,
    store: Store,
    pub summary: MatchSummary,
    pub recordings: Vec<Footage>,
    pub tracks: Vec<Track>,
    pub players: Vec<Player>,
}

/// A recording and the numbers of its frames that have pictures.
#[derive(Debug)]
pub(super) struct Footage {
    recording: ReduceRecording,
    pub pictures: Vec<u32>,
}

impl Footage {
    pub(super) fn key(&self) -> &str {
        &self.recording.placement.recording.key
    }
    pub(super) fn period(&self) -> u32 {
        self.recording.placement.period
    }
    pub(super) fn camera(&self) -> &str {
        &self.recording.placement.camera
    }
    pub(super) fn size(&self) -> (u32, u32) {
        (self.recording.width, self.recording.height)
    }
    pub(super) fn fps(&self) -> f64 {
        rate(&self.recording)
    }
}

fn rate(recording: &ReduceRecording) -> f64 {
    let (rate, per) = recording.frame_rate;
    f64::from(rate) / f64::from(per.max(1))
}

/// Frames of which a picture was kept: by frame number, as map tasks choose them, but for gaps.
fn pictures(recording: &ReduceRecording, gaps: &[fulltime_common::plan::Gap], stride: u32) -> Vec<u32> {
    if stride == 0 {
        return Vec::new();
    }
    let shards = recording.shards.iter().flat_map(|shard| {
        let first = shard.frames.start.next_multiple_of(stride);
        (first..shard.frames.end).step_by(stride as usize)
    });
    shards.filter(|frame| gaps.iter().all(|gap| !gap.frames.contains(frame))).collect()
}

impl Gallery {
    pub fn new(state: Store) -> Self {
        Self { state, room: Semaphore::new(READS), kept: Mutex::default() }
    }

    async fn out_of(&self, job: &str) -> Shown<Store> {
        let none = || GalleryError::NoJob(job.to_owned());
        // An id is one segment of letters, digits and dashes: nothing else is looked for.
        if job.is_empty() || !job.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Err(none());
        }
        let registered: Option<Registered> = self.state.get_json(&keys::state::registry(job)).await?;
        Ok(Store::open(&registered.ok_or_else(none)?.out)?)
    }

    pub(super) async fn season(&self, job: &str) -> Shown<Season> {
        let out = self.out_of(job).await?;
        let list: Option<MatchList> = out.get_json(&keys::job::plan_index(job)).await?;
        let matches = list.map(|list| list.matches.into_iter().map(|planned| planned.id).collect()).unwrap_or_default();
        let mut newest: Option<Manifest> = None;
        while let Some(manifest) = out.get_json(&keys::job::manifest(job, next(newest.as_ref()))).await? {
            newest = Some(manifest);
        }
        let mut done = BTreeSet::new();
        for generation in 1..=next(newest.as_ref()) {
            for meta in out.list(Some(&keys::job::summaries(job, generation))).await? {
                let name = meta.location.filename().and_then(|name| name.strip_suffix(".json"));
                done.extend(name.map(str::to_owned));
            }
        }
        let finished = newest.as_ref().map_or(0, |manifest| manifest.generation);
        let given_up = newest.map(|manifest| manifest.quarantined).unwrap_or_default();
        Ok(Season { job: job.to_owned(), finished, matches, done, given_up })
    }

    /// The newest published results of a match.
    pub(super) async fn album(&self, job: &str, slug: &str) -> Shown<Arc<Album>> {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|(since, _)| since.elapsed() < FRESH);
            if let Some((_, album)) = kept.iter().find(|(_, album)| album.job == job && album.slug == slug) {
                return Ok(Arc::clone(album));
            }
        }
        let album = Arc::new(self.open(job, slug).await?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((Instant::now(), Arc::clone(&album)));
        Ok(album)
    }

    async fn open(&self, job: &str, slug: &str) -> Shown<Album> {
        let none = || GalleryError::NoMatch(slug.to_owned());
        let out = self.out_of(job).await?;
        let list: Option<MatchList> = out.get_json(&keys::job::plan_index(job)).await?;
        let ids = list.into_iter().flat_map(|list| list.matches).map(|planned| planned.id);
        let id = ids.into_iter().find(|id| id.slug() == slug).ok_or_else(none)?;
        let spec: Option<Job> = out.get_json(&keys::job::spec(job)).await?;
        let store = Store::open(&spec.ok_or_else(none)?.store)?;
        let mut found = None;
        for generation in 1.. {
            if let Some(summary) = out.get_json::<MatchSummary>(&keys::job::summary(job, generation, &id)).await? {
                found = Some((generation, summary));
            }
            if !out.exists(&keys::job::manifest(job, generation)).await? {
                break;
            }
        }
        let (generation, summary) = found.ok_or_else(none)?;
        let inputs: Option<ReduceInputs> = out.get_json(&keys::job::inputs(job, &id, generation)).await?;
        let inputs = inputs.ok_or_else(none)?;
        let pipeline: Option<Pipeline> = store.get_json(&keys::store::pipeline(&inputs.pipeline)).await?;
        let pipeline = pipeline.ok_or_else(none)?;
        let footage = |recording: ReduceRecording| {
            let known = summary.recordings.iter().find(|known| known.key == recording.placement.recording.key);
            let gaps = known.map(|known| known.gaps.as_slice()).unwrap_or_default();
            let pictures = pictures(&recording, gaps, pipeline.preview_stride(rate(&recording)));
            Footage { recording, pictures }
        };
        let recordings = inputs.recordings.into_iter().map(footage).collect();
        let [_, tracks, players] = TABLES;
        Ok(Album {
            tracks: self.rows(&out, keys::job::table(job, generation, tracks, &id)).await?,
            players: self.rows(&out, keys::job::table(job, generation, players, &id)).await?,
            job: job.to_owned(),
            slug: slug.to_owned(),
            generation,
            out,
            store,
            recordings,
            summary,
        })
    }

    async fn rows<R: Row + Send + 'static>(&self, out: &Store, key: String) -> Shown<Vec<R>> {
        let size = out.head(&key).await?.map(|meta| meta.size).ok_or(GalleryError::NoPicture)?;
        if size > LARGEST {
            return Err(GalleryError::TooLarge { key, size });
        }
        let bytes = out.get(&key).await?.ok_or(GalleryError::NoPicture)?;
        self.read(key, move || Reader::new(bytes)?.collect()).await
    }

    /// Reads of a table without holding up a thread of the runtime.
    async fn read<T: Send + 'static>(
        &self,
        key: String,
        read: impl FnOnce() -> Result<T, TableError> + Send + 'static,
    ) -> Shown<T> {
        let _place = self.room.acquire().await.map_err(|_| GalleryError::Stops)?;
        let read = tokio::task::spawn_blocking(read).await.map_err(|_| GalleryError::Stops)?;
        read.map_err(|source| GalleryError::Table { key, source })
    }

    /// The preview picture of a frame, a JPEG.
    pub(super) async fn picture(&self, album: &Album, recording: usize, frame: u32) -> Shown<Vec<u8>> {
        let footage = album.recordings.get(recording).ok_or(GalleryError::NoPicture)?;
        let shards = &footage.recording.shards;
        let shard = shards.iter().find(|shard| shard.frames.contains(&frame)).ok_or(GalleryError::NoPicture)?;
        let key = keys::store::shard_frames(&shard.digest);
        let file = ranges(&album.store, &key).await?;
        let picture = self.read(key, move || pick::picture(&file, frame)).await?;
        picture.filter(|jpeg| jpeg.len() as u64 <= LARGEST).ok_or(GalleryError::NoPicture)
    }

    /// The detections of a window of frames with pictures ([`WINDOW`] of them, counted from 0), by frame.
    pub(super) async fn boxes(
        &self,
        album: &Album,
        recording: usize,
        window: usize,
    ) -> Shown<BTreeMap<u32, Vec<Detection>>> {
        let footage = album.recordings.get(recording).ok_or(GalleryError::NoPicture)?;
        let wanted: BTreeSet<u32> =
            footage.pictures.chunks(WINDOW).nth(window).ok_or(GalleryError::NoPicture)?.iter().copied().collect();
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Err(GalleryError::NoPicture) };
        let frames = *first..last + 1;
        let key = keys::job::table(&album.job, album.generation, TABLES[0], &album.summary.id);
        let file = ranges(&album.out, &key).await?;
        let (period, camera) = (footage.period(), footage.camera().to_owned());
        let rows = self.read(key, move || pick::detections(&file, period, &camera, &frames)).await?;
        let mut boxes: BTreeMap<u32, Vec<Detection>> = wanted.iter().map(|frame| (*frame, Vec::new())).collect();
        for row in rows {
            if let Some(there) = u32::try_from(row.frame).ok().and_then(|frame| boxes.get_mut(&frame)) {
                there.push(row);
            }
        }
        Ok(boxes)
    }

    /// The drawn picture of a match, a JPEG.
    pub(super) async fn cover(&self, job: &str, slug: &str) -> Shown<Vec<u8>> {
        let album = self.album(job, slug).await?;
        let key = keys::job::preview(job, album.generation, &album.summary.id);
        let size = album.out.head(&key).await?.map(|meta| meta.size).ok_or(GalleryError::NoPicture)?;
        if size > LARGEST {
            return Err(GalleryError::TooLarge { key, size });
        }
        Ok(album.out.get(&key).await?.ok_or(GalleryError::NoPicture)?.to_vec())
    }
}

fn next(newest: Option<&Manifest>) -> u32 {
    newest.map_or(1, |manifest| manifest.generation + 1)
}

/// An object of which ranges are read, as it is now. To be read outside of the runtime's own threads.
async fn ranges(store: &Store, key: &str) -> Shown<Ranges> {
    let meta = store.head(key).await?.ok_or(GalleryError::NoPicture)?;
    let etag = meta.e_tag.unwrap_or_else(|| "*".to_owned());
    let (store, key, runtime) = (store.clone(), key.to_owned(), tokio::runtime::Handle::current());
    Ok(Ranges::new(meta.size, move |range| {
        runtime.block_on(store.get_range_if_match(&key, range, &etag)).map_err(io::Error::other)
    }))
}

#[cfg(test)]
mod tests {
    use fulltime_common::{
        Digest,
        plan::{Gap, Placement, RecordingRef, ReduceShard},
    };

    use super::*;

    #[test]
    fn pictures_are_where_map_tasks_keep_them_whatever_the_shards() {
        let shard = |frames| ReduceShard { digest: Digest::of_bytes(b"x"), frames };
        let recording = ReduceRecording {
            placement: Placement {
                recording: RecordingRef { key: "a.mp4".into(), size: 1, etag: "e".into() },
                period: 1,
                camera: "main".into(),
                offset_us: 0,
            },
            index: Digest::of_bytes(b"i"),
            frames: 300,
            frame_rate: (25, 1),
            width: 320,
            height: 180,
            shards: vec![shard(0..60), shard(60..130), shard(200..300)],
            gaps: vec![],
            views: vec![],
        };
        let gaps = [Gap { frames: 250..275, reason: "damaged".into() }];
        assert_eq!(pictures(&recording, &gaps, 50), [0, 50, 100, 200]);
        assert_eq!(pictures(&recording, &[], 0), [0_u32; 0]);
    }

    #[tokio::test]
    async fn what_is_no_id_of_a_job_is_not_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let gallery = Gallery::new(Store::create(&dir.path().display().to_string()).unwrap());
        for job in ["", "..", "a/b", "none"] {
            assert_eq!(gallery.season(job).await.unwrap_err().status(), 404, "{job}");
        }
    }
}
