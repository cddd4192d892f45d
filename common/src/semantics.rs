//! The semantics version of each stage: raised by hand when a stage's output bytes change on purpose, never because a
//! package version changed. They are part of every result's digest. Golden digests in the tests guard them: a test that
//! fails there means "raise the version or undo the change".

/// Container index: packet table, frame numbering, clean points.
pub const INDEX: u32 = 1;
/// Interval-wise decoding and the rule for gaps.
pub const DECODE: u32 = 1;
/// YUV to letterboxed network input, tiling geometry.
pub const PREPROCESS: u32 = 1;
/// Head decoding, score threshold, NMS, seam merging.
pub const POSTPROCESS: u32 = 1;
/// Layout of shard tables, preview pictures and per-frame evidence.
pub const SHARD: u32 = 3;
/// Who is described, crops, kit colours, quantised looks, chances of numbers. Counts where a pipeline describes.
pub const DESCRIBE: u32 = 1;
/// Tracker, identity, match tables, summary, match preview.
pub const REDUCE: u32 = 4;
