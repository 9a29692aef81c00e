//! A token bucket that threads share: its own, or what a store granted of one that processes share.
//!
//! Must never let more out over any interval than burst + rate · time, nor ask the time. The arithmetic is
//! [`Bucket`]'s.

use std::fmt;
use std::time::Duration;

use crate::job::Mono;
use crate::share::{Bucket, Rate};

use super::hand::{Hand, HandReport};
use super::sync::Mutex;

/// Tokens that grow with time, up to a burst. Full when new.
///
/// The time is what callers say it is: over any interval of it, at most burst + rate · length tokens are taken and not
/// refunded. A time earlier than one already told is harmless: nothing grows twice.
pub struct TokenBucket {
    state: Mutex<State>,
}

struct State {
    source: Source,
    /// Somebody was refused since a token was last there.
    refused: bool,
    /// Goes up with each report of a hand, and when the source changes.
    term: u64,
    /// The first term of this source.
    since: u64,
    /// Goes up with each restart: tokens taken before are void.
    restarts: u64,
    /// Tokens taken, neither spent nor back.
    out: u32,
}

#[derive(Debug)]
enum Source {
    Own(Bucket),
    Granted(Hand),
}

/// How a bucket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// When the next token will be there, as far as is known; `None`: one is.
    pub(super) next_token: Option<Mono>,
    /// Whether somebody was refused since a token was last there.
    pub(super) awaited: bool,
}

/// When a token was taken, in [`TokenBucket::put_back`]'s terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    term: u64,
    restarts: u64,
    at: Mono,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoToken {
    /// One will be there then.
    Until(Mono),
    /// Others may have some: the store is to be asked.
    Ask,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> TokenBucket {
        TokenBucket::of(Source::Own(Bucket::full(rate)))
    }

    /// One that has what a store grants: nothing, to begin with.
    pub(super) fn granted(rate: Rate) -> TokenBucket {
        TokenBucket::of(Source::Granted(Hand::empty(rate, None)))
    }

    fn of(source: Source) -> TokenBucket {
        let (term, since, restarts, out) = (0, 0, 0, 0);
        let state = State { source, refused: false, term, since, restarts, out };
        TokenBucket { state: Mutex::new(state) }
    }

    /// Takes one token, and spends it.
    ///
    /// # Errors
    /// When the next token will be there, if there is none.
    pub fn try_take(&self, now: Mono) -> Result<(), Mono> {
        let taken = self.take(now).map_err(|refused| match refused {
            NoToken::Until(until) => until,
            NoToken::Ask => now,
        })?;
        self.forget(taken);
        Ok(())
    }

    /// The same; who is refused learns whether asking the store may help.
    pub(super) fn take(&self, now: Mono) -> Result<Taken, NoToken> {
        let mut state = self.state.lock();
        state.grow(now);
        let is_taken = match &mut state.source {
            Source::Own(bucket) => bucket.take(),
            Source::Granted(hand) => hand.take(),
        };
        if is_taken {
            state.out = state.out.saturating_add(1);
            return Ok(Taken { term: state.term, restarts: state.restarts, at: now });
        }
        let refusal = match &state.source {
            Source::Own(bucket) => NoToken::Until(bucket.next_token()),
            Source::Granted(hand) => match hand.next_token() {
                Some(at) if at > now => NoToken::Until(at),
                _ => NoToken::Ask,
            },
        };
        state.refused = true;
        Err(refusal)
    }

    /// What a token was taken for begins at `now`: it is spent. Whether it is still good: not when the bucket was restarted since, nor when more
    /// than the burst wait to begin.
    ///
    /// While it was in hand the bucket grew as if it had been spent when it was taken: what it should not have grown is lost here.
    pub(super) fn begin(&self, taken: Taken, now: Mono) -> bool {
        let mut state = self.state.lock();
        state.grow(now);
        let State { out, restarts, source, .. } = &mut *state;
        let waiting = *out;
        *out = waiting.saturating_sub(1);
        match source {
            _ if taken.restarts != *restarts => false,
            Source::Own(bucket) => {
                let is_good = waiting <= bucket.rate().burst.max(1);
                bucket.cut_beside(waiting);
                is_good
            }
            Source::Granted(hand) => {
                hand.spend(now, waiting);
                true
            }
        }
    }

    /// Nobody will say when what it was taken for began: it is as if it had been at once.
    pub(super) fn forget(&self, taken: Taken) {
        let mut state = self.state.lock();
        let out = state.out;
        state.out = out.saturating_sub(1);
        let is_good = taken.restarts == state.restarts;
        if let Source::Granted(hand) = &mut state.source
            && is_good
        {
            hand.spend(taken.at, out);
        }
    }

    /// Puts back a token that was taken and spent on nothing. Returns whether somebody was refused since a token was last
    /// there, who may have this one and is to be told.
    #[must_use]
    pub fn refund(&self) -> bool {
        let (term, restarts) = {
            let state = self.state.lock();
            (state.term, state.restarts)
        };
        self.put_back(Taken { term, restarts, at: Mono::default() }, true)
    }

    /// The same of a token taken then, spent or not. One from before the source changed, or was restarted, is lost.
    #[must_use]
    pub(super) fn put_back(&self, taken: Taken, is_spent: bool) -> bool {
        let mut state = self.state.lock();
        if !is_spent {
            state.out = state.out.saturating_sub(1);
        }
        if taken.term < state.since || taken.restarts != state.restarts {
            return false;
        }
        let is_told = is_spent && taken.term < state.term;
        let is_there = match &mut state.source {
            Source::Own(bucket) => {
                bucket.put_back();
                true
            }
            Source::Granted(hand) => hand.put_back(is_spent, is_told),
        };
        is_there && std::mem::take(&mut state.refused)
    }

    /// Empties it: from `now` on, the next token takes its full time.
    pub(super) fn restart(&self, now: Mono) {
        let mut state = self.state.lock();
        state.grow(now);
        state.restarts += 1;
        match &mut state.source {
            Source::Own(bucket) => bucket.restart(now),
            Source::Granted(hand) => hand.restart(now),
        }
    }

    /// Its rate.
    pub(super) fn rate(&self) -> Rate {
        match &self.state.lock().source {
            Source::Own(bucket) => bucket.rate(),
            Source::Granted(hand) => hand.rate,
        }
    }

    /// Changes the rate. Whole tokens stay, up to the new burst. Returns whether somebody was refused since a token
    /// was last there, whose time has changed and is to be told.
    #[must_use]
    pub fn set(&self, rate: Rate) -> bool {
        let mut state = self.state.lock();
        match &mut state.source {
            Source::Own(bucket) => bucket.adopt(rate),
            Source::Granted(hand) => hand.adopt(rate),
        }
        std::mem::take(&mut state.refused)
    }

    /// Lets everybody pass from now on: the rate was taken away. Returns as [`TokenBucket::set`] does.
    #[must_use]
    pub(super) fn lift(&self) -> bool {
        let nanosecond = Duration::from_nanos(1);
        let endless = Rate { count: u32::MAX, per: nanosecond, burst: u32::MAX };
        let mut state = self.state.lock();
        state.become_of(Source::Own(Bucket::full(endless)));
        std::mem::take(&mut state.refused)
    }

    /// From now on it has what a store grants, nothing yet. A hand is emptied.
    pub(super) fn part(&self) {
        let mut state = self.state.lock();
        let rate = match &state.source {
            Source::Own(bucket) => bucket.rate(),
            Source::Granted(hand) => hand.rate,
        };
        state.become_of(Source::Granted(Hand::empty(rate, None)));
    }

    /// The same, and what it had of its own at `now` goes to the store with the next report. A hand stays as it is.
    pub(super) fn part_with(&self, now: Mono) {
        let mut state = self.state.lock();
        let out = state.out;
        if let Source::Own(bucket) = &mut state.source {
            bucket.grow(now);
            bucket.cut_beside(out);
            let hand = Hand::empty(bucket.rate(), Some(*bucket));
            state.become_of(Source::Granted(hand));
        }
    }

    /// From now on it is this process' own, as the store says it is (`None`: full). Returns whether somebody is to be told.
    #[must_use]
    pub(super) fn own(&self, bucket: Option<Bucket>) -> bool {
        let mut state = self.state.lock();
        if let Source::Granted(hand) = &state.source {
            let mut own = bucket.unwrap_or_else(|| Bucket::full(hand.rate));
            if own.rate() != hand.rate {
                own.adopt(hand.rate);
            }
            // Since the store was told: it does not know yet.
            if let Some(ended_at) = hand.ended_at() {
                own.restart(ended_at);
            }
            state.become_of(Source::Own(own));
        }
        std::mem::take(&mut state.refused)
    }

    /// As it is, if it is this process' own and not full.
    pub(super) fn spent(&self, now: Mono) -> Option<Bucket> {
        let mut state = self.state.lock();
        state.grow(now);
        match &state.source {
            Source::Own(bucket) if bucket.available() < bucket.rate().burst.max(1) => Some(*bucket),
            Source::Own(_) | Source::Granted(_) => None,
        }
    }

    /// Whether it has what a store grants.
    pub(super) fn is_granted(&self) -> bool {
        matches!(self.state.lock().source, Source::Granted(_))
    }

    /// The hand, as it is; `None`: it is this process' own.
    pub(super) fn hand(&self) -> Option<Hand> {
        match &self.state.lock().source {
            Source::Own(_) => None,
            Source::Granted(hand) => Some(*hand),
        }
    }

    /// See [`Hand::report`].
    pub(super) fn report(&self, keep: u32) -> HandReport {
        let mut state = self.state.lock();
        state.term += 1;
        let out = state.out;
        match &mut state.source {
            Source::Own(_) => HandReport::default(),
            Source::Granted(hand) => hand.report(keep, out),
        }
    }

    /// See [`Hand::unreport`].
    pub(super) fn unreport(&self, report: HandReport) {
        if let Source::Granted(hand) = &mut self.state.lock().source {
            hand.unreport(report);
        }
    }

    /// See [`Hand::granted`]. Returns whether somebody was refused who may have one of these now, or learn when the next one comes.
    pub(super) fn receive(&self, tokens: u32, next_token: Option<Mono>) -> bool {
        let mut state = self.state.lock();
        let out = state.out;
        let Source::Granted(hand) = &mut state.source else { return false };
        // Whoever was refused before that was known waits for an answer.
        let is_known = next_token.is_some() && next_token != hand.next_token();
        hand.granted(tokens, out, next_token);
        let is_there = hand.tokens() > 0 || is_known;
        is_there && std::mem::take(&mut state.refused)
    }

    /// Whole tokens there are.
    #[must_use]
    pub fn available(&self, now: Mono) -> u32 {
        let mut state = self.state.lock();
        state.grow(now);
        match &state.source {
            Source::Own(bucket) => bucket.available(),
            Source::Granted(hand) => hand.tokens(),
        }
    }

    /// When a token will be there: `now` when one is, [`Duration::MAX`] when none ever will.
    #[must_use]
    pub fn next_token(&self, now: Mono) -> Mono {
        self.standing(now).next_token.unwrap_or(now)
    }

    pub(super) fn standing(&self, now: Mono) -> Standing {
        let mut state = self.state.lock();
        state.grow(now);
        let next_token = match &state.source {
            Source::Own(bucket) => (!bucket.has_token()).then(|| bucket.next_token()),
            Source::Granted(hand) if hand.tokens() > 0 => None,
            Source::Granted(hand) => hand.next_token(),
        };
        Standing { next_token, awaited: state.refused }
    }
}

impl fmt::Debug for TokenBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenBucket").field(&self.state.lock().source).finish()
    }
}

impl State {
    /// Lets time pass up to `now`.
    fn grow(&mut self, now: Mono) {
        if let Source::Own(bucket) = &mut self.source {
            bucket.grow(now);
            // From here on nobody has to be told: those who were refused come by themselves, their time has come.
            self.refused &= !bucket.has_token();
        }
    }

    fn become_of(&mut self, source: Source) {
        self.source = source;
        self.term += 1;
        self.since = self.term;
    }
}
