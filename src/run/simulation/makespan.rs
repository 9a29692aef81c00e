//! How long loads take, against the least they could take: a scheduler that wastes a permit shows here.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::number;
use super::sim::{Sim, Turns};
use super::world::{Happening, JobPlan, ProcessPlan, Request, World};
use crate::job::{JobSpec, Key, LimitKey, Mono};
use crate::limit::{KeyLimits, Limits};
use crate::run::RunOptions;

/// Loads of each kind, unless `ORCH_TEST_SEEDS` says otherwise.
const LOADS: u64 = 24;

/// Jobs of a flood.
const FLOOD_JOBS: usize = 3_000;

/// Jobs of one request each, and what they are limited by.
struct Load {
    processes: usize,
    workers: usize,
    limits: Limits,
    /// Host and duration.
    jobs: Vec<(usize, Duration)>,
    /// The longest a turn takes.
    turn_us: u64,
}

fn host(n: usize) -> LimitKey {
    LimitKey::Host(format!("h{n}").into())
}

impl Load {
    /// 10 hosts of 400 jobs of 5 ms, host by host, 4 at once for each, 40 workers.
    fn skewed(turn_us: u64) -> Load {
        Load {
            processes: 1,
            workers: 40,
            limits: Limits { max_per_host: Some(4), ..Limits::default() },
            jobs: (0..4_000).map(|n| (n / 400, Duration::from_millis(5))).collect(),
            turn_us,
        }
    }

    fn random(seed: u64, processes: usize) -> Load {
        let mut rng = StdRng::seed_from_u64(seed);
        let hosts = rng.random_range(1..20);
        let mut limits = Limits { max_per_host: Some(rng.random_range(1..7)), ..Limits::default() };
        for n in 0..hosts {
            if rng.random_bool(0.2) {
                let rate = ["100/s", "20/s", "5/s"][rng.random_range(0..3)].parse().ok();
                let max_concurrent = rng.random_bool(0.5).then(|| rng.random_range(1..9));
                let rate = rate.filter(|_| rng.random_bool(0.5));
                limits.by_key.insert(host(n), KeyLimits { max_concurrent, rate });
            }
        }
        let longest = [20, 100, 500][rng.random_range(0..3)];
        let skew = rng.random_range(1..4);
        let count = rng.random_range(200..600);
        let job = |_| {
            // The more often a host is drawn, the lower its number.
            let at = (0..skew).map(|_| rng.random_range(0..hosts)).min().unwrap_or(0);
            let ms =
                if rng.random_bool(0.02) { 4 * longest } else { rng.random_range(1..=longest) };
            (at, Duration::from_millis(ms))
        };
        let jobs = (0..count).map(job).collect();
        let workers = StdRng::seed_from_u64(seed ^ 1).random_range(2..40);
        Load { processes, workers, limits, jobs, turn_us: 1_000 }
    }

    /// Thousands of jobs that take hardly longer than to hand them out: turns are made without a pause, each beside the jobs of the last.
    fn flood(seed: u64) -> Load {
        let mut rng = StdRng::seed_from_u64(seed ^ 0xf100d);
        let hosts = [1, 3, 40, 400][rng.random_range(0..4)];
        let max_per_host = [None, Some(1), Some(8), Some(64)][rng.random_range(0..4)];
        let mut limits = Limits { max_per_host, ..Limits::default() };
        if rng.random_bool(0.3) {
            let terms = KeyLimits { max_concurrent: None, rate: "20000/s".parse().ok() };
            limits.by_key.insert(host(0), terms);
        }
        let longest = [20, 200][rng.random_range(0..2)];
        let in_order = rng.random_bool(0.5);
        let job = |n: usize| {
            let at = if in_order { n * hosts / FLOOD_JOBS } else { rng.random_range(0..hosts) };
            (at, Duration::from_micros(rng.random_range(1..=longest)))
        };
        let jobs = (0..FLOOD_JOBS).map(job).collect();
        let mut rng = StdRng::seed_from_u64(seed ^ 2);
        let (workers, processes) = (rng.random_range(1..33), rng.random_range(1..3));
        Load {
            processes,
            workers,
            limits,
            jobs,
            turn_us: [100, 1_000, 5_000][rng.random_range(0..3)],
        }
    }

    /// Nothing ends sooner, whoever schedules it.
    fn least(&self) -> Duration {
        let mut by_host: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
        self.jobs.iter().for_each(|(host, takes)| by_host.entry(*host).or_default().push(*takes));
        let workers = u32::try_from(self.workers * self.processes).unwrap_or(u32::MAX);
        let total: Duration = self.jobs.iter().map(|(_, takes)| *takes).sum();
        let longest = self.jobs.iter().map(|(_, takes)| *takes).max().unwrap_or_default();
        let mut least = longest.max(total / workers);
        for (n, jobs) in by_host {
            let own = self.limits.by_key.get(&host(n)).copied().unwrap_or_default();
            let work: Duration = jobs.iter().sum();
            let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
            let cap = own.max_concurrent.or(self.limits.max_per_host);
            least = least.max(work / cap.unwrap_or(u32::MAX));
            if let Some(rate) = own.rate {
                let interval = rate.per / rate.count;
                // Of a lone request the interval counts from its end.
                let shortest = jobs.iter().min().copied().unwrap_or_default();
                least = least.max(match cap {
                    Some(1) => work + interval * (count - 1),
                    _ => interval * count.saturating_sub(rate.burst) + shortest,
                });
            }
        }
        least
    }

    fn world(&self, seed: u64) -> World {
        let options = RunOptions {
            workers: self.workers,
            drain: true,
            limits: self.limits.clone(),
            seed: Some(seed),
            ..RunOptions::default()
        };
        let plan = ProcessPlan {
            begins: Duration::ZERO,
            options,
            kinds: vec!["a"],
            turn_us: self.turn_us,
        };
        let job = |(n, (at, takes)): (usize, &(usize, Duration))| {
            let key = Key { resolver: None, host: Some(format!("h{at}").into()) };
            let mut spec = JobSpec::new(&format!("j{n}"), "a").unwrap();
            spec.key = key.clone();
            JobPlan {
                spec,
                enters: Duration::ZERO,
                requests: vec![Request { key, takes: *takes }],
                later: None,
                is_stubborn: false,
            }
        };
        let mut happenings =
            vec![(Mono::default(), Happening::Enters((0..self.jobs.len()).collect()))];
        happenings.extend((0..self.processes).map(|n| (Mono::default(), Happening::Begins(n))));
        World {
            seed,
            processes: vec![plan; self.processes],
            jobs: self.jobs.iter().enumerate().map(job).collect(),
            moods: Vec::new(),
            crawl_delays: BTreeMap::new(),
            happenings,
            calm_at: Mono::default(),
            is_calm: true,
            bell_us: 1_000,
            deaf: 0.0,
        }
    }

    /// How many times as long as it must take it takes.
    #[track_caller]
    fn ratio(&self, seed: u64) -> f64 {
        let mut sim = Sim::new(self.world(seed), Turns::Beside);
        match sim.run() {
            Ok(ended) => ended.took.as_secs_f64() / self.least().as_secs_f64(),
            Err(violation) => panic!("{}load {seed}: {violation}", sim.trace()),
        }
    }
}

/// The median ratio of many loads is at most this.
#[track_caller]
fn check(processes: usize, most: f64) {
    let loads = match number("ORCH_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ORCH_TEST_SEEDS").unwrap_or(LOADS),
    };
    let ratio = |seed| (Load::random(seed, processes).ratio(seed), seed);
    let mut ratios: Vec<(f64, u64)> = loads.map(ratio).collect();
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (median, worst) = (ratios[ratios.len() / 2].0, ratios[ratios.len() - 1]);
    let tenth = ratios[ratios.len() * 9 / 10];
    println!("{processes} processes: median {median:.3}, 90 % {tenth:?}, worst {worst:?}");
    assert!(median <= most, "median {median:.3}, worst {worst:?}");
}

#[test]
fn random_loads_take_hardly_longer_than_they_must() {
    check(1, 1.05);
}

#[test]
fn random_loads_of_three_processes_take_little_longer_than_they_must() {
    check(3, 1.15);
}

#[test]
fn a_flood_keeps_to_the_limits_and_every_job_of_it_ends_once() {
    let loads = match number("ORCH_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ORCH_TEST_SEEDS").unwrap_or(LOADS) / 2,
    };
    for seed in loads {
        let load = Load::flood(seed);
        let mut sim = Sim::new(load.world(seed), Turns::Beside);
        if let Err(violation) = sim.run() {
            panic!("{}flood {seed}: {violation}", sim.trace());
        }
    }
}

#[test]
fn the_skewed_load_takes_hardly_longer_than_it_must() {
    for turn_us in [0, 1_000, 4_000] {
        let ratio = Load::skewed(turn_us).ratio(1);
        println!("turns up to {turn_us} us: {ratio:.3}");
        assert!(ratio <= 1.1, "turns up to {turn_us} us: {ratio:.3}");
    }
}
