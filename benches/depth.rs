//! A deep queue: 2,000,000 jobs of one host whose only slot is taken by a job that does not end, and 1,000 jobs of 1,000
//! other hosts behind them. How long a worker that is free waits for one of the others, which must not depend on how many
//! wait for the full host.
//!
//! ```text
//!   passed on   between the end of one of the others and the start of the next, on the one worker that is left
//!   come in     between the insert of another job, when nothing is left that could start, and its start
//!   began       between the beginning of the run and the first start of all
//! ```
//!
//! `cargo bench --bench depth [-- DEPTH]`

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use common::{bench, numbers, said};
use orch::bench::figures::percentile_ms;
use orch::bench::jobs::insert;
use orch::bench::new_queue;
use orch::handler::Context;
use orch::job::{JobSpec, Key, LimitKey, Outcome};
use orch::limit::Limits;
use orch::run::{RunOptions, Runner, StopCause};
use orch::share::KeyLimits;

const FULL: &str = "full.example";
const OTHERS: usize = 1_000;
const COMING_IN: usize = 200;
/// How long each of the others takes.
const OTHER_TAKES: Duration = Duration::from_millis(1);

fn spec(n: usize, host: &str) -> JobSpec {
    let mut spec = JobSpec::new(&format!("{host}:{n:07}"), "depth").expect("a good id");
    spec.key = Key::new(None, Some(host)).expect("a good host");
    spec
}

fn other(n: usize) -> JobSpec {
    spec(n, &format!("other-{n:04}.example"))
}

/// One attempt of another host's job.
struct Ran {
    began: Instant,
    ended: Instant,
}

fn attempt(context: &Context<'_>, told: &Sender<Ran>) -> Outcome {
    let began = Instant::now();
    let is_full = context.job().lane.key.host.as_deref() == Some(FULL);
    let takes = if is_full { Duration::MAX } else { OTHER_TAKES };
    if let Some(reason) = context.cancel().wait(takes.min(Duration::from_hours(1))) {
        return reason.outcome();
    }
    // The bench may be over.
    let _ = told.send(Ran { began, ended: Instant::now() });
    Outcome::done()
}

fn main() {
    let [depth] = numbers([2_000_000]);
    let bench = bench();
    let folder = bench.fresh().expect("a folder");
    let mut store = new_queue(&folder.path().join("queue.sqlite")).expect("a new queue");
    insert(&mut *store, (0..depth).map(|n| spec(n, FULL)), bench.halt()).expect("jobs");
    insert(&mut *store, (0..OTHERS).map(other), bench.halt()).expect("jobs");
    let mut enqueuing = store.fork().expect("a second handle");
    let one = KeyLimits { max_concurrent: Some(1), rate: None };
    let by_key = [(LimitKey::Host(FULL.into()), one)].into();
    let limits = Limits { max_per_host: Some(4), by_key, ..Limits::default() };
    // One worker is the full host's, and one is left.
    let options = RunOptions { workers: 2, limits, ..RunOptions::default() };
    let (told, ran) = channel();
    let runner = Runner::new(store)
        .options(options)
        .handler_fn("depth", move |context: &mut Context<'_>| attempt(context, &told))
        .expect("a good kind");
    let stop = runner.stop_handle();
    let began = Instant::now();
    let run = std::thread::spawn(move || runner.run().expect("a run"));
    let ran_others: Vec<Ran> = (0..OTHERS).map(|_| ran.recv().expect("another one")).collect();
    println!("{depth} jobs of a host that is full, and others");
    let waits =
        ran_others.windows(2).map(|pair| pair[1].began.saturating_duration_since(pair[0].ended));
    print("passed on", &waits.collect::<Vec<_>>());
    let coming_in = (OTHERS..OTHERS + COMING_IN).map(|n| {
        let inserted = Instant::now();
        insert(&mut *enqueuing, [other(n)].into_iter(), bench.halt()).expect("an insert");
        ran.recv().expect("the one that came in").began.saturating_duration_since(inserted)
    });
    print("come in", &coming_in.collect::<Vec<_>>());
    print("began", &[ran_others[0].began.saturating_duration_since(began)]);
    stop.stop_now(StopCause::Asked);
    let report = run.join().expect("the run's thread");
    assert_eq!(report.done, (OTHERS + COMING_IN) as u64);
}

fn print(what: &str, waits: &[Duration]) {
    let at = |part| percentile_ms(waits, part);
    let figure = format!("{:.3} ms p50, {:.3} p99, {:.3} at most", at(50), at(99), at(100));
    said(
        &format!("a full host, {what}"),
        &figure,
        &format!("{} waits", waits.len()),
        "at most 10 ms",
    );
}
