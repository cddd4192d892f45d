//! The end of a job: the report for people, then the manifest that makes the job finished.

use fulltime_common::{keys, plan::MatchList, store::to_json};

use crate::{
    crash::{self, Deed},
    ledger::{MatchOutcome, RunFigures},
    manifest::{Manifest, MatchRecord},
    planning::{JobFiles, PlanError},
    report::Report,
    verdict::required,
};

impl JobFiles {
    /// Writes report and manifest and returns the manifest's URL. Matches are read one by one, so that a season's
    /// summaries are never in memory at once.
    ///
    /// # Errors
    /// A result that is gone, a store that cannot be used.
    pub async fn finish(&self, outcomes: &[MatchOutcome], run: &RunFigures) -> Result<String, PlanError> {
        let job = &self.job.id;
        let list: MatchList = required(&self.out, "match list", &keys::job::plan_index(job)).await?;
        let (mut records, mut quarantined) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            if outcome.quarantined.is_empty() {
                let (inputs, summary) = self.reduced(&outcome.id).await?;
                let (record, given_up) = MatchRecord::new(job, outcome.engine.clone(), &inputs, &summary);
                records.push(record);
                quarantined.extend(given_up);
            } else {
                quarantined.extend(outcome.quarantined.iter().cloned());
            }
        }
        let manifest = Manifest::new(&self.job, self.generation, &self.pipeline, &list, records, quarantined);
        self.report(&manifest, run).await?;
        let key = keys::job::manifest(job, self.generation);
        // Without an epoch, unlike other verdicts: equal work gives an equal manifest.
        self.mandate.check()?;
        crash::around(Deed::Manifest, self.out.put_once(&key, to_json(&manifest))).await?;
        Ok(self.out.url_of(&key))
    }

    /// Written once: the report of the run that finished the job.
    async fn report(&self, manifest: &Manifest, run: &RunFigures) -> Result<(), PlanError> {
        let mut report = Report::new(manifest, run).with_cost(self.job.cost.as_ref());
        for record in &manifest.matches {
            let (_, summary) = self.reduced(&record.id).await?;
            let picture = match &record.preview {
                Some(key) if report.wants_picture() => self.out.get(key).await?,
                _ => None,
            };
            report.add(&summary, picture.as_deref());
        }
        crash::around(Deed::Report, self.out.put_once(&manifest.report, report.finish())).await?;
        Ok(())
    }
}
