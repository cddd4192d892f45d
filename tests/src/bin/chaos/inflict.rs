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
    network::Way,
    proxy::{Manner, Proxy, Weather},
};

use crate::schedule::{Fault, Kind, Target, Trouble};

/// Faults that are not over yet, with the time at which they are.
#[derive(Debug, Default)]
pub struct Open {
    faults: Vec<(Instant, Fault)>,
}

/// The process, where the target is one.
fn part(cluster: &mut Cluster, target: Target) -> Option<&mut Part> {
    match target {
        Target::Worker(n) => Some(&mut cluster.workers[n]),
        Target::Coordinator(n) => Some(&mut cluster.coordinators[n]),
        Target::Broker => Some(&mut cluster.broker),
        Target::Store => None,
    }
}

/// The ways that trouble on one concerns: a part's own, or everybody's to a server.
fn ways(cluster: &Cluster, target: Target, way: Way) -> Vec<&Proxy> {
    let Some(network) = &cluster.network else { return Vec::new() };
    let own = |part: &Part| network.way(&part.name, way).into_iter().collect();
    match target {
        Target::Worker(n) => own(&cluster.workers[n]),
        Target::Coordinator(n) => own(&cluster.coordinators[n]),
        Target::Broker | Target::Store => network.ways(way).collect(),
    }
}

impl Open {
    /// Does it, unless the part is down already, or there is no such thing here. Returns whether anything was done.
    pub fn inflict(&mut self, cluster: &mut Cluster, fault: Fault) -> bool {
        let done = match fault.kind {
            Kind::Net(way, trouble) => {
                let ways = ways(cluster, fault.target, way);
                ways.iter().for_each(|proxy| hurt(proxy, trouble, fault.seed));
                !ways.is_empty()
            }
            _ => hit(cluster, fault),
        };
        if done {
            self.faults.push((Instant::now() + fault.lasts, fault));
        }
        done
    }

    /// Takes back what is over.
    pub fn relent(&mut self, cluster: &mut Cluster, all: bool) {
        let now = Instant::now();
        let (over, still) = std::mem::take(&mut self.faults).into_iter().partition(|(end, _)| all || *end <= now);
        self.faults = still;
        let over: Vec<(Instant, Fault)> = over;
        for (_, fault) in over {
            if let Kind::Net(way, _) = fault.kind {
                // A later fault of the same way ends with this one.
                ways(cluster, fault.target, way).into_iter().for_each(Proxy::heal);
                continue;
            }
            if fault.kind == Kind::Full {
                let _ = filler(cluster).map(fs::remove_file);
            }
            let Some(victim) = part(cluster, fault.target) else { continue };
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
        let process = |fault: &Fault| !matches!(fault.kind, Kind::Net(..));
        let down: Vec<Target> = self.faults.iter().map(|(_, f)| f).filter(|f| process(f)).map(|f| f.target).collect();
        let workers = (0..cluster.workers.len()).map(Target::Worker);
        let targets = workers.chain((0..cluster.coordinators.len()).map(Target::Coordinator));
        for target in targets.filter(|target| !down.contains(target)) {
            if let Some(part) = part(cluster, target)
                && !part.runs()
            {
                part.start();
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }
}

/// What is done to a process.
fn hit(cluster: &mut Cluster, fault: Fault) -> bool {
    let Some(victim) = part(cluster, fault.target) else { return false };
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
            let name = victim.name.clone();
            // S3 refuses requests that are a quarter of an hour off, and rightly so.
            let most = if cluster.has_bucket() { 12 * 60 } else { 24 * 3600 };
            return cluster.set_clock(&name, Rng::with_seed(fault.seed).i64(-most..most));
        }
        Kind::Net(..) => return false,
    }
    true
}

fn hurt(way: &Proxy, trouble: Trouble, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    match trouble {
        Trouble::Parted => way.set(Weather::PARTED),
        Trouble::Mute => way.set(Weather { lost_to_server: true, ..Weather::FAIR }),
        Trouble::Deaf => way.set(Weather { lost_to_client: true, ..Weather::FAIR }),
        Trouble::Delayed => way.set(Weather { delay: Duration::from_millis(rng.u64(20..800)), ..Weather::FAIR }),
        Trouble::Narrow => way.set(Weather { bytes_per_second: Some(rng.u64(2_000..200_000)), ..Weather::FAIR }),
        Trouble::Reset => way.reset(),
        Trouble::Refused => way.refuse(),
        Trouble::Busy => way.behave(Manner::TooBusy, rng.u64(30..=100)),
        Trouble::Unanswered => way.behave(Manner::KeepsAnswers, rng.u64(30..=90)),
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
