//! How many requests at once a host has been seen to bear.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A limit that an event at 10 s has brought to this.
fn limited_to(limit: u32) -> Adaptive {
    Adaptive { limit: Some(limit), stepped_at: sec(10), ..Adaptive::default() }
}

#[test]
fn each_event_halves_it_down_to_one() {
    for (cap, steps) in [
        (8, &[Some(4), Some(2), Some(1), Some(1)][..]),
        (5, &[Some(2), Some(1)]),
        (1, &[None, None]),
    ] {
        let mut adaptive = Adaptive::default();
        for (step, &limit) in (1..).zip(steps) {
            adaptive.overloaded(sec(step), sec(step), cap);
            assert_eq!(adaptive.limit, limit, "step {step} of {cap}");
            adaptive.overloaded(sec(step), sec(step), cap);
            assert_eq!(adaptive.limit, limit, "one to a request from before is of the same event");
        }
    }
}

#[test]
fn a_run_of_twice_the_limit_raises_it_by_one_up_to_the_cap() {
    let mut adaptive = limited_to(2);
    for (limit, run) in [(Some(2), 3), (Some(3), 6), (None, 1)] {
        for _ in 0..run {
            assert!(!adaptive.answered(sec(11), sec(12), SECOND, 4));
        }
        if run == 3 {
            assert_eq!(adaptive.limit, limit);
            adaptive.answered(sec(11), sec(12), SECOND, 4);
        }
    }
    assert_eq!(adaptive.limit, None);
    assert_eq!(adaptive.run, 0);
}

#[test]
fn answers_to_requests_from_before_the_step_do_not_count_and_a_step_ends_the_run() {
    let mut adaptive = limited_to(1);
    for _ in 0..9 {
        adaptive.answered(sec(10), sec(12), SECOND, 4);
    }
    assert_eq!((adaptive.limit, adaptive.run), (Some(1), 0));
    adaptive.answered(sec(11), sec(12), SECOND, 4);
    adaptive.overloaded(sec(11), sec(13), 4);
    assert_eq!((adaptive.limit, adaptive.run), (Some(1), 0));
}

#[test]
fn a_latency_far_over_the_usual_is_a_sign_once_the_usual_is_known() {
    let far = Duration::from_millis(1_600);
    for (samples, usual_ms, latency, is_sign) in [
        (16, 200, far, true),
        (15, 200, far, false),
        (16, 200, Duration::from_millis(1_200), false), // not a second more
        (16, 500, far, false),                          // not four times as much
    ] {
        let mut adaptive = Adaptive::default();
        for _ in 0..samples {
            adaptive.answered(sec(1), sec(2), Duration::from_millis(usual_ms), 8);
        }
        assert_eq!(adaptive.usual_us, 1_000 * usual_ms);
        assert_eq!(adaptive.answered(sec(3), sec(4), latency, 8), is_sign, "{usual_ms} ms");
        assert_eq!(adaptive.limit, is_sign.then_some(4));
    }
}

#[test]
fn a_server_that_is_slower_for_good_has_a_new_usual() {
    let mut adaptive = Adaptive::default();
    for _ in 0..16 {
        adaptive.answered(sec(1), sec(2), SECOND / 10, 8);
    }
    let signs = (0..99).filter(|&at| adaptive.answered(sec(at + 3), sec(at + 4), 2 * SECOND, 8));
    assert!(signs.count() < 8, "{adaptive:?}");
    assert!(adaptive.usual_us > 1_900_000);
}
