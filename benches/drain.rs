//! Drain of no-op jobs with 8 workers, by the library and by `orch queue run`, against one thread that does nothing but the
//! two UPDATEs a queue cannot do without. Prints jobs per second of both and their ratio, run by run and as medians.
//!
//! `cargo bench --bench drain [-- JOBS [RUNS]]`

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;
mod rounds;

use common::{bench, numbers};
use orch::bench::Drain;
use orch::bench::drain::Way;
use rounds::rounds;

fn main() {
    let [jobs, runs] = numbers([300_000, 5]);
    let bench = bench();
    println!("{jobs} no-op jobs with a line of 150 bytes, synchronous=FULL, 8 workers");
    for (name, way) in [("drain", Way::Library), ("drain, whole command", Way::Command)] {
        println!("{name}");
        let mut part = Drain { jobs, workers: 8, way };
        rounds(name, &bench, &mut part, runs, "at least 1.0");
    }
}
