//! The skewed load: 10 hosts with 400 jobs of 5 ms each, in file order host by host, at most 4 running per
//! host, 40 workers. Prints the makespan as a multiple of the lower bound
//! max(all work / workers, the longest host's work / its limit).
//!
//! `cargo bench --bench skew [-- RUNS]`

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;
mod jobs;
mod measure;

use common::{insert, new_queue};
use jobs::noop_jobs;
use measure::{median, timed};
use orch::handler::Noop;
use orch::run::{RunOptions, Runner};

const HOSTS: usize = 10;
const JOBS_PER_HOST: usize = 400;
const JOB_MS: u64 = 5;
const WORKERS: usize = 40;
const PER_HOST: u32 = 4;

fn main() {
    let runs = std::env::args().skip(1).find_map(|arg| arg.parse::<usize>().ok()).unwrap_or(5) | 1;
    let work_seconds = (HOSTS * JOBS_PER_HOST) as f64 * JOB_MS as f64 / 1_000.0;
    let by_workers = work_seconds / WORKERS as f64;
    let by_host = work_seconds / HOSTS as f64 / f64::from(PER_HOST);
    let bound = by_workers.max(by_host);
    println!(
        "{HOSTS} hosts x {JOBS_PER_HOST} jobs of {JOB_MS} ms, {PER_HOST} per host, {WORKERS} workers"
    );
    println!("lower bound {bound:.3} s");
    println!("run   seconds   x bound");
    let mut ratios = Vec::new();
    for run in 1..=runs {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = new_queue(&folder.path().join("queue.sqlite"));
        insert(&mut *store, noop_jobs(HOSTS * JOBS_PER_HOST, HOSTS, JOB_MS));
        let mut options = RunOptions { workers: WORKERS, ..RunOptions::default() };
        options.limits.max_per_host = Some(PER_HOST);
        let runner =
            Runner::new(store).options(options).handler("noop", Noop).expect("a good kind");
        let (report, took) = timed(|| runner.drain().expect("a drain"));
        assert_eq!(report.done, (HOSTS * JOBS_PER_HOST) as u64);
        let ratio = took.as_secs_f64() / bound;
        println!("{run:>3} {:>9.3} {ratio:>9.2}", took.as_secs_f64());
        ratios.push(ratio);
    }
    println!("med {:>9} {:>9.2}", "", median(ratios));
}
