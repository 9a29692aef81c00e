//! One write transaction and what is gathered in it: counts to add up, places to write in order.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension};

use super::fault::{Fault, Worked};
use super::lanes::Lanes;
use super::row;
use super::sql;
use super::tally::Tally;
use super::yields::Yields;
use crate::job::{Epoch, JobRow, LaneId, Priority, Reason, State, WallMs};
use crate::queue::store::ReadyLane;

/// Why a job is delayed: the first column of `delayed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Its own `run_at`.
    RunAt,
    /// A retry or a deferral.
    Retry,
}

impl Class {
    /// Both.
    pub(super) const ALL: [Class; 2] = [Class::RunAt, Class::Retry];

    /// The integer kept. Never renumbered.
    pub(super) fn code(self) -> i64 {
        match self {
            Class::RunAt => 0,
            Class::Retry => 1,
        }
    }
}

/// What a change depends on, read from the job row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past {
    pub(super) job: JobRow,
    pub(super) state: State,
    pub(super) epoch: i64,
    pub(super) attempts: u32,
    pub(super) attempts_total: u32,
    pub(super) losses: u32,
    pub(super) priority: Priority,
    pub(super) lane: LaneId,
    pub(super) at: Option<i64>,
    pub(super) reason: Option<Reason>,
}

/// Where a queued job stands in line, or will when its time has come; in the order of `ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) priority: Priority,
    pub(super) lane: LaneId,
    pub(super) job: JobRow,
    /// The job's, once this transaction is done.
    pub(super) epoch: i64,
}

impl Past {
    /// Where the job stands in its lane, at a new epoch.
    pub(super) fn spot(&self, epoch: Epoch) -> Spot {
        Spot { priority: self.priority, lane: self.lane, job: self.job, epoch: epoch.0 }
    }
}

/// A write transaction at work.
///
/// What it gathers must be written by [`Batch::finish`] before the commit.
pub(super) struct Batch<'a> {
    /// The connection, inside a transaction that holds the write lock.
    pub(super) conn: &'a Connection,
    /// The lanes this handle knows.
    pub(super) lanes: &'a mut Lanes,
    /// The counts.
    pub(super) tally: Tally,
    /// What resolvers yielded.
    pub(super) yields: Yields,
    /// Who knows already, should there be work for others.
    pub(super) known_to: Option<i64>,
    /// Whether others must hear that there is work.
    ring: bool,
    /// Whom else it concerns: what they may start, or must give back, has changed.
    rung: BTreeSet<i64>,
    /// Whether it concerns everybody, the one who knows included.
    ring_all: bool,
    ready: Vec<Spot>,
    delayed: Vec<(Class, i64, Spot)>,
    touched: BTreeSet<(Priority, LaneId)>,
}

impl<'a> Batch<'a> {
    /// Nothing gathered yet.
    pub(super) fn new(conn: &'a Connection, lanes: &'a mut Lanes) -> Batch<'a> {
        Batch {
            conn,
            lanes,
            tally: Tally::default(),
            yields: Yields::default(),
            known_to: None,
            ring: false,
            rung: BTreeSet::new(),
            ring_all: false,
            ready: Vec::new(),
            delayed: Vec::new(),
            touched: BTreeSet::new(),
        }
    }

    /// A queued job is ready. Others will hear of it.
    pub(super) fn make_ready(&mut self, spot: Spot) {
        self.ready.push(spot);
        self.ring = true;
    }

    /// A queued job is ready, or waits until `at` when that is later than `now`. Others will hear of it.
    pub(super) fn place(&mut self, spot: Spot, class: Class, at: Option<WallMs>, now: WallMs) {
        match at {
            Some(at) if at > now => self.delayed.push((class, at.0, spot)),
            _ => self.ready.push(spot),
        }
        self.ring = true;
    }

    /// An owner will hear of what was done.
    pub(super) fn ring(&mut self, owner: i64) {
        self.rung.insert(owner);
    }

    /// Everybody will, but the one who knows.
    pub(super) fn ring_others(&mut self) {
        self.ring = true;
    }

    /// Everybody will.
    pub(super) fn ring_all(&mut self) {
        self.ring_all = true;
    }

    /// Writes the places gathered so far, each table in the order of its key.
    pub(super) fn write_places(&mut self) -> Worked<()> {
        if !self.ready.is_empty() {
            self.ready.sort_unstable();
            let mut insert = self.conn.prepare_cached(sql::INSERT_READY)?;
            for Spot { priority, lane, job, epoch } in self.ready.drain(..) {
                insert.execute((priority.level(), lane.0, job.0, epoch))?;
                if self.touched.last() != Some(&(priority, lane)) {
                    self.touched.insert((priority, lane));
                }
            }
        }
        if !self.delayed.is_empty() {
            self.delayed.sort_unstable_by_key(|(class, at, spot)| (*class, *at, spot.job));
            let mut insert = self.conn.prepare_cached(sql::INSERT_DELAYED)?;
            for (class, at, Spot { priority, lane, job, epoch }) in self.delayed.drain(..) {
                insert.execute((class.code(), at, job.0, epoch, priority.level(), lane.0))?;
            }
        }
        Ok(())
    }

    /// The lanes that jobs were made ready in.
    pub(super) fn touched(&mut self) -> Worked<Vec<ReadyLane>> {
        let mut lanes = Vec::with_capacity(self.touched.len());
        for (priority, id) in &self.touched {
            let lane = self.lanes.by_id(self.conn, *id)?;
            // They are few: only jobs that were put back or delayed become ready in a turn.
            let head = self.number(sql::HEAD_ENQUEUED_AT, (priority.level(), id.0))?;
            let head_enqueued_at = head.map(WallMs);
            lanes.push(ReadyLane { priority: *priority, lane, head_enqueued_at });
        }
        Ok(lanes)
    }

    /// Takes a queued job out of `ready` or `delayed`. The places gathered must have been written.
    pub(super) fn unplace(&mut self, past: &Past) -> Worked<()> {
        let key = (past.priority.level(), past.lane.0, past.job.0);
        let mut gone = self.conn.prepare_cached(sql::DELETE_READY)?.execute(key)?;
        for class in Class::ALL {
            let Some(at) = past.at.filter(|_| gone == 0) else { break };
            let key = (class.code(), at, past.job.0);
            gone = self.conn.prepare_cached(sql::DELETE_DELAYED)?.execute(key)?;
        }
        self.changed_one(gone, past.job)
    }

    /// What is known of a job.
    pub(super) fn past(&self, job: JobRow) -> Worked<Past> {
        let mut statement = self.conn.prepare_cached(sql::PAST)?;
        let mut rows = statement.query([job.0])?;
        let Some(row) = rows.next()? else {
            return Err(Fault::Corrupt(format!("job {} is missing", job.0)));
        };
        Ok(Past {
            job,
            state: row::state(row.get(0)?)?,
            epoch: row.get(1)?,
            attempts: row.get(2)?,
            attempts_total: row.get(3)?,
            losses: row.get(4)?,
            priority: row::priority(row.get(5)?)?,
            lane: LaneId(row.get(6)?),
            at: row.get(7)?,
            reason: row::reason(row.get(8)?)?,
        })
    }

    /// What is known of a job, which has a row of `progress` from now on.
    pub(super) fn begun(&self, job: JobRow) -> Worked<Past> {
        self.run(sql::BEGIN_PROGRESS, [job.0])?;
        self.past(job)
    }

    /// Whether a statement that must change one row did.
    ///
    /// Every update names the state and the epoch its job was read with (invariant 1); inside one write
    /// transaction nothing can have come in between.
    pub(super) fn changed_one(&self, changed: usize, job: JobRow) -> Worked<()> {
        match changed {
            1 => Ok(()),
            _ => Err(Fault::Corrupt(format!("job {} is not where it should be", job.0))),
        }
    }

    /// Writes all that was gathered. Returns the ids of the owners to ring for.
    pub(super) fn finish(mut self) -> Worked<Vec<String>> {
        self.write_places()?;
        self.tally.flush(self.conn, self.lanes)?;
        self.yields.flush(self.conn)?;
        if !self.ring && !self.ring_all && self.rung.is_empty() {
            return Ok(Vec::new());
        }
        let mut statement = self.conn.prepare_cached(sql::OWNERS)?;
        let mut rows = statement.query([])?;
        let mut ids = Vec::new();
        while let Some(row) = rows.next()? {
            let owner = row.get(0)?;
            let is_other = self.ring && self.known_to != Some(owner);
            if is_other || self.ring_all || self.rung.contains(&owner) {
                ids.push(row.get(1)?);
            }
        }
        Ok(ids)
    }

    /// One integer, if there is a row.
    pub(super) fn number(&self, sql: &str, params: impl rusqlite::Params) -> Worked<Option<i64>> {
        let mut statement = self.conn.prepare_cached(sql)?;
        Ok(statement.query_row(params, |row| row.get(0)).optional()?)
    }

    /// Runs a statement.
    pub(super) fn run(&self, sql: &str, params: impl rusqlite::Params) -> Worked<usize> {
        Ok(self.conn.prepare_cached(sql)?.execute(params)?)
    }
}
