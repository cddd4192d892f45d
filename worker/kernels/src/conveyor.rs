//! Batches of pictures on their way through a device: in, to network input, through a model, suppressed, out. Does what the
//! [`Ring`] says, with buffers that are made once. Owned by a lane's thread, which fills pinned memory with what its decoder
//! gives (or says where on the device the pictures lie already) and takes boxes and content hashes, batch by batch.
//!
//! Safety of what happens later: a slot's buffers are touched by the device only between its batch's first step and the event of
//! its last one; the host touches them only outside of that, since the ring gives a slot away only then. Dropping a
//! conveyor waits for the device.

use std::{any::Any, fmt, mem, time::Duration};

use crate::{
    args::{Address, Axes, Colour, Column, Found, Frame, Hash, Launch, Placed, Prepare, Row, Suppress},
    device::{Device, Event as Mark, Memory, Pinned},
    error::KernelError,
    ring::{Event, Ring, RingOptions, Stage, Step, Streams},
    timeline::Span,
};

/// What comes in, per batch.
#[derive(Debug, Clone)]
pub struct Load {
    /// Pictures of a full batch.
    pub pictures: usize,
    /// How each lies in memory: a frame whose planes are offsets from the picture's first byte.
    pub picture: Frame,
    /// Bytes of one.
    pub bytes: usize,
    /// Where to look in each, `frame` being 0. Each crop of each picture is an item of the network input.
    pub crops: Vec<Placed>,
}

/// What stands while batches pass.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Batches in flight.
    pub slots: usize,
    pub streams: Streams,
    /// Of the network input, pixels.
    pub width: i32,
    pub height: i32,
    pub bgr: bool,
    pub nhwc: bool,
    pub half: bool,
    pub colour: Colour,
    /// Most boxes of an item.
    pub capacity: usize,
    /// Boxes that overlap a better one by more go.
    pub iou: f32,
    /// Whether to record a timeline.
    pub timed: bool,
}

/// Where an engine finds its input and leaves its output, on the device.
#[derive(Debug, Clone, Copy)]
pub struct Io {
    /// `items` of 3 * `width` * `height` values.
    pub tensor: Address,
    pub items: usize,
    pub width: i32,
    pub height: i32,
    /// Room for `capacity` [`Found`]es of each item, and an `i32` of each: how many there are.
    pub boxes: Address,
    pub counts: Address,
    pub capacity: usize,
}

/// The model between preprocessing and suppression.
pub trait Infer: Send {
    /// Whether `infer` does the work before it returns, on streams of its own: then the tensor is complete when it is called.
    fn on_host(&self) -> bool {
        false
    }

    /// Puts on the stream what makes boxes of the tensor.
    ///
    /// # Safety
    /// The addresses must be the device's, as large as [`Io`] says, and nobody else's until the stream has come past.
    ///
    /// # Errors
    /// Whatever the engine fails with.
    unsafe fn infer(&mut self, device: &dyn Device, stream: usize, io: &Io) -> Result<(), KernelError>;
}

/// A finished batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub batch: u64,
    /// Of each picture.
    pub hashes: Vec<u64>,
    /// Of each item, best first.
    pub boxes: Vec<Vec<Found>>,
}

/// See the module.
pub struct Conveyor<'a> {
    device: &'a dyn Device,
    engine: Box<dyn Infer + 'a>,
    load: Load,
    standing: Standing,
    ring: Ring,
    slots: Vec<Slot>,
    /// Crops of a full batch, and the tables of their columns and rows; the same for every slot.
    _shared: Memory,
    at: Shared,
    begin: Mark,
    spans: Vec<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Shared {
    crops: Address,
    columns: Address,
    rows: Address,
}

/// The buffers of one batch.
struct Slot {
    /// Frames, then pictures.
    input: Pinned,
    arrived: Memory,
    tensor: Memory,
    /// What suppression needs.
    found: Memory,
    /// Counts, hashes, boxes: copied out in one piece.
    left: Memory,
    output: Pinned,
    /// Start and end of every stage.
    marks: [[Mark; 2]; 5],
    pictures: usize,
    /// Bytes to copy in.
    arriving: usize,
    /// What keeps pictures alive that lie on the device.
    held: Option<Box<dyn Any + Send>>,
}

/// Offsets of pieces that lie one after another, aligned as any GPU likes them.
struct Pieces(usize);

impl Pieces {
    fn take(&mut self, bytes: usize) -> usize {
        let at = self.0;
        self.0 = (at + bytes).next_multiple_of(256);
        at
    }
}

impl fmt::Debug for Conveyor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conveyor({}, {:?})", self.device.name(), self.ring)
    }
}

impl<'a> Conveyor<'a> {
    /// Makes all buffers, and waits until the tables are in place.
    ///
    /// # Errors
    /// Out of memory, or a device that is lost.
    pub fn new(
        device: &'a dyn Device,
        engine: Box<dyn Infer + 'a>,
        load: Load,
        standing: Standing,
    ) -> Result<Self, KernelError> {
        let needed = standing.streams.iter().max().map_or(0, |last| last + 1);
        if needed > device.streams() {
            return Err(KernelError::Streams { needed, found: device.streams() });
        }
        let on_host = engine.on_host().then_some(Stage::Infer);
        let ring = Ring::new(RingOptions { slots: standing.slots, streams: standing.streams, on_host });
        let items = load.pictures * load.crops.len();
        let sides = [standing.width, standing.height].map(|side| side.max(0) as usize);
        let mut pieces = Pieces(0);
        let crops = pieces.take(items * mem::size_of::<Placed>());
        let columns = pieces.take(2 * items * sides[0] * mem::size_of::<Column>());
        let rows = pieces.take(2 * items * sides[1] * mem::size_of::<Row>());
        let shared = device.memory(pieces.0)?;
        let [crops, columns, rows] = [crops, columns, rows].map(|at| shared.address() + at as Address);
        let at = Shared { crops, columns, rows };
        let begin = device.event()?;
        let slots =
            (0..standing.slots.max(1)).map(|_| Slot::new(device, &load, &standing)).collect::<Result<_, _>>()?;
        let conveyor =
            Self { device, engine, load, standing, ring, slots, _shared: shared, at, begin, spans: Vec::new() };
        conveyor.lay_tables()?;
        Ok(conveyor)
    }

    /// Pinned memory for the pictures of the next batch, one after another, when a slot is free.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        let (_, slot) = self.ring.free()?;
        let (table, len) = (self.table_len(), self.load.pictures * self.load.bytes);
        Some(&mut self.slots[slot].input.memory_mut().as_mut_slice()[table..table + len])
    }

    /// Sends as many pictures of [`Conveyor::room`] on their way. Returns the batch's number.
    ///
    /// # Errors
    /// When there was no room or they are more than a batch, or a device that is lost.
    pub fn send(&mut self, pictures: usize) -> Result<u64, KernelError> {
        let (_, slot) = self.free_for(pictures)?;
        let table = self.table_len();
        let base = self.slots[slot].arrived.address() + table as Address;
        let picture = self.load.picture;
        let frames = (0..pictures).map(|i| {
            let first = base + (i * self.load.bytes) as Address;
            // Gray pictures have no second plane.
            let planes = [picture.planes[0] + first]
                .into_iter()
                .chain([1, 2].map(|p| if picture.planes[p] == 0 { 0 } else { picture.planes[p] + first }));
            let mut moved = picture;
            for (plane, at) in moved.planes.iter_mut().zip(planes) {
                *plane = at;
            }
            moved
        });
        let frames: Vec<Frame> = frames.collect();
        self.depart(slot, &frames, table + pictures * self.load.bytes, None)
    }

    /// Sends pictures that lie on the device already, all of the shape that was agreed on. `held` keeps them there; it is
    /// dropped when the batch has been taken.
    ///
    /// # Safety
    /// The frames' planes must be complete memory of this device until `held` is dropped.
    ///
    /// # Errors
    /// As [`Conveyor::send`].
    pub unsafe fn send_from_device(&mut self, frames: &[Frame], held: Box<dyn Any + Send>) -> Result<u64, KernelError> {
        let (_, slot) = self.free_for(frames.len())?;
        let len = self.table_len();
        self.depart(slot, frames, len, Some(held))
    }

    /// The oldest batch on its way, when it has arrived; waits for it. `None` when none is on its way.
    ///
    /// # Errors
    /// A device that is lost, or what the engine fails with.
    pub fn take(&mut self) -> Result<Option<Output>, KernelError> {
        loop {
            self.issue()?;
            if let Some((batch, slot)) = self.ring.done() {
                let output = self.read(batch, slot);
                self.note_times(batch, slot)?;
                self.slots[slot].held = None;
                self.ring.on(Event::Taken)?;
                return Ok(Some(output));
            }
            let Some((batch, stage)) = self.ring.awaited() else { return Ok(None) };
            self.device.finish(self.slots[self.ring.slot_of(batch)].marks[stage as usize][1])?;
            self.ring.on(Event::Completed { batch, stage })?;
        }
    }

    /// Batches on their way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.ring.in_flight()
    }

    /// When the stages of all batches taken so far ran.
    #[must_use]
    pub fn timeline(&self) -> &[Span] {
        &self.spans
    }

    fn table_len(&self) -> usize {
        (self.load.pictures * mem::size_of::<Frame>()).next_multiple_of(256)
    }

    fn free_for(&self, pictures: usize) -> Result<(u64, usize), KernelError> {
        let limit = self.load.pictures;
        if pictures > limit {
            return Err(KernelError::Room { what: "pictures of a batch", limit, found: pictures });
        }
        let none = KernelError::Ring(crate::ring::RingError::NoneFree);
        self.ring.free().ok_or(none)
    }

    fn depart(
        &mut self,
        slot: usize,
        frames: &[Frame],
        arriving: usize,
        held: Option<Box<dyn Any + Send>>,
    ) -> Result<u64, KernelError> {
        let batch = self.ring.free().map_or(0, |(batch, _)| batch);
        let own = &mut self.slots[slot];
        write(own.input.memory_mut().as_mut_slice(), frames);
        (own.pictures, own.arriving, own.held) = (frames.len(), arriving, held);
        self.ring.on(Event::Filled)?;
        self.issue()?;
        Ok(batch)
    }

    /// Issues whatever can be.
    fn issue(&mut self) -> Result<(), KernelError> {
        while let Some(step) = self.ring.next() {
            self.put(step)?;
            self.ring.on(Event::Issued { batch: step.batch, stage: step.stage })?;
        }
        Ok(())
    }

    fn put(&mut self, step: Step) -> Result<(), KernelError> {
        let Step { slot, stage, stream, after, .. } = step;
        let device = self.device;
        let own = &self.slots[slot];
        if let Some(after) = after {
            device.wait(stream, own.marks[after as usize][1])?;
        }
        if self.standing.timed {
            device.record(stream, own.marks[stage as usize][0])?;
        }
        let (counts, hashes, kept) = output_places(&self.load, &self.standing);
        let items = own.pictures * self.load.crops.len();
        let left = |at: usize| own.left.address() + at as Address;
        // SAFETY: buffers of this slot (see the module), made as large as the launches need; the shared tables are complete.
        unsafe {
            match stage {
                Stage::CopyIn => {
                    device.copy_in(stream, own.input.memory().as_ptr(), own.arrived.address(), own.arriving)?;
                }
                Stage::Preprocess => {
                    device.launch(stream, &Launch::Prepare(self.prepare(own, items)))?;
                    let hash = Hash { frames: own.arrived.address(), hashes: left(hashes), count: own.pictures as i32 };
                    device.launch(stream, &Launch::Hash(hash))?;
                }
                Stage::Infer => {
                    let io = Io {
                        tensor: own.tensor.address(),
                        items,
                        width: self.standing.width,
                        height: self.standing.height,
                        boxes: own.found.address(),
                        counts: own.found.address() + self.found_places().counts as Address,
                        capacity: self.standing.capacity,
                    };
                    self.engine.infer(device, stream, &io)?;
                }
                Stage::Postprocess => {
                    let args = self.suppress(own, items, left(counts), left(kept));
                    for launch in [Launch::Rank(args), Launch::Overlap(args), Launch::Keep(args)] {
                        device.launch(stream, &launch)?;
                    }
                }
                Stage::CopyOut => {
                    device.copy_out(stream, own.left.address(), own.output.memory().as_ptr(), own.left.len())?;
                }
            }
        }
        device.record(stream, self.slots[slot].marks[stage as usize][1])
    }

    fn prepare(&self, own: &Slot, items: usize) -> Prepare {
        let standing = &self.standing;
        Prepare {
            frames: own.arrived.address(),
            crops: self.at.crops,
            columns: self.at.columns,
            rows: self.at.rows,
            out: own.tensor.address(),
            count: items as i32,
            width: standing.width,
            height: standing.height,
            bgr: i32::from(standing.bgr),
            nhwc: i32::from(standing.nhwc),
            half: i32::from(standing.half),
            colour: standing.colour,
        }
    }

    fn suppress(&self, own: &Slot, items: usize, kept_counts: Address, kept: Address) -> Suppress {
        let (found, places) = (own.found.address(), self.found_places());
        let capacity = self.standing.capacity as i32;
        Suppress {
            boxes: found,
            counts: found + places.counts as Address,
            order: found + places.order as Address,
            masks: found + places.masks as Address,
            gone: found + places.gone as Address,
            kept,
            kept_counts,
            items: items as i32,
            capacity,
            words: Suppress::words_of(capacity),
            iou: self.standing.iou,
        }
    }

    fn found_places(&self) -> FoundPlaces {
        FoundPlaces::of(&self.load, &self.standing)
    }

    /// Crops of a full batch to the device, and the tables of their columns and rows. A slot's frames serve: all have one shape.
    fn lay_tables(&self) -> Result<(), KernelError> {
        let pictures = self.load.pictures;
        let of_picture = |i: usize| self.load.crops.iter().map(move |crop| Placed { frame: i as i32, ..*crop });
        let crops: Vec<Placed> = (0..pictures).flat_map(of_picture).collect();
        let frames = vec![self.load.picture; pictures];
        let mut staging = self.device.pinned(mem::size_of_val(&crops[..]) + mem::size_of_val(&frames[..]))?;
        let bytes = staging.memory_mut().as_mut_slice();
        write(bytes, &crops);
        write(&mut bytes[mem::size_of_val(&crops[..])..], &frames);
        let axes = Axes {
            frames: self.slots[0].arrived.address(),
            crops: self.at.crops,
            columns: self.at.columns,
            rows: self.at.rows,
            count: crops.len() as i32,
            width: self.standing.width,
            height: self.standing.height,
        };
        let from = staging.memory().as_ptr();
        // SAFETY: buffers of our own, large enough; `staging` outlives the copies, which are waited for.
        unsafe {
            self.device.copy_in(0, from, self.at.crops, mem::size_of_val(&crops[..]))?;
            let (from, len) = (from.add(mem::size_of_val(&crops[..])), mem::size_of_val(&frames[..]));
            self.device.copy_in(0, from, axes.frames, len)?;
            self.device.launch(0, &Launch::Axes(axes))?;
        }
        self.device.record(0, self.begin)?;
        self.device.synchronize()
    }

    fn read(&self, batch: u64, slot: usize) -> Output {
        let own = &self.slots[slot];
        let (counts, hashes, kept) = output_places(&self.load, &self.standing);
        let bytes = own.output.memory().as_slice();
        let items = own.pictures * self.load.crops.len();
        let counts: Vec<i32> = read(&bytes[counts..], items);
        let boxes = counts.iter().enumerate().map(|(item, &count)| {
            let first = kept + item * self.standing.capacity * mem::size_of::<Found>();
            read(&bytes[first..], count.max(0) as usize)
        });
        Output { batch, hashes: read(&bytes[hashes..], own.pictures), boxes: boxes.collect() }
    }

    fn note_times(&mut self, batch: u64, slot: usize) -> Result<(), KernelError> {
        if !self.standing.timed {
            return Ok(());
        }
        for stage in Stage::ALL {
            let [start, end] = self.slots[slot].marks[stage as usize];
            let since = |mark| -> Result<Duration, KernelError> { self.device.between(self.begin, mark) };
            let (start, end) = (since(start)?, since(end)?);
            self.spans.push(Span { batch, stage, stream: self.standing.streams[stage as usize], start, end });
        }
        Ok(())
    }
}

impl Drop for Conveyor<'_> {
    fn drop(&mut self) {
        // Buffers may go only when nothing uses them any more. Of a device that is lost nothing does.
        let _ = self.device.synchronize();
    }
}

impl Slot {
    fn new(device: &dyn Device, load: &Load, standing: &Standing) -> Result<Self, KernelError> {
        let items = load.pictures * load.crops.len();
        let table = (load.pictures * mem::size_of::<Frame>()).next_multiple_of(256);
        let input = table + load.pictures * load.bytes;
        let values = 3 * items * (standing.width.max(0) as usize) * (standing.height.max(0) as usize);
        let (_, _, kept) = output_places(load, standing);
        let output = kept + items * standing.capacity * mem::size_of::<Found>();
        let mut marks = [[Mark(0); 2]; 5];
        for mark in marks.iter_mut().flatten() {
            *mark = device.event()?;
        }
        Ok(Self {
            input: device.pinned(input)?,
            arrived: device.memory(input)?,
            tensor: device.memory(values * if standing.half { 2 } else { 4 })?,
            found: device.memory(FoundPlaces::of(load, standing).len)?,
            left: device.memory(output)?,
            output: device.pinned(output)?,
            marks,
            pictures: 0,
            arriving: 0,
            held: None,
        })
    }
}

/// Where things lie in a slot's `found`; boxes come first.
struct FoundPlaces {
    counts: usize,
    order: usize,
    masks: usize,
    gone: usize,
    len: usize,
}

impl FoundPlaces {
    fn of(load: &Load, standing: &Standing) -> Self {
        let (items, capacity) = (load.pictures * load.crops.len(), standing.capacity);
        let words = Suppress::words_of(capacity as i32) as usize;
        let mut pieces = Pieces(0);
        pieces.take(items * capacity * mem::size_of::<Found>());
        let counts = pieces.take(items * 4);
        let order = pieces.take(items * capacity * 4);
        let masks = pieces.take(items * capacity * words * 8);
        let gone = pieces.take(items * words * 8);
        Self { counts, order, masks, gone, len: pieces.0 }
    }
}

/// Counts, hashes and boxes in what is copied out.
fn output_places(load: &Load, standing: &Standing) -> (usize, usize, usize) {
    let items = load.pictures * load.crops.len();
    let mut pieces = Pieces(0);
    let counts = pieces.take(items * 4);
    let hashes = pieces.take(load.pictures * 8);
    let kept = pieces.take(items * standing.capacity * mem::size_of::<Found>());
    (counts, hashes, kept)
}

/// What a kernel's argument may point at: plain numbers without padding.
trait Plain: Copy {}
impl Plain for Frame {}
impl Plain for Placed {}
impl Plain for Found {}
impl Plain for i32 {}
impl Plain for u64 {}

/// Writes values to the beginning of `to`, which must be long enough.
fn write<T: Plain>(to: &mut [u8], values: &[T]) {
    // SAFETY: numbers without padding are bytes.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), mem::size_of_val(values)) };
    to[..bytes.len()].copy_from_slice(bytes);
}

/// The first values in `from`.
fn read<T: Plain>(from: &[u8], count: usize) -> Vec<T> {
    let from = &from[..count * mem::size_of::<T>()];
    // SAFETY: any bytes are numbers; the slice was checked to be long enough, and alignment is not asked for.
    (0..count).map(|i| unsafe { from.as_ptr().cast::<T>().add(i).read_unaligned() }).collect()
}
