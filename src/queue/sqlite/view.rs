//! What can be read: pages of jobs, one job's story, counts, and which lanes have work.
//!
//! Every call reads a stretch that is bounded in rows, bytes and time (no read transaction over 250 ms): a page over a filter that
//! matches little, or of jobs that are large, ends early, and says where to go on.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::SqliteStore;
use super::fault::Worked;
use super::lanes::Lanes;
use super::sql;
use super::stint::{ASK_EVERY, Stint};
use super::{row, tally};
use crate::job::{JobRow, Kind, Lane, LaneId, Priority, Reason, State, WallMs};
use crate::queue::store::{
    AttemptView, Counts, Dimension, Filter, JobView, LaneCursor, Owner, Page, ReadyLane, Remaining,
    StoreError,
};

/// One walk looks at so many jobs at most.
pub(super) const MAX_WALKED: usize = 20_000;

/// A page is over with the job that brings its payloads and details to so many bytes.
pub(super) const MAX_PAGE_BYTES: usize = 8 << 20;

/// What a walk knows of a job: enough to choose, without its payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walked {
    pub(super) job: JobRow,
    pub(super) state: State,
    pub(super) reason: Option<Reason>,
    pub(super) lane: LaneId,
    pub(super) attempts_total: u32,
    pub(super) changed_at_ms: i64,
    pub(super) epoch: i64,
}

/// Which jobs a walk passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Walk {
    /// Every one.
    All,
    /// The leased ones.
    Leased,
    /// Those that something came of; the finished ones are among them.
    Begun,
    /// The skipped ones, or those in error.
    Failed(State),
}

impl Walk {
    /// The shortest walk that passes all jobs in that state.
    fn past(state: Option<State>) -> Walk {
        match state {
            None | Some(State::Queued) => Walk::All,
            Some(State::InProgress) => Walk::Leased,
            Some(State::Done) => Walk::Begun,
            Some(state @ (State::Skipped | State::Error)) => Walk::Failed(state),
        }
    }
}

/// Visits the next jobs of a walk after a row, by row, until `visit` breaks off, [`MAX_WALKED`] are passed, or the stint is over. Returns
/// where to go on: `None` when no job is left.
pub(super) fn walk(
    conn: &Connection,
    walk: Walk,
    after: JobRow,
    stint: Stint,
    mut visit: impl FnMut(Walked) -> ControlFlow<()>,
) -> Worked<Option<JobRow>> {
    let mut statement = conn.prepare_cached(match walk {
        Walk::All => sql::WALK_ALL,
        Walk::Leased => sql::WALK_LEASED,
        Walk::Begun => sql::WALK_BEGUN,
        Walk::Failed(_) => sql::WALK_FAILED,
    })?;
    let mut rows = match walk {
        Walk::Failed(state) => statement.query((after.0, MAX_WALKED, state.code()))?,
        _ => statement.query((after.0, MAX_WALKED))?,
    };
    let (mut last, mut passed) = (after, 0_usize);
    while let Some(row) = rows.next()? {
        let walked = walked(row)?;
        (last, passed) = (walked.job, passed + 1);
        let is_over = passed.is_multiple_of(ASK_EVERY) && stint.is_over();
        if visit(walked).is_break() || is_over {
            return Ok(Some(last));
        }
    }
    Ok((passed == MAX_WALKED).then_some(last))
}

fn walked(row: &Row<'_>) -> Worked<Walked> {
    let kept = row::state(row.get(1)?)?;
    Ok(Walked {
        job: JobRow(row.get(0)?),
        state: if row.get(2)? { State::InProgress } else { kept },
        reason: row::reason(row.get(3)?)?,
        lane: LaneId(row.get(4)?),
        attempts_total: row.get(5)?,
        changed_at_ms: row.get(6)?,
        epoch: row.get(7)?,
    })
}

/// The lanes under a host, or `None` for no matter which.
pub(super) fn lanes_of(conn: &Connection, host: Option<&str>) -> Worked<Option<HashSet<LaneId>>> {
    let Some(host) = host else { return Ok(None) };
    let mut statement = conn.prepare_cached(sql::LANES_OF_HOST)?;
    let ids = statement.query_map([host], |row| row.get(0).map(LaneId))?;
    Ok(Some(ids.collect::<Result<_, _>>()?))
}

/// See [`crate::queue::store::Store::list`].
pub(super) fn list(
    conn: &Connection,
    lanes: &mut Lanes,
    filter: &Filter,
    after: Option<JobRow>,
    limit: usize,
) -> Worked<Page> {
    let hosts = lanes_of(conn, filter.host.as_deref())?;
    let matches = |job: &Walked| {
        filter.state.is_none_or(|state| job.state == state)
            && (filter.reason.is_none() || filter.reason == job.reason)
            && hosts.as_ref().is_none_or(|lanes| lanes.contains(&job.lane))
    };
    let mut found = Vec::new();
    let mut is_full = false;
    let start = after.unwrap_or(JobRow(0));
    let mut go_on = walk(conn, Walk::past(filter.state), start, Stint::begin(), |job| {
        if matches(&job) {
            // One beyond the page tells that there is a next one.
            is_full = found.len() == limit;
            if is_full {
                return ControlFlow::Break(());
            }
            found.push(job.job);
        }
        ControlFlow::Continue(())
    })?;
    let (jobs, is_cut) = views(conn, lanes, &found, Stint::begin())?;
    if is_full || is_cut {
        go_on = jobs.last().map(|job| job.row);
    }
    Ok(Page { jobs, next: go_on })
}

/// Those jobs, the first at least; and whether the page was full, or the stint over, before the last.
fn views(
    conn: &Connection,
    lanes: &mut Lanes,
    rows: &[JobRow],
    stint: Stint,
) -> Worked<(Vec<JobView>, bool)> {
    let (mut jobs, mut bytes) = (Vec::with_capacity(rows.len()), 0);
    for (at, row) in rows.iter().enumerate() {
        let is_over = at > 0 && at.is_multiple_of(ASK_EVERY) && stint.is_over();
        if bytes >= MAX_PAGE_BYTES || is_over {
            return Ok((jobs, true));
        }
        if let Some(job) = job_view(conn, lanes, *row)? {
            bytes += job.payload.len() + job.detail.as_ref().map_or(0, String::len);
            jobs.push(job);
        }
    }
    Ok((jobs, false))
}

fn job_view(conn: &Connection, lanes: &mut Lanes, job: JobRow) -> Worked<Option<JobView>> {
    let mut statement = conn.prepare_cached(sql::VIEW)?;
    let mut rows = statement.query([job.0])?;
    rows.next()?.map(|row| row::view(row, conn, lanes)).transpose()
}

/// A job and the lane it is in.
pub(super) fn job_in_lane(
    conn: &Connection,
    lanes: &mut Lanes,
    job: JobRow,
) -> Worked<Option<(JobView, Arc<Lane>)>> {
    let mut statement = conn.prepare_cached(sql::VIEW)?;
    let mut rows = statement.query([job.0])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let lane = lanes.by_id(conn, LaneId(row.get(12)?))?;
    Ok(Some((row::view(row, conn, lanes)?, lane)))
}

/// One job and its story.
pub(super) fn show(
    conn: &Connection,
    lanes: &mut Lanes,
    job: JobRow,
) -> Worked<Option<(JobView, Vec<AttemptView>)>> {
    let Some(view) = job_view(conn, lanes, job)? else { return Ok(None) };
    Ok(Some((view, story(conn, job)?)))
}

/// See [`crate::queue::store::Store::stories`]. A seek for each job: they may lie far apart.
pub(super) fn stories(conn: &Connection, jobs: &[JobRow]) -> Worked<Vec<Vec<AttemptView>>> {
    jobs.iter().map(|job| story(conn, *job)).collect()
}

fn story(conn: &Connection, job: JobRow) -> Worked<Vec<AttemptView>> {
    let mut statement = conn.prepare_cached(sql::ATTEMPTS)?;
    let mut rows = statement.query([job.0])?;
    let mut story = Vec::new();
    while let Some(row) = rows.next()? {
        story.push(row::attempt(row)?);
    }
    Ok(story)
}

/// See [`crate::queue::store::Store::counts`].
pub(super) fn counts(conn: &Connection) -> Worked<Counts> {
    let all = tally::read(conn, tally::ALL)?;
    let mut counts = all.first().map(|(_, counts)| *counts).unwrap_or_default();
    let (leased, _) = leases(conn, 0)?;
    lease_out(&mut counts, leased);
    Ok(counts)
}

fn lease_out(counts: &mut Counts, leased: u64) {
    counts.queued = counts.queued.saturating_sub(leased);
    counts.in_progress += leased;
}

/// How many leases there are, and how many of them are that owner's.
fn leases(conn: &Connection, owner: i64) -> Worked<(u64, u64)> {
    let mut statement = conn.prepare_cached(sql::COUNT_LEASES)?;
    Ok(statement.query_row([owner], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// One page of counts by a dimension, at the most [`MAX_NAMES`] names: see [`crate::queue::store::Store::counts_by`].
pub(super) struct NamedCounts {
    groups: HashMap<String, Counts>,
    /// The last name passed, when there may be more.
    next: Option<String>,
}

/// So many names are read in one transaction.
const MAX_NAMES: usize = 50_000;

impl NamedCounts {
    /// Nothing read yet.
    pub(super) fn begin() -> NamedCounts {
        NamedCounts { groups: HashMap::new(), next: Some(String::new()) }
    }

    /// Reads on. Returns whether all is read: leases are counted in with the last names.
    pub(super) fn go_on(
        &mut self,
        conn: &Connection,
        lanes: &mut Lanes,
        by: Dimension,
        most: usize,
    ) -> Worked<bool> {
        let Some(from) = self.next.take() else { return Ok(true) };
        let page = tally::page(conn, tally::code(by), &from, most)?;
        if page.len() == most {
            // The least name after the last.
            self.next = page.last().map(|(name, _)| format!("{name}\0"));
        }
        self.groups.extend(page.into_iter().filter(|(_, counts)| counts.total() > 0));
        if self.next.is_none() && by != Dimension::Reason {
            self.lease_out(conn, lanes, by)?;
        }
        Ok(self.next.is_none())
    }

    fn lease_out(&mut self, conn: &Connection, lanes: &mut Lanes, by: Dimension) -> Worked<()> {
        let mut statement = conn.prepare_cached(sql::LEASES_BY_LANE)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let lane = lanes.by_id(conn, LaneId(row.get(0)?))?;
            let name = tally::part(by, lane.kind.as_str(), &lane.key);
            if let Some(counts) = self.groups.get_mut(name) {
                lease_out(counts, row.get(1)?);
            }
        }
        Ok(())
    }

    /// All that was read, most jobs first, then by name.
    pub(super) fn sorted(self) -> Vec<(String, Counts)> {
        let named = |(name, counts): (String, Counts)| {
            (if name.is_empty() { "-".to_owned() } else { name }, counts)
        };
        let mut groups: Vec<(String, Counts)> = self.groups.into_iter().map(named).collect();
        groups.sort_by(|(a, m), (b, n)| (Reverse(m.total()), a).cmp(&(Reverse(n.total()), b)));
        groups
    }
}

impl SqliteStore {
    /// See [`crate::queue::store::Store::counts_by`].
    pub(super) fn count_by(&mut self, by: Dimension) -> Result<Vec<(String, Counts)>, StoreError> {
        let mut named = NamedCounts::begin();
        while !self.read(|conn, lanes| named.go_on(conn, lanes, by, MAX_NAMES))? {}
        Ok(named.sorted())
    }
}

/// The next lane with ready jobs after a cursor: a seek or two, however many jobs there are.
pub(super) fn next_ready(
    conn: &Connection,
    lanes: &mut Lanes,
    after: Option<LaneCursor>,
) -> Worked<Option<ReadyLane>> {
    let mut statement = conn.prepare_cached(sql::NEXT_LANE)?;
    let from = after.map_or(Priority::Critical, |(priority, _)| priority);
    for priority in Priority::ALL.into_iter().filter(|priority| *priority >= from) {
        let passed = after.filter(|(at, _)| *at == priority).map_or(i64::MIN, |(_, lane)| lane.0);
        let mut rows = statement.query((priority.level(), passed))?;
        if let Some(row) = rows.next()? {
            let lane = lanes.by_id(conn, LaneId(row.get(0)?))?;
            let head_enqueued_at = Some(WallMs(row.get(1)?));
            return Ok(Some(ReadyLane { priority, lane, head_enqueued_at }));
        }
    }
    Ok(None)
}

/// See [`crate::queue::store::Store::ready_lanes`].
pub(super) fn ready_lanes(
    conn: &Connection,
    lanes: &mut Lanes,
    mut after: Option<LaneCursor>,
    limit: usize,
    kinds: &[Kind],
) -> Worked<Vec<ReadyLane>> {
    let mut found = Vec::new();
    while found.len() < limit {
        let Some(ready) = next_ready(conn, lanes, after)? else { break };
        after = Some((ready.priority, ready.lane.id));
        if kinds.contains(&ready.lane.kind) {
            found.push(ready);
        }
    }
    Ok(found)
}

/// See [`crate::queue::store::Store::remaining`].
pub(super) fn remaining(
    conn: &Connection,
    lanes: &mut Lanes,
    owner: &Owner,
    kinds: &[Kind],
) -> Worked<Remaining> {
    let (leased, leased_here) = leases(conn, owner.row)?;
    let delayed = |class: super::batch::Class| -> Worked<bool> {
        Ok(conn.prepare_cached(sql::NEXT_DUE)?.exists([class.code()])?)
    };
    let (ready, ready_of_other_kinds) = ready_kinds(conn, lanes, kinds)?;
    Ok(Remaining {
        ready,
        ready_of_other_kinds,
        delayed_retry: delayed(super::batch::Class::Retry)?,
        delayed_run_at: delayed(super::batch::Class::RunAt)?,
        leased_here,
        leased_elsewhere: leased - leased_here,
    })
}

/// Whether jobs of these kinds are ready, and whether jobs of others are.
fn ready_kinds(conn: &Connection, lanes: &mut Lanes, kinds: &[Kind]) -> Worked<(bool, bool)> {
    let any: bool = conn.prepare_cached(sql::ANY_READY)?.query_row([], |row| row.get(0))?;
    let unfinished = tally::read(conn, tally::code(Dimension::Kind))?;
    let unfinished = unfinished.iter().filter(|(_, counts)| counts.queued > 0);
    let listed = |name: &str| kinds.iter().any(|kind| kind.as_str() == name);
    // The usual case, decided by a handful of counts: all there is to do is of one side.
    let (mut here, mut elsewhere) = (false, false);
    unfinished
        .for_each(|(name, _)| *(if listed(name) { &mut here } else { &mut elsewhere }) = true);
    if !any || !here || !elsewhere {
        return Ok((any && here, any && elsewhere));
    }
    let (mut ready, mut ready_of_others, mut after) = (false, false, None);
    while !(ready && ready_of_others) {
        let Some(next) = next_ready(conn, lanes, after)? else { break };
        after = Some((next.priority, next.lane.id));
        *(if listed(next.lane.kind.as_str()) { &mut ready } else { &mut ready_of_others }) = true;
    }
    Ok((ready, ready_of_others))
}
