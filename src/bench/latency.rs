//! How soon an idle run starts a job that somebody else enqueues, beside what the same machine needs for the like by hand.
//!
//! ```text
//!   orch   enqueue through another connection: insert, sync ──bell──> run: lease, sync ──> the handler begins
//!   raw    INSERT of a row, sync ──a byte through a pipe──> another thread and connection: UPDATE of it, sync
//! ```
//!
//! From the moment before the job is enqueued, so the sync that makes it durable is in it; and both sides wait between two jobs,
//! so that the machine has gone to sleep. Must never be busy itself while it waits.

use std::io::{Read, Write, pipe};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::figures::percentile_ms;
use super::jobs::{insert, job};
use super::{Bench, BenchError, Beside, Measure, Part, alternately, new_queue, raw};
use crate::job::{JobSpec, Mono, Outcome};
use crate::queue::store::Store;
use crate::run::{RunReport, Runner, StopCause};

/// The percentiles that are told.
const TOLD: [(usize, Measure); 2] = [
    (50, Measure { name: "p50_ms", unit: "ms, p50", more_is_better: false }),
    (99, Measure { name: "p99_ms", unit: "ms, p99", more_is_better: false }),
];
/// The kind of the jobs.
pub const KIND: &str = "latency";
/// How long nobody does anything before a job is enqueued.
pub const IDLE: Duration = Duration::from_millis(20);

/// `samples` jobs, enqueued one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// How many jobs each side starts in a round.
    pub samples: usize,
    /// How many workers wait for them.
    pub workers: usize,
}

impl Part for Latency {
    fn round(&mut self, bench: &Bench, raw_first: bool) -> Result<Vec<Beside>, BenchError> {
        let folder = bench.fresh()?;
        let queue = || self.waits(bench, &folder.path().join("queue.sqlite"));
        let raw = || self.raw_waits(bench, &folder.path().join("raw.sqlite"));
        let (orch, raw) = alternately(raw_first, queue, raw)?;
        let beside = |(part, measure)| Beside {
            measure,
            orch: percentile_ms(&orch, part),
            raw: percentile_ms(&raw, part),
        };
        Ok(TOLD.map(beside).to_vec())
    }
}

impl Latency {
    fn waits(self, bench: &Bench, path: &Path) -> Result<Vec<Duration>, BenchError> {
        let store = new_queue(path)?;
        let mut enqueuing = store.fork()?;
        self.run_and_wait(bench, store, |spec| {
            let began = bench.clock().mono();
            insert(&mut *enqueuing, [spec.clone()].into_iter(), bench.halt())?;
            Ok(began)
        })
    }

    /// How long each job takes to start in a run of `store` that idles between them. `enqueue` puts a job there from elsewhere, and
    /// says when it began to.
    ///
    /// # Errors
    /// [`BenchError`]; whatever `enqueue` says.
    pub fn run_and_wait(
        self,
        bench: &Bench,
        store: Box<dyn Store>,
        enqueue: impl FnMut(&JobSpec) -> Result<Mono, BenchError>,
    ) -> Result<Vec<Duration>, BenchError> {
        let clock = Arc::clone(bench.clock());
        let (told, started) = unbounded();
        let runner = Runner::new(store)
            .workers(self.workers)
            .clock(Arc::clone(&clock))
            .handler_fn(KIND, move |_| {
                // Whoever measures may have stopped.
                let _ = told.send(clock.mono());
                Outcome::done()
            })?;
        let stop = runner.stop_handle();
        let stop_at_halt = stop.clone();
        let _guard = bench.halt().guard(move || stop_at_halt.stop_now(StopCause::Asked));
        let thread = thread::Builder::new().name("bench-run".to_owned());
        let run = thread.spawn(move || runner.run()).map_err(no_thread())?;
        let waits = self.each(bench, &started, enqueue);
        // Not at once: the last job has begun, and is to be settled.
        stop.stop(StopCause::Asked);
        // A run that panicked has done nothing that counts.
        let report = run.join().unwrap_or_else(|_| Ok(RunReport::default()))?;
        let waits = waits?;
        if report.done == self.samples as u64 {
            return Ok(waits);
        }
        Err(BenchError::Short { side: "the run", done: report.done, asked: self.samples as u64 })
    }

    fn raw_waits(self, bench: &Bench, path: &Path) -> Result<Vec<Duration>, BenchError> {
        let db = raw::open(path, raw::Ids::Free)?;
        let leasing = raw::connect(path)?;
        let clock = Arc::clone(bench.clock());
        let (mut ring, mut wake) = pipe().map_err(BenchError::io("make", "a pipe"))?;
        let (told, started) = unbounded();
        let woken = move || {
            let (mut byte, mut row) = ([0], 0);
            // Ends when nobody rings any more, or when it cannot lease: then nobody is told, which is an error there.
            while matches!(ring.read(&mut byte), Ok(1)) {
                row += 1;
                if raw::lease_one(&leasing, row).is_err() || told.send(clock.mono()).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("bench-woken".to_owned());
        let thread = thread.spawn(woken).map_err(no_thread())?;
        let waits = self.each(bench, &started, |spec| {
            let began = bench.clock().mono();
            raw::insert_one(&db, spec)?;
            wake.write_all(&[0]).map_err(BenchError::io("write to", "a pipe"))?;
            Ok(began)
        });
        drop(wake);
        // It does nothing that could panic.
        let _ = thread.join();
        waits
    }

    /// Enqueues one job after the other, each when the machine has been idle, and says how long each took to start.
    fn each(
        self,
        bench: &Bench,
        started: &Receiver<Mono>,
        mut enqueue: impl FnMut(&JobSpec) -> Result<Mono, BenchError>,
    ) -> Result<Vec<Duration>, BenchError> {
        let mut waits = Vec::with_capacity(self.samples);
        for n in 0..self.samples {
            bench.clock().pause(IDLE);
            bench.halt().check()?;
            let began = enqueue(&job(&format!("bench:{n:09}"), KIND))?;
            let Ok(start) = started.recv() else {
                bench.halt().check()?;
                let (done, asked) = (n as u64, self.samples as u64);
                return Err(BenchError::Short { side: "one side", done, asked });
            };
            waits.push(start.since(began));
        }
        Ok(waits)
    }
}

fn no_thread() -> impl FnOnce(std::io::Error) -> BenchError {
    BenchError::io("start", "a thread")
}
