//! How this process and the store tell each other of limits that processes divide: what goes into a turn, what comes of its reply.
//!
//! ```text
//!   alone ──divide()──▶ shared ◀──── somebody came ──── sole
//!                          └───── the store says so ─────▶
//! ```
//!
//! Must never use what was not granted, nor what was given back; have anything that happened between a turn's news and its reply
//! undone by the reply; or make a turn for what another one will carry soon enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::job::{Key, LimitKey, Mono};
use crate::share::{
    Claim, KeyAnswer, KeyEvent, KeyNews, KeyReply, KeyReport, SHARE_PERIOD, Standing,
};

use super::by_key::parts;
use super::entry::{Asks, Entry, Frozen, InNews, Share};
use super::gate::{Wait, WaitReason};
use super::keyed::{Allowance, Full};
use super::pages::{MAX_REMEMBERED, Pages};

/// The most keys asked for in one turn; those not asked for longest come first.
const MAX_ASKS: usize = 512;
/// The most keys a sole process shows in one turn.
const MAX_SHOWN: usize = 512;
/// How often a sole process says what runs, and how long one must be alone to become it.
const SOON: Duration = Duration::from_secs(1);

/// Where this process stands with others.
#[derive(Debug, Default)]
pub(super) struct Division {
    mode: Mode,
    /// The latest time anybody came with.
    pub(super) seen: Mono,
    /// The version up to which changed records are known, and whether there are more.
    known: i64,
    has_more: bool,
    /// Whether the store has answered since this process shares.
    is_answered: bool,
    /// The store believes that this is the sole process: it has to be told otherwise first.
    must_open: bool,
    /// How often the store was asked to make this process the sole one.
    closes: u64,
    alone_since: Option<Mono>,
    /// Keys of which a turn may have to carry something.
    active: BTreeSet<LimitKey>,
    /// The news under way.
    sent: Option<Sent>,
    /// What runs, as the store was last told, and when.
    shown: BTreeMap<LimitKey, u32>,
    shown_at: Mono,
    /// A turn was made since that may have changed it.
    is_unshown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    /// There is no store.
    #[default]
    Alone,
    Shared,
    Sole,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    claim: Claim,
    at: Mono,
}

impl Division {
    /// Whether limits are enforced by shares.
    pub(super) fn is_shared(&self) -> bool {
        self.mode == Mode::Shared
    }

    /// Whether there is a store to be told of events.
    pub(super) fn is_told(&self) -> bool {
        self.mode != Mode::Alone
    }

    pub(super) fn activate(&mut self, key: &LimitKey) {
        if !self.active.contains(key) {
            self.active.insert(key.clone());
        }
    }

    fn claim(&self, now: Mono) -> Claim {
        let is_alone_long = self.alone_since.is_some_and(|since| since.plus(SOON) <= now);
        match self.mode {
            Mode::Shared if self.must_open => Claim::Open,
            Mode::Shared if !self.is_answered || is_alone_long => Claim::Close,
            _ => Claim::Keep,
        }
    }
}

impl Pages {
    /// See [`Gate::divide`](super::Gate::divide) and [`Gate::start_anew`](super::Gate::start_anew).
    pub(super) fn divide(&mut self) {
        let Division { seen, closes, .. } = self.division;
        let active = std::mem::take(&mut self.division.active);
        self.division =
            Division { mode: Mode::Shared, seen, closes, active, ..Division::default() };
        self.means.all_buckets().iter().for_each(|(_, bucket)| bucket.part());
        self.share_what_runs();
        self.entries.for_each(|_, entry| {
            if let Some(told) = entry.told.take() {
                entry.put_back(told.events, seen);
            }
        });
    }

    /// Somebody else has come: from now on this process has what runs here, and no token.
    fn open(&mut self, now: Mono) {
        self.division.mode = Mode::Shared;
        self.division.must_open = true;
        self.division.alone_since = None;
        self.division.shown.clear();
        self.means.all_buckets().iter().for_each(|(_, bucket)| bucket.part_with(now));
        self.share_what_runs();
    }

    fn share_what_runs(&mut self) {
        self.entries.for_each(|_, entry| entry.share = Share::default());
        for in_use in self.means.slots.divide() {
            self.entry(&in_use.key).share = Share::of_running(in_use.running);
            self.division.activate(&in_use.key);
        }
    }

    /// Nobody else is there: limits are this process' own again.
    fn close(&mut self, now: Mono, awaited: &mut Vec<LimitKey>) {
        self.division.mode = Mode::Sole;
        self.division.alone_since = None;
        self.entries.for_each(|_, entry| entry.share = Share::default());
        let mut keys: BTreeSet<LimitKey> =
            self.own.iter().map(|(part, _)| part.to_limit_key()).collect();
        keys.extend(self.entries.iter().map(|(part, _)| part.to_limit_key()));
        let allowances: Vec<(LimitKey, Allowance)> = keys
            .into_iter()
            .map(|key| {
                let terms = match self.entries.get((&key).into()) {
                    Some(entry) => {
                        entry.record.terms(&self.configured_of(&key), now).max_concurrent
                    }
                    None => self.configured(&key).limits.max_concurrent,
                };
                let allowance = terms.map_or(Allowance::Unlimited, Allowance::AtMost);
                let allowance = self.without_default(&key, allowance);
                (key, allowance)
            })
            .collect();
        awaited.extend(self.means.slots.reunite(&allowances));
        for (key, bucket) in self.means.all_buckets() {
            let closes = self.division.closes;
            let entry = self.entries.get((&key).into());
            let known = entry.filter(|entry| entry.answered_after == closes);
            if known.is_some_and(|entry| bucket.own(entry.record.bucket)) {
                awaited.push(key);
            }
        }
    }

    /// Somebody was refused: what lacks is to be asked for. Returns what to tell them.
    pub(super) fn refused(&mut self, key: &Key, refusal: Refusal, now: Mono) -> Wait {
        self.division.seen = self.division.seen.max(now);
        let mut is_earlier_lacking = false;
        let mut with_idle: Option<LimitKey> = None;
        for part in parts(key).into_iter().flatten().map(|part| part.to_limit_key()) {
            let lacks_slot = self.division.is_shared() && self.lacks_slot(&part);
            let lacks_token = self.lacks_token(&part);
            let lacks = lacks_slot || lacks_token;
            if !lacks && self.entries.get((&part).into()).is_none() {
                continue;
            }
            let share = &mut self.entry(&part).share;
            share.lacks_earlier = is_earlier_lacking && !lacks_slot;
            if lacks_slot {
                share.lacks_slot = Some(now);
            }
            if lacks_token {
                share.lacks_token = Some(now);
                // It was told when the next one would be there, and now it is.
                let is_due = |asked: &Mono| *asked < share.tokens_due && share.tokens_due <= now;
                share.asked_at = share.asked_at.filter(|asked| !is_due(asked));
            }
            if lacks {
                if let Some(earlier) = with_idle.take() {
                    self.entry(&earlier).share.lacks_later = Some(now);
                }
                self.division.activate(&part);
            } else {
                with_idle = Some(part);
            }
            is_earlier_lacking |= lacks;
        }
        self.wait(refusal, now)
    }

    fn wait(&self, refusal: Refusal, now: Mono) -> Wait {
        let asked =
            |on| Wait { on, reason: WaitReason::Shared, until: Some(now.plus(SHARE_PERIOD)) };
        match refusal {
            Refusal::Slot(full) => {
                let entry = self.entries.get((&full.on).into());
                // With all that anybody may have, only one of its own can return.
                let is_full = !self.division.is_shared() || entry.is_some_and(Entry::has_all);
                if is_full { full.into() } else { asked(full.on) }
            }
            Refusal::Token(on) => asked(on),
        }
    }

    /// Whether a share of more slots would help.
    fn lacks_slot(&self, key: &LimitKey) -> bool {
        let Some(entry) = self.entries.get(key.into()) else { return true };
        match entry.allowance(self.division.seen) {
            Allowance::AtMost(most) => self.means.slots.running(key) >= most && !entry.has_all(),
            Allowance::Default | Allowance::Unlimited => false,
        }
    }

    fn lacks_token(&self, key: &LimitKey) -> bool {
        let hand = self.means.bucket(key).and_then(|bucket| bucket.hand());
        hand.is_some_and(|hand| hand.tokens() == 0)
    }

    /// See [`Gate::is_awaited`](super::Gate::is_awaited).
    pub(super) fn is_awaited(&self, key: &Key) -> bool {
        let entries = parts(key).into_iter().flatten().filter_map(|part| self.entries.get(part));
        self.division.is_shared() && entries.into_iter().any(|entry| entry.share.is_awaited())
    }

    /// See [`Gate::is_anything_awaited`](super::Gate::is_anything_awaited).
    pub(super) fn is_anything_awaited(&self) -> bool {
        let entries = self.division.active.iter().filter_map(|key| self.entries.get(key.into()));
        self.division.is_shared() && entries.into_iter().any(|entry| entry.share.is_awaited())
    }

    /// See [`Gate::has_urgent_news`](super::Gate::has_urgent_news): from when on there is some.
    pub(super) fn urgent_at(&self) -> Option<Mono> {
        let division = &self.division;
        let at_once = match division.mode {
            Mode::Alone => return None,
            Mode::Shared => division.must_open || !division.is_answered || division.has_more,
            Mode::Sole => division.has_more,
        };
        if at_once {
            return Some(Mono::default());
        }
        let of_keys = division.active.iter().filter_map(|key| {
            let entry = self.entries.get(key.into())?;
            let tokens = self.means.bucket(key).and_then(|bucket| bucket.hand());
            entry.urgent_at(self.means.slots.running(key), tokens.map_or(0, |hand| hand.tokens()))
        });
        let by_time = match division.mode {
            Mode::Sole => division.is_unshown.then(|| division.shown_at.plus(SOON)),
            _ => division.alone_since.map(|since| since.plus(SOON)),
        };
        of_keys.chain(by_time).min()
    }

    /// See [`Gate::news`](super::Gate::news).
    pub(super) fn news(&mut self, now: Mono, awaited: &mut Vec<LimitKey>) -> Option<KeyNews> {
        self.tick(now, awaited);
        let claim = self.division.claim(now);
        let reports = match self.division.mode {
            Mode::Alone => return None,
            Mode::Shared => self.shared_reports(claim, now, awaited),
            Mode::Sole => self.sole_reports(now),
        };
        self.division.sent = Some(Sent { claim, at: now });
        let known = match claim {
            Claim::Close => 0,
            Claim::Keep | Claim::Open => self.division.known,
        };
        Some(KeyNews { now, known, claim, policy: self.policy, reports })
    }

    fn shared_reports(
        &mut self,
        claim: Claim,
        now: Mono,
        awaited: &mut Vec<LimitKey>,
    ) -> Vec<KeyReport> {
        let mut keys = self.division.active.clone();
        if claim != Claim::Keep {
            // What ran here when others came may have ended since: the store is to know that it has none.
            let with_slots = self.entries.iter().filter(|(_, entry)| entry.share.slots > 0);
            keys.extend(with_slots.map(|(part, _)| part.to_limit_key()));
            keys.extend(self.means.slots.in_use().into_iter().map(|in_use| in_use.key));
        }
        for (key, bucket) in self.means.all_buckets() {
            let hand = bucket.hand();
            let gives = |tokens| claim == Claim::Close && tokens > 0;
            if hand.is_some_and(|hand| hand.is_news() || gives(hand.tokens())) {
                keys.insert(key);
            }
        }
        keys.extend(self.idlest());
        let askers = self.askers(&keys);
        let mut reports = Vec::with_capacity(keys.len());
        for key in keys {
            // A tenure may be over.
            if self.settle(&key, now) {
                awaited.push(key.clone());
            }
            let asks = askers.contains(&key);
            reports.extend(self.report_of(key, asks, claim, now));
        }
        reports
    }

    /// Of too many keys some that nobody has used for long: what idles there is given back, and then they can be forgotten.
    fn idlest(&mut self) -> Vec<LimitKey> {
        if self.entries.len() <= MAX_REMEMBERED {
            return Vec::new();
        }
        let idle = self.entries.iter().filter(|(_, entry)| {
            entry.share.slots > 0 && !entry.share.is_lacking() && entry.told.is_none()
        });
        let mut idle: Vec<_> =
            idle.map(|(part, entry)| (entry.touched, part.to_limit_key())).collect();
        idle.sort_unstable();
        let idlest: Vec<LimitKey> = idle.into_iter().take(MAX_ASKS).map(|(_, key)| key).collect();
        for key in &idlest {
            if let Some(entry) = self.entries.get_mut(key.into()) {
                entry.share.is_surplus = true;
            }
        }
        idlest
    }

    /// Those that may ask in this turn.
    fn askers(&self, keys: &BTreeSet<LimitKey>) -> BTreeSet<LimitKey> {
        let lacking = keys.iter().filter_map(|key| {
            let share = &self.entries.get(key.into())?.share;
            share.is_lacking().then_some((share.asked_at, key))
        });
        let mut lacking: Vec<_> = lacking.collect();
        lacking.sort();
        lacking.into_iter().take(MAX_ASKS).map(|(_, key)| key.clone()).collect()
    }

    /// What is to be said of one key, and noted as said; `None`: nothing.
    fn report_of(
        &mut self,
        key: LimitKey,
        may_ask: bool,
        claim: Claim,
        now: Mono,
    ) -> Option<KeyReport> {
        let bucket = self.means.bucket(&key);
        let hand = bucket.as_ref().and_then(|bucket| bucket.hand());
        let running = self.means.slots.running(&key);
        let slots = self.means.slots.clone();
        let entry = self.entry(&key);
        let is_withdrawn = entry.share.forget_old_wants(now);
        let keep = entry.slots_to_keep(now, running);
        let gives_tokens = entry.share.gives_tokens(now) || claim == Claim::Close;
        let is_worth = may_ask
            || is_withdrawn
            || claim != Claim::Keep
            || entry.share.frozen == Frozen::Yes
            || !entry.pending.is_empty()
            || keep != entry.share.slots
            || (running < entry.share.told_running && running < entry.share.slots)
            || hand.is_some_and(|hand| hand.is_news() || gives_tokens && hand.tokens() > 0);
        if !is_worth {
            return None;
        }
        entry.share.told_running = running;
        let kept = if keep < entry.share.slots { slots.give_up(&key, keep) } else { keep };
        // Without a slot a token is of no use, and the store would take it back.
        let is_idle = kept == 0 && entry.terms.max_concurrent.is_some();
        let said = bucket.filter(|_| hand.is_some()).map(|bucket| {
            let keep = if gives_tokens || is_idle { 0 } else { u32::MAX };
            bucket.report(keep)
        });
        let in_hand = said.map_or(0, |said| said.tokens);
        let told_asks = may_ask.then(|| entry.asks(kept, in_hand));
        let asks = told_asks.unwrap_or_default();
        let said_of_hand = said.unwrap_or_default();
        let report = KeyReport {
            events: entry.tell(kept, told_asks, said),
            running,
            slots: kept,
            wanted: asks.slots,
            tokens: said_of_hand.tokens,
            tokens_back: said_of_hand.back,
            tokens_wanted: asks.tokens,
            spent_at: said_of_hand.spent_at,
            ended_at: said_of_hand.ended_at,
            bucket: said_of_hand.bucket,
            ..KeyReport::of(key)
        };
        Some(report)
    }

    fn sole_reports(&mut self, now: Mono) -> Vec<KeyReport> {
        let mut keys: BTreeSet<LimitKey> = self.division.active.clone();
        // When nothing runs this may be the last turn.
        let is_due = self.division.shown_at.plus(SOON) <= now || !self.means.slots.is_in_use();
        self.division.is_unshown = !is_due;
        if is_due {
            keys.extend(self.keys_to_show(now));
        }
        let report = |key: LimitKey| {
            let running = self.means.slots.running(&key);
            let bucket = self.means.bucket(&key).and_then(|bucket| bucket.spent(now));
            let events = self.entries.get_mut((&key).into()).map(|entry| {
                entry.share.forget_old_wants(now);
                entry.tell(running, None, None)
            });
            let events = events.unwrap_or_default();
            KeyReport { events, running, slots: running, bucket, ..KeyReport::of(key) }
        };
        keys.into_iter().map(report).collect()
    }

    /// What runs, what was shown to run and does no more, and whose tokens were spent: as many as one turn shows.
    fn keys_to_show(&mut self, now: Mono) -> BTreeSet<LimitKey> {
        let in_use = self.means.slots.in_use();
        let running: BTreeMap<LimitKey, u32> =
            in_use.into_iter().map(|in_use| (in_use.key, in_use.running)).collect();
        let shown = std::mem::take(&mut self.division.shown);
        self.division.shown_at = now;
        let ended = shown.into_keys().filter(|key| !running.contains_key(key));
        let buckets = self.means.all_buckets().into_iter();
        let spent = buckets.filter_map(|(key, bucket)| bucket.spent(now).map(|_| key));
        let due: BTreeSet<LimitKey> =
            ended.chain(running.keys().cloned()).chain(spent).take(MAX_SHOWN).collect();
        let shown = due.iter().filter_map(|key| running.get_key_value(key));
        self.division.shown = shown.map(|(key, running)| (key.clone(), *running)).collect();
        due
    }

    /// See [`Gate::untold`](super::Gate::untold).
    pub(super) fn untold(&mut self, news: KeyNews, awaited: &mut Vec<LimitKey>) {
        let now = news.now;
        self.division.sent = None;
        self.division.shown.clear();
        for report in news.reports {
            let bucket = self.means.bucket(&report.key);
            let Some(entry) = self.entries.get_mut((&report.key).into()) else { continue };
            let Some(told) = entry.told.take() else { continue };
            if let (Some(bucket), Some(hand)) = (bucket, told.hand) {
                bucket.unreport(hand);
            }
            entry.share.slots = told.slots;
            if entry.share.frozen == Frozen::Told {
                entry.share.frozen = Frozen::Yes;
            }
            entry.put_back(told.events, now);
            self.division.activate(&report.key);
            if self.settle(&report.key, now) {
                awaited.push(report.key);
            }
        }
    }

    /// See [`Gate::learn`](super::Gate::learn).
    pub(super) fn learn(&mut self, reply: KeyReply, now: Mono, awaited: &mut Vec<LimitKey>) {
        self.division.seen = self.division.seen.max(now);
        let sent = self.division.sent.take();
        let claim = sent.map_or(Claim::Keep, |sent| sent.claim);
        self.division.is_answered = true;
        self.division.must_open &= claim != Claim::Open;
        self.division.closes += u64::from(claim == Claim::Close);
        (self.division.known, self.division.has_more) = (reply.version, reply.more);
        let is_sole_one = reply.is_sole && reply.is_alone;
        match self.division.mode {
            Mode::Sole if !is_sole_one => {
                // What was said as the sole one asked for nothing, and the reply grants nothing.
                self.entries.for_each(|_, entry| entry.told = None);
                self.open(now);
            }
            Mode::Shared if reply.is_sole && !reply.is_alone => self.division.must_open = true,
            _ => {}
        }
        self.division.alone_since = match self.division.alone_since {
            since if reply.is_alone && !reply.is_sole => since.or(Some(now)),
            _ => None,
        };
        let told_at = sent.map_or(now, |sent| sent.at);
        let mut answered = BTreeSet::new();
        for answer in reply.answers {
            answered.insert(answer.key.clone());
            self.learn_of(answer, told_at, now, awaited);
        }
        self.end_what_was_not_answered(&answered, now, awaited);
        if reply.redeclared && self.division.is_shared() {
            self.doubt_what_was_unlimited(&answered, now);
        }
        if self.division.mode == Mode::Shared && is_sole_one && !reply.more {
            self.close(now, awaited);
        }
        let active = std::mem::take(&mut self.division.active);
        let is_active = |key: &LimitKey| self.entries.get(key.into()).is_some_and(Entry::has_news);
        self.division.active = active.into_iter().filter(is_active).collect();
        self.shrink(now, awaited);
    }

    /// Somebody came who may limit what nobody did: what runs there has to be said, and the store asked, before more may start.
    fn doubt_what_was_unlimited(&mut self, answered: &BTreeSet<LimitKey>, now: Mono) {
        let is_unlimited =
            |entry: &Entry| entry.share.is_known && entry.terms.max_concurrent.is_none();
        let unlimited = self.entries.iter().filter(|(_, entry)| is_unlimited(entry));
        let unlimited: Vec<LimitKey> = unlimited.map(|(part, _)| part.to_limit_key()).collect();
        for key in unlimited.into_iter().filter(|key| !answered.contains(key)) {
            let running = self.means.slots.running(&key);
            let frozen = if running > 0 { Frozen::Yes } else { Frozen::No };
            self.entry(&key).share = Share { frozen, ..Share::of_running(running) };
            self.division.activate(&key);
            // It admits fewer from now on: there is nobody to be told.
            let _ = self.settle(&key, now);
        }
    }

    /// Others wait no more for what the store does not mention, and what was said of it has arrived.
    fn end_what_was_not_answered(
        &mut self,
        answered: &BTreeSet<LimitKey>,
        now: Mono,
        awaited: &mut Vec<LimitKey>,
    ) {
        let rest: Vec<LimitKey> =
            self.division.active.iter().filter(|key| !answered.contains(*key)).cloned().collect();
        for key in rest {
            let Some(entry) = self.entries.get_mut((&key).into()) else { continue };
            entry.told = None;
            (entry.share.keep, entry.share.tokens_awaited) = (None, false);
            // That more are out than there may be is so until the store says otherwise, though nobody waits.
            entry.share.idle_awaited = None;
            if self.settle(&key, now) {
                awaited.push(key);
            }
        }
    }

    fn learn_of(
        &mut self,
        answer: KeyAnswer,
        told_at: Mono,
        now: Mono,
        awaited: &mut Vec<LimitKey>,
    ) {
        let key = &answer.key;
        let is_at_rest = answer.record.is_at_rest(now, &self.policy);
        let is_shared = self.division.is_shared();
        if is_at_rest && self.entries.get(key.into()).is_none() && !is_shared {
            return;
        }
        let Division { closes, must_open, .. } = self.division;
        let (policy, bucket) = (self.policy, self.means.bucket(key));
        let configured = answer.configured.stricter(self.configured(key));
        let entry = self.entry(key);
        let before = entry.record.standing(now, &policy);
        entry.take_record(&answer, &configured, &policy);
        entry.answered_after = closes;
        let told = entry.told.take();
        entry.share.keep = answer.keep.filter(|_| is_shared);
        entry.share.is_over = answer.is_over && is_shared;
        let is_awaited = answer.idle_awaited && is_shared;
        entry.share.idle_awaited = entry.share.idle_awaited.or(Some(now)).filter(|_| is_awaited);
        entry.share.tokens_awaited = answer.tokens_awaited && is_shared;
        let was_known = entry.share.is_known;
        if is_shared {
            entry.share.is_known |= told.is_some() || !must_open;
        } else {
            entry.share = Share::default();
        }
        if let Some(told) = told.as_ref().filter(|_| is_shared) {
            entry.share.receive(&answer, told, told_at, now);
        }
        // What was granted in answer to a report was granted under these very terms.
        let frozen = entry.share.frozen;
        let half_opened = entry.pass_to(now, &configured);
        if told.is_some() || !was_known {
            entry.share.frozen = frozen;
        }
        // Who waits for a person's word, or for an end that is not worth waiting for, would not come back by itself.
        let is_eased = match (before, entry.record.standing(now, &policy)) {
            (Standing::Open, _) => false,
            (_, Standing::Open) | (Standing::Waits { .. }, Standing::GivenUp { .. }) => true,
            (Standing::Waits { until: None, .. }, Standing::Waits { until, .. }) => until.is_some(),
            _ => false,
        };
        self.transitions.extend(half_opened.map(|change| (key.clone(), change)));
        let mut tell = is_eased;
        if let Some(bucket) = &bucket {
            tell |= match (is_shared, told) {
                (true, Some(_)) => bucket.receive(answer.tokens, answer.next_token),
                (true, None) => false,
                (false, _) => bucket.is_granted() && bucket.own(answer.record.bucket),
            };
        }
        let tell = self.settle(key, now) || tell;
        if tell {
            awaited.push(answer.key);
        }
    }
}

/// What somebody was refused for want of.
#[derive(Debug)]
pub(super) enum Refusal {
    Slot(Full),
    Token(LimitKey),
}

impl Entry {
    /// Notes what a report says. Returns the events.
    fn tell(
        &mut self,
        kept: u32,
        asks: Option<Asks>,
        hand: Option<super::hand::HandReport>,
    ) -> Vec<KeyEvent> {
        let events = std::mem::take(&mut self.pending);
        (self.pending_since, self.is_urgent) = (None, false);
        self.told =
            Some(InNews { events: events.clone(), slots: self.share.slots, kept, asks, hand });
        self.share.slots = kept;
        if self.share.frozen == Frozen::Yes {
            self.share.frozen = Frozen::Told;
        }
        events
    }

    /// These events did not reach the store.
    fn put_back(&mut self, events: Vec<KeyEvent>, now: Mono) {
        if !events.is_empty() {
            self.pending.splice(0..0, events);
            self.pending_since = Some(now);
        }
    }

    /// Takes the store's record in place of the replica, and what happened here since.
    fn take_record(
        &mut self,
        answer: &KeyAnswer,
        configured: &crate::share::Configured,
        policy: &crate::share::Policy,
    ) {
        let usual = self.record.adaptive;
        self.record = answer.record;
        self.configured = Some(answer.configured);
        for event in &self.pending {
            self.record.apply(&answer.key, *event, configured, policy);
        }
        let adaptive = &mut self.record.adaptive;
        (adaptive.usual_us, adaptive.samples) = (usual.usual_us, usual.samples);
    }
}

impl Share {
    /// What was granted, in answer to what was told at `told_at`.
    fn receive(&mut self, answer: &KeyAnswer, told: &InNews, told_at: Mono, now: Mono) {
        (self.slots, self.is_surplus) = (answer.slots, false);
        if self.frozen == Frozen::Told {
            self.frozen = Frozen::No;
        }
        if answer.slots > told.kept {
            self.granted_at = now;
            (self.lacks_earlier, self.lacks_later) = (false, None);
        }
        let tokens = told.hand.map_or(0, |hand| hand.tokens);
        if answer.tokens > tokens {
            self.tokens_at = now;
        }
        self.tokens_due = answer.next_token.unwrap_or_default();
        let asks = told.asks.unwrap_or_default();
        let lacks_slot = asks.slots > answer.slots.saturating_sub(told.kept);
        let lacks_token = asks.tokens > answer.tokens.saturating_sub(tokens);
        // Refusals since the news are to be asked for in the next. What it might have asked for and did not, it has, or nothing limits.
        let has_slots = told.asks.is_some_and(|asks| asks.slots == 0);
        let has_tokens = told.asks.is_some_and(|asks| asks.tokens == 0);
        if answer.slots > told.kept || has_slots {
            self.lacks_slot.take_if(|at| *at <= told_at);
        }
        if answer.tokens > tokens || has_tokens {
            self.lacks_token.take_if(|at| *at <= told_at);
        }
        self.asked_at = (lacks_slot || lacks_token).then_some(told_at);
    }
}
