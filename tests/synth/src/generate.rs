//! Whole recordings: shots are simulated in order, rendered and encoded in segments side by side, and joined by packets.
//! A segment depends on its frames alone, so the bytes do not depend on the number of threads.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::{Mutex, mpsc},
    thread,
};

use ffmpeg_next::Packet;
use fulltime_media::encode::{Container, EncodeOptions, Muxer, VideoEncoder, Yuv420Frame};

use crate::{
    camera::Post,
    error::SynthError,
    feed::{Directing, Feed, Shot},
    raster::Canvas,
    render::Renderer,
    truth::FrameTruth,
};

/// Which cameras film the match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filming {
    /// `main`, and with two cameras `tight`.
    Broadcast,
    /// `wide`, or with two cameras `left` and `right`.
    Fixed,
}

#[derive(Debug, Clone)]
pub struct MatchOptions {
    /// Start of the file names.
    pub name: String,
    pub seed: u64,
    /// Of each period.
    pub frames: u32,
    pub periods: u32,
    pub filming: Filming,
    /// One or two.
    pub cameras: u32,
    pub directing: Directing,
    /// Deviation of the sensor noise in 8-bit levels.
    pub grain: f32,
    pub encode: EncodeOptions,
    /// File extension: mp4, mov, mkv, ts or avi.
    pub container: String,
    pub truth: bool,
    pub threads: usize,
}

impl MatchOptions {
    /// A 20 s broadcast match of one camera and one period.
    #[must_use]
    pub fn new(name: impl Into<String>, seed: u64, width: u32, height: u32) -> Self {
        Self {
            name: name.into(),
            seed,
            frames: 500,
            periods: 1,
            filming: Filming::Broadcast,
            cameras: 1,
            directing: Directing::default(),
            grain: 1.2,
            encode: EncodeOptions { preset: "ultrafast", qp: Some(28), ..EncodeOptions::new(width, height) },
            container: "mp4".into(),
            truth: true,
            threads: thread::available_parallelism().map_or(1, |n| n.get()),
        }
    }

    #[must_use]
    pub fn posts(&self) -> Vec<Post> {
        match (self.filming, self.cameras) {
            (Filming::Broadcast, 0 | 1) => vec![Post::Main],
            (Filming::Broadcast, _) => vec![Post::Main, Post::Tight],
            (Filming::Fixed, 0 | 1) => vec![Post::Wide],
            (Filming::Fixed, _) => vec![Post::Left, Post::Right],
        }
    }

    fn size(&self) -> (u32, u32) {
        (self.encode.width, self.encode.height)
    }

    fn feed(&self, period: u32, post: Post) -> Feed {
        let fps = self.encode.fps.0 as f32 / self.encode.fps.1 as f32;
        Feed::new(self.seed, period, post, self.size(), fps, self.frames, self.directing)
    }

    fn renderer(&self, posts: &[Post]) -> Renderer {
        Renderer::new(self.seed, posts, self.size(), self.grain, self.threads)
    }

    /// Whole GOPs, about ten seconds. Without keyframes there is nothing to cut at: one segment.
    fn segment(&self) -> u32 {
        let about = 10 * self.encode.fps.0 / self.encode.fps.1.max(1);
        match self.encode.intra_refresh {
            true => self.frames.max(1),
            false => (about / self.encode.gop).max(1) * self.encode.gop,
        }
    }
}

/// One finished file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedRecording {
    pub path: PathBuf,
    pub period: u32,
    pub camera: &'static str,
    pub frames: u32,
    /// `.gt.txt` and `.truth.jsonl` beside the video, when truth was asked for.
    pub mot: Option<PathBuf>,
    pub truth: Option<PathBuf>,
}

/// Makes every recording of a match in `dir`. `progress` hears how many frames of how many are done.
pub fn generate_match(
    options: &MatchOptions,
    dir: impl AsRef<Path>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<GeneratedRecording>, SynthError> {
    let dir = dir.as_ref();
    fs::create_dir_all(dir).map_err(|source| SynthError::Io { path: dir.into(), source })?;
    let mut needed: Vec<Post> = options.posts().iter().flat_map(|p| Feed::posts(*p, options.directing)).collect();
    needed.sort_by_key(|p| p.name());
    needed.dedup();
    let renderer = options.renderer(&needed);
    let posts = options.posts();
    let total = u64::from(options.frames) * u64::from(options.periods) * posts.len() as u64;
    let mut done = 0u64;
    let mut recordings = Vec::new();
    for period in 1..=options.periods {
        for &post in &posts {
            let stem = format!("{}_p{period}_{}", options.name, post.name());
            let made = record(options, &renderer, period, post, &dir.join(stem), &mut |frames| {
                done += u64::from(frames);
                progress(done, total);
            })?;
            recordings.push(made);
        }
    }
    Ok(recordings)
}

/// One frame of a match in memory, without files: the picture and its truth.
pub fn render_frame(options: &MatchOptions, period: u32, post: Post, frame: u32) -> Option<(Yuv420Frame, FrameTruth)> {
    let renderer = options.renderer(&Feed::posts(post, options.directing));
    let shot = options.feed(period, post).nth(frame as usize)?;
    let mut canvas = Canvas::new(options.encode.width, options.encode.height);
    let truth = renderer.render(&shot, &mut canvas);
    Some((canvas.frame, truth))
}

/// What a worker makes of a run of shots.
struct Segment {
    packets: Vec<Packet>,
    mot: String,
    json: String,
}

fn record(
    options: &MatchOptions,
    renderer: &Renderer,
    period: u32,
    post: Post,
    stem: &Path,
    progress: &mut dyn FnMut(u32),
) -> Result<GeneratedRecording, SynthError> {
    let sibling = |extension: &str| {
        let mut name = stem.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        PathBuf::from(name)
    };
    let path = sibling(&options.container);
    let container = Container::of(&path)?;
    let video = VideoEncoder::open(&options.encode, container)?.parameters();
    let mut muxer = Muxer::create(&path, &options.encode, video)?;
    let mut truth = match options.truth {
        true => Some((TextFile::create(sibling("gt.txt"))?, TextFile::create(sibling("truth.jsonl"))?)),
        false => None,
    };

    let length = options.segment();
    let segments = options.frames.div_ceil(length);
    let mut feed = options.feed(period, post);
    let threads = options.threads.clamp(1, segments.max(1) as usize);
    let (jobs, inbox) = mpsc::sync_channel::<(u32, Vec<Shot>)>(threads);
    let inbox = Mutex::new(inbox);
    let (outbox, results) = mpsc::sync_channel(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            let (inbox, outbox) = (&inbox, outbox.clone());
            scope.spawn(move || {
                // Two statements: the lock must not be held while a segment is made.
                while let Ok((index, shots)) =
                    { inbox.lock().map(|inbox| inbox.recv()).unwrap_or(Err(mpsc::RecvError)) }
                {
                    if outbox.send((index, segment(options, renderer, container, &shots))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(outbox);
        let jobs = jobs;
        let mut waiting = BTreeMap::new();
        let (mut sent, mut written) = (0, 0);
        while written < segments {
            // One segment a thread in work and one more made ready: memory stays bounded whatever the length.
            while sent < segments && (sent - written) as usize <= threads {
                let count = length.min(options.frames - sent * length);
                let shots: Vec<Shot> = feed.by_ref().take(count as usize).collect();
                jobs.send((sent, shots)).map_err(|_| SynthError::Thread)?;
                sent += 1;
            }
            let (index, made) = results.recv().map_err(|_| SynthError::Thread)?;
            waiting.insert(index, made);
            while let Some(made) = waiting.remove(&written) {
                let Segment { packets, mot, json } = made?;
                // Segments carry their own timestamps already.
                packets.into_iter().try_for_each(|packet| muxer.write(packet, 0))?;
                if let Some((mot_file, json_file)) = &mut truth {
                    mot_file.append(&mot)?;
                    json_file.append(&json)?;
                }
                progress(length.min(options.frames - written * length));
                written += 1;
            }
        }
        Ok::<(), SynthError>(())
    })?;
    muxer.finish()?;
    let (mot, truth) = match truth {
        Some((mot, json)) => (Some(mot.finish()?), Some(json.finish()?)),
        None => (None, None),
    };
    Ok(GeneratedRecording { path, period, camera: post.name(), frames: options.frames, mot, truth })
}

fn segment(
    options: &MatchOptions,
    renderer: &Renderer,
    container: Container,
    shots: &[Shot],
) -> Result<Segment, SynthError> {
    let mut encoder = VideoEncoder::open(&options.encode, container)?;
    let mut canvas = Canvas::new(options.encode.width, options.encode.height);
    let mut made = Segment { packets: Vec::new(), mot: String::new(), json: String::new() };
    for shot in shots {
        let truth = renderer.render(shot, &mut canvas);
        if options.truth {
            truth.write_mot(&mut made.mot);
            truth.write_json(&mut made.json);
        }
        let pts = options.encode.pts(shot.frame as usize)?;
        made.packets.extend(encoder.push(&canvas.frame, pts)?);
    }
    made.packets.extend(encoder.finish()?);
    Ok(made)
}

struct TextFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl TextFile {
    fn create(path: PathBuf) -> Result<Self, SynthError> {
        match File::create(&path) {
            Ok(file) => Ok(Self { path, file: BufWriter::new(file) }),
            Err(source) => Err(SynthError::Io { path, source }),
        }
    }

    fn append(&mut self, text: &str) -> Result<(), SynthError> {
        self.file.write_all(text.as_bytes()).map_err(|source| SynthError::Io { path: self.path.clone(), source })
    }

    fn finish(mut self) -> Result<PathBuf, SynthError> {
        match self.file.flush() {
            Ok(()) => Ok(self.path),
            Err(source) => Err(SynthError::Io { path: self.path, source }),
        }
    }
}
