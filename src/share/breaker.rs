//! The breaker of one key: failures in a row open it, time half-opens it, successes close it.
//!
//! ```text
//!   closed ──`failures` in a row──▶ open ──`open_for` has passed──▶ half-open ──`successes` in a row──▶ closed
//!                                    ▲                                  │
//!                                    └────────────── one failure ───────┘
//! ```
//!
//! While half-open at most one request is out at a time, over all processes: the terms of the record say so. An answer to a request
//! that was sent before the last transition says nothing about what came after, and changes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::Mono;

use super::Policy;
use super::wire::{is_default, ns, ns_option};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Breaker {
    /// Failures in a row, while closed.
    pub failures: u32,
    /// When the last of them was known.
    pub failed_at: Mono,
    /// How it stands, but for the passing of time: see [`Breaker::state`].
    pub state: BreakerState,
    /// When it last changed its state.
    pub since: Mono,
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BreakerState {
    /// Requests pass.
    #[default]
    Closed,
    /// None passes until then.
    Open {
        /// When it will be half-open.
        until: Mono,
    },
    /// One at a time passes.
    HalfOpen {
        /// So many have succeeded in a row.
        successes: u32,
    },
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Nobody asks until then.
    Opened {
        /// When it will be half-open.
        until: Mono,
    },
    /// One request at a time is let through.
    HalfOpened,
    /// It is whole again.
    Closed,
}

/// A breaker as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(default, skip_serializing_if = "is_default")]
    failures: u32,
    #[serde(rename = "failed_at_ns", default, skip_serializing_if = "is_default", with = "ns")]
    failed_at: Mono,
    /// Present while it is open.
    #[serde(rename = "until_ns", default, skip_serializing_if = "is_default", with = "ns_option")]
    until: Option<Mono>,
    /// Present while it is half-open.
    #[serde(default, skip_serializing_if = "is_default")]
    successes: Option<u32>,
    #[serde(rename = "since_ns", default, skip_serializing_if = "is_default", with = "ns")]
    since: Mono,
}

impl Breaker {
    /// How it stands at `now`: an open one whose time has passed is half-open, with no successes yet.
    #[must_use]
    pub fn state(&self, now: Mono) -> BreakerState {
        match self.state {
            BreakerState::Open { until } if until <= now => BreakerState::HalfOpen { successes: 0 },
            state => state,
        }
    }

    /// When it last changed its state, as seen at `now`: an open one whose time has passed did so at that time.
    fn changed_at(&self, now: Mono) -> Mono {
        match self.state {
            BreakerState::Open { until } if until <= now => until,
            _ => self.since,
        }
    }

    /// A request that was sent at `asked_at` failed. Returns [`Transition::Opened`] if that opens it. (That it has become half-open is
    /// the work of time, and not returned here.)
    pub fn failed(&mut self, asked_at: Mono, now: Mono, policy: &Policy) -> Option<Transition> {
        if asked_at < self.changed_at(now) {
            return None;
        }
        match self.state(now) {
            BreakerState::Open { .. } => None,
            BreakerState::HalfOpen { .. } => Some(self.open(now, policy)),
            BreakerState::Closed => {
                self.failures = self.failures.saturating_add(1);
                self.failed_at = self.failed_at.max(now);
                (self.failures >= policy.failures.max(1)).then(|| self.open(now, policy))
            }
        }
    }

    /// A request that was sent at `asked_at` was answered. Returns [`Transition::Closed`] if that closes it.
    pub fn answered(&mut self, asked_at: Mono, now: Mono, policy: &Policy) -> Option<Transition> {
        let changed_at = self.changed_at(now);
        if asked_at < changed_at {
            return None;
        }
        match self.state(now) {
            BreakerState::Open { .. } => None,
            BreakerState::Closed => {
                (self.failures, self.failed_at) = Default::default();
                None
            }
            BreakerState::HalfOpen { successes } if successes + 1 < policy.successes => {
                self.state = BreakerState::HalfOpen { successes: successes + 1 };
                self.since = changed_at;
                None
            }
            BreakerState::HalfOpen { .. } => {
                *self = Breaker { since: now, ..Breaker::default() };
                Some(Transition::Closed)
            }
        }
    }

    /// Forgets failures of which the last was longer than `patience` ago: they are not in a row with what comes.
    pub fn forget(&mut self, now: Mono, patience: Duration) {
        if self.failures > 0 && self.failed_at.plus(patience) <= now {
            (self.failures, self.failed_at) = Default::default();
        }
    }

    /// Until when nobody asks, if it is open at `now`.
    #[must_use]
    pub fn open_until(&self, now: Mono) -> Option<Mono> {
        match self.state(now) {
            BreakerState::Open { until } => Some(until),
            BreakerState::Closed | BreakerState::HalfOpen { .. } => None,
        }
    }

    /// When it was, or will be, open no more, unless it is closed.
    pub(super) fn last_end(&self) -> Option<Mono> {
        match self.state {
            BreakerState::Closed => None,
            BreakerState::Open { until } => Some(until),
            BreakerState::HalfOpen { .. } => Some(self.since),
        }
    }

    fn open(&mut self, now: Mono, policy: &Policy) -> Transition {
        let until = now.plus(policy.open_for);
        *self = Breaker { state: BreakerState::Open { until }, since: now, ..Breaker::default() };
        Transition::Opened { until }
    }
}

impl From<Breaker> for Written {
    fn from(breaker: Breaker) -> Written {
        let Breaker { failures, failed_at, state, since } = breaker;
        let (until, successes) = match state {
            BreakerState::Closed => (None, None),
            BreakerState::Open { until } => (Some(until), None),
            BreakerState::HalfOpen { successes } => (None, Some(successes)),
        };
        Written { failures, failed_at, until, successes, since }
    }
}

impl From<Written> for Breaker {
    fn from(written: Written) -> Breaker {
        let Written { failures, failed_at, until, successes, since } = written;
        let state = match (until, successes) {
            (Some(until), _) => BreakerState::Open { until },
            (None, Some(successes)) => BreakerState::HalfOpen { successes },
            (None, None) => BreakerState::Closed,
        };
        Breaker { failures, failed_at, state, since }
    }
}
