//! What must hold whoever goes first.
//!
//! Counts that the scenarios check with are plain atomics: shuttle does not switch threads at them, so a count and the
//! assertion beside it see one instant. Time stands still unless a scenario moves it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use orch::job::{Key, LimitKey, Mono};
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use super::model::{
    Gate, KeyLimits, KeyedLimiter, Limits, Permit, Rate, TokenBucket, Told, WaitReason,
};
use super::sync::locks;

const NOW: Mono = Mono::from_ms(1_000);

/// Runs `scenario` under many schedules: uniformly random ones, and such as switch threads at a few unlucky points.
fn explore(scenario: impl Fn() + Copy + Send + Sync + 'static) {
    shuttle::check_random(scenario, 600);
    shuttle::check_pct(scenario, 600, 3);
}

/// Runs `threads` threads of `run`, numbered from 0, to their end.
fn in_parallel(threads: u32, run: impl Fn(u32) + Send + Sync + 'static) {
    let run = Arc::new(run);
    let start = |number| {
        let run = Arc::clone(&run);
        thread::spawn(move || run(number))
    };
    let running: Vec<_> = (0..threads).map(start).collect();
    for thread in running {
        thread.join().unwrap();
    }
}

/// A key of these names; an empty one is none.
fn key(resolver: &str, host: &str) -> Key {
    let [resolver, host] = [resolver, host].map(|name| Some(name).filter(|name| !name.is_empty()));
    Key::new(resolver, host).unwrap()
}

/// Keys that share resolvers and hosts in every way.
fn keys() -> Vec<Key> {
    let pairs = [("r", ""), ("", "a"), ("", "b"), ("r", "a"), ("r", "b"), ("s", "a")];
    pairs.map(|(resolver, host)| key(resolver, host)).into()
}

fn limit_host(name: &str) -> LimitKey {
    LimitKey::Host(name.into())
}

fn limit_resolver(name: &str) -> LimitKey {
    LimitKey::Resolver(name.into())
}

fn at_once(max: u32) -> KeyLimits {
    KeyLimits { max_concurrent: Some(max), rate: None }
}

/// One token, and no other before the test is over.
fn one_token() -> Option<Rate> {
    Some(Rate { count: 1, per: Duration::from_hours(24), burst: 1 })
}

/// Wakes those who wait for one key; a ring before they wait is not lost.
#[derive(Default)]
struct Bell {
    rings: Mutex<u64>,
    rung: Condvar,
}

impl Bell {
    fn rings(&self) -> u64 {
        *self.rings.lock().unwrap()
    }

    fn ring(&self) {
        *self.rings.lock().unwrap() += 1;
        self.rung.notify_all();
    }

    fn wait_past(&self, rings: u64) {
        let mut heard = self.rings.lock().unwrap();
        while *heard == rings {
            heard = self.rung.wait(heard).unwrap();
        }
    }
}

/// A gate, a bell for each key, and an account of the permits that are out.
struct World {
    gate: Gate,
    bells: Arc<HashMap<LimitKey, Bell>>,
    out: HashMap<LimitKey, AtomicU32>,
    most: HashMap<LimitKey, u32>,
}

impl World {
    /// Hosts have one permit, `r` has two, `s` one; each key is also limited by `rate`.
    fn new(rate: Option<Rate>) -> World {
        let most = HashMap::from([
            (limit_resolver("r"), 2),
            (limit_resolver("s"), 1),
            (limit_host("a"), 1),
            (limit_host("b"), 1),
        ]);
        let gate = Gate::new(Limits { max_per_host: Some(1), ..Limits::default() });
        for (name, max) in [("r", 2), ("s", 1)] {
            gate.set(limit_resolver(name), KeyLimits { max_concurrent: Some(max), rate });
        }
        let bells: HashMap<_, _> = most.keys().map(|key| (key.clone(), Bell::default())).collect();
        let bells = Arc::new(bells);
        let ringing = Arc::clone(&bells);
        gate.on_release(move |key| ringing[key].ring());
        let out = most.keys().map(|key| (key.clone(), AtomicU32::new(0))).collect();
        World { gate, bells, out, most }
    }

    /// Runs under a permit of `key`, which it must not have been given beyond any limit.
    fn run_under(&self, permit: &Permit) {
        for part in permit.key().limits() {
            let before = self.out[&part].fetch_add(1, Ordering::Relaxed);
            assert!(before < self.most[&part], "one too many at {part}");
        }
        thread::yield_now();
        for part in permit.key().limits() {
            self.out[&part].fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Tries until admitted, going to sleep until the key that refused is told free. If that never comes, every thread
    /// sleeps in the end, which shuttle reports as a deadlock.
    fn admit(&self, key: &Key) -> Permit {
        loop {
            let heard: HashMap<_, _> =
                key.limits().map(|part| (part.clone(), self.bells[&part].rings())).collect();
            match self.gate.try_admit(key, NOW) {
                Ok(permit) => return permit,
                Err(wait) => self.bells[&wait.on].wait_past(heard[&wait.on]),
            }
        }
    }

    /// Every slot and token is back.
    fn assert_untouched(&self) {
        assert_eq!(self.gate.status(NOW, 10), []);
        for (resolver, host) in [("r", ""), ("s", ""), ("", "a"), ("", "b")] {
            let key = key(resolver, host);
            assert_eq!(self.gate.free(&key, NOW), self.gate.max_concurrent(&key), "{key}");
        }
    }
}

fn any_of(keys: &[Key]) -> &Key {
    &keys[thread_rng().gen_range(0..keys.len())]
}

#[test]
fn permits_out_never_exceed_a_limit_at_any_instant() {
    explore(|| {
        let world = Arc::new(World::new(None));
        let inside = Arc::clone(&world);
        in_parallel(4, move |_| {
            let keys = keys();
            for _ in 0..3 {
                if let Ok(permit) = inside.gate.try_admit(any_of(&keys), NOW) {
                    inside.run_under(&permit);
                }
            }
        });
        world.assert_untouched();
    });
}

#[test]
fn whoever_is_refused_is_told_in_time_and_gets_in() {
    explore(|| {
        let world = Arc::new(World::new(None));
        let inside = Arc::clone(&world);
        in_parallel(4, move |_| {
            let keys = keys();
            for _ in 0..2 {
                inside.run_under(&inside.admit(any_of(&keys)));
            }
        });
        world.assert_untouched();
    });
}

/// The host's token may be gone when the resolver's slot and token and the host's slot were taken already: whoever was refused for
/// want of those meanwhile must be told when they come back, although no permit was ever given.
#[test]
fn a_refusal_at_the_last_stage_costs_nobody_their_turn() {
    explore(|| {
        let world = World::new(None);
        let (r, a) = (limit_resolver("r"), limit_host("a"));
        world.gate.set(r, KeyLimits { max_concurrent: Some(1), rate: one_token() });
        world.gate.set(a, KeyLimits { max_concurrent: Some(1), rate: one_token() });
        drop(world.gate.try_admit(&key("", "a"), NOW).unwrap());
        let world = Arc::new(world);
        let inside = Arc::clone(&world);
        in_parallel(3, move |number| match number {
            0 => inside.admit(&key("r", "b")).refund(),
            1 => inside.admit(&key("r", "")).refund(),
            _ => {
                let wait = inside.gate.try_admit(&key("r", "a"), NOW).unwrap_err();
                let by_rate = wait.reason == WaitReason::Rate;
                assert!(wait.until.is_some() == by_rate, "{wait:?}");
            }
        });
        assert_eq!(world.gate.free(&key("r", ""), NOW), Some(1));
        assert!(world.gate.try_admit(&key("r", "b"), NOW).is_ok());
    });
}

#[test]
fn a_refunded_token_goes_to_whoever_was_refused_for_want_of_it() {
    explore(|| {
        let world = World::new(None);
        for limit_key in [limit_resolver("r"), limit_host("a"), limit_host("b")] {
            world.gate.set(limit_key, KeyLimits { max_concurrent: None, rate: one_token() });
        }
        let world = Arc::new(world);
        let inside = Arc::clone(&world);
        in_parallel(4, move |_| {
            let keys = [key("r", "a"), key("r", "b"), key("", "a"), key("r", "")];
            for _ in 0..2 {
                inside.admit(any_of(&keys)).refund();
            }
        });
        assert_eq!(world.gate.status(NOW, 10), []);
        assert!(world.gate.try_admit(&key("r", "a"), NOW).is_ok());
    });
}

#[test]
fn a_limit_changed_while_in_use_holds_at_once_and_wakes_who_it_lets_in() {
    explore(|| {
        let mut world = World::new(None);
        world.most.insert(limit_host("a"), 3);
        world.gate.set(limit_host("a"), at_once(3));
        let lowered = AtomicBool::new(false);
        let world = Arc::new((world, lowered));
        let inside = Arc::clone(&world);
        in_parallel(4, move |number| {
            let (world, lowered) = &*inside;
            if number == 0 {
                for max in [0, 1] {
                    world.gate.set(limit_host("a"), at_once(max));
                }
                lowered.store(true, Ordering::Relaxed);
                return;
            }
            for _ in 0..2 {
                let alone = lowered.load(Ordering::Relaxed);
                let permit = if alone {
                    world.gate.try_admit(&key("", "a"), NOW).ok()
                } else {
                    Some(world.admit(&key("", "a")))
                };
                if let Some(permit) = permit {
                    let out = world.out[&limit_host("a")].load(Ordering::Relaxed);
                    assert!(!alone || out == 0, "admitted beside {out} others");
                    world.run_under(&permit);
                }
            }
        });
        assert_eq!(world.0.gate.free(&key("", "a"), NOW), Some(1));
    });
}

/// Also whoever had found the bucket before it was taken away, and asks it for a token after.
#[test]
fn a_rate_changed_while_in_use_wakes_who_waits_for_it() {
    explore(|| {
        let world = World::new(None);
        world.gate.set(limit_host("a"), KeyLimits { max_concurrent: None, rate: one_token() });
        drop(world.gate.try_admit(&key("", "a"), NOW).unwrap());
        let world = Arc::new(world);
        let inside = Arc::clone(&world);
        in_parallel(2, move |number| match number {
            0 => inside.gate.set(limit_host("a"), KeyLimits::default()),
            _ => inside.run_under(&inside.admit(&key("", "a"))),
        });
        world.assert_untouched();
    });
}

/// Waiters let time pass to what they were told, others hold the key and have it answered meanwhile: whoever is refused
/// for a hold is told a time that is still to come, and gets in; nobody gets in before the end of a hold that was given
/// before they asked.
#[test]
fn a_hold_keeps_everybody_out_until_its_end_and_then_nobody() {
    explore(|| {
        let (clock, held_until) = (AtomicU64::new(1_000), AtomicU64::new(0));
        let world = Arc::new((World::new(None), clock, held_until));
        let inside = Arc::clone(&world);
        in_parallel(4, move |number| {
            let (world, clock, held_until) = &*inside;
            let now = || Mono::from_ms(clock.load(Ordering::Relaxed));
            if number == 0 {
                for after_ms in [300, 0] {
                    let after = Some(Duration::from_millis(after_ms));
                    let told = Told { asked_at: now(), now: now(), after };
                    let until = world.gate.hold(&limit_host("a"), told);
                    let until_ms = u64::try_from(until.0.as_millis()).unwrap();
                    held_until.fetch_max(until_ms, Ordering::Relaxed);
                    world.gate.answered(&limit_host("a"), NOW, NOW);
                }
                return;
            }
            let key = if number == 1 { key("r", "a") } else { key("", "a") };
            let permit = loop {
                let heard = world.bells[&limit_host("a")].rings();
                let (asked, held) = (now(), Mono::from_ms(held_until.load(Ordering::Relaxed)));
                match world.gate.try_admit(&key, asked) {
                    Ok(permit) => {
                        // Others may have let time pass since it was asked for.
                        assert!(now() >= held, "admitted at {asked:?}, held until {held:?}");
                        break permit;
                    }
                    Err(wait) if wait.reason == WaitReason::Held => {
                        let until = wait.until.unwrap();
                        assert!(until > asked, "{wait:?} at {asked:?}");
                        let until_ms = u64::try_from(until.0.as_millis()).unwrap();
                        clock.fetch_max(until_ms, Ordering::Relaxed);
                    }
                    Err(wait) => world.bells[&wait.on].wait_past(heard),
                }
            };
            world.run_under(&permit);
            permit.end(now());
        });
        assert!(world.0.gate.try_admit(&key("r", "a"), Mono::from_ms(60_000)).is_ok());
    });
}

#[test]
fn a_crawl_delay_that_comes_while_in_use_holds_for_all_who_ask_after() {
    explore(|| {
        let mut world = World::new(None);
        world.most.insert(limit_host("a"), 2);
        world.gate.set(limit_host("a"), at_once(2));
        let slowed = AtomicBool::new(false);
        let world = Arc::new((world, slowed));
        let inside = Arc::clone(&world);
        in_parallel(3, move |number| {
            let (world, slowed) = &*inside;
            if number == 0 {
                let permit = world.admit(&key("", "a"));
                world.gate.slow_down(&limit_host("a"), Duration::from_hours(1));
                slowed.store(true, Ordering::Relaxed);
                permit.end(NOW);
                return;
            }
            for _ in 0..2 {
                let alone = slowed.load(Ordering::Relaxed);
                if let Ok(permit) = world.gate.try_admit(&key("", "a"), NOW) {
                    let out = world.out[&limit_host("a")].load(Ordering::Relaxed);
                    assert!(!alone || out == 0, "admitted beside {out} others");
                    world.run_under(&permit);
                }
            }
        });
        let (hour_on, key) = (NOW.plus(Duration::from_hours(1)), key("", "a"));
        assert_eq!(world.0.gate.try_admit(&key, NOW).unwrap_err().reason, WaitReason::Rate);
        assert!(world.0.gate.try_admit(&key, hour_on).is_ok());
    });
}

/// On one thread, so that every lock counted is its own.
#[test]
fn the_hook_is_called_with_no_lock_held() {
    let scenario = || {
        let gate = World::new(one_token()).gate;
        let calls = Arc::new(std::sync::Mutex::new(Vec::new()));
        let record = Arc::clone(&calls);
        gate.on_release(move |key| record.lock().unwrap().push((key.clone(), locks().held)));
        let refused = |key: &Key| assert!(gate.try_admit(key, NOW).is_err());
        let (a, ra) = (key("", "a"), key("r", "a"));

        let permit = gate.try_admit(&ra, NOW).unwrap();
        refused(&a);
        refused(&key("r", "b"));
        permit.refund();
        let permit = gate.try_admit(&a, NOW).unwrap();
        refused(&a);
        gate.set(limit_host("a"), KeyLimits { max_concurrent: Some(2), rate: one_token() });
        drop(permit);
        drop(gate.try_admit(&a, NOW).unwrap());
        refused(&a);
        gate.set(limit_host("a"), KeyLimits::default());

        let (r, a) = (limit_resolver("r"), limit_host("a"));
        let expected = [(a.clone(), 0), (r, 0), (a.clone(), 0), (a, 0)];
        assert_eq!(*calls.lock().unwrap(), expected);
    };
    shuttle::check_random(scenario, 1);
}

#[test]
fn the_hook_is_called_once_for_each_return_that_followed_a_refusal() {
    explore(|| {
        let limiter = KeyedLimiter::new(Some(2));
        let (told, refused, returned) = (AtomicI64::new(0), AtomicI64::new(0), AtomicI64::new(0));
        let counts = Arc::new((told, refused, returned));
        let telling = Arc::clone(&counts);
        limiter.on_release(move |_| {
            telling.0.fetch_add(1, Ordering::Relaxed);
        });
        let (inside, counted) = (limiter.clone(), Arc::clone(&counts));
        in_parallel(3, move |_| {
            for _ in 0..2 {
                let slots = inside.try_acquire(&key("", "a"));
                let count = if slots.is_ok() { &counted.2 } else { &counted.1 };
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let [told, refused, returned] =
            [&counts.0, &counts.1, &counts.2].map(|count| count.load(Ordering::Relaxed));
        assert!(
            told <= refused.min(returned),
            "{told} calls, {refused} refusals, {returned} returns"
        );
        assert!(refused == 0 || told > 0, "the last return was after the last refusal");
    });
}

#[test]
fn a_bucket_never_gives_more_than_burst_plus_rate_times_time() {
    explore(|| {
        let rate = Rate { count: 2, per: Duration::from_nanos(3), burst: 2 };
        let bucket = Arc::new(TokenBucket::new(rate));
        // A clock that every thread moves, and takes not refunded.
        let state = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
        in_parallel(3, move |_| {
            let (clock, taken) = &*state;
            for _ in 0..4 {
                let step = thread_rng().gen_range(0..3);
                let now =
                    Mono(Duration::from_nanos(clock.fetch_add(step, Ordering::Relaxed) + step));
                if bucket.try_take(now).is_err() {
                    continue;
                }
                let out = taken.fetch_add(1, Ordering::Relaxed) + 1;
                let grown = clock.load(Ordering::Relaxed) * 2 / 3;
                assert!(out <= 2 + grown, "{out} taken when {grown} had grown");
                if thread_rng().gen_bool(0.3) {
                    taken.fetch_sub(1, Ordering::Relaxed);
                    let _ = bucket.refund();
                }
            }
        });
    });
}

#[test]
fn a_key_that_nothing_limits_takes_no_lock() {
    shuttle::check_random(
        || {
            let gate = World::new(one_token()).gate;
            let before = locks().taken;
            let permit = gate.try_admit(&Key::default(), NOW).unwrap();
            permit.refund();
            drop(gate.try_admit(&Key::default(), NOW).unwrap());
            assert_eq!(gate.free(&Key::default(), NOW), None);
            gate.answered(&limit_host("a"), NOW, NOW);
            assert_eq!(gate.given_up(&key("r", "a"), NOW), None);
            assert_eq!(locks().taken, before, "nor is one taken to find that nothing is held");
            drop(gate.try_admit(&key("", "a"), NOW).unwrap());
            assert!(locks().taken > before);
        },
        1,
    );
}
