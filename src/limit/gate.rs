//! The gate.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::job::{Key, LimitKey, Mono};

/// A rate: `count` starts per `per`, at most `burst` at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// So many starts,
    pub count: u32,
    /// in so much time.
    pub per: Duration,
    /// The most that may start at once after a pause.
    pub burst: u32,
}

/// What one key is limited to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct KeyLimits {
    /// Running at once; `None`: the default for hosts, unlimited for resolvers.
    pub max_concurrent: Option<u32>,
    /// Starts per time; `None`: no rate.
    pub rate: Option<Rate>,
}

/// All limits of this process. Keys are normalised.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// For every host that is not named below; `None`: unlimited.
    pub max_per_host: Option<u32>,
    /// By host or resolver.
    pub by_key: HashMap<LimitKey, KeyLimits>,
}

/// Why a permit is not to be had now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// Every slot is taken.
    Full {
        /// So many run,
        running: u32,
        /// of so many allowed.
        limit: u32,
    },
    /// The bucket is empty.
    Rate,
}

/// What stands in the way of a permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The key that refused.
    pub on: LimitKey,
    /// Why.
    pub reason: WaitReason,
    /// When a token will be there; `None`: when somebody returns a permit (the release hook tells).
    pub until: Option<Mono>,
}

/// How one key stands.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyStatus {
    /// The key.
    pub key: LimitKey,
    /// Permits out.
    pub running: u32,
    /// Permits there are; `None`: unlimited.
    pub limit: Option<u32>,
    /// When the next token will be there, where a rate is set and the bucket is empty.
    pub next_token: Option<Mono>,
}

/// Admits jobs under keys. Clones share one state.
#[derive(Clone, Default)]
pub struct Gate {
    running: Arc<Mutex<HashMap<LimitKey, u32>>>,
}

/// The right to run one job, or make one request, under one key. Dropping it returns it.
#[derive(Debug)]
pub struct Permit {
    key: Key,
}

impl Gate {
    /// A gate with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Gate {
        let _ = limits;
        Gate::default()
    }

    /// Called, without any lock held, when a permit returns to a key that refused somebody since its last return.
    pub fn on_release(&self, hook: impl Fn(&LimitKey) + Send + Sync + 'static) {
        let _ = hook;
    }

    /// A permit for `key` at `now`, resolver first, then host, each with its slot and then its token; all or nothing.
    ///
    /// # Errors
    /// [`Wait`] naming the first key that refuses.
    pub fn try_admit(&self, key: &Key, now: Mono) -> Result<Permit, Wait> {
        let _ = (now, &self.running);
        Ok(Permit { key: key.clone() })
    }

    /// How many permits [`Gate::try_admit`] would give for `key` now; `None`: unlimited.
    #[must_use]
    pub fn free(&self, key: &Key, now: Mono) -> Option<u32> {
        let _ = (key, now);
        None
    }

    /// The tightest `max_concurrent` of `key`; `None`: unlimited.
    #[must_use]
    pub fn max_concurrent(&self, key: &Key) -> Option<u32> {
        let _ = key;
        None
    }

    /// Changes what one key is limited to, while in use; permits that are out stay out.
    pub fn set(&self, key: LimitKey, limits: KeyLimits) {
        let _ = (key, limits);
    }

    /// Every key with permits out or a rate that makes somebody wait, busiest first, at most `most`.
    #[must_use]
    pub fn status(&self, now: Mono, most: usize) -> Vec<KeyStatus> {
        let _ = (now, most);
        Vec::new()
    }
}

impl Permit {
    /// The key it was given for.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns the permit and its tokens: nothing was started under it.
    pub fn refund(self) {}
}
