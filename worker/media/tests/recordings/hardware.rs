//! Recordings that a GPU may not decode: libav asks, our policy answers, and the pictures are those of the processor. The
//! device is one that nobody may touch; no GPU is needed.

use std::{ops::ControlFlow, sync::Arc};

use fulltime_media::{
    IntervalDecoder, IntervalOutcome,
    hardware::{HardwareDevice, Verdict},
};
use fulltime_synth::{Codec, EncodeOptions};

use crate::support::Archive;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gpu_may_not_decode_is_decoded_as_ever() {
    for (key, codec, verdict) in [
        ("a.mp4", Codec::H264, Verdict::Sick { faults: 3 }),
        ("b.mp4", Codec::Hevc, Verdict::Sick { faults: 3 }),
        ("c.avi", Codec::Mpeg4, Verdict::Inexact),
    ] {
        let archive = Archive::new();
        archive.record(key, 40, &EncodeOptions { gop: 20, codec, ..EncodeOptions::new(320, 180) });
        let index = archive.index(key).await.unwrap();
        let bytes = archive.fetch(&index, 0..index.recording.size).await;
        let device = Arc::new(HardwareDevice::unopened().unwrap());
        let mut wishing = IntervalDecoder::new(&index).unwrap().on_gpu(device);
        let mut plain = IntervalDecoder::new(&index).unwrap();
        for interval in 0..index.intervals.len() {
            let [expected, found] = [&mut plain, &mut wishing].map(|decoder| {
                let mut pictures = Vec::new();
                let outcome = decoder.decode(interval, &bytes, 0, &mut |number, picture| {
                    pictures.push((number, picture.content_hash()));
                    ControlFlow::Continue(())
                });
                assert_eq!(outcome.unwrap(), IntervalOutcome::Complete { missing: vec![] });
                pictures
            });
            assert!(!expected.is_empty());
            assert_eq!(found, expected, "{key}");
        }
        assert_eq!((plain.verdict(), wishing.verdict()), (None, Some(verdict)), "{key}");
    }
}
