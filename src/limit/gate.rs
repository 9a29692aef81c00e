//! All limits of this process, asked in one order.
//!
//! Must never keep anything of a permit it refused, nor let the short while in which it held a part of one cost
//! anybody else their turn.

use std::collections::HashMap;
use std::time::Duration;

use crate::job::{Key, LimitKey, Mono, normalise_host, normalise_resolver};
use crate::share::{KeyEvent, KeyNews, KeyReply, Policy, Told, Transition, WhyGivenUp, WhyWaiting};

use super::KeyLimits;
use super::book::Book;
use super::bucket::NoToken;
use super::by_key::parts;
use super::division::Refusal;
use super::keyed::{Full, InUse, Slots};
use super::means::Means;
use super::pages::Verdict;
use super::permit::Permit;
use super::sync::Arc;

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
    /// Until when a server's word, or its breaker, keeps everybody out, where one does.
    pub held_until: Option<Mono>,
    /// What keeps everybody out whatever there is of slots and tokens: [`WaitReason::Held`], [`WaitReason::Open`] or
    /// [`WaitReason::Paused`].
    pub waiting: Option<WaitReason>,
}

/// A key that is not worth waiting for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// Which.
    pub on: LimitKey,
    /// Until when nobody asks it.
    pub until: Mono,
    /// Why.
    pub why: WhyGivenUp,
}

/// Admits jobs under keys. Clones share one state.
///
/// There are as many buckets as keys with a rate of their own; of a key that nobody uses, nothing else is remembered but
/// what is worth it, and of those a bounded number.
#[derive(Clone)]
pub struct Gate {
    inner: Arc<Inner>,
}

struct Inner {
    means: Means,
    book: Book,
    /// For every host, as configured.
    max_per_host: Option<u32>,
}

impl Gate {
    /// A gate with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Gate {
        let Limits { max_per_host, by_key, policy } = limits;
        let means = Means::new(max_per_host);
        let book = Book::new(means.clone(), policy, max_per_host);
        let gate = Gate { inner: Arc::new(Inner { means, book, max_per_host }) };
        let mut limits_by_key: HashMap<LimitKey, KeyLimits> = HashMap::new();
        for (key, limits) in by_key {
            let known = limits_by_key.entry(normalised(key)).or_insert(limits);
            *known = known.stricter(limits);
        }
        for (key, limits) in limits_by_key {
            gate.set(key, limits);
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
        self.inner.means.slots.on_release(hook);
    }

    /// Has `hook` called, without any lock held, when a server's word or an answer is to be told to others: [`Gate::next_news`] says from then
    /// on an earlier time than before. It runs on the thread that heard the answer, and must return at once.
    pub fn on_news(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.inner.book.on_news(Arc::new(hook));
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
        match self.inner.book.standing(key, now) {
            Verdict::Open => self.admit(key, now),
            Verdict::Waits(wait) => Err(wait),
            // A share is for requests.
            Verdict::GivenUp(_) if self.inner.book.may_be_shared() => {
                Ok(self.permit(Slots::none(key)))
            }
            Verdict::GivenUp(_) => self.unpaid(key, now),
        }
    }

    /// As [`Gate::try_admit`], but for a request that is to be made at once: a key that is given up refuses too.
    ///
    /// # Errors
    /// [`Wait`] naming the first key that refuses.
    pub fn try_request(&self, key: &Key, now: Mono) -> Result<Permit, Wait> {
        self.check_standing(key, now)?;
        self.begun(self.admit(key, now)?, now)
    }

    /// Makes of a permit that was given before one for a request that is to be made at once.
    ///
    /// # Errors
    /// [`Wait`] when its key has been held meanwhile, or the permit was given without a token because the key was given up
    /// and there is none now. The permit has then been refunded.
    pub fn redeem(&self, permit: Permit, now: Mono) -> Result<Permit, Wait> {
        if let Err(wait) = self.check_standing(permit.key(), now) {
            permit.refund();
            return Err(wait);
        }
        if let Some(full) = self.over(&permit) {
            let key = permit.key().clone();
            permit.refund();
            return Err(self.refused(&key, Refusal::Slot(full), now));
        }
        let mut permit = permit;
        permit.begin(now);
        match permit.has_slots() {
            _ if permit.covers(&self.inner.means) => Ok(permit),
            true => self.begun(self.pay(permit, now)?, now),
            false => self.try_request(permit.key(), now),
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
        self.inner.book.change(|pages, awaited| {
            pages.apply(key, KeyEvent::Told(told), told.now, awaited);
            let record = pages.record(key);
            record.and_then(|record| record.hold).map_or(told.now, |hold| hold.until)
        })
    }

    /// The server answered properly: the next event is a first one again, and the time to give up starts anew. A hold in
    /// force goes on. Takes no lock while nothing is held.
    pub fn answered(&self, key: &LimitKey, asked_at: Mono, now: Mono) {
        if self.inner.book.knows_anything() || self.may_adapt(key) {
            self.happened(key, KeyEvent::Answered { asked_at, now }, now);
        }
    }

    /// A request failed for want of a server: connect, time-out, tls, 5xx. Counts for the breaker of `key`. Returns how that changed.
    pub fn failed(&self, key: &LimitKey, asked_at: Mono, now: Mono) -> Option<Transition> {
        self.happened(key, KeyEvent::Failed { asked_at, now }, now)
    }

    /// A request timed out: a sign of overload.
    pub fn overloaded(&self, key: &LimitKey, asked_at: Mono, now: Mono) {
        self.happened(key, KeyEvent::Overloaded { asked_at, now }, now);
    }

    /// The first part of `key` that is not worth waiting for at `now`: held until further away than [`Policy::give_up`],
    /// or held, and held again and again for that long without one proper answer.
    #[must_use]
    pub fn given_up(&self, key: &Key, now: Mono) -> Option<GivenUp> {
        match self.inner.book.standing(key, now) {
            Verdict::GivenUp(given_up) => Some(given_up),
            Verdict::Open | Verdict::Waits(_) => None,
        }
    }

    /// A server asks for a crawl delay: from now on, at most one request at a time and one per `interval` under `key` (as
    /// a [`Key`] has its parts, normalised), unless stricter terms are set by [`Gate::set`]. A further call takes the
    /// place of the one before; an `interval` of zero asks for nothing.
    ///
    /// Of more than 4,096 such keys, the one set longest ago is as before.
    pub fn slow_down(&self, key: &LimitKey, interval: Duration) {
        if !interval.is_zero() {
            self.inner.book.change(|pages, awaited| {
                let now = pages.seen();
                pages.apply(key, KeyEvent::CrawlDelay(interval), now, awaited);
            });
        }
    }

    /// From now on limits are divided among processes: nothing may start that is limited before a store has said, in a [`KeyReply`], that this
    /// process is the sole one, or what its share is. A gate that was never told so is alone in the world.
    pub fn divide(&self) {
        self.inner.book.change_shares(|pages, _| pages.divide());
    }

    /// What this process was configured with: for every host, and by key.
    #[must_use]
    pub fn configured(&self) -> (Option<u32>, Vec<(LimitKey, KeyLimits)>) {
        let by_key = self.inner.book.look(|pages| {
            let own = pages.own.iter();
            own.map(|(part, limits)| (part.to_limit_key(), *limits)).collect()
        });
        (self.inner.max_per_host, by_key)
    }

    /// What is to be told to the store in the turn at `now`: to be followed by [`Gate::learn`] or [`Gate::untold`] before the next. `None`:
    /// nothing, for a gate that is alone in the world.
    #[must_use]
    pub fn news(&self, now: Mono) -> Option<KeyNews> {
        self.inner.book.change(|pages, awaited| pages.news(now, awaited))
    }

    /// Whether something of [`Gate::news`] should not wait for a turn that is made for another reason.
    #[must_use]
    pub fn has_urgent_news(&self, now: Mono) -> bool {
        self.next_news().is_some_and(|at| at <= now)
    }

    /// Whether other processes wait for what this one has of `key`, in use or not.
    #[must_use]
    pub fn is_awaited(&self, key: &Key) -> bool {
        self.inner.book.may_be_shared() && self.inner.book.look(|pages| pages.is_awaited(key))
    }

    /// Whether they do for anything.
    #[must_use]
    pub fn is_anything_awaited(&self) -> bool {
        self.inner.book.may_be_shared() && self.inner.book.look(|pages| pages.is_anything_awaited())
    }

    /// When [`Gate::has_urgent_news`] may become true by the passing of time alone.
    #[must_use]
    pub fn next_news(&self) -> Option<Mono> {
        self.inner.book.look(|pages| pages.urgent_at())
    }

    /// The turn was made, and this is the reply.
    pub fn learn(&self, reply: KeyReply, now: Mono) {
        self.inner.book.change_shares(|pages, awaited| pages.learn(reply, now, awaited));
    }

    /// The turn was not made: everything in its news is to be told again.
    pub fn untold(&self, news: KeyNews) {
        self.inner.book.change(|pages, awaited| pages.untold(news, awaited));
    }

    /// The owner was lost, and its shares with it: as at the beginning, nothing may start before the store has said what this process has.
    pub fn start_anew(&self) {
        self.inner.book.change_shares(|pages, _| pages.divide());
    }

    /// How breakers have changed since the last call, as far as it happened here: by an answer, or by the passing of time up to `now`.
    #[must_use]
    pub fn transitions(&self, now: Mono) -> Vec<(LimitKey, Transition)> {
        if !self.inner.book.is_alarmed() {
            return Vec::new();
        }
        self.inner.book.change(|pages, awaited| {
            pages.tick(now, awaited);
            std::mem::take(&mut pages.transitions)
        })
    }

    /// How many permits [`Gate::try_admit`] would give for `key` now, slots and whole tokens; `None`: unlimited.
    #[must_use]
    pub fn free(&self, key: &Key, now: Mono) -> Option<u32> {
        let (means, book) = (&self.inner.means, &self.inner.book);
        match book.standing(key, now) {
            Verdict::Waits(_) => return Some(0),
            Verdict::GivenUp(_) if book.may_be_shared() => return None,
            Verdict::GivenUp(_) => return means.slots.free(key),
            Verdict::Open => {}
        }
        let tokens = means.buckets_of(key).into_iter().flatten();
        let tokens = tokens.map(|bucket| bucket.available(now));
        means.slots.free(key).into_iter().chain(tokens).min()
    }

    /// The tightest `max_concurrent` of `key`; `None`: unlimited.
    #[must_use]
    pub fn max_concurrent(&self, key: &Key) -> Option<u32> {
        self.inner.means.slots.max_concurrent(key)
    }

    /// Changes what one key is limited to, while in use; permits that are out stay out, and so do tokens. The key is
    /// normalised. A crawl delay (see [`Gate::slow_down`]) goes on.
    pub fn set(&self, key: LimitKey, limits: KeyLimits) {
        let key = normalised(key);
        self.inner.book.change(|pages, awaited| {
            if pages.set(&key, limits) {
                awaited.push(key);
            }
        });
    }

    /// Every key with permits out, a rate that makes somebody wait, or a hold, busiest first, at most `most`.
    #[must_use]
    pub fn status(&self, now: Mono, most: usize) -> Vec<KeyStatus> {
        let means = &self.inner.means;
        let mut by_key: HashMap<LimitKey, KeyStatus> = HashMap::new();
        for InUse { key, running, limit } in means.slots.in_use() {
            by_key.insert(key.clone(), KeyStatus { running, limit, ..self.idle(&key) });
        }
        for (key, reason, until) in self.inner.book.look(|pages| pages.kept(now)) {
            let status = by_key.entry(key).or_insert_with_key(|key| self.idle(key));
            (status.waiting, status.held_until) = (Some(reason), until);
        }
        for (key, standing) in means.empty_buckets(now) {
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

    /// How many keys are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.inner.book.look(|pages| pages.entries.len())
    }

    /// How a key stands with no permit out.
    fn idle(&self, key: &LimitKey) -> KeyStatus {
        let limit = self.inner.means.slots.limit(key);
        KeyStatus {
            key: key.clone(),
            running: 0,
            limit,
            next_token: None,
            held_until: None,
            waiting: None,
        }
    }

    /// Whether an answer may change how many run at once under `key`, of which nothing is known.
    fn may_adapt(&self, key: &LimitKey) -> bool {
        matches!(key, LimitKey::Host(_)) && self.inner.max_per_host.is_some_and(|most| most > 1)
    }

    fn happened(&self, key: &LimitKey, event: KeyEvent, now: Mono) -> Option<Transition> {
        self.inner.book.change(|pages, awaited| pages.apply(key, event, now, awaited))
    }

    /// Refuses what is kept from being asked, given up or not.
    fn check_standing(&self, key: &Key, now: Mono) -> Result<(), Wait> {
        match self.inner.book.standing(key, now) {
            Verdict::Open => Ok(()),
            Verdict::Waits(wait) => Err(wait),
            Verdict::GivenUp(GivenUp { on, until, why }) => {
                Err(Wait { on, reason: why.into(), until: Some(until) })
            }
        }
    }

    /// A part of which more are out than there may be by now, or whose slots were granted under laxer terms.
    fn over(&self, permit: &Permit) -> Option<Full> {
        match self.inner.book.may_be_shared() {
            true => self.inner.book.look(|pages| pages.over(permit.key())),
            false => permit.over(),
        }
    }

    /// What a permit was given for begins.
    fn begun(&self, mut permit: Permit, now: Mono) -> Result<Permit, Wait> {
        permit.begin(now);
        if permit.is_paid() {
            return Ok(permit);
        }
        let buckets =
            parts(permit.key()).into_iter().zip(self.inner.means.buckets_of(permit.key()));
        let slowest = buckets
            .filter_map(|(part, bucket)| {
                let rate = bucket?.rate();
                Some((rate.per / rate.count.max(1), part?.to_limit_key()))
            })
            .max();
        // A permit that was paid for has a part with a rate.
        let (interval, on) = slowest.unwrap_or_else(|| (Duration::ZERO, LimitKey::Host("".into())));
        permit.refund();
        Err(Wait { on, reason: WaitReason::Rate, until: Some(now.plus(interval)) })
    }

    fn permit(&self, slots: Slots) -> Permit {
        let gate = (!slots.key().is_free()).then(|| self.clone());
        Permit::unpaid(slots, gate)
    }

    /// A permit of slots and tokens.
    fn admit(&self, key: &Key, now: Mono) -> Result<Permit, Wait> {
        let mut permit = self.unpaid(key, now)?;
        let Err((on, no_token)) = permit.pay(&self.inner.means, now) else { return Ok(permit) };
        permit.return_untouched();
        Err(self.lacks_token(key, on, no_token, now))
    }

    /// A permit of the slots alone.
    fn unpaid(&self, key: &Key, now: Mono) -> Result<Permit, Wait> {
        match self.inner.means.slots.try_acquire(key) {
            Ok(slots) => Ok(self.permit(slots)),
            Err(full) => Err(self.refused(key, Refusal::Slot(full), now)),
        }
    }

    /// Adds the tokens to a permit that was out already.
    fn pay(&self, mut permit: Permit, now: Mono) -> Result<Permit, Wait> {
        let Err((on, no_token)) = permit.pay(&self.inner.means, now) else { return Ok(permit) };
        let key = permit.key().clone();
        // First: a slot that it gives back is not one that lacks.
        permit.refund();
        Err(self.lacks_token(&key, on, no_token, now))
    }

    fn lacks_token(&self, key: &Key, on: LimitKey, no_token: NoToken, now: Mono) -> Wait {
        match no_token {
            NoToken::Until(until) => {
                let wait = Wait { on: on.clone(), reason: WaitReason::Rate, until: Some(until) };
                if self.inner.book.may_be_shared() {
                    // Sooner, if another process has one that it cannot use.
                    self.refused(key, Refusal::Token(on), now);
                }
                wait
            }
            NoToken::Ask => self.refused(key, Refusal::Token(on), now),
        }
    }

    /// What to tell somebody who was refused, and what is to be asked of the store for them.
    fn refused(&self, key: &Key, refusal: Refusal, now: Mono) -> Wait {
        match refusal {
            Refusal::Slot(full) if !self.inner.book.may_be_shared() => full.into(),
            refusal => self.inner.book.change(|pages, _| pages.refused(key, refusal, now)),
        }
    }

    /// See [`Permit::end`]: of a permit of `slots`, whose request ended at `now`.
    pub(super) fn restart_lone_rates(&self, slots: &Slots, now: Mono) {
        let limits = if self.inner.book.may_be_shared() {
            self.inner.book.look(|pages| pages.limits(slots.key()))
        } else {
            slots.limits()
        };
        if !limits.contains(&Some(1)) {
            return;
        }
        let buckets = self.inner.means.buckets_of(slots.key());
        for ((part, limit), bucket) in parts(slots.key()).into_iter().zip(limits).zip(buckets) {
            if let Some(bucket) = bucket.filter(|_| part.is_some() && limit == Some(1)) {
                bucket.restart(now);
            }
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

impl From<WhyWaiting> for WaitReason {
    fn from(why: WhyWaiting) -> WaitReason {
        match why {
            WhyWaiting::Held => WaitReason::Held,
            WhyWaiting::Open => WaitReason::Open,
            WhyWaiting::Paused => WaitReason::Paused,
        }
    }
}

impl From<WhyGivenUp> for WaitReason {
    fn from(why: WhyGivenUp) -> WaitReason {
        match why {
            WhyGivenUp::RateLimited => WaitReason::Held,
            WhyGivenUp::Down => WaitReason::Open,
        }
    }
}
