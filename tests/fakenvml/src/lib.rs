//! Takes the place of NVIDIA's `libnvidia-ml.so.1` in tests: a program that loads this library (`FULLTIME_NVML`) sees the
//! machine that the file named by `FULLTIME_FAKE_NVML` describes. Scripts lie in `machines/`; `script` says what they may
//! hold. GPUs can warm up, collect ECC errors, throw Xids and fall off the bus while somebody looks.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{CStr, c_char, c_int, c_uint, c_ulong, c_ulonglong},
    ptr::null_mut,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use nvml_wrapper_sys::bindings::{
    field_id::{NVML_FI_DEV_REMAPPED_FAILURE, NVML_FI_DEV_REMAPPED_PENDING, NVML_FI_DEV_REMAPPED_UNC},
    nvmlDevice_t, nvmlDeviceAttributes_t, nvmlEventData_t, nvmlEventSet_t, nvmlFieldValue_t,
    nvmlGpuInstanceProfileInfo_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlReturn_t,
};

mod script;

use script::{Gpu, Machine, Slice};

/// NVML's own answers.
mod answer {
    pub const GOOD: u32 = 0;
    pub const INVALID: u32 = 2;
    pub const NOT_SUPPORTED: u32 = 3;
    pub const NOT_FOUND: u32 = 6;
    pub const TOO_SMALL: u32 = 7;
    pub const NO_DRIVER: u32 = 9;
    pub const TIMEOUT: u32 = 10;
    pub const LOST: u32 = 15;
}

const XID: c_ulonglong = 8;
/// Field values are 32-bit numbers.
const UNSIGNED: u32 = 1;

struct World {
    machine: Machine,
    start: Instant,
    sets: Mutex<Sets>,
}

/// Event sets by handle: their GPUs, and what has been delivered (GPU and position in its list of Xids).
#[derive(Default)]
struct Sets {
    next: usize,
    sets: BTreeMap<usize, (BTreeSet<usize>, BTreeSet<(usize, usize)>)>,
}

fn world() -> Option<&'static World> {
    static WORLD: OnceLock<Option<World>> = OnceLock::new();
    let read = || {
        let path = std::env::var_os("FULLTIME_FAKE_NVML")?;
        let machine = script::read(path.as_ref()).map_err(|error| eprintln!("fake NVML: {error}")).ok()?;
        Some(World { machine, start: Instant::now(), sets: Mutex::default() })
    };
    WORLD.get_or_init(read).as_ref()
}

impl World {
    fn sets(&self) -> MutexGuard<'_, Sets> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Handles are numbers that are no addresses: GPU n, slice m of GPU n, event set n.
const GPUS: usize = 0x1000;
const SLICES: usize = 0x2000;
const SETS: usize = 0x4000;
const MOST: usize = 64;

enum Handle {
    Gpu(usize, &'static Gpu),
    Slice(&'static Slice),
}

fn handle(device: nvmlDevice_t) -> Option<Handle> {
    let (machine, number) = (&world()?.machine, device as usize);
    match number {
        SLICES..SETS => {
            let gpu = machine.gpu.get((number - SLICES) / MOST)?;
            gpu.slices.get((number - SLICES) % MOST).map(Handle::Slice)
        }
        GPUS..SLICES => machine.gpu.get(number - GPUS).map(|gpu| Handle::Gpu(number - GPUS, gpu)),
        _ => None,
    }
}

/// A whole GPU that is still there.
fn gpu(device: nvmlDevice_t) -> Result<(usize, &'static Gpu), nvmlReturn_t> {
    let Some(Handle::Gpu(at, gpu)) = handle(device) else { return Err(answer::INVALID) };
    let elapsed = world().map(World::elapsed).unwrap_or_default();
    if gpu.is_lost(elapsed) { Err(answer::LOST) } else { Ok((at, gpu)) }
}

/// # Safety
/// `to` must be valid for a write.
unsafe fn put<T>(to: *mut T, value: T) -> nvmlReturn_t {
    // SAFETY: the caller's promise.
    unsafe { to.write(value) };
    answer::GOOD
}

/// # Safety
/// `to` must be valid for writes of `room` bytes.
unsafe fn put_text(text: &str, to: *mut c_char, room: c_uint) -> nvmlReturn_t {
    if text.len() >= room as usize {
        return answer::TOO_SMALL;
    }
    // SAFETY: it fits, with the zero after it.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
        to.add(text.len()).write(0);
    }
    answer::GOOD
}

/// # Safety
/// As of [`put`], if the GPU is there and has an answer.
unsafe fn tell<T>(device: nvmlDevice_t, to: *mut T, value: impl FnOnce(&Gpu, Duration) -> Option<T>) -> nvmlReturn_t {
    let elapsed = world().map(World::elapsed).unwrap_or_default();
    match gpu(device) {
        Err(error) => error,
        // SAFETY: the caller's promise.
        Ok((_, gpu)) => value(gpu, elapsed).map_or(answer::NOT_SUPPORTED, |value| unsafe { put(to, value) }),
    }
}

fn pci(address: &str) -> nvmlPciInfo_t {
    let [domain, bus, device] = script::address(address);
    let mut info = nvmlPciInfo_t {
        busIdLegacy: [0; 16],
        domain,
        bus,
        device,
        pciDeviceId: 0x2330_10de,
        pciSubSystemId: 0,
        busId: [0; 32],
    };
    let text = format!("{domain:08X}:{bus:02X}:{device:02X}.0");
    info.busId.iter_mut().zip(text.bytes()).for_each(|(to, byte)| *to = byte as c_char);
    info
}

/// Exports functions that NVML has, each with NVML's own arguments and answer. Pointers are the caller's, as there.
macro_rules! nvml {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $body:block)*) => {$(
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, unused_unsafe)]
        unsafe extern "C" fn $name($($argument: $type),*) -> nvmlReturn_t {
            // SAFETY: every pointer is written to at most once, as the header promises the caller.
            unsafe { $body }
        }
    )*};
}

nvml! {
    fn nvmlInit_v2() {
        if world().is_some() { answer::GOOD } else { answer::NO_DRIVER }
    }
    fn nvmlInitWithFlags(_flags: c_uint) {
        nvmlInit_v2()
    }
    fn nvmlShutdown() {
        answer::GOOD
    }
    fn nvmlSystemGetDriverVersion(to: *mut c_char, room: c_uint) {
        world().map_or(answer::NO_DRIVER, |world| put_text(&world.machine.driver, to, room))
    }
    fn nvmlSystemGetCudaDriverVersion_v2(to: *mut c_int) {
        world().map_or(answer::NO_DRIVER, |world| put(to, world.machine.cuda))
    }
    fn nvmlDeviceGetCount_v2(to: *mut c_uint) {
        world().map_or(answer::NO_DRIVER, |world| put(to, world.machine.gpu.len() as c_uint))
    }
    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, to: *mut nvmlDevice_t) {
        let at = GPUS + index as usize;
        match gpu(at as nvmlDevice_t) {
            Ok(_) => put(to, at as nvmlDevice_t),
            Err(error) => error,
        }
    }
    fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, to: *mut nvmlDevice_t) {
        let uuid = CStr::from_ptr(uuid).to_string_lossy();
        let Some(world) = world() else { return answer::NO_DRIVER };
        match world.machine.gpu.iter().position(|gpu| gpu.uuid == uuid) {
            Some(at) => put(to, (GPUS + at) as nvmlDevice_t),
            None => answer::NOT_FOUND,
        }
    }
    fn nvmlDeviceGetName(device: nvmlDevice_t, to: *mut c_char, room: c_uint) {
        match handle(device) {
            Some(Handle::Gpu(_, gpu)) => put_text(&gpu.name, to, room),
            Some(Handle::Slice(slice)) => put_text(&slice.name, to, room),
            None => answer::INVALID,
        }
    }
    fn nvmlDeviceGetUUID(device: nvmlDevice_t, to: *mut c_char, room: c_uint) {
        match handle(device) {
            Some(Handle::Gpu(_, gpu)) => put_text(&gpu.uuid, to, room),
            Some(Handle::Slice(slice)) => put_text(&slice.uuid, to, room),
            None => answer::INVALID,
        }
    }
    fn nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, to: *mut nvmlPciInfo_t) {
        tell(device, to, |gpu, _| Some(pci(&gpu.pci)))
    }
    fn nvmlDeviceGetMemoryInfo_v2(device: nvmlDevice_t, to: *mut nvmlMemory_v2_t) {
        let (total, used) = match handle(device) {
            Some(Handle::Gpu(_, gpu)) => (gpu.memory_mb, gpu.used_mb),
            Some(Handle::Slice(slice)) => (slice.memory_mb, 0),
            None => return answer::INVALID,
        };
        let (version, total, used) = ((*to).version, total << 20, used << 20);
        put(to, nvmlMemory_v2_t { version, total, reserved: 0, free: total - used, used })
    }
    fn nvmlDeviceGetCpuAffinity(device: nvmlDevice_t, words: c_uint, to: *mut c_ulong) {
        match gpu(device) {
            Err(error) => error,
            Ok((_, gpu)) => {
                let mask = script::mask(&gpu.cpus, words as usize);
                std::ptr::copy_nonoverlapping(mask.as_ptr(), to, mask.len());
                answer::GOOD
            }
        }
    }
    fn nvmlDeviceGetCudaComputeCapability(device: nvmlDevice_t, major: *mut c_int, minor: *mut c_int) {
        tell(device, major, |gpu, _| Some(gpu.compute[0]));
        tell(device, minor, |gpu, _| Some(gpu.compute[1]))
    }
    fn nvmlDeviceGetMigMode(device: nvmlDevice_t, current: *mut c_uint, pending: *mut c_uint) {
        tell(device, pending, |gpu, _| Some(c_uint::from(gpu.mig)));
        tell(device, current, |gpu, _| Some(c_uint::from(gpu.mig)))
    }
    fn nvmlDeviceGetMaxMigDeviceCount(device: nvmlDevice_t, to: *mut c_uint) {
        tell(device, to, |_, _| Some(7))
    }
    fn nvmlDeviceGetMigDeviceHandleByIndex(device: nvmlDevice_t, index: c_uint, to: *mut nvmlDevice_t) {
        match gpu(device) {
            Err(error) => error,
            Ok((_, gpu)) if index as usize >= gpu.slices.len() => answer::NOT_FOUND,
            Ok((at, _)) => put(to, (SLICES + at * MOST + index as usize) as nvmlDevice_t),
        }
    }
    fn nvmlDeviceGetAttributes_v2(device: nvmlDevice_t, to: *mut nvmlDeviceAttributes_t) {
        let Some(Handle::Slice(slice)) = handle(device) else { return answer::NOT_SUPPORTED };
        let mut attributes: nvmlDeviceAttributes_t = std::mem::zeroed();
        (attributes.sharedDecoderCount, attributes.memorySizeMB) = (slice.decoders, slice.memory_mb);
        put(to, attributes)
    }
    fn nvmlDeviceGetGpuInstanceProfileInfo(device: nvmlDevice_t, _profile: c_uint, to: *mut nvmlGpuInstanceProfileInfo_t) {
        tell(device, to, |gpu, _| {
            let mut info: nvmlGpuInstanceProfileInfo_t = std::mem::zeroed();
            info.decoderCount = gpu.decoders?;
            Some(info)
        })
    }
    fn nvmlDeviceGetDecoderUtilization(device: nvmlDevice_t, busy: *mut c_uint, period: *mut c_uint) {
        tell(device, period, |_, _| Some(167_000));
        tell(device, busy, |gpu, _| Some(gpu.decoder_percent))
    }
    fn nvmlDeviceGetNvLinkState(device: nvmlDevice_t, link: c_uint, to: *mut c_uint) {
        tell(device, to, |gpu, _| gpu.link(link).map(|_| 1))
    }
    fn nvmlDeviceGetNvLinkRemotePciInfo_v2(device: nvmlDevice_t, link: c_uint, to: *mut nvmlPciInfo_t) {
        tell(device, to, |gpu, _| gpu.link(link).map(pci))
    }
    fn nvmlDeviceGetTotalEccErrors(device: nvmlDevice_t, kind: c_uint, _counter: c_uint, to: *mut c_ulonglong) {
        tell(device, to, |gpu, elapsed| gpu.ecc(kind == 1, elapsed))
    }
    fn nvmlDeviceGetFieldValues(device: nvmlDevice_t, count: c_int, values: *mut nvmlFieldValue_t) {
        let gpu = match gpu(device) {
            Ok((_, gpu)) => gpu,
            Err(error) => return error,
        };
        for at in 0..count as usize {
            let value = &mut *values.add(at);
            let number = match value.fieldId {
                NVML_FI_DEV_REMAPPED_UNC => Some(gpu.rows_remapped),
                NVML_FI_DEV_REMAPPED_PENDING => Some(c_uint::from(gpu.remap_pending)),
                NVML_FI_DEV_REMAPPED_FAILURE => Some(c_uint::from(gpu.remap_failed)),
                _ => None,
            };
            value.nvmlReturn = if number.is_some() { answer::GOOD } else { answer::NOT_SUPPORTED };
            value.valueType = UNSIGNED;
            value.value.uiVal = number.unwrap_or(0);
        }
        answer::GOOD
    }
    fn nvmlDeviceGetTemperature(device: nvmlDevice_t, _sensor: c_uint, to: *mut c_uint) {
        tell(device, to, |gpu, _| Some(gpu.temperature))
    }
    fn nvmlDeviceGetTemperatureThreshold(device: nvmlDevice_t, which: c_uint, to: *mut c_uint) {
        tell(device, to, |gpu, _| match which {
            0 => Some(gpu.shutdown_at),
            1 => Some(gpu.slowdown_at),
            _ => None,
        })
    }
    fn nvmlDeviceGetCurrentClocksThrottleReasons(device: nvmlDevice_t, to: *mut c_ulonglong) {
        tell(device, to, |gpu, _| Some(gpu.throttle))
    }
    fn nvmlDeviceGetClockInfo(device: nvmlDevice_t, _kind: c_uint, to: *mut c_uint) {
        tell(device, to, |gpu, _| Some(gpu.clock_mhz))
    }
    fn nvmlDeviceGetMaxClockInfo(device: nvmlDevice_t, _kind: c_uint, to: *mut c_uint) {
        tell(device, to, |gpu, _| Some(gpu.clock_max_mhz))
    }
    fn nvmlEventSetCreate(to: *mut nvmlEventSet_t) {
        let Some(world) = world() else { return answer::NO_DRIVER };
        let mut sets = world.sets();
        sets.next += 1;
        let number = SETS + sets.next;
        sets.sets.insert(number, <_>::default());
        put(to, number as nvmlEventSet_t)
    }
    fn nvmlDeviceRegisterEvents(device: nvmlDevice_t, _events: c_ulonglong, set: nvmlEventSet_t) {
        let Some(world) = world() else { return answer::NO_DRIVER };
        match (gpu(device), world.sets().sets.get_mut(&(set as usize))) {
            (Ok((at, _)), Some((gpus, _))) => {
                gpus.insert(at);
                answer::GOOD
            }
            (Err(error), _) => error,
            (_, None) => answer::INVALID,
        }
    }
    fn nvmlEventSetWait_v2(set: nvmlEventSet_t, to: *mut nvmlEventData_t, milliseconds: c_uint) {
        let Some(world) = world() else { return answer::NO_DRIVER };
        let patience = Instant::now() + Duration::from_millis(u64::from(milliseconds));
        loop {
            if let Some((at, xid)) = world.sets().next_of(set as usize, world) {
                let device = (GPUS + at) as nvmlDevice_t;
                let (eventType, eventData) = (XID, xid);
                let none = c_uint::MAX;
                return put(to, nvmlEventData_t { device, eventType, eventData, gpuInstanceId: none, computeInstanceId: none });
            }
            let now = Instant::now();
            if now >= patience {
                return answer::TIMEOUT;
            }
            std::thread::sleep((patience - now).min(Duration::from_millis(20)));
        }
    }
    fn nvmlEventSetFree(set: nvmlEventSet_t) {
        world().map_or(answer::NO_DRIVER, |world| {
            world.sets().sets.remove(&(set as usize));
            answer::GOOD
        })
    }
}

impl Sets {
    /// The next Xid that a set has not been told.
    fn next_of(&mut self, set: usize, world: &World) -> Option<(usize, u64)> {
        let (gpus, told) = self.sets.get_mut(&set)?;
        for at in gpus.iter().copied() {
            let gpu = world.machine.gpu.get(at)?;
            for (n, xid) in gpu.xid.iter().enumerate() {
                if xid.is_due(world.elapsed()) && told.insert((at, n)) {
                    return Some((at, xid.code));
                }
            }
        }
        None
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(_code: c_uint) -> *const c_char {
    if world().is_some() { c"an error of the fake library".as_ptr() } else { null_mut() }
}
