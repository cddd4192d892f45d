//! `fulltime-synth`: makes synthetic matches with ground truth, for tests, training and the demo.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use fulltime_media::encode::EncodeError;
use fulltime_synth::{
    Codec, Directing, EncodeOptions, Filming, GeneratedRecording, MatchOptions, SynthError, generate_match,
};

#[derive(Parser)]
#[command(version, about = "Makes synthetic football matches as real video with ground truth")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One match: a file a period and camera, `{name}_p{period}_{camera}.{container}`
    Match {
        /// Start of the file names
        #[arg(long, default_value = "m01")]
        name: String,
        #[command(flatten)]
        options: Options,
    },
    /// Several matches, `m01` and so on, each from a seed of its own
    Season {
        #[arg(long, default_value_t = 4)]
        matches: u32,
        #[command(flatten)]
        options: Options,
    },
}

#[derive(Args)]
struct Options {
    /// Folder to write to
    #[arg(long)]
    out: PathBuf,
    /// The same seed makes the same bytes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Length of each period
    #[arg(long, default_value = "20s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Width and height in pixels
    #[arg(long, default_value = "1280x720", value_parser = size)]
    size: (u32, u32),
    /// Frames per second: 25, 50 or a fraction like 30000/1001
    #[arg(long, default_value = "25", value_parser = rate)]
    fps: (u32, u32),
    /// Frames from keyframe to keyframe
    #[arg(long, default_value_t = 50)]
    gop: u32,
    #[arg(long, default_value_t = 0)]
    bframes: u32,
    #[arg(long, value_enum, default_value_t = Camera::Broadcast)]
    camera: Camera,
    /// Two: `main` and `tight` of a broadcast, `left` and `right` of fixed ones
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    cameras: u32,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    halves: u32,
    /// h264, hevc or mpeg4
    #[arg(long, default_value = "h264")]
    codec: Codec,
    /// mp4, mov, mkv, ts or avi
    #[arg(long, default_value = "mp4")]
    container: String,
    /// Constant quantiser, lower is better
    #[arg(long, default_value_t = 28)]
    qp: u32,
    /// Deviation of the sensor noise in 8-bit levels
    #[arg(long, default_value_t = 1.2)]
    grain: f32,
    /// Cuts to the tight camera and back
    #[arg(long, default_value_t = 0)]
    cuts: u32,
    /// Stretches of one picture repeated
    #[arg(long, default_value_t = 0)]
    freeze: u32,
    /// Scenes shown again in slow motion
    #[arg(long, default_value_t = 0)]
    replays: u32,
    #[arg(long)]
    open_gop: bool,
    /// No keyframe after the first, intra columns instead
    #[arg(long)]
    intra_refresh: bool,
    /// A tone beside the video
    #[arg(long)]
    audio: bool,
    /// Video only
    #[arg(long)]
    no_truth: bool,
    /// All cores unless given; the bytes are the same
    #[arg(long)]
    threads: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Camera {
    Broadcast,
    Fixed,
}

impl Options {
    fn of_match(&self, name: String, seed: u64) -> MatchOptions {
        let defaults = MatchOptions::new(name, seed, self.size.0, self.size.1);
        let frames = self.duration.as_secs_f64() * f64::from(self.fps.0) / f64::from(self.fps.1);
        MatchOptions {
            frames: frames.round() as u32,
            periods: self.halves,
            filming: match self.camera {
                Camera::Broadcast => Filming::Broadcast,
                Camera::Fixed => Filming::Fixed,
            },
            cameras: self.cameras,
            directing: Directing { cuts: self.cuts, freezes: self.freeze, replays: self.replays },
            grain: self.grain,
            encode: EncodeOptions {
                fps: self.fps,
                codec: self.codec,
                gop: self.gop,
                bframes: self.bframes,
                open_gop: self.open_gop,
                intra_refresh: self.intra_refresh,
                audio: self.audio,
                qp: Some(self.qp),
                ..defaults.encode.clone()
            },
            container: self.container.clone(),
            truth: !self.no_truth,
            threads: self.threads.unwrap_or(defaults.threads),
            ..defaults
        }
    }
}

fn main() -> ExitCode {
    let (options, matches) = match Cli::parse().command {
        Command::Match { name, options } => (options, vec![name]),
        Command::Season { matches, options } => (options, (1..=matches).map(|n| format!("m{n:02}")).collect()),
    };
    let jobs = (0..).zip(matches).map(|(n, name)| options.of_match(name, options.seed + n));
    for job in jobs {
        match make(&job, &options.out) {
            Ok(recordings) => recordings.iter().for_each(|r| println!("{}", r.path.display())),
            Err(error) => {
                let source = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
                eprintln!("error: {error}{source}");
                return ExitCode::from(
                    if matches!(error, SynthError::Io { .. } | SynthError::Encode(EncodeError::Libav { .. })) {
                        1
                    } else {
                        2
                    },
                );
            }
        }
    }
    ExitCode::SUCCESS
}

/// One match with a line of progress: rewritten on a terminal, one at the end elsewhere.
fn make(options: &MatchOptions, out: &PathBuf) -> Result<Vec<GeneratedRecording>, SynthError> {
    let (start, terminal) = (Instant::now(), std::io::stderr().is_terminal());
    generate_match(options, out, &mut |done, total| {
        let rate = done as f64 / start.elapsed().as_secs_f64().max(1e-3);
        if terminal {
            eprint!("\r{}: {done} of {total} frames, {rate:.0} frames/s ", options.name);
            let _ = std::io::stderr().flush();
        }
        if done == total {
            let line = format!(
                "{}: {total} frames in {:.1} s, {rate:.0} frames/s",
                options.name,
                start.elapsed().as_secs_f64()
            );
            eprintln!("{}{line}", if terminal { "\r" } else { "" });
        }
    })
}

fn size(text: &str) -> Result<(u32, u32), String> {
    pair(text, 'x').ok_or_else(|| "expected WIDTHxHEIGHT".into())
}

fn rate(text: &str) -> Result<(u32, u32), String> {
    let rate = text.parse().map(|whole| (whole, 1)).ok().or_else(|| pair(text, '/'));
    rate.filter(|(a, b)| *a > 0 && *b > 0).ok_or_else(|| "expected a number or a fraction above zero".into())
}

fn pair(text: &str, between: char) -> Option<(u32, u32)> {
    let (a, b) = text.split_once(between)?;
    Some((a.parse().ok()?, b.parse().ok()?))
}
