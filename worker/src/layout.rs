//! Which lanes this worker runs and where: the plan of `fulltime-topology` for this machine and these options, and how a
//! lane process takes the place that it was given.

use fulltime_common::wire::LanePlace;
use fulltime_topology::{Choice, Lane, LanePlan, Machine, Pinned, Wishes, pin, plan};
use tracing::{info, warn};

use crate::{
    error::WorkerError,
    lanes::engine_kind,
    options::{Options, PinChoice},
};

/// Looks at the machine and plans.
///
/// # Errors
/// No GPU that was asked for can be used; no runtime library, or options that do not read.
pub fn layout(options: &Options) -> Result<LanePlan, WorkerError> {
    let wishes = Wishes {
        lanes: options.lanes.map(usize::from),
        gpus: choice(options)?,
        gpus_a_lane: options.gpus_a_lane.get(),
        pin: options.pin == PinChoice::Auto,
    };
    let plan = match Machine::here() {
        Ok(machine) => plan(&machine, &wishes),
        Err(error) => {
            warn!(%error, "this machine cannot be looked at: lanes run anywhere");
            let lanes = (0..options.lane_count()).map(|index| Lane { index, ..Lane::default() }).collect();
            LanePlan { lanes, ..LanePlan::default() }
        }
    };
    for out in &plan.left_out {
        warn!(what = out.what, why = out.why, "a GPU has no lane");
    }
    plan.notes.iter().for_each(|note| warn!("{note}"));
    match &plan.unpinned {
        // Many machines have one node: there is nothing to be done about it.
        Some(why) => info!("lanes are {why}"),
        None => info!(lanes = plan.lanes.len(), supervisor = %plan.supervisor, "lanes are bound to their nodes"),
    }
    if plan.lanes.is_empty() {
        let why: Vec<_> = plan.left_out.iter().map(|out| format!("{}: {}", out.what, out.why)).collect();
        return Err(WorkerError::NoLanes { why: why.join("; ") });
    }
    Ok(plan)
}

/// The GPUs to run on. With `--gpus all` the sim plays one on every GPU that is there.
fn choice(options: &Options) -> Result<Choice, WorkerError> {
    Ok(match options.gpus.as_str() {
        "auto" if engine_kind(options)?.wants_gpus() => Choice::All,
        "auto" => Choice::None,
        list => {
            let Ok(choice) = list.parse();
            choice
        }
    })
}

/// Takes the place that this lane process was given; `None` without one. To be called before any other thread is there.
#[must_use]
pub fn take_place(options: &Options) -> Option<Pinned> {
    let place = options.place.as_ref()?;
    let pinned = pin::pin(place);
    if !matches!(pinned, Pinned::Pinned { refused: None, .. }) {
        warn!(%place, "{pinned}");
    }
    Some(pinned)
}

/// The variables that tell a lane's process which GPUs are its own.
pub fn environment(lane: &Lane) -> Vec<(&'static str, String)> {
    if lane.devices.is_empty() {
        return Vec::new();
    }
    let uuids: Vec<_> = lane.devices.iter().map(|device| device.uuid.clone()).collect();
    vec![
        // As NVML counts: where a number is all there is, it is to be the same one.
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
        ("CUDA_VISIBLE_DEVICES", uuids.join(",")),
    ]
}

/// The place for people, as planned.
pub fn describe(lane: &Lane) -> LanePlace {
    let gpus: Vec<_> = lane.devices.iter().map(|device| format!("{} {}", device.gpu, device.name)).collect();
    let healths = lane.devices.iter().map(|device| &device.health);
    let worst = healths.max_by_key(|health| health.state);
    LanePlace {
        gpu: gpus.join(" + "),
        node: lane.node,
        cores: lane.cores.to_string(),
        pinned: false,
        health: worst.map_or_else(|| "well".to_owned(), ToString::to_string),
        works: true,
    }
}
