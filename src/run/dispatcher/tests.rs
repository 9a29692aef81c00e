//! The dispatcher alone: a clock that stands, no threads, and a test in place of the workers.

mod beside;
pub(in crate::run) mod trouble;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use crossbeam_channel::{bounded, unbounded};
use parking_lot::RwLock;

use super::pace::TURN_EVERY;
use super::*;
use crate::clock::{Clock, Manual};
use crate::handler::Registry;
use crate::job::{ErrorReason, JobSpec, Key, LimitKey, Outcome, WallMs};
use crate::limit::{Gate, KeyLimits, Limits};
use crate::queue::memory::MemoryStore;
use crate::queue::store::{Filter, OnDuplicate, RecoverTerms, Turn};
use crate::run::event::Listener;
use crate::run::stop::StopRequest;
use crate::run::worker::{Current, Finished};
use trouble::Trouble;

/// Counts the events that the tests ask about.
#[derive(Default)]
struct Watch {
    owners_lost: AtomicUsize,
    replaced: AtomicUsize,
}

impl Listener for Watch {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::OwnerLost { .. } => _ = self.owners_lost.fetch_add(1, SeqCst),
            Event::WorkerReplaced { .. } => _ = self.replaced.fetch_add(1, SeqCst),
            _ => {}
        }
    }

    fn wants_progress(&self) -> bool {
        false
    }
}

struct Rig {
    dispatcher: Dispatcher,
    inbox: Receiver<Message>,
    jobs: Receiver<Assigned>,
    clock: Arc<Manual>,
    store: MemoryStore,
    trouble: Trouble,
    watch: Arc<Watch>,
}

fn job(name: &str, host: Option<&str>) -> JobSpec {
    let mut spec = JobSpec::new(name, "test").unwrap();
    spec.key = Key::new(None, host).unwrap();
    spec
}

fn limits(host: &str, most: u32) -> Limits {
    let mut limits = Limits::default();
    let terms = KeyLimits { max_concurrent: Some(most), rate: None };
    limits.by_key.insert(LimitKey::Host(host.into()), terms);
    limits
}

impl Rig {
    fn new(options: RunOptions, specs: &[JobSpec]) -> Rig {
        let mut store = MemoryStore::new();
        store.insert(specs, OnDuplicate::Skip, WallMs(0)).unwrap();
        Rig::over(options, store)
    }

    fn over(options: RunOptions, store: MemoryStore) -> Rig {
        let trouble = Trouble::default();
        let mut handle = trouble.around(Box::new(store.handle()));
        let clock = Arc::new(Manual::at(WallMs(1_000_000)));
        let mut registry = Registry::new();
        registry.register_fn("test", |_| Outcome::done()).unwrap();
        let watch = Arc::new(Watch::default());
        let (to_inbox, inbox) = unbounded();
        let gate = Gate::new(options.limits.clone());
        let freed = to_inbox.clone();
        gate.on_release(move |key| _ = freed.send(Message::Freed(key.clone())));
        let news = to_inbox.clone();
        gate.on_news(move || _ = news.send(Message::News));
        let owner = handle.register(clock.wall()).unwrap();
        let shared = Arc::new(Shared {
            registry,
            gate,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            listener: Arc::clone(&watch) as Arc<dyn Listener>,
            owner: RwLock::new(Arc::new(owner)),
            inbox: to_inbox,
        });
        let slots = (0..options.workers).map(|n| Arc::new(Slot::new(n).unwrap())).collect();
        let (send, jobs) = bounded(options.workers + MAX_AHEAD);
        let dispatcher = Dispatcher::new(handle, shared, options, slots, (send, jobs.clone()));
        Rig { dispatcher, inbox, jobs, clock, store, trouble, watch }
    }

    /// Lets the dispatcher work until it waits for more than the time between two turns.
    #[track_caller]
    fn settle(&mut self) -> Next {
        for _ in 0..200 {
            while let Ok(message) = self.inbox.try_recv() {
                self.dispatcher.take(message);
            }
            match self.dispatcher.advance().unwrap() {
                Next::Again | Next::Wait(Some(Duration::ZERO)) => {}
                Next::Gather(step) => self.clock.advance(step),
                Next::Wait(Some(step)) if step <= TURN_EVERY => self.clock.advance(step),
                next => return next,
            }
        }
        panic!("the dispatcher never waits");
    }

    /// A worker takes a job from the channel, and begins it.
    #[track_caller]
    fn begin(&mut self, slot: usize) -> Assigned {
        let assigned = self.jobs.try_recv().expect("no job in the channel");
        let deadline = self.clock.mono().plus(assigned.timeout);
        *self.dispatcher.slots[slot].current.lock() = Some(Current {
            job: Arc::clone(&assigned.job),
            deadline,
            cancelled_at: None,
            abandoned: false,
        });
        assigned
    }

    fn end(&mut self, slot: usize, Assigned { job, permit, .. }: Assigned, outcome: Outcome) {
        drop(permit);
        let current = self.dispatcher.slots[slot].current.lock().take();
        self.dispatcher.take(Message::Finished(Finished {
            job,
            ended: Ok(outcome),
            cancelled: self.dispatcher.slots[slot].cancel.reason(),
            worker: slot,
            frees_worker: current.is_none_or(|current| !current.abandoned),
            started_at: self.clock.wall(),
            elapsed: Duration::ZERO,
        }));
    }

    /// Another process dies `times` times while it holds the first job of that lane.
    fn die_holding(store: &mut MemoryStore, lane: usize, times: u32) {
        for _ in 0..times {
            let dead = store.register(WallMs(0)).unwrap();
            let lanes = store.ready_lanes(None, 10, &[Kind::new("test").unwrap()]).unwrap();
            let want = Want {
                priority: lanes[lane].priority,
                lane: lanes[lane].lane.id,
                count: 1,
                max_losses: u32::MAX,
            };
            let turn = Turn {
                owner: &dead,
                now: WallMs(0),
                settle: &[],
                lease: &[want],
                max_payload_bytes: 1,
                keys: None,
            };
            assert_eq!(store.turn(&turn).unwrap().leased.len(), 1);
            store.kill_owner(&dead);
            let terms = RecoverTerms {
                now: WallMs(0),
                mono: Mono::default(),
                lease_ttl_ms: u64::MAX,
                max_job_losses: 5,
            };
            store.recover(None, terms).unwrap();
        }
    }
}

fn options(workers: usize) -> RunOptions {
    RunOptions { workers, limits: Limits::default(), ..RunOptions::default() }
}

#[test]
fn a_bell_that_rings_while_the_run_stops_keeps_nobody_awake() {
    let mut rig = Rig::new(options(2), &[job("a", None)]);
    rig.settle();
    let running = rig.begin(0);
    let stop = StopRequest { cause: StopCause::Asked, now: false };
    rig.dispatcher.take(Message::Stop(stop));
    rig.dispatcher.take(Message::Bell);
    rig.clock.advance(Duration::from_secs(1));
    assert!(matches!(rig.settle(), Next::Wait(Some(left)) if left == Duration::from_secs(29)));
    rig.end(0, running, Outcome::done());
    assert_eq!(rig.settle(), Next::Over);
}

#[test]
fn a_bell_that_rings_while_the_store_is_in_trouble_keeps_nobody_awake() {
    let mut rig = Rig::new(options(2), &[job("a", None)]);
    rig.settle();
    let running = rig.begin(0);
    rig.trouble.begin();
    rig.end(0, running, Outcome::done());
    assert!(matches!(rig.settle(), Next::Wait(Some(left)) if left == FIRST_TROUBLE_WAIT));
    rig.dispatcher.take(Message::Bell);
    assert!(matches!(rig.settle(), Next::Wait(Some(left)) if left == FIRST_TROUBLE_WAIT));
    rig.trouble.end();
    rig.clock.advance(FIRST_TROUBLE_WAIT);
    rig.settle();
    assert_eq!(rig.store.counts().unwrap().done, 1);
}

#[test]
fn trouble_that_is_over_keeps_nobody_awake() {
    let mut rig = Rig::new(RunOptions { drain: true, ..options(2) }, &[job("a", None)]);
    rig.settle();
    let running = rig.begin(0);
    rig.trouble.begin_with_remaining();
    rig.end(0, running, Outcome::retry(ErrorReason::Timeout, "slow"));
    rig.settle();
    rig.trouble.end();
    rig.clock.advance(Duration::from_secs(1));
    let next = rig.settle();
    assert!(matches!(next, Next::Wait(Some(left)) if left > Duration::from_secs(50)), "{next:?}");
}

#[test]
fn a_bell_that_nothing_can_be_leased_for_keeps_nobody_awake() {
    let mut store = MemoryStore::new();
    store.insert(&[job("a", None)], OnDuplicate::Skip, WallMs(0)).unwrap();
    Rig::die_holding(&mut store, 0, 3);
    let mut rig = Rig::over(options(2), store);
    rig.settle();
    let alone = rig.begin(0);
    rig.store.insert(&[job("b", None)], OnDuplicate::Skip, WallMs(0)).unwrap();
    rig.dispatcher.take(Message::Bell);
    rig.settle();
    assert_eq!(rig.jobs.len(), 0, "a job runs beside one that must run alone");
    rig.end(0, alone, Outcome::done());
    rig.settle();
    assert_eq!(rig.jobs.len(), 1);
}

#[test]
fn a_job_between_channel_and_worker_keeps_its_deadline() {
    let mut spec = job("a", None);
    spec.timeout_seconds = Some(10);
    let mut rig = Rig::new(options(1), &[spec]);
    rig.settle();
    // Taken, and not begun when the time comes to look.
    let taken = rig.jobs.try_recv().unwrap();
    rig.clock.advance(Duration::from_secs(10));
    rig.settle();
    let deadline = rig.clock.mono().plus(taken.timeout);
    *rig.dispatcher.slots[0].current.lock() = Some(Current {
        job: Arc::clone(&taken.job),
        deadline,
        cancelled_at: None,
        abandoned: false,
    });
    for _ in 0..10 {
        rig.clock.advance(Duration::from_secs(1));
        assert!(matches!(rig.settle(), Next::Wait(Some(_))), "nobody looks at its deadline");
    }
    assert_eq!(rig.dispatcher.slots[0].cancel.reason(), Some(CancelReason::Deadline));
}

#[test]
fn a_drain_is_not_over_before_the_jobs_of_whoever_died_meanwhile_are_done() {
    let mut rig = Rig::new(RunOptions { drain: true, ..options(1) }, &[]);
    let other = rig.store.register(WallMs(0)).unwrap();
    rig.store.insert(&[job("a", None)], OnDuplicate::Skip, WallMs(0)).unwrap();
    let lane = rig.store.ready_lanes(None, 1, &[Kind::new("test").unwrap()]).unwrap().remove(0);
    let want = Want { priority: lane.priority, lane: lane.lane.id, count: 1, max_losses: u32::MAX };
    let turn = Turn {
        owner: &other,
        now: WallMs(0),
        settle: &[],
        lease: &[want],
        max_payload_bytes: usize::MAX,
        keys: None,
    };
    assert_eq!(rig.store.turn(&turn).unwrap().leased.len(), 1);
    rig.store.kill_owner(&other);
    // No heartbeat looks for the dead here.
    assert_ne!(rig.settle(), Next::Over);
    let taken = rig.begin(0);
    rig.end(0, taken, Outcome::done());
    assert_eq!(rig.settle(), Next::Over);
    assert_eq!(rig.store.counts().unwrap().done, 1);
}

#[test]
fn a_loss_that_was_dealt_with_is_not_dealt_with_again() {
    let mut rig = Rig::new(options(2), &[job("a", None)]);
    rig.settle();
    let old = Arc::clone(&rig.dispatcher.owner);
    let first = rig.begin(0);
    rig.store.kill_owner(&old);
    let terms = RecoverTerms {
        now: WallMs(0),
        mono: Mono::default(),
        lease_ttl_ms: u64::MAX,
        max_job_losses: 5,
    };
    assert_eq!(rig.store.recover(None, terms).unwrap().requeued, 1);
    // A turn finds it out before the heartbeat, which says so afterwards.
    rig.end(0, first, Outcome::done());
    rig.settle();
    let second = rig.begin(1);
    rig.dispatcher.take(Message::OwnerLost(old));
    rig.settle();
    assert_eq!(rig.watch.owners_lost.load(SeqCst), 1);
    assert_eq!(rig.dispatcher.slots[1].cancel.reason(), None);
    rig.end(1, second, Outcome::done());
    rig.settle();
    assert_eq!(rig.store.counts().unwrap().done, 1);
}

#[test]
fn a_worker_that_ignores_the_loss_of_its_lease_is_replaced_after_the_grace() {
    let mut rig = Rig::new(options(1), &[job("a", None), job("b", None)]);
    rig.settle();
    let _ignores = rig.begin(0);
    let old = Arc::clone(&rig.dispatcher.owner);
    rig.store.kill_owner(&old);
    rig.dispatcher.take(Message::OwnerLost(old));
    rig.settle();
    assert_eq!(rig.watch.replaced.load(SeqCst), 0);
    // Long before the hour of its deadline.
    rig.clock.advance(Duration::from_secs(6));
    rig.settle();
    assert_eq!(rig.watch.replaced.load(SeqCst), 1);
    assert_eq!(rig.dispatcher.replacements.len(), 1);
    assert_eq!(rig.jobs.len(), 1, "the other job has no worker");
}

#[test]
fn a_stop_does_not_wait_for_ever_for_a_locked_store() {
    let mut rig = Rig::new(options(1), &[job("a", None)]);
    rig.settle();
    let running = rig.begin(0);
    rig.trouble.begin();
    rig.dispatcher.take(Message::Stop(StopRequest { cause: StopCause::Signal(2), now: true }));
    rig.end(0, running, Outcome::done());
    let mut advances = 0;
    let error = loop {
        match rig.dispatcher.advance() {
            Ok(Next::Wait(Some(step))) => rig.clock.advance(step.max(Duration::from_millis(1))),
            Ok(next) => assert_ne!(next, Next::Over, "an outcome was thrown away without a word"),
            Err(error) => break error,
        }
        advances += 1;
        assert!(advances < 1_000, "the stop hangs");
    };
    assert!(matches!(error, RunError::Store(StoreError::Busy { .. })), "{error}");
}

#[test]
fn held_jobs_of_a_full_host_leave_free_workers_to_others_when_care_is_taken() {
    let specs: Vec<_> = (0..20).map(|n| job(&format!("slow-{n}"), Some("slow"))).collect();
    let mut rig = Rig::new(RunOptions { limits: limits("slow", 4), ..options(6) }, &specs);
    rig.settle();
    assert_eq!((rig.jobs.len(), rig.dispatcher.frontier.held()), (4, 4));
    let running: Vec<_> = (0..4).map(|slot| rig.begin(slot)).collect();
    rig.dispatcher.care = Care::at_start();
    rig.store.insert(&[job("other", Some("other"))], OnDuplicate::Skip, WallMs(0)).unwrap();
    rig.dispatcher.take(Message::Bell);
    rig.settle();
    assert_eq!(rig.jobs.len(), 1, "two workers are free, a host is free, and a job waits");
    drop(running);
}

#[test]
fn of_jobs_with_two_deaths_one_is_leased_at_a_time() {
    let mut store = MemoryStore::new();
    let specs = [job("a", Some("a")), job("b", Some("b"))];
    store.insert(&specs, OnDuplicate::Skip, WallMs(0)).unwrap();
    Rig::die_holding(&mut store, 0, 2);
    Rig::die_holding(&mut store, 1, 2);
    let mut rig = Rig::over(RunOptions { limits: limits("a", 1), ..options(4) }, store);
    while rig.dispatcher.frontier.held() == 0 {
        rig.dispatcher.advance().unwrap();
    }
    // A running handler is faster: the job that was leased waits.
    let faster = rig.dispatcher.shared.gate.try_admit(&specs[0].key, Mono::default());
    rig.settle();
    assert_eq!(rig.store.counts().unwrap().in_progress, 1);
    drop(faster);
    for n in 1..=2 {
        rig.settle();
        assert_eq!(rig.jobs.len(), 1, "job {n}");
        let running = rig.begin(0);
        rig.end(0, running, Outcome::done());
    }
    rig.settle();
    assert_eq!(rig.store.counts().unwrap().done, 2);
    assert_eq!((rig.dispatcher.wary, rig.dispatcher.busy, rig.dispatcher.in_flight), (0, 0, 0));
}

#[test]
fn a_lane_that_another_process_emptied_does_not_keep_the_place_of_others() {
    let mut rig = Rig::new(options(1), &[job("first", Some("a"))]);
    rig.settle();
    let first = rig.begin(0);
    let specs = [job("b", Some("b")), job("c", Some("c"))];
    rig.store.insert(&specs, OnDuplicate::Skip, WallMs(0)).unwrap();
    rig.dispatcher.take(Message::Bell);
    rig.clock.advance(LOOK_WHILE_FULL);
    rig.settle();
    // The dispatcher knows both lanes; another process leases the one whose turn is next.
    let other = rig.store.register(WallMs(0)).unwrap();
    let lanes = rig.store.ready_lanes(None, 10, &[Kind::new("test").unwrap()]).unwrap();
    let want = Want {
        priority: lanes[0].priority,
        lane: lanes[0].lane.id,
        count: 1,
        max_losses: u32::MAX,
    };
    let turn = Turn {
        owner: &other,
        now: WallMs(0),
        settle: &[],
        lease: &[want],
        max_payload_bytes: 1,
        keys: None,
    };
    assert_eq!(rig.store.turn(&turn).unwrap().leased.len(), 1);
    rig.end(0, first, Outcome::done());
    rig.settle();
    assert_eq!(rig.jobs.len(), 1, "a worker is free and a job waits");
}

#[test]
fn equal_keys_take_turns() {
    let hosts = ["a", "a", "a", "a", "b", "b", "b", "b"];
    let specs = hosts.iter().zip(0..).map(|(host, n)| job(&format!("{host}{n}"), Some(host)));
    let mut rig = Rig::new(options(1), &specs.collect::<Vec<_>>());
    let mut order = String::new();
    for _ in 0..8 {
        rig.settle();
        let running = rig.begin(0);
        order.push_str(&running.job.artifact_id.as_str()[..1]);
        // In a flood of jobs that take no time a lane has its turn for many at once.
        rig.clock.advance(Duration::from_secs(1));
        rig.end(0, running, Outcome::done());
    }
    assert_eq!(order, "abababab");
}

#[test]
fn a_stop_hands_back_the_channel_and_the_held_and_leaves_what_runs_alone() {
    let specs: Vec<_> = (0..20).map(|n| job(&format!("slow-{n}"), Some("slow"))).collect();
    let mut rig = Rig::new(RunOptions { limits: limits("slow", 4), ..options(6) }, &specs);
    rig.settle();
    let running = rig.begin(0);
    assert_eq!((rig.jobs.len(), rig.dispatcher.frontier.held()), (3, 4));
    rig.dispatcher.take(Message::Stop(StopRequest { cause: StopCause::Asked, now: false }));
    rig.settle();
    assert_eq!((rig.jobs.len(), rig.dispatcher.frontier.held()), (0, 0));
    let counts = rig.store.counts().unwrap();
    assert_eq!((counts.in_progress, counts.queued), (1, 19));
    let views = rig.store.list(&Filter::default(), None, 100).unwrap().jobs;
    let counted: u32 = views.iter().map(|job| job.attempts_total + job.losses).sum();
    assert_eq!(counted, 1, "only the one that runs");
    // It may finish, and is cancelled when its time is over.
    rig.clock.advance(Duration::from_secs(29));
    rig.settle();
    assert_eq!(rig.dispatcher.slots[0].cancel.reason(), None);
    rig.clock.advance(Duration::from_secs(1));
    rig.settle();
    assert_eq!(rig.dispatcher.slots[0].cancel.reason(), Some(CancelReason::Stop));
    rig.end(0, running, CancelReason::Stop.outcome());
    assert_eq!(rig.settle(), Next::Over);
    assert_eq!(rig.store.counts().unwrap().queued, 20);
}

#[test]
fn attempts_that_end_together_are_settled_together_and_their_permits_passed_on_before() {
    let specs: Vec<_> = (0..20).map(|n| job(&format!("slow-{n}"), Some("slow"))).collect();
    let mut rig = Rig::new(RunOptions { limits: limits("slow", 4), ..options(4) }, &specs);
    rig.settle();
    let mut running: Vec<_> = (0..4).map(|slot| rig.begin(slot)).collect();
    rig.clock.advance(Duration::from_secs(1));
    for (slot, ended) in running.drain(..3).enumerate() {
        rig.end(slot, ended, Outcome::done());
        while let Ok(message) = rig.inbox.try_recv() {
            rig.dispatcher.take(message);
        }
        assert!(matches!(rig.dispatcher.advance().unwrap(), Next::Wait(Some(_))));
        assert_eq!(rig.jobs.len(), slot + 1, "its permit waits for a turn");
        assert_eq!(rig.store.counts().unwrap().done, 0, "a turn in the midst of them");
        rig.clock.advance(Duration::from_micros(100));
    }
    rig.settle();
    assert_eq!(rig.store.counts().unwrap().done, 3);
}
