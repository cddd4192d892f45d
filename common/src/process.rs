//! Child processes and the outside programs and libraries we start or load: where they are looked for, and the promise
//! that they end with their parent.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Directory below a development checkout where the set-up puts what it downloads.
const TOOLS: &str = ".tools";

/// Makes a child die with this process, however this process dies.
pub fn end_with_parent(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: prctl is async-signal-safe and touches only the child.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        })
    }
}

/// A binary of ours beside the running one (`fulltime-worker` beside `fulltime`), else from `PATH`.
#[must_use]
pub fn sibling(name: &str) -> Option<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|exe| {
        // Test binaries live one folder deeper (`deps/`).
        exe.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file())
    });
    beside.or_else(|| on_path(name))
}

/// `nats-server`: `FULLTIME_NATS_SERVER`, beside the binary, a development checkout's tools, `PATH`.
#[must_use]
pub fn nats_server() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FULLTIME_NATS_SERVER") {
        return Some(path.into()).filter(|path: &PathBuf| path.is_file());
    }
    sibling("nats-server").filter(|p| p.is_file()).or_else(|| in_tools("bin/nats-server"))
}

/// `redis-server`, for tests: `FULLTIME_REDIS_SERVER`, `PATH`, a development checkout's tools.
#[must_use]
pub fn redis_server() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FULLTIME_REDIS_SERVER") {
        return Some(path.into()).filter(|path: &PathBuf| path.is_file());
    }
    on_path("redis-server").or_else(|| in_tools("bin/redis-server"))
}

/// `libonnxruntime.so`: `ORT_DYLIB_PATH`, a development checkout's tools, the usual library folders.
#[must_use]
pub fn onnxruntime() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return Some(path.into());
    }
    in_tools("lib/libonnxruntime.so").or_else(|| {
        ["/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib", "/opt/onnxruntime/lib"]
            .iter()
            .map(|dir| Path::new(dir).join("libonnxruntime.so"))
            .find(|path| path.is_file())
    })
}

/// NVIDIA's run-time compiler, `libnvrtc.so`: `FULLTIME_NVRTC`, a development checkout's tools, the usual library folders.
/// Of several versions the newest.
#[must_use]
pub fn nvrtc() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FULLTIME_NVRTC") {
        return Some(path.into());
    }
    in_tools("lib/nvrtc/libnvrtc.so.13").or_else(|| {
        let names = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
        let folders = ["/usr/local/cuda/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];
        let all = names.iter().flat_map(|name| folders.iter().map(move |dir| Path::new(dir).join(name)));
        all.into_iter().find(|path| path.is_file())
    })
}

fn in_tools(relative: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    exe.ancestors().skip(1).map(|dir| dir.join(TOOLS).join(relative)).find(|path| path.is_file())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}
