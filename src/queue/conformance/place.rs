//! Where a job stands in line, how long the lines are, and how attempts have gone.

use super::Subject;
use super::scene::{Process, START, again, defer, done, failed, hosted, id, job, skipped};
use crate::job::{
    Change, ErrorReason, JobSpec, Key, LimitKey, Priority, SkipReason, State, WallMs,
};
use crate::queue::store::{Counted, LaneBacklog, LaneCursor, Pace, Place};

fn place(process: &mut Process, text: &str) -> Place {
    process.store.place(&id(text), 1_000).unwrap().unwrap_or_else(|| panic!("{text} is gone"))
}

fn exactly(count: u64) -> Counted {
    Counted { count, is_exact: true }
}

fn under(id: &str, resolver: Option<&str>, host: Option<&str>, priority: Priority) -> JobSpec {
    JobSpec { key: Key::new(resolver, host).unwrap(), priority, ..job(id) }
}

/// Older ones of its priority and all more urgent ones, in its lane and in those that share its host or its resolver.
pub fn a_place_counts_who_goes_before(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let (urgent, usual, low) = (Priority::High, Priority::Normal, Priority::Low);
    process.insert(&[
        under("1", None, Some("a.example"), usual),
        under("2", Some("r"), Some("a.example"), usual),
        under("3", Some("r"), Some("b.example"), usual),
        under("4", Some("r"), None, usual),
        under("5", None, None, usual),
        under("6", None, Some("c.example"), usual),
        under("7", Some("r"), Some("a.example"), usual),
        under("8", Some("r"), Some("a.example"), low),
        under("9", None, Some("a.example"), urgent),
        under("10", None, Some("a.example"), usual),
        under("11", None, None, usual),
        JobSpec { kind: super::scene::kinds()[1].clone(), ..hosted("12", "a.example") },
        JobSpec { tags: vec!["t".to_owned()], ..hosted("13", "a.example") },
        JobSpec { run_at: Some(START.plus_ms(1)), ..hosted("14", "a.example") },
    ]);
    for (job, ahead) in [
        ("1", 1), // 9
        ("2", 2), // 1, 9
        ("3", 1), // 2
        ("4", 2), // 2, 3
        ("5", 0),
        ("6", 0),
        ("7", 5), // 1, 2, 3, 4, 9
        ("8", 9), // those, 7, 10, 12, 13
        ("9", 0),
        ("10", 4), // 1, 2, 7, 9
        ("11", 1), // 5
        ("12", 5), // 1, 2, 7, 9, 10
        ("13", 6), // those, 12
        ("14", 0),
    ] {
        let place = place(&mut process, job);
        assert_eq!(place.ahead, exactly(ahead), "{job}");
        assert_eq!((&place.job.key, &place.job.kind), (&place.lane.key, &place.lane.kind));
        assert_eq!(place.leased_by, None);
    }
    assert_eq!(process.store.place(&id("unknown"), 9).unwrap(), None);
}

/// A job that is not in line has nobody before it, and who runs counts no more.
pub fn a_place_tells_who_runs_a_job(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&["a", "b", "c"].map(|id| hosted(id, "a.example")));
    let leased = process.lease(2);
    let running = place(&mut process, "b");
    assert_eq!((running.job.state, running.ahead), (State::InProgress, exactly(0)));
    assert_eq!(running.leased_by.map(|(owner, _)| owner), Some(process.owner.id.clone()));
    assert_eq!(place(&mut process, "c").ahead, exactly(0));
    process.settle(leased[0].token, Change::HandBack);
    assert_eq!(place(&mut process, "c").ahead, exactly(1));
    process.settle(leased[1].token, done());
    let over = place(&mut process, "b");
    assert_eq!((over.job.state, over.ahead, over.leased_by), (State::Done, exactly(0), None));
}

/// It never counts for ever, and says so when it did not count to the end.
pub fn a_place_far_behind_is_estimated(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let jobs: Vec<JobSpec> = (0..400).map(|n| hosted(&format!("{n}"), "a.example")).collect();
    process.insert(&jobs);
    let mut check = |job: &str, most: usize, expected: Option<u64>| {
        let ahead = process.store.place(&id(job), most).unwrap().unwrap().ahead;
        match expected {
            Some(count) => assert_eq!(ahead, exactly(count), "{job}"),
            None => {
                assert!(!ahead.is_exact, "{job}: {ahead:?}");
                assert!((most as u64..=400).contains(&ahead.count), "{job}: {ahead:?}");
            }
        }
        ahead.count
    };
    check("0", 0, Some(0));
    check("1", 0, None);
    check("100", 100, Some(100));
    check("101", 100, None);
    let (near, far) = (check("150", 100, None), check("399", 100, None));
    assert!((130..=170).contains(&near) && far > 350, "{near}, {far}");
}

/// Each lane and priority once, in order, in pages.
pub fn a_backlog_counts_lane_by_lane(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    assert_eq!(process.store.backlog(None, 9).unwrap(), []);
    let mut jobs: Vec<JobSpec> = (0..7).map(|n| hosted(&format!("a{n}"), "a.example")).collect();
    jobs.extend((0..3).map(|n| hosted(&format!("b{n}"), "b.example")));
    jobs.push(JobSpec { priority: Priority::Critical, ..hosted("urgent", "b.example") });
    jobs.push(JobSpec { priority: Priority::Background, ..hosted("later", "a.example") });
    jobs.push(JobSpec { run_at: Some(START.plus_ms(1)), ..hosted("delayed", "c.example") });
    process.insert(&jobs);
    let all = process.store.backlog(None, 99).unwrap();
    let cursor = |lane: &LaneBacklog| -> LaneCursor { (lane.priority, lane.lane.id) };
    assert!(all.is_sorted_by(|a, b| cursor(a) < cursor(b)));
    let mut counts: Vec<_> =
        all.iter().map(|lane| (lane.priority, lane.lane.key.to_string(), lane.ready)).collect();
    counts.sort();
    let expected = [
        (Priority::Critical, "b.example".to_owned(), 1),
        (Priority::Normal, "a.example".to_owned(), 7),
        (Priority::Normal, "b.example".to_owned(), 3),
        (Priority::Background, "a.example".to_owned(), 1),
    ];
    assert_eq!(counts, expected);
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = process.store.backlog(after, 1).unwrap();
        let Some(last) = page.last() else { break };
        assert_eq!(page.len(), 1);
        after = Some(cursor(last));
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

/// Of every end of an attempt but a hand-back, under the key it was leased under; it outlives the jobs.
pub fn a_pace_is_that_of_all_settled_attempts(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let ends = [
        done(),
        skipped(SkipReason::Robots),
        failed(ErrorReason::Dns),
        again(START),
        defer("b.example"),
        Change::HandBack,
    ];
    let key = Key::new(Some("r"), Some("a.example")).unwrap();
    let jobs: Vec<JobSpec> =
        (0..ends.len()).map(|n| JobSpec { key: key.clone(), ..job(&format!("{n}")) }).collect();
    process.insert(&jobs);
    let check = |process: &mut Process, name: LimitKey, attempts: u64| {
        let pace = process.store.key(&name).unwrap().pace;
        assert_eq!(pace, Pace { attempts, elapsed_ms: 25 * attempts }, "{name}");
    };
    let host = |name: &str| LimitKey::Host(name.into());
    check(&mut process, host("a.example"), 0);
    let leased = process.lease(99);
    let settle: Vec<_> = leased
        .iter()
        .zip(&ends)
        .map(|(leased, end)| process.settlement(leased.token, end.clone()))
        .collect();
    process.turn(&settle, &[]);
    // The same once more: the tokens are used up.
    process.turn(&settle, &[]);
    check(&mut process, host("a.example"), 5);
    check(&mut process, LimitKey::Resolver("r".into()), 5);
    check(&mut process, host("r"), 0);
    check(&mut process, host("b.example"), 0);
    for leased in process.lease(99) {
        process.settle(leased.token, done());
    }
    check(&mut process, host("a.example"), 7);
    check(&mut process, host("b.example"), 1);
    process.store.prune(WallMs(i64::MAX), true, 99).unwrap();
    assert!(process.everything().is_empty());
    check(&mut process, host("a.example"), 7);
    let counted = process.store.counts_by(crate::queue::store::Dimension::Host).unwrap();
    assert_eq!(counted, [], "no job is at a host any more");
}
