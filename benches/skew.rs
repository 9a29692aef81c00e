//! The skewed load: 10 hosts with 400 jobs of 5 ms each, in file order host by host, at most 4 running per
//! host, 40 workers. Prints the makespan as a multiple of the lower bound
//! max(all work / workers, the longest host's work / its limit).
//!
//! `cargo bench --bench skew [-- RUNS]`

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;

use common::{bench, numbers, said};
use orch::bench::drain::drain;
use orch::bench::figures::Figures;
use orch::bench::jobs::{insert, noop_jobs};
use orch::bench::new_queue;
use orch::run::RunOptions;

const HOSTS: usize = 10;
const JOBS_PER_HOST: usize = 400;
const JOB_MS: u64 = 5;
const WORKERS: usize = 40;
const PER_HOST: u32 = 4;

fn main() {
    let [runs] = numbers([5]);
    let bench = bench();
    let work_seconds = (HOSTS * JOBS_PER_HOST) as f64 * JOB_MS as f64 / 1_000.0;
    let by_workers = work_seconds / WORKERS as f64;
    let by_host = work_seconds / HOSTS as f64 / f64::from(PER_HOST);
    let bound = by_workers.max(by_host);
    println!(
        "{HOSTS} hosts x {JOBS_PER_HOST} jobs of {JOB_MS} ms, {PER_HOST} per host, {WORKERS} workers"
    );
    println!("lower bound {bound:.3} s");
    println!("run   seconds   x bound");
    let mut ratios = Figures::default();
    let jobs = HOSTS * JOBS_PER_HOST;
    for run in 1..=runs {
        let folder = bench.fresh().expect("a folder");
        let mut store = new_queue(&folder.path().join("queue.sqlite")).expect("a new queue");
        insert(&mut *store, noop_jobs(jobs, HOSTS, JOB_MS), bench.halt()).expect("jobs");
        let mut options = RunOptions { workers: WORKERS, ..RunOptions::default() };
        options.limits.max_per_host = Some(PER_HOST);
        let took = drain(&bench, store, options, jobs).expect("a drain").as_secs_f64();
        println!("{run:>3} {took:>9.3} {:>9.2}", took / bound);
        ratios.push(took / bound);
    }
    let particulars = format!("{bound:.3} s; {runs} runs");
    said("skew", &format!("{} x the lower bound", &ratios), &particulars, "at most 1.1");
}
