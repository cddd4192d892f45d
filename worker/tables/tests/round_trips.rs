//! Rows survive their file, whatever they hold, and a file that is not the expected table is refused by name.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers, too")]

use std::sync::Arc;

use fulltime_common::{Disposition, plan::MatchId};
use fulltime_tables::{
    Reader, TableError,
    matches::{self, Detection, Player, Track},
    shard::{self, DescriptionRow, DetectionRow, FrameRow},
    show,
};
use proptest::{collection::vec, option, prelude::*};

fn text() -> impl Strategy<Value = Arc<str>> {
    "\\PC{0,12}".prop_map(Arc::from)
}

fn pixels() -> impl Strategy<Value = f32> {
    prop_oneof![-1.0e4f32..1.0e4, Just(0.0), Just(-0.0), Just(f32::MAX)]
}

prop_compose! {
    fn detection_row()(frame in 0u32..90, class: u16, score in 0.0f32..=1.0, x in pixels(), y in pixels(), w in pixels(), h in pixels())
        -> DetectionRow { DetectionRow { frame, class, score, x, y, w, h } }
}

prop_compose! {
    fn frame_row()(frame: u32, content_hash: u64, luma in vec(any::<u8>(), 64), preview in option::of(vec(any::<u8>(), 0..200)), corners in vec(any::<u8>(), 0..99))
        -> FrameRow { FrameRow { frame, content_hash, luma: luma.try_into().unwrap(), preview, corners } }
}

prop_compose! {
    fn description_row()(frame in 0u32..90, detection in 0u16..30, look in option::of(vec(any::<u8>(), 128)), kit in vec(any::<u8>(), 24), numbers in option::of(vec(any::<u8>(), 0..12)), sharpness in pixels())
        -> DescriptionRow { DescriptionRow { frame, detection, look, kit: kit.try_into().unwrap(), numbers, sharpness } }
}

prop_compose! {
    fn detection()(period: i32, camera in text(), frame: i32, t_us: i64, track_id in option::of(any::<i32>()), class in text(), x in pixels(), pitch_x in option::of(pixels()))
        -> Detection { Detection { period, camera, frame, t_us, track_id, class, score: 0.5, x, pitch_x, ..Detection::default() } }
}

prop_compose! {
    fn player()(player_id: i32, class in text(), visible in 0.0f64..1e5, team in option::of(text()), number in option::of(0i32..100))
        -> Player { Player { player_id, class, visible, team, number, ..Player::default() } }
}

proptest! {
    #[test]
    fn shard_detections_come_back_as_they_were(mut rows in vec(detection_row(), 0..300)) {
        rows.sort_by_key(|row| row.frame);
        prop_assert_eq!(shard::read_detections(shard::write_detections(&rows).unwrap()).unwrap(), rows);
    }

    #[test]
    fn shard_frames_come_back_as_they_were(mut rows in vec(frame_row(), 0..60)) {
        rows.sort_by_key(|row| row.frame);
        rows.dedup_by_key(|row| row.frame);
        prop_assert_eq!(shard::read_frames(shard::write_frames(&rows).unwrap()).unwrap(), rows);
    }

    #[test]
    fn shard_descriptions_come_back_as_they_were(mut rows in vec(description_row(), 0..90)) {
        rows.sort_by_key(|row| (row.frame, row.detection));
        rows.dedup_by_key(|row| (row.frame, row.detection));
        prop_assert_eq!(shard::read_descriptions(shard::write_descriptions(&rows).unwrap()).unwrap(), rows);
    }

    #[test]
    fn published_rows_come_back_as_they_were(detections in vec(detection(), 0..100), players in vec(player(), 0..100)) {
        let bytes = written(&detections);
        prop_assert_eq!(Reader::<Detection>::new(bytes).unwrap().collect::<Result<Vec<_>, _>>().unwrap(), detections);
        let bytes = written(&players);
        prop_assert_eq!(Reader::<Player>::new(bytes).unwrap().collect::<Result<Vec<_>, _>>().unwrap(), players);
    }
}

fn written<R: fulltime_tables::Row + Clone>(rows: &[R]) -> bytes::Bytes {
    let mut writer = matches::writer(&MatchId { season: "2024".into(), name: "a-b".into() }).unwrap();
    rows.iter().cloned().for_each(|row| writer.push(row).unwrap());
    writer.finish().unwrap()
}

fn ball(frame: u32) -> DetectionRow {
    DetectionRow { frame, class: 0, score: 0.5, x: 1.0, y: 2.0, w: 3.0, h: 4.0 }
}

#[test]
fn tables_larger_than_a_row_group_come_back_whole() {
    let rows: Vec<_> = (0..150_000).map(ball).collect();
    let bytes = shard::write_detections(&rows).unwrap();
    assert!(bytes.len() < 12_000, "constant columns should cost next to nothing, not {} bytes", bytes.len());
    assert_eq!(shard::read_detections(bytes).unwrap(), rows);
}

#[test]
fn an_empty_table_is_a_table() {
    let bytes = written::<Track>(&[]);
    assert_eq!(Reader::<Track>::new(bytes.clone()).unwrap().count(), 0);
    let head = show::preview_rows(bytes, 3).unwrap();
    assert_eq!((head.columns.len(), head.rows.len(), head.total), (18, 0, 0));
}

#[test]
fn rows_out_of_order_are_refused() {
    let error = shard::write_detections(&[ball(7), ball(7), ball(3)]).unwrap_err();
    assert_eq!(error.to_string(), "rows of table `shard-detections` are not in order: `frame` goes from 7 to 3");
    let frame = FrameRow { frame: 4, content_hash: 0, luma: [0; 64], preview: None, corners: vec![] };
    let error = shard::write_frames(&[frame.clone(), frame]).unwrap_err();
    assert_eq!(error.to_string(), "rows of table `shard-frames` are not in order: `frame` goes from 4 to 4");
    let of =
        |frame, detection| DescriptionRow { frame, detection, look: None, kit: [0; 24], numbers: None, sharpness: 0.0 };
    assert!(shard::write_descriptions(&[of(4, 2), of(5, 0), of(5, 1)]).is_ok());
    let error = shard::write_descriptions(&[of(4, 2), of(4, 2)]).unwrap_err();
    assert_eq!(error.to_string(), "rows of table `shard-descriptions` are not in order: `detection` goes from 2 to 2");
}

#[test]
fn the_wrong_table_is_refused_by_column() {
    let error = shard::read_frames(shard::write_detections(&[ball(1)]).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "table `shard-frames` has no column `content_hash`");

    let published = written(&[Detection { class: "ball".into(), ..Detection::default() }]);
    let error = shard::read_detections(published).unwrap_err();
    assert_eq!(error.to_string(), "column `frame` of table `shard-detections` is Int32, not UInt32");
}

#[test]
fn bytes_that_are_no_table_are_poison() {
    for bytes in [&b"nonsense"[..], b""] {
        let error = shard::read_detections(bytes::Bytes::from_static(bytes)).unwrap_err();
        assert!(matches!(error, TableError::Open { table: "shard-detections", .. }));
        assert_eq!(error.disposition(), Disposition::PoisonInput);
    }
    let whole = shard::write_detections(&(0..1000).map(ball).collect::<Vec<_>>()).unwrap();
    assert!(shard::read_detections(whole.slice(..whole.len() / 2)).is_err());
}

#[test]
fn the_head_of_a_table_reads_well() {
    let somebody = Player { player_id: 1, class: "player".into(), visible: 12.345, ..Player::default() };
    let players = [Player { number: Some(7), ..somebody.clone() }, Player { player_id: 2, ..somebody }];
    let head = show::preview_rows(written(&players), 1).unwrap();
    assert_eq!(head.columns[..6], ["player_id", "class", "team", "team_confidence", "number", "number_confidence"]);
    assert_eq!(head.rows[0][..6], ["1", "player", "", "", "7", ""]);
    assert_eq!(head.total, 2);
}
