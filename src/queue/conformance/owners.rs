//! Owners come, fall silent, end in good order or die, and others take over.

use super::Subject;
use super::scene::{Process, START, TERMS, again, done, hosted, ids, job};
use crate::job::{Change, ErrorReason, JobSpec, Key, Mono, Priority, Reason, State, WallMs};
use crate::queue::store::{Beat, RecoverTerms, Recovered, Settled};

/// Terms of an observer whose monotonic clock shows `ms`.
fn after_ms(ms: u64) -> RecoverTerms {
    RecoverTerms { mono: Mono::from_ms(ms), ..TERMS }
}

/// The lock file tells: no time needs to pass, and all its jobs are ready in their old places.
pub fn a_dead_owners_jobs_are_free_at_once(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let mut doomed = Process::start(subject);
    let dead = doomed.owner.id.clone();
    doomed.insert(&["a", "b", "c", "d"].map(job));
    doomed.insert(&[hosted("e", "e.example")]);
    let want = doomed.want(Priority::Normal, &Key::default(), 3).unwrap();
    doomed.turn(&[], &[want]);
    assert_eq!(process.recover(TERMS), Recovered::default(), "it lives");
    doomed.die(subject);
    let expected = Recovered { owners: vec![dead], requeued: 3, crashed: 0, handed_back: 0 };
    assert_eq!(process.recover(TERMS), expected);
    assert_eq!(process.recover(TERMS), Recovered::default(), "the dead die once");
    assert_eq!(process.store.counts().unwrap().queued, 5);
    let want = process.want(Priority::Normal, &Key::default(), 9).unwrap();
    assert_eq!(ids(&process.turn(&[], &[want]).leased), ["a", "b", "c", "d"]);
    process.everything();

    let idle = Process::start(subject);
    let id = idle.owner.id.clone();
    idle.die(subject);
    let recovered = process.store.recover(None, TERMS).unwrap();
    assert!(recovered.owners.contains(&id), "one that held nothing is reported too");
    assert_eq!((recovered.requeued, recovered.crashed), (0, 0));
}

/// The attempt was not the job's fault until proven; the death stays on record.
pub fn a_death_gives_the_attempt_back_and_counts_a_loss(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a")]);
    let tried = process.lease_only();
    process.settle(tried.token, again(START));
    let before = process.view("a");
    for losses in 1..=3 {
        let mut doomed = Process::start(subject);
        let leased = doomed.lease_only();
        assert_eq!((leased.attempt, leased.attempts_total, leased.losses), (2, 2, losses - 1));
        doomed.die(subject);
        let now = START.plus_ms(u64::from(losses));
        assert_eq!(process.recover(RecoverTerms { now, ..TERMS }).requeued, 1);
        let view = process.view("a");
        assert_eq!((view.state, view.not_before), (State::Queued, None));
        assert_eq!((view.attempts, view.attempts_total, view.losses), (1, 1, losses));
        assert_eq!((view.reason, &view.message), (before.reason, &before.message));
        assert_eq!((view.elapsed_ms, view.changed_at), (before.elapsed_ms, now));
        assert!(view.epoch > leased.token.epoch);
    }
    let story = process.story("a");
    let outcomes: Vec<&str> = story.iter().map(|attempt| &*attempt.outcome).collect();
    assert_eq!(outcomes, ["retry", "lost", "lost", "lost"]);
    assert_eq!((story[1].reason, story[1].elapsed_ms), (None, 0));
    assert_eq!(story[1].started_at, START.plus_ms(1));
}

/// At the last permitted death the job ends in error, reason `crashed`; its companions of fewer deaths go on.
pub fn too_many_deaths_end_a_job(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[hosted("killer", "a.example")]);
    let terms = RecoverTerms { max_job_losses: 3, now: START.plus_ms(9), ..TERMS };
    for death in 1..=3 {
        let mut doomed = Process::start(subject);
        if death == 3 {
            doomed.insert(&[hosted("bystander", "a.example")]);
        }
        let leased = doomed.lease(9);
        let token = leased[0].token;
        doomed.die(subject);
        let recovered = process.recover(terms);
        let (requeued, crashed) = if death == 3 { (1, 1) } else { (1, 0) };
        assert_eq!((recovered.requeued, recovered.crashed), (requeued, crashed), "death {death}");
        assert!(process.view("killer").epoch > token.epoch);
    }
    let view = process.view("killer");
    assert_eq!((view.state, view.losses), (State::Error, 3));
    assert_eq!(view.reason, Some(Reason::Error(ErrorReason::Crashed)));
    assert_eq!((view.attempts, view.attempts_total), (0, 0));
    assert!(!view.message.is_empty());
    assert_eq!((view.detail, view.changed_at), (None, terms.now));
    let story = process.story("killer");
    let outcomes: Vec<&str> = story.iter().map(|attempt| &*attempt.outcome).collect();
    assert_eq!(outcomes, ["lost", "lost", "crashed"]);
    assert_eq!(story[2].reason, view.reason);
    assert_eq!(process.view("bystander").losses, 1);
    assert_eq!(ids(&process.lease(9)), ["bystander"]);

    let mut doomed = Process::start(subject);
    doomed.insert(&[job("once")]);
    doomed.lease_only();
    doomed.die(subject);
    assert_eq!(process.recover(RecoverTerms { max_job_losses: 1, ..TERMS }).crashed, 1);
    process.everything();
}

/// It said it was ending: what it did not get to hand back itself is handed back for it, without a loss.
pub fn a_retired_owners_leases_are_handed_back_uncounted(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let mut ending = Process::start(subject);
    let id = ending.owner.id.clone();
    ending.insert(&[job("a"), job("b")]);
    let before = ending.view("a");
    let leased = ending.lease(2);
    ending.store.retire(&ending.owner, START).unwrap();
    assert_eq!(process.recover(TERMS), Recovered::default(), "it still lives");
    assert_eq!(process.store.counts().unwrap().in_progress, 2);
    ending.die(subject);
    let recovered = process.recover(RecoverTerms { max_job_losses: 1, ..TERMS });
    let expected = Recovered { owners: vec![id], requeued: 0, crashed: 0, handed_back: 2 };
    assert_eq!(recovered, expected);
    let after = process.view("a");
    assert!(after.epoch > leased[0].token.epoch);
    assert_eq!(after, crate::queue::store::JobView { epoch: after.epoch, ..before });
    assert!(process.story("a").is_empty());
    assert_eq!(process.settle(leased[0].token, done()), Settled::LeaseLost);
    assert_eq!(ids(&process.lease(9)), ["a", "b"]);
}

/// Nobody has to find it dead.
pub fn a_retired_owner_without_leases_is_gone(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let mut ending = Process::start(subject);
    ending.insert(&[job("a")]);
    let token = ending.lease_only().token;
    ending.settle(token, Change::HandBack);
    ending.store.retire(&ending.owner, START).unwrap();
    assert_eq!(ending.store.beat(&ending.owner).unwrap(), Beat::Lost);
    ending.die(subject);
    assert_eq!(process.recover(TERMS), Recovered::default());
}

/// One owner's death is nobody else's.
pub fn other_owners_keep_what_they_hold(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let mut alive = Process::start(subject);
    let mut doomed = Process::start(subject);
    process.insert(&["mine", "theirs", "lost"].map(job));
    let mine = process.lease(1).remove(0);
    let theirs = alive.lease(1).remove(0);
    doomed.lease(1);
    doomed.die(subject);
    assert_eq!(process.recover(TERMS).requeued, 1);
    let remaining = process.store.remaining(&process.owner, &[]).unwrap();
    assert_eq!((remaining.leased_here, remaining.leased_elsewhere), (1, 1));
    assert_eq!(alive.store.beat(&alive.owner).unwrap(), Beat::Alive);
    assert_eq!(alive.settle(theirs.token, done()), Settled::Accepted(State::Done));
    assert_eq!(process.settle(mine.token, done()), Settled::Accepted(State::Done));
}

/// Not even when its own heartbeat has not been raised for ever.
pub fn the_one_who_looks_is_never_judged(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    process.insert(&[job("a")]);
    let token = process.lease_only().token;
    for ms in [0, 600_000, 6_000_000] {
        assert_eq!(process.recover(after_ms(ms)), Recovered::default());
    }
    assert_eq!(process.store.beat(&process.owner).unwrap(), Beat::Alive);
    assert_eq!(process.settle(token, done()), Settled::Accepted(State::Done));
}

/// Its counter unchanged for the whole of a lease, as one observer saw it; any beat begins the time anew.
pub fn a_silent_owner_is_dead_by_the_observers_monotonic_clock(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let mut stopped = Process::start(subject);
    stopped.insert(&[job("a")]);
    let token = stopped.lease_only().token;
    assert_eq!(
        process.recover(after_ms(5_000_000)),
        Recovered::default(),
        "seen for the first time"
    );
    assert_eq!(process.recover(after_ms(5_599_999)), Recovered::default());
    assert_eq!(stopped.store.beat(&stopped.owner).unwrap(), Beat::Alive);
    assert_eq!(process.recover(after_ms(5_600_000)), Recovered::default(), "it beat");
    assert_eq!(process.recover(after_ms(6_199_999)), Recovered::default());
    let mut observer = Process::start(subject);
    assert_eq!(observer.recover(after_ms(9_000_000)), Recovered::default(), "seen by others");
    process.store.beat(&process.owner).unwrap();
    observer.store.beat(&observer.owner).unwrap();
    let recovered = process.recover(after_ms(6_200_000));
    assert_eq!((recovered.requeued, recovered.handed_back), (1, 0));
    assert_eq!(*recovered.owners, [stopped.owner.id.clone()]);
    assert_eq!(process.view("a").losses, 1);
    assert_eq!(stopped.settle(token, done()), Settled::LeaseLost);
}

/// An hour forth and an hour back: leases know nothing of wall time.
pub fn a_wall_clock_step_frees_nothing(subject: &mut dyn Subject) {
    const HOUR_MS: i64 = 3_600_000;
    let mut process = Process::start(subject);
    let mut holder = Process::start(subject);
    holder.insert(&[job("a")]);
    let token = holder.lease_only().token;
    let steps = [0, HOUR_MS, -HOUR_MS, 24 * HOUR_MS, 0];
    for (second, step) in (0..).zip(steps) {
        let now = WallMs(START.0 + step);
        process.now = now;
        assert_eq!(
            process.recover(RecoverTerms { now, ..after_ms(second * 1_000) }),
            Recovered::default()
        );
        process.turn(&[], &[]);
        holder.now = WallMs(START.0 - step);
        holder.turn(&[], &[]);
    }
    assert_eq!(holder.settle(token, done()), Settled::Accepted(State::Done));
}

/// What one handle saw, another did not.
pub fn a_fork_has_seen_nothing_yet(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let mut holder = Process::start(subject);
    holder.insert(&[job("a")]);
    let token = holder.lease_only().token;
    process.recover(after_ms(0));
    let mut fork = process.store.fork().unwrap();
    let me = Some(&process.owner);
    assert_eq!(fork.recover(me, after_ms(600_000)).unwrap(), Recovered::default());
    assert_eq!(holder.settle(token, done()), Settled::Accepted(State::Done));
    assert_eq!(fork.recover(me, after_ms(1_200_000)).unwrap().owners.len(), 1);
}

/// However owners are numbered: what was seen of one that is gone is not held against the next.
pub fn an_owner_is_not_taken_for_an_earlier_one(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let mut earlier = Process::start(subject);
    assert_eq!(process.recover(after_ms(0)), Recovered::default());
    earlier.store.retire(&earlier.owner, START).unwrap();
    earlier.die(subject);
    let mut holder = Process::start(subject);
    holder.insert(&[job("a")]);
    let token = holder.lease_only().token;
    assert_eq!(process.recover(after_ms(600_000)), Recovered::default());
    assert_eq!(holder.settle(token, done()), Settled::Accepted(State::Done));
}

/// Every call it makes afterwards tells it; it can change nothing, and goes on under a new registration.
pub fn an_owner_that_was_buried_learns_it(subject: &mut dyn Subject) {
    let mut process = Process::start(subject);
    let mut stopped = Process::start(subject);
    stopped.insert(&[job("a"), job("b")]);
    let due = JobSpec { run_at: Some(START.plus_ms(1)), ..job("due") };
    stopped.insert(&[due]);
    let want = stopped.want(Priority::Normal, &Key::default(), 1).unwrap();
    let token = stopped.turn(&[], &[want]).leased.remove(0).token;
    process.recover(after_ms(0));
    assert_eq!(process.recover(after_ms(600_000)).requeued, 1);
    let before = process.everything();

    assert_eq!(stopped.store.beat(&stopped.owner).unwrap(), Beat::Lost);
    stopped.now = START.plus_ms(1);
    let settle = [stopped.settlement(token, done()), stopped.settlement(token, Change::HandBack)];
    let report = stopped.turn(&settle, &[want, want]);
    assert!(report.owner_lost && report.leased.is_empty());
    assert_eq!(report.settled, [Settled::LeaseLost; 2]);
    stopped.store.retire(&stopped.owner, stopped.now).unwrap();
    assert_eq!(process.everything(), before);

    let old = stopped.owner.clone();
    stopped.owner = stopped.store.register(stopped.now).unwrap();
    assert_ne!(stopped.owner.id, old.id);
    assert_eq!(stopped.store.beat(&stopped.owner).unwrap(), Beat::Alive);
    assert_eq!(stopped.store.beat(&old).unwrap(), Beat::Lost);
    let report = stopped.turn(&[], &[want]);
    assert!(!report.owner_lost);
    assert_eq!(ids(&report.leased), ["a"]);
}
