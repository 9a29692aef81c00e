//! What resolvers have yielded: added up in memory over a transaction, then one write for each resolver and DOI prefix.
//!
//! A transaction of jobs that observed nothing pays nothing for it. Must never keep more rows than
//! [`MAX_YIELDS`] allows.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::fault::Worked;
use super::row;
use super::sql;
use crate::job::Observation;
use crate::queue::store::MAX_YIELDS;

/// The counter of rows that have a prefix.
const WITH_PREFIX: &str = "yields";

/// What a transaction adds, in the order of the table.
#[derive(Debug, Default)]
pub(super) struct Yields(BTreeMap<(Box<str>, Box<str>), Observation>);

impl Yields {
    /// Adds what an accepted attempt observed.
    pub(super) fn add(&mut self, observed: &[Observation]) {
        for one in observed {
            let Observation { resolver, prefix, .. } = one;
            let nothing = || Observation {
                resolver: resolver.clone(),
                prefix: prefix.clone(),
                ..Observation::default()
            };
            self.0.entry((resolver.clone(), prefix.clone())).or_insert_with(nothing).add(one);
        }
    }

    /// Writes it all.
    pub(super) fn flush(self, conn: &Connection) -> Worked<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut add = conn.prepare_cached(sql::ADD_YIELD)?;
        let mut is_known = conn.prepare_cached(sql::IS_YIELD)?;
        let before: usize =
            conn.prepare_cached(sql::COUNTER)?.query_row([WITH_PREFIX], |row| row.get(0))?;
        let mut with_prefix = before;
        for one in self.0.values() {
            let mut prefix = &*one.prefix;
            if prefix != Observation::NO_PREFIX && !is_known.exists((&*one.resolver, prefix))? {
                if with_prefix < MAX_YIELDS {
                    with_prefix += 1;
                } else {
                    prefix = Observation::NO_PREFIX;
                }
            }
            let Observation { resolver, asked, found, fetched, busy, broken, .. } = one;
            let elapsed_ms = row::ms_column(one.elapsed_ms);
            add.execute((&**resolver, prefix, asked, found, fetched, busy, broken, elapsed_ms))?;
        }
        if with_prefix != before {
            conn.prepare_cached(sql::SET_COUNTER)?.execute((WITH_PREFIX, with_prefix))?;
        }
        Ok(())
    }
}

/// See [`crate::queue::store::Store::yields`].
pub(super) fn all(conn: &Connection) -> Worked<Vec<Observation>> {
    let mut statement = conn.prepare_cached(sql::YIELDS)?;
    let rows = statement.query_map([], |row| {
        Ok(Observation {
            resolver: row.get(0)?,
            prefix: row.get(1)?,
            asked: row.get(2)?,
            found: row.get(3)?,
            fetched: row.get(4)?,
            busy: row.get(5)?,
            broken: row.get(6)?,
            elapsed_ms: row.get(7)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
