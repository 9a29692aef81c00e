//! Settling: an attempt's end is written if, and only if, its lease is still in force.
//!
//! ```text
//!   the lease row of (job, epoch, owner) --none--> LeaseLost, nothing written
//!                      | deleted
//!   the progress row of (job, state 0, epoch - 1) is updated; made, when there was none yet
//! ```

use rusqlite::Statement;

use super::batch::{Batch, Class, Spot};
use super::fault::Worked;
use super::held;
use super::row;
use super::sql;
use crate::job::{
    Change, Epoch, FinalState, JobRow, LaneId, LeaseToken, MAX_CHECKPOINT_BYTES, Note, Reason,
    State, WallMs,
};
use crate::queue::store::{MAX_ATTEMPTS_TOLD, Owner, Settled, Settlement, StoreError};

/// The epoch of the first lease of a job that nothing has come of.
const FIRST: Epoch = Epoch(1);

/// Whether all checkpoints are small enough: asked before the transaction.
pub(super) fn check_checkpoints(settlements: &[Settlement]) -> Result<(), StoreError> {
    let too_large = settlements.iter().find_map(|settlement| match &settlement.change {
        Change::Finish { checkpoint: Some(data), .. }
        | Change::Again { checkpoint: Some(data), .. }
        | Change::Defer { checkpoint: Some(data), .. } => {
            Some(data.len()).filter(|bytes| *bytes > MAX_CHECKPOINT_BYTES)
        }
        _ => None,
    });
    too_large.map_or(Ok(()), |bytes| Err(StoreError::CheckpointTooLarge(bytes)))
}

/// Settles all, each on its own: one answer each, in order.
pub(super) fn settle(
    batch: &mut Batch<'_>,
    owner: &Owner,
    now: WallMs,
    settlements: &[Settlement],
) -> Worked<Vec<Settled>> {
    let lanes = held::release(batch, owner, settlements)?;
    let mut first = batch.conn.prepare_cached(sql::FINISH_FIRST)?;
    let mut answers = Vec::with_capacity(settlements.len());
    for (settlement, lane) in settlements.iter().zip(lanes) {
        let Some(lane) = lane else {
            answers.push(Settled::LeaseLost);
            continue;
        };
        let state = State::InProgress.next(settlement.change.event())?;
        apply(batch, &mut first, settlement, lane, now)?;
        batch.yields.add(settlement.change.observed());
        if settlement.change != Change::HandBack {
            batch.tally.attempted(lane, row::ms_column(settlement.elapsed_ms));
        }
        answers.push(Settled::Accepted(state));
    }
    Ok(answers)
}

fn apply(
    batch: &mut Batch<'_>,
    first: &mut Statement<'_>,
    settlement: &Settlement,
    lane: LaneId,
    now: WallMs,
) -> Worked<()> {
    match &settlement.change {
        Change::Finish { state, reason, note, checkpoint } => {
            let checkpoint = checkpoint.as_deref();
            let end = End { state: *state, reason: *reason, note, checkpoint };
            finish(batch, first, settlement, lane, end, now)
        }
        Change::Again { not_before, reason, note, checkpoint } => {
            let again = Again {
                not_before: *not_before,
                reason: Reason::Error(*reason),
                note,
                checkpoint: checkpoint.as_deref(),
            };
            put_back(batch, settlement, again, now)
        }
        Change::Defer { key, not_before, checkpoint } => {
            let LeaseToken { job, epoch } = settlement.token;
            let past = batch.begun(job)?;
            let from = batch.lanes.by_id(batch.conn, past.lane)?;
            let to = batch.lanes.intern(batch.conn, &from.kind, key, from.tag.as_deref())?.id;
            let at = not_before.filter(|at| *at > now);
            let row = (job.0, epoch.0, now.0, to.0, at.map(|at| at.0));
            batch.changed_one(batch.run(sql::DEFER, row)?, job)?;
            batch.tally.queued(past.lane, -1);
            batch.tally.queued(to, 1);
            set_checkpoint(batch, job, checkpoint.as_deref())?;
            tell(batch, settlement, "deferred", None, &format!("waits for {key}"))?;
            batch.place(Spot { lane: to, ..past.spot(epoch) }, Class::Retry, at, now);
            Ok(())
        }
        Change::HandBack => {
            let LeaseToken { job, epoch } = settlement.token;
            let past = batch.begun(job)?;
            batch.changed_one(batch.run(sql::HAND_BACK, (job.0, epoch.0))?, job)?;
            batch.make_ready(past.spot(epoch));
            Ok(())
        }
    }
}

/// How a job ended.
struct End<'s> {
    state: FinalState,
    reason: Reason,
    note: &'s Note,
    checkpoint: Option<&'s [u8]>,
}

fn finish(
    batch: &mut Batch<'_>,
    first: &mut Statement<'_>,
    settlement: &Settlement,
    lane: LaneId,
    end: End<'_>,
    now: WallMs,
) -> Worked<()> {
    let LeaseToken { job, epoch } = settlement.token;
    let state = end.state.state();
    let elapsed_ms = row::ms_column(settlement.elapsed_ms);
    // The first lease of a job that nobody changed: it has no progress, checkpoint or particulars yet.
    let past = if epoch == FIRST { None } else { Some(batch.past(job)?) };
    if past.is_none() {
        let values = (job.0, state.code(), end.reason.code(), now.0, elapsed_ms, lane.0);
        batch.changed_one(first.execute(values)?, job)?;
    } else {
        let values = (job.0, epoch.0, state.code(), end.reason.code(), now.0, elapsed_ms);
        batch.changed_one(batch.run(sql::FINISH, values)?, job)?;
    }
    batch.tally.queued(lane, -1);
    batch.tally.finished(lane, state, Some(end.reason), 1);
    let is_first = past.is_none_or(|past| past.attempts_total == 0 && past.losses == 0);
    if end.state != FinalState::Done || !is_first {
        tell(batch, settlement, state.name(), Some(end.reason), &end.note.message)?;
    }
    let silent = end.note.message.is_empty() && end.note.detail.is_none();
    let particulars = (job.0, &end.note.message, end.note.detail.as_deref());
    match (past.is_none(), end.state, silent) {
        (true, _, true) => {}
        (true, _, false) => _ = batch.run(sql::INSERT_RESULT, particulars)?,
        (false, FinalState::Done, true) => _ = batch.run(sql::DELETE_RESULT, [job.0])?,
        (false, FinalState::Done, false) => _ = batch.run(sql::REPLACE_RESULT, particulars)?,
        (false, _, _) => set_result(batch, job, end.note)?,
    }
    if end.state == FinalState::Error {
        set_checkpoint(batch, job, end.checkpoint)?;
    } else if past.is_some() {
        batch.run(sql::DELETE_CHECKPOINT, [job.0])?;
    }
    Ok(())
}

/// An attempt that failed and is to be made again.
struct Again<'s> {
    not_before: WallMs,
    reason: Reason,
    note: &'s Note,
    checkpoint: Option<&'s [u8]>,
}

fn put_back(
    batch: &mut Batch<'_>,
    settlement: &Settlement,
    again: Again<'_>,
    now: WallMs,
) -> Worked<()> {
    let LeaseToken { job, epoch } = settlement.token;
    let past = batch.begun(job)?;
    let at = Some(again.not_before).filter(|at| *at > now);
    let values = (
        job.0,
        epoch.0,
        again.reason.code(),
        now.0,
        row::ms_column(settlement.elapsed_ms),
        at.map(|at| at.0),
    );
    batch.changed_one(batch.run(sql::AGAIN, values)?, job)?;
    set_result(batch, job, again.note)?;
    set_checkpoint(batch, job, again.checkpoint)?;
    tell(batch, settlement, "retry", Some(again.reason), &again.note.message)?;
    batch.place(past.spot(epoch), Class::Retry, at, now);
    Ok(())
}

/// Writes what is said of a failure.
pub(super) fn set_result(batch: &Batch<'_>, job: JobRow, note: &Note) -> Worked<()> {
    if note.message.is_empty() && note.detail.is_none() {
        batch.run(sql::CLEAR_RESULT, [job.0])?;
    } else {
        batch.run(sql::SET_RESULT, (job.0, &note.message, note.detail.as_deref()))?;
    }
    Ok(())
}

fn set_checkpoint(batch: &Batch<'_>, job: JobRow, data: Option<&[u8]>) -> Worked<()> {
    if let Some(data) = data {
        batch.run(sql::SET_CHECKPOINT, (job.0, data))?;
    }
    Ok(())
}

fn tell(
    batch: &Batch<'_>,
    settlement: &Settlement,
    outcome: &str,
    reason: Option<Reason>,
    message: &str,
) -> Worked<()> {
    let ran = (settlement.started_at, settlement.elapsed_ms);
    tell_of(batch, settlement.token, outcome, reason, message, ran)
}

/// Adds an attempt to its job's story.
pub(super) fn tell_of(
    batch: &Batch<'_>,
    token: LeaseToken,
    outcome: &str,
    reason: Option<Reason>,
    message: &str,
    (started_at, elapsed_ms): (WallMs, u64),
) -> Worked<()> {
    let elapsed_ms = row::ms_column(elapsed_ms);
    let reason = reason.map(Reason::code);
    let (job, epoch) = (token.job.0, token.epoch.0);
    batch.run(
        sql::INSERT_ATTEMPT,
        (job, epoch, outcome, reason, message, started_at.0, elapsed_ms),
    )?;
    // Each attempt has an epoch of its own: up to here there cannot be more.
    if usize::try_from(epoch).is_ok_and(|told| told > MAX_ATTEMPTS_TOLD) {
        batch.run(sql::TRIM_ATTEMPTS, (job, MAX_ATTEMPTS_TOLD))?;
    }
    Ok(())
}
