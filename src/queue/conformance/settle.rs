//! Attempts end, and only the word of the one who holds the lease counts.

use super::Subject;
use super::scene::{
    Process, START, TERMS, again, at_host, defer, done, failed, finish, hosted, ids, job, skipped,
};
use crate::job::{
    Change, Epoch, ErrorReason, FinalState, JobRow, Kind, LeaseToken, MAX_CHECKPOINT_BYTES, Note,
    Priority, Reason, SkipReason, State, WallMs,
};
use crate::queue::store::{
    Inserted, OnDuplicate, RetryFilter, Settled, Settlement, StoreError, Turn, Want,
};

const LATER: WallMs = WallMs(START.0 + 60_000);

/// Each of the three ends is written with its reason, sentence, particulars and duration.
pub fn done_skipped_and_error_end_a_job(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let ends = [
        ("done", FinalState::Done, "not_modified"),
        ("skipped", FinalState::Skipped, "no_open_copy"),
        ("error", FinalState::Error, "http_status"),
    ];
    for (id, end, reason) in ends {
        process.now = START;
        process.insert(&[job(id)]);
        let token = process.lease_only().token;
        process.now = LATER;
        let note = Note::new("so it was").with_detail("{\"a\": 1}");
        let settled = process.settle(token, finish(end, reason, note));
        assert_eq!(settled, Settled::Accepted(end.state()));
        let view = process.view(id);
        assert_eq!((view.state, view.reason), (end.state(), Reason::from_name(reason)));
        assert_eq!(
            (view.message.as_str(), view.detail.as_deref()),
            ("so it was", Some("{\"a\": 1}"))
        );
        assert_eq!((view.attempts, view.attempts_total, view.losses), (1, 1, 0));
        assert_eq!((view.enqueued_at, view.changed_at), (START, LATER));
        assert_eq!((view.elapsed_ms, view.not_before), (Some(25), None));
        assert!(view.epoch >= token.epoch);
    }
    assert!(process.lease(9).is_empty());
    process.everything();
}

/// The attempt is spent, its failure is on view while the job waits, and the next attempt is the second.
pub fn a_retry_counts_its_attempt_and_waits(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a")]);
    for attempt in 1..=3 {
        let leased = process.lease_only();
        assert_eq!((leased.attempt, leased.attempts_total), (attempt, attempt));
        let at = process.now.plus_ms(1_000);
        assert_eq!(process.settle(leased.token, again(at)), Settled::Accepted(State::Queued));
        let view = process.view("a");
        assert_eq!((view.state, view.not_before), (State::Queued, Some(at)));
        assert_eq!((view.attempts, view.attempts_total), (attempt, attempt));
        assert_eq!(view.reason, Some(Reason::Error(ErrorReason::Timeout)));
        assert_eq!((view.message.as_str(), view.elapsed_ms), ("slow", Some(25)));
        assert_eq!(view.changed_at, process.now);
        process.now = at;
    }
    let token = process.lease_only().token;
    assert_eq!(process.view("a").reason, Some(Reason::Error(ErrorReason::Timeout)));
    process.settle(token, done());
    assert_eq!(process.view("a").attempts, 4);
}

/// It joins the other lane where its row belongs: before younger rows that wait there already. No attempt is lost.
pub fn a_deferral_changes_the_lane_and_keeps_the_place_in_line(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[hosted("first", "a.example"), hosted("second", "a.example")]);
    process.insert(&[hosted("third", "b.example"), hosted("fourth", "b.example")]);
    let want = process.want(Priority::Normal, &at_host("a.example"), 2).unwrap();
    let leased = process.turn(&[], &[want]).leased;
    process.settle(leased[1].token, defer("b.example"));
    process.settle(leased[0].token, again(START));
    let third = process.want(Priority::Normal, &at_host("b.example"), 1).unwrap();
    let leased = process.turn(&[], &[third]).leased;
    assert_eq!(ids(&leased), ["second"]);
    assert_eq!((leased[0].attempt, leased[0].attempts_total), (1, 1));
    assert_eq!(leased[0].lane.key, at_host("b.example"));

    let settled = process.settle(
        leased[0].token,
        Change::Defer { key: at_host("c.example"), not_before: Some(LATER), checkpoint: None },
    );
    assert_eq!(settled, Settled::Accepted(State::Queued));
    let view = process.view("second");
    assert_eq!((view.attempts, view.attempts_total, view.losses), (0, 0, 0));
    assert_eq!((&view.key, view.not_before), (&at_host("c.example"), Some(LATER)));
    assert_eq!((view.reason, view.elapsed_ms), (None, None));
    assert_eq!((view.kind, view.changed_at), (Kind::new("noop").unwrap(), process.now));
    process.everything();
}

/// Nothing is counted and nothing is told; it is ready at once, in its old place.
pub fn a_hand_back_leaves_the_job_as_it_was(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a"), job("b")]);
    let tried = process.lease(1).remove(0);
    process.settle(tried.token, again(START));
    let (before, story) = (process.view("a"), process.story("a"));
    process.now = LATER;
    let leased = process.lease(1).remove(0);
    assert_eq!((leased.artifact_id.as_str(), leased.attempt), ("a", 2));
    assert_eq!(process.settle(leased.token, Change::HandBack), Settled::Accepted(State::Queued));
    let after = process.view("a");
    assert!(after.epoch >= leased.token.epoch);
    assert_eq!(after, crate::queue::store::JobView { epoch: after.epoch, ..before });
    assert_eq!(process.story("a"), story);
    assert_eq!(ids(&process.lease(9)), ["a", "b"]);
}

/// Good and stale tokens in one turn: each gets its own answer, and the stale ones spoil nothing.
pub fn settlements_are_answered_one_by_one_in_order(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&["a", "b", "c", "d", "e"].map(job));
    let leased = process.lease(9);
    process.settle(leased[3].token, done());
    let nobodys = LeaseToken { job: JobRow(987_654), epoch: Epoch(1) };
    let settle = [
        process.settlement(leased[4].token, done()),
        process.settlement(leased[3].token, failed(ErrorReason::Dns)),
        process.settlement(leased[2].token, again(LATER)),
        process.settlement(nobodys, done()),
        process.settlement(leased[1].token, failed(ErrorReason::Tls)),
        process.settlement(leased[0].token, skipped(SkipReason::Robots)),
    ];
    use Settled::{Accepted, LeaseLost};
    assert_eq!(
        process.turn(&settle, &[]).settled,
        [
            Accepted(State::Done),
            LeaseLost,
            Accepted(State::Queued),
            LeaseLost,
            Accepted(State::Error),
            Accepted(State::Skipped)
        ]
    );
    assert_eq!(process.view("d").state, State::Done);
    process.everything();
}

/// A turn settles before it leases.
pub fn a_job_settled_back_may_be_leased_in_the_same_turn(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a")]);
    let leased = process.lease_only();
    let want =
        Want { priority: leased.priority, lane: leased.lane.id, count: 1, max_losses: u32::MAX };
    let settle = [process.settlement(leased.token, again(START))];
    let report = process.turn(&settle, &[want]);
    assert_eq!((ids(&report.leased), report.dry), (vec!["a"], vec![true]));
    assert!(report.leased[0].token.epoch > leased.token.epoch);
    assert_eq!(report.leased[0].attempt, 2);
    assert_eq!(report.ready.len(), 1);
}

/// Every kind of change there is, with that token, does nothing at all.
fn is_refused(process: &mut Process, token: LeaseToken) {
    let before = process.everything();
    let late = Change::Again {
        not_before: START,
        reason: ErrorReason::Dns,
        note: Note::new("late").with_detail("{}"),
        checkpoint: Some(b"late".to_vec()),
    };
    let changes = [
        done(),
        skipped(SkipReason::Robots),
        failed(ErrorReason::Internal),
        late,
        defer("late.example"),
        Change::HandBack,
    ];
    process.now = process.now.plus_ms(7);
    for change in changes {
        assert_eq!(process.settle(token, change.clone()), Settled::LeaseLost, "{change:?}");
        assert_eq!(process.everything(), before, "{change:?}");
    }
}

/// Tokens of other epochs, of waiting jobs and of jobs taken over by others are refused.
pub fn a_stale_token_changes_nothing(subject: &mut dyn Subject) {
    let mut stopped = Process::start(subject);
    stopped.insert(&[job("a")]);
    let old = stopped.lease_only().token;
    is_refused(&mut stopped, LeaseToken { epoch: old.epoch.next(), ..old });
    is_refused(&mut stopped, LeaseToken { epoch: Epoch(old.epoch.0 - 1), ..old });
    is_refused(&mut stopped, LeaseToken { job: JobRow(old.job.0 + 1), ..old });

    let mut process = Process::start(subject);
    stopped.die(subject);
    assert_eq!(process.recover(TERMS).requeued, 1);
    is_refused(&mut process, old);
    let queued = process.view("a");
    is_refused(&mut process, LeaseToken { job: queued.row, epoch: queued.epoch });
    let new = process.lease_only().token;
    assert!(new.epoch > old.epoch);
    is_refused(&mut process, old);
    assert_eq!(process.settle(new, done()), Settled::Accepted(State::Done));
    is_refused(&mut process, old);
}

/// Whatever the first settlement was, a second one with its token is late.
pub fn a_token_is_good_for_one_settlement(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let firsts = [
        again(START),
        again(LATER),
        defer("b.example"),
        Change::HandBack,
        done(),
        skipped(SkipReason::Robots),
        failed(ErrorReason::Dns),
    ];
    for (n, first) in firsts.into_iter().enumerate() {
        process.insert(&[hosted(&format!("{n}"), "a.example")]);
        let want = process.want(Priority::Normal, &at_host("a.example"), 9).unwrap();
        let token = process.turn(&[], &[want]).leased.last().unwrap().token;
        assert!(matches!(process.settle(token, first), Settled::Accepted(_)));
        is_refused(&mut process, token);
    }
}

/// A good token in the wrong hands is no good.
pub fn another_owners_token_changes_nothing(subject: &mut dyn Subject) {
    let mut holder = Process::start(subject);
    let mut other = Process::start(subject);
    holder.insert(&[job("a")]);
    let token = holder.lease_only().token;
    is_refused(&mut other, token);
    assert_eq!(holder.settle(token, done()), Settled::Accepted(State::Done));
}

/// What a person put back is no longer the business of the attempt before; nor is what an update replaced.
pub fn a_token_from_before_a_requeue_changes_nothing(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a")]);
    let first = process.lease_only().token;
    process.settle(first, failed(ErrorReason::Dns));
    assert_eq!(process.store.retry_failed(&RetryFilter::default(), 9, LATER, false).unwrap(), 1);
    is_refused(&mut process, first);
    let second = process.lease_only().token;
    is_refused(&mut process, first);
    process.settle(second, done());
    let answers = process.store.insert(&[job("a")], OnDuplicate::Requeue, LATER).unwrap();
    assert_eq!(answers, [Inserted::Requeued]);
    is_refused(&mut process, second);
    let third = process.lease_only().token;
    is_refused(&mut process, first);
    is_refused(&mut process, second);
    assert_eq!(process.settle(third, Change::HandBack), Settled::Accepted(State::Queued));
}

/// Through a whole life: each lease, and each change without one, has a higher number than all before.
pub fn the_epoch_only_grows(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a")]);
    let mut last = process.view("a").epoch;
    let mut lives: Vec<(&str, Change)> = vec![
        ("again", again(START)),
        ("defer", defer("b.example")),
        ("hand back", Change::HandBack),
        ("error", failed(ErrorReason::Dns)),
        ("done", done()),
    ];
    for (name, change) in lives.drain(..) {
        let token = process.lease_only().token;
        assert!(token.epoch > last, "a lease raises the epoch: {name}");
        assert_eq!(process.view("a").epoch, token.epoch);
        process.settle(token, change);
        last = process.view("a").epoch;
        assert!(last >= token.epoch, "{name}");
        if name == "error" {
            process.store.retry_failed(&RetryFilter::default(), 1, START, false).unwrap();
            let raised = process.view("a").epoch;
            assert!(raised > last, "retry-failed raises the epoch");
            last = raised;
        }
    }
    for mode in [OnDuplicate::Requeue, OnDuplicate::Update] {
        process.store.insert(&[job("a")], mode, START).unwrap();
        let raised = process.view("a").epoch;
        assert!(raised > last, "{mode:?} raises the epoch");
        last = raised;
    }
    let mut doomed = Process::start(subject);
    let token = doomed.lease_only().token;
    assert!(token.epoch > last);
    doomed.die(subject);
    process.recover(TERMS);
    assert!(process.view("a").epoch > token.epoch, "a loss raises the epoch");
}

fn leave(change: Change, bytes: Option<&[u8]>) -> Change {
    let checkpoint = bytes.map(<[u8]>::to_vec);
    match change {
        Change::Again { not_before, reason, note, .. } => {
            Change::Again { not_before, reason, note, checkpoint }
        }
        Change::Defer { key, not_before, .. } => Change::Defer { key, not_before, checkpoint },
        Change::Finish { state, reason, note, .. } => {
            Change::Finish { state, reason, note, checkpoint }
        }
        other @ Change::HandBack => other,
    }
}

/// What was learned outlives everything but a good end; only a new checkpoint takes its place.
pub fn a_checkpoint_is_kept_until_replaced_or_finished_well(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let large = vec![0xA5; MAX_CHECKPOINT_BYTES];
    process.insert(&[job("a")]);
    let steps: [(Change, Option<&[u8]>); 14] = [
        (leave(failed(ErrorReason::Dns), Some(b"zero")), Some(b"zero")),
        (again(START), Some(b"zero")),
        (leave(again(START), Some(b"one")), Some(b"one")),
        (again(START), Some(b"one")),
        (defer("b.example"), Some(b"one")),
        (leave(defer("c.example"), Some(b"two\0\xff")), Some(b"two\0\xff")),
        (Change::HandBack, Some(b"two\0\xff")),
        (leave(again(START), Some(&large)), Some(&large)),
        (leave(defer("b.example"), Some(b"")), Some(b"")),
        (leave(again(START), Some(b"three")), Some(b"three")),
        (failed(ErrorReason::Dns), Some(b"three")),
        (failed(ErrorReason::Dns), Some(b"three")),
        (leave(failed(ErrorReason::Dns), Some(b"four")), Some(b"four")),
        (failed(ErrorReason::Dns), Some(b"four")),
    ];
    for (step, (change, expected)) in steps.into_iter().enumerate() {
        let token = process.lease_only().token;
        assert!(matches!(process.settle(token, change), Settled::Accepted(_)));
        process.store.retry_failed(&RetryFilter::default(), 9, START, false).unwrap();
        let mut other = Process::start(subject);
        let leased = other.lease_only();
        assert_eq!(leased.checkpoint.as_deref(), expected, "after step {step}");
        other.die(subject);
        let terms = crate::queue::store::RecoverTerms { max_job_losses: 999, ..TERMS };
        assert_eq!(process.recover(terms).requeued, 1);
    }
    for end in [done(), skipped(SkipReason::Robots)] {
        let token = process.lease_only().token;
        process.settle(token, leave(again(START), Some(b"four")));
        let token = process.lease_only().token;
        process.settle(token, end);
        let reason = Some(Reason::Skipped(SkipReason::Robots));
        let filter = RetryFilter { reason, ..RetryFilter::default() };
        if process.store.retry_failed(&filter, 9, START, false).unwrap() == 0 {
            process.store.insert(&[job("a")], OnDuplicate::Requeue, START).unwrap();
        }
        let leased = process.lease_only();
        assert_eq!(leased.checkpoint, None);
        process.settle(leased.token, Change::HandBack);
    }
}

/// They survive failures in between, and are replaced by the next time it ends done.
pub fn the_last_particulars_of_done_come_back_after_a_requeue(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let with = |state, reason, detail: Option<&str>| {
        let detail = detail.map(str::to_owned);
        finish(state, reason, Note { detail, ..Note::default() })
    };
    let requeue = |process: &mut Process| {
        process.store.insert(&[job("a")], OnDuplicate::Requeue, START).unwrap()[0]
    };
    process.insert(&[job("a")]);
    let leased = process.lease_only();
    process.settle(leased.token, with(FinalState::Error, "dns", Some("{\"failed\":1}")));
    requeue(&mut process);
    let leased = process.lease_only();
    assert_eq!(leased.previous, None, "it has never been done");
    process.settle(leased.token, with(FinalState::Done, "ok", Some("{\"etag\":\"1\"}")));
    assert_eq!(process.view("a").detail.as_deref(), Some("{\"etag\":\"1\"}"));
    assert_eq!(requeue(&mut process), Inserted::Requeued);
    assert_eq!(process.view("a").detail, None);

    let again = Change::Again {
        not_before: START,
        reason: ErrorReason::Dns,
        note: Note::new("x").with_detail("{\"failed\":2}"),
        checkpoint: None,
    };
    let ends = [
        again,
        with(FinalState::Error, "dns", Some("{\"failed\":3}")),
        with(FinalState::Skipped, "robots", Some("{\"failed\":4}")),
        with(FinalState::Done, "not_modified", Some("{\"etag\":\"2\"}")),
    ];
    for end in ends {
        let leased = process.lease_only();
        assert_eq!(leased.previous.as_deref(), Some("{\"etag\":\"1\"}"));
        process.settle(leased.token, end);
        requeue(&mut process);
    }
    let leased = process.lease_only();
    assert_eq!(leased.previous.as_deref(), Some("{\"etag\":\"2\"}"));
    process.settle(leased.token, with(FinalState::Done, "ok", None));
    requeue(&mut process);
    assert_eq!(process.lease_only().previous, None, "the last time left none");
}

/// A turn that fails has settled nothing, made nothing due and leased nothing, and can be tried again.
pub fn a_checkpoint_too_large_leaves_nothing_half_done(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&["a", "b", "c"].map(job));
    let late = crate::job::JobSpec { run_at: Some(LATER), ..job("delayed") };
    process.insert(&[late]);
    let leased = process.lease(2);
    let want = process.want(Priority::Normal, &leased[0].lane.key, 9).unwrap();
    process.now = LATER;
    let before = process.everything();
    let too_large = vec![0; MAX_CHECKPOINT_BYTES + 1];
    for change in [again(LATER), defer("b.example")] {
        let settle: [Settlement; 2] = [
            process.settlement(leased[0].token, done()),
            process.settlement(leased[1].token, leave(change, Some(&too_large))),
        ];
        let turn = Turn {
            owner: &process.owner,
            now: process.now,
            settle: &settle,
            lease: &[want],
            max_payload_bytes: usize::MAX,
            keys: None,
        };
        match process.store.turn(&turn) {
            Err(StoreError::CheckpointTooLarge(bytes)) => assert_eq!(bytes, too_large.len()),
            other => panic!("{other:?}"),
        }
        assert_eq!(process.everything(), before);
    }
    let settle = [
        process.settlement(leased[0].token, done()),
        process.settlement(leased[1].token, again(LATER)),
    ];
    let report = process.turn(&settle, &[want]);
    let accepted = [State::Done, State::Queued].map(Settled::Accepted);
    assert_eq!(report.settled, accepted);
    assert_eq!(ids(&report.leased), ["b", "c", "delayed"]);
}
