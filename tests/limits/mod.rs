//! Limits, held.
//!
//! Every order in which threads can meet in `src/limit`, or many of them: shuttle runs the same sources on locks of its own
//! and chooses who goes next. A failing schedule is printed and replays with `shuttle::replay`.
//!
//! And several processes on one queue, through the real binary, against an origin that counts.

mod breaker;
mod crowd;
mod model;
mod origin;
mod people;
mod processes;
#[expect(clippy::unwrap_used, reason = "what a test calls is a test")]
mod scenarios;
mod sync;
