//! The coordinator's binary: options, logs, signals, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use fulltime_common::{
    error::{Exit, Failure},
    telemetry,
};
use fulltime_coordinator::Options;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let options = Options::parse();
    telemetry::init_as("info", options.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(&options)),
        Err(error) => Err(Failure::new(Exit::Internal, format!("start the runtime: {error}"), "free some memory")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    let told = |kind| {
        signal(kind).map_err(|error| Failure::new(Exit::Internal, format!("listen for signals: {error}"), "report it"))
    };
    let (mut terminate, mut interrupt) = (told(SignalKind::terminate())?, told(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    options.start().await?.run(shutdown).await?;
    Ok(())
}
