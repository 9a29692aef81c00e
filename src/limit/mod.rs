//! May this job run now? Slots per resolver and host, tokens per rate: all of them, in one order.
//!
//! ```text
//!   Gate::try_admit(key, now)
//!     0. Holds          a server said to slow down    nobody asks it before its time
//!     1. KeyedLimiter   resolver slot, host slot      both or neither, under one lock
//!     2. TokenBucket    resolver token, host token    a refusal gives back what was taken before it
//!     -> Permit         dropped: the slots return; refunded: the tokens too
//! ```
//!
//! Invariant 4 is held here for one process: at every instant, permits out per key <= that key's limit
//! (a limit lowered below what is out admits nobody until enough have returned).
//!
//! Must never ask the time (it is passed in), block, or hold a lock while calling out.
//!
//! What runs in parallel here takes its lock from `sync`, so that `tests/limits` can compile the same files against
//! a model checker's.

mod book;
mod bucket;
mod by_key;
mod division;
mod entry;
mod gate;
mod hand;
mod keyed;
mod means;
mod pages;
mod permit;
mod sync;
#[cfg(test)]
mod tests;

pub use crate::share::{KeyLimits, Policy, Rate, RateError, Told};
pub use bucket::TokenBucket;
pub use gate::{Gate, GivenUp, KeyStatus, Limits, Wait, WaitReason};
pub use keyed::{Full, InUse, KeyedLimiter, Slots};
pub use permit::Permit;
