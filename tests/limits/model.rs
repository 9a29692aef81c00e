//! The sources of `src/limit` once more, on shuttle's locks: `super::sync` is `sync.rs` of this directory.
#![expect(dead_code, unreachable_pub, reason = "what scenarios do not use is used in the library")]

#[path = "../../src/limit/book.rs"]
mod book;
#[path = "../../src/limit/bucket.rs"]
mod bucket;
#[path = "../../src/limit/by_key.rs"]
mod by_key;
#[path = "../../src/limit/division.rs"]
mod division;
#[path = "../../src/limit/entry.rs"]
mod entry;
#[path = "../../src/limit/gate.rs"]
mod gate;
#[path = "../../src/limit/hand.rs"]
mod hand;
#[path = "../../src/limit/keyed.rs"]
mod keyed;
#[path = "../../src/limit/means.rs"]
mod means;
#[path = "../../src/limit/pages.rs"]
mod pages;
#[path = "../../src/limit/permit.rs"]
mod permit;

use super::sync;
pub(super) use bucket::TokenBucket;
pub(super) use gate::{Gate, Limits, WaitReason};
pub(super) use keyed::KeyedLimiter;
pub(super) use orch::share::{KeyLimits, Rate, Told};
pub(super) use permit::Permit;
