//! What happened in a run: one closed enum, told to whoever listens.
//!
//! Events are the only way out of a run besides its report. Listeners (progress, logs, metrics, traces)
//! are called on the thread where it happened and must return at once: no I/O that can block, no locks
//! shared with anything slow. What a listener does cannot change a run.

use std::time::Duration;

use crate::job::{ErrorReason, Key, LeaseToken, Leased, LimitKey, Mono, Reason, State, WallMs};
use crate::limit::WaitReason;
use crate::queue::store::{Counts, Recovered};
use crate::share::Transition;

/// Something that happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// The run began.
    Started {
        /// The owner's id.
        owner: &'a str,
        /// How many workers.
        workers: usize,
    },
    /// Dead owners were found and their jobs freed.
    Recovered(&'a Recovered),
    /// A worker began an attempt. Told on the worker's thread.
    JobStarted {
        /// The job.
        job: &'a Leased,
        /// Which worker.
        worker: usize,
    },
    /// An attempt's outcome was durably written (or refused: [`Settled::lost`]).
    JobSettled(Settled<'a>),
    /// A job's deadline passed and it was cancelled; its worker, when it does not return, is replaced.
    DeadlinePassed {
        /// Which job.
        token: LeaseToken,
        /// Its artifact id.
        artifact_id: &'a str,
        /// Which worker.
        worker: usize,
    },
    /// A worker did not come back after its deadline; another took its place.
    WorkerReplaced {
        /// The one that is stuck.
        stuck: usize,
        /// The one that came.
        replacement: usize,
    },
    /// The owner was declared dead by another process while it was stopped; it goes on under a new one.
    OwnerLost {
        /// The id that is void.
        old: &'a str,
        /// The new one.
        new: &'a str,
    },
    /// The store could not be written; the turn will be tried again.
    StoreTrouble {
        /// What it said.
        message: &'a str,
        /// When it is tried again.
        again_in: Duration,
    },
    /// The store keeps this much that it could not carry over into its main file: somebody reads from it without end. Told from another
    /// thread than the rest: when it passes 256 MiB, and again whenever it has doubled.
    LogGrew {
        /// So much, on disk.
        bytes: u64,
    },
    /// A breaker opened, half-opened or closed.
    Breaker {
        /// Whose.
        key: &'a LimitKey,
        /// How.
        transition: Transition,
        /// Of one that opened: when it will be half-open, by the wall clock.
        until: Option<WallMs>,
    },
    /// The run was asked to stop.
    Stopping {
        /// Which phase begins.
        phase: StopPhase,
        /// Attempts still running.
        running: usize,
    },
    /// How the run stands: after a turn, at most ten times a second, and once at the end.
    Progress(&'a Progress),
    /// The run is over.
    Ended,
}

impl Event<'_> {
    /// A breaker changed; `now` and `wall` are one moment.
    #[must_use]
    pub fn breaker(key: &LimitKey, transition: Transition, now: Mono, wall: WallMs) -> Event<'_> {
        let until = match transition {
            Transition::Opened { until } => {
                let wait_ms = until.since(now).as_millis();
                Some(wall.plus_ms(u64::try_from(wait_ms).unwrap_or(u64::MAX)))
            }
            Transition::HalfOpened | Transition::Closed => None,
        };
        Event::Breaker { key, transition, until }
    }
}

/// One settled attempt.
#[derive(Debug)]
pub struct Settled<'a> {
    /// The job as it was leased.
    pub job: &'a Leased,
    /// Which worker ran it; `None`: it never started (handed back).
    pub worker: Option<usize>,
    /// The state it is in now; `None`: the lease was lost and nothing was written.
    pub state: Option<State>,
    /// Why, where the outcome has a reason.
    pub reason: Option<Reason>,
    /// One sentence; may be empty.
    pub message: &'a str,
    /// When it will be tried again, if it will.
    pub again_at: Option<WallMs>,
    /// The key it waits for, if it was deferred.
    pub deferred_to: Option<&'a Key>,
    /// When the attempt started.
    pub started_at: WallMs,
    /// How long it ran.
    pub elapsed: Duration,
}

impl Settled<'_> {
    /// Whether the outcome was refused because the lease was lost.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.state.is_none()
    }

    /// The failure that this attempt ended with and that will be tried again, if so.
    #[must_use]
    pub fn retried_after(&self) -> Option<ErrorReason> {
        match (self.again_at, self.reason) {
            (Some(_), Some(Reason::Error(reason))) => Some(reason),
            _ => None,
        }
    }
}

/// The two phases of a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopPhase {
    /// Nothing new starts; what runs may finish.
    Draining,
    /// What runs is cancelled.
    Cancelling,
}

/// How a run stands.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Since the run began.
    pub elapsed: Duration,
    /// Monotonic time of this snapshot.
    pub at: Mono,
    /// Counts of the whole queue.
    pub queue: Counts,
    /// Settled by this run, by how.
    pub done: u64,
    /// Skipped by this run.
    pub skipped: u64,
    /// Ended in error in this run.
    pub failed: u64,
    /// Attempts of this run that failed and will be made again.
    pub retried: u64,
    /// Attempts running now.
    pub running: usize,
    /// Leased here and waiting for a permit.
    pub held: usize,
    /// Workers.
    pub workers: usize,
    /// The busiest keys: what is running there and why the rest waits.
    pub busiest: Vec<Busy>,
}

/// One busy key.
#[derive(Debug, Clone)]
pub struct Busy {
    /// Which.
    pub key: LimitKey,
    /// Permits out.
    pub running: u32,
    /// Permits there are; `None`: unlimited.
    pub limit: Option<u32>,
    /// Leased here and waiting for it.
    pub held: usize,
    /// Why they wait, if they do.
    pub waiting: Option<WaitReason>,
    /// Until when, where that is known.
    pub until: Option<Mono>,
}

/// Somebody who is told what happens.
pub trait Listener: Send + Sync {
    /// Told of every event. Must return at once.
    fn on(&self, event: &Event<'_>);

    /// Whether it wants [`Event::JobStarted`] and [`Event::JobSettled`]; a run without such a listener does not make them.
    fn wants_jobs(&self) -> bool {
        true
    }
    /// Whether it wants [`Event::Progress`]; a run without such a listener does not make them.
    fn wants_progress(&self) -> bool {
        true
    }
}
