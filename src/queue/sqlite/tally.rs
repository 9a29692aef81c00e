//! The counts that `stats` reads: kept up by every transaction, added up in memory first.
//!
//! Leased jobs count as queued, so a lease costs no write here; reading subtracts the lease table, which is small.

use std::collections::HashMap;

use rusqlite::Connection;

use super::fault::Worked;
use super::lanes::Lanes;
use super::sql;
use crate::job::{Key, LaneId, Reason, State};
use crate::queue::store::{Counts, Dimension};

/// All jobs together, in the numbering of [`code`].
pub(super) const ALL: i64 = 0;

/// What a dimension is called in the table. Never renumbered.
pub(super) fn code(by: Dimension) -> i64 {
    match by {
        Dimension::Kind => 1,
        Dimension::Host => 2,
        Dimension::Resolver => 3,
        Dimension::Reason => 4,
    }
}

/// The part of a lane's names that a dimension counts by; empty for none.
pub(super) fn part<'a>(by: Dimension, kind: &'a str, key: &'a Key) -> &'a str {
    match by {
        Dimension::Kind => kind,
        Dimension::Host => key.host.as_deref().unwrap_or_default(),
        Dimension::Resolver => key.resolver.as_deref().unwrap_or_default(),
        Dimension::Reason => "",
    }
}

/// What was added to queued, done, skipped and error.
type Delta = [i64; 4];

fn slot(state: State) -> usize {
    match state {
        State::Queued | State::InProgress => 0,
        State::Done => 1,
        State::Skipped => 2,
        State::Error => 3,
    }
}

/// What a transaction has changed in the counts so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    lanes: HashMap<LaneId, Delta>,
    reasons: HashMap<Reason, Delta>,
}

impl Tally {
    /// `n` more jobs (or fewer) of that lane are queued.
    pub(super) fn queued(&mut self, lane: LaneId, n: i64) {
        self.lanes.entry(lane).or_default()[slot(State::Queued)] += n;
    }

    /// `n` more jobs (or fewer) of that lane have ended so.
    pub(super) fn finished(&mut self, lane: LaneId, state: State, reason: Option<Reason>, n: i64) {
        self.lanes.entry(lane).or_default()[slot(state)] += n;
        if let Some(reason) = reason {
            self.reasons.entry(reason).or_default()[slot(state)] += n;
        }
    }

    /// Writes it all: one row for each value that changed.
    pub(super) fn flush(self, conn: &Connection, lanes: &mut Lanes) -> Worked<()> {
        let mut sums: HashMap<(i64, Box<str>), Delta> = HashMap::new();
        let mut add = |dimension: i64, name: &str, delta: Delta| {
            let sum = sums.entry((dimension, name.into())).or_default();
            sum.iter_mut().zip(delta).for_each(|(sum, n)| *sum += n);
        };
        for (id, delta) in self.lanes {
            let lane = lanes.by_id(conn, id)?;
            add(ALL, "", delta);
            for by in [Dimension::Kind, Dimension::Host, Dimension::Resolver] {
                add(code(by), part(by, lane.kind.as_str(), &lane.key), delta);
            }
        }
        for (reason, delta) in self.reasons {
            add(code(Dimension::Reason), reason.name(), delta);
        }
        let mut upsert = conn.prepare_cached(sql::ADD_TALLY)?;
        for ((dimension, name), delta) in sums {
            let [queued, done, skipped, error] = delta;
            if delta != Delta::default() {
                upsert.execute((dimension, &*name, queued, done, skipped, error))?;
            }
            if delta.iter().sum::<i64>() < 0 {
                conn.prepare_cached(sql::DROP_EMPTY_TALLY)?.execute((dimension, &*name))?;
            }
        }
        Ok(())
    }
}

/// The counts of one dimension, leased jobs still among the queued.
pub(super) fn read(conn: &Connection, dimension: i64) -> Worked<Vec<(String, Counts)>> {
    let mut statement = conn.prepare_cached(sql::TALLIES)?;
    let rows = statement.query_map([dimension], |row| {
        let counts = Counts {
            queued: row.get(1)?,
            in_progress: 0,
            done: row.get(2)?,
            skipped: row.get(3)?,
            error: row.get(4)?,
        };
        Ok((row.get(0)?, counts))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
