//! A run over each store, with handlers that are functions.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Barrier, Mutex};

use super::*;
use crate::handler::{MachineFault, Ran};
use crate::job::{ErrorReason, Jitter, JobSpec, Key, Reason, State, Strategy, WallMs};
use crate::limit::KeyLimits;
use crate::queue::memory::MemoryStore;
use crate::queue::sqlite::{OpenOptions, SqliteStore};
use crate::queue::store::{Filter, JobView, OnDuplicate, Recovered};

/// Makes a store with these jobs in it.
type StoreWith = fn(&[JobSpec]) -> Box<dyn Store>;

fn in_memory(specs: &[JobSpec]) -> Box<dyn Store> {
    filled(Box::new(MemoryStore::new()), specs)
}

fn in_sqlite(specs: &[JobSpec]) -> Box<dyn Store> {
    thread_local! {
        // As long as the test's thread.
        static PLACE: (tempfile::TempDir, Cell<u32>) = (tempfile::tempdir().unwrap(), Cell::new(0));
    }
    let path = PLACE.with(|(place, count)| {
        count.set(count.get() + 1);
        place.path().join(format!("{}.sqlite", count.get()))
    });
    filled(Box::new(SqliteStore::open(&path, &OpenOptions::default()).unwrap()), specs)
}

fn filled(mut store: Box<dyn Store>, specs: &[JobSpec]) -> Box<dyn Store> {
    store.insert(specs, OnDuplicate::Skip, WallMs(0)).unwrap();
    store
}

/// Every test here, on every store.
macro_rules! on_each_store {
    ($($test:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $test() { super::$test(super::in_memory) })+
        }
        mod sqlite {
            $(#[test] fn $test() { super::$test(super::in_sqlite) })+
        }
    };
}

on_each_store!(
    every_job_is_run_once_and_ends_done,
    a_panic_is_an_error_of_that_job_alone,
    a_machine_that_cannot_go_on_ends_the_run_and_no_attempt_is_counted,
    a_handler_that_tells_two_ends_or_none_ends_its_job_once,
    retries_are_waited_for_and_use_up_the_attempts,
    retries_are_left_when_not_waited_for,
    a_host_never_runs_more_than_its_limit_and_holds_up_nobody,
    a_deferred_job_comes_back_under_its_new_key_with_its_checkpoint_and_all_its_attempts,
    a_completion_frees_the_worker_and_settles_later,
    a_stop_hands_back_what_has_not_started_and_lets_the_rest_finish,
    stopping_at_once_cancels_and_gives_the_attempt_back,
    a_job_past_its_deadline_is_cancelled_and_says_so,
    jobs_of_other_kinds_are_left_alone_and_reported,
    work_that_arrives_while_idle_is_started_without_a_tick,
    urgent_jobs_go_first_and_equal_keys_take_turns,
    an_attempt_that_is_reported_twice_counts_once,
    a_handler_that_says_later_to_nobody_fails_its_job_and_no_other,
    a_clock_that_steps_loses_nothing_doubles_nothing_and_frees_nothing,
    a_run_whose_owner_was_declared_dead_goes_on_under_a_new_one,
    an_attempt_that_ignores_its_cancel_keeps_its_lease_and_loses_its_worker,
    two_runners_on_one_queue_share_it_and_run_each_job_once,
);

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

fn every_job_is_run_once_and_ends_done(store_with: StoreWith) {
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

fn a_panic_is_an_error_of_that_job_alone(store_with: StoreWith) {
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

fn a_machine_that_cannot_go_on_ends_the_run_and_no_attempt_is_counted(store_with: StoreWith) {
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
fn a_handler_that_tells_two_ends_or_none_ends_its_job_once(store_with: StoreWith) {
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

fn retries_are_waited_for_and_use_up_the_attempts(store_with: StoreWith) {
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

fn retries_are_left_when_not_waited_for(store_with: StoreWith) {
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

fn a_host_never_runs_more_than_its_limit_and_holds_up_nobody(store_with: StoreWith) {
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

fn a_deferred_job_comes_back_under_its_new_key_with_its_checkpoint_and_all_its_attempts(
    store_with: StoreWith,
) {
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

fn a_completion_frees_the_worker_and_settles_later(store_with: StoreWith) {
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

fn a_stop_hands_back_what_has_not_started_and_lets_the_rest_finish(store_with: StoreWith) {
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

fn stopping_at_once_cancels_and_gives_the_attempt_back(store_with: StoreWith) {
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

fn a_job_past_its_deadline_is_cancelled_and_says_so(store_with: StoreWith) {
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

fn jobs_of_other_kinds_are_left_alone_and_reported(store_with: StoreWith) {
    let mut specs = jobs(3);
    specs.push(JobSpec::new("other", "other").unwrap());
    let (runner, mut look) = runner(store_with(&specs));
    let report = runner.handler_fn("test", |_| Outcome::done()).unwrap().drain().unwrap();
    assert_eq!(report.done, 3);
    assert!(report.left.ready_of_other_kinds);
    assert_eq!(look.counts().unwrap().queued, 1);
}

fn work_that_arrives_while_idle_is_started_without_a_tick(store_with: StoreWith) {
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

fn urgent_jobs_go_first_and_equal_keys_take_turns(store_with: StoreWith) {
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
    // How strictly depends on how far ahead a slow machine assigns; the dispatcher's own tests have it exactly.
    assert!(hosts.find('b') < hosts.rfind('a'), "{order:?}");
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

fn an_attempt_that_is_reported_twice_counts_once(store_with: StoreWith) {
    type Way = fn(crate::handler::Completion) -> Ran;
    let ways: [(Way, u64); 3] = [
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

fn a_handler_that_says_later_to_nobody_fails_its_job_and_no_other(store_with: StoreWith) {
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

/// The machine's clock, with a wall that can be stepped.
struct Stepping {
    system: System,
    offset_ms: AtomicI64,
}

impl Clock for Stepping {
    fn wall(&self) -> WallMs {
        WallMs(self.system.wall().0 + self.offset_ms.load(SeqCst))
    }

    fn mono(&self) -> crate::job::Mono {
        self.system.mono()
    }

    fn pause(&self, duration: Duration) {
        self.system.pause(duration);
    }
}

/// Counts the times an owner was found dead or was lost.
#[derive(Default)]
struct Deaths(AtomicUsize);

impl Listener for Deaths {
    fn on(&self, event: &Event<'_>) {
        if matches!(event, Event::OwnerLost { .. } | Event::Recovered(_)) {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

/// Looks for dead owners as another process would.
fn look_for_the_dead(store: &mut dyn Store, clock: &dyn Clock, lease_ttl_ms: u64) -> Recovered {
    let (now, mono) = (clock.wall(), clock.mono());
    store.recover(None, RecoverTerms { now, mono, lease_ttl_ms, max_job_losses: 5 }).unwrap()
}

fn a_clock_that_steps_loses_nothing_doubles_nothing_and_frees_nothing(store_with: StoreWith) {
    const HOUR_MS: i64 = 3_600_000;
    let (runner, mut look) = runner(store_with(&jobs(1_000)));
    let clock = Arc::new(Stepping { system: System::new(), offset_ms: AtomicI64::new(0) });
    let other = Mutex::new(look.fork().unwrap());
    let (deaths, runs) = (Arc::new(Deaths::default()), Arc::new(AtomicUsize::new(0)));
    let (steps, counted) = (Arc::clone(&clock), Arc::clone(&runs));
    let report = runner
        .clock(Arc::clone(&clock) as Arc<dyn Clock>)
        .listener(Arc::clone(&deaths) as Arc<dyn Listener>)
        .handler_fn("test", move |_| {
            let run = counted.fetch_add(1, SeqCst);
            if run % 100 == 50 {
                let offset = if run % 200 == 50 { HOUR_MS } else { -HOUR_MS };
                steps.offset_ms.store(offset, SeqCst);
                let found = look_for_the_dead(&mut **other.lock().unwrap(), &*steps, 600_000);
                assert_eq!(found, Recovered::default());
            }
            Outcome::done()
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!((report.done, report.lost, report.failed), (1_000, 0, 0));
    assert_eq!((runs.load(SeqCst), deaths.0.load(SeqCst)), (1_000, 0));
    assert_eq!(look.counts().unwrap().done, 1_000);
}

fn a_run_whose_owner_was_declared_dead_goes_on_under_a_new_one(store_with: StoreWith) {
    let (runner, mut look) = runner(store_with(&jobs(1_000)));
    let other = Mutex::new(look.fork().unwrap());
    let deaths = Arc::new(Deaths::default());
    let runs = AtomicUsize::new(0);
    let report = runner
        .listener(Arc::clone(&deaths) as Arc<dyn Listener>)
        .handler_fn("test", move |_| {
            if runs.fetch_add(1, SeqCst) == 300 {
                // Silent for a whole lease, as far as this observer is concerned.
                let found = look_for_the_dead(&mut **other.lock().unwrap(), &System::new(), 0);
                assert_eq!(found.owners.len(), 1);
                assert!(found.requeued > 0);
            }
            Outcome::done()
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!((report.done, report.failed), (1_000, 0));
    assert!(report.lost > 0, "what was running was accepted under a lease that was lost");
    assert_eq!(deaths.0.load(SeqCst), 1);
    let counts = look.counts().unwrap();
    assert_eq!((counts.done, counts.in_progress), (1_000, 0));
    assert!(all(&mut *look).iter().all(|job| job.attempts_total == 1));
}

fn an_attempt_that_ignores_its_cancel_keeps_its_lease_and_loses_its_worker(store_with: StoreWith) {
    let mut specs = jobs(2);
    specs[0].timeout_seconds = Some(1);
    let (runner, mut look) = runner(store_with(&specs));
    let other = Mutex::new(look.fork().unwrap());
    let (release, released) = unbounded::<()>();
    let runs = AtomicUsize::new(0);
    let meanwhile = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&meanwhile);
    let report = runner
        .workers(1)
        .handler_fn("test", move |context| {
            match context.job().artifact_id.as_str() {
                "job-0" if runs.fetch_add(1, SeqCst) == 0 => {
                    released.recv_timeout(Duration::from_secs(60)).unwrap();
                }
                "job-0" => {}
                _ => {
                    let job = all(&mut **other.lock().unwrap()).swap_remove(0);
                    seen.lock().unwrap().get_or_insert(job.state);
                    release.send(()).unwrap();
                }
            }
            Outcome::done()
        })
        .unwrap()
        .drain()
        .unwrap();
    assert_eq!(*meanwhile.lock().unwrap(), Some(State::InProgress), "let go while it runs");
    assert_eq!((report.done, report.abandoned, report.failed, report.lost), (2, 0, 0, 0));
    assert_eq!(look.counts().unwrap().done, 2);
}

fn two_runners_on_one_queue_share_it_and_run_each_job_once(store_with: StoreWith) {
    let store = store_with(&jobs(5_000));
    let mut look = store.fork().unwrap();
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let meet = Arc::new(Barrier::new(2));
    let reports: Vec<RunReport> = std::thread::scope(|scope| {
        let runs: Vec<_> = [store.fork().unwrap(), store]
            .map(|store| {
                let (seen, meet) = (Arc::clone(&seen), Arc::clone(&meet));
                let first = std::sync::Once::new();
                let runner = Runner::new(store).options(quick_retries()).handler_fn(
                    "test",
                    move |context| {
                        // Neither goes on before the other has begun.
                        first.call_once(|| _ = meet.wait());
                        let row = context.job().token.job;
                        assert!(seen.lock().unwrap().insert(row), "run twice");
                        Outcome::done()
                    },
                );
                scope.spawn(|| runner.unwrap().drain().unwrap())
            })
            .into_iter()
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert!(reports.iter().all(|report| report.done > 0 && report.failed + report.lost == 0));
    assert_eq!(reports.iter().map(|report| report.done).sum::<u64>(), 5_000);
    assert_eq!(look.counts().unwrap().done, 5_000);
}
