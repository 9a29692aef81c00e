//! A key's shares as they stand at one moment: who waits for what, whose turn it is, and who has more than its part.
//!
//! Decides everything that [`super::divide`] does, and changes nothing itself.

use std::time::Duration;

use crate::job::Mono;

use super::arbiter::{SHARE_PERIOD, Scene, Share, Shares};
use super::{Bucket, KeyRecord, Standing};

/// A want counts for so long after it was last said, or after the token it waits for could have grown.
const FRESH: Duration = Duration::from_millis(2 * SHARE_PERIOD.as_millis() as u64);

/// See the module.
pub(super) struct View<'a> {
    shares: &'a Shares,
    now: Mono,
    /// What may be out at once; `None`: any number.
    cap: Option<u32>,
    /// Whether slots are limited, and tokens so for those who have one.
    is_limited: bool,
    /// The bucket as it is now; `None`: no rate.
    pub(super) bucket: Option<Bucket>,
    /// Since when it has had a token, if it has one.
    has_token_since: Mono,
}

/// The bucket of a key, not yet grown to the time of the turn unless its rate is another from then on; `out`: tokens in hand.
pub(super) fn bucket_of(record: &KeyRecord, out: u32, scene: &Scene) -> Option<Bucket> {
    let full = Bucket::full(record.terms(&scene.configured, scene.now).rate?);
    let mut bucket = record.bucket.unwrap_or(full);
    if let Some(at) = scene.void_at {
        bucket = bucket.void(at);
    }
    if bucket.rate() != full.rate() {
        bucket.grow_beside(scene.now, out);
        bucket.adopt(full.rate());
    }
    Some(bucket)
}

/// Tokens in hand.
pub(super) fn tokens_out(shares: &Shares) -> u32 {
    shares.values().fold(0, |sum, share| sum.saturating_add(share.tokens))
}

impl<'a> View<'a> {
    pub(super) fn of(record: &KeyRecord, shares: &'a Shares, scene: &Scene) -> View<'a> {
        let terms = record.terms(&scene.configured, scene.now);
        // While the breaker is open every slot comes back, so that one probe only starts when it is half-open. One that is given up
        // has its jobs come up and end, and so goes on.
        let is_open = record.breaker.open_until(scene.now).is_some()
            && matches!(record.standing(scene.now, &scene.policy), Standing::Waits { .. });
        let out = tokens_out(shares);
        let before = bucket_of(record, out, scene);
        View {
            shares,
            now: scene.now,
            cap: if is_open { Some(0) } else { terms.max_concurrent },
            is_limited: terms.max_concurrent.is_some(),
            bucket: before.map(|mut bucket| {
                bucket.grow_beside(scene.now, out);
                bucket.cut_beside(out);
                bucket
            }),
            has_token_since: before.map(|bucket| bucket.next_token()).unwrap_or_default(),
        }
    }

    /// The slots that `me` gets of those it wants.
    pub(super) fn slots_to_grant(&self, me: i64) -> u32 {
        let mine = self.share(me);
        let Some(cap) = self.cap else { return mine.wanted };
        let seniors = self.others(me).filter(|&(id, share)| {
            self.lacks_slots(share) && self.is_senior(id, me) && self.asked_lately(share)
        });
        let reserved =
            seniors.fold(0_u32, |sum, (_, share)| sum.saturating_add(self.missing(share)));
        let others_want = self.others(me).any(|(_, share)| self.wants_slots(share));
        let fair = if others_want { cap.div_ceil(self.claimants()) } else { u32::MAX };
        let free = self.free().saturating_sub(reserved);
        mine.wanted.min(free).min(fair.saturating_sub(mine.slots))
    }

    /// The tokens that `me` gets of those it wants.
    pub(super) fn tokens_to_grant(&self, me: i64) -> u32 {
        let mine = self.share(me);
        let Some(bucket) = self.bucket.filter(|_| self.may_have_tokens(mine)) else { return 0 };
        let is_over = mine.slots > self.floor();
        let seniors = self.others(me).filter(|&(id, share)| {
            // It can use the token: now, or as soon as it comes for a slot that is there for it.
            let is_of_use = self.may_have_tokens(share) || self.free() > 0 || is_over;
            let is_in_time =
                self.now.since(share.asked_at.max(self.has_token_since)) <= SHARE_PERIOD;
            self.lacks_tokens(share) && self.is_senior(id, me) && is_of_use && is_in_time
        });
        let reserved = u32::try_from(seniors.count()).unwrap_or(u32::MAX);
        let others_want = self.others(me).any(|(_, share)| self.wants_tokens(share));
        let fair = if others_want { self.fair_tokens(bucket) } else { u32::MAX };
        let free = bucket.available().saturating_sub(reserved);
        mine.tokens_wanted.min(free).min(fair.saturating_sub(mine.tokens))
    }

    /// Whether it has nothing, or less than its part, of what it wants.
    pub(super) fn lacks(&self, id: i64) -> bool {
        let share = self.share(id);
        self.lacks_slots(share) || (share.tokens_wanted > 0 && self.lacks_tokens(share))
    }

    /// How many slots it may keep, where it should not keep all it has.
    pub(super) fn keep(&self, id: i64) -> Option<u32> {
        let (share, cap) = (self.share(id), self.cap?);
        if self.slots_out() > cap {
            return (share.slots > 0).then_some(0);
        }
        let floor = self.floor();
        let is_token_there = self.bucket.is_none_or(|bucket| bucket.has_token());
        if share.slots <= floor || !is_token_there {
            return None;
        }
        let seniors = self.others(id);
        let seniors =
            seniors.filter(|&(o, other)| self.lacks_slots(other) && self.is_senior(o, id));
        let missing =
            seniors.fold(0_u32, |sum, (_, other)| sum.saturating_add(self.missing(other)));
        (missing > self.free()).then_some(floor)
    }

    /// Whether more slots are out than there may be.
    pub(super) fn is_over(&self) -> bool {
        self.cap.is_some_and(|cap| self.slots_out() > cap)
    }

    /// Whether somebody else wants slots that are not there, however many it has already: what idles with this one is wasted.
    pub(super) fn idle_awaited(&self, id: i64) -> bool {
        // Or one comes back with the slot.
        let is_token_there =
            self.bucket.is_none_or(|bucket| bucket.has_token()) || self.share(id).tokens > 0;
        let wanted = self.others(id).filter(|(_, share)| self.wants_slots(share));
        let wanted = wanted.fold(0_u32, |sum, (_, share)| sum.saturating_add(share.wanted));
        self.cap.is_some() && self.share(id).slots > 0 && is_token_there && wanted > self.free()
    }

    /// Whoever but `me` said last that it does not use all it has, while `me` wants some.
    pub(super) fn idlers_to_ask(&self, me: i64) -> Vec<i64> {
        if self.share(me).wanted == 0 {
            return Vec::new();
        }
        let idle = self.others(me).filter(|(_, share)| share.running < share.slots);
        idle.map(|(id, _)| id).filter(|&id| self.idle_awaited(id)).collect()
    }

    /// Whether it has tokens in hand that somebody else lacks.
    pub(super) fn tokens_awaited(&self, id: i64) -> bool {
        // Those of its own part too: what it does not use is of more use there.
        let is_none_left = self.bucket.is_some_and(|bucket| !bucket.has_token());
        let mut lack = self.others(id).map(|(_, other)| other);
        is_none_left
            && self.share(id).tokens > 0
            && lack.any(|other| self.lacks_tokens(other) && self.may_have_tokens(other))
    }

    /// When a token that nobody has in hand will be there, if there is none.
    pub(super) fn next_token(&self) -> Option<Mono> {
        self.bucket.filter(|bucket| !bucket.has_token()).map(|bucket| bucket.next_token())
    }

    /// Whoever but `me` has something that it should not keep.
    pub(super) fn holders_to_ask(&self, me: i64) -> Vec<i64> {
        let others = self.others(me).map(|(id, _)| id);
        others.filter(|&id| self.keep(id).is_some() || self.tokens_awaited(id)).collect()
    }

    /// Those who wait for what is there now, as many as there is something for: whoever has waited longest with less than its part,
    /// and then whoever wants more.
    pub(super) fn waiters_to_tell(&self, me: i64) -> Vec<i64> {
        let mut waiters: Vec<(bool, Option<Mono>, i64)> = self
            .others(me)
            .filter(|(_, share)| self.wants_slots(share) || self.wants_tokens(share))
            .map(|(id, share)| (share.waiting_since.is_none(), share.waiting_since, id))
            .collect();
        waiters.sort_unstable();
        let mut slots = self.free();
        let mut tokens = self.bucket.map_or(0, |bucket| bucket.available());
        let told = waiters.into_iter().filter(|&(_, _, id)| {
            let share = self.share(id);
            let gets_slots =
                if self.wants_slots(share) { self.missing(share).max(1).min(slots) } else { 0 };
            let gets_token = self.wants_tokens(share)
                && (gets_slots > 0 || self.may_have_tokens(share))
                && tokens > 0;
            slots -= gets_slots;
            tokens -= u32::from(gets_token);
            gets_slots > 0 || gets_token
        });
        told.map(|(_, _, id)| id).collect()
    }

    /// Whether tokens are of any use to it.
    pub(super) fn may_have_tokens(&self, share: &Share) -> bool {
        !self.is_limited || share.slots > 0
    }

    fn share(&self, id: i64) -> &'a Share {
        const NOTHING: &Share = &Share::NOTHING;
        self.shares.get(&id).unwrap_or(NOTHING)
    }

    fn others(&self, me: i64) -> impl Iterator<Item = (i64, &'a Share)> {
        self.shares.iter().map(|(&id, share)| (id, share)).filter(move |&(id, _)| id != me)
    }

    /// Whether `id` has waited longer than `than`, who perhaps does not wait at all.
    fn is_senior(&self, id: i64, than: i64) -> bool {
        let since = |id: i64| self.share(id).waiting_since;
        match (since(id), since(than)) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(its), Some(other)) => (its, id) < (other, than),
        }
    }

    fn slots_out(&self) -> u32 {
        self.shares.values().fold(0, |sum, share| sum.saturating_add(share.slots))
    }

    fn free(&self) -> u32 {
        self.cap.map_or(u32::MAX, |cap| cap.saturating_sub(self.slots_out()))
    }

    /// An even part of the slots, rounded down.
    fn floor(&self) -> u32 {
        self.cap.map_or(u32::MAX, |cap| cap / self.claimants())
    }

    /// Whoever has slots or wants some; at least 1.
    fn claimants(&self) -> u32 {
        count(self.shares.values().filter(|share| share.slots > 0 || self.wants_slots(share)))
    }

    fn token_claimants(&self) -> u32 {
        count(self.shares.values().filter(|share| share.tokens > 0 || self.wants_tokens(share)))
    }

    fn fair_tokens(&self, bucket: Bucket) -> u32 {
        bucket.rate().burst.div_ceil(self.token_claimants())
    }

    fn asked_lately(&self, share: &Share) -> bool {
        self.now.since(share.asked_at) <= SHARE_PERIOD
    }

    fn wants_slots(&self, share: &Share) -> bool {
        share.wanted > 0 && self.now.since(share.asked_at) <= FRESH
    }

    fn lacks_slots(&self, share: &Share) -> bool {
        self.wants_slots(share) && share.slots < self.floor().max(1)
    }

    /// The slots it lacks of its part, if it wants so many.
    fn missing(&self, share: &Share) -> u32 {
        self.floor().max(1).saturating_sub(share.slots).min(share.wanted)
    }

    /// Whoever waits for a token knows when it will be there, and need not ask before.
    fn wants_tokens(&self, share: &Share) -> bool {
        let Some(bucket) = self.bucket else { return false };
        let comes_for_it = share.wanted > 0 && !self.may_have_tokens(share);
        (share.tokens_wanted > 0 || comes_for_it)
            && self.now.since(share.asked_at) <= FRESH.saturating_add(bucket.interval())
    }

    fn lacks_tokens(&self, share: &Share) -> bool {
        self.wants_tokens(share) && share.tokens == 0
    }
}

/// At least 1.
fn count<T>(of: impl Iterator<Item = T>) -> u32 {
    u32::try_from(of.count()).unwrap_or(u32::MAX).max(1)
}
