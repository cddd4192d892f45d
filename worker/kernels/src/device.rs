//! What a device does for a lane: memory, copies, kernels and events on streams. Implemented by [`crate::Cuda`] and, on
//! threads instead of streams, by `fulltime-kernels-cpu`; driven by [`crate::Conveyor`].

use std::{any::Any, fmt, time::Duration};

use crate::{
    args::{Address, Launch},
    error::KernelError,
    host::HostMemory,
};

/// Streams are numbered from 0; work on one is done in the order in which it was put there. May be used from any thread; all
/// calls but `finish` and `synchronize` return before the work is done.
pub trait Device: Send + Sync {
    /// For people: what it is, and that it is no GPU where it is none.
    fn name(&self) -> &str;

    fn streams(&self) -> usize;

    /// # Errors
    /// Out of memory, or a device that is lost.
    fn memory(&self, bytes: usize) -> Result<Memory, KernelError>;

    /// Memory of the host that copies go to and from at full speed. Its pages are touched by the calling thread, so that they
    /// lie on the NUMA node that this thread is pinned to.
    ///
    /// # Errors
    /// Likewise.
    fn pinned(&self, bytes: usize) -> Result<Pinned, KernelError>;

    /// A new event; it lives as long as the device. One that was never recorded has passed.
    ///
    /// # Errors
    /// A device that is lost.
    fn event(&self) -> Result<Event, KernelError>;

    /// # Safety
    /// `from` must be `len` bytes of the host and `to` as many of this device. Until an event recorded behind it has passed they
    /// must stay allocated, `from` unchanged and `to` unread, other than by work that is ordered behind it.
    ///
    /// # Errors
    /// A device that is lost.
    unsafe fn copy_in(&self, stream: usize, from: *const u8, to: Address, len: usize) -> Result<(), KernelError>;

    /// # Safety
    /// As `copy_in`, the other way round.
    ///
    /// # Errors
    /// A device that is lost.
    unsafe fn copy_out(&self, stream: usize, from: Address, to: *mut u8, len: usize) -> Result<(), KernelError>;

    /// # Safety
    /// The argument's addresses must be memory of this device, as large as the kernel needs; and as `copy_in`.
    ///
    /// # Errors
    /// A device that is lost.
    unsafe fn launch(&self, stream: usize, launch: &Launch) -> Result<(), KernelError>;

    /// The event passes when everything put on the stream so far is done. Recording again starts it anew.
    ///
    /// # Errors
    /// A device that is lost.
    fn record(&self, stream: usize, event: Event) -> Result<(), KernelError>;

    /// What is put on the stream from now on waits for the event as it was recorded last.
    ///
    /// # Errors
    /// A device that is lost.
    fn wait(&self, stream: usize, event: Event) -> Result<(), KernelError>;

    /// # Errors
    /// A device that is lost.
    fn has_passed(&self, event: Event) -> Result<bool, KernelError>;

    /// Blocks until the event has passed.
    ///
    /// # Errors
    /// A device that is lost.
    fn finish(&self, event: Event) -> Result<(), KernelError>;

    /// Time between two events that have passed, from the earlier to the later; to a microsecond or so.
    ///
    /// # Errors
    /// A device that is lost.
    fn between(&self, earlier: Event, later: Event) -> Result<Duration, KernelError>;

    /// Blocks until everything is done.
    ///
    /// # Errors
    /// A device that is lost.
    fn synchronize(&self) -> Result<(), KernelError>;
}

/// An event of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event(pub usize);

/// Memory on a device, freed with this.
pub struct Memory {
    address: Address,
    len: usize,
    _owner: Box<dyn Any + Send + Sync>,
}

impl Memory {
    /// For implementations: `owner` frees it.
    #[must_use]
    pub fn new(address: Address, len: usize, owner: Box<dyn Any + Send + Sync>) -> Self {
        Self { address, len, _owner: owner }
    }

    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memory({} bytes)", self.len)
    }
}

/// Memory of the host that a device knows.
pub struct Pinned {
    /// First, so that the device forgets the memory before it is given back.
    _registration: Option<Box<dyn Any + Send + Sync>>,
    memory: HostMemory,
}

impl Pinned {
    /// For implementations: dropping `registration` makes the device forget the memory.
    #[must_use]
    pub fn new(memory: HostMemory, registration: Option<Box<dyn Any + Send + Sync>>) -> Self {
        Self { _registration: registration, memory }
    }

    #[must_use]
    pub fn memory(&self) -> &HostMemory {
        &self.memory
    }

    pub fn memory_mut(&mut self) -> &mut HostMemory {
        &mut self.memory
    }
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pinned({:?})", self.memory)
    }
}
