//! What is known of a key by everybody on the queue, how events change it, and what it comes to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::{LimitKey, Mono, WallMs};

use super::wire::{is_default, ns_option};
use super::{Adaptive, Breaker, BreakerState, Bucket, Hold, Rate, Told, Transition};

/// What one key is limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyLimits {
    /// Running at once (0: none); `None`: the default for hosts, unlimited for resolvers.
    #[serde(skip_serializing_if = "is_default")]
    pub max_concurrent: Option<u32>,
    /// Starts per time; `None`: no rate.
    #[serde(skip_serializing_if = "is_default")]
    pub rate: Option<Rate>,
}

/// What a key is limited to by configuration: of one process, or of all that live, whichever is strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Configured {
    /// What holds, the default for hosts included.
    pub limits: KeyLimits,
    /// Whether `max_concurrent` was said of this very key, and not of all hosts: then nothing adapts it.
    pub is_fixed: bool,
}

/// When breakers open and close, and when a key is not worth waiting for: `[breaker]` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open a breaker; at least 1.
    pub failures: u32,
    /// How long it is open.
    pub open_for: Duration,
    /// Successes in a row that close it again; at least 1.
    pub successes: u32,
    /// A key that is held or open for so long without one proper answer, or held until further away than this, is given up.
    pub give_up: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            failures: 5,
            open_for: Duration::from_secs(60),
            successes: 3,
            give_up: Duration::from_mins(15),
        }
    }
}

/// Something that a request under a key came to, or that its server asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEvent {
    /// 429 or 503: slow down. Holds the key, and is a sign of overload.
    Told(Told),
    /// A time-out: a sign of overload.
    Overloaded {
        /// When the request had been sent.
        asked_at: Mono,
        /// When it was known.
        now: Mono,
    },
    /// Connect, time-out, tls, 5xx: counts for the breaker.
    Failed {
        /// When the request had been sent.
        asked_at: Mono,
        /// When it was known.
        now: Mono,
    },
    /// A proper answer: of any status below 500 but 429.
    Answered {
        /// When the request had been sent.
        asked_at: Mono,
        /// When its head was there.
        now: Mono,
    },
    /// A server asks for at most one request at a time and one per so much time (robots.txt); zero asks for nothing. A further one takes
    /// the place of the one before.
    CrawlDelay(Duration),
}

/// What a person changes while it is in use: `orch queue hosts set|pause|resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyChange {
    /// `Some(None)`: no limit of this kind any more.
    pub max_concurrent: Option<Option<u32>>,
    /// `Some(None)`: no rate of this kind any more.
    pub rate: Option<Option<Rate>>,
    /// Nobody starts anything under it, or again.
    pub paused: Option<bool>,
    /// Forget the hold, the breaker and the trouble: ask again now.
    pub forgive: bool,
}

/// See [`super`]. What is not worth remembering is [`KeyRecord::default`], and written as `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyRecord {
    /// What a person set while it was in use.
    #[serde(skip_serializing_if = "is_default")]
    pub set: KeyLimits,
    /// A person said that nobody starts anything.
    #[serde(skip_serializing_if = "is_default")]
    pub paused: bool,
    /// One request at a time, and one per so much time.
    #[serde(rename = "crawl_delay_ns", skip_serializing_if = "is_default", with = "ns_option")]
    pub crawl_delay: Option<Duration>,
    /// Its server said to slow down.
    #[serde(skip_serializing_if = "is_default")]
    pub hold: Option<Hold>,
    /// Its breaker.
    #[serde(skip_serializing_if = "is_default")]
    pub breaker: Breaker,
    /// What it has been seen to bear.
    #[serde(skip_serializing_if = "is_default")]
    pub adaptive: Adaptive,
    /// Since when it has been held or open again and again, without one proper answer.
    #[serde(rename = "trouble_since_ns", skip_serializing_if = "is_default", with = "ns_option")]
    pub trouble_since: Option<Mono>,
    /// The tokens that nobody has in hand; `None`: all that its rate allows.
    #[serde(skip_serializing_if = "is_default")]
    pub bucket: Option<Bucket>,
}

/// Whether anybody may ask, but for slots and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Open,
    /// Not now.
    Waits {
        /// Why.
        why: WhyWaiting,
        /// When it is worth trying again: the end of it, or when it is given up before; `None`: when somebody says so.
        until: Option<Mono>,
    },
    /// It is not worth waiting for: its jobs come up and end, without a request.
    GivenUp {
        /// Why.
        why: WhyGivenUp,
        /// Until when nobody asks.
        until: Mono,
    },
}

/// Why nobody may ask now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyWaiting {
    /// Its server said to slow down.
    Held,
    /// Its breaker is open.
    Open,
    /// A person paused it.
    Paused,
}

/// Why a key is not worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyGivenUp {
    /// It is held for longer than anybody waits: reason `rate_limited`.
    RateLimited,
    /// Its breaker has been open for longer than anybody waits: reason `host_down`.
    Down,
}

/// What a key comes to: the strictest of all that was said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// Running at once; `None`: unlimited.
    pub max_concurrent: Option<u32>,
    /// Which of all binds `max_concurrent`.
    pub binds: Binds,
    /// Starts per time; `None`: no rate.
    pub rate: Option<Rate>,
}

/// Which limit binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Binds {
    /// None: it is unlimited.
    #[default]
    Nothing,
    /// The configuration of some live process.
    Configured,
    /// What a person set while it was in use.
    Set,
    /// Its server's crawl delay.
    CrawlDelay,
    /// What it has been seen to bear.
    Adaptive,
    /// Its breaker is half-open: one probe at a time.
    Breaker,
}

impl KeyLimits {
    /// Terms that keep to both.
    #[must_use]
    pub fn stricter(self, other: KeyLimits) -> KeyLimits {
        let concurrent = self.max_concurrent.into_iter().chain(other.max_concurrent);
        let rates = self.rate.into_iter().chain(other.rate);
        KeyLimits { max_concurrent: concurrent.min(), rate: rates.reduce(Rate::stricter) }
    }
}

impl Configured {
    /// What holds where both processes live.
    #[must_use]
    pub fn stricter(self, other: Configured) -> Configured {
        Configured {
            limits: self.limits.stricter(other.limits),
            is_fixed: self.is_fixed || other.is_fixed,
        }
    }
}

impl KeyEvent {
    /// When it was known; `None`: at no time that matters.
    fn now(&self) -> Option<Mono> {
        match *self {
            KeyEvent::Told(Told { now, .. })
            | KeyEvent::Overloaded { now, .. }
            | KeyEvent::Failed { now, .. }
            | KeyEvent::Answered { now, .. } => Some(now),
            KeyEvent::CrawlDelay(_) => None,
        }
    }
}

impl KeyRecord {
    /// Takes in an event; `key` and `configured` say whether and below which cap it adapts (hosts without a fixed limit do). Returns
    /// how its breaker changed, if it did: [`Transition::Opened`] or [`Transition::Closed`], for it becomes half-open by time.
    ///
    /// A Told or an opening that comes when nobody has asked for [`Policy::give_up`] after the end of the last one begins a new trouble.
    pub fn apply(
        &mut self,
        key: &LimitKey,
        event: KeyEvent,
        configured: &Configured,
        policy: &Policy,
    ) -> Option<Transition> {
        if let Some(now) = event.now() {
            self.forget(now, policy);
        }
        let cap = self.adapts_below(key, configured);
        match event {
            KeyEvent::Told(told) => {
                self.told(told);
                self.overloaded(told.asked_at, told.now, cap);
                None
            }
            KeyEvent::Overloaded { asked_at, now } => {
                self.overloaded(asked_at, now, cap);
                None
            }
            KeyEvent::Failed { asked_at, now } => {
                let transition = self.breaker.failed(asked_at, now, policy);
                if transition.is_some() {
                    self.trouble_since.get_or_insert(now);
                }
                transition
            }
            KeyEvent::Answered { asked_at, now } => {
                self.answered(asked_at, now, cap);
                self.breaker.answered(asked_at, now, policy)
            }
            KeyEvent::CrawlDelay(interval) => {
                self.crawl_delay = Some(interval).filter(|i| !i.is_zero()).or(self.crawl_delay);
                None
            }
        }
    }

    /// Takes in what a person changed. Where they say how many at once, what was learned of it is forgotten.
    pub fn change(&mut self, change: &KeyChange) {
        if let Some(max_concurrent) = change.max_concurrent {
            self.set.max_concurrent = max_concurrent;
            self.adaptive = Adaptive::default();
        }
        self.set.rate = change.rate.unwrap_or(self.set.rate);
        self.paused = change.paused.unwrap_or(self.paused);
        if change.forgive {
            (self.hold, self.breaker, self.trouble_since) = Default::default();
        }
    }

    /// Whether anybody may ask at `now`.
    ///
    /// A person's pause comes first. Of a hold and an open breaker the later end counts. What is held or open is given up once there
    /// has been trouble for [`Policy::give_up`], or when it is held until further away than that; a half-open breaker lets its probe
    /// through all the same.
    #[must_use]
    pub fn standing(&self, now: Mono, policy: &Policy) -> Standing {
        if self.paused {
            return Standing::Waits { why: WhyWaiting::Paused, until: None };
        }
        let held = self.hold.map(|hold| hold.until).filter(|&until| now < until);
        let open = self.breaker.open_until(now);
        let Some(end) = held.max(open) else { return Standing::Open };
        let too_long_at = self.trouble_since.map(|since| since.plus(policy.give_up));
        let is_too_long = too_long_at.is_some_and(|at| at <= now);
        let is_too_far = held.is_some_and(|until| until.since(now) > policy.give_up);
        if is_too_long || is_too_far {
            let is_held = held.is_some();
            let why = if is_held { WhyGivenUp::RateLimited } else { WhyGivenUp::Down };
            return Standing::GivenUp { why, until: end };
        }
        let why = if held == Some(end) { WhyWaiting::Held } else { WhyWaiting::Open };
        Standing::Waits { why, until: Some(too_long_at.map_or(end, |at| at.min(end))) }
    }

    /// What it comes to at `now`: the strictest of what was configured, set, asked for by a server and learned. Only what a
    /// person set takes the place of what was configured, where that is the default of all hosts; then nothing adapts it. Of limits that
    /// are as strict, the first in the order of [`Binds`] is said to bind.
    #[must_use]
    pub fn terms(&self, configured: &Configured, now: Mono) -> Terms {
        let default = configured.limits.max_concurrent;
        let default = default.filter(|_| configured.is_fixed || self.set.max_concurrent.is_none());
        let adapted = self.adaptive.limit.filter(|_| self.may_adapt(configured));
        let is_half_open = matches!(self.breaker.state(now), BreakerState::HalfOpen { .. });
        let crawl_delay = self.crawl_delay.is_some();
        let limits = [
            (default, Binds::Configured),
            (self.set.max_concurrent, Binds::Set),
            (crawl_delay.then_some(1), Binds::CrawlDelay),
            (adapted, Binds::Adaptive),
            (is_half_open.then_some(1), Binds::Breaker),
        ];
        let said = limits.into_iter().filter_map(|(limit, binds)| Some((limit?, binds)));
        // Of equal ones `min_by_key` takes the first.
        let strictest = said.min_by_key(|&(limit, _)| limit);
        Terms {
            max_concurrent: strictest.map(|(limit, _)| limit),
            binds: strictest.map_or(Binds::Nothing, |(_, binds)| binds),
            rate: self.rate(configured.limits.rate),
        }
    }

    /// Whether there is nothing worth remembering at `now`: no word of a person or a server in force, no trouble, a full bucket.
    /// What [`Adaptive`] knows of the usual latency is not worth it, a lowered limit is. A breaker that has been half-open for
    /// [`Policy::give_up`] without a probe is not worth it either: nobody asks there any more.
    #[must_use]
    pub fn is_at_rest(&self, now: Mono, policy: &Policy) -> bool {
        let mut then = *self;
        then.forget(now, policy);
        if let Some(bucket) = &mut then.bucket {
            bucket.grow(now);
        }
        let is_breaker_at_rest = match then.breaker.last_end() {
            None => then.breaker.failures == 0,
            Some(end) => end.plus(policy.give_up) <= now,
        };
        let rest = KeyRecord {
            adaptive: Adaptive::default(),
            breaker: Breaker::default(),
            bucket: None,
            ..then
        };
        is_breaker_at_rest
            && then.bucket.is_none_or(|bucket| bucket.is_full())
            && then.adaptive.limit.is_none()
            && rest == KeyRecord::default()
    }

    /// Another boot of the machine: what was written at `from` with the monotonic time of that boot becomes what it is at `to`. What
    /// remained to be waited goes on by the wall clock, and is never longer than it was when written, for that clock may
    /// have been set back; what has been, has been by `to`; the bucket is empty at `to`.
    pub fn rebase(&mut self, from: (Mono, WallMs), to: (Mono, WallMs)) {
        let gone = Duration::from_millis(to.1.since_ms(from.1));
        let later = |until: Mono| to.0.plus(until.since(from.0).saturating_sub(gone));
        if let Some(hold) = &mut self.hold {
            *hold = Hold { began: to.0, until: later(hold.until), events: hold.events };
        }
        if self.breaker != Breaker::default() {
            (self.breaker.since, self.breaker.failed_at) = (to.0, to.0);
        }
        if let BreakerState::Open { until } = &mut self.breaker.state {
            *until = later(*until);
        }
        if self.adaptive.limit.is_some() {
            self.adaptive.stepped_at = to.0;
        }
        self.trouble_since = self.trouble_since.map(|_| to.0);
        self.bucket = self.bucket.map(|bucket| Bucket::empty(bucket.rate(), to.0));
    }

    /// Somebody may have spent all tokens there were at `at`: the bucket is as empty then, unless it was touched later. `rate` is the
    /// configured one.
    pub fn void_bucket(&mut self, rate: Option<Rate>, at: Mono) {
        let full = || self.rate(rate).map(Bucket::full);
        self.bucket = self.bucket.or_else(full).map(|bucket| bucket.void(at));
    }

    /// Whether somebody who knew it as it was `before` must learn of it at `now`: it stands in another way, or comes to something else. What
    /// only counts towards that (failures, answers in a row, tokens) is for those who report on it.
    #[must_use]
    pub(super) fn is_news_after(&self, before: &KeyRecord, now: Mono) -> bool {
        let known = |record: &KeyRecord| {
            let state = match record.breaker.state(now) {
                BreakerState::HalfOpen { .. } => BreakerState::HalfOpen { successes: 0 },
                state => state,
            };
            let held_until = record.hold.map(|hold| hold.until).filter(|&until| now < until);
            let KeyRecord { set, paused, crawl_delay, trouble_since, adaptive, .. } = *record;
            (set, paused, crawl_delay, trouble_since, adaptive.limit, state, held_until)
        };
        known(self) != known(before)
    }

    /// Whether somebody who knew it as it was `before` should learn of it, though not at once: with failures counted, an answer matters that
    /// did not before, for they are not in a row any more.
    #[must_use]
    pub(super) fn is_noted_after(&self, before: &KeyRecord) -> bool {
        (self.breaker.failures > 0) != (before.breaker.failures > 0)
    }

    /// The strictest of all rates.
    fn rate(&self, configured: Option<Rate>) -> Option<Rate> {
        let crawl = self.crawl_delay.map(|per| Rate { count: 1, per, burst: 1 });
        [configured, self.set.rate, crawl].into_iter().flatten().reduce(Rate::stricter)
    }

    fn may_adapt(&self, configured: &Configured) -> bool {
        !configured.is_fixed && self.set.max_concurrent.is_none()
    }

    /// The cap below which it adapts; `None`: it does not.
    fn adapts_below(&self, key: &LimitKey, configured: &Configured) -> Option<u32> {
        let may = matches!(key, LimitKey::Host(_)) && self.may_adapt(configured);
        configured.limits.max_concurrent.filter(|&cap| may && cap > 0)
    }

    fn told(&mut self, told: Told) {
        // One to a request from before the event began is no new trouble.
        if self.hold.is_none_or(|hold| told.asked_at > hold.began) {
            self.trouble_since.get_or_insert(told.now);
        }
        match &mut self.hold {
            Some(hold) => hold.extend(told),
            None => self.hold = Some(Hold::new(told)),
        }
    }

    fn overloaded(&mut self, asked_at: Mono, now: Mono, cap: Option<u32>) {
        if let Some(cap) = cap {
            self.adaptive.overloaded(asked_at, now, cap);
        }
    }

    fn answered(&mut self, asked_at: Mono, now: Mono, cap: Option<u32>) {
        if let Some(hold) = &mut self.hold {
            hold.answered();
        }
        if self.trouble_since.is_some_and(|since| asked_at > since) {
            self.trouble_since = None;
        }
        if let Some(cap) = cap {
            self.adaptive.answered(asked_at, now, now.since(asked_at), cap);
        }
    }

    /// Time has come to `now`: forgets what is over.
    fn forget(&mut self, now: Mono, policy: &Policy) {
        let give_up = policy.give_up;
        let ends = [self.hold.map(|hold| hold.until), self.breaker.last_end(), self.trouble_since];
        if ends.into_iter().flatten().max().is_some_and(|end| end.plus(give_up) <= now) {
            self.trouble_since = None;
        }
        self.hold = self.hold.filter(|hold| !hold.is_over(now, give_up));
        self.breaker.forget(now, give_up);
    }
}
