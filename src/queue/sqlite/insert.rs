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
use super::sql;
use crate::job::{ArtifactId, Epoch, Event, JobRow, JobSpec, State, WallMs};
use crate::queue::store::{Inserted, OnDuplicate};

/// See [`crate::queue::store::Store::insert`].
pub(super) fn insert(
    batch: &mut Batch<'_>,
    specs: &[JobSpec],
    on_duplicate: OnDuplicate,
    now: WallMs,
) -> Worked<Vec<Inserted>> {
    let hashes: Vec<IdHash> = specs.iter().map(|spec| IdHash::of(&spec.artifact_id)).collect();
    let first_row = batch.number(sql::NEXT_JOB, ())?.unwrap_or(1);
    let any_pruned = batch.number(sql::ANY_PRUNED, ())? == Some(1);
    let pruned: Vec<bool> = match any_pruned {
        true => hashes.iter().map(|hash| is_pruned(batch, *hash)).collect::<Worked<_>>()?,
        false => vec![false; hashes.len()],
    };
    let claimed = claim(batch, &hashes, &pruned, first_row)?;
    let mut statement = batch.conn.prepare_cached(sql::INSERT_JOB)?;
    let mut answers = Vec::with_capacity(specs.len());
    // A row is spent on a duplicate too: rows need only grow.
    for (at, row) in (0..specs.len()).zip(first_row..) {
        let (spec, hash, job) = (&specs[at], hashes[at].seen(), JobRow(row));
        let there = match claimed[at] {
            true => None,
            false => find(batch.conn, &spec.artifact_id, hash)?,
        };
        answers.push(match there {
            Some(there) => duplicate(batch, there, spec, on_duplicate, now)?,
            None if pruned[at] => Inserted::Pruned,
            None => {
                if !claimed[at] {
                    batch.run(sql::CLAIM_TOO, (hash, job.0))?;
                }
                insert_job(batch, &mut statement, job, spec, now)?;
                Inserted::New
            }
        });
    }
    if let Some(last) = answers.iter().rposition(|answer| *answer == Inserted::New) {
        batch.run(sql::SET_NEXT_JOB, (first_row, last))?;
    }
    Ok(answers)
}

/// The row with that id, or `None`.
pub(super) fn lookup(conn: &Connection, id: &ArtifactId) -> Worked<Option<JobRow>> {
    find(conn, id, IdHash::of(id).seen())
}

fn is_pruned(batch: &Batch<'_>, hash: IdHash) -> Worked<bool> {
    Ok(batch.number(sql::PRUNED, [hash.0])? == Some(1))
}

/// Gives each hash that no row has to the row of the first spec that has it. Returns which specs got theirs.
fn claim(
    batch: &Batch<'_>,
    hashes: &[IdHash],
    pruned: &[bool],
    first_row: i64,
) -> Worked<Vec<bool>> {
    let rows = hashes.iter().zip(first_row..).map(|(hash, row)| (hash.seen(), row));
    let mut sorted: Vec<(i64, i64)> = rows.collect();
    sorted.sort_unstable();
    let mut claimed = vec![false; hashes.len()];
    let mut statement = batch.conn.prepare_cached(sql::CLAIM)?;
    for (hash, row) in sorted {
        let at = usize::try_from(row - first_row).unwrap_or(usize::MAX);
        claimed[at] = !pruned[at] && statement.execute((hash, row))? == 1;
    }
    Ok(claimed)
}

/// The row of that hash whose id this is, letter for letter.
fn find(conn: &Connection, id: &ArtifactId, hash: i64) -> Worked<Option<JobRow>> {
    let mut seen = conn.prepare_cached(sql::SEEN)?;
    let mut candidates = seen.query([hash])?;
    let mut text = conn.prepare_cached(sql::ARTIFACT_ID)?;
    while let Some(candidate) = candidates.next()? {
        let job: i64 = candidate.get(0)?;
        let mut answer = text.query([job])?;
        if let Some(row) = answer.next()?
            && row::text(row, 0)? == Some(id.as_str())
        {
            return Ok(Some(JobRow(job)));
        }
    }
    Ok(None)
}

fn insert_job(
    batch: &mut Batch<'_>,
    statement: &mut Statement<'_>,
    job: JobRow,
    spec: &JobSpec,
    now: WallMs,
) -> Worked<()> {
    let lane = batch.lanes.intern(batch.conn, &spec.kind, &spec.key)?;
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
    let lane = batch.lanes.intern(batch.conn, &spec.kind, &spec.key)?;
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
