//! How many jobs are ready in each lane, for forecasts.
//!
//! Counted a stretch at a time, each in a read transaction of its own: a long one would keep the WAL from being reset. So a lane that is
//! leased from meanwhile is counted as it was when the count came by.

use rusqlite::Connection;

use super::SqliteStore;
use super::fault::Worked;
use super::lanes::Lanes;
use super::stint::Stint;
use super::{sql, view};
use crate::job::JobRow;
use crate::queue::store::{LaneBacklog, LaneCursor, StoreError};

/// One read transaction passes over so many jobs and lanes.
const MAX_STRETCH: usize = 100_000;

/// A count that goes on in the next stretch.
struct Counting {
    found: Vec<LaneBacklog>,
    after: Option<LaneCursor>,
    /// The lane being counted, and the last job that was.
    part: Option<(LaneBacklog, JobRow)>,
    limit: usize,
}

impl SqliteStore {
    /// See [`crate::queue::store::Store::backlog`].
    pub(super) fn count_backlog(
        &mut self,
        after: Option<LaneCursor>,
        limit: usize,
    ) -> Result<Vec<LaneBacklog>, StoreError> {
        let mut counting = Counting { found: Vec::new(), after, part: None, limit };
        while !self.read(|conn, lanes| counting.go_on(conn, lanes, MAX_STRETCH))? {}
        Ok(counting.found)
    }
}

impl Counting {
    /// Counts on over at most `stretch` jobs and lanes. Returns whether it is done.
    fn go_on(&mut self, conn: &Connection, lanes: &mut Lanes, stretch: usize) -> Worked<bool> {
        let (mut left, stint) = (stretch, Stint::begin());
        while left > 0 {
            let Some((mut lane, last)) = self.next(conn, lanes)? else { return Ok(true) };
            let (counted, last) = count(conn, &lane, last, left)?;
            lane.ready += counted as u64;
            if counted == left {
                self.part = Some((lane, last));
                return Ok(false);
            }
            left -= counted.max(1);
            self.after = Some((lane.priority, lane.lane.id));
            self.found.push(lane);
            if stint.is_over() {
                break;
            }
        }
        Ok(false)
    }

    /// The lane to count on, and where; `None` when enough are counted, or all.
    fn next(
        &mut self,
        conn: &Connection,
        lanes: &mut Lanes,
    ) -> Worked<Option<(LaneBacklog, JobRow)>> {
        if let Some(part) = self.part.take() {
            return Ok(Some(part));
        }
        if self.found.len() >= self.limit {
            return Ok(None);
        }
        let next = view::next_ready(conn, lanes, self.after)?;
        let new = |ready: crate::queue::store::ReadyLane| LaneBacklog {
            priority: ready.priority,
            lane: ready.lane,
            ready: 0,
        };
        Ok(next.map(|ready| (new(ready), JobRow(i64::MIN))))
    }
}

/// How many jobs of that lane are ready after a row, at most `most`, and the last of them.
fn count(
    conn: &Connection,
    lane: &LaneBacklog,
    after: JobRow,
    most: usize,
) -> Worked<(usize, JobRow)> {
    let mut statement = conn.prepare_cached(sql::COUNT_AFTER)?;
    let range = (lane.priority.level(), lane.lane.id.0, after.0, most);
    Ok(statement.query_row(range, |row| {
        let last: Option<i64> = row.get(1)?;
        Ok((row.get(0)?, last.map_or(after, JobRow)))
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{JobSpec, Key};
    use crate::queue::sqlite::{Durability, OpenOptions};
    use crate::queue::store::{OnDuplicate, Store};

    #[test]
    fn a_lane_counted_in_many_stretches_is_counted_once() {
        let directory = tempfile::tempdir().unwrap();
        let options = OpenOptions { durability: Durability::Normal, ..OpenOptions::default() };
        let mut store = SqliteStore::open(&directory.path().join("q"), &options).unwrap();
        let spec = |n: usize| {
            let host =
                ["a.example", "b.example", "c.example"][usize::from(n > 0) + usize::from(n > 9)];
            let key = Key::new(None, Some(host)).unwrap();
            JobSpec { key, ..JobSpec::new(&format!("job:{n}"), "noop").unwrap() }
        };
        let specs: Vec<JobSpec> = (0..35).map(spec).collect();
        store.insert(&specs, OnDuplicate::Skip, crate::job::WallMs(0)).unwrap();
        for stretch in 1..40 {
            let mut counting = Counting { found: Vec::new(), after: None, part: None, limit: 9 };
            let mut transactions = 1;
            while !store.read(|conn, lanes| counting.go_on(conn, lanes, stretch)).unwrap() {
                transactions += 1;
                assert!(transactions < 100, "it goes on for ever");
            }
            let ready: Vec<u64> = counting.found.iter().map(|lane| lane.ready).collect();
            assert_eq!(ready, [1, 9, 25], "in stretches of {stretch}");
            assert!(transactions > 35 / stretch.max(1), "{transactions} of {stretch}");
        }
    }
}
