//! What attempts observed of their resolvers is counted with their end, or not at all.

use super::Subject;
use super::scene::{Process, START, TERMS, again, defer, done, failed, job, skipped};
use crate::job::{
    Change, ErrorReason, LeaseToken, MAX_CHECKPOINT_BYTES, Mono, Note, Observation, SkipReason,
    WallMs,
};
use crate::queue::store::{MAX_YIELDS, OnDuplicate, RecoverTerms, Settled, StoreError, Turn};

const LATER: WallMs = WallMs(START.0 + 60_000);

/// `n` questions about works under a prefix, each count another multiple of them.
fn observed(resolver: &str, prefix: &str, n: u32) -> Observation {
    Observation {
        resolver: resolver.into(),
        prefix: prefix.into(),
        asked: n,
        found: 2 * n,
        fetched: 3 * n,
        busy: 4 * n,
        broken: 5 * n,
        elapsed_ms: u64::from(n) * 1_000,
    }
}

/// The change, its note telling of these.
fn observing(change: Change, observed: Vec<Observation>) -> Change {
    match change {
        Change::Finish { state, reason, note, checkpoint } => {
            Change::Finish { state, reason, note: note.with_observed(observed), checkpoint }
        }
        Change::Again { not_before, reason, note, checkpoint } => {
            Change::Again { not_before, reason, note: note.with_observed(observed), checkpoint }
        }
        other => other,
    }
}

/// Every end of an attempt that counts, several in one turn, one key in several of them; whoever opens the store next
/// reads the same, also when the jobs are gone.
pub fn what_accepted_attempts_observed_is_counted_once(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    assert!(process.store.yields().unwrap().is_empty());
    process.insert(&["a", "b", "c", "d", "e", "f"].map(job));
    let leased = process.lease(6);
    let ends = [
        observing(done(), vec![observed("unpaywall", "10.2", 1), observed("arxiv", "10.1", 1)]),
        observing(skipped(SkipReason::Robots), vec![observed("unpaywall", "10.2", 10)]),
        observing(failed(ErrorReason::Dns), vec![observed("unpaywall", "-", 100)]),
        observing(again(LATER), vec![observed("unpaywall", "10.10", 1_000)]),
        defer("b.example"),
        Change::HandBack,
    ];
    let settlements: Vec<_> = leased
        .iter()
        .zip(&ends)
        .map(|(leased, end)| process.settlement(leased.token, end.clone()))
        .collect();
    process.turn(&settlements, &[]);
    let first = [
        observed("arxiv", "10.1", 1),
        observed("unpaywall", "-", 100),
        observed("unpaywall", "10.10", 1_000),
        observed("unpaywall", "10.2", 11),
    ];
    assert_eq!(process.store.yields().unwrap(), first, "by resolver, then prefix");
    // The same once more: the tokens are used up.
    let answers = process.turn(&settlements, &[]).settled;
    assert!(answers.iter().all(|answer| *answer == Settled::LeaseLost));
    assert_eq!(process.store.yields().unwrap(), first);

    for leased in process.lease(9) {
        process.settle(leased.token, observing(done(), vec![observed("arxiv", "10.1", 5)]));
    }
    process.store.insert(&[job("a")], OnDuplicate::Requeue, START).unwrap();
    process.store.prune(LATER, false, 99).unwrap();
    let mut last = first;
    last[0] = observed("arxiv", "10.1", 11);
    assert_eq!(process.store.yields().unwrap(), last);
    assert_eq!(subject.open().yields().unwrap(), last);
}

/// Not that of a wrong epoch, of a lease that others took over, nor of an owner that was buried.
pub fn a_stale_settlement_yields_nothing(subject: &mut dyn Subject) {
    let mut stopped = Process::start(subject);
    stopped.insert(&[job("a")]);
    let token = stopped.lease_only().token;
    let counted = observing(done(), vec![observed("arxiv", "10.1", 1)]);
    let stale = LeaseToken { epoch: token.epoch.next(), ..token };
    assert_eq!(stopped.settle(stale, counted.clone()), Settled::LeaseLost);
    let mut process = Process::start(subject);
    assert_eq!(process.settle(token, counted.clone()), Settled::LeaseLost);
    let after_ms = |ms| RecoverTerms { mono: Mono::from_ms(ms), ..TERMS };
    process.recover(after_ms(0));
    assert_eq!(process.recover(after_ms(TERMS.lease_ttl_ms)).requeued, 1, "it was silent");
    let again = process.lease_only().token;
    assert_eq!(stopped.settle(token, counted.clone()), Settled::LeaseLost);
    assert!(process.store.yields().unwrap().is_empty());
    process.settle(again, counted);
    assert_eq!(process.store.yields().unwrap(), [observed("arxiv", "10.1", 1)]);
}

/// It can be tried again, and then counts once.
pub fn a_turn_that_fails_yields_nothing(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&["a", "b"].map(job));
    let leased = process.lease(2);
    let end = observing(done(), vec![observed("arxiv", "10.1", 1)]);
    let large = Change::Again {
        not_before: LATER,
        reason: ErrorReason::Dns,
        note: Note::default(),
        checkpoint: Some(vec![0; MAX_CHECKPOINT_BYTES + 1]),
    };
    let end = process.settlement(leased[0].token, end);
    let settle = [end.clone(), process.settlement(leased[1].token, large)];
    let turn = Turn {
        owner: &process.owner,
        now: process.now,
        settle: &settle,
        lease: &[],
        max_payload_bytes: 0,
        keys: None,
    };
    let answer = process.store.turn(&turn);
    assert!(matches!(answer, Err(StoreError::CheckpointTooLarge(_))), "{answer:?}");
    assert!(process.store.yields().unwrap().is_empty());
    process.turn(&[end], &[]);
    assert_eq!(process.store.yields().unwrap(), [observed("arxiv", "10.1", 1)]);
}

/// Whoever asks about a new publisher with every work must not fill the disk; those known go on being told apart.
pub fn prefixes_beyond_the_bound_are_counted_together(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&["a", "b"].map(job));
    let leased = process.lease(2);
    let prefix = |n: usize| observed("arxiv", &format!("10.{n:06}"), 1);
    let all_but_one: Vec<Observation> = (1..MAX_YIELDS).map(prefix).collect();
    process.settle(leased[0].token, observing(done(), all_but_one));
    let more = vec![
        prefix(MAX_YIELDS),
        prefix(MAX_YIELDS),
        prefix(MAX_YIELDS + 1),
        prefix(MAX_YIELDS + 2),
        prefix(7),
        observed("crossref", "10.000007", 1),
        observed("crossref", "-", 1),
    ];
    process.settle(leased[1].token, observing(done(), more));
    let yields = process.store.yields().unwrap();
    assert_eq!(yields.len(), MAX_YIELDS + 2);
    assert_eq!(yields[0], observed("arxiv", "-", 2));
    assert_eq!(yields[7], observed("arxiv", "10.000007", 2));
    assert_eq!(yields[MAX_YIELDS], observed("arxiv", &format!("10.{MAX_YIELDS:06}"), 2));
    assert_eq!(yields[MAX_YIELDS + 1], observed("crossref", "-", 2));
}

/// A count at its end must not stop the queue.
pub fn full_counts_stay_full(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&["a", "b", "c"].map(job));
    let full =
        Observation { asked: u32::MAX, elapsed_ms: u64::MAX, ..observed("arxiv", "10.1", 1) };
    for leased in process.lease(3) {
        process.settle(leased.token, observing(done(), vec![full.clone()]));
    }
    let yields = process.store.yields().unwrap();
    assert_eq!((yields[0].asked, yields[0].found), (u32::MAX, 6));
    assert!(yields[0].elapsed_ms >= i64::MAX.unsigned_abs());
}
