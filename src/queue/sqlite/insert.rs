//! Enqueueing: many specs in one transaction, each id once.
//!
//! Ids come in any order, and a table ordered by their hash is larger than memory one day. So the hashes of a batch
//! are claimed in their own order, and the rows are written in the order in which the specs came:
//!
//! ```text
//!   claim each hash for the row its spec would get     claimed --> new
//!                 | not claimed
//!   compare the text of the rows that have the hash     equal --> duplicate
//!                 | all differ: two ids, one hash
//!   new all the same
//! ```

use std::sync::Arc;

use rusqlite::{Connection, Statement};

use super::batch::{Batch, Class, Past, Spot};
use super::fault::Worked;
use super::row::{self, IdHash};
use super::{seen, sql};
use crate::job::{ArtifactId, Epoch, Event, JobRow, JobSpec, Lane, State, WallMs};
use crate::queue::store::{Inserted, OnDuplicate};

const NEXT_JOB: &str = "next_job";

/// Whoever inserts no more at once has little to write.
pub(super) const BRIEF: usize = 16;

/// See [`crate::queue::store::Store::insert`].
pub(super) fn insert(
    batch: &mut Batch<'_>,
    specs: &[JobSpec],
    on_duplicate: OnDuplicate,
    now: WallMs,
) -> Worked<Vec<Inserted>> {
    let hashes: Vec<IdHash> = specs.iter().map(|spec| IdHash::of(&spec.artifact_id)).collect();
    let mut order: Vec<usize> = (0..hashes.len()).collect();
    order.sort_unstable_by_key(|at| (hashes[*at], *at));
    let first_row = seen::counter(batch, NEXT_JOB)?;
    let is_pruned = pruned(batch, &hashes, &order)?;
    // A pruned id must not come back, so it claims nothing.
    order.retain(|at| !is_pruned[*at]);
    let claimed = seen::claim(batch, &hashes, &order, first_row)?;
    let mut new = Newcomers::new(batch, now)?;
    let mut answers = Vec::with_capacity(specs.len());
    // A row is spent on a duplicate too: rows need only grow.
    for (at, job) in (0..specs.len()).zip((first_row..).map(JobRow)) {
        let (spec, hash) = (&specs[at], hashes[at]);
        let there = match claimed[at] {
            true => None,
            false => seen::find(batch.conn, &spec.artifact_id, hash)?,
        };
        answers.push(match there {
            Some(_) if on_duplicate == OnDuplicate::Skip => Inserted::Duplicate,
            Some(there) => {
                // It may be one of them.
                new.place(batch)?;
                duplicate(batch, there, spec, on_duplicate, now)?
            }
            None if is_pruned[at] => Inserted::Pruned,
            None => {
                if !claimed[at] {
                    seen::claim_too(batch, hash, job)?;
                }
                new.insert(batch, job, spec)?;
                Inserted::New
            }
        });
    }
    new.place(batch)?;
    if let Some(last) = new.last {
        seen::set_counter(batch, NEXT_JOB, last.0 + 1)?;
    }
    Ok(answers)
}

/// The row with that id, or `None`.
pub(super) fn lookup(conn: &Connection, id: &ArtifactId) -> Worked<Option<JobRow>> {
    seen::find(conn, id, IdHash::of(id))
}

/// Which of the hashes were pruned, looked up in this order.
fn pruned(batch: &Batch<'_>, hashes: &[IdHash], order: &[usize]) -> Worked<Vec<bool>> {
    let mut is_pruned = vec![false; hashes.len()];
    if batch.number(sql::ANY_PRUNED, ())? == Some(1) {
        let mut statement = batch.conn.prepare_cached(sql::PRUNED)?;
        for at in order {
            is_pruned[*at] = statement.query_row([hashes[*at].0], |row| row.get(0))?;
        }
    }
    Ok(is_pruned)
}

/// New jobs: rows one by one, and their places all at once.
struct Newcomers<'c> {
    statement: Statement<'c>,
    now: WallMs,
    /// The first row that has no place yet.
    first: Option<JobRow>,
    /// The last row written.
    last: Option<JobRow>,
    /// The lane of the last one: the next is in the same more often than not.
    lane: Option<Arc<Lane>>,
}

impl<'c> Newcomers<'c> {
    fn new(batch: &Batch<'c>, now: WallMs) -> Worked<Newcomers<'c>> {
        let statement = batch.conn.prepare(sql::INSERT_JOB)?;
        Ok(Newcomers { statement, now, first: None, last: None, lane: None })
    }

    fn insert(&mut self, batch: &mut Batch<'_>, job: JobRow, spec: &JobSpec) -> Worked<()> {
        let lane = self.lane(batch, spec)?;
        self.statement.execute((
            job.0,
            self.now.0,
            spec.run_at.filter(|at| *at > self.now).map(|at| at.0),
            spec.priority.level(),
            lane.id.0,
            spec.max_attempts,
            spec.timeout_seconds,
            spec.artifact_id.as_str(),
            spec.retry.as_ref().map(row::retry_column),
            row::tags_column(&spec.tags)?,
            &spec.payload,
        ))?;
        if spec.run_at.is_some_and(|at| at > self.now) {
            let spot = Spot { priority: spec.priority, lane: lane.id, job, epoch: 0 };
            batch.place(spot, Class::RunAt, spec.run_at, self.now);
        }
        self.first.get_or_insert(job);
        self.last = Some(job);
        batch.tally.queued(lane.id, 1);
        Ok(())
    }

    fn lane(&mut self, batch: &mut Batch<'_>, spec: &JobSpec) -> Worked<Arc<Lane>> {
        let tag = batch.lanes.tag(batch.conn, &spec.tags)?;
        let is_same = |lane: &&Arc<Lane>| {
            lane.kind == spec.kind && lane.key == spec.key && lane.tag.as_deref() == tag
        };
        let lane = match self.lane.as_ref().filter(is_same) {
            Some(lane) => Arc::clone(lane),
            None => batch.lanes.intern(batch.conn, &spec.kind, &spec.key, tag)?,
        };
        self.lane = Some(Arc::clone(&lane));
        Ok(lane)
    }

    /// Makes ready those written since it was last called that need not wait. Others will hear of them.
    fn place(&mut self, batch: &mut Batch<'_>) -> Worked<()> {
        if let (Some(first), Some(last)) = (self.first.take(), self.last) {
            batch.run(sql::PLACE_NEW, (first.0, last.0))?;
            batch.ring_others();
        }
        Ok(())
    }
}

/// An id that is there already, and is not to be left as it is.
fn duplicate(
    batch: &mut Batch<'_>,
    job: JobRow,
    spec: &JobSpec,
    on_duplicate: OnDuplicate,
    now: WallMs,
) -> Worked<Inserted> {
    batch.write_places()?;
    let past = batch.past(job)?;
    let leased = batch.number(sql::IS_LEASED, [job.0])? == Some(1);
    if past.state == State::Queued && !leased && past.attempts == 0 && past.losses == 0 {
        batch.unplace(&past)?;
        batch.tally.queued(past.lane, -1);
        batch.run(sql::BEGIN_PROGRESS, [job.0])?;
        replace(batch, &past, spec, now)?;
        return Ok(Inserted::Updated);
    }
    if on_duplicate == OnDuplicate::Requeue && past.state.is_finished() {
        past.state.next(Event::Requeue)?;
        batch.tally.finished(past.lane, past.state, past.reason, -1);
        clear_result(batch, &past)?;
        replace(batch, &past, spec, now)?;
        return Ok(Inserted::Requeued);
    }
    Ok(Inserted::Duplicate)
}

/// Writes `spec` over a job that is in no place, and queues it.
fn replace(batch: &mut Batch<'_>, past: &Past, spec: &JobSpec, now: WallMs) -> Worked<()> {
    let tag = batch.lanes.tag(batch.conn, &spec.tags)?;
    let lane = batch.lanes.intern(batch.conn, &spec.kind, &spec.key, tag)?;
    let at = spec.run_at.filter(|at| *at > now);
    let job = (
        past.job.0,
        at.map(|at| at.0),
        spec.priority.level(),
        lane.id.0,
        spec.max_attempts,
        spec.timeout_seconds,
        spec.retry.as_ref().map(row::retry_column),
        row::tags_column(&spec.tags)?,
        &spec.payload,
    );
    batch.changed_one(batch.run(sql::REPLACE_JOB, job)?, past.job)?;
    let (state, at_ms) = (past.state.code(), at.map(|at| at.0));
    let progress = (past.job.0, past.epoch, state, now.0, at_ms, lane.id.0);
    batch.changed_one(batch.run(sql::REQUEUE, progress)?, past.job)?;
    batch.run(sql::DELETE_CHECKPOINT, [past.job.0])?;
    let epoch = Epoch(past.epoch).next().0;
    let spot = Spot { priority: spec.priority, lane: lane.id, job: past.job, epoch };
    batch.place(spot, Class::RunAt, at, now);
    batch.tally.queued(lane.id, 1);
    Ok(())
}

/// Clears what was said of a finished job that is put back. What it ended done with stays for its next attempt.
pub(super) fn clear_result(batch: &Batch<'_>, past: &Past) -> Worked<()> {
    let clear = match past.state {
        State::Done => sql::AGE_RESULT,
        _ => sql::CLEAR_RESULT,
    };
    batch.run(clear, [past.job.0])?;
    Ok(())
}
