//! The unsafe edge to libav's hardware contexts: opening a device, choosing the format when a stream's headers are known, and
//! bringing pictures back.

use std::{
    cell::Cell,
    ffi::CString,
    ptr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ffmpeg_next::{
    ffi::{
        AV_CUDA_USE_PRIMARY_CONTEXT, AV_PIX_FMT_FLAG_HWACCEL, AV_PIX_FMT_FLAG_RGB, AVBufferRef, AVCodecContext,
        AVERROR, AVHWDeviceType, AVPixelFormat, ENOMEM, av_buffer_ref, av_buffer_unref, av_frame_copy_props,
        av_hwdevice_ctx_alloc, av_hwdevice_ctx_create, av_hwframe_transfer_data, av_pix_fmt_desc_get, avcodec_get_name,
    },
    frame::Video,
};

use super::{SICK, Stream, Verdict, judge};
use crate::{
    av::{failed, init, text},
    error::MediaError,
};

/// A GPU as libav decodes on it, in the primary context that our own kernels use, too. May be shared by decoders.
pub struct HardwareDevice {
    device: *mut AVBufferRef,
    /// Intervals in which it failed and the processor did not.
    faults: AtomicU32,
}

// SAFETY: reference counts are atomic, and libav locks what the device holds.
unsafe impl Send for HardwareDevice {}
// SAFETY: likewise.
unsafe impl Sync for HardwareDevice {}

impl std::fmt::Debug for HardwareDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HardwareDevice({} faults)", self.faults())
    }
}

impl HardwareDevice {
    /// CUDA's number `ordinal`.
    ///
    /// # Errors
    /// No driver, no such device, or an FFmpeg without CUDA.
    pub fn open(ordinal: u32) -> Result<Self, MediaError> {
        init();
        let name = CString::new(ordinal.to_string()).unwrap_or_default();
        let mut device = ptr::null_mut();
        // SAFETY: writes the pointer when it succeeds.
        let code = unsafe {
            av_hwdevice_ctx_create(
                &mut device,
                AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA,
                name.as_ptr(),
                ptr::null_mut(),
                AV_CUDA_USE_PRIMARY_CONTEXT,
            )
        };
        if code < 0 {
            return Err(MediaError::NoHardware { ordinal, source: ffmpeg_next::Error::from(code) });
        }
        Ok(Self { device, faults: AtomicU32::new(0) })
    }

    /// A device that was never opened, for tests on machines without one. It counts as sick, so nothing tries to use it.
    ///
    /// # Errors
    /// Out of memory.
    #[doc(hidden)]
    pub fn unopened() -> Result<Self, MediaError> {
        init();
        // SAFETY: plain allocation.
        let device = unsafe { av_hwdevice_ctx_alloc(AVHWDeviceType::AV_HWDEVICE_TYPE_CUDA) };
        if device.is_null() {
            return Err(failed("describe a device", AVERROR(ENOMEM)));
        }
        Ok(Self { device, faults: AtomicU32::new(SICK) })
    }

    fn faults(&self) -> u32 {
        self.faults.load(Ordering::Relaxed)
    }

    pub(crate) fn add_fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for HardwareDevice {
    fn drop(&mut self) {
        // SAFETY: our reference.
        unsafe { av_buffer_unref(&mut self.device) };
    }
}

/// What a decoder asks when its stream's headers are known. Lives behind the context's `opaque`.
#[derive(Debug)]
pub(crate) struct Choosing {
    device: Arc<HardwareDevice>,
    made: Cell<Option<Verdict>>,
}

impl Choosing {
    /// Lets a decoder that is about to be opened decide. Whoever owns the context keeps the box as long.
    ///
    /// # Safety
    /// The context is valid and not open yet.
    pub unsafe fn install(context: &mut AVCodecContext, device: &Arc<HardwareDevice>) -> Result<Box<Self>, MediaError> {
        let choosing = Box::new(Self { device: Arc::clone(device), made: Cell::new(None) });
        // SAFETY: a new reference, freed with the context.
        context.hw_device_ctx = unsafe { av_buffer_ref(device.device) };
        if context.hw_device_ctx.is_null() {
            return Err(failed("open a decoder", AVERROR(ENOMEM)));
        }
        context.opaque = (&raw const *choosing).cast_mut().cast();
        context.get_format = Some(choose);
        Ok(choosing)
    }

    /// What was decided, once headers have been read.
    pub fn made(&self) -> Option<Verdict> {
        self.made.get()
    }
}

/// libav offers formats, those of hardware first, and comes again without one that could not be opened.
unsafe extern "C" fn choose(context: *mut AVCodecContext, offered: *const AVPixelFormat) -> AVPixelFormat {
    // SAFETY: libav passes an open context, whose `opaque` is ours, and a list that ends with NONE.
    unsafe {
        let context = &*context;
        let mut all = Vec::new();
        let mut at = offered;
        while *at != AVPixelFormat::AV_PIX_FMT_NONE {
            all.push(*at);
            at = at.add(1);
        }
        let on_cpu = all.iter().copied().find(|&format| !is_hardware(format));
        let on_cpu = on_cpu.unwrap_or(AVPixelFormat::AV_PIX_FMT_NONE);
        let Some(choosing) = context.opaque.cast::<Choosing>().as_ref() else { return on_cpu };
        let name = text(avcodec_get_name(context.codec_id));
        let description = av_pix_fmt_desc_get(context.sw_pix_fmt).as_ref();
        let planar =
            description.filter(|d| d.flags & u64::from(AV_PIX_FMT_FLAG_RGB as u32) == 0 && d.nb_components >= 3);
        let stream = Stream {
            codec: &name,
            profile: context.profile,
            depth: description.map_or(0, |d| d.comp[0].depth.max(0) as u32),
            chroma: planar.map(|d| (u32::from(d.log2_chroma_w), u32::from(d.log2_chroma_h))),
        };
        let mut verdict = judge(&stream, choosing.device.faults());
        if verdict == Verdict::Able && !all.contains(&AVPixelFormat::AV_PIX_FMT_CUDA) {
            verdict = Verdict::Refused;
        }
        choosing.made.set(Some(verdict));
        if verdict == Verdict::Able { AVPixelFormat::AV_PIX_FMT_CUDA } else { on_cpu }
    }
}

fn is_hardware(format: AVPixelFormat) -> bool {
    // SAFETY: every format has a description, or else null, which is checked.
    unsafe { av_pix_fmt_desc_get(format).as_ref() }
        .is_none_or(|description| description.flags & u64::from(AV_PIX_FMT_FLAG_HWACCEL as u32) != 0)
}

/// A decoder's frame in memory: one that lies on a GPU is copied (NV12), any other stays what it is.
pub(crate) fn in_memory(frame: Video) -> Result<Video, MediaError> {
    if AVPixelFormat::from(frame.format()) != AVPixelFormat::AV_PIX_FMT_CUDA {
        return Ok(frame);
    }
    let mut copy = Video::empty();
    // SAFETY: both frames are valid; the empty one is given its buffers, then what is known of the picture.
    unsafe {
        let code = match av_hwframe_transfer_data(copy.as_mut_ptr(), frame.as_ptr(), 0) {
            0.. => av_frame_copy_props(copy.as_mut_ptr(), frame.as_ptr()),
            code => code,
        };
        if code < 0 {
            return Err(failed("copy a picture from the GPU", code));
        }
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use AVPixelFormat::{
        AV_PIX_FMT_CUDA, AV_PIX_FMT_NONE, AV_PIX_FMT_VAAPI, AV_PIX_FMT_YUV420P, AV_PIX_FMT_YUV420P10LE,
    };
    use ffmpeg_next::ffi::{AVCodecID, avcodec_alloc_context3, avcodec_free_context};

    use std::ffi::c_int;

    use super::*;

    /// What the callback answers to libav for an H.264 stream.
    fn answer(profile: c_int, samples: AVPixelFormat, offered: &[AVPixelFormat]) -> (AVPixelFormat, Option<Verdict>) {
        let device = Arc::new(HardwareDevice::unopened().unwrap());
        device.faults.store(0, Ordering::Relaxed);
        let choosing = Choosing { device, made: Cell::new(None) };
        // SAFETY: a context of our own, freed below; the list ends with NONE.
        let format = unsafe {
            let mut context = avcodec_alloc_context3(ptr::null());
            (*context).codec_id = AVCodecID::AV_CODEC_ID_H264;
            ((*context).profile, (*context).sw_pix_fmt) = (profile, samples);
            (*context).opaque = (&raw const choosing).cast_mut().cast();
            let format = choose(context, offered.as_ptr());
            avcodec_free_context(&mut context);
            format
        };
        (format, choosing.made())
    }

    #[test]
    fn the_gpu_s_format_is_chosen_where_it_is_able_and_the_processor_s_otherwise() {
        let all = [AV_PIX_FMT_VAAPI, AV_PIX_FMT_CUDA, AV_PIX_FMT_YUV420P, AV_PIX_FMT_NONE];
        assert_eq!(answer(100, AV_PIX_FMT_YUV420P, &all), (AV_PIX_FMT_CUDA, Some(Verdict::Able)));
        assert_eq!(
            answer(244, AV_PIX_FMT_YUV420P, &all),
            (AV_PIX_FMT_YUV420P, Some(Verdict::Profile { profile: 244 }))
        );
        let ten = [AV_PIX_FMT_CUDA, AV_PIX_FMT_YUV420P10LE, AV_PIX_FMT_NONE];
        assert_eq!(
            answer(110, AV_PIX_FMT_YUV420P10LE, &ten),
            (AV_PIX_FMT_YUV420P10LE, Some(Verdict::Samples { depth: 10 }))
        );
        // A driver without the decoder: libav comes again without the format.
        assert_eq!(answer(100, AV_PIX_FMT_YUV420P, &all[2..]), (AV_PIX_FMT_YUV420P, Some(Verdict::Refused)));
    }

    #[test]
    fn a_gpu_that_is_not_there_is_an_error_that_says_so() {
        let error = HardwareDevice::open(63).unwrap_err();
        assert_eq!(error.to_string(), "GPU 63 cannot be opened for decoding");
    }
}
