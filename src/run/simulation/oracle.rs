//! What an outsider who sees everything at once knows: every request that is out, every limit in force, everything servers said.
//!
//! It judges each start. It must never ask the code that it judges; the pure arithmetic of [`crate::share`] is all they have in common, and
//! of caps and rates not even that.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::{Key, LimitKey, Mono};
use crate::limit::{KeyLimits, Limits, Rate};
use crate::share::{BreakerState, Configured, KeyChange, KeyEvent, KeyRecord, Policy, Standing};

/// So long may a process act on what it was told before something changed: the bell's delay, a turn, and the next.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// Exactly how many starts a rate has left over every window that ends now.
#[derive(Debug, Clone, Copy)]
struct Meter {
    rate: Rate,
    /// In units of which a token costs `per` in nanoseconds, and a nanosecond brings `count`.
    level: u128,
    at: Mono,
}

impl Meter {
    fn full(rate: Rate, now: Mono) -> Meter {
        Meter { rate, level: u128::from(rate.burst) * rate.per.as_nanos(), at: now }
    }

    fn grow(&mut self, now: Mono) {
        let most = u128::from(self.rate.burst) * self.rate.per.as_nanos();
        let grown = now.since(self.at).as_nanos() * u128::from(self.rate.count);
        self.level = (self.level + grown).min(most);
        self.at = self.at.max(now);
    }

    /// Whether the start was within the rate.
    fn start(&mut self, now: Mono) -> bool {
        self.grow(now);
        let rest = self.level.checked_sub(self.rate.per.as_nanos());
        self.level = rest.unwrap_or(0);
        rest.is_some()
    }

    /// Since when a token has been there; `None`: none is.
    fn available_since(&self) -> Option<Mono> {
        let beyond = self.level.checked_sub(self.rate.per.as_nanos())?;
        let ago = u64::try_from(beyond / u128::from(self.rate.count.max(1))).unwrap_or(u64::MAX);
        Some(Mono(self.at.0.saturating_sub(Duration::from_nanos(ago))))
    }

    fn next(&self) -> Mono {
        let missing = self.rate.per.as_nanos().saturating_sub(self.level);
        let wait = missing.div_ceil(u128::from(self.rate.count.max(1)));
        self.at.plus(Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX)))
    }
}

/// A request that is out.
#[derive(Debug, Clone, Copy)]
struct Out {
    process: usize,
    since: Mono,
}

#[derive(Default)]
pub(super) struct KeyState {
    out: BTreeMap<u64, Out>,
    /// What was in force, and since when; the last is in force now.
    limits: Vec<(Mono, KeyLimits)>,
    configured: Configured,
    crawl_delay: Option<Duration>,
    set: KeyLimits,
    /// For what is allowed.
    meter: Option<Meter>,
    /// For what is owed: emptied whenever tokens may have been lost in good faith.
    owed: Option<Meter>,
    last_end: Option<Mono>,
    pub(super) record: KeyRecord,
    /// When it was last closed to everybody, and by what happened in which process.
    closed: Option<(Mono, Option<usize>)>,
    /// Starts before are not measured: somebody may not know the rate.
    lenient_until: Mono,
}

pub(super) struct Oracle {
    keys: BTreeMap<LimitKey, KeyState>,
    /// Every key of the world.
    all: Vec<LimitKey>,
    policy: Policy,
    live: BTreeMap<usize, Limits>,
}

impl KeyState {
    fn cap(&self) -> Option<u32> {
        self.limits.last().and_then(|(_, limits)| limits.max_concurrent)
    }

    /// The loosest cap that was in force since then.
    fn cap_since(&self, since: Mono) -> Option<u32> {
        let first = self.limits.iter().rposition(|(at, _)| *at <= since).unwrap_or(0);
        let caps = self.limits[first..].iter().map(|(_, limits)| limits.max_concurrent);
        caps.map(|cap| cap.unwrap_or(u32::MAX)).max()
    }

    /// Takes up what is now in force.
    fn renew(&mut self, now: Mono) {
        let Configured { mut limits, is_fixed } = self.configured;
        if self.set.max_concurrent.is_some() && !is_fixed {
            limits.max_concurrent = None;
        }
        limits = limits.stricter(self.set);
        if let Some(interval) = self.crawl_delay.filter(|interval| !interval.is_zero()) {
            let rate = Some(Rate { count: 1, per: interval, burst: 1 });
            limits = limits.stricter(KeyLimits { max_concurrent: Some(1), rate });
        }
        let before = self.limits.last().map(|(_, limits)| *limits);
        if before == Some(limits) {
            return;
        }
        self.limits.push((now, limits));
        if before.is_none_or(|before| before.rate != limits.rate) {
            self.lenient_until = if before.is_none() { now } else { now.plus(GRACE) };
            self.meter = limits.rate.map(|rate| Meter::full(rate, now));
            self.owed = self.meter;
            self.owe_nothing(now);
        }
        if before.is_some_and(|before| before.max_concurrent != limits.max_concurrent) {
            self.last_end = None;
        }
    }

    fn owe_nothing(&mut self, now: Mono) {
        if let Some(owed) = &mut self.owed {
            owed.grow(now);
            owed.level = 0;
        }
    }
}

pub(super) fn parts(key: &Key) -> Vec<LimitKey> {
    key.limits().collect()
}

impl Oracle {
    pub(super) fn new(policy: Policy, all: Vec<LimitKey>) -> Oracle {
        Oracle { keys: BTreeMap::new(), all, policy, live: BTreeMap::new() }
    }

    fn configured_of(&self, key: &LimitKey) -> Configured {
        let all = self.live.values().map(|limits| {
            let own = limits.by_key.get(key).copied().unwrap_or_default();
            let is_fixed = own.max_concurrent.is_some();
            let default = limits.max_per_host.filter(|_| matches!(key, LimitKey::Host(_)));
            let max_concurrent = own.max_concurrent.or(default);
            Configured { limits: KeyLimits { max_concurrent, ..own }, is_fixed }
        });
        all.reduce(Configured::stricter).unwrap_or_default()
    }

    fn state(&mut self, key: &LimitKey, now: Mono) -> &mut KeyState {
        if !self.keys.contains_key(key) {
            let mut state = KeyState { configured: self.configured_of(key), ..KeyState::default() };
            state.renew(now);
            self.keys.insert(key.clone(), state);
        }
        match self.keys.get_mut(key) {
            Some(state) => state,
            None => panic!("it was put there"),
        }
    }

    fn renew_all(&mut self, now: Mono) {
        let keys: Vec<LimitKey> = self.keys.keys().cloned().collect();
        for key in keys {
            let configured = self.configured_of(&key);
            let state = self.state(&key, now);
            state.configured = configured;
            state.renew(now);
        }
    }

    pub(super) fn joins(&mut self, process: usize, limits: &Limits, now: Mono) {
        self.live.insert(process, limits.clone());
        // From the first on: what was in force before it changed is known of every key, asked for or not.
        for key in self.all.clone() {
            self.state(&key, now);
        }
        self.renew_all(now);
    }

    /// Its row is gone. With others left, what it had of tokens is lost to everybody.
    pub(super) fn leaves(&mut self, process: usize, now: Mono) {
        self.vanishes(process);
        if self.live.remove(&process).is_some() && !self.live.is_empty() {
            self.renew_all(now);
        }
        self.owe_nothing(now);
    }

    pub(super) fn owe_nothing(&mut self, now: Mono) {
        self.keys.values_mut().for_each(|state| state.owe_nothing(now));
    }

    /// Its requests are out no more: nobody reads their answers.
    pub(super) fn vanishes(&mut self, process: usize) {
        for state in self.keys.values_mut() {
            let before = state.out.len();
            state.out.retain(|_, out| out.process != process);
            if state.out.len() < before {
                state.last_end = None;
            }
        }
    }

    /// A request starts in a process that has known everything since `knows_since`, but for [`GRACE`].
    pub(super) fn starts(
        &mut self,
        process: usize,
        serial: u64,
        key: &Key,
        now: Mono,
        blind_since: Option<Mono>,
    ) -> Result<(), String> {
        let policy = self.policy;
        let before = Mono(blind_since.unwrap_or(now).0.saturating_sub(GRACE));
        for part in parts(key) {
            let state = self.state(&part, now);
            let out = u32::try_from(state.out.len()).unwrap_or(u32::MAX);
            if let Some(cap) = state.cap_since(before)
                && out >= cap
            {
                return Err(format!("cap: {part} has {out} out, {cap} allowed"));
            }
            let is_half_open =
                matches!(state.record.breaker.state(now), BreakerState::HalfOpen { .. });
            let opened_before = state.record.breaker.since <= before;
            if is_half_open && opened_before && out > 0 {
                return Err(format!("breaker: {part} is half-open and {out} are out"));
            }
            let standing = state.record.standing(now, &policy);
            if let (false, Some((at, by))) = (standing == Standing::Open, state.closed)
                && (by == Some(process) || at < before)
            {
                return Err(format!("closed: {part} is {standing:?}, since {at:?} by {by:?}"));
            }
            if let Some(owed) = &mut state.owed {
                owed.start(now);
            }
            let knows = blind_since.is_none() && now >= state.lenient_until;
            if let Some(meter) = &mut state.meter {
                let rate = meter.rate;
                if !meter.start(now) && knows {
                    return Err(format!("rate: {part} started more than {rate} ({})", rate.burst));
                }
                let interval = rate.per / rate.count.max(1);
                let lone = state.cap() == Some(1);
                if let Some(end) = state.last_end.filter(|_| lone && knows)
                    && now.since(end) < interval
                {
                    let since = now.since(end);
                    return Err(format!("interval: {part} asked {since:?} after the last answer"));
                }
            }
            state.out.insert(serial, Out { process, since: now });
        }
        Ok(())
    }

    pub(super) fn ends(&mut self, serial: u64, key: &Key, now: Mono) {
        for part in parts(key) {
            let state = self.state(&part, now);
            if state.out.remove(&serial).is_none() {
                continue;
            }
            state.last_end = Some(now);
            let configured = state.configured;
            if state.cap() == Some(1)
                || state.record.terms(&configured, now).max_concurrent == Some(1)
            {
                state.owe_nothing(now);
            }
        }
    }

    /// Takes in what happened in that process. Returns when the key may be asked again, if now it may not.
    pub(super) fn event(
        &mut self,
        process: usize,
        key: &LimitKey,
        event: KeyEvent,
        now: Mono,
    ) -> Option<Mono> {
        let policy = self.policy;
        let state = self.state(key, now);
        let configured = state.configured;
        state.record.apply(key, event, &configured, &policy);
        if let KeyEvent::CrawlDelay(interval) = event {
            state.crawl_delay = Some(interval);
            state.renew(now);
        }
        Self::note_closed(state, Some(process), now, &policy)
    }

    pub(super) fn change(&mut self, key: &LimitKey, change: &KeyChange, now: Mono) -> Option<Mono> {
        let policy = self.policy;
        let state = self.state(key, now);
        state.record.change(change);
        state.set.max_concurrent = change.max_concurrent.unwrap_or(state.set.max_concurrent);
        state.set.rate = change.rate.unwrap_or(state.set.rate);
        state.renew(now);
        Self::note_closed(state, None, now, &policy)
    }

    fn note_closed(
        state: &mut KeyState,
        by: Option<usize>,
        now: Mono,
        policy: &Policy,
    ) -> Option<Mono> {
        match state.record.standing(now, policy) {
            Standing::Open => None,
            Standing::Waits { until, .. } => {
                state.closed = Some((now, by));
                until
            }
            Standing::GivenUp { until, .. } => {
                state.closed = Some((now, by));
                Some(until)
            }
        }
    }

    /// A job was ended because its key is given up.
    pub(super) fn gives_up(&mut self, key: &Key, now: Mono) -> Result<(), String> {
        let policy = self.policy;
        let is_given_up = parts(key).into_iter().any(|part| {
            let record = self.state(&part, now).record;
            matches!(record.standing(now, &policy), Standing::GivenUp { .. })
        });
        if is_given_up { Ok(()) } else { Err(format!("given up: {key} too early")) }
    }

    /// Since when a request under `key` could be out; `None`: not now.
    pub(super) fn open_since(&mut self, key: &Key, now: Mono) -> Option<Mono> {
        let policy = self.policy;
        let mut since = Mono::default();
        for part in parts(key) {
            let state = self.state(&part, now);
            let configured = state.configured;
            let out = u32::try_from(state.out.len()).unwrap_or(u32::MAX);
            let learned = state.record.terms(&configured, now).max_concurrent;
            let cap = state.cap().into_iter().chain(learned).min();
            if state.record.standing(now, &policy) != Standing::Open
                || cap.is_some_and(|cap| out >= cap)
            {
                return None;
            }
            if let Some(owed) = &mut state.owed {
                owed.grow(now);
                since = since.max(owed.available_since()?);
            }
        }
        Some(since)
    }

    /// When a token of `key` will be there, where one lacks.
    pub(super) fn next_token(&mut self, key: &Key, now: Mono) -> Option<Mono> {
        let next = parts(key).into_iter().filter_map(|part| {
            let owed = self.state(&part, now).owed.as_mut()?;
            owed.grow(now);
            Some(owed.next()).filter(|at| *at > now)
        });
        next.max()
    }

    /// How many requests are out under a key.
    pub(super) fn out(&self, key: &LimitKey) -> u32 {
        let out = self.keys.get(key).map_or(0, |state| state.out.len());
        u32::try_from(out).unwrap_or(u32::MAX)
    }

    /// How a key stands, for a trace.
    pub(super) fn tell(&self, key: &LimitKey) -> String {
        let Some(state) = self.keys.get(key) else { return "unknown".to_owned() };
        let out: Vec<String> = state
            .out
            .values()
            .map(|out| format!("p{} since {:?}", out.process, out.since.0))
            .collect();
        format!("{:?} of {:?}, {:?}", out, state.limits.last(), state.record)
    }
}
