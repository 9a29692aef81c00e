//! The sources of `src/limit` once more, on shuttle's locks: `super::sync` is `sync.rs` of this directory.
#![expect(dead_code, unreachable_pub, reason = "what scenarios do not use is used in the library")]

#[path = "../../src/limit/bucket.rs"]
mod bucket;
#[path = "../../src/limit/by_key.rs"]
mod by_key;
#[path = "../../src/limit/gate.rs"]
mod gate;
#[path = "../../src/limit/hold.rs"]
mod hold;
#[path = "../../src/limit/keyed.rs"]
mod keyed;
#[path = "../../src/limit/terms.rs"]
mod terms;

use super::sync;
pub(super) use bucket::TokenBucket;
pub(super) use gate::{Gate, Limits, Permit, WaitReason};
pub(super) use hold::Told;
pub(super) use keyed::KeyedLimiter;
pub(super) use orch::share::{KeyLimits, Rate};
