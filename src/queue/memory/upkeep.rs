//! What people do to finished jobs: put them back, or delete them.

use std::ops::Bound;

use super::model::{Job, Model, Place};
use crate::job::{Event, JobRow, Reason, State, WallMs};
use crate::queue::store::{RetryFilter, Swept};

impl Model {
    pub(super) fn retry_failed(
        &mut self,
        after: Option<JobRow>,
        filter: &RetryFilter,
        limit: usize,
        now: WallMs,
        dry_run: bool,
    ) -> Swept {
        let taken: Vec<JobRow> = self
            .jobs
            .range((past(after), Bound::Unbounded))
            .filter(|(_, job)| is_taken(filter, job))
            .take(limit)
            .map(|(row, _)| *row)
            .collect();
        if !dry_run {
            for row in &taken {
                self.change(*row, |job| {
                    job.go(Event::Requeue, Place::Ready);
                    job.make_fresh(now);
                });
            }
        }
        swept(&taken, limit)
    }

    pub(super) fn prune(
        &mut self,
        after: Option<JobRow>,
        before: WallMs,
        forget: bool,
        limit: usize,
    ) -> Swept {
        let old: Vec<JobRow> = self
            .jobs
            .range((past(after), Bound::Unbounded))
            .filter(|(_, job)| job.state().is_finished() && job.changed_at < before)
            .take(limit)
            .map(|(row, _)| *row)
            .collect();
        for row in &old {
            let Some(job) = self.jobs.remove(row) else { continue };
            self.rows.remove(&job.spec.artifact_id);
            if !forget {
                self.pruned.insert(job.spec.artifact_id);
            }
        }
        swept(&old, limit)
    }
}

fn past(after: Option<JobRow>) -> Bound<JobRow> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}

/// Those were changed; with fewer than `limit`, no more match.
fn swept(changed: &[JobRow], limit: usize) -> Swept {
    let is_full = changed.len() >= limit;
    Swept { count: changed.len() as u64, next: changed.last().copied().filter(|_| is_full) }
}

fn is_taken(filter: &RetryFilter, job: &Job) -> bool {
    let reason = job.verdict.as_ref().map(|verdict| verdict.reason);
    let state = match filter.reason {
        None | Some(Reason::Error(_)) => State::Error,
        Some(Reason::Skipped(_)) => State::Skipped,
        Some(Reason::Done(_)) => return false,
    };
    job.state() == state
        && (filter.reason.is_none() || filter.reason == reason)
        && filter.max_attempts.is_none_or(|most| job.attempts_total < most)
        && (filter.host.is_none() || filter.host == job.lane.key.host)
}
