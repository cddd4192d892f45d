//! The unsafe edge to libavcodec: one decoder on one thread, and the watch on what it conceals.
//! Used by [`crate::decode`] alone.

use std::{
    cell::Cell,
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr,
    sync::Arc,
};

use ffmpeg_next::{
    ffi::{
        AV_EF_CRCCHECK, AV_EF_EXPLODE, AV_FRAME_FLAG_CORRUPT, AV_INPUT_BUFFER_PADDING_SIZE, AV_LOG_DEBUG, AV_LOG_ERROR,
        AV_NOPTS_VALUE, AVCodecContext, AVERROR, AVERROR_EOF, EAGAIN, ENOMEM, av_mallocz, av_new_packet,
        av_packet_unref, avcodec_alloc_context3, avcodec_find_decoder_by_name, avcodec_free_context, avcodec_open2,
        avcodec_receive_frame, avcodec_send_packet,
    },
    frame::Video,
};
use fulltime_common::index::Codec;

use crate::{
    av::{Packet, failed, init},
    error::MediaError,
    hardware::{Choosing, HardwareDevice, Verdict},
};

/// Messages by which libavcodec tells that it made up a picture, and in no other way: no flag, no error. Beginnings of
/// the format strings of `h264_refs.c`, `h264_slice.c`, `hevc_refs.c`; the tests with damaged streams guard them.
const CONCEALMENTS: [&[u8]; 3] = [b"Missing reference picture", b"Frame num gap", b"Could not find ref with POC"];

thread_local! {
    /// Decoders run on their caller's thread, so what this thread logs is about the packet it has just sent.
    static CONCEALED: Cell<bool> = const { Cell::new(false) };
}

/// libav's log: nothing is printed; concealment is noted, errors go to our own log at debug level, unformatted.
/// Generic over the argument list, whose type differs between processors and is not touched.
pub(crate) unsafe extern "C" fn on_log<V>(_: *mut c_void, level: c_int, format: *const c_char, _: V) {
    if level > AV_LOG_DEBUG || format.is_null() {
        return;
    }
    // SAFETY: libav passes a C string.
    let format = unsafe { CStr::from_ptr(format) };
    if CONCEALMENTS.iter().any(|start| format.to_bytes().starts_with(start)) {
        CONCEALED.set(true);
    }
    if level <= AV_LOG_ERROR {
        tracing::debug!(target: "libav", "{}", format.to_string_lossy().trim_end());
    }
}

/// A decoder that was opened for one interval.
pub(crate) struct Decoder {
    context: *mut AVCodecContext,
    packet: Packet,
    /// What the context asks where to decode.
    choosing: Option<Box<Choosing>>,
}

// SAFETY: a codec context has no thread affinity and one owner.
unsafe impl Send for Decoder {}

/// What a decoder says after a packet.
pub(crate) enum Step {
    /// A picture, with the number its packet was sent with, and whether the decoder vouches for every pixel.
    Picture { number: Option<i64>, whole: bool, frame: Video },
    /// It wants the next packet, or has come to its end.
    Hungry,
    /// The bitstream is damaged.
    Damaged,
}

impl Decoder {
    /// `gpu` decodes what it may. `reorder` is how many packets may precede, in decoding order, one that is shown before them: streams that do not
    /// say it themselves would lose their first frames to a guess.
    pub fn new(codec: &Codec, reorder: usize, gpu: Option<&Arc<HardwareDevice>>) -> Result<Self, MediaError> {
        init();
        let name = CString::new(codec.name.as_str()).unwrap_or_default();
        let out_of_memory = || failed("open a decoder", AVERROR(ENOMEM));
        // SAFETY: allocations are checked; `Self` owns the context from its making, so that errors free it.
        unsafe {
            let implementation = avcodec_find_decoder_by_name(name.as_ptr());
            if implementation.is_null() {
                return Err(MediaError::NoDecoder { name: codec.name.clone() });
            }
            let packet = Packet::new()?;
            let mut decoder = Self { context: avcodec_alloc_context3(implementation), packet, choosing: None };
            let Some(context) = decoder.context.as_mut() else { return Err(out_of_memory()) };
            context.codec_tag = codec.tag;
            context.width = codec.width as c_int;
            context.height = codec.height as c_int;
            context.bits_per_coded_sample = codec.bits_per_coded_sample;
            if let Some(device) = gpu {
                decoder.choosing = Some(Choosing::install(context, device)?);
            }
            // One thread: lanes are the parallelism, and the watch above relies on it.
            context.thread_count = 1;
            match codec.name.as_str() {
                "h264" => context.has_b_frames = reorder.min(16) as c_int,
                // Without these, damaged slices of HEVC and pictures that belie their own checksum pass without a word.
                "hevc" => context.err_recognition |= AV_EF_EXPLODE | AV_EF_CRCCHECK,
                _ => {}
            }
            if !codec.extradata.is_empty() {
                let len = codec.extradata.len();
                let copy = av_mallocz(len + AV_INPUT_BUFFER_PADDING_SIZE as usize).cast::<u8>();
                if copy.is_null() {
                    return Err(out_of_memory());
                }
                ptr::copy_nonoverlapping(codec.extradata.as_ptr(), copy, len);
                context.extradata = copy;
                context.extradata_size = len as c_int;
            }
            match avcodec_open2(context, implementation, ptr::null_mut()) {
                code if code < 0 => Err(failed("open a decoder", code)),
                _ => Ok(decoder),
            }
        }
    }

    /// Where the stream is decoded, if that was a question and its headers have been read.
    pub fn verdict(&self) -> Option<Verdict> {
        self.choosing.as_ref().and_then(|choosing| choosing.made())
    }

    /// Sends a packet; `number` comes back with its picture. False: the bitstream is damaged.
    pub fn send(&mut self, data: &[u8], number: Option<i64>) -> Result<bool, MediaError> {
        CONCEALED.set(false);
        let packet = self.packet.as_ptr();
        // SAFETY: the packet is valid and gets `data.len()` bytes (and libav's padding) of its own.
        unsafe {
            av_packet_unref(packet);
            let code = av_new_packet(packet, data.len() as c_int);
            if code < 0 {
                return Err(failed("copy a packet", code));
            }
            ptr::copy_nonoverlapping(data.as_ptr(), (*packet).data, data.len());
            (*packet).pts = number.unwrap_or(AV_NOPTS_VALUE);
            Ok(avcodec_send_packet(self.context, packet) >= 0)
        }
    }

    /// No more packets: the decoder gives what it still holds.
    pub fn drain(&mut self) {
        CONCEALED.set(false);
        // SAFETY: the context is open; a null packet is the documented end.
        unsafe { avcodec_send_packet(self.context, ptr::null()) };
    }

    pub fn receive(&mut self) -> Step {
        let mut frame = Video::empty();
        // SAFETY: both are valid.
        let code = unsafe { avcodec_receive_frame(self.context, frame.as_mut_ptr()) };
        if code == AVERROR(EAGAIN) || code == AVERROR_EOF {
            return Step::Hungry;
        }
        if code < 0 {
            return Step::Damaged;
        }
        // SAFETY: `receive_frame` has filled the frame.
        let raw = unsafe { &*frame.as_ptr() };
        let whole = raw.flags & AV_FRAME_FLAG_CORRUPT == 0 && raw.decode_error_flags == 0;
        let number = Some(raw.pts).filter(|&pts| pts != AV_NOPTS_VALUE);
        Step::Picture { number, whole, frame }
    }

    /// Whether the decoder made up anything since the last packet was sent.
    pub fn concealed(&self) -> bool {
        CONCEALED.get()
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`; freeing null is allowed.
        unsafe { avcodec_free_context(&mut self.context) };
    }
}
