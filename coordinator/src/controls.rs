//! Decisions about a job, `control/{seq}.json`: put before anybody hears of them, read in their order by every leader.

use fulltime_common::{
    keys,
    store::{Put, Store},
    wire::Band,
};

use crate::{
    campaign::Mandate,
    crash::{self, Deed},
    ledger::Decision,
    planning::PlanError,
    verdict::Stamped,
};

/// What all decisions about a job come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub cancelled: bool,
    pub paused: bool,
    /// If anybody decided one.
    pub band: Option<Band>,
    /// From 1; each retry makes the next.
    pub generation: u32,
    /// How often budgets were opened anew.
    pub round: u32,
}

impl Default for Standing {
    fn default() -> Self {
        Self { cancelled: false, paused: false, band: None, generation: 1, round: 0 }
    }
}

impl Standing {
    #[must_use]
    pub fn after(mut self, decision: Decision) -> Self {
        match decision {
            Decision::Cancel => self.cancelled = true,
            Decision::Pause => self.paused = true,
            Decision::Resume => {
                self.paused = false;
                self.round += 1;
            }
            Decision::Priority { band } => self.band = Some(band),
            Decision::Retry => {
                self.paused = false;
                self.generation += 1;
                self.round += 1;
            }
        }
        self
    }

    /// Reads what was decided so far.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn read(out: &Store, job: &str) -> Result<Self, PlanError> {
        let mut standing = Self::default();
        for key in decisions(out, job).await? {
            if let Some(decision) = out.get_json(&key).await? {
                standing = standing.after(decision);
            }
        }
        Ok(standing)
    }
}

/// Keys of a job's decisions, in their order.
async fn decisions(out: &Store, job: &str) -> Result<Vec<String>, PlanError> {
    let objects = out.list(Some(&keys::job::controls(job))).await?;
    let mut keys: Vec<_> = objects.into_iter().map(|object| object.location.to_string()).collect();
    keys.sort();
    Ok(keys)
}

/// Makes a decision durable, before anybody hears of it.
///
/// # Errors
/// The store cannot be written, or the lead is lost; then nothing is decided.
pub(crate) async fn put(job: &str, out: &str, decision: Decision, mandate: &Mandate) -> Result<(), PlanError> {
    let out = Store::open(out)?;
    let last = decisions(&out, job).await?.pop();
    let last = last.and_then(|key| key.rsplit('/').next()?.strip_suffix(".json")?.parse::<u32>().ok());
    let mut seq = last.map_or(0, |last| last + 1);
    loop {
        mandate.check()?;
        let (key, stamped) = (keys::job::control(job, seq), Stamped::new(&decision, mandate));
        match crash::around(Deed::Control, out.put_json_once(&key, &stamped)).await? {
            Put::Created => return Ok(()),
            Put::Existed => seq += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn decisions_are_read_in_the_order_in_which_they_were_made() {
        let dir = tempfile::tempdir().unwrap();
        let url = dir.path().to_str().unwrap();
        let out = Store::create(url).unwrap();
        let mandate = Mandate::without_end(7);
        assert_eq!(Standing::read(&out, "j").await.unwrap(), Standing::default());
        let low = Decision::Priority { band: Band::Low };
        for decision in [Decision::Pause, Decision::Resume, low, Decision::Retry, Decision::Pause] {
            put("j", url, decision, &mandate).await.unwrap();
        }
        let expected = Standing { cancelled: false, paused: true, band: Some(Band::Low), generation: 2, round: 2 };
        assert_eq!(Standing::read(&out, "j").await.unwrap(), expected);
        put("j", url, Decision::Cancel, &mandate).await.unwrap();
        assert!(Standing::read(&out, "j").await.unwrap().cancelled);
        let first: serde_json::Value = out.get_json(&keys::job::control("j", 0)).await.unwrap().unwrap();
        assert_eq!(first, serde_json::json!({ "control": "pause", "epoch": 7 }));
    }
}
