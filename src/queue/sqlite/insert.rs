//! Enqueueing: many specs in one transaction, each id once.
//!
//! Ids come in any order, and a table ordered by their hash is larger than memory one day. So a batch is looked up
//! and remembered in the order of the hashes; rows are given out in the order the specs came in.

use std::collections::HashMap;

use rusqlite::Connection;

use super::batch::{Batch, Class, Past};
use super::fault::Worked;
use super::row::{self, IdHash};
use super::sql;
use crate::job::{ArtifactId, Event, JobRow, JobSpec, State, WallMs};
use crate::queue::store::{Inserted, OnDuplicate};

/// See [`crate::queue::store::Store::insert`].
pub(super) fn insert(
    batch: &mut Batch<'_>,
    specs: &[JobSpec],
    on_duplicate: OnDuplicate,
    now: WallMs,
) -> Worked<Vec<Inserted>> {
    let hashes: Vec<IdHash> = specs.iter().map(|spec| IdHash::of(&spec.artifact_id)).collect();
    let mut candidates = candidates(batch, &hashes)?;
    let any_pruned = batch.number(sql::ANY_PRUNED, ())? == Some(1);
    let mut next_row = batch.number(sql::NEXT_JOB, ())?.unwrap_or(1);
    let mut new = Vec::with_capacity(specs.len());
    let mut answers = Vec::with_capacity(specs.len());
    let mut job_insert = batch.conn.prepare_cached(sql::INSERT_JOB)?;
    for (spec, hash) in specs.iter().zip(&hashes) {
        let rows = candidates.get_mut(&hash.seen());
        let answer = match find(batch.conn, &spec.artifact_id, rows.as_deref())? {
            Some(job) => duplicate(batch, job, spec, on_duplicate, now)?,
            None if any_pruned && batch.number(sql::PRUNED, [hash.0])? == Some(1) => {
                Inserted::Pruned
            }
            None => {
                let job = JobRow(next_row);
                next_row += 1;
                insert_job(batch, &mut job_insert, job, spec, now)?;
                new.push((hash.seen(), job));
                rows.into_iter().for_each(|rows| rows.push(job));
                Inserted::New
            }
        };
        answers.push(answer);
    }
    if !new.is_empty() {
        batch.run(sql::SET_NEXT_JOB, [next_row])?;
        remember(batch, new)?;
    }
    Ok(answers)
}

/// The row with that id, or `None`.
pub(super) fn lookup(conn: &Connection, id: &ArtifactId) -> Worked<Option<JobRow>> {
    let rows = rows_of(conn, IdHash::of(id).seen())?;
    find(conn, id, Some(&rows))
}

/// For each hash that some row has, or several specs: the rows that have it. Hashes that are new and met once, the
/// usual ones, are left out.
fn candidates(batch: &Batch<'_>, hashes: &[IdHash]) -> Worked<HashMap<i64, Vec<JobRow>>> {
    let mut sorted: Vec<i64> = hashes.iter().map(|hash| hash.seen()).collect();
    sorted.sort_unstable();
    let mut found = HashMap::new();
    let mut seen = batch.conn.prepare_cached(sql::SEEN)?;
    for group in sorted.chunk_by(|a, b| a == b) {
        let rows = seen.query_map([group[0]], |row| row.get(0).map(JobRow))?;
        let rows = rows.collect::<Result<Vec<JobRow>, _>>()?;
        if !rows.is_empty() || group.len() > 1 {
            found.insert(group[0], rows);
        }
    }
    Ok(found)
}

fn rows_of(conn: &Connection, hash: i64) -> Worked<Vec<JobRow>> {
    let mut seen = conn.prepare_cached(sql::SEEN)?;
    let rows = seen.query_map([hash], |row| row.get(0).map(JobRow))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The one of `rows` whose id this is, letter for letter.
fn find(conn: &Connection, id: &ArtifactId, rows: Option<&Vec<JobRow>>) -> Worked<Option<JobRow>> {
    for job in rows.into_iter().flatten() {
        let mut statement = conn.prepare_cached(sql::ARTIFACT_ID)?;
        let mut answer = statement.query([job.0])?;
        if let Some(row) = answer.next()?
            && row::text(row, 0)? == Some(id.as_str())
        {
            return Ok(Some(*job));
        }
    }
    Ok(None)
}

/// Writes which rows have the new ids.
fn remember(batch: &Batch<'_>, mut new: Vec<(i64, JobRow)>) -> Worked<()> {
    new.sort_unstable();
    let mut insert = batch.conn.prepare_cached(sql::INSERT_SEEN)?;
    for (hash, job) in new {
        insert.execute((hash, job.0))?;
    }
    Ok(())
}

fn insert_job(
    batch: &mut Batch<'_>,
    statement: &mut rusqlite::Statement<'_>,
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
    batch.place((spec.priority, lane.id, job), Class::RunAt, spec.run_at, now);
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
    let changed = batch.run(
        sql::REPLACE_JOB,
        (
            past.job.0,
            past.epoch,
            now.0,
            spec.run_at.filter(|at| *at > now).map(|at| at.0),
            spec.priority.level(),
            lane.id.0,
            spec.max_attempts,
            spec.timeout_seconds,
            spec.retry.as_ref().map(row::retry_column),
            row::tags_column(&spec.tags)?,
            &spec.payload,
            past.state.code(),
        ),
    )?;
    batch.changed_one(changed, past.job)?;
    batch.run(sql::DELETE_CHECKPOINT, [past.job.0])?;
    batch.place((spec.priority, lane.id, past.job), Class::RunAt, spec.run_at, now);
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
