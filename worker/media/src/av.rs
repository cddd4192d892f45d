//! The unsafe edge to libavformat: a demuxer that reads through a Rust [`Input`], and its packets.
//! Used by the index makers (over a ranged store) and by the decoder (over bytes in memory).

use std::{
    ffi::{CStr, c_int, c_void},
    ptr, slice,
    sync::Once,
};

use ffmpeg_next::ffi::{
    AV_DISPOSITION_ATTACHED_PIC, AV_NOPTS_VALUE, AV_PKT_FLAG_CORRUPT, AV_PKT_FLAG_DISCARD, AV_PKT_FLAG_KEY,
    AVCodecParameters, AVDiscard, AVERROR, AVERROR_EOF, AVFMT_FLAG_CUSTOM_IO, AVFormatContext, AVIOContext,
    AVMediaType, AVPacket, AVRational, AVSEEK_FORCE, AVSEEK_SIZE, AVStream, EINVAL, EIO, ENOMEM, av_dict_free,
    av_dict_set, av_find_input_format, av_free, av_log_set_callback, av_malloc, av_packet_alloc, av_packet_free,
    av_packet_unref, av_read_frame, avcodec_get_name, avformat_alloc_context, avformat_close_input,
    avformat_find_stream_info, avformat_open_input, avio_alloc_context, avio_context_free,
};

use crate::{codec, error::MediaError};

/// Demuxers that may be probed. Others (playlists, concatenations, image sequences) could open further files.
const CONTAINERS: &CStr = c"mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,avi,flv,mpeg,asf,mxf,wav,mp3,aac,flac,ogg";

/// How much libav asks for at once; an [`Input`] may return less.
const IO_BUFFER: usize = 64 << 10;

/// Random access to bytes, as libav wants it.
pub(crate) trait Input {
    /// Reads some bytes at `at`, at least one; `at` is below `len`. `None`: it failed, and the input knows why.
    fn read(&mut self, at: u64, into: &mut [u8]) -> Option<usize>;
    fn len(&self) -> u64;
    /// Whether libav may jump (to an index at the end, say).
    fn seekable(&self) -> bool;
}

struct Cursor<I> {
    input: I,
    at: u64,
}

/// An opened container. Owns the input that libav reads through.
pub(crate) struct Demuxer<I: Input> {
    context: *mut AVFormatContext,
    io: *mut AVIOContext,
    cursor: *mut Cursor<I>,
}

// SAFETY: libav's contexts have no thread affinity, and the demuxer is the only owner of all three.
unsafe impl<I: Input + Send> Send for Demuxer<I> {}

/// Routes libav's log away from standard error. Idempotent.
pub(crate) fn init() {
    static ONCE: Once = Once::new();
    // SAFETY: the callback is a plain function that lives for ever.
    ONCE.call_once(|| unsafe { av_log_set_callback(Some(codec::on_log)) });
}

pub(crate) fn failed(action: &'static str, code: c_int) -> MediaError {
    MediaError::Libav { action, source: ffmpeg_next::Error::from(code) }
}

unsafe extern "C" fn read<I: Input>(opaque: *mut c_void, into: *mut u8, len: c_int) -> c_int {
    // SAFETY: libav hands back the cursor it was given and a buffer of `len` bytes; nothing else touches either now.
    let (cursor, into) =
        unsafe { (&mut *opaque.cast::<Cursor<I>>(), slice::from_raw_parts_mut(into, len.max(0) as usize)) };
    if cursor.at >= cursor.input.len() || into.is_empty() {
        return AVERROR_EOF;
    }
    match cursor.input.read(cursor.at, into) {
        None | Some(0) => AVERROR(EIO),
        Some(n) => {
            cursor.at += n as u64;
            n as c_int
        }
    }
}

unsafe extern "C" fn seek<I: Input>(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: as in `read`.
    let cursor = unsafe { &mut *opaque.cast::<Cursor<I>>() };
    let len = cursor.input.len() as i64;
    let to = match whence & !AVSEEK_FORCE {
        AVSEEK_SIZE => return len,
        libc_seek::SET => offset,
        libc_seek::CUR => cursor.at as i64 + offset,
        libc_seek::END => len + offset,
        _ => return i64::from(AVERROR(EINVAL)),
    };
    if to < 0 {
        return i64::from(AVERROR(EINVAL));
    }
    cursor.at = to as u64;
    to
}

/// POSIX's values, which libav uses on every platform.
mod libc_seek {
    pub const SET: i32 = 0;
    pub const CUR: i32 = 1;
    pub const END: i32 = 2;
}

impl<I: Input> Demuxer<I> {
    /// Opens a container: the named format, or whatever the first bytes look like (names and extensions play no part).
    /// On failure the input comes back with libav's error code.
    pub fn open(input: I, format: Option<&CStr>) -> Result<Self, (I, c_int)> {
        init();
        let seekable = input.seekable();
        let cursor = Box::into_raw(Box::new(Cursor { input, at: 0 }));
        // SAFETY: every pointer is checked before use; until `Self` exists the cursor is ours to take back.
        unsafe {
            let give_back = |code| Err((Box::from_raw(cursor).input, code));
            let buffer = av_malloc(IO_BUFFER).cast::<u8>();
            if buffer.is_null() {
                return give_back(AVERROR(ENOMEM));
            }
            let size = IO_BUFFER as c_int;
            let io = avio_alloc_context(buffer, size, 0, cursor.cast(), Some(read::<I>), None, Some(seek::<I>));
            let mut context = avformat_alloc_context();
            if io.is_null() || context.is_null() {
                return give_back(AVERROR(ENOMEM));
            }
            (*io).seekable = c_int::from(seekable);
            (*context).pb = io;
            (*context).flags |= AVFMT_FLAG_CUSTOM_IO;
            let mut options = ptr::null_mut();
            av_dict_set(&mut options, c"format_whitelist".as_ptr(), CONTAINERS.as_ptr(), 0);
            av_dict_set(&mut options, c"ignore_chapters".as_ptr(), c"1".as_ptr(), 0);
            let format = format.map_or(ptr::null(), |name| av_find_input_format(name.as_ptr()));
            let code = avformat_open_input(&mut context, ptr::null(), format, &mut options);
            av_dict_free(&mut options);
            // A failed open has freed the context, but never an I/O context that it did not make.
            let demuxer = Self { context, io, cursor };
            if code < 0 { Err((demuxer.into_input(), code)) } else { Ok(demuxer) }
        }
    }

    /// Lets libav look into the first packets for what the header does not say.
    pub fn find_stream_info(&mut self) -> Result<(), c_int> {
        // SAFETY: the context is open.
        let code = unsafe { avformat_find_stream_info(self.context, ptr::null_mut()) };
        if code < 0 { Err(code) } else { Ok(()) }
    }

    /// Sets `AVFMT_FLAG_*` bits.
    pub fn set_flags(&mut self, flags: c_int) {
        // SAFETY: the context is open.
        unsafe { (*self.context).flags |= flags };
    }

    pub fn input(&mut self) -> &mut I {
        // SAFETY: libav only touches the cursor during calls that hold `&mut self`.
        unsafe { &mut (*self.cursor).input }
    }

    /// libav's name of the format, such as `mov,mp4,m4a,3gp,3g2,mj2`.
    pub fn format(&self) -> String {
        // SAFETY: an open context has an input format with a static name.
        unsafe { text((*(*self.context).iformat).name) }
    }

    fn streams(&self) -> &[*mut AVStream] {
        // SAFETY: the array has `nb_streams` valid entries; it may be null when there are none.
        unsafe {
            match (*self.context).nb_streams {
                0 => &[],
                n => slice::from_raw_parts((*self.context).streams, n as usize),
            }
        }
    }

    /// The first video stream that is not a cover picture. First, not "best": index and decoder must choose alike.
    pub fn video(&self) -> Option<Stream> {
        self.streams().iter().enumerate().find_map(|(index, &stream)| {
            // SAFETY: streams and their parameters live as long as the context.
            let (parameters, disposition) = unsafe { ((*stream).codecpar, (*stream).disposition) };
            // SAFETY: as above.
            let video = unsafe { (*parameters).codec_type } == AVMediaType::AVMEDIA_TYPE_VIDEO;
            (video && disposition & AV_DISPOSITION_ATTACHED_PIC == 0)
                .then_some(Stream { index: index as c_int, stream })
        })
    }

    /// Makes `read` skip every other stream.
    pub fn only(&mut self, chosen: &Stream) {
        for &stream in self.streams() {
            if stream != chosen.stream {
                // SAFETY: streams live as long as the context.
                unsafe { (*stream).discard = AVDiscard::AVDISCARD_ALL };
            }
        }
    }

    /// The next packet of any stream; `None` at the end.
    pub fn read(&mut self, packet: &mut Packet) -> Option<()> {
        // A demuxer that fails in mid-file has nothing more to give; the input knows whether the store was the cause.
        // SAFETY: both are valid; an old packet is released first.
        unsafe {
            av_packet_unref(packet.0);
            (av_read_frame(self.context, packet.0) >= 0).then_some(())
        }
    }

    pub fn into_input(self) -> I {
        let cursor = self.cursor;
        let mut this = std::mem::ManuallyDrop::new(self);
        this.close();
        // SAFETY: nothing refers to the cursor any more, and `Drop` will not run.
        unsafe { Box::from_raw(cursor).input }
    }

    fn close(&mut self) {
        // SAFETY: each is freed once; closing accepts a null context. libav may have replaced the buffer.
        unsafe {
            avformat_close_input(&mut self.context);
            av_free((*self.io).buffer.cast());
            avio_context_free(&mut self.io);
        }
    }
}

impl<I: Input> Drop for Demuxer<I> {
    fn drop(&mut self) {
        self.close();
        // SAFETY: the cursor was boxed by `open` and is freed only here or in `into_input`.
        drop(unsafe { Box::from_raw(self.cursor) });
    }
}

/// A stream of an open demuxer; valid while that lives (its users hold both).
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    pub index: c_int,
    stream: *mut AVStream,
}

impl Stream {
    pub fn parameters(&self) -> *const AVCodecParameters {
        // SAFETY: see the type.
        unsafe { (*self.stream).codecpar }
    }

    /// Seconds per tick, as a fraction.
    pub fn time_base(&self) -> (i64, i64) {
        // SAFETY: see the type.
        let AVRational { num, den } = unsafe { (*self.stream).time_base };
        (i64::from(num), i64::from(den.max(1)))
    }

    /// Average frame rate as far as libav knows it.
    pub fn frame_rate(&self) -> Option<(u32, u32)> {
        // SAFETY: see the type.
        let rates = unsafe { [(*self.stream).avg_frame_rate, (*self.stream).r_frame_rate] };
        rates.iter().find(|r| r.num > 0 && r.den > 0).map(|r| (r.num as u32, r.den as u32))
    }

    /// Whether frames are shown in another order than they are decoded in, as far as libav has seen.
    pub fn reorders(&self) -> bool {
        // SAFETY: see the type.
        unsafe { (*self.parameters()).video_delay > 0 }
    }

    pub fn codec_name(&self) -> String {
        // SAFETY: see the type; the name is static.
        unsafe { text(avcodec_get_name((*self.parameters()).codec_id)) }
    }
}

/// A reusable packet.
pub(crate) struct Packet(*mut AVPacket);

impl Packet {
    pub fn new() -> Result<Self, MediaError> {
        // SAFETY: plain allocation.
        let packet = unsafe { av_packet_alloc() };
        if packet.is_null() { Err(failed("allocate a packet", AVERROR(ENOMEM))) } else { Ok(Self(packet)) }
    }

    pub fn as_ptr(&self) -> *mut AVPacket {
        self.0
    }

    fn get(&self) -> &AVPacket {
        // SAFETY: allocated in `new`, freed in `Drop`.
        unsafe { &*self.0 }
    }

    pub fn stream(&self) -> c_int {
        self.get().stream_index
    }
    pub fn data(&self) -> &[u8] {
        match self.get() {
            AVPacket { data, size, .. } if !data.is_null() && *size > 0 => {
                // SAFETY: libav guarantees `size` bytes at `data`.
                unsafe { slice::from_raw_parts(*data, *size as usize) }
            }
            _ => &[],
        }
    }
    /// Byte position in the input, where the demuxer knows it.
    pub fn pos(&self) -> Option<u64> {
        u64::try_from(self.get().pos).ok()
    }
    pub fn pts(&self) -> Option<i64> {
        Some(self.get().pts).filter(|&t| t != AV_NOPTS_VALUE)
    }
    pub fn dts(&self) -> Option<i64> {
        Some(self.get().dts).filter(|&t| t != AV_NOPTS_VALUE)
    }
    pub fn key(&self) -> bool {
        self.get().flags & AV_PKT_FLAG_KEY != 0
    }
    /// To be decoded but not shown (edit lists).
    pub fn discard(&self) -> bool {
        self.get().flags & AV_PKT_FLAG_DISCARD != 0
    }
    /// The demuxer knows that bytes are missing (transport stream continuity).
    pub fn corrupt(&self) -> bool {
        self.get().flags & AV_PKT_FLAG_CORRUPT != 0
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`.
        unsafe { av_packet_free(&mut self.0) };
    }
}

/// # Safety
/// `pointer` is null or a C string.
pub(crate) unsafe fn text(pointer: *const std::ffi::c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
