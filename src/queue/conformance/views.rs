//! What people and programs see: counts, lists, stories, what remains.

use super::Subject;
use super::scene::{
    Process, START, TERMS, again, at_host, defer, done, failed, finish, hosted, id, job, kinds,
    skipped,
};
use crate::job::{
    Change, ErrorReason, FinalState, JobSpec, Key, Kind, Note, Reason, SkipReason, State, WallMs,
};
use crate::queue::store::{
    Counts, Dimension, Filter, MAX_ATTEMPTS_TOLD, OnDuplicate, Remaining, RetryFilter,
};

const LATER: WallMs = WallMs(START.0 + 60_000);

fn counts(queued: u64, in_progress: u64, done: u64, skipped: u64, error: u64) -> Counts {
    Counts { queued, in_progress, done, skipped, error }
}

/// Every kind of change moves one job from one count to another.
pub fn counts_follow_every_change(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let expect = |process: &mut Process, expected: Counts, when: &str| {
        assert_eq!(process.store.counts().unwrap(), expected, "{when}");
        process.everything();
    };
    expect(&mut process, Counts::default(), "empty");
    let ids = ["a", "b", "c", "d", "e", "f"];
    process.insert(&ids.map(job));
    process.insert(&[JobSpec { run_at: Some(LATER), ..job("delayed") }]);
    expect(&mut process, counts(7, 0, 0, 0, 0), "inserted, one delayed");
    let leased = process.lease(9);
    expect(&mut process, counts(1, 6, 0, 0, 0), "leased");
    let changes = [
        (done(), counts(1, 5, 1, 0, 0)),
        (skipped(SkipReason::Robots), counts(1, 4, 1, 1, 0)),
        (failed(ErrorReason::Dns), counts(1, 3, 1, 1, 1)),
        (again(LATER), counts(2, 2, 1, 1, 1)),
        (defer("b.example"), counts(3, 1, 1, 1, 1)),
        (Change::HandBack, counts(4, 0, 1, 1, 1)),
    ];
    for (leased, (change, expected)) in leased.iter().zip(changes) {
        let when = format!("{change:?}");
        process.settle(leased.token, change);
        expect(&mut process, expected, &when);
    }
    process.store.retry_failed(&RetryFilter::default(), 9, START, false).unwrap();
    expect(&mut process, counts(5, 0, 1, 1, 0), "retry-failed");
    process.store.insert(&[job("a")], OnDuplicate::Requeue, START).unwrap();
    expect(&mut process, counts(6, 0, 0, 1, 0), "requeued");
    process.store.prune(LATER, false, 9).unwrap();
    expect(&mut process, counts(6, 0, 0, 0, 0), "pruned");
    let mut doomed = Process::start(subject);
    assert_eq!(doomed.lease(2).len(), 2);
    expect(&mut process, counts(4, 2, 0, 0, 0), "leased elsewhere");
    doomed.die(subject);
    process.recover(TERMS);
    expect(&mut process, counts(6, 0, 0, 0, 0), "lost");
}

/// By host, resolver, kind and reason; most first, then by name; the present key counts, not the first.
pub fn counts_by_each_dimension_add_up(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let keyed = |id: &str, kind: &str, resolver, host| JobSpec {
        key: Key::new(resolver, host).unwrap(),
        ..JobSpec::new(id, kind).unwrap()
    };
    process.insert(&[
        keyed("done", "fetch", Some("arxiv"), Some("a.example")),
        keyed("skipped", "fetch", Some("arxiv"), Some("a.example")),
        keyed("error", "fetch", None, Some("b.example")),
        keyed("error2", "exec", None, Some("b.example")),
        keyed("retried", "exec", Some("zenodo"), None),
        keyed("deferred", "fetch", Some("arxiv"), Some("gone.example")),
        keyed("leased", "fetch", Some("arxiv"), Some("a.example")),
    ]);
    for leased in process.lease(9) {
        let change = match leased.artifact_id.as_str() {
            "done" => done(),
            "skipped" => skipped(SkipReason::Robots),
            "error" | "error2" => failed(ErrorReason::Dns),
            "retried" => again(LATER),
            "deferred" => defer("a.example"),
            _ => continue,
        };
        process.settle(leased.token, change);
    }
    process.insert(&[keyed("queued", "noop", None, None)]);
    let mut check = |by, expected: &[(&str, Counts)]| {
        let found = process.store.counts_by(by).unwrap();
        let found: Vec<(&str, Counts)> =
            found.iter().map(|(name, c)| (name.as_str(), *c)).collect();
        assert_eq!(found, expected, "{by:?}");
    };
    let hosts = [
        ("a.example", counts(1, 1, 1, 1, 0)),
        ("-", counts(2, 0, 0, 0, 0)),
        ("b.example", counts(0, 0, 0, 0, 2)),
    ];
    check(Dimension::Host, &hosts);
    let resolvers = [
        ("-", counts(2, 0, 0, 0, 2)),
        ("arxiv", counts(0, 1, 1, 1, 0)),
        ("zenodo", counts(1, 0, 0, 0, 0)),
    ];
    check(Dimension::Resolver, &resolvers);
    let kinds = [
        ("fetch", counts(1, 1, 1, 1, 1)),
        ("exec", counts(1, 0, 0, 0, 1)),
        ("noop", counts(1, 0, 0, 0, 0)),
    ];
    check(Dimension::Kind, &kinds);
    let reasons = [
        ("dns", counts(0, 0, 0, 0, 2)),
        ("ok", counts(0, 0, 1, 0, 0)),
        ("robots", counts(0, 0, 0, 1, 0)),
    ];
    check(Dimension::Reason, &reasons);
    assert_eq!(process.store.counts().unwrap(), counts(3, 1, 1, 1, 2));
}

/// State, reason and host, alone and together; the reason of a waiting job is that of its last failure.
pub fn a_list_holds_what_its_filter_says(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.ended(hosted("ok", "a.example"), done());
    process.ended(hosted("dns", "a.example"), failed(ErrorReason::Dns));
    process.ended(hosted("slow", "b.example"), failed(ErrorReason::Timeout));
    process.insert(&[hosted("retried", "b.example")]);
    let token = process.lease_only().token;
    process.settle(token, again(LATER));
    process.insert(&[hosted("leased", "a.example")]);
    process.lease_only();
    process.insert(&[hosted("queued", "a.example"), job("bare")]);

    let mut check = |state, reason: Option<&str>, host: Option<&str>, expected: &[&str]| {
        let reason = reason.and_then(Reason::from_name);
        let filter = Filter { state, reason, host: host.map(Into::into) };
        assert_eq!(process.listed(&filter), expected, "{filter:?}");
    };
    let all = ["ok", "dns", "slow", "retried", "leased", "queued", "bare"];
    check(None, None, None, &all);
    check(Some(State::Queued), None, None, &["retried", "queued", "bare"]);
    check(Some(State::InProgress), None, None, &["leased"]);
    check(Some(State::Done), None, None, &["ok"]);
    check(Some(State::Skipped), None, None, &[]);
    check(Some(State::Error), None, None, &["dns", "slow"]);
    check(None, Some("timeout"), None, &["slow", "retried"]);
    check(None, Some("robots"), None, &[]);
    check(None, None, Some("a.example"), &["ok", "dns", "leased", "queued"]);
    check(None, None, Some("c.example"), &[]);
    check(Some(State::Queued), Some("timeout"), None, &["retried"]);
    check(Some(State::Error), None, Some("a.example"), &["dns"]);
    check(Some(State::Error), Some("timeout"), Some("b.example"), &["slow"]);
    check(Some(State::Error), Some("timeout"), Some("a.example"), &[]);
}

/// Pages join without gap or overlap, and the last one says that it is.
pub fn a_list_comes_in_pages_by_row(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let empty = process.store.list(&Filter::default(), None, 5).unwrap();
    assert!(empty.jobs.is_empty() && empty.next.is_none());
    let names: Vec<String> = (0..12).map(|n| format!("job {n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let host = if n % 2 == 0 { "even.example" } else { "odd.example" };
        process.insert(&[hosted(name, host)]);
    }
    let even = Filter { host: Some("even.example".into()), ..Filter::default() };
    for (filter, step) in [(Filter::default(), 1), (even, 2)] {
        let expected: Vec<&String> = names.iter().step_by(step).collect();
        for limit in [1, 2, 3, 5, 6, 12, 99] {
            let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = process.store.list(&filter, after, limit).unwrap();
                assert!(page.jobs.len() <= limit);
                assert!(page.jobs.iter().all(|job| Some(job.row) > after));
                found.extend(page.jobs.iter().map(|job| job.artifact_id.to_string()));
                pages += 1;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert!(found.iter().eq(expected.iter().copied()), "{found:?}");
            assert_eq!(pages, expected.len().div_ceil(limit), "no empty page at the end");
        }
    }
}

/// Neither has one that was pruned.
pub fn an_unknown_id_has_no_story(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.ended(job("a"), done());
    assert_eq!(process.store.show(&id("b")).unwrap(), None);
    assert!(process.store.show(&id("a")).unwrap().is_some());
    process.store.prune(LATER, false, 9).unwrap();
    assert_eq!(process.store.show(&id("a")).unwrap(), None);
}

/// Oldest first; a job that simply ended done has none, and one that was done after trouble tells that too.
pub fn the_story_tells_every_attempt_worth_telling(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.ended(job("simple"), done());
    assert!(process.story("simple").is_empty());
    process.insert(&[job("a")]);
    let note = || Note::new("why");
    let changes = [
        again(START),
        defer("b.example"),
        Change::HandBack,
        finish(FinalState::Error, "tls", note()),
        finish(FinalState::Skipped, "robots", note()),
        finish(FinalState::Done, "ok", note()),
    ];
    let mut epochs = Vec::new();
    for (n, change) in (1..).zip(changes) {
        let token = process.lease_only().token;
        process.now = START.plus_ms(n * 100);
        let mut settlement = process.settlement(token, change.clone());
        settlement.elapsed_ms = n;
        process.turn(&[settlement], &[]);
        process.store.insert(&[job("a")], OnDuplicate::Requeue, process.now).unwrap();
        if change != Change::HandBack {
            epochs.push(token.epoch);
        }
    }
    let story = process.story("a");
    let told: Vec<_> = story
        .iter()
        .map(|a| {
            (&*a.outcome, a.reason.map(Reason::name), a.started_at.since_ms(START), a.elapsed_ms)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("retry", Some("timeout"), 100, 1),
            ("deferred", None, 200, 2),
            ("error", Some("tls"), 400, 4),
            ("skipped", Some("robots"), 500, 5),
            ("done", Some("ok"), 600, 6),
        ]
    );
    assert_eq!(story.iter().map(|attempt| attempt.epoch).collect::<Vec<_>>(), epochs);
    let messages: Vec<&str> = story.iter().map(|attempt| attempt.message.as_str()).collect();
    assert_eq!((messages[0], &messages[2..]), ("slow", &["why"; 3][..]));

    let mut doomed = Process::start(subject);
    doomed.insert(&[job("orphan")]);
    process.lease(1);
    doomed.lease_only();
    doomed.die(subject);
    process.recover(TERMS);
    let token = process.lease_only().token;
    process.settle(token, done());
    let story = process.story("orphan");
    let told: Vec<&str> = story.iter().map(|attempt| &*attempt.outcome).collect();
    assert_eq!(told, ["lost", "done"]);
}

/// A job that is tried for ever does not grow for ever.
pub fn the_story_keeps_the_last_attempts(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a")]);
    let tries = MAX_ATTEMPTS_TOLD as u64 + 7;
    for n in 1..=tries {
        let token = process.lease_only().token;
        process.now = START.plus_ms(n);
        process.settle(token, again(START));
    }
    let told: Vec<u64> =
        process.story("a").iter().map(|attempt| attempt.started_at.since_ms(START)).collect();
    assert!(told.iter().copied().eq(8..=tries), "{told:?}");
    assert_eq!(u64::from(process.view("a").attempts_total), tries);
}

/// In the order asked for, and none for a row that is not there.
pub fn stories_are_told_as_each_job_tells_its_own(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    assert!(process.store.stories(&[]).unwrap().is_empty());
    process.ended(job("simple"), done());
    process.ended(job("failed"), failed(ErrorReason::Dns));
    process.insert(&[job("retried")]);
    for change in [again(START), again(START), failed(ErrorReason::Tls)] {
        let token = process.lease_only().token;
        process.settle(token, change);
    }
    let rows = ["retried", "simple", "failed", "retried"].map(|id| process.view(id).row);
    let gone = crate::job::JobRow(rows.iter().map(|row| row.0).max().unwrap() + 1);
    let asked = [rows[0], rows[1], gone, rows[2], rows[3]];
    let stories = process.store.stories(&asked).unwrap();
    assert_eq!(stories.iter().map(Vec::len).collect::<Vec<_>>(), [3, 0, 0, 1, 3]);
    assert_eq!(stories[0], process.story("retried"));
    assert_eq!(stories[3], process.story("failed"));
    assert_eq!(stories[4], stories[0]);
}

/// Each field on its own, seen by each owner.
pub fn remaining_tells_what_is_left(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let mut other = Process::start(subject);
    let [noop, exec, fetch] = kinds();
    let check = |process: &mut Process, kinds: &[Kind], expected: Remaining| {
        assert_eq!(process.store.remaining(&process.owner, kinds).unwrap(), expected);
    };
    let noop = [noop];
    check(&mut process, &noop, Remaining::default());
    process.insert(&[hosted("a", "a.example")]);
    check(&mut process, &noop, Remaining { ready: true, ..Remaining::default() });
    let foreign = Remaining { ready_of_other_kinds: true, ..Remaining::default() };
    check(&mut process, &[exec.clone(), fetch.clone()], foreign);
    check(&mut process, &[], foreign);
    process.insert(&[JobSpec { kind: exec, ..job("b") }]);
    let both = Remaining { ready: true, ready_of_other_kinds: true, ..Remaining::default() };
    check(&mut process, &noop, both);
    let leased = process.lease(9);
    let here = Remaining { leased_here: 2, ..Remaining::default() };
    check(&mut process, &noop, here);
    check(&mut other, &noop, Remaining { leased_elsewhere: 2, ..Remaining::default() });

    process.settle(leased[0].token, again(LATER));
    let mut left = Remaining { delayed_retry: true, leased_here: 1, ..Remaining::default() };
    check(&mut process, &noop, left);
    check(&mut process, &[fetch], left);
    process.insert(&[JobSpec { run_at: Some(LATER), ..job("c") }]);
    left.delayed_run_at = true;
    check(&mut process, &noop, left);
    process.settle(leased[1].token, done());
    left.leased_here = 0;
    check(&mut process, &noop, left);
    process.now = LATER;
    process.turn(&[], &[]);
    let due = process.lease(9);
    assert_eq!(due.len(), 2);
    let change = Change::Defer {
        key: at_host("d.example"),
        not_before: Some(LATER.plus_ms(1)),
        checkpoint: None,
    };
    process.settle(due[0].token, change);
    process.settle(due[1].token, failed(ErrorReason::Dns));
    check(&mut process, &noop, Remaining { delayed_retry: true, ..Remaining::default() });
}
