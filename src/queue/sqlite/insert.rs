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

use rusqlite::{Connection, Statement};

use super::batch::{Batch, Class, Past, Spot};
use super::fault::Worked;
use super::row::{self, IdHash};
use super::{seen, sql};
use crate::job::{ArtifactId, Epoch, Event, JobRow, JobSpec, State, WallMs};
use crate::queue::store::{Inserted, OnDuplicate};

const NEXT_JOB: &str = "next_job";

/// See [`crate::queue::store::Store::insert`].
pub(super) fn insert(
    batch: &mut Batch<'_>,
    specs: &[JobSpec],
    on_duplicate: OnDuplicate,
    now: WallMs,
) -> Worked<Vec<Inserted>> {
    let hashes: Vec<IdHash> = specs.iter().map(|spec| IdHash::of(&spec.artifact_id)).collect();
    let first_row = seen::counter(batch, NEXT_JOB)?;
    // A pruned id must not come back, so it claims nothing.
    let wanted = unpruned(batch, &hashes)?;
    let claimed = seen::claim(batch, &wanted, first_row)?;
    let mut statement = batch.conn.prepare_cached(sql::INSERT_JOB)?;
    let mut answers = Vec::with_capacity(specs.len());
    let mut next_row = first_row;
    // A row is spent on a duplicate too: rows need only grow.
    for (at, job) in (0..specs.len()).zip((first_row..).map(JobRow)) {
        let (spec, hash) = (&specs[at], hashes[at]);
        let there = match claimed[at] {
            true => None,
            false => seen::find(batch.conn, &spec.artifact_id, hash)?,
        };
        answers.push(match there {
            Some(there) => duplicate(batch, there, spec, on_duplicate, now)?,
            None if wanted[at].is_none() => Inserted::Pruned,
            None => {
                if !claimed[at] {
                    seen::claim_too(batch, hash, job)?;
                }
                insert_job(batch, &mut statement, job, spec, now)?;
                next_row = job.0 + 1;
                Inserted::New
            }
        });
    }
    if next_row > first_row {
        seen::set_counter(batch, NEXT_JOB, next_row)?;
    }
    Ok(answers)
}

/// The row with that id, or `None`.
pub(super) fn lookup(conn: &Connection, id: &ArtifactId) -> Worked<Option<JobRow>> {
    seen::find(conn, id, IdHash::of(id))
}

/// The hashes, `None` in place of those that were pruned.
fn unpruned(batch: &Batch<'_>, hashes: &[IdHash]) -> Worked<Vec<Option<IdHash>>> {
    if batch.number(sql::ANY_PRUNED, ())? == Some(0) {
        return Ok(hashes.iter().copied().map(Some).collect());
    }
    let unless_pruned = |hash: &IdHash| {
        let is_pruned = batch.number(sql::PRUNED, [hash.0])? == Some(1);
        Ok(Some(*hash).filter(|_| !is_pruned))
    };
    hashes.iter().map(unless_pruned).collect()
}

fn insert_job(
    batch: &mut Batch<'_>,
    statement: &mut Statement<'_>,
    job: JobRow,
    spec: &JobSpec,
    now: WallMs,
) -> Worked<()> {
    let tag = batch.lanes.tag(batch.conn, &spec.tags)?;
    let lane = batch.lanes.intern(batch.conn, &spec.kind, &spec.key, tag)?;
    statement.execute((
        job.0,
        now.0,
        spec.run_at.filter(|at| *at > now).map(|at| at.0),
        spec.priority.level(),
        lane.id.0,
        spec.max_attempts,
        spec.timeout_seconds,
        spec.artifact_id.as_str(),
        spec.retry.as_ref().map(row::retry_column),
        row::tags_column(&spec.tags)?,
        &spec.payload,
    ))?;
    let spot = Spot { priority: spec.priority, lane: lane.id, job, epoch: 0 };
    batch.place(spot, Class::RunAt, spec.run_at, now);
    batch.tally.queued(lane.id, 1);
    Ok(())
}

/// An id that is there already.
fn duplicate(
    batch: &mut Batch<'_>,
    job: JobRow,
    spec: &JobSpec,
    on_duplicate: OnDuplicate,
    now: WallMs,
) -> Worked<Inserted> {
    if on_duplicate == OnDuplicate::Skip {
        return Ok(Inserted::Duplicate);
    }
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
