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
mod jobs;
mod measure;

use common::{insert, new_queue};
use jobs::noop_jobs;
use measure::{median, timed};
use orch::handler::Noop;
use orch::job::{LimitKey, WallMs};
use orch::limit::Limits;
use orch::run::{RunOptions, Runner};
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
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let jobs = numbers.next().unwrap_or(100_000);
    let runs = numbers.next().unwrap_or(5) | 1;
    println!(
        "{jobs} no-op jobs, 8 workers; over {HOSTS} hosts, jobs/s as a part of those without hosts"
    );
    let named: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |name: &str| named.iter().any(|asked| asked == name);
    let all = !WAYS.iter().any(|(name, _)| is_asked(name));
    let ways: Vec<_> = WAYS.into_iter().filter(|(name, _)| all || is_asked(name)).collect();
    let heads: String = ways.iter().map(|(name, _)| format!("{name:>10}")).collect();
    println!("run{heads}   (without hosts, jobs/s)");
    let mut ratios = vec![Vec::new(); ways.len()];
    for run in 1..=runs {
        let mut line = format!("{run:>3}");
        let mut plain = Vec::new();
        for (&(_, way), ratios) in ways.iter().zip(&mut ratios) {
            // Now the one first, now the other.
            let (free, limited) = if run % 2 == 0 {
                let free = drain(jobs, None);
                (free, drain(jobs, Some(way)))
            } else {
                let limited = drain(jobs, Some(way));
                (drain(jobs, None), limited)
            };
            let ratio = free / limited;
            line += &format!("{ratio:>10.2}");
            ratios.push(ratio);
            plain.push(jobs as f64 / free);
        }
        plain.push(plain[0]);
        println!("{line}   ({:.0})", median(plain));
    }
    let medians: String =
        ratios.into_iter().map(|ratios| format!("{:>10.2}", median(ratios))).collect();
    println!("med{medians}");
}

/// Seconds that a drain takes.
fn drain(jobs: usize, way: Option<Way>) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("queue.sqlite");
    let mut store = new_queue(&path);
    insert(&mut *store, noop_jobs(jobs, if way.is_some() { HOSTS } else { 0 }, 0));
    // Alive until the drain is over, and idle.
    let mut other = store.fork().expect("a second handle");
    let _beside = (way == Some(Way::Shared)).then(|| other.register(WallMs(0)).expect("an owner"));
    let options =
        RunOptions { limits: way.map(limits).unwrap_or_default(), ..RunOptions::default() };
    let runner = Runner::new(store).options(options).handler("noop", Noop).expect("a good kind");
    let (report, took) = timed(|| runner.drain().expect("a drain"));
    assert_eq!(report.done, jobs as u64);
    took.as_secs_f64()
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
