//! What a handler is given: its job, its permits, its deadline, and a way to be told to stop.

use std::fmt;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde::de::DeserializeOwned;

use super::MachineFault;
use crate::clock::Clock;
use crate::job::{ErrorReason, Key, Leased, LimitKey, Mono, Outcome, WallMs};
use crate::limit::{Gate, GivenUp, Permit, Told, Wait};

/// Why an attempt is being cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CancelReason {
    /// Its deadline has passed.
    Deadline,
    /// The run is stopping and will wait no longer.
    Stop,
    /// Its lease was taken away: whatever it says will not be accepted.
    LeaseLost,
}

impl CancelReason {
    /// What a cancelled attempt comes to.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            CancelReason::Deadline => {
                Outcome::retry(ErrorReason::Deadline, "cancelled at its deadline")
            }
            CancelReason::Stop | CancelReason::LeaseLost => {
                Outcome::retry(ErrorReason::Internal, "cancelled: the run is stopping")
            }
        }
    }
}

/// A flag that can be waited for: by time ([`Cancel::wait`]) or beside other descriptors ([`Cancel::as_fd`]).
pub struct Cancel {
    reason: Mutex<Option<CancelReason>>,
    raised: Condvar,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Cancel {
    /// A flag that is not raised.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new() -> io::Result<Cancel> {
        let (reader, writer) = io::pipe()?;
        Ok(Cancel { reason: Mutex::new(None), raised: Condvar::new(), reader, writer })
    }

    /// Raises the flag; the first reason stays.
    pub fn cancel(&self, reason: CancelReason) {
        let first = {
            let mut current = self.reason.lock();
            let first = current.is_none();
            current.get_or_insert(reason);
            first
        };
        if first {
            self.raised.notify_all();
            // One byte into an empty pipe: cannot block, and a closed reader cannot be (we hold it).
            let _ = (&self.writer).write_all(&[1]);
        }
    }

    /// Lowers the flag for the next job. Only the worker that owns the flag may, between jobs.
    pub(crate) fn reset(&self) {
        if self.reason.lock().take().is_some() {
            let _ = (&self.reader).read(&mut [0]);
        }
    }

    /// Why, if it is raised.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        *self.reason.lock()
    }

    /// Waits until it is raised or `timeout` has passed; the reason, if raised.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<CancelReason> {
        let mut reason = self.reason.lock();
        if reason.is_none() {
            let _ = self.raised.wait_while_for(&mut reason, |r| r.is_none(), timeout);
        }
        *reason
    }
}

impl AsFd for Cancel {
    /// Readable once the flag is raised: for `poll` beside sockets and pipes. Never read from it.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.reason()).finish()
    }
}

/// The duty to say what came of one attempt, held outside the worker that began it.
///
/// Dropped without a word it reports an internal error, so that no job is ever forgotten.
pub struct Completion {
    report: Option<Box<Report>>,
}

type Report = dyn FnOnce(Result<Outcome, MachineFault>) + Send;

impl Completion {
    /// A completion that hands what came of it to `report`.
    pub fn new(report: impl FnOnce(Result<Outcome, MachineFault>) + Send + 'static) -> Completion {
        Completion { report: Some(Box::new(report)) }
    }

    /// Says what came of it.
    pub fn finish(self, outcome: Outcome) {
        self.end(Ok(outcome));
    }

    /// Says what came of it, or that this machine cannot go on: see [`MachineFault`].
    pub fn end(mut self, ended: Result<Outcome, MachineFault>) {
        if let Some(report) = self.report.take() {
            report(ended);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            report(Ok(Outcome::retry(ErrorReason::Internal, "the handler forgot this job")));
        }
    }
}

/// The line does not say what the handler needs.
#[derive(Debug, thiserror::Error)]
#[error("{at}{source}", at = if path == "." { String::new() } else { format!("{path}: ") })]
pub struct PayloadError {
    /// Which field.
    path: String,
    /// What is wrong with it.
    source: serde_json::Error,
}

/// What a context is made of; filled in by whoever runs handlers (the worker, or a test).
pub struct ContextParts<'a> {
    /// The job and its lease.
    pub job: &'a Leased,
    /// The worker's cancel flag.
    pub cancel: &'a Arc<Cancel>,
    /// The limits further requests are admitted by.
    pub gate: &'a Gate,
    /// Where the time comes from.
    pub clock: &'a dyn Clock,
    /// The permit the job was leased under.
    pub permit: Option<Permit>,
    /// When the attempt must be over.
    pub deadline: Mono,
    /// Which worker runs it, from 0.
    pub worker: usize,
    /// The owner's directory, where one is.
    pub owner_directory: Option<&'a Path>,
    /// Makes the completion of this attempt, at most once.
    pub completion: Box<dyn FnOnce() -> Completion + 'a>,
}

/// What a handler is given for one attempt.
pub struct Context<'a> {
    parts: ContextParts<'a>,
    completion: Option<Box<dyn FnOnce() -> Completion + 'a>>,
}

impl<'a> Context<'a> {
    /// A context of these parts.
    #[must_use]
    pub fn new(mut parts: ContextParts<'a>) -> Context<'a> {
        let unavailable = Box::new(|| Completion { report: None });
        let completion = Some(std::mem::replace(&mut parts.completion, unavailable));
        Context { parts, completion }
    }

    /// The job and its lease.
    #[must_use]
    pub fn job(&self) -> &'a Leased {
        self.parts.job
    }

    /// The JSON object the job came as.
    #[must_use]
    pub fn payload(&self) -> &'a str {
        &self.parts.job.payload
    }

    /// The payload as a type.
    ///
    /// # Errors
    /// [`PayloadError`] naming the field that does not fit.
    pub fn payload_as<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        let mut reader = serde_json::Deserializer::from_str(self.payload());
        serde_path_to_error::deserialize(&mut reader).map_err(|error| PayloadError {
            path: error.path().to_string(),
            source: error.into_inner(),
        })
    }

    /// Which attempt of its present allowance this is: 1 for the first.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.parts.job.attempt
    }

    /// The flag that is raised when the attempt must end.
    #[must_use]
    pub fn cancel(&self) -> &'a Arc<Cancel> {
        self.parts.cancel
    }

    /// How long until the deadline; zero when it has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.parts.deadline.since(self.parts.clock.mono())
    }

    /// Monotonic time.
    #[must_use]
    pub fn mono(&self) -> Mono {
        self.parts.clock.mono()
    }

    /// Wall-clock time.
    #[must_use]
    pub fn wall(&self) -> WallMs {
        self.parts.clock.wall()
    }

    /// Which worker runs this, from 0.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.parts.worker
    }

    /// A directory whose files the owner's successor will find if this process dies; see [`crate::process`].
    #[must_use]
    pub fn owner_directory(&self) -> Option<&'a Path> {
        self.parts.owner_directory
    }

    /// A permit for one request under `key`. The first call for the key the job was leased under returns the permit it
    /// came with, if its key has not been held since; every other one asks the gate. When the request has ended, hand the
    /// permit to [`Context::end`].
    ///
    /// # Errors
    /// [`Wait`] when the key is full, its bucket empty, or the key held: return [`Outcome::Defer`] with that key.
    pub fn admit(&mut self, key: &Key) -> Result<Permit, Wait> {
        let (gate, now) = (self.parts.gate, self.mono());
        match self.parts.permit.take_if(|permit| permit.key() == key) {
            Some(permit) => gate.redeem(permit, now),
            None => gate.try_request(key, now),
        }
    }

    /// Gives the permit the job was leased under back, its tokens too, unless it is for this key: nothing was started
    /// under it, and it would hold a slot of a host that nobody asks.
    pub fn leave_permit(&mut self, unless: &Key) {
        if let Some(permit) = self.parts.permit.take_if(|permit| permit.key() != unless) {
            permit.refund();
        }
    }

    /// Returns the permit of a request whose answer has ended: see [`Permit::end`].
    pub fn end(&self, permit: Permit) {
        permit.end(self.mono());
    }

    /// A server said to slow down, to a request sent at `asked_at` and with this `Retry-After`: nobody asks `key` before
    /// the time returned. See [`Gate::hold`].
    pub fn hold(&self, key: &LimitKey, asked_at: Mono, after: Option<Duration>) -> Mono {
        self.parts.gate.hold(key, Told { asked_at, now: self.mono(), after })
    }

    /// A server gave a proper answer, whose head came at `headed_at`, to a request sent at `asked_at`: see [`Gate::answered`]. To be
    /// said once its body has ended, and before its permit is [ended](Context::end): one that stands still in the midst
    /// has [timed out](Context::overloaded).
    pub fn answered(&self, key: &LimitKey, asked_at: Mono, headed_at: Mono) {
        self.parts.gate.answered(key, asked_at, headed_at);
    }

    /// A request sent at `asked_at` failed for want of a server: see [`Gate::failed`].
    pub fn failed(&self, key: &LimitKey, asked_at: Mono) {
        self.parts.gate.failed(key, asked_at, self.mono());
    }

    /// A request sent at `asked_at` timed out: see [`Gate::overloaded`].
    pub fn overloaded(&self, key: &LimitKey, asked_at: Mono) {
        self.parts.gate.overloaded(key, asked_at, self.mono());
    }

    /// The first part of `key` that is not worth waiting for: see [`Gate::given_up`].
    #[must_use]
    pub fn given_up(&self, key: &Key) -> Option<GivenUp> {
        self.parts.gate.given_up(key, self.mono())
    }

    /// A server asks for a crawl delay: see [`Gate::slow_down`]. Say it before the permit of the request that it came with
    /// is [ended](Context::end): the first delay counts from there.
    pub fn slow_down(&self, key: &LimitKey, interval: Duration) {
        self.parts.gate.slow_down(key, interval);
    }

    /// Takes over the duty to report this attempt's outcome: the handler then returns [`super::Ran::Later`], the worker goes
    /// on with other jobs, and whoever holds the completion finishes it. `None` when it was taken already.
    #[must_use]
    pub fn finish_later(&mut self) -> Option<Completion> {
        self.completion.take().map(|make| make())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Manual;
    use crate::limit::{KeyLimits, Limits, WaitReason};

    fn host(name: &str) -> Key {
        Key::new(None, Some(name)).unwrap()
    }

    fn limit_key(name: &str) -> LimitKey {
        LimitKey::Host(name.into())
    }

    /// A context leased under `a.org`, where one job runs at a time and one starts each three seconds.
    fn with_context(check: impl FnOnce(&mut Context<'_>, &Gate, &Manual)) {
        let rate = Some("1/3s".parse().unwrap());
        let terms = KeyLimits { max_concurrent: Some(1), rate };
        let by_key = [(limit_key("a.org"), terms)].into();
        let gate = Gate::new(Limits { by_key, ..Limits::default() });
        let clock = Manual::at(WallMs(0));
        clock.advance(Duration::from_secs(100));
        let attempt = testing::Attempt::of("{}");
        let mut context = Context::new(ContextParts {
            job: &attempt.job,
            cancel: &attempt.cancel,
            gate: &gate,
            clock: &clock,
            permit: Some(gate.try_admit(&host("a.org"), clock.mono()).unwrap()),
            deadline: Mono(Duration::from_secs(3600)),
            worker: 0,
            owner_directory: None,
            completion: Box::new(|| Completion::new(drop)),
        });
        check(&mut context, &gate, &clock);
    }

    #[test]
    fn a_permit_that_is_left_is_there_for_others_with_its_token() {
        with_context(|context, gate, clock| {
            context.leave_permit(&host("a.org"));
            assert_eq!(gate.free(&host("a.org"), clock.mono()), Some(0), "it is for this very key");
            context.leave_permit(&host("b.org"));
            assert_eq!(gate.free(&host("a.org"), clock.mono()), Some(1));
            assert!(context.admit(&host("a.org")).is_ok());
        });
    }

    #[test]
    fn no_request_is_made_of_a_host_that_was_held_since_the_job_was_leased() {
        with_context(|context, gate, clock| {
            let until = context.hold(&limit_key("a.org"), clock.mono(), None);
            assert_eq!(until.since(clock.mono()), Duration::from_secs(1));
            let wait = context.admit(&host("a.org")).unwrap_err();
            assert_eq!((wait.reason, wait.until), (WaitReason::Held, Some(until)));
            clock.advance(Duration::from_secs(1));
            assert_eq!(
                gate.free(&host("a.org"), clock.mono()),
                Some(1),
                "the permit was given back"
            );
            context.answered(&limit_key("a.org"), context.mono(), context.mono());
            assert!(context.admit(&host("a.org")).is_ok());
        });
    }

    #[test]
    fn what_is_not_worth_waiting_for_is_said_before_it_is_asked() {
        with_context(|context, _, clock| {
            assert_eq!(context.given_up(&host("a.org")), None);
            let after = Some(Duration::from_hours(15));
            let until = context.hold(&limit_key("a.org"), clock.mono(), after);
            let given_up = GivenUp {
                on: limit_key("a.org"),
                until,
                why: crate::share::WhyGivenUp::RateLimited,
            };
            assert_eq!(context.given_up(&host("a.org")), Some(given_up));
            assert_eq!(context.admit(&host("a.org")).unwrap_err().until, Some(until));
        });
    }

    #[test]
    fn an_ended_request_leaves_its_host_alone_for_the_interval() {
        with_context(|context, gate, clock| {
            context.slow_down(&limit_key("a.org"), Duration::from_secs(7));
            let permit = context.admit(&host("a.org")).unwrap();
            clock.advance(Duration::from_secs(60));
            context.end(permit);
            let wait = gate.try_admit(&host("a.org"), clock.mono()).unwrap_err();
            assert_eq!(wait.until, Some(clock.mono().plus(Duration::from_secs(7))));
        });
    }
}

/// What the tests of handlers share: one attempt, without a queue or a run around it.
#[cfg(test)]
pub(crate) mod testing {
    use std::path::PathBuf;

    use super::*;
    use crate::clock::System;
    use crate::handler::{Handler, Ran};
    use crate::job::{Epoch, JobRow, JobSpec, Lane, LaneId, LeaseToken, Priority};

    /// One attempt to be made: change what matters, then run it.
    pub(crate) struct Attempt {
        pub(crate) job: Leased,
        pub(crate) cancel: Arc<Cancel>,
        pub(crate) owner_directory: Option<PathBuf>,
    }

    impl Attempt {
        /// The first attempt of job 7 with this payload, under the lease of epoch 3.
        pub(crate) fn of(payload: &str) -> Attempt {
            let spec = JobSpec::new("test:1", "test").unwrap();
            let lane = Lane { id: LaneId(1), kind: spec.kind, key: spec.key, tag: None };
            let job = Leased {
                token: LeaseToken { job: JobRow(7), epoch: Epoch(3) },
                artifact_id: spec.artifact_id,
                enqueued_at: crate::job::WallMs(0),
                lane: Arc::new(lane),
                priority: Priority::default(),
                attempt: 1,
                attempts_total: 1,
                losses: 0,
                max_attempts: None,
                timeout_seconds: None,
                retry: None,
                payload: payload.to_owned(),
                checkpoint: None,
                previous: None,
            };
            Attempt { job, cancel: Arc::new(Cancel::new().unwrap()), owner_directory: None }
        }

        /// What `handler` makes of it.
        pub(crate) fn run(&self, handler: &dyn Handler) -> Outcome {
            let (gate, clock) = (Gate::default(), System::new());
            let mut context = Context::new(ContextParts {
                job: &self.job,
                cancel: &self.cancel,
                gate: &gate,
                clock: &clock,
                permit: None,
                deadline: Mono(Duration::from_secs(3600)),
                worker: 0,
                owner_directory: self.owner_directory.as_deref(),
                completion: Box::new(|| Completion::new(drop)),
            });
            match handler.run(&mut context) {
                Ran::Finished(outcome) => outcome,
                Ran::GaveUp(fault) => panic!("the handler gave up: {fault}"),
                Ran::Later => panic!("the handler has not finished"),
            }
        }
    }

    /// What `handler` makes of a first attempt with this payload.
    pub(crate) fn run(handler: &dyn Handler, payload: &str) -> Outcome {
        Attempt::of(payload).run(handler)
    }
}
