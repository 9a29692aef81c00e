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

/// So many answers make a usual latency, and each further one counts for one in so many.
const USUAL_SAMPLES: u32 = 16;
/// An answer is an overload sign when it takes more than so many times the usual,
const FAR_OVER_TIMES: u64 = 4;
/// and so much more than it.
const FAR_OVER_US: u64 = 1_000_000;

impl Adaptive {
    /// An overload sign in the answer to a request sent at `asked_at`: halves the limit, once per event. `cap` is what the limit is when
    /// nothing is learned.
    pub fn overloaded(&mut self, asked_at: Mono, now: Mono, cap: u32) {
        if self.limit.is_some() && asked_at <= self.stepped_at {
            return;
        }
        let halved = (self.at_most(cap) / 2).max(1);
        self.limit = (halved < cap).then_some(halved);
        self.run = 0;
        self.stepped_at = now;
    }

    /// A proper answer: one more after a run of as many as twice the limit. Returns whether its latency was itself an overload sign.
    pub fn answered(&mut self, asked_at: Mono, now: Mono, latency: Duration, cap: u32) -> bool {
        if self.is_far_over_usual(latency) {
            self.sample(latency);
            self.overloaded(asked_at, now, cap);
            return true;
        }
        self.sample(latency);
        if self.limit.is_some() && asked_at > self.stepped_at {
            self.run += 1;
            let limit = self.at_most(cap);
            if self.run >= limit.saturating_mul(2) {
                self.limit = Some(limit.saturating_add(1)).filter(|&more| more < cap);
                self.run = 0;
            }
        }
        false
    }

    /// The limit under `cap`.
    fn at_most(&self, cap: u32) -> u32 {
        self.limit.map_or(cap, |limit| limit.min(cap))
    }

    fn is_far_over_usual(&self, latency: Duration) -> bool {
        let us = micros(latency);
        self.samples >= USUAL_SAMPLES
            && us > self.usual_us.saturating_mul(FAR_OVER_TIMES)
            && us > self.usual_us.saturating_add(FAR_OVER_US)
    }

    /// Whatever was measured counts, also what is far over: a server that has become slower for good has a new usual.
    fn sample(&mut self, latency: Duration) {
        self.samples = (self.samples + 1).min(USUAL_SAMPLES);
        let (us, weight) = (micros(latency), u64::from(self.samples));
        self.usual_us = if us >= self.usual_us {
            self.usual_us + (us - self.usual_us) / weight
        } else {
            self.usual_us - (self.usual_us - us) / weight
        };
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
