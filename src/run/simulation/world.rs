//! A random world: who runs, what there is to do, how servers behave and what goes wrong. All of it from one seed.
//!
//! Must never depend on anything but the seed: what is drawn while a world runs is drawn by [`super::sim`], from another stream.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::job::{JobSpec, Key, LimitKey, Mono, Priority, RetryPolicy, WallMs};
use crate::limit::{KeyLimits, Limits, Rate};
use crate::run::RunOptions;
use crate::run::frontier::Schedule;
use crate::share::{KeyChange, Policy};

/// When the wall clock begins.
pub(super) const EPOCH: WallMs = WallMs(1_700_000_000_000);

/// What may happen in a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Nothing goes wrong, and nobody changes anything: what is left to check is speed.
    Calm,
    /// Servers fail and tell to slow down.
    Servers,
    /// Everything.
    All,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) processes: Vec<ProcessPlan>,
    pub(super) jobs: Vec<JobPlan>,
    pub(super) moods: Vec<(LimitKey, Vec<Phase>)>,
    /// What servers ask for with every proper answer.
    pub(super) crawl_delays: BTreeMap<LimitKey, Duration>,
    /// In no order.
    pub(super) happenings: Vec<(Mono, Happening)>,
    /// After this every server is well, and nothing happens any more.
    pub(super) calm_at: Mono,
    /// Nothing goes wrong but servers.
    pub(super) is_calm: bool,
    /// How late a bell may be heard.
    pub(super) bell_us: u64,
    /// How likely a bell is not heard before the next beat.
    pub(super) deaf: f64,
}

#[derive(Clone)]
pub(super) struct ProcessPlan {
    pub(super) begins: Duration,
    pub(super) options: RunOptions,
    pub(super) kinds: Vec<&'static str>,
    /// The longest a turn takes.
    pub(super) turn_us: u64,
}

pub(super) struct JobPlan {
    pub(super) spec: JobSpec,
    pub(super) enters: Duration,
    pub(super) requests: Vec<Request>,
    /// Its handler says later, and finishes it after so long.
    pub(super) later: Option<Duration>,
    /// It does not return when it is cancelled.
    pub(super) is_stubborn: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) key: Key,
    pub(super) takes: Duration,
}

/// How a server behaves until then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    pub(super) until: Mono,
    pub(super) fails: f64,
    pub(super) tells: f64,
    pub(super) after: Option<Duration>,
}

#[derive(Debug, Clone)]
pub(super) enum Happening {
    Begins(usize),
    Stops { now: bool },
    Crashes,
    Freezes { lasts: Duration },
    WallSteps { ms: i64 },
    Trouble { lasts: Duration },
    Enters(Vec<usize>),
    Changes(LimitKey, KeyChange),
}

/// Draws the parts of a world.
struct Dice(StdRng);

impl Dice {
    fn up_to(&mut self, most: u64) -> u64 {
        self.0.random_range(0..=most)
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0.random_range(least..=most)
    }

    fn chance(&mut self, p: f64) -> bool {
        self.0.random_bool(p)
    }

    fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }

    fn ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.between(least, most))
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())].clone()
    }

    fn maybe<T>(&mut self, p: f64, make: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        self.chance(p).then(|| make(self))
    }

    fn rate(&mut self) -> Rate {
        let rate: Rate = match self.pick(&["50/s", "20/s", "5/s", "2/s", "1/s", "1/2s"]).parse() {
            Ok(rate) => rate,
            Err(error) => panic!("{error}"),
        };
        if self.chance(0.4) { rate.with_burst(1 + self.0.random_range(0..4)) } else { rate }
    }

    fn limits(&mut self) -> KeyLimits {
        let max_concurrent = self.maybe(0.6, |dice| dice.0.random_range(1..5));
        KeyLimits { max_concurrent, rate: self.maybe(0.4, Dice::rate) }
    }
}

/// How long the requests of a world take.
#[derive(Clone, Copy)]
enum Spread {
    Fixed(u64),
    Even(u64, u64),
    LongTail(u64),
}

impl Spread {
    fn draw(self, dice: &mut Dice) -> Duration {
        Duration::from_millis(match self {
            Spread::Fixed(ms) => ms,
            Spread::Even(least, most) => dice.between(least, most),
            Spread::LongTail(ms) => {
                let mut ms = dice.between(1, ms);
                while ms < 8_000 && dice.chance(0.3) {
                    ms *= 3;
                }
                ms
            }
        })
    }
}

impl World {
    /// The world of that seed.
    pub(super) fn new(seed: u64, processes: usize, scope: Scope) -> World {
        let mut dice = Dice(StdRng::seed_from_u64(seed));
        let dice = &mut dice;
        let calm_at = Mono(dice.ms(2_000, 30_000));
        let hosts = dice.between(1, 6);
        let resolvers = dice.between(0, 3);
        let named = |letter, count| (0..count).map(move |n| format!("{letter}{n}").into());
        let mut all: Vec<LimitKey> = named('h', hosts).map(LimitKey::Host).collect();
        all.extend(named('r', resolvers).map(LimitKey::Resolver));
        let policy = Policy {
            failures: dice.0.random_range(2..6),
            open_for: dice.ms(1_000, 10_000),
            successes: dice.0.random_range(1..4),
            give_up: dice.ms(15_000, 60_000),
        };
        let common = Limits {
            max_per_host: dice.maybe(0.8, |dice| dice.0.random_range(1..6)),
            by_key: all
                .iter()
                .filter_map(|key| Some((key.clone(), dice.maybe(0.4, Dice::limits)?)))
                .collect(),
            policy,
        };
        let schedule = Schedule {
            aging: dice.maybe(0.2, |dice| dice.ms(500, 5_000)),
            weights: [("a".into(), 1), ("b".into(), dice.0.random_range(1..5))].into(),
        };
        let jobs = jobs(dice, &all, calm_at, scope);
        let mut plans = Vec::new();
        for n in 0..processes {
            let differs = n > 0 && scope != Scope::Calm && dice.chance(0.3);
            let limits = if differs { Self::others(dice, &common, &all) } else { common.clone() };
            plans.push(process(dice, n, seed, limits, schedule.clone(), scope));
        }
        let mut world = World {
            seed,
            processes: plans,
            jobs,
            moods: Vec::new(),
            crawl_delays: BTreeMap::new(),
            happenings: Vec::new(),
            calm_at,
            is_calm: scope != Scope::All,
            bell_us: dice.pick(&[0, 1_000, 5_000]),
            deaf: if scope == Scope::All && dice.chance(0.15) { 0.1 } else { 0.0 },
        };
        if scope != Scope::Calm {
            let hosts = all.iter().filter(|key| matches!(key, LimitKey::Host(_)));
            world.crawl_delays = hosts
                .filter_map(|key| Some((key.clone(), dice.maybe(0.1, |dice| dice.ms(20, 1_000))?)))
                .collect();
            world.moods = all
                .iter()
                .filter(|key| matches!(key, LimitKey::Host(_)))
                .map(|key| (key.clone(), moods(dice, calm_at)))
                .collect();
        }
        world.plan_happenings(dice, &all, scope);
        world
    }

    /// Limits of a process that is configured differently.
    fn others(dice: &mut Dice, common: &Limits, all: &[LimitKey]) -> Limits {
        let mut limits = common.clone();
        if dice.chance(0.5) {
            limits.max_per_host = dice.maybe(0.8, |dice| dice.0.random_range(1..6));
        }
        let key = dice.pick(all);
        let other = dice.limits();
        limits.by_key.insert(key, other);
        limits
    }

    fn plan_happenings(&mut self, dice: &mut Dice, all: &[LimitKey], scope: Scope) {
        for (n, plan) in self.processes.iter().enumerate() {
            self.happenings.push((Mono(plan.begins), Happening::Begins(n)));
        }
        let mut at: BTreeMap<Duration, Vec<usize>> = Default::default();
        for (n, job) in self.jobs.iter().enumerate() {
            at.entry(job.enters).or_default().push(n);
        }
        self.happenings
            .extend(at.into_iter().map(|(at, jobs)| (Mono(at), Happening::Enters(jobs))));
        if scope != Scope::All {
            return;
        }
        let calm_ms = u64::try_from(self.calm_at.0.as_millis()).unwrap_or(0);
        for _ in 0..dice.up_to(6) {
            let at = Mono(dice.ms(1, calm_ms));
            let happening = match dice.up_to(15) {
                0 | 1 => Happening::Stops { now: dice.chance(0.3) },
                2..=4 => Happening::Crashes,
                5 | 6 => Happening::Freezes {
                    lasts: if dice.chance(0.5) { dice.ms(1, 2_000) } else { dice.ms(100, 40_000) },
                },
                7 => Happening::WallSteps { ms: dice.pick(&[-3_600_000, -900, 700, 3_600_000]) },
                8 | 9 => Happening::Trouble { lasts: dice.ms(1, 3_000) },
                _ => Happening::Changes(dice.pick(all), change(dice)),
            };
            self.happenings.push((at, happening));
        }
        // Whatever a person paused goes on in the end.
        for key in all {
            let resume = KeyChange { paused: Some(false), ..KeyChange::default() };
            self.happenings.push((self.calm_at, Happening::Changes(key.clone(), resume)));
        }
    }

    /// How the server of `key` behaves at `now`.
    pub(super) fn mood(&self, key: &Key, now: Mono) -> Option<Phase> {
        let host = LimitKey::Host(key.host.clone()?);
        let (_, phases) = self.moods.iter().find(|(of, _)| *of == host)?;
        phases.iter().find(|phase| now < phase.until).copied()
    }
}

fn process(
    dice: &mut Dice,
    n: usize,
    seed: u64,
    limits: Limits,
    schedule: Schedule,
    scope: Scope,
) -> ProcessPlan {
    let late = n > 0 && dice.chance(0.4);
    let options = RunOptions {
        workers: usize::try_from(dice.between(1, 8)).unwrap_or(1),
        drain: true,
        retry: RetryPolicy::queue_default(500, 5_000, 200),
        heartbeat: Duration::from_secs(5),
        lease_ttl: Duration::from_secs(15),
        job_timeout: Duration::from_secs(120),
        shutdown: dice.ms(10, 5_000),
        limits,
        schedule,
        seed: Some(seed),
        ..RunOptions::default()
    };
    let one_kind = n > 0 && scope == Scope::All && dice.chance(0.15);
    ProcessPlan {
        begins: if late { dice.ms(1, 3_000) } else { dice.ms(0, 20) },
        options,
        kinds: if one_kind { vec!["a"] } else { vec!["a", "b"] },
        turn_us: dice.pick(&[0, 300, 2_000]),
    }
}

fn jobs(dice: &mut Dice, all: &[LimitKey], calm_at: Mono, scope: Scope) -> Vec<JobPlan> {
    let spread = match dice.up_to(3) {
        0 => Spread::Fixed(dice.between(1, 50)),
        1 => Spread::Even(1, dice.between(2, 300)),
        2 => Spread::Even(200, 400),
        _ => Spread::LongTail(30),
    };
    let mut keys: Vec<Key> = Vec::new();
    for _ in 0..dice.between(1, 8) {
        let mut key = Key::default();
        for part in [dice.pick(all), dice.pick(all)] {
            match part {
                LimitKey::Host(name) => key.host = Some(name),
                LimitKey::Resolver(name) => key.resolver = Some(name),
            }
        }
        keys.push(key);
    }
    if dice.chance(0.2) {
        keys.push(Key::default());
    }
    let count = dice.between(5, 90);
    let many_steps = dice.chance(0.5);
    let urgent = dice.chance(0.4);
    let calm_ms = u64::try_from(calm_at.0.as_millis()).unwrap_or(0);
    (0..count)
        .map(|n| {
            let requests: Vec<Request> = (0..if many_steps { dice.between(1, 3) } else { 1 })
                .map(|_| Request { key: dice.pick(&keys), takes: spread.draw(dice) })
                .collect();
            let kind = if dice.chance(0.9) { "a" } else { "b" };
            let mut spec = match JobSpec::new(&format!("j{n}"), kind) {
                Ok(spec) => spec,
                Err(error) => panic!("{error}"),
            };
            spec.key = requests[0].key.clone();
            if urgent {
                spec.priority = dice.pick(&Priority::ALL);
            }
            spec.tags = dice
                .maybe(0.4, |dice| dice.pick(&["a", "b", "c"]).to_owned())
                .into_iter()
                .collect();
            let goes_wrong = scope == Scope::All;
            spec.timeout_seconds =
                dice.maybe(if goes_wrong { 0.1 } else { 0.0 }, |dice| dice.0.random_range(1..5));
            JobPlan {
                spec,
                enters: if goes_wrong && dice.chance(0.3) {
                    dice.ms(0, calm_ms / 2)
                } else {
                    Duration::ZERO
                },
                requests,
                later: dice.maybe(0.1, |dice| dice.ms(0, 20)),
                is_stubborn: goes_wrong && dice.chance(0.02),
            }
        })
        .collect()
}

fn moods(dice: &mut Dice, calm_at: Mono) -> Vec<Phase> {
    let mut phases = Vec::new();
    let mut at = Mono::default();
    while at < calm_at && phases.len() < 4 {
        at = at.plus(dice.ms(300, 8_000)).min(calm_at);
        let well = dice.chance(0.5);
        let after = dice.pick(&[
            None,
            Some(Duration::ZERO),
            Some(Duration::from_secs(1)),
            Some(Duration::from_secs(4)),
            Some(Duration::from_hours(5)),
        ]);
        phases.push(Phase {
            until: at,
            fails: if well { 0.0 } else { dice.pick(&[0.0, 0.1, 0.5, 1.0]) },
            tells: if well { 0.0 } else { dice.pick(&[0.0, 0.1, 0.5, 1.0]) },
            after,
        });
    }
    phases
}

fn change(dice: &mut Dice) -> KeyChange {
    let mut change = KeyChange::default();
    match dice.up_to(4) {
        0 => change.paused = Some(true),
        1 => change.paused = Some(false),
        2 => change.rate = Some(dice.maybe(0.7, Dice::rate)),
        3 => change.forgive = true,
        _ => change.max_concurrent = Some(dice.maybe(0.7, |dice| dice.0.random_range(1..6))),
    }
    change
}
