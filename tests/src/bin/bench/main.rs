//! `cargo xtask bench NAME`: what the job reaches over what this machine could do, in one run, with the bottleneck named.

use clap::{Parser, Subcommand};

mod alone;
mod throughput;

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
    /// A part on its own, in a process of its own; prints a JSON object. Started by `throughput`.
    #[command(subcommand, hide = true)]
    Alone(alone::Part),
}

fn main() {
    match Cli::parse().bench {
        Bench::Throughput(options) => throughput::run(&options),
        Bench::Alone(part) => alone::run(&part),
    }
}
