//! What limits cost: a drain of no-op jobs spread over 1,000 hosts with generous limits, against the same jobs without
//! hosts. Each way of limiting in turn, pair by pair, so that a machine that slows down slows both; prints the ratios and
//! their medians.
//!
//! ```text
//!   fixed     64 at once for each host by name
//!   adaptive  64 at once for every host, less where one shows signs of overload
//!   rated     as fixed, and a million starts a second for each
//!   shared    as fixed, while another process is registered on the queue: what is used was granted by the store
//! ```
//!
//! `cargo bench --bench limits [-- JOBS [RUNS]] [fixed|adaptive|rated|shared …]`

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;

use common::{bench, numbers, said};
use orch::bench::drain::drain;
use orch::bench::figures::Figures;
use orch::bench::jobs::{insert, noop_jobs};
use orch::bench::{Bench, new_queue};
use orch::job::{LimitKey, WallMs};
use orch::limit::Limits;
use orch::run::RunOptions;
use orch::share::KeyLimits;

const HOSTS: usize = 1_000;
const AT_ONCE: u32 = 64;

/// How the hosts are limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Fixed,
    Adaptive,
    Rated,
    Shared,
}

const WAYS: [(&str, Way); 4] = [
    ("fixed", Way::Fixed),
    ("adaptive", Way::Adaptive),
    ("rated", Way::Rated),
    ("shared", Way::Shared),
];

fn main() {
    let [jobs, runs] = numbers([100_000, 5]);
    let bench = bench();
    println!(
        "{jobs} no-op jobs, 8 workers; over {HOSTS} hosts, jobs/s as a part of those without hosts"
    );
    let named: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |name: &str| named.iter().any(|asked| asked == name);
    let all = !WAYS.iter().any(|(name, _)| is_asked(name));
    let ways: Vec<_> = WAYS.into_iter().filter(|(name, _)| all || is_asked(name)).collect();
    let heads: String = ways.iter().map(|(name, _)| format!("{name:>10}")).collect();
    println!("run{heads}   (without hosts, jobs/s)");
    let mut ratios = vec![Figures::default(); ways.len()];
    for run in 1..=runs {
        let mut line = format!("{run:>3}");
        let mut plain = Figures::default();
        for (&(_, way), ratios) in ways.iter().zip(&mut ratios) {
            // Now the one first, now the other.
            let (free, limited) = if run % 2 == 0 {
                let free = seconds(&bench, jobs, None);
                (free, seconds(&bench, jobs, Some(way)))
            } else {
                let limited = seconds(&bench, jobs, Some(way));
                (seconds(&bench, jobs, None), limited)
            };
            line += &format!("{:>10.2}", free / limited);
            ratios.push(free / limited);
            plain.push(jobs as f64 / free);
        }
        println!("{line}   ({:.0})", plain.median());
    }
    for ((name, _), ratios) in ways.iter().zip(&ratios) {
        let figure = format!("{ratios} x the rate without hosts");
        let particulars = format!("{jobs} jobs over {HOSTS} hosts; {runs} runs");
        said(&format!("limits, {name}"), &figure, &particulars, "at least 0.85");
    }
}

/// Seconds that a drain takes.
fn seconds(bench: &Bench, jobs: usize, way: Option<Way>) -> f64 {
    let folder = bench.fresh().expect("a folder");
    let mut store = new_queue(&folder.path().join("queue.sqlite")).expect("a new queue");
    let hosts = if way.is_some() { HOSTS } else { 0 };
    insert(&mut *store, noop_jobs(jobs, hosts, 0), bench.halt()).expect("jobs");
    // Alive until the drain is over, and idle.
    let mut other = store.fork().expect("a second handle");
    let _beside = (way == Some(Way::Shared)).then(|| other.register(WallMs(0)).expect("an owner"));
    let options =
        RunOptions { limits: way.map(limits).unwrap_or_default(), ..RunOptions::default() };
    drain(bench, store, options, jobs).expect("a drain").as_secs_f64()
}

fn limits(way: Way) -> Limits {
    if way == Way::Adaptive {
        return Limits { max_per_host: Some(AT_ONCE), ..Limits::default() };
    }
    let rate = (way == Way::Rated).then(|| "1000000/s".parse().expect("a rate"));
    let terms = KeyLimits { max_concurrent: Some(AT_ONCE), rate };
    let host = |n: usize| LimitKey::Host(format!("host-{n:05}.example").into());
    Limits { by_key: (0..HOSTS).map(|n| (host(n), terms)).collect(), ..Limits::default() }
}
