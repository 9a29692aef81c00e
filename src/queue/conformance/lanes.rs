//! What jobs take turns by: the tags that lanes are told apart by, and the age of the jobs at their heads.

use super::Subject;
use super::scene::{Process, START, at_host, defer, done, failed, hosted, ids, job};
use crate::job::{ErrorReason, JobSpec, Priority, WallMs};
use crate::queue::store::{MAX_TAG_LANES, OnDuplicate, ReadyLane, RetryFilter};

fn tagged(id: &str, tags: &[&str]) -> JobSpec {
    JobSpec { tags: tags.iter().map(|tag| (*tag).to_owned()).collect(), ..job(id) }
}

/// The tags of the lanes that have ready jobs, in the order of the alphabet.
fn tags(process: &mut Process) -> Vec<Option<Box<str>>> {
    let mut tags: Vec<_> =
        process.ready_lanes().iter().map(|ready| ready.lane.tag.clone()).collect();
    tags.sort();
    tags
}

fn tag_of(process: &mut Process, id: &str) -> Option<Box<str>> {
    let place = process.store.place(&super::scene::id(id), 10).unwrap();
    place.unwrap_or_else(|| panic!("{id} is gone")).lane.tag.clone()
}

/// Further ones are words to filter by; an empty one is none.
pub fn the_first_tag_is_part_of_the_lane(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[
        tagged("plain", &[]),
        tagged("a", &["one", "two"]),
        tagged("b", &["two", "one"]),
        tagged("c", &["one"]),
        tagged("empty", &["", "one"]),
    ]);
    assert_eq!(tags(&mut process), [None, Some("one".into()), Some("two".into())]);
    let mut by_lane: Vec<(Option<Box<str>>, Vec<String>)> = Vec::new();
    for ready in process.ready_lanes() {
        let want = process_want(&ready);
        let leased = process.turn(&[], &[want]).leased;
        assert!(leased.iter().all(|leased| leased.lane == ready.lane));
        by_lane
            .push((ready.lane.tag.clone(), ids(&leased).into_iter().map(str::to_owned).collect()));
    }
    by_lane.sort();
    let expected = [
        (None, vec!["plain".to_owned(), "empty".to_owned()]),
        (Some("one".into()), vec!["a".to_owned(), "c".to_owned()]),
        (Some("two".into()), vec!["b".to_owned()]),
    ];
    assert_eq!(by_lane, expected);
    // Another process numbers and names them alike.
    let mut other = Process::start(subject);
    process.insert(&[tagged("d", &["one"])]);
    let (ours, theirs) = (process.ready_lanes(), other.ready_lanes());
    assert_eq!(ours, theirs);
}

fn process_want(ready: &ReadyLane) -> crate::queue::store::Want {
    crate::queue::store::Want {
        priority: ready.priority,
        lane: ready.lane.id,
        count: 99,
        max_losses: u32::MAX,
    }
}

/// Whoever tags every job with a word of its own must not make a lane of each.
pub fn tags_beyond_the_bound_make_no_lanes(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let tag = |n: usize| format!("tag {n:03}");
    let specs: Vec<JobSpec> =
        (0..MAX_TAG_LANES + 10).map(|n| tagged(&format!("{n}"), &[&tag(n)])).collect();
    process.insert(&specs);
    assert_eq!(process.ready_lanes().len(), MAX_TAG_LANES + 1);
    // Those that were first stay told apart, for other processes and under other keys too.
    let mut other = Process::start(subject);
    other.insert(&[
        JobSpec { key: at_host("h.example"), ..tagged("known", &[&tag(MAX_TAG_LANES - 1)]) },
        JobSpec { key: at_host("h.example"), ..tagged("beyond", &[&tag(MAX_TAG_LANES)]) },
    ]);
    assert_eq!(tag_of(&mut other, "known").as_deref(), Some(&*tag(MAX_TAG_LANES - 1)));
    assert_eq!(tag_of(&mut other, "beyond"), None);
    assert_eq!(process.view("beyond").tags, [tag(MAX_TAG_LANES)], "the job has it all the same");
}

/// Through deferral, hand-back and retry-failed, while an update or a requeue brings the tags it comes with.
pub fn a_job_keeps_the_tag_of_its_lane_until_it_is_replaced(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[tagged("a", &["one"])]);
    assert_eq!(tag_of(&mut process, "a").as_deref(), Some("one"));
    let replace = |process: &mut Process, tags: &[&str], mode| {
        process.store.insert(&[tagged("a", tags)], mode, START).unwrap();
    };
    replace(&mut process, &["two"], OnDuplicate::Update);
    assert_eq!(tag_of(&mut process, "a").as_deref(), Some("two"));

    let leased = process.lease_only();
    process.settle(leased.token, defer("h.example"));
    let leased = process.lease_only();
    assert_eq!(leased.lane.key, at_host("h.example"));
    assert_eq!(leased.lane.tag.as_deref(), Some("two"));
    process.settle(leased.token, failed(ErrorReason::Dns));
    process.store.retry_failed(&RetryFilter::default(), 9, START, false).unwrap();
    let leased = process.lease_only();
    assert_eq!(leased.lane.tag.as_deref(), Some("two"));
    process.settle(leased.token, done());

    replace(&mut process, &[], OnDuplicate::Requeue);
    assert_eq!(tag_of(&mut process, "a"), None);
    replace(&mut process, &["two"], OnDuplicate::Skip);
    assert_eq!(tag_of(&mut process, "a"), None, "a duplicate changes nothing");
}

/// Of each lane and priority, when the job that will be leased next was enqueued.
pub fn ready_lanes_tell_the_age_of_their_heads(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let at = |ms: i64| WallMs(START.0 + ms);
    let spec = |id: &str, host: &str, priority| JobSpec { priority, ..hosted(id, host) };
    for (ms, spec) in [
        (0, spec("a", "a.example", Priority::Normal)),
        (10, spec("b", "a.example", Priority::Normal)),
        (20, spec("c", "a.example", Priority::High)),
        (30, spec("d", "b.example", Priority::Normal)),
    ] {
        process.now = at(ms);
        process.insert(&[spec]);
    }
    let check = |process: &mut Process, expected: &[(Priority, &str, i64)]| {
        let mut heads: Vec<_> = process
            .ready_lanes()
            .into_iter()
            .map(|ready| (ready.priority, ready.lane.key.to_string(), ready.head_enqueued_at))
            .collect();
        heads.sort();
        let expected: Vec<_> = expected
            .iter()
            .map(|(priority, host, ms)| (*priority, (*host).to_owned(), Some(at(*ms))))
            .collect();
        assert_eq!(heads, expected);
    };
    let (high, normal) = (Priority::High, Priority::Normal);
    let rest = [(high, "a.example", 20), (normal, "a.example", 10), (normal, "b.example", 30)];
    let mut all = rest;
    all[1].2 = 0;
    check(&mut process, &all);
    let want = process.want(normal, &at_host("a.example"), 1).unwrap();
    let first = process.turn(&[], &[want]).leased.remove(0);
    assert_eq!(first.enqueued_at, at(0));
    check(&mut process, &rest);
    process.settle(first.token, crate::job::Change::HandBack);
    check(&mut process, &all);
}
