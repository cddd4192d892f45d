//! The `fulltime` command: runs jobs all in one (`run`), hands them to a coordinator (`submit`), looks after them (`status`,
//! `watch`, `pause`, `cancel`, …), shows what they made (`results`) and what it can run on (`topology`, `doctor`).
//!
//! Data goes to standard output, everything else to standard error. Exit codes, flags and the JSON of `--json` are a
//! contract with scripts; see `args` for the words and `common::error::Exit` for the codes.

mod args;
mod broker;
mod cache;
mod doctor;
mod document;
mod end;
mod evaluate;
mod export;
mod follow;
mod given;
mod job;
mod parts;
mod pipeline;
mod profile;
mod quarantine;
mod remote;
mod results;
mod run;
mod screen;
mod sources;
mod text;
mod tidy;
mod topology;
mod track;

use std::process::ExitCode;

use clap::Parser as _;
use fulltime_common::{
    Exit,
    error::Failure,
    pipeline::{Manifest, PipelineFile},
    pitch::PitchFile,
    spec::JobSpec,
    squads::Squads,
    telemetry,
};

use crate::args::{Cli, Command, SchemaOf};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    telemetry::init("warn,async_nats=off");
    let json = cli.command.json();
    // One thread is enough, and it has to be this one: children that end with their parent end with the thread that
    // started them.
    let ended = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(dispatch(cli.command)),
        Err(error) => {
            Err(Failure::new(Exit::Internal, format!("start the runtime: {error}"), "raise the limits of this shell"))
        }
    };
    match ended {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            let code = failure.report();
            if json {
                println!("{}", end::failure_json(&failure));
            }
            code
        }
    }
}

async fn dispatch(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => run::run(args).await,
        Command::Submit(args) => remote::submit(args).await,
        Command::Status(args) => remote::status(args).await,
        Command::Watch(args) => remote::watch(args).await,
        Command::Profile(args) => profile::profile(args).await,
        Command::Pause(args) => remote::pause(args).await,
        Command::Resume(args) => remote::resume(args).await,
        Command::Cancel(args) => remote::cancel(args).await,
        Command::Retry(args) => remote::retry(args).await,
        Command::Priority(args) => remote::priority(args).await,
        Command::Rebuild(args) => remote::rebuild(args).await,
        Command::Delete(args) => tidy::delete(args).await,
        Command::Gc(args) => tidy::gc(args).await,
        Command::Cache(args) => cache::run(args).await,
        Command::Results(args) => results::results(args).await,
        Command::Quarantine(args) => quarantine::quarantine(args).await,
        Command::Eval(args) => evaluate::eval(args).await,
        Command::Export(args) => export::export(args).await,
        Command::Track(args) => track::track(&args),
        Command::Topology(args) => topology::topology(&args),
        Command::Doctor(args) => doctor::doctor(&args).await,
        Command::Schema { file } => {
            println!("{}", schema(file));
            Ok(Exit::Ok)
        }
        Command::Completions { shell } => {
            use clap::CommandFactory as _;
            clap_complete::generate(shell, &mut Cli::command(), "fulltime", &mut std::io::stdout());
            Ok(Exit::Ok)
        }
        Command::Man { folder } => {
            use clap::CommandFactory as _;
            let written = std::fs::create_dir_all(&folder)
                .and_then(|()| clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &folder));
            written.map(|()| Exit::Ok).map_err(|error| {
                let cause = format!("write manual pages into `{}`: {error}", folder.display());
                Failure::new(Exit::Store, cause, "name a folder that can be written")
            })
        }
    }
}

fn schema(file: SchemaOf) -> String {
    let schema = match file {
        SchemaOf::Job => schemars::schema_for!(JobSpec),
        SchemaOf::Pipeline => schemars::schema_for!(PipelineFile),
        SchemaOf::Manifest => schemars::schema_for!(Manifest),
        SchemaOf::Squads => schemars::schema_for!(Squads),
        SchemaOf::Pitch => schemars::schema_for!(PitchFile),
    };
    format!("{:#}", schema.to_value())
}

/// Wrong arguments, `--help` or `--version`: clap has the words. Scripts that asked for JSON get their line.
fn misused(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
    if exit == Exit::Usage && std::env::args().any(|argument| argument == "--json") {
        let cause = error.render().to_string();
        let cause: Vec<_> =
            cause.trim_start_matches("error: ").lines().map(str::trim).take_while(|l| !l.is_empty()).collect();
        println!("{}", end::failure_json(&Failure::new(exit, cause.join(" "), "see fulltime --help")));
    }
    ExitCode::from(exit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_describe_what_people_write() {
        assert!(schema(SchemaOf::Job).contains("shard_length"));
        assert!(schema(SchemaOf::Pipeline).contains("score_threshold"));
        assert!(schema(SchemaOf::Manifest).contains("sha256"));
        assert!(schema(SchemaOf::Squads).contains("goalkeeper"));
        assert!(schema(SchemaOf::Pitch).contains("homography"));
    }
}
