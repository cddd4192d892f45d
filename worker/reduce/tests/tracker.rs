//! What the tracker promises whatever it is given, and what it must manage: crossings, a camera that pans, people who
//! leave and come back, cuts.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers, too")]

use std::collections::{BTreeMap, BTreeSet};

use fulltime_common::pipeline::Track;
use fulltime_reduce::tracker::{Bounds, CameraMotion, Fate, Observation, Tracker, Tuning, follow, link};
use proptest::{collection::vec, prelude::*};

const FPS: f64 = 25.0;

fn seen(cx: f64, cy: f64) -> Observation<'static> {
    Observation { class: 0, score: 0.9, bounds: Bounds { cx, cy, w: 30.0, h: 80.0 }, look: None }
}

/// A small jitter that repeats after a long time, without a generator.
fn jitter(n: u32) -> f64 {
    f64::from(n.wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5
}

/// The frames of each object, and which of the frame's detections it is there.
fn objects(frames: Vec<(u32, Vec<Observation>)>) -> Vec<Vec<(u32, usize)>> {
    let followed = follow(frames, &Track::default(), &Tuning::DEFAULT, FPS);
    let sightings = |object: &fulltime_reduce::tracker::Object| {
        object.sightings.iter().map(|sighting| (sighting.frame, sighting.detection)).collect()
    };
    followed.objects.iter().map(sightings).collect()
}

#[test]
fn two_who_cross_keep_their_identities() {
    // Both walk through each other and are missed while they are one blob.
    let frames = (0..80).map(|t| {
        let x = 4.0 * f64::from(t);
        let mut all = vec![seen(200.0 + x + jitter(t), 300.0), seen(520.0 - x + jitter(t + 999), 304.0)];
        if (38..43).contains(&t) {
            all.truncate(1);
        }
        (t, all)
    });
    let objects = objects(frames.collect());
    assert_eq!(objects.len(), 2, "{objects:?}");
    for (who, object) in objects.iter().enumerate() {
        let before = object.iter().filter(|(frame, detection)| *frame < 30 && *detection == who).count();
        let after = object.iter().filter(|(frame, detection)| *frame > 50 && *detection == who).count();
        assert_eq!((before, after), (30, 29), "object {who}: {object:?}");
    }
}

#[test]
fn who_turns_back_is_told_by_his_looks() {
    // Both come together and turn back; how they moved says that they walked through each other.
    const LOOKS: [[u8; 3]; 2] = [[127, 0, 0], [0, 127, 0]];
    let frames = |described: bool| -> Vec<(u32, Vec<Observation>)> {
        let frame = |t: u32| {
            let x = 2.0 * f64::from(t.min(80 - t));
            let look = |who: usize| LOOKS[who].as_slice();
            let mut all = vec![seen(280.0 + x + jitter(t), 300.0), seen(440.0 - x + jitter(t + 999), 304.0)];
            for (who, one) in all.iter_mut().enumerate() {
                one.look = (described && t.is_multiple_of(5) && !(36..45).contains(&t)).then_some(look(who));
            }
            if (38..43).contains(&t) {
                all.truncate(1);
            }
            (t, all)
        };
        (0..80).map(frame).collect()
    };
    let stays = |objects: &[Vec<(u32, usize)>]| {
        objects.len() == 2
            && (0..2).all(|who| objects[who].iter().all(|(t, seen)| (30..50).contains(t) || *seen == who))
    };
    assert!(stays(&objects(frames(true))), "{:?}", objects(frames(true)));
    assert!(!stays(&objects(frames(false))), "motion alone would do: the test proves nothing");
}

#[test]
fn a_camera_that_swings_shakes_nobody_off() {
    // Eight people stand nearly still; the picture jumps by more than the width of a box in every frame of the swing.
    let frames = (0..90u32).map(|t| {
        let pan = if t < 30 { 0.0 } else { 45.0 * f64::from(t.min(60) - 30) };
        let all = (0..8u32)
            .map(|i| seen(1500.0 + 90.0 * f64::from(i) - pan + jitter(t * 8 + i), 200.0 + 35.0 * f64::from(i)));
        (t, all.collect())
    });
    let objects = objects(frames.collect());
    assert_eq!(objects.len(), 8);
    assert!(objects.iter().all(|object| object.len() == 90 && object.iter().all(|(_, d)| *d == object[0].1)));
}

#[test]
fn the_callers_word_on_the_camera_counts() {
    let mut tracker = Tracker::new(&Track::default(), FPS, 1);
    for t in 0..40u32 {
        // One person alone says nothing about the camera, and it leaps.
        let x = 100.0 * f64::from(t);
        let motion = CameraMotion::shift(100.0, 0.0);
        let serials = tracker.step(t, &[seen(x, 300.0)], Some(&motion));
        assert_eq!(serials, [Some(0)], "frame {t}");
    }
    assert_eq!(tracker.camera().between(0, 39), Some(CameraMotion::shift(3900.0, 0.0)));
}

/// Somebody walks, is away for three seconds and walks on; another stands far off all the time.
fn away() -> Vec<(u32, Vec<Observation<'static>>)> {
    let walk = |t: u32| seen(200.0 + 1.5 * f64::from(t) + jitter(t), 300.0);
    (0..250u32)
        .map(|t| {
            let stands = seen(900.0 + jitter(t + 7), 500.0);
            (t, if (100..175).contains(&t) { vec![stands] } else { vec![stands, walk(t)] })
        })
        .collect()
}

#[test]
fn who_comes_back_is_the_same() {
    let objects = objects(away());
    assert_eq!(objects.len(), 2);
    assert!(objects.iter().any(|object| object.len() == 175));
}

#[test]
fn the_callers_word_on_a_link_counts() {
    let mut tracker = Tracker::new(&Track::default(), FPS, 1);
    for (frame, all) in away() {
        tracker.step(frame, &all, None);
    }
    tracker.finish();
    let groups = |against: &mut dyn FnMut(&[usize], &[usize]) -> Option<f64>| {
        let groups = link(tracker.tracklets(), tracker.camera(), &Track::default(), FPS, against);
        groups.into_iter().collect::<BTreeSet<_>>().len()
    };
    assert_eq!(tracker.tracklets().len(), 3);
    assert_eq!(groups(&mut |_, _| Some(0.0)), 2);
    assert_eq!(groups(&mut |_, _| None), 3);
    assert_eq!(groups(&mut |_, _| Some(1e3)), 3);
    // Those it is asked about come in the order of time.
    let times =
        |group: &[usize]| (tracker.tracklets()[group[0]].first, tracker.tracklets()[group[group.len() - 1]].last);
    groups(&mut |earlier, later| {
        assert!(times(earlier).1 < times(later).0);
        Some(0.0)
    });
}

#[test]
fn all_tracks_end_at_a_cut() {
    let mut tracker = Tracker::new(&Track::default(), FPS, 1);
    for t in 0..60 {
        if t == 30 {
            tracker.cut(t);
        }
        let serial = tracker.step(t, &[seen(300.0, 300.0)], None)[0];
        assert_eq!(serial, Some(u32::from(t >= 30)), "frame {t}");
    }
    tracker.finish();
    assert_eq!(tracker.tracklets().len(), 2);
    assert_eq!(tracker.camera().between(10, 40), None);
    let groups = link(tracker.tracklets(), tracker.camera(), &Track::default(), FPS, &mut |_, _| Some(-100.0));
    assert_eq!(groups, [0, 1]);
}

/// Frames of boxes that need not be anything sensible.
fn chaos() -> impl Strategy<Value = Vec<(u32, Vec<Observation<'static>>)>> {
    let bounds = (0.0..400.0f64, 0.0..300.0f64, 1.0..60.0f64, 1.0..120.0f64);
    let one = (0u16..2, 0.0..1.0f64, bounds).prop_map(|(class, score, (cx, cy, w, h))| Observation {
        class,
        score,
        bounds: Bounds { cx, cy, w, h },
        look: None,
    });
    vec((1u32..4, vec(one, 0..9)), 1..60).prop_map(|frames| {
        let mut at = 0;
        frames
            .into_iter()
            .map(|(further, all)| {
                at += further;
                (at, all)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_track_is_in_one_place_at_a_time_and_of_one_class(frames in chaos()) {
        let classes: BTreeMap<u32, Vec<u16>> =
            frames.iter().map(|(frame, all)| (*frame, all.iter().map(|o| o.class).collect())).collect();
        let followed = follow(frames, &Track::default(), &Tuning::DEFAULT, FPS);
        let mut taken = BTreeSet::new();
        for object in &followed.objects {
            prop_assert!(object.sightings.windows(2).all(|pair| pair[0].frame < pair[1].frame));
            for sighting in &object.sightings {
                prop_assert!(taken.insert((sighting.frame, sighting.detection)), "a detection belongs to two objects");
                prop_assert_eq!(classes[&sighting.frame][sighting.detection], object.class);
            }
            let path = followed.path(object);
            prop_assert!(path.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let sane = |b: &Bounds| b.cx.is_finite() && b.cy.is_finite() && b.w > 0.0 && b.h > 0.0;
            prop_assert!(path.iter().all(|(_, bounds)| sane(bounds)));
        }
    }

    #[test]
    fn the_order_of_detections_does_not_matter_but_for_names(frames in chaos(), turn in 1usize..8) {
        let turned: Vec<_> = frames
            .iter()
            .map(|(frame, all)| {
                let mut all = all.clone();
                let by = turn % all.len().max(1);
                all.rotate_left(by);
                (*frame, all)
            })
            .collect();
        // The same boxes belong together, by whatever number.
        let partition = |frames: Vec<(u32, Vec<Observation<'static>>)>| -> BTreeSet<Vec<(u32, u64, u64)>> {
            let followed = follow(frames, &Track::default(), &Tuning::DEFAULT, FPS);
            let key = |s: &fulltime_reduce::tracker::Sighting| (s.frame, s.bounds.cx.to_bits(), s.bounds.cy.to_bits());
            followed.objects.iter().map(|object| object.sightings.iter().map(key).collect()).collect()
        };
        prop_assert_eq!(partition(frames), partition(turned));
    }

    #[test]
    fn every_track_is_decided_in_the_end(frames in chaos()) {
        let mut tracker = Tracker::new(&Track::default(), FPS, 1);
        let mut serials = BTreeSet::new();
        for (frame, all) in &frames {
            serials.extend(tracker.step(*frame, all, None).into_iter().flatten());
            prop_assert!(tracker.settled() == u32::MAX || tracker.settled() <= *frame);
        }
        tracker.finish();
        prop_assert!(serials.iter().all(|serial| tracker.fate(*serial) != Fate::Open));
        let reported = serials.iter().filter(|serial| tracker.fate(**serial) == Fate::Reported).count();
        prop_assert_eq!(reported, tracker.tracklets().len());
    }
}
