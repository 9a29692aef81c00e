//! [`Gate::slow_down`] and [`Permit::end`]: what a server asks of us beside what was set, and from when its interval counts.

use std::time::Duration;

use super::super::pages::MAX_REMEMBERED;
use super::super::{Gate, KeyLimits, Limits, Permit, Rate, Wait, WaitReason};
use super::{Told, both, host, limit_host, limit_resolver, resolver};
use crate::job::{Key, LimitKey, Mono};

const TEN_SEC: Duration = Duration::from_secs(10);

fn sec(sec: u64) -> Mono {
    Mono::from_ms(sec * 1_000)
}

fn terms(most: Option<u32>, rate: &str) -> KeyLimits {
    let rate = Some(rate).filter(|rate| !rate.is_empty());
    KeyLimits { max_concurrent: most, rate: rate.map(|rate| Rate::parse(rate).unwrap()) }
}

fn gate(of_a: KeyLimits) -> Gate {
    let by_key = [(limit_host("a.org"), of_a)].into();
    Gate::new(Limits { max_per_host: Some(4), by_key, ..Limits::default() })
}

fn admit(gate: &Gate, at: Mono) -> Permit {
    gate.try_admit(&host("a.org"), at).unwrap()
}

fn next_token(gate: &Gate, key: &Key, at: Mono) -> Option<Mono> {
    let Wait { reason, until, .. } = gate.try_admit(key, at).unwrap_err();
    assert_eq!(reason, WaitReason::Rate);
    until
}

#[test]
fn a_crawl_delay_is_one_at_a_time_and_one_per_interval_unless_stricter_terms_are_set() {
    for (own, delay_sec, most, interval_sec) in [
        (terms(None, ""), 10, 1, 10),
        (terms(Some(3), "1/s"), 10, 1, 10),
        (terms(Some(1), "1/3s"), 2, 1, 3),
        (terms(None, "1/min"), 10, 1, 60),
    ] {
        let gate = gate(own);
        gate.slow_down(&limit_host("a.org"), Duration::from_secs(delay_sec));
        assert_eq!(gate.max_concurrent(&host("a.org")), Some(most), "{own:?}");
        drop(admit(&gate, sec(100)));
        let next = next_token(&gate, &host("a.org"), sec(100));
        assert_eq!(next, Some(sec(100 + interval_sec)), "{own:?} and {delay_sec} s");
        assert_eq!(gate.max_concurrent(&host("b.org")), Some(4));
    }
    let gate = gate(terms(Some(0), ""));
    gate.slow_down(&limit_host("a.org"), TEN_SEC);
    assert_eq!(gate.max_concurrent(&host("a.org")), Some(0), "a paused host stays paused");
}

#[test]
fn a_crawl_delay_can_be_said_again_and_changed_and_outlives_what_is_set() {
    let (gate, a, key) = (gate(terms(Some(3), "")), limit_host("a.org"), host("a.org"));
    gate.slow_down(&a, TEN_SEC);
    drop(admit(&gate, sec(100)));
    gate.slow_down(&a, TEN_SEC);
    gate.slow_down(&a, Duration::ZERO);
    assert_eq!(next_token(&gate, &key, sec(105)), Some(sec(110)));
    gate.set(a.clone(), terms(Some(2), "1/s"));
    assert_eq!(gate.max_concurrent(&key), Some(1));
    drop(admit(&gate, sec(110)));
    assert_eq!(next_token(&gate, &key, sec(110)), Some(sec(120)));
    gate.slow_down(&a, Duration::from_secs(5));
    drop(admit(&gate, sec(120)));
    assert_eq!(next_token(&gate, &key, sec(120)), Some(sec(125)));
}

#[test]
fn a_crawl_delay_lets_those_finish_who_are_in() {
    let gate = gate(terms(Some(2), ""));
    let both = [admit(&gate, sec(1)), admit(&gate, sec(1))];
    gate.slow_down(&limit_host("a.org"), TEN_SEC);
    let refused = gate.try_admit(&host("a.org"), sec(1)).unwrap_err();
    assert_eq!(refused.reason, WaitReason::Full { running: 2, limit: 1 });
    both.into_iter().for_each(|permit| permit.end(sec(2)));
    assert_eq!(next_token(&gate, &host("a.org"), sec(2)), Some(sec(12)));
}

#[test]
fn of_too_many_crawl_delays_the_one_said_longest_ago_goes_and_who_waits_for_it_is_told() {
    let gate = gate(terms(Some(3), "1/s"));
    let told = Told::default();
    gate.on_release(told.hook());
    let a = limit_host("a.org");
    let slowed = |n: usize| LimitKey::Host(format!("h{n}.org").into());
    gate.slow_down(&slowed(0), TEN_SEC);
    gate.slow_down(&a, TEN_SEC);
    (1..MAX_REMEMBERED - 1).for_each(|n| gate.slow_down(&slowed(n), TEN_SEC));
    gate.slow_down(&slowed(0), TEN_SEC);
    let _in = admit(&gate, sec(1));
    gate.try_admit(&host("a.org"), sec(1)).unwrap_err();
    assert_eq!(told.take(), []);
    gate.slow_down(&slowed(MAX_REMEMBERED), TEN_SEC);
    assert_eq!(told.take(), [a]);
    assert_eq!(gate.max_concurrent(&host("a.org")), Some(3), "what was set holds again");
    assert_eq!(gate.max_concurrent(&host("h0.org")), Some(1));
}

#[test]
fn where_one_runs_at_a_time_the_interval_counts_from_the_end_of_the_answer() {
    let key = host("a.org");
    for (own, next) in [
        (terms(Some(1), "1/3s"), Some(sec(110))),
        (terms(Some(1), "2/6s"), Some(sec(110))),
        (terms(Some(2), "1/3s"), None),
    ] {
        let gate = gate(own);
        admit(&gate, sec(100)).end(sec(107));
        match next {
            Some(next) => assert_eq!(next_token(&gate, &key, sec(107)), Some(next), "{own:?}"),
            None => assert!(gate.try_admit(&key, sec(107)).is_ok(), "{own:?}"),
        }
    }
    let gate = gate(terms(Some(1), "1/3s"));
    drop(admit(&gate, sec(100)));
    assert!(gate.try_admit(&key, sec(107)).is_ok(), "a dropped permit counts from its start");
    admit(&gate, sec(110)).refund();
    assert!(gate.try_admit(&key, sec(110)).is_ok(), "a refunded one not at all");
}

#[test]
fn the_end_of_a_request_concerns_every_part_that_runs_one_at_a_time() {
    let gate = gate(terms(None, "1/s"));
    gate.set(limit_resolver("r"), terms(Some(1), "1/5s"));
    gate.try_admit(&both("r", "a.org"), sec(100)).unwrap().end(sec(104));
    assert_eq!(next_token(&gate, &resolver("r"), sec(104)), Some(sec(109)));
    assert!(gate.try_admit(&host("a.org"), sec(104)).is_ok());
    gate.try_admit(&Key::default(), sec(1)).unwrap().end(sec(2));
}

/// robots.txt is asked for before its crawl delay is known.
#[test]
fn a_crawl_delay_counts_from_the_end_of_the_request_that_brought_it() {
    let gate = gate(terms(Some(3), ""));
    let permit = admit(&gate, sec(100));
    gate.slow_down(&limit_host("a.org"), TEN_SEC);
    permit.end(sec(101));
    assert_eq!(next_token(&gate, &host("a.org"), sec(101)), Some(sec(111)));
}

#[test]
fn whoever_is_told_of_the_end_finds_the_next_token_at_its_time() {
    let gate = gate(terms(Some(1), "1/3s"));
    let told = Told::default();
    gate.on_release(told.hook());
    let permit = admit(&gate, sec(100));
    gate.try_admit(&host("a.org"), sec(101)).unwrap_err();
    permit.end(sec(107));
    assert_eq!(told.take(), [limit_host("a.org")]);
    assert_eq!(next_token(&gate, &host("a.org"), sec(107)), Some(sec(110)));
}
