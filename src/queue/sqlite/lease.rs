//! Leasing: the head of a lane, in order, as many as wanted.
//!
//! Costs one row in `lease` and nothing in `job` for each; both tables are changed by range, once for all of a want.

use std::sync::Arc;

use rusqlite::{CachedStatement, Row};

use super::batch::Batch;
use super::fault::{Fault, Worked};
use super::row;
use super::sql;
use crate::job::{Epoch, Event, JobRow, Lane, LeaseToken, Leased, WallMs};
use crate::queue::store::{Owner, Turn, TurnReport, Want};

/// A want that skips suspects looks at so many jobs beyond those it takes, and no further.
const MAX_SUSPECTS_PASSED: usize = 4_096;

/// Serves the wants of a turn, in order, into its report.
pub(super) fn lease(batch: &mut Batch<'_>, turn: &Turn<'_>, report: &mut TurnReport) -> Worked<()> {
    if turn.lease.is_empty() {
        return Ok(());
    }
    // Looked up once: a turn may want of hundreds of lanes.
    let mut statements = Statements {
        head: batch.conn.prepare_cached(sql::HEAD)?,
        lease: batch.conn.prepare_cached(sql::LEASE_UP_TO)?,
        delete: batch.conn.prepare_cached(sql::DELETE_READY_UP_TO)?,
    };
    let mut bytes_left = Some(turn.max_payload_bytes);
    for want in turn.lease {
        let head = match bytes_left {
            Some(_) => read_head(batch, &mut statements, want, &mut bytes_left)?,
            None => Head::default(),
        };
        take(batch, &mut statements, turn.owner, want, &head)?;
        let key = (want.priority.level(), want.lane.0);
        report.dry.push(match head.is_whole {
            Some(is_whole) => is_whole,
            None => batch.number(sql::ANY_IN_LANE, key)? == Some(0),
        });
        report.leased.extend(head.taken);
    }
    Ok(())
}

/// What every want needs.
struct Statements<'c> {
    head: CachedStatement<'c>,
    lease: CachedStatement<'c>,
    delete: CachedStatement<'c>,
}

/// The jobs at the head of a lane that a want takes.
#[derive(Default)]
struct Head {
    taken: Vec<Arc<Leased>>,
    /// Whether suspects were passed over on the way.
    passed: bool,
    /// Whether that is all that the lane has; `None`: nobody looked.
    is_whole: Option<bool>,
}

/// Reads the head of the wanted lane. `bytes_left` becomes `None` with the job that crosses the bound.
fn read_head(
    batch: &mut Batch<'_>,
    statements: &mut Statements<'_>,
    want: &Want,
    bytes_left: &mut Option<usize>,
) -> Worked<Head> {
    let mut head = Head::default();
    if want.count == 0 {
        return Ok(head);
    }
    let lane = batch.lanes.by_id(batch.conn, want.lane)?;
    let passing = if want.max_losses == u32::MAX { 0 } else { MAX_SUSPECTS_PASSED };
    // One more than wanted, to see whether there is one.
    let limit = want.count.saturating_add(passing).saturating_add(1);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statements.head.query((want.priority.level(), want.lane.0, limit))?;
    while head.taken.len() < want.count {
        let Some(row) = rows.next()? else {
            head.is_whole = Some(!head.passed);
            return Ok(head);
        };
        let leased = leased(batch, row, want, &lane)?;
        if leased.losses > want.max_losses {
            head.passed = true;
            continue;
        }
        *bytes_left = bytes_left.and_then(|left| left.checked_sub(leased.payload.len()));
        head.taken.push(leased);
        if bytes_left.is_none() {
            return Ok(head);
        }
    }
    head.is_whole = Some(!head.passed && rows.next()?.is_none());
    Ok(head)
}

fn leased(batch: &Batch<'_>, row: &Row<'_>, want: &Want, lane: &Arc<Lane>) -> Worked<Arc<Leased>> {
    let job: i64 = row.get(0)?;
    let epoch: i64 = row.get(1)?;
    // Nothing has come of it yet: it is queued, and left nothing.
    let left = if epoch == 0 { LeftBehind::default() } else { left_behind(batch, job, epoch)? };
    Ok(Arc::new(Leased {
        token: LeaseToken { job: JobRow(job), epoch: Epoch(epoch).next() },
        artifact_id: row::artifact_id(row::text(row, 4)?.unwrap_or_default())?,
        enqueued_at: WallMs(row.get(7)?),
        lane: Arc::clone(lane),
        priority: want.priority,
        attempt: left.attempts + 1,
        attempts_total: left.attempts_total + 1,
        losses: left.losses,
        max_attempts: row.get(2)?,
        timeout_seconds: row.get(3)?,
        retry: row::retry(row::text(row, 5)?)?,
        payload: row::owned(row, 6)?,
        checkpoint: left.checkpoint,
        previous: left.previous,
    }))
}

/// What earlier attempts of a job left.
#[derive(Default)]
struct LeftBehind {
    attempts: u32,
    attempts_total: u32,
    losses: u32,
    checkpoint: Option<Vec<u8>>,
    previous: Option<String>,
}

fn left_behind(batch: &Batch<'_>, job: i64, epoch: i64) -> Worked<LeftBehind> {
    let mut statement = batch.conn.prepare_cached(sql::LEFT_BEHIND)?;
    let mut rows = statement.query((job, epoch))?;
    let Some(row) = rows.next()? else {
        return Err(Fault::Corrupt(format!("job {job} is ready at an epoch that is not its own")));
    };
    row::state(row.get(0)?)?.next(Event::Lease)?;
    Ok(LeftBehind {
        attempts: row.get(1)?,
        attempts_total: row.get(2)?,
        losses: row.get(3)?,
        checkpoint: row.get(4)?,
        previous: row.get(5)?,
    })
}

/// Moves the jobs from `ready` to `lease`: as one range, unless some in between stay.
fn take(
    batch: &Batch<'_>,
    statements: &mut Statements<'_>,
    owner: &Owner,
    want: &Want,
    head: &Head,
) -> Worked<()> {
    let (priority, lane) = (want.priority.level(), want.lane.0);
    let Some(last) = head.taken.last().map(|leased| leased.token.job) else { return Ok(()) };
    if !head.passed {
        let leased = statements.lease.execute((priority, lane, last.0, owner.row))?;
        let gone = statements.delete.execute((priority, lane, last.0))?;
        let all = leased == head.taken.len() && gone == leased;
        return batch.changed_one(usize::from(all), last);
    }
    for leased in &head.taken {
        let LeaseToken { job, epoch } = leased.token;
        batch.run(sql::LEASE_ONE, (job.0, epoch.0, owner.row, lane))?;
        batch.changed_one(batch.run(sql::DELETE_READY, (priority, lane, job.0))?, job)?;
    }
    Ok(())
}
