//! A token bucket that threads share.
//!
//! Must never let more out over any interval than burst + rate · time, nor ask the time. The arithmetic is
//! [`Bucket`]'s.

use std::fmt;
use std::time::Duration;

use crate::job::Mono;
use crate::share::{Bucket, Rate};

use super::sync::Mutex;

/// Tokens that grow with time, up to a burst. Full when new.
///
/// The time is what callers say it is: over any interval of it, at most burst + rate · length tokens are taken and not
/// refunded. A time earlier than one already told is harmless: nothing grows twice.
pub struct TokenBucket {
    state: Mutex<State>,
}

struct State {
    bucket: Bucket,
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
        TokenBucket { state: Mutex::new(State { bucket: Bucket::full(rate), refused: false }) }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// When the next token will be there, if there is none.
    pub fn try_take(&self, now: Mono) -> Result<(), Mono> {
        let mut state = self.state.lock();
        state.grow(now);
        if state.bucket.take() {
            return Ok(());
        }
        state.refused = true;
        Err(state.bucket.next_token())
    }

    /// Puts back a token that was taken and not spent. Returns whether somebody was refused since a token was last
    /// there, who may have this one and is to be told.
    #[must_use]
    pub fn refund(&self) -> bool {
        let mut state = self.state.lock();
        state.bucket.put_back();
        std::mem::take(&mut state.refused)
    }

    /// Empties it: from `now` on, the next token takes its full time.
    pub(super) fn restart(&self, now: Mono) {
        let mut state = self.state.lock();
        state.grow(now);
        state.bucket.restart(now);
    }

    /// Changes the rate. Whole tokens stay, up to the new burst. Returns whether somebody was refused since a token
    /// was last there, whose time has changed and is to be told.
    #[must_use]
    pub fn set(&self, rate: Rate) -> bool {
        let mut state = self.state.lock();
        state.bucket.adopt(rate);
        std::mem::take(&mut state.refused)
    }

    /// Lets everybody pass from now on: the rate was taken away. Returns as [`TokenBucket::set`] does.
    #[must_use]
    pub(super) fn lift(&self) -> bool {
        let mut state = self.state.lock();
        let nanosecond = Duration::from_nanos(1);
        state.bucket.adopt(Rate { count: u32::MAX, per: nanosecond, burst: u32::MAX });
        state.bucket.fill();
        std::mem::take(&mut state.refused)
    }

    /// Whole tokens there are.
    #[must_use]
    pub fn available(&self, now: Mono) -> u32 {
        let mut state = self.state.lock();
        state.grow(now);
        state.bucket.available()
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
        let empty = !state.bucket.has_token();
        Standing { next_token: empty.then(|| state.next_token(now)), awaited: state.refused }
    }
}

impl fmt::Debug for TokenBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenBucket").field(&self.state.lock().bucket).finish()
    }
}

impl State {
    /// Lets time pass up to `now`.
    fn grow(&mut self, now: Mono) {
        self.bucket.grow(now);
        // From here on nobody has to be told: those who were refused come by themselves, their time has come.
        self.refused &= !self.bucket.has_token();
    }

    fn next_token(&self, now: Mono) -> Mono {
        if self.bucket.has_token() { now } else { self.bucket.next_token() }
    }
}
