//! How many requests at once a host has been seen to bear: halved when it is overloaded, one more after a run of successes.
//!
//! Must never leave the range from 1 to the cap, nor take two steps for one event: answers to requests that were sent before the
//! last step tell of what it was taken for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::Mono;

use super::wire::{is_default, ns};

/// See the module. At rest (nothing learned) it is [`Adaptive::default`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Adaptive {
    /// The most at once; `None`: the cap.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: Option<u32>,
    /// Answers in a row since the last step, at the limit.
    #[serde(skip_serializing_if = "is_default")]
    pub run: u32,
    /// When the last step down was taken.
    #[serde(rename = "stepped_at_ns", skip_serializing_if = "is_default", with = "ns")]
    pub stepped_at: Mono,
    /// The usual time to the head of an answer, in microseconds: a moving average; 0: not known.
    #[serde(skip_serializing_if = "is_default")]
    pub usual_us: u64,
    /// How many answers the average is of, up to the number at which it counts.
    #[serde(skip_serializing_if = "is_default")]
    pub samples: u32,
}

impl Adaptive {
    /// An overload sign in the answer to a request sent at `asked_at`: halves the limit, once per event. `cap` is what the limit is when
    /// nothing is learned.
    pub fn overloaded(&mut self, asked_at: Mono, now: Mono, cap: u32) {
        let _ = (asked_at, now, cap);
    }

    /// A proper answer: one more after a run of as many as the limit times some. Returns whether its latency was itself an overload sign.
    pub fn answered(&mut self, asked_at: Mono, now: Mono, latency: Duration, cap: u32) -> bool {
        let _ = (asked_at, now, latency, cap);
        false
    }
}
