//! A key whose server said to slow down (429 and 503, with or without `Retry-After`), and until when nobody asks it.
//!
//! Must never shorten a wait that was given, nor take two steps for one event.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::Mono;

use super::wire::{is_default, ns};

/// How long the first event holds a key when the server named no time; it doubles with each further one.
const FIRST_STEP: Duration = Duration::from_secs(1);
const LONGEST_STEP: Duration = Duration::from_secs(60);

/// What an answer that says "slow down" said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// When its request had been sent.
    pub asked_at: Mono,
    /// When it came.
    pub now: Mono,
    /// Its `Retry-After` (RFC 9110, section 10.2.3), counted from `now`; zero is as none.
    pub after: Option<Duration>,
}

/// One key that was told to slow down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// When the event that holds it began: an answer to a request that was sent before tells of the same one.
    #[serde(rename = "began_ns", default, with = "ns")]
    pub began: Mono,
    /// Nobody asks before.
    #[serde(rename = "until_ns", default, with = "ns")]
    pub until: Mono,
    /// The events since the last proper answer, at least 1; 0 when one came during the hold.
    #[serde(default, skip_serializing_if = "is_default")]
    pub events: u32,
}

impl Hold {
    /// The first event.
    #[must_use]
    pub fn new(told: Told) -> Hold {
        Hold { began: told.now, until: told.now.plus(told.wait(1)), events: 1 }
    }

    /// Takes in a further answer of the kind. One to a request that was sent before the event began may lengthen the wait, and
    /// takes no step.
    pub fn extend(&mut self, told: Told) {
        if told.asked_at > self.began {
            self.events = self.events.saturating_add(1);
            self.began = told.now;
        }
        self.until = self.until.max(told.now.plus(told.wait(self.events.max(1))));
    }

    /// A proper answer came: the next event is a first one again. A hold in force stays in force.
    pub fn answered(&mut self) {
        self.events = 0;
    }

    /// Whether nobody may ask at `now`.
    #[must_use]
    pub fn is_in_force(&self, now: Mono) -> bool {
        now < self.until
    }

    /// Whether it is to be forgotten at `now`: at its end if it was answered, else when nobody has asked for `give_up` after it.
    #[must_use]
    pub fn is_over(&self, now: Mono, give_up: Duration) -> bool {
        let unasked = if self.events == 0 { Duration::ZERO } else { give_up };
        self.until.plus(unasked) <= now
    }
}

impl Told {
    /// What the server said, or the step of this many events.
    fn wait(&self, events: u32) -> Duration {
        let step = || {
            let doubled = 1_u32.checked_shl(events.saturating_sub(1)).unwrap_or(u32::MAX);
            FIRST_STEP.saturating_mul(doubled).min(LONGEST_STEP)
        };
        self.after.filter(|after| !after.is_zero()).unwrap_or_else(step)
    }
}
