//! `fulltime doctor`: everything that a run needs, looked for before one is begun. Each finding is good, a warning or a
//! problem with its fix; the exit code is the one that a run would end with for the first problem.

use std::{
    ffi::CString,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use fulltime_backend_onnx::{ProviderOptions, Runtime};
use fulltime_common::{
    Exit,
    error::{Explain as _, Failure, chain},
    process::{nats_server, onnxruntime, sibling},
    queue::JetStream,
    store::Store,
};
use fulltime_topology::{Card, Gpus, LanePlan, Machine, Unpinned, health::Health};
use serde::Serialize;

use crate::{args::DoctorArgs, broker::BrokerError, text};

/// Memory below which a lane is in danger, and open files below which a worker is.
const LANE_MEMORY: u64 = 500_000_000;
const FILES: u64 = 1024;
/// Longest wait for a broker.
const BROKER: Duration = Duration::from_secs(5);

/// Libraries of GPUs: what it is, names from the newest on, what it is for.
const LIBRARIES: [(&str, &[&str], &str); 7] = [
    ("libcuda", &["libcuda.so.1"], "any use of a GPU; it comes with the driver"),
    ("CUDA runtime", &["libcudart.so.13", "libcudart.so.12"], "ONNX Runtime and libtorch on a GPU"),
    ("cuBLAS", &["libcublas.so.13", "libcublas.so.12"], "ONNX Runtime and libtorch on a GPU"),
    ("cuDNN", &["libcudnn.so.9", "libcudnn.so.8"], "ONNX Runtime and libtorch on a GPU"),
    ("NVRTC", &["libnvrtc.so.13", "libnvrtc.so.12"], "preprocessing on a GPU"),
    ("TensorRT", &["libnvinfer.so.10", "libnvinfer.so.8"], "the TensorRT provider"),
    ("libtorch", &["libtorch_cpu.so"], "the torch engine"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Ok,
    Warning,
    Problem,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, Serialize)]
struct Check {
    what: String,
    state: State,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

impl Check {
    fn ok(what: &str, found: impl Into<String>) -> Self {
        Self { what: what.to_owned(), state: State::Ok, found: found.into(), fix: None, exit: Exit::Ok }
    }

    fn warning(what: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: State::Warning, fix: Some(fix.into()), ..Self::ok(what, found) }
    }

    fn problem(what: &str, failure: Failure) -> Self {
        let Failure { exit, cause, hint } = failure;
        Self { state: State::Problem, fix: hint, exit, ..Self::ok(what, cause) }
    }
}

/// `fulltime doctor`.
///
/// # Errors
/// None of what it finds; only a system that cannot be looked at.
pub async fn doctor(args: &DoctorArgs) -> Result<Exit, Failure> {
    let (machine, plan) = args.lanes.look()?;
    let mut checks = vec![match &args.nats {
        Some(url) => bus(url).await,
        None => server(),
    }];
    checks.extend(["fulltime-coordinator", "fulltime-worker"].map(program));
    checks.push(runtime());
    checks.push(Check::ok("decoder", fulltime_media::decoder_class()));
    for url in &args.store {
        checks.push(store(url).await);
    }
    checks.extend([processors(&machine), memory(&machine, &plan), files()]);
    checks.extend(gpus(&machine));
    let has_gpu = !machine.gpus.list().is_empty();
    checks.extend(LIBRARIES.map(|(what, names, use_for)| library(what, names, use_for, has_gpu)));
    checks.push(lanes(&plan));

    let exit = checks.iter().find(|check| check.state == State::Problem).map_or(Exit::Ok, |check| check.exit);
    if args.json {
        let json = serde_json::json!({ "checks": checks, "machine": machine, "plan": plan, "exit": exit as u8 });
        println!("{json}");
    } else {
        print!("{}", describe(&checks));
    }
    Ok(exit)
}

fn describe(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.what.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for Check { what, state, found, fix, .. } in checks {
        out.push_str(&format!("  {:<7}  {what:<width$}  {found}\n", state.word()));
        if let Some(fix) = fix {
            out.push_str(&format!("  {:<7}  {:<width$}  fix: {fix}\n", "", ""));
        }
    }
    let count = |state| checks.iter().filter(|check| check.state == state).count() as u64;
    let (problems, warnings) = (count(State::Problem), count(State::Warning));
    out.push_str(&format!("\n{}, {}: ", text::plural(problems, "problem"), text::plural(warnings, "warning")));
    out.push_str(if problems == 0 { "a run can work here\n" } else { "a run would fail here\n" });
    out
}

fn server() -> Check {
    const WHAT: &str = "nats-server";
    let Some(path) = nats_server() else { return Check::problem(WHAT, BrokerError::Missing.into()) };
    match Command::new(&path).arg("--version").output() {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout);
            let version = version.trim().rsplit(' ').next().unwrap_or_default().trim_start_matches('v').to_owned();
            Check::ok(WHAT, format!("{version}, {}", path.display()))
        }
        Ok(output) => {
            let cause = format!("`{}` --version ended with {}", path.display(), output.status);
            Check::problem(WHAT, Failure::new(Exit::Broker, cause, "install nats-server 2.10 or newer again"))
        }
        Err(source) => Check::problem(WHAT, BrokerError::Start { program: path, source }.into()),
    }
}

async fn bus(url: &str) -> Check {
    const WHAT: &str = "broker";
    match tokio::time::timeout(BROKER, JetStream::connect(url)).await {
        Ok(Ok(_)) => Check::ok(WHAT, format!("{url} answers")),
        Ok(Err(error)) => Check::problem(WHAT, error.into()),
        Err(_) => {
            let cause = format!("{url} does not answer within {} s", BROKER.as_secs());
            Check::problem(WHAT, Failure::new(Exit::Broker, cause, "start nats-server there, with -js"))
        }
    }
}

fn program(name: &str) -> Check {
    match sibling(name) {
        Some(path) => Check::ok(name, path.display().to_string()),
        None => Check::problem(
            name,
            Failure::new(
                Exit::Internal,
                "neither beside this program nor on PATH",
                "install fulltime again; its three binaries belong in one folder",
            ),
        ),
    }
}

fn runtime() -> Check {
    const WHAT: &str = "ONNX Runtime";
    const FIX: &str = "install ONNX Runtime 1.24 or newer (`pip download onnxruntime` has the library in its wheel) and \
                       set ORT_DYLIB_PATH to its libonnxruntime.so";
    let failed = |cause: String| Check::problem(WHAT, Failure::new(Exit::Runtime, cause, FIX));
    let Some(path) = onnxruntime() else { return failed("not found".to_owned()) };
    match Runtime::load(&path, &ProviderOptions::default()) {
        Ok(runtime) => Check::ok(WHAT, format!("{}, {}", runtime.version(), path.display())),
        Err(error) => failed(chain(&error)),
    }
}

/// Writes, tries to write it again (which must be refused), and removes it.
async fn store(url: &str) -> Check {
    let what = format!("store {url}");
    let begun = Instant::now();
    let result = async { Store::create(url)?.probe_writable().await };
    match result.await {
        Ok(()) => {
            let took = begun.elapsed().as_millis();
            Check::ok(&what, format!("writable, and refuses to overwrite; a probe took {took} ms"))
        }
        Err(error) => {
            let (exit, hint) = (error.exit(), error.hint());
            Check::problem(&what, Failure { exit, cause: chain(&error), hint })
        }
    }
}

fn processors(machine: &Machine) -> Check {
    let (all, may) = (machine.cpus.len() as u64, machine.usable().len() as u64);
    let nodes = machine.nodes.len() as u64;
    let mut found = format!("{} on {}", text::plural(all, "processor"), text::plural(nodes.max(1), "NUMA node"));
    if may < all {
        found.push_str(&format!("; {may} may be used"));
    }
    match machine.limits.cpu_quota {
        Some(quota) if quota < may as f64 => {
            found.push_str(&format!("; its group's time is worth {quota:.1}"));
            let fix = "give the container whole cores (Kubernetes: the static CPU manager and equal requests and limits): \
                       threads that are put to sleep in the middle of a batch waste the GPU's time";
            Check::warning("processors", found, fix)
        }
        _ => Check::ok("processors", found),
    }
}

fn memory(machine: &Machine, plan: &LanePlan) -> Check {
    let bytes = machine.limits.memory_bytes.unwrap_or(u64::MAX).min(machine.memory_bytes);
    let lanes = plan.lanes.len().max(1) as u64;
    let found = format!("{} for {}", text::bytes(bytes), text::plural(lanes, "lane"));
    if bytes / lanes < LANE_MEMORY {
        let fewer = (bytes / LANE_MEMORY).max(1);
        return Check::warning("memory", found, format!("use --lanes {fewer}, or give it more memory"));
    }
    Check::ok("memory", found)
}

fn files() -> Check {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes to a struct of ours.
    let told = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let found = format!("{} open at once", limit.rlim_cur);
    if told && limit.rlim_cur < FILES {
        return Check::warning("files", found, format!("ulimit -n {FILES} or more"));
    }
    Check::ok("files", found)
}

fn gpus(machine: &Machine) -> Vec<Check> {
    let cards: Vec<_> = machine.cards.iter().filter(|card| card.vendor == Card::NVIDIA).collect();
    match &machine.gpus {
        Gpus::None { why } if cards.is_empty() => vec![Check::ok("GPUs", format!("none; {why}"))],
        Gpus::None { why } => {
            let found = format!("{} on the bus, but {why}", text::plural(cards.len() as u64, "NVIDIA card"));
            let fix = "install NVIDIA's driver; in a container, start it with the NVIDIA runtime and the `utility` and \
                       `compute` capabilities";
            vec![Check::warning("GPUs", found, fix)]
        }
        Gpus::Found { driver, cuda, gpus } => {
            let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "unknown".to_owned());
            let found = format!("driver {}, CUDA up to {}", version(driver), version(cuda));
            let gpu = |gpu: &fulltime_topology::Gpu| {
                let (what, health) = (format!("GPU {}", gpu.index), Health::at_first_sight(&gpu.reading));
                match &health.reason {
                    None => Check::ok(&what, format!("{}, {}", gpu.name, text::bytes(gpu.memory_bytes))),
                    Some(_) if health.state.works() => {
                        Check::warning(&what, format!("{}, {health}", gpu.name), "it works for now; look at it soon")
                    }
                    Some(_) => {
                        let fix =
                            "reset it (nvidia-smi --gpu-reset) or restart the machine; it gets no lane until then";
                        Check::warning(&what, format!("{}, {health}", gpu.name), fix)
                    }
                }
            };
            std::iter::once(Check::ok("GPUs", found)).chain(gpus.iter().map(gpu)).collect()
        }
    }
}

fn library(what: &str, names: &[&str], use_for: &str, has_gpu: bool) -> Check {
    match names.iter().find(|name| can_load(Path::new(name))) {
        Some(name) => Check::ok(what, *name),
        None if has_gpu => {
            let fix = format!("install it and put its folder into LD_LIBRARY_PATH; needed for {use_for}");
            Check::warning(what, "not found", fix)
        }
        None => Check::ok(what, format!("not found; only needed for {use_for}")),
    }
}

/// Whether the loader finds it, with all that it needs itself.
fn can_load(name: &Path) -> bool {
    let Ok(name) = CString::new(name.as_os_str().as_encoded_bytes()) else { return false };
    // SAFETY: these libraries' initialisers make no demands on the caller; it stays loaded, since unloading is the risk.
    unsafe { !libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL).is_null() }
}

fn lanes(plan: &LanePlan) -> Check {
    let gpus = plan.lanes.iter().filter(|lane| !lane.devices.is_empty()).count();
    let lanes = plan.lanes.len();
    if lanes == 0 {
        let out: Vec<_> = plan.left_out.iter().map(|out| format!("{}: {}", out.what, out.why)).collect();
        let failure = Failure::new(
            Exit::Runtime,
            format!("none; {}", out.join("; ")),
            "mend what is named, choose other --gpus, or none of them: --gpus none",
        );
        return Check::problem("lanes", failure);
    }
    let mut found = format!("{}, {gpus} of them on GPUs", text::plural(lanes as u64, "lane"));
    match &plan.unpinned {
        None => found.push_str(", each bound to its node"),
        Some(why @ (Unpinned::Off | Unpinned::NoNuma | Unpinned::OneNode | Unpinned::Refused(_))) => {
            found.push_str(&format!("; {why}"));
        }
    }
    let left_out = plan.left_out.len() as u64;
    if left_out > 0 {
        found.push_str(&format!("; {} without a lane", text::plural(left_out, "GPU")));
    }
    found.push_str("; see `fulltime topology`");
    Check::ok("lanes", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_line_up_and_a_problem_says_what_to_do() {
        let failure = Failure::new(Exit::Runtime, "not found", "install it");
        let checks = [Check::ok("broker", "answers"), Check::problem("ONNX Runtime", failure)];
        let text = describe(&checks);
        let expected = "  ok       broker        answers\n  problem  ONNX Runtime  not found\n                         fix: \
                        install it\n\n1 problem, 0 warnings: a run would fail here\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_quota_below_the_processors_is_a_warning_and_little_memory_too() {
        let mut machine = Machine { cpus: "0-7".parse().unwrap(), memory_bytes: 64 << 30, ..Machine::default() };
        machine.limits.cpus = machine.cpus.clone();
        assert_eq!(processors(&machine).state, State::Ok);
        machine.limits.cpu_quota = Some(2.5);
        assert_eq!(processors(&machine).state, State::Warning);
        let plan = LanePlan { lanes: vec![<_>::default(); 8], ..LanePlan::default() };
        assert_eq!(memory(&machine, &plan).state, State::Ok);
        machine.limits.memory_bytes = Some(2_000_000_000);
        assert_eq!(memory(&machine, &plan).fix.unwrap(), "use --lanes 4, or give it more memory");
        assert_eq!(lanes(&LanePlan::default()).exit, Exit::Runtime);
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_written_is_a_problem_with_its_code() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().join("out");
        assert_eq!(store(here.to_str().unwrap()).await.state, State::Ok);
        std::fs::write(dir.path().join("file"), "").unwrap();
        let refused = store(dir.path().join("file/out").to_str().unwrap()).await;
        assert_eq!((refused.state, refused.exit), (State::Problem, Exit::Store), "{refused:?}");
        assert!(can_load(Path::new("libc.so.6")) && !can_load(Path::new("libnothing.so.1")));
    }
}
