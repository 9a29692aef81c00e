//! Jobs whose time has not come, and what happens when it does.

use std::collections::BTreeSet;

use super::Subject;
use super::scene::{Process, START, again, at_host, defer, hosted, ids, job};
use crate::job::{Change, JobSpec, Key, WallMs};
use crate::queue::store::{ReadyLane, Want};

fn at(ms: i64) -> WallMs {
    WallMs(START.0 + ms)
}

fn delayed(id: &str, host: &str, ms: i64) -> JobSpec {
    JobSpec { run_at: Some(at(ms)), ..hosted(id, host) }
}

fn hosts(ready: &[ReadyLane]) -> BTreeSet<&str> {
    let hosts: BTreeSet<&str> =
        ready.iter().map(|ready| ready.lane.key.host.as_deref().unwrap_or("-")).collect();
    assert_eq!(hosts.len(), ready.len(), "each lane is reported once: {ready:?}");
    hosts
}

/// Nothing starts early; at the very millisecond it may.
pub fn a_job_is_not_leased_before_its_time(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[delayed("a", "a.example", 1_000)]);
    process.now = at(999);
    let report = process.turn(&[], &[]);
    assert!(report.ready.is_empty() && !report.more_due);
    assert_eq!(report.next_due, Some(at(1_000)));
    assert!(process.lease(1).is_empty());
    process.now = at(1_000);
    let report = process.turn(&[], &[]);
    assert_eq!(hosts(&report.ready), BTreeSet::from(["a.example"]));
    assert_eq!((report.next_due, report.more_due), (None, false));
    assert_eq!(process.view("a").not_before, None);
    assert_eq!(ids(&process.lease(1)), ["a"]);
}

/// A turn may make due and lease in one go, and reports every lane that woke once.
pub fn delayed_jobs_become_due_as_their_times_come(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[
        delayed("c", "a.example", 3_000),
        delayed("a", "a.example", 1_000),
        delayed("b", "b.example", 2_000),
        delayed("a2", "a.example", 1_000),
        hosted("now", "a.example"),
    ]);
    let lane = process.ready_lanes().remove(0);
    let want =
        Want { priority: lane.priority, lane: lane.lane.id, count: 9, unsuspected_only: false };
    assert_eq!(ids(&process.turn(&[], &[want]).leased), ["now"]);
    process.now = at(1_999);
    let report = process.turn(&[], &[want]);
    assert_eq!(ids(&report.leased), ["a", "a2"]);
    assert_eq!(hosts(&report.ready), BTreeSet::from(["a.example"]));
    assert_eq!(report.next_due, Some(at(2_000)));
    process.now = at(9_999);
    let report = process.turn(&[], &[want]);
    assert_eq!(ids(&report.leased), ["c"]);
    assert_eq!(hosts(&report.ready), BTreeSet::from(["a.example", "b.example"]));
    assert_eq!((report.next_due, report.more_due), (None, false));
}

/// However many times come at once, each turn does a bounded part, earliest first, and says whether more is left.
pub fn many_due_jobs_become_ready_in_bounded_turns(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let count: i64 = 3_000;
    let specs: Vec<JobSpec> = (0..count)
        .map(|n| JobSpec { run_at: Some(at(count - n)), ..job(&format!("{n}")) })
        .collect();
    process.insert(&specs);
    process.now = at(count);
    for turn in 1.. {
        let report = process.turn(&[], &[]);
        assert_eq!(report.next_due.is_some(), report.more_due);
        if !report.more_due {
            break;
        }
        assert!(report.next_due <= Some(process.now));
        assert_eq!(report.ready.len(), 1, "every turn makes something due");
        assert!(turn < count, "this does not end");
    }
    let leased = process.lease(usize::MAX);
    assert_eq!(leased.len(), specs.len());
    assert!(leased.is_sorted_by_key(|leased| leased.token.job), "ready jobs go by row");
}

/// Whatever they wait for: `run_at`, a retry or a deferral.
pub fn next_due_is_the_earliest_that_still_waits(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    assert_eq!(process.turn(&[], &[]).next_due, None);
    process.insert(&[hosted("retried", "a.example"), hosted("deferred", "a.example")]);
    process.insert(&[delayed("c", "c.example", 3_000)]);
    let leased = process.lease(2);
    assert_eq!(process.turn(&[], &[]).next_due, Some(at(3_000)));
    process.settle(leased[0].token, again(at(2_000)));
    assert_eq!(process.turn(&[], &[]).next_due, Some(at(2_000)));
    let key = at_host("b.example");
    let change = Change::Defer { key, not_before: Some(at(1_000)), checkpoint: None };
    process.settle(leased[1].token, change);
    assert_eq!(process.turn(&[], &[]).next_due, Some(at(1_000)));
    for (now, next) in [(1_000, Some(2_000)), (2_000, Some(3_000)), (3_000, None)] {
        process.now = at(now);
        assert_eq!(process.turn(&[], &[]).next_due, next.map(at));
    }
    assert_eq!(ids(&process.lease(9)).len(), 3);
}

/// A retry or deferral whose time has come already, and a hand-back, are ready work.
pub fn lanes_settled_back_at_once_are_reported_ready(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let ids = ["again", "defer", "past", "back", "later"];
    process.insert(&ids.map(|id| hosted(id, &format!("{id}.example"))));
    let changes = |id: &str| match id {
        "again" => again(START),
        "defer" => defer("new.example"),
        "past" => Change::Defer {
            key: at_host("new2.example"),
            not_before: Some(at(-5)),
            checkpoint: None,
        },
        "back" => Change::HandBack,
        _ => again(at(1)),
    };
    let settle: Vec<_> = process
        .lease(9)
        .iter()
        .map(|leased| process.settlement(leased.token, changes(leased.artifact_id.as_str())))
        .collect();
    let report = process.turn(&settle, &[]);
    let woken = ["again.example", "new.example", "new2.example", "back.example"];
    assert_eq!(hosts(&report.ready), BTreeSet::from(woken));
    assert_eq!(report.next_due, Some(at(1)));
    let ready = process.ready_lanes();
    assert_eq!(hosts(&ready), BTreeSet::from(woken));
}

/// What was ready stays ready, and what waits waits for the time it was given.
pub fn a_clock_that_steps_back_takes_nothing_back(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[delayed("a", "a.example", 1_000), delayed("b", "a.example", 5_000), job("c")]);
    process.now = at(2_000);
    process.turn(&[], &[]);
    process.now = at(-3_600_000);
    let report = process.turn(&[], &[]);
    assert_eq!((report.next_due, report.more_due), (Some(at(5_000)), false));
    assert_eq!(process.lease(9).len(), 2);
    process.now = at(3_600_000);
    assert_eq!(process.turn(&[], &[]).next_due, None);
    let leased = process.lease(9);
    assert_eq!(ids(&leased), ["b"]);
    assert_ne!(leased[0].lane.key, Key::default());
}
