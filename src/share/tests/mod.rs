//! What the vocabulary of shares promises, rule by rule, and an arbiter that is let loose on processes at random.

mod adaptive;
mod arbiter;
mod breaker;
mod hold;
mod record;
mod simulation;
mod written;

use std::time::Duration;

use crate::job::{LimitKey, Mono};

use super::*;

fn sec(sec: u64) -> Mono {
    Mono::from_ms(1_000 * sec)
}

fn ms(ms: u64) -> Mono {
    Mono::from_ms(ms)
}

fn host() -> LimitKey {
    LimitKey::Host("a.org".into())
}

/// Five failures open for a minute, three successes close, a quarter of an hour gives up.
fn policy() -> Policy {
    Policy::default()
}

/// As the default of all hosts.
fn at_most(cap: u32) -> Configured {
    Configured { limits: KeyLimits { max_concurrent: Some(cap), rate: None }, is_fixed: false }
}

fn fixed(cap: u32) -> Configured {
    Configured { is_fixed: true, ..at_most(cap) }
}

fn rate(text: &str) -> Rate {
    Rate::parse(text).unwrap()
}

fn told(asked_at: Mono, now: Mono, after: Option<u64>) -> Told {
    Told { asked_at, now, after: after.map(Duration::from_secs) }
}
