//! How long a key is held.

use super::*;

#[track_caller]
fn check(hold: Hold, until: Mono, events: u32) {
    assert_eq!((hold.until, hold.events), (until, events));
}

#[test]
fn what_the_server_says_is_obeyed_and_nothing_or_zero_is_a_second() {
    check(Hold::new(told(sec(9), sec(10), Some(30))), sec(40), 1);
    check(Hold::new(told(sec(9), sec(10), None)), sec(11), 1);
    check(Hold::new(told(sec(9), sec(10), Some(0))), sec(11), 1);
}

#[test]
fn each_event_doubles_the_wait_up_to_a_minute() {
    let mut hold = Hold::new(told(sec(0), sec(0), None));
    let mut now = sec(0);
    for (events, wait) in [(2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)] {
        let asked_at = hold.until;
        now = Mono(asked_at.0 + Duration::from_secs(1)).max(now);
        hold.extend(told(asked_at, now, None));
        check(hold, now.plus(Duration::from_secs(wait)), events);
    }
}

#[test]
fn many_answers_of_one_event_take_one_step_and_the_longest_wait() {
    let mut hold = Hold::new(told(sec(9), sec(10), Some(5)));
    hold.extend(told(sec(8), sec(11), None));
    check(hold, sec(15), 1);
    hold.extend(told(sec(10), sec(12), Some(60)));
    check(hold, sec(72), 1);
    hold.extend(told(sec(11), sec(13), Some(1)));
    check(hold, sec(72), 2);
}

#[test]
fn an_answer_ends_the_series_and_not_the_hold() {
    let mut hold = Hold::new(told(sec(9), sec(10), Some(5)));
    hold.extend(told(sec(11), sec(12), None));
    hold.answered();
    check(hold, sec(15), 0);
    assert!(hold.is_in_force(ms(14_999)) && !hold.is_in_force(sec(15)));
    hold.extend(told(sec(16), sec(17), None));
    check(hold, sec(18), 1);
}

#[test]
fn a_hold_is_forgotten_at_its_end_if_answered_and_else_much_later() {
    let give_up = Duration::from_secs(900);
    let mut hold = Hold::new(told(sec(9), sec(10), Some(5)));
    assert!(!hold.is_over(sec(914), give_up) && hold.is_over(sec(915), give_up));
    hold.answered();
    assert!(!hold.is_over(sec(14), give_up) && hold.is_over(sec(15), give_up));
}
