//! Golden digests of container index and decoding, over recordings that lie in the repository (`fulltime-synth match
//! --size 160x96 --duration 1200ms --qp 38`, GOPs of 10 and 12). When one fails, either undo the change or, if it is
//! meant, raise the stage's number in `fulltime_common::semantics` and put the new digest here.

use std::ops::ControlFlow;

use fulltime_common::{Digest, semantics};
use fulltime_media::{IntervalDecoder, IntervalOutcome};

use crate::support::Archive;

const RECORDINGS: [&str; 4] = ["closed.mp4", "open.mp4", "stream.ts", "hevc.mkv"];

#[tokio::test]
async fn index_and_decoding_are_what_their_semantics_versions_say() {
    let archive = Archive::new();
    let (mut indexed, mut decoded) = (Vec::new(), Vec::new());
    for key in RECORDINGS {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/");
        archive.write(key, &std::fs::read(format!("{file}{key}")).unwrap());
        let mut index = archive.index(key).await.unwrap();
        let (mut pixels, mut outcomes) = (Vec::new(), Vec::new());
        for (number, interval) in index.intervals.iter().enumerate() {
            let bytes = archive.fetch(&index, interval.bytes.clone()).await;
            let sink = &mut |frame: u32, picture: fulltime_media::Picture| {
                pixels.extend(frame.to_le_bytes());
                let planes = (0..picture.planes()).map(|plane| picture.plane(plane));
                planes.for_each(|plane| plane.rows().for_each(|row| pixels.extend(row)));
                ControlFlow::Continue(())
            };
            let mut decoder = IntervalDecoder::new(&index).unwrap();
            outcomes.push(decoder.decode(number, &bytes, interval.bytes.start, sink).unwrap());
        }
        assert!(outcomes.iter().all(|outcome| matches!(outcome, IntervalOutcome::Complete { .. })), "{outcomes:?}");
        decoded.push(Digest::of_bytes(&pixels).short());
        // When the file was written is no matter of the index's meaning.
        index.recording.etag = "e".into();
        indexed.push(Digest::of_json(&index).short());
    }
    assert_eq!(
        (semantics::INDEX, indexed),
        (1, ["44ad41c1643f", "ff0a0ba4163a", "67bd9347c497", "eb8bc54af21d"].map(str::to_owned).into())
    );
    assert_eq!(
        (semantics::DECODE, decoded),
        (1, ["5a96ea34819c", "b71bea5f73b2", "5a96ea34819c", "106132d5d8f3"].map(str::to_owned).into())
    );
}
