//! What cannot be processed is refused by name, with what to do about it.

use fulltime_common::error::{Disposition, Exit, Explain as _};
use fulltime_media::MediaError;
use fulltime_synth::EncodeOptions;

use crate::support::Archive;

async fn refused(archive: &Archive, key: &str) -> MediaError {
    let error = archive.index(key).await.expect_err(key);
    assert_eq!(error.disposition(), Disposition::PoisonInput, "{error}");
    assert_eq!(error.exit(), Exit::Archive, "{error}");
    assert!(error.to_string().contains(key), "{error}");
    assert!(error.hint().is_some(), "{error}");
    error
}

fn options() -> EncodeOptions {
    EncodeOptions { gop: 10, ..EncodeOptions::new(128, 96) }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file() {
    let archive = Archive::new();
    archive.write("empty.mp4", b"");
    assert!(matches!(refused(&archive, "empty.mp4").await, MediaError::Empty { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn something_that_is_no_video() {
    let archive = Archive::new();
    archive.write("notes.mp4", &b"Line-ups, substitutions and cards.\n".repeat(5000));
    archive.write("tiny.mp4", b"x");
    archive.write("playlist.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/hostname\n#EXT-X-ENDLIST\n");
    for key in ["notes.mp4", "tiny.mp4", "playlist.mp4"] {
        assert!(matches!(refused(&archive, key).await, MediaError::NotAVideo { .. }), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mp4_that_was_cut_off_before_its_index() {
    let archive = Archive::new();
    archive.record("whole.mp4", 50, &options());
    let bytes = std::fs::read(archive.path("whole.mp4")).unwrap();
    archive.write("cut.mp4", &bytes[..bytes.len() / 2]);
    let error = refused(&archive, "cut.mp4").await;
    assert!(matches!(error, MediaError::NoMoov { .. }), "{error}");
    assert!(error.to_string().contains("no moov atom"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_atom_shorter_than_its_own_header() {
    let archive = Archive::new();
    archive.write("short.mp4", b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x07moov\0\0\0\x08free");
    assert!(matches!(refused(&archive, "short.mp4").await, MediaError::NoMoov { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_only() {
    let archive = Archive::new();
    // One second of silence: 8 kHz, 8 bits.
    let mut wav =
        b"RIFF\x64\x1f\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x40\x1f\0\0\x01\0\x08\0data\x40\x1f\0\0".to_vec();
    wav.resize(wav.len() + 8000, 0x80);
    archive.write("commentary.mp4", &wav);
    assert!(matches!(refused(&archive, "commentary.mp4").await, MediaError::NoVideoStream { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codec_without_a_decoder() {
    let archive = Archive::new();
    archive.record("strange.mp4", 20, &options());
    let mut bytes = std::fs::read(archive.path("strange.mp4")).unwrap();
    let at = bytes.windows(4).rposition(|tag| tag == b"avc1").unwrap();
    bytes[at..at + 4].copy_from_slice(b"zzz9");
    archive.write("strange.mp4", &bytes);
    assert!(matches!(refused(&archive, "strange.mp4").await, MediaError::UnsupportedCodec { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_changed_since_it_was_planned_is_not_read() {
    let archive = Archive::new();
    archive.record("match.mp4", 20, &options());
    let mut recording = archive.recording("match.mp4").await;
    recording.etag = "another".to_owned();
    let error = fulltime_media::index_recording(&archive.store, &recording).await.expect_err("changed");
    assert_eq!(error.disposition(), Disposition::InputChanged, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_extension_is_no_reason() {
    let archive = Archive::new();
    archive.record("right.ts", 50, &options());
    std::fs::rename(archive.path("right.ts"), archive.path("wrong.mp4")).unwrap();
    assert_eq!(archive.index("wrong.mp4").await.unwrap().container, "mpegts");
}
