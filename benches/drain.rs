//! Drain of no-op jobs with 8 workers, against one thread that does nothing but the two UPDATEs a queue
//! cannot do without. Prints jobs per second of both and their ratio, run by run and as medians.
//!
//! `cargo bench --bench drain [-- JOBS [RUNS]]`

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;
mod jobs;
mod measure;

use std::path::Path;

use common::{insert, new_queue};
use jobs::noop_jobs;
use measure::{median, timed};
use orch::handler::Noop;
use orch::run::Runner;
use rusqlite::Connection;

const BATCH: i64 = 512;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let jobs = numbers.next().unwrap_or(300_000);
    let runs = numbers.next().unwrap_or(5) | 1;
    let (mut raws, mut drains, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    println!("{jobs} no-op jobs, synchronous=FULL, 8 workers");
    println!("run   raw jobs/s   orch jobs/s   ratio");
    for run in 1..=runs {
        let folder = tempfile::tempdir().expect("a folder");
        let raw = per_second(jobs, raw_loop(&folder.path().join("raw.sqlite"), jobs));
        let drain = per_second(jobs, drain(&folder.path().join("queue.sqlite"), jobs));
        println!("{run:>3} {raw:>12.0} {drain:>13.0} {:>7.2}", drain / raw);
        raws.push(raw);
        drains.push(drain);
        ratios.push(drain / raw);
    }
    println!("med {:>12.0} {:>13.0} {:>7.2}", median(raws), median(drains), median(ratios));
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(jobs: usize, seconds: f64) -> f64 {
    jobs as f64 / seconds
}

fn drain(path: &Path, jobs: usize) -> f64 {
    let mut store = new_queue(path);
    insert(&mut *store, noop_jobs(jobs, 0, 0));
    let runner = Runner::new(store).handler("noop", Noop).expect("a good kind");
    let (report, took) = timed(|| runner.drain().expect("a drain"));
    assert_eq!(report.done, jobs as u64);
    took.as_secs_f64()
}

/// One thread, one table: each transaction settles one batch and leases the next.
fn raw_loop(path: &Path, jobs: usize) -> f64 {
    let mut db = Connection::open(path).expect("a database");
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32000;
         CREATE TABLE job (id INTEGER PRIMARY KEY, state INTEGER, epoch INTEGER, attempts INTEGER,
             owner INTEGER, changed_at INTEGER, artifact_id TEXT, payload TEXT);",
    )
    .expect("a table");
    let insert = db.transaction().expect("a transaction");
    {
        let mut row = insert
            .prepare("INSERT INTO job VALUES (NULL, 0, 0, 0, 0, 1700000000000, ?1, ?2)")
            .expect("a statement");
        for spec in noop_jobs(jobs, 0, 0) {
            row.execute((spec.artifact_id.as_str(), &spec.payload)).expect("a row");
        }
    }
    insert.commit().expect("a commit");
    let jobs = i64::try_from(jobs).expect("a count");
    let ((), took) = timed(|| {
        let mut next = 1;
        while next <= jobs + BATCH {
            let turn = db.transaction().expect("a transaction");
            {
                let mut settle = turn
                    .prepare_cached(
                        "UPDATE job SET state = 2, owner = 0, changed_at = 1700000000001
                         WHERE id = ?1 AND state = 1 AND epoch = 1",
                    )
                    .expect("a statement");
                let mut lease = turn
                    .prepare_cached(
                        "UPDATE job SET state = 1, epoch = epoch + 1, attempts = attempts + 1, owner = 1
                         WHERE id = ?1 AND state = 0",
                    )
                    .expect("a statement");
                for id in (next - BATCH).max(1)..next.min(jobs + 1) {
                    assert_eq!(settle.execute([id]).expect("a settlement"), 1);
                }
                for id in next..(next + BATCH).min(jobs + 1) {
                    assert_eq!(lease.execute([id]).expect("a lease"), 1);
                }
            }
            turn.commit().expect("a commit");
            next += BATCH;
        }
    });
    took.as_secs_f64()
}
