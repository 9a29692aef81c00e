//! Import of JSONL, the whole command each time.
//!
//! ```text
//!   raw      a new queue, beside a bulk insert of the same rows with rusqlite, in three ways
//!   again    the same file into the same queue, beside its first import
//!   deep     100,000 jobs with ids in random order into a queue of millions, beside the same file into a new queue
//! ```
//!
//! `cargo bench --bench import [-- JOBS [RUNS [DEPTH [JOBS_INTO_DEPTH]]]]`

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;
mod rounds;

use std::path::Path;

use common::{bench, numbers, said};
use orch::bench::figures::Figures;
use orch::bench::import::{Bulk, import};
use orch::bench::jobs::{insert, shuffled_jobs, write_lines};
use orch::bench::{Bench, DEFAULT_QUEUE, Import, new_queue};
use orch::queue::store::Store;
use rounds::rounds;

const BULKS: [(Bulk, &str); 3] = [
    (Bulk::OneTransaction, "one transaction, no index"),
    (Bulk::Batches, "8,192 rows a transaction, no index"),
    (Bulk::UniqueBatches, "8,192 rows a transaction, ids UNIQUE"),
];

fn main() {
    let [jobs, runs, depth, more] = numbers([300_000, 5, 5_000_000, 100_000]);
    let bench = bench();
    println!("{jobs} no-op jobs with a line of 150 bytes, synchronous=FULL");
    let mut part = Import::new(&bench, jobs).expect("a file");
    for (bulk, name) in BULKS {
        println!("beside {name}");
        part.beside = bulk;
        rounds(&format!("import beside {name}"), &bench, &mut part, runs, "at least 0.5");
    }
    drop(part);
    again(&bench, jobs, runs);
    if depth > 0 {
        into_a_deep_queue(&bench, depth, more, runs);
    }
}

/// The queue of a directory. Where both sides import, it is there before: making one takes its time too.
fn queue_in(place: &Path) -> Box<dyn Store> {
    new_queue(&place.join(DEFAULT_QUEUE)).expect("a new queue")
}

fn again(bench: &Bench, jobs: usize, runs: usize) {
    println!("run   first s   again s   again / first");
    let mut ratios = Figures::default();
    for run in 1..=runs {
        let folder = bench.fresh().expect("a folder");
        let file = folder.path().join("jobs.jsonl");
        write_lines(&file, shuffled_jobs(0, jobs), bench.halt()).expect("a file");
        drop(queue_in(folder.path()));
        let first = import(bench, folder.path(), &file).expect("an import").as_secs_f64();
        let again = import(bench, folder.path(), &file).expect("an import").as_secs_f64();
        println!("{run:>3} {first:>9.3} {again:>9.3} {:>15.2}", again / first);
        ratios.push(again / first);
    }
    let particulars = format!("{jobs} jobs, ids in random order; {runs} runs");
    let figure = format!("{} x the time of the first", ratios);
    said("import again", &figure, &particulars, "at most 1.0");
}

fn into_a_deep_queue(bench: &Bench, depth: usize, more: usize, runs: usize) {
    let deep = bench.fresh().expect("a folder");
    let mut store = queue_in(deep.path());
    insert(&mut *store, shuffled_jobs(0, depth), bench.halt()).expect("jobs");
    drop(store);
    println!("{more} jobs into {depth}, ids in random order");
    println!("run   new s   deep s   deep, x the rate");
    let mut ratios = Figures::default();
    for (run, series) in (1..=runs).zip(1..) {
        let shallow = bench.fresh().expect("a folder");
        drop(queue_in(shallow.path()));
        let file = shallow.path().join("jobs.jsonl");
        write_lines(&file, shuffled_jobs(series, more), bench.halt()).expect("a file");
        let import = |place| import(bench, place, &file).expect("an import").as_secs_f64();
        let (new, into) = if run % 2 == 0 {
            let new = import(shallow.path());
            (new, import(deep.path()))
        } else {
            let into = import(deep.path());
            (import(shallow.path()), into)
        };
        println!("{run:>3} {new:>7.3} {into:>8.3} {:>18.2}", new / into);
        ratios.push(new / into);
    }
    let particulars = format!("{more} jobs into {depth} and into none; {runs} runs");
    let figure = format!("{} x the rate into a new queue", ratios);
    said("import into a deep queue", &figure, &particulars, "at least 0.5");
}
