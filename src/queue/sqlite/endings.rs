//! What becomes of limits when an owner ends, the machine starts anew, or a record is not worth keeping any more.

use super::batch::Batch;
use super::fault::Worked;
use super::shares::{self, Kept, Stamp};
use super::sql::keys as sql;
use super::{SqliteStore, row};
use crate::job::{LimitKey, Mono, WallMs};
use crate::queue::store::{RecoverTerms, StoreError, TROUBLE_REMEMBERED};
use crate::share::{Policy, Share};

/// So many records are looked at in one stretch, and in one [`crate::queue::store::Store::recover`].
const STRETCH: usize = 1_000;

/// How an owner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// In good order: its buckets are as it said last.
    InOrder,
    /// It was found dead then, and nobody knows what it has spent since it said so last.
    Found(Mono),
}

/// What an owner has, wants and declared goes with it; its row is still there. Everybody else hears of it: there may be something
/// for them, and one of them may be alone now.
pub(super) fn free_shares(batch: &mut Batch<'_>, owner: i64, parting: Parting) -> Worked<()> {
    if let Parting::Found(at) = parting
        && batch.number(sql::IS_SOLE, [owner])? == Some(1)
    {
        batch.run(sql::SET_VOID, [shares::mono_column(at)])?;
    }
    for (key, share) in shares_of(batch, owner)? {
        let spent_at = match parting {
            Parting::Found(at) => (share.slots > 0 || share.tokens > 0).then_some(at),
            Parting::InOrder => (share.tokens > 0).then_some(share.asked_at),
        };
        if let Some(at) = spent_at {
            void(batch, &key, at)?;
        }
    }
    batch.run(sql::DROP_SHARES_OF, [owner])?;
    batch.run(sql::DROP_DECLARED_OF, [owner])?;
    batch.run(sql::RAISE_DECLARED, [])?;
    batch.ring_all();
    Ok(())
}

/// What an owner has of each key, and when it last said what it wants; the rest of its shares is of no interest.
fn shares_of(batch: &Batch<'_>, owner: i64) -> Worked<Vec<(LimitKey, Share)>> {
    let mut statement = batch.conn.prepare_cached(sql::SHARES_OF)?;
    let mut rows = statement.query([owner])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let share = Share {
            slots: row.get(2)?,
            tokens: row.get(3)?,
            asked_at: shares::mono(row.get(4)?),
            ..Share::default()
        };
        found.push((shares::key(row)?, share));
    }
    Ok(found)
}

/// All tokens of a key may have been spent at `at`.
fn void(batch: &Batch<'_>, key: &LimitKey, at: Mono) -> Worked<()> {
    let rate = shares::configured(batch.conn, key)?.limits.rate;
    let mut kept = shares::kept(batch.conn, key)?;
    let before = kept.record;
    kept.record.void_bucket(rate, at);
    if kept.record != before {
        shares::keep(batch.conn, key, &kept)?;
    }
    Ok(())
}

/// Notes under which start of the machine an owner registers.
pub(super) fn note_boot(batch: &Batch<'_>, boot_id: &str) -> Worked<()> {
    // Where the system does not say, times of an earlier start are taken for those of this one: they are waited for.
    if !boot_id.is_empty() {
        batch.run(sql::SET_BOOT, [boot_id])?;
    }
    Ok(())
}

/// Makes the times kept under an earlier start of the machine those that they are at `now`.
pub(super) fn rebase(batch: &Batch<'_>, now: Stamp) -> Worked<()> {
    let mut after = None;
    loop {
        let stretch = stretch(batch.conn, after.as_ref())?;
        for Walked { key, mut kept, .. } in stretch.iter().cloned() {
            kept.record.rebase(kept.stamp, now);
            kept.stamp = now;
            shares::keep(batch.conn, &key, &kept)?;
        }
        match stretch.into_iter().nth(STRETCH - 1) {
            Some(last) => after = Some(last.key),
            None => break,
        }
    }
    batch.run(sql::SET_FRESH, [shares::mono_column(now.0)])?;
    Ok(())
}

/// A record passed by a walk.
#[derive(Debug, Clone)]
struct Walked {
    key: LimitKey,
    kept: Kept,
    /// The record as it is written.
    text: String,
}

/// The next records after a key.
fn stretch(conn: &rusqlite::Connection, after: Option<&LimitKey>) -> Worked<Vec<Walked>> {
    let (dimension, name) = after.map_or((-1, ""), shares::columns);
    let mut statement = conn.prepare_cached(sql::WALK_RECORDS)?;
    let mut rows = statement.query((dimension, name, STRETCH))?;
    let mut walked = Vec::new();
    while let Some(row) = rows.next()? {
        let stamp = (shares::mono(row.get(5)?), WallMs(row.get(4)?));
        let kept = Kept { version: row.get(2)?, record: shares::record(row, 3)?, stamp };
        walked.push(Walked { key: shares::key(row)?, kept, text: row::owned(row, 3)? });
    }
    Ok(walked)
}

/// What a handle remembers from one sweep to the next.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The last key looked at.
    after: Option<LimitKey>,
    /// The last version given at that time.
    mark: Option<(Mono, i64)>,
    /// Everybody has heard of the versions up to this one, or has not asked for a long time.
    heard: i64,
}

impl Sweep {
    /// So long others have to hear of a change.
    const HEARD_AFTER_MS: u128 = 600_000;

    fn note(&mut self, version: i64, now: Mono) {
        let (since, marked) = *self.mark.get_or_insert((now, version));
        if now.since(since).as_millis() >= Sweep::HEARD_AFTER_MS {
            (self.heard, self.mark) = (marked, Some((now, version)));
        }
    }
}

impl SqliteStore {
    /// Sees to records, whenever owners are judged: their times, if the machine has started anew, and whether they are worth keeping.
    pub(super) fn see_to_records(&mut self, terms: RecoverTerms) -> Result<(), StoreError> {
        let swept = self.sweep.after.take();
        let (version, is_anybody_there, walked) = self.read(|conn, _| {
            let number = |sql, params: &[i64]| -> Worked<i64> {
                let params = rusqlite::params_from_iter(params);
                Ok(conn.prepare_cached(sql)?.query_row(params, |row| row.get(0))?)
            };
            let is_anybody_there = number(sql::ANY_OTHER, &[0])? == 1;
            Ok((number(sql::VERSION, &[])?, is_anybody_there, stretch(conn, swept.as_ref())?))
        })?;
        self.sweep.note(version, terms.mono);
        self.sweep.after = walked.get(STRETCH - 1).map(|last| last.key.clone());
        // Whoever lives may not have heard of what a person has just changed, and be it the only one.
        let heard = if is_anybody_there { self.sweep.heard } else { i64::MAX };
        let policy = Policy { give_up: TROUBLE_REMEMBERED, ..Policy::default() };
        let is_done_with = |walked: &Walked| {
            let Kept { version, record, .. } = walked.kept;
            version <= heard && record.is_at_rest(terms.mono, &policy)
        };
        let done_with: Vec<Walked> = walked.into_iter().filter(is_done_with).collect();
        if done_with.is_empty() {
            return Ok(());
        }
        self.write(|batch| {
            for Walked { key, kept, text } in &done_with {
                let (dimension, name) = shares::columns(key);
                batch.run(sql::DROP_RECORD, (dimension, name, kept.version, text))?;
            }
            Ok(())
        })
    }

    /// Before anything else is done at a monotonic time: the times kept may be those of an earlier start of the machine.
    pub(super) fn rebase_if_stale(&mut self, terms: RecoverTerms) -> Result<(), StoreError> {
        let is_stale: bool = self.read(|conn, _| {
            Ok(conn.prepare_cached(sql::IS_STALE)?.query_row([], |row| row.get(0))?)
        })?;
        if !is_stale {
            return Ok(());
        }
        self.write(|batch| match batch.number(sql::IS_STALE, [])? {
            Some(1) => rebase(batch, (terms.mono, terms.now)),
            _ => Ok(()),
        })
    }
}
