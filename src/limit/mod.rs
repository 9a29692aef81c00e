//! May this job run now? Slots per resolver and host, tokens per rate: all of them, in one order.
//!
//! ```text
//!   Gate::try_admit(key, now)
//!     0. Book           a server said to slow down, a breaker is open, a person paused it: nobody asks before its time
//!     1. KeyedLimiter   resolver slot, host slot      both or neither, under one lock
//!     2. TokenBucket    resolver token, host token    a refusal gives back what was taken before it
//!     -> Permit         dropped: the slots return; refunded: the tokens too
//!
//!   Gate::failed, hold, answered …  ──event──▶ Book: a replica of each key's record ──terms──▶ slots and rates (Means)
//!                                               ▲   │ news(): events, what lacks, what is given back
//!                                      learn(): │   ▼
//!                             records, shares   the turn of a store
//! ```
//!
//! Alone in the world, or told to be the only process, a gate uses its limits as it pleases. Where processes share, a slot or a token is
//! used only once a store granted it: `division` is how they ask, and give back.
//!
//! Invariant 4 is held here: at every instant, permits out per key <= that key's limit, over all processes that divide it
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
