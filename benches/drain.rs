//! Drain of no-op jobs with 8 workers, against one thread that does nothing but the two UPDATEs a queue
//! cannot do without. Prints jobs per second of both and their ratio, run by run and as medians.
//!
//! `cargo bench --bench drain [-- JOBS [RUNS]]`

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;
mod rounds;

use common::{bench, numbers};
use orch::bench::Drain;
use rounds::rounds;

fn main() {
    let [jobs, runs] = numbers([300_000, 5]);
    let bench = bench();
    println!("{jobs} no-op jobs with a line of 150 bytes, synchronous=FULL, 8 workers");
    rounds("drain", &bench, &mut Drain { jobs, workers: 8 }, runs, "at least 1.0");
}
