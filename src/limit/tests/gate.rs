//! [`Gate`]: every limit at once, or nothing.

use std::slice::from_ref;

use super::super::{Gate, KeyLimits, KeyStatus, Limits, Permit, Rate, Wait, WaitReason};
use super::{Told, both, host, limit_host, limit_resolver, resolver};
use crate::job::{Key, LimitKey, Mono};

const START: Mono = Mono::from_ms(1_000);

fn at_once(max: u32) -> KeyLimits {
    KeyLimits { max_concurrent: Some(max), rate: None }
}

fn rate(text: &str) -> KeyLimits {
    KeyLimits { max_concurrent: None, rate: Some(Rate::parse(text).unwrap()) }
}

fn gate(by_key: impl IntoIterator<Item = (LimitKey, KeyLimits)>) -> Gate {
    let by_key = by_key.into_iter().collect();
    Gate::new(Limits { max_per_host: Some(2), by_key, ..Limits::default() })
}

fn full(on: LimitKey, running: u32, limit: u32) -> Wait {
    Wait { on, reason: WaitReason::Full { running, limit }, until: None }
}

fn no_token(on: LimitKey, until: Mono) -> Wait {
    Wait { on, reason: WaitReason::Rate, until: Some(until) }
}

fn status(key: LimitKey, running: u32, limit: Option<u32>, next_token: Option<Mono>) -> KeyStatus {
    KeyStatus { key, running, limit, next_token, held_until: None, waiting: None }
}

#[test]
fn a_permit_can_travel_with_its_job() {
    fn travels<T: Send + 'static>(_: &T) {}
    let permit = gate([]).try_admit(&host("a.org"), START).unwrap();
    travels(&permit);
    let key = std::thread::spawn(move || permit.key().clone()).join().unwrap();
    assert_eq!(key, host("a.org"));
}

#[test]
fn a_key_with_neither_resolver_nor_host_is_always_admitted() {
    let (gate, free) = (gate([]), Key::default());
    let _held: Vec<Permit> = (0..100).map(|_| gate.try_admit(&free, START).unwrap()).collect();
    assert_eq!((gate.free(&free, START), gate.max_concurrent(&free)), (None, None));
    assert_eq!(gate.status(START, 10), []);
}

#[test]
fn the_first_to_refuse_is_resolver_slot_host_slot_resolver_token_host_token() {
    let (r, h) = (limit_resolver("r"), limit_host("h.org"));
    let one = |text: &str| KeyLimits { max_concurrent: Some(1), ..rate(text) };
    let gate = gate([(r.clone(), one("1/3s")), (h.clone(), one("1/5s"))]);
    let key = both("r", "h.org");
    let permit = gate.try_admit(&key, START).unwrap();
    assert_eq!(gate.try_admit(&key, START).unwrap_err(), full(r.clone(), 1, 1));
    gate.set(r.clone(), rate("1/3s"));
    assert_eq!(gate.try_admit(&key, START).unwrap_err(), full(h.clone(), 1, 1));
    drop(permit);
    assert_eq!(gate.try_admit(&key, START).unwrap_err(), no_token(r, Mono::from_ms(4_000)));
    assert_eq!(
        gate.try_admit(&key, Mono::from_ms(4_000)).unwrap_err(),
        no_token(h, Mono::from_ms(6_000))
    );
    assert!(gate.try_admit(&key, Mono::from_ms(6_000)).is_ok());
}

#[test]
fn a_refusal_at_the_last_stage_gives_everything_back_and_tells_nobody() {
    let (r, h) = (limit_resolver("r"), limit_host("h.org"));
    let gate = gate([
        (r, KeyLimits { max_concurrent: Some(1), ..rate("1/day") }),
        (h.clone(), rate("1/s")),
    ]);
    let told = Told::default();
    gate.on_release(told.hook());
    drop(gate.try_admit(&host("h.org"), START).unwrap());
    for _ in 0..3 {
        let until = Mono::from_ms(2_000);
        assert_eq!(
            gate.try_admit(&both("r", "h.org"), START).unwrap_err(),
            no_token(h.clone(), until)
        );
    }
    assert_eq!(gate.free(&resolver("r"), START), Some(1), "slot and token of the day are there");
    assert_eq!(told.take(), [], "nobody else was refused");
    assert!(gate.try_admit(&resolver("r"), START).is_ok());
}

#[test]
fn a_dropped_permit_has_spent_its_token_and_a_refunded_one_has_not() {
    let gate = gate([(limit_host("h.org"), rate("1/s"))]);
    let key = host("h.org");
    gate.try_admit(&key, START).unwrap().refund();
    assert_eq!(gate.free(&key, START), Some(1));
    drop(gate.try_admit(&key, START).unwrap());
    assert_eq!(gate.free(&key, START), Some(0));
    assert_eq!(gate.status(START, 10), [], "nothing runs and nobody waits");
}

#[test]
fn a_refund_tells_once_per_key_who_waits_for_slot_or_token() {
    let (r, h) = (limit_resolver("r"), limit_host("h.org"));
    let gate = gate([(r.clone(), rate("1/day")), (h.clone(), at_once(1))]);
    let told = Told::default();
    gate.on_release(told.hook());
    let permit = gate.try_admit(&both("r", "h.org"), START).unwrap();
    assert_eq!(gate.try_admit(&resolver("r"), START).unwrap_err().reason, WaitReason::Rate);
    gate.try_admit(&host("h.org"), START).unwrap_err();
    permit.refund();
    assert_eq!(told.take(), [h, r.clone()], "the host first");

    gate.set(r.clone(), KeyLimits { max_concurrent: Some(1), ..rate("1/day") });
    let permit = gate.try_admit(&resolver("r"), START).unwrap();
    gate.try_admit(&resolver("r"), START).unwrap_err();
    gate.set(r.clone(), rate("1/day"));
    assert_eq!(told.take(), from_ref(&r), "the limit was eased");
    gate.try_admit(&resolver("r"), START).unwrap_err();
    gate.set(r.clone(), KeyLimits { max_concurrent: Some(1), ..rate("2/day") });
    assert_eq!(told.take(), from_ref(&r), "who waits for a token is told of another rate");
    gate.try_admit(&resolver("r"), START).unwrap_err();
    permit.refund();
    assert_eq!(told.take(), [r]);
}

#[test]
fn free_is_what_slots_and_tokens_allow() {
    let (r, h) = (limit_resolver("r"), limit_host("h.org"));
    let burst =
        |burst| KeyLimits { rate: rate("1/s").rate.map(|r| r.with_burst(burst)), ..at_once(3) };
    let gate = gate([(r, burst(5)), (h, burst(2))]);
    let key = both("r", "h.org");
    let free = |key: &Key, ms| gate.free(key, Mono::from_ms(ms));
    assert_eq!(
        (free(&resolver("r"), 0), free(&host("h.org"), 0), free(&key, 0)),
        (Some(3), Some(2), Some(2))
    );
    let _held = gate.try_admit(&key, Mono::from_ms(0)).unwrap();
    assert_eq!((free(&resolver("r"), 0), free(&key, 0)), (Some(2), Some(1)));
    drop(gate.try_admit(&key, Mono::from_ms(0)).unwrap());
    assert_eq!(
        (free(&key, 999), free(&key, 1_000), free(&key, 9_000)),
        (Some(0), Some(1), Some(2))
    );
    assert_eq!(
        (gate.max_concurrent(&key), gate.max_concurrent(&host("other.org"))),
        (Some(3), Some(2))
    );
    assert_eq!(gate.free(&resolver("other"), START), None);
}

#[test]
fn names_from_the_configuration_are_normalised() {
    let spelled = |name: &str| LimitKey::Host(name.into());
    let gate = gate([
        (spelled("ArXiv.org."), KeyLimits { max_concurrent: Some(1), ..rate("5/s") }),
        (spelled("arxiv.ORG:443"), KeyLimits { max_concurrent: Some(7), ..rate("1/day") }),
        (LimitKey::Resolver("Europe-PMC".into()), at_once(4)),
        (spelled("not a host"), at_once(9)),
    ]);
    assert_eq!(gate.max_concurrent(&host("arxiv.org")), Some(1), "the stricter of two spellings");
    let permit = gate.try_admit(&host("arxiv.org"), START).unwrap();
    drop(permit);
    assert_eq!(
        gate.try_admit(&host("arxiv.org"), START).unwrap_err().until,
        Some(Mono::from_ms(86_401_000))
    );
    assert_eq!(gate.max_concurrent(&resolver("europe_pmc")), Some(4));
    gate.set(spelled("ARXIV.org"), at_once(3));
    assert_eq!(
        gate.free(&host("arxiv.org"), START),
        Some(3),
        "slots were set and the rate taken away"
    );
}

#[test]
fn a_rate_that_is_taken_away_or_changed_tells_who_waits_for_it() {
    let h = limit_host("h.org");
    let gate = gate([(h.clone(), rate("1/day"))]);
    let told = Told::default();
    gate.on_release(told.hook());
    let key = host("h.org");
    drop(gate.try_admit(&key, START).unwrap());
    gate.set(h.clone(), rate("1/h"));
    assert_eq!(told.take(), [], "nobody was refused");
    let one_hour_on = Mono::from_ms(3_601_000);
    assert_eq!(gate.try_admit(&key, START).unwrap_err(), no_token(h.clone(), one_hour_on));
    gate.set(h.clone(), rate("1/min"));
    assert_eq!(told.take(), from_ref(&h));
    gate.try_admit(&key, START).unwrap_err();
    gate.set(h.clone(), KeyLimits::default());
    assert_eq!(told.take(), [h]);
    assert!(gate.try_admit(&key, START).is_ok());
}

#[test]
fn a_token_taken_under_a_rate_that_is_gone_is_not_refunded_to_another() {
    let h = limit_host("h.org");
    let gate = gate([(h.clone(), KeyLimits { max_concurrent: Some(9), ..rate("2/s") })]);
    let key = host("h.org");
    let before = gate.try_admit(&key, START).unwrap();
    gate.set(h.clone(), at_once(9));
    let between = gate.try_admit(&key, START).unwrap();
    gate.set(h, KeyLimits { max_concurrent: Some(9), ..rate("2/s") });
    drop(gate.try_admit(&key, START).unwrap());
    before.refund();
    between.refund();
    assert_eq!(gate.free(&key, START), Some(1));
}

#[test]
fn status_shows_the_busiest_and_whoever_a_rate_makes_wait() {
    let named = [
        (limit_host("b.org"), rate("1/s")),
        (limit_host("c.org"), KeyLimits { max_concurrent: Some(1), ..rate("1/3s") }),
        (limit_resolver("idle"), rate("1/s")),
    ];
    let gate = gate(named);
    let admit = |key: &Key| gate.try_admit(key, START);
    let a = [admit(&host("a.org")).unwrap(), admit(&both("r", "a.org")).unwrap()];
    let _b = admit(&host("b.org")).unwrap();
    drop(admit(&host("c.org")).unwrap());
    admit(&host("c.org")).unwrap_err();
    drop(admit(&resolver("idle")).unwrap());

    let rows = [
        status(limit_host("a.org"), 2, Some(2), None),
        status(limit_resolver("r"), 1, None, None),
        status(limit_host("b.org"), 1, Some(2), Some(Mono::from_ms(2_000))),
        status(limit_host("c.org"), 0, Some(1), Some(Mono::from_ms(4_000))),
    ];
    assert_eq!(gate.status(START, 10), rows);
    assert_eq!(gate.status(START, 2), rows[..2]);
    drop(a);
    let later = Mono::from_ms(4_000);
    assert_eq!(gate.status(later, 10), [status(limit_host("b.org"), 1, Some(2), None)]);
}

#[test]
fn a_gate_without_limits_admits_and_counts() {
    let gate = Gate::new(Limits::default());
    let held: Vec<Permit> =
        (0..50).map(|_| gate.try_admit(&host("a.org"), START).unwrap()).collect();
    assert_eq!(gate.status(START, 5), [status(limit_host("a.org"), 50, None, None)]);
    drop(held);
    assert_eq!(gate.status(START, 5), []);
}
