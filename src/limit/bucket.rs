//! So many starts in so much time.
//!
//! Must never let more out over any interval than burst + rate · time, ask the time, or round: levels are whole
//! numbers of a unit in which both a token and a nanosecond's growth are whole.

use std::fmt;
use std::time::Duration;

use crate::job::Mono;

use super::Rate;
use super::sync::Mutex;

/// Tokens that grow with time, up to a burst. Full when new.
///
/// The time is what callers say it is: over any interval of it, at most burst + rate · length tokens are taken and not
/// refunded. A time earlier than one already told is harmless: nothing grows twice.
pub struct TokenBucket {
    state: Mutex<State>,
}

/// A nanosecond grows `count` units; a token costs as many units as the rate's period has nanoseconds.
struct State {
    count: u32,
    /// Units a token costs; at least 1.
    cost: u64,
    /// At least 1.
    burst: u32,
    /// Units there were at `at`; at most `burst · cost`.
    level: u128,
    at: Mono,
    /// Somebody was refused since a token was last there.
    refused: bool,
}

/// How a bucket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// When the next token will be there; `None`: one is.
    pub(super) next_token: Option<Mono>,
    /// Whether somebody was refused since a token was last there.
    pub(super) awaited: bool,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> TokenBucket {
        let mut state =
            State { count: 0, cost: 1, burst: 0, level: 0, at: Mono::default(), refused: false };
        state.adopt(rate);
        state.level = state.capacity();
        TokenBucket { state: Mutex::new(state) }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// When the next token will be there, if there is none.
    pub fn try_take(&self, now: Mono) -> Result<(), Mono> {
        let mut state = self.state.lock();
        state.grow(now);
        match state.level.checked_sub(state.cost.into()) {
            Some(rest) => {
                state.level = rest;
                Ok(())
            }
            None => {
                state.refused = true;
                Err(state.next_token(now))
            }
        }
    }

    /// Puts back a token that was taken and not spent. Returns whether somebody was refused since a token was last
    /// there, who may have this one and is to be told.
    #[must_use]
    pub fn refund(&self) -> bool {
        let mut state = self.state.lock();
        state.level = (state.level + u128::from(state.cost)).min(state.capacity());
        std::mem::take(&mut state.refused)
    }

    /// Empties it: from `now` on, the next token takes its full time.
    pub(super) fn restart(&self, now: Mono) {
        let mut state = self.state.lock();
        state.grow(now);
        state.level = 0;
    }

    /// Changes the rate. Whole tokens stay, up to the new burst. Returns whether somebody was refused since a token
    /// was last there, whose time has changed and is to be told.
    #[must_use]
    pub fn set(&self, rate: Rate) -> bool {
        let mut state = self.state.lock();
        state.adopt(rate);
        std::mem::take(&mut state.refused)
    }

    /// Lets everybody pass from now on: the rate was taken away. Returns as [`TokenBucket::set`] does.
    #[must_use]
    pub(super) fn lift(&self) -> bool {
        let mut state = self.state.lock();
        let nanosecond = Duration::from_nanos(1);
        state.adopt(Rate { count: u32::MAX, per: nanosecond, burst: u32::MAX });
        state.level = state.capacity();
        std::mem::take(&mut state.refused)
    }

    /// Whole tokens there are.
    #[must_use]
    pub fn available(&self, now: Mono) -> u32 {
        let mut state = self.state.lock();
        state.grow(now);
        // The level never exceeds `burst` tokens, and `burst` fits.
        u32::try_from(state.level / u128::from(state.cost)).unwrap_or(state.burst)
    }

    /// When a token will be there: `now` when one is, [`Duration::MAX`] when none ever will.
    #[must_use]
    pub fn next_token(&self, now: Mono) -> Mono {
        let mut state = self.state.lock();
        state.grow(now);
        state.next_token(now)
    }

    pub(super) fn standing(&self, now: Mono) -> Standing {
        let mut state = self.state.lock();
        state.grow(now);
        let empty = !state.has_token();
        Standing { next_token: empty.then(|| state.next_token(now)), awaited: state.refused }
    }
}

impl fmt::Debug for TokenBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        let tokens = state.level / u128::from(state.cost);
        f.debug_struct("TokenBucket").field("tokens", &tokens).field("at", &state.at).finish()
    }
}

impl State {
    fn capacity(&self) -> u128 {
        u128::from(self.burst) * u128::from(self.cost)
    }

    fn has_token(&self) -> bool {
        self.level >= u128::from(self.cost)
    }

    /// Takes on the terms of `rate`, whatever they are, and keeps the tokens.
    fn adopt(&mut self, rate: Rate) {
        let cost = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Both factors are below 2^64, the level below 2^96: nothing overflows.
        let (whole, part) =
            (self.level / u128::from(self.cost), self.level % u128::from(self.cost));
        self.level = whole * u128::from(cost) + part * u128::from(cost) / u128::from(self.cost);
        (self.count, self.cost, self.burst) = (rate.count, cost, rate.burst.max(1));
        self.level = self.level.min(self.capacity());
    }

    /// Lets time pass up to `now`.
    fn grow(&mut self, now: Mono) {
        let elapsed_ns = u64::try_from(now.since(self.at).as_nanos()).unwrap_or(u64::MAX);
        let grown = self.level + u128::from(elapsed_ns) * u128::from(self.count);
        self.level = grown.min(self.capacity());
        self.at = self.at.max(now);
        // From here on nobody has to be told: those who were refused come by themselves, their time has come.
        self.refused &= !self.has_token();
    }

    fn next_token(&self, now: Mono) -> Mono {
        let missing = u128::from(self.cost).saturating_sub(self.level);
        if missing == 0 {
            return now;
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
}
