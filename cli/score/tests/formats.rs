//! What is written in a format is read again as it was, as far as the format can hold it. Numbers have the digits that
//! tables have (32 bits in their shortest form); JSON with more of them is read to the last bit but one.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

use std::sync::Arc;

use fulltime_score::{Attributes, Extra, Object, Rect, Sequence, cdf, coco, gsr};
use proptest::{collection::vec, option, prelude::*};

/// A number of three decimals.
fn number(most: i32) -> impl Strategy<Value = f64> {
    (-most * 1000..most * 1000).prop_map(|n| f64::from(n) / 1000.0)
}

fn bounds() -> impl Strategy<Value = Rect> {
    (number(2000), number(2000), 1..500_000, 1..500_000).prop_map(|(x, y, w, h)| Rect {
        x,
        y,
        w: f64::from(w) / 1000.0,
        h: f64::from(h) / 1000.0,
    })
}

fn person() -> impl Strategy<Value = Attributes> {
    let role = prop_oneof![Just("player"), Just("goalkeeper"), Just("referee")];
    (role, any::<bool>(), option::of(1u32..100)).prop_map(|(role, home, number)| {
        let of_a_team = role != "referee";
        Attributes {
            name: None,
            role: Some(role.into()),
            team: of_a_team.then(|| Arc::from(if home { "home" } else { "away" })),
            number: number.filter(|_| of_a_team),
        }
    })
}

/// People of a match, and by frame who is where.
type Parts = (Vec<Attributes>, Vec<Vec<(usize, Rect, [f64; 2])>>);
/// What a format says of an object.
type Row = (u32, i64, Option<Rect>, Option<[f64; 3]>, Attributes);

fn sequence(make: impl Fn(&mut Sequence, i64, &Attributes, Rect, [f64; 2]) -> Object) -> impl Fn(Parts) -> Sequence {
    move |(people, frames)| {
        let mut sequence = Sequence::new();
        for (frame, seen) in (1..).zip(frames) {
            sequence.frames.entry(frame).or_default();
            let mut here = Vec::new();
            for (who, bounds, place) in seen {
                let who = who % people.len();
                if !here.contains(&who) {
                    here.push(who);
                    let object = make(&mut sequence, who as i64 + 1, &people[who], bounds, place);
                    sequence.push(frame, object);
                }
            }
        }
        sequence
    }
}

fn parts() -> impl Strategy<Value = Parts> {
    let place = (number(60), number(40)).prop_map(|(x, y)| [x, y]);
    (vec(person(), 1..8), vec(vec((0usize..8, bounds(), place), 0..6), 1..12))
}

/// Frames in the order of time, objects of a frame in any: teams are lists of their own in some formats.
fn sorted(sequence: &Sequence) -> Vec<Row> {
    let row = |(frame, object): (u32, &Object)| {
        let known = sequence.attributes_of(object).cloned().unwrap_or_default();
        (frame, object.id.unwrap_or(-1), object.bounds, object.world, known)
    };
    let mut rows: Vec<_> = sequence.objects().map(row).collect();
    rows.sort_by_key(|row| (row.0, row.1));
    rows
}

proptest! {
    #[test]
    fn game_state(parts in parts(), score in 0..1000u32) {
        let mut before = sequence(|sequence, id, known, bounds, [x, y]| Object {
            class: Some(gsr::category(known.role.as_deref())),
            world: Some([x, y, 0.0]),
            attributes: Some(sequence.describe(known.clone())),
            extra: Some(Box::new(Extra { base: Some([x, y, y, x]), ..Extra::default() })),
            ..Object::new(Some(id), bounds, f64::from(score) / 1000.0)
        })(parts);
        before.info.name = "SNGS-021".to_owned();
        (before.info.fps, before.info.width, before.info.height) = (25.0, 1920, 1080);
        before.info.frames = before.frames.len() as u32;
        before.classes = [(1, Arc::from("player"))].into();
        let mut text = Vec::new();
        let written = gsr::write(&before, gsr::Kind::Results, (4, 21), &mut text).unwrap();
        prop_assert_eq!(written, before.len());
        prop_assert_eq!(gsr::read(text.as_slice()).unwrap(), before);
        prop_assert!(String::from_utf8(text).unwrap().contains("\"image_id\":\"4021000001\""));
    }

    #[test]
    fn coco_data_sets_and_results(parts in parts(), area in option::of(1..9000u32), crowd: bool) {
        let extra = Extra { base: None, area: area.map(f64::from), crowd };
        let mut before = sequence(|_, id, _, bounds, _| Object {
            class: Some(1),
            extra: (extra != Extra::default()).then(|| Box::new(extra)),
            ..Object::new(Some(id), bounds, 0.5)
        })(parts);
        before.info.frames = before.frames.len() as u32;
        (before.info.width, before.info.height) = (1280, 720);
        before.classes = [(1, Arc::from("person"))].into();
        let mut text = Vec::new();
        coco::write(&before, &mut text).unwrap();
        let mut after = coco::read(text.as_slice()).unwrap();
        after.info.frames = before.info.frames;
        prop_assert_eq!(&after, &before);
        let mut results = Vec::new();
        coco::write_results(&before, &mut results).unwrap();
        let after = coco::read(results.as_slice()).unwrap();
        prop_assert_eq!(after.len(), before.len());
    }

    #[test]
    fn common_data_format(parts in parts()) {
        let before = sequence(|sequence, id, known, _, [x, y]| Object {
            bounds: None,
            world: Some([x, y, 0.0]),
            attributes: Some(sequence.describe(known.clone())),
            ..Object::new(Some(id), Rect { x: 0.0, y: 0.0, w: 0.0, h: 0.0 }, 1.0)
        })(parts);
        let of = cdf::Match {
            competition: "c".to_owned(),
            season: "s".to_owned(),
            id: "m".to_owned(),
            periods: vec![1],
        };
        let (mut tracking, mut meta) = (Vec::new(), Vec::new());
        let left = cdf::write(&before, &of, &mut tracking).unwrap();
        cdf::write_meta(&before, &of, &mut meta).unwrap();
        prop_assert_eq!(left, cdf::Left::default());
        let after = cdf::read(tracking.as_slice(), Some(&mut meta.as_slice())).unwrap();
        prop_assert_eq!(sorted(&after), sorted(&before));
        prop_assert_eq!(after.frames.len(), before.frames.len());
    }
}

#[test]
fn what_a_format_has_no_place_for_is_counted() {
    let mut sequence = Sequence::new();
    sequence.push(1, Object::new(Some(1), Rect { x: 0.0, y: 0.0, w: 5.0, h: 5.0 }, 1.0));
    let player = sequence.describe(Attributes { role: Some("player".into()), ..Attributes::default() });
    let placed = |x: f64| Object {
        world: Some([x, 0.0, 0.0]),
        attributes: Some(player),
        ..Object::new(Some(2), Rect { x: 9.0, y: 0.0, w: 5.0, h: 5.0 }, 1.0)
    };
    sequence.push(1, placed(1.0));
    sequence.push(2, placed(80.0));
    let of = cdf::Match { competition: "c".into(), season: "s".into(), id: "m".into(), periods: vec![1] };
    let left = cdf::write(&sequence, &of, Vec::new()).unwrap();
    assert_eq!(left, cdf::Left { placeless: 2, teamless: 1 });
    assert_eq!(gsr::write(&sequence, gsr::Kind::Results, (4, 1), Vec::new()).unwrap(), 2);
}

#[test]
fn a_picture_id_that_is_none_is_named() {
    let text = r#"{"predictions":[{"id":"1","image_id":"12","track_id":1,"supercategory":"object","category_id":1}]}"#;
    let error = gsr::read(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error, "image_id of a picture: `12` is not ten digits: split, sequence (3), frame from 1 (6)");
    assert!(cdf::read("{}\n".as_bytes(), None).unwrap_err().to_string().starts_with("line 1 is not"));
    assert!(coco::read("[1]".as_bytes()).is_err());
}
