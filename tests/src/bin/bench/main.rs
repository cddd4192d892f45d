//! `cargo xtask bench NAME`: what the job reaches over what this machine could do, in one run, with the bottleneck named.

use clap::{Parser, Subcommand};

mod accuracy;
mod alone;
mod dispatch;
mod engines;
mod instructions;
mod peers;
mod reduce;
mod scale;
mod season;
mod streams;
mod throughput;
mod track;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Files to committed tables, against the model alone, decoding alone and the sum of the parts.
    Throughput(throughput::Options),
    /// The same work by Ray Data, Daft and Python by hand: frames a second and ratios, and whether they find the same.
    Peers(peers::Options),
    /// Instructions of the hot kernels, by callgrind, against the committed counts.
    Instructions(instructions::Options),
    /// One kernel, a few times, for `instructions` to count.
    #[command(hide = true)]
    Kernel(instructions::One),
    /// Shards a second through their whole life, and the coordinator's memory, with work of no length.
    Dispatch(dispatch::Options),
    /// A thousand lanes that come and go: how much of their time becomes results.
    Scale(scale::Options),
    /// A 90-minute match from shard tables to match tables: time and memory.
    Reduce(reduce::Options),
    /// The tracker against its peers on real footage, and its speed.
    Track(track::Options),
    /// How right detections, tracks and identities are, against the committed figures.
    Accuracy(accuracy::Options),
    /// Engines on one model: frames/s, latency, MB/s and memory by batch size.
    Model(engines::Options),
    /// Precisions and layouts of an engine against fp32: speed, memory, and how far their answers are apart.
    Precision(engines::Options),
    /// One model split over devices, and a replica on each: speed-up against one device.
    Parallel(engines::Options),
    /// Lanes as threads of one process against processes of their own: speed and what a process costs in memory.
    Isolation(engines::Options),
    /// One run of an engine, in a process of its own; prints a JSON object. Started by the four above.
    #[command(hide = true)]
    Engine(engines::One),
    /// Copying, computing and copying out at the same time: frames a second and overlap by batches in flight.
    Streams(streams::Options),
    /// The lanes of `dispatch`, in a process of their own.
    #[command(hide = true)]
    Lanes(dispatch::Lanes),
    /// A part on its own, in a process of its own; prints a JSON object. Started by `throughput`.
    #[command(subcommand, hide = true)]
    Alone(alone::Part),
}

fn main() {
    match Cli::parse().bench {
        Bench::Throughput(options) => throughput::run(&options),
        Bench::Peers(options) => peers::run(&options),
        Bench::Instructions(options) => instructions::run(&options),
        Bench::Kernel(one) => instructions::one(&one),
        Bench::Dispatch(options) => dispatch::run(&options),
        Bench::Scale(options) => scale::run(&options),
        Bench::Reduce(options) => reduce::run(&options),
        Bench::Track(options) => track::run(&options),
        Bench::Accuracy(options) => accuracy::run(&options),
        Bench::Model(options) => engines::model(&options),
        Bench::Precision(options) => engines::precision(&options),
        Bench::Parallel(options) => engines::parallel(&options),
        Bench::Isolation(options) => engines::isolation(&options),
        Bench::Engine(one) => engines::one(&one),
        Bench::Streams(options) => streams::run(&options),
        Bench::Lanes(options) => dispatch::lanes(&options),
        Bench::Alone(part) => alone::run(&part),
    }
}
