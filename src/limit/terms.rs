//! What each key was limited to, and by whom: a person, or a server's crawl delay. The stricter of both holds.
//!
//! Must never let a crawl delay ease what a person set, nor remember more delays than [`MAX_SLOWED`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::LimitKey;

use super::by_key::ByKey;
use super::{KeyLimits, Rate};

/// The most keys with a crawl delay; of more, the one that was set longest ago is let go.
pub(super) const MAX_SLOWED: usize = 4_096;

/// See the module.
#[derive(Default)]
pub(super) struct Terms {
    own: ByKey<KeyLimits>,
    slowed: ByKey<Slowed>,
    /// The slowed keys, the one that was set longest ago first.
    by_age: BTreeMap<u64, LimitKey>,
    settings: u64,
}

struct Slowed {
    limits: KeyLimits,
    /// When it was set last: its key in `by_age`.
    setting: u64,
}

impl Terms {
    /// A person sets limits. Returns what now holds for the key.
    pub(super) fn set(&mut self, key: &LimitKey, limits: KeyLimits) -> KeyLimits {
        if limits == KeyLimits::default() {
            self.own.remove(key.into());
        } else {
            self.own.insert(key.into(), limits);
        }
        self.of(key)
    }

    /// A server asks for one request at a time and one per `interval`. Returns every key for which something else holds
    /// now, and what: this one, and one that was let go for its sake.
    pub(super) fn slow_down(
        &mut self,
        key: &LimitKey,
        interval: Duration,
    ) -> Vec<(LimitKey, KeyLimits)> {
        let rate = Rate { count: 1, per: interval, burst: 1 };
        let limits = KeyLimits { max_concurrent: Some(1), rate: Some(rate) };
        self.settings += 1;
        let slowed = Slowed { limits, setting: self.settings };
        let before = self.slowed.insert(key.into(), slowed);
        self.by_age.insert(self.settings, key.clone());
        if let Some(before) = &before {
            self.by_age.remove(&before.setting);
        }
        let mut changed = Vec::new();
        if before.is_none_or(|before| before.limits != limits) {
            changed.push((key.clone(), self.of(key)));
        }
        if self.by_age.len() > MAX_SLOWED
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.slowed.remove((&oldest).into());
            let limits = self.of(&oldest);
            changed.push((oldest, limits));
        }
        changed
    }

    fn of(&self, key: &LimitKey) -> KeyLimits {
        let own = self.own.get(key.into()).copied().unwrap_or_default();
        self.slowed.get(key.into()).map_or(own, |slowed| own.stricter(slowed.limits))
    }
}
