//! Hundreds of random queues: whatever the lanes, limits, rates, priorities, schedules and the order in which jobs end.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const CASES: u64 = 600;

/// How long a lane with startable work of the same priority may be passed over.
fn fair_share(lanes: usize, workers: usize) -> usize {
    4 * lanes * workers.max(4) * MAX_WEIGHT as usize
}

const MAX_WEIGHT: u32 = 5;

fn schedule(rng: &mut StdRng, aging: bool) -> Schedule {
    let mut schedule = Schedule::default();
    if rng.random_bool(0.5) {
        let tags = ["x", "y"].into_iter().take(rng.random_range(1..3));
        schedule.weights = tags.map(|tag| (tag.into(), rng.random_range(1..=MAX_WEIGHT))).collect();
    }
    let step = Duration::from_millis(rng.random_range(1..20_000));
    schedule.aging = Some(step).filter(|_| aging);
    schedule
}

fn limits(rng: &mut StdRng, hosts: usize, resolvers: usize) -> Limits {
    let mut limits = Limits::default();
    if rng.random_bool(0.7) {
        limits.max_per_host = Some(rng.random_range(1..5));
    }
    let hosts = (0..hosts).map(|n| LimitKey::Host(format!("h{n}").into()));
    let resolvers = (0..resolvers).map(|n| LimitKey::Resolver(format!("r{n}").into()));
    for key in hosts.chain(resolvers) {
        if rng.random_bool(0.5) {
            let max_concurrent = rng.random_bool(0.7).then(|| rng.random_range(1..4));
            let rate = rng.random_bool(0.3).then(|| {
                let rate = ["20/s", "1/s", "1/3s"][rng.random_range(0..3)];
                rate.parse::<Rate>().unwrap()
            });
            limits.by_key.insert(key, KeyLimits { max_concurrent, rate });
        }
    }
    limits
}

fn toy(rng: &mut StdRng) -> Toy {
    let (hosts, resolvers) = (rng.random_range(1..5), rng.random_range(1..3));
    let mut keys = BTreeSet::new();
    for _ in 0..rng.random_range(1..9) {
        let resolver = rng.random_bool(0.5).then(|| rng.random_range(0..resolvers));
        let host = rng.random_bool(0.9).then(|| rng.random_range(0..hosts));
        let tag = rng.random_bool(0.4).then(|| ["x", "y", "z"][rng.random_range(0..3)]);
        keys.insert((resolver, host, tag));
    }
    let name = |letter: &str, n: Option<usize>| n.map(|n| format!("{letter}{n}"));
    let lanes = keys.into_iter().zip(1..).map(|((resolver, host, tag), id)| {
        let lane = lane(id, name("r", resolver).as_deref(), name("h", host).as_deref());
        tag.map_or_else(|| Arc::clone(&lane), |tag| tagged(&lane, tag))
    });
    let lanes = lanes.collect();
    let limits = limits(rng, hosts, resolvers);
    Toy::new(limits, lanes, rng.random_range(1..12))
}

/// No key has more permits out than its limit.
fn assert_limits(toy: &Toy, seed: u64) {
    for status in toy.gate.status(toy.now, usize::MAX) {
        assert!(
            status.limit.is_none_or(|limit| status.running <= limit),
            "seed {seed}: {status:?}"
        );
    }
}

/// With a worker free and all messages heard, no lane that has work could have a permit.
fn assert_nothing_idles(toy: &Toy, seed: u64) {
    if toy.room() == 0 {
        return;
    }
    let idle = waiting(toy).find(|lane| {
        // Whoever waited for a hold that became one to give up comes at the end it was told: nobody tells it.
        let given_up = toy.gate.given_up(&lane.key, toy.now).is_some();
        !given_up && toy.gate.free(&lane.key, toy.now) != Some(0)
    });
    let Some(lane) = idle else { return };
    let state = toy.frontier.lanes.get(&lane.id);
    let known = state.map(|state| {
        let held = state.held.iter().map(VecDeque::len).collect::<Vec<_>>();
        (state.standing, state.in_store, held, state.parked.clone(), state.reserved.is_some())
    });
    panic!("seed {seed}: a worker and a permit idle while {lane:?} waits: {known:#?}");
}

/// The lanes with jobs that have not started, in the store or held.
fn waiting(toy: &Toy) -> impl Iterator<Item = &Arc<Lane>> {
    toy.lanes.iter().filter(|lane| {
        let ready = toy.ready.iter().any(|((_, id), rows)| *id == lane.id && !rows.is_empty());
        ready || toy.frontier.lanes.get(&lane.id).is_some_and(|state| state.held() > 0)
    })
}

/// Whether it is not the others that it waits for.
fn is_parked_by_a_hold(toy: &Toy, lane: LaneId) -> bool {
    let parked = toy.frontier.lanes.get(&lane).and_then(|state| state.parked.as_ref());
    parked.is_some_and(|(wait, _)| wait.reason == WaitReason::Held)
}

/// What is held is bounded by the limits, and by the room there was.
fn assert_held_is_bounded(toy: &Toy, seed: u64) {
    for (id, state) in &toy.frontier.lanes {
        let lane = toy.lanes.iter().find(|lane| lane.id == *id).unwrap();
        let most = toy.gate.max_concurrent(&lane.key).map_or(0, |n| n as usize);
        // What was leased for free workers waits when more urgent jobs come: once for each level.
        let most = most + toy.workers * LEVELS;
        assert!(state.held() <= most, "seed {seed}: {} held, {most} allowed", state.held());
    }
}

#[test]
fn limits_hold_nothing_idles_and_everything_ends() {
    for seed in 0..CASES {
        let mut rng = StdRng::seed_from_u64(seed);
        let is_aging = rng.random_bool(0.3);
        let schedule = schedule(&mut rng, is_aging);
        let mut toy = toy(&mut rng).scheduled(schedule);
        let lanes = toy.lanes.len();
        let mut added = 0;
        let mut passed_over: BTreeMap<LaneId, usize> = BTreeMap::new();
        let mut ended = 0;
        for step in 0.. {
            assert!(step < 3_000, "seed {seed}: {ended} of {added} ended");
            if step < 60 && rng.random_bool(0.4) {
                let count = rng.random_range(0..20);
                toy.add(rng.random_range(0..lanes), rng.random_range(0..5), count);
                added += count;
            }
            if step < 60 && rng.random_bool(0.1) {
                let key = &toy.lanes[rng.random_range(0..lanes)].key;
                // Now and then one that nobody waits for.
                let seconds = if rng.random_bool(0.1) { 5_000 } else { rng.random_range(1..9) };
                key.limits().for_each(|key| hold(&toy, &key, seconds));
            }
            if is_aging && rng.random_bool(0.1) {
                toy.stepped_ms = rng.random_range(-100_000..100_000);
            }
            if rng.random_bool(0.1) {
                toy.offer_all();
            }
            let before = toy.started.len();
            toy.settle();
            assert_limits(&toy, seed);
            assert_nothing_idles(&toy, seed);
            assert_held_is_bounded(&toy, seed);
            for id in &toy.started[before..] {
                passed_over.insert(*id, 0);
            }
            // Of those of the most urgent level that could start but for the others, none waits too long.
            if step >= 60 {
                let most = fair_share(lanes, toy.workers);
                let same_level: BTreeSet<usize> =
                    toy.ready
                        .iter()
                        .filter(|(_, rows)| !rows.is_empty())
                        .map(|((at, _), _)| *at)
                        .chain(
                            toy.frontier.lanes.values().flat_map(|state| {
                                (0..LEVELS).filter(|at| !state.held[*at].is_empty())
                            }),
                        )
                        .collect();
                if same_level.len() == 1 && !is_aging {
                    let started = toy.started.len() - before;
                    for lane in waiting(&toy).map(|lane| lane.id).collect::<Vec<_>>() {
                        let passed = passed_over.entry(lane).or_default();
                        if is_parked_by_a_hold(&toy, lane) {
                            *passed = 0;
                            continue;
                        }
                        *passed += started;
                        assert!(
                            *passed <= most,
                            "seed {seed}: {lane:?} was passed over {passed} times"
                        );
                    }
                } else {
                    passed_over.clear();
                }
            }
            match toy.running.len() {
                0 if ended == added && step >= 60 => break,
                0 => toy.advance(Duration::from_millis(rng.random_range(1..3_000))),
                running => {
                    for _ in 0..rng.random_range(1..=running) {
                        toy.finish(rng.random_range(0..toy.running.len()));
                        ended += 1;
                    }
                    toy.advance(Duration::from_millis(rng.random_range(0..200)));
                }
            }
        }
        // A lane that waits for a token finds out then that it has nothing.
        toy.advance(Duration::from_secs(10));
        toy.settle();
        assert_eq!((toy.frontier.lanes(), toy.frontier.held()), (0, 0), "seed {seed}");
        assert!(toy.frontier.line.iter().all(Line::is_empty), "seed {seed}");
        assert!(toy.frontier.aging.as_ref().is_none_or(Aging::is_at_rest), "seed {seed}");
        assert!(toy.gate.status(toy.now, 10).iter().all(|key| key.running == 0), "seed {seed}");
    }
}

#[test]
fn among_jobs_that_may_start_the_most_urgent_goes_first() {
    for seed in 0..CASES {
        let mut rng = StdRng::seed_from_u64(seed);
        let schedule = schedule(&mut rng, false);
        let mut toy = toy(&mut rng).scheduled(schedule);
        toy.workers = 1;
        for lane in 0..toy.lanes.len() {
            (0..5).for_each(|at| _ = toy.add(lane, at, rng.random_range(0..4)));
        }
        let left: usize = toy.ready.values().map(BTreeSet::len).sum();
        let mut ended = 0;
        while ended < left {
            // Enough for a token of every rate: of what waits, all may start.
            toy.advance(Duration::from_secs(10));
            toy.settle();
            assert!(
                !toy.running.is_empty(),
                "seed {seed}: {ended} of {left}, {:?} {:#?}",
                toy.ready,
                toy.frontier.parked(9)
            );
            let job = toy.finish(0);
            let urgent = toy
                .ready
                .iter()
                .find(|((at, _), rows)| *at < level(job.priority) && !rows.is_empty());
            assert!(urgent.is_none(), "seed {seed}: {:?} before {urgent:?}", job.priority);
            ended += 1;
        }
    }
}

/// A queue that never runs dry: the longest that any job waited, in steps of a tenth of a second.
fn longest_wait(seed: u64, schedule: Schedule) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut toy = toy(&mut rng);
    let limits = Limits { max_per_host: Some(rng.random_range(1..3)), ..Limits::default() };
    toy = Toy::new(limits, toy.lanes, toy.workers.min(3)).scheduled(schedule);
    let tenth = Duration::from_millis(100);
    let (mut longest, mut waits) = (0, BTreeMap::<i64, usize>::new());
    for step in 0..1_500 {
        for lane in 0..toy.lanes.len() {
            for at in 0..LEVELS {
                let waiting = toy.ready.get(&(at, toy.lanes[lane].id)).map_or(0, BTreeSet::len);
                let count = MOST_WAITING.saturating_sub(waiting);
                if count > 0 {
                    toy.add(lane, at, count);
                    waits.extend(toy.enqueued.keys().rev().take(count).map(|row| (*row, step)));
                }
            }
        }
        if rng.random_bool(0.2) {
            toy.offer_all();
        }
        toy.settle();
        for (job, _) in &toy.running {
            longest = longest.max(step - waits.remove(&job.token.job.0).unwrap_or(step));
        }
        (0..toy.running.len()).for_each(|_| _ = toy.finish(0));
        toy.advance(tenth);
    }
    longest.max(1_500 - waits.into_values().min().unwrap_or(1_500))
}

/// So many jobs of each lane and priority wait at any time.
const MOST_WAITING: usize = 2;

#[test]
fn with_aging_nothing_starves_across_priorities() {
    let step = Duration::from_millis(500);
    let mut starved = 0;
    for seed in 0..30 {
        let weights = schedule(&mut StdRng::seed_from_u64(seed), false).weights;
        let aging = Schedule { aging: Some(step), weights: weights.clone() };
        // To rise, and then for each job before it a round of all lanes and priorities by their weights.
        let most = 5 * LEVELS + MOST_WAITING * 9 * LEVELS * (1 + MAX_WEIGHT as usize);
        let longest = longest_wait(seed, aging);
        assert!(longest <= most, "seed {seed}: {longest} steps, {most} allowed");
        starved += usize::from(longest_wait(seed, Schedule { aging: None, weights }) > most);
    }
    assert!(starved > 20, "without it, jobs starve: {starved}");
}
