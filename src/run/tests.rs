//! A run over the reference store, with handlers that are functions.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};

use super::*;
use crate::handler::{MachineFault, Ran};
use crate::job::{ErrorReason, Jitter, JobSpec, Key, Reason, State, Strategy, WallMs};
use crate::limit::KeyLimits;
use crate::queue::memory::MemoryStore;
use crate::queue::store::{Filter, JobView, OnDuplicate};

fn store_with(specs: &[JobSpec]) -> Box<dyn Store> {
    let mut store: Box<dyn Store> = Box::new(MemoryStore::new());
    store.insert(specs, OnDuplicate::Skip, WallMs(0)).unwrap();
    store
}

fn jobs(count: usize) -> Vec<JobSpec> {
    (0..count).map(|n| JobSpec::new(&format!("job-{n}"), "test").unwrap()).collect()
}

fn at_host(mut spec: JobSpec, host: &str) -> JobSpec {
    spec.key = Key::new(None, Some(host)).unwrap();
    spec
}

fn quick_retries() -> RunOptions {
    RunOptions {
        retry: RetryPolicy {
            strategy: Strategy::Fixed,
            base_ms: 1,
            max_ms: 1,
            jitter: Jitter::UpToMs(0),
            max_attempts: None,
        },
        ..RunOptions::default()
    }
}

/// A runner of `store`, and another handle to look at it afterwards.
fn runner(store: Box<dyn Store>) -> (Runner, Box<dyn Store>) {
    let look = store.fork().unwrap();
    (Runner::new(store).options(quick_retries()), look)
}

fn all(store: &mut dyn Store) -> Vec<JobView> {
    store.list(&Filter::default(), None, 100_000).unwrap().jobs
}

#[test]
fn every_job_is_run_once_and_ends_done() {
    let (runner, mut look) = runner(store_with(&jobs(5_000)));
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let mine = Arc::clone(&seen);
    let report = runner
        .handler_fn("test", move |context| {
            let fresh = mine.lock().unwrap().insert(context.job().token);
            assert!(fresh, "leased twice");
            Outcome::done()
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!((report.done, report.failed, report.lost), (5_000, 0, 0));
    assert_eq!(seen.lock().unwrap().len(), 5_000);
    assert_eq!(look.counts().unwrap().done, 5_000);
}

#[test]
fn a_panic_is_an_error_of_that_job_alone() {
    let (runner, mut look) = runner(store_with(&jobs(50)));
    let report = runner
        .handler_fn("test", |context| {
            assert_ne!(context.job().artifact_id.as_str(), "job-7", "seven");
            Outcome::done()
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!((report.done, report.failed), (49, 1));
    let job = all(&mut *look).swap_remove(7);
    assert_eq!(job.reason, Some(Reason::Error(ErrorReason::Panic)));
    assert!(job.message.contains("seven"), "{}", job.message);
}

#[test]
fn a_machine_that_cannot_go_on_ends_the_run_and_no_attempt_is_counted() {
    struct Full;
    impl Handler for Full {
        fn run(&self, context: &mut Context<'_>) -> Ran {
            let fault = MachineFault { message: "no space left".to_owned() };
            // Every other one from elsewhere, as a publisher would.
            if context.job().token.job.0 % 2 == 0 {
                return Ran::GaveUp(fault);
            }
            context.finish_later().unwrap().end(Err(fault));
            Ran::Later
        }
    }
    let (runner, mut look) = runner(store_with(&jobs(500)));
    let error = runner.handler("test", Full).unwrap().drain().unwrap_err();
    assert!(matches!(&error, RunError::Machine(fault) if fault.message == "no space left"));
    for job in all(&mut *look) {
        assert_eq!((job.state, job.attempts, job.losses), (State::Queued, 0, 0), "{job:?}");
    }
}

/// Both once left the dispatcher with a wrong count of what is in flight.
#[test]
fn a_handler_that_tells_two_ends_or_none_ends_its_job_once() {
    struct Confused;
    impl Handler for Confused {
        fn run(&self, context: &mut Context<'_>) -> Ran {
            let nth = context.job().token.job.0;
            let _dropped = (nth % 3 > 0).then(|| context.finish_later().unwrap());
            match nth % 3 {
                0 => Ran::Later,
                1 => panic!("after it took its completion"),
                _ => Outcome::done().into(),
            }
        }
    }
    let (runner, mut look) = runner(store_with(&jobs(60)));
    let report = runner.handler("test", Confused).unwrap().drain().unwrap();
    assert_eq!((report.failed, report.queue.error, report.lost), (60, 60, 0));
    for job in all(&mut *look) {
        assert_eq!(job.reason, Some(Reason::Error(ErrorReason::Internal)), "{job:?}");
    }
}

#[test]
fn retries_are_waited_for_and_use_up_the_attempts() {
    let (runner, mut look) = runner(store_with(&jobs(20)));
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let report = runner
        .handler_fn("test", move |context| {
            counted.fetch_add(1, SeqCst);
            match (context.job().artifact_id.as_str(), context.attempt()) {
                ("job-3", _) | (_, 1) => Outcome::retry(ErrorReason::Timeout, "slow"),
                _ => Outcome::done(),
            }
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!((report.done, report.failed, report.retried), (19, 1, 21));
    assert_eq!(tries.load(SeqCst), 41);
    let job = all(&mut *look).swap_remove(3);
    assert_eq!((job.state, job.attempts), (State::Error, 3));
}

#[test]
fn retries_are_left_when_not_waited_for() {
    let (runner, mut look) = runner(store_with(&jobs(1)));
    let options = RunOptions {
        wait_retries: false,
        retry: RetryPolicy::queue_default(3_600_000, 3_600_000, 0),
        ..RunOptions::default()
    };
    let report = runner
        .options(options)
        .handler_fn("test", |_| Outcome::retry(ErrorReason::Timeout, "slow"))
        .unwrap()
        .drain()
        .unwrap();
    assert!(report.left.delayed_retry);
    assert_eq!(look.counts().unwrap().queued, 1);
}

#[test]
fn a_host_never_runs_more_than_its_limit_and_holds_up_nobody() {
    let mut specs: Vec<JobSpec> =
        jobs(200).into_iter().map(|job| at_host(job, "slow.example")).collect();
    let mut free = JobSpec::new("free", "test").unwrap();
    free.key = Key::new(None, Some("free.example")).unwrap();
    specs.push(free);
    let (runner, _) = runner(store_with(&specs));
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    // Both jobs of the slow host wait here for the one of the free host: they deadlock if it cannot start.
    let meet = Barrier::new(3);
    let met = AtomicUsize::new(0);
    let mut options = quick_retries();
    options.limits.by_key.insert(
        crate::job::LimitKey::Host("slow.example".into()),
        KeyLimits { max_concurrent: Some(2), rate: None },
    );
    let report = runner
        .options(options)
        .handler_fn("test", move |context| {
            let slow = context.job().lane.key.host.as_deref() == Some("slow.example");
            if slow {
                peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
            }
            if !slow || met.fetch_add(1, SeqCst) < 2 {
                meet.wait();
            }
            if slow {
                now.fetch_sub(1, SeqCst);
            }
            Outcome::done()
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!(report.done, 201);
    assert_eq!(most.load(SeqCst), 2);
}

#[test]
fn a_deferred_job_comes_back_under_its_new_key_with_its_checkpoint_and_all_its_attempts() {
    let (runner, mut look) = runner(store_with(&jobs(1)));
    let report = runner
        .handler_fn("test", |context| {
            assert_eq!(context.attempt(), 1);
            match context.job().checkpoint.as_deref() {
                None => Outcome::Defer {
                    key: Key::new(None, Some("next.example")).unwrap(),
                    not_before: None,
                    checkpoint: Some(b"learned".to_vec()),
                },
                Some(learned) => {
                    assert_eq!(learned, b"learned");
                    assert_eq!(context.job().lane.key.host.as_deref(), Some("next.example"));
                    Outcome::done()
                }
            }
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!((report.done, report.deferred), (1, 1));
    assert_eq!(all(&mut *look)[0].attempts_total, 1);
}

#[test]
fn a_completion_frees_the_worker_and_settles_later() {
    struct Elsewhere(Sender<crate::handler::Completion>);
    impl Handler for Elsewhere {
        fn run(&self, context: &mut Context<'_>) -> Ran {
            let completion = context.finish_later().unwrap();
            assert!(context.finish_later().is_none());
            self.0.send(completion).unwrap();
            Ran::Later
        }
    }
    let (to, from) = unbounded();
    let (runner, mut look) = runner(store_with(&jobs(100)));
    // One worker, and nothing is completed before all hundred have been through its hands.
    let publisher = std::thread::spawn(move || {
        let all: Vec<crate::handler::Completion> = from.iter().take(100).collect();
        for (n, completion) in all.into_iter().enumerate() {
            if n != 5 {
                completion.finish(Outcome::done());
            }
        }
    });
    let mut options = quick_retries();
    options.max_job_attempts = 1;
    let report =
        runner.options(options).workers(1).handler("test", Elsewhere(to)).unwrap().drain().unwrap();
    publisher.join().unwrap();
    assert_eq!((report.done, report.failed), (99, 1));
    assert_eq!(all(&mut *look)[5].reason, Some(Reason::Error(ErrorReason::Internal)));
}

#[test]
fn a_stop_hands_back_what_has_not_started_and_lets_the_rest_finish() {
    let (runner, mut look) = runner(store_with(&jobs(1_000)));
    let stop = runner.stop_handle();
    let started = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&started);
    let report = runner
        .workers(4)
        .handler_fn("test", move |context| {
            if counted.fetch_add(1, SeqCst) == 0 {
                stop.stop(StopCause::Signal(15));
                // Until the dispatcher has heard it: the others are taken back only then.
                let _ = context.cancel().wait(Duration::from_millis(200));
            }
            Outcome::done()
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!(report.stopped, Some(StopCause::Signal(15)));
    assert_eq!(usize::try_from(report.done).unwrap(), started.load(SeqCst));
    let counts = look.counts().unwrap();
    assert_eq!((counts.in_progress, counts.done), (0, report.done));
    let untouched = all(&mut *look).into_iter().filter(|job| job.state == State::Queued);
    assert!(untouched.clone().count() > 0);
    for job in untouched {
        assert_eq!((job.attempts, job.attempts_total, job.losses), (0, 0, 0));
    }
}

#[test]
fn stopping_at_once_cancels_and_gives_the_attempt_back() {
    let (runner, mut look) = runner(store_with(&jobs(1)));
    let stop = runner.stop_handle();
    let report = runner
        .handler_fn("test", move |context| {
            stop.stop_now(StopCause::Signal(2));
            match context.cancel().wait(Duration::from_secs(60)) {
                Some(reason) => reason.outcome(),
                None => panic!("never cancelled"),
            }
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!((report.handed_back, report.failed, report.retried), (1, 0, 0));
    let job = all(&mut *look).swap_remove(0);
    assert_eq!((job.state, job.attempts), (State::Queued, 0));
}

#[test]
fn a_job_past_its_deadline_is_cancelled_and_says_so() {
    let mut spec = jobs(1).swap_remove(0);
    (spec.timeout_seconds, spec.max_attempts) = (Some(1), Some(1));
    let (runner, mut look) = runner(store_with(&[spec]));
    let report = runner
        .handler_fn("test", |context| match context.cancel().wait(Duration::from_secs(60)) {
            Some(reason) => reason.outcome(),
            None => panic!("never cancelled"),
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!(report.failed, 1);
    assert_eq!(all(&mut *look)[0].reason, Some(Reason::Error(ErrorReason::Deadline)));
}

#[test]
fn jobs_of_other_kinds_are_left_alone_and_reported() {
    let mut specs = jobs(3);
    specs.push(JobSpec::new("other", "other").unwrap());
    let (runner, mut look) = runner(store_with(&specs));
    let report = runner.handler_fn("test", |_| Outcome::done()).unwrap().drain().unwrap();
    assert_eq!(report.done, 3);
    assert!(report.left.ready_of_other_kinds);
    assert_eq!(look.counts().unwrap().queued, 1);
}

#[test]
fn work_that_arrives_while_idle_is_started_without_a_tick() {
    let store = store_with(&[]);
    let mut other = store.fork().unwrap();
    let (runner, mut look) = runner(store);
    let stop = runner.stop_handle();
    let runner = runner
        .handler_fn("test", move |_| {
            stop.stop(StopCause::Asked);
            Outcome::done()
        })
        .unwrap();
    let run = std::thread::spawn(move || runner.run().unwrap());
    other.insert(&jobs(1), OnDuplicate::Skip, WallMs(0)).unwrap();
    assert_eq!(run.join().unwrap().done, 1);
    assert_eq!(look.counts().unwrap().done, 1);
}

#[test]
fn urgent_jobs_go_first_and_equal_keys_take_turns() {
    let mut specs = Vec::new();
    for (n, host) in ["a", "a", "a", "a", "b", "b", "b", "b"].iter().enumerate() {
        specs.push(at_host(JobSpec::new(&format!("{host}{n}"), "test").unwrap(), host));
    }
    let mut urgent = JobSpec::new("urgent", "test").unwrap();
    urgent.priority = crate::job::Priority::Critical;
    specs.push(urgent);
    let (runner, _) = runner(store_with(&specs));
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    runner
        .workers(1)
        .handler_fn("test", move |context| {
            seen.lock().unwrap().push(context.job().artifact_id.as_str().to_owned());
            Outcome::done()
        })
        .unwrap()
        .drain()
        .unwrap();
    let order = order.lock().unwrap();
    assert_eq!(order[0], "urgent");
    let hosts: String = order[1..].iter().map(|id| &id[..1]).collect();
    assert_eq!(hosts, "abababab", "{order:?}");
}

/// Takes the duty to report over, and then does what a handler should not.
struct Careless(fn(crate::handler::Completion) -> Ran);

impl Handler for Careless {
    fn run(&self, context: &mut Context<'_>) -> Ran {
        match context.job().artifact_id.as_str() {
            "job-0" => (self.0)(context.finish_later().unwrap()),
            _ => Outcome::done().into(),
        }
    }
}

#[test]
fn an_attempt_that_is_reported_twice_counts_once() {
    let ways: [(fn(crate::handler::Completion) -> Ran, u64); 3] = [
        (
            |completion| {
                completion.finish(Outcome::skipped(crate::job::SkipReason::Robots, "first"));
                Outcome::done().into()
            },
            1,
        ),
        (
            |completion| {
                completion.finish(Outcome::skipped(crate::job::SkipReason::Robots, "first"));
                panic!("second")
            },
            1,
        ),
        (|_dropped_on_the_way_out| panic!("only"), 0),
    ];
    for (way, skipped) in ways {
        let (runner, mut look) = runner(store_with(&jobs(20)));
        let options = RunOptions { max_job_attempts: 1, ..quick_retries() };
        let report =
            runner.options(options).handler("test", Careless(way)).unwrap().drain().unwrap();
        assert_eq!((report.done, report.skipped, report.failed), (19, skipped, 1 - skipped));
        assert_eq!((report.lost, report.abandoned), (0, 0));
        assert_eq!(look.counts().unwrap().in_progress, 0);
    }
}

#[test]
fn a_handler_that_says_later_to_nobody_fails_its_job_and_no_other() {
    struct Forgetful;
    impl Handler for Forgetful {
        fn run(&self, context: &mut Context<'_>) -> Ran {
            match context.job().artifact_id.as_str() {
                "job-3" => Ran::Later,
                _ => Outcome::done().into(),
            }
        }
    }
    let (runner, mut look) = runner(store_with(&jobs(20)));
    let stop = runner.stop_handle();
    let runner = runner.handler("test", Forgetful).unwrap();
    let (ended, is_over) = bounded::<()>(0);
    std::thread::spawn(move || {
        // Without an end of its own it would hang here for ever.
        if is_over.recv_timeout(Duration::from_secs(20)).is_err_and(|e| e.is_timeout()) {
            stop.stop_now(StopCause::Asked);
        }
    });
    let report = runner.drain().unwrap();
    drop(ended);
    assert_eq!((report.done, report.failed, report.stopped), (19, 1, None));
    let job = all(&mut *look).swap_remove(3);
    assert_eq!(job.reason, Some(Reason::Error(ErrorReason::Internal)));
}
