//! Real footage, where the test assets are present.

use fulltime_media::IntervalOutcome;

use crate::support::{Archive, assets, straight};

#[tokio::test(flavor = "multi_thread")]
async fn real_clips_decode_to_every_frame_interval_by_interval() {
    let Some(assets) = assets() else { return };
    let clips = [
        ("soccertrack_left_camera_hevc.mp4", 250, "hevc", (3072, 1728)),
        ("soccertrack_left_crop1920_h264.mp4", 250, "h264", (1920, 706)),
        ("vtest.avi", 795, "msmpeg4", (768, 576)),
    ];
    for (clip, frames, codec, size) in clips {
        let archive = Archive::new();
        std::fs::copy(assets.join("clips").join(clip), archive.path(clip)).unwrap();
        let index = archive.index(clip).await.unwrap();
        println!("{clip}: {} bytes read of {}, {:?}", index.bytes_read, index.recording.size, index.intervals);
        assert_eq!((index.frames, (index.codec.width, index.codec.height)), (frames, size), "{clip}");
        assert_eq!(index.codec.name, codec, "{clip}");
        let reference = straight(&archive.path(clip));
        let mut next = 0;
        for (i, span) in index.intervals.iter().enumerate() {
            let got = archive.decode(&index, i).await;
            assert_eq!(got.outcome, IntervalOutcome::Complete { missing: vec![] }, "{clip} interval {i}");
            assert_eq!(got.frames.len(), span.frames.len(), "{clip} interval {i}");
            for (number, hash) in got.frames {
                assert_eq!(number, next, "{clip}");
                assert_eq!(hash, reference[number as usize], "{clip} frame {number}");
                next += 1;
            }
        }
        assert_eq!(next, frames, "{clip}");
    }
}
