//! One process of a simulation: the real dispatcher and gate, and workers, a heart and a bell without threads.
//!
//! Must never do what a real process could not: it knows nothing of the others but through the store.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use parking_lot::RwLock;

use super::sim::Turns;
use super::world::ProcessPlan;
use crate::clock::{Clock, Manual};
use crate::handler::Registry;
use crate::job::{Key, Leased, Mono, Outcome, WallMs};
use crate::limit::{Gate, Permit};
use crate::queue::memory::MemoryStore;
use crate::queue::store::{Owner, RecoverTerms, Recovered, Store, StoreError};
use crate::run::dispatcher::tests::trouble::Trouble;
use crate::run::dispatcher::{Dispatcher, MAX_AHEAD};
use crate::run::event::Listener;
use crate::run::scribe::{Errand, Made};
use crate::run::worker::{Assigned, Current, Finished, Message, Shared, Slot};

/// A worker, and what it does.
pub(super) struct Worker {
    pub(super) slot: Arc<Slot>,
    pub(super) attempt: Option<Attempt>,
}

/// An attempt that is being made.
pub(super) struct Attempt {
    pub(super) job: Arc<Leased>,
    /// The permit it was leased under, until its first request.
    pub(super) permit: Option<Permit>,
    /// The request it makes next, or is making.
    pub(super) at: usize,
    pub(super) started: Mono,
    pub(super) started_at: WallMs,
    /// Tells it from every other attempt of the world.
    pub(super) serial: u64,
    /// The row of the owner it was leased by.
    pub(super) owner: i64,
    pub(super) asking: Option<Asking>,
}

/// A request that is out.
pub(super) struct Asking {
    pub(super) key: Key,
    pub(super) permit: Permit,
    pub(super) asked_at: Mono,
    pub(super) answer: Answer,
    /// How long the body takes after the head.
    pub(super) body: Duration,
}

/// What a server says, or what becomes of asking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Well,
    /// 404, 403: a proper answer, and the end of the job.
    Gone,
    Told(Option<Duration>),
    /// 503 without `Retry-After`.
    Unavailable,
    /// 500.
    Broken,
    NoConnection,
    TimedOut,
}

/// A turn, at the moment of its transaction or after it.
pub(super) enum UnderWay {
    Begun(Errand),
    Made(Box<Made>),
}

/// An attempt that goes on without its worker.
pub(super) struct Later {
    pub(super) job: Arc<Leased>,
    pub(super) started: Mono,
    pub(super) started_at: WallMs,
    pub(super) worker: usize,
}

pub(super) struct Process {
    pub(super) plan: ProcessPlan,
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Receiver<Message>,
    pub(super) jobs: Receiver<Assigned>,
    pub(super) workers: Vec<Worker>,
    pub(super) later: BTreeMap<u64, Later>,
    /// `None` once it is over.
    pub(super) dispatcher: Option<Dispatcher>,
    /// Where its turns come to be made, if they are made beside it,
    pub(super) orders: Receiver<Errand>,
    /// and the one that is being made.
    pub(super) under_way: Option<UnderWay>,
    /// The heart's own connection.
    pub(super) heart: MemoryStore,
    pub(super) bell: Option<OwnedFd>,
    pub(super) bell_of: i64,
    /// When it does something without being told.
    pub(super) wakes_at: Option<Mono>,
    /// Inside a turn, or gathering messages, until then.
    pub(super) deaf_until: Mono,
    pub(super) is_frozen: bool,
    pub(super) is_stopping: bool,
}

impl Process {
    /// As [`crate::run::Runner::run`] begins.
    pub(super) fn begin(
        plan: ProcessPlan,
        store: &MemoryStore,
        trouble: &Trouble,
        clock: &Arc<Manual>,
        listener: Arc<dyn Listener>,
        turns: Turns,
    ) -> Result<(Process, Recovered), StoreError> {
        let mut handle = trouble.around(Box::new(store.handle()));
        let mut registry = Registry::new();
        for kind in &plan.kinds {
            if let Err(error) = registry.register_fn(kind, |_| Outcome::done()) {
                panic!("{error}");
            }
        }
        let (to_inbox, inbox) = unbounded();
        let gate = Gate::new(plan.options.limits.clone());
        gate.divide();
        let freed = to_inbox.clone();
        gate.on_release(move |key| _ = freed.send(Message::Freed(key.clone())));
        let news = to_inbox.clone();
        gate.on_news(move || _ = news.send(Message::News));
        let owner = handle.register(clock.wall())?;
        let mut heart = store.handle();
        let bell_of = owner.row;
        let bell = heart.bell(&owner)?;
        let shared = Arc::new(Shared {
            registry,
            gate,
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            listener,
            owner: RwLock::new(Arc::new(owner)),
            inbox: to_inbox,
        });
        let mut workers = Vec::new();
        for n in 0..plan.options.workers {
            match Slot::new(n) {
                Ok(slot) => workers.push(Worker { slot: Arc::new(slot), attempt: None }),
                Err(error) => panic!("{error}"),
            }
        }
        let (send, jobs) = bounded(plan.options.workers + MAX_AHEAD);
        let slots = workers.iter().map(|worker| Arc::clone(&worker.slot)).collect();
        let ends = (send, jobs.clone());
        let options = plan.options.clone();
        let mut dispatcher = Dispatcher::new(handle, Arc::clone(&shared), options, slots, ends);
        let (scribe, orders) = bounded(1);
        if turns == Turns::Beside {
            dispatcher = dispatcher.with_scribe(scribe);
        }
        let mut process = Process {
            plan,
            shared,
            inbox,
            jobs,
            workers,
            later: BTreeMap::new(),
            dispatcher: Some(dispatcher),
            orders,
            under_way: None,
            heart,
            bell,
            bell_of,
            wakes_at: Some(clock.mono()),
            deaf_until: clock.mono(),
            is_frozen: false,
            is_stopping: false,
        };
        let recovered = process.look(clock)?;
        Ok((process, recovered))
    }

    pub(super) fn owner(&self) -> Arc<Owner> {
        Arc::clone(&self.shared.owner.read())
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    pub(super) fn is_over(&self) -> bool {
        self.dispatcher.is_none()
    }

    /// Whether it does anything when its time comes.
    pub(super) fn is_awake(&self) -> bool {
        !self.is_over() && !self.is_frozen
    }

    pub(super) fn send(&self, message: Message) {
        // A process that is over hears nothing.
        let _ = self.shared.inbox.send(message);
    }

    /// Looks for dead owners, as the heartbeat thread does.
    pub(super) fn look(&mut self, clock: &Manual) -> Result<Recovered, StoreError> {
        let terms = RecoverTerms {
            now: clock.wall(),
            mono: clock.mono(),
            lease_ttl_ms: u64::try_from(self.plan.options.lease_ttl.as_millis())
                .unwrap_or(u64::MAX),
            max_job_losses: self.plan.options.max_job_losses,
        };
        let owner = self.owner();
        let recovered = self.heart.recover(Some(&owner), terms)?;
        if !recovered.owners.is_empty() {
            self.send(Message::Recovered(recovered.clone()));
        }
        Ok(recovered)
    }

    /// Whether its bell rang since it was last asked; a new owner's bell is hung first.
    pub(super) fn heard_bell(&mut self) -> bool {
        let owner = self.owner();
        if owner.row != self.bell_of {
            self.bell_of = owner.row;
            self.bell = self.heart.bell(&owner).ok().flatten();
        }
        let Some(bell) = &self.bell else { return false };
        let mut heard = false;
        let mut rings = [0; 64];
        while let Ok(n) = rustix::io::read(bell, &mut rings) {
            heard |= n > 0;
            if n < rings.len() {
                break;
            }
        }
        heard
    }

    /// Whether the dispatcher would be woken at `now`.
    pub(super) fn is_due(&self, now: Mono) -> bool {
        self.is_awake()
            && now >= self.deaf_until
            && (!self.inbox.is_empty() || self.wakes_at.is_some_and(|at| at <= now))
    }

    /// When it is due if nothing else happens.
    pub(super) fn next_due(&self) -> Option<Mono> {
        if !self.is_awake() {
            return None;
        }
        let heard = (!self.inbox.is_empty()).then_some(self.deaf_until);
        heard.into_iter().chain(self.wakes_at.map(|at| at.max(self.deaf_until))).min()
    }

    pub(super) fn idle_workers(&self) -> usize {
        self.workers.iter().filter(|worker| worker.attempt.is_none()).count()
    }

    /// A free worker takes the next job from the channel and begins it; its index.
    pub(super) fn begin_attempt(&mut self, serial: u64, clock: &Manual) -> Option<usize> {
        let at = self.workers.iter().position(|worker| worker.attempt.is_none())?;
        let Assigned { job, mut permit, timeout } = self.jobs.try_recv().ok()?;
        let (started, owner) = (clock.mono(), self.owner().row);
        permit.begin(started);
        let worker = &mut self.workers[at];
        *worker.slot.current.lock() = Some(Current {
            job: Arc::clone(&job),
            deadline: started.plus(timeout),
            cancelled_at: None,
            abandoned: false,
        });
        let done =
            job.checkpoint.as_ref().and_then(|bytes| bytes.first()).map_or(0, |at| (*at).into());
        worker.attempt = Some(Attempt {
            job,
            permit: Some(permit),
            at: done,
            started,
            started_at: clock.wall(),
            serial,
            owner,
            asking: None,
        });
        Some(at)
    }

    /// As the end of an attempt in a worker: says what came of it, and is free again. An abandoned one ends.
    pub(super) fn end_attempt(&mut self, at: usize, outcome: Outcome, clock: &Manual) {
        let worker = &mut self.workers[at];
        let Some(Attempt { job, permit, started, started_at, .. }) = worker.attempt.take() else {
            return;
        };
        drop(permit);
        let current = worker.slot.current.lock().take();
        let abandoned = current.is_some_and(|current| current.abandoned);
        let cancelled = worker.slot.cancel.reason();
        worker.slot.cancel.reset();
        let index = worker.slot.index;
        if abandoned {
            self.workers.remove(at);
        }
        self.send(Message::Finished(Finished {
            job,
            ended: Ok(outcome),
            cancelled,
            worker: index,
            frees_worker: !abandoned,
            started_at,
            elapsed: clock.mono().since(started),
        }));
    }

    /// The handler says later: the worker is free, its job goes on.
    pub(super) fn hand_over(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        let Some(Attempt { job, started, started_at, serial, .. }) = worker.attempt.take() else {
            return;
        };
        let current = worker.slot.current.lock().take();
        let abandoned = current.is_some_and(|current| current.abandoned);
        worker.slot.cancel.reset();
        let index = worker.slot.index;
        if abandoned {
            self.workers.remove(at);
        }
        self.later.insert(serial, Later { job, started, started_at, worker: index });
        self.send(Message::HandedOver { abandoned });
    }

    /// Whoever holds the completion of that attempt finishes it.
    pub(super) fn complete(&mut self, serial: u64, clock: &Manual) -> Option<Arc<Leased>> {
        let Later { job, started, started_at, worker } = self.later.remove(&serial)?;
        self.send(Message::Finished(Finished {
            job: Arc::clone(&job),
            ended: Ok(Outcome::done()),
            cancelled: None,
            worker,
            frees_worker: false,
            started_at,
            elapsed: clock.mono().since(started),
        }));
        Some(job)
    }

    /// Workers whose attempt is cancelled.
    pub(super) fn cancelled(&self) -> Vec<usize> {
        let is_cancelled =
            |worker: &Worker| worker.attempt.is_some() && worker.slot.cancel.reason().is_some();
        (0..self.workers.len()).filter(|at| is_cancelled(&self.workers[*at])).collect()
    }
}
