//! Every way a breaker goes, and every answer that moves it nowhere.

use super::*;

/// A breaker that was opened at 10 s, by requests sent at 5 s.
fn opened() -> Breaker {
    let mut breaker = Breaker::default();
    for failure in 1..=5 {
        let transition = breaker.failed(sec(5), sec(10), &policy());
        let expected = (failure == 5).then_some(Transition::Opened { until: sec(70) });
        assert_eq!(transition, expected, "failure {failure}");
    }
    breaker
}

/// The same, once its time has passed and so many probes were answered.
fn half_open(successes: u32) -> Breaker {
    let mut breaker = opened();
    for _ in 0..successes {
        assert_eq!(breaker.answered(sec(70), sec(71), &policy()), None);
    }
    assert_eq!(breaker.state(sec(71)), BreakerState::HalfOpen { successes });
    breaker
}

#[test]
fn failures_in_a_row_open_it_and_an_answer_between_begins_a_new_row() {
    let mut breaker = Breaker::default();
    for _ in 0..3 {
        for _ in 0..4 {
            assert_eq!(breaker.failed(sec(1), sec(2), &policy()), None);
        }
        assert_eq!(breaker.answered(sec(1), sec(2), &policy()), None);
    }
    assert_eq!(breaker, Breaker::default());
    assert_eq!(opened().open_until(ms(69_999)), Some(sec(70)));
}

#[test]
fn failures_far_apart_are_no_row() {
    let mut breaker = Breaker::default();
    breaker.failed(sec(1), sec(2), &policy());
    breaker.forget(sec(901), policy().give_up);
    assert_eq!(breaker.failures, 1);
    breaker.forget(sec(902), policy().give_up);
    assert_eq!(breaker, Breaker::default());
}

#[test]
fn time_half_opens_it() {
    assert_eq!(opened().state(ms(69_999)), BreakerState::Open { until: sec(70) });
    assert_eq!(opened().state(sec(70)), BreakerState::HalfOpen { successes: 0 });
}

#[test]
fn an_open_one_is_moved_by_nothing() {
    let mut breaker = opened();
    assert_eq!(breaker.failed(sec(11), sec(12), &policy()), None);
    assert_eq!(breaker.answered(sec(11), sec(12), &policy()), None);
    assert_eq!(breaker, opened());
}

#[test]
fn successes_in_a_row_close_it() {
    let mut breaker = half_open(2);
    assert_eq!(breaker.answered(sec(72), sec(73), &policy()), Some(Transition::Closed));
    assert_eq!(breaker, Breaker { since: sec(73), ..Breaker::default() });
    let one = Policy { successes: 1, ..policy() };
    assert_eq!(opened().answered(sec(70), sec(71), &one), Some(Transition::Closed));
}

#[test]
fn one_failure_of_a_probe_opens_it_again_for_as_long() {
    for successes in 0..=2 {
        let mut breaker = half_open(successes);
        let until = sec(133);
        let transition = breaker.failed(sec(72), sec(73), &policy());
        assert_eq!(transition, Some(Transition::Opened { until }));
        assert_eq!(breaker.state(sec(132)), BreakerState::Open { until });
        assert_eq!(breaker.state(until), BreakerState::HalfOpen { successes: 0 });
    }
}

#[test]
fn answers_to_requests_from_before_the_last_change_change_nothing() {
    for breaker in [opened(), half_open(0), half_open(2)] {
        for now in [sec(65), sec(80)] {
            let mut after = breaker;
            assert_eq!(after.failed(sec(9), now, &policy()), None);
            assert_eq!(after.answered(ms(69_999), now, &policy()), None);
            assert_eq!(after.state(now), breaker.state(now));
        }
    }
    let mut closed = half_open(2);
    closed.answered(sec(72), sec(73), &policy());
    for _ in 0..9 {
        assert_eq!(closed.failed(sec(72), sec(80), &policy()), None);
    }
    assert_eq!(closed.failures, 0);
}
