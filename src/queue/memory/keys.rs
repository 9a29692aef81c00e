//! Keys: what is known of each, who has which share of it, and what owners declared.
//!
//! Only where things are kept and who hears of what: how a record changes and what is granted is said in [`crate::share`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::model::Model;
use super::views::count;
use crate::job::{LimitKey, Mono, State};
use crate::queue::store::{
    Counts, Declared, Holder, KeyView, MAX_CHANGES_TOLD, Owner, RecoverTerms, TROUBLE_REMEMBERED,
};
use crate::share::{
    Claim, Configured, KeyAnswer, KeyChange, KeyLimits, KeyNews, KeyRecord, KeyReply, KeyReport,
    Policy, SHARE_PERIOD, Scene, Share, Shares, Sole, divide, state_of, told_by_sole,
};

/// So many records are looked at for whether they are worth keeping, at most, whenever owners are judged.
const MAX_SWEPT: usize = 1_000;

/// A key in the order people see them: hosts first, by name.
type Name = (bool, LimitKey);

fn name(key: &LimitKey) -> Name {
    (matches!(key, LimitKey::Resolver(_)), key.clone())
}

/// A record, and the number of its last change that others must hear of; 0: of none.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    version: i64,
    record: KeyRecord,
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    records: BTreeMap<Name, Kept>,
    /// None is empty.
    shares: BTreeMap<Name, Shares>,
    /// The last version given.
    version: i64,
    /// Raised by every change of what live owners declared.
    declared: u64,
    /// When a sole owner was last found dead.
    void_at: Option<Mono>,
    /// The owners that must hear of what was done since the bells were last rung.
    pub(super) ring: BTreeSet<i64>,
}

/// What a handle remembers from one sweep to the next.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// The last key looked at.
    after: Option<Name>,
    /// The last version given at that time.
    mark: Option<(Mono, i64)>,
    /// Everybody has heard of the versions up to this one, or has not asked for a long time.
    heard: i64,
}

impl Sweep {
    /// So long others have to hear of a change.
    const HEARD_AFTER_MS: u64 = 600_000;

    fn note(&mut self, version: i64, now: Mono) {
        let (since, marked) = *self.mark.get_or_insert((now, version));
        if now.since(since).as_millis() >= u128::from(Sweep::HEARD_AFTER_MS) {
            (self.heard, self.mark) = (marked, Some((now, version)));
        }
    }
}

impl Keys {
    fn record(&self, key: &LimitKey) -> Kept {
        self.records.get(&name(key)).copied().unwrap_or_default()
    }

    fn shares(&self, key: &LimitKey) -> Shares {
        self.shares.get(&name(key)).cloned().unwrap_or_default()
    }

    fn keep(&mut self, key: &LimitKey, before: Kept, record: KeyRecord, is_news: bool) {
        if !is_news && record == before.record {
            return;
        }
        let version = if is_news {
            self.version += 1;
            self.version
        } else {
            before.version
        };
        self.records.insert(name(key), Kept { version, record });
    }

    fn set_shares(&mut self, key: &LimitKey, shares: Shares) {
        if shares.is_empty() {
            self.shares.remove(&name(key));
        } else {
            self.shares.insert(name(key), shares);
        }
    }

    /// Takes away what an owner has and wants of keys other than these.
    fn keep_shares_of(&mut self, owner: i64, keeps: impl Fn(&LimitKey) -> bool) {
        for ((_, key), shares) in &mut self.shares {
            if !keeps(key) {
                shares.remove(&owner);
            }
        }
        self.shares.retain(|_, shares| !shares.is_empty());
    }

    /// Takes away all that an owner has and wants. Returns what it had.
    fn take_shares(&mut self, owner: i64) -> Vec<(LimitKey, Share)> {
        let mut taken = Vec::new();
        for ((_, key), shares) in &mut self.shares {
            taken.extend(shares.remove(&owner).map(|share| (key.clone(), share)));
        }
        self.shares.retain(|_, shares| !shares.is_empty());
        taken
    }
}

/// A process that takes its turn.
struct Teller<'a> {
    row: i64,
    news: &'a KeyNews,
    /// Who divides by itself, as it is to be told.
    sole: Sole,
    /// Whether that is the teller.
    is_sole: bool,
}

/// Turns.
impl Model {
    /// Takes in what a registered owner says of its limits, and answers it.
    pub(super) fn hear(&mut self, owner: &Owner, news: &KeyNews) -> KeyReply {
        let is_alone = self.owners.len() == 1;
        let was_sole = self.sole() == Some(owner.row);
        let (sole, is_sole) = self.claim(owner.row, news.claim, is_alone);
        let me = Teller { row: owner.row, news, sole, is_sole };
        let mut answers: BTreeMap<Name, KeyAnswer> = BTreeMap::new();
        for report in &news.reports {
            let answer = self.hear_report(&me, report);
            answers.insert(name(&report.key), answer);
        }
        if is_sole && !was_sole {
            self.keys.keep_shares_of(owner.row, |key| answers.contains_key(&name(key)));
        }
        let (changed, more) = self.changed_since(news.known);
        let version = changed.last().map_or(news.known, |(version, _)| *version);
        let mut others: Vec<LimitKey> = changed.into_iter().map(|(_, key)| key).collect();
        let redeclared = self.redeclared(me.row);
        let is_redeclared = redeclared.is_some();
        others.extend(redeclared.unwrap_or_default());
        others.extend(self.awaited(&me));
        for key in others {
            let answer = self.state_of(&me, &key);
            answers.entry(name(&key)).or_insert(answer);
        }
        let answers = answers.into_values().collect();
        KeyReply { is_sole, is_alone, version, more, redeclared: is_redeclared, answers }
    }

    /// Makes it the sole one or takes that away. Returns who divides by itself, and whether that is it.
    fn claim(&mut self, me: i64, claim: Claim, is_alone: bool) -> (Sole, bool) {
        let was_sole = self.sole() == Some(me);
        match claim {
            Claim::Open => self.set_sole(me, false),
            Claim::Close if is_alone => self.set_sole(me, true),
            Claim::Close | Claim::Keep => {}
        }
        match self.sole() {
            Some(row) if row == me => (Sole::Nobody, true),
            Some(_) => (Sole::Other, false),
            None if was_sole => (Sole::WasMe, false),
            None => (Sole::Nobody, false),
        }
    }

    fn scene(&self, me: &Teller<'_>, key: &LimitKey) -> Scene {
        Scene {
            configured: self.configured(key),
            policy: me.news.policy,
            now: me.news.now,
            void_at: self.keys.void_at,
            sole: me.sole,
        }
    }

    fn hear_report(&mut self, me: &Teller<'_>, report: &KeyReport) -> KeyAnswer {
        let scene = self.scene(me, &report.key);
        let before = self.keys.record(&report.key);
        let mut record = before.record;
        let mut shares = self.keys.shares(&report.key);
        let take_in = if me.is_sole { told_by_sole } else { divide };
        let (answer, divided) = take_in(&mut record, &mut shares, me.row, report, &scene);
        self.keys.keep(&report.key, before, record, divided.changed || divided.noted);
        self.keys.set_shares(&report.key, shares);
        self.keys.ring.extend(divided.ring);
        if divided.changed {
            self.ring_all_but(me.row);
        }
        answer
    }

    fn state_of(&self, me: &Teller<'_>, key: &LimitKey) -> KeyAnswer {
        let scene = self.scene(me, key);
        state_of(key, &self.keys.record(key).record, &self.keys.shares(key), me.row, &scene)
    }

    /// The keys that have changed since a version, in the order of their changes, and whether there are more than one reply tells of.
    fn changed_since(&self, known: i64) -> (Vec<(i64, LimitKey)>, bool) {
        let records = self.keys.records.iter();
        let changed = records.filter(|(_, kept)| kept.version > known);
        let mut changed: Vec<(i64, LimitKey)> =
            changed.map(|((_, key), kept)| (kept.version, key.clone())).collect();
        changed.sort_unstable();
        let more = changed.len() > MAX_CHANGES_TOLD;
        changed.truncate(MAX_CHANGES_TOLD);
        (changed, more)
    }

    /// The keys it has a share of, when what owners declared has changed since it was last told.
    fn redeclared(&mut self, me: i64) -> Option<Vec<LimitKey>> {
        let declared = self.keys.declared;
        let owner = self.owners.get_mut(&me)?;
        if std::mem::replace(&mut owner.heard, declared) == declared {
            return None;
        }
        let shares = self.keys.shares.iter();
        let mine = shares.filter(|(_, shares)| shares.contains_key(&me));
        Some(mine.map(|((_, key), _)| key.clone()).collect())
    }

    /// The keys of which it has something that somebody else wants. Whoever waits for a token knows when it comes, and does not ask
    /// again before.
    fn awaited(&self, me: &Teller<'_>) -> Vec<LimitKey> {
        let is_fresh = |share: &Share| me.news.now.since(share.asked_at) <= 2 * SHARE_PERIOD;
        let wants = |share: &Share| share.wanted > 0 || share.tokens_wanted > 0;
        let shares = self.keys.shares.iter();
        let awaited = shares.filter(|(_, shares)| {
            let Some(mine) = shares.get(&me.row) else { return false };
            let mut others = shares.iter().filter(|(row, _)| **row != me.row);
            others.any(|(_, other)| {
                wants(other) && (mine.tokens > 0 || (mine.slots > 0 && is_fresh(other)))
            })
        });
        awaited.map(|((_, key), _)| key.clone()).collect()
    }

    fn sole(&self) -> Option<i64> {
        self.owners.iter().find(|(_, owner)| owner.is_sole).map(|(row, _)| *row)
    }

    fn set_sole(&mut self, row: i64, is_sole: bool) {
        if let Some(owner) = self.owners.get_mut(&row) {
            owner.is_sole = is_sole;
        }
    }

    pub(super) fn ring_all_but(&mut self, me: i64) {
        self.keys.ring.extend(self.owners.keys().filter(|row| **row != me));
    }
}

/// What owners declared.
impl Model {
    pub(super) fn declare(&mut self, owner: &Owner, declared: &Declared) {
        if !self.is_registered(owner) {
            return;
        }
        if let Some(known) = self.owners.get_mut(&owner.row) {
            known.declared = Some(declared.clone());
        }
        self.keys.declared += 1;
        self.ring_all_but(owner.row);
    }

    /// The strictest of what all owners declared.
    fn configured(&self, key: &LimitKey) -> Configured {
        let declared = self.owners.values().filter_map(|owner| owner.declared.as_ref());
        let each = declared.map(|declared| configured_by(declared, key));
        each.reduce(Configured::stricter).unwrap_or_default()
    }
}

/// What one process is configured with for a key.
fn configured_by(declared: &Declared, key: &LimitKey) -> Configured {
    let named = declared.by_key.iter().rev().find(|(known, _)| known == key);
    let limits = named.map(|(_, limits)| *limits).unwrap_or_default();
    let default = match key {
        LimitKey::Host(_) => declared.per_host,
        LimitKey::Resolver(_) => None,
    };
    Configured {
        limits: KeyLimits { max_concurrent: limits.max_concurrent.or(default), ..limits },
        is_fixed: limits.max_concurrent.is_some(),
    }
}

/// How an owner ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// In good order: its buckets are as it said last.
    InOrder,
    /// It was found dead then, and nobody knows what it has spent since it said so last.
    Found(Mono),
}

/// Ends.
impl Model {
    /// What an owner has, wants and declared goes with it. It is still in the map of owners.
    pub(super) fn free_shares(&mut self, row: i64, end: End) {
        if let End::Found(at) = end
            && self.sole() == Some(row)
        {
            self.keys.void_at = Some(at);
        }
        for (key, share) in self.keys.take_shares(row) {
            let spent_at = match end {
                End::Found(at) => (share.slots > 0 || share.tokens > 0).then_some(at),
                End::InOrder => (share.tokens > 0).then_some(share.asked_at),
            };
            if let Some(at) = spent_at {
                let before = self.keys.record(&key);
                let mut record = before.record;
                record.void_bucket(self.configured(&key).limits.rate, at);
                self.keys.keep(&key, before, record, false);
            }
        }
        self.keys.declared += 1;
        self.ring_all_but(row);
    }

    /// Forgets records that are not worth keeping, once everybody has heard of them.
    pub(super) fn sweep(&mut self, terms: RecoverTerms, sweep: &mut Sweep) {
        sweep.note(self.keys.version, terms.mono);
        // Whoever lives may not have heard of what a person has just changed, and be it the only one.
        let heard = if self.owners.is_empty() { i64::MAX } else { sweep.heard };
        let from = sweep.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let looked_at = self.keys.records.range((from, Bound::Unbounded)).take(MAX_SWEPT);
        let looked_at: Vec<(Name, Kept)> =
            looked_at.map(|(name, kept)| (name.clone(), *kept)).collect();
        sweep.after = None;
        if let (MAX_SWEPT, Some((last, _))) = (looked_at.len(), looked_at.last()) {
            sweep.after = Some(last.clone());
        }
        let policy = Policy { give_up: TROUBLE_REMEMBERED, ..Policy::default() };
        for (name, kept) in looked_at {
            // Somebody's tokens are what its bucket is less than full by.
            let shares = self.keys.shares.get(&name);
            let is_in_hand = shares.is_some_and(|all| all.values().any(|share| share.tokens > 0));
            let is_at_rest = kept.record.is_at_rest(terms.mono, &policy) && !is_in_hand;
            if kept.version <= heard && is_at_rest {
                self.keys.records.remove(&name);
            }
        }
    }
}

/// What people see and change.
impl Model {
    pub(super) fn key_views(&self, after: Option<&LimitKey>, limit: usize) -> Vec<KeyView> {
        let unfinished = |state| matches!(state, State::Queued | State::InProgress);
        let waiting = self.jobs.values().filter(|job| unfinished(job.state()));
        let wanted = waiting.flat_map(|job| job.lane.key.limits()).map(|key| name(&key));
        let kept = self.keys.records.keys().chain(self.keys.shares.keys()).cloned();
        let names: BTreeSet<Name> = kept.chain(wanted).collect();
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(name(key)));
        let page = names.range((from, Bound::Unbounded)).take(limit);
        page.map(|(_, key)| self.key_view(key)).collect()
    }

    pub(super) fn key_view(&self, key: &LimitKey) -> KeyView {
        let mut counts = Counts::default();
        for job in self.jobs.values().filter(|job| job.lane.key.limits().any(|part| part == *key)) {
            count(&mut counts, job.state());
        }
        let holder = |(row, share): (i64, Share)| {
            let owner = self.owners.get(&row)?;
            let process = owner.declared.as_ref().and_then(|declared| declared.process);
            Some(Holder { owner: owner.id.clone(), directory: None, process, share })
        };
        KeyView {
            key: key.clone(),
            record: self.keys.record(key).record,
            configured: self.configured(key),
            holders: self.keys.shares(key).into_iter().filter_map(holder).collect(),
            counts,
            pace: self.pace_of(key),
        }
    }

    #[cfg(test)]
    pub(super) fn record_of(&self, key: &LimitKey) -> KeyRecord {
        self.keys.record(key).record
    }

    pub(super) fn set_key(&mut self, key: &LimitKey, change: &KeyChange) -> KeyView {
        let before = self.keys.record(key);
        let mut record = before.record;
        record.change(change);
        self.keys.keep(key, before, record, record != before.record);
        self.key_view(key)
    }
}
