//! Gates of several processes on one store: [`divide`] behind a toy that does what a store does with a turn, and no more.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::super::{Gate, KeyLimits, Limits, Permit, Rate, WaitReason};
use super::{both, host, limit_host, limit_resolver, resolver};
use crate::job::{Key, LimitKey, Mono};
use crate::share::{
    Claim, Configured, KeyNews, KeyRecord, KeyReply, Scene, Shares, Sole, Told, Transition, divide,
    state_of, told_by_sole,
};

/// What a store keeps of keys.
#[derive(Default)]
struct Toy {
    keys: BTreeMap<LimitKey, (KeyRecord, Shares, i64)>,
    owners: Vec<i64>,
    sole: Option<i64>,
    version: i64,
    /// Owners whose bell was rung.
    rung: Vec<i64>,
    configured: HashMap<LimitKey, KeyLimits>,
    max_per_host: Option<u32>,
}

impl Toy {
    fn register(&mut self, owner: i64) {
        self.rung.extend(&self.owners);
        self.owners.push(owner);
    }

    fn retire(&mut self, owner: i64) {
        self.owners.retain(|other| *other != owner);
        self.sole = self.sole.filter(|sole| *sole != owner);
        for (_, shares, _) in self.keys.values_mut() {
            shares.remove(&owner);
        }
        self.rung.extend(&self.owners);
    }

    fn configured(&self, key: &LimitKey) -> Configured {
        let own = self.configured.get(key).copied().unwrap_or_default();
        let default = self.max_per_host.filter(|_| matches!(key, LimitKey::Host(_)));
        let limits = KeyLimits { max_concurrent: own.max_concurrent.or(default), ..own };
        Configured { limits, is_fixed: own.max_concurrent.is_some() }
    }

    fn turn(&mut self, me: i64, news: &KeyNews) -> KeyReply {
        let was_sole = self.sole == Some(me);
        let is_alone = self.owners.len() == 1;
        let closes = news.claim == Claim::Close && is_alone;
        let sole = match self.sole {
            Some(sole) if sole != me => Sole::Other,
            Some(_) if news.claim == Claim::Open => Sole::WasMe,
            _ => Sole::Nobody,
        };
        if news.claim == Claim::Open && was_sole {
            self.sole = None;
        }
        let mut answers = Vec::new();
        for report in &news.reports {
            let configured = self.configured(&report.key);
            let scene =
                Scene { configured, policy: news.policy, now: news.now, void_at: None, sole };
            let entry = self.keys.entry(report.key.clone()).or_default();
            let apply = if was_sole && news.claim != Claim::Open { told_by_sole } else { divide };
            let (answer, divided) = apply(&mut entry.0, &mut entry.1, me, report, &scene);
            if divided.changed {
                self.version += 1;
                entry.2 = self.version;
                self.rung.extend(self.owners.iter().filter(|owner| **owner != me));
            }
            self.rung.extend(divided.ring);
            answers.push(answer);
        }
        if closes {
            self.sole = Some(me);
            for (_, shares, _) in self.keys.values_mut() {
                shares.remove(&me);
            }
        }
        for (key, (record, shares, version)) in &self.keys {
            let configured = self.configured(key);
            let (policy, now) = (news.policy, news.now);
            let scene = Scene { configured, policy, now, void_at: None, sole: Sole::Nobody };
            let answer = state_of(key, record, shares, me, &scene);
            let is_due = *version > news.known
                || news.known == 0
                || shares.contains_key(&me) && (answer.keep.is_some() || answer.tokens_awaited);
            if is_due && !answers.iter().any(|given| given.key == *key) {
                answers.push(answer);
            }
        }
        KeyReply {
            is_sole: self.sole == Some(me),
            is_alone,
            version: self.version,
            more: false,
            redeclared: false,
            answers,
        }
    }
}

/// One process.
struct Process {
    gate: Gate,
    running: Vec<Permit>,
    is_there: bool,
}

/// A limit that all of them share.
const KEYS: [(&str, &str); 6] =
    [("r", ""), ("", "a"), ("", "b"), ("r", "a"), ("r", "b"), ("s", "a")];

fn limits() -> Limits {
    let at_once = |max| KeyLimits { max_concurrent: Some(max), rate: None };
    let rate = Some(Rate { count: 5, per: Duration::from_secs(1), burst: 2 });
    let by_key = [
        (limit_resolver("r"), at_once(2)),
        (limit_resolver("s"), KeyLimits { max_concurrent: Some(3), rate }),
        (limit_host("b"), at_once(1)),
    ];
    Limits { max_per_host: Some(3), by_key: by_key.into(), ..Limits::default() }
}

fn key_of((resolver_name, host_name): (&str, &str)) -> Key {
    match (resolver_name, host_name) {
        ("", name) => host(name),
        (name, "") => resolver(name),
        (r, h) => both(r, h),
    }
}

struct World {
    toy: Toy,
    processes: Vec<Process>,
    now: Mono,
    /// When tokens of `s` were spent.
    spent: Vec<Mono>,
    /// What was done, for whoever has to find out why.
    story: Vec<String>,
}

impl World {
    fn new(processes: usize) -> World {
        let Limits { max_per_host, by_key, .. } = limits();
        let toy = Toy { configured: by_key, max_per_host, ..Toy::default() };
        let processes = (0..processes).map(|_| Process {
            gate: Gate::default(),
            running: Vec::new(),
            is_there: false,
        });
        let (processes, now) = (processes.collect(), Mono::from_ms(10_000));
        World { toy, processes, now, spent: Vec::new(), story: Vec::new() }
    }

    fn start(&mut self, at: usize) {
        self.story.push(format!("{:?} {at} starts", self.now));
        let gate = Gate::new(limits());
        gate.divide();
        self.processes[at] = Process { gate, running: Vec::new(), is_there: true };
        self.toy.register(at as i64);
    }

    fn stop(&mut self, at: usize) {
        self.story.push(format!("{:?} {at} stops", self.now));
        self.processes[at].running.clear();
        if let Some(news) = self.processes[at].gate.news(self.now) {
            self.toy.turn(at as i64, &news);
        }
        self.toy.retire(at as i64);
        self.processes[at].is_there = false;
    }

    fn admit(&mut self, at: usize, key: &Key) -> bool {
        let process = &mut self.processes[at];
        let Ok(permit) = process.gate.try_admit(key, self.now) else { return false };
        process.running.push(permit);
        self.story.push(format!("{:?} {at} admits {key}", self.now));
        if key.resolver.as_deref() == Some("s") {
            self.spent.push(self.now);
        }
        true
    }

    /// A turn of one process, during which something may happen in it.
    fn turn(&mut self, at: usize, arrives: bool, meanwhile: impl FnOnce(&mut World)) {
        let Some(news) = self.processes[at].gate.news(self.now) else { return };
        self.story.push(format!("{:?} {at} says {:?} {:?}", self.now, news.claim, news.reports));
        if !arrives {
            self.story.push("in vain".to_owned());
            meanwhile(self);
            self.processes[at].gate.untold(news);
            return;
        }
        let reply = self.toy.turn(at as i64, &news);
        let KeyReply { is_sole, is_alone, answers, .. } = &reply;
        let told: Vec<_> =
            answers.iter().map(|a| (&a.key, a.slots, a.keep, a.tokens, a.next_token)).collect();
        self.story.push(format!("{at} hears sole {is_sole} alone {is_alone} {told:?}"));
        meanwhile(self);
        self.processes[at].gate.learn(reply, self.now);
    }

    #[track_caller]
    fn check(&self, seed: u64) {
        let caps = [
            (limit_resolver("r"), 2),
            (limit_resolver("s"), 3),
            (limit_host("a"), 3),
            (limit_host("b"), 1),
        ];
        for (key, cap) in caps {
            let permits = self.processes.iter().flat_map(|process| &process.running);
            let running =
                permits.filter(|permit| permit.key().limits().any(|part| part == key)).count();
            assert!(running <= cap, "seed {seed}: {running} of {cap} at {key}: {:#?}", self.story);
        }
        for (first, from) in self.spent.iter().enumerate() {
            for (last, to) in self.spent.iter().enumerate().skip(first) {
                let over_burst = (last - first + 1).saturating_sub(2) as u128;
                let grown = 5 * to.since(*from).as_nanos();
                assert!(over_burst * 1_000_000_000 <= grown, "seed {seed}: {:?}", self.spent);
            }
        }
    }
}

#[test]
fn over_all_processes_no_more_run_than_a_key_has_and_no_more_start_than_its_rate_allows() {
    for seed in 0..1_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(3);
        for _ in 0..150 {
            let at = random.random_range(0..3);
            let key = key_of(KEYS[random.random_range(0..KEYS.len())]);
            if !world.processes[at].is_there {
                if random.random_bool(0.1) {
                    world.start(at);
                }
                continue;
            }
            match random.random_range(0..20) {
                0..8 => _ = world.admit(at, &key),
                8..12 => {
                    let process = &mut world.processes[at];
                    if !process.running.is_empty() {
                        let permit = random.random_range(0..process.running.len());
                        process.running.swap_remove(permit).end(world.now);
                    }
                }
                12..18 => {
                    let arrives = random.random_bool(0.9);
                    let busy = random.random_bool(0.5);
                    world.turn(at, arrives, |world| {
                        if busy {
                            world.admit(at, &key);
                        } else {
                            world.processes[at].running.pop();
                        }
                    });
                }
                18 => {
                    let ms = [1, 5, 30, 120, 250, 1_500][random.random_range(0..6)];
                    world.now = world.now.plus(Duration::from_millis(ms));
                }
                _ if random.random_bool(0.1) => world.stop(at),
                _ => {}
            }
            world.check(seed);
        }
    }
}

/// Every process has jobs for every key without end, makes a turn when its gate says so or its bell rang, and has each job run for
/// a while: within two share periods each of them gets something.
#[test]
fn nobody_waits_for_ever_however_keys_are_combined() {
    for seed in 0..10 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(3);
        (0..3).for_each(|at| world.start(at));
        let mut started = [0; 3];
        let mut ends: Vec<Vec<Mono>> = vec![Vec::new(); 3];
        for _ in 0..1_000 {
            world.now = world.now.plus(Duration::from_millis(5));
            for at in 0..3 {
                let now = world.now;
                while let Some(done) = ends[at].iter().position(|end| *end <= now) {
                    ends[at].swap_remove(done);
                    world.processes[at].running.swap_remove(done);
                }
                for _ in 0..3 {
                    let key =
                        key_of([("r", "a"), ("r", "b"), ("", "b")][random.random_range(0..3)]);
                    if world.admit(at, &key) {
                        started[at] += 1;
                        ends[at].push(now.plus(Duration::from_millis(random.random_range(5..80))));
                    }
                }
                let is_rung = world.toy.rung.contains(&(at as i64));
                if is_rung || world.processes[at].gate.has_urgent_news(now) {
                    world.toy.rung.retain(|rung| *rung != at as i64);
                    world.turn(at, true, |_| ());
                }
                world.check(seed);
            }
        }
        let least = started.iter().min().unwrap();
        assert!(*least > 30, "seed {seed}: {started:?} in five seconds");
    }
}

#[test]
fn the_first_is_the_sole_one_once_the_store_says_so_and_no_longer_when_somebody_comes() {
    let mut world = World::new(2);
    world.start(0);
    let refused = world.processes[0].gate.try_admit(&host("a"), world.now).unwrap_err();
    assert_eq!(refused.reason, WaitReason::Shared);
    assert!(world.processes[0].gate.has_urgent_news(world.now));
    world.turn(0, true, |_| ());
    assert_eq!(world.toy.sole, Some(0));
    assert!(world.admit(0, &host("a")) && world.admit(0, &host("a")));

    world.start(1);
    world.turn(1, true, |_| ());
    world.processes[1].gate.try_admit(&host("a"), world.now).unwrap_err();
    world.turn(1, true, |_| ());
    assert!(!world.admit(1, &host("a")), "the other one is still sole");
    world.turn(0, true, |_| ());
    assert!(!world.admit(0, &host("a")), "what runs is all it has");
    assert!(world.processes[0].gate.has_urgent_news(world.now), "the store does not know");
    world.turn(0, true, |_| ());
    world.turn(1, true, |_| ());
    assert!(world.admit(1, &host("a")), "the third slot");
    assert!(!world.admit(1, &host("a")));
}

#[test]
fn what_happens_between_a_turn_and_its_reply_is_neither_undone_nor_lost() {
    let mut world = World::new(2);
    (0..2).for_each(|at| world.start(at));
    (0..2).for_each(|at| world.turn(at, true, |_| ()));
    let (a, now) = (limit_host("a"), world.now);
    let told = Told { asked_at: now, now, after: Some(Duration::from_secs(30)) };
    world.turn(0, true, |world| _ = world.processes[0].gate.hold(&a, told));
    let held = |world: &World, at: usize| {
        let refused = world.processes[at].gate.try_admit(&host("a"), now).unwrap_err();
        refused.reason == WaitReason::Held
    };
    assert!(held(&world, 0), "the reply knows nothing of it");
    assert!(!held(&world, 1));
    assert!(world.processes[0].gate.has_urgent_news(now), "others should know");
    world.turn(0, false, |_| ());
    world.turn(0, true, |_| ());
    assert!(world.toy.rung.contains(&1));
    world.turn(1, true, |_| ());
    assert!(held(&world, 1));
}

/// Whatever ran before it opened, ended when, and was told when.
#[test]
fn of_all_processes_one_at_a_time_probes_a_host_whose_breaker_is_half_open() {
    let (a, key) = (limit_host("a"), host("a"));
    for seed in 0..300 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(3);
        (0..3).for_each(|at| world.start(at));
        for _ in 0..6 {
            (0..3).for_each(|at| world.turn(at, true, |_| ()));
            for at in 0..3 {
                let _ = world.processes[at].running.is_empty() && world.admit(at, &key);
            }
            world.now = world.now.plus(Duration::from_millis(20));
        }
        assert!((0..3).all(|at| world.processes[at].running.len() == 1), "one slot each");
        let now = world.now;
        let opened = (0..5).filter_map(|_| world.processes[0].gate.failed(&a, now, now)).count();
        assert_eq!(opened, 1);
        assert_eq!(world.processes[0].gate.transitions(now).len(), 1);
        assert!(world.processes[0].gate.has_urgent_news(now));
        world.turn(0, true, |_| ());
        let told = random.random_range(0..3);
        (1..=told).for_each(|at| world.turn(at, true, |_| ()));
        world.now = now.plus(Duration::from_secs(61));
        // Whoever was not told by then was stopped.
        (1..3).for_each(|at| world.turn(at, true, |_| ()));
        let mut probes = 0;
        for _ in 0..300 {
            let at = random.random_range(0..3);
            match random.random_range(0..6) {
                0 => _ = world.processes[at].running.pop(),
                1..4 => world.turn(at, random.random_bool(0.9), |_| ()),
                _ if world.admit(at, &key) => {
                    let running = world.processes.iter().map(|process| process.running.len());
                    assert_eq!(running.sum::<usize>(), 1, "seed {seed}: {:#?}", world.story);
                    probes += 1;
                }
                _ => world.now = world.now.plus(Duration::from_millis(20)),
            }
        }
        assert!(probes > 0, "seed {seed}: {:#?}", world.story);
    }
}

#[test]
fn a_probe_that_succeeds_three_times_gives_the_host_back_to_everybody() {
    let (a, key) = (limit_host("a"), host("a"));
    let mut world = World::new(2);
    (0..2).for_each(|at| world.start(at));
    (0..2).for_each(|at| world.turn(at, true, |_| ()));
    let now = world.now;
    (0..5).for_each(|_| _ = world.processes[0].gate.failed(&a, now, now));
    (0..2).for_each(|at| world.turn(at, true, |_| ()));
    let until = now.plus(Duration::from_mins(1));
    let opened = [(a.clone(), Transition::Opened { until })];
    assert_eq!(world.processes[0].gate.transitions(now), opened);
    let wait = world.processes[1].gate.try_admit(&key, now).unwrap_err();
    assert_eq!((wait.reason, wait.until), (WaitReason::Open, Some(until)));
    world.now = until;
    let now = world.now;
    assert!(!world.admit(0, &key), "it has to ask");
    assert_eq!(world.processes[0].gate.transitions(now), [(a.clone(), Transition::HalfOpened)]);
    world.turn(0, true, |_| ());
    for _ in 0..3 {
        assert!(world.admit(0, &key) && !world.admit(0, &key) && !world.admit(1, &key));
        world.now = world.now.plus(Duration::from_millis(1));
        world.processes[0].gate.answered(&a, world.now, world.now);
        world.processes[0].running.clear();
    }
    assert_eq!(world.processes[0].gate.transitions(world.now), [(a, Transition::Closed)]);
    for _ in 0..3 {
        (0..2).for_each(|at| world.turn(at, true, |_| ()));
        (0..2).for_each(|at| _ = world.admit(at, &key));
    }
    let running: usize = world.processes.iter().map(|process| process.running.len()).sum();
    assert_eq!(running, 3);
}

#[test]
fn tokens_and_the_end_of_an_answer_are_told_and_come_back() {
    let mut world = World::new(2);
    let lone = KeyLimits { max_concurrent: Some(1), rate: Some("1/3s".parse().unwrap()) };
    world.toy.configured.insert(limit_host("l"), lone);
    (0..2).for_each(|at| world.start(at));
    (0..2).for_each(|at| world.processes[at].gate.set(limit_host("l"), lone));
    (0..2).for_each(|at| world.turn(at, true, |_| ()));
    let key = host("l");
    assert!(!world.admit(0, &key) && !world.admit(1, &key));
    world.turn(0, true, |_| ());
    assert!(world.admit(0, &key));
    world.now = world.now.plus(Duration::from_secs(10));
    let ended = world.now;
    world.processes[0].running.pop().unwrap().end(ended);
    assert!(!world.admit(1, &key));
    (0..2).for_each(|at| world.turn(at, true, |_| ()));
    (0..2).for_each(|at| world.turn(at, true, |_| ()));
    assert!(!world.admit(1, &key), "the interval counts from the end of the answer");
    world.now = ended.plus(Duration::from_millis(2_999));
    assert!(!world.admit(0, &key) && !world.admit(1, &key));
    world.now = ended.plus(Duration::from_secs(3));
    for _ in 0..3 {
        (0..2).for_each(|at| world.turn(at, true, |_| ()));
        (0..2).for_each(|at| _ = world.admit(at, &key));
    }
    let running: usize = world.processes.iter().map(|process| process.running.len()).sum();
    assert_eq!(running, 1, "{:#?}", world.story);
}

#[test]
fn a_key_that_is_given_up_needs_no_share_for_its_jobs_to_end() {
    let mut world = World::new(2);
    (0..2).for_each(|at| world.start(at));
    (0..2).for_each(|at| world.turn(at, true, |_| ()));
    let (gate, now) = (&world.processes[0].gate, world.now);
    gate.hold(&limit_host("a"), Told { asked_at: now, now, after: Some(Duration::from_hours(9)) });
    assert!((0..9).all(|_| gate.try_admit(&host("a"), now).is_ok()));
    let permit = gate.try_admit(&host("a"), now).unwrap();
    assert_eq!(gate.redeem(permit, now).unwrap_err().reason, WaitReason::Held);
}
