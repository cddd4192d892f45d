//! The worker's binary: options, logs, signals, exit code. Started by itself, it is also the process of a lane.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use fulltime_common::{
    error::{Exit, Failure},
    telemetry,
};
use fulltime_worker::{Options, Worker};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let options = Options::parse();
    telemetry::init_as("info,async_nats=warn", options.log_format);
    // Before there is any other thread: all of them inherit it.
    let pinned = fulltime_worker::take_place(&options);
    // Its threads only wait: decoding and inference have their own. And they stay: what dies with the thread that
    // started it (the lane processes) lives as long as the worker.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) if options.lane_process => return runtime.block_on(fulltime_worker::serve(&options, pinned)),
        Ok(runtime) => {
            let result = runtime.block_on(run(&options));
            runtime.shutdown_timeout(Duration::from_millis(200));
            result
        }
        Err(error) => Err(Failure::new(Exit::Internal, format!("start the runtime: {error}"), "free some memory")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    let told = shutdown.clone();
    let signals = |kind| {
        signal(kind).map_err(|error| Failure::new(Exit::Internal, format!("listen for signals: {error}"), "report it"))
    };
    let (mut terminate, mut interrupt) = (signals(SignalKind::terminate())?, signals(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Worker::start(options).await?.run(shutdown).await?;
    Ok(())
}
