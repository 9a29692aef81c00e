//! A map by [`LimitKey`] that is looked up by borrowed names: asking for a permit allocates no keys.

use foldhash::HashMap;

use crate::job::{Key, LimitKey};

/// A [`LimitKey`] that is only looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    Resolver(&'a str),
    Host(&'a str),
}

/// One value for each part a [`Key`] may have, in the order of [`Key::limits`]: resolver, host.
pub(super) type PerPart<T> = [T; 2];

/// What `key` is limited by, in the one order everybody takes it.
pub(super) fn parts(key: &Key) -> PerPart<Option<Part<'_>>> {
    [key.resolver.as_deref().map(Part::Resolver), key.host.as_deref().map(Part::Host)]
}

impl Part<'_> {
    pub(super) fn to_limit_key(self) -> LimitKey {
        match self {
            Part::Resolver(name) => LimitKey::Resolver(name.into()),
            Part::Host(name) => LimitKey::Host(name.into()),
        }
    }
}

impl<'a> From<&'a LimitKey> for Part<'a> {
    fn from(key: &'a LimitKey) -> Part<'a> {
        match key {
            LimitKey::Resolver(name) => Part::Resolver(name),
            LimitKey::Host(name) => Part::Host(name),
        }
    }
}

/// A map for each kind of key: the standard map cannot look an enum up by its borrowed parts.
pub(super) struct ByKey<V> {
    resolvers: HashMap<Box<str>, V>,
    hosts: HashMap<Box<str>, V>,
}

impl<V> Default for ByKey<V> {
    fn default() -> ByKey<V> {
        ByKey { resolvers: HashMap::default(), hosts: HashMap::default() }
    }
}

impl<V> ByKey<V> {
    pub(super) fn get(&self, part: Part<'_>) -> Option<&V> {
        match part {
            Part::Resolver(name) => self.resolvers.get(name),
            Part::Host(name) => self.hosts.get(name),
        }
    }

    pub(super) fn get_mut(&mut self, part: Part<'_>) -> Option<&mut V> {
        match part {
            Part::Resolver(name) => self.resolvers.get_mut(name),
            Part::Host(name) => self.hosts.get_mut(name),
        }
    }

    pub(super) fn get_or_insert_with(
        &mut self,
        part: Part<'_>,
        make: impl FnOnce() -> V,
    ) -> &mut V {
        match part {
            Part::Resolver(name) => self.resolvers.entry(name.into()).or_insert_with(make),
            Part::Host(name) => self.hosts.entry(name.into()).or_insert_with(make),
        }
    }

    /// Returns what was there before.
    pub(super) fn insert(&mut self, part: Part<'_>, value: V) -> Option<V> {
        match part {
            Part::Resolver(name) => self.resolvers.insert(name.into(), value),
            Part::Host(name) => self.hosts.insert(name.into(), value),
        }
    }

    pub(super) fn remove(&mut self, part: Part<'_>) -> Option<V> {
        match part {
            Part::Resolver(name) => self.resolvers.remove(name),
            Part::Host(name) => self.hosts.remove(name),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.resolvers.len() + self.hosts.len()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&V) -> bool) {
        self.resolvers.retain(|_, value| keep(value));
        self.hosts.retain(|_, value| keep(value));
    }

    /// Calls `change` with every entry, in no order.
    pub(super) fn for_each(&mut self, mut change: impl FnMut(Part<'_>, &mut V)) {
        self.resolvers.iter_mut().for_each(|(name, value)| change(Part::Resolver(name), value));
        self.hosts.iter_mut().for_each(|(name, value)| change(Part::Host(name), value));
    }

    /// Every entry, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Part<'_>, &V)> {
        let resolvers = self.resolvers.iter().map(|(name, value)| (Part::Resolver(name), value));
        let hosts = self.hosts.iter().map(|(name, value)| (Part::Host(name), value));
        resolvers.chain(hosts)
    }
}
