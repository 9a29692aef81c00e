//! The tokens of one key that a store granted this process: spent here, told there.
//!
//! Must never grow by itself, nor lose count of what was spent or given back until a turn has carried it to the store.

use crate::job::Mono;
use crate::share::{Bucket, Rate};

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hand {
    pub(super) rate: Rate,
    tokens: u32,
    /// Of those told of in the last report, so many were spent since.
    spent: u32,
    /// Spent before the last report, and yet on nothing: for the store's bucket.
    returned: u32,
    spent_at: Option<Mono>,
    ended_at: Option<Mono>,
    /// When the store will have another one, as far as it said.
    next_token: Option<Mono>,
    /// What the bucket came to when this process ceased to be the sole one: to be reported once.
    owed: Option<Bucket>,
}

/// What is told of a hand in a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct HandReport {
    pub(super) tokens: u32,
    pub(super) back: u32,
    pub(super) spent_at: Option<Mono>,
    pub(super) ended_at: Option<Mono>,
    pub(super) bucket: Option<Bucket>,
}

impl Hand {
    /// An empty hand; `owed` is what this process had instead of it.
    pub(super) fn empty(rate: Rate, owed: Option<Bucket>) -> Hand {
        Hand {
            rate,
            tokens: 0,
            spent: 0,
            returned: 0,
            spent_at: None,
            ended_at: None,
            next_token: None,
            owed,
        }
    }

    pub(super) fn tokens(&self) -> u32 {
        self.tokens
    }

    /// When a request last ended since the last report, where only one may run at a time.
    pub(super) fn ended_at(&self) -> Option<Mono> {
        self.ended_at
    }

    pub(super) fn next_token(&self) -> Option<Mono> {
        self.next_token
    }

    /// Takes on another rate. Of a smaller burst nobody knows how much is here and how much with others: what is here goes back.
    pub(super) fn adopt(&mut self, rate: Rate) {
        if rate.burst < self.rate.burst {
            self.returned = self.returned.saturating_add(std::mem::take(&mut self.tokens));
        }
        self.rate = rate;
    }

    /// Takes one token, if there is one. Until it is spent the store counts it as in hand.
    pub(super) fn take(&mut self) -> bool {
        let rest = self.tokens.checked_sub(1);
        self.tokens = rest.unwrap_or_default();
        rest.is_some()
    }

    /// One of `out` that were taken is spent.
    pub(super) fn spend(&mut self, at: Mono, out: u32) {
        self.spent = self.spent.saturating_add(1);
        self.spent_at = self.spent_at.max(Some(at));
        // Taken from there: until now it had so much less room.
        if let Some(owed) = &mut self.owed {
            owed.grow_beside(at, out);
        }
    }

    /// A token comes back: it was not spent, or on nothing. One that the store believes spent is not to be used again before it knows better.
    /// Whether it is there for the next.
    pub(super) fn put_back(&mut self, is_spent: bool, is_told: bool) -> bool {
        if is_told {
            self.returned = self.returned.saturating_add(1);
        } else if self.spent < u32::MAX {
            self.spent -= u32::from(is_spent && self.spent > 0);
            self.tokens = self.tokens.saturating_add(1).min(self.rate.burst.max(1));
        }
        !is_told
    }

    /// A request ended where only one may run at a time: from `now` on, the next token takes its full time.
    pub(super) fn restart(&mut self, now: Mono) {
        self.ended_at = self.ended_at.max(Some(now));
        if let Some(owed) = &mut self.owed {
            owed.restart(now);
        }
        self.tokens = 0;
        self.returned = 0;
        // Whatever a report under way will be answered with is from before.
        self.spent = u32::MAX;
    }

    /// Whether there is something to be told but that tokens are wanted.
    pub(super) fn is_news(&self) -> bool {
        self.spent_at.is_some()
            || self.ended_at.is_some()
            || self.returned > 0
            || self.owed.is_some()
    }

    /// What is to be told, the tokens beyond `keep` given back but for those that are `out`: taken, and not spent. They cannot be spent
    /// from here on.
    pub(super) fn report(&mut self, keep: u32, out: u32) -> HandReport {
        let tokens = self.tokens.min(keep);
        let back = (self.tokens - tokens).saturating_add(self.returned);
        let report = HandReport {
            tokens: tokens.saturating_add(out),
            back,
            spent_at: self.spent_at.take(),
            ended_at: self.ended_at.take(),
            bucket: self.owed.take(),
        };
        (self.tokens, self.spent, self.returned) = (tokens, 0, 0);
        report
    }

    /// The report did not reach the store.
    pub(super) fn unreport(&mut self, report: HandReport) {
        self.returned = self.returned.saturating_add(report.back);
        let (spent_at, ended_at) = (self.spent_at, self.ended_at);
        self.owed = self.owed.or(report.bucket.map(|mut bucket| {
            // How many were out is not known any more: it has not grown meanwhile.
            bucket.grow_beside(spent_at.unwrap_or_default(), u32::MAX);
            ended_at.iter().for_each(|at| bucket.restart(*at));
            bucket
        }));
        self.spent_at = self.spent_at.max(report.spent_at);
        self.ended_at = self.ended_at.max(report.ended_at);
    }

    /// The answer to the last report: so many tokens as of then, of which so many are `out`.
    pub(super) fn granted(&mut self, tokens: u32, out: u32, next_token: Option<Mono>) {
        self.tokens = tokens.saturating_sub(self.spent).saturating_sub(out);
        self.next_token = next_token;
    }
}
