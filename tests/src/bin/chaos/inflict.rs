//! Doing harm to a running cluster, and taking it back.

use std::{
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;
use fulltime_tests::{
    cluster::{Cluster, Part},
    files,
};

use crate::schedule::{Fault, Kind, Target};

/// Faults that are not over yet, with the time at which they are.
#[derive(Debug, Default)]
pub struct Open {
    faults: Vec<(Instant, Fault)>,
}

fn part(cluster: &mut Cluster, target: Target) -> &mut Part {
    match target {
        Target::Worker(n) => &mut cluster.workers[n],
        Target::Coordinator(n) => &mut cluster.coordinators[n],
        Target::Broker => &mut cluster.broker,
    }
}

impl Open {
    /// Does it, unless the part is down already. Returns whether anything was done.
    pub fn inflict(&mut self, cluster: &mut Cluster, fault: Fault) -> bool {
        let victim = part(cluster, fault.target);
        if !victim.runs() || victim.is_stopped() {
            return false;
        }
        match fault.kind {
            Kind::Kill => victim.kill(),
            Kind::Term => victim.signal(libc::SIGTERM),
            Kind::Stop => victim.signal(libc::SIGSTOP),
            Kind::Wipe | Kind::Flip | Kind::Truncate => {
                victim.kill();
                damage(&cluster.broker_files, fault);
            }
            Kind::Full => {
                let Some(filler) = filler(cluster) else { return false };
                fill(&filler);
            }
            Kind::Clock => {
                let (name, day) = (victim.name.clone(), 24 * 3600);
                if !cluster.set_clock(&name, Rng::with_seed(fault.seed).i64(-day..day)) {
                    return false;
                }
            }
        }
        self.faults.push((Instant::now() + fault.lasts, fault));
        true
    }

    /// Takes back what is over.
    pub fn relent(&mut self, cluster: &mut Cluster, all: bool) {
        let now = Instant::now();
        let (over, still) = std::mem::take(&mut self.faults).into_iter().partition(|(end, _)| all || *end <= now);
        self.faults = still;
        let over: Vec<(Instant, Fault)> = over;
        for (_, fault) in over {
            if fault.kind == Kind::Full {
                let _ = filler(cluster).map(fs::remove_file);
            }
            let victim = part(cluster, fault.target);
            match fault.kind {
                Kind::Full | Kind::Clock => {}
                Kind::Stop => victim.signal(libc::SIGCONT),
                Kind::Term if victim.runs() => {
                    // It takes its time; looked at again.
                    self.faults.push((now + Duration::from_millis(100), fault));
                }
                _ if victim.runs() => {}
                _ if fault.target == Target::Broker => cluster.start_broker(),
                _ => victim.start(),
            }
        }
        // A part that ended by itself (stalled, unfit) is started again, as any service manager does.
        let down: Vec<Target> = self.faults.iter().map(|(_, fault)| fault.target).collect();
        let workers = (0..cluster.workers.len()).map(Target::Worker);
        let targets = workers.chain((0..cluster.coordinators.len()).map(Target::Coordinator));
        for target in targets.filter(|target| !down.contains(target)) {
            let part = part(cluster, target);
            if !part.runs() {
                part.start();
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Where the output can be filled up: only if it is a file system of its own.
fn filler(cluster: &Cluster) -> Option<PathBuf> {
    cluster.has_small_disk().then(|| cluster.out().join(".filler"))
}

fn fill(path: &Path) {
    let Ok(mut file) = File::create(path) else { return };
    let block = vec![0_u8; 1 << 20];
    while file.write_all(&block).is_ok() {}
}

fn damage(storage: &Path, fault: Fault) {
    if fault.kind == Kind::Wipe {
        fs::remove_dir_all(storage).expect("wipe the broker");
        fs::create_dir_all(storage).expect("an empty storage");
        return;
    }
    let mut rng = Rng::with_seed(fault.seed);
    for path in files(storage) {
        let Ok(size) = fs::metadata(&path).map(|meta| meta.len()) else { continue };
        if size == 0 || rng.u8(0..3) == 0 {
            continue;
        }
        let at = rng.u64(0..size);
        let damaged = File::options().read(true).write(true).open(&path).and_then(|mut file| {
            if fault.kind == Kind::Truncate {
                return file.set_len(at);
            }
            let mut byte = [0];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut byte)?;
            byte[0] ^= 1 << rng.u8(0..8);
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&byte)
        });
        damaged.expect("damage a file of the broker");
    }
}
