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

use crate::job::Mono;

use super::Policy;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    /// Failures in a row, while closed.
    pub failures: u32,
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

impl Breaker {
    /// How it stands at `now`: an open one whose time has passed is half-open, with no successes yet.
    #[must_use]
    pub fn state(&self, now: Mono) -> BreakerState {
        match self.state {
            BreakerState::Open { until } if until <= now => BreakerState::HalfOpen { successes: 0 },
            state => state,
        }
    }

    /// A request that was sent at `asked_at` failed.
    pub fn failed(&mut self, asked_at: Mono, now: Mono, policy: &Policy) -> Option<Transition> {
        let _ = (asked_at, now, policy);
        None
    }

    /// A request that was sent at `asked_at` was answered.
    pub fn answered(&mut self, asked_at: Mono, now: Mono, policy: &Policy) -> Option<Transition> {
        let _ = (asked_at, now, policy);
        None
    }
}
