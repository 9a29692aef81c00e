//! The counts that `stats` reads: kept up by every transaction, added up in memory first.
//!
//! Leased jobs count as queued, so a lease costs no write here; reading subtracts the lease table, which is small.
//!
//! In the same rows, how many attempts were made under a kind, host or resolver, and how long they took: never reduced, and kept when
//! the jobs are gone.

use foldhash::HashMap;

use rusqlite::{Connection, OptionalExtension};

use super::fault::Worked;
use super::lanes::Lanes;
use super::sql;
use crate::job::{Key, LaneId, LimitKey, Reason, State};
use crate::queue::store::{Counts, Dimension, Pace};

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

/// What was added to one row.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Delta {
    /// Jobs queued, done, skipped and in error.
    jobs: [i64; 4],
    attempts: i64,
    elapsed_ms: i64,
}

impl Delta {
    fn add(&mut self, other: Delta) {
        self.jobs.iter_mut().zip(other.jobs).for_each(|(sum, n)| *sum += n);
        self.attempts += other.attempts;
        self.elapsed_ms = self.elapsed_ms.saturating_add(other.elapsed_ms);
    }
}

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
        self.lanes.entry(lane).or_default().jobs[slot(State::Queued)] += n;
    }

    /// `n` more jobs (or fewer) of that lane have ended so.
    pub(super) fn finished(&mut self, lane: LaneId, state: State, reason: Option<Reason>, n: i64) {
        self.lanes.entry(lane).or_default().jobs[slot(state)] += n;
        if let Some(reason) = reason {
            self.reasons.entry(reason).or_default().jobs[slot(state)] += n;
        }
    }

    /// An attempt at a job of that lane was settled.
    pub(super) fn attempted(&mut self, lane: LaneId, elapsed_ms: i64) {
        let attempt = Delta { attempts: 1, elapsed_ms, ..Delta::default() };
        self.lanes.entry(lane).or_default().add(attempt);
    }

    /// Writes it all: one row for each value that changed.
    pub(super) fn flush(self, conn: &Connection, lanes: &mut Lanes) -> Worked<()> {
        let mut sums: HashMap<(i64, Box<str>), Delta> = HashMap::default();
        let mut add = |dimension: i64, name: &str, delta: Delta| {
            sums.entry((dimension, name.into())).or_default().add(delta);
        };
        for (id, delta) in self.lanes {
            let lane = lanes.by_id(conn, id)?;
            // Nobody asks for the pace of all: a retry changes nothing there.
            add(ALL, "", Delta { jobs: delta.jobs, ..Delta::default() });
            for by in [Dimension::Kind, Dimension::Host, Dimension::Resolver] {
                add(code(by), part(by, lane.kind.as_str(), &lane.key), delta);
            }
        }
        for (reason, delta) in self.reasons {
            add(code(Dimension::Reason), reason.name(), delta);
        }
        let mut upsert = conn.prepare_cached(sql::ADD_TALLY)?;
        for ((dimension, name), delta) in sums {
            let Delta { jobs, attempts, elapsed_ms } = delta;
            let [queued, done, skipped, error] = jobs;
            if delta != Delta::default() {
                let row = (dimension, &*name, queued, done, skipped, error, attempts, elapsed_ms);
                upsert.execute(row)?;
            }
            if jobs.iter().sum::<i64>() < 0 {
                conn.prepare_cached(sql::DROP_EMPTY_TALLY)?.execute((dimension, &*name))?;
            }
        }
        Ok(())
    }
}

/// What a key is called in the table.
fn name(key: &LimitKey) -> (i64, &str) {
    match key {
        LimitKey::Host(name) => (code(Dimension::Host), name),
        LimitKey::Resolver(name) => (code(Dimension::Resolver), name),
    }
}

/// How attempts under a key have gone.
pub(super) fn pace_of(conn: &Connection, key: &LimitKey) -> Worked<Pace> {
    let pace = conn
        .prepare_cached(sql::PACE)?
        .query_row(name(key), |row| Ok(Pace { attempts: row.get(0)?, elapsed_ms: row.get(1)? }))
        .optional()?;
    Ok(pace.unwrap_or_default())
}

/// The jobs queued under a key, leased ones among them.
pub(super) fn queued_under(conn: &Connection, key: &LimitKey) -> Worked<u64> {
    let queued = conn
        .prepare_cached(sql::QUEUED_UNDER)?
        .query_row(name(key), |row| row.get(0))
        .optional()?;
    Ok(queued.unwrap_or_default())
}

/// The counts of one dimension that some job is in, leased jobs still among the queued. Only of dimensions with few names.
pub(super) fn read(conn: &Connection, dimension: i64) -> Worked<Vec<(String, Counts)>> {
    let mut all = page(conn, dimension, "", usize::MAX)?;
    all.retain(|(_, counts)| counts.total() > 0);
    Ok(all)
}

/// The counts of one dimension from a name on, so many at most, leased jobs still among the queued; also those that no job is in.
pub(super) fn page(
    conn: &Connection,
    dimension: i64,
    from: &str,
    most: usize,
) -> Worked<Vec<(String, Counts)>> {
    let mut statement = conn.prepare_cached(sql::TALLIES)?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = statement.query_map((dimension, from, most), |row| {
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
