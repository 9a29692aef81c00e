//! Runs a world: from event to event, on one clock, in one thread.
//!
//! Whoever can do something at an instant does it, one after the other in an order that the seed draws; then time jumps to the next
//! instant at which anybody can. Must never let anything but the seed decide.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::oracle::{GRACE, Oracle, parts};
use super::process::{Process, UnderWay};
use super::world::{EPOCH, Happening, World};
use crate::clock::{Clock, Manual};
use crate::job::{JobRow, Lane, LaneId, LimitKey, Mono, Priority, State, WallMs};
use crate::queue::memory::MemoryStore;
use crate::queue::store::{Beat, Counts, OnDuplicate, Settled, Store};
use crate::run::dispatcher::Next;
use crate::run::dispatcher::tests::trouble::Trouble;
use crate::run::event::{Event, Listener};
use crate::run::scribe::{Errand, Made};
use crate::run::stop::{StopCause, StopRequest};
use crate::run::worker::Message;

mod checks;
mod walk;

/// How often the heartbeat thread looks for dead owners.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A process that takes so many steps in one instant never waits.
const MOST_STEPS: usize = 20_000;
/// So many steps no world needs.
const MOST_STEPS_IN_ALL: u64 = 200_000;
/// How long a request takes that nobody answers.
const TIME_OUT: Duration = Duration::from_secs(3);
/// The lines of a trace that a violation shows.
const TRACE: usize = 60;

/// Something that comes by itself.
#[derive(Debug, Clone)]
enum Due {
    Happening(usize),
    Head {
        process: usize,
        serial: u64,
    },
    End {
        process: usize,
        serial: u64,
    },
    Completes {
        process: usize,
        serial: u64,
    },
    Bell {
        process: usize,
    },
    Beat {
        process: usize,
    },
    Look {
        process: usize,
    },
    Thaws {
        process: usize,
    },
    /// The turn that a process has under way is over.
    TurnEnds {
        process: usize,
    },
    TroubleEnds,
    /// Nothing but a moment to look at everything.
    Moment,
}

/// What the listeners of all processes heard.
#[derive(Default)]
struct Heard {
    /// Final states accepted, by job.
    finals: BTreeMap<JobRow, (u32, State)>,
    lost: Vec<usize>,
    /// Owners that were found dead.
    found_dead: Vec<Box<str>>,
}

impl Heard {
    /// What a turn settled.
    fn note(&mut self, made: &Made) {
        let Ok(Ok(report)) = &made.report else { return };
        for (settlement, answer) in made.order.settle.iter().zip(&report.settled) {
            if let Settled::Accepted(state) = answer {
                self.ended(settlement.token.job, *state);
            }
        }
    }

    fn ended(&mut self, job: JobRow, state: State) {
        if state.is_finished() {
            let known = self.finals.entry(job).or_insert((0, state));
            known.0 += 1;
            known.1 = state;
        }
    }
}

struct Ear {
    process: usize,
    heard: Arc<Mutex<Heard>>,
}

impl Listener for Ear {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::JobSettled(settled) => {
                if let Some(state) = settled.state {
                    self.heard.lock().ended(settled.job.token.job, state);
                }
            }
            Event::OwnerLost { .. } => self.heard.lock().lost.push(self.process),
            Event::Recovered(recovered) => {
                self.heard.lock().found_dead.extend(recovered.owners.iter().cloned());
            }
            _ => {}
        }
    }

    fn wants_progress(&self) -> bool {
        false
    }
}

/// A lane and priority with ready jobs.
#[derive(Debug, Clone, Copy)]
struct Line {
    since: Mono,
    /// When the job at its head was enqueued.
    head: Option<WallMs>,
    /// Jobs of the same key and priority that began before one of these.
    passed: usize,
    /// Those of the same key that were less urgent.
    overlooked: usize,
}

/// Who makes the turns of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turns {
    /// Its dispatcher, which hears nothing meanwhile.
    Inside,
    /// Another thread, while attempts are being made.
    Beside,
}

/// How a world ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) took: Duration,
    pub(super) counts: Counts,
    /// A number that two runs of one seed share.
    pub(super) print: u64,
    pub(super) steps: u64,
}

pub(super) struct Sim {
    world: World,
    clock: Arc<Manual>,
    store: MemoryStore,
    trouble: Trouble,
    processes: Vec<Process>,
    dues: BTreeMap<(Mono, u64), Due>,
    dues_made: u64,
    serials: u64,
    rng: StdRng,
    oracle: Oracle,
    heard: Arc<Mutex<Heard>>,
    dead_owners: BTreeSet<i64>,
    /// By job: who is at it, under a lease in force.
    at_work: BTreeMap<JobRow, (usize, u64)>,
    /// Since when a process has known nothing new, and until when that counts.
    blind: BTreeMap<usize, (Mono, Mono)>,
    /// Waiting lanes that could start a job, and since when.
    owed: BTreeMap<LaneId, Mono>,
    lines: BTreeMap<(LaneId, Priority), (Arc<Lane>, Line)>,
    /// Nothing is owed before.
    disturbed_until: Mono,
    suspects: bool,
    trace: VecDeque<String>,
    tell_all: bool,
    print: u64,
    steps: u64,
    turns: Turns,
}

impl Sim {
    pub(super) fn new(world: World, turns: Turns) -> Sim {
        let policy = world.processes[0].options.limits.policy;
        let requests = world.jobs.iter().flat_map(|job| &job.requests);
        let all: BTreeSet<LimitKey> = requests.flat_map(|request| parts(&request.key)).collect();
        let mut sim = Sim {
            clock: Arc::new(Manual::at(EPOCH)),
            store: MemoryStore::new(),
            trouble: Trouble::default(),
            processes: Vec::new(),
            dues: BTreeMap::new(),
            dues_made: 0,
            serials: 0,
            rng: StdRng::seed_from_u64(world.seed ^ 0x5eed),
            oracle: Oracle::new(policy, all.into_iter().collect(), world.is_calm),
            heard: Arc::default(),
            dead_owners: BTreeSet::new(),
            at_work: BTreeMap::new(),
            blind: BTreeMap::new(),
            owed: BTreeMap::new(),
            lines: BTreeMap::new(),
            disturbed_until: Mono::default(),
            suspects: false,
            trace: VecDeque::new(),
            tell_all: std::env::var_os("ORCH_TEST_SEED").is_some(),
            print: world.seed,
            steps: 0,
            turns,
            world,
        };
        // Two processes of one machine: its monotonic time does not begin at zero.
        sim.clock.advance(Duration::from_secs(1_000));
        let now = sim.now();
        for n in 0..sim.world.happenings.len() {
            let at = now.plus(sim.world.happenings[n].0.0);
            sim.at(at, Due::Happening(n));
        }
        sim.world.calm_at = now.plus(sim.world.calm_at.0);
        for phase in sim.world.moods.iter_mut().flat_map(|(_, phases)| phases) {
            phase.until = now.plus(phase.until.0);
        }
        sim
    }

    fn now(&self) -> Mono {
        self.clock.mono()
    }

    fn at(&mut self, at: Mono, due: Due) {
        self.dues_made += 1;
        self.dues.insert((at, self.dues_made), due);
    }

    fn in_(&mut self, after: Duration, due: Due) {
        let at = self.now().plus(after);
        self.at(at, due);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        let line = format!("{:>12.6} {}", self.now().0.as_secs_f64() - 1_000.0, text());
        for byte in line.bytes() {
            self.print = (self.print ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.tell_all {
            println!("{line}");
        }
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(line);
    }

    /// The last lines of what happened.
    pub(super) fn trace(&self) -> String {
        let mut lines: Vec<&str> = self.trace.iter().map(String::as_str).collect();
        lines.push("");
        lines.join("\n")
    }

    /// Runs until every job has ended.
    pub(super) fn run(&mut self) -> Result<Ended, String> {
        let began = self.now();
        let bound = self.bound();
        loop {
            let due = self.dues.first_key_value().map(|((at, _), _)| *at);
            let woken = self.processes.iter().filter_map(Process::next_due).min();
            if self.is_over() {
                break;
            }
            let Some(next) = due.into_iter().chain(woken).min() else {
                return Err("stuck: jobs are left, and nothing will ever happen".to_owned());
            };
            self.clock.advance(next.since(self.now()));
            if self.now().since(began) > bound {
                let error = format!("livelock: not over after {bound:?}: {:?}", self.left());
                return Err(self.explain_waiting(error));
            }
            self.check_owed()?;
            self.take_dues()?;
            self.step_all()?;
            self.look_at_all();
        }
        self.check_end()?;
        let took = self.now().since(began);
        let counts = self.left();
        Ok(Ended { took, counts, print: self.print, steps: self.steps })
    }

    fn left(&mut self) -> Counts {
        self.store.counts().unwrap_or_default()
    }

    /// Everything is settled and everybody gone; begins another process when jobs are left to nobody.
    fn is_over(&mut self) -> bool {
        let begun_all = !self.dues.values().any(|due| {
            matches!(due, Due::Happening(n)
                if matches!(self.world.happenings[*n].1, Happening::Begins(_) | Happening::Enters(_)))
        });
        if !begun_all || self.processes.iter().any(|process| !process.is_over()) {
            return false;
        }
        let left = self.left();
        if left.queued + left.in_progress == 0 {
            return true;
        }
        let after = Duration::from_millis(self.rng.random_range(1..500));
        let again = self
            .world
            .happenings
            .iter()
            .position(|(_, happening)| matches!(happening, Happening::Begins(0)));
        let is_coming = self.dues.values().any(|due| {
            matches!(due, Due::Happening(n)
                if matches!(self.world.happenings[*n].1, Happening::Begins(_)))
        });
        if let (Some(n), false) = (again, is_coming) {
            self.in_(after, Due::Happening(n));
        }
        false
    }

    /// When even the slowest way through this world is over.
    fn bound(&self) -> Duration {
        let mut serial = Duration::ZERO;
        for job in &self.world.jobs {
            for request in &job.requests {
                // Every attempt anew, each under the slowest rate there is, and an interval after it.
                serial += 3 * (request.takes + Duration::from_secs(5));
            }
        }
        let policy = self.world.processes[0].options.limits.policy;
        let trouble = 3 * (policy.give_up + policy.open_for + Duration::from_secs(60));
        // Whoever was told to try again at a time of the wall clock waits for it, however far that is set back.
        let steps = self.world.happenings.iter().map(|(_, happening)| match happening {
            Happening::WallSteps { ms } if *ms < 0 => Duration::from_millis(ms.unsigned_abs()),
            _ => Duration::ZERO,
        });
        let set_back: Duration = steps.sum();
        // A frozen process holds its leases for the whole of their time.
        let frozen = Duration::from_secs(180);
        self.world.calm_at.since(self.now()) + serial + trouble + set_back + frozen
    }

    fn take_dues(&mut self) -> Result<(), String> {
        let now = self.now();
        while let Some(entry) = self.dues.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let due = entry.remove();
            self.take(due)?;
        }
        Ok(())
    }

    fn take(&mut self, due: Due) -> Result<(), String> {
        match due {
            Due::Happening(n) => {
                let happening = self.world.happenings[n].1.clone();
                self.happen(happening)?;
            }
            Due::Head { process, serial } => self.head(process, serial),
            Due::End { process, serial } => self.end(process, serial)?,
            Due::Completes { process, serial } => self.complete(process, serial),
            Due::Bell { process } => {
                if self.processes[process].is_frozen {
                    self.in_(Duration::from_millis(100), Due::Bell { process });
                } else {
                    self.processes[process].send(Message::Bell);
                }
            }
            Due::Beat { process } => self.beat(process),
            Due::Look { process } => self.look(process),
            Due::Thaws { process } => self.thaw(process),
            Due::TurnEnds { process } => self.end_turn(process),
            Due::TroubleEnds => {
                self.note(|| "the store can be written again".to_owned());
                self.trouble.end();
                self.listen();
            }
            Due::Moment => {}
        }
        Ok(())
    }

    /// A process hears nothing new for so long.
    fn is_blind_for(&mut self, n: usize, lasts: Duration) {
        let now = self.now();
        let known = self.blind.get(&n).filter(|(_, until)| *until > now);
        let (since, until) = known.copied().unwrap_or((now, now));
        self.blind.insert(n, (since, until.max(now.plus(lasts))));
    }

    /// Takes in what the store knows now.
    fn look_at_store(&mut self) -> Result<(), String> {
        let now = self.now();
        let store = self.store.handle();
        for moment in self.oracle.look(|key| store.record(key), now)? {
            self.at(moment, Due::Moment);
        }
        Ok(())
    }

    fn disturb(&mut self, lasts: Duration) {
        self.disturbed_until = self.disturbed_until.max(self.now().plus(lasts));
    }

    /// One that is awake, drawn by the seed.
    fn draw_awake(&mut self) -> Option<usize> {
        let awake: Vec<usize> =
            (0..self.processes.len()).filter(|n| self.processes[*n].is_awake()).collect();
        if awake.is_empty() { None } else { Some(awake[self.rng.random_range(0..awake.len())]) }
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Begins(n) => self.begin(n),
            Happening::Enters(jobs) => self.enter(&jobs),
            Happening::Stops { now } => {
                // Somebody must be left, or the drain is over before its work.
                let Some(n) = self.draw_awake() else { return Ok(()) };
                self.note(|| format!("p{n} is asked to stop"));
                self.processes[n].is_stopping = true;
                self.processes[n].send(Message::Stop(StopRequest { cause: StopCause::Asked, now }));
                self.disturb(Duration::from_secs(8));
                Ok(())
            }
            Happening::Crashes => self.crash(),
            Happening::Freezes { lasts } => {
                let Some(process) = self.draw_awake() else { return Ok(()) };
                self.note(|| format!("p{process} is stopped for {lasts:?}"));
                let now = self.now();
                self.is_blind_for(process, lasts + LOOK_EVERY + GRACE);
                self.oracle.is_silent(process, now, now.plus(lasts + GRACE));
                self.processes[process].is_frozen = true;
                self.disturb(lasts + Duration::from_secs(20));
                self.in_(lasts, Due::Thaws { process });
                Ok(())
            }
            Happening::WallSteps { ms } => {
                self.note(|| format!("the wall clock steps by {ms} ms"));
                self.clock.step_wall_ms(ms);
                self.disturb(Duration::from_secs(6));
                Ok(())
            }
            Happening::Trouble { lasts } => {
                self.note(|| format!("the store is locked for {lasts:?}"));
                self.trouble.begin();
                let now = self.now();
                for n in 0..self.processes.len() {
                    self.is_blind_for(n, lasts + Duration::from_secs(3));
                    self.oracle.is_silent(n, now, now.plus(lasts + Duration::from_secs(3)));
                }
                self.disturb(lasts + Duration::from_secs(4));
                self.in_(lasts, Due::TroubleEnds);
                Ok(())
            }
            Happening::Changes(key, change) => {
                self.note(|| format!("{key} is set: {change:?}"));
                let now = self.now();
                self.store.set_key(&key, &change).map_err(|error| error.to_string())?;
                self.oracle.change(&key, &change, now);
                self.disturb(Duration::from_millis(300));
                self.listen();
                self.look_at_store()
            }
        }
    }

    fn begin(&mut self, plan: usize) -> Result<(), String> {
        let process = self.processes.len();
        let ear = Ear { process, heard: Arc::clone(&self.heard) };
        let plan = self.world.processes[plan].clone();
        let limits = plan.options.limits.clone();
        self.note(|| format!("p{process} begins, {} workers", plan.options.workers));
        let (ear, turns) = (Arc::new(ear), self.turns);
        let begun = Process::begin(plan, &self.store, &self.trouble, &self.clock, ear, turns);
        let Ok((begun, recovered)) = begun else {
            // The store is locked: as a person, it tries again.
            let n =
                self.world.happenings.iter().position(|(_, h)| matches!(h, Happening::Begins(0)));
            if let Some(n) = n {
                self.in_(Duration::from_millis(300), Due::Happening(n));
            }
            return Ok(());
        };
        let now = self.now();
        self.processes.push(begun);
        self.oracle.joins(process, &limits, now);
        self.bury(&recovered.owners, recovered.requeued + recovered.crashed > 0);
        self.in_(self.processes[process].plan.options.heartbeat, Due::Beat { process });
        self.in_(LOOK_EVERY, Due::Look { process });
        self.disturb(Duration::from_millis(300));
        self.listen();
        Ok(())
    }

    fn enter(&mut self, jobs: &[usize]) -> Result<(), String> {
        self.note(|| format!("{} jobs come", jobs.len()));
        let specs: Vec<_> = jobs.iter().map(|n| self.world.jobs[*n].spec.clone()).collect();
        let now = self.clock.wall();
        self.store.insert(&specs, OnDuplicate::Skip, now).map_err(|error| error.to_string())?;
        self.disturb(Duration::from_millis(80));
        self.listen();
        Ok(())
    }

    fn crash(&mut self) -> Result<(), String> {
        let Some(n) = self.draw_awake() else { return Ok(()) };
        self.note(|| format!("p{n} crashes"));
        self.perish(n);
        Ok(())
    }

    /// Its jobs are found by others, and what it had of limits.
    fn perish(&mut self, n: usize) {
        let process = &mut self.processes[n];
        self.store.kill_owner(&process.owner());
        process.dispatcher = None;
        if let Some(UnderWay::Made(made)) = process.under_way.take() {
            // Written, though nobody was told.
            self.heard.lock().note(&made);
        }
        process.workers.clear();
        process.later.clear();
        process.bell = None;
        let now = self.now();
        self.oracle.vanishes(n, now);
        self.at_work.retain(|_, (process, _)| *process != n);
        // Its jobs were at a death: whoever is careful with them starts less than it could.
        self.suspects = true;
        self.disturb(LOOK_EVERY + Duration::from_millis(500));
    }

    fn thaw(&mut self, n: usize) {
        if self.processes[n].is_over() {
            return;
        }
        self.note(|| format!("p{n} goes on"));
        self.processes[n].is_frozen = false;
        let now = self.now();
        self.processes[n].wakes_at = Some(now);
    }

    /// These owners were found dead.
    fn bury(&mut self, owners: &[Box<str>], suspects: bool) {
        let now = self.now();
        for id in owners {
            let Some(row) = id.strip_prefix("memory-").and_then(|row| row.parse().ok()) else {
                continue;
            };
            if !self.dead_owners.insert(row) {
                continue;
            }
            let of = |process: &Process| process.owner().row == row;
            let Some(n) = self.processes.iter().position(of) else { continue };
            self.note(|| format!("p{n} is found dead"));
            self.oracle.leaves(n, now);
            if !self.processes[n].is_over() {
                self.disturb(Duration::from_secs(6));
            }
            self.at_work.retain(|_, (process, _)| *process != n);
        }
        self.suspects |= suspects;
    }

    fn beat(&mut self, n: usize) {
        if self.processes[n].is_over() {
            return;
        }
        self.in_(self.processes[n].plan.options.heartbeat, Due::Beat { process: n });
        if self.processes[n].is_frozen {
            return;
        }
        let owner = self.processes[n].owner();
        if self.trouble.is_on() {
            let again_in = self.processes[n].plan.options.heartbeat;
            let message = "locked".to_owned();
            return self.processes[n].send(Message::HeartbeatTrouble { message, again_in });
        }
        match self.processes[n].heart.beat(&owner) {
            Ok(Beat::Alive) => self.processes[n].send(Message::Beat),
            _ => self.processes[n].send(Message::OwnerLost(owner)),
        }
    }

    fn look(&mut self, n: usize) {
        if self.processes[n].is_over() {
            return;
        }
        self.in_(LOOK_EVERY, Due::Look { process: n });
        if self.processes[n].is_frozen || self.trouble.is_on() {
            return;
        }
        let clock = Arc::clone(&self.clock);
        if let Ok(recovered) = self.processes[n].look(&clock) {
            self.bury(&recovered.owners, recovered.requeued + recovered.crashed > 0);
            self.listen();
        }
    }

    /// Hears every bell that rang.
    fn listen(&mut self) {
        for n in 0..self.processes.len() {
            if self.processes[n].is_over() || !self.processes[n].heard_bell() {
                continue;
            }
            let deaf = self.world.deaf;
            if deaf > 0.0 && self.rng.random_bool(deaf) {
                let heartbeat = self.processes[n].plan.options.heartbeat;
                self.is_blind_for(n, heartbeat + GRACE);
                continue;
            }
            let after = Duration::from_micros(self.rng.random_range(0..=self.world.bell_us));
            self.in_(after, Due::Bell { process: n });
        }
    }

    /// Lets everybody do what they can do now.
    fn step_all(&mut self) -> Result<(), String> {
        for _ in 0..MOST_STEPS {
            let now = self.now();
            self.begin_attempts()?;
            let due: Vec<usize> =
                (0..self.processes.len()).filter(|n| self.processes[*n].is_due(now)).collect();
            if due.is_empty() {
                return Ok(());
            }
            let n = due[self.rng.random_range(0..due.len())];
            self.step(n)?;
        }
        Err("livelock: somebody never waits".to_owned())
    }

    /// As [`crate::run::drive`] does once.
    fn step(&mut self, n: usize) -> Result<(), String> {
        self.steps += 1;
        if self.steps > MOST_STEPS_IN_ALL {
            return Err("livelock: much is done, and little comes of it".to_owned());
        }
        let now = self.now();
        let turns = self.trouble.turns();
        let process = &mut self.processes[n];
        let Some(dispatcher) = &mut process.dispatcher else { return Ok(()) };
        while let Ok(message) = process.inbox.try_recv() {
            dispatcher.take(message);
        }
        let next = match dispatcher.advance() {
            Ok(next) => next,
            // Who was asked to stop, and has waited for as long as it may, waits for no lock.
            Err(error) if process.is_stopping => {
                self.note(|| format!("p{n} ends: {error}"));
                self.perish(n);
                return Ok(());
            }
            Err(error) => return Err(format!("p{n}: {error}")),
        };
        for slot in std::mem::take(&mut dispatcher.replacements) {
            process.workers.push(super::process::Worker { slot, attempt: None });
        }
        process.deaf_until = now;
        let made_turn = self.trouble.turns() > turns;
        if made_turn && process.plan.turn_us > 0 {
            let us = self.rng.random_range(0..=process.plan.turn_us);
            process.deaf_until = now.plus(Duration::from_micros(us));
        }
        if let Ok(errand) = process.orders.try_recv() {
            self.begin_turn(n, errand);
        }
        let process = &mut self.processes[n];
        match next {
            Next::Again => process.wakes_at = Some(now),
            Next::Gather(step) => {
                process.wakes_at = Some(now.plus(step));
                process.deaf_until = process.deaf_until.max(now.plus(step));
            }
            Next::Wait(timeout) => process.wakes_at = timeout.map(|timeout| now.plus(timeout)),
            Next::Over => self.finish(n),
        }
        // Those that go on under a new owner are configured as before.
        let renewed = std::mem::take(&mut self.heard.lock().lost);
        for n in renewed {
            let limits = self.processes[n].plan.options.limits.clone();
            self.oracle.joins(n, &limits, now);
        }
        // Whoever is about to end looks for the dead itself.
        let found_dead = std::mem::take(&mut self.heard.lock().found_dead);
        let has_news = !found_dead.is_empty();
        self.bury(&found_dead, has_news);
        self.end_cancelled(n)?;
        self.listen();
        self.look_at_store()
    }

    /// A turn is made beside the dispatcher: its transaction is at the beginning of it, or at the end.
    fn begin_turn(&mut self, n: usize, (store, order): Errand) {
        let lasts = self.rng.random_range(0..=self.processes[n].plan.turn_us);
        let is_early = self.rng.random_bool(0.5);
        let under_way = match is_early {
            true => UnderWay::Made(Box::new(order.make(store))),
            false => UnderWay::Begun((store, order)),
        };
        self.processes[n].under_way = Some(under_way);
        self.in_(Duration::from_micros(lasts), Due::TurnEnds { process: n });
    }

    fn end_turn(&mut self, n: usize) {
        let process = &mut self.processes[n];
        if process.is_frozen {
            return self.in_(Duration::from_millis(100), Due::TurnEnds { process: n });
        }
        let made = match process.under_way.take() {
            Some(UnderWay::Made(made)) => made,
            Some(UnderWay::Begun((store, order))) => Box::new(order.make(store)),
            None => return,
        };
        process.send(Message::TurnMade(made));
        self.listen();
    }

    fn finish(&mut self, n: usize) {
        let process = &mut self.processes[n];
        let Some(dispatcher) = process.dispatcher.take() else { return };
        let owner = process.owner();
        let report = dispatcher.finish();
        let abandoned = report.abandoned > 0;
        self.note(|| format!("p{n} is over: {} done, {} failed", report.done, report.failed));
        // The process ends, and whatever still runs in it.
        self.store.kill_owner(&owner);
        let process = &mut self.processes[n];
        process.workers.clear();
        process.later.clear();
        process.bell = None;
        self.at_work.retain(|_, (process, _)| *process != n);
        let now = self.now();
        self.disturb(Duration::from_millis(300));
        if abandoned {
            self.oracle.vanishes(n, now);
            self.disturb(LOOK_EVERY + Duration::from_millis(500));
        } else {
            self.oracle.leaves(n, now);
        }
    }
}
