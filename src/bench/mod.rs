//! Measures this machine: what the queue is to be fast at, each beside what the same machine does without the queue.
//!
//! ```text
//!   Bench --Part::round--> orch, raw: one after the other, now the one first, now the other --> Beside
//!   Beside, round by round --> Figures: median, least, most
//! ```
//!
//! `orch bench` and `benches/` are two ways to ask for the same measurements: what is measured, and what it is compared with,
//! is written here once. Machines differ and are noisy, so a figure means something only beside the other one of its round.
//! The same bytes are asked of both sides, with the same durability; before each, the file system is synced, so that neither
//! pays for what the other left in memory.
//!
//! Must never touch a queue or a file that is not its own, ask anybody but this machine, or decide anything for a run: no module
//! below may know this one. What it makes lies in one directory, which goes with [`Bench`].

mod command;
pub mod drain;
pub mod fetch;
pub mod figures;
mod halt;
pub mod import;
pub mod jobs;
pub mod latency;
mod origin;
mod raw;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::clock::Clock;
use crate::job::SpecError;
use crate::queue::sqlite::{OpenOptions, SqliteStore};
use crate::queue::store::{Store, StoreError};
use crate::run::RunError;

pub use command::Orch;
pub use drain::Drain;
pub use fetch::Fetch;
pub use halt::{Guard, Halt};
pub use import::Import;
pub use latency::Latency;

/// Why a measurement came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Somebody asked to stop ([`Halt::halt`]).
    #[error("stopped")]
    Stopped,
    /// The queue.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A job that cannot be one.
    #[error(transparent)]
    Job(#[from] SpecError),
    /// The database of the raw side.
    #[error("the raw side's database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A file, a directory, a connection or a thread.
    #[error("cannot {action} {what}: {source}")]
    Io {
        /// `write`, `start`, …
        action: &'static str,
        /// Which.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another process of this program did not do what it was to do.
    #[error("`orch {line}` failed ({status}): {said}")]
    Command {
        /// Its arguments.
        line: String,
        /// How it ended.
        status: String,
        /// What it said on standard error.
        said: String,
    },
    /// One side did not do all of its work, so its time says nothing.
    #[error("{side} did {done} of {asked}: its time says nothing")]
    Short {
        /// Which side.
        side: &'static str,
        /// How many it did.
        done: u64,
        /// Of how many.
        asked: u64,
    },
}

impl BenchError {
    /// An error of the system, with what was to be done and to what.
    pub(crate) fn io(
        action: &'static str,
        what: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> BenchError {
        let what = what.into();
        move |source| BenchError::Io { action, what, source }
    }
}

/// What a figure counts, and whether more of it is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Its name, with its unit at the end: `jobs_per_second`, `p50_ms`.
    pub name: &'static str,
    /// The unit for people.
    pub unit: &'static str,
    /// Whether the larger figure is the better one.
    pub more_is_better: bool,
}

/// How fast jobs are imported, or run.
const JOBS_PER_SECOND: Measure =
    Measure { name: "jobs_per_second", unit: "jobs/s", more_is_better: true };

/// One figure of a round: of this program, and of the raw side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beside {
    /// What they count.
    pub measure: Measure,
    /// With the queue.
    pub orch: f64,
    /// Without it.
    pub raw: f64,
}

impl Beside {
    /// The queue's figure as a multiple of the raw one.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.orch / self.raw
    }
}

/// One thing to measure.
pub trait Part {
    /// Measures both sides once, and makes again whatever that used up. `raw_first` says which side goes first.
    ///
    /// # Errors
    /// [`BenchError`]; [`BenchError::Stopped`] when it was halted.
    fn round(&mut self, bench: &Bench, raw_first: bool) -> Result<Vec<Beside>, BenchError>;
}

/// Where and with what is measured.
pub struct Bench {
    clock: Arc<dyn Clock>,
    halt: Halt,
    orch: Orch,
    root: TempDir,
}

impl Bench {
    /// Measures on the disk of `directory`, where it makes a directory of its own that goes with it. `orch` is this program's
    /// executable, and `halt` stops it from another thread.
    ///
    /// # Errors
    /// [`BenchError::Io`] when nothing can be made there.
    pub fn new(
        clock: Arc<dyn Clock>,
        directory: &Path,
        orch: PathBuf,
        halt: Halt,
    ) -> Result<Bench, BenchError> {
        let root = tempfile::Builder::new().prefix("orch-bench-").tempdir_in(directory);
        let what = format!("a directory in {}", directory.display());
        let root = root.map_err(BenchError::io("make", what))?;
        Ok(Bench { clock, orch: Orch::new(orch, halt.clone()), halt, root })
    }

    /// What stops it.
    #[must_use]
    pub fn halt(&self) -> &Halt {
        &self.halt
    }

    /// This program, as a process of its own.
    #[must_use]
    pub fn orch(&self) -> &Orch {
        &self.orch
    }

    /// The clock it goes by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A new directory in its own; gone when it is dropped.
    ///
    /// # Errors
    /// [`BenchError::Io`].
    pub fn fresh(&self) -> Result<TempDir, BenchError> {
        let made = tempfile::tempdir_in(self.root.path());
        made.map_err(BenchError::io("make", "a directory for a round"))
    }

    /// Removes its directory, and says when that cannot be done.
    ///
    /// # Errors
    /// [`BenchError::Io`].
    pub fn close(self) -> Result<(), BenchError> {
        let what = self.root.path().display().to_string();
        self.root.close().map_err(BenchError::io("remove", what))
    }

    /// How long `work` takes, on a disk that has nothing left to write.
    ///
    /// # Errors
    /// Whatever `work` says; [`BenchError::Stopped`]; [`BenchError::Io`] when the disk cannot be synced.
    pub fn timed<T>(
        &self,
        work: impl FnOnce() -> Result<T, BenchError>,
    ) -> Result<(T, Duration), BenchError> {
        self.halt.check()?;
        self.sync()?;
        let began = self.clock.mono();
        let done = work()?;
        let took = self.clock.mono().since(began);
        self.halt.check()?;
        Ok((done, took))
    }

    /// Has the file system write what it has in memory.
    fn sync(&self) -> Result<(), BenchError> {
        sync_file_system(self.root.path())
    }
}

/// Has the file system of `path` write what it has in memory.
fn sync_file_system(path: &Path) -> Result<(), BenchError> {
    #[cfg(target_os = "linux")]
    {
        let what = path.display().to_string();
        let directory = std::fs::File::open(path).map_err(BenchError::io("open", &*what))?;
        rustix::fs::syncfs(directory).map_err(|error| BenchError::io("sync", what)(error.into()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        rustix::fs::sync();
        Ok(())
    }
}

/// Where a queue is, in the directory a command runs in, unless it is told otherwise.
pub const DEFAULT_QUEUE: &str = "state/workqueue.sqlite";

/// A new queue at `path`, durable as by default: `synchronous=FULL`.
///
/// # Errors
/// [`BenchError::Store`].
pub fn new_queue(path: &Path) -> Result<Box<dyn Store>, BenchError> {
    let options = OpenOptions { create: true, ..OpenOptions::default() };
    Ok(Box::new(SqliteStore::open(path, &options)?))
}

/// `one` and `other`, in the order that `other_first` says.
fn alternately<A, B>(
    other_first: bool,
    one: impl FnOnce() -> Result<A, BenchError>,
    other: impl FnOnce() -> Result<B, BenchError>,
) -> Result<(A, B), BenchError> {
    if other_first {
        let other = other()?;
        Ok((one()?, other))
    } else {
        Ok((one()?, other()?))
    }
}
