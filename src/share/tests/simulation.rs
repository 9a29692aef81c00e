//! Processes at random, each as greedy as it may be, that take turns with the arbiter alone.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const TICK: Duration = Duration::from_millis(10);
const TENURE: Duration = Duration::from_millis(100);

/// SplitMix64: the same numbers for the same seed everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

/// What a process knows and does, as its gate would.
struct Process {
    id: i64,
    jobs: u64,
    /// When each request that runs will end.
    running: Vec<Mono>,
    slots: u32,
    granted_at: Mono,
    keep: Option<u32>,
    tokens: u32,
    tokens_awaited: bool,
    spent_at: Option<Mono>,
    ended_at: Option<Mono>,
    /// Its next turn.
    turn_at: Mono,
    /// Since when it has had jobs and started none.
    hungry_since: Mono,
}

struct World {
    dice: Dice,
    record: KeyRecord,
    shares: Shares,
    scene: Scene,
    processes: Vec<Process>,
    next_id: i64,
    rung: BTreeSet<i64>,
    starts: Vec<Mono>,
    /// Whether the cap, or who there is, may change.
    is_restless: bool,
    longest_wait: Duration,
}

impl World {
    fn new(seed: u64, limits: KeyLimits, processes: u64, is_restless: bool) -> World {
        let configured = Configured { limits, is_fixed: false };
        let mut world = World {
            dice: Dice(seed),
            record: KeyRecord::default(),
            shares: Shares::new(),
            scene: Scene {
                configured,
                policy: policy(),
                now: sec(1_000),
                void_at: None,
                sole: Sole::Nobody,
            },
            processes: Vec::new(),
            next_id: 1,
            rung: BTreeSet::new(),
            starts: Vec::new(),
            is_restless,
            longest_wait: Duration::ZERO,
        };
        (0..processes).for_each(|_| world.join());
        world
    }

    fn join(&mut self) {
        let (id, now) = (self.next_id, self.scene.now);
        self.next_id += 1;
        self.processes.push(Process {
            id,
            jobs: 1_000,
            running: Vec::new(),
            slots: 0,
            granted_at: now,
            keep: None,
            tokens: 0,
            tokens_awaited: false,
            spent_at: None,
            ended_at: None,
            turn_at: now,
            hungry_since: now,
        });
    }

    fn terms(&self) -> Terms {
        self.record.terms(&self.scene.configured, self.scene.now)
    }

    fn tick(&mut self) {
        self.scene.now = self.scene.now.plus(TICK);
        if self.is_restless && self.dice.below(50) == 0 {
            self.disturb();
        }
        let first = self.dice.below(self.processes.len().max(1) as u64) as usize;
        for at in 0..self.processes.len() {
            let at = (first + at) % self.processes.len();
            self.work(at);
            let is_rung = self.rung.remove(&self.processes[at].id);
            if is_rung || self.processes[at].turn_at <= self.scene.now {
                self.turn(at);
            }
        }
    }

    /// Another cap, somebody who dies or who comes.
    fn disturb(&mut self) {
        match self.dice.below(3) {
            0 => {
                let cap = 1 + self.dice.below(4) as u32;
                let max_concurrent = Some(Some(cap));
                self.record.change(&KeyChange { max_concurrent, ..KeyChange::default() });
                self.rung.extend(self.processes.iter().map(|process| process.id));
            }
            1 if self.processes.len() > 1 => {
                let at = self.dice.below(self.processes.len() as u64) as usize;
                let dead = self.processes.remove(at);
                self.shares.remove(&dead.id);
                self.record.void_bucket(self.scene.configured.limits.rate, self.scene.now);
                self.rung.extend(self.shares.keys());
            }
            _ if self.processes.len() < 4 => self.join(),
            _ => {}
        }
    }

    /// Ends and starts what may be.
    fn work(&mut self, at: usize) {
        let (now, terms) = (self.scene.now, self.terms());
        let lasts = Duration::from_millis(10 * (1 + self.dice.below(30)));
        let process = &mut self.processes[at];
        if process.running.iter().any(|&end| end <= now) {
            process.running.retain(|&end| end > now);
            process.ended_at = Some(now).filter(|_| terms.max_concurrent == Some(1));
            if process.ended_at.is_some() && terms.rate.is_some() {
                process.tokens = 0;
            }
        }
        if process.jobs == 0 {
            process.hungry_since = now;
        }
        while process.may_start(&terms, now) {
            process.running.push(now.plus(lasts));
            if terms.rate.is_some() {
                process.tokens -= 1;
                process.spent_at = Some(now);
            }
            process.jobs -= 1;
            process.hungry_since = now;
            self.starts.push(now);
        }
        self.longest_wait = self.longest_wait.max(now.since(process.hungry_since));
        let running: usize = self.processes.iter().map(|process| process.running.len()).sum();
        if !self.is_restless {
            let cap = terms.max_concurrent.map_or(usize::MAX, |cap| cap as usize);
            assert!(running <= cap, "{running} run of {cap}");
        }
    }

    fn turn(&mut self, at: usize) {
        let (now, terms) = (self.scene.now, self.terms());
        let report = self.processes[at].report(&terms, now);
        let id = self.processes[at].id;
        let (record, shares) = (&mut self.record, &mut self.shares);
        let (answer, divided) = divide(record, shares, id, &report, &self.scene);
        assert!(!divided.ring.contains(&id), "nobody rings itself");
        self.rung.extend(divided.ring);
        self.check(&report, &answer, &terms);
        let patience = Duration::from_millis(20 + 10 * self.dice.below(19));
        self.processes[at].learn(&report, &answer, now, patience);
        // What was granted is used before anything is said of it.
        self.work(at);
    }

    fn check(&self, report: &KeyReport, answer: &KeyAnswer, terms: &Terms) {
        let slots: u32 = self.shares.values().map(|share| share.slots).sum();
        if let Some(cap) = terms.max_concurrent
            && answer.slots > report.slots
        {
            assert!(slots <= cap, "{slots} of {cap} after a grant: {:?}", self.shares);
        }
        if let (Some(rate), Some(mut bucket)) = (terms.rate, answer.record.bucket) {
            let out: u32 = self.shares.values().map(|share| share.tokens).sum();
            bucket.grow_beside(self.scene.now, out);
            assert!(out + bucket.available() <= rate.burst, "{out} out and {bucket:?}");
        }
    }

    /// Over any interval no more starts than burst + rate · time.
    fn check_starts(&self, rate: Rate) {
        for (first, &from) in self.starts.iter().enumerate() {
            for (more, &to) in self.starts[first..].iter().enumerate().skip(rate.burst as usize) {
                let grown =
                    to.since(from).as_nanos() * u128::from(rate.count) / rate.per.as_nanos();
                let most = u128::from(rate.burst) + grown;
                assert!((more as u128) < most, "{} starts from {from:?} to {to:?}", more + 1);
            }
        }
    }
}

impl Process {
    fn may_start(&self, terms: &Terms, now: Mono) -> bool {
        let running = self.running.len() as u32;
        let is_in_tenure = now.since(self.granted_at) < TENURE;
        let keep = self.keep.filter(|_| !is_in_tenure).unwrap_or(u32::MAX);
        let slots = terms.max_concurrent.map_or(u32::MAX, |cap| self.slots.min(cap).min(keep));
        self.jobs > 0 && running < slots && (terms.rate.is_none() || self.tokens > 0)
    }

    fn report(&mut self, terms: &Terms, now: Mono) -> KeyReport {
        let running = self.running.len() as u32;
        let keep = self.keep.unwrap_or(self.slots);
        let keep = if self.jobs == 0 { 0 } else { keep };
        let slots = self.slots.min(keep).max(running);
        let idle = slots - running;
        let tokens_back = if self.tokens_awaited || self.jobs == 0 { self.tokens } else { 0 };
        let tokens = self.tokens - tokens_back;
        let wanted = terms.max_concurrent.map_or(0, |cap| cap.saturating_sub(slots));
        let (burst, lacks) = (terms.rate.map_or(0, |rate| rate.burst), self.jobs > 0 && idle == 0);
        KeyReport {
            running,
            slots,
            wanted: if lacks { wanted } else { 0 },
            tokens,
            tokens_back,
            tokens_wanted: if self.jobs > 0 { burst.saturating_sub(tokens) } else { 0 },
            spent_at: self.spent_at.take().map(|at| at.min(now)),
            ended_at: self.ended_at.take(),
            ..KeyReport::of(host())
        }
    }

    fn learn(&mut self, report: &KeyReport, answer: &KeyAnswer, now: Mono, patience: Duration) {
        if answer.slots > report.slots {
            self.granted_at = now;
        }
        (self.slots, self.keep) = (answer.slots, answer.keep);
        (self.tokens, self.tokens_awaited) = (answer.tokens, answer.tokens_awaited);
        self.turn_at = now.plus(patience.min(SHARE_PERIOD));
    }
}

fn limits(cap: u32, rate_of: &str) -> KeyLimits {
    let rate = (!rate_of.is_empty()).then(|| rate(rate_of));
    KeyLimits { max_concurrent: (cap > 0).then_some(cap), rate }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn caps_and_rates_hold_whoever_comes_goes_and_dies(
        seed: u64,
        cap in 1..5_u32,
        processes in 2..5_u64,
        rate_of in prop::sample::select(vec!["", "1/s", "5/s", "20/s", "1/3s"]),
    ) {
        let limits = limits(cap, rate_of);
        let mut world = World::new(seed, limits, processes, true);
        (0..2_000).for_each(|_| world.tick());
        prop_assert!(!world.starts.is_empty());
        if let Some(rate) = limits.rate {
            world.check_starts(rate);
        }
    }

    #[test]
    fn nobody_who_keeps_asking_waits_for_ever(
        seed: u64,
        cap in 0..5_u32,
        processes in 2..5_u64,
        rate_of in prop::sample::select(vec!["", "5/s", "20/s"]),
    ) {
        prop_assume!(cap > 0 || !rate_of.is_empty());
        let limits = limits(cap, rate_of);
        let mut world = World::new(seed, limits, processes, false);
        (0..2_000).for_each(|_| world.tick());
        // Requests last 300 ms at the most, so four processes could have had a turn each twice over.
        prop_assert!(world.longest_wait <= Duration::from_secs(4), "{:?}", world.longest_wait);
        if let Some(rate) = limits.rate {
            world.check_starts(rate);
        }
    }

    #[test]
    fn little_of_a_limit_is_wasted_while_all_want_it(
        seed: u64,
        cap in 1..5_u32,
        processes in 2..5_u64,
    ) {
        let mut world = World::new(seed, limits(cap, ""), processes, false);
        (0..2_000).for_each(|_| world.tick());
        // A request lasts 155 ms on average.
        let ideal = u64::from(cap) * 20_000 / 155;
        prop_assert!(world.starts.len() as u64 > ideal / 2, "{} of {ideal}", world.starts.len());
    }
}
