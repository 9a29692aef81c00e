//! Which leased job may start next, and what to lease so that no permit idles. Pure.
//!
//! The frontier knows the lanes that have ready jobs, the jobs that were leased and wait for a permit
//! (*held*), and which lanes wait for which key. It must never do I/O, ask the time, or look at a job
//! that cannot start: a lane that was refused is parked until its key is freed or its time has come,
//! so a million jobs for one full host cost nobody anything.
//!
//! ```text
//!                           +---- wants (the store leases) ---- claimed
//!                           |                                      ^ nothing held
//!   ready_lanes --offer--> in line ------------- next ------------ + --> (job, permit)
//!                           ^                                      | refused
//!                           +---- freed(key), tick(now) ----  parked
//! ```
//!
//! Priorities are strict among jobs that may start; lanes of one priority take turns; inside a lane and
//! priority the oldest row goes first. A lane whose turn comes while it holds nothing *claims* a place and
//! takes its permit, and is leased for in the coming transaction: without the permit, lanes that hold jobs
//! under the same key would be faster each time, and it would never start. A lane with jobs running is leased
//! up to its `max_concurrent` ahead, so that a permit passes to the next job without waiting for a transaction.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::job::{Lane, LaneId, Leased, LimitKey, Mono, Priority};
use crate::limit::{Gate, Permit, Wait, WaitReason};
use crate::queue::store::{ReadyLane, Want};

/// The most lanes kept in memory, whatever the number of hosts in the queue (invariant 10).
pub const MAX_LANES: usize = 4_096;
/// So many of them are kept free of each less urgent priority, for the more urgent ones.
const LANES_RESERVED_PER_LEVEL: usize = 256;
/// Once full, lanes are taken again when there is room for so many: they come in pages.
const LANES_BEFORE_MORE: usize = 256;

const LEVELS: usize = Priority::ALL.len();
type ByPriority<T> = [T; LEVELS];

/// Who goes first, beyond priority and age.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Schedule {
    /// A waiting job rises one priority per so much time; `None`: never.
    pub aging: Option<Duration>,
    /// Turns that lanes of a tag get for one turn of the lanes of another, at least 1; of tags that are not here, and of lanes without, 1.
    pub weights: BTreeMap<Box<str>, u32>,
}

/// How much a round of [`Frontier::wants`] may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appetite {
    /// Jobs that could start now, were they leased.
    pub room: usize,
    /// Whether lanes in service may be leased ahead.
    pub lease_ahead: bool,
    /// Skip jobs held in more owner deaths than this.
    pub max_losses: u32,
}

impl Appetite {
    /// No appetite at all.
    pub const NOTHING: Appetite = Appetite { room: 0, lease_ahead: false, max_losses: 0 };
}

/// A held lane, for people: what waits there and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The key it waits for.
    pub on: LimitKey,
    /// Jobs held here for it.
    pub held: usize,
    /// Why.
    pub reason: WaitReason,
    /// Until when, where known.
    pub until: Option<Mono>,
}

/// See the module.
#[derive(Default)]
pub struct Frontier {
    lanes: HashMap<LaneId, LaneState>,
    /// Lanes that hold jobs, or have them in the store, and were not refused: whose turn it is, in order.
    line: ByPriority<VecDeque<LaneId>>,
    /// Lanes whose turn came while they held nothing: each has a place kept free.
    claimed: VecDeque<(usize, LaneId)>,
    /// Lanes that started a job since the last round: wanted ahead, room or not.
    served: ByPriority<VecDeque<LaneId>>,
    /// In the order they were refused.
    parked_on: HashMap<LimitKey, VecDeque<LaneId>>,
    /// Those among them whose time will come, and the number of their refusal.
    parked_until: BTreeSet<(Mono, u64, LaneId)>,
    refusals: u64,
    held: usize,
}

struct LaneState {
    lane: Arc<Lane>,
    held: ByPriority<VecDeque<Leased>>,
    in_store: ByPriority<bool>,
    /// In line, or claimed.
    in_line: ByPriority<bool>,
    in_served: ByPriority<bool>,
    /// What it waits for, and the number of the refusal.
    parked: Option<(Wait, u64)>,
    /// The permit that its claim at this level took: for a job at least as urgent.
    reserved: Option<(usize, Permit)>,
    /// Jobs asked for in the round of [`Frontier::wants`] that is being made.
    wanted: usize,
    running: usize,
}

impl LaneState {
    fn new(lane: Arc<Lane>) -> LaneState {
        LaneState {
            lane,
            held: Default::default(),
            in_store: Default::default(),
            in_line: Default::default(),
            in_served: Default::default(),
            parked: None,
            reserved: None,
            wanted: 0,
            running: 0,
        }
    }

    fn held(&self) -> usize {
        self.held.iter().map(VecDeque::len).sum()
    }

    /// Held jobs of this priority or a more urgent one.
    fn held_up_to(&self, at: usize) -> usize {
        self.held[..=at].iter().map(VecDeque::len).sum()
    }

    /// How many more jobs of this priority could start now than are held for it, at most `most`.
    fn startable(&self, gate: &Gate, now: Mono, at: usize, most: usize) -> usize {
        match gate.free(&self.lane.key, now) {
            None => most,
            Some(free) => usize::try_from(free)
                .unwrap_or(usize::MAX)
                .saturating_sub(self.held_up_to(at))
                .min(most),
        }
    }

    /// The permit for a job of that level: the one reserved for it, or another.
    fn permit(&mut self, gate: &Gate, now: Mono, at: usize) -> Result<Permit, Wait> {
        match self.reserved.take_if(|(level, _)| at <= *level) {
            Some((_, permit)) => Ok(permit),
            None => gate.try_admit(&self.lane.key, now),
        }
    }

    fn has_reserved(&self, at: usize) -> bool {
        self.reserved.as_ref().is_some_and(|(level, _)| *level == at)
    }

    /// Gives back a permit that nothing is to be started under; whether there was one.
    fn give_back_reserved(&mut self) -> bool {
        self.reserved.take().map(|(_, permit)| permit.refund()).is_some()
    }

    fn is_forgettable(&self) -> bool {
        self.running == 0
            && self.parked.is_none()
            && self.reserved.is_none()
            && !self.in_store.contains(&true)
            && !self.in_line.contains(&true)
            && !self.in_served.contains(&true)
            && self.held.iter().all(VecDeque::is_empty)
    }
}

/// How many lanes may be known when one of that priority is offered.
fn max_lanes(priority: Priority) -> usize {
    MAX_LANES - LANES_RESERVED_PER_LEVEL * level(priority)
}

fn level(priority: Priority) -> usize {
    usize::from(priority.level())
}

impl Frontier {
    /// A frontier that knows of nothing.
    #[must_use]
    pub fn new() -> Frontier {
        Frontier::default()
    }

    /// Jobs leased and waiting for a permit.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Whether some lane has a place kept free that only a lease can fill.
    #[must_use]
    pub fn has_claims(&self) -> bool {
        !self.claimed.is_empty()
    }

    /// Lanes known.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Whether a page of lanes of that priority is worth reading.
    #[must_use]
    pub fn has_room_for_lanes(&self, priority: Priority) -> bool {
        self.lanes.len() + LANES_BEFORE_MORE <= max_lanes(priority)
    }

    /// A lane has ready jobs of that priority. Ignored (`false`) when too many others are known: it must be offered
    /// again when some of them are done.
    pub fn offer(&mut self, ready: &ReadyLane) -> bool {
        let id = ready.lane.id;
        if !self.lanes.contains_key(&id) {
            if self.lanes.len() >= max_lanes(ready.priority) {
                return false;
            }
            self.lanes.insert(id, LaneState::new(Arc::clone(&ready.lane)));
        }
        if let Some(state) = self.lanes.get_mut(&id) {
            state.in_store[level(ready.priority)] = true;
        }
        self.wake(id);
        true
    }

    /// Takes in a job that was leased.
    pub fn hold(&mut self, job: Leased) {
        let id = job.lane.id;
        let at = level(job.priority);
        let lane = Arc::clone(&job.lane);
        let state = self.lanes.entry(id).or_insert_with(|| LaneState::new(lane));
        let queue = &mut state.held[at];
        let place = queue.partition_point(|other| other.token.job < job.token.job);
        queue.insert(place, job);
        self.held += 1;
        self.wake(id);
    }

    /// The most urgent held job that gets a permit at `now`, with the permit, while there is room for `room` jobs. Lanes
    /// whose turn comes first but that hold nothing claim a place instead, for [`Frontier::wants`]: at most
    /// `most_claims`, which is what will be leased for. The others keep their place in line.
    pub fn next(
        &mut self,
        gate: &Gate,
        now: Mono,
        room: usize,
        most_claims: usize,
    ) -> Option<(Leased, Permit)> {
        (0..LEVELS).find_map(|at| {
            let mut passed = Vec::new();
            let next = self.next_at(at, gate, now, (room, most_claims), &mut passed);
            for id in passed.into_iter().rev() {
                self.put_first(at, id);
            }
            next
        })
    }

    /// The same for one level; `passed` are the lanes that would have claimed a place.
    fn next_at(
        &mut self,
        at: usize,
        gate: &Gate,
        now: Mono,
        (room, most_claims): (usize, usize),
        passed: &mut Vec<LaneId>,
    ) -> Option<(Leased, Permit)> {
        while room > self.claimed.len() {
            let id = self.line[at].pop_front()?;
            let Some(state) = self.lanes.get_mut(&id) else { continue };
            state.in_line[at] = false;
            if state.parked.is_some() && !state.has_reserved(at) {
                continue;
            }
            if !state.held[at].is_empty() {
                match state.permit(gate, now, at) {
                    Err(wait) => self.park(id, wait),
                    Ok(permit) => return self.start(id, at).map(|job| (job, permit)),
                }
            } else if !state.in_store[at] {
                // Others may have been kept out of line for the sake of this claim.
                if state.has_reserved(at) && state.give_back_reserved() {
                    self.wake(id);
                }
                self.forget_if_idle(id);
            } else if self.claimed.len() < most_claims {
                self.claim(gate, now, at, id);
            } else {
                state.give_back_reserved();
                passed.push(id);
            }
        }
        None
    }

    /// Keeps a place, and a permit, for a lane that is to be leased for.
    fn claim(&mut self, gate: &Gate, now: Mono, at: usize, id: LaneId) {
        let Some(state) = self.lanes.get_mut(&id) else { return };
        let permit = match &state.reserved {
            // A more urgent claim: when it is served or given up, this lane is woken.
            Some((level, _)) if *level < at => return,
            _ => state.permit(gate, now, at),
        };
        match permit {
            Err(wait) => self.park(id, wait),
            Ok(permit) => {
                state.reserved = Some((at, permit));
                state.in_line[at] = true;
                self.claimed.push_back((at, id));
            }
        }
    }

    fn start(&mut self, id: LaneId, at: usize) -> Option<Leased> {
        let state = self.lanes.get_mut(&id)?;
        let job = state.held[at].pop_front()?;
        state.running += 1;
        self.held -= 1;
        for (wanted, store) in state.in_store.iter().enumerate() {
            if *store && !state.in_served[wanted] {
                state.in_served[wanted] = true;
                self.served[wanted].push_back(id);
            }
        }
        self.wake(id);
        Some(job)
    }

    /// A job of that lane that [`Frontier::next`] gave out is over, or was taken back unstarted.
    pub fn finished(&mut self, id: LaneId) {
        if let Some(state) = self.lanes.get_mut(&id) {
            state.running = state.running.saturating_sub(1);
            self.wake(id);
            self.forget_if_idle(id);
        }
    }

    /// A permit or a token of that key came back: whoever waited for it may ask again.
    pub fn freed(&mut self, key: &LimitKey) {
        for id in self.parked_on.remove(key).unwrap_or_default() {
            self.unpark(id);
        }
    }

    /// Time has come to `now`: whoever waited for it may ask again.
    pub fn tick(&mut self, now: Mono) {
        while let Some((until, _, id)) = self.parked_until.first().copied() {
            if until > now {
                return;
            }
            self.unpark(id);
        }
    }

    /// When [`Frontier::tick`] has something to do next.
    #[must_use]
    pub fn next_tick(&self) -> Option<Mono> {
        self.parked_until.first().map(|(until, _, _)| *until)
    }

    /// What to lease now, most urgent first.
    pub fn wants(&mut self, gate: &Gate, now: Mono, appetite: Appetite) -> Vec<Want> {
        let mut wants = Vec::new();
        self.want_claimed(gate, now, appetite, &mut wants);
        if appetite.lease_ahead {
            for at in 0..LEVELS {
                self.want_ahead(gate, at, appetite.max_losses, &mut wants);
            }
        }
        for want in &wants {
            if let Some(state) = self.lanes.get_mut(&want.lane) {
                state.wanted = 0;
            }
        }
        wants
    }

    /// Lanes that claimed a place share the room evenly, the more urgent before the others, and go to the front of
    /// the line.
    fn want_claimed(&mut self, gate: &Gate, now: Mono, appetite: Appetite, wants: &mut Vec<Want>) {
        let max_losses = appetite.max_losses;
        let mut room = appetite.room;
        let mut left: ByPriority<usize> = Default::default();
        for (at, _) in &self.claimed {
            left[*at] += 1;
        }
        self.claimed.make_contiguous().sort_by_key(|(at, _)| *at);
        for (at, id) in &self.claimed {
            let share = room.div_ceil(left[*at]);
            left[*at] -= 1;
            let Some(state) = self.lanes.get_mut(id) else { continue };
            let reserved = usize::from(state.has_reserved(*at)).min(share);
            let count = reserved + state.startable(gate, now, *at, share - reserved);
            room -= count;
            if count == 0 || !state.in_store[*at] {
                state.give_back_reserved();
            } else {
                state.wanted += count;
                wants.push(Want { priority: Priority::ALL[*at], lane: *id, count, max_losses });
            }
        }
        self.unclaim();
    }

    /// Puts lanes that claimed a place at the front of the line.
    fn unclaim(&mut self) {
        for (at, id) in std::mem::take(&mut self.claimed).into_iter().rev() {
            self.line[at].push_front(id);
        }
    }

    fn put_first(&mut self, at: usize, id: LaneId) {
        if let Some(state) = self.lanes.get_mut(&id)
            && !state.in_line[at]
        {
            state.in_line[at] = true;
            self.line[at].push_front(id);
        }
    }

    /// Lanes in service get up to `max_concurrent` held jobs.
    fn want_ahead(&mut self, gate: &Gate, at: usize, max_losses: u32, wants: &mut Vec<Want>) {
        while let Some(id) = self.served[at].pop_front() {
            let Some(state) = self.lanes.get_mut(&id) else { continue };
            state.in_served[at] = false;
            if !state.in_store[at] || state.running == 0 {
                self.forget_if_idle(id);
                continue;
            }
            let Some(limit) = gate.max_concurrent(&state.lane.key) else { continue };
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let count = limit.saturating_sub(state.held() + state.wanted);
            if count > 0 {
                state.wanted += count;
                wants.push(Want { priority: Priority::ALL[at], lane: id, count, max_losses });
            }
        }
    }

    /// What became of a want: whether its lane has nothing more ready at that priority.
    pub fn answered(&mut self, want: &Want, dry: bool) {
        let at = level(want.priority);
        if let Some(state) = self.lanes.get_mut(&want.lane)
            && dry
        {
            state.in_store[at] = false;
            self.forget_if_idle(want.lane);
        }
    }

    /// Gives up every held job and reserved permit, for handing back. What is in the store must be offered again.
    pub fn take_held(&mut self) -> Vec<Leased> {
        self.unclaim();
        let mut jobs = Vec::with_capacity(self.held);
        for state in self.lanes.values_mut() {
            state.give_back_reserved();
            jobs.extend(state.held.iter_mut().flat_map(std::mem::take));
        }
        self.held = 0;
        self.lanes.retain(|_, state| !state.is_forgettable());
        jobs
    }

    /// The parked lanes that hold jobs, most jobs first, at most `most`.
    #[must_use]
    pub fn parked(&self, most: usize) -> Vec<Parked> {
        let mut all: Vec<Parked> = self
            .lanes
            .values()
            .filter_map(|state| {
                let (wait, _) = state.parked.as_ref()?;
                Some(Parked {
                    on: wait.on.clone(),
                    held: state.held(),
                    reason: wait.reason.clone(),
                    until: wait.until,
                })
            })
            .collect();
        all.sort_by_key(|parked| Reverse(parked.held));
        all.truncate(most);
        all
    }

    fn park(&mut self, id: LaneId, wait: Wait) {
        let Some(state) = self.lanes.get_mut(&id) else { return };
        self.refusals += 1;
        self.parked_until.extend(wait.until.map(|until| (until, self.refusals, id)));
        self.parked_on.entry(wait.on.clone()).or_default().push_back(id);
        state.parked = Some((wait, self.refusals));
    }

    fn unpark(&mut self, id: LaneId) {
        let Some(state) = self.lanes.get_mut(&id) else { return };
        let Some((wait, refusal)) = state.parked.take() else { return };
        if let Some(until) = wait.until {
            self.parked_until.remove(&(until, refusal, id));
        }
        if let Some(others) = self.parked_on.get_mut(&wait.on) {
            // Nearly always the first: times come in the order of the refusals.
            if let Some(at) = others.iter().position(|other| *other == id) {
                others.remove(at);
            }
            if others.is_empty() {
                self.parked_on.remove(&wait.on);
            }
        }
        self.wake(id);
        self.forget_if_idle(id);
    }

    /// Puts a lane in every line it belongs in, unless it is parked.
    fn wake(&mut self, id: LaneId) {
        let Some(state) = self.lanes.get_mut(&id) else { return };
        if state.parked.is_some() {
            return;
        }
        for at in 0..LEVELS {
            if !state.in_line[at] && (!state.held[at].is_empty() || state.in_store[at]) {
                state.in_line[at] = true;
                self.line[at].push_back(id);
            }
        }
    }

    fn forget_if_idle(&mut self, id: LaneId) {
        if self.lanes.get(&id).is_some_and(LaneState::is_forgettable) {
            self.lanes.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests;
