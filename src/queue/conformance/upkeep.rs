//! Finished jobs are put back or deleted.

use super::Subject;
use super::scene::{Process, START, TERMS, again, defer, done, failed, hosted, ids, job, skipped};
use crate::job::{Change, ErrorReason, Reason, SkipReason, State, WallMs};
use crate::queue::store::{Filter, Inserted, OnDuplicate, RetryFilter, Settled};

const LATER: WallMs = WallMs(START.0 + 60_000);

/// Fresh attempts and losses, ready at once in the lane it was in last; the total stays on record.
pub fn retry_failed_puts_back_errors_with_a_fresh_allowance(subject: &mut dyn Subject) {
    let mut doomed = Process::start(subject);
    doomed.insert(&[hosted("a", "a.example")]);
    doomed.lease_only();
    doomed.die(subject);
    let mut process = Process::start(subject);
    process.recover(TERMS);
    for change in [again(START), defer("b.example"), failed(ErrorReason::Dns)] {
        let token = process.lease_only().token;
        process.settle(token, change);
    }
    process.ended(job("crashed elsewhere"), done());
    let (old, story) = (process.view("a"), process.story("a"));
    assert_eq!((old.attempts, old.attempts_total, old.losses), (2, 2, 1));
    assert_eq!(process.store.retry_failed(&RetryFilter::default(), 9, LATER, false).unwrap(), 1);
    let new = process.view("a");
    assert_eq!((new.state, new.not_before), (State::Queued, None));
    assert_eq!((new.attempts, new.attempts_total, new.losses), (0, 2, 0));
    assert_eq!((new.reason, new.message.as_str(), new.detail), (None, "", None));
    assert_eq!((new.row, new.elapsed_ms), (old.row, None));
    assert_eq!((new.enqueued_at, new.changed_at), (START, LATER));
    assert_eq!((&new.key, &new.payload), (&old.key, &old.payload));
    assert!(new.epoch > old.epoch);
    assert_eq!(process.story("a"), story);
    let leased = process.lease_only();
    assert_eq!((leased.attempt, leased.attempts_total, leased.losses), (1, 3, 0));
    assert_eq!(process.store.retry_failed(&RetryFilter::default(), 9, LATER, false).unwrap(), 0);
    process.everything();

    process.settle(leased.token, failed(ErrorReason::Dns));
    let mut tried_below = |most| {
        let filter = RetryFilter { max_attempts: Some(most), ..RetryFilter::default() };
        process.store.retry_failed(&filter, 9, LATER, false).unwrap()
    };
    assert_eq!(tried_below(3), 0, "attempts are those of its whole life");
    assert_eq!(tried_below(4), 1);
}

/// Six jobs that ended, of all sorts, and three that did not.
fn a_mixed_bag(process: &mut Process) {
    for (id, host, tries, end) in [
        ("dns once", "a.example", 1, failed(ErrorReason::Dns)),
        ("dns twice", "b.example", 2, failed(ErrorReason::Dns)),
        ("tls thrice", "a.example", 3, failed(ErrorReason::Tls)),
        ("robots", "a.example", 1, skipped(SkipReason::Robots)),
        ("no copy", "b.example", 2, skipped(SkipReason::NoOpenCopy)),
        ("done", "a.example", 1, done()),
        ("queued", "a.example", 2, Change::HandBack),
    ] {
        process.insert(&[hosted(id, host)]);
        for _ in 1..tries {
            let token = process.lease_only().token;
            process.settle(token, again(START));
        }
        let token = process.lease_only().token;
        // The job that stays in the queue waits for a time, so that it is not in the way of the next.
        let end = if end == Change::HandBack { again(LATER) } else { end };
        process.settle(token, end);
    }
    process.insert(&[hosted("leased", "a.example")]);
    process.lease_only();
    process.insert(&[hosted("new", "a.example")]);
}

/// Which jobs of [`a_mixed_bag`] that filter takes, with the real call.
fn taken(process: &mut Process, filter: &RetryFilter) -> Vec<String> {
    let queued = Filter { state: Some(State::Queued), ..Filter::default() };
    let before = process.listed(&queued);
    let count = process.store.retry_failed(filter, 99, START, false).unwrap();
    let mut after = process.listed(&queued);
    after.retain(|id| !before.contains(id));
    assert_eq!(after.len() as u64, count);
    process.everything();
    after
}

/// By total of attempts, by reason, by host, and all of them at once.
pub fn retry_failed_takes_what_its_filter_says(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    a_mixed_bag(&mut process);
    let filter = |max_attempts, reason, host: Option<&str>| RetryFilter {
        max_attempts,
        reason,
        host: host.map(Into::into),
    };
    let dns = Some(Reason::Error(ErrorReason::Dns));
    let none: [&str; 0] = [];
    assert_eq!(taken(&mut process, &filter(Some(0), None, None)), none);
    assert_eq!(taken(&mut process, &filter(Some(1), None, None)), none);
    assert_eq!(taken(&mut process, &filter(None, None, Some("c.example"))), none);
    assert_eq!(
        taken(&mut process, &filter(None, Some(Reason::Error(ErrorReason::Wall)), None)),
        none
    );
    assert_eq!(taken(&mut process, &filter(None, dns, Some("b.example"))), ["dns twice"]);
    assert_eq!(taken(&mut process, &filter(Some(2), None, None)), ["dns once"]);
    assert_eq!(taken(&mut process, &filter(Some(3), None, None)), none, "by the total, not below");
    assert_eq!(taken(&mut process, &filter(Some(4), None, Some("a.example"))), ["tls thrice"]);
    assert_eq!(taken(&mut process, &RetryFilter::default()), none, "all are back");
}

/// Done jobs are never taken; skipped ones only when asked for by reason.
pub fn retry_failed_takes_skipped_jobs_by_their_reason(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    a_mixed_bag(&mut process);
    let by =
        |reason: &str| RetryFilter { reason: Reason::from_name(reason), ..RetryFilter::default() };
    let none: [&str; 0] = [];
    assert_eq!(taken(&mut process, &by("ok")), none);
    assert_eq!(taken(&mut process, &by("policy_size")), none);
    assert_eq!(taken(&mut process, &by("robots")), ["robots"]);
    let few = RetryFilter { max_attempts: Some(2), ..by("no_open_copy") };
    assert_eq!(taken(&mut process, &few), none);
    assert_eq!(taken(&mut process, &by("no_open_copy")), ["no copy"]);
    let errors = ["dns once", "dns twice", "tls thrice"];
    assert_eq!(taken(&mut process, &RetryFilter::default()), errors);
}

/// A limit of two takes the two oldest; calling again goes on.
pub fn retry_failed_takes_the_lowest_rows_up_to_its_limit(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    for id in ["c", "a", "e", "b", "d"] {
        process.ended(job(id), failed(ErrorReason::Dns));
    }
    let all = RetryFilter::default();
    assert_eq!(process.store.retry_failed(&all, 0, START, false).unwrap(), 0);
    assert_eq!(process.store.retry_failed(&all, 2, START, false).unwrap(), 2);
    assert_eq!(ids(&process.lease(9)), ["c", "a"]);
    assert_eq!(process.store.retry_failed(&all, 2, START, false).unwrap(), 2);
    assert_eq!(ids(&process.lease(9)), ["e", "b"]);
    assert_eq!(process.store.retry_failed(&all, 2, START, false).unwrap(), 1);
    process.everything();
}

/// It says what it would do.
pub fn a_dry_run_counts_and_changes_nothing(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    a_mixed_bag(&mut process);
    let before = process.everything();
    let all = RetryFilter::default();
    assert_eq!(process.store.retry_failed(&all, 99, LATER, true).unwrap(), 3);
    assert_eq!(process.store.retry_failed(&all, 2, LATER, true).unwrap(), 2);
    assert_eq!(process.everything(), before);
    assert_eq!(process.store.retry_failed(&all, 99, LATER, false).unwrap(), 3);
}

/// Strictly before the time, by when they were last changed; what is not finished is never touched.
pub fn prune_deletes_only_old_finished_jobs(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    a_mixed_bag(&mut process);
    process.now = LATER;
    process.insert(&[hosted("young", "y.example")]);
    let want = process.want(crate::job::Priority::Normal, &super::scene::at_host("y.example"), 1);
    let token = process.turn(&[], &[want.unwrap()]).leased.remove(0).token;
    process.settle(token, done());
    assert_eq!(process.store.prune(START, false, 99).unwrap(), 0);
    assert_eq!(process.store.prune(LATER, false, 99).unwrap(), 6);
    let left = ["queued", "leased", "new", "young"];
    assert_eq!(process.listed(&Filter::default()), left);
    process.everything();
    assert_eq!(process.store.prune(LATER.plus_ms(1), false, 99).unwrap(), 1);
    assert_eq!(process.store.counts().unwrap().total(), 3);
}

/// Pruned ids answer so in every mode, for ever; forgotten ones are new.
pub fn prune_keeps_ids_out_unless_told_to_forget(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.ended(job("kept"), done());
    process.store.prune(LATER, false, 9).unwrap();
    process.ended(job("forgotten"), failed(ErrorReason::Dns));
    process.store.prune(LATER, true, 9).unwrap();
    for mode in [OnDuplicate::Skip, OnDuplicate::Update, OnDuplicate::Requeue] {
        let answers = process.store.insert(&[job("kept"), job("kept")], mode, START).unwrap();
        assert_eq!(answers, [Inserted::Pruned; 2], "{mode:?}");
    }
    assert_eq!(process.store.counts().unwrap().total(), 0);
    assert_eq!(process.insert(&[job("kept"), job("forgotten")]), [Inserted::Pruned, Inserted::New]);
    let view = process.view("forgotten");
    assert_eq!((view.attempts, view.attempts_total, view.reason), (0, 0, None));
    assert!(process.story("forgotten").is_empty());
    process.everything();
}

/// Little by little, so that no transaction is long.
pub fn prune_takes_the_lowest_rows_up_to_its_limit(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    for id in ["c", "a", "b"] {
        process.ended(job(id), done());
    }
    assert_eq!(process.store.prune(LATER, false, 0).unwrap(), 0);
    assert_eq!(process.store.prune(LATER, false, 2).unwrap(), 2);
    assert_eq!(process.listed(&Filter::default()), ["b"]);
    assert_eq!(process.store.prune(LATER, false, 2).unwrap(), 1);
}

/// Rows are not used again: a word about a deleted job cannot hit the next one.
pub fn a_pruned_jobs_token_fits_no_later_job(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let mut tokens = Vec::new();
    for forget in [false, true] {
        process.insert(&[job(&format!("old {forget}"))]);
        let leased = process.lease_only();
        process.settle(leased.token, done());
        tokens.push(leased.token);
        assert_eq!(process.store.prune(LATER, forget, 9).unwrap(), 1);
    }
    process.insert(&[job("new"), job("newer")]);
    let leased = process.lease(9);
    for token in tokens {
        assert!(leased.iter().all(|leased| leased.token.job > token.job));
        assert_eq!(process.settle(token, done()), Settled::LeaseLost);
    }
    assert_eq!(process.store.counts().unwrap().in_progress, 2);
}
