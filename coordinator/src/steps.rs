//! From an action of the ledger to a step against a job's objects, and back to an input.

use fulltime_common::keys;
use tracing::{info, warn};

use crate::{
    ledger::{Action, Input, Object},
    planning::{JobFiles, PlanError},
};

/// Does one of the ledger's actions that need a store, and says what came of it.
pub(crate) async fn carry_out(action: &Action, files: &JobFiles) -> Result<Option<Input>, PlanError> {
    Ok(Some(match action {
        Action::Release(_) | Action::Withdraw { .. } | Action::Stop { .. } | Action::Discard { .. } => return Ok(None),
        Action::FindReduced { job, at, reduce } => {
            let summary = Object::Store(keys::store::reduced_summary(reduce));
            Input::Reduced { job: job.clone(), at: *at, exists: files.exists(&summary).await? }
        }
        // Not carried out yet.
        Action::Record { .. } | Action::Split { .. } | Action::Relist { .. } => return Ok(None),
        Action::Open { job, at, id, .. } => {
            let (plan, inputs) = files.open(id).await?;
            Input::Opened { job: job.clone(), at: *at, plan: plan.map(Box::new), inputs: inputs.map(Box::new) }
        }
        Action::Check { work, object, .. } => {
            Input::Checked { work: work.clone(), exists: files.exists(object).await? }
        }
        Action::Plan { job, at, order } => {
            Input::Planned { job: job.clone(), at: *at, plan: Box::new(files.plan(order).await?) }
        }
        Action::Freeze { job, at, inputs } => {
            Input::Frozen { job: job.clone(), at: *at, inputs: Box::new(files.freeze(inputs).await?) }
        }
        Action::Summarise { job, at, id } => {
            Input::Summarised { job: job.clone(), at: *at, figures: files.figures(id).await? }
        }
        Action::Quarantine { job, name, record } => {
            warn!(%job, "given up: {record}");
            files.quarantine(name, record).await?;
            return Ok(None);
        }
        Action::Finish { job, outcomes, run } => {
            let manifest = files.finish(outcomes, run).await?;
            info!(%job, manifest, "finished");
            Input::Finished { job: job.clone(), manifest }
        }
    }))
}
