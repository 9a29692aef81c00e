//! What an outsider who sees everything at once knows: every request that is out, every limit in force, everything servers said.
//!
//! It judges each start. It must never ask the code that it judges; the pure arithmetic of [`crate::share`] is all they have in common, and
//! of caps and rates not even that.
//!
//! What answers come to depends on their order, and processes tell theirs now and then: whether a breaker is open, or how long a hold of
//! which the server did not say how long, is what the store makes of what it is told. So a start is judged by what the store knew, for so long that
//! everybody must know it, and by what servers said in so many words; and the store's breakers by what every order makes of the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::{Key, LimitKey, Mono};
use crate::limit::{KeyLimits, Limits, Rate};
use crate::share::{
    BreakerState, Configured, KeyChange, KeyEvent, KeyRecord, Policy, SHARE_PERIOD, Standing, Told,
};

/// So long may a process act on what it was told before something changed: the bell's delay, a turn, and the next.
pub(super) const GRACE: Duration = Duration::from_millis(20);

/// So late an answer that does not change how a key stands may be told, and others hear what it came to.
const TOLD_WITHIN: Duration = SHARE_PERIOD.saturating_add(Duration::from_millis(60));

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

/// A server said to slow down: nobody asks it before.
#[derive(Debug, Clone, Copy)]
struct Held {
    by: usize,
    at: Mono,
    until: Mono,
    /// Whoever heard it has said so, or will.
    is_told: bool,
}

/// An answer that counts for the breaker.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    by: usize,
    asked_at: Mono,
    at: Mono,
    failed: bool,
}

#[derive(Default)]
pub(super) struct KeyState {
    out: BTreeMap<u64, Out>,
    /// What was in force, and since when; the last is in force now.
    limits: Vec<(Mono, KeyLimits)>,
    configured: Configured,
    /// When that last changed.
    configured_at: Mono,
    crawl_delay: Option<Duration>,
    set: KeyLimits,
    /// For what is allowed.
    meter: Option<Meter>,
    /// For what is owed: emptied whenever tokens may have been lost in good faith.
    owed: Option<Meter>,
    last_end: Option<Mono>,
    /// What answers come to in the order of their time.
    record: KeyRecord,
    /// What the store knew, and since when; the last is what it knows now.
    kept: Vec<(Mono, KeyRecord)>,
    held: Vec<Held>,
    /// In the order of their time.
    outcomes: Vec<Outcome>,
    /// Starts before are not measured: somebody may not know the rate.
    lenient_until: Mono,
}

pub(super) struct Oracle {
    keys: BTreeMap<LimitKey, KeyState>,
    /// Every key of the world.
    all: Vec<LimitKey>,
    policy: Policy,
    /// Everything that is heard is told.
    is_calm: bool,
    live: BTreeMap<usize, Limits>,
    /// From when and until when a process says nothing.
    silent: BTreeMap<usize, (Mono, Mono)>,
}

impl KeyState {
    fn cap(&self) -> Option<u32> {
        self.limits.last().and_then(|(_, limits)| limits.max_concurrent)
    }

    /// The cap that was in force then.
    fn cap_at(&self, at: Mono) -> Option<u32> {
        let limits = self.limits.iter().rev().find(|(since, _)| *since <= at);
        limits.and_then(|(_, limits)| limits.max_concurrent)
    }

    /// The loosest cap that was in force since then.
    fn cap_since(&self, since: Mono) -> Option<u32> {
        let first = self.limits.iter().rposition(|(at, _)| *at <= since).unwrap_or(0);
        let caps = self.limits[first..].iter().map(|(_, limits)| limits.max_concurrent);
        caps.map(|cap| cap.unwrap_or(u32::MAX)).max()
    }

    /// What the store knew at some time since then.
    fn kept_since(&self, since: Mono) -> &[(Mono, KeyRecord)] {
        let first = self.kept.iter().rposition(|(at, _)| *at <= since).unwrap_or(0);
        &self.kept[first..]
    }

    /// The loosest of what a process may know to be learned, if it has heard nothing since then: crawl delay, adaptive limit, a half-open
    /// breaker. Of answers to itself it knows before the store.
    fn learned_since(&self, process: usize, since: Mono, now: Mono, policy: &Policy) -> u32 {
        // Of several configurations the one with which it is loosest.
        let is_fixed = self.configured.is_fixed || self.configured_at >= since;
        let configured = Configured { is_fixed, ..self.configured };
        let key = LimitKey::Host("".into());
        let loosest = |(_, kept): &(Mono, KeyRecord)| {
            // What nobody has asked for so long may be forgotten.
            if kept.is_at_rest(now, policy) {
                return None;
            }
            let mut record = *kept;
            let own = |it: &&Outcome| it.by == process && it.at.plus(TOLD_WITHIN) > now;
            for outcome in self.outcomes.iter().filter(own).filter(|outcome| !outcome.failed) {
                let Outcome { asked_at, at, .. } = *outcome;
                let answered = KeyEvent::Answered { asked_at, now: at };
                record.apply(&key, answered, &configured, policy);
            }
            let learned = Configured { is_fixed, ..Configured::default() };
            let most = [*kept, record].map(|record| record.terms(&learned, now).max_concurrent);
            most.into_iter().max_by_key(|most| most.unwrap_or(u32::MAX)).flatten()
        };
        let known = self.kept_since(since).iter().map(loosest);
        known.map(|most| most.unwrap_or(u32::MAX)).max().unwrap_or(u32::MAX)
    }

    /// What the store knows.
    fn kept(&self) -> KeyRecord {
        self.kept.last().map(|(_, record)| *record).unwrap_or_default()
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
            // A token that was there already is kept.
            self.last_end = None;
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

    /// Whether the store's breaker opened, or did not, although no order of the answers says so.
    fn judge_breaker(
        &self,
        before: &KeyRecord,
        record: &KeyRecord,
        now: Mono,
        policy: &Policy,
    ) -> Result<(), String> {
        let needed = policy.failures as usize;
        let of_this_state =
            |since: Mono| self.outcomes.iter().filter(move |outcome| outcome.asked_at >= since);
        let (was, is) = (&before.breaker, &record.breaker);
        if was.state == BreakerState::Closed && matches!(is.state, BreakerState::Open { .. }) {
            let since = self.last_reset(was.since, now);
            let failures =
                of_this_state(was.since).filter(|it| it.failed && it.at >= since).count();
            if failures < needed {
                return Err(format!("opened after {failures} failures in a row, since {since:?}"));
            }
        }
        if is.state == BreakerState::Closed {
            let settled: Vec<&Outcome> =
                of_this_state(is.since).filter(|it| it.at.plus(TOLD_WITHIN) <= now).collect();
            let Some(run) = settled.len().checked_sub(needed).map(|at| &settled[at..]) else {
                return Ok(());
            };
            let from = Mono(run[0].at.0.saturating_sub(TOLD_WITHIN));
            let is_answered = of_this_state(is.since).any(|it| !it.failed && it.at >= from);
            let is_in_a_row = run[0].at.plus(policy.give_up) > now;
            if run.iter().all(|it| it.failed) && !is_answered && is_in_a_row {
                return Err(format!("is closed after {needed} failures in a row: {run:?}"));
            }
        }
        Ok(())
    }

    /// No failure before counts any more: a process that knew of one was answered since, and has said so.
    fn last_reset(&self, since: Mono, now: Mono) -> Mono {
        let mut failed: BTreeMap<usize, Mono> = BTreeMap::new();
        let mut reset = since;
        let told = |it: &&Outcome| it.asked_at >= since && it.at.plus(TOLD_WITHIN) <= now;
        for outcome in self.outcomes.iter().filter(told) {
            if outcome.failed {
                failed.insert(outcome.by, outcome.at);
            } else if let Some(at) = failed.remove(&outcome.by) {
                reset = reset.max(Mono(at.0.saturating_sub(TOLD_WITHIN)));
            }
        }
        reset
    }
}

pub(super) fn parts(key: &Key) -> Vec<LimitKey> {
    key.limits().collect()
}

impl Oracle {
    pub(super) fn new(policy: Policy, all: Vec<LimitKey>, is_calm: bool) -> Oracle {
        Oracle {
            keys: BTreeMap::new(),
            all,
            policy,
            is_calm,
            live: BTreeMap::new(),
            silent: BTreeMap::new(),
        }
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
            let kept = vec![(Mono::default(), KeyRecord::default())];
            let configured = self.configured_of(key);
            let mut state = KeyState { configured, kept, ..KeyState::default() };
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
            if configured != std::mem::replace(&mut state.configured, configured) {
                state.configured_at = now;
            }
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
        self.vanishes(process, now);
        if self.live.remove(&process).is_some() && !self.live.is_empty() {
            self.renew_all(now);
        }
        self.owe_nothing(now);
    }

    pub(super) fn owe_nothing(&mut self, now: Mono) {
        self.keys.values_mut().for_each(|state| state.owe_nothing(now));
    }

    /// Its requests are out no more: nobody reads their answers.
    pub(super) fn vanishes(&mut self, process: usize, now: Mono) {
        self.is_silent(process, now, now);
        for state in self.keys.values_mut() {
            let before = state.out.len();
            state.out.retain(|_, out| out.process != process);
            if state.out.len() < before {
                state.last_end = None;
            }
        }
    }

    /// It tells nothing from now on, perhaps not even what it heard just now.
    pub(super) fn is_silent(&mut self, process: usize, now: Mono, until: Mono) {
        let known = self.silent.get(&process).filter(|(_, until)| *until > now);
        let (since, until) = known.map_or((now, until), |known| (known.0, known.1.max(until)));
        self.silent.insert(process, (since, until));
        for held in self.keys.values_mut().flat_map(|state| &mut state.held) {
            held.is_told &= held.by != process || held.at.plus(GRACE) < since;
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
            let silent = self.silent.clone();
            let state = self.state(&part, now);
            // Nobody was told of what began while nothing limited the key, if its process was stopped when something did.
            let is_unsaid = |out: &&Out| {
                let since = silent.get(&out.process);
                since.is_some_and(|(from, until)| {
                    now < *until
                        && state.cap_at(out.since).is_none()
                        && state.cap_at(*from).is_none()
                })
            };
            let out = state.out.values().filter(|out| !is_unsaid(out)).count();
            let out = u32::try_from(out).unwrap_or(u32::MAX);
            if let Some(cap) = state.cap_since(before)
                && out >= cap
            {
                return Err(format!("cap: {part} has {out} out, {cap} allowed"));
            }
            let known = state.kept_since(before);
            if known.iter().all(|(_, record)| record.standing(now, &policy) != Standing::Open) {
                let standing = state.kept().standing(now, &policy);
                return Err(format!("closed: {part} is {standing:?}, since {:?}", known[0].0));
            }
            let most = state.learned_since(process, before, now, &policy);
            if out >= most {
                return Err(format!(
                    "cap: {part} has {out} out, {most} allowed by what is learned"
                ));
            }
            let held = state.held.iter().find(|held| {
                now < held.until && (held.by == process || (held.is_told && held.at < before))
            });
            if let Some(held) = held {
                return Err(format!("held: {part} was told to slow down: {held:?}"));
            }
            if let Some(owed) = &mut state.owed {
                owed.start(now);
            }
            let is_measured = now >= state.lenient_until;
            let knows = blind_since.is_none() && is_measured;
            if let Some(meter) = state.meter.as_mut().filter(|_| is_measured) {
                let rate = meter.rate;
                if !meter.start(now) && knows {
                    return Err(format!("rate: {part} started more than {rate} ({})", rate.burst));
                }
                let interval = rate.per / rate.count.max(1);
                let lone = state.cap() == Some(1);
                // Of a request that ended before everybody knew of the limit nobody counts from its end.
                let is_known = |end: &Mono| lone && knows && *end >= state.lenient_until;
                if let Some(end) = state.last_end.filter(is_known)
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
            // What the answer itself came to included, of which the store does not know yet.
            let learned = [state.kept(), state.record];
            let mut learned = learned.iter().map(|record| record.terms(&configured, now));
            if state.cap() == Some(1) || learned.any(|terms| terms.max_concurrent == Some(1)) {
                state.owe_nothing(now);
            }
        }
    }

    /// Takes in what happened in that process.
    pub(super) fn event(&mut self, process: usize, key: &LimitKey, event: KeyEvent, now: Mono) {
        let policy = self.policy;
        let state = self.state(key, now);
        let configured = state.configured;
        state.record.apply(key, event, &configured, &policy);
        let mut note = |asked_at, failed| {
            state.outcomes.push(Outcome { by: process, asked_at, at: now, failed });
        };
        match event {
            KeyEvent::CrawlDelay(interval) => {
                state.crawl_delay = Some(interval);
                state.renew(now);
            }
            KeyEvent::Told(Told { after, .. }) => {
                let least =
                    after.filter(|after| !after.is_zero()).unwrap_or(Duration::from_secs(1));
                let until = now.plus(least);
                state.held.push(Held { by: process, at: now, until, is_told: true });
            }
            KeyEvent::Failed { asked_at, .. } => note(asked_at, true),
            KeyEvent::Answered { asked_at, .. } => note(asked_at, false),
            KeyEvent::Overloaded { .. } => {}
        }
    }

    pub(super) fn change(&mut self, key: &LimitKey, change: &KeyChange, now: Mono) {
        let state = self.state(key, now);
        state.record.change(change);
        state.set.max_concurrent = change.max_concurrent.unwrap_or(state.set.max_concurrent);
        state.set.rate = change.rate.unwrap_or(state.set.rate);
        if change.forgive {
            state.held.clear();
        }
        state.renew(now);
    }

    /// Sees what the store knows now. Returns when the keys that may not be asked may be asked again.
    pub(super) fn look(
        &mut self,
        known: impl Fn(&LimitKey) -> KeyRecord,
        now: Mono,
    ) -> Result<Vec<Mono>, String> {
        let (policy, is_calm) = (self.policy, self.is_calm);
        let mut moments = Vec::new();
        for (key, state) in &mut self.keys {
            let mut record = known(key);
            record.bucket = None;
            (record.adaptive.usual_us, record.adaptive.samples) = (0, 0);
            let before = state.kept();
            if record != before {
                state.kept.push((now, record));
                match record.standing(now, &policy) {
                    Standing::Open => {}
                    Standing::Waits { until, .. } => moments.extend(until),
                    Standing::GivenUp { until, .. } => moments.push(until),
                }
            }
            if is_calm {
                state
                    .judge_breaker(&before, &record, now, &policy)
                    .map_err(|e| format!("breaker: {key} {e}"))?;
            }
        }
        Ok(moments)
    }

    /// A job was ended because its key is given up.
    pub(super) fn gives_up(&mut self, key: &Key, now: Mono) -> Result<(), String> {
        let policy = self.policy;
        let is_given_up = parts(key).into_iter().any(|part| {
            let state = self.state(&part, now);
            // What it heard itself, or what the store knew lately.
            let kept = state.kept_since(Mono(now.0.saturating_sub(GRACE))).iter();
            let mut known = kept.map(|(_, record)| *record).chain([state.record]);
            known.any(|it| matches!(it.standing(now, &policy), Standing::GivenUp { .. }))
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
            // What the store knows, and what whoever heard it knows before.
            let known = [state.kept(), state.record];
            let learned = known.map(|record| record.terms(&configured, now).max_concurrent);
            let cap = state.cap().into_iter().chain(learned.into_iter().flatten()).min();
            let is_kept = known.iter().any(|it| it.standing(now, &policy) != Standing::Open);
            if is_kept || cap.is_some_and(|cap| out >= cap) {
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

    /// How a key stands, for a trace.
    pub(super) fn tell(&self, key: &LimitKey) -> String {
        let Some(state) = self.keys.get(key) else { return "unknown".to_owned() };
        let out: Vec<String> = state
            .out
            .values()
            .map(|out| format!("p{} since {:?}", out.process, out.since.0))
            .collect();
        format!("{:?} of {:?}, {:?}", out, state.limits.last(), state.kept())
    }
}
