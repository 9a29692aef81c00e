//! How the slots and tokens of a key are divided among processes.
//!
//! Slots: whoever wants some gets what is free. While others wait, nobody gets more than an even part (rounded up), and whoever has
//! more than one (rounded down: perhaps none) is told to come down to it. A slot that was given back is kept for whoever waits longest
//! with less than its part, for one [`SHARE_PERIOD`]; then anybody may have it, for the one who waits may be stopped.
//! When more are out than there are (the limit fell), whoever holds any keeps none that comes back, until there are as few as may be.
//!
//! Tokens: what is in the bucket and what processes have in hand is never more than the burst. So over any interval no more
//! requests start than burst + rate · time, whoever starts them. Where slots are limited, tokens are for those who have a slot: one
//! without could only keep them from the others. And while there is no token, nobody is asked for a slot: it would be of no use.
//!
//! Must never grant a slot that is somebody's, whatever became of the limit, nor a token while one in hand may still be spent.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::job::{LimitKey, Mono};

use super::view::{View, bucket_of, tokens_out};
use super::{Configured, KeyAnswer, KeyRecord, KeyReport, Policy};

/// The longest that a permit idles between processes: who waits asks again this often, and a slot is kept for so long for whoever
/// waits for it.
pub const SHARE_PERIOD: Duration = Duration::from_millis(200);

/// What one process has of a key, and wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Slots it may use.
    pub slots: u32,
    /// Of them, in use when it last said so; for people.
    pub running: u32,
    /// Tokens in its hand.
    pub tokens: u32,
    /// Slots it wants beyond them.
    pub wanted: u32,
    /// Tokens it wants beyond them.
    pub tokens_wanted: u32,
    /// Since when it wants something and has not got it.
    pub waiting_since: Option<Mono>,
    /// When it last said what it wants.
    pub asked_at: Mono,
}

impl Share {
    /// A share of nothing.
    pub(super) const NOTHING: Share = Share {
        slots: 0,
        running: 0,
        tokens: 0,
        wanted: 0,
        tokens_wanted: 0,
        waiting_since: None,
        asked_at: Mono(Duration::ZERO),
    };

    /// Whether it neither has nor wants anything.
    fn is_nothing(&self) -> bool {
        self.slots == 0 && self.tokens == 0 && self.wanted == 0 && self.tokens_wanted == 0
    }
}

/// The shares of one key, by the row of their owner.
pub type Shares = BTreeMap<i64, Share>;

/// What a key's shares are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scene {
    /// The strictest of what all live processes were configured with.
    pub configured: Configured,
    /// By what events are applied.
    pub policy: Policy,
    /// The monotonic time of the turn.
    pub now: Mono,
    /// A sole process was found dead then, and nobody knows what it has spent: every bucket that was not touched since is as empty
    /// at that time. `None`: that never happened.
    pub void_at: Option<Mono>,
    /// Who divides by itself.
    pub sole: Sole,
}

/// Whether some process is the sole one, as the process that reports sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sole {
    /// None is.
    #[default]
    Nobody,
    /// The one that reports was, up to this turn ([`super::Claim::Open`]): its slots and tokens are those it says, whatever its share was.
    WasMe,
    /// Another one is: nothing is granted.
    Other,
}

/// What a report changed for others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Divided {
    /// The record has changed in a way that others must learn of: it takes a new version, and all of them are rung.
    pub changed: bool,
    /// It has changed in a way of which others should know when they make a turn of their own: it takes a new version.
    pub noted: bool,
    /// Owners to be rung: there is something for them, or something is wanted of them. Never the one that reported.
    pub ring: Vec<i64>,
}

/// Applies the report of `me` to the record and the shares of its key, and grants what can be granted. A share that is nothing is removed.
///
/// In this order: events; tokens spent, given back, voided by the end of a request; the bucket it brings; slots given back; slots and
/// then tokens granted. Slots it says it has beyond its share count for nothing, but a request that runs has a slot, whatever was granted:
/// it may be from a time when nothing limited the key.
///
/// The record's bucket is written only when something was taken from it or put there: until then its level is that of its time.
pub fn divide(
    record: &mut KeyRecord,
    shares: &mut Shares,
    me: i64,
    report: &KeyReport,
    scene: &Scene,
) -> (KeyAnswer, Divided) {
    let before = *record;
    for &event in &report.events {
        record.apply(&report.key, event, &scene.configured, &scene.policy);
    }
    let had = shares.get(&me).copied().unwrap_or_default();
    let mut mine = Share { running: report.running, asked_at: scene.now, ..had };
    // What is still out when a breaker opens counts when it is half-open.
    let is_limited = record.terms(&scene.configured, scene.now).max_concurrent.is_some()
        || record.breaker.open_until(scene.now).is_some();
    mine.slots = match scene.sole {
        Sole::WasMe => report.slots.max(report.running),
        _ if is_limited => report.slots.min(had.slots).max(report.running),
        _ => report.slots.min(had.slots),
    };
    (mine.wanted, mine.tokens_wanted) = (report.wanted, report.tokens_wanted);
    let tokens_are_back = take_back_tokens(record, shares, &mut mine, report, scene);
    shares.insert(me, mine);
    if scene.sole != Sole::Other {
        let granted = View::of(record, shares, scene).slots_to_grant(me);
        mine.slots = mine.slots.saturating_add(granted);
        mine.wanted -= granted;
        shares.insert(me, mine);
        grant_tokens(record, shares, me, scene);
    }

    let waits = View::of(record, shares, scene).lacks(me);
    if let Some(mine) = shares.get_mut(&me) {
        mine.waiting_since = waits.then(|| had.waiting_since.unwrap_or(scene.now));
    }
    let view = View::of(record, shares, scene);
    // Were they rung whenever somebody asks, two that wait for each other would wake each other without end.
    let is_late = scene.now.since(had.asked_at) >= SHARE_PERIOD;
    let is_new = had.waiting_since.is_none() || is_late;
    let mut ring = if waits && is_new { view.holders_to_ask(me) } else { Vec::new() };
    // It says of more than was known: what others were granted is too much, and they must hear of it though nobody waits.
    let is_more_than_known = mine.slots > had.slots && view.is_over();
    if is_more_than_known {
        ring.extend(view.holders_to_ask(me));
    }
    if had.wanted == 0 || is_late {
        ring.extend(view.idlers_to_ask(me));
    }
    if mine.slots < had.slots || tokens_are_back {
        ring.extend(view.waiters_to_tell(me));
    }
    ring.sort_unstable();
    ring.dedup();
    let changed = record.is_news_after(&before, scene.now);
    let answer = state_of(&report.key, record, shares, me, scene);
    shares.retain(|_, share| !share.is_nothing());
    let noted = is_more_than_known || record.is_noted_after(&before);
    (answer, Divided { changed, noted, ring })
}

/// Applies the report of `me`, the sole one: events, its bucket, and what runs there as its share, for people. Grants nothing, for
/// it needs nothing; rings nobody. What it had while others shared is given back by the first one.
pub fn told_by_sole(
    record: &mut KeyRecord,
    shares: &mut Shares,
    me: i64,
    report: &KeyReport,
    scene: &Scene,
) -> (KeyAnswer, Divided) {
    let before = *record;
    for &event in &report.events {
        record.apply(&report.key, event, &scene.configured, &scene.policy);
    }
    let (running, had) = (report.running, shares.get(&me).copied().unwrap_or_default());
    let mut share = Share { slots: running, running, asked_at: scene.now, ..Share::default() };
    if report.bucket.is_some() {
        record.bucket = report.bucket;
    } else {
        // It has become the sole one with this turn, and what it did with the tokens it had in hand counts.
        share.tokens = had.tokens;
        take_back_tokens(record, shares, &mut share, report, scene);
    }
    shares.insert(me, share);
    shares.retain(|_, share| !share.is_nothing());
    let answer = KeyAnswer {
        keep: None,
        idle_awaited: false,
        is_over: false,
        tokens_awaited: false,
        ..state_of(&report.key, record, shares, me, scene)
    };
    let changed = record.is_news_after(&before, scene.now);
    (answer, Divided { changed, noted: record.is_noted_after(&before), ring: Vec::new() })
}

/// What `me` is to be told of a key it did not report on: how it stands, and how much it may keep. The record's bucket is in it as it
/// is at the time of the turn.
#[must_use]
pub fn state_of(
    key: &LimitKey,
    record: &KeyRecord,
    shares: &Shares,
    me: i64,
    scene: &Scene,
) -> KeyAnswer {
    let share = shares.get(&me).copied().unwrap_or_default();
    let view = View::of(record, shares, scene);
    KeyAnswer {
        key: key.clone(),
        record: KeyRecord { bucket: view.bucket.or(record.bucket), ..*record },
        configured: scene.configured,
        slots: share.slots,
        tokens: share.tokens,
        keep: view.keep(me),
        idle_awaited: view.idle_awaited(me),
        is_over: view.is_over(),
        tokens_awaited: view.tokens_awaited(me),
        next_token: view.next_token(),
    }
}

/// Takes into account what became of the tokens that `mine` had in hand, and a bucket that it brings. Returns whether some are back in
/// the bucket.
fn take_back_tokens(
    record: &mut KeyRecord,
    shares: &Shares,
    mine: &mut Share,
    report: &KeyReport,
    scene: &Scene,
) -> bool {
    let (now, others) = (scene.now, tokens_out(shares).saturating_sub(mine.tokens));
    let had = std::mem::take(&mut mine.tokens);
    let Some(mut bucket) = bucket_of(record, others.saturating_add(had), scene) else {
        mine.tokens_wanted = 0;
        return false;
    };
    // A burst that has become smaller is not there beside what is in hand.
    bucket.cut_beside(others.saturating_add(had));
    let brought = report.bucket.filter(|_| scene.sole == Sole::WasMe);
    let (mut kept, mut back) = (report.tokens.min(had), 0);
    if scene.sole == Sole::WasMe {
        kept = report.tokens;
    } else {
        back = report.tokens_back.min(had - kept);
        let is_spent = kept + back < had;
        if is_spent {
            // What was spent was in hand until then, as far as is known.
            bucket.grow_beside(report.spent_at.unwrap_or(now).min(now), others.saturating_add(had));
        }
        let is_lone = record.terms(&scene.configured, now).max_concurrent == Some(1);
        let ended_at = report.ended_at.filter(|_| is_lone);
        if let Some(ended_at) = ended_at {
            bucket.restart(ended_at.min(now));
            (kept, back) = (0, 0);
        }
        if is_spent || back > 0 || ended_at.is_some() {
            bucket.grow_beside(now, others.saturating_add(kept).saturating_add(back));
            bucket.put_back_all(back);
            record.bucket = Some(bucket);
        }
    }
    if let Some(brought) = brought {
        record.bucket = Some(brought);
        bucket = bucket_of(record, others.saturating_add(kept), scene).unwrap_or(brought);
        bucket.cut_beside(others.saturating_add(kept));
        record.bucket = Some(bucket);
    }
    // Only a burst that has become smaller leaves it less room than it had.
    mine.tokens = kept.min(bucket.rate().burst.saturating_sub(others));
    if record.bucket.is_some_and(|known| known.rate() != bucket.rate()) {
        record.bucket = Some(bucket);
    }
    back > 0
}

/// Grants tokens to `me` once its slots are granted; or takes back those it has in hand, if it has no slot to use them with.
fn grant_tokens(record: &mut KeyRecord, shares: &mut Shares, me: i64, scene: &Scene) {
    let view = View::of(record, shares, scene);
    let (Some(mut bucket), granted) = (view.bucket, view.tokens_to_grant(me)) else { return };
    let may_have_tokens = shares.get(&me).is_some_and(|mine| view.may_have_tokens(mine));
    let Some(mine) = shares.get_mut(&me) else { return };
    if !may_have_tokens {
        let back = std::mem::take(&mut mine.tokens);
        if back > 0 {
            bucket.put_back_all(back);
            record.bucket = Some(bucket);
        }
    } else if granted > 0 {
        let taken = bucket.take_up_to(granted);
        mine.tokens += taken;
        mine.tokens_wanted -= taken;
        record.bucket = Some(bucket);
    }
}
