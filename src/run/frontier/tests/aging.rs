//! Jobs that become more urgent as they wait.

use super::*;

const STEP: Duration = Duration::from_secs(60);

fn aging() -> Schedule {
    Schedule { aging: Some(STEP), weights: BTreeMap::new() }
}

fn two_hosts() -> Toy {
    let lanes = vec![lane(1, None, Some("a")), lane(2, None, Some("b"))];
    Toy::new(Limits::default(), lanes, 1).scheduled(aging())
}

/// Lets jobs run one after the other, of a stream of fresh ones of `level` in the first lane, until one of the second starts; how long that took.
fn until_the_second_starts(toy: &mut Toy, level: usize) -> Duration {
    let began = toy.now;
    loop {
        toy.add(0, level, 1);
        toy.settle();
        if !toy.running.is_empty() && toy.finish(0).lane.id == LaneId(2) {
            return toy.now.since(began);
        }
        toy.advance(Duration::from_secs(1));
        assert!(toy.now.since(began) < STEP * 100, "it starves");
    }
}

#[test]
fn an_old_job_rises_above_a_stream_of_fresh_ones() {
    for (level, urgent, steps) in [(2, 2, 0), (2, 1, 1), (4, 1, 3), (4, 0, 4)] {
        let mut toy = two_hosts();
        toy.add(0, urgent, 50);
        toy.settle();
        toy.add(1, level, 1);
        let took = until_the_second_starts(&mut toy, urgent);
        let most = STEP * steps + Duration::from_secs(4);
        assert!(took >= STEP * steps && took <= most, "{level} behind {urgent}: {took:?}");
    }
}

#[test]
fn the_age_that_a_page_of_lanes_tells_counts() {
    let mut toy = two_hosts();
    for (row, lane, at) in [(1, 1, 1), (2, 2, 2)] {
        toy.ready.entry((at, LaneId(lane))).or_default().insert(row);
        toy.enqueued.insert(row, toy.wall());
    }
    toy.last_row = 2;
    toy.advance(STEP * 2);
    // Both are critical by now.
    toy.offer_all();
    toy.add(0, 1, 30);
    assert!(until_the_second_starts(&mut toy, 1) < Duration::from_secs(3));
}

#[test]
fn what_has_risen_is_leased_at_its_own_priority() {
    let mut toy = two_hosts();
    toy.add(0, 3, 1);
    toy.advance(STEP * 3);
    toy.hear();
    assert!(toy.next().is_none(), "its place is claimed");
    let appetite = Appetite { room: 1, lease_ahead: true, max_losses: 0 };
    let wants = toy.frontier.wants(&toy.gate, toy.now, appetite);
    toy.frontier.end_wants();
    let [want] = wants[..] else { panic!("{wants:?}") };
    assert_eq!((want.priority, want.lane, want.count), (Priority::Low, LaneId(1), 1));
}

/// The first one was old; that the next is young is known when it was leased.
#[test]
fn a_young_job_behind_an_old_one_does_not_go_before_its_time() {
    let limits = Limits { max_per_host: Some(1), ..Limits::default() };
    let lanes = vec![lane(1, None, Some("a")), lane(2, None, Some("a"))];
    let mut toy = Toy::new(limits, lanes, 2).scheduled(aging());
    toy.add(1, 2, 1);
    toy.advance(STEP * 2);
    toy.add(1, 2, 5);
    toy.add(0, 1, 5);
    let order = one_by_one(&mut toy, 11, Duration::ZERO);
    assert_eq!(order[0], 2, "{order:?}");
    assert!(order[1..=6].iter().filter(|lane| **lane == 1).count() >= 5, "{order:?}");
    assert_eq!(order.len(), 11);
}

#[test]
fn a_clock_that_steps_breaks_nothing() {
    let mut toy = two_hosts();
    toy.add(0, 4, 20);
    toy.add(1, 2, 20);
    for step_ms in [-86_400_000, 3_600_000, -10_000_000, 0, 86_400_000, i64::from(i32::MIN)] {
        toy.stepped_ms = step_ms;
        toy.advance(STEP);
        toy.settle();
        toy.finish(0);
    }
    toy.settle();
    while !toy.running.is_empty() {
        toy.finish(0);
        toy.settle();
    }
    assert_eq!((toy.started.len(), toy.frontier.lanes()), (40, 0));
    assert!(toy.frontier.aging.as_ref().unwrap().is_at_rest());
}

/// However many lanes there are, only those whose time has come are looked at.
#[test]
fn lanes_that_do_not_rise_cost_nothing() {
    let lanes: Vec<_> = (0..1_000).map(|n| lane(n, None, Some(&format!("h{n}")))).collect();
    let mut toy = Toy::new(Limits::default(), lanes, 1).scheduled(aging());
    for lane in 0..1_000 {
        toy.add(lane, 2, 1);
        toy.advance(Duration::from_millis(1));
    }
    let tickets = toy.frontier.tickets;
    let in_59_seconds = toy.now.plus(STEP - Duration::from_secs(1));
    toy.now = in_59_seconds;
    toy.hear();
    let risen = toy.frontier.tickets - tickets;
    assert!(risen <= 1, "{risen} went to another line");
    toy.advance(Duration::from_millis(500));
    toy.hear();
    let risen = toy.frontier.tickets - tickets;
    assert!((490..=510).contains(&risen), "{risen}");
}
