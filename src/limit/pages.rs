//! What this process knows of every key, and what that comes to: how many at once, how often, whether at all.
//!
//! Must never remember more than [`MAX_REMEMBERED`] keys that nobody uses, nor have anything take hold that a record does not
//! say. How shares come and go is [`division`](super::division)'s.

use crate::job::{Key, LimitKey, Mono};
use crate::share::{Configured, KeyEvent, KeyLimits, KeyRecord, Policy, Standing, Transition};

use super::by_key::{ByKey, PerPart, parts};
use super::division::Division;
use super::entry::{Entry, Frozen, Phase};
use super::gate::{GivenUp, Wait, WaitReason};
use super::keyed::{Allowance, Full};
use super::means::Means;

/// The most keys remembered that nobody uses; of more, the one that matters least is let go: one at rest, else the crawl delay
/// said longest ago, else what keeps people out the shortest.
pub(super) const MAX_REMEMBERED: usize = 4_096;
/// How often those at rest are looked for.
const SWEEP_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
/// So many that are at rest are let go at once.
const AT_ONCE: usize = 256;
const NEVER: Mono = Mono(std::time::Duration::MAX);

/// See the module. Behind the lock of a [`Book`](super::book::Book).
pub(super) struct Pages {
    pub(super) means: Means,
    pub(super) policy: Policy,
    pub(super) max_per_host: Option<u32>,
    /// What this process was configured with, by key.
    pub(super) own: ByKey<KeyLimits>,
    pub(super) entries: ByKey<Entry>,
    pub(super) division: Division,
    /// Changes of breakers that nobody has been told of.
    pub(super) transitions: Vec<(LimitKey, Transition)>,
    /// Something happened that is to be told sooner than anybody reckoned with.
    pub(super) has_news_sooner: bool,
    /// Entries that are [alarming](Entry::is_alarming).
    alarming: usize,
    /// No breaker half-opens before.
    half_opens_at: Mono,
    sweep_at: Mono,
    touches: u64,
}

/// What records say of a [`Key`].
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing keeps it.
    Open,
    /// A part of it is kept, and worth waiting for.
    Waits(Wait),
    /// A part of it is kept for too long, or has been too often.
    GivenUp(GivenUp),
}

impl Pages {
    pub(super) fn new(means: Means, policy: Policy, max_per_host: Option<u32>) -> Pages {
        Pages {
            means,
            policy,
            max_per_host,
            own: ByKey::default(),
            entries: ByKey::default(),
            division: Division::default(),
            transitions: Vec::new(),
            has_news_sooner: false,
            alarming: 0,
            half_opens_at: NEVER,
            sweep_at: NEVER,
            touches: 0,
        }
    }

    /// How many things there are that make it necessary to look here before anybody is admitted, or turned into an event.
    pub(super) fn alarms(&self) -> usize {
        self.alarming + self.transitions.len()
    }

    /// The latest time anybody came with.
    pub(super) fn seen(&self) -> Mono {
        self.division.seen
    }

    pub(super) fn record(&self, key: &LimitKey) -> Option<&KeyRecord> {
        self.entries.get(key.into()).map(|entry| &entry.record)
    }

    /// How many may run at once under each part of `key`, whoever runs them.
    pub(super) fn limits(&self, key: &Key) -> PerPart<Option<u32>> {
        parts(key).map(|part| self.entries.get(part?)?.terms.max_concurrent)
    }

    /// A part of `key` whose slots were granted under laxer terms than hold now.
    pub(super) fn over(&self, key: &Key) -> Option<Full> {
        parts(key).into_iter().flatten().find_map(|part| {
            let entry = self.entries.get(part)?;
            let on = part.to_limit_key();
            let running = self.means.slots.running(&on);
            let most = entry.terms.max_concurrent;
            // With more out than there may be, somewhere, nobody knows whose slot is the one too many.
            let is_over = entry.share.frozen != Frozen::No
                || entry.share.is_over
                || most.is_some_and(|most| running > most);
            is_over.then_some(Full { on, running, limit: most.unwrap_or_default() })
        })
    }

    /// What this process was configured with.
    pub(super) fn configured(&self, key: &LimitKey) -> Configured {
        let own = self.own.get(key.into()).copied().unwrap_or_default();
        let default = match key {
            LimitKey::Host(_) => self.max_per_host,
            LimitKey::Resolver(_) => None,
        };
        let max_concurrent = own.max_concurrent.or(default);
        Configured {
            limits: KeyLimits { max_concurrent, ..own },
            is_fixed: own.max_concurrent.is_some(),
        }
    }

    /// Changes what this process was configured with. Whether somebody is to be told.
    pub(super) fn set(&mut self, key: &LimitKey, limits: KeyLimits) -> bool {
        if limits == KeyLimits::default() {
            self.own.remove(key.into());
        } else {
            self.own.insert(key.into(), limits);
        }
        let now = self.division.seen;
        self.settle(key, now)
    }

    /// Takes in what happened. Returns how the breaker changed by it, and adds to `awaited` who is to be told.
    pub(super) fn apply(
        &mut self,
        key: &LimitKey,
        event: KeyEvent,
        now: Mono,
        awaited: &mut Vec<LimitKey>,
    ) -> Option<Transition> {
        self.tick(now, awaited);
        let configured = self.configured_of(key);
        let mut record = self.entries.get(key.into()).map(|entry| entry.record).unwrap_or_default();
        let before = record;
        let transition = record.apply(key, event, &configured, &self.policy);
        if record == before {
            if self.entries.get(key.into()).is_some() {
                self.entry(key);
            }
            return None;
        }
        let is_divided = self.division.is_told();
        let policy = self.policy;
        let entry = self.entry(key);
        entry.record = record;
        if is_divided && matters(&before, &record) {
            let is_urgent = before.standing(now, &policy) != record.standing(now, &policy)
                || before.crawl_delay != record.crawl_delay;
            let is_sooner = entry.queue(told_as(event, &before, &record), now, is_urgent);
            self.has_news_sooner |= is_sooner;
            self.division.activate(key);
        }
        self.transitions.extend(transition.map(|change| (key.clone(), change)));
        if self.settle(key, now) {
            awaited.push(key.clone());
        }
        self.shrink(now, awaited);
        transition
    }

    /// How `key` stands at `now`. A part that is given up counts more than one that is only kept: nobody will ask.
    pub(super) fn standing(
        &mut self,
        key: &Key,
        now: Mono,
        awaited: &mut Vec<LimitKey>,
    ) -> Verdict {
        self.tick(now, awaited);
        let mut verdict = Verdict::Open;
        for part in parts(key).into_iter().flatten() {
            let Some(entry) = self.entries.get(part) else { continue };
            let on = || part.to_limit_key();
            match entry.record.standing(now, &self.policy) {
                Standing::Open => {}
                Standing::GivenUp { why, until } => {
                    return Verdict::GivenUp(GivenUp { on: on(), until, why });
                }
                Standing::Waits { why, until } if matches!(verdict, Verdict::Open) => {
                    verdict = Verdict::Waits(Wait { on: on(), reason: why.into(), until });
                }
                Standing::Waits { .. } => {}
            }
        }
        verdict
    }

    /// Every key that is kept from being asked at `now`, in no order, with why and until when.
    pub(super) fn kept(&self, now: Mono) -> Vec<(LimitKey, WaitReason, Option<Mono>)> {
        let standing = self.entries.iter().map(|(part, entry)| {
            let (why, until) = match entry.record.standing(now, &self.policy) {
                Standing::Open => return None,
                Standing::Waits { why: crate::share::WhyWaiting::Paused, .. } => {
                    (WaitReason::Paused, None)
                }
                Standing::Waits { why, .. } => (why.into(), entry.kept_until(now)),
                Standing::GivenUp { why, until } => (why.into(), Some(until)),
            };
            Some((part.to_limit_key(), why, until))
        });
        standing.flatten().collect()
    }

    /// Time has come to `now`: breakers half-open, and what is at rest is forgotten.
    pub(super) fn tick(&mut self, now: Mono, awaited: &mut Vec<LimitKey>) {
        self.division.seen = self.division.seen.max(now);
        if self.half_opens_at <= now {
            let open = self.entries.iter().filter(|(_, entry)| entry.phase == Phase::Open);
            let open: Vec<LimitKey> = open.map(|(part, _)| part.to_limit_key()).collect();
            self.half_opens_at = NEVER;
            awaited.extend(open.into_iter().filter(|key| self.settle(key, now)));
        }
        if self.sweep_at <= now {
            self.sweep(now, awaited);
        }
    }

    /// Has what is known of `key` at `now` take hold. Whether somebody who was refused is to be told.
    pub(super) fn settle(&mut self, key: &LimitKey, now: Mono) -> bool {
        let configured = self.configured_of(key);
        let is_shared = self.division.is_shared();
        let own = self.configured(key).limits;
        let Some(entry) = self.entries.get_mut(key.into()) else {
            let allowance = match own.max_concurrent {
                _ if is_shared => Allowance::Default,
                None => Allowance::Default,
                Some(most) => Allowance::AtMost(most),
            };
            let allowance = self.without_default(key, allowance);
            let by_rate = self.means.set_rate(key, own.rate, is_shared);
            return self.means.slots.allow(key, allowance, false) || by_rate;
        };
        let was_alarming = entry.was_alarming;
        let half_opened = entry.pass_to(now, &configured);
        entry.was_alarming = entry.is_alarming();
        if !is_shared {
            entry.share.frozen = Frozen::No;
        }
        self.alarming += usize::from(entry.was_alarming);
        self.alarming -= usize::from(was_alarming);
        if let crate::share::BreakerState::Open { until } = entry.record.breaker.state
            && entry.phase == Phase::Open
        {
            self.half_opens_at = self.half_opens_at.min(until);
        }
        let terms = entry.terms;
        let (allowance, is_awaited) = if is_shared {
            (entry.allowance(now), entry.share.keep.is_some())
        } else {
            (terms.max_concurrent.map_or(Allowance::Unlimited, Allowance::AtMost), false)
        };
        let has_news = is_shared && entry.has_news();
        self.transitions.extend(half_opened.map(|change| (key.clone(), change)));
        if has_news {
            self.division.activate(key);
        }
        self.sweep_at = self.sweep_at.min(now.plus(SWEEP_EVERY));
        let allowance = self.without_default(key, allowance);
        let by_rate = self.means.set_rate(key, terms.rate, is_shared);
        self.means.slots.allow(key, allowance, is_awaited) || by_rate
    }

    /// The entry of `key`, as one that matters now.
    pub(super) fn entry(&mut self, key: &LimitKey) -> &mut Entry {
        self.touches += 1;
        let touched = self.touches;
        let entry = self.entries.get_or_insert_with(key.into(), Entry::default);
        entry.touched = touched;
        entry
    }

    /// What `key` is configured with, by whom ever that is known.
    pub(super) fn configured_of(&self, key: &LimitKey) -> Configured {
        let own = self.configured(key);
        let said = self.entries.get(key.into()).and_then(|entry| entry.configured);
        said.map_or(own, |said| said.stricter(own))
    }

    /// An entry in the table of slots only where it says something.
    pub(super) fn without_default(&self, key: &LimitKey, allowance: Allowance) -> Allowance {
        let default = match key {
            _ if self.division.is_shared() => Some(0),
            LimitKey::Host(_) => self.max_per_host,
            LimitKey::Resolver(_) => None,
        };
        let is_default = match allowance {
            Allowance::Default => true,
            Allowance::Unlimited => default.is_none(),
            Allowance::AtMost(most) => default == Some(most),
        };
        if is_default { Allowance::Default } else { allowance }
    }

    /// Forgets what is at rest and not used.
    fn sweep(&mut self, now: Mono, awaited: &mut Vec<LimitKey>) {
        self.sweep_at = if self.entries.len() == 0 { NEVER } else { now.plus(SWEEP_EVERY) };
        let (policy, is_shared) = (self.policy, self.division.is_shared());
        let at_rest = self.entries.iter().filter(|(_, entry)| {
            // What is usual there, and that the store has nothing to say of it, is kept as long as there is room.
            let is_useful = entry.record.adaptive.samples > 0 || is_shared && entry.share.is_known;
            entry.record.is_at_rest(now, &policy) && entry.is_free() && !is_useful
        });
        let at_rest: Vec<LimitKey> = at_rest.map(|(part, _)| part.to_limit_key()).collect();
        for key in at_rest {
            self.forget(&key, now, awaited);
        }
    }

    /// Forgets what matters least, if there is too much.
    pub(super) fn shrink(&mut self, now: Mono, awaited: &mut Vec<LimitKey>) {
        let Some(too_many) = self.entries.len().checked_sub(MAX_REMEMBERED).filter(|n| *n > 0)
        else {
            return;
        };
        let policy = self.policy;
        let free = self.entries.iter().filter(|(_, entry)| entry.is_free());
        let weighed = free.map(|(part, entry)| (entry.weight(now, &policy), part.to_limit_key()));
        let mut weighed: Vec<_> = weighed.collect();
        weighed.sort_unstable();
        for (at, ((class, ..), key)) in weighed.into_iter().enumerate().take(AT_ONCE) {
            // Of those at rest some more, so that not everybody new has all of them looked at.
            if at >= too_many && class > 0 {
                return;
            }
            self.forget(&key, now, awaited);
        }
    }

    fn forget(&mut self, key: &LimitKey, now: Mono, awaited: &mut Vec<LimitKey>) {
        if let Some(entry) = self.entries.remove(key.into()) {
            self.alarming -= usize::from(entry.was_alarming);
            if self.settle(key, now) {
                awaited.push(key.clone());
            }
        }
    }
}

/// Whether others need to hear what made of `before` what is now: what is usual is everybody's own.
fn matters(before: &KeyRecord, now: &KeyRecord) -> bool {
    let told = |record: &KeyRecord| {
        let mut told = *record;
        (told.adaptive.usual_us, told.adaptive.samples) = (0, 0);
        if told.adaptive.limit.is_none() {
            told.adaptive.run = 0;
        }
        told
    };
    told(before) != told(now)
}

/// As what others are told of it: that an answer took longer than usual is known here only.
fn told_as(event: KeyEvent, before: &KeyRecord, now: &KeyRecord) -> KeyEvent {
    match event {
        KeyEvent::Answered { asked_at, now: at }
            if before.adaptive.stepped_at != now.adaptive.stepped_at =>
        {
            KeyEvent::Overloaded { asked_at, now: at }
        }
        event => event,
    }
}
