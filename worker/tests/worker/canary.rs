//! The canary inside the binary and its index belong together.

use std::path::{Path, PathBuf};

use fulltime_common::{index::RecordingIndex, plan::RecordingRef, store::Store};
use fulltime_synth::{EncodeOptions, Encoder, testcard};

const NAME: &str = "canary.mp4";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lanes")
}

async fn index_of(folder: &Path) -> RecordingIndex {
    let archive = Store::open(folder.to_str().unwrap()).unwrap();
    let meta = archive.head(NAME).await.unwrap().unwrap();
    let recording = RecordingRef { key: NAME.into(), size: meta.size, etag: meta.e_tag.unwrap() };
    let mut index = fulltime_media::index_recording(&archive, &recording).await.unwrap();
    // The file's time of change is no part of the canary.
    index.recording.etag.clear();
    index
}

#[tokio::test]
async fn the_index_of_the_canary_is_its_own() {
    let kept = RecordingIndex::from_bytes(&std::fs::read(folder().join("canary.index")).unwrap()).unwrap();
    assert_eq!(kept, index_of(&folder()).await);
    assert_eq!((kept.frames, kept.intervals.len()), (25, 1));
}

/// Writes both files anew; `lanes/canary.rs` then has to learn the digest of the new pictures.
#[tokio::test]
#[ignore = "changes the sources"]
async fn make() {
    let options = EncodeOptions { bframes: 2, crf: 34, ..EncodeOptions::new(160, 96) };
    let mut encoder = Encoder::create(folder().join(NAME), &options).unwrap();
    (0..25).for_each(|n| encoder.push(&testcard(n, options.width, options.height)).unwrap());
    encoder.finish().unwrap();
    let index = index_of(&folder()).await;
    std::fs::write(folder().join("canary.index"), index.to_bytes().unwrap()).unwrap();
}
