//! How keys are said to stand, on keys made by hand.

use std::time::Duration;

use super::standing::{Moment, Obstacle, Terrain, name};
use super::*;
use crate::job::{Mono, WallMs};
use crate::limit::Limits;
use crate::queue::store::{Counts, Holder, Pace};
use crate::share::{
    Breaker, BreakerState, Bucket, Configured, Hold, KeyChange, KeyLimits, KeyRecord, Rate, Share,
    Told,
};

/// 2026-01-31T14:00:00Z, an hour after the machine was started.
pub(in crate::cli) const NOW: Moment =
    Moment { mono: Mono::from_ms(3_600_000), wall: WallMs(1_769_868_000_000) };

/// The limits of a configuration that names one host and one resolver.
pub(in crate::cli) fn limits() -> Limits {
    let mut limits = Limits { max_per_host: Some(4), ..Limits::default() };
    limits.by_key.insert(host("arxiv.org"), at_most(1, Some("1/3s")));
    limits.by_key.insert(LimitKey::Resolver("crossref".into()), at_most(3, None));
    limits
}

pub(in crate::cli) fn host(name: &str) -> LimitKey {
    LimitKey::Host(name.into())
}

pub(in crate::cli) fn at_most(most: u32, rate: Option<&str>) -> KeyLimits {
    let rate = rate.map(|rate| Rate::parse(rate).unwrap());
    KeyLimits { max_concurrent: Some(most), rate }
}

/// So long from now.
pub(in crate::cli) fn ahead(ms: u64) -> Mono {
    NOW.mono.plus(Duration::from_millis(ms))
}

/// A host of which nothing is known but that it has jobs, as a run with [`limits`] sees it.
pub(in crate::cli) fn view(name: &str, queued: u64) -> KeyView {
    let key = host(name);
    let limits = limits();
    let configured = Terrain { now: NOW, limits: &limits, is_run: false }.configured(&key);
    KeyView {
        key,
        record: KeyRecord::default(),
        configured,
        holders: Vec::new(),
        counts: Counts { queued, ..Counts::default() },
        pace: Pace::default(),
    }
}

/// The same with that record.
pub(in crate::cli) fn recorded(name: &str, queued: u64, record: KeyRecord) -> KeyView {
    KeyView { record, ..view(name, queued) }
}

/// The same with so many slots in the hands of a process that is not there.
pub(in crate::cli) fn held_by(process: u32, running: u32, view: KeyView) -> KeyView {
    let share = Share { slots: running, running, ..Share::default() };
    let holder =
        Holder { owner: "0193-abc".into(), directory: None, process: Some(process), share };
    KeyView { holders: vec![holder], ..view }
}

pub(in crate::cli) fn paused() -> KeyRecord {
    KeyRecord { paused: true, ..KeyRecord::default() }
}

/// Told a minute ago to be left alone until so long from now.
pub(in crate::cli) fn told(until_ms: u64) -> KeyRecord {
    let now = Mono::from_ms(NOW.mono.0.as_millis() as u64 - 60_000);
    let after = Some(Duration::from_millis(60_000 + until_ms));
    let hold = Some(Hold::new(Told { asked_at: now, now, after }));
    KeyRecord { hold, trouble_since: Some(now), ..KeyRecord::default() }
}

/// Its breaker opened half a minute ago, for so much longer.
pub(in crate::cli) fn down(until_ms: u64) -> KeyRecord {
    let since = Mono::from_ms(NOW.mono.0.as_millis() as u64 - 30_000);
    let state = BreakerState::Open { until: ahead(until_ms) };
    let breaker = Breaker { failures: 5, state, since, ..Breaker::default() };
    KeyRecord { breaker, trouble_since: Some(since), ..KeyRecord::default() }
}

/// The next token comes in so long.
pub(in crate::cli) fn spent(rate: &str, left_ms: u64) -> KeyRecord {
    let rate = Rate::parse(rate).unwrap();
    let interval = rate.per / rate.count;
    let at = Mono((NOW.mono.0 + Duration::from_millis(left_ms)).saturating_sub(interval));
    KeyRecord { bucket: Some(Bucket::empty(rate, at)), ..KeyRecord::default() }
}

#[track_caller]
fn check_why(view: &KeyView, code: Option<&str>, words: Option<&str>) {
    let limits = limits();
    let stand = Terrain { now: NOW, limits: &limits, is_run: true }.stand(view);
    assert_eq!(stand.obstacle.map(Obstacle::name), code);
    assert_eq!(stand.why(NOW).as_deref(), words);
}

#[test]
fn a_key_says_why_its_jobs_wait_and_until_when() {
    let half_open = KeyRecord {
        breaker: Breaker {
            failures: 0,
            state: BreakerState::HalfOpen { successes: 1 },
            since: Mono::from_ms(3_590_000),
            ..Breaker::default()
        },
        ..KeyRecord::default()
    };
    check_why(&view("a.org", 9), None, None);
    check_why(&recorded("a.org", 9, paused()), Some("paused"), Some("paused"));
    check_why(
        &recorded("a.org", 9, told(131_000)),
        Some("held"),
        Some("told to slow down: held until 14:02:11Z (2 min)"),
    );
    check_why(
        &recorded("a.org", 9, down(30_000)),
        Some("open"),
        Some("down since 13:59:30Z, asked again at 14:00:30Z (in 30 s)"),
    );
    check_why(
        &recorded("a.org", 0, half_open),
        Some("half_open"),
        Some("half-open since 13:59:50Z: one request at a time"),
    );
    check_why(&held_by(7, 4, view("a.org", 9)), Some("full"), Some("full"));
    check_why(&held_by(7, 4, view("a.org", 0)), Some("full"), None);
    check_why(
        &recorded("arxiv.org", 9, spent("1/3s", 2_100)),
        Some("rate"),
        Some("next token in 2.1 s"),
    );
    check_why(
        &held_by(7, 1, recorded("arxiv.org", 9, spent("1/3s", 2_100))),
        Some("full"),
        Some("full, next token in 2.1 s"),
    );
}

#[test]
fn a_key_that_is_not_worth_waiting_for_says_so() {
    let hours = recorded("a.org", 9, told(7_200_000));
    let words = "given up until 16:00:00Z (rate_limited): its jobs end";
    check_why(&hours, Some("given_up"), Some(words));
}

#[test]
fn a_breaker_whose_time_has_passed_is_half_open() {
    let record = KeyRecord {
        breaker: Breaker {
            failures: 5,
            state: BreakerState::Open { until: Mono::from_ms(3_599_000) },
            since: Mono::from_ms(3_539_000),
            ..Breaker::default()
        },
        ..KeyRecord::default()
    };
    let view = recorded("a.org", 1, record);
    check_why(&view, Some("half_open"), Some("half-open since 13:59:59Z: one request at a time"));
    let limits = limits();
    let stand = Terrain { now: NOW, limits: &limits, is_run: true }.stand(&view);
    assert_eq!(stand.running_words(), "0 of 1", "one probe at a time");
}

#[test]
fn without_a_run_the_limits_are_those_of_the_configuration() {
    let limits = limits();
    let nothing = KeyView { configured: Configured::default(), ..view("arxiv.org", 1) };
    let here = Terrain { now: NOW, limits: &limits, is_run: false };
    assert_eq!(here.stand(&nothing).configured.limits, at_most(1, Some("1/3s")));
    let of_others = Configured { limits: at_most(3, None), is_fixed: true };
    let declared = KeyView { configured: of_others, ..nothing };
    let there = Terrain { is_run: true, ..here };
    assert_eq!(there.stand(&declared).configured, of_others);
}

#[test]
fn jobs_pass_as_fast_as_slots_rate_and_durations_allow() {
    let limits = limits();
    let terrain = Terrain { now: NOW, limits: &limits, is_run: true };
    let speed = |name: &str, attempts: u64, elapsed_ms: u64| {
        let pace = Pace { attempts, elapsed_ms };
        terrain.stand(&KeyView { pace, ..view(name, 1) }).jobs_per_second()
    };
    let near = |speed: Option<f64>, expected: f64| {
        let speed = speed.unwrap();
        assert!((speed - expected).abs() < expected / 100.0, "{speed}, not {expected}");
    };
    near(speed("a.org", 10, 20_000), 4.0 / 2.0);
    // One at a time: the interval counts from the end of each.
    near(speed("arxiv.org", 10, 20_000), 1.0 / 5.0);
    near(speed("arxiv.org", 0, 0), 1.0 / 3.0);
    assert_eq!(speed("a.org", 0, 0), None);
}

#[test]
fn troubled_keys_with_work_come_first_and_then_the_busiest() {
    let mut first = First::new(3);
    let limits = limits();
    let terrain = Terrain { now: NOW, limits: &limits, is_run: true };
    for view in [
        view("few.org", 1),
        recorded("idle-held.org", 0, told(5_000)),
        view("nothing.org", 0),
        view("many.org", 90),
        recorded("held.org", 2, told(5_000)),
    ] {
        first.add(view, &terrain);
    }
    let (views, left_out) = first.end();
    let names: Vec<String> = views.iter().map(|view| name(&view.key)).collect();
    assert_eq!((names.join(" "), left_out), ("held.org many.org few.org".to_owned(), 2));
}

#[test]
fn what_was_left_out_of_very_many_is_counted() {
    let mut first = First::new(2);
    let limits = limits();
    let terrain = Terrain { now: NOW, limits: &limits, is_run: true };
    for nth in 0..5_000 {
        first.add(view(&format!("h{nth}.org"), nth), &terrain);
    }
    let (views, left_out) = first.end();
    let names: Vec<String> = views.iter().map(|view| name(&view.key)).collect();
    assert_eq!((names.join(" "), left_out), ("h4999.org h4998.org".to_owned(), 4_998));
}

#[track_caller]
fn check_said(is_run: bool, view: &KeyView, change: KeyChange, expected: &[&str]) {
    let limits = limits();
    let terrain = Terrain { now: NOW, limits: &limits, is_run };
    assert_eq!(change::said(&terrain, view, &change), expected);
}

#[test]
fn a_change_says_how_the_key_stands_then() {
    let set = |most: u32| KeyChange { max_concurrent: Some(Some(most)), ..KeyChange::default() };
    let with = |name: &str, limits: KeyLimits| {
        recorded(name, 9, KeyRecord { set: limits, ..KeyRecord::default() })
    };
    check_said(
        true,
        &with("a.org", at_most(2, Some("1/3s"))),
        set(2),
        &["a.org: at most 2 at once (set), 1/3s; 0 running, 9 waiting"],
    );
    check_said(
        true,
        &with("arxiv.org", at_most(6, None)),
        set(6),
        &[
            "arxiv.org: at most 1 at once (configured), 1/3s; 0 running, 9 waiting",
            "arxiv.org: 6 at once were set, but 1 hold: a run in progress was configured with less",
        ],
    );
    let faster = Rate::parse("5/s").unwrap();
    check_said(
        false,
        &with("arxiv.org", KeyLimits { max_concurrent: None, rate: Some(faster) }),
        KeyChange { rate: Some(Some(faster)), ..KeyChange::default() },
        &[
            "arxiv.org: at most 1 at once (configured), 1/3s; 0 running, 9 waiting",
            "arxiv.org: 5/s (burst 5) was set, but 1/3s holds: it is stricter",
        ],
    );
    check_said(
        true,
        &recorded("a.org", 9, paused()),
        KeyChange { paused: Some(true), ..KeyChange::default() },
        &["a.org: at most 4 at once (configured); 0 running, 9 waiting; paused"],
    );
    check_said(
        true,
        &view("a.org", 9),
        KeyChange { paused: Some(false), forgive: true, ..KeyChange::default() },
        &["a.org: at most 4 at once (configured); 0 running, 9 waiting; asks again now"],
    );
}

#[test]
fn a_key_in_json_has_all_its_names() {
    let limits = limits();
    let terrain = Terrain { now: NOW, limits: &limits, is_run: true };
    let view = held_by(u32::MAX, 1, recorded("arxiv.org", 9, spent("1/3s", 2_100)));
    let json = KeyJson::new(&terrain.stand(&view), NOW, &mut Processes::default());
    let json = serde_json::to_value(json).unwrap();
    for (path, value) in [
        ("/kind", serde_json::json!("host")),
        ("/name", "arxiv.org".into()),
        ("/running", 1.into()),
        ("/max_concurrent", 1.into()),
        ("/binds", "configured".into()),
        ("/rate", "1/3s".into()),
        ("/waiting", 9.into()),
        ("/why", "full".into()),
        ("/next_token_at", "2026-01-31T14:00:02.100Z".into()),
        ("/breaker/state", "closed".into()),
        ("/counts/total", 9.into()),
        ("/holders/0/process", u32::MAX.into()),
        ("/holders/0/state", "unseen".into()),
        ("/holders/0/slots", 1.into()),
    ] {
        assert_eq!(json.pointer(path), Some(&value), "{path}: {json:#}");
    }
}
