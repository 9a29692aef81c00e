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
    /// Of those told of in the last report, so many were taken since.
    taken: u32,
    /// Taken before the last report, where they counted as spent, and returned unspent since: for the store's bucket.
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
            taken: 0,
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

    pub(super) fn next_token(&self) -> Option<Mono> {
        self.next_token
    }

    /// Takes one token, if there is one.
    pub(super) fn take(&mut self, now: Mono) -> bool {
        let Some(rest) = self.tokens.checked_sub(1) else { return false };
        self.tokens = rest;
        self.taken = self.taken.saturating_add(1);
        self.spent_at = self.spent_at.max(Some(now));
        true
    }

    /// A token that was not spent comes back. One that the store believes spent is not to be used again before it knows better.
    /// Whether it is there for the next.
    pub(super) fn put_back(&mut self, is_told: bool) -> bool {
        if is_told {
            self.returned = self.returned.saturating_add(1);
        } else if self.taken < u32::MAX {
            self.taken = self.taken.saturating_sub(1);
            self.tokens = self.tokens.saturating_add(1).min(self.rate.burst.max(1));
        }
        !is_told
    }

    /// A request ended where only one may run at a time: from `now` on, the next token takes its full time.
    pub(super) fn restart(&mut self, now: Mono) {
        self.ended_at = self.ended_at.max(Some(now));
        self.tokens = 0;
        self.returned = 0;
        // Whatever a report under way will be answered with is from before.
        self.taken = u32::MAX;
    }

    /// Whether there is something to be told but that tokens are wanted.
    pub(super) fn is_news(&self) -> bool {
        self.spent_at.is_some()
            || self.ended_at.is_some()
            || self.returned > 0
            || self.owed.is_some()
    }

    /// What is to be told, the tokens beyond `keep` given back. They cannot be spent from here on.
    pub(super) fn report(&mut self, keep: u32) -> HandReport {
        let tokens = self.tokens.min(keep);
        let back = (self.tokens - tokens).saturating_add(self.returned);
        let report = HandReport {
            tokens,
            back,
            spent_at: self.spent_at.take(),
            ended_at: self.ended_at.take(),
            bucket: self.owed.take(),
        };
        (self.tokens, self.taken, self.returned) = (tokens, 0, 0);
        report
    }

    /// The report did not reach the store.
    pub(super) fn unreport(&mut self, report: HandReport) {
        self.returned = self.returned.saturating_add(report.back);
        self.spent_at = self.spent_at.max(report.spent_at);
        self.ended_at = self.ended_at.max(report.ended_at);
        self.owed = self.owed.or(report.bucket);
    }

    /// The answer to the last report: so many tokens as of then.
    pub(super) fn granted(&mut self, tokens: u32, next_token: Option<Mono>) {
        self.tokens = tokens.saturating_sub(self.taken);
        self.next_token = next_token;
    }
}
