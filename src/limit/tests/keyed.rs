//! [`KeyedLimiter`], by itself and against a model too simple to be wrong.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::by_key::parts;
use super::super::{Full, InUse, KeyedLimiter, Slots};
use super::{Told, both, host, limit_host, limit_resolver, resolver};
use crate::job::{Key, LimitKey};

#[test]
fn a_host_has_as_many_permits_as_its_limit() {
    let limiter = KeyedLimiter::new(Some(2));
    let (a, b) = (host("a.org"), host("b.org"));
    let first = limiter.try_acquire(&a).unwrap();
    let _second = limiter.try_acquire(&a).unwrap();
    let full = Full { on: limit_host("a.org"), running: 2, limit: 2 };
    assert_eq!(limiter.try_acquire(&a).unwrap_err(), full);
    assert!(limiter.try_acquire(&b).is_ok());
    drop(first);
    assert!(limiter.try_acquire(&a).is_ok());
}

#[test]
fn a_resolver_is_unlimited_until_it_is_named() {
    let limiter = KeyedLimiter::new(Some(1));
    let key = resolver("arxiv");
    let _held: Vec<Slots> = (0..100).map(|_| limiter.try_acquire(&key).unwrap()).collect();
    limiter.set(&limit_resolver("arxiv"), Some(3));
    assert_eq!(limiter.try_acquire(&key).unwrap_err().limit, 3);
}

#[test]
fn a_resolver_and_a_host_of_one_name_are_two_keys() {
    let limiter = KeyedLimiter::new(Some(1));
    let _held = limiter.try_acquire(&host("arxiv")).unwrap();
    assert!(limiter.try_acquire(&resolver("arxiv")).is_ok());
    assert!(limiter.try_acquire(&host("arxiv")).is_err());
}

#[test]
fn a_full_host_leaves_its_resolver_untouched() {
    let limiter = KeyedLimiter::new(Some(1));
    limiter.set(&limit_resolver("r"), Some(1));
    let told = Told::default();
    limiter.on_release(told.hook());
    let held = limiter.try_acquire(&host("a.org")).unwrap();
    assert_eq!(limiter.try_acquire(&both("r", "a.org")).unwrap_err().on, limit_host("a.org"));
    assert_eq!(limiter.free(&resolver("r")), Some(1));
    assert_eq!(told.take(), []);
    drop(held);
    assert_eq!(told.take(), [limit_host("a.org")]);
}

#[test]
fn a_limit_below_what_is_out_admits_nobody_until_enough_returned() {
    let limiter = KeyedLimiter::new(Some(4));
    let key = host("a.org");
    let mut held: Vec<Slots> = (0..4).map(|_| limiter.try_acquire(&key).unwrap()).collect();
    limiter.set(&limit_host("a.org"), Some(2));
    let full = |running| Full { on: limit_host("a.org"), running, limit: 2 };
    assert_eq!((limiter.free(&key), limiter.max_concurrent(&key)), (Some(0), Some(2)));
    for running in [4, 3, 2] {
        assert_eq!(limiter.try_acquire(&key).unwrap_err(), full(running));
        held.pop();
    }
    assert!(limiter.try_acquire(&key).is_ok());
}

#[test]
fn a_raised_limit_tells_who_was_refused_and_only_them() {
    let limiter = KeyedLimiter::new(Some(1));
    let told = Told::default();
    limiter.on_release(told.hook());
    let (key, limit_key) = (host("a.org"), limit_host("a.org"));
    let _held = limiter.try_acquire(&key).unwrap();
    assert!(!limiter.set(&limit_key, Some(2)), "nobody was refused");
    limiter.set(&limit_key, Some(1));
    limiter.try_acquire(&key).unwrap_err();
    assert!(!limiter.set(&limit_key, Some(0)), "nobody may come in");
    assert!(limiter.set(&limit_key, Some(2)));
    assert_eq!(told.take(), [limit_key]);
}

#[test]
fn a_return_tells_once_however_many_were_refused_and_returned() {
    let limiter = KeyedLimiter::new(Some(2));
    let told = Told::default();
    limiter.on_release(told.hook());
    let key = host("a.org");
    let held = [limiter.try_acquire(&key).unwrap(), limiter.try_acquire(&key).unwrap()];
    for _ in 0..5 {
        limiter.try_acquire(&key).unwrap_err();
    }
    drop(held);
    assert_eq!(told.take(), [limit_host("a.org")]);
    drop(limiter.try_acquire(&key).unwrap());
    assert_eq!(told.take(), [], "nobody was refused since");
}

#[test]
fn keys_that_nobody_uses_are_forgotten() {
    let limiter = KeyedLimiter::new(Some(1));
    for n in 0..1_000 {
        let key = both(&format!("r{n}"), &format!("h{n}.org"));
        let _held = limiter.try_acquire(&key).unwrap();
        limiter.try_acquire(&key).unwrap_err();
    }
    assert_eq!(limiter.remembered(), 0);
    limiter.set(&limit_host("a.org"), Some(7));
    assert_eq!(limiter.remembered(), 1);
    limiter.set(&limit_host("a.org"), None);
    assert_eq!(limiter.remembered(), 0);
}

/// The same rules with nothing shared, nothing forgotten and no order of operations to get wrong.
#[derive(Default)]
struct Model {
    per_host: Option<u32>,
    running: BTreeMap<LimitKey, u32>,
    limits: BTreeMap<LimitKey, u32>,
    refused: BTreeMap<LimitKey, bool>,
}

impl Model {
    fn limit(&self, key: &LimitKey) -> Option<u32> {
        let default = self.per_host.filter(|_| matches!(key, LimitKey::Host(_)));
        self.limits.get(key).copied().or(default)
    }

    fn running(&self, key: &LimitKey) -> u32 {
        self.running.get(key).copied().unwrap_or(0)
    }

    fn has_room(&self, key: &LimitKey) -> bool {
        self.limit(key).is_none_or(|limit| self.running(key) < limit)
    }

    fn acquire(&mut self, key: &Key) -> Result<(), Full> {
        if let Some(on) = key.limits().find(|key| !self.has_room(key)) {
            self.refused.insert(on.clone(), true);
            let (running, limit) = (self.running(&on), self.limit(&on).unwrap());
            return Err(Full { on, running, limit });
        }
        key.limits().for_each(|key| *self.running.entry(key).or_default() += 1);
        Ok(())
    }

    fn release(&mut self, key: &Key) -> Vec<LimitKey> {
        key.limits().for_each(|key| *self.running.entry(key).or_default() -= 1);
        key.limits().filter(|key| self.refused.remove(key) == Some(true)).collect()
    }

    fn set(&mut self, key: &LimitKey, limit: Option<u32>) -> Vec<LimitKey> {
        match limit {
            Some(limit) => self.limits.insert(key.clone(), limit),
            None => self.limits.remove(key),
        };
        let told = self.has_room(key) && self.refused.remove(key) == Some(true);
        told.then(|| key.clone()).into_iter().collect()
    }

    fn in_use(&self) -> Vec<InUse> {
        let used = self.running.iter().filter(|(_, running)| **running > 0);
        used.map(|(key, &running)| InUse { key: key.clone(), running, limit: self.limit(key) })
            .collect()
    }

    fn free(&self, key: &Key) -> Option<u32> {
        let limited = key.limits().filter_map(|key| Some((self.limit(&key)?, self.running(&key))));
        limited.map(|(limit, running)| limit.saturating_sub(running)).min()
    }

    /// Keys with permits out, a limit of their own, or somebody to tell.
    fn remembered(&self) -> usize {
        let running = self.running.iter().filter(|(_, running)| **running > 0).map(|(key, _)| key);
        let known = running.chain(self.limits.keys()).chain(self.refused.keys());
        known.collect::<std::collections::BTreeSet<_>>().len()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Acquire(Key),
    /// The permit at this index, modulo how many are held.
    Release(usize),
    Set(LimitKey, Option<u32>),
}

fn any_key() -> impl Strategy<Value = Key> {
    let part = |names: &'static [&'static str]| prop::option::of(prop::sample::select(names));
    (part(&["r", "s"]), part(&["a.org", "b.org", "s"]))
        .prop_map(|(resolver, host)| Key::new(resolver, host).unwrap())
}

fn any_op() -> impl Strategy<Value = Op> {
    let limit_key = any_key().prop_filter_map("a free key", |key| key.limits().last());
    prop_oneof![
        4 => any_key().prop_map(Op::Acquire),
        3 => any::<usize>().prop_map(Op::Release),
        1 => (limit_key, prop::option::of(0..4_u32)).prop_map(|(key, limit)| Op::Set(key, limit)),
    ]
}

proptest! {
    #[test]
    fn it_does_what_a_trivial_model_does(
        per_host in prop::option::of(0..3_u32),
        ops in prop::collection::vec(any_op(), 1..80),
    ) {
        let limiter = KeyedLimiter::new(per_host);
        let mut model = Model { per_host, ..Model::default() };
        let (told, mut held) = (Told::default(), Vec::new());
        limiter.on_release(told.hook());
        for op in ops {
            match op {
                Op::Acquire(key) => {
                    let got = limiter.try_acquire(&key);
                    let outcome = got.as_ref().map(|_| ()).map_err(Clone::clone);
                    prop_assert_eq!(outcome, model.acquire(&key));
                    held.extend(got);
                    prop_assert_eq!(told.take(), []);
                    prop_assert_eq!(limiter.free(&key), model.free(&key));
                }
                Op::Release(index) if !held.is_empty() => {
                    let slots: Slots = held.swap_remove(index % held.len());
                    let mut expected = model.release(slots.key());
                    expected.reverse();
                    drop(slots);
                    prop_assert_eq!(told.take(), expected);
                }
                Op::Release(_) => {}
                Op::Set(key, limit) => {
                    let expected = model.set(&key, limit);
                    prop_assert_eq!(limiter.set(&key, limit), !expected.is_empty());
                    prop_assert_eq!(told.take(), expected);
                    prop_assert_eq!(limiter.limit(&key), model.limit(&key));
                }
            }
            let mut in_use = limiter.in_use();
            in_use.sort_by(|a, b| a.key.cmp(&b.key));
            prop_assert_eq!(in_use, model.in_use());
            prop_assert_eq!(limiter.remembered(), model.remembered());
        }
    }

    #[test]
    fn borrowed_parts_are_the_limits_of_a_key_in_their_order(key in any_key()) {
        let borrowed: Vec<_> = parts(&key).into_iter().flatten().map(|part| part.to_limit_key()).collect();
        prop_assert_eq!(borrowed, key.limits().collect::<Vec<_>>());
    }
}
