use proptest::prelude::*;

use super::*;
use crate::{Limits, Link, Node, Slice, health::Reading};

/// Two nodes of 16 processors (8 cores of two threads) and 64 GB, and a GPU on each of these nodes.
fn two_nodes(gpus: &[Option<u32>]) -> Machine {
    let set = |text: &str| text.parse::<CpuSet>().unwrap();
    let node = |id, cpus: &str| Node { id, cpus: set(cpus), memory_bytes: 64 << 30, distances: vec![10, 21] };
    let gpu = |(index, node): (usize, &Option<u32>)| Gpu {
        index: index as u32,
        name: "GPU".into(),
        uuid: format!("GPU-{index}"),
        node: *node,
        ..Gpu::default()
    };
    Machine {
        nodes: vec![node(0, "0-7,16-23"), node(1, "8-15,24-31")],
        cpus: set("0-31"),
        cores: (0..16).map(|core| CpuSet::from_iter([core, core + 16])).collect(),
        limits: Limits { cpus: set("0-31"), nodes: set("0-1"), ..Limits::default() },
        gpus: match gpus {
            [] => Gpus::None { why: "no driver".into() },
            some => Gpus::Found { driver: None, cuda: None, gpus: some.iter().enumerate().map(gpu).collect() },
        },
        ..Machine::default()
    }
}

fn gpus(machine: &mut Machine) -> &mut Vec<Gpu> {
    match &mut machine.gpus {
        Gpus::Found { gpus, .. } => gpus,
        Gpus::None { .. } => panic!("no GPUs"),
    }
}

fn used(plan: &LanePlan) -> Vec<Vec<u32>> {
    plan.lanes.iter().map(|lane| lane.devices.iter().map(|device| device.gpu).collect()).collect()
}

fn cores(plan: &LanePlan) -> Vec<String> {
    plan.lanes.iter().map(|lane| lane.cores.to_string()).collect()
}

#[test]
fn a_gpus_lane_has_whole_cores_of_its_node_and_the_supervisor_one() {
    let plan = plan(&two_nodes(&[Some(0), Some(0), Some(1)]), &Wishes::default());
    assert_eq!(used(&plan), [[0], [1], [2]]);
    assert_eq!(plan.supervisor.to_string(), "8,24", "where there are most");
    assert_eq!(cores(&plan), ["0-3,16-19", "4-7,20-23", "9-15,25-31"]);
    assert!(plan.lanes.iter().all(|lane| lane.pinned && lane.memory == Memory::Bind(lane.node.unwrap())));
    assert_eq!(plan.lanes[2].why, "14 processors of node 1");
}

#[test]
fn sick_gpus_are_left_out_with_the_reason_and_slow_ones_are_not() {
    let mut machine = two_nodes(&[Some(0), Some(1)]);
    gpus(&mut machine)[0].reading = Reading { lost: Some("gone".into()), ..Reading::default() };
    gpus(&mut machine)[1].reading = Reading { throttle: 0x40, ..Reading::default() };
    let slow = plan(&machine, &Wishes::default());
    assert_eq!(used(&slow), [[1]]);
    assert_eq!(
        slow.left_out,
        [LeftOut { what: "GPU 0 (GPU)".into(), why: "sick: the GPU does not answer: gone".into() }]
    );
    assert!(slow.lanes[0].why.starts_with("GPU 1 is impaired: slowed by heat, in hardware"), "{}", slow.lanes[0].why);
    gpus(&mut machine)[1].reading.lost = Some("gone".into());
    assert!(plan(&machine, &Wishes::default()).lanes.is_empty(), "no GPU is no reason to use the processors instead");
}

#[test]
fn chosen_gpus_are_found_by_any_of_their_names() {
    let mut machine = two_nodes(&[Some(0), Some(0), Some(1), Some(1)]);
    gpus(&mut machine)[3].pci = Some("0000:d8:00.0".into());
    let wishes = Wishes { gpus: "1,GPU-2,0000:d8:00.0,9".parse().unwrap(), ..Wishes::default() };
    let plan = plan(&machine, &wishes);
    assert_eq!(used(&plan), [[1], [2], [3]]);
    let out: Vec<_> = plan.left_out.iter().map(|out| (out.what.as_str(), out.why.as_str())).collect();
    assert_eq!(out, [("GPU 9", "there is no such GPU"), ("GPU 0 (GPU)", "it was not asked for")]);
}

#[test]
fn mig_slices_are_lanes_and_can_be_chosen() {
    let mut machine = two_nodes(&[Some(1)]);
    let slice = |n: u32| Slice { uuid: format!("MIG-{n}"), name: "1g.10gb".into(), ..Slice::default() };
    let gpu = &mut gpus(&mut machine)[0];
    (gpu.mig, gpu.slices) = (true, (0..3).map(slice).collect());
    let all = plan(&machine, &Wishes::default());
    assert_eq!(all.lanes.iter().map(|l| l.devices[0].uuid.as_str()).collect::<Vec<_>>(), ["MIG-0", "MIG-1", "MIG-2"]);
    assert!(all.lanes.iter().all(|lane| lane.devices[0].parent == "GPU-0"));
    let one = plan(&machine, &Wishes { gpus: "MIG-1".parse().unwrap(), ..Wishes::default() });
    assert_eq!(one.lanes.len(), 1);
    gpus(&mut machine)[0].slices.clear();
    assert_eq!(plan(&machine, &Wishes::default()).left_out.len(), 1);
}

#[test]
fn lanes_of_several_gpus_follow_nvlinks_then_nodes() {
    let mut machine = two_nodes(&[Some(0), Some(0), Some(1), Some(1), Some(0)]);
    gpus(&mut machine)[0].nvlink = vec![Link { gpu: 3, links: 4 }];
    gpus(&mut machine)[3].nvlink = vec![Link { gpu: 0, links: 4 }];
    let plan = plan(&machine, &Wishes { gpus_a_lane: 2, ..Wishes::default() });
    assert_eq!(used(&plan), [[0, 3], [1, 4]]);
    assert!(plan.lanes[0].why.contains("joined by NVLink") && plan.lanes[1].why.contains("on one node"));
    assert_eq!(plan.left_out[0].why, "a lane takes 2 GPUs, and this one is over");
}

#[test]
fn fewer_lanes_than_gpus_use_both_nodes_and_more_share() {
    let machine = two_nodes(&[Some(0), Some(0), Some(1), Some(1)]);
    let of = |lanes| used(&plan(&machine, &Wishes { lanes: Some(lanes), ..Wishes::default() }));
    assert_eq!(of(2), [[0], [2]]);
    assert_eq!(of(3), [[0], [1], [2]]);
    assert_eq!(of(6), [[0], [0], [1], [1], [2], [3]]);
}

#[test]
fn a_cpuset_without_the_gpus_node_moves_its_threads_to_the_nearest() {
    let mut machine = two_nodes(&[Some(1)]);
    machine.limits.cpus = "2-5".parse().unwrap();
    let plan = plan(&machine, &Wishes::default());
    assert_eq!((plan.lanes[0].node, cores(&plan)[0].as_str()), (Some(0), "3-5"));
    assert_eq!(plan.lanes[0].memory, Memory::Bind(1), "the buffers still belong near the GPU");
    assert!(plan.lanes[0].why.contains("may use no core of node 1"), "{}", plan.lanes[0].why);
}

#[test]
fn without_gpus_lanes_are_spread_over_the_nodes_by_cores() {
    let mut machine = two_nodes(&[]);
    machine.limits.cpus = "0-3,8-9".parse().unwrap();
    let three = plan(&machine, &Wishes { lanes: Some(3), ..Wishes::default() });
    assert_eq!(three.lanes.iter().map(|lane| lane.node).collect::<Vec<_>>(), [Some(0), Some(0), Some(1)]);
    assert_eq!(cores(&three), ["0-1", "2-3", "8-9"]);
    assert_eq!(three.lanes[0].memory, Memory::Prefer(0));
    let every = plan(&machine, &Wishes::default());
    assert_eq!((every.lanes.len(), every.supervisor.len()), (6, 0));
    let many = plan(&machine, &Wishes { lanes: Some(9), ..Wishes::default() });
    assert!(many.lanes[0].why.contains("shared by its 6 lanes"), "{}", many.lanes[0].why);
}

#[test]
fn one_node_or_none_pins_nothing_and_says_so_once() {
    let mut machine = two_nodes(&[]);
    machine.limits.cpu_quota = Some(1.5);
    machine.nodes.pop();
    let one = plan(&machine, &Wishes::default());
    assert_eq!((one.unpinned.clone(), one.lanes.len()), (Some(Unpinned::OneNode), 2));
    assert!(one.lanes.iter().all(|lane| lane.place().is_none() && lane.cores.len() == 32));
    assert_eq!(one.notes.len(), 1);
    machine.nodes.clear();
    assert_eq!(plan(&machine, &Wishes::default()).unpinned, Some(Unpinned::NoNuma));
    let off = plan(&two_nodes(&[]), &Wishes { pin: false, ..Wishes::default() });
    assert_eq!(off.unpinned, Some(Unpinned::Off));
}

prop_compose! {
    fn machines()(
        threads in 1_u32..3,
        nodes in prop::collection::vec((1_u32..9, 1_u64..3), 0..5),
        gpus in prop::collection::vec((prop::option::of(0_u32..5), any::<bool>(), 0_usize..4), 0..9),
        allowed in prop::collection::vec(any::<bool>(), 64..65),
        all_allowed in any::<bool>(),
    ) -> Machine {
        let (mut at, mut machine) = (0, Machine::default());
        for (id, (cores, gigabytes)) in nodes.iter().enumerate() {
            let mut cpus = CpuSet::default();
            for _ in 0..*cores {
                let core: CpuSet = (at..at + threads).collect();
                cpus.extend(core.iter());
                machine.cores.push(core);
                at += threads;
            }
            machine.cpus.extend(cpus.iter());
            let distances = (0..nodes.len()).map(|other| if other == id { 10 } else { 20 + other as u32 }).collect();
            machine.nodes.push(Node { id: id as u32, cpus, memory_bytes: gigabytes * (8 << 30), distances });
        }
        if nodes.is_empty() {
            machine.cpus.extend(0..4);
        }
        let may = |cpu: &u32| all_allowed || allowed[*cpu as usize % 64];
        machine.limits.cpus = machine.cpus.iter().filter(may).collect();
        if machine.limits.cpus.is_empty() {
            machine.limits.cpus = machine.cpus.clone();
        }
        machine.limits.nodes = (0..nodes.len() as u32).collect();
        let gpu = |(index, (node, sick, slices)): (usize, &(Option<u32>, bool, usize))| Gpu {
            index: index as u32,
            uuid: format!("GPU-{index}"),
            node: node.filter(|node| (*node as usize) < nodes.len()),
            mig: *slices > 0,
            slices: (0..*slices).map(|n| Slice { uuid: format!("MIG-{index}-{n}"), ..Slice::default() }).collect(),
            reading: Reading { remap_failed: *sick, ..Reading::default() },
            ..Gpu::default()
        };
        if !gpus.is_empty() {
            let gpus = gpus.iter().enumerate().map(gpu).collect();
            machine.gpus = Gpus::Found { driver: None, cuda: None, gpus };
        }
        machine
    }
}

proptest! {
    #[test]
    fn cores_are_disjoint_and_allowed_and_every_healthy_gpu_is_used(
        machine in machines(),
        lanes in prop::option::of(1_usize..20),
        gpus_a_lane in 1_usize..4,
    ) {
        let wishes = Wishes { lanes, gpus_a_lane, ..Wishes::default() };
        let made = plan(&machine, &wishes);
        prop_assert_eq!(&made, &plan(&machine, &wishes), "the same twice");
        let usable = machine.usable();
        for lane in &made.lanes {
            prop_assert!(!lane.cores.is_empty() && lane.cores.is_subset(&usable));
            prop_assert!(lane.cores.is_disjoint(&made.supervisor) || made.unpinned.is_some());
            prop_assert!(!lane.why.is_empty());
            prop_assert!(lane.pinned == made.unpinned.is_none());
        }
        let pinned: Vec<_> = made.lanes.iter().filter(|lane| lane.pinned).collect();
        for (at, lane) in pinned.iter().enumerate() {
            let shared = lane.why.contains("shared by");
            prop_assert!(pinned[..at].iter().all(|other| shared && lane.node == other.node && lane.cores == other.cores || lane.cores.is_disjoint(&other.cores)));
            // Fair: of one node's lanes none has more than a core above another.
            let mut same = pinned.iter().copied().filter(|other| other.node == lane.node);
            let touched = |lane: &Lane| machine.cores.iter().filter(|core| !core.is_disjoint(&lane.cores)).count();
            let near = |other: &&Lane| {
                touched(lane).abs_diff(touched(other)) <= 1 || lane.cores.len().abs_diff(other.cores.len()) <= 1
            };
            prop_assert!(same.all(|other| near(&other)), "{:?}", cores(&made));
        }
        if lanes.is_none() {
            let healthy = machine.gpus.list().iter().filter(|gpu| !gpu.reading.remap_failed);
            let used: Vec<_> = made.lanes.iter().flat_map(|lane| &lane.devices).map(|device| device.uuid.clone()).collect();
            let mut units: Vec<_> = healthy.clone().flat_map(|gpu| match gpu.mig {
                true => gpu.slices.iter().map(|slice| slice.uuid.clone()).collect(),
                false => vec![gpu.uuid.clone()],
            }).collect();
            if gpus_a_lane == 1 {
                let mut sorted = used.clone();
                sorted.sort();
                units.sort();
                if !machine.gpus.list().is_empty() {
                    prop_assert_eq!(sorted, units);
                }
            } else {
                let whole = healthy.filter(|gpu| !gpu.mig).count();
                prop_assert_eq!(used.len(), whole / gpus_a_lane * gpus_a_lane);
            }
            let without = machine.gpus.list().iter().filter(|gpu| !made.lanes.iter().any(|lane| lane.devices.iter().any(|d| d.gpu == gpu.index))).count();
            prop_assert_eq!(made.left_out.len(), without, "each with a reason");
        }
    }
}
