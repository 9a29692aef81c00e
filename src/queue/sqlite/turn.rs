//! A dispatcher's turn: settle, make due, lease, in one transaction.

use super::batch::{Batch, Class, Spot};
use super::fault::Worked;
use super::row;
use super::shares::Configurations;
use super::sql;
use super::{keys, lease, settle};
use crate::job::{JobRow, LaneId, WallMs};
use crate::queue::store::{Owner, Settled, Turn, TurnReport};

/// So many delayed jobs of a class a turn makes due, at most.
const MAX_DUE: usize = 1_024;

/// See [`crate::queue::store::Store::turn`].
pub(super) fn turn(
    batch: &mut Batch<'_>,
    configurations: &mut Configurations,
    turn: &Turn<'_>,
) -> Worked<TurnReport> {
    if !is_registered(batch, turn.owner)? {
        return Ok(TurnReport {
            settled: vec![Settled::LeaseLost; turn.settle.len()],
            dry: vec![false; turn.lease.len()],
            owner_lost: true,
            ..TurnReport::default()
        });
    }
    batch.known_to = Some(turn.owner.row);
    let mut report = TurnReport {
        settled: settle::settle(batch, turn.owner, turn.now, turn.settle)?,
        ..TurnReport::default()
    };
    for class in Class::ALL {
        report.more_due |= make_due(batch, class, turn.now)?;
    }
    batch.write_places()?;
    if let Some(news) = turn.keys {
        report.keys = Some(keys::hear(batch, configurations, turn, news)?);
    }
    lease::lease(batch, turn, &mut report)?;
    report.ready = batch.touched()?;
    for class in Class::ALL {
        let next = batch.number(sql::NEXT_DUE, [class.code()])?.map(WallMs);
        report.next_due = report.next_due.into_iter().chain(next).min();
    }
    Ok(report)
}

/// Whether the owner is in force: known, and not retired.
fn is_registered(batch: &Batch<'_>, owner: &Owner) -> Worked<bool> {
    let mut statement = batch.conn.prepare_cached(sql::OWNER)?;
    let mut rows = statement.query((owner.row, &*owner.id))?;
    match rows.next()? {
        Some(row) => Ok(!row.get::<_, bool>(1)?),
        None => Ok(false),
    }
}

/// Makes jobs ready whose time has come. Returns whether some are left over.
fn make_due(batch: &mut Batch<'_>, class: Class, now: WallMs) -> Worked<bool> {
    let due = due(batch, class, now)?;
    let taken = due.len().min(MAX_DUE);
    let Some((at, last)) = due[..taken].last().copied() else { return Ok(false) };
    let gone = batch.run(sql::DELETE_DELAYED_UP_TO, (class.code(), at, last.job.0))?;
    batch.changed_one(usize::from(gone == taken), last.job)?;
    due[..taken].iter().for_each(|(_, spot)| batch.make_ready(*spot));
    Ok(due.len() > taken)
}

/// The first of those whose time has come, and one more than may be taken.
fn due(batch: &Batch<'_>, class: Class, now: WallMs) -> Worked<Vec<(i64, Spot)>> {
    let mut statement = batch.conn.prepare_cached(sql::DUE)?;
    let mut rows = statement.query((class.code(), now.0, MAX_DUE + 1))?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        let spot = Spot {
            priority: row::priority(row.get(3)?)?,
            lane: LaneId(row.get(4)?),
            job: JobRow(row.get(1)?),
            epoch: row.get(2)?,
        };
        due.push((row.get(0)?, spot));
    }
    Ok(due)
}
