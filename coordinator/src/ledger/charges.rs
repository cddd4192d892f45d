//! What is charged to one unit of work: budgets of infrastructure, and evidence against the input.

use fulltime_common::{Exit, error::Disposition, wire::JobFailure};

use super::{Attempt, Policy};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Charges {
    pub transient: u32,
    pub unfit: u32,
    out_of_memory: u32,
    vanished: u32,
    poison: Vec<Poison>,
    /// The infrastructure failure that used up a budget.
    exhausted: Option<JobFailure>,
}

/// A run that found the input to be poison.
#[derive(Debug, Clone)]
struct Poison {
    release: u32,
    worker: String,
    alone: bool,
    cause: String,
}

/// What the charges amount to.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judgement {
    /// It may be tried again.
    Open,
    /// The input cannot be processed; this is why.
    Poison(String),
    /// A budget is used up: whoever looks after the machines has to do something.
    Exhausted(JobFailure),
}

impl Charges {
    /// What earlier attempts of this generation cost. Infrastructure budgets begin anew with every round.
    pub fn of<'a>(
        attempts: impl IntoIterator<Item = &'a Attempt>,
        generation: u32,
        round: u32,
        policy: &Policy,
    ) -> Self {
        let mut charges = Self::default();
        for attempt in attempts {
            let poison = attempt.disposition == Disposition::PoisonInput;
            if attempt.generation == generation && (poison || attempt.round == round) {
                charges.add(attempt, policy);
            }
        }
        charges
    }

    pub fn add(&mut self, attempt: &Attempt, policy: &Policy) {
        let failure = || JobFailure { exit: attempt.exit, cause: attempt.cause.clone(), hint: attempt.hint.clone() };
        let exhausted = match attempt.disposition {
            Disposition::PoisonInput => {
                self.poison.push(Poison {
                    release: attempt.release,
                    worker: attempt.worker.clone(),
                    alone: attempt.evidence.alone,
                    cause: attempt.cause.clone(),
                });
                false
            }
            Disposition::OutOfMemory => {
                self.out_of_memory += 1;
                self.out_of_memory >= policy.out_of_memory
            }
            Disposition::PreEmpted => {
                self.vanished += 1;
                self.vanished >= policy.vanished
            }
            // Recorded only when their budget is used up.
            Disposition::Transient | Disposition::WorkerUnfit => true,
            Disposition::InputChanged | Disposition::JobUnfit | Disposition::Cancelled => false,
        };
        if exhausted {
            self.exhausted.get_or_insert_with(failure);
        }
    }

    /// Infrastructure gets new budgets; evidence stays.
    pub fn forgive(&mut self) {
        let poison = std::mem::take(&mut self.poison);
        *self = Self { poison, ..Self::default() };
    }

    pub fn vanished(&self) -> u32 {
        self.vanished
    }

    pub fn knows(&self, release: u32, worker: &str) -> bool {
        self.poison.iter().any(|p| p.release == release && p.worker == worker)
    }

    /// Whether its failure has to be reproduced in a fresh process.
    pub fn suspect(&self) -> bool {
        !self.poison.is_empty()
    }

    /// The worker whose failure has to be reproduced elsewhere.
    pub fn accuser(&self) -> Option<&str> {
        self.poison.first().map(|p| p.worker.as_str())
    }

    /// `others`: there is a fit worker that has not failed on it.
    pub fn judge(&self, others: bool, policy: &Policy) -> Judgement {
        let second = |p: &&Poison| self.poison.iter().any(|other| other.worker != p.worker);
        let alone = || self.poison.iter().filter(|p| p.alone);
        if let Some(proof) = alone().find(second).or_else(|| alone().next().filter(|_| !others)) {
            return Judgement::Poison(proof.cause.clone());
        }
        if let Some(failure) = &self.exhausted {
            return Judgement::Exhausted(failure.clone());
        }
        match self.poison.last() {
            Some(last) if self.poison.len() as u32 >= policy.unproven => Judgement::Exhausted(JobFailure {
                exit: Exit::Paused as u8,
                cause: format!(
                    "{} runs failed, but none alone on a second worker, which would prove the input bad: {}",
                    self.poison.len(),
                    last.cause
                ),
                hint: Some("look at the workers' logs, then resume the job".into()),
            }),
            _ => Judgement::Open,
        }
    }

    pub fn failed_on(&self, worker: &str) -> bool {
        self.poison.iter().any(|p| p.worker == worker)
    }
}
