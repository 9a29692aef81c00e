//! What resolvers have yielded, by resolver and DOI prefix. Never more rows than a store may keep.

use std::collections::BTreeMap;

use crate::job::Observation;
use crate::queue::store::MAX_YIELDS;

#[derive(Debug, Default)]
pub(super) struct Yields {
    rows: BTreeMap<(Box<str>, Box<str>), Observation>,
    /// How many of them have a prefix.
    with_prefix: usize,
}

impl Yields {
    pub(super) fn add(&mut self, observed: &Observation) {
        let Observation { resolver, prefix, .. } = observed;
        let mut key = (resolver.clone(), prefix.clone());
        if &*key.1 != Observation::NO_PREFIX && !self.rows.contains_key(&key) {
            if self.with_prefix < MAX_YIELDS {
                self.with_prefix += 1;
            } else {
                key.1 = Observation::NO_PREFIX.into();
            }
        }
        let (resolver, prefix) = key.clone();
        let nothing = Observation { resolver, prefix, ..Observation::default() };
        self.rows.entry(key).or_insert(nothing).add(observed);
    }

    /// By resolver, then prefix.
    pub(super) fn all(&self) -> Vec<Observation> {
        self.rows.values().cloned().collect()
    }
}
