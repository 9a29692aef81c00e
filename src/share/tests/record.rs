//! What events, people and time make of a record, and what it comes to.

use crate::job::WallMs;

use super::*;

fn apply(record: &mut KeyRecord, event: KeyEvent) -> Option<Transition> {
    record.apply(&host(), event, &at_most(4), &policy())
}

fn answered(asked_at: Mono, now: Mono) -> KeyEvent {
    KeyEvent::Answered { asked_at, now }
}

fn after(events: &[KeyEvent]) -> KeyRecord {
    let mut record = KeyRecord::default();
    for &event in events {
        apply(&mut record, event);
    }
    record
}

/// Its breaker was opened at this time, and opens again whenever it is half-open, up to `to`.
fn down_since(from: Mono, to: Mono) -> KeyRecord {
    let mut record = KeyRecord::default();
    let mut now = from;
    while now <= to {
        for _ in 0..5 {
            apply(&mut record, KeyEvent::Failed { asked_at: now, now });
        }
        now = now.plus(policy().open_for);
    }
    record
}

fn waits(why: WhyWaiting, until: Mono) -> Standing {
    Standing::Waits { why, until: Some(until) }
}

#[test]
fn a_key_that_is_held_or_open_waits_for_the_later_end() {
    let held = after(&[KeyEvent::Told(told(sec(9), sec(10), Some(5)))]);
    assert_eq!(held.standing(sec(14), &policy()), waits(WhyWaiting::Held, sec(15)));
    assert_eq!(held.standing(sec(15), &policy()), Standing::Open);

    let mut both = down_since(sec(10), sec(10));
    assert_eq!(both.standing(sec(14), &policy()), waits(WhyWaiting::Open, sec(70)));
    apply(&mut both, KeyEvent::Told(told(sec(9), sec(10), Some(5))));
    assert_eq!(both.standing(sec(14), &policy()), waits(WhyWaiting::Open, sec(70)));
    apply(&mut both, KeyEvent::Told(told(sec(9), sec(10), Some(100))));
    assert_eq!(both.standing(sec(14), &policy()), waits(WhyWaiting::Held, sec(110)));
    both.paused = true;
    let paused = Standing::Waits { why: WhyWaiting::Paused, until: None };
    assert_eq!(both.standing(sec(14), &policy()), paused);
}

#[test]
fn held_until_further_away_than_anybody_waits_it_is_given_up() {
    let told = |after| KeyEvent::Told(told(sec(9), sec(10), Some(after)));
    let given_up = Standing::GivenUp { why: WhyGivenUp::RateLimited, until: sec(911) };
    assert_eq!(after(&[told(901)]).standing(sec(10), &policy()), given_up);
    // As long as anybody waits, and no longer: it is worth trying again when it is given up for having been held so long.
    assert_eq!(after(&[told(901)]).standing(sec(11), &policy()), waits(WhyWaiting::Held, sec(910)));
    assert_eq!(after(&[told(901)]).standing(sec(910), &policy()), given_up);
    assert_eq!(after(&[told(900)]).standing(sec(10), &policy()), waits(WhyWaiting::Held, sec(910)));
}

#[test]
fn told_again_and_again_without_one_answer_it_is_given_up() {
    let mut record = after(&[KeyEvent::Told(told(sec(0), sec(0), Some(60)))]);
    for minute in 1..15 {
        apply(&mut record, KeyEvent::Told(told(sec(60 * minute), sec(60 * minute), Some(60))));
    }
    apply(&mut record, KeyEvent::Told(told(sec(899), sec(899), Some(60))));
    assert_eq!(record.standing(sec(899), &policy()), waits(WhyWaiting::Held, sec(900)));
    let given_up = Standing::GivenUp { why: WhyGivenUp::RateLimited, until: sec(959) };
    assert_eq!(record.standing(sec(900), &policy()), given_up);
    assert_eq!(record.standing(sec(959), &policy()), Standing::Open, "it may be tried again");
    apply(&mut record, answered(sec(960), sec(961)));
    apply(&mut record, KeyEvent::Told(told(sec(962), sec(963), Some(60))));
    assert_eq!(record.standing(sec(963), &policy()), waits(WhyWaiting::Held, sec(1_023)));
}

#[test]
fn open_again_and_again_it_is_given_up_and_probed_all_the_same() {
    let record = down_since(sec(10), sec(910));
    let given_up = Standing::GivenUp { why: WhyGivenUp::Down, until: sec(970) };
    assert_eq!(record.trouble_since, Some(sec(10)));
    assert_eq!(record.standing(sec(911), &policy()), given_up);
    assert_eq!(record.standing(sec(970), &policy()), Standing::Open);
    assert_eq!(record.terms(&at_most(4), sec(970)).max_concurrent, Some(1));
}

#[test]
fn single_failures_are_no_trouble_and_a_stale_answer_does_not_end_it() {
    let mut record = after(&[KeyEvent::Failed { asked_at: sec(1), now: sec(2) }]);
    assert_eq!(record.trouble_since, None);
    apply(&mut record, KeyEvent::Told(told(sec(9), sec(10), Some(5))));
    apply(&mut record, answered(sec(9), sec(11)));
    assert_eq!(record.trouble_since, Some(sec(10)));
    assert_eq!(record.hold.map(|hold| hold.events), Some(0), "but it ends the series");
    apply(&mut record, answered(sec(16), sec(17)));
    assert_eq!(record.trouble_since, None);
}

#[test]
fn trouble_that_nobody_has_looked_into_for_long_begins_anew() {
    let mut record = down_since(sec(10), sec(10));
    apply(&mut record, KeyEvent::Failed { asked_at: sec(969), now: sec(969) });
    assert_eq!(record.trouble_since, Some(sec(10)));
    let mut record = down_since(sec(10), sec(10));
    apply(&mut record, KeyEvent::Failed { asked_at: sec(970), now: sec(970) });
    assert_eq!(record.trouble_since, Some(sec(970)));
}

#[test]
fn only_hosts_without_a_fixed_limit_adapt() {
    let told = KeyEvent::Told(told(sec(9), sec(10), None));
    let overloaded = KeyEvent::Overloaded { asked_at: sec(9), now: sec(10) };
    let resolver = LimitKey::Resolver("a".into());
    for (key, event, configured, limit) in [
        (host(), told, at_most(4), Some(2)),
        (host(), overloaded, at_most(4), Some(2)),
        (host(), overloaded, fixed(4), None),
        (host(), overloaded, Configured::default(), None),
        (resolver, overloaded, at_most(4), None),
    ] {
        let mut record = KeyRecord::default();
        record.apply(&key, event, &configured, &policy());
        assert_eq!(record.adaptive.limit, limit, "{key:?} {event:?} {configured:?}");
    }
    let mut record = KeyRecord::default();
    record.change(&KeyChange { max_concurrent: Some(Some(9)), ..KeyChange::default() });
    apply(&mut record, overloaded);
    assert_eq!(record.adaptive.limit, None, "a person said how many");
}

#[test]
fn a_crawl_delay_of_nothing_changes_nothing() {
    let delay = |sec| KeyEvent::CrawlDelay(Duration::from_secs(sec));
    assert_eq!(after(&[delay(0)]), KeyRecord::default());
    assert_eq!(after(&[delay(5), delay(0)]).crawl_delay, Some(Duration::from_secs(5)));
    assert_eq!(after(&[delay(5), delay(3)]).crawl_delay, Some(Duration::from_secs(3)));
}

#[test]
fn the_strictest_of_all_that_was_said_holds() {
    let set = |most| KeyRecord {
        set: KeyLimits { max_concurrent: Some(most), rate: None },
        ..KeyRecord::default()
    };
    let adapted = |record: KeyRecord, limit| KeyRecord {
        adaptive: Adaptive { limit: Some(limit), ..Adaptive::default() },
        ..record
    };
    let none = KeyRecord::default();
    let crawling = KeyRecord { crawl_delay: Some(Duration::from_secs(3)), ..none };
    let half_open = down_since(sec(10), sec(10));
    for (record, configured, most, binds) in [
        (none, Configured::default(), None, Binds::Nothing),
        (none, at_most(4), Some(4), Binds::Configured),
        (set(2), at_most(4), Some(2), Binds::Set),
        (set(9), at_most(4), Some(9), Binds::Set), // in place of the default of all hosts
        (set(9), fixed(4), Some(4), Binds::Configured),
        (set(2), fixed(4), Some(2), Binds::Set),
        (set(2), Configured::default(), Some(2), Binds::Set),
        (crawling, at_most(4), Some(1), Binds::CrawlDelay),
        (crawling, at_most(0), Some(0), Binds::Configured),
        (adapted(none, 2), at_most(4), Some(2), Binds::Adaptive),
        (adapted(none, 2), at_most(1), Some(1), Binds::Configured),
        (adapted(none, 2), fixed(4), Some(4), Binds::Configured),
        (adapted(set(3), 2), at_most(4), Some(3), Binds::Set),
        (half_open, at_most(4), Some(1), Binds::Breaker),
        (half_open, Configured::default(), Some(1), Binds::Breaker),
    ] {
        let terms = record.terms(&configured, sec(70));
        assert_eq!((terms.max_concurrent, terms.binds), (most, binds), "{record:?} {configured:?}");
    }
    let limits = KeyLimits { max_concurrent: None, rate: Some(rate("1/s")) };
    let configured = Configured { limits, is_fixed: false };
    for (set, crawl_sec, expected) in
        [(None, 0, "1/s"), (Some("1/2s"), 0, "1/2s"), (Some("9/s"), 0, "1/s"), (None, 5, "1/5s")]
    {
        let set = KeyLimits { max_concurrent: None, rate: set.map(rate) };
        let crawl_delay = (crawl_sec > 0).then(|| Duration::from_secs(crawl_sec));
        let record = KeyRecord { set, crawl_delay, ..none };
        assert_eq!(record.terms(&configured, sec(0)).rate, Some(rate(expected)));
    }
}

#[test]
fn a_person_changes_only_what_they_name_and_is_forgiving() {
    let mut record = down_since(sec(10), sec(10));
    apply(&mut record, KeyEvent::Told(told(sec(9), sec(10), Some(5))));
    let troubled = record;
    record.change(&KeyChange::default());
    assert_eq!(record, troubled);
    let paused = KeyChange { paused: Some(true), ..KeyChange::default() };
    record.change(&paused);
    assert_eq!(record, KeyRecord { paused: true, ..troubled });
    record.change(&KeyChange { paused: Some(false), forgive: true, ..KeyChange::default() });
    let learned = KeyRecord { adaptive: troubled.adaptive, ..KeyRecord::default() };
    assert_eq!(record, learned);
    record.change(&KeyChange {
        max_concurrent: Some(Some(2)),
        rate: Some(Some(rate("1/s"))),
        ..KeyChange::default()
    });
    let set = KeyLimits { max_concurrent: Some(2), rate: Some(rate("1/s")) };
    assert_eq!(record, KeyRecord { set, ..KeyRecord::default() });
    record.change(&KeyChange { rate: Some(None), ..KeyChange::default() });
    assert_eq!(record.set, KeyLimits { rate: None, ..set });
}

#[test]
fn a_record_is_at_rest_when_time_has_ended_all_there_was() {
    let failed = KeyEvent::Failed { asked_at: sec(1), now: sec(10) };
    let told = KeyEvent::Told(told(sec(9), sec(10), Some(5)));
    let answers = [answered(sec(9), sec(10)); 3];
    let empty =
        KeyRecord { bucket: Some(Bucket::empty(rate("1/3s"), sec(10))), ..KeyRecord::default() };
    let lowered = KeyRecord {
        adaptive: Adaptive { limit: Some(2), ..Adaptive::default() },
        ..KeyRecord::default()
    };
    // Configured with a fixed limit, for which Told is no reason to adapt.
    let mut held = KeyRecord::default();
    held.apply(&host(), told, &fixed(4), &policy());
    for (name, record, at_rest) in [
        ("nothing", KeyRecord::default(), Some(0)),
        ("the usual latency", after(&answers), Some(0)),
        ("one failure", after(&[failed]), Some(910)),
        ("a hold", held, Some(915)),
        ("an open breaker", down_since(sec(10), sec(10)), Some(970)),
        ("an empty bucket", empty, Some(13)),
        ("a lowered limit", lowered, None),
        ("a pause", KeyRecord { paused: true, ..KeyRecord::default() }, None),
    ] {
        let is_at = |at: u64| record.is_at_rest(sec(at), &policy());
        match at_rest {
            Some(at) => assert!(is_at(at) && (at == 0 || !is_at(at - 1)), "{name}"),
            None => assert!(!is_at(1_000_000), "{name}"),
        }
    }
}

#[test]
fn another_boot_keeps_what_remains_of_a_wait_and_never_adds_to_it() {
    let mut record = down_since(sec(1_000), sec(1_000));
    apply(&mut record, KeyEvent::Told(told(sec(999), sec(1_000), Some(100))));
    record.bucket = Some(Bucket::full(rate("1/3s")));
    let (written, wall) = (sec(1_010), WallMs(1_000_000));
    for (wall_sec, open_left, held_left) in [(0, 50, 90), (20, 30, 70), (60, 0, 30), (-500, 50, 90)]
    {
        let mut rebased = record;
        rebased.rebase((written, wall), (sec(7), WallMs(wall.0 + 1_000 * wall_sec)));
        assert_eq!(rebased.hold.map(|hold| hold.until), Some(sec(7 + held_left)), "{wall_sec}");
        let until = sec(7 + open_left);
        assert_eq!(rebased.breaker.state, BreakerState::Open { until }, "{wall_sec}");
        assert_eq!(rebased.trouble_since, Some(sec(7)));
        assert_eq!(rebased.adaptive.stepped_at, sec(7));
        assert_eq!(rebased.bucket, Some(Bucket::empty(rate("1/3s"), sec(7))));
    }
    let mut nothing = KeyRecord::default();
    nothing.rebase((written, wall), (sec(7), wall));
    assert_eq!(nothing, KeyRecord::default());
}

#[test]
fn a_void_bucket_is_empty_unless_it_was_touched_later() {
    let (rate, at) = (rate("1/3s"), sec(10));
    let empty = Some(Bucket::empty(rate, at));
    let touched = |at| Some(Bucket::empty(rate, at));
    for (bucket, expected) in
        [(None, empty), (touched(sec(9)), empty), (touched(sec(11)), touched(sec(11)))]
    {
        let mut record = KeyRecord { bucket, ..KeyRecord::default() };
        record.void_bucket(Some(rate), at);
        assert_eq!(record.bucket, expected);
    }
    let mut unlimited = KeyRecord::default();
    unlimited.void_bucket(None, at);
    assert_eq!(unlimited, KeyRecord::default());
    let mut crawling = KeyRecord { crawl_delay: Some(rate.per), ..KeyRecord::default() };
    crawling.void_bucket(None, at);
    assert_eq!(crawling.bucket, empty);
}
