//! Drain of no-op jobs: a real queue and a real run, beside one thread that does the two UPDATEs a queue cannot do without.
//!
//! Must never measure the insert: the jobs are there before the clock starts.

use std::path::Path;
use std::time::Duration;

use super::figures::per_second;
use super::jobs::{insert, noop_jobs};
use super::{
    Bench, BenchError, Beside, DEFAULT_QUEUE, JOBS_PER_SECOND, Part, alternately, new_queue, raw,
};
use crate::handler::{Noop, Registry};
use crate::queue::store::Store;
use crate::run::{RunOptions, RunReport, Runner, StopCause};

/// Who runs the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A [`Runner`] in this process, that nobody listens to.
    Library,
    /// `orch queue run`, the whole command.
    Command,
}

/// `jobs` no-op jobs without hosts, run by `workers` workers.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// How many jobs.
    pub jobs: usize,
    /// How many workers.
    pub workers: usize,
    /// Who runs them.
    pub way: Way,
}

impl Part for Drain {
    fn round(&mut self, bench: &Bench, raw_first: bool) -> Result<Vec<Beside>, BenchError> {
        let folder = bench.fresh()?;
        let place = folder.path();
        let queue = || self.orch(bench, place);
        let raw = || raw_drain(bench, &place.join("raw.sqlite"), self.jobs);
        let (orch, raw) = alternately(raw_first, queue, raw)?;
        let (orch, raw) = (per_second(self.jobs, orch), per_second(self.jobs, raw));
        Ok(vec![Beside { measure: JOBS_PER_SECOND, orch, raw }])
    }
}

impl Drain {
    fn orch(&self, bench: &Bench, place: &Path) -> Result<Duration, BenchError> {
        let Drain { jobs, workers, way } = *self;
        let mut store = new_queue(&place.join(DEFAULT_QUEUE))?;
        insert(&mut *store, noop_jobs(jobs, 0, 0), bench.halt())?;
        match way {
            Way::Library => {
                drain(bench, store, RunOptions { workers, ..RunOptions::default() }, jobs)
            }
            Way::Command => {
                drop(store);
                let workers = workers.to_string();
                let args = ["--quiet", "queue", "run", "--drain", "--workers", &*workers];
                let (_, took) = bench.timed(|| bench.orch().run(place, &[], &args))?;
                Ok(took)
            }
        }
    }
}

/// How long it takes to drain `store`, which has `jobs` no-op jobs, from the start of the run until the queue is closed.
///
/// # Errors
/// [`BenchError`]; [`BenchError::Short`] when some did not end done.
pub fn drain(
    bench: &Bench,
    store: Box<dyn Store>,
    options: RunOptions,
    jobs: usize,
) -> Result<Duration, BenchError> {
    let mut registry = Registry::new();
    registry.register("noop", Noop)?;
    let runner = Runner::new(store).options(options).registry(registry);
    let stop = runner.stop_handle();
    let _guard = bench.halt().guard(move || stop.stop_now(StopCause::Asked));
    let (report, took) = bench.timed(|| Ok::<RunReport, _>(runner.drain()?))?;
    if report.done == jobs as u64 {
        return Ok(took);
    }
    Err(BenchError::Short { side: "the run", done: report.done, asked: jobs as u64 })
}

fn raw_drain(bench: &Bench, path: &Path, jobs: usize) -> Result<Duration, BenchError> {
    let mut db = raw::open(path, raw::Ids::Free)?;
    raw::insert(&mut db, noop_jobs(jobs, 0, 0), usize::MAX, bench)?;
    let last = i64::try_from(jobs).unwrap_or(i64::MAX);
    // Closed within the time, like the queue: the last checkpoint is work too.
    let ((), took) = bench.timed(|| {
        let mut db = db;
        raw::lease_and_settle(&mut db, last, bench.halt())
    })?;
    Ok(took)
}
