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
use super::process::{Answer, Asking, Process};
use super::world::{EPOCH, Happening, Request, World};
use crate::clock::{Clock, Manual};
use crate::job::{
    ErrorReason, JobRow, Lane, LaneId, Leased, LimitKey, Mono, Outcome, Priority, State,
};
use crate::queue::memory::MemoryStore;
use crate::queue::store::{Beat, Counts, Filter, OnDuplicate, Store};
use crate::run::dispatcher::Next;
use crate::run::dispatcher::tests::trouble::Trouble;
use crate::run::event::{Event, Listener};
use crate::run::stop::{StopCause, StopRequest};
use crate::run::worker::Message;
use crate::share::{KeyEvent, SHARE_PERIOD, WhyGivenUp};

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
    TroubleEnds,
    /// Nothing but a moment to look at everything.
    Look2,
}

/// What the listeners of all processes heard.
#[derive(Default)]
struct Heard {
    /// Final states accepted, by job.
    finals: BTreeMap<JobRow, (u32, State)>,
    lost: Vec<usize>,
}

struct Ear {
    process: usize,
    heard: Arc<Mutex<Heard>>,
}

impl Listener for Ear {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::JobSettled(settled) => {
                if let Some(state) = settled.state.filter(|state| state.is_finished()) {
                    let mut heard = self.heard.lock();
                    let known = heard.finals.entry(settled.job.token.job).or_insert((0, state));
                    known.0 += 1;
                    known.1 = state;
                }
            }
            Event::OwnerLost { .. } => self.heard.lock().lost.push(self.process),
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
    /// Jobs of the same key and priority that began before one of these.
    passed: usize,
    /// Those of the same key that were less urgent.
    overlooked: usize,
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
    is_spinning: bool,
    trace: VecDeque<String>,
    tell_all: bool,
    print: u64,
    steps: u64,
}

impl Sim {
    pub(super) fn new(world: World) -> Sim {
        let policy = world.processes[0].options.limits.policy;
        let mut sim = Sim {
            clock: Arc::new(Manual::at(EPOCH)),
            store: MemoryStore::new(),
            trouble: Trouble::default(),
            processes: Vec::new(),
            dues: BTreeMap::new(),
            dues_made: 0,
            serials: 0,
            rng: StdRng::seed_from_u64(world.seed ^ 0x5eed),
            oracle: Oracle::new(policy),
            heard: Arc::default(),
            dead_owners: BTreeSet::new(),
            at_work: BTreeMap::new(),
            blind: BTreeMap::new(),
            owed: BTreeMap::new(),
            lines: BTreeMap::new(),
            disturbed_until: Mono::default(),
            suspects: false,
            is_spinning: false,
            trace: VecDeque::new(),
            tell_all: std::env::var_os("ORCH_TEST_SEED").is_some(),
            print: world.seed,
            steps: 0,
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
                return Err(format!("livelock: not over after {bound:?}: {:?}", self.left()));
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
        // A frozen process holds its leases for the whole of their time; a wall clock that steps is waited for.
        self.world.calm_at.since(self.now()) + serial + trouble + Duration::from_secs(180)
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
            Due::TroubleEnds => {
                self.note(|| "the store can be written again".to_owned());
                self.trouble.end();
                self.listen();
            }
            Due::Look2 => {}
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
                let blind_until = now.plus(lasts + LOOK_EVERY + GRACE);
                self.blind.insert(process, (now, blind_until));
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
                    let until = now.plus(lasts + Duration::from_secs(3));
                    let since = self.blind.get(&n).filter(|(_, until)| *until > now);
                    let since = since.map_or(now, |(since, _)| *since);
                    self.blind.insert(n, (since, until));
                }
                self.disturb(lasts + Duration::from_secs(4));
                self.in_(lasts, Due::TroubleEnds);
                Ok(())
            }
            Happening::Changes(key, change) => {
                self.note(|| format!("{key} is set: {change:?}"));
                let now = self.now();
                self.store.set_key(&key, &change).map_err(|error| error.to_string())?;
                if let Some(until) = self.oracle.change(&key, &change, now) {
                    self.at(until, Due::Look2);
                }
                self.disturb(Duration::from_millis(300));
                self.listen();
                Ok(())
            }
        }
    }

    fn begin(&mut self, plan: usize) -> Result<(), String> {
        let process = self.processes.len();
        let ear = Ear { process, heard: Arc::clone(&self.heard) };
        let plan = self.world.processes[plan].clone();
        let limits = plan.options.limits.clone();
        self.note(|| format!("p{process} begins, {} workers", plan.options.workers));
        let begun = Process::begin(plan, &self.store, &self.trouble, &self.clock, Arc::new(ear));
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
        let process = &mut self.processes[n];
        self.store.kill_owner(&process.owner());
        process.dispatcher = None;
        process.workers.clear();
        process.later.clear();
        process.bell = None;
        self.oracle.vanishes(n);
        self.at_work.retain(|_, (process, _)| *process != n);
        // Its jobs were at a death: whoever is careful with them starts less than it could.
        self.suspects = true;
        self.disturb(LOOK_EVERY + Duration::from_millis(500));
        Ok(())
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
            self.dead_owners.insert(row);
            let of = |process: &Process| process.owner().row == row;
            let Some(n) = self.processes.iter().position(of) else { continue };
            self.note(|| format!("p{n} is found dead"));
            if self.processes[n].is_over() {
                self.oracle.leaves(n, now);
            } else {
                self.oracle.vanishes(n);
                self.oracle.owe_nothing(now);
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
                continue;
            }
            let after = Duration::from_micros(self.rng.random_range(0..=self.world.bell_us));
            self.in_(after, Due::Bell { process: n });
        }
    }

    /// Lets everybody do what they can do now.
    fn step_all(&mut self) -> Result<(), String> {
        for step in 0..MOST_STEPS {
            self.is_spinning = step + 20 > MOST_STEPS;
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
        let next = dispatcher.advance().map_err(|error| format!("p{n}: {error}"))?;
        for slot in std::mem::take(&mut dispatcher.replacements) {
            process.workers.push(super::process::Worker { slot, attempt: None });
        }
        process.deaf_until = now;
        let made_turn = self.trouble.turns() > turns;
        if self.is_spinning {
            println!("p{n}: {next:?}, a turn: {made_turn}, {:?}", process.gate().status(now, 9));
        }
        if made_turn && process.plan.turn_us > 0 {
            let us = self.rng.random_range(0..=process.plan.turn_us);
            process.deaf_until = now.plus(Duration::from_micros(us));
        }
        match next {
            Next::Again => process.wakes_at = Some(now),
            Next::Gather(step) => {
                process.wakes_at = Some(now.plus(step));
                process.deaf_until = process.deaf_until.max(now.plus(step));
            }
            Next::Wait(timeout) => process.wakes_at = timeout.map(|timeout| now.plus(timeout)),
            Next::Over => self.finish(n),
        }
        self.end_cancelled(n)?;
        self.listen();
        Ok(())
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
            self.oracle.vanishes(n);
            self.disturb(LOOK_EVERY + Duration::from_millis(500));
        } else {
            self.oracle.leaves(n, now);
        }
    }

    /// Free workers take what is in their channel.
    fn begin_attempts(&mut self) -> Result<(), String> {
        for n in 0..self.processes.len() {
            while self.processes[n].is_awake() {
                let serial = self.serials;
                let clock = Arc::clone(&self.clock);
                let Some(at) = self.processes[n].begin_attempt(serial, &clock) else { break };
                self.serials += 1;
                self.began(n, at)?;
                self.walk(n, serial)?;
            }
        }
        Ok(())
    }

    fn began(&mut self, n: usize, at: usize) -> Result<(), String> {
        let Some(attempt) = &self.processes[n].workers[at].attempt else { return Ok(()) };
        let (job, serial, owner) = (Arc::clone(&attempt.job), attempt.serial, attempt.owner);
        self.note(|| format!("p{n} #{serial} begins {} ({})", job.artifact_id, job.lane.key));
        if self.dead_owners.contains(&owner) {
            return Ok(());
        }
        if let Some((other, _)) = self.at_work.insert(job.token.job, (n, serial)) {
            return Err(format!("two leases: {} is at work in p{other} and p{n}", job.artifact_id));
        }
        if self.heard.lock().finals.contains_key(&job.token.job) {
            return Err(format!("{} is run again after its end", job.artifact_id));
        }
        self.owed.remove(&job.lane.id);
        self.check_turn(n, &job)
    }

    fn find(&self, n: usize, serial: u64) -> Option<usize> {
        let is = |worker: &super::process::Worker| {
            worker.attempt.as_ref().is_some_and(|attempt| attempt.serial == serial)
        };
        self.processes[n].workers.iter().position(is)
    }

    fn plan_of(&self, n: usize, at: usize) -> usize {
        let attempt = self.processes[n].workers[at].attempt.as_ref();
        let id = attempt.map(|attempt| attempt.job.artifact_id.as_str()[1..].parse());
        match id {
            Some(Ok(plan)) => plan,
            _ => panic!("a job that is not of this world"),
        }
    }

    /// The handler: makes its next request, or ends.
    fn walk(&mut self, n: usize, serial: u64) -> Result<(), String> {
        let Some(at) = self.find(n, serial) else { return Ok(()) };
        let now = self.now();
        let plan = self.plan_of(n, at);
        let process = &mut self.processes[n];
        let gate = process.shared.gate.clone();
        let worker = &mut process.workers[at];
        let Some(attempt) = &mut worker.attempt else { return Ok(()) };
        if let Some(reason) = worker.slot.cancel.reason() {
            self.end_attempt(n, at, reason.outcome());
            return Ok(());
        }
        let Some(Request { key, takes }) = self.world.jobs[plan].requests.get(attempt.at).cloned()
        else {
            self.conclude(n, at, plan);
            return Ok(());
        };
        if let Some(given_up) = gate.given_up(&key, now) {
            let reason = match given_up.why {
                WhyGivenUp::RateLimited => ErrorReason::RateLimited,
                WhyGivenUp::Down => ErrorReason::HostDown,
            };
            self.note(|| format!("p{n} #{serial} gives {key} up: {reason:?}"));
            if !self.is_blind(n) {
                self.oracle.gives_up(&key, now)?;
            }
            self.end_attempt(n, at, Outcome::fail(reason, "given up"));
            return Ok(());
        }
        if let Some(permit) = attempt.permit.take_if(|permit| *permit.key() != key) {
            permit.refund();
        }
        let admitted = match attempt.permit.take() {
            Some(permit) => gate.redeem(permit, now),
            None => gate.try_request(&key, now),
        };
        let permit = match admitted {
            Ok(permit) => permit,
            Err(wait) => {
                let checkpoint = Some(vec![u8::try_from(attempt.at).unwrap_or(0)]);
                self.note(|| format!("p{n} #{serial} defers to {key}: {wait:?}"));
                self.end_attempt(n, at, Outcome::Defer { key, not_before: None, checkpoint });
                return Ok(());
            }
        };
        let (answer, head, body) = self.answer(&key, takes);
        let process = &mut self.processes[n];
        let Some(attempt) = &mut process.workers[at].attempt else { return Ok(()) };
        let counts = !self.dead_owners.contains(&attempt.owner);
        attempt.asking = Some(Asking { key: key.clone(), permit, asked_at: now, answer, body });
        self.in_(head, Due::Head { process: n, serial });
        self.note(|| format!("p{n} #{serial} asks {key}"));
        if counts {
            let blind = self.blind_since(n);
            let judged = self.oracle.starts(n, serial, &key, now, blind);
            judged.map_err(|error| self.explain(&key, error))?;
            if let Some(next) = self.oracle.next_token(&key, now) {
                self.at(next, Due::Look2);
            }
        }
        Ok(())
    }

    fn explain(&self, key: &crate::job::Key, error: String) -> String {
        let states: Vec<String> = parts(key)
            .iter()
            .map(|part| format!("\n  {part}: {}", self.oracle.tell(part)))
            .collect();
        format!("{error}{}", states.concat())
    }

    fn is_blind(&self, n: usize) -> bool {
        self.blind_since(n).is_some()
    }

    fn blind_since(&self, n: usize) -> Option<Mono> {
        let now = self.now();
        self.blind.get(&n).filter(|(_, until)| now < *until).map(|(since, _)| *since)
    }

    /// What the server says, how long until its head, and how long the body takes.
    fn answer(&mut self, key: &crate::job::Key, takes: Duration) -> (Answer, Duration, Duration) {
        let now = self.now();
        let head = takes.mul_f64(0.7);
        let well = (Answer::Well, head, takes.saturating_sub(head));
        let Some(mood) = self.world.mood(key, now) else { return well };
        let draw: f64 = self.rng.random();
        if draw < mood.tells {
            let told = if mood.after.is_none() && self.rng.random_bool(0.5) {
                Answer::Unavailable
            } else {
                Answer::Told(mood.after)
            };
            return (told, head, Duration::ZERO);
        }
        if draw < mood.tells + mood.fails {
            return match self.rng.random_range(0..3) {
                0 => (Answer::Broken, head, Duration::ZERO),
                1 => (Answer::NoConnection, head, Duration::ZERO),
                _ => (Answer::TimedOut, TIME_OUT, Duration::ZERO),
            };
        }
        if self.rng.random_bool(0.02) {
            return (Answer::Gone, head, Duration::ZERO);
        }
        well
    }

    /// The head of an answer is there, or it is known that none will be.
    fn head(&mut self, n: usize, serial: u64) {
        let Some(at) = self.find(n, serial) else { return };
        if self.processes[n].is_frozen {
            return self.in_(Duration::from_millis(250), Due::Head { process: n, serial });
        }
        let process = &self.processes[n];
        let Some(attempt) = &process.workers[at].attempt else { return };
        let Some(asking) = &attempt.asking else { return };
        let (asked_at, answer, body) = (asking.asked_at, asking.answer, asking.body);
        let host = asking.key.host.clone().map(LimitKey::Host);
        let counts = !self.dead_owners.contains(&attempt.owner);
        if let Some(host) = host {
            self.tell(n, &host, asked_at, answer, counts);
        }
        self.in_(body, Due::End { process: n, serial });
    }

    /// Tells the gate what a server's answer means, as the fetcher does.
    fn tell(&mut self, n: usize, host: &LimitKey, asked_at: Mono, answer: Answer, counts: bool) {
        let now = self.now();
        let gate = self.processes[n].gate().clone();
        let (failed, answered) =
            (KeyEvent::Failed { asked_at, now }, KeyEvent::Answered { asked_at, now });
        let told = |after| KeyEvent::Told(crate::share::Told { asked_at, now, after });
        let events = match answer {
            Answer::Well => {
                let crawl_delay = self.world.crawl_delays.get(host).copied();
                crawl_delay.map(KeyEvent::CrawlDelay).into_iter().chain([answered]).collect()
            }
            Answer::Gone => vec![answered],
            Answer::Told(after) => vec![told(after)],
            Answer::Unavailable => vec![told(None), failed],
            Answer::Broken | Answer::NoConnection => vec![failed],
            Answer::TimedOut => vec![failed, KeyEvent::Overloaded { asked_at, now }],
        };
        for event in events {
            match event {
                KeyEvent::Told(told) => {
                    let crate::share::Told { asked_at, now, after } = told;
                    let _ = gate.hold(host, crate::limit::Told { asked_at, now, after });
                }
                KeyEvent::Failed { .. } => _ = gate.failed(host, asked_at, now),
                KeyEvent::Overloaded { .. } => gate.overloaded(host, asked_at, now),
                KeyEvent::Answered { .. } => gate.answered(host, asked_at, now),
                KeyEvent::CrawlDelay(interval) => gate.slow_down(host, interval),
            }
            if !matches!(answer, Answer::Well) {
                self.note(|| format!("p{n} hears of {host}: {event:?}"));
            }
            if counts && let Some(until) = self.oracle.event(n, host, event, now) {
                self.at(until, Due::Look2);
            }
        }
    }

    /// The body has ended.
    fn end(&mut self, n: usize, serial: u64) -> Result<(), String> {
        let Some(at) = self.find(n, serial) else { return Ok(()) };
        if self.processes[n].is_frozen {
            self.in_(Duration::from_millis(250), Due::End { process: n, serial });
            return Ok(());
        }
        let now = self.now();
        let process = &mut self.processes[n];
        let Some(attempt) = &mut process.workers[at].attempt else { return Ok(()) };
        let Some(Asking { key, permit, answer, .. }) = attempt.asking.take() else { return Ok(()) };
        let step = attempt.at;
        self.oracle.ends(serial, &key, now);
        self.note(|| format!("p{n} #{serial} ends at {key}: {answer:?}"));
        permit.end(now);
        let retry = |reason| Outcome::retry(reason, "");
        let outcome = match answer {
            Answer::Well => {
                if let Some(attempt) = &mut self.processes[n].workers[at].attempt {
                    attempt.at = step + 1;
                }
                return self.walk(n, serial);
            }
            Answer::Gone => Outcome::fail(ErrorReason::HttpStatus, "404"),
            Answer::Told(_) => {
                let checkpoint = Some(vec![u8::try_from(step).unwrap_or(0)]);
                let gate = self.processes[n].gate();
                match gate.given_up(&key, now) {
                    Some(_) => Outcome::fail(ErrorReason::RateLimited, ""),
                    None => Outcome::Defer { key, not_before: None, checkpoint },
                }
            }
            Answer::Unavailable | Answer::Broken => retry(ErrorReason::HttpStatus),
            Answer::NoConnection => retry(ErrorReason::Connect),
            Answer::TimedOut => retry(ErrorReason::Timeout),
        };
        self.end_attempt(n, at, outcome);
        Ok(())
    }

    /// Every request is made.
    fn conclude(&mut self, n: usize, at: usize, plan: usize) {
        match self.world.jobs[plan].later {
            None => self.end_attempt(n, at, Outcome::done()),
            Some(after) => {
                let Some(attempt) = &self.processes[n].workers[at].attempt else { return };
                let serial = attempt.serial;
                self.processes[n].hand_over(at);
                self.in_(after, Due::Completes { process: n, serial });
            }
        }
    }

    fn complete(&mut self, n: usize, serial: u64) {
        if self.processes[n].is_frozen {
            return self.in_(Duration::from_millis(250), Due::Completes { process: n, serial });
        }
        let clock = Arc::clone(&self.clock);
        if let Some(job) = self.processes[n].complete(serial, &clock) {
            self.leave_work(job.token.job, serial);
        }
    }

    fn leave_work(&mut self, job: JobRow, serial: u64) {
        if self.at_work.get(&job).is_some_and(|(_, at)| *at == serial) {
            self.at_work.remove(&job);
        }
    }

    fn end_attempt(&mut self, n: usize, at: usize, outcome: Outcome) {
        let Some(attempt) = &self.processes[n].workers[at].attempt else { return };
        let (job, serial) = (attempt.job.token.job, attempt.serial);
        self.note(|| format!("p{n} #{serial} is over: {}", short(&outcome)));
        self.leave_work(job, serial);
        let clock = Arc::clone(&self.clock);
        self.processes[n].end_attempt(at, outcome, &clock);
    }

    /// Handlers that are cancelled end at once, but for the stubborn.
    fn end_cancelled(&mut self, n: usize) -> Result<(), String> {
        for at in self.processes[n].cancelled().into_iter().rev() {
            let plan = self.plan_of(n, at);
            if self.world.jobs[plan].is_stubborn {
                continue;
            }
            let now = self.now();
            let worker = &mut self.processes[n].workers[at];
            let (Some(attempt), Some(reason)) = (&mut worker.attempt, worker.slot.cancel.reason())
            else {
                continue;
            };
            if let Some(Asking { key, permit, .. }) = attempt.asking.take() {
                self.oracle.ends(attempt.serial, &key, now);
                permit.end(now);
            }
            self.end_attempt(n, at, reason.outcome());
        }
        Ok(())
    }

    /// The longest that a job may wait for nothing.
    fn patience(&self) -> Duration {
        let turn = self.processes.iter().map(|process| process.plan.turn_us).max().unwrap_or(0);
        let turn = Duration::from_millis(2) + Duration::from_micros(turn + self.world.bell_us);
        let living = self.processes.iter().filter(|process| !process.is_over()).count();
        if living > 1 { 2 * SHARE_PERIOD + 6 * turn } else { Duration::from_millis(55) + 4 * turn }
    }

    /// Notes which lanes wait, and which of them could start a job now.
    fn look_at_all(&mut self) {
        let now = self.now();
        let ready = self.store.ready_lanes(None, 4_096, &self.kinds()).unwrap_or_default();
        let is_disturbed = self.suspects || self.world.deaf > 0.0 || now < self.disturbed_until;
        let (mut owed, mut lines) = (BTreeMap::new(), BTreeMap::new());
        for ready in ready.into_iter().filter(|_| !is_disturbed) {
            let (at, lane) = ((ready.lane.id, ready.priority), ready.lane);
            let line = self
                .lines
                .get(&at)
                .map_or(Line { since: now, passed: 0, overlooked: 0 }, |(_, line)| *line);
            lines.insert(at, (Arc::clone(&lane), line));
            if !self.has_worker_for(&lane) {
                continue;
            }
            if let Some(since) = self.oracle.open_since(&lane.key, now) {
                let before = self.owed.get(&lane.id).copied().unwrap_or(now);
                owed.insert(lane.id, since.max(before));
            }
        }
        (self.owed, self.lines) = (owed, lines);
    }

    fn has_worker_for(&self, lane: &Lane) -> bool {
        self.processes.iter().any(|process| {
            process.is_awake()
                && !process.is_stopping
                && process.idle_workers() > 0
                && process.plan.kinds.contains(&lane.kind.as_str())
        })
    }

    /// A job began: among those that wait for the same, nobody more urgent was overlooked, and nobody too often.
    fn check_turn(&mut self, n: usize, job: &Leased) -> Result<(), String> {
        let (now, patience) = (self.now(), self.patience());
        let workers: usize = self.processes.iter().map(|process| process.workers.len()).sum();
        let schedule = &self.processes[n].plan.options.schedule;
        let weight = schedule.weights.values().copied().max().unwrap_or(1) as usize;
        let (has_aging, kinds) = (schedule.aging.is_some(), &self.processes[n].plan.kinds);
        let rivals = self.lines.values().filter(|(lane, _)| lane.key == job.lane.key).count();
        let most = 4 * rivals.max(1) * workers.max(4) * weight;
        self.lines.remove(&(job.lane.id, job.priority));
        for ((_, priority), (lane, line)) in &mut self.lines {
            if lane.key != job.lane.key || !kinds.contains(&lane.kind.as_str()) {
                continue;
            }
            // What begins with it at the same instant, when a key opens, has overlooked nobody.
            line.overlooked +=
                usize::from(*priority < job.priority && now.since(line.since) > patience);
            if line.overlooked > workers + 2 && !has_aging {
                let (id, urgent) = (&job.artifact_id, *priority);
                let times = line.overlooked;
                return Err(format!("priority: {id} before {urgent:?} of {lane:?}, {times} times"));
            }
            line.passed += usize::from(*priority == job.priority);
            if line.passed > most {
                return Err(format!("starved: {lane:?} was passed over {} times", line.passed));
            }
        }
        Ok(())
    }

    /// Nothing was owed for too long.
    fn check_owed(&mut self) -> Result<(), String> {
        let now = self.now();
        let patience = self.patience();
        let late = self.owed.iter().find(|(_, since)| now.since(**since) > patience);
        let Some((lane, since)) = late.map(|(lane, since)| (*lane, *since)) else { return Ok(()) };
        let ready = self.store.ready_lanes(None, 4_096, &self.kinds()).unwrap_or_default();
        let Some(lane) = ready.into_iter().map(|ready| ready.lane).find(|ready| ready.id == lane)
        else {
            return Ok(());
        };
        // What the store knows may come from events in another order.
        let policy = self.world.processes[0].options.limits.policy;
        let mut views = Vec::new();
        for part in parts(&lane.key) {
            let view = self.store.key(&part).map_err(|error| error.to_string())?;
            let standing = view.record.standing(now, &policy);
            let terms = view.record.terms(&view.configured, now);
            let out = self.oracle.out(&part);
            if standing != crate::share::Standing::Open
                || terms.max_concurrent.is_some_and(|cap| out >= cap)
            {
                self.owed.remove(&lane.id);
                return Ok(());
            }
            views.push(format!("\n  store: {view:?}"));
        }
        for (n, process) in
            self.processes.iter().enumerate().filter(|(_, process)| !process.is_over())
        {
            views.push(format!(
                "\n  p{n}: {} idle, {:?}",
                process.idle_workers(),
                process.gate().status(now, 9)
            ));
        }
        let waited = now.since(since);
        let error =
            format!("idle: {} waits for nothing for {waited:?}{}", lane.key, views.concat());
        Err(self.explain(&lane.key, error))
    }

    fn kinds(&self) -> Vec<crate::job::Kind> {
        ["a", "b"].iter().filter_map(|kind| crate::job::Kind::new(kind).ok()).collect()
    }

    /// Every job ended, once.
    fn check_end(&mut self) -> Result<(), String> {
        let counts = self.left();
        let jobs = u64::try_from(self.world.jobs.len()).unwrap_or(0);
        if counts.total() != jobs || counts.queued + counts.in_progress > 0 {
            return Err(format!("at the end: {counts:?} of {jobs}"));
        }
        let finals = std::mem::take(&mut self.heard.lock().finals);
        if let Some((job, (times, _))) = finals.iter().find(|(_, (times, _))| *times != 1) {
            return Err(format!("{job:?} ended {times} times"));
        }
        let page =
            self.store.list(&Filter::default(), None, 10_000).map_err(|error| error.to_string())?;
        for job in page.jobs {
            let told = finals.get(&job.row).map(|(_, state)| *state);
            let crashed = job.reason.is_some_and(|reason| reason.name() == "crashed");
            if told != Some(job.state) && !crashed {
                return Err(format!("{} is {:?}, told as {told:?}", job.artifact_id, job.state));
            }
        }
        Ok(())
    }
}

fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { .. } => "done".to_owned(),
        Outcome::Skipped { .. } => "skipped".to_owned(),
        Outcome::Retry { reason, .. } => format!("retry, {reason:?}"),
        Outcome::Fail { reason, .. } => format!("failed, {reason:?}"),
        Outcome::Defer { key, .. } => format!("deferred to {key}"),
    }
}
