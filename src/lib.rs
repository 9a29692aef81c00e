//! Takes a large pile of work and gets it done: politely towards every host, as fast as hosts and machine
//! allow, without losing or repeating finished work when something dies half-way.
//!
//! The binary `orch` is a thin command line over this library. A program of its own registers handlers and
//! runs a queue in about ten lines:
//!
//! ```
//! use orch::{JobSpec, Outcome, Runner, WorkQueue};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("greetings.sqlite");
//! let mut queue = WorkQueue::open(path)?;
//! for name in ["Ada", "Grace"] {
//!     let payload = format!(r#"{{"name": "{name}"}}"#);
//!     queue.enqueue(&JobSpec::new(name, "greet")?.with_payload(payload))?;
//! }
//! let report = Runner::new(queue)
//!     .handler_fn("greet", |context| {
//!         println!("attempt {} with {}", context.attempt(), context.payload());
//!         Outcome::done()
//!     })?
//!     .workers(4)
//!     .drain()?;
//! assert_eq!((report.done, report.failed), (2, 0));
//! # Ok(())
//! # }
//! ```
//!
//! The modules follow the way of the data; a reader walks down this list once and never back:
//!
//! ```text
//!   a line      intake     text -> JobSpec, or a LineError that names line, column and reason
//!   a row       queue      JobSpec -> durable row, once per artifact id
//!   a lease     queue      row -> Leased: owned for a while, fenced by an epoch
//!   a permit    limit      slot of the resolver, slot of the host, token of each bucket
//!   a run       run        frontier -> bounded channel -> worker thread
//!   the work    handler    fetch | exec | noop: does it, returns an Outcome, never touches the queue
//!   an outcome  queue      Outcome -> settled row, fenced by the epoch
//! ```
//!
//! `job` is their common vocabulary, `share` what processes know of a key and how they divide its limit, `clock` the only place that asks the time, `process` knows process
//! groups, `telemetry` listens to the events of a run, `bench` measures the machine, `config` holds the settings, and `cli` composes it all.

pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod handler;
pub mod intake;
pub mod job;
pub mod limit;
pub mod process;
pub mod queue;
pub mod run;
pub mod share;
pub mod telemetry;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use handler::fuzzing;
pub use handler::{Completion, Context, Handler, Ran, Registry};
pub use job::{ErrorReason, JobSpec, Key, Outcome, Priority, RetryPolicy, SkipReason};
pub use queue::WorkQueue;
pub use run::{RunError, RunOptions, RunReport, Runner, StopCause, StopHandle};
