//! The dispatcher: owns the truth of this process.
//!
//! It alone settles and leases, in turns of one transaction each, and it alone decides what starts. It
//! must never run a handler, never block on a worker, and never believe anything about a job that the
//! store has not confirmed. Time and messages are handed to it, so that a simulation can drive it.
//!
//! ```text
//!   message --take--> pending settlements, freed permits
//!   advance:  held jobs that got a permit --> channel
//!             one turn: settle pending, lease what may start --> scribe --> held --> channel
//! ```
//!
//! While attempts are being made the turn is made beside it, by a [scribe](super::scribe), and what it brings comes as a message; there is one
//! turn at a time. When nobody runs, there is nobody to attend to meanwhile, and it makes the turn itself.

mod care;
mod keys;
mod pace;
mod settle;
mod stopping;
#[cfg(test)]
pub(super) mod tests;
mod watch;

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendError, Sender};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::care::Care;
use self::pace::{FLOOD, Pace, Pending};
use super::RunOptions;
use super::event::Event;
use super::frontier::{Appetite, Frontier};
use super::report::{RunError, RunReport, Tally};
use super::scribe::{Errand, Made, Order, Origin};
use super::stop::StopCause;
use super::worker::{Assigned, Message, Shared, Slot};
use crate::handler::{CancelReason, MachineFault};
use crate::job::{Kind, Mono, Priority, WallMs};
use crate::queue::store::{
    LaneCursor, Owner, Remaining, Settlement, Store, StoreError, TurnReport, Want,
};

/// The most jobs assigned beyond the number of workers: what the channel holds.
pub(super) const MAX_AHEAD: usize = 4_096;
/// How long messages gather in a flood.
const GATHER_STEP: Duration = Duration::from_micros(200);
/// How many lanes are read from the store at once.
const LANES_PER_PAGE: usize = 512;
/// A bell that rings while there is no room is answered this often, for the sake of urgent jobs.
const LOOK_WHILE_FULL: Duration = Duration::from_millis(50);
/// The first wait after the store refused a turn, doubled up to [`MAX_TROUBLE_WAIT`].
const FIRST_TROUBLE_WAIT: Duration = Duration::from_millis(50);
const MAX_TROUBLE_WAIT: Duration = Duration::from_secs(2);
/// So many refusals in a row, other than "locked by another process", end the run: about eight seconds.
const MAX_TROUBLES: u32 = 9;

/// What [`Dispatcher::advance`] says to its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// There is more to do at once: only look for messages.
    Again,
    /// Let messages gather for this long, without being woken by each: the workers have enough to do.
    Gather(Duration),
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

/// See the module.
pub(super) struct Dispatcher {
    /// `None`: with the scribe.
    store: Option<Box<dyn Store>>,
    /// Who makes turns beside this; `None`: nobody.
    scribe: Option<Sender<Errand>>,
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
    /// What the last turn settled, and is of no more use: cleared when nobody waits for it.
    told: (Vec<Settlement>, Vec<Origin>),
    /// Empty vectors that are as long as a busy turn needs.
    spare: (Vec<Settlement>, Vec<Origin>),
    turn_began: Mono,
    /// A turn that is over, and was not taken in yet.
    made: Option<Box<Made>>,
    pending: Option<Pending>,
    /// Assigned and not over: in the channel, with a worker, or with a completion.
    in_flight: usize,
    /// The part of `in_flight` that keeps a worker from taking another.
    busy: usize,
    care: Care,
    /// Leased under [`Suspicion::OneAtATime`] or more carefully, and not over: a job that only waits would be there too
    /// when this process dies.
    wary: usize,

    cursor: Option<LaneCursor>,
    scanned: bool,
    /// The frontier had no room for lanes of this priority.
    full_at: Option<Priority>,
    bell: bool,
    /// Somebody rang since the last turn: it may have been for the sake of a limit.
    rang: bool,
    /// This owner has not told the store yet what it may do, nor been told.
    is_new: bool,
    last_scan: Mono,

    pace: Pace,
    ahead: usize,
    next_due: Option<WallMs>,
    earliest_deadline: Option<Mono>,
    more_due: bool,

    troubles: u32,
    retry_turn_at: Option<Mono>,

    phase: Phase,
    /// What was left when it was decided that a drain is over.
    decided_by: Option<Remaining>,
    stop: Option<StopCause>,
    /// Why this machine cannot go on: read by the driver.
    pub(super) fault: Option<MachineFault>,
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
        let frontier = Frontier::new(options.schedule.clone(), options.workers);
        let rng = match options.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => rand::make_rng(),
        };
        Dispatcher {
            store: Some(store),
            scribe: None,
            shared,
            owner,
            options,
            kinds,
            frontier,
            slots,
            jobs,
            unstarted,
            replacements: Vec::new(),
            rng,
            settlements: Vec::new(),
            origins: Vec::new(),
            told: Default::default(),
            spare: Default::default(),
            turn_began: now,
            made: None,
            pending: None,
            in_flight: 0,
            busy: 0,
            care: Care::at_start(),
            wary: 0,
            cursor: None,
            scanned: false,
            full_at: None,
            bell: false,
            rang: false,
            is_new: true,
            last_scan: now,
            pace: Pace::from(now),
            ahead: 0,
            next_due: None,
            earliest_deadline: None,
            more_due: true,
            troubles: 0,
            retry_turn_at: None,
            phase: Phase::Running,
            decided_by: None,
            stop: None,
            fault: None,
            began: now,
            last_progress: None,
            tally: Tally::default(),
        }
    }

    /// Has turns made by whoever is at the other end, while attempts are being made.
    pub(super) fn with_scribe(mut self, scribe: Sender<Errand>) -> Dispatcher {
        self.scribe = Some(scribe);
        self
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
            // To be awake is enough.
            Message::News => {}
            Message::Bell | Message::Beat => (self.bell, self.rang) = (true, true),
            // Of an owner that was renewed meanwhile it is no news.
            Message::OwnerLost(lost) => self.tally.owner_lost |= lost == self.owner,
            Message::Recovered(recovered) => {
                self.tally.crashed += recovered.crashed;
                self.shared.listener.on(&Event::Recovered(&recovered));
                (self.bell, self.rang) = (true, true);
            }
            Message::HeartbeatTrouble { message, again_in } => {
                self.shared.listener.on(&Event::StoreTrouble { message: &message, again_in });
            }
            Message::TurnMade(made) => self.made = Some(made),
            Message::Stop(request) => self.begin_stop(request),
        }
    }

    /// Does what can be done now, at most one turn of it.
    ///
    /// # Errors
    /// [`RunError`] when the store cannot be used and patience is over; everything leased has been cancelled.
    pub(super) fn advance(&mut self) -> Result<Next, RunError> {
        let next = self.go_on();
        if self.store.is_some() {
            self.clear_told();
        }
        next
    }

    fn go_on(&mut self) -> Result<Next, RunError> {
        let now = self.shared.clock.mono();
        self.retry_turn_at.take_if(|at| now >= *at);
        let made = self.made.take();
        let more = made.map_or(Ok(false), |made| self.take_in(*made, now))?;
        if more {
            self.begin_next(now)?;
        }
        let is_away = self.store.is_none();
        let waiting = self.retry_turn_at.is_some();
        if self.tally.owner_lost && !waiting && !is_away {
            self.renew_owner()?;
        }
        if self.is_new && !waiting && !is_away && self.is_running() {
            self.introduce(now)?;
        }
        self.tell_transitions(now);
        self.frontier.tick(now, self.shared.clock.wall());
        self.check_deadlines(now);
        self.check_phase(now);
        self.assign(now);
        if is_away {
            self.clear_told();
            return Ok(self.gather_or(self.patience()));
        }
        self.show_progress(now, false);
        if let Some(left) = self.hold_off(now).filter(|_| !waiting) {
            // What has come already and needs a turn waits for it like everything else.
            let sooner = self.patience().filter(|patience| !patience.is_zero() && *patience < left);
            return Ok(self.gather_or(sooner.or(Some(left))));
        }
        let again = !waiting && !self.tally.owner_lost && self.turn(now, self.appetite())?;
        if self.store.is_none() {
            return Ok(self.gather_or(self.patience()));
        }
        if again || more {
            return Ok(Next::Again);
        }
        if self.is_over(now)? {
            return Ok(Next::Over);
        }
        let look = self.bell && !waiting && self.is_running() && self.appetite().room > 0;
        Ok(if look { Next::Again } else { Next::Wait(self.patience()) })
    }

    /// How to wait while a turn has to.
    fn gather_or(&self, wait: Option<Duration>) -> Next {
        if self.jobs.len() >= FLOOD { Next::Gather(GATHER_STEP) } else { Next::Wait(wait) }
    }

    /// Sends held jobs that get a permit to the workers.
    fn assign(&mut self, now: Mono) {
        while self.phase == Phase::Running && !self.tally.owner_lost {
            let (room, claims) = (self.room(), self.appetite().room);
            let next = self.frontier.next(&self.shared.gate, now, room, claims);
            let Some((job, permit)) = next else {
                return;
            };
            self.in_flight += 1;
            self.busy += 1;
            let timeout = self.timeout_of(&job);
            let deadline = now.plus(timeout);
            self.earliest_deadline =
                Some(self.earliest_deadline.map_or(deadline, |earliest| earliest.min(deadline)));
            // The channel has room for workers + MAX_AHEAD, and no more are ever in it; the
            // receiver is held here, so it cannot be closed.
            let _ = self.jobs.send(Assigned { job, permit, timeout });
        }
    }

    /// In a flood the next turn begins before what the last one leased is started: so the scribe waits for none of it.
    fn begin_next(&mut self, now: Mono) -> Result<(), RunError> {
        let appetite = self.appetite();
        let room = self.room().saturating_sub(self.frontier.held()).min(self.half());
        let is_flood = self.settlements.len() >= FLOOD && room >= FLOOD && appetite.lease_ahead;
        if !is_flood || self.tally.owner_lost || self.retry_turn_at.is_some() {
            return Ok(());
        }
        self.frontier.tick(now, self.shared.clock.wall());
        self.frontier.claim_beside_held(&self.shared.gate, now, room);
        self.turn(now, Appetite { room, ..appetite }).map(drop)
    }

    /// One transaction: settle what is pending, make due what is due, lease what may start. It is begun, when somebody makes it beside this;
    /// otherwise returns whether there is more to do at once.
    fn turn(&mut self, now: Mono, appetite: Appetite) -> Result<bool, RunError> {
        let found = match self.scan(now, appetite.room) {
            Ok(found) => found,
            Err(error) => return self.trouble(error, now).map(|()| false),
        };
        let wants = if appetite == Appetite::NOTHING {
            Vec::new()
        } else {
            self.frontier.wants(&self.shared.gate, now, appetite)
        };
        let wall = self.shared.clock.wall();
        let due = self.more_due || self.next_due.is_some_and(|due| due <= wall);
        let told = self.rang || self.shared.gate.has_urgent_news(now);
        let due = due && self.is_running();
        if self.settlements.is_empty() && wants.is_empty() && !due && !told {
            return Ok(found);
        }
        let news = self.shared.gate.news(now);
        self.rang = false;
        let Some(store) = self.store.take() else { return Ok(false) };
        let (settlements, origins) = std::mem::take(&mut self.spare);
        let settle = std::mem::replace(&mut self.settlements, settlements);
        let origins = std::mem::replace(&mut self.origins, origins);
        self.turn_began = now;
        let owner = Arc::clone(&self.owner);
        let order = Order { owner, now: wall, settle, origins, lease: wants, keys: news };
        let (store, order) = match &self.scribe {
            Some(scribe) if self.in_flight + self.frontier.held() > 0 => {
                match scribe.send((store, order)) {
                    Ok(()) => return Ok(false),
                    // It is gone, and this goes on without.
                    Err(SendError(unsent)) => unsent,
                }
            }
            _ => (store, order),
        };
        Ok(self.take_in(order.make(store), now)? || found)
    }

    /// The turn that was begun is over. Returns whether there is more to do at once.
    fn take_in(&mut self, made: Made, now: Mono) -> Result<bool, RunError> {
        let Made { store, order: Order { mut settle, mut origins, lease, keys, .. }, report } =
            made;
        self.store = Some(store);
        self.frontier.end_wants();
        let report = report.unwrap_or_else(|panic| resume_unwind(panic));
        let mut report = match report {
            Ok(report) => report,
            Err(error) => {
                settle.append(&mut self.settlements);
                self.settlements = settle;
                origins.append(&mut self.origins);
                self.origins = origins;
                self.untold(keys);
                self.rescan();
                return self.trouble(error, now).map(|()| false);
            }
        };
        (self.troubles, self.retry_turn_at) = (0, None);
        self.measure();
        self.learn(keys, report.keys.take());
        self.give_up_awaited();
        self.tell_settled(&settle, &origins, &report.settled);
        self.told = (settle, origins);
        Ok(self.apply(report, &lease))
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
        let mut got = vec![0_usize; wants.len()];
        let leased = report.leased.len();
        let mut suspects = false;
        let mut at = 0;
        for job in report.leased {
            // Leases come in the order of the wants; a lane may be wanted twice, to start now and to have ahead.
            let is_for = |(want, got): (&Want, &usize)| {
                want.lane == job.lane.id && want.priority == job.priority && *got < want.count
            };
            at += wants[at..].iter().zip(&got[at..]).position(is_for).unwrap_or(0);
            got[at] += 1;
            suspects |= job.losses > 0;
            if !self.is_running() {
                // A stop came while it was being leased.
                self.hand_back(job);
                continue;
            }
            self.wary += usize::from(self.is_wary(&job));
            self.frontier.hold(job);
        }
        let (mut short, mut in_vain) = (false, false);
        for ((want, dry), got) in wants.iter().zip(&report.dry).zip(&got) {
            self.frontier.answered(want, *got, *dry);
            short |= !dry && *got == 0;
            // Another process was faster: the place that was kept is another lane's.
            in_vain |= *dry && *got == 0;
        }
        if !wants.is_empty() {
            self.care.after_turn(short, suspects, leased);
        }
        if missed {
            self.rescan();
        }
        leased > 0 || more_ready || self.more_due || short || in_vain || self.tally.owner_lost
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
        let room_for_lanes =
            self.full_at.is_none_or(|priority| self.frontier.has_room_for_lanes(priority));
        if self.scanned || !room_for_lanes {
            return Ok(false);
        }
        let Some(store) = &mut self.store else { return Ok(false) };
        let page = store.ready_lanes(self.cursor, LANES_PER_PAGE, &self.kinds)?;
        self.last_scan = now;
        self.full_at = None;
        for ready in &page {
            if !self.frontier.offer(ready) {
                self.full_at = Some(ready.priority);
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
        // A stop that has waited long enough waits for no lock either.
        let stopped = matches!(self.phase, Phase::Cancelling { until } if now >= until);
        if stopped || (!patient && self.troubles >= MAX_TROUBLES) {
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
        self.look_at_workers_by(now.plus(stopping::CANCEL_GRACE));
        // Every token is void: nothing to hand back, only to forget.
        let _ = self.take_unstarted();
        let Some(store) = &mut self.store else { return Ok(()) };
        let new = match store.register(self.shared.clock.wall()) {
            Ok(new) => new,
            Err(error) => {
                self.tally.owner_lost = true;
                return self.trouble(error, now);
            }
        };
        let old = std::mem::replace(&mut self.owner, Arc::new(new));
        // What the old one had, its successor gave to others.
        self.shared.gate.start_anew();
        self.is_new = true;
        *self.shared.owner.write() = Arc::clone(&self.owner);
        self.shared.listener.on(&Event::OwnerLost { old: &old.id, new: &self.owner.id });
        self.rescan();
        Ok(())
    }

    fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// How long nothing will happen unless a message comes.
    fn patience(&self) -> Option<Duration> {
        let now = self.shared.clock.mono();
        let wall = self.shared.clock.wall();
        let phase = match self.phase {
            Phase::Running => self.options.max_runtime.map(|limit| self.began.plus(limit)),
            // Past it, only the store is waited for.
            Phase::Draining { until } | Phase::Cancelling { until } => {
                Some(until).filter(|until| now < *until)
            }
        };
        let shown = self.in_flight > 0 && self.shared.listener.wants_progress();
        let progress = shown.then(|| now.plus(Duration::from_secs(1)));
        let may_turn = self.retry_turn_at.is_none() && self.store.is_some();
        let news = self.shared.gate.next_news().filter(|_| may_turn);
        let always = [phase, self.frontier.next_tick(), self.earliest_deadline, progress, news];
        // What only a turn can see to waits until there may be one.
        let turn = match self.retry_turn_at {
            Some(at) => [Some(at), None],
            None if !self.is_running() || !may_turn => [None; 2],
            None => {
                let due = self.next_due.map(|due| due.since_ms(wall));
                let look = self.bell.then(|| self.last_scan.plus(LOOK_WHILE_FULL));
                [due.map(|due| now.plus(Duration::from_millis(due))), look]
            }
        };
        always.into_iter().chain(turn).flatten().min().map(|until| until.since(now))
    }

    /// Ends the run: retires the owner and says how it went.
    pub(super) fn finish(mut self) -> RunReport {
        let now = self.shared.clock.mono();
        self.show_progress(now, true);
        self.take_leave(now);
        // What another process puts back after it was decided that nothing is left is not ours to have done.
        let store = self.store.as_mut();
        let (left, queue) = store.map_or_else(Default::default, |store| {
            let look = || store.remaining(&self.owner, &self.kinds).unwrap_or_default();
            let left = self.decided_by.take().unwrap_or_else(look);
            (left, store.counts().unwrap_or_default())
        });
        if let (Some(directory), true) = (&self.owner.directory, self.in_flight > 0) {
            // Attempts that did not return: their commands must not outlive us. What cannot be ended now,
            // the next owner ends before it frees the job.
            let _ = crate::process::end_recorded_groups(directory);
        }
        // What cannot be written now is found by the next owner: the lock is free when we are gone.
        if let Some(store) = &mut self.store {
            let _ = store.retire(&self.owner, self.shared.clock.wall());
        }
        self.shared.listener.on(&Event::Ended);
        self.tally.report(now.since(self.began), queue, left, self.stop, self.in_flight)
    }
}
