//! All limits of this process, asked in one order.
//!
//! Must never keep anything of a permit it refused, nor let the short while in which it held a part of one cost
//! anybody else their turn.

use std::collections::HashMap;
use std::fmt;

use crate::job::{Key, LimitKey, Mono, normalise_host, normalise_resolver};

use super::bucket::Standing;
use super::by_key::{ByKey, PerPart, parts};
use super::keyed::{Full, InUse, KeyedLimiter, Slots};
use super::sync::{Arc, Mutex};
use super::{Rate, TokenBucket};

/// What one key is limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyLimits {
    /// Running at once (0: none); `None`: the default for hosts, unlimited for resolvers.
    pub max_concurrent: Option<u32>,
    /// Starts per time; `None`: no rate.
    pub rate: Option<Rate>,
}

/// All limits of this process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// For every host that is not named below, at least 1; `None`: unlimited.
    pub max_per_host: Option<u32>,
    /// By host or resolver, in any spelling: [`Gate::new`] normalises them. Of two spellings of one key the stricter
    /// terms hold.
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
///
/// There are as many buckets as keys with a rate of their own; nothing else is remembered of a key that nobody uses.
#[derive(Clone)]
pub struct Gate {
    slots: KeyedLimiter,
    /// Locked before a bucket where both are, and never while a hook is called.
    buckets: Arc<Mutex<ByKey<Arc<TokenBucket>>>>,
}

/// The right to run one job, or make one request, under one key. Dropping it returns its slots; its tokens are spent.
pub struct Permit {
    slots: Slots,
    tokens: Tokens,
}

/// Tokens taken, and the buckets they came from.
#[derive(Default)]
struct Tokens(PerPart<Option<Arc<TokenBucket>>>);

impl Gate {
    /// A gate with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Gate {
        let gate = Gate { slots: KeyedLimiter::new(limits.max_per_host), buckets: Arc::default() };
        let mut terms_by_key: HashMap<LimitKey, KeyLimits> = HashMap::new();
        for (key, terms) in limits.by_key {
            let known = terms_by_key.entry(normalised(key)).or_insert(terms);
            *known = known.stricter(terms);
        }
        for (key, terms) in terms_by_key {
            gate.apply(&key, terms);
        }
        gate
    }

    /// Has `hook` called, without any lock held, with every key that may have become free for somebody it refused: when
    /// a slot returns to a key that refused somebody since its last return; when a token is refunded to a bucket that
    /// refused somebody since it last had one; when [`Gate::set`] eases such a key. Once per key and return, resolver
    /// first. Not when time brings a token: [`Wait::until`] says when.
    ///
    /// Set it before the first [`Gate::try_admit`]; a second hook takes the place of the first.
    ///
    /// One call stands for any number of waiters and of permits: whoever is told of a key must try under it until
    /// refused, or out of work. It may come before the refused caller has begun to wait, so it must leave a mark that the
    /// caller finds. It runs on the thread that returns the permit and may use the gate.
    pub fn on_release(&self, hook: impl Fn(&LimitKey) + Send + Sync + 'static) {
        self.slots.on_release(hook);
    }

    /// A permit for `key` at `now`: the slots, resolver first, then host; then the tokens, in the same order. All or
    /// nothing: what was taken before a refusal is given back before it is reported, and whoever was refused meanwhile
    /// for want of it is told. A key with neither resolver nor host is always admitted, and takes no lock.
    ///
    /// # Errors
    /// [`Wait`] naming the first key that refuses.
    pub fn try_admit(&self, key: &Key, now: Mono) -> Result<Permit, Wait> {
        let slots = self.slots.try_acquire(key)?;
        let mut permit = Permit { slots, tokens: Tokens::default() };
        match self.take_tokens(key, now, &mut permit.tokens) {
            Ok(()) => Ok(permit),
            Err(wait) => {
                permit.refund();
                Err(wait)
            }
        }
    }

    /// How many permits [`Gate::try_admit`] would give for `key` now, slots and whole tokens; `None`: unlimited.
    #[must_use]
    pub fn free(&self, key: &Key, now: Mono) -> Option<u32> {
        let slots = self.slots.free(key);
        let tokens = self.buckets_of(key).into_iter().flatten().map(|bucket| bucket.available(now));
        slots.into_iter().chain(tokens).min()
    }

    /// The tightest `max_concurrent` of `key`; `None`: unlimited.
    #[must_use]
    pub fn max_concurrent(&self, key: &Key) -> Option<u32> {
        self.slots.max_concurrent(key)
    }

    /// Changes what one key is limited to, while in use; permits that are out stay out, and so do tokens. The key is
    /// normalised.
    pub fn set(&self, key: LimitKey, limits: KeyLimits) {
        self.apply(&normalised(key), limits);
    }

    /// Every key with permits out or a rate that makes somebody wait, busiest first, at most `most`.
    #[must_use]
    pub fn status(&self, now: Mono, most: usize) -> Vec<KeyStatus> {
        let mut by_key: HashMap<LimitKey, KeyStatus> = HashMap::new();
        for InUse { key, running, limit } in self.slots.in_use() {
            by_key.insert(key.clone(), KeyStatus { key, running, limit, next_token: None });
        }
        for (key, standing) in self.empty_buckets(now) {
            if let Some(status) = by_key.get_mut(&key) {
                status.next_token = standing.next_token;
            } else if standing.awaited {
                let limit = self.slots.limit(&key);
                let next_token = standing.next_token;
                by_key.insert(key.clone(), KeyStatus { key, running: 0, limit, next_token });
            }
        }
        let mut busiest: Vec<KeyStatus> = by_key.into_values().collect();
        busiest.sort_unstable_by(|a, b| b.running.cmp(&a.running).then_with(|| a.key.cmp(&b.key)));
        busiest.truncate(most);
        busiest
    }

    /// The buckets of `key`; for a key that nothing limits, without a lock.
    fn buckets_of(&self, key: &Key) -> PerPart<Option<Arc<TokenBucket>>> {
        if key.is_free() {
            return [None, None];
        }
        let buckets = self.buckets.lock();
        parts(key).map(|part| buckets.get(part?).cloned())
    }

    fn empty_buckets(&self, now: Mono) -> Vec<(LimitKey, Standing)> {
        let buckets = self.buckets.lock();
        let standing = buckets.iter().map(|(part, bucket)| (part, bucket.standing(now)));
        let empty = standing.filter(|(_, standing)| standing.next_token.is_some());
        empty.map(|(part, standing)| (part.to_limit_key(), standing)).collect()
    }

    /// Takes a token for each part of `key` that has a rate, up to the first that refuses.
    fn take_tokens(&self, key: &Key, now: Mono, taken: &mut Tokens) -> Result<(), Wait> {
        let buckets = self.buckets_of(key);
        for ((part, bucket), token) in parts(key).into_iter().zip(buckets).zip(&mut taken.0) {
            let (Some(part), Some(bucket)) = (part, bucket) else { continue };
            bucket.try_take(now).map_err(|until| Wait {
                on: part.to_limit_key(),
                reason: WaitReason::Rate,
                until: Some(until),
            })?;
            *token = Some(bucket);
        }
        Ok(())
    }

    fn apply(&self, key: &LimitKey, terms: KeyLimits) {
        let rate_awaited = self.set_rate(key, terms.rate);
        let told = self.slots.set(key, terms.max_concurrent);
        if rate_awaited && !told {
            self.slots.tell(key);
        }
    }

    /// Sets a rate; whether somebody waits for a token of it.
    fn set_rate(&self, key: &LimitKey, rate: Option<Rate>) -> bool {
        let mut buckets = self.buckets.lock();
        match (rate, buckets.get(key.into())) {
            (Some(rate), Some(bucket)) => bucket.set(rate),
            (Some(rate), None) => {
                buckets.insert(key.into(), Arc::new(TokenBucket::new(rate)));
                false
            }
            (None, _) => buckets.remove(key.into()).is_some_and(|bucket| bucket.lift()),
        }
    }
}

impl Default for Gate {
    /// A gate that limits nothing.
    fn default() -> Gate {
        Gate::new(Limits::default())
    }
}

impl KeyLimits {
    /// Terms that keep to both.
    fn stricter(self, other: KeyLimits) -> KeyLimits {
        let concurrent = self.max_concurrent.into_iter().chain(other.max_concurrent);
        let rates = self.rate.into_iter().chain(other.rate);
        KeyLimits { max_concurrent: concurrent.min(), rate: rates.reduce(Rate::stricter) }
    }
}

/// The one spelling of `key`. One that has none stays as it is: no [`Key`] can ask for it.
fn normalised(key: LimitKey) -> LimitKey {
    let normal = match &key {
        LimitKey::Resolver(name) => normalise_resolver(name).map(LimitKey::Resolver),
        LimitKey::Host(name) => normalise_host(name).map(LimitKey::Host),
    };
    normal.unwrap_or(key)
}

impl From<Full> for Wait {
    fn from(full: Full) -> Wait {
        let Full { on, running, limit } = full;
        Wait { on, reason: WaitReason::Full { running, limit }, until: None }
    }
}

impl Permit {
    /// The key it was given for.
    #[must_use]
    pub fn key(&self) -> &Key {
        self.slots.key()
    }

    /// Returns the permit and its tokens: nothing was started under it.
    pub fn refund(mut self) {
        // Tokens first: who is told of the slot finds them there.
        let awaited = self.tokens.give_back();
        self.slots.also_tell(awaited);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Permit").field(self.key()).finish()
    }
}

impl Tokens {
    /// Puts every token back; which parts' buckets somebody waits for.
    fn give_back(&mut self) -> PerPart<bool> {
        self.0.each_mut().map(|token| token.take().is_some_and(|bucket| bucket.refund()))
    }
}
