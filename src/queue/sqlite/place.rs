//! Where a job stands in line: how many ready jobs go before it under its host and resolver.
//!
//! Lanes are found by index, and jobs counted along `ready`, each lane and priority from its head. Must never walk over jobs of other
//! keys, nor over more than it was told: beyond that it estimates.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension};

use super::fault::Worked;
use super::lanes::Lanes;
use super::stint::Stint;
use super::{sql, tally, view};
use crate::job::{JobRow, Key, Lane, LaneId, Priority, State};
use crate::queue::store::{Counted, Place};

/// A place is counted by looking into so many lanes at most: each costs a seek for each priority.
const MAX_LANES_LOOKED_INTO: usize = 4_096;

/// See [`crate::queue::store::Store::place`].
pub(super) fn place(
    conn: &Connection,
    lanes: &mut Lanes,
    row: JobRow,
    most: usize,
) -> Worked<Option<Place>> {
    let Some((job, lane)) = view::job_in_lane(conn, lanes, row)? else { return Ok(None) };
    let leased_by = leased_by(conn, row)?;
    let spot = Spot { priority: job.priority, lane: lane.id, row };
    let is_ready = job.state == State::Queued && spot.is_ready(conn)?;
    let ahead = match is_ready {
        true => ahead(conn, spot, &lane, most)?,
        false => Counted { count: 0, is_exact: true },
    };
    Ok(Some(Place { job, lane, leased_by, ahead }))
}

/// Who holds the lease of a job. Its process id is not kept with the lease.
fn leased_by(conn: &Connection, row: JobRow) -> Worked<Option<(Box<str>, Option<u32>)>> {
    let mut statement = conn.prepare_cached(sql::LEASED_BY)?;
    let owner = statement
        .query_row([row.0], |row| Ok((row.get::<_, String>(0)?.into_boxed_str(), row.get(1)?)));
    Ok(owner.optional()?)
}

/// Where a ready job is in `ready`.
#[derive(Debug, Clone, Copy)]
struct Spot {
    priority: Priority,
    lane: LaneId,
    row: JobRow,
}

impl Spot {
    fn is_ready(self, conn: &Connection) -> Worked<bool> {
        let key = (self.priority.level(), self.lane.0, self.row.0);
        Ok(conn.prepare_cached(sql::IS_READY)?.query_row(key, |row| row.get(0))?)
    }

    /// How far down its lane it is: 0 at the head, 1 at the end.
    fn depth(self, conn: &Connection) -> Worked<f64> {
        let (first, last): (i64, i64) = conn
            .prepare_cached(sql::ENDS_OF_LANE)?
            .query_row((self.priority.level(), self.lane.0), |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let before = self.row.0.saturating_sub(first).max(0);
        let all = last.saturating_sub(first).max(1);
        Ok(before as f64 / all as f64)
    }
}

fn ahead(conn: &Connection, spot: Spot, lane: &Lane, most: usize) -> Worked<Counted> {
    if let Some(lanes) = lanes_beside(conn, lane)?
        && let Some(count) = count(conn, spot, &lanes, most)?
    {
        return Ok(Counted { count, is_exact: true });
    }
    // As deep among all that is queued there as it is in its own lane: rows are taken in the order jobs came in.
    let queued = queued_beside(conn, &lane.key)?;
    let estimate = (queued as f64 * spot.depth(conn)?) as u64;
    let least = u64::try_from(most).unwrap_or(u64::MAX);
    Ok(Counted { count: estimate.max(least), is_exact: false })
}

/// The lane and those that share its host or resolver; `None` when they are too many to look into.
fn lanes_beside(conn: &Connection, lane: &Lane) -> Worked<Option<BTreeSet<LaneId>>> {
    let mut found = BTreeSet::from([lane.id]);
    let parts = [
        (sql::SOME_LANES_OF_HOST, lane.key.host.as_deref()),
        (sql::SOME_LANES_OF_RESOLVER, lane.key.resolver.as_deref()),
    ];
    for (statement, name) in parts {
        let Some(name) = name else { continue };
        let mut statement = conn.prepare_cached(statement)?;
        let mut rows = statement.query((name, MAX_LANES_LOOKED_INTO + 1))?;
        while let Some(row) = rows.next()? {
            found.insert(LaneId(row.get(0)?));
        }
    }
    Ok(Some(found).filter(|lanes| lanes.len() <= MAX_LANES_LOOKED_INTO))
}

/// The ready jobs before that spot in these lanes; `None` when there are more than `most`, or it takes too long.
fn count(
    conn: &Connection,
    spot: Spot,
    lanes: &BTreeSet<LaneId>,
    most: usize,
) -> Worked<Option<u64>> {
    let mut statement = conn.prepare_cached(sql::COUNT_BEFORE)?;
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    let (mut count, stint) = (0, Stint::begin());
    // In the order of the table.
    for priority in Priority::ALL.into_iter().filter(|priority| *priority <= spot.priority) {
        let before = if priority == spot.priority { spot.row.0 } else { i64::MAX };
        for lane in lanes {
            // One beyond the bound tells that there are more.
            let limit = i64::try_from(most - count).unwrap_or(i64::MAX).saturating_add(1);
            let range = (priority.level(), lane.0, before, limit);
            count += statement.query_row(range, |row| row.get::<_, u64>(0))?;
            if count > most || stint.is_over() {
                return Ok(None);
            }
        }
    }
    Ok(Some(count))
}

/// The jobs queued under a key: those of its host or those of its resolver, whichever are more.
fn queued_beside(conn: &Connection, key: &Key) -> Worked<u64> {
    let mut most = 0;
    for part in key.limits() {
        most = most.max(tally::queued_under(conn, &part)?);
    }
    if key.is_free() {
        let all = tally::read(conn, tally::ALL)?;
        most = all.first().map_or(0, |(_, counts)| counts.queued);
    }
    Ok(most)
}
