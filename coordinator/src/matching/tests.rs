use fulltime_common::{Digest, spec::ShardLength};

use super::*;

fn job() -> Job {
    Job {
        id: "j".into(),
        archive: "file:///archive".into(),
        out: "file:///out".into(),
        store: "file:///store".into(),
        select: None,
        shard_length: ShardLength::default(),
        template: None,
        table: None,
        unmatched: Unmatched::Refuse,
        given: fulltime_common::spec::Given::default(),
        priority: fulltime_common::wire::Band::Normal,
        tenant: None,
        max_gpu_hours: None,
        window: None,
        webhook: None,
        cost: None,
        trace: None,
        pipeline: Digest::of_bytes(b"pipeline"),
        submitted_at: String::new(),
    }
}

fn listing(keys: &[&str]) -> Vec<Listed> {
    keys.iter().map(|key| Listed { key: (*key).into(), size: 1, etag: Some(format!("e-{key}")) }).collect()
}

fn row(file: &str, name: &str, period: u32) -> TableRow {
    TableRow { file: file.into(), season: String::new(), name: name.into(), period, camera: "main".into(), offset: 0.0 }
}

fn names(list: &MatchList) -> Vec<String> {
    list.matches.iter().map(|m| m.id.to_string()).collect()
}

#[test]
fn a_bare_folder_of_videos_is_one_match_a_file() {
    let list = match_list(&job(), listing(&["b/Final.MP4", "a.ts", "notes.txt", ".x/c.mp4", "a.json"])).unwrap();
    assert_eq!(names(&list), ["archive/a", "archive/b/Final"]);
    assert_eq!(list.matches[0].recordings[0].recording.etag, "e-a.ts");
    assert_eq!((list.matches[0].recordings[0].period, list.matches[0].recordings[0].camera.as_str()), (1, "main"));
}

#[test]
fn files_that_differ_only_in_their_extension_keep_it() {
    let list = match_list(&job(), listing(&["m.mp4", "m.mkv", "n.mp4"])).unwrap();
    assert_eq!(names(&list), ["archive/m.mkv", "archive/m.mp4", "archive/n"]);
}

#[test]
fn a_template_groups_halves_and_cameras_in_reduce_order() {
    let job = Job { template: Some("{season}/{match}/h{period}_{camera}.mp4".into()), ..job() };
    let files = ["s1/m/h2_left.mp4", "s1/m/h1_right.mp4", "s1/m/h1_left.mp4", "s0/k/h1_left.mp4"];
    let list = match_list(&job, listing(&files)).unwrap();
    assert_eq!(names(&list), ["s0/k", "s1/m"]);
    let order: Vec<_> = list.matches[1].recordings.iter().map(|p| p.recording.key.as_str()).collect();
    assert_eq!(order, ["s1/m/h1_left.mp4", "s1/m/h1_right.mp4", "s1/m/h2_left.mp4"]);
}

#[test]
fn unmatched_videos_are_refused_by_name_or_listed_as_skipped() {
    let template = Some("{match}-h{period}.mp4".to_owned());
    let files = ["a-h1.mp4", "extra.mp4", "poster.jpg"];
    let refused = match_list(&Job { template: template.clone(), ..job() }, listing(&files)).unwrap_err();
    assert_eq!(refused.to_string(), "the template places `extra.mp4` in no match");
    assert_eq!(refused.exit(), Exit::Archive);
    let skip = Job { template, unmatched: Unmatched::Skip, ..job() };
    let list = match_list(&skip, listing(&files)).unwrap();
    assert_eq!((names(&list), list.skipped), (vec!["archive/a".to_owned()], vec!["extra.mp4".to_owned()]));
    let nothing = match_list(&skip, listing(&["x.mp4"])).unwrap_err();
    assert!(nothing.to_string().contains("places none"), "{nothing}");
}

#[test]
fn many_unmatched_files_are_shown_as_ten_and_a_count() {
    let files: Vec<_> = (0..25).map(|i| format!("f{i:02}.mp4")).collect();
    let keys: Vec<_> = files.iter().map(String::as_str).collect();
    let job = Job { template: Some("{match}.mkv".into()), ..job() };
    let cause = match_list(&job, listing(&keys)).unwrap_err().to_string();
    assert!(
        cause.contains("25 files (`f00.mp4`") && cause.contains("`f09.mp4`, …") && !cause.contains("f10"),
        "{cause}"
    );
}

#[test]
fn two_files_at_the_same_place_of_a_match_collide_by_name() {
    let job = Job { template: Some("{match}/h{period}_*.mp4".into()), ..job() };
    let cause = match_list(&job, listing(&["m/h1_a.mp4", "m/h1_b.mp4", "m/h2_a.mp4"])).unwrap_err().to_string();
    assert_eq!(cause, "`m/h1_a.mp4` and `m/h1_b.mp4` are both period 1, camera `main` of match `archive/m`");
}

#[test]
fn a_table_places_any_file_and_is_checked_row_by_row() {
    let table = |rows: Vec<TableRow>| Job { table: Some(rows), ..job() };
    let late = TableRow { season: "s".into(), offset: 1.5, ..row("./a.bin", "m", 2) };
    let list = match_list(&table(vec![row("b.mp4", "m", 1), late]), listing(&["a.bin", "b.mp4"])).unwrap();
    assert_eq!(names(&list), ["archive/m", "s/m"]);
    assert_eq!(list.matches[1].recordings[0].offset_us, 1_500_000);

    let error = |rows| match_list(&table(rows), listing(&["a.mp4"])).unwrap_err().to_string();
    assert_eq!(error(vec![row("gone.mp4", "m", 1)]), "the table names `gone.mp4` that the archive does not have");
    assert_eq!(error(vec![row("a.mp4", "m", 1), row("a.mp4", "k", 1)]), "the table names `a.mp4` more than once");
    assert!(error(vec![row("a.mp4", "m", 0)]).contains("periods count from 1"));
}

#[test]
fn a_glob_selects_keys_and_says_when_it_selects_nothing() {
    let select = |glob: &str| Job { select: Some(glob.into()), ..job() };
    let files = ["2023/a.mp4", "2024/b.mp4", "2024/deep/c.mp4"];
    assert_eq!(names(&match_list(&select("2024/*.mp4"), listing(&files)).unwrap()), ["archive/2024/b"]);
    assert_eq!(match_list(&select("2024/**"), listing(&files)).unwrap().matches.len(), 2);
    let cause = match_list(&select("*.mov"), listing(&files)).unwrap_err().to_string();
    assert_eq!(cause, "`*.mov` selects none of the 3 videos in `file:///archive`");
    assert_eq!(match_list(&select("[a"), listing(&files)).unwrap_err().exit(), Exit::Usage);
}

#[test]
fn an_empty_archive_and_one_without_videos_are_told_apart() {
    assert_eq!(match_list(&job(), vec![]).unwrap_err().to_string(), "`file:///archive` is empty");
    let cause = match_list(&job(), listing(&["readme.txt"])).unwrap_err().to_string();
    assert_eq!(cause, "none of the 1 files in `file:///archive` is a video");
}

#[test]
fn the_match_list_does_not_depend_on_the_order_of_the_listing() {
    let mut files = listing(&["c.mp4", "a.mp4", "b.mp4"]);
    let one = match_list(&job(), files.clone()).unwrap();
    files.reverse();
    assert_eq!(one, match_list(&job(), files).unwrap());
}
