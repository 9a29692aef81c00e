//! Runs a queue: a dispatcher, a bounded channel, N workers, a heartbeat.
//!
//! ```text
//!             +---------------- dispatcher: owns the truth of this process ---------------+
//!  store  <---| a turn = one transaction: settle what finished, lease what may start       |
//!             | (made by the scribe while attempts run)                                    |
//!             | then: permits -> bounded channel                                           |
//!             +---^------------------------------------------------------------------+-----+
//!                 | Finished { token, outcome }                                      | Assigned { leased, permit }
//!             +---+--------------------------- workers 1..N -------------------------v-----+
//!             | run the handler inside catch_unwind, with a deadline and a cancel flag     |
//!             +----------------------------------------------------------------------------+
//!  heartbeat: one row per process, on its own connection; listens for the bell
//! ```
//!
//! Nothing here knows what a job does, how a store stores or how a terminal looks.

mod dispatcher;
pub mod event;
pub mod forecast;
pub mod frontier;
mod heartbeat;
mod report;
mod scribe;
#[cfg(test)]
mod simulation;
mod stop;
mod worker;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::RwLock;

use crate::clock::{Clock, System};
use crate::handler::{Context, Handler, Registry};
use crate::job::{Outcome, RetryPolicy, SpecError};
use crate::limit::{Gate, Limits};
use crate::queue::store::{RecoverTerms, Store};
use dispatcher::{Dispatcher, MAX_AHEAD, Next};
use event::{Event, Listener};
use frontier::Schedule;
use scribe::Errand;
use worker::{Assigned, Message, Shared, Slot};

pub use report::{RunError, RunReport};
pub use stop::{StopCause, StopHandle};

/// How a queue is run. The defaults are those of `config/default.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOptions {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// End when nothing is left that may start.
    pub drain: bool,
    /// A draining run waits for retries and deferrals.
    pub wait_retries: bool,
    /// Stop in good order after this long.
    pub max_runtime: Option<Duration>,
    /// How retries are spaced, unless the job says.
    pub retry: RetryPolicy,
    /// Attempts a job may use, unless the job or its policy says.
    pub max_job_attempts: u32,
    /// So many owner deaths end a job.
    pub max_job_losses: u32,
    /// How long an attempt may take, unless the job says.
    pub job_timeout: Duration,
    /// How long a stopping run lets attempts finish.
    pub shutdown: Duration,
    /// How often the owner shows that it lives.
    pub heartbeat: Duration,
    /// How long an owner may be silent before its leases end.
    pub lease_ttl: Duration,
    /// What may run at once, and how often.
    pub limits: Limits,
    /// Who goes first, beyond priority and age.
    pub schedule: Schedule,
    /// Seeds the jitter, for runs that must be the same twice; `None`: random.
    pub seed: Option<u64>,
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions {
            workers: 8,
            drain: false,
            wait_retries: true,
            max_runtime: None,
            retry: RetryPolicy::queue_default(60_000, 3_600_000, 15_000),
            max_job_attempts: 3,
            max_job_losses: 5,
            job_timeout: Duration::from_secs(3_600),
            shutdown: Duration::from_secs(30),
            heartbeat: Duration::from_secs(30),
            lease_ttl: Duration::from_secs(600),
            limits: Limits { max_per_host: Some(4), ..Limits::default() },
            schedule: Schedule::default(),
            seed: None,
        }
    }
}

/// Runs the jobs of one queue with the handlers it was given.
pub struct Runner {
    store: Box<dyn Store>,
    registry: Registry,
    options: RunOptions,
    clock: Arc<dyn Clock>,
    listener: Arc<dyn Listener>,
    inbox: (Sender<Message>, Receiver<Message>),
}

/// Listens to nothing.
struct Nobody;

impl Listener for Nobody {
    fn on(&self, _event: &Event<'_>) {}

    fn wants_jobs(&self) -> bool {
        false
    }

    fn wants_progress(&self) -> bool {
        false
    }
}

impl Runner {
    /// A runner of that queue, without handlers, with default options.
    #[must_use]
    pub fn new(queue: impl Into<Box<dyn Store>>) -> Runner {
        Runner {
            store: queue.into(),
            registry: Registry::new(),
            options: RunOptions::default(),
            clock: Arc::new(System::new()),
            listener: Arc::new(Nobody),
            inbox: unbounded(),
        }
    }

    /// The same runner with these options.
    #[must_use]
    pub fn options(mut self, options: RunOptions) -> Runner {
        self.options = options;
        self
    }

    /// The same runner with so many workers (at least 1).
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Runner {
        self.options.workers = workers.max(1);
        self
    }

    /// The same runner with these handlers in place of those it had.
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Runner {
        self.registry = registry;
        self
    }

    /// The same runner with a handler for `kind`.
    ///
    /// # Errors
    /// [`SpecError::Kind`] when `kind` is no such name.
    pub fn handler(
        mut self,
        kind: &str,
        handler: impl Handler + 'static,
    ) -> Result<Runner, SpecError> {
        self.registry.register(kind, handler)?;
        Ok(self)
    }

    /// The same runner with a function that does the jobs of `kind`.
    ///
    /// # Errors
    /// [`SpecError::Kind`] when `kind` is no such name.
    pub fn handler_fn<F>(mut self, kind: &str, run: F) -> Result<Runner, SpecError>
    where
        F: Fn(&mut Context<'_>) -> Outcome + Send + Sync + 'static,
    {
        self.registry.register_fn(kind, run)?;
        Ok(self)
    }

    /// The same runner, telling `listener` what happens.
    #[must_use]
    pub fn listener(mut self, listener: Arc<dyn Listener>) -> Runner {
        self.listener = listener;
        self
    }

    /// The same runner on another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Runner {
        self.clock = clock;
        self
    }

    /// Stops this run from another thread.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle { inbox: self.inbox.0.clone() }
    }

    /// Runs until nothing is left that may start (retries are waited for).
    ///
    /// # Errors
    /// [`RunError`] when the store or the system fails for good.
    pub fn drain(mut self) -> Result<RunReport, RunError> {
        self.options.drain = true;
        self.run()
    }

    /// Runs until it is stopped or, with [`RunOptions::drain`], until nothing is left that may start.
    ///
    /// # Errors
    /// [`RunError`] when the store or the system fails for good.
    pub fn run(self) -> Result<RunReport, RunError> {
        let Runner { mut store, registry, options, clock, listener, inbox } = self;
        let (to_inbox, inbox) = inbox;
        let gate = Gate::new(options.limits.clone());
        let freed = to_inbox.clone();
        gate.on_release(move |key| {
            // A run that is over needs no permits.
            let _ = freed.send(Message::Freed(key.clone()));
        });
        let news = to_inbox.clone();
        gate.on_news(move || _ = news.send(Message::News));
        let owner = Arc::new(store.register(clock.wall())?);
        gate.divide();
        let shared = Arc::new(Shared {
            registry,
            gate,
            clock,
            listener,
            owner: RwLock::new(owner),
            inbox: to_inbox,
        });
        let (threads, scribe) = Threads::start(&*store, &shared, &options)?;
        let slots = threads.slots.clone();
        let ends = (threads.jobs.clone(), threads.unstarted.clone());
        take_over(&mut *store, &shared, &options)?;
        {
            let owner = Arc::clone(&shared.owner.read());
            shared.listener.on(&Event::Started { owner: &owner.id, workers: options.workers });
        }
        let dispatcher =
            Dispatcher::new(store, Arc::clone(&shared), options, slots, ends).with_scribe(scribe);
        drive(dispatcher, &inbox, threads, &shared)
    }
}

/// Frees what dead owners held, before the first lease.
fn take_over(store: &mut dyn Store, shared: &Shared, options: &RunOptions) -> Result<(), RunError> {
    let owner = Arc::clone(&shared.owner.read());
    let terms = RecoverTerms {
        now: shared.clock.wall(),
        mono: shared.clock.mono(),
        lease_ttl_ms: ms(options.lease_ttl),
        max_job_losses: options.max_job_losses,
    };
    let recovered = store.recover(Some(&owner), terms)?;
    if !recovered.owners.is_empty() {
        // Sent, not told: the dispatcher counts it too.
        let _ = shared.inbox.send(Message::Recovered(recovered));
    }
    Ok(())
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Feeds the dispatcher messages until it is over.
fn drive(
    mut dispatcher: Dispatcher,
    inbox: &Receiver<Message>,
    mut threads: Threads,
    shared: &Arc<Shared>,
) -> Result<RunReport, RunError> {
    loop {
        while let Ok(message) = inbox.try_recv() {
            dispatcher.take(message);
        }
        let next = dispatcher.advance();
        for slot in std::mem::take(&mut dispatcher.replacements) {
            threads.add_worker(shared, slot)?;
        }
        let message = match next {
            Ok(Next::Again) => None,
            Ok(Next::Gather(step)) => {
                shared.clock.pause(step);
                None
            }
            Ok(Next::Wait(Some(timeout))) => inbox.recv_timeout(timeout).ok(),
            Ok(Next::Wait(None)) => inbox.recv().ok(),
            Ok(Next::Over) => {
                let fault = dispatcher.fault.take();
                let report = dispatcher.finish();
                threads.end(report.abandoned);
                return fault.map_or(Ok(report), |fault| Err(fault.into()));
            }
            Err(error) => {
                // Everything leased was cancelled; nothing can be settled any more.
                let _ = dispatcher.finish();
                threads.end(usize::MAX);
                return Err(error);
            }
        };
        if let Some(message) = message {
            dispatcher.take(message);
        }
    }
}

/// The threads of one run.
struct Threads {
    slots: Vec<Arc<Slot>>,
    jobs: Sender<Assigned>,
    unstarted: Receiver<Assigned>,
    workers: Vec<JoinHandle<()>>,
    heartbeat: Option<JoinHandle<()>>,
    /// Ends with the dispatcher.
    scribe: Option<JoinHandle<()>>,
    /// Closing it ends the heartbeat.
    over: Option<io::PipeWriter>,
}

impl Threads {
    fn start(
        store: &dyn Store,
        shared: &Arc<Shared>,
        options: &RunOptions,
    ) -> Result<(Threads, Sender<Errand>), RunError> {
        let (jobs, unstarted) = bounded(options.workers + MAX_AHEAD);
        let mut threads = Threads {
            slots: Vec::new(),
            jobs,
            unstarted,
            workers: Vec::new(),
            heartbeat: None,
            scribe: None,
            over: None,
        };
        for index in 0..options.workers {
            let slot = Slot::new(index).map_err(cannot_start("a worker"))?;
            threads.add_worker(shared, Arc::new(slot))?;
        }
        threads.start_heartbeat(store.fork()?, shared, options)?;
        let scribe = threads.start_scribe(shared)?;
        Ok((threads, scribe))
    }

    fn start_scribe(&mut self, shared: &Shared) -> Result<Sender<Errand>, RunError> {
        let (orders, to_write) = bounded(1);
        let inbox = shared.inbox.clone();
        let thread = std::thread::Builder::new()
            .name("scribe".to_owned())
            .spawn(move || scribe::write(&to_write, &inbox))
            .map_err(cannot_start("the scribe"))?;
        self.scribe = Some(thread);
        Ok(orders)
    }

    fn add_worker(&mut self, shared: &Arc<Shared>, slot: Arc<Slot>) -> Result<(), RunError> {
        self.slots.push(Arc::clone(&slot));
        let (shared, jobs) = (Arc::clone(shared), self.unstarted.clone());
        let thread = std::thread::Builder::new()
            .name(format!("worker-{}", slot.index))
            .spawn(move || worker::work(&shared, &slot, &jobs))
            .map_err(cannot_start("a worker"))?;
        self.workers.push(thread);
        Ok(())
    }

    fn start_heartbeat(
        &mut self,
        store: Box<dyn Store>,
        shared: &Arc<Shared>,
        options: &RunOptions,
    ) -> Result<(), RunError> {
        let (reader, writer) = io::pipe().map_err(cannot_start("the heartbeat"))?;
        let terms = heartbeat::Terms {
            heartbeat: options.heartbeat,
            lease_ttl_ms: ms(options.lease_ttl),
            max_job_losses: options.max_job_losses,
        };
        let shared = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .name("heartbeat".to_owned())
            .spawn(move || heartbeat::beat(store, &shared, terms, &reader))
            .map_err(cannot_start("the heartbeat"))?;
        self.heartbeat = Some(thread);
        self.over = Some(writer);
        Ok(())
    }

    /// Lets every thread end; with attempts that did not return, their workers are left to the end of the process.
    fn end(mut self, abandoned: usize) {
        drop(self.over.take());
        drop(self.jobs);
        for thread in self.heartbeat.take().into_iter().chain(self.scribe.take()) {
            let _ = thread.join();
        }
        if abandoned == 0 {
            for worker in self.workers {
                let _ = worker.join();
            }
        }
    }
}

fn cannot_start(what: &'static str) -> impl Fn(io::Error) -> RunError {
    move |source| RunError::Thread { what, source }
}

#[cfg(test)]
mod tests;
