//! What owners declare, what people change, and how keys stand.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;

use super::batch::Batch;
use super::fault::Worked;
use super::lanes::Lanes;
use super::owner::Owners;
use super::shares::{self, HOST, Kept, RESOLVER};
use super::sql::keys as sql;
use super::tally;
use crate::job::{LaneId, LimitKey};
use crate::queue::store::{Counts, Declared, Dimension, Holder, KeyView, Owner};
use crate::share::{KeyChange, KeyLimits};

/// See [`crate::queue::store::Store::declare`].
pub(super) fn declare(batch: &mut Batch<'_>, owner: &Owner, declared: &Declared) -> Worked<()> {
    if batch.run(sql::SET_PROCESS, (owner.row, &*owner.id, declared.process))? == 0 {
        return Ok(());
    }
    batch.run(sql::DROP_DECLARED_OF, [owner.row])?;
    let default = KeyLimits { max_concurrent: declared.per_host, rate: None };
    let every_host = declared.per_host.map(|_| ((HOST, ""), default));
    let named = declared.by_key.iter().map(|(key, limits)| (shares::columns(key), *limits));
    for ((dimension, name), KeyLimits { max_concurrent, rate }) in
        every_host.into_iter().chain(named)
    {
        let count = rate.map(|rate| rate.count);
        let per_ns = rate.map(|rate| i64::try_from(rate.per.as_nanos()).unwrap_or(i64::MAX));
        let burst = rate.map(|rate| rate.burst);
        batch.run(
            sql::DECLARE,
            (dimension, name, owner.row, max_concurrent, count, per_ns, burst),
        )?;
    }
    batch.run(sql::RAISE_DECLARED, [])?;
    batch.known_to = Some(owner.row);
    batch.ring_others();
    Ok(())
}

/// See [`crate::queue::store::Store::set_key`].
pub(super) fn set_key(
    batch: &mut Batch<'_>,
    owners: &Owners,
    key: &LimitKey,
    change: &KeyChange,
) -> Worked<KeyView> {
    let mut kept = shares::kept(batch.conn, key)?;
    let before = kept.record;
    kept.record.change(change);
    if kept.record != before {
        kept.version = batch.number(sql::VERSION, [])?.unwrap_or_default() + 1;
        batch.run(sql::SET_VERSION, [kept.version])?;
        shares::keep(batch.conn, key, &kept)?;
    }
    batch.ring_all();
    view(batch.conn, batch.lanes, owners, key)
}

/// See [`crate::queue::store::Store::key`].
pub(super) fn view(
    conn: &Connection,
    lanes: &mut Lanes,
    owners: &Owners,
    key: &LimitKey,
) -> Worked<KeyView> {
    view_beside(conn, &leased_by_key(conn, lanes)?, owners, key)
}

/// See [`crate::queue::store::Store::keys`].
pub(super) fn views(
    conn: &Connection,
    lanes: &mut Lanes,
    owners: &Owners,
    after: Option<&LimitKey>,
    limit: usize,
) -> Worked<Vec<KeyView>> {
    let leased = leased_by_key(conn, lanes)?;
    let (from, passed) = after.map_or((HOST, ""), shares::columns);
    let mut views = Vec::new();
    for dimension in [HOST, RESOLVER].into_iter().filter(|dimension| *dimension >= from) {
        let passed = if dimension == from { passed } else { "" };
        let left = limit - views.len();
        for key in names(conn, dimension, passed, left)? {
            views.push(view_beside(conn, &leased, owners, &key)?);
        }
    }
    Ok(views)
}

/// The next keys of a dimension that there is something to be said of.
fn names(conn: &Connection, dimension: i64, after: &str, limit: usize) -> Worked<Vec<LimitKey>> {
    let (by, make): (_, fn(Arc<str>) -> LimitKey) = match dimension {
        HOST => (Dimension::Host, LimitKey::Host),
        _ => (Dimension::Resolver, LimitKey::Resolver),
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = conn.prepare_cached(sql::KEY_NAMES)?;
    let names =
        statement.query_map((dimension, after, limit, tally::code(by)), |row| row.get(0))?;
    Ok(names.map(|name| name.map(make)).collect::<Result<_, _>>()?)
}

/// How many jobs of each key are leased: they are among the queued in the counts kept.
fn leased_by_key(conn: &Connection, lanes: &mut Lanes) -> Worked<HashMap<LimitKey, u64>> {
    let mut statement = conn.prepare_cached(super::sql::LEASES_BY_LANE)?;
    let mut rows = statement.query([])?;
    let mut leased: HashMap<LimitKey, u64> = HashMap::new();
    while let Some(row) = rows.next()? {
        let lane = lanes.by_id(conn, LaneId(row.get(0)?))?;
        let count: u64 = row.get(1)?;
        lane.key.limits().for_each(|key| *leased.entry(key).or_default() += count);
    }
    Ok(leased)
}

fn view_beside(
    conn: &Connection,
    leased: &HashMap<LimitKey, u64>,
    owners: &Owners,
    key: &LimitKey,
) -> Worked<KeyView> {
    let Kept { record, .. } = shares::kept(conn, key)?;
    Ok(KeyView {
        key: key.clone(),
        record,
        configured: shares::configured(conn, key)?,
        holders: holders(conn, owners, key)?,
        counts: counts(conn, key, leased.get(key).copied().unwrap_or_default())?,
        pace: tally::pace_of(conn, key)?,
    })
}

fn holders(conn: &Connection, owners: &Owners, key: &LimitKey) -> Worked<Vec<Holder>> {
    let mut statement = conn.prepare_cached(sql::HOLDERS)?;
    let mut rows = statement.query(shares::columns(key))?;
    let mut holders = Vec::new();
    while let Some(row) = rows.next()? {
        let (_, share) = shares::share(row)?;
        let owner: Box<str> = row.get(8)?;
        let directory: Option<PathBuf> = Some(owners.directory(&owner));
        holders.push(Holder { owner, directory, process: row.get(9)?, share });
    }
    Ok(holders)
}

fn counts(conn: &Connection, key: &LimitKey, leased: u64) -> Worked<Counts> {
    let by = match key {
        LimitKey::Host(_) => Dimension::Host,
        LimitKey::Resolver(_) => Dimension::Resolver,
    };
    let (_, name) = shares::columns(key);
    let mut statement = conn.prepare_cached(sql::TALLY)?;
    let mut rows = statement.query((tally::code(by), name))?;
    let Some(row) = rows.next()? else { return Ok(Counts::default()) };
    let queued: u64 = row.get(0)?;
    Ok(Counts {
        queued: queued.saturating_sub(leased),
        in_progress: leased,
        done: row.get(1)?,
        skipped: row.get(2)?,
        error: row.get(3)?,
    })
}
