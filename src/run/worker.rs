//! Worker threads: take an assigned job, run its handler, say what came of it.
//!
//! A worker must never touch the store, wait for a limit, or die: a panic in a handler becomes an error
//! of that job, and a worker that does not return from its deadline is abandoned and replaced.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Mutex, RwLock};

use super::event::{Event, Listener};
use super::scribe::Made;
use crate::clock::Clock;
use crate::handler::{
    Cancel, CancelReason, Completion, Context, ContextParts, MachineFault, Ran, Registry, given_up,
};
use crate::job::{ErrorReason, Leased, LimitKey, Mono, Outcome, WallMs};
use crate::limit::{Gate, Permit};
use crate::queue::store::{Owner, Recovered};

/// A job with its permit, on its way to a worker.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) job: Arc<Leased>,
    pub(super) permit: Permit,
    pub(super) timeout: Duration,
}

/// What the dispatcher is told.
#[derive(Debug)]
pub(super) enum Message {
    /// An attempt is over.
    Finished(Finished),
    /// A worker is free although its job goes on elsewhere.
    HandedOver { abandoned: bool },
    /// A permit came back to a key that had refused somebody.
    Freed(LimitKey),
    /// An answer has something to tell others of: it is time to look for when.
    News,
    /// Somebody else made work available.
    Bell,
    /// The heartbeat was written; time to look at everything that has no event of its own.
    Beat,
    /// Others have taken this owner's leases away.
    OwnerLost(Arc<Owner>),
    /// Dead owners were found and their jobs freed.
    Recovered(Recovered),
    /// A heartbeat or a look for dead owners failed; it will be tried again.
    HeartbeatTrouble { message: String, again_in: Duration },
    /// The turn that was under way is over.
    TurnMade(Box<Made>),
    /// Somebody wants the run to stop.
    Stop(super::stop::StopRequest),
}

/// An attempt that is over.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) job: Arc<Leased>,
    /// What came of it, or why this machine cannot go on.
    pub(super) ended: Result<Outcome, MachineFault>,
    pub(super) cancelled: Option<CancelReason>,
    pub(super) worker: usize,
    /// Whether the worker that ran it takes another job now: not after a handover, nor once abandoned.
    pub(super) frees_worker: bool,
    pub(super) started_at: WallMs,
    pub(super) elapsed: Duration,
}

/// What everybody may know about one worker.
pub(super) struct Slot {
    pub(super) index: usize,
    pub(super) cancel: Arc<Cancel>,
    pub(super) current: Mutex<Option<Current>>,
}

/// The attempt a worker is making.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) job: Arc<Leased>,
    pub(super) deadline: Mono,
    pub(super) cancelled_at: Option<Mono>,
    pub(super) abandoned: bool,
}

impl Slot {
    pub(super) fn new(index: usize) -> std::io::Result<Slot> {
        Ok(Slot { index, cancel: Arc::new(Cancel::new()?), current: Mutex::new(None) })
    }

    /// Cancels the attempt being made, if one is, and says which.
    pub(super) fn cancel(&self, reason: CancelReason, now: Mono) -> Option<Arc<Leased>> {
        let mut current = self.current.lock();
        let current = current.as_mut()?;
        current.cancelled_at.get_or_insert(now);
        self.cancel.cancel(reason);
        Some(Arc::clone(&current.job))
    }
}

/// What every worker of a run shares.
pub(super) struct Shared {
    pub(super) registry: Registry,
    pub(super) gate: Gate,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) listener: Arc<dyn Listener>,
    pub(super) owner: RwLock<Arc<Owner>>,
    pub(super) inbox: Sender<Message>,
}

/// The body of a worker thread: ends when there are no more jobs to come, or when it was abandoned.
pub(super) fn work(shared: &Shared, slot: &Slot, jobs: &Receiver<Assigned>) {
    let tell_starts = shared.listener.wants_jobs();
    while let Ok(Assigned { job, permit, timeout }) = jobs.recv() {
        if tell_starts {
            shared.listener.on(&Event::JobStarted { job: &job, worker: slot.index });
        }
        if attempt(shared, slot, job, permit, timeout) {
            return;
        }
    }
}

/// Makes one attempt; `true` when this worker was abandoned meanwhile and must not take another.
fn attempt(
    shared: &Shared,
    slot: &Slot,
    job: Arc<Leased>,
    permit: Permit,
    timeout: Duration,
) -> bool {
    let started = shared.clock.mono();
    let started_at = shared.clock.wall();
    let deadline = started.plus(timeout);
    *slot.current.lock() =
        Some(Current { job: Arc::clone(&job), deadline, cancelled_at: None, abandoned: false });
    let ran = run_handler(shared, slot, &job, permit, (started, started_at, deadline));
    // Under the slot's lock: nobody can cancel this attempt any more, and nobody the next one by mistake.
    let (cancelled, abandoned) = {
        let mut current = slot.current.lock();
        let abandoned = current.take().is_some_and(|current| current.abandoned);
        let cancelled = slot.cancel.reason();
        slot.cancel.reset();
        (cancelled, abandoned)
    };
    let finished = |ended| {
        Message::Finished(Finished {
            job,
            ended,
            cancelled,
            worker: slot.index,
            frees_worker: !abandoned,
            started_at,
            elapsed: shared.clock.mono().since(started),
        })
    };
    let message = match ran {
        Ran::Later => Message::HandedOver { abandoned },
        Ran::Finished(outcome) => finished(Ok(outcome)),
        Ran::GaveUp(fault) => finished(Err(fault)),
    };
    // A dispatcher that is gone has retired its owner: the lease is handed back by whoever looks next.
    let _ = shared.inbox.send(message);
    abandoned
}

fn run_handler(
    shared: &Shared,
    slot: &Slot,
    job: &Arc<Leased>,
    permit: Permit,
    (started, started_at, deadline): (Mono, WallMs, Mono),
) -> Ran {
    let Some(handler) = shared.registry.get(&job.lane.kind) else {
        // Only lanes of registered kinds are leased; a registry does not shrink.
        return Outcome::fail(ErrorReason::Internal, "no handler for this kind").into();
    };
    if !handler.faces_given_up() {
        let (now, wall) = (shared.clock.mono(), shared.clock.wall());
        if let Some(given_up) = shared.gate.given_up(&job.lane.key, now) {
            // Nothing is started under it: the next one comes up to the same at once.
            permit.refund();
            return given_up::outcome(&given_up, now, wall).into();
        }
    }
    let owner = Arc::clone(&shared.owner.read());
    let taken = Cell::new(false);
    let completion = || {
        taken.set(true);
        let (inbox, job, clock) =
            (shared.inbox.clone(), Arc::clone(job), Arc::clone(&shared.clock));
        let worker = slot.index;
        Completion::new(move |ended| {
            let elapsed = clock.mono().since(started);
            let _ = inbox.send(Message::Finished(Finished {
                job,
                ended,
                cancelled: None,
                worker,
                frees_worker: false,
                started_at,
                elapsed,
            }));
        })
    };
    let mut context = Context::new(ContextParts {
        job,
        cancel: &slot.cancel,
        gate: &shared.gate,
        clock: &*shared.clock,
        permit: Some({
            let mut permit = permit;
            permit.begin(started);
            permit
        }),
        deadline,
        worker: slot.index,
        owner_directory: owner.directory.as_deref(),
        completion: Box::new(completion),
    });
    let ran = catch_unwind(AssertUnwindSafe(|| handler.run(&mut context)));
    drop(context);
    match ran {
        // Whoever holds the completion says what came of it, and nobody else: an attempt is over once.
        _ if taken.get() => Ran::Later,
        Ok(Ran::Later) => {
            Outcome::fail(ErrorReason::Internal, "the handler said later and took no completion")
                .into()
        }
        Ok(ran) => ran,
        Err(panic) => Outcome::fail(
            ErrorReason::Panic,
            format!("the handler panicked: {}", panic_message(&*panic)),
        )
        .into(),
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;
    use crate::handler::Handler;
    use crate::job::{JobSpec, Key, Reason, State};
    use crate::limit::Limits;
    use crate::queue::memory::MemoryStore;
    use crate::queue::store::{Filter, OnDuplicate, Store};
    use crate::run::{RunOptions, Runner};

    /// The first job is told to leave its host alone for hours; all of them end done if they are run.
    struct Told {
        runs: Arc<AtomicUsize>,
        faces: bool,
    }

    impl Handler for Told {
        fn faces_given_up(&self) -> bool {
            self.faces
        }

        fn run(&self, context: &mut Context<'_>) -> Ran {
            if self.runs.fetch_add(1, SeqCst) == 0 {
                let host = LimitKey::Host("a.org".into());
                context.hold(&host, context.mono(), Some(Duration::from_hours(9)));
            }
            Outcome::done().into()
        }
    }

    #[test]
    fn jobs_of_a_key_that_is_given_up_are_run_only_by_a_handler_that_faces_it() {
        for (faces, expected_runs) in [(false, 1), (true, 3)] {
            let mut store: Box<dyn Store> = Box::new(MemoryStore::new());
            let spec = |n| {
                let key = Key::new(None, Some("a.org")).unwrap();
                JobSpec { key, ..JobSpec::new(&format!("job-{n}"), "test").unwrap() }
            };
            let specs: Vec<JobSpec> = (0..3).map(spec).collect();
            store.insert(&specs, OnDuplicate::Skip, WallMs(0)).unwrap();
            let mut look = store.fork().unwrap();
            let runs = Arc::<AtomicUsize>::default();
            let told = Told { runs: Arc::clone(&runs), faces };
            let limits = Limits { max_per_host: Some(1), ..Limits::default() };
            let options = RunOptions { limits, ..RunOptions::default() };
            let runner = Runner::new(store).options(options).handler("test", told).unwrap();
            let report = runner.drain().unwrap();
            assert_eq!(runs.load(SeqCst), expected_runs);
            assert_eq!(report.done, u64::try_from(expected_runs).unwrap());
            let jobs = look.list(&Filter::default(), None, 9).unwrap().jobs;
            for job in jobs.iter().filter(|job| job.state != State::Done) {
                assert_eq!(job.reason, Some(Reason::Error(ErrorReason::RateLimited)));
                assert!(job.message.contains("retry-failed --host a.org"), "{}", job.message);
            }
        }
    }
}
