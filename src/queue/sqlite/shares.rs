//! Keys, records and shares as rows: how they are kept, and read back.
//!
//! Only rows: what a share is worth and how a record changes is said in [`crate::share`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row};

use super::fault::{Fault, Worked};
use super::row;
use super::sql::keys as sql;
use crate::job::{LimitKey, Mono, WallMs};
use crate::share::{Configured, KeyLimits, KeyRecord, Rate, Share, Shares};

/// How a key's dimension is kept. Never renumbered.
pub(super) const HOST: i64 = 0;
pub(super) const RESOLVER: i64 = 1;

/// A key as two columns.
pub(super) fn columns(key: &LimitKey) -> (i64, &str) {
    match key {
        LimitKey::Host(name) => (HOST, name),
        LimitKey::Resolver(name) => (RESOLVER, name),
    }
}

/// The key kept as the first two columns of a row.
pub(super) fn key(row: &Row<'_>) -> Worked<LimitKey> {
    let name: Arc<str> = row.get(1)?;
    match row.get(0)? {
        HOST => Ok(LimitKey::Host(name)),
        RESOLVER => Ok(LimitKey::Resolver(name)),
        code => Err(Fault::Corrupt(format!("the dimension {code} of a key"))),
    }
}

/// A monotonic time as a column takes it: nanoseconds, for the next 292 years.
pub(super) fn mono_column(time: Mono) -> i64 {
    i64::try_from(time.0.as_nanos()).unwrap_or(i64::MAX)
}

/// The time kept so.
pub(super) fn mono(nanos: i64) -> Mono {
    Mono(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)))
}

/// When something was written, by both clocks.
pub(super) type Stamp = (Mono, WallMs);

/// A record, as it is kept or would be.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    /// 0 for one that others need not hear of.
    pub(super) version: i64,
    pub(super) record: KeyRecord,
    /// When a turn last wrote it; both 0 if none did.
    pub(super) stamp: Stamp,
}

/// The record kept in a column.
pub(super) fn record(row: &Row<'_>, column: usize) -> Worked<KeyRecord> {
    let text = row::text(row, column)?.unwrap_or_default();
    serde_json::from_str(text).map_err(|_| Fault::Corrupt(format!("the record {text}")))
}

/// A record as text.
pub(super) fn record_column(record: &KeyRecord) -> Worked<String> {
    serde_json::to_string(record).map_err(|error| Fault::Corrupt(error.to_string()))
}

/// What is kept of a key.
pub(super) fn kept(conn: &Connection, key: &LimitKey) -> Worked<Kept> {
    let mut statement = conn.prepare_cached(sql::RECORD)?;
    let mut rows = statement.query(columns(key))?;
    let Some(row) = rows.next()? else { return Ok(Kept::default()) };
    let stamp = (mono(row.get(3)?), WallMs(row.get(2)?));
    Ok(Kept { version: row.get(0)?, record: record(row, 1)?, stamp })
}

/// Keeps it.
pub(super) fn keep(conn: &Connection, key: &LimitKey, kept: &Kept) -> Worked<()> {
    let (dimension, name) = columns(key);
    let (at, wall) = kept.stamp;
    let text = record_column(&kept.record)?;
    let values = (dimension, name, kept.version, text, wall.0, mono_column(at));
    conn.prepare_cached(sql::PUT_RECORD)?.execute(values)?;
    Ok(())
}

/// The share in the columns of [`sql::SHARES`], and whose it is.
pub(super) fn share(row: &Row<'_>) -> Worked<(i64, Share)> {
    let share = Share {
        slots: row.get(1)?,
        running: row.get(2)?,
        tokens: row.get(3)?,
        wanted: row.get(4)?,
        tokens_wanted: row.get(5)?,
        waiting_since: row.get::<_, Option<i64>>(6)?.map(mono),
        asked_at: mono(row.get(7)?),
    };
    Ok((row.get(0)?, share))
}

/// All shares of a key.
pub(super) fn shares(conn: &Connection, key: &LimitKey) -> Worked<Shares> {
    let mut statement = conn.prepare_cached(sql::SHARES)?;
    let mut rows = statement.query(columns(key))?;
    let mut shares = Shares::new();
    while let Some(row) = rows.next()? {
        let (owner, share) = share(row)?;
        shares.insert(owner, share);
    }
    Ok(shares)
}

/// Makes of the shares that were `before` those that are `after`.
pub(super) fn set_shares(
    conn: &Connection,
    key: &LimitKey,
    before: &Shares,
    after: &Shares,
) -> Worked<()> {
    let (dimension, name) = columns(key);
    let owners: BTreeSet<i64> = before.keys().chain(after.keys()).copied().collect();
    for owner in owners.into_iter().filter(|owner| before.get(owner) != after.get(owner)) {
        let Some(share) = after.get(&owner) else {
            conn.prepare_cached(sql::DROP_SHARE)?.execute((dimension, name, owner))?;
            continue;
        };
        let Share { slots, running, tokens, wanted, tokens_wanted, .. } = share;
        let waiting_since = share.waiting_since.map(mono_column);
        let asked_at = mono_column(share.asked_at);
        conn.prepare_cached(sql::PUT_SHARE)?.execute((
            dimension,
            name,
            owner,
            slots,
            running,
            tokens,
            wanted,
            tokens_wanted,
            waiting_since,
            asked_at,
        ))?;
    }
    Ok(())
}

/// The keys that a statement answers with.
pub(super) fn keys(
    conn: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
) -> Worked<Vec<LimitKey>> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(key(row)?);
    }
    Ok(keys)
}

/// What live owners together are configured with, by key, as this handle has read it lately.
#[derive(Debug, Default)]
pub(super) struct Configurations {
    /// The change of what was declared that these are as of.
    declared: i64,
    by_key: HashMap<LimitKey, Configured>,
}

impl Configurations {
    /// No more keys than this are remembered: memory must not grow with the number of hosts (invariant 10).
    const MAX_REMEMBERED: usize = 16_384;

    /// What holds of a key since the change `declared`.
    pub(super) fn of(
        &mut self,
        conn: &Connection,
        declared: i64,
        key: &LimitKey,
    ) -> Worked<Configured> {
        if self.declared != declared || self.by_key.len() >= Configurations::MAX_REMEMBERED {
            self.by_key.clear();
            self.declared = declared;
        }
        if let Some(known) = self.by_key.get(key) {
            return Ok(*known);
        }
        let found = configured(conn, key)?;
        self.by_key.insert(key.clone(), found);
        Ok(found)
    }
}

/// The strictest of what live owners were configured with for a key.
pub(super) fn configured(conn: &Connection, key: &LimitKey) -> Worked<Configured> {
    /// What one owner said of all hosts, and of this key.
    #[derive(Default)]
    struct Said {
        default: Option<u32>,
        own: KeyLimits,
    }
    let mut said: HashMap<i64, Said> = HashMap::new();
    let mut statement = conn.prepare_cached(sql::DECLARED)?;
    let mut rows = statement.query(columns(key))?;
    while let Some(row) = rows.next()? {
        let said = said.entry(row.get(0)?).or_default();
        let max_concurrent = row.get(2)?;
        if row.get(1)? {
            said.default = max_concurrent;
        } else {
            said.own = KeyLimits { max_concurrent, rate: rate(row)? };
        }
    }
    let each = said.into_values().map(|Said { default, own }| Configured {
        limits: KeyLimits { max_concurrent: own.max_concurrent.or(default), ..own },
        is_fixed: own.max_concurrent.is_some(),
    });
    Ok(each.reduce(Configured::stricter).unwrap_or_default())
}

/// The rate in a row of [`sql::DECLARED`].
fn rate(row: &Row<'_>) -> Worked<Option<Rate>> {
    let Some(count) = row.get(3)? else { return Ok(None) };
    let per = Duration::from_nanos(row.get(4)?);
    Ok(Some(Rate { count, per, burst: row.get(5)? }))
}
