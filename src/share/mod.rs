//! What all processes on one queue know of a key, and how they divide its limit among them. Pure.
//!
//! ```text
//!   a server's answer ──event──▶ KeyRecord ──terms──▶ how many at once, how often, whether at all
//!                                    │                        │ divided among
//!                                    ▼                        ▼
//!                              one per key             one Share per process and key
//! ```
//!
//! A [`KeyRecord`] is what is known of a key: what a person set for it, what its server asked for, how its breaker stands,
//! how many requests at once it has been seen to bear. A store keeps one for each key that has something to be remembered,
//! and every process has a copy of those that concern it. Events change a record in the same way wherever they are applied: at
//! once in the process they happened in, and with its next turn in the store.
//!
//! A [`Share`] is what one process may use of a key: so many slots, so many tokens. It is a row with an owner, and goes with it.
//! While there is one process only, that is the *sole* one, nobody divides anything: it uses every key as it pleases, within
//! its terms, and no row is written for it. See [`KeyNews`] for how processes tell each other.
//!
//! Must never ask the time, lock, or know where records are kept.

mod adaptive;
mod arbiter;
mod breaker;
mod bucket;
mod hold;
mod news;
mod rate;
mod record;
#[cfg(test)]
mod tests;
mod view;
mod wire;

pub use adaptive::Adaptive;
pub use arbiter::{
    Divided, SHARE_PERIOD, Scene, Share, Shares, Sole, divide, state_of, told_by_sole,
};
pub use breaker::{Breaker, BreakerState, Transition};
pub use bucket::Bucket;
pub use hold::{Hold, Told};
pub use news::{Claim, KeyAnswer, KeyNews, KeyReply, KeyReport};
pub use rate::{Rate, RateError};
pub use record::{
    Binds, Configured, KeyChange, KeyEvent, KeyLimits, KeyRecord, Policy, Standing, Terms,
    WhyGivenUp, WhyWaiting,
};
