//! Where every object lies. The only place that knows the layout.
//!
//! `store` keys are shared by jobs and named by digest; `state` keys are the registry; `job` keys lie below
//! `{out}/jobs/{job}/` and belong to one job.

use crate::{digest::Digest, plan::MatchId};

pub mod store {
    use super::Digest;

    /// One object for each place whose jobs refer to this store: who cleans up must ask all of them.
    pub const OUTS: &str = "outs";

    /// What the store keeps under a digest.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Kind {
        Shard,
        Reduced,
        Index,
        Pipeline,
        Model,
    }

    impl Kind {
        pub const ALL: [Self; 5] = [Self::Shard, Self::Reduced, Self::Index, Self::Pipeline, Self::Model];

        /// The folder of all of them.
        #[must_use]
        pub fn folder(self) -> &'static str {
            match self {
                Self::Shard => "shards",
                Self::Reduced => "reduced",
                Self::Index => "indexes",
                Self::Pipeline => "pipelines",
                Self::Model => "models",
            }
        }

        /// The object that makes it exist: of a result with several, the one that is put last.
        #[must_use]
        pub fn commit(self, digest: &Digest) -> String {
            match self {
                Self::Shard => shard_index(digest),
                Self::Reduced => reduced_summary(digest),
                Self::Index => index(digest),
                Self::Pipeline => pipeline(digest),
                Self::Model => model(digest),
            }
        }

        /// Which result an object belongs to, `None` for what no job has made.
        #[must_use]
        pub fn of(key: &str) -> Option<(Self, Digest)> {
            let mut parts = key.split('/');
            let folder = parts.next()?;
            let kind = Self::ALL.into_iter().find(|kind| kind.folder() == folder)?;
            let name = match kind {
                Self::Shard => parts.nth(1)?,
                Self::Pipeline => parts.next()?.strip_suffix(".json")?,
                Self::Reduced | Self::Index | Self::Model => parts.next()?,
            };
            Some((kind, name.parse().ok()?))
        }
    }

    #[must_use]
    pub fn out(url: &str) -> String {
        format!("{OUTS}/{}.json", Digest::of_bytes(url.as_bytes()))
    }
    #[must_use]
    pub fn model(sha256: &Digest) -> String {
        format!("models/{sha256}")
    }
    #[must_use]
    pub fn pipeline(digest: &Digest) -> String {
        format!("pipelines/{digest}.json")
    }
    #[must_use]
    pub fn index(digest: &Digest) -> String {
        format!("indexes/{digest}")
    }
    /// An engine file that a worker has built from a model; `digest` is that of all that it was built from and for.
    #[must_use]
    pub fn engine(digest: &Digest) -> String {
        format!("engines/{digest}/engine")
    }
    /// Folder of the claims to build it.
    #[must_use]
    pub fn engine_claims(digest: &Digest) -> String {
        format!("engines/{digest}/claims")
    }
    /// Folder of a shard result. Sharded by two characters, so that prefixes stay short on every store.
    #[must_use]
    pub fn shard(digest: &Digest) -> String {
        format!("shards/{}/{digest}", &digest.to_string()[..2])
    }
    #[must_use]
    pub fn shard_detections(digest: &Digest) -> String {
        format!("{}/detections-0.parquet", shard(digest))
    }
    #[must_use]
    pub fn shard_frames(digest: &Digest) -> String {
        format!("{}/frames-0.parquet", shard(digest))
    }
    /// Only of pipelines that describe people.
    #[must_use]
    pub fn shard_descriptions(digest: &Digest) -> String {
        format!("{}/descriptions-0.parquet", shard(digest))
    }
    /// The commit: a shard exists when this object does.
    #[must_use]
    pub fn shard_index(digest: &Digest) -> String {
        format!("{}/index.json", shard(digest))
    }
    #[must_use]
    pub fn reduced(digest: &Digest) -> String {
        format!("reduced/{digest}")
    }
    /// The commit of a reduce: written last.
    #[must_use]
    pub fn reduced_summary(digest: &Digest) -> String {
        format!("reduced/{digest}/summary.json")
    }
    #[must_use]
    pub fn reduced_preview(digest: &Digest) -> String {
        format!("reduced/{digest}/preview.jpg")
    }
    /// `name` is `detections`, `tracks` or `players`.
    #[must_use]
    pub fn reduced_table(digest: &Digest, name: &str) -> String {
        format!("reduced/{digest}/{name}-0.parquet")
    }
}

pub mod state {
    use crate::plan::encode;

    pub const REGISTRY: &str = "registry";
    /// One object for each take-over of a leader.
    pub const EPOCHS: &str = "epoch";

    /// Lane time that was paid for, by month, tenant and job.
    pub const USAGE: &str = "usage";

    /// Folder of what a job has used in a month (`2026-11`). A tenant's name may hold anything.
    #[must_use]
    pub fn usage(month: &str, tenant: &str, job: &str) -> String {
        format!("{USAGE}/{month}/{}/{job}", encode(tenant))
    }
    #[must_use]
    pub fn registry(job: &str) -> String {
        format!("{REGISTRY}/{job}.json")
    }
    #[must_use]
    pub fn epoch(number: u64) -> String {
        format!("{EPOCHS}/{number:08}")
    }
}

/// The tables that a match publishes, in this order.
pub const TABLES: [&str; 3] = ["detections", "tracks", "players"];

pub mod job {
    use super::{Digest, MatchId};

    /// Folder of all jobs.
    pub const ROOT: &str = "jobs";

    #[must_use]
    pub fn root(job: &str) -> String {
        format!("jobs/{job}")
    }
    #[must_use]
    pub fn spec(job: &str) -> String {
        format!("jobs/{job}/job.json")
    }
    /// The job file as the user wrote it, for people.
    #[must_use]
    pub fn source(job: &str) -> String {
        format!("jobs/{job}/job.toml")
    }
    /// State of a job that `fulltime run` does all by itself: its coordinator must not take up other jobs of the same
    /// `out`, nor fight a second `fulltime run` over one epoch.
    #[must_use]
    pub fn private_state(job: &str) -> String {
        format!("jobs/{job}/state")
    }
    /// Folder of the job's control decisions.
    #[must_use]
    pub fn controls(job: &str) -> String {
        format!("jobs/{job}/control")
    }
    #[must_use]
    pub fn control(job: &str, seq: u32) -> String {
        format!("jobs/{job}/control/{seq:06}.json")
    }
    /// Folder of the match list and of the plans.
    #[must_use]
    pub fn plans(job: &str) -> String {
        format!("jobs/{job}/plan")
    }
    #[must_use]
    pub fn plan_index(job: &str) -> String {
        format!("jobs/{job}/plan/index.json")
    }
    /// Of a match's recordings as this revision has them. A later generation has a plan of its own where the one before
    /// refused a recording. (A slug has one `~`, so no match is named like another's plan.)
    #[must_use]
    pub fn plan(job: &str, id: &MatchId, revision: u32, generation: u32) -> String {
        match (revision, generation) {
            (0, 1) => format!("jobs/{job}/plan/{}.json", id.slug()),
            _ => format!("jobs/{job}/plan/{}~{revision}~{generation}.json", id.slug()),
        }
    }
    /// Folder of the matches that were looked at anew because a recording had changed.
    #[must_use]
    pub fn revisions(job: &str) -> String {
        format!("jobs/{job}/revisions")
    }
    #[must_use]
    pub fn revision(job: &str, id: &MatchId, revision: u32) -> String {
        format!("jobs/{job}/revisions/{}-{revision}.json", id.slug())
    }
    /// Folder of the failed attempts that cost budget.
    #[must_use]
    pub fn attempts(job: &str) -> String {
        format!("jobs/{job}/attempts")
    }
    #[must_use]
    pub fn attempt(job: &str, work: &Digest, number: u32) -> String {
        format!("jobs/{job}/attempts/{work}-{number}.json")
    }
    /// Folder of the shards that were cut into parts.
    #[must_use]
    pub fn splits(job: &str) -> String {
        format!("jobs/{job}/splits")
    }
    #[must_use]
    pub fn split(job: &str, shard: &Digest) -> String {
        format!("jobs/{job}/splits/{shard}.json")
    }
    /// Folder of what the reduces read.
    #[must_use]
    pub fn all_inputs(job: &str) -> String {
        format!("jobs/{job}/inputs")
    }
    #[must_use]
    pub fn inputs(job: &str, id: &MatchId, generation: u32) -> String {
        format!("jobs/{job}/inputs/{}-{generation}.json", id.slug())
    }
    #[must_use]
    pub fn quarantine(job: &str, name: &str) -> String {
        format!("jobs/{job}/quarantine/{name}.json")
    }
    #[must_use]
    pub fn generation(job: &str, generation: u32) -> String {
        format!("jobs/{job}/g{generation}")
    }
    /// A published table of one match, partitioned as DuckDB, Polars and Spark read it.
    #[must_use]
    pub fn table(job: &str, generation: u32, name: &str, id: &MatchId) -> String {
        format!("jobs/{job}/g{generation}/{name}/{}/part-0.parquet", id.partition())
    }
    #[must_use]
    pub fn preview(job: &str, generation: u32, id: &MatchId) -> String {
        format!("jobs/{job}/g{generation}/previews/{}.jpg", id.slug())
    }
    #[must_use]
    pub fn summaries(job: &str, generation: u32) -> String {
        format!("jobs/{job}/g{generation}/summaries")
    }
    #[must_use]
    pub fn summary(job: &str, generation: u32, id: &MatchId) -> String {
        format!("{}/{}.json", summaries(job, generation), id.slug())
    }
    /// Figures of how lanes did, put by each worker under names of its own.
    #[must_use]
    pub fn metrics(job: &str, generation: u32, name: &str) -> String {
        format!("jobs/{job}/g{generation}/metrics/{name}.parquet")
    }
    #[must_use]
    pub fn report(job: &str, generation: u32) -> String {
        format!("jobs/{job}/g{generation}/report.html")
    }
    /// Written last: the job is finished when this exists.
    #[must_use]
    pub fn manifest(job: &str, generation: u32) -> String {
        format!("jobs/{job}/g{generation}/manifest.json")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{store::Kind, *};

    /// Text that somebody might try: paths, escapes of every sort, or anything at all.
    fn hostile() -> impl Strategy<Value = String> {
        let parts = ["..", ".", "/", "\\", "%2e", "%2F", "\0", "\n", "~", "=", "a", "%", "\u{2025}", "é"];
        let made =
            proptest::collection::vec(proptest::sample::select(parts.to_vec()), 0..8).prop_map(|all| all.concat());
        prop_oneof![made, any::<String>()]
    }

    proptest! {
        #[test]
        fn no_name_from_a_user_leaves_its_prefix(season in hostile(), name in hostile(), tenant in hostile()) {
            let id = MatchId { season, name };
            let keys = [
                ("jobs/j/plan/", 4, job::plan("j", &id, 0, 1)),
                ("jobs/j/plan/", 4, job::plan("j", &id, 3, 2)),
                ("jobs/j/revisions/", 4, job::revision("j", &id, 1)),
                ("jobs/j/inputs/", 4, job::inputs("j", &id, 1)),
                ("jobs/j/g1/tracks/", 7, job::table("j", 1, "tracks", &id)),
                ("jobs/j/g1/previews/", 5, job::preview("j", 1, &id)),
                ("jobs/j/g1/summaries/", 5, job::summary("j", 1, &id)),
                ("usage/2026-11/", 4, state::usage("2026-11", &tenant, "j")),
            ];
            for (prefix, depth, key) in keys {
                prop_assert!(key.starts_with(prefix), "{}", key);
                let segments: Vec<_> = key.split('/').collect();
                prop_assert_eq!(segments.len(), depth, "{}", key);
                prop_assert!(segments.iter().all(|s| !s.is_empty() && !s.starts_with('.')), "{}", key);
                prop_assert!(key.bytes().all(|b| b.is_ascii_graphic() && b != b'\\'), "{}", key);
                // The store takes it as it is: what it would write lies where we say.
                let taken = object_store::path::Path::parse(&key).unwrap().to_string();
                prop_assert_eq!(taken, key);
            }
        }
    }

    #[test]
    fn an_object_of_the_store_tells_which_result_it_belongs_to() {
        let digest = Digest::of_bytes(b"x");
        for kind in Kind::ALL {
            assert_eq!(Kind::of(&kind.commit(&digest)), Some((kind, digest)));
        }
        assert_eq!(Kind::of(&store::shard_frames(&digest)), Some((Kind::Shard, digest)));
        assert_eq!(Kind::of(&store::reduced_table(&digest, "tracks")), Some((Kind::Reduced, digest)));
        for other in [&store::out("file:///out"), "models/readme", "shards/ab", "incidents/x.json", "models"] {
            assert_eq!(Kind::of(other), None, "{other}");
        }
    }
}
