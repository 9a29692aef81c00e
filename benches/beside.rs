//! A drain while another process imports a million jobs, or prunes as many: how much slower it is than alone, and the longest time
//! in which it settled nothing. Once with jobs that do nothing, where all three want the same two cores, and once with jobs of 5 ms.
//!
//! `cargo bench --bench beside [-- JOBS_THAT_DO_NOTHING [JOBS_OF_5_MS [IMPORTED_OR_PRUNED [RUNS]]]]`

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{bench, numbers, said};
use orch::bench::drain::drain;
use orch::bench::figures::Figures;
use orch::bench::jobs::{insert, noop_jobs};
use orch::bench::{Bench, DEFAULT_QUEUE};
use orch::handler::Noop;
use orch::job::JobSpec;
use orch::queue::sqlite::{OpenOptions, SqliteStore};
use orch::queue::store::Store;
use orch::run::event::{Event, Listener};
use orch::run::{RunOptions, Runner};

/// What goes on beside the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Import,
    Prune,
}

fn main() {
    let [idle_jobs, slow_jobs, others, runs] = numbers([1_000_000, 8_000, 1_000_000, 3]);
    let bench = bench();
    println!("run   alone jobs/s   beside jobs/s   slower by   longest pause alone, beside, ms");
    for other in [Other::Import, Other::Prune] {
        for (what, jobs, sleep_ms) in
            [("jobs that do nothing", idle_jobs, 0), ("jobs of 5 ms", slow_jobs, 5)]
        {
            let (mut slower, mut pauses) = (Figures::default(), Figures::default());
            for run in 1..=runs {
                let [alone, beside] = round(&bench, other, others, jobs, sleep_ms);
                let ratio = alone.per_second / beside.per_second;
                println!(
                    "{run:>3} {:>14.0} {:>15.0} {ratio:>9.2} x {:>15.1} {:>10.1}   {other:?}, {what}",
                    alone.per_second, beside.per_second, alone.pause_ms, beside.pause_ms
                );
                slower.push(ratio);
                pauses.push(beside.pause_ms);
            }
            let name = format!("{other:?} of {others} beside a drain of {what}").to_lowercase();
            let particulars = format!("longest pause {pauses} ms; {jobs} jobs, {runs} runs");
            let budget = "at most 1.2 x, and 100 ms";
            said(&name, &format!("{slower} x as long"), &particulars, budget);
        }
    }
}

/// What came of one drain.
#[derive(Debug, Clone, Copy)]
struct Drained {
    per_second: f64,
    pause_ms: f64,
}

fn round(bench: &Bench, other: Other, others: usize, jobs: usize, sleep_ms: u64) -> [Drained; 2] {
    let folder = bench.fresh().expect("a folder");
    let path = folder.path().join(DEFAULT_QUEUE);
    if other == Other::Prune {
        let mut store = open(&path);
        insert(&mut *store, finished(others), bench.halt()).expect("jobs");
        drain(bench, store, RunOptions::default(), others).expect("a drain");
    } else {
        write_commands(&folder.path().join("commands.jsonl"), others);
    }
    [false, true].map(|is_beside| {
        let mut store = open(&path);
        let series = if is_beside { "beside" } else { "alone" };
        insert(&mut *store, named(series, jobs, sleep_ms), bench.halt()).expect("jobs");
        watched_drain(bench, store, jobs, || is_beside.then(|| start(bench, folder.path(), other)))
    })
}

fn open(path: &Path) -> Box<dyn Store> {
    Box::new(SqliteStore::open(path, &OpenOptions::default()).expect("a queue"))
}

fn finished(jobs: usize) -> impl Iterator<Item = JobSpec> {
    named("finished", jobs, 0)
}

fn named(series: &str, jobs: usize, sleep_ms: u64) -> impl Iterator<Item = JobSpec> {
    noop_jobs(jobs, 0, sleep_ms).map(move |spec| {
        let id = format!("{series}:{}", spec.artifact_id);
        JobSpec::new(&id, "noop").expect("a good id").with_payload(spec.payload)
    })
}

/// Jobs that the drain may not start, so that they only come in.
fn write_commands(path: &Path, jobs: usize) {
    let line = |n| {
        format!(
            "{{\"id\":\"command:{n:09}\",\"kind\":\"exec\",\"command\":[\"true\"],\"title\":\"{}\"}}\n",
            "x".repeat(72)
        )
    };
    let lines: String = (0..jobs).map(line).collect();
    fs::write(path, lines).expect("a file");
}

/// The other process; killed when it is dropped.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        // It may be over.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(bench: &Bench, place: &Path, other: Other) -> Beside {
    let args: &[&str] = match other {
        Other::Import => &["queue", "import", "commands.jsonl"],
        Other::Prune => &["queue", "prune", "--older-than", "0s"],
    };
    let mut command = bench.orch().command(place, &[], args);
    Beside(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the other"))
}

/// The longest time between two settlements.
#[derive(Default)]
struct Pauses(Mutex<(Option<Instant>, Duration)>);

impl Listener for Pauses {
    fn on(&self, event: &Event<'_>) {
        if let Event::JobSettled(_) = event {
            let mut pauses = self.0.lock().expect("nobody panics with it");
            let now = Instant::now();
            let since = pauses.0.map_or(Duration::ZERO, |last| now.duration_since(last));
            *pauses = (Some(now), pauses.1.max(since));
        }
    }

    fn wants_progress(&self) -> bool {
        false
    }
}

fn watched_drain(
    bench: &Bench,
    store: Box<dyn Store>,
    jobs: usize,
    beside: impl FnOnce() -> Option<Beside>,
) -> Drained {
    let pauses = Arc::new(Pauses::default());
    let listener: Arc<dyn Listener> = pauses.clone();
    let runner = Runner::new(store).listener(listener).handler("noop", Noop).expect("a good kind");
    let ((report, _), took) = bench
        .timed(|| {
            let beside = beside();
            Ok((runner.drain()?, beside))
        })
        .expect("a drain");
    assert_eq!(report.done, jobs as u64);
    let pause = pauses.0.lock().expect("nobody panics with it").1;
    Drained {
        per_second: jobs as f64 / took.as_secs_f64(),
        pause_ms: pause.as_secs_f64() * 1_000.0,
    }
}
