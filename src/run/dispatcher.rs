//! The dispatcher: owns the truth of this process.
//!
//! It alone settles and leases, in turns of one transaction each, and it alone decides what starts. It
//! must never run a handler, never block on a worker, and never believe anything about a job that the
//! store has not confirmed. Time and messages are handed to it, so that a simulation can drive it.
//!
//! ```text
//!   message --take--> pending settlements, freed permits
//!   advance:  held jobs that got a permit --> channel
//!             one turn: settle pending, lease what may start --> held --> channel
//! ```

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::RunOptions;
use super::event::{Busy, Event, Progress, Settled as SettledEvent, StopPhase};
use super::frontier::{Appetite, Frontier};
use super::report::{RunError, RunReport, Tally};
use super::stop::{StopCause, StopRequest};
use super::worker::{Assigned, Finished, Message, Shared, Slot};
use crate::handler::CancelReason;
use crate::job::{
    Change, ErrorReason, FinalState, Kind, Leased, MAX_CHECKPOINT_BYTES, Mono, Note, Outcome,
    Reason, RetryTerms, State, Suspicion, WallMs,
};
use crate::queue::store::{
    LaneCursor, Owner, Settled, Settlement, Store, StoreError, Turn, TurnReport, Want,
};

/// The most jobs assigned beyond the number of workers: what the channel holds.
pub(super) const MAX_AHEAD: usize = 1_024;
/// The most payload bytes leased in one turn.
const MAX_TURN_PAYLOAD_BYTES: usize = 8 * 1024 * 1024;
/// How many lanes are read from the store at once.
const LANES_PER_PAGE: usize = 512;
/// A bell that rings while there is no room is answered this often, for the sake of urgent jobs.
const LOOK_WHILE_FULL: Duration = Duration::from_millis(50);
/// How long a cancelled attempt may take to return before its worker is replaced, or left behind at the end.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// The same after a second signal.
const CANCEL_GRACE_NOW: Duration = Duration::from_secs(1);
/// The first wait after the store refused a turn, doubled up to [`MAX_TROUBLE_WAIT`].
const FIRST_TROUBLE_WAIT: Duration = Duration::from_millis(50);
const MAX_TROUBLE_WAIT: Duration = Duration::from_secs(2);
/// So many refusals in a row, other than "locked by another process", end the run: about eight seconds.
const MAX_TROUBLES: u32 = 9;
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// Every so many turns suspects are given a chance beside a backlog of others.
const SUSPECTS_EVERY_TURNS: u32 = 256;

/// What [`Dispatcher::advance`] says to its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// There is more to do at once: only look for messages.
    Again,
    /// Wait for a message, at most this long (`None`: as long as it takes).
    Wait(Option<Duration>),
    /// The run is over.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining { until: Mono },
    Cancelling { until: Mono },
}

/// Who ran a pending settlement, for the event after its commit.
struct Origin {
    job: Arc<Leased>,
    worker: Option<usize>,
}

/// See the module.
pub(super) struct Dispatcher {
    store: Box<dyn Store>,
    shared: Arc<Shared>,
    owner: Arc<Owner>,
    options: RunOptions,
    kinds: Vec<Kind>,
    frontier: Frontier,
    slots: Vec<Arc<Slot>>,
    jobs: Sender<Assigned>,
    /// Another end of the channel, to take back what no worker has started.
    unstarted: Receiver<Assigned>,
    /// Indices of slots that need a new worker thread: read by the driver.
    pub(super) replacements: Vec<Arc<Slot>>,
    rng: StdRng,

    settlements: Vec<Settlement>,
    origins: Vec<Origin>,
    /// Assigned and not over: in the channel, with a worker, or with a completion.
    in_flight: usize,
    /// The part of `in_flight` that keeps a worker from taking another.
    busy: usize,
    care: Suspicion,
    turns_since_care: u32,
    /// Looking for suspects beside a backlog of others, lest they wait for its end.
    searching: bool,
    /// Leased under [`Suspicion::OneAtATime`] or more carefully, and not over.
    wary_in_flight: usize,

    cursor: Option<LaneCursor>,
    scanned: bool,
    bell: bool,
    last_scan: Mono,

    finished_since_turn: usize,
    last_turn_at: Mono,
    ahead: usize,
    next_due: Option<WallMs>,
    earliest_deadline: Option<Mono>,
    more_due: bool,

    troubles: u32,
    retry_turn_at: Option<Mono>,

    phase: Phase,
    stop: Option<StopCause>,
    began: Mono,
    last_progress: Option<Mono>,
    tally: Tally,
}

impl Dispatcher {
    /// A dispatcher for an owner that is registered, with one slot per worker.
    pub(super) fn new(
        store: Box<dyn Store>,
        shared: Arc<Shared>,
        options: RunOptions,
        slots: Vec<Arc<Slot>>,
        (jobs, unstarted): (Sender<Assigned>, Receiver<Assigned>),
    ) -> Dispatcher {
        let now = shared.clock.mono();
        let owner = Arc::clone(&shared.owner.read());
        let kinds = shared.registry.kinds().cloned().collect();
        let rng = match options.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => rand::make_rng(),
        };
        Dispatcher {
            store,
            shared,
            owner,
            options,
            kinds,
            frontier: Frontier::new(),
            slots,
            jobs,
            unstarted,
            replacements: Vec::new(),
            rng,
            settlements: Vec::new(),
            origins: Vec::new(),
            in_flight: 0,
            busy: 0,
            care: Suspicion::FreeWorker,
            turns_since_care: 0,
            searching: false,
            wary_in_flight: 0,
            cursor: None,
            scanned: false,
            bell: false,
            last_scan: now,
            finished_since_turn: 0,
            last_turn_at: now,
            ahead: 0,
            next_due: None,
            earliest_deadline: None,
            more_due: true,
            troubles: 0,
            retry_turn_at: None,
            phase: Phase::Running,
            stop: None,
            began: now,
            last_progress: None,
            tally: Tally::default(),
        }
    }

    /// Takes in one message. Never touches the store.
    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Finished(finished) => self.take_finished(finished),
            Message::HandedOver { abandoned } => {
                if !abandoned {
                    self.busy -= 1;
                }
            }
            Message::Freed(key) => self.frontier.freed(&key),
            Message::Bell | Message::Beat => self.bell = true,
            Message::OwnerLost => self.tally.owner_lost = true,
            Message::Recovered(recovered) => {
                self.tally.crashed += recovered.crashed;
                self.shared.listener.on(&Event::Recovered(&recovered));
                self.bell = true;
            }
            Message::HeartbeatTrouble { message, again_in } => {
                self.shared.listener.on(&Event::StoreTrouble { message: &message, again_in });
            }
            Message::Stop(request) => self.begin_stop(request),
        }
    }

    fn take_finished(&mut self, finished: Finished) {
        let Finished { job, outcome, cancelled, worker, frees_worker, started_at, elapsed } =
            finished;
        if frees_worker {
            self.busy -= 1;
        }
        self.over(&job);
        self.finished_since_turn += 1;
        let change = self.change_of(&job, outcome, cancelled);
        self.settlements.push(Settlement {
            token: job.token,
            change,
            started_at,
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        });
        self.origins.push(Origin { job, worker: Some(worker) });
    }

    fn over(&mut self, job: &Leased) {
        self.in_flight -= 1;
        if Suspicion::of(job.losses, self.options.max_job_losses) >= Suspicion::OneAtATime {
            self.wary_in_flight -= 1;
        }
        self.frontier.finished(job.lane.id);
    }

    /// What an outcome makes of its job, given that the attempt may have been cancelled.
    fn change_of(
        &mut self,
        job: &Leased,
        outcome: Outcome,
        cancelled: Option<CancelReason>,
    ) -> Change {
        let outcome = match (cancelled, outcome) {
            (_, outcome @ (Outcome::Done { .. } | Outcome::Skipped { .. })) | (None, outcome) => {
                outcome
            }
            (Some(CancelReason::Stop | CancelReason::LeaseLost), _) => return Change::HandBack,
            (Some(CancelReason::Deadline), outcome) => past_deadline(outcome, self.timeout_of(job)),
        };
        let terms = RetryTerms::merge(
            job.max_attempts,
            job.retry,
            self.options.retry,
            self.options.max_job_attempts,
        );
        let uniform = match &outcome {
            Outcome::Retry { .. } => [self.rng.random(), self.rng.random()],
            _ => [0.0; 2],
        };
        let now = self.shared.clock.wall();
        bounded(outcome).settle(job.attempt, terms, now, uniform)
    }

    fn timeout_of(&self, job: &Leased) -> Duration {
        job.timeout_seconds
            .map_or(self.options.job_timeout, |seconds| Duration::from_secs(u64::from(seconds)))
    }

    /// Does what can be done now, at most one turn of it.
    ///
    /// # Errors
    /// [`RunError`] when the store cannot be used and patience is over; everything leased has been cancelled.
    pub(super) fn advance(&mut self) -> Result<Next, RunError> {
        let now = self.shared.clock.mono();
        let waiting = self.retry_turn_at.is_some_and(|at| now < at);
        if self.tally.owner_lost && !waiting {
            self.renew_owner()?;
        }
        self.frontier.tick(now);
        self.check_deadlines(now);
        self.check_phase(now);
        self.assign(now);
        let again = !waiting && !self.tally.owner_lost && self.turn(now)?;
        self.show_progress(now, false);
        if again {
            return Ok(Next::Again);
        }
        if self.is_over(now)? {
            return Ok(Next::Over);
        }
        Ok(if self.bell && self.room() > 0 { Next::Again } else { Next::Wait(self.patience()) })
    }

    /// Sends held jobs that get a permit to the workers.
    fn assign(&mut self, now: Mono) {
        while self.phase == Phase::Running && self.room() > 0 {
            let Some((job, permit)) = self.frontier.next(&self.shared.gate, now) else { return };
            if Suspicion::of(job.losses, self.options.max_job_losses) >= Suspicion::OneAtATime {
                self.wary_in_flight += 1;
            }
            self.in_flight += 1;
            self.busy += 1;
            let timeout = self.timeout_of(&job);
            let deadline = now.plus(timeout);
            self.earliest_deadline =
                Some(self.earliest_deadline.map_or(deadline, |earliest| earliest.min(deadline)));
            // The channel has room for workers + MAX_AHEAD, and no more are ever in it; the
            // receiver is held here, so it cannot be closed.
            let _ = self.jobs.send(Assigned { job: Arc::new(job), permit, timeout });
        }
    }

    /// How many more jobs may be assigned now.
    fn room(&self) -> usize {
        let ahead = if self.care == Suspicion::None { self.ahead } else { 0 };
        (self.options.workers + ahead).saturating_sub(self.busy)
    }

    /// How much may be leased now, given how careful we must be.
    fn appetite(&self) -> Appetite {
        let max_losses = |care: Suspicion| care.max_losses(self.options.max_job_losses);
        let nothing = Appetite { room: 0, lease_ahead: false, max_losses: 0 };
        let room = self.room().saturating_sub(self.frontier.held());
        match self.care {
            _ if self.phase != Phase::Running => nothing,
            Suspicion::None => {
                Appetite { room: self.room(), lease_ahead: true, max_losses: max_losses(self.care) }
            }
            Suspicion::FreeWorker => {
                Appetite { room, lease_ahead: false, max_losses: max_losses(self.care) }
            }
            Suspicion::OneAtATime if self.wary_in_flight > 0 => {
                Appetite { room, lease_ahead: false, max_losses: max_losses(Suspicion::FreeWorker) }
            }
            Suspicion::OneAtATime => Appetite {
                room: room.min(1),
                lease_ahead: false,
                max_losses: max_losses(self.care),
            },
            Suspicion::Alone if self.in_flight > 0 || self.frontier.held() > 0 => nothing,
            Suspicion::Alone => {
                Appetite { room: 1, lease_ahead: false, max_losses: max_losses(self.care) }
            }
        }
    }

    /// One transaction: settle what is pending, make due what is due, lease what may start.
    /// Returns whether there is more to do at once.
    fn turn(&mut self, now: Mono) -> Result<bool, RunError> {
        let appetite = self.appetite();
        let found = match self.scan(now, appetite.room) {
            Ok(found) => found,
            Err(error) => return self.trouble(error, now).map(|()| false),
        };
        let wants = if appetite == (Appetite { room: 0, lease_ahead: false, max_losses: 0 }) {
            Vec::new()
        } else {
            self.frontier.wants(&self.shared.gate, now, appetite)
        };
        let wall = self.shared.clock.wall();
        let due = self.more_due || self.next_due.is_some_and(|due| due <= wall);
        if self.settlements.is_empty() && wants.is_empty() && !(due && self.is_running()) {
            return Ok(found);
        }
        let owner = Arc::clone(&self.owner);
        let turn = Turn {
            owner: &owner,
            now: wall,
            settle: &self.settlements,
            lease: &wants,
            max_payload_bytes: MAX_TURN_PAYLOAD_BYTES,
        };
        let report = match self.store.turn(&turn) {
            Ok(report) => report,
            Err(error) => {
                self.rescan();
                return self.trouble(error, now).map(|()| false);
            }
        };
        (self.troubles, self.retry_turn_at) = (0, None);
        self.measure(now);
        Ok(self.apply(report, &wants) || found)
    }

    /// Learns how far to assign ahead: twice what the workers get through while one turn is made.
    fn measure(&mut self, began: Mono) {
        let ended = self.shared.clock.mono();
        let (turn, period) = (ended.since(began), ended.since(self.last_turn_at));
        self.last_turn_at = ended;
        let finished = u128::try_from(std::mem::take(&mut self.finished_since_turn)).unwrap_or(0);
        let ahead = 2 * finished * turn.as_nanos() / period.as_nanos().max(1);
        self.ahead = usize::try_from(ahead).unwrap_or(MAX_AHEAD).min(MAX_AHEAD);
    }

    /// Takes in what a turn did. Returns whether there is more to do at once.
    fn apply(&mut self, report: TurnReport, wants: &[Want]) -> bool {
        self.tally.owner_lost |= report.owner_lost;
        self.next_due = report.next_due;
        self.more_due = report.more_due;
        let mut missed = false;
        let more_ready = !report.ready.is_empty();
        for lane in &report.ready {
            missed |= !self.frontier.offer(lane);
        }
        self.tell_settled(&report.settled);
        let mut got = vec![0_usize; wants.len()];
        let leased = report.leased.len();
        let mut suspects = false;
        let mut at = 0;
        for job in report.leased {
            // Leases come in the order of the wants.
            let is_for = |want: &Want| want.lane == job.lane.id && want.priority == job.priority;
            at += wants[at..].iter().position(is_for).unwrap_or(0);
            got[at] += 1;
            suspects |= job.losses > 0;
            self.frontier.hold(job);
        }
        let mut short = false;
        for ((want, dry), got) in wants.iter().zip(&report.dry).zip(&got) {
            self.frontier.answered(want, *dry);
            short |= !dry && *got == 0;
        }
        self.care_after_turn(wants, short, suspects, leased);
        if missed {
            self.rescan();
        }
        leased > 0 || more_ready || self.more_due || short || self.tally.owner_lost
    }

    /// How careful the next turn must be: as careful as the jobs that are left demand.
    fn care_after_turn(&mut self, wants: &[Want], short: bool, suspects: bool, leased: usize) {
        if wants.is_empty() {
            return;
        }
        self.turns_since_care += 1;
        if short && (leased == 0 || self.searching) {
            // Ready jobs, yet none this careful: what is left there is more suspect.
            self.care = self.care.more();
        } else if !suspects {
            self.searching = self.turns_since_care >= SUSPECTS_EVERY_TURNS;
            self.care = if self.searching { Suspicion::FreeWorker } else { Suspicion::None };
            if self.searching {
                self.turns_since_care = 0;
            }
        }
    }

    fn tell_settled(&mut self, answers: &[Settled]) {
        let wants_jobs = self.shared.listener.wants_jobs();
        let settlements = std::mem::take(&mut self.settlements);
        let origins = std::mem::take(&mut self.origins);
        for ((settlement, origin), answer) in settlements.iter().zip(&origins).zip(answers) {
            let state = match answer {
                Settled::Accepted(state) => Some(*state),
                Settled::LeaseLost => None,
            };
            self.tally.count(settlement, state);
            if wants_jobs {
                self.shared
                    .listener
                    .on(&Event::JobSettled(settled_event(settlement, origin, state)));
            }
        }
        // The vectors are as long as a busy turn needs: keep them.
        self.settlements = settlements;
        self.settlements.clear();
        self.origins = origins;
        self.origins.clear();
    }

    /// Reads the next page of ready lanes, when there is reason to.
    fn scan(&mut self, now: Mono, room: usize) -> Result<bool, StoreError> {
        if !self.is_running() {
            return Ok(false);
        }
        if self.bell && (room > 0 || now.since(self.last_scan) >= LOOK_WHILE_FULL) {
            self.bell = false;
            // Delayed jobs may have come too: only a turn tells when they are due.
            self.more_due = true;
            self.rescan();
        }
        if self.scanned || !self.frontier.has_room_for_lanes() {
            return Ok(false);
        }
        let page = self.store.ready_lanes(self.cursor, LANES_PER_PAGE, &self.kinds)?;
        self.last_scan = now;
        for ready in &page {
            if !self.frontier.offer(ready) {
                return Ok(false);
            }
            self.cursor = Some((ready.priority, ready.lane.id));
        }
        self.scanned = page.len() < LANES_PER_PAGE;
        Ok(!page.is_empty())
    }

    fn rescan(&mut self) {
        self.cursor = None;
        self.scanned = false;
    }

    fn trouble(&mut self, error: StoreError, now: Mono) -> Result<(), RunError> {
        let patient = matches!(error, StoreError::Busy { .. });
        self.troubles += 1;
        if !patient && self.troubles >= MAX_TROUBLES {
            self.cancel_all(CancelReason::Stop, now);
            return Err(RunError::Store(error));
        }
        let doublings = (self.troubles - 1).min(16);
        let again_in = (FIRST_TROUBLE_WAIT * 2_u32.pow(doublings)).min(MAX_TROUBLE_WAIT);
        self.retry_turn_at = Some(self.shared.clock.mono().plus(again_in));
        let message = error.to_string();
        self.shared.listener.on(&Event::StoreTrouble { message: &message, again_in });
        Ok(())
    }

    /// Goes on under a new owner: the old one was declared dead while this process was stopped.
    fn renew_owner(&mut self) -> Result<(), RunError> {
        self.tally.owner_lost = false;
        let now = self.shared.clock.mono();
        self.cancel_all(CancelReason::LeaseLost, now);
        // Every token is void: nothing to hand back, only to forget.
        self.frontier.take_held();
        while let Ok(assigned) = self.unstarted.try_recv() {
            self.busy -= 1;
            self.over(&assigned.job);
        }
        let new = match self.store.register(self.shared.clock.wall()) {
            Ok(new) => new,
            Err(error) => {
                self.tally.owner_lost = true;
                return self.trouble(error, now);
            }
        };
        let old = std::mem::replace(&mut self.owner, Arc::new(new));
        *self.shared.owner.write() = Arc::clone(&self.owner);
        self.shared.listener.on(&Event::OwnerLost { old: &old.id, new: &self.owner.id });
        self.rescan();
        Ok(())
    }

    /// Cancels attempts past their deadline; replaces workers that do not come back.
    fn check_deadlines(&mut self, now: Mono) {
        if self.earliest_deadline.is_none_or(|earliest| now < earliest) {
            return;
        }
        let mut next: Option<Mono> = None;
        let mut stuck = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            let mut current = slot.current.lock();
            let Some(current) = current.as_mut().filter(|current| !current.abandoned) else {
                continue;
            };
            let check = match current.cancelled_at {
                Some(cancelled) => cancelled.plus(CANCEL_GRACE),
                None if now >= current.deadline => {
                    current.cancelled_at = Some(now);
                    slot.cancel.cancel(CancelReason::Deadline);
                    self.shared.listener.on(&Event::DeadlinePassed {
                        token: current.job.token,
                        artifact_id: current.job.artifact_id.as_str(),
                        worker: slot.index,
                    });
                    now.plus(CANCEL_GRACE)
                }
                None => current.deadline,
            };
            if check <= now {
                current.abandoned = true;
                stuck.push(at);
            } else {
                next = Some(next.map_or(check, |earliest| earliest.min(check)));
            }
        }
        // Jobs in the channel have not started: the shortest timeout is a second.
        let queued = (!self.jobs.is_empty()).then(|| now.plus(Duration::from_secs(1)));
        self.earliest_deadline = [next, queued].into_iter().flatten().min();
        for at in stuck {
            self.replace(at);
        }
    }

    /// The slot stays with the thread that is stuck in it; a new thread gets a new one.
    fn replace(&mut self, at: usize) {
        let index = self.slots.iter().map(|slot| slot.index).max().unwrap_or(0) + 1;
        let Ok(slot) = Slot::new(index).map(Arc::new) else {
            // No descriptors left: one worker fewer until the stuck one returns.
            return;
        };
        let stuck = std::mem::replace(&mut self.slots[at], Arc::clone(&slot));
        self.busy -= 1;
        self.replacements.push(slot);
        self.shared.listener.on(&Event::WorkerReplaced { stuck: stuck.index, replacement: index });
    }

    fn cancel_all(&self, reason: CancelReason, now: Mono) {
        for slot in &self.slots {
            slot.cancel(reason, now);
        }
    }

    fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    fn begin_stop(&mut self, request: StopRequest) {
        let now = self.shared.clock.mono();
        self.stop.get_or_insert(request.cause);
        if self.phase == Phase::Running {
            self.hand_back_unstarted();
            self.phase = Phase::Draining { until: now.plus(self.options.shutdown) };
            self.tell_stopping(StopPhase::Draining);
        }
        if request.now {
            self.begin_cancelling(now, CANCEL_GRACE_NOW);
        }
    }

    fn begin_cancelling(&mut self, now: Mono, grace: Duration) {
        let until = now.plus(grace);
        if let Phase::Cancelling { until: earlier } = self.phase
            && earlier <= until
        {
            return;
        }
        self.phase = Phase::Cancelling { until };
        self.cancel_all(CancelReason::Stop, now);
        self.tell_stopping(StopPhase::Cancelling);
    }

    fn tell_stopping(&self, phase: StopPhase) {
        self.shared.listener.on(&Event::Stopping { phase, running: self.in_flight });
    }

    fn hand_back_unstarted(&mut self) {
        while let Ok(Assigned { job, permit, .. }) = self.unstarted.try_recv() {
            permit.refund();
            self.busy -= 1;
            self.over(&job);
            self.hand_back(job);
        }
        for job in self.frontier.take_held() {
            self.hand_back(Arc::new(job));
        }
    }

    fn hand_back(&mut self, job: Arc<Leased>) {
        self.settlements.push(Settlement {
            token: job.token,
            change: Change::HandBack,
            started_at: self.shared.clock.wall(),
            elapsed_ms: 0,
        });
        self.origins.push(Origin { job, worker: None });
    }

    fn check_phase(&mut self, now: Mono) {
        let expired =
            |limit: Option<Duration>| limit.is_some_and(|limit| now.since(self.began) >= limit);
        match self.phase {
            Phase::Running if expired(self.options.max_runtime) => {
                self.begin_stop(StopRequest { cause: StopCause::MaxRuntime, now: false });
            }
            Phase::Draining { until } if now >= until && self.in_flight > 0 => {
                self.begin_cancelling(now, CANCEL_GRACE);
            }
            _ => {}
        }
    }

    /// Whether the run is over: stopped and quiet, or drained.
    fn is_over(&mut self, now: Mono) -> Result<bool, RunError> {
        let quiet = self.in_flight == 0 && self.settlements.is_empty() && self.frontier.held() == 0;
        match self.phase {
            Phase::Cancelling { until } if now >= until => return Ok(self.settlements.is_empty()),
            Phase::Draining { .. } | Phase::Cancelling { .. } => return Ok(quiet),
            Phase::Running if !(quiet && self.options.drain) || self.bell => return Ok(false),
            Phase::Running => {}
        }
        let left = match self.store.remaining(&self.owner, &self.kinds) {
            Ok(left) => left,
            Err(error) => return self.trouble(error, now).map(|()| false),
        };
        if left.ready {
            // Parked by a rate, or come since the last look: the latter is found by looking again.
            if self.frontier.lanes() == 0 {
                self.rescan();
                self.bell = true;
            }
            return Ok(false);
        }
        Ok(!(left.delayed_retry && self.options.wait_retries))
    }

    /// How long nothing will happen unless a message comes.
    fn patience(&self) -> Option<Duration> {
        let now = self.shared.clock.mono();
        let wall = self.shared.clock.wall();
        let phase = match self.phase {
            Phase::Running => self.options.max_runtime.map(|limit| self.began.plus(limit)),
            Phase::Draining { until } | Phase::Cancelling { until } => Some(until),
        };
        let due = self.next_due.map(|due| now.plus(Duration::from_millis(due.since_ms(wall))));
        let shown = self.in_flight > 0 && self.shared.listener.wants_progress();
        let progress = shown.then(|| now.plus(Duration::from_secs(1)));
        let look = self.bell.then(|| self.last_scan.plus(LOOK_WHILE_FULL));
        [
            phase,
            due.filter(|_| self.is_running()),
            self.frontier.next_tick(),
            self.earliest_deadline,
            self.retry_turn_at,
            progress,
            look,
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|until| until.since(now))
    }

    fn show_progress(&mut self, now: Mono, last: bool) {
        let fresh = self.last_progress.is_some_and(|at| now.since(at) < PROGRESS_EVERY);
        if (fresh && !last) || !self.shared.listener.wants_progress() {
            return;
        }
        self.last_progress = Some(now);
        // A progress line is not worth an error: the turn will meet the same trouble and say so.
        let Ok(queue) = self.store.counts() else { return };
        let progress = Progress {
            elapsed: now.since(self.began),
            at: now,
            queue,
            done: self.tally.done,
            skipped: self.tally.skipped,
            failed: self.tally.failed,
            retried: self.tally.retried,
            running: self.in_flight - self.jobs.len().min(self.in_flight),
            held: self.frontier.held(),
            workers: self.options.workers,
            busiest: self.busiest(now),
        };
        self.shared.listener.on(&Event::Progress(&progress));
    }

    fn busiest(&self, now: Mono) -> Vec<Busy> {
        const MOST: usize = 5;
        let parked = self.frontier.parked(MOST);
        self.shared
            .gate
            .status(now, MOST)
            .into_iter()
            .map(|status| {
                let wait = parked.iter().find(|parked| parked.on == status.key);
                Busy {
                    held: wait.map_or(0, |wait| wait.held),
                    waiting: wait.map(|wait| wait.reason.clone()),
                    until: wait.and_then(|wait| wait.until).or(status.next_token),
                    key: status.key,
                    running: status.running,
                    limit: status.limit,
                }
            })
            .collect()
    }

    /// Ends the run: retires the owner and says how it went.
    pub(super) fn finish(mut self) -> RunReport {
        let now = self.shared.clock.mono();
        self.show_progress(now, true);
        let left = self.store.remaining(&self.owner, &self.kinds).unwrap_or_default();
        let queue = self.store.counts().unwrap_or_default();
        if let (Some(directory), true) = (&self.owner.directory, self.in_flight > 0) {
            // Attempts that did not return: their commands must not outlive us. What cannot be ended now,
            // the next owner ends before it frees the job.
            let _ = crate::process::end_recorded_groups(directory);
        }
        // What cannot be written now is found by the next owner: the lock is free when we are gone.
        let _ = self.store.retire(&self.owner, self.shared.clock.wall());
        self.shared.listener.on(&Event::Ended);
        self.tally.report(now.since(self.began), queue, left, self.stop, self.in_flight)
    }
}

/// An attempt that was cancelled at its deadline failed for that reason, whatever else it says.
fn past_deadline(outcome: Outcome, timeout: Duration) -> Outcome {
    let (note, checkpoint) = match outcome {
        Outcome::Retry { note, checkpoint, .. } => (note, checkpoint),
        Outcome::Defer { checkpoint, .. } => (Note::default(), checkpoint),
        Outcome::Fail { note, .. } | Outcome::Done { note, .. } | Outcome::Skipped { note, .. } => {
            (note, None)
        }
    };
    let message = format!("cancelled after its timeout of {} s", timeout.as_secs());
    Outcome::Retry {
        reason: ErrorReason::Deadline,
        note: Note { message, detail: note.detail },
        after_ms: None,
        checkpoint,
    }
}

/// A checkpoint over the limit is a fault of its handler, not of the turn it would spoil.
fn bounded(outcome: Outcome) -> Outcome {
    match &outcome {
        Outcome::Retry { checkpoint: Some(data), .. }
        | Outcome::Defer { checkpoint: Some(data), .. }
            if data.len() > MAX_CHECKPOINT_BYTES =>
        {
            let error = StoreError::CheckpointTooLarge(data.len());
            Outcome::fail(ErrorReason::Internal, error.to_string())
        }
        _ => outcome,
    }
}

fn settled_event<'a>(
    settlement: &'a Settlement,
    origin: &'a Origin,
    state: Option<State>,
) -> SettledEvent<'a> {
    let (reason, message, again_at, deferred_to) = match &settlement.change {
        Change::Finish { reason, note, .. } => (Some(*reason), &*note.message, None, None),
        Change::Again { not_before, reason, note, .. } => {
            (Some(Reason::Error(*reason)), &*note.message, Some(*not_before), None)
        }
        Change::Defer { key, not_before, .. } => (None, "", *not_before, Some(key)),
        Change::HandBack => (None, "", None, None),
    };
    SettledEvent {
        job: &origin.job,
        worker: origin.worker,
        state,
        reason,
        message,
        again_at,
        deferred_to,
        started_at: settlement.started_at,
        elapsed: Duration::from_millis(settlement.elapsed_ms),
    }
}

impl Tally {
    fn count(&mut self, settlement: &Settlement, state: Option<State>) {
        if state.is_none() {
            self.lost += 1;
            return;
        }
        match &settlement.change {
            Change::Finish { state, reason, .. } => {
                *self.reasons.entry(*reason).or_default() += 1;
                match state {
                    FinalState::Done => self.done += 1,
                    FinalState::Skipped => self.skipped += 1,
                    FinalState::Error => self.failed += 1,
                }
            }
            Change::Again { .. } => self.retried += 1,
            Change::Defer { .. } => self.deferred += 1,
            Change::HandBack => self.handed_back += 1,
        }
    }
}
