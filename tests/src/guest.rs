//! A machine with two NUMA nodes, as a guest of QEMU without any help of the hardware: binaries of this build, what they
//! link to, nats-server and a recording are its whole file system, and a script of the test is its first process.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use fulltime_common::process::end_with_parent;

use crate::{binary, kill, render, root};

/// Processors 0-1 and half of the memory are node 0, 2-3 and the rest node 1.
const MACHINE: &str = "-accel tcg,thread=multi -machine q35 -cpu max -smp 4,sockets=2,cores=2,threads=1 -m 1792 \
                       -object memory-backend-ram,id=m0,size=896M -object memory-backend-ram,id=m1,size=896M \
                       -numa node,nodeid=0,cpus=0-1,memdev=m0 -numa node,nodeid=1,cpus=2-3,memdev=m1 \
                       -numa dist,src=0,dst=1,val=21 -nographic -no-reboot -nodefaults -serial stdio -monitor none";

const START: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/app LD_LIBRARY_PATH=/app HOME=/tmp
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
ip link set lo up
# The firmware leaves half a line behind.
echo
sh /script 2>&1
echo END OF SCRIPT
reboot -f
";

/// Everything that a guest needs.
#[derive(Debug)]
pub struct Guest {
    kernel: PathBuf,
    busybox: PathBuf,
}

impl Guest {
    /// `None` (said on standard error) where something is missing.
    #[must_use]
    pub fn find() -> Option<Self> {
        let missing =
            |what: &str| eprintln!("skipped: no guest without {what} (`cargo xtask test` fetches it on Debian)");
        let kernel = root().join(".tools/guest/vmlinuz");
        let kernel = std::env::var_os("FULLTIME_GUEST_KERNEL").map_or(kernel, PathBuf::from);
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| is_static(path));
        let qemu = Command::new("qemu-system-x86_64").arg("--version").stdout(Stdio::null()).status();
        if !qemu.is_ok_and(|status| status.success()) {
            missing("qemu-system-x86_64");
        } else if !kernel.is_file() {
            missing("a kernel in .tools/guest");
        } else if let Some(busybox) = busybox {
            return Some(Self { kernel, busybox });
        } else {
            missing("a static busybox");
        }
        None
    }

    /// Runs the script in a fresh guest, whose file system is made below `dir`, and returns what it said.
    ///
    /// # Panics
    /// When it does not come to its end within `patience`.
    #[must_use]
    pub fn run(&self, dir: &Path, script: &str, patience: Duration) -> String {
        let image = self.image(dir, script);
        let mut command = Command::new("qemu-system-x86_64");
        command.args(MACHINE.split_whitespace()).arg("-kernel").arg(&self.kernel).arg("-initrd").arg(image);
        command.args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off numa_balancing=disable"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = end_with_parent(&mut command).spawn().expect("start QEMU");
        let pid = child.id();
        let (done, ended) = std::sync::mpsc::channel::<()>();
        std::thread::spawn(move || {
            if ended.recv_timeout(patience) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                kill(pid, libc::SIGKILL);
            }
        });
        let output = child.wait_with_output().expect("wait for QEMU");
        drop(done);
        let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("END OF SCRIPT"), "the guest did not come to its end:\n{said}\n{words}");
        said
    }

    fn image(&self, dir: &Path, script: &str) -> PathBuf {
        let files = dir.join("guest");
        for folder in ["bin", "app", "proc", "sys", "dev", "tmp", "etc", "lib64", "archive"] {
            fs::create_dir_all(files.join(folder)).expect("make a folder");
        }
        let put = |from: &Path, to: &str| {
            let to = files.join(to);
            fs::copy(from, &to).unwrap_or_else(|error| panic!("copy {}: {error}", from.display()));
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("make it executable");
        };
        put(&self.busybox, "bin/busybox");
        put(&fulltime_common::process::nats_server().expect("nats-server: run `cargo xtask setup`"), "app/nats-server");
        let mut libraries = BTreeSet::new();
        for name in ["fulltime", "fulltime-coordinator", "fulltime-worker"] {
            let program = binary(name);
            libraries.extend(libraries_of(&program));
            put(&program, &format!("app/{name}"));
            // Symbols are most of it.
            let _ = Command::new("strip").arg(files.join("app").join(name)).status();
        }
        for library in libraries {
            let name = library.file_name().expect("a file").to_str().expect("UTF-8");
            // The loader has its place in every program.
            put(&library, &if name.starts_with("ld-linux") { format!("lib64/{name}") } else { format!("app/{name}") });
        }
        copy_folder(&root().join("models"), &files.join("models"));
        render(&files.join("archive"), "a", &["--seed", "3", "--size", "320x180", "--gop", "25", "--duration", "12s"]);
        for (name, text) in [("init", START), ("script", script)] {
            let path = files.join(name);
            fs::write(&path, text).expect("write a script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
        }
        self.pack(&files, &dir.join("guest.cpio"))
    }

    /// A file system as the kernel unpacks it at its start.
    fn pack(&self, files: &Path, image: &Path) -> PathBuf {
        let mut names = String::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(files.join(&folder)).expect("a folder").flatten() {
                let name = folder.join(entry.file_name());
                names.push_str(&format!("{}\n", name.display()));
                if entry.path().is_dir() {
                    folders.push(name);
                }
            }
        }
        let mut command = Command::new(&self.busybox);
        command.args(["cpio", "-o", "-H", "newc"]).current_dir(files).stdin(Stdio::piped()).stderr(Stdio::null());
        let packing = command.stdout(fs::File::create(image).expect("make the image")).spawn();
        let mut packing = packing.expect("start busybox cpio");
        packing.stdin.take().expect("piped").write_all(names.as_bytes()).expect("name the files");
        assert!(packing.wait().expect("wait for cpio").success(), "cpio failed");
        image.to_owned()
    }
}

fn is_static(program: &Path) -> bool {
    let said = Command::new("ldd").arg(program).output();
    program.is_file() && said.is_ok_and(|said| !String::from_utf8_lossy(&said.stdout).contains("=>"))
}

/// What the loader would load.
fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let said = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a folder");
    for entry in fs::read_dir(from).expect("a folder").flatten() {
        let path = entry.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => copy_folder(&path, &to.join(entry.file_name())),
            Some("toml" | "onnx" | "pt") => drop(fs::copy(&path, to.join(entry.file_name())).expect("copy a model")),
            _ => {}
        }
    }
}
