//! Scripted machines (`tests/fakenvml/machines`): what is found and which lanes are planned, compared with the texts beside
//! the scripts. `FULLTIME_BLESS=1` writes the texts anew; look at the difference then.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers, too")]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use fulltime_topology::{Alarm, CpuSet, Machine, Table, Wishes, health::State, lanes, machine, plan, watch};

/// The machine around the GPUs: threads of a core, cores of a node, nodes. GPUs on buses from 0x80 are on node 1.
#[derive(Clone, Copy)]
struct Host {
    nodes: u32,
    cores: u32,
    threads: u32,
}

const DGX: Host = Host { nodes: 2, cores: 56, threads: 2 };
const SERVER: Host = Host { nodes: 2, cores: 8, threads: 2 };
const BIG: Host = Host { nodes: 2, cores: 16, threads: 2 };
const DESK: Host = Host { nodes: 1, cores: 8, threads: 2 };

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fakenvml/machines")
}

/// The library of this build, or `None` (said) if this package was built without it.
fn library() -> Option<PathBuf> {
    let exe = std::env::current_exe().unwrap();
    let found =
        exe.ancestors().skip(1).take(2).map(|dir| dir.join("libfulltime_fakenvml.so")).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: libfulltime_fakenvml.so is not built (cargo build --workspace)");
    }
    found
}

/// A recorded tree of such a host with these cards.
fn record(host: Host, cards: &[String], root: &Path) {
    let write = |path: String, text: String| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let (all, cores) = (host.nodes * host.cores, host.cores);
    let of_core = move |core: u32| (0..host.threads).map(move |thread| core + thread * all);
    let of_node = |node: u32| (node * cores..(node + 1) * cores).flat_map(of_core).collect::<CpuSet>();
    write("sys/devices/system/cpu/online".into(), format!("0-{}\n", all * host.threads - 1));
    for core in 0..all {
        let siblings: CpuSet = of_core(core).collect();
        for cpu in of_core(core) {
            write(format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), format!("{siblings}\n"));
        }
    }
    for node in 0..host.nodes {
        let folder = format!("sys/devices/system/node/node{node}");
        write(format!("{folder}/cpulist"), format!("{}\n", of_node(node)));
        write(format!("{folder}/meminfo"), format!("Node {node} MemTotal:  528000000 kB\n"));
        let far = |other| if other == node { "10" } else { "21" };
        write(format!("{folder}/distance"), (0..host.nodes).map(far).collect::<Vec<_>>().join(" "));
    }
    for card in cards {
        let node = u32::from(host.nodes > 1 && u32::from_str_radix(&card[5..7], 16).unwrap() >= 0x80);
        let folder = format!("sys/bus/pci/devices/{card}");
        write(format!("{folder}/class"), "0x030200\n".into());
        write(format!("{folder}/vendor"), "0x10de\n".into());
        write(format!("{folder}/numa_node"), format!("{node}\n"));
        write(format!("{folder}/local_cpulist"), format!("{}\n", of_node(node)));
    }
    write("proc/meminfo".into(), format!("MemTotal: {} kB\n", 528_000_000 * host.nodes));
}

/// Addresses of a script's GPUs.
fn cards(script: &str) -> Vec<String> {
    script.lines().filter_map(|line| Some(line.strip_prefix("pci = \"")?.trim_end_matches('"').to_owned())).collect()
}

/// What a fresh process that has this library and script sees and plans, as text.
fn seen(library: &Path, host: Host, name: &str, wishes: &Wishes) -> String {
    let (root, script) = (tempfile::tempdir().unwrap(), scripts().join(format!("{name}.toml")));
    record(host, &cards(&fs::read_to_string(&script).unwrap()), root.path());
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_a_child_sees", "--nocapture", "--test-threads=1"])
        .env("FULLTIME_TEST_ROOT", root.path())
        .env("FULLTIME_TEST_WISHES", serde_json::to_string(wishes).unwrap())
        .env("FULLTIME_NVML", library)
        .env("FULLTIME_FAKE_NVML", script)
        .output()
        .unwrap();
    let text = String::from_utf8(child.stdout).unwrap();
    let (_, seen) =
        text.split_once("<<<\n").unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&child.stderr)));
    seen.split_once(">>>").unwrap().0.to_owned()
}

#[test]
fn what_a_child_sees() {
    let Some(root) = std::env::var_os("FULLTIME_TEST_ROOT") else { return };
    let wishes: Wishes = serde_json::from_str(&std::env::var("FULLTIME_TEST_WISHES").unwrap()).unwrap();
    let found = Machine::read(Path::new(&root), std::env::var_os("FULLTIME_NVML")).unwrap();
    let json: Machine = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
    assert_eq!(json, found, "JSON holds all of it");
    let plan = plan(&found, &wishes);
    let tables = machine(&found).into_iter().chain([lanes(&plan)]);
    println!("<<<\n{}>>>", tables.map(|table| text(&table)).collect::<String>());
}

fn text(table: &Table) -> String {
    let mut out = format!("{}\n", table.title);
    let rows = table.rows.iter().map(|row| row.iter().map(String::as_str).collect::<Vec<_>>());
    for row in std::iter::once(table.columns.clone()).chain(rows) {
        writeln!(out, "  {}", row.join(" | ")).unwrap();
    }
    table.notes.iter().for_each(|note| writeln!(out, "  * {note}").unwrap());
    out
}

/// Compares with the text beside the script.
fn check(library: &Path, host: Host, script: &str, as_file: &str, wishes: &Wishes) {
    let (seen, file) = (seen(library, host, script, wishes), scripts().join(format!("{as_file}.txt")));
    if std::env::var_os("FULLTIME_BLESS").is_some() {
        fs::write(&file, &seen).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert!(seen == expected, "{} is out of date:\n--- expected\n{expected}\n--- seen\n{seen}", file.display());
}

#[test]
fn every_scripted_machine_has_the_lanes_that_were_expected() {
    let Some(library) = library() else { return };
    let all = Wishes::default();
    for (host, name) in [
        (DESK, "one-gpu"),
        (DGX, "dgx"),
        (BIG, "throttling"),
        (SERVER, "xid79"),
        (SERVER, "ecc"),
        (SERVER, "mig"),
        (SERVER, "lost"),
        (SERVER, "none"),
    ] {
        check(&library, host, name, name, &all);
    }
    let pairs = Wishes { gpus_a_lane: 2, ..Wishes::default() };
    check(&library, BIG, "throttling", "throttling-pairs", &pairs);
    let some = Wishes { gpus: "GPU-dgx-6,0000:43:00.0,3".parse().unwrap(), lanes: Some(2), ..Wishes::default() };
    check(&library, DGX, "dgx", "dgx-some", &some);
}

/// A driver that is years old has fewer functions. Their names are made unfindable in a copy of the library.
#[test]
fn a_library_that_lacks_new_symbols_still_gives_lanes() {
    let Some(library) = library() else { return };
    let mut bytes = fs::read(&library).unwrap();
    for symbol in [
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetNvLinkRemotePciInfo_v2",
        "nvmlDeviceGetGpuInstanceProfileInfo",
        "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetAttributes_v2",
    ] {
        let name: Vec<u8> = [b"\0", symbol.as_bytes(), b"\0"].concat();
        let found: Vec<_> =
            bytes.windows(name.len()).enumerate().filter(|(_, w)| *w == name).map(|(at, _)| at).collect();
        assert!(!found.is_empty(), "{symbol}");
        found.into_iter().for_each(|at| bytes[at + 1] = b'x');
    }
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("libnvidia-ml.so.1");
    fs::write(&old, bytes).unwrap();
    check(&old, BIG, "throttling", "old-driver", &Wishes::default());
}

#[test]
fn a_watch_hears_of_xids_and_of_memory_that_wears_out() {
    let Some(library) = library() else { return };
    for (name, uuids) in [("xid79", ["GPU-xid-0", "GPU-xid-1"]), ("ecc", ["GPU-ecc-0", "GPU-ecc-1"])] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_a_watching_child_hears", "--nocapture", "--test-threads=1"])
            .env("FULLTIME_TEST_WATCH", uuids.join(","))
            .env("FULLTIME_NVML", &library)
            .env("FULLTIME_FAKE_NVML", scripts().join(format!("{name}.toml")))
            .output()
            .unwrap();
        assert!(
            child.status.success(),
            "{}{}",
            String::from_utf8_lossy(&child.stdout),
            String::from_utf8_lossy(&child.stderr)
        );
    }
}

#[test]
fn what_a_watching_child_hears() {
    let Ok(uuids) = std::env::var("FULLTIME_TEST_WATCH") else { return };
    let uuids: Vec<_> = uuids.split(',').map(str::to_owned).collect();
    let (canaries, results) = std::sync::mpsc::channel();
    let (sender, alarms) = std::sync::mpsc::channel();
    let watched = uuids.clone();
    let watching = std::thread::spawn(move || {
        watch(std::env::var_os("FULLTIME_NVML"), &watched, &results, |alarm| drop(sender.send(alarm))).unwrap();
    });
    let next = |what: &dyn Fn(&Alarm) -> bool| {
        let begun = Instant::now();
        loop {
            let alarm = alarms.recv_timeout(Duration::from_secs(20)).unwrap();
            eprintln!("{:?} {alarm:?}", begun.elapsed());
            if what(&alarm) {
                return alarm;
            }
        }
    };
    if uuids[0] == "GPU-xid-0" {
        let alarm = next(&|alarm| alarm.xid.is_some());
        assert_eq!((alarm.uuid.as_str(), alarm.xid, alarm.verdict.state), ("GPU-xid-0", Some(79), State::Sick));
        assert!(alarms.try_recv().is_err(), "the other one is well");
    } else {
        // One is worn out at first sight, the other one gets worse.
        next(&|alarm| alarm.uuid == "GPU-ecc-1" && alarm.verdict.state == State::Sick);
        next(&|alarm| alarm.uuid == "GPU-ecc-0" && alarm.verdict.state == State::Suspect);
        canaries.send(("GPU-ecc-0".to_owned(), true)).unwrap();
        next(&|alarm| alarm.uuid == "GPU-ecc-0" && alarm.verdict.state.works());
    }
    drop(canaries);
    watching.join().unwrap();
}
