//! How long a backlog will take: the frontier and the gate of a run, on a time that is only counted. Pure.
//!
//! ```text
//!   loads (jobs per lane, how long each takes) --offer--> Frontier --next--> (job, permit) --> ends after its time
//!        ^                                                    |                                       |
//!        +------------------- wants, hold -------------------+ <---- freed, finished, tick -----------+
//! ```
//!
//! Nothing is modelled twice: who may start, and when, is decided by what decides it in a run. What a forecast cannot know, it does not guess: jobs
//! end well, each in the mean time of its lane; servers say nothing of limits; one process runs.
//!
//! Beyond [`MOST_SIMULATED`] jobs only every so-manieth of each lane is simulated, and the time multiplied: exact but for how it begins and ends.
//! Hosts that have no more jobs than may run there at once limit nobody, and are not told apart.
//!
//! Must never ask the time, or a store.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use super::frontier::{Appetite, Frontier, Schedule};
use crate::job::{
    ArtifactId, Epoch, JobRow, Key, Lane, LaneId, LeaseToken, Leased, LimitKey, Mono, Priority,
    SpecError, WallMs,
};
use crate::limit::{Gate, KeyLimits, Limits, Permit};
use crate::queue::store::{ReadyLane, Want};

/// The most jobs that are simulated one by one.
pub const MOST_SIMULATED: u64 = 200_000;

/// Of so many keys it is told how they fare: those that need the most time.
pub const MOST_KEYS: usize = 20;

/// Jobs of one lane and priority.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Their priority.
    pub priority: Priority,
    /// Their lane. Its number is its own: no other lane of the plan has it.
    pub lane: Arc<Lane>,
    /// So many.
    pub jobs: u64,
    /// How long one takes.
    pub mean: Duration,
}

/// What is to be done, and under which limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The jobs: at most one load for each lane and priority.
    pub loads: Vec<Load>,
    /// The limits, by normalised keys.
    pub limits: Limits,
    /// Jobs at the same time, at least 1.
    pub workers: usize,
    /// Who goes first.
    pub schedule: Schedule,
}

/// What a plan comes to.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Jobs in all.
    pub jobs: u64,
    /// Until the last is over.
    pub makespan: Duration,
    /// What the workers alone need: all jobs, one after the other, by so many.
    pub workers_least: Duration,
    /// What decides how long it takes.
    pub bottleneck: Bottleneck,
    /// How keys fare, those that need the most time first, at most [`MOST_KEYS`].
    pub keys: Vec<KeyForecast>,
    /// Every so-manieth job was simulated: 1 where all were.
    pub scale: u64,
}

/// What decides how long it takes: what would need the most time if it were alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bottleneck {
    /// There is nothing to do.
    Nothing,
    /// There are too few workers.
    Workers,
    /// This key lets jobs through no faster.
    Key(LimitKey),
}

/// How one key fares.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyForecast {
    /// Which.
    pub key: LimitKey,
    /// Jobs under it.
    pub jobs: u64,
    /// How long they take together.
    pub busy: Duration,
    /// What it is held to.
    pub limits: KeyLimits,
    /// It cannot be done in less, by its limits alone.
    pub least: Duration,
    /// How much of the whole time it needs for itself: 1 for a key that is never idle.
    pub utilisation: f64,
}

/// What becomes of a plan.
///
/// # Errors
/// None that can happen: what simulated jobs are called is a good name.
pub fn forecast(plan: &Plan) -> Result<Forecast, SpecError> {
    let jobs: u64 = plan.loads.iter().map(|load| load.jobs).sum();
    let scale = jobs.div_ceil(MOST_SIMULATED).max(1);
    let simulated = Simulation::new(plan, scale)?.run();
    let workers_least = divided(busy_of(&plan.loads), plan.workers.max(1) as u128);
    let mut keys = by_key(plan);
    let bottleneck = match keys.first() {
        _ if jobs == 0 => Bottleneck::Nothing,
        Some(first) if first.least >= workers_least => Bottleneck::Key(first.key.clone()),
        _ => Bottleneck::Workers,
    };
    // A scaled simulation rounds: no plan is done in less than its bounds.
    let bound = keys.first().map_or(workers_least, |first| first.least.max(workers_least));
    let makespan = multiplied(simulated, scale).max(bound);
    keys.truncate(MOST_KEYS);
    for key in &mut keys {
        key.utilisation = ratio(key.least, makespan);
    }
    Ok(Forecast { jobs, makespan, workers_least, bottleneck, keys, scale })
}

/// What a key is held to.
#[must_use]
pub fn limits_of(limits: &Limits, key: &LimitKey) -> KeyLimits {
    let own = limits.by_key.get(key).copied().unwrap_or_default();
    let default = match key {
        LimitKey::Host(_) => limits.max_per_host,
        LimitKey::Resolver(_) => None,
    };
    KeyLimits { max_concurrent: own.max_concurrent.or(default), rate: own.rate }
}

/// Every key of the plan, the one that needs the most time first; utilisations are not known yet.
fn by_key(plan: &Plan) -> Vec<KeyForecast> {
    let mut sums: HashMap<LimitKey, (u64, u128)> = HashMap::new();
    for load in &plan.loads {
        for key in load.lane.key.limits() {
            let (jobs, busy_ns) = sums.entry(key).or_default();
            *jobs += load.jobs;
            *busy_ns += load.mean.as_nanos() * u128::from(load.jobs);
        }
    }
    let mut keys: Vec<KeyForecast> = sums
        .into_iter()
        .map(|(key, (jobs, busy_ns))| {
            let limits = limits_of(&plan.limits, &key);
            let least = least(jobs, busy_ns, limits);
            KeyForecast { key, jobs, busy: of_ns(busy_ns), limits, least, utilisation: 0.0 }
        })
        .collect();
    keys.sort_unstable_by(|a, b| b.least.cmp(&a.least).then_with(|| a.key.cmp(&b.key)));
    keys
}

/// The least time in which so many jobs, so long together, pass under these limits.
fn least(jobs: u64, busy_ns: u128, limits: KeyLimits) -> Duration {
    let by_slots = limits.max_concurrent.map_or(0, |most| busy_ns / u128::from(most.max(1)));
    let Some(rate) = limits.rate else { return of_ns(by_slots) };
    let interval_ns = rate.per.as_nanos() / u128::from(rate.count.max(1));
    let by_rate = match limits.max_concurrent {
        // The interval counts from the end of one to the start of the next.
        Some(1) => busy_ns + interval_ns * u128::from(jobs.saturating_sub(1)),
        _ => interval_ns * u128::from(jobs.saturating_sub(rate.burst.into())),
    };
    of_ns(by_slots.max(by_rate))
}

fn busy_of(loads: &[Load]) -> u128 {
    loads.iter().map(|load| load.mean.as_nanos() * u128::from(load.jobs)).sum()
}

fn of_ns(ns: u128) -> Duration {
    const SECOND_NS: u128 = 1_000_000_000;
    let sec = u64::try_from(ns / SECOND_NS).unwrap_or(u64::MAX);
    // Below a second's nanoseconds, so it fits.
    Duration::new(sec, u32::try_from(ns % SECOND_NS).unwrap_or(0))
}

fn divided(ns: u128, by: u128) -> Duration {
    of_ns(ns / by)
}

fn multiplied(time: Duration, by: u64) -> Duration {
    of_ns(time.as_nanos() * u128::from(by))
}

fn ratio(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() { 0.0 } else { part.as_secs_f64() / whole.as_secs_f64() }
}

/// A run of which only the schedule is real.
struct Simulation {
    frontier: Frontier,
    gate: Gate,
    freed: Receiver<LimitKey>,
    now: Mono,
    /// What is left of each lane and priority, and how long one takes.
    left: HashMap<(Priority, LaneId), (u64, Duration)>,
    /// Lanes that the frontier has had no room for yet, most urgent first.
    unoffered: VecDeque<Load>,
    lanes: HashMap<LaneId, Arc<Lane>>,
    /// By when they end.
    running: BinaryHeap<Reverse<Ending>>,
    permits: HashMap<i64, (LaneId, Permit)>,
    workers: usize,
    rows: i64,
    /// What every job is called.
    name: ArtifactId,
}

/// When a job ends, and its row: of two at the same time the older one first.
type Ending = (Mono, i64);

impl Simulation {
    fn new(plan: &Plan, scale: u64) -> Result<Simulation, SpecError> {
        let gate = Gate::new(scaled(&plan.limits, scale));
        let (tell, freed) = unbounded();
        gate.on_release(move |key| {
            // A simulation that is over needs no permits.
            let _ = tell.send(key.clone());
        });
        let loads = merged(thinned(&plan.loads, scale), &plan.limits);
        let left = loads.iter().map(|load| ((load.priority, load.lane.id), (load.jobs, load.mean)));
        Ok(Simulation {
            frontier: Frontier::new(plan.schedule.clone(), plan.workers.max(1)),
            gate,
            freed,
            now: Mono::default(),
            left: left.collect(),
            lanes: loads.iter().map(|load| (load.lane.id, Arc::clone(&load.lane))).collect(),
            unoffered: loads.into(),
            running: BinaryHeap::new(),
            permits: HashMap::new(),
            workers: plan.workers.max(1),
            rows: 0,
            name: ArtifactId::new("forecast")?,
        })
    }

    /// Until nothing is left that may start; when the last job ended.
    fn run(mut self) -> Duration {
        let mut over_at = Mono::default();
        loop {
            self.turn();
            let ends = self.running.peek().map(|Reverse((at, _))| *at);
            let Some(next) = ends.into_iter().chain(self.frontier.next_tick()).min() else {
                return over_at.0;
            };
            self.now = self.now.max(next);
            while let Some(Reverse((at, row))) = self.running.peek().copied()
                && at <= self.now
            {
                self.running.pop();
                self.finish(row);
                over_at = self.now;
            }
        }
    }

    /// What a dispatcher does between two waits, until nothing more comes of it.
    fn turn(&mut self) {
        loop {
            self.offer();
            while let Ok(key) = self.freed.try_recv() {
                self.frontier.freed(&key);
            }
            self.frontier.tick(self.now, WallMs::default());
            self.start();
            let appetite = Appetite { room: self.room(), lease_ahead: true, max_losses: u32::MAX };
            let wants = self.frontier.wants(&self.gate, self.now, appetite);
            self.frontier.end_wants();
            let leased: usize = wants.iter().map(|want| self.lease(want)).sum();
            self.start();
            if leased == 0 && self.freed.is_empty() && !self.can_offer() {
                return;
            }
        }
    }

    fn room(&self) -> usize {
        self.workers.saturating_sub(self.running.len())
    }

    fn can_offer(&self) -> bool {
        let first = self.unoffered.front();
        first.is_some_and(|load| self.frontier.has_room_for_lanes(load.priority))
    }

    fn offer(&mut self) {
        if !self.can_offer() {
            return;
        }
        while let Some(load) = self.unoffered.front() {
            let lane = Arc::clone(&load.lane);
            let ready = ReadyLane { priority: load.priority, lane, head_enqueued_at: None };
            if !self.frontier.offer(&ready) {
                return;
            }
            self.unoffered.pop_front();
        }
    }

    fn start(&mut self) {
        loop {
            let room = self.room();
            let Some((job, permit)) = self.frontier.next(&self.gate, self.now, room, room) else {
                return;
            };
            let row = job.token.job.0;
            let mean = self.left.get(&(job.priority, job.lane.id)).map(|(_, mean)| *mean);
            self.running.push(Reverse((self.now.plus(mean.unwrap_or_default()), row)));
            self.permits.insert(row, (job.lane.id, permit));
        }
    }

    fn finish(&mut self, row: i64) {
        if let Some((lane, permit)) = self.permits.remove(&row) {
            permit.end(self.now);
            self.frontier.finished(lane);
        }
    }

    /// What the store does; how many jobs it leased.
    fn lease(&mut self, want: &Want) -> usize {
        let lane = self.lanes.get(&want.lane).cloned();
        let mut leased = 0;
        let mut dry = true;
        if let (Some(lane), Some((left, _))) =
            (lane, self.left.get_mut(&(want.priority, want.lane)))
        {
            leased = usize::try_from(*left).unwrap_or(usize::MAX).min(want.count);
            *left -= leased as u64;
            dry = *left == 0;
            for _ in 0..leased {
                self.rows += 1;
                let job = leased_job(self.rows, &self.name, &lane, want.priority);
                self.frontier.hold(Arc::new(job));
            }
        }
        self.frontier.answered(want, leased, dry);
        leased
    }
}

/// One of `scale` jobs, the most urgent first; what one lane has too few of is carried over to the next.
fn thinned(loads: &[Load], scale: u64) -> Vec<Load> {
    let mut thinned: Vec<Load> = loads.to_vec();
    thinned.sort_by_key(|load| (load.priority, load.lane.id));
    let mut carried = 0;
    for load in &mut thinned {
        let all = carried + load.jobs;
        load.jobs = all / scale;
        carried = all % scale;
    }
    thinned.retain(|load| load.jobs > 0);
    thinned
}

/// Drops the parts of keys that limit nobody (no rate, and no more jobs than slots), and makes one load of those that come to the same: the
/// frontier would ask a hundred thousand hosts in turn whether they may use their resolver's one token.
fn merged(loads: Vec<Load>, limits: &Limits) -> Vec<Load> {
    let mut jobs: HashMap<LimitKey, u64> = HashMap::new();
    for load in &loads {
        for key in load.lane.key.limits() {
            *jobs.entry(key).or_default() += load.jobs;
        }
    }
    let limits_somebody = |key: LimitKey| {
        let KeyLimits { max_concurrent, rate } = limits_of(limits, &key);
        let jobs = jobs.get(&key).copied().unwrap_or(0);
        rate.is_some() || max_concurrent.is_some_and(|most| jobs > u64::from(most))
    };
    let mut merged: Vec<Load> = Vec::new();
    let mut places: HashMap<(Priority, Key, Option<Box<str>>), usize> = HashMap::new();
    for mut load in loads {
        let own = &load.lane.key;
        let host = own.host.clone().filter(|name| limits_somebody(LimitKey::Host(name.clone())));
        let resolver =
            own.resolver.clone().filter(|name| limits_somebody(LimitKey::Resolver(name.clone())));
        let key = Key { resolver, host };
        if key == *own {
            merged.push(load);
            continue;
        }
        let place = (load.priority, key.clone(), load.lane.tag.clone());
        match places.get(&place).and_then(|at| merged.get_mut(*at)) {
            Some(other) => other.absorb(&load),
            None => {
                places.insert(place, merged.len());
                load.lane = Arc::new(Lane { key, ..Lane::clone(&load.lane) });
                merged.push(load);
            }
        }
    }
    merged
}

impl Load {
    /// Takes in the jobs of another, each in the mean time of all.
    fn absorb(&mut self, other: &Load) {
        let busy_ns = busy_of(&[self.clone(), other.clone()]);
        self.jobs += other.jobs;
        self.mean = of_ns(busy_ns / u128::from(self.jobs.max(1)));
    }
}

fn leased_job(row: i64, name: &ArtifactId, lane: &Arc<Lane>, priority: Priority) -> Leased {
    Leased {
        token: LeaseToken { job: JobRow(row), epoch: Epoch(1) },
        artifact_id: name.clone(),
        enqueued_at: WallMs::default(),
        lane: Arc::clone(lane),
        priority,
        attempt: 1,
        attempts_total: 1,
        losses: 0,
        max_attempts: None,
        timeout_seconds: None,
        retry: None,
        payload: String::new(),
        checkpoint: None,
        previous: None,
    }
}

/// Limits for a simulation of one in `scale` jobs: what may start at once after a pause is so much less, too.
fn scaled(limits: &Limits, scale: u64) -> Limits {
    let mut limits = limits.clone();
    for own in limits.by_key.values_mut() {
        own.rate = own.rate.map(|rate| {
            let burst = u64::from(rate.burst) / scale;
            rate.with_burst(u32::try_from(burst).unwrap_or(u32::MAX).max(1))
        });
    }
    limits
}

#[cfg(test)]
mod tests;
