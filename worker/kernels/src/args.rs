//! The kernels' arguments as `kernels/types.h` and the files beside it have them (tests compare the sizes), and how each
//! kernel is spread over a grid. Addresses are those of the device that runs the kernel.

use std::ffi::c_void;

/// An address on a device; 0 is none.
pub type Address = u64;

/// A picture of 8-bit samples: NV12 (`step` 2, `planes[2]` one byte behind `planes[1]`), planar with any subsampling (`step` 1)
/// or gray (`planes[1]` is 0).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Frame {
    pub planes: [Address; 3],
    /// Bytes from one row to the next.
    pub strides: [i32; 3],
    /// Bytes from one sample of a colour difference to the next.
    pub step: i32,
    pub width: i32,
    pub height: i32,
    pub chroma_width: i32,
    pub chroma_height: i32,
    /// Luma samples per sample of a colour difference, horizontally and vertically.
    pub across: i32,
    pub down: i32,
}

impl Frame {
    /// 4:2:0 as a hardware decoder gives it: luma, and one plane of pairs.
    #[must_use]
    pub fn nv12(luma: Address, pairs: Address, pitch: i32, [width, height]: [i32; 2]) -> Self {
        Self {
            planes: [luma, pairs, pairs + 1],
            strides: [pitch; 3],
            step: 2,
            width,
            height,
            chroma_width: (width + 1) / 2,
            chroma_height: (height + 1) / 2,
            across: 2,
            down: 2,
        }
    }
}

/// A rectangle of a frame and its place in the network input, pixels. Nothing is placed where `wide` is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Placed {
    /// Which of the frames.
    pub frame: i32,
    pub x: i32,
    pub y: i32,
    pub width: i32,
    pub height: i32,
    pub left: i32,
    pub top: i32,
    pub wide: i32,
    pub high: i32,
}

/// The two samples that an output column lies between, and the weight of the right one.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C)]
pub struct Column {
    pub left: i32,
    pub right: i32,
    pub weight: f32,
}

/// The two rows that an output row lies between, and the weight of the lower one in 1/256.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Row {
    pub upper: i32,
    pub lower: i32,
    pub weight: i32,
}

/// Colour matrix, range and normalisation: `fulltime_vision::reference::Colour`, field by field.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C)]
pub struct Colour {
    pub luma: f32,
    pub red_cr: f32,
    pub green_cb: f32,
    pub green_cr: f32,
    pub blue_cb: f32,
    pub offset: [f32; 3],
    pub gain: [f32; 3],
    pub bias: [f32; 3],
    pub pad: [f32; 3],
}

/// A detection in pixels of the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[repr(C)]
pub struct Found {
    pub score: f32,
    pub x: f32,
    pub y: f32,
    pub w: f32,
    pub h: f32,
    /// Class.
    pub label: u32,
}

/// Where the output samples of `count` crops lie: the tables of [`Prepare`].
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Axes {
    /// [`Frame`]s.
    pub frames: Address,
    /// [`Placed`].
    pub crops: Address,
    /// [`Column`]s: of each crop `width` for luma, then as many for the colour differences.
    pub columns: Address,
    /// [`Row`]s: likewise `height`.
    pub rows: Address,
    pub count: i32,
    /// Of the network input, pixels.
    pub width: i32,
    pub height: i32,
}

/// Pictures to network input.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Prepare {
    pub frames: Address,
    pub crops: Address,
    pub columns: Address,
    pub rows: Address,
    /// `count` items of 3 * `width` * `height` values, f32 or halves.
    pub out: Address,
    pub count: i32,
    pub width: i32,
    pub height: i32,
    /// 1: channels are blue, green, red.
    pub bgr: i32,
    /// 1: channels are interleaved.
    pub nhwc: i32,
    /// 1: values are IEEE 754 binary16.
    pub half: i32,
    pub colour: Colour,
}

/// Boxes of people to crops.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct People {
    pub frames: Address,
    /// [`Found`]es.
    pub boxes: Address,
    /// `i32` for each box: the frame that it is in.
    pub frame_of: Address,
    /// [`Placed`], written.
    pub crops: Address,
    pub count: i32,
    pub width: i32,
    pub height: i32,
    /// 0: letterbox at the top left, 1: centred, 2: stretch.
    pub resize: i32,
    /// Left, top, right, bottom as shares of the box.
    pub region: [f32; 4],
}

/// Non-maximum suppression: `Rank`, `Overlap`, `Keep`, in this order.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Suppress {
    /// `capacity` [`Found`]es of each item, of which the first counts\[item\] count.
    pub boxes: Address,
    /// `i32` of each item.
    pub counts: Address,
    /// Room for `items * capacity` `u32`.
    pub order: Address,
    /// Room for `items * capacity * words` `u64`.
    pub masks: Address,
    /// Room for `items * words` `u64`.
    pub gone: Address,
    /// [`Found`]es, written like `boxes`, best first.
    pub kept: Address,
    pub kept_counts: Address,
    pub items: i32,
    pub capacity: i32,
    /// [`Suppress::words_of`] the capacity.
    pub words: i32,
    pub iou: f32,
}

impl Suppress {
    #[must_use]
    pub fn words_of(capacity: i32) -> i32 {
        (capacity + 63) / 64
    }
}

/// Content hashes of `count` frames.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Hash {
    pub frames: Address,
    /// `u64` each.
    pub hashes: Address,
    pub count: i32,
}

/// Which pairs of frames differ in a sample. The two of a pair must have one shape.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Differ {
    pub frames: Address,
    /// Two `i32` each.
    pub pairs: Address,
    /// `u32` each, 0 beforehand; 1 where the pair differs.
    pub differs: Address,
    pub count: i32,
}

/// In a detector's place, for benches.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Standin {
    /// `items` of 3 planes of f32.
    pub tensor: Address,
    /// A [`Found`] for each cell of each item.
    pub boxes: Address,
    pub counts: Address,
    pub items: i32,
    pub width: i32,
    pub height: i32,
    /// Side of a cell, pixels.
    pub cell: i32,
    /// Rounds over the cell's pixels.
    pub effort: i32,
}

/// One launch of a kernel.
#[derive(Debug, Clone, Copy)]
pub enum Launch {
    Axes(Axes),
    Prepare(Prepare),
    People(People),
    Rank(Suppress),
    Overlap(Suppress),
    Keep(Suppress),
    Hash(Hash),
    /// With the rows of a frame, all planes together.
    Differ(Differ, u32),
    Standin(Standin),
}

/// Every kernel's name.
pub const KERNELS: [&str; 9] = ["axes", "prepare", "people", "rank", "overlap", "keep", "hash", "differ", "standin"];

/// Blocks of a grid and threads of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
}

impl Launch {
    /// One launch of every kernel, in the order of [`KERNELS`](crate::KERNELS), with arguments that say nothing: to ask
    /// about their layout.
    #[must_use]
    pub fn of_every_kernel() -> [Self; 9] {
        [
            Self::Axes(Axes::default()),
            Self::Prepare(Prepare::default()),
            Self::People(People::default()),
            Self::Rank(Suppress::default()),
            Self::Overlap(Suppress::default()),
            Self::Keep(Suppress::default()),
            Self::Hash(Hash::default()),
            Self::Differ(Differ::default(), 1),
            Self::Standin(Standin::default()),
        ]
    }

    /// The kernel's place in [`KERNELS`].
    pub(crate) fn number(&self) -> usize {
        match self {
            Self::Axes(_) => 0,
            Self::Prepare(_) => 1,
            Self::People(_) => 2,
            Self::Rank(_) => 3,
            Self::Overlap(_) => 4,
            Self::Keep(_) => 5,
            Self::Hash(_) => 6,
            Self::Differ(..) => 7,
            Self::Standin(_) => 8,
        }
    }

    /// The kernel's name in the source.
    #[must_use]
    pub fn kernel(&self) -> &'static str {
        KERNELS[self.number()]
    }

    /// One thread for each piece of work.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let line = |threads: i32, y: i32, z: i32| {
            let at_least_one = |n: i32| n.max(1) as u32;
            Shape { grid: [at_least_one(threads).div_ceil(256), at_least_one(y), at_least_one(z)], block: [256, 1, 1] }
        };
        match *self {
            Self::Axes(a) => line(a.count * 2 * (a.width + a.height), 1, 1),
            // Rows of 32 pixels: neighbours in a row read neighbouring samples and write one run of memory.
            Self::Prepare(a) => {
                let [width, height, count] = [a.width, a.height, a.count].map(|side| side.max(1) as u32);
                Shape { grid: [width.div_ceil(32), height.div_ceil(8), count], block: [32, 8, 1] }
            }
            Self::People(a) => line(a.count, 1, 1),
            Self::Rank(a) => line(a.capacity, a.items, 1),
            // Few words a box: a block of 256 would idle.
            Self::Overlap(a) => {
                let [words, capacity, items] = [a.words, a.capacity, a.items].map(|side| side.max(1) as u32);
                Shape { grid: [words.div_ceil(32), capacity, items], block: [32, 1, 1] }
            }
            Self::Keep(a) => line(a.items, 1, 1),
            Self::Hash(a) => Shape { grid: [a.count.max(1) as u32, 1, 1], block: [1, 1, 1] },
            Self::Differ(a, rows) => Shape { grid: [rows.max(1), a.count.max(1) as u32, 1], block: [128, 1, 1] },
            Self::Standin(a) => {
                let cell = a.cell.max(1);
                line((a.width / cell) * (a.height / cell), a.items, 1)
            }
        }
    }

    /// The kernel's one argument, valid as long as `self`.
    #[must_use]
    pub fn argument(&self) -> *const c_void {
        match self {
            Self::Axes(a) => (&raw const *a).cast(),
            Self::Prepare(a) => (&raw const *a).cast(),
            Self::People(a) => (&raw const *a).cast(),
            Self::Rank(a) | Self::Overlap(a) | Self::Keep(a) => (&raw const *a).cast(),
            Self::Hash(a) => (&raw const *a).cast(),
            Self::Differ(a, _) => (&raw const *a).cast(),
            Self::Standin(a) => (&raw const *a).cast(),
        }
    }

    /// Bytes of the argument.
    #[must_use]
    pub fn argument_len(&self) -> usize {
        match self {
            Self::Axes(a) => size_of_val(a),
            Self::Prepare(a) => size_of_val(a),
            Self::People(a) => size_of_val(a),
            Self::Rank(a) | Self::Overlap(a) | Self::Keep(a) => size_of_val(a),
            Self::Hash(a) => size_of_val(a),
            Self::Differ(a, _) => size_of_val(a),
            Self::Standin(a) => size_of_val(a),
        }
    }
}
