//! Which row has an id: a hash table in three tables, each some sixteen times smaller than the next while the queue is large.
//!
//! ```text
//!   a batch of hashes, sorted ──claim──> seen_newest ──all, when it is full──> seen_lately ──a slice of neighbours at a time──> seen
//! ```
//!
//! A batch of b hashes in no order touches about b pages of a large table, each rewritten for one entry: at five million
//! jobs that is seven times what the jobs themselves take. The smallest table has some sixty pages, so however short the transactions are
//! that a batch is written in, they rewrite no more; what leaves it falls on a thousand pages at most, once for all; and what must leave
//! those to make room is one slice of the hashes, whose neighbours lie together in the largest.
//!
//! A hash in use names one row, in one of the tables. Should two ids have the same 48 bits, the later one's row is in
//! `seen_too`: nothing depends on hashes being unique, only the speed.

use rusqlite::Connection;

use super::batch::Batch;
use super::fault::{Fault, Worked};
use super::row::{self, IdHash};
use super::sql;
use crate::job::{ArtifactId, JobRow};

/// No more hashes than these stay in the smallest table, some 250 kilobytes.
pub(super) const MAX_NEWEST: i64 = 1 << 14;

/// No more than these stay in the next, some four megabytes.
pub(super) const MAX_LATELY: i64 = 1 << 18;

/// Into so many slices the hashes are cut.
const SLICES: i64 = 32;

/// Hashes per slice.
const SLICE: i64 = (1 << 48) / SLICES;

const NEWEST: &str = "seen_newest";
const LATELY: &str = "seen_lately";
const NEXT_SLICE: &str = "next_slice";

/// Gives each hash of `order` that no row has to a row; of two that are alike, to the first. `order` are places in `hashes`, by hash
/// and then place. The first of `hashes` gets `first_row`, each further one the next. Returns which got theirs.
pub(super) fn claim(
    batch: &Batch<'_>,
    hashes: &[IdHash],
    order: &[usize],
    first_row: i64,
) -> Worked<Vec<bool>> {
    let any_seen = batch.number(sql::ANY_SEEN, ())? == Some(1);
    let mut is_seen = batch.conn.prepare_cached(sql::IS_SEEN)?;
    let mut claim = batch.conn.prepare_cached(sql::CLAIM)?;
    let mut claimed = vec![false; hashes.len()];
    let mut new = 0;
    for at in order.iter().copied() {
        let hash = hashes[at].seen();
        if any_seen && is_seen.query_row([hash], |row| row.get(0))? {
            continue;
        }
        let offset = i64::try_from(at).unwrap_or(i64::MAX);
        claimed[at] = claim.execute((hash, first_row + offset))? == 1;
        new += i64::from(claimed[at]);
    }
    if new > 0 {
        make_room(batch, new)?;
    }
    Ok(claimed)
}

/// Counts `new` hashes in, and moves on what is too much for its table.
fn make_room(batch: &Batch<'_>, new: i64) -> Worked<()> {
    let newest = counter(batch, NEWEST)? + new;
    if newest <= MAX_NEWEST {
        return set_counter(batch, NEWEST, newest);
    }
    let moved = batch.run(sql::COPY_NEWEST, ())?;
    batch.run(sql::DELETE_NEWEST, ())?;
    set_counter(batch, NEWEST, 0)?;
    let lately = counter(batch, LATELY)? + i64::try_from(moved).unwrap_or(0);
    set_counter(batch, LATELY, move_slices(batch, lately)?)
}

/// Moves slices on until no more than [`MAX_LATELY`] hashes of `lately` are left. Returns how many are.
fn move_slices(batch: &Batch<'_>, mut lately: i64) -> Worked<i64> {
    if lately <= MAX_LATELY {
        return Ok(lately);
    }
    let mut slice = counter(batch, NEXT_SLICE)?;
    // Once round moves all there are.
    for _ in 0..SLICES {
        let bounds = (slice * SLICE, (slice + 1) * SLICE - 1);
        batch.run(sql::COPY_SLICE, bounds)?;
        let moved = batch.run(sql::DELETE_SLICE, bounds)?;
        lately -= i64::try_from(moved).unwrap_or(0);
        slice = (slice + 1) % SLICES;
        if lately <= MAX_LATELY {
            break;
        }
    }
    set_counter(batch, NEXT_SLICE, slice)?;
    Ok(lately)
}

/// Gives a row a hash that another has already.
pub(super) fn claim_too(batch: &Batch<'_>, hash: IdHash, job: JobRow) -> Worked<()> {
    batch.run(sql::CLAIM_TOO, (hash.seen(), job.0)).map(|_| ())
}

/// The row with that id, letter for letter.
pub(super) fn find(conn: &Connection, id: &ArtifactId, hash: IdHash) -> Worked<Option<JobRow>> {
    let mut seen = conn.prepare_cached(sql::SEEN)?;
    let mut candidates = seen.query([hash.seen()])?;
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

/// Takes their hashes away from rows. `gone` is in the order of the hashes: neighbours lie on the same pages.
pub(super) fn forget(batch: &Batch<'_>, gone: &[(IdHash, JobRow)]) -> Worked<()> {
    let mut seen = batch.conn.prepare_cached(sql::DELETE_SEEN)?;
    let mut lately = batch.conn.prepare_cached(sql::DELETE_SEEN_LATELY)?;
    let mut newest = batch.conn.prepare_cached(sql::DELETE_SEEN_NEWEST)?;
    let (mut from_lately, mut from_newest) = (0, 0);
    for (hash, job) in gone {
        let key = (hash.seen(), job.0);
        if seen.execute(key)? == 1 {
            continue;
        }
        if lately.execute(key)? == 1 {
            from_lately += 1;
        } else if newest.execute(key)? == 1 {
            from_newest += 1;
        } else {
            batch.changed_one(batch.run(sql::DELETE_SEEN_TOO, key)?, *job)?;
        }
    }
    for (name, fewer) in [(LATELY, from_lately), (NEWEST, from_newest)] {
        if fewer > 0 {
            set_counter(batch, name, counter(batch, name)? - fewer)?;
        }
    }
    Ok(())
}

/// A count of the store's own.
pub(super) fn counter(batch: &Batch<'_>, name: &str) -> Worked<i64> {
    let value = batch.number(sql::COUNTER, [name])?;
    value.ok_or_else(|| Fault::Corrupt(format!("the counter {name} is missing")))
}

/// Sets it.
pub(super) fn set_counter(batch: &Batch<'_>, name: &str, value: i64) -> Worked<()> {
    batch.run(sql::SET_COUNTER, (name, value)).map(|_| ())
}
