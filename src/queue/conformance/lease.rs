//! Jobs go out, to one owner each.

use super::Subject;
use super::scene::{Process, TERMS, at_host, done, hosted, ids, job, kinds};
use crate::job::{JobSpec, Key, Kind, Preset, Priority, State};
use crate::queue::store::{Filter, ReadyLane, Settled, Turn, Want};

/// Rows of one lane and priority go out in the order they came in, whatever batch they came in.
pub fn leases_are_first_in_first_out_within_priority_and_lane(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[hosted("z", "a.example"), hosted("other", "b.example")]);
    process.insert(&[hosted("m", "a.example"), hosted("a", "a.example")]);
    process.insert(&[JobSpec { priority: Priority::High, ..hosted("urgent", "a.example") }]);
    let mut want = process.want(Priority::Normal, &at_host("a.example"), 2).unwrap();
    assert_eq!(ids(&process.turn(&[], &[want]).leased), ["z", "m"]);
    process.insert(&[hosted("0", "a.example")]);
    want.count = 9;
    assert_eq!(ids(&process.turn(&[], &[want]).leased), ["a", "0"]);
    assert_eq!(ids(&process.lease(9)), ["urgent", "other"]);
}

/// A want names one lane (a kind under a key) and one priority, and gets nothing else.
pub fn only_wanted_lanes_and_priorities_are_leased(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let keys = [
        (None, None),
        (Some("r"), None),
        (None, Some("h.example")),
        (Some("r"), Some("h.example")),
    ];
    for kind in ["noop", "exec"] {
        for priority in [Priority::Critical, Priority::Background] {
            for (resolver, host) in keys {
                let id = format!("{kind} {priority} {resolver:?} {host:?}");
                let key = Key::new(resolver, host).unwrap();
                let spec = JobSpec { priority, key, ..JobSpec::new(&id, kind).unwrap() };
                process.insert(&[spec]);
            }
        }
    }
    let lanes = process.ready_lanes();
    assert_eq!(lanes.len(), 16);
    for ready in lanes.into_iter().rev() {
        let want =
            Want { priority: ready.priority, lane: ready.lane.id, count: 9, max_losses: u32::MAX };
        let leased = process.turn(&[], &[want]).leased;
        assert_eq!(leased.len(), 1, "{ready:?}");
        assert_eq!((&leased[0].lane, leased[0].priority), (&ready.lane, ready.priority));
        let host = ready.lane.key.host.as_deref();
        let id = format!(
            "{} {} {:?} {host:?}",
            ready.lane.kind,
            ready.priority,
            ready.lane.key.resolver.as_deref()
        );
        assert_eq!(leased[0].artifact_id.as_str(), id);
    }
    assert_eq!(process.store.counts().unwrap().in_progress, 16);
}

/// Counts are upper bounds; a lane is dry when nothing is left in it after its want.
pub fn wants_are_served_in_order_and_dry_says_what_is_left(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&["a1", "a2", "a3"].map(|id| hosted(id, "a.example")));
    process.insert(&["b1", "b2"].map(|id| hosted(id, "b.example")));
    let a = process.want(Priority::Normal, &at_host("a.example"), 1).unwrap();
    let b = process.want(Priority::Normal, &at_host("b.example"), 2).unwrap();
    let absent = Want { priority: Priority::High, count: 5, ..a };

    let report = process.turn(&[], &[b, a, a, absent]);
    assert_eq!(ids(&report.leased), ["b1", "b2", "a1", "a2"]);
    assert_eq!(report.dry, [true, false, false, true]);
    let report = process.turn(&[], &[Want { count: 9, ..a }, b]);
    assert_eq!(ids(&report.leased), ["a3"]);
    assert_eq!(report.dry, [true, true]);
    assert!(process.turn(&[], &[]).dry.is_empty());
    assert!(process.ready_lanes().is_empty());
}

/// Payload bytes are counted over the whole turn: the lease that crosses the bound is the last.
pub fn leasing_stops_at_the_payload_bound_after_at_least_one(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let of_ten = |id| job(id).with_payload("{\"n\":1234}");
    process.insert(&["a", "b", "c", "d", "e"].map(of_ten));
    process.insert(&[hosted("elsewhere", "b.example")]);
    let here = process.want(Priority::Normal, &Key::default(), 9).unwrap();
    let there = process.want(Priority::Normal, &at_host("b.example"), 9).unwrap();
    let mut lease = |max_payload_bytes| {
        let turn = Turn {
            owner: &process.owner,
            now: process.now,
            settle: &[],
            lease: &[here, there],
            max_payload_bytes,
            keys: None,
        };
        let report = process.store.turn(&turn).unwrap();
        assert!(
            !report.dry[1] || report.leased.iter().any(|l| l.artifact_id.as_str() == "elsewhere")
        );
        ids(&report.leased).join(" ")
    };
    assert_eq!(lease(0), "a");
    assert_eq!(lease(9), "b");
    assert_eq!(lease(10), "c d");
    assert_eq!(lease(10), "e elsewhere");
}

/// A want may leave out jobs that an owner died with; they count as more to be had.
pub fn jobs_held_in_a_death_are_skipped_where_unwanted(subject: &mut dyn Subject) {
    let mut doomed = Process::start(subject);
    doomed.insert(&[job("suspect")]);
    doomed.lease_only();
    doomed.die(subject);
    let mut process = Process::start(subject);
    process.recover(TERMS);
    process.insert(&[job("b"), job("c")]);

    let all = process.want(Priority::Normal, &Key::default(), 9).unwrap();
    let careful = Want { max_losses: 0, ..all };
    let report = process.turn(&[], &[Want { count: 1, ..careful }]);
    assert_eq!((ids(&report.leased), report.dry), (vec!["b"], vec![false]));
    let report = process.turn(&[], &[careful]);
    assert_eq!((ids(&report.leased), report.dry), (vec!["c"], vec![false]));
    let report = process.turn(&[], &[careful]);
    assert_eq!((ids(&report.leased), report.dry), (vec![], vec![false]));
    let report = process.turn(&[], &[all]);
    assert_eq!((ids(&report.leased), report.dry), (vec!["suspect"], vec![true]));
    assert_eq!(report.leased[0].losses, 1);
}

/// The lease brings along everything the spec said.
pub fn a_lease_carries_all_its_handler_needs(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let spec = JobSpec {
        kind: Kind::new("fetch").unwrap(),
        priority: Priority::Critical,
        max_attempts: Some(4),
        timeout_seconds: Some(60),
        retry: Some(Preset::Conservative.policy()),
        key: Key::new(Some("arxiv"), Some("arxiv.org")).unwrap(),
        ..job("doi:10.1/Ä").with_payload("{ \"url\" : \"…\" }")
    };
    process.insert(std::slice::from_ref(&spec));
    let leased = process.lease_only();
    assert_eq!(leased.artifact_id, spec.artifact_id);
    assert_eq!((&leased.lane.kind, &leased.lane.key), (&spec.kind, &spec.key));
    assert_eq!(leased.priority, spec.priority);
    assert_eq!((leased.attempt, leased.attempts_total, leased.losses), (1, 1, 0));
    assert_eq!((leased.max_attempts, leased.timeout_seconds), (Some(4), Some(60)));
    assert_eq!((leased.retry, leased.payload.clone()), (spec.retry, spec.payload));
    assert_eq!((leased.checkpoint.clone(), leased.previous.clone()), (None, None));
    let view = process.view("doi:10.1/Ä");
    assert_eq!((leased.token.job, leased.token.epoch), (view.row, view.epoch));
}

/// Two processes that want the same lane get different jobs.
pub fn a_leased_job_is_nobody_elses(subject: &mut dyn Subject) {
    let mut one = Process::start(subject);
    let mut two = Process::start(subject);
    one.insert(&["a", "b", "c"].map(job));
    let want = two.want(Priority::Normal, &Key::default(), 2).unwrap();
    assert_eq!(ids(&one.turn(&[], &[want]).leased), ["a", "b"]);
    assert_eq!(ids(&two.turn(&[], &[want]).leased), ["c"]);
    assert!(one.turn(&[], &[want]).leased.is_empty());
    let mut forked = two.store.fork().unwrap();
    assert_eq!(forked.counts().unwrap().in_progress, 3);
}

/// While it is leased, list and show say so and count the attempt being made.
pub fn a_leased_job_is_shown_with_the_attempt_being_made(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a"), hosted("b", "b.example")]);
    let want = process.want(Priority::Normal, &Key::default(), 1).unwrap();
    let leased = process.turn(&[], &[want]).leased.remove(0);
    let view = process.view("a");
    assert_eq!((view.state, view.epoch), (State::InProgress, leased.token.epoch));
    assert_eq!((view.attempts, view.attempts_total), (1, 1));
    assert_eq!((view.reason, view.not_before, view.elapsed_ms), (None, None, None));
    let in_state = |state| Filter { state: Some(state), ..Filter::default() };
    assert_eq!(process.listed(&in_state(State::InProgress)), ["a"]);
    assert_eq!(process.listed(&in_state(State::Queued)), ["b"]);
    process.everything();
    assert_eq!(process.settle(leased.token, done()), Settled::Accepted(State::Done));
    assert!(process.listed(&in_state(State::InProgress)).is_empty());
}

/// Pages join without gap or overlap, in the order (priority, lane number), and lanes without ready jobs are left out.
pub fn ready_lanes_come_by_priority_and_lane_in_pages(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    assert!(process.ready_lanes().is_empty());
    let hosts = ["e.example", "a.example", "c.example", "b.example", "d.example"];
    for (priority, take) in [(Priority::Low, 5), (Priority::Critical, 3), (Priority::Normal, 4)] {
        for host in &hosts[..take] {
            for n in 0..3 {
                let id = format!("{host} {priority} {n}");
                process.insert(&[JobSpec { priority, ..hosted(&id, host) }]);
            }
        }
    }
    let all = process.ready_lanes();
    let cursor = |ready: &ReadyLane| (ready.priority, ready.lane.id);
    assert_eq!(all.len(), 12, "one entry per priority and lane: {all:?}");
    assert!(all.is_sorted_by(|a, b| cursor(a) < cursor(b)), "{all:?}");
    for limit in [1, 2, 5, 12, 13] {
        let mut paged: Vec<ReadyLane> = Vec::new();
        loop {
            let after = paged.last().map(cursor);
            let page = process.store.ready_lanes(after, limit, &kinds()).unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, all, "in pages of {limit}");
    }
    let want =
        Want { priority: Priority::Critical, lane: all[0].lane.id, count: 3, max_losses: u32::MAX };
    process.turn(&[], &[want]);
    assert_eq!(process.ready_lanes(), all[1..]);
}

/// A run that may not start a kind does not see its lanes.
pub fn ready_lanes_are_of_the_kinds_asked_for(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let [noop, exec, fetch] = kinds();
    for kind in [&noop, &exec, &fetch] {
        for host in ["a.example", "b.example"] {
            let spec = JobSpec { kind: kind.clone(), ..hosted(&format!("{kind} {host}"), host) };
            process.insert(&[spec]);
        }
    }
    let mut count = |kinds: &[Kind], limit| {
        let lanes = process.store.ready_lanes(None, limit, kinds).unwrap();
        assert!(lanes.iter().all(|ready| kinds.contains(&ready.lane.kind)), "{lanes:?}");
        lanes.len()
    };
    assert_eq!(count(&[], 9), 0);
    assert_eq!(count(std::slice::from_ref(&exec), 9), 2);
    assert_eq!(count(&[fetch.clone(), noop.clone()], 9), 4);
    assert_eq!(count(&[fetch], 1), 1);
    assert_eq!(count(&[noop, exec, Kind::new("unheard-of").unwrap()], 9), 4);
}
