//! What people do to finished jobs: put them back, or delete them.
//!
//! Both look for their jobs a stretch at a time, holding no transaction, and then change what they found in one, each
//! job only if it still is as it was found.

use super::SqliteStore;
use std::ops::ControlFlow;

use super::batch::Batch;
use super::fault::{Fault, Worked};
use super::insert::clear_result;
use super::row::{self, IdHash};
use super::seen;
use super::sql;
use super::view::{self, Walk, Walked};
use crate::job::{ArtifactId, Epoch, Event, JobRow, Reason, State, WallMs};
use crate::queue::store::{RetryFilter, StoreError};

impl SqliteStore {
    /// See [`crate::queue::store::Store::retry_failed`].
    pub(super) fn put_back(
        &mut self,
        filter: &RetryFilter,
        limit: usize,
        now: WallMs,
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        let state = match filter.reason {
            None | Some(Reason::Error(_)) => State::Error,
            Some(Reason::Skipped(_)) => State::Skipped,
            Some(Reason::Done(_)) => return Ok(0),
        };
        let lanes = self.read(|conn, _| view::lanes_of(conn, filter.host.as_deref()))?;
        let is_taken = |job: &Walked| {
            (filter.reason.is_none() || filter.reason == job.reason)
                && filter.max_attempts.is_none_or(|most| job.attempts_total < most)
                && lanes.as_ref().is_none_or(|lanes| lanes.contains(&job.lane))
        };
        self.change_found(Walk::Failed(state), limit, is_taken, |batch, job| {
            if dry_run { Ok(true) } else { requeue(batch, job, now) }
        })
    }

    /// See [`crate::queue::store::Store::prune`].
    pub(super) fn delete_old(
        &mut self,
        before: WallMs,
        forget: bool,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let is_old = |job: &Walked| job.state.is_finished() && job.changed_at_ms < before.0;
        self.change_found(Walk::Begun, limit, is_old, |batch, job| delete(batch, job, forget))
    }

    /// Finds up to `limit` jobs, lowest row first, and changes them in one transaction. When others were faster with
    /// some of them, looks on for as many more.
    fn change_found(
        &mut self,
        walk: Walk,
        limit: usize,
        matches: impl Fn(&Walked) -> bool,
        mut change: impl FnMut(&mut Batch<'_>, &Walked) -> Worked<bool>,
    ) -> Result<u64, StoreError> {
        let mut changed = 0;
        let mut after = Some(JobRow(0));
        while changed < limit {
            let found = self.find(walk, &mut after, limit - changed, &matches)?;
            if found.is_empty() {
                break;
            }
            changed += self.write(|batch| {
                found.iter().try_fold(0, |n, job| Ok(n + usize::from(change(batch, job)?)))
            })?;
        }
        Ok(changed as u64)
    }

    /// The next jobs of a walk that match, `limit` unless it ends before. `after` moves on; `None` is the end.
    fn find(
        &mut self,
        walk: Walk,
        after: &mut Option<JobRow>,
        limit: usize,
        matches: impl Fn(&Walked) -> bool,
    ) -> Result<Vec<Walked>, StoreError> {
        let mut found = Vec::new();
        while let Some(row) = *after
            && found.len() < limit
        {
            *after = self.read(|conn, _| {
                view::walk(conn, walk, row, |job| {
                    found.extend(Some(job).filter(&matches));
                    if found.len() < limit {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                })
            })?;
        }
        Ok(found)
    }
}

/// Queues a finished job again, if it is as it was found.
fn requeue(batch: &mut Batch<'_>, job: &Walked, now: WallMs) -> Worked<bool> {
    job.state.next(Event::Requeue)?;
    let past = batch.past(job.job)?;
    let values = (job.job.0, job.epoch, job.state.code(), now.0, past.at, job.lane.0);
    if batch.run(sql::REQUEUE, values)? == 0 {
        return Ok(false);
    }
    clear_result(batch, &past)?;
    batch.tally.finished(job.lane, job.state, job.reason, -1);
    batch.tally.queued(job.lane, 1);
    batch.make_ready(past.spot(Epoch(job.epoch).next()));
    Ok(true)
}

/// Deletes a finished job and all that is known of it, if it is as it was found.
fn delete(batch: &mut Batch<'_>, job: &Walked, forget: bool) -> Worked<bool> {
    if batch.run(sql::DELETE_PROGRESS, (job.job.0, job.epoch, job.state.code()))? == 0 {
        return Ok(false);
    }
    let hash = IdHash::of(&artifact_id(batch, job.job)?);
    seen::forget(batch, hash, job.job)?;
    batch.changed_one(batch.run(sql::DELETE_JOB, [job.job.0])?, job.job)?;
    for sql in [sql::DELETE_RESULT, sql::DELETE_ATTEMPTS, sql::DELETE_CHECKPOINT] {
        batch.run(sql, [job.job.0])?;
    }
    if !forget {
        batch.run(sql::INSERT_PRUNED, [hash.0])?;
    }
    batch.tally.finished(job.lane, job.state, job.reason, -1);
    Ok(true)
}

fn artifact_id(batch: &Batch<'_>, job: JobRow) -> Worked<ArtifactId> {
    let mut statement = batch.conn.prepare_cached(sql::ARTIFACT_ID)?;
    let mut rows = statement.query([job.0])?;
    match rows.next()? {
        Some(row) => row::artifact_id(row::text(row, 0)?.unwrap_or_default()),
        None => Err(Fault::Corrupt(format!("job {} is missing", job.0))),
    }
}
