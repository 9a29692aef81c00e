//! So many starts in so much time: the arithmetic of a token bucket.
//!
//! Must never let more out over any interval than burst + rate · time, ask the time, or round: levels are whole
//! numbers of a unit in which both a token and a nanosecond's growth are whole.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::Mono;

use super::Rate;
use super::wire::{decimal, is_default, ns};

/// A bucket of tokens. A nanosecond grows `count` units; a token costs as many units as the rate's period has nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Bucket {
    count: u32,
    /// Units a token costs; at least 1.
    cost: u64,
    /// At least 1.
    burst: u32,
    /// Units there were at `at`; at most `burst · cost`.
    level: u128,
    at: Mono,
}

/// A bucket as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    rate: Rate,
    #[serde(default, skip_serializing_if = "is_default", with = "decimal")]
    level: u128,
    #[serde(rename = "at_ns", default, skip_serializing_if = "is_default", with = "ns")]
    at: Mono,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: Rate) -> Bucket {
        let mut bucket = Bucket { count: 0, cost: 1, burst: 0, level: 0, at: Mono::default() };
        bucket.adopt(rate);
        bucket.level = bucket.capacity();
        bucket
    }

    /// An empty bucket: from `now` on, the first token takes its full time.
    #[must_use]
    pub fn empty(rate: Rate, now: Mono) -> Bucket {
        Bucket { level: 0, at: now, ..Bucket::full(rate) }
    }

    /// Its rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        Rate { count: self.count, per: Duration::from_nanos(self.cost), burst: self.burst }
    }

    /// Lets time pass up to `now`. A time earlier than one already told is harmless: nothing grows twice.
    pub fn grow(&mut self, now: Mono) {
        self.grow_beside(now, 0);
    }

    /// The same while `out` of its tokens are in somebody's hand, neither spent nor back: with them it never has more than its burst.
    pub fn grow_beside(&mut self, now: Mono, out: u32) {
        let elapsed_ns = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(u64::MAX);
        let grown = self.level.saturating_add(u128::from(elapsed_ns) * u128::from(self.count));
        let most = u128::from(self.burst.saturating_sub(out)) * u128::from(self.cost);
        self.level = grown.min(most.max(self.level));
        self.at = self.at.max(now);
    }

    /// Gives up what it has more than its burst allows while `out` of its tokens are in somebody's hand.
    pub fn cut_beside(&mut self, out: u32) {
        let most = u128::from(self.burst.saturating_sub(out)) * u128::from(self.cost);
        self.level = self.level.min(most);
    }

    /// The time it has grown to.
    #[must_use]
    pub fn at(&self) -> Mono {
        self.at
    }

    /// Whether it has all that its burst allows.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.level == self.capacity()
    }

    /// Whether a whole token is there.
    #[must_use]
    pub fn has_token(&self) -> bool {
        self.level >= u128::from(self.cost)
    }

    /// Takes one token, if it is there.
    pub fn take(&mut self) -> bool {
        let rest = self.level.checked_sub(self.cost.into());
        self.level = rest.unwrap_or(self.level);
        rest.is_some()
    }

    /// Takes up to so many tokens; returns how many there were.
    pub fn take_up_to(&mut self, most: u32) -> u32 {
        let taken = self.available().min(most);
        self.level -= u128::from(taken) * u128::from(self.cost);
        taken
    }

    /// Puts back so many tokens that were taken and not spent.
    pub fn put_back_all(&mut self, tokens: u32) {
        let more = u128::from(tokens) * u128::from(self.cost);
        self.level = (self.level + more).min(self.capacity());
    }

    /// Puts back a token that was taken and not spent.
    pub fn put_back(&mut self) {
        self.level = (self.level + u128::from(self.cost)).min(self.capacity());
    }

    /// How long a token takes to grow, rounded up; [`Duration::MAX`] when none ever does.
    #[must_use]
    pub fn interval(&self) -> Duration {
        match u64::from(self.count) {
            0 => Duration::MAX,
            count => Duration::from_nanos(self.cost.div_ceil(count)),
        }
    }

    /// Empties it: from `now` on, the next token takes its full time.
    pub fn restart(&mut self, now: Mono) {
        self.grow(now);
        self.level = 0;
    }

    /// As one whose tokens may all have been spent at `at`: it is empty then, unless it was touched later.
    #[must_use]
    pub fn void(mut self, at: Mono) -> Bucket {
        if self.at <= at {
            self.restart(at);
        }
        self
    }

    /// Takes on the terms of `rate`, whatever they are, and keeps the whole tokens, up to the new burst. Of the one that is growing it keeps
    /// the part or the time, whichever is less: one that grows more slowly now takes its whole time from when it began.
    pub fn adopt(&mut self, rate: Rate) {
        let cost = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Both factors are below 2^64, the level below 2^96: nothing overflows.
        let (whole, part) =
            (self.level / u128::from(self.cost), self.level % u128::from(self.cost));
        let same_part = part * u128::from(cost) / u128::from(self.cost);
        let same_time = part * u128::from(rate.count) / u128::from(self.count.max(1));
        self.level = whole * u128::from(cost) + same_part.min(same_time);
        (self.count, self.cost, self.burst) = (rate.count, cost, rate.burst.max(1));
        self.level = self.level.min(self.capacity());
    }

    /// Fills it.
    pub fn fill(&mut self) {
        self.level = self.capacity();
    }

    /// Whole tokens there are.
    #[must_use]
    pub fn available(&self) -> u32 {
        // The level never exceeds `burst` tokens, and `burst` fits.
        u32::try_from(self.level / u128::from(self.cost)).unwrap_or(self.burst)
    }

    /// When a token will be there: at the time it has grown to when one is, [`Duration::MAX`] when none ever will.
    #[must_use]
    pub fn next_token(&self) -> Mono {
        let missing = u128::from(self.cost).saturating_sub(self.level);
        if missing == 0 {
            return self.at;
        }
        // Rounded up: at that nanosecond the token is there, not almost there.
        match u128::from(self.count) {
            0 => Mono(Duration::MAX),
            count => {
                let wait_ns = u64::try_from(missing.div_ceil(count)).unwrap_or(u64::MAX);
                self.at.plus(Duration::from_nanos(wait_ns))
            }
        }
    }

    fn capacity(&self) -> u128 {
        u128::from(self.burst) * u128::from(self.cost)
    }
}

impl From<Bucket> for Written {
    fn from(bucket: Bucket) -> Written {
        Written { rate: bucket.rate(), level: bucket.level, at: bucket.at }
    }
}

impl From<Written> for Bucket {
    fn from(written: Written) -> Bucket {
        let mut bucket = Bucket::empty(written.rate, written.at);
        // Whoever wrote it: never more than it can have.
        bucket.level = written.level.min(bucket.capacity());
        bucket
    }
}
