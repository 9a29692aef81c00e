//! What a finished attempt makes of its job, and what is told of it once that is durable.

use std::time::Duration;

use rand::RngExt;

use super::Dispatcher;
use crate::handler::CancelReason;
use crate::job::{
    Change, ErrorReason, FinalState, Leased, MAX_CHECKPOINT_BYTES, Note, Outcome, Reason,
    RetryTerms, State, Suspicion,
};
use crate::queue::store::{Settled, Settlement, StoreError};
use crate::run::event::{Event, Settled as SettledEvent};
use crate::run::report::Tally;
use crate::run::scribe::Origin;
use crate::run::worker::Finished;

impl Dispatcher {
    pub(super) fn take_finished(&mut self, finished: Finished) {
        let Finished { job, ended, cancelled, worker, frees_worker, started_at, elapsed } =
            finished;
        if frees_worker {
            self.busy -= 1;
        }
        self.over(&job);
        self.pace.count();
        let change = match ended {
            Ok(outcome) => self.change_of(&job, outcome, cancelled),
            Err(fault) => {
                self.give_up(fault);
                Change::HandBack
            }
        };
        self.settlements.push(Settlement {
            token: job.token,
            change,
            started_at,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        });
        self.origins.push(Origin { job, worker: Some(worker) });
    }

    pub(super) fn over(&mut self, job: &Leased) {
        self.in_flight -= 1;
        self.wary -= usize::from(self.is_wary(job));
        self.frontier.finished(job.lane.id);
    }

    /// Whether of jobs like this one only one may be held at a time.
    pub(super) fn is_wary(&self, job: &Leased) -> bool {
        Suspicion::of(job.losses, self.options.max_job_losses) >= Suspicion::OneAtATime
    }

    /// What an outcome makes of its job, given that the attempt may have been cancelled.
    pub(super) fn change_of(
        &mut self,
        job: &Leased,
        outcome: Outcome,
        cancelled: Option<CancelReason>,
    ) -> Change {
        let outcome = match (cancelled, outcome) {
            (_, outcome @ (Outcome::Done { .. } | Outcome::Skipped { .. })) | (None, outcome) => {
                outcome
            }
            (Some(CancelReason::Stop), outcome) => return stopped(job, outcome),
            (Some(CancelReason::LeaseLost), _) => return Change::HandBack,
            (Some(CancelReason::Deadline), outcome) => past_deadline(outcome, self.timeout_of(job)),
        };
        let terms = RetryTerms::merge(
            job.max_attempts,
            job.retry,
            self.options.retry,
            self.options.max_job_attempts,
        );
        let uniform = match &outcome {
            Outcome::Retry { .. } => [self.rng.random(), self.rng.random()],
            _ => [0.0; 2],
        };
        let now = self.shared.clock.wall();
        bounded(outcome).settle(job.attempt, terms, now, uniform)
    }

    pub(super) fn timeout_of(&self, job: &Leased) -> Duration {
        job.timeout_seconds
            .map_or(self.options.job_timeout, |seconds| Duration::from_secs(u64::from(seconds)))
    }

    /// Counts and tells what a turn wrote.
    pub(super) fn tell_settled(
        &mut self,
        settlements: &[Settlement],
        origins: &[Origin],
        answers: &[Settled],
    ) {
        let wants_jobs = self.shared.listener.wants_jobs();
        for ((settlement, origin), answer) in settlements.iter().zip(origins).zip(answers) {
            let state = match answer {
                Settled::Accepted(state) => Some(*state),
                Settled::LeaseLost => None,
            };
            self.tally.count(settlement, state);
            if wants_jobs {
                self.shared
                    .listener
                    .on(&Event::JobSettled(settled_event(settlement, origin, state)));
            }
        }
    }

    /// Frees what was told. In a flood that takes as long as to start as many jobs, so it is done while the next turn is made.
    pub(super) fn clear_told(&mut self) {
        let (mut settlements, mut origins) = std::mem::take(&mut self.told);
        if settlements.capacity() > 0 {
            settlements.clear();
            origins.clear();
            self.spare = (settlements, origins);
        }
    }
}

/// An attempt that was cancelled at its deadline failed for that reason, whatever else it says.
fn past_deadline(outcome: Outcome, timeout: Duration) -> Outcome {
    let (note, checkpoint) = match outcome {
        Outcome::Retry { note, checkpoint, .. } => (note, checkpoint),
        Outcome::Defer { checkpoint, .. } => (Note::default(), checkpoint),
        Outcome::Fail { note, .. } | Outcome::Done { note, .. } | Outcome::Skipped { note, .. } => {
            (note, None)
        }
    };
    let message = format!("cancelled after its timeout of {} s", timeout.as_secs());
    Outcome::Retry {
        reason: ErrorReason::Deadline,
        note: Note { message, ..note },
        after_ms: None,
        checkpoint,
    }
}

/// An attempt that was cancelled because the run stops is given back, with what it learned.
fn stopped(job: &Leased, outcome: Outcome) -> Change {
    let (key, not_before, checkpoint) = match outcome {
        Outcome::Defer { key, not_before, checkpoint } => (key, not_before, checkpoint),
        Outcome::Retry { checkpoint: Some(data), .. } => (job.lane.key.clone(), None, Some(data)),
        _ => return Change::HandBack,
    };
    match checkpoint {
        Some(data) if data.len() > MAX_CHECKPOINT_BYTES => Change::HandBack,
        checkpoint => Change::Defer { key, not_before, checkpoint },
    }
}

/// A checkpoint over the limit is a fault of its handler, not of the turn it would spoil.
fn bounded(outcome: Outcome) -> Outcome {
    let (bytes, observed) = match &outcome {
        Outcome::Retry { checkpoint: Some(data), note, .. } => (data.len(), note.observed.clone()),
        Outcome::Defer { checkpoint: Some(data), .. } => (data.len(), Vec::new()),
        _ => return outcome,
    };
    if bytes <= MAX_CHECKPOINT_BYTES {
        return outcome;
    }
    let error = StoreError::CheckpointTooLarge(bytes);
    let note = Note::new(error.to_string()).with_observed(observed);
    Outcome::Fail { reason: ErrorReason::Internal, note }
}

fn settled_event<'a>(
    settlement: &'a Settlement,
    origin: &'a Origin,
    state: Option<State>,
) -> SettledEvent<'a> {
    let (reason, message, again_at, deferred_to) = match &settlement.change {
        Change::Finish { reason, note, .. } => (Some(*reason), &*note.message, None, None),
        Change::Again { not_before, reason, note, .. } => {
            (Some(Reason::Error(*reason)), &*note.message, Some(*not_before), None)
        }
        Change::Defer { key, not_before, .. } => (None, "", *not_before, Some(key)),
        Change::HandBack => (None, "", None, None),
    };
    SettledEvent {
        job: &origin.job,
        worker: origin.worker,
        state,
        reason,
        message,
        again_at,
        deferred_to,
        started_at: settlement.started_at,
        elapsed: Duration::from_millis(settlement.elapsed_ms),
    }
}

impl Tally {
    fn count(&mut self, settlement: &Settlement, state: Option<State>) {
        if state.is_none() {
            self.lost += 1;
            return;
        }
        match &settlement.change {
            Change::Finish { state, reason, .. } => {
                *self.reasons.entry(*reason).or_default() += 1;
                match state {
                    FinalState::Done => self.done += 1,
                    FinalState::Skipped => self.skipped += 1,
                    FinalState::Error => self.failed += 1,
                }
            }
            Change::Again { .. } => self.retried += 1,
            Change::Defer { .. } => self.deferred += 1,
            Change::HandBack => self.handed_back += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Observation;

    fn retry(checkpoint_bytes: usize) -> (Outcome, Vec<Observation>) {
        let observed = vec![Observation { asked: 3, ..Observation::of("arxiv", None) }];
        let outcome = Outcome::Retry {
            reason: ErrorReason::Timeout,
            note: Note::new("slow").with_observed(observed.clone()),
            after_ms: None,
            checkpoint: Some(vec![0; checkpoint_bytes]),
        };
        (outcome, observed)
    }

    #[test]
    fn what_a_cut_off_attempt_observed_is_counted_all_the_same() {
        let (outcome, observed) = retry(1);
        match past_deadline(outcome, Duration::from_secs(7)) {
            Outcome::Retry { reason: ErrorReason::Deadline, note, .. } => {
                assert_eq!((note.observed, note.message.contains("7 s")), (observed, true));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_attempt_that_was_stopped_keeps_what_it_learned_and_counts_for_nothing() {
        let job = crate::handler::testing::Attempt::of("{}").job;
        let learned = |bytes| Some(vec![0; bytes]);
        let (outcome, _) = retry(1);
        let Change::Defer { key, not_before: None, checkpoint } = stopped(&job, outcome) else {
            panic!()
        };
        assert_eq!((key, checkpoint), (job.lane.key.clone(), learned(1)));
        let key = crate::job::Key::new(None, Some("a.org")).unwrap();
        let defer = |bytes| Outcome::Defer {
            key: key.clone(),
            not_before: None,
            checkpoint: learned(bytes),
        };
        assert!(matches!(stopped(&job, defer(1)), Change::Defer { key: kept, .. } if kept == key));
        let too_much = MAX_CHECKPOINT_BYTES + 1;
        assert_eq!(stopped(&job, defer(too_much)), Change::HandBack);
        assert_eq!(stopped(&job, retry(too_much).0), Change::HandBack);
        assert_eq!(stopped(&job, CancelReason::Stop.outcome()), Change::HandBack);
        let failed = Outcome::fail(ErrorReason::Internal, "");
        assert_eq!(stopped(&job, failed), Change::HandBack);
    }

    #[test]
    fn a_checkpoint_over_the_limit_fails_its_job_and_keeps_what_it_observed() {
        let (outcome, _) = retry(MAX_CHECKPOINT_BYTES);
        assert_eq!(bounded(outcome.clone()), outcome);
        let (outcome, observed) = retry(MAX_CHECKPOINT_BYTES + 1);
        match bounded(outcome) {
            Outcome::Fail { reason: ErrorReason::Internal, note } => {
                assert_eq!(note.observed, observed);
            }
            other => panic!("{other:?}"),
        }
    }
}
