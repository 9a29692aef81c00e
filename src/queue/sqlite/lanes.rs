//! Lanes by number and by name: interned in the database, remembered here.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::fault::{Fault, Worked};
use super::sql;
use crate::job::{Key, Kind, Lane, LaneId};

/// No more lanes than this are remembered: memory must not grow with the number of hosts (invariant 10).
const MAX_REMEMBERED: usize = 16_384;

/// The lanes this handle has met lately.
///
/// Must be cleared when a transaction that used it is rolled back: it may know lanes that do not exist.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_id: HashMap<LaneId, Arc<Lane>>,
    by_name: HashMap<Kind, HashMap<Key, Arc<Lane>>>,
}

impl Lanes {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.by_id.clear();
        self.by_name.clear();
    }

    /// The lane of that kind and key; made when there is none.
    pub(super) fn intern(
        &mut self,
        conn: &Connection,
        kind: &Kind,
        key: &Key,
    ) -> Worked<Arc<Lane>> {
        if let Some(lane) = self.by_name.get(kind).and_then(|keys| keys.get(key)) {
            return Ok(Arc::clone(lane));
        }
        let host = key.host.as_deref().unwrap_or_default();
        let resolver = key.resolver.as_deref().unwrap_or_default();
        let names = (host, resolver, kind.as_str());
        let known = conn
            .prepare_cached(sql::LANE_BY_NAMES)?
            .query_row(names, |row| row.get(0))
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => conn.prepare_cached(sql::INSERT_LANE)?.insert(names)?,
        };
        Ok(self.remember(Lane { id: LaneId(id), kind: kind.clone(), key: key.clone(), tag: None }))
    }

    /// The lane of that number.
    pub(super) fn by_id(&mut self, conn: &Connection, id: LaneId) -> Worked<Arc<Lane>> {
        if let Some(lane) = self.by_id.get(&id) {
            return Ok(Arc::clone(lane));
        }
        let names: Option<[String; 3]> = conn
            .prepare_cached(sql::LANE_BY_ID)?
            .query_row([id.0], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))
            .optional()?;
        let missing = || Fault::Corrupt(format!("lane {} is missing", id.0));
        let [host, resolver, kind] = names.ok_or_else(missing)?;
        let part = |text: String| (!text.is_empty()).then(|| text.into_boxed_str());
        let kind = Kind::new(&kind).map_err(|e| Fault::Corrupt(e.to_string()))?;
        let key = Key { resolver: part(resolver), host: part(host) };
        Ok(self.remember(Lane { id, kind, key, tag: None }))
    }

    fn remember(&mut self, lane: Lane) -> Arc<Lane> {
        if self.by_id.len() >= MAX_REMEMBERED {
            self.clear();
        }
        let lane = Arc::new(lane);
        self.by_id.insert(lane.id, Arc::clone(&lane));
        let keys = self.by_name.entry(lane.kind.clone()).or_default();
        keys.insert(lane.key.clone(), Arc::clone(&lane));
        lane
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}
