//! What people do to finished jobs: put them back, or delete them.
//!
//! Both look for their jobs a stretch at a time, and then change what they found in a transaction of its own, each job only if it
//! still is as it was found. Must never look at the same stretch twice for one command, nor at all jobs at once.

use std::ops::ControlFlow;

use super::SqliteStore;
use super::batch::Batch;
use super::fault::{Fault, Worked};
use super::insert::clear_result;
use super::row::{self, IdHash};
use super::seen;
use super::sql;
use super::stint::Stint;
use super::view::{self, Walk, Walked};
use crate::job::{Epoch, Event, JobRow, Reason, State, WallMs};
use crate::queue::store::{RetryFilter, StoreError, Swept};

impl SqliteStore {
    /// See [`crate::queue::store::Store::retry_failed_after`].
    pub(super) fn put_back(
        &mut self,
        after: Option<JobRow>,
        filter: &RetryFilter,
        limit: usize,
        now: WallMs,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        let state = match filter.reason {
            None | Some(Reason::Error(_)) => State::Error,
            Some(Reason::Skipped(_)) => State::Skipped,
            Some(Reason::Done(_)) => return Ok(Swept::default()),
        };
        let lanes = self.read(|conn, _| view::lanes_of(conn, filter.host.as_deref()))?;
        let is_taken = |job: &Walked| {
            (filter.reason.is_none() || filter.reason == job.reason)
                && filter.max_attempts.is_none_or(|most| job.attempts_total < most)
                && lanes.as_ref().is_none_or(|lanes| lanes.contains(&job.lane))
        };
        let (found, next) = self.find(Walk::Failed(state), after, limit, is_taken)?;
        let count = match dry_run || found.is_empty() {
            true => found.len(),
            false => self.write_much(|batch| {
                found.iter().try_fold(0, |n, job| Ok(n + usize::from(requeue(batch, job, now)?)))
            })?,
        };
        Ok(Swept { count: count as u64, next })
    }

    /// See [`crate::queue::store::Store::prune_after`].
    pub(super) fn delete_old(
        &mut self,
        after: Option<JobRow>,
        before: WallMs,
        forget: bool,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        let is_old = |job: &Walked| job.state.is_finished() && job.changed_at_ms < before.0;
        let (found, next) = self.find(Walk::Begun, after, limit, is_old)?;
        let count = match found.is_empty() {
            true => 0,
            false => self.write_much(|batch| delete(batch, &found, forget))?,
        };
        Ok(Swept { count: count as u64, next })
    }

    /// The next jobs of a walk that match, up to `limit`, from one stretch of it; and where to go on, if anywhere.
    fn find(
        &mut self,
        walk: Walk,
        after: Option<JobRow>,
        limit: usize,
        matches: impl Fn(&Walked) -> bool,
    ) -> Result<(Vec<Walked>, Option<JobRow>), StoreError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok((found, None));
        }
        let start = after.unwrap_or(JobRow(0));
        let next = self.read(|conn, _| {
            view::walk(conn, walk, start, Stint::begin(), |job| {
                found.extend(Some(job).filter(&matches));
                if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        })?;
        Ok((found, next))
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

/// Deletes finished jobs and all that is known of them, those that are as they were found. Returns how many.
fn delete(batch: &mut Batch<'_>, jobs: &[Walked], forget: bool) -> Worked<usize> {
    let mut gone = Vec::with_capacity(jobs.len());
    let mut statement = batch.conn.prepare_cached(sql::DELETE_PROGRESS)?;
    for job in jobs {
        if statement.execute((job.job.0, job.epoch, job.state.code()))? == 1 {
            gone.push(job.job);
            batch.tally.finished(job.lane, job.state, job.reason, -1);
        }
    }
    // Neighbours go together: each has a row, so what lies between the first and the last is these.
    let mut hashes = Vec::with_capacity(gone.len());
    for run in gone.chunk_by(|one, next| one.0 + 1 == next.0) {
        delete_run(batch, run, &mut hashes)?;
    }
    hashes.sort_unstable();
    seen::forget(batch, &hashes)?;
    if !forget {
        let mut statement = batch.conn.prepare_cached(sql::INSERT_PRUNED)?;
        for (hash, _) in &hashes {
            statement.execute([hash.0])?;
        }
    }
    Ok(gone.len())
}

/// Deletes jobs of which each has the row after that of the one before, and adds the hashes of their ids.
fn delete_run(batch: &Batch<'_>, run: &[JobRow], hashes: &mut Vec<(IdHash, JobRow)>) -> Worked<()> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
    let before = hashes.len();
    let range = (first.0, last.0);
    let mut statement = batch.conn.prepare_cached(sql::ARTIFACT_IDS)?;
    let mut rows = statement.query(range)?;
    for job in (first.0..=last.0).map(JobRow) {
        let Some(row) = rows.next()? else {
            return Err(Fault::Corrupt(format!("job {} is missing", job.0)));
        };
        let id = row::artifact_id(row::text(row, 0)?.unwrap_or_default())?;
        hashes.push((IdHash::of(&id), job));
    }
    let gone = batch.run(sql::DELETE_JOBS, range)?;
    batch.changed_one(usize::from(gone == hashes.len() - before), *first)?;
    for sql in [sql::DELETE_RESULTS, sql::DELETE_ATTEMPTS, sql::DELETE_CHECKPOINTS] {
        batch.run(sql, range)?;
    }
    Ok(())
}
