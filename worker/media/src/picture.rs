//! A decoded picture: planar 8-bit YUV or gray, whatever the recording holds.
//! Lanes preprocess from its planes; the content hash is per-frame evidence that reduces compare.

use std::{ffi::c_int, ptr};

use ffmpeg_next::{
    ffi::{
        AV_PIX_FMT_FLAG_RGB, AVColorRange, AVColorSpace, AVERROR, AVPixelFormat, ENOMEM, SWS_ACCURATE_RND,
        SWS_BILINEAR, SWS_BITEXACT, SWS_CS_ITU601, SWS_CS_ITU709, SwsContext, av_frame_get_buffer, av_pix_fmt_desc_get,
        sws_freeContext, sws_getCachedContext, sws_getCoefficients, sws_scale, sws_setColorspaceDetails,
    },
    frame::Video,
};

use crate::{av::failed, error::MediaError, hardware::in_memory};

/// How YUV becomes RGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    Bt601,
    Bt709,
}

/// One plane's visible samples, a byte each, top row first.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    /// From the first sample of the first row to at least the last sample of the last one.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    pub width: usize,
    pub height: usize,
}

impl<'a> Plane<'a> {
    /// The visible rows.
    pub fn rows(self) -> impl Iterator<Item = &'a [u8]> {
        (0..self.height).map(move |y| &self.data[y * self.stride..y * self.stride + self.width])
    }
}

/// A picture of 4:2:0, 4:2:2 or 4:4:4 planes (Y, U, V) or of one gray plane. Owns libav's reference-counted frame; may be
/// sent to other threads.
pub struct Picture {
    frame: Video,
    layout: Layout,
    matrix: Matrix,
    full_range: bool,
}

/// Number of planes, and by how many bits chroma is smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    planes: usize,
    shift: (u32, u32),
}

impl Layout {
    /// Of the formats that are handed on as they are.
    fn of(format: AVPixelFormat) -> Option<Self> {
        use AVPixelFormat as F;
        let (planes, shift) = match format {
            F::AV_PIX_FMT_YUV420P | F::AV_PIX_FMT_YUVJ420P => (3, (1, 1)),
            F::AV_PIX_FMT_YUV422P | F::AV_PIX_FMT_YUVJ422P => (3, (1, 0)),
            F::AV_PIX_FMT_YUV444P | F::AV_PIX_FMT_YUVJ444P => (3, (0, 0)),
            F::AV_PIX_FMT_GRAY8 => (1, (0, 0)),
            _ => return None,
        };
        Some(Self { planes, shift })
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{}, {:?}, {:?})", self.width(), self.height(), self.layout, self.matrix)
    }
}

impl Picture {
    /// Takes a decoder's frame, from a GPU, too. Other formats (10 bits, NV12, RGB) are converted to 4:2:0.
    pub(crate) fn new(frame: Video, scaler: &mut Scaler) -> Result<Self, MediaError> {
        let frame = in_memory(frame)?;
        use AVColorSpace as C;
        // SAFETY: the frame came filled from the decoder.
        let raw = unsafe { &*frame.as_ptr() };
        let matrix = match raw.colorspace {
            C::AVCOL_SPC_BT709 => Matrix::Bt709,
            C::AVCOL_SPC_BT470BG | C::AVCOL_SPC_SMPTE170M | C::AVCOL_SPC_FCC => Matrix::Bt601,
            // Nobody said: what players assume.
            _ if raw.height >= 720 => Matrix::Bt709,
            _ => Matrix::Bt601,
        };
        let format = frame.format().into();
        let full_range = raw.color_range == AVColorRange::AVCOL_RANGE_JPEG
            || matches!(
                format,
                AVPixelFormat::AV_PIX_FMT_YUVJ420P
                    | AVPixelFormat::AV_PIX_FMT_YUVJ422P
                    | AVPixelFormat::AV_PIX_FMT_YUVJ444P
                    | AVPixelFormat::AV_PIX_FMT_YUVJ440P
                    | AVPixelFormat::AV_PIX_FMT_YUVJ411P
            );
        let upright = raw.linesize[..3].iter().all(|&stride| stride >= 0);
        match Layout::of(format).filter(|_| upright) {
            Some(layout) => Ok(Self { frame, layout, matrix, full_range }),
            None => {
                // SAFETY: every format has a description, or else null, which is checked.
                let rgb = unsafe { av_pix_fmt_desc_get(format).as_ref() }
                    .is_some_and(|description| description.flags & u64::from(AV_PIX_FMT_FLAG_RGB as u32) != 0);
                let frame = scaler.convert(&frame, matrix, rgb || full_range, !rgb && full_range)?;
                let layout = Layout { planes: 3, shift: (1, 1) };
                Ok(Self { frame, layout, matrix, full_range: !rgb && full_range })
            }
        }
    }

    #[must_use]
    pub fn width(&self) -> usize {
        self.frame.width() as usize
    }

    #[must_use]
    pub fn height(&self) -> usize {
        self.frame.height() as usize
    }

    /// 3 (Y, U, V), or 1 (gray).
    #[must_use]
    pub fn planes(&self) -> usize {
        self.layout.planes
    }

    /// Plane 0 is luma.
    ///
    /// # Panics
    /// When `plane` is not below [`Picture::planes`].
    #[must_use]
    pub fn plane(&self, plane: usize) -> Plane<'_> {
        assert!(plane < self.layout.planes, "plane {plane} of {}", self.layout.planes);
        let (right, down) = if plane == 0 { (0, 0) } else { self.layout.shift };
        let (width, height) = (self.width().div_ceil(1 << right), self.height().div_ceil(1 << down));
        // SAFETY: these formats have that many planes with `height` rows of `stride` bytes; the last row may end early.
        unsafe {
            let raw = &*self.frame.as_ptr();
            let stride = raw.linesize[plane] as usize;
            let len = if height == 0 { 0 } else { stride * (height - 1) + width };
            Plane { data: std::slice::from_raw_parts(raw.data[plane], len), stride, width, height }
        }
    }

    #[must_use]
    pub fn matrix(&self) -> Matrix {
        self.matrix
    }

    /// Whether samples use 0 to 255 (JPEG) rather than 16 to 235.
    #[must_use]
    pub fn full_range(&self) -> bool {
        self.full_range
    }

    /// A hash of every visible sample of all planes, the same on every platform: XXH64 of each row in turn, planes in
    /// order, seeded with the hash so far; the first seed is width << 32 | height.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        let seed = (self.width() as u64) << 32 | self.height() as u64;
        (0..self.planes()).flat_map(|plane| self.plane(plane).rows()).fold(seed, |hash, row| xxh64(row, hash))
    }
}

impl PartialEq for Picture {
    /// Whether every visible sample is the same, and means the same.
    fn eq(&self, other: &Self) -> bool {
        let shape =
            |picture: &Self| (picture.width(), picture.height(), picture.layout, picture.matrix, picture.full_range);
        shape(self) == shape(other)
            && (0..self.planes()).all(|plane| self.plane(plane).rows().eq(other.plane(plane).rows()))
    }
}

/// Converts what [`Layout::of`] does not know. Keeps its tables from picture to picture.
#[derive(Debug)]
pub(crate) struct Scaler(*mut SwsContext);

// SAFETY: a scaling context has no thread affinity and one owner.
unsafe impl Send for Scaler {}

impl Default for Scaler {
    fn default() -> Self {
        Self(ptr::null_mut())
    }
}

impl Scaler {
    /// To 4:2:0 of the same size, bit-exactly: the same on every processor.
    fn convert(&mut self, from: &Video, matrix: Matrix, from_full: bool, to_full: bool) -> Result<Video, MediaError> {
        let mut to = Video::empty();
        let target = AVPixelFormat::AV_PIX_FMT_YUV420P;
        // SAFETY: every pointer comes from libav or a live frame; allocations are checked.
        unsafe {
            let (source, raw) = (&*from.as_ptr(), &mut *to.as_mut_ptr());
            (raw.format, raw.width, raw.height) = (target as c_int, source.width, source.height);
            let code = av_frame_get_buffer(raw, 0);
            if code < 0 {
                return Err(failed("allocate a picture", code));
            }
            let (width, height) = (source.width, source.height);
            let flags = SWS_BILINEAR | SWS_BITEXACT | SWS_ACCURATE_RND;
            let (none, no_params) = (ptr::null_mut(), ptr::null());
            let format = from.format().into();
            self.0 = sws_getCachedContext(
                self.0, width, height, format, width, height, target, flags, none, none, no_params,
            );
            if self.0.is_null() {
                return Err(failed("convert a picture", AVERROR(ENOMEM)));
            }
            let coefficients = sws_getCoefficients(match matrix {
                Matrix::Bt601 => SWS_CS_ITU601,
                Matrix::Bt709 => SWS_CS_ITU709,
            });
            let (from_full, to_full) = (c_int::from(from_full), c_int::from(to_full));
            sws_setColorspaceDetails(self.0, coefficients, from_full, coefficients, to_full, 0, 1 << 16, 1 << 16);
            sws_scale(
                self.0,
                source.data.as_ptr().cast(),
                source.linesize.as_ptr(),
                0,
                height,
                raw.data.as_ptr(),
                raw.linesize.as_ptr(),
            );
        }
        Ok(to)
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        // SAFETY: made by `sws_getCachedContext`, or null, which is allowed.
        unsafe { sws_freeContext(self.0) };
    }
}

/// XXH64 (xxHash, Yann Collet; the specification's section "XXH64 algorithm description").
fn xxh64(data: &[u8], seed: u64) -> u64 {
    const P: [u64; 5] = [
        0x9e37_79b1_85eb_ca87,
        0xc2b2_ae3d_27d4_eb4f,
        0x1656_67b1_9e37_79f9,
        0x85eb_ca77_c2b2_ae63,
        0x27d4_eb2f_1656_67c5,
    ];
    fn word(bytes: &[u8]) -> u64 {
        bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
    }
    let round = |lane: u64, input: u64| lane.wrapping_add(input.wrapping_mul(P[1])).rotate_left(31).wrapping_mul(P[0]);

    let stripes = data.chunks_exact(32);
    let mut rest = stripes.remainder();
    let mut hash = if data.len() >= 32 {
        let mut lanes =
            [seed.wrapping_add(P[0]).wrapping_add(P[1]), seed.wrapping_add(P[1]), seed, seed.wrapping_sub(P[0])];
        for stripe in stripes {
            for (lane, input) in lanes.iter_mut().zip(stripe.as_chunks::<8>().0) {
                *lane = round(*lane, u64::from_le_bytes(*input));
            }
        }
        let turned =
            lanes.iter().zip([1, 7, 12, 18]).fold(0u64, |sum, (lane, by)| sum.wrapping_add(lane.rotate_left(by)));
        lanes.iter().fold(turned, |hash, &lane| (hash ^ round(0, lane)).wrapping_mul(P[0]).wrapping_add(P[3]))
    } else {
        seed.wrapping_add(P[4])
    };
    hash = hash.wrapping_add(data.len() as u64);
    while let Some((eight, tail)) = rest.split_at_checked(8) {
        hash = (hash ^ round(0, word(eight))).rotate_left(27).wrapping_mul(P[0]).wrapping_add(P[3]);
        rest = tail;
    }
    if let Some((four, tail)) = rest.split_at_checked(4) {
        hash = (hash ^ word(four).wrapping_mul(P[0])).rotate_left(23).wrapping_mul(P[1]).wrapping_add(P[2]);
        rest = tail;
    }
    for &byte in rest {
        hash = (hash ^ u64::from(byte).wrapping_mul(P[4])).rotate_left(11).wrapping_mul(P[0]);
    }
    hash = (hash ^ hash >> 33).wrapping_mul(P[1]);
    hash = (hash ^ hash >> 29).wrapping_mul(P[2]);
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_xxh64() {
        assert_eq!(xxh64(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(xxh64(b"a", 0), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(xxh64(b"abc", 0), 0x44bc_2cf5_ad77_0999);
        assert_eq!(xxh64(b"Nobody inspects the spammish repetition", 0), 0xfbce_a83c_8a37_8bf1);
    }
}
