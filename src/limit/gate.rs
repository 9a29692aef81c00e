//! All limits of this process, asked in one order.
//!
//! Must never keep anything of a permit it refused, nor let the short while in which it held a part of one cost
//! anybody else their turn.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use crate::job::{Key, LimitKey, Mono, normalise_host, normalise_resolver};
use crate::share::{KeyNews, KeyReply, Policy, Transition};

use super::bucket;
use super::by_key::{ByKey, PerPart, parts};
use super::hold::{GivenUp, Holds, Standing, Told};
use super::keyed::{Full, InUse, KeyedLimiter, Slots};
use super::sync::{Arc, Mutex};
use super::terms::Terms;
use super::{KeyLimits, Rate, TokenBucket};

/// All limits of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For every host that is not named below, at least 1; `None`: unlimited.
    pub max_per_host: Option<u32>,
    /// By host or resolver, in any spelling: [`Gate::new`] normalises them. Of two spellings of one key the stricter
    /// terms hold.
    pub by_key: HashMap<LimitKey, KeyLimits>,
    /// When breakers open and close, and when a key is given up: see [`Gate::given_up`].
    pub policy: Policy,
}

impl Default for Limits {
    /// No limits; a server's hold is waited for, a quarter of an hour long.
    fn default() -> Limits {
        Limits { max_per_host: None, by_key: HashMap::new(), policy: Policy::default() }
    }
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
    /// A server said to slow down: see [`Gate::hold`].
    Held,
    /// Its breaker is open.
    Open,
    /// A person paused it.
    Paused,
    /// Other processes have what there is; the store has been asked, or will be in the next turn.
    Shared,
}

/// What stands in the way of a permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The key that refused.
    pub on: LimitKey,
    /// Why.
    pub reason: WaitReason,
    /// When a token will be there, or the hold has ended or is given up; `None`: when somebody returns a permit (the
    /// release hook tells).
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
    /// Until when a server's word holds it, where one does.
    pub held_until: Option<Mono>,
}

type Buckets = Arc<Mutex<ByKey<Arc<TokenBucket>>>>;

/// Admits jobs under keys. Clones share one state.
///
/// There are as many buckets as keys with a rate of their own; of a key that nobody uses, nothing else is remembered but
/// a hold or a crawl delay, and of those a bounded number.
#[derive(Clone)]
pub struct Gate {
    slots: KeyedLimiter,
    /// Locked before a bucket where both are, and never while a hook is called.
    buckets: Buckets,
    holds: Arc<Holds>,
    /// Locked before the buckets and the slots, and never while a hook is called: terms take hold in the order they came.
    terms: Arc<Mutex<Terms>>,
}

/// The right to run one job, or make one request, under one key. Dropping it returns its slots; its tokens are spent.
pub struct Permit {
    slots: Slots,
    tokens: Tokens,
    /// For [`Permit::end`]; `None` for a key that nothing limits.
    buckets: Option<Buckets>,
    /// Whether a token was taken wherever there is a rate. If not, no request may be made under it as it is.
    is_paid: bool,
}

/// Tokens taken, and the buckets they came from.
#[derive(Default)]
struct Tokens(PerPart<Option<Arc<TokenBucket>>>);

impl Gate {
    /// A gate with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Gate {
        let gate = Gate {
            slots: KeyedLimiter::new(limits.max_per_host),
            buckets: Arc::default(),
            holds: Arc::new(Holds::new(limits.policy.give_up)),
            terms: Arc::default(),
        };
        let mut terms_by_key: HashMap<LimitKey, KeyLimits> = HashMap::new();
        for (key, terms) in limits.by_key {
            let known = terms_by_key.entry(normalised(key)).or_insert(terms);
            *known = known.stricter(terms);
        }
        for (key, terms) in terms_by_key {
            gate.set(key, terms);
        }
        gate
    }

    /// Has `hook` called, without any lock held, with every key that may have become free for somebody it refused: when
    /// a slot returns to a key that refused somebody since its last return; when a token is refunded to a bucket that
    /// refused somebody since it last had one; when [`Gate::set`] eases such a key. Once per key and return, host
    /// first. Not when time brings a token or ends a hold: [`Wait::until`] says when.
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
    /// A held key is refused until its hold has ended. One that is given up is admitted again, for its slots and without
    /// a token: jobs come up and end, but no request may be made (ask [`Gate::given_up`]; [`Gate::redeem`] refuses it).
    ///
    /// # Errors
    /// [`Wait`] naming the first key that refuses.
    pub fn try_admit(&self, key: &Key, now: Mono) -> Result<Permit, Wait> {
        match self.holds.standing(key, now) {
            Standing::Held(wait) => Err(wait),
            Standing::Open => self.pay(self.unpaid(key)?, now),
            Standing::GivenUp(_) => self.unpaid(key).map_err(Wait::from),
        }
    }

    /// As [`Gate::try_admit`], but for a request that is to be made at once: a key that is given up refuses too.
    ///
    /// # Errors
    /// [`Wait`] naming the first key that refuses.
    pub fn try_request(&self, key: &Key, now: Mono) -> Result<Permit, Wait> {
        self.check_hold(key, now)?;
        self.pay(self.unpaid(key)?, now)
    }

    /// Makes of a permit that was given before one for a request that is to be made at once.
    ///
    /// # Errors
    /// [`Wait`] when its key has been held meanwhile, or the permit was given without a token because the key was given up
    /// and there is none now. The permit has then been refunded.
    pub fn redeem(&self, permit: Permit, now: Mono) -> Result<Permit, Wait> {
        match self.check_hold(permit.key(), now) {
            Ok(()) if permit.is_paid => Ok(permit),
            Ok(()) => self.pay(permit, now),
            Err(wait) => {
                permit.refund();
                Err(wait)
            }
        }
    }

    /// A server said to slow down: nobody asks `key` (as a [`Key`] has its parts, normalised) before the time returned,
    /// which never comes nearer.
    ///
    /// `Retry-After` is obeyed. Where there is none, or zero, the key waits for one second, and twice as long for each
    /// further event, up to a minute. Whatever the number of requests that were in flight, they tell of one event: an
    /// answer to a request that was sent before the event began may lengthen the wait, and takes no step.
    ///
    /// Tells nobody: whoever is refused is told until when. Of more than 4,096 held keys, the one that ends soonest is
    /// let go.
    pub fn hold(&self, key: &LimitKey, told: Told) -> Mono {
        self.holds.hold(key, told)
    }

    /// The server answered properly: the next event is a first one again, and the time to give up starts anew. A hold in
    /// force goes on. Takes no lock while nothing is held.
    pub fn answered(&self, key: &LimitKey, asked_at: Mono, now: Mono) {
        let _ = (asked_at, now);
        self.holds.answered(key);
    }

    /// The first part of `key` that is not worth waiting for at `now`: held until further away than [`Policy::give_up`],
    /// or held, and held again and again for that long without one proper answer.
    #[must_use]
    pub fn given_up(&self, key: &Key, now: Mono) -> Option<GivenUp> {
        match self.holds.standing(key, now) {
            Standing::GivenUp(given_up) => Some(given_up),
            Standing::Open | Standing::Held(_) => None,
        }
    }

    /// A server asks for a crawl delay: from now on, at most one request at a time and one per `interval` under `key` (as
    /// a [`Key`] has its parts, normalised), unless stricter terms are set by [`Gate::set`]. A further call takes the
    /// place of the one before; an `interval` of zero asks for nothing.
    ///
    /// Of more than 4,096 such keys, the one set longest ago is as before.
    pub fn slow_down(&self, key: &LimitKey, interval: Duration) {
        if !interval.is_zero() {
            self.apply(|terms| terms.slow_down(key, interval));
        }
    }

    /// A request failed for want of a server: connect, time-out, tls, 5xx. Counts for the breaker of `key`. Returns how that changed.
    pub fn failed(&self, key: &LimitKey, asked_at: Mono, now: Mono) -> Option<Transition> {
        let _ = (key, asked_at, now);
        None
    }

    /// A request timed out: a sign of overload.
    pub fn overloaded(&self, key: &LimitKey, asked_at: Mono, now: Mono) {
        let _ = (key, asked_at, now);
    }

    /// From now on limits are divided among processes: nothing may start that is limited before a store has said, in a [`KeyReply`], that this
    /// process is the sole one, or what its share is. A gate that was never told so is alone in the world.
    pub fn divide(&self) {}

    /// What this process was configured with: for every host, and by key.
    #[must_use]
    pub fn configured(&self) -> (Option<u32>, Vec<(LimitKey, KeyLimits)>) {
        (None, Vec::new())
    }

    /// What is to be told to the store in the turn at `now`: to be followed by [`Gate::learn`] or [`Gate::untold`] before the next. `None`:
    /// nothing, for a gate that is alone in the world.
    #[must_use]
    pub fn news(&self, now: Mono) -> Option<KeyNews> {
        let _ = now;
        None
    }

    /// Whether something of [`Gate::news`] should not wait for a turn that is made for another reason.
    #[must_use]
    pub fn has_urgent_news(&self, now: Mono) -> bool {
        let _ = now;
        false
    }

    /// When [`Gate::has_urgent_news`] may become true by the passing of time alone.
    #[must_use]
    pub fn next_news(&self) -> Option<Mono> {
        None
    }

    /// The turn was made, and this is the reply.
    pub fn learn(&self, reply: KeyReply, now: Mono) {
        let _ = (reply, now);
    }

    /// The turn was not made: everything in its news is to be told again.
    pub fn untold(&self, news: KeyNews) {
        let _ = news;
    }

    /// The owner was lost, and its shares with it: as at the beginning, nothing may start before the store has said what this process has.
    pub fn start_anew(&self) {}

    /// How breakers have changed since the last call, as far as it happened here: by an answer, or by the passing of time up to `now`.
    #[must_use]
    pub fn transitions(&self, now: Mono) -> Vec<(LimitKey, Transition)> {
        let _ = now;
        Vec::new()
    }

    /// How many permits [`Gate::try_admit`] would give for `key` now, slots and whole tokens; `None`: unlimited.
    #[must_use]
    pub fn free(&self, key: &Key, now: Mono) -> Option<u32> {
        let slots = self.slots.free(key);
        match self.holds.standing(key, now) {
            Standing::Held(_) => return Some(0),
            Standing::GivenUp(_) => return slots,
            Standing::Open => {}
        }
        let tokens = self.buckets_of(key).into_iter().flatten().map(|bucket| bucket.available(now));
        slots.into_iter().chain(tokens).min()
    }

    /// The tightest `max_concurrent` of `key`; `None`: unlimited.
    #[must_use]
    pub fn max_concurrent(&self, key: &Key) -> Option<u32> {
        self.slots.max_concurrent(key)
    }

    /// Changes what one key is limited to, while in use; permits that are out stay out, and so do tokens. The key is
    /// normalised. A crawl delay (see [`Gate::slow_down`]) goes on.
    pub fn set(&self, key: LimitKey, limits: KeyLimits) {
        let key = normalised(key);
        self.apply(|terms| vec![(key.clone(), terms.set(&key, limits))]);
    }

    /// Every key with permits out, a rate that makes somebody wait, or a hold, busiest first, at most `most`.
    #[must_use]
    pub fn status(&self, now: Mono, most: usize) -> Vec<KeyStatus> {
        let mut by_key: HashMap<LimitKey, KeyStatus> = HashMap::new();
        for InUse { key, running, limit } in self.slots.in_use() {
            let status = KeyStatus { key, running, limit, next_token: None, held_until: None };
            by_key.insert(status.key.clone(), status);
        }
        for (key, until) in self.holds.held(now) {
            by_key.entry(key).or_insert_with_key(|key| self.idle(key)).held_until = Some(until);
        }
        for (key, standing) in self.empty_buckets(now) {
            if let Some(status) = by_key.get_mut(&key) {
                status.next_token = standing.next_token;
            } else if standing.awaited {
                let next_token = standing.next_token;
                by_key.insert(key.clone(), KeyStatus { next_token, ..self.idle(&key) });
            }
        }
        let mut busiest: Vec<KeyStatus> = by_key.into_values().collect();
        busiest.sort_unstable_by(|a, b| b.running.cmp(&a.running).then_with(|| a.key.cmp(&b.key)));
        busiest.truncate(most);
        busiest
    }

    /// How a key stands with no permit out.
    fn idle(&self, key: &LimitKey) -> KeyStatus {
        let limit = self.slots.limit(key);
        KeyStatus { key: key.clone(), running: 0, limit, next_token: None, held_until: None }
    }

    /// A permit of the slots alone.
    fn unpaid(&self, key: &Key) -> Result<Permit, Full> {
        let slots = self.slots.try_acquire(key)?;
        let buckets = (!key.is_free()).then(|| Arc::clone(&self.buckets));
        Ok(Permit { slots, tokens: Tokens::default(), buckets, is_paid: false })
    }

    /// Adds the tokens.
    fn pay(&self, mut permit: Permit, now: Mono) -> Result<Permit, Wait> {
        match self.take_tokens(permit.slots.key(), now, &mut permit.tokens) {
            Ok(()) => Ok(Permit { is_paid: true, ..permit }),
            Err(wait) => {
                permit.refund();
                Err(wait)
            }
        }
    }

    /// Refuses what is held, given up or not.
    fn check_hold(&self, key: &Key, now: Mono) -> Result<(), Wait> {
        match self.holds.standing(key, now) {
            Standing::Open => Ok(()),
            Standing::Held(wait) => Err(wait),
            Standing::GivenUp(GivenUp { on, until, .. }) => {
                Err(Wait { on, reason: WaitReason::Held, until: Some(until) })
            }
        }
    }

    /// The buckets of `key`; for a key that nothing limits, without a lock.
    fn buckets_of(&self, key: &Key) -> PerPart<Option<Arc<TokenBucket>>> {
        if key.is_free() {
            return [None, None];
        }
        let buckets = self.buckets.lock();
        parts(key).map(|part| buckets.get(part?).cloned())
    }

    fn empty_buckets(&self, now: Mono) -> Vec<(LimitKey, bucket::Standing)> {
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

    /// Changes terms, has what holds now take hold, and tells who may come in for it.
    fn apply(&self, change: impl FnOnce(&mut Terms) -> Vec<(LimitKey, KeyLimits)>) {
        let mut terms = self.terms.lock();
        let changed = change(&mut terms).into_iter().filter(|(key, limits)| {
            let rate_awaited = self.set_rate(key, limits.rate);
            self.slots.set_untold(key, limits.max_concurrent) || rate_awaited
        });
        let awaited: Vec<LimitKey> = changed.map(|(key, _)| key).collect();
        drop(terms);
        awaited.iter().for_each(|key| self.slots.tell(key));
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

    /// Returns the permit after a request that ended at `now`: as dropping it, but where only one may run at a time and
    /// a rate is set, the rate's interval counts from here: that is how long such a server wants to be left alone (arXiv's
    /// three seconds, a crawl delay).
    pub fn end(self, now: Mono) {
        // Before the slots return: who is told of them finds the next token where it is.
        self.restart_lone_rates(now);
    }

    fn restart_lone_rates(&self, now: Mono) {
        let Some(buckets) = self.buckets.as_ref().filter(|_| self.is_paid) else { return };
        let limits = self.slots.limits();
        if !limits.contains(&Some(1)) {
            return;
        }
        let buckets = buckets.lock();
        for (part, limit) in parts(self.key()).into_iter().zip(limits) {
            if let Some(bucket) = part.filter(|_| limit == Some(1)).and_then(|p| buckets.get(p)) {
                bucket.restart(now);
            }
        }
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
