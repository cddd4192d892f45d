//! Looks after GPUs: listens for Xids, reads figures now and then, and tells when a GPU's health changes. On a thread of its
//! own, since NVML blocks; what it thinks is in `health`.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    time::{Duration, Instant},
};

use nvml_wrapper::{
    Device, Nvml, bitmasks::event::EventTypes, enums::event::XidError, error::NvmlError, event::EventSet,
};

use crate::{
    health::{Health, Reading, Sign, Verdict},
    nvml,
};

/// Between two looks for Xids, and between two readings.
const LISTEN: Duration = Duration::from_millis(200);
const READ: Duration = Duration::from_secs(2);
/// NVML's number for an Xid that it does not know.
const UNKNOWN: u64 = 999;

/// Something has changed about a GPU.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// The whole GPU's.
    pub uuid: String,
    pub verdict: Verdict,
    /// The Xid that was heard, if that was it.
    pub xid: Option<u64>,
}

struct Patient<'a> {
    uuid: String,
    device: Option<Device<'a>>,
    events: Option<EventSet<'a>>,
    health: Health,
}

/// Watches these GPUs until `canaries` is closed, through which it hears how canaries ended. `tell` is called with every
/// change of a verdict and every Xid.
///
/// # Errors
/// The library cannot be loaded; a GPU that is not found is only told as sick.
pub fn watch(
    library: Option<OsString>,
    uuids: &[String],
    canaries: &Receiver<(String, bool)>,
    mut tell: impl FnMut(Alarm),
) -> Result<(), NvmlError> {
    let nvml = nvml::open(library)?;
    let mut patients: BTreeMap<String, Patient<'_>> =
        uuids.iter().map(|uuid| (uuid.clone(), Patient::of(&nvml, uuid))).collect();
    let start = Instant::now();
    let mut read_at = None;
    loop {
        loop {
            match canaries.try_recv() {
                Ok((uuid, passed)) => {
                    if let Some(patient) = patients.get_mut(&uuid) {
                        patient.hear(&Sign::Canary { passed }, start.elapsed(), &mut tell);
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        let due = read_at.is_none_or(|at: Instant| at.elapsed() >= READ);
        if due {
            read_at = Some(Instant::now());
        }
        for patient in patients.values_mut() {
            while let Some(xid) = patient.xid() {
                patient.hear(&Sign::Xid(xid), start.elapsed(), &mut tell);
            }
            if due {
                let reading = patient.reading();
                patient.hear(&Sign::Reading(Box::new(reading)), start.elapsed(), &mut tell);
            }
        }
        // Waits, and hears at once when there is nobody left to tell.
        match canaries.recv_timeout(LISTEN) {
            Ok((uuid, passed)) => {
                if let Some(patient) = patients.get_mut(&uuid) {
                    patient.hear(&Sign::Canary { passed }, start.elapsed(), &mut tell);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

impl<'a> Patient<'a> {
    fn of(nvml: &'a Nvml, uuid: &str) -> Self {
        let device = nvml.device_by_uuid(uuid).ok();
        // A set of its own: registering one that fails takes the whole set along.
        let events = device.as_ref().and_then(|device| {
            let set = nvml.create_event_set().ok()?;
            device.register_events(EventTypes::CRITICAL_XID_ERROR, set).ok()
        });
        Self { uuid: uuid.to_owned(), device, events, health: Health::default() }
    }

    /// The next Xid, if there is one now.
    fn xid(&self) -> Option<u64> {
        let event = self.events.as_ref()?.wait(0).ok()?;
        event.event_data.map(|xid| match xid {
            XidError::Value(xid) => xid,
            XidError::Unknown => UNKNOWN,
        })
    }

    fn reading(&self) -> Reading {
        match &self.device {
            Some(device) => nvml::reading(device),
            None => Reading { lost: Some("it cannot be found".to_owned()), ..Reading::default() },
        }
    }

    fn hear(&mut self, sign: &Sign, now: Duration, tell: &mut impl FnMut(Alarm)) {
        let before = self.health.verdict();
        let verdict = self.health.hear(sign, now);
        let xid = match sign {
            Sign::Xid(xid) => Some(*xid),
            Sign::Reading(_) | Sign::Canary { .. } => None,
        };
        if verdict != before || xid.is_some() {
            tell(Alarm { uuid: self.uuid.clone(), verdict, xid });
        }
    }
}
