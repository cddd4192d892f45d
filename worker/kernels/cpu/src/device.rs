//! A device that is the processor: threads in place of streams, ordinary memory in place of the GPU's.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use fulltime_kernels::{Address, Device, DeviceEvent, HostMemory, KernelError, Launch, Memory, Pinned};

/// See the module. Dropping it ends its threads when their work is done.
#[derive(Debug)]
pub struct Processor {
    name: String,
    streams: Vec<Stream>,
    events: Mutex<Vec<Arc<Passing>>>,
    begin: Instant,
}

#[derive(Debug)]
struct Stream {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

enum Work {
    Copy { from: Address, to: Address, len: usize },
    Launch(Launch),
    Record(Arc<Passing>, u64),
    Wait(Arc<Passing>, u64),
}

/// An event: how often it was recorded, and how far that has come.
#[derive(Debug, Default)]
struct Passing {
    state: Mutex<Passed>,
    passed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Passed {
    recorded: u64,
    passed: u64,
    at: Option<Instant>,
}

impl Passing {
    fn state(&self) -> std::sync::MutexGuard<'_, Passed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(&self, number: u64) {
        let state = self.state();
        drop(self.passed.wait_while(state, |state| state.passed < number));
    }
}

impl Processor {
    /// With so many streams.
    #[must_use]
    pub fn new(streams: usize) -> Self {
        let stream = |number: usize| {
            let (work, orders) = mpsc::channel();
            let builder = std::thread::Builder::new().name(format!("stream-{number}"));
            let thread = builder.spawn(move || run(&orders)).ok();
            Stream { work: Some(work), thread }
        };
        Self {
            name: format!("no GPU: the processor, with {streams} threads in place of streams"),
            streams: (0..streams).map(stream).collect(),
            events: Mutex::default(),
            begin: Instant::now(),
        }
    }

    fn put(&self, stream: usize, work: Work) -> Result<(), KernelError> {
        let sender = self.streams.get(stream).and_then(|stream| stream.work.as_ref());
        let sent = sender.map(|sender| sender.send(work));
        if matches!(sent, Some(Ok(()))) { Ok(()) } else { Err(KernelError::StreamEnded { stream }) }
    }

    fn passing(&self, event: DeviceEvent) -> Arc<Passing> {
        Arc::clone(&self.events.lock().unwrap_or_else(PoisonError::into_inner)[event.0])
    }
}

fn run(orders: &mpsc::Receiver<Work>) {
    while let Ok(work) = orders.recv() {
        match work {
            Work::Copy { from, to, len } => {
                // SAFETY: promised by whoever put it here.
                unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, len) };
            }
            // SAFETY: likewise.
            Work::Launch(launch) => unsafe { crate::run(&launch) },
            Work::Record(event, number) => {
                let mut state = event.state();
                (state.passed, state.at) = (number, Some(Instant::now()));
                event.passed.notify_all();
            }
            Work::Wait(event, number) => event.wait_for(number),
        }
    }
}

impl Device for Processor {
    fn name(&self) -> &str {
        &self.name
    }

    fn streams(&self) -> usize {
        self.streams.len()
    }

    fn memory(&self, bytes: usize) -> Result<Memory, KernelError> {
        let memory = HostMemory::new(bytes)?;
        Ok(Memory::new(memory.as_ptr() as Address, bytes, Box::new(memory)))
    }

    fn pinned(&self, bytes: usize) -> Result<Pinned, KernelError> {
        Ok(Pinned::new(HostMemory::new(bytes)?, None))
    }

    fn event(&self) -> Result<DeviceEvent, KernelError> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.push(Arc::default());
        Ok(DeviceEvent(events.len() - 1))
    }

    unsafe fn copy_in(&self, stream: usize, from: *const u8, to: Address, len: usize) -> Result<(), KernelError> {
        self.put(stream, Work::Copy { from: from as Address, to, len })
    }

    unsafe fn copy_out(&self, stream: usize, from: Address, to: *mut u8, len: usize) -> Result<(), KernelError> {
        self.put(stream, Work::Copy { from, to: to as Address, len })
    }

    unsafe fn launch(&self, stream: usize, launch: &Launch) -> Result<(), KernelError> {
        self.put(stream, Work::Launch(*launch))
    }

    fn record(&self, stream: usize, event: DeviceEvent) -> Result<(), KernelError> {
        let event = self.passing(event);
        let number = {
            let mut state = event.state();
            state.recorded += 1;
            state.recorded
        };
        self.put(stream, Work::Record(event, number))
    }

    fn wait(&self, stream: usize, event: DeviceEvent) -> Result<(), KernelError> {
        let event = self.passing(event);
        let number = event.state().recorded;
        self.put(stream, Work::Wait(event, number))
    }

    fn has_passed(&self, event: DeviceEvent) -> Result<bool, KernelError> {
        let state = *self.passing(event).state();
        Ok(state.passed == state.recorded)
    }

    fn finish(&self, event: DeviceEvent) -> Result<(), KernelError> {
        let event = self.passing(event);
        let number = event.state().recorded;
        event.wait_for(number);
        Ok(())
    }

    fn between(&self, earlier: DeviceEvent, later: DeviceEvent) -> Result<Duration, KernelError> {
        let [earlier, later] = [earlier, later].map(|event| self.passing(event).state().at.unwrap_or(self.begin));
        Ok(later.saturating_duration_since(earlier))
    }

    fn synchronize(&self) -> Result<(), KernelError> {
        for stream in 0..self.streams.len() {
            let event = Arc::new(Passing::default());
            self.put(stream, Work::Record(Arc::clone(&event), 1))?;
            event.wait_for(1);
        }
        Ok(())
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        // A thread ends when its last order is done.
        for stream in &mut self.streams {
            stream.work = None;
        }
        for thread in self.streams.iter_mut().filter_map(|stream| stream.thread.take()) {
            let _ = thread.join();
        }
    }
}
