//! What is known of a key by everybody on the queue, how events change it, and what it comes to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::job::{LimitKey, Mono, WallMs};

use super::wire::{is_default, ns_option};
use super::{Adaptive, Breaker, Bucket, Hold, Rate, Told, Transition};

/// What one key is limited to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyLimits {
    /// Running at once (0: none); `None`: the default for hosts, unlimited for resolvers.
    #[serde(skip_serializing_if = "is_default")]
    pub max_concurrent: Option<u32>,
    /// Starts per time; `None`: no rate.
    #[serde(skip_serializing_if = "is_default")]
    pub rate: Option<Rate>,
}

/// What a key is limited to by configuration: of one process, or of all that live, whichever is strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Configured {
    /// What holds, the default for hosts included.
    pub limits: KeyLimits,
    /// Whether `max_concurrent` was said of this very key, and not of all hosts: then nothing adapts it.
    pub is_fixed: bool,
}

/// When breakers open and close, and when a key is not worth waiting for: `[breaker]` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open a breaker; at least 1.
    pub failures: u32,
    /// How long it is open.
    pub open_for: Duration,
    /// Successes in a row that close it again; at least 1.
    pub successes: u32,
    /// A key that is held or open for so long without one proper answer, or held until further away than this, is given up.
    pub give_up: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            failures: 5,
            open_for: Duration::from_secs(60),
            successes: 3,
            give_up: Duration::from_mins(15),
        }
    }
}

/// Something that a request under a key came to, or that its server asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEvent {
    /// 429 or 503: slow down. Holds the key, and is a sign of overload.
    Told(Told),
    /// A time-out: a sign of overload.
    Overloaded {
        /// When the request had been sent.
        asked_at: Mono,
        /// When it was known.
        now: Mono,
    },
    /// Connect, time-out, tls, 5xx: counts for the breaker.
    Failed {
        /// When the request had been sent.
        asked_at: Mono,
        /// When it was known.
        now: Mono,
    },
    /// A proper answer: of any status below 500 but 429.
    Answered {
        /// When the request had been sent.
        asked_at: Mono,
        /// When its head was there.
        now: Mono,
    },
    /// A server asks for at most one request at a time and one per so much time (robots.txt); zero asks for nothing. A further one takes
    /// the place of the one before.
    CrawlDelay(Duration),
}

/// What a person changes while it is in use: `orch queue hosts set|pause|resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyChange {
    /// `Some(None)`: no limit of this kind any more.
    pub max_concurrent: Option<Option<u32>>,
    /// `Some(None)`: no rate of this kind any more.
    pub rate: Option<Option<Rate>>,
    /// Nobody starts anything under it, or again.
    pub paused: Option<bool>,
    /// Forget the hold, the breaker and the trouble: ask again now.
    pub forgive: bool,
}

/// See [`super`]. What is not worth remembering is [`KeyRecord::default`], and written as `{}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyRecord {
    /// What a person set while it was in use.
    #[serde(skip_serializing_if = "is_default")]
    pub set: KeyLimits,
    /// A person said that nobody starts anything.
    #[serde(skip_serializing_if = "is_default")]
    pub paused: bool,
    /// One request at a time, and one per so much time.
    #[serde(rename = "crawl_delay_ns", skip_serializing_if = "is_default", with = "ns_option")]
    pub crawl_delay: Option<Duration>,
    /// Its server said to slow down.
    #[serde(skip_serializing_if = "is_default")]
    pub hold: Option<Hold>,
    /// Its breaker.
    #[serde(skip_serializing_if = "is_default")]
    pub breaker: Breaker,
    /// What it has been seen to bear.
    #[serde(skip_serializing_if = "is_default")]
    pub adaptive: Adaptive,
    /// Since when it has been held or open again and again, without one proper answer.
    #[serde(rename = "trouble_since_ns", skip_serializing_if = "is_default", with = "ns_option")]
    pub trouble_since: Option<Mono>,
    /// The tokens that nobody has in hand; `None`: all that its rate allows.
    #[serde(skip_serializing_if = "is_default")]
    pub bucket: Option<Bucket>,
}

/// Whether anybody may ask, but for slots and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Yes.
    Open,
    /// Not now.
    Waits {
        /// Why.
        why: WhyWaiting,
        /// When it is worth trying again: the end of it, or when it is given up before; `None`: when somebody says so.
        until: Option<Mono>,
    },
    /// It is not worth waiting for: its jobs come up and end, without a request.
    GivenUp {
        /// Why.
        why: WhyGivenUp,
        /// Until when nobody asks.
        until: Mono,
    },
}

/// Why nobody may ask now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyWaiting {
    /// Its server said to slow down.
    Held,
    /// Its breaker is open.
    Open,
    /// A person paused it.
    Paused,
}

/// Why a key is not worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhyGivenUp {
    /// It is held for longer than anybody waits: reason `rate_limited`.
    RateLimited,
    /// Its breaker has been open for longer than anybody waits: reason `host_down`.
    Down,
}

/// What a key comes to: the strictest of all that was said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// Running at once; `None`: unlimited.
    pub max_concurrent: Option<u32>,
    /// Which of all binds `max_concurrent`.
    pub binds: Binds,
    /// Starts per time; `None`: no rate.
    pub rate: Option<Rate>,
}

/// Which limit binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Binds {
    /// None: it is unlimited.
    #[default]
    Nothing,
    /// The configuration of some live process.
    Configured,
    /// What a person set while it was in use.
    Set,
    /// Its server's crawl delay.
    CrawlDelay,
    /// What it has been seen to bear.
    Adaptive,
    /// Its breaker is half-open: one probe at a time.
    Breaker,
}

impl KeyLimits {
    /// Terms that keep to both.
    #[must_use]
    pub fn stricter(self, other: KeyLimits) -> KeyLimits {
        let concurrent = self.max_concurrent.into_iter().chain(other.max_concurrent);
        let rates = self.rate.into_iter().chain(other.rate);
        KeyLimits { max_concurrent: concurrent.min(), rate: rates.reduce(Rate::stricter) }
    }
}

impl Configured {
    /// What holds where both processes live.
    #[must_use]
    pub fn stricter(self, other: Configured) -> Configured {
        Configured {
            limits: self.limits.stricter(other.limits),
            is_fixed: self.is_fixed || other.is_fixed,
        }
    }
}

impl KeyRecord {
    /// Takes in an event; `key` and `configured` say whether and below which cap it adapts (hosts without a fixed limit do). Returns
    /// how its breaker changed, if it did.
    pub fn apply(
        &mut self,
        key: &LimitKey,
        event: KeyEvent,
        configured: &Configured,
        policy: &Policy,
    ) -> Option<Transition> {
        let _ = (key, event, configured, policy);
        None
    }

    /// Takes in what a person changed.
    pub fn change(&mut self, change: &KeyChange) {
        let _ = change;
    }

    /// Whether anybody may ask at `now`.
    #[must_use]
    pub fn standing(&self, now: Mono, policy: &Policy) -> Standing {
        let _ = (now, policy);
        Standing::Open
    }

    /// What it comes to at `now`.
    #[must_use]
    pub fn terms(&self, configured: &Configured, now: Mono) -> Terms {
        let _ = now;
        Terms {
            max_concurrent: configured.limits.max_concurrent,
            binds: Binds::Configured,
            rate: configured.limits.rate,
        }
    }

    /// Whether there is nothing worth remembering at `now`: no word of a person or a server in force, no trouble, a full bucket.
    /// What [`Adaptive`] knows of the usual latency is not worth it, a lowered limit is.
    #[must_use]
    pub fn is_at_rest(&self, now: Mono, policy: &Policy) -> bool {
        let _ = (now, policy);
        false
    }

    /// Another boot of the machine: what was written at `from` with the monotonic time of that boot becomes what it is at `to`. What
    /// remained to be waited goes on by the wall clock, and is never longer than it was when written, for that clock may
    /// have been set back; what has been, has been by `to`; the bucket is empty at `to`.
    pub fn rebase(&mut self, from: (Mono, WallMs), to: (Mono, WallMs)) {
        let _ = (from, to);
    }

    /// Somebody may have spent all tokens there were at `at`: the bucket is as empty then, unless it was touched later. `rate` is the
    /// configured one.
    pub fn void_bucket(&mut self, rate: Option<Rate>, at: Mono) {
        let _ = (rate, at);
    }
}
