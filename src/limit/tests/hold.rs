//! [`Gate::hold`] and what follows from it: whom a server's word keeps out, for how long, and when it is not worth it.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::super::pages::MAX_REMEMBERED;
use super::super::{Gate, GivenUp, KeyLimits, KeyStatus, Limits, Told, Wait, WaitReason};
use super::{both, host, limit_host, limit_resolver, resolver};
use crate::job::{Key, LimitKey, Mono};

fn sec(sec: u64) -> Mono {
    Mono::from_ms(sec * 1_000)
}

/// An answer at `now` to a request sent just before.
fn told(now: Mono, after_sec: Option<u64>) -> Told {
    Told { asked_at: now, now, after: after_sec.map(Duration::from_secs) }
}

fn gate() -> Gate {
    Gate::new(Limits::default())
}

fn held(on: LimitKey, until: Mono) -> Wait {
    Wait { on, reason: WaitReason::Held, until: Some(until) }
}

#[test]
fn a_held_key_is_refused_until_its_time_has_come_and_others_are_not() {
    let gate = gate();
    let (a, r) = (limit_host("a.org"), limit_resolver("r"));
    assert_eq!(gate.hold(&a, told(sec(10), Some(5))), sec(15));
    let almost = Mono(sec(15).0 - Duration::from_nanos(1));
    for key in [host("a.org"), both("r", "a.org")] {
        assert_eq!(gate.try_admit(&key, almost).unwrap_err(), held(a.clone(), sec(15)));
        assert_eq!(gate.free(&key, almost), Some(0));
        assert_eq!((gate.try_admit(&key, sec(15)).is_ok(), gate.free(&key, sec(15))), (true, None));
    }
    for key in [host("b.org"), resolver("r"), Key::default()] {
        assert!(gate.try_admit(&key, almost).is_ok(), "{key}");
    }
    gate.hold(&r, told(sec(10), Some(9)));
    let first = gate.try_admit(&both("r", "a.org"), almost).unwrap_err();
    assert_eq!(first, held(r, sec(19)), "the resolver comes first");
}

#[test]
fn retry_after_is_obeyed_and_without_it_the_wait_doubles_up_to_a_minute() {
    let (gate, a) = (gate(), limit_host("a.org"));
    let mut now = sec(1);
    let mut check = |after: Option<u64>, wait: u64| {
        let until = gate.hold(&a, told(now, after));
        assert_eq!(until.since(now), Duration::from_secs(wait), "at {now:?}");
        now = until;
    };
    let waits = [1, 2, 4, 8, 16, 32, 60, 60];
    waits.iter().zip([None, Some(0)].iter().cycle()).for_each(|(wait, after)| check(*after, *wait));
    (0..60).for_each(|_| check(None, 60));
    check(Some(3), 3);
    check(Some(54_000), 54_000);
}

#[test]
fn requests_that_were_in_flight_tell_of_one_event() {
    let (gate, a) = (gate(), limit_host("a.org"));
    let answer = |asked, now, after: Option<u64>| {
        let after = after.map(Duration::from_secs);
        gate.hold(&a, Told { asked_at: sec(asked), now: sec(now), after })
    };
    assert_eq!(answer(5, 10, None), sec(11));
    for _ in 0..8 {
        assert_eq!(answer(9, 10, None), sec(11), "sent before it began");
        assert_eq!(answer(10, 10, None), sec(11), "sent as it began");
    }
    assert_eq!(answer(9, 12, None), sec(13), "lengthened by the same step");
    assert_eq!(answer(9, 12, Some(8)), sec(20));
    assert_eq!(answer(9, 13, Some(2)), sec(20), "never shortened");
    assert_eq!(answer(20, 21, None), sec(23), "the second event");
    assert_eq!(answer(20, 22, None), sec(24));
    assert_eq!(answer(25, 26, None), sec(30), "the third");
}

#[test]
fn a_proper_answer_begins_at_the_first_step_again_and_lifts_nothing() {
    let (gate, a) = (gate(), limit_host("a.org"));
    gate.answered(&a, Mono::default(), Mono::default());
    gate.hold(&a, told(sec(10), None));
    gate.hold(&a, told(sec(20), None));
    assert_eq!(gate.hold(&a, told(sec(30), None)), sec(34));
    gate.answered(&a, Mono::default(), Mono::default());
    let waits = gate.try_admit(&host("a.org"), sec(33)).unwrap_err();
    assert_eq!(waits, held(a.clone(), sec(34)), "what was in flight may have been lucky");
    assert!(gate.try_admit(&host("a.org"), sec(34)).is_ok());
    assert_eq!(gate.hold(&a, told(sec(40), None)), sec(41));
    assert!(gate.try_admit(&host("a.org"), sec(41)).is_ok());
    gate.answered(&a, Mono::default(), Mono::default());
    assert_eq!(gate.hold(&a, told(sec(50), None)), sec(51));
}

#[test]
fn a_hold_further_away_than_worth_waiting_is_given_up_for_as_long_as_that() {
    let (gate, a, key) = (gate(), limit_host("a.org"), both("r", "a.org"));
    let until = gate.hold(&a, told(sec(100), Some(901)));
    let given_up = GivenUp { on: a.clone(), until, why: crate::share::WhyGivenUp::RateLimited };
    assert_eq!(gate.given_up(&key, sec(100)), Some(given_up));
    assert_eq!(gate.given_up(&resolver("r"), sec(100)), None);
    assert_eq!(gate.given_up(&key, sec(101)), None, "900 s are worth waiting");
    assert_eq!(gate.try_admit(&key, sec(101)).unwrap_err(), held(a, sec(1_000)));
}

/// At 1,000 s the series is as old as is waited for, and jobs come up: whoever was refused was told that time.
#[test]
fn a_key_held_again_and_again_without_success_is_given_up_while_it_is_held() {
    let (gate, a, key) = (gate(), limit_host("a.org"), host("a.org"));
    gate.hold(&a, told(sec(100), Some(300)));
    gate.hold(&a, told(sec(401), Some(300)));
    assert_eq!(gate.hold(&a, told(sec(702), Some(400))), sec(1_102));
    assert_eq!(gate.given_up(&key, sec(999)), None);
    assert_eq!(gate.try_admit(&key, sec(999)).unwrap_err(), held(a.clone(), sec(1_000)));
    assert!(gate.given_up(&key, sec(1_000)).is_some());
    assert_eq!(gate.given_up(&key, sec(1_102)), None, "its end has come: somebody may try");
    assert!(gate.try_request(&key, sec(1_102)).is_ok());
    gate.hold(&a, told(sec(1_103), None));
    assert!(gate.given_up(&key, sec(1_103)).is_some(), "it is as bad as before");
    gate.answered(&a, sec(1_102), sec(1_103));
    assert_eq!(gate.given_up(&key, sec(1_103)), None);
}

#[test]
fn a_key_that_is_given_up_admits_jobs_for_a_slot_and_no_token_and_no_request() {
    let a = limit_host("a.org");
    let terms = KeyLimits { max_concurrent: Some(2), rate: Some("1/day".parse().unwrap()) };
    let limits = Limits { by_key: HashMap::from([(a.clone(), terms)]), ..Limits::default() };
    let (gate, key, now) = (Gate::new(limits), host("a.org"), sec(10));
    let before = gate.try_admit(&key, now).unwrap();
    let until = gate.hold(&a, told(now, Some(10_000)));
    let refused = held(a.clone(), until);
    assert_eq!(gate.free(&key, now), Some(1));
    let permit = gate.try_admit(&key, now).unwrap();
    assert!(matches!(gate.try_admit(&key, now).unwrap_err().reason, WaitReason::Full { .. }));
    assert_eq!(gate.try_request(&key, now).unwrap_err(), refused);
    assert_eq!(gate.redeem(permit, now).unwrap_err(), refused);
    assert_eq!(gate.redeem(before, now).unwrap_err(), refused, "also one from before");

    let permit = gate.try_admit(&key, now).unwrap();
    let permit = gate.redeem(permit, until).unwrap();
    assert_eq!(gate.free(&key, until), Some(0), "the token, refunded before, was taken now");
    permit.end(until);
    let permit = gate.try_admit(&key, now).unwrap();
    assert_eq!(gate.redeem(permit, until).unwrap_err().reason, WaitReason::Rate);
    assert_eq!(gate.status(until, 9)[0].running, 0, "its slot is back");
}

#[test]
fn a_permit_from_before_a_hold_that_is_over_is_good() {
    let (gate, a, key) = (gate(), limit_host("a.org"), host("a.org"));
    let permit = gate.try_admit(&key, sec(1)).unwrap();
    gate.hold(&a, told(sec(2), Some(3)));
    let permit = gate.redeem(permit, sec(5)).unwrap();
    assert_eq!(permit.key(), &key);
}

#[test]
fn status_shows_what_is_held_and_until_when() {
    let gate = gate();
    let _running = gate.try_admit(&host("a.org"), sec(1)).unwrap();
    gate.hold(&limit_host("a.org"), told(sec(1), Some(5)));
    gate.hold(&limit_host("b.org"), told(sec(1), Some(9)));
    let row = |name: &str, running, until| KeyStatus {
        key: limit_host(name),
        running,
        limit: None,
        next_token: None,
        held_until: until,
        waiting: until.map(|_| WaitReason::Held),
    };
    let rows = [row("a.org", 1, Some(sec(6))), row("b.org", 0, Some(sec(10)))];
    assert_eq!(gate.status(sec(5), 9), rows);
    assert_eq!(gate.status(sec(6), 9), [row("a.org", 1, None), rows[1].clone()]);
    assert_eq!(gate.status(sec(10), 9), [row("a.org", 1, None)]);
}

#[test]
fn holds_are_forgotten_when_answered_or_long_over() {
    let gate = gate();
    let (a, b) = (limit_host("a.org"), limit_host("b.org"));
    let remembered = |now| {
        let _ = gate.transitions(now);
        gate.remembered()
    };
    let answered = |key, now| gate.answered(key, now, now);
    gate.hold(&a, told(sec(1), Some(10)));
    answered(&a, sec(2));
    assert_eq!(remembered(sec(10)), 1, "it is still held");
    assert_eq!(remembered(sec(12)), 0);

    gate.hold(&a, told(sec(20), Some(10)));
    assert_eq!(remembered(sec(31)), 1, "nobody knows what it will say");
    answered(&a, sec(32));
    assert_eq!(remembered(sec(34)), 0);

    gate.hold(&a, told(sec(40), Some(10)));
    gate.hold(&b, told(sec(40), Some(20)));
    assert_eq!(remembered(sec(949)), 2);
    assert_eq!(remembered(sec(951)), 1);
    gate.hold(&a, told(sec(962), None));
    assert_eq!(remembered(sec(964)), 1);
    assert_eq!(remembered(sec(964 + 901)), 0);
}

#[test]
fn of_too_many_holds_the_one_that_ends_soonest_goes() {
    let gate = gate();
    let name = |n: usize| format!("h{n}.org");
    for n in 0..=MAX_REMEMBERED {
        let wait = if n == 77 { 10 } else { 20 };
        gate.hold(&limit_host(&name(n)), told(sec(1), Some(wait)));
    }
    assert_eq!(gate.status(sec(1), usize::MAX).len(), MAX_REMEMBERED);
    assert_eq!(gate.free(&host(&name(77)), sec(1)), None);
    assert_eq!(gate.free(&host(&name(MAX_REMEMBERED)), sec(1)), Some(0));
}

#[derive(Debug, Clone)]
enum Event {
    Pass { ms: u64 },
    Hold { part: usize, asked_ago_ms: u64, after_ms: Option<u64> },
    Answered { part: usize },
    Ask { key: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let after = prop_oneof![Just(None), (0_u64..20_000).prop_map(Some), Just(Some(2_000_000))];
    prop_oneof![
        (0_u64..3_000).prop_map(|ms| Event::Pass { ms }),
        Just(Event::Pass { ms: 400_000 }),
        (0..3_usize, 0_u64..5_000, after).prop_map(|(part, asked_ago_ms, after_ms)| Event::Hold {
            part,
            asked_ago_ms,
            after_ms
        }),
        (0..3_usize).prop_map(|part| Event::Answered { part }),
        (0..4_usize).prop_map(|key| Event::Ask { key }),
    ]
}

proptest! {
    #[test]
    fn between_a_hold_and_its_end_nobody_is_admitted_unless_it_is_given_up(
        events in prop::collection::vec(event(), 1..80),
    ) {
        let gate = gate();
        let limits = [limit_resolver("r"), limit_host("a.org"), limit_host("b.org")];
        let keys = [both("r", "a.org"), resolver("r"), host("a.org"), both("s", "b.org")];
        let mut until: HashMap<LimitKey, Mono> = HashMap::new();
        let mut now = sec(10);
        for event in events {
            match event {
                Event::Pass { ms } => now = now.plus(Duration::from_millis(ms)),
                Event::Hold { part, asked_ago_ms, after_ms } => {
                    let asked_at = Mono(now.0.saturating_sub(Duration::from_millis(asked_ago_ms)));
                    let after = after_ms.map(Duration::from_millis);
                    let given = gate.hold(&limits[part], Told { asked_at, now, after });
                    let before = until.insert(limits[part].clone(), given).unwrap_or_default();
                    prop_assert!(given > now && given >= before, "it shrank");
                    let least = after.filter(|after| !after.is_zero()).unwrap_or_default();
                    prop_assert!(given.since(now) >= least, "Retry-After is obeyed");
                }
                Event::Answered { part } => gate.answered(&limits[part], Mono::default(), Mono::default()),
                Event::Ask { key } => {
                    let key = &keys[key];
                    let held = key.limits().any(|part| until.get(&part).is_some_and(|end| *end > now));
                    let given_up = gate.given_up(key, now);
                    prop_assert!(held || given_up.is_none());
                    prop_assert_eq!(gate.try_request(key, now).is_err(), held);
                    match gate.try_admit(key, now) {
                        Ok(_) => prop_assert!(!held || given_up.is_some()),
                        Err(wait) => {
                            prop_assert!(held && given_up.is_none());
                            prop_assert!(wait.until.is_some_and(|end| end > now && end <= until[&wait.on]));
                            prop_assert_eq!(gate.free(key, now), Some(0));
                        }
                    }
                }
            }
        }
    }
}
