//! Lanes by number and by name: interned in the database, remembered here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::fault::{Fault, Worked};
use super::sql;
use crate::job::{Key, Kind, Lane, LaneId};
use crate::queue::store::MAX_TAG_LANES;

/// No more lanes than this are remembered: memory must not grow with the number of hosts (invariant 10).
const MAX_REMEMBERED: usize = 16_384;

/// Lanes of one kind, under their tag (empty for none) and key.
type ByTag = HashMap<Box<str>, HashMap<Key, Arc<Lane>>>;

/// The lanes this handle has met lately.
///
/// Must be cleared when a transaction that used it is rolled back: it may know lanes that do not exist.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_id: HashMap<LaneId, Arc<Lane>>,
    by_name: HashMap<Kind, ByTag>,
    /// Tags known to be in the database: those that lanes are told apart by.
    tags: HashSet<Box<str>>,
}

impl Lanes {
    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.by_id.clear();
        self.by_name.clear();
        self.tags.clear();
    }

    /// The tag by which the lane of a job with these is told apart: the first, as long as there are not too many others. Of a
    /// queue that has as many as it may, no tag is looked up twice.
    pub(super) fn tag<'t>(
        &mut self,
        conn: &Connection,
        tags: &'t [String],
    ) -> Worked<Option<&'t str>> {
        let Some(tag) = tags.first().map(String::as_str).filter(|tag| !tag.is_empty()) else {
            return Ok(None);
        };
        if self.tags.contains(tag) {
            return Ok(Some(tag));
        }
        if self.tags.len() < MAX_TAG_LANES {
            // Others may have added some.
            let mut statement = conn.prepare_cached(sql::LANE_TAGS)?;
            let known = statement.query_map([], |row| row.get(0).map(String::into_boxed_str))?;
            self.tags = known.collect::<Result<_, _>>()?;
        }
        if self.tags.len() < MAX_TAG_LANES && !self.tags.contains(tag) {
            conn.prepare_cached(sql::INSERT_LANE_TAG)?.execute([tag])?;
            self.tags.insert(tag.into());
        }
        Ok(Some(tag).filter(|tag| self.tags.contains(*tag)))
    }

    /// The lane of that kind, key and tag; made when there is none. The tag is one that [`Lanes::tag`] let pass.
    pub(super) fn intern(
        &mut self,
        conn: &Connection,
        kind: &Kind,
        key: &Key,
        tag: Option<&str>,
    ) -> Worked<Arc<Lane>> {
        let name = tag.unwrap_or_default();
        let tags = self.by_name.get(kind);
        if let Some(lane) = tags.and_then(|tags| tags.get(name)).and_then(|keys| keys.get(key)) {
            return Ok(Arc::clone(lane));
        }
        let host = key.host.as_deref().unwrap_or_default();
        let resolver = key.resolver.as_deref().unwrap_or_default();
        let names = (host, resolver, kind.as_str(), name);
        let known = conn
            .prepare_cached(sql::LANE_BY_NAMES)?
            .query_row(names, |row| row.get(0))
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => conn.prepare_cached(sql::INSERT_LANE)?.insert(names)?,
        };
        let (kind, key, tag) = (kind.clone(), key.clone(), tag.map(Box::from));
        Ok(self.remember(Lane { id: LaneId(id), kind, key, tag }))
    }

    /// The lane of that number.
    pub(super) fn by_id(&mut self, conn: &Connection, id: LaneId) -> Worked<Arc<Lane>> {
        if let Some(lane) = self.by_id.get(&id) {
            return Ok(Arc::clone(lane));
        }
        let names: Option<[String; 4]> = conn
            .prepare_cached(sql::LANE_BY_ID)?
            .query_row([id.0], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]))
            .optional()?;
        let missing = || Fault::Corrupt(format!("lane {} is missing", id.0));
        let [host, resolver, kind, tag] = names.ok_or_else(missing)?;
        let part = |text: String| (!text.is_empty()).then(|| text.into());
        let kind = Kind::new(&kind).map_err(|e| Fault::Corrupt(e.to_string()))?;
        let key = Key { resolver: part(resolver), host: part(host) };
        Ok(self.remember(Lane { id, kind, key, tag: (!tag.is_empty()).then(|| tag.into()) }))
    }

    fn remember(&mut self, lane: Lane) -> Arc<Lane> {
        if self.by_id.len() >= MAX_REMEMBERED {
            self.by_id.clear();
            self.by_name.clear();
        }
        let lane = Arc::new(lane);
        self.by_id.insert(lane.id, Arc::clone(&lane));
        let tags = self.by_name.entry(lane.kind.clone()).or_default();
        let keys = tags.entry(lane.tag.clone().unwrap_or_default()).or_default();
        keys.insert(lane.key.clone(), Arc::clone(&lane));
        lane
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}
