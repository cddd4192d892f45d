//! The reduce as a whole, over real stores in a temporary folder.

#![allow(clippy::unwrap_used, reason = "a test may panic in its helpers, too")]

mod world;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use fulltime_common::{
    Digest, Disposition, keys,
    plan::{Gap, ReduceInputs},
    results::MatchSummary,
    squads::{SheetPlayer, TeamSheet},
    store::Store,
};
use fulltime_reduce::{ReduceError, ReduceOutcome, reduce_match};
use fulltime_tables::{
    Reader,
    matches::{Detection, Player, Track},
};
use world::{CUT, FRAMES, FREEZE, GAP, WALKERS, World, number, pipeline};

async fn run(world: &World, inputs: &ReduceInputs) -> Result<ReduceOutcome, ReduceError> {
    reduce_match(&world.store, &world.out, inputs, &pipeline(), &|_| {}).await
}

/// Everything a job sees of its match, by name.
async fn view(out: &Store, inputs: &ReduceInputs) -> BTreeMap<&'static str, Bytes> {
    let (job, id) = (&inputs.job, &inputs.id);
    let mut view = BTreeMap::new();
    for name in keys::TABLES {
        view.insert(name, out.get(&keys::job::table(job, 1, name, id)).await.unwrap().unwrap());
    }
    view.insert("preview", out.get(&keys::job::preview(job, 1, id)).await.unwrap().unwrap());
    view.insert("summary", out.get(&keys::job::summary(job, 1, id)).await.unwrap().unwrap());
    view
}

fn rows<R: fulltime_tables::Row>(bytes: &Bytes) -> Vec<R> {
    Reader::new(bytes.clone()).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn sharded_equals_unsharded_to_the_byte() {
    let mut views = Vec::new();
    // Of the last two, one is cut within the gap and one right before it.
    for length in [FRAMES, 50, 70, 100] {
        let world = World::new();
        let inputs = world.shards("job", length).await;
        run(&world, &inputs).await.unwrap();
        views.push(view(&world.out, &inputs).await);
    }
    for other in &views[1..] {
        for (name, bytes) in &views[0] {
            assert!(other[name] == bytes, "`{name}` depends on the length of the shards");
        }
    }
}

#[tokio::test]
async fn the_tables_say_what_happened_in_the_match() {
    let world = World::new();
    let inputs = world.shards("job", 70).await;
    let seen = AtomicU64::new(0);
    let progress = |frames| seen.store(frames, Ordering::Relaxed);
    let outcome = reduce_match(&world.store, &world.out, &inputs, &pipeline(), &progress).await.unwrap();
    assert_eq!(seen.into_inner(), 4 * u64::from(FRAMES));

    let view = view(&world.out, &inputs).await;
    let (detections, tracks, players) =
        (rows::<Detection>(&view["detections"]), rows::<Track>(&view["tracks"]), rows::<Player>(&view["players"]));
    assert_eq!((outcome.found, outcome.detections, outcome.gap_frames), (false, detections.len() as u64, 20));

    // Reduce order, and times with the second half's offset.
    let order: Vec<_> = detections.iter().map(|d| (d.period, d.camera.clone(), d.frame)).collect();
    assert!(order.is_sorted());
    assert!(detections.iter().all(|d| d.t_us == i64::from(d.frame) * 40_000 + i64::from(d.period - 1) * 3_600_000_000));

    // Track numbers have no holes, ascend with the first appearance, and name rows that are there.
    assert_eq!(tracks.iter().map(|t| t.track_id).collect::<Vec<_>>(), (1..=tracks.len() as i32).collect::<Vec<_>>());
    assert!(tracks.is_sorted_by_key(|t| (t.period, t.camera.clone(), t.first_frame)));
    for track in &tracks {
        let mine: Vec<_> = detections.iter().filter(|d| d.track_id == Some(track.track_id)).collect();
        assert_eq!(mine.len(), track.frames_seen as usize);
        assert!(mine.iter().all(|d| (d.period, &d.camera, &d.class) == (track.period, &track.camera, &track.class)));
        assert_eq!((mine[0].frame, mine[mine.len() - 1].frame), (track.first_frame, track.last_frame));
        assert_eq!((mine[0].t_us, mine[mine.len() - 1].t_us), (track.start_us, track.end_us));
    }

    // Each walker and the ball are one track from end to end (false alarms stay unreported), even across the gap; where the
    // scene is cut they are two.
    assert_eq!(tracks.len() as u32, 5 * (WALKERS + 1));
    let half = |t: &&Track| (t.period, &*t.camera) == (2, "main");
    assert!(
        tracks.iter().filter(|t| !half(t)).all(|t| t.last_frame - t.first_frame > FRAMES as i32 - 10 && t.shot == 1)
    );
    assert!(tracks.iter().filter(half).all(|t| t.shot == 1 + i32::from(t.first_frame >= CUT as i32)));
    assert!(tracks.iter().filter(half).all(|t| (t.first_frame < CUT as i32) == (t.last_frame < CUT as i32)));

    // The freeze frame's rows say which picture they repeat.
    let repeated: Vec<_> = detections.iter().filter(|d| d.duplicate_of.is_some()).collect();
    assert!(repeated.iter().all(|d| d.duplicate_of == Some(FREEZE.start as i32) && FREEZE.contains(&(d.frame as u32))));
    assert!(repeated.len() >= 9 * WALKERS as usize);

    // Walkers are the same people in both halves, before both cameras and after the cut: twelve, with teams and numbers.
    assert_eq!(players.len() as u32, WALKERS);
    for player in &players {
        let mine: Vec<_> = tracks.iter().filter(|t| t.player_id == Some(player.player_id)).collect();
        assert_eq!((mine.len(), player.tracks, &*player.class), (5, 5, "player"));
        assert_eq!((player.first_period, player.last_period), (1, 2));
        assert!(player.visible > 70.0 && player.number_confidence.unwrap() > 0.95, "{player:?}");
        assert!(player.distance.unwrap() > 10.0 && (0.5..8.0).contains(&player.top_speed.unwrap()), "{player:?}");
    }
    let teams = |team: &str| {
        let mut numbers: Vec<_> =
            players.iter().filter(|p| p.team.as_deref() == Some(team)).map(|p| p.number.unwrap()).collect();
        numbers.sort_unstable();
        numbers
    };
    let six: Vec<i32> = (0..WALKERS / 2).map(|i| i32::from(number(2 * i))).collect();
    assert_eq!((teams("A"), teams("B")), (six.clone(), six));
    assert!(tracks.iter().all(|t| t.player_id.is_none() == (&*t.class == "ball")));

    // Only one camera's view of the pitch is known: 12 pixels a metre.
    assert!(detections.iter().all(|d| d.pitch_x.is_none() || &*d.camera == "left"));
    for d in detections.iter().filter(|d| &*d.camera == "left" && &*d.class == "player").take(100) {
        assert!((d.pitch_x.unwrap() - (d.x + d.w / 2.0 - 640.0) / 12.0).abs() < 1e-3);
        assert!((d.pitch_y.unwrap() - (360.0 - d.y - d.h) / 12.0).abs() < 1e-3);
    }

    let summary: MatchSummary = serde_json::from_slice(&view["summary"]).unwrap();
    assert_eq!((summary.frames, summary.gap_frames), (4 * u64::from(FRAMES), 20));
    assert_eq!(summary.people.len() as u32, WALKERS);
    assert_eq!(
        summary.recordings.iter().map(|r| (r.shots, r.repeated_frames)).collect::<Vec<_>>(),
        [(1, 9), (1, 0), (1, 0), (2, 0)]
    );
    assert_eq!((summary.tracks, summary.players), (tracks.len() as u64, players.len() as u64));
    assert_eq!(summary.recordings[1].gaps, [Gap { frames: GAP, reason: "decoder concealed a picture".into() }]);
    assert!(summary.parts.iter().zip(keys::TABLES).all(|(p, name)| p.sha256 == Digest::of_bytes(&view[name])));
    let preview = summary.preview.unwrap();
    assert_eq!((preview.recording.as_str(), preview.width, preview.height), ("half1_left.mp4", 1280, 720));
    assert!((125..375).contains(&preview.frame), "frame {} is not in the middle", preview.frame);
}

#[tokio::test]
async fn a_squad_list_gives_teams_and_players_their_names() {
    let world = World::new();
    let mut inputs = world.shards("job", 100).await;
    let before = inputs.digest();
    let sheet = |name: &str, colour| TeamSheet {
        name: name.into(),
        colour: Some(colour),
        players: (0..6)
            .map(|i| SheetPlayer { number: number(2 * i), name: Some(format!("{name} {i}")), role: None })
            .collect(),
    };
    // Both lists have the same numbers; the odd walkers are in white, the even ones in red.
    inputs.squads = vec![sheet("Whites", [250, 250, 250]), sheet("Reds", [200, 20, 30])];
    assert_ne!(inputs.digest(), before);
    run(&world, &inputs).await.unwrap();
    let view = view(&world.out, &inputs).await;
    let players = rows::<Player>(&view["players"]);
    assert_eq!(players.len() as u32, WALKERS);
    for player in players {
        let line = player.number.unwrap() - i32::from(number(0));
        assert_eq!(player.name.as_deref(), Some(&*format!("{} {line}", player.team.unwrap())));
    }
}

#[tokio::test]
async fn another_job_finds_the_result_and_gets_its_own_view() {
    let world = World::new();
    let first = world.shards("first", 100).await;
    let made = run(&world, &first).await.unwrap();
    let second = ReduceInputs { job: "second".into(), ..first.clone() };
    let found = run(&world, &second).await.unwrap();
    assert_eq!(found, ReduceOutcome { found: true, bytes_read: 0, ..made });
    assert!(view(&world.out, &first).await == view(&world.out, &second).await, "the views differ");
}

#[tokio::test]
async fn a_refused_recording_leaves_its_reason_and_nothing_else() {
    let world = World::new();
    let mut inputs = world.shards("job", 200).await;
    let refused = &mut inputs.recordings[0];
    refused.shards.clear();
    refused.frames = 0;
    refused.gaps = vec![Gap { frames: 0..0, reason: "audio only".into() }];
    run(&world, &inputs).await.unwrap();
    let view = view(&world.out, &inputs).await;
    let summary: MatchSummary = serde_json::from_slice(&view["summary"]).unwrap();
    assert_eq!(summary.recordings[0].gaps[0].reason, "audio only");
    assert_eq!(summary.recordings[0].detections, 0);
    assert_eq!(summary.preview.unwrap().recording, "half1_main.mp4");
    assert_eq!(rows::<Track>(&view["tracks"])[0].camera.as_ref(), "main");
}

#[tokio::test]
async fn a_missing_shard_may_come_back_and_leaves_no_result() {
    let world = World::new();
    let inputs = world.shards("job", 100).await;
    let key = keys::store::shard_detections(&inputs.recordings[2].shards[1].digest);
    std::fs::remove_file(world.store.folder().unwrap().join(&key)).unwrap();
    let error = run(&world, &inputs).await.unwrap_err();
    assert_eq!(error.to_string(), format!("the inputs name `{key}`, which is not in the store"));
    assert_eq!(error.disposition(), Disposition::Transient);
    assert!(world.store.get(&keys::store::reduced_summary(&inputs.digest())).await.unwrap().is_none());
}

#[tokio::test]
async fn a_damaged_shard_is_poison() {
    let world = World::new();
    let inputs = world.shards("job", 100).await;
    let key = keys::store::shard_detections(&inputs.recordings[0].shards[0].digest);
    let path = world.store.folder().unwrap().join(&key);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let error = run(&world, &inputs).await.unwrap_err();
    assert!(matches!(&error, ReduceError::Damaged { key: damaged } if *damaged == key), "{error}");
    assert_eq!(error.disposition(), Disposition::PoisonInput);
}

#[tokio::test]
async fn other_bytes_in_the_place_of_a_table_are_an_incident() {
    let world = World::new();
    let inputs = world.shards("job", 100).await;
    let key = keys::store::reduced_table(&inputs.digest(), "tracks");
    world.store.put_once(&key, "other bytes").await.unwrap();
    let error = run(&world, &inputs).await.unwrap_err();
    assert_eq!(error.disposition(), Disposition::WorkerUnfit, "{error}");
    assert_eq!(world.store.get(&key).await.unwrap().unwrap(), "other bytes");
}

/// A failure here means: undo the change, or raise `semantics::REDUCE` and put the new digests in.
#[tokio::test]
async fn a_reduce_keeps_its_bytes() {
    let world = World::new();
    let inputs = world.shards("job", 200).await;
    run(&world, &inputs).await.unwrap();
    let digests: Vec<_> =
        view(&world.out, &inputs).await.iter().map(|(name, bytes)| (*name, Digest::of_bytes(bytes).short())).collect();
    let golden = [
        ("detections", "5a42d7bf2743"),
        ("players", "dacd1fe65529"),
        ("preview", "882c8fea75bf"),
        ("summary", "2a621b0f84db"),
        ("tracks", "8532384652b1"),
    ];
    assert_eq!(digests, golden.map(|(name, digest)| (name, digest.to_owned())));
}
