//! What this process knows of one key, and has of it where processes share.
//!
//! Must never let a slot be used that was granted under laxer terms than hold now, before the store has confirmed it; nor keep
//! one that others wait for longer than [`TENURE`] beyond its use.

use std::time::Duration;

use crate::job::Mono;
use crate::share::{
    BreakerState, Configured, KeyEvent, KeyRecord, Policy, SHARE_PERIOD, Terms, Transition,
};

use super::hand::HandReport;
use super::keyed::Allowance;

/// So long a process uses again what it was granted, though others wait for more than it has beyond its part.
pub(super) const TENURE: Duration = Duration::from_millis(100);
/// So long nothing that was granted counts as idle: the frontier has not come to it yet.
const GRACE: Duration = Duration::from_millis(10);
/// A want that nobody renewed for so long is withdrawn.
const WANT_LASTS: Duration = SHARE_PERIOD.saturating_mul(2);
/// The most events remembered that no turn has carried yet; of more, the oldest is not told.
const MAX_PENDING: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The replica.
    pub(super) record: KeyRecord,
    /// The strictest of what all live processes were configured with, where a store said so.
    pub(super) configured: Option<Configured>,
    /// What it comes to, as far as it took hold.
    pub(super) terms: Terms,
    /// How the breaker stood when last looked at.
    pub(super) phase: Phase,
    /// In order, in no news yet.
    pub(super) pending: Vec<KeyEvent>,
    /// Since when something is pending, and whether others should hear of it at once.
    pub(super) pending_since: Option<Mono>,
    pub(super) is_urgent: bool,
    /// What the news under way says.
    pub(super) told: Option<InNews>,
    pub(super) share: Share,
    /// Number of the [`Close`](crate::share::Claim::Close) after which the store last answered.
    pub(super) answered_after: u64,
    /// Whether it was [alarming](Entry::is_alarming) when it last took hold.
    pub(super) was_alarming: bool,
    /// When it last mattered, in the book's count.
    pub(super) touched: u64,
}

/// How a breaker stands, time included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    #[default]
    Closed,
    Open,
    HalfOpen,
}

/// What a report that is under way says, for the case that it does not arrive.
#[derive(Debug)]
pub(super) struct InNews {
    pub(super) events: Vec<KeyEvent>,
    /// What the share was before.
    pub(super) slots: u32,
    /// What is kept of it.
    pub(super) kept: u32,
    /// What is asked for; `None`: nothing was to be asked for this time.
    pub(super) asks: Option<Asks>,
    pub(super) hand: Option<HandReport>,
}

/// What this process has of a key that is divided, and lacks.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// The store has said how it stands, since this process shares.
    pub(super) is_known: bool,
    pub(super) slots: u32,
    pub(super) granted_at: Mono,
    pub(super) tokens_at: Mono,
    /// When the store said that it would have another one.
    pub(super) tokens_due: Mono,
    /// There are too many keys, and this one is not used: what idles is given back.
    pub(super) is_surplus: bool,
    /// Others wait: so many it may keep.
    pub(super) keep: Option<u32>,
    /// More are out than there may be: nothing starts here, and what comes back is given.
    pub(super) is_over: bool,
    /// Others want what idles here, since then.
    pub(super) idle_awaited: Option<Mono>,
    /// How many were in use when the store was last told.
    pub(super) told_running: u32,
    pub(super) tokens_awaited: bool,
    pub(super) frozen: Frozen,
    /// When somebody was last refused for want of a slot here, or of a token.
    pub(super) lacks_slot: Option<Mono>,
    pub(super) lacks_token: Option<Mono>,
    /// When the store was last told what is lacking, if it was.
    pub(super) asked_at: Option<Mono>,
    /// A key that has this part lacked an earlier one: what idles here is of no use.
    pub(super) lacks_earlier: bool,
    /// When a key that has this part last lacked a later one only.
    pub(super) lacks_later: Option<Mono>,
}

/// Whether slots may be used at all: not when they were granted under laxer terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Frozen {
    #[default]
    No,
    /// Until the store has confirmed what runs.
    Yes,
    /// The news under way says what runs.
    Told,
}

/// What is to be said of a key beside its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Asks {
    pub(super) slots: u32,
    pub(super) tokens: u32,
}

impl Entry {
    /// Notes what the record comes to at `now`. Returns how its breaker came to stand, if that changed, and was not said by an event.
    pub(super) fn pass_to(&mut self, now: Mono, configured: &Configured) -> Option<Transition> {
        let phase = match self.record.breaker.state(now) {
            BreakerState::Closed => Phase::Closed,
            BreakerState::Open { .. } => Phase::Open,
            BreakerState::HalfOpen { .. } => Phase::HalfOpen,
        };
        let terms = self.record.terms(configured, now);
        let is_stricter = match (terms.max_concurrent, self.terms.max_concurrent) {
            (Some(now), Some(before)) => now < before,
            (now, before) => now.is_some() && before.is_none(),
        };
        let half_opens = phase == Phase::HalfOpen && self.phase != phase;
        if half_opens || is_stricter || (phase == Phase::Open && self.phase != phase) {
            self.share.frozen = Frozen::Yes;
        }
        let by_time = half_opens && matches!(self.record.breaker.state, BreakerState::Open { .. });
        (self.phase, self.terms) = (phase, terms);
        by_time.then_some(Transition::HalfOpened)
    }

    /// Whether its standing has to be asked for: something keeps people out, or did until lately.
    pub(super) fn is_alarming(&self) -> bool {
        let record = &self.record;
        record.paused || record.hold.is_some() || record.breaker.state != BreakerState::Closed
    }

    /// Until when it keeps people out: the later end of hold and breaker.
    pub(super) fn kept_until(&self, now: Mono) -> Option<Mono> {
        let open = match self.record.breaker.state(now) {
            BreakerState::Open { until } => Some(until),
            BreakerState::Closed | BreakerState::HalfOpen { .. } => None,
        };
        self.record.hold.map(|hold| hold.until).max(open).filter(|until| *until > now)
    }

    /// Notes an event that a turn is to carry. Whether it is to do so sooner than it would have without.
    pub(super) fn queue(&mut self, event: KeyEvent, now: Mono, is_urgent: bool) -> bool {
        if self.pending.len() >= MAX_PENDING {
            self.pending.remove(0);
        }
        self.pending.push(event);
        let is_sooner = self.pending_since.is_none() || (is_urgent && !self.is_urgent);
        self.pending_since.get_or_insert(now);
        self.is_urgent |= is_urgent;
        is_sooner
    }

    /// What may be used of the share.
    pub(super) fn allowance(&self, now: Mono) -> Allowance {
        let share = &self.share;
        if !share.is_known {
            return Allowance::AtMost(0);
        }
        let Some(most) = self.terms.max_concurrent else { return Allowance::Unlimited };
        if share.frozen != Frozen::No || share.is_over {
            return Allowance::AtMost(0);
        }
        let kept = share.keep.filter(|_| share.is_tenure_over(now));
        Allowance::AtMost(share.slots.min(most).min(kept.unwrap_or(u32::MAX)))
    }

    /// Whether it has all the slots anybody may have.
    pub(super) fn has_all(&self) -> bool {
        let share = &self.share;
        share.is_known
            && share.frozen == Frozen::No
            && !share.is_over
            && share.keep.is_none()
            && self.terms.max_concurrent.is_some_and(|most| share.slots >= most)
    }

    /// How many slots to keep at `now`, when so many of them are in use.
    pub(super) fn slots_to_keep(&self, now: Mono, running: u32) -> u32 {
        let share = &self.share;
        if self.terms.max_concurrent.is_none() {
            // What is still out when a breaker opens counts when it is half-open.
            return if self.phase == Phase::Open { running } else { 0 };
        }
        if !share.is_known || share.is_surplus || share.is_over || share.frozen != Frozen::No {
            return running;
        }
        match share.keep {
            Some(keep) if share.gives_at().is_some_and(|at| at <= now) => keep.max(running),
            _ if share.gives_idle_at().is_some_and(|at| at <= now) => running,
            _ => share.slots.max(running),
        }
    }

    /// What to ask for beside the slots and tokens that are kept: all that there may be, for the store divides it.
    pub(super) fn asks(&self, kept: u32, in_hand: u32) -> Asks {
        let lacking = |lacks: Option<Mono>, most: Option<u32>, kept: u32| match lacks {
            Some(_) => most.unwrap_or_default().saturating_sub(kept),
            None => 0,
        };
        let burst = self.terms.rate.map(|rate| rate.burst.max(1));
        let share = &self.share;
        // Whoever gets its first slot will need a token for it.
        let first_slot = share.lacks_slot.filter(|_| kept == 0);
        Asks {
            slots: lacking(share.lacks_slot, self.terms.max_concurrent, kept),
            tokens: lacking(share.lacks_token.or(first_slot), burst, in_hand),
        }
    }

    /// Whether there is something that a turn should carry, sooner or later.
    pub(super) fn has_news(&self) -> bool {
        let share = &self.share;
        !self.pending.is_empty()
            || share.frozen == Frozen::Yes
            || share.is_lacking()
            || share.asked_at.is_some()
            || share.keep.is_some()
            || share.idle_awaited.is_some()
            || share.is_over
            || share.tokens_awaited
    }

    /// When it should not wait any longer for a turn that is made for another reason, with so many slots in use and tokens in hand.
    pub(super) fn urgent_at(&self, running: u32, tokens: u32) -> Option<Mono> {
        let share = &self.share;
        let events = self
            .pending_since
            .map(|since| if self.is_urgent { since } else { since.plus(SHARE_PERIOD) });
        let frozen = (share.frozen == Frozen::Yes).then_some(Mono::default());
        let surplus = share.keep.filter(|keep| share.slots > running.max(*keep));
        let gives = surplus.and_then(|_| share.gives_at());
        let over = (share.is_over && share.slots > running).then_some(share.granted_at);
        let gives_idle = share.gives_idle_at().filter(|_| share.slots > running);
        let tokens = share.gives_tokens_at().filter(|_| tokens > 0);
        [events, frozen, share.asks_at(), gives, over, gives_idle, tokens]
            .into_iter()
            .flatten()
            .min()
    }

    /// What makes it worth remembering, least first.
    pub(super) fn weight(&self, now: Mono, policy: &Policy) -> (u8, Mono, u64) {
        let record = &self.record;
        let hold = record.hold.map(|hold| hold.until);
        let open = match record.breaker.state {
            BreakerState::Open { until } => Some(until),
            BreakerState::HalfOpen { .. } => Some(Mono(Duration::MAX)),
            BreakerState::Closed => None,
        };
        let class = if record.paused || record.set != Default::default() {
            3
        } else if hold.max(open).is_some() {
            2
        } else {
            u8::from(!record.is_at_rest(now, policy))
        };
        (class, hold.max(open).unwrap_or_default(), self.touched)
    }

    /// Whether it may be forgotten as far as shares and news go, if nothing runs under it.
    pub(super) fn is_free(&self) -> bool {
        self.pending.is_empty() && self.told.is_none() && !self.share.is_held()
    }
}

impl Share {
    /// As it is when a store is yet to say anything, and so many run.
    pub(super) fn of_running(slots: u32) -> Share {
        Share { slots, ..Share::default() }
    }

    /// Whether others wait for slots that are here.
    pub(super) fn is_awaited(&self) -> bool {
        self.keep.is_some() || self.idle_awaited.is_some() || self.is_over
    }

    pub(super) fn is_lacking(&self) -> bool {
        self.lacks_slot.is_some() || self.lacks_token.is_some()
    }

    /// Whether the store knows of something here.
    fn is_held(&self) -> bool {
        self.slots > 0 || self.is_lacking() || self.asked_at.is_some() || self.frozen != Frozen::No
    }

    fn is_tenure_over(&self, now: Mono) -> bool {
        self.granted_at.plus(TENURE) <= now
    }

    /// When idle slots that others wait for are given.
    fn gives_at(&self) -> Option<Mono> {
        self.keep?;
        let soon = self.granted_at.plus(GRACE);
        if self.lacks_earlier {
            return Some(self.granted_at);
        }
        // Whoever has this part and lacks a later one may get that meanwhile.
        let awaited = self.lacks_later.filter(|at| at.plus(SHARE_PERIOD) > soon);
        Some(awaited.map_or(soon, |_| self.granted_at.plus(TENURE)))
    }

    /// When idle slots are given to whoever wants more than its part, even out of this one's.
    fn gives_idle_at(&self) -> Option<Mono> {
        let soon = self.idle_awaited?.max(self.granted_at).plus(GRACE);
        // Whoever has this part and lacks a later one may get that meanwhile.
        let awaited = self.lacks_later.filter(|at| at.plus(SHARE_PERIOD) > soon);
        Some(awaited.map_or(soon, |at| at.plus(TENURE).max(soon)))
    }

    /// When the store is to be asked for what lacks.
    fn asks_at(&self) -> Option<Mono> {
        let lacks = self.lacks_slot.max(self.lacks_token)?;
        match self.asked_at {
            None => Some(lacks),
            Some(asked) => {
                let again = asked.plus(SHARE_PERIOD);
                (again < lacks.plus(WANT_LASTS)).then_some(again)
            }
        }
    }

    /// When idle tokens that others lack are given back. Whoever lacks a later part keeps them for longer: were those who have an
    /// earlier and those who have a later part to give them up alike, nobody might ever have both.
    fn gives_tokens_at(&self) -> Option<Mono> {
        let soon = self.tokens_awaited.then(|| self.tokens_at.plus(GRACE))?;
        let awaited = self.lacks_later.filter(|at| at.plus(SHARE_PERIOD) > soon);
        Some(awaited.map_or(soon, |_| self.tokens_at.plus(TENURE)))
    }

    /// Whether idle tokens are given back.
    pub(super) fn gives_tokens(&self, now: Mono) -> bool {
        self.gives_tokens_at().is_some_and(|at| at <= now)
    }

    /// Forgets wants that nobody has renewed. Whether the store is to be told that nothing is wanted any more.
    pub(super) fn forget_old_wants(&mut self, now: Mono) -> bool {
        let is_old = |at: &mut Mono| at.plus(WANT_LASTS) <= now;
        self.lacks_slot.take_if(is_old);
        self.lacks_token.take_if(is_old);
        self.asked_at.is_some() && !self.is_lacking()
    }
}
