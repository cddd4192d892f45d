//! Two NUMA nodes, a real job and a real worker with two lanes: what the kernel says about the lanes' threads and memory.

use std::{collections::BTreeMap, time::Duration};

use fulltime_tests::guest::Guest;

/// Of the guest, under emulation and beside other tests.
const HUNG: Duration = Duration::from_secs(600);

/// Runs the job twice, with pinning and without, and reads back how its lanes are while they work: their place on the
/// command line, the processors of every thread, and where the pages of their memory are.
const SCRIPT: &str = r#"
lanes() { for p in /proc/[0-9]*; do grep -qs -e --lane-process $p/cmdline && echo ${p#/proc/}; done; }
export FULLTIME_SIM=item-ms=400
for pin in auto off; do
  FULLTIME_PIN=$pin fulltime run --engine sim --workers 1 --lanes 2 --archive /archive --out /out-$pin \
    --pipeline /models/synth-detector/pipeline.toml --shard-length 4s --select '**/*.mp4' --json > /tmp/run-$pin 2>&1 &
  run=$!
  n=0
  while [ $n -lt 120 ] && kill -0 $run 2> /dev/null; do
    sleep 1; n=$((n+1))
    busy=0; for lane in $(lanes); do [ $(ls /proc/$lane/task | wc -l) -ge 8 ] && busy=$((busy+1)); done
    [ $busy -ge 2 ] && break
  done
  sleep 6
  for lane in $(lanes); do
    echo "LANE $pin $lane $(tr '\0' ' ' < /proc/$lane/cmdline | grep -o -e '--place [^ ]*')"
    for task in /proc/$lane/task/*; do echo "THREAD $pin $lane $(grep Cpus_allowed_list $task/status)"; done
    grep -v -e file= -e heap -e stack /proc/$lane/numa_maps | while read line; do echo "PAGES $pin $lane $line"; done
  done
  wait $run
  echo "RUN $pin $? $(tail -n 1 /tmp/run-$pin)"
done
"#;

/// One lane as the kernel sees it.
#[derive(Debug, Default)]
struct Lane {
    place: String,
    threads: Vec<String>,
    /// By node: anonymous pages outside of the heap and stack that the process began with.
    pages: BTreeMap<u32, u64>,
}

/// Lanes by pinning and process.
fn lanes(said: &str) -> BTreeMap<String, Vec<Lane>> {
    let mut found: BTreeMap<(String, String), Lane> = BTreeMap::new();
    for line in said.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [kind, pin, process, rest @ ..] = &words[..] else { continue };
        if !matches!(*kind, "LANE" | "THREAD" | "PAGES") {
            continue;
        }
        let lane = found.entry(((*pin).to_owned(), (*process).to_owned())).or_default();
        match *kind {
            "LANE" => lane.place = rest.last().copied().unwrap_or_default().to_owned(),
            "THREAD" => lane.threads.push(rest.last().copied().unwrap_or_default().to_owned()),
            _ => {
                for word in rest {
                    let count = word.strip_prefix('N').and_then(|word| word.split_once('='));
                    if let Some((node, pages)) =
                        count.and_then(|(n, p)| Some((n.parse().ok()?, p.parse::<u64>().ok()?)))
                    {
                        *lane.pages.entry(node).or_default() += pages;
                    }
                }
            }
        }
    }
    let mut lanes: BTreeMap<String, Vec<Lane>> = BTreeMap::new();
    for ((pin, _), lane) in found {
        lanes.entry(pin).or_default().push(lane);
    }
    lanes.values_mut().for_each(|lanes| lanes.sort_by(|a, b| a.place.cmp(&b.place)));
    lanes
}

/// Whether these lanes are where lanes of this machine belong.
fn pinned(lanes: &[Lane]) -> Result<(), String> {
    if lanes.len() != 2 {
        return Err(format!("{} lanes", lanes.len()));
    }
    for (node, (lane, cores)) in lanes.iter().zip(["0-1", "2-3"]).enumerate() {
        if let Some(other) = lane.threads.iter().find(|threads| *threads != cores) {
            return Err(format!("a thread of lane {node} may run on {other}"));
        }
        let (here, all) = (lane.pages.get(&(node as u32)).copied().unwrap_or(0), lane.pages.values().sum::<u64>());
        // Some were there before anything of ours ran. A picture and a tensor of this job are hundreds of pages.
        if all < 300 || here * 100 < all * 97 {
            return Err(format!("of {all} pages of lane {node} {here} are on its node"));
        }
    }
    Ok(())
}

#[test]
fn lanes_of_a_real_worker_run_and_keep_their_buffers_on_their_own_nodes() {
    let Some(guest) = Guest::find() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let said = guest.run(dir.path(), SCRIPT, HUNG);
    for pin in ["auto", "off"] {
        assert!(said.lines().any(|line| line.starts_with(&format!("RUN {pin} 0 "))), "the job failed:\n{said}");
    }
    let lanes = lanes(&said);
    let of = |pin: &str| lanes.get(pin).map(Vec::as_slice).unwrap_or_default();
    if let Err(why) = pinned(of("auto")) {
        panic!("{why}\n{:#?}\n{said}", of("auto"));
    }
    let places: Vec<_> = of("auto").iter().map(|lane| lane.place.as_str()).collect();
    assert_eq!(places, ["0-1@prefer:0", "2-3@prefer:1"], "as planned");
    let loose = pinned(of("off")).expect_err("without pinning this test would have to fail");
    eprintln!("with pinning: {:?}; without: {loose}", of("auto").iter().map(|lane| &lane.pages).collect::<Vec<_>>());
}
