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
//! priority the oldest row goes first. Where a [`Schedule`] says so, lanes of a tag have more turns than others, and jobs become more urgent as
//! they wait: a lane then stands in the line of its *urgency*, while what is leased for it is of its priority, as the store has it. A lane whose turn comes while it holds nothing *claims* a place and
//! takes its permit, and is leased for in the coming transaction: without the permit, lanes that hold jobs
//! under the same key would be faster each time, and it would never start. A lane with jobs running is leased
//! up to its `max_concurrent` ahead, so that a permit passes to the next job without waiting for a transaction.

mod aging;
mod lane;
mod line;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;

use self::aging::{Ages, Aging};
use self::lane::{LaneState, Standing};
use self::line::{Class, Entry, Line};
use crate::job::{Key, Lane, LaneId, Leased, LimitKey, Mono, Priority, WallMs};
use crate::limit::{Gate, Permit, Wait, WaitReason};
use crate::queue::store::{ReadyLane, Want};

/// The most lanes kept in memory, whatever the number of hosts in the queue (invariant 10).
pub const MAX_LANES: usize = 4_096;
/// So many of them are kept free of each less urgent priority, for the more urgent ones.
const LANES_RESERVED_PER_LEVEL: usize = 256;
/// Once full, lanes are taken again when there is room for so many: they come in pages.
const LANES_BEFORE_MORE: usize = 256;

/// Room for more jobs than there are workers is given to so many lanes at least, and need not be spread over more,
const LANES_WANTED: usize = 8;
/// unless each of them gets more than this.
const MOST_AT_LEAST: usize = 64;
/// So many lanes claim a place beyond those that will be leased for.
const MORE_CLAIMS: usize = 64;

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
pub struct Frontier {
    lanes: HashMap<LaneId, LaneState>,
    /// Tags with a weight: the class of their lanes.
    classes: HashMap<Box<str>, Class>,
    /// The greatest weight.
    heaviest: u32,
    aging: Option<Aging>,
    /// Lanes that hold jobs, or have them in the store, and were not refused, by urgency: whose turn it is, in order.
    line: ByPriority<Line>,
    tickets: u64,
    /// Lanes whose turn came while they held nothing and no place could be claimed, by urgency, in order.
    passed: ByPriority<Vec<LaneId>>,
    /// Lanes whose turn came while they held nothing: each has a place kept free.
    claimed: VecDeque<Claim>,
    /// Those that the turn under way leases for, and how many jobs have their places kept free meanwhile.
    under_way: Vec<Claim>,
    places_under_way: usize,
    /// Lanes that hold jobs and are leased for all the same, if nothing limits them, and at which level.
    holding: Vec<(LaneId, usize)>,
    /// Lanes that started a job since the last round, by urgency, and at which level they have more: wanted ahead, room or not.
    served: ByPriority<VecDeque<(LaneId, usize)>>,
    /// In the order they were refused.
    parked_on: HashMap<LimitKey, VecDeque<LaneId>>,
    /// Those among them whose time will come, and the number of their refusal.
    parked_until: BTreeSet<(Mono, u64, LaneId)>,
    refusals: u64,
    held: usize,
    bite: Bite,
}

/// A place that is kept free for a lane.
#[derive(Debug, Clone, Copy)]
struct Claim {
    /// How urgent it was.
    urgency: usize,
    /// The level it is to be leased for at.
    at: usize,
    lane: LaneId,
}

/// How much lanes are wanted for at a time, where room is not short: what a want costs the store is shared by the jobs it brings, and
/// lanes that go without this time are first in line the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bite {
    /// Room for so many jobs is shared evenly: that of the workers.
    even_room: usize,
    /// So many, as far as there is room.
    jobs: usize,
    /// Wants of the last round that were for room.
    wants: usize,
    /// Of them, answered so far.
    answered: usize,
    /// What those brought, and were to bring.
    got: usize,
    asked: usize,
}

impl Bite {
    fn of(even_room: usize) -> Bite {
        Bite { even_room, jobs: MOST_AT_LEAST, wants: 0, answered: 0, got: 0, asked: 0 }
    }

    /// A round with so many wants that are for room begins.
    fn begin(&mut self, wants: usize) {
        *self = Bite { wants, answered: 0, got: 0, asked: 0, ..*self };
    }

    /// The next want of the round, for so many, brought so many.
    fn learn(&mut self, asked: usize, got: usize) {
        if self.answered == self.wants {
            return;
        }
        self.answered += 1;
        self.got += got;
        self.asked += asked;
        if self.answered == self.wants {
            let twice = (2 * self.got.div_ceil(self.wants)).clamp(1, MOST_AT_LEAST);
            // Lanes that have no more than that are many: each of them is to be wanted for less, and more of them.
            let is_too_much = 2 * self.got < self.asked;
            self.jobs = if is_too_much { twice.min(self.jobs) } else { twice.max(self.jobs) };
        }
    }

    /// The least that a lane is wanted for when there is so much room.
    fn least(&self, room: usize) -> usize {
        let even = room.saturating_sub(self.even_room) / LANES_WANTED;
        self.jobs.min(even).max(1)
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
    /// A frontier that goes by this schedule, for so many workers.
    #[must_use]
    pub fn new(schedule: Schedule, workers: usize) -> Frontier {
        let class = |(index, (tag, weight)): (usize, (Box<str>, u32))| {
            (tag, Class { index: index + 1, weight: weight.max(1) })
        };
        Frontier {
            heaviest: schedule.weights.values().copied().max().unwrap_or(0).max(1),
            classes: schedule.weights.into_iter().enumerate().map(class).collect(),
            aging: schedule.aging.map(Aging::new),
            lanes: HashMap::default(),
            line: Default::default(),
            tickets: 0,
            passed: Default::default(),
            claimed: VecDeque::new(),
            under_way: Vec::new(),
            places_under_way: 0,
            holding: Vec::new(),
            served: Default::default(),
            parked_on: HashMap::default(),
            parked_until: BTreeSet::new(),
            refusals: 0,
            held: 0,
            bite: Bite::of(workers),
        }
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

    /// Places that are kept free for jobs that were wanted and have not come: see [`Frontier::end_wants`].
    #[must_use]
    pub fn places_under_way(&self) -> usize {
        self.places_under_way
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
        if !self.lanes.contains_key(&id) && self.lanes.len() >= max_lanes(ready.priority) {
            return false;
        }
        let at = level(ready.priority);
        let unknown = self.aging.as_ref().and_then(Aging::unknown);
        let state = self.known(&ready.lane);
        let knew = std::mem::replace(&mut state.in_store[at], true);
        if let Some(ages) = &mut state.ages {
            let known = ages.in_store_since[at].filter(|_| knew);
            ages.in_store_since[at] = ready.head_enqueued_at.or(known).or(unknown);
        }
        self.judge(id, at);
        self.wake(id);
        true
    }

    /// What is known of a lane; from now on, when nothing is yet.
    fn known(&mut self, lane: &Arc<Lane>) -> &mut LaneState {
        self.lanes.entry(lane.id).or_insert_with(|| {
            let weighed = lane.tag.as_ref().and_then(|tag| self.classes.get(tag));
            let class = weighed.copied().unwrap_or(Class { index: 0, weight: 1 });
            let ages = self.aging.as_ref().map(|_| Box::<Ages>::default());
            LaneState::new(Arc::clone(lane), class, ages)
        })
    }

    /// Takes in a job that was leased.
    pub fn hold(&mut self, job: Arc<Leased>) {
        let id = job.lane.id;
        let at = level(job.priority);
        let state = self.known(&job.lane);
        if let Some(ages) = &mut state.ages {
            // Those that are left in the store came after it.
            ages.in_store_since[at] = Some(job.enqueued_at);
        }
        let queue = &mut state.held[at];
        if queue.back().is_none_or(|last| last.token.job < job.token.job) {
            queue.push_back(job);
        } else {
            let place = queue.partition_point(|other| other.token.job < job.token.job);
            queue.insert(place, job);
        }
        self.held += 1;
        self.judge(id, at);
        self.wake(id);
    }

    /// The most urgent held job that gets a permit at `now`, with the permit, while there is room for `room` jobs. Lanes
    /// whose turn comes first but that hold nothing claim a place instead, for [`Frontier::wants`]: as many as will share what is leased,
    /// at most `claims` jobs. The others keep their place in line.
    pub fn next(
        &mut self,
        gate: &Gate,
        now: Mono,
        room: usize,
        claims: usize,
    ) -> Option<(Arc<Leased>, Permit)> {
        let most_claims = self.most_claims(claims);
        (0..LEVELS).find_map(|urgency| self.next_of(urgency, gate, now, (room, most_claims)))
    }

    /// Lanes whose turn comes and that hold nothing claim their places before those that hold jobs start them: for a turn that is to be under
    /// way meanwhile. Those jobs take none of the `claims`. Of room that nobody claims, lanes that hold jobs and that nothing limits have what they will
    /// need when those have started.
    pub fn claim_beside_held(&mut self, gate: &Gate, now: Mono, claims: usize) {
        self.holding.clear();
        let most_claims = self.most_claims(claims);
        for urgency in 0..LEVELS {
            let mut holding = Vec::new();
            while self.claimed.len() < most_claims {
                let lanes = &self.lanes;
                let entry = self.line[urgency].pop(|entry| is_own(lanes, urgency, entry));
                let Some(entry) = entry else { break };
                let Some(state) = self.lanes.get_mut(&entry.lane) else { continue };
                match state.first_of(urgency) {
                    Some(at) if state.held[at].is_empty() && state.parked.is_none() => {
                        state.standing[urgency] = Standing::Out;
                        self.claim(gate, now, at, entry.lane);
                    }
                    at => {
                        self.holding.extend(at.map(|at| (entry.lane, at)));
                        holding.push(entry);
                    }
                }
            }
            // Their turn is the next, as it was.
            holding.into_iter().rev().for_each(|entry| self.line[urgency].push_front(entry));
        }
    }

    /// How many lanes may claim a place among so many: some more than will have their share, for whoever claims has a permit, and keeps its turn
    /// among those of its key.
    fn most_claims(&mut self, claims: usize) -> usize {
        let shares = claims.div_ceil(self.bite.least(claims));
        let most_claims = claims.min(shares + MORE_CLAIMS);
        if self.claimed.len() < most_claims {
            self.end_passes();
        }
        most_claims
    }

    /// The same for one urgency.
    fn next_of(
        &mut self,
        urgency: usize,
        gate: &Gate,
        now: Mono,
        (room, most_claims): (usize, usize),
    ) -> Option<(Arc<Leased>, Permit)> {
        while room > self.claimed.len() {
            if self.held == 0 && self.claimed.len() >= most_claims {
                // Nobody could start, and nobody could claim.
                return None;
            }
            let lanes = &self.lanes;
            let id = self.line[urgency].pop(|entry| is_own(lanes, urgency, entry))?.lane;
            let Some(state) = self.lanes.get_mut(&id) else { continue };
            state.standing[urgency] = Standing::Out;
            let Some(at) = state.first_of(urgency) else {
                // Others may have been kept out of line for the sake of its claim.
                if state.has_reserved_in_vain() && state.give_back_reserved() {
                    self.wake(id);
                }
                self.forget_if_idle(id);
                continue;
            };
            if state.parked.is_some() && !state.has_reserved_for(at) {
                continue;
            }
            if !state.held[at].is_empty() {
                match state.permit(gate, now, at) {
                    Err(wait) => self.park(id, wait),
                    Ok(permit) => return self.start(id, at).map(|job| (job, permit)),
                }
            } else if state.is_under_way {
                // What its claim would bring is on its way: it comes back to line with that.
                state.give_back_reserved();
            } else if self.claimed.len() < most_claims {
                self.claim(gate, now, at, id);
            } else {
                state.give_back_reserved();
                state.standing[urgency] = Standing::Passed;
                self.passed[urgency].push(id);
            }
        }
        None
    }

    /// There are places to be claimed again: lanes that were passed over for want of one are the next.
    fn end_passes(&mut self) {
        for urgency in 0..LEVELS {
            while let Some(id) = self.passed[urgency].pop() {
                if let Some(state) = self.lanes.get_mut(&id)
                    && state.standing[urgency] == Standing::Passed
                {
                    state.standing[urgency] = Standing::Out;
                    self.put_first(id, urgency);
                    self.wake(id);
                }
            }
        }
    }

    /// Keeps a place, and a permit, for a lane that is to be leased for.
    fn claim(&mut self, gate: &Gate, now: Mono, at: usize, id: LaneId) {
        let Some(state) = self.lanes.get_mut(&id) else { return };
        if state.has_reserved_before(at) {
            // When that claim is served or given up, this lane is woken.
            return;
        }
        match state.permit(gate, now, at) {
            Err(wait) => self.park(id, wait),
            Ok(permit) => {
                state.reserved = Some((at, permit));
                let (urgency, class) = (state.urgency(at), state.class);
                state.standing[urgency] = Standing::Claimed;
                if !std::mem::replace(&mut state.is_charged[urgency], true) {
                    self.line[urgency].charge(class);
                }
                self.claimed.push_back(Claim { urgency, at, lane: id });
            }
        }
    }

    fn start(&mut self, id: LaneId, at: usize) -> Option<Arc<Leased>> {
        let state = self.lanes.get_mut(&id)?;
        let job = state.held[at].pop_front()?;
        state.running += 1;
        state.passed_over = -1;
        self.held -= 1;
        for wanted in state.levels() {
            if state.in_store[wanted] && !state.in_served[wanted] {
                state.in_served[wanted] = true;
                self.served[state.urgency(wanted)].push_back((id, wanted));
            }
        }
        let urgency = state.urgency(at);
        if !std::mem::take(&mut state.is_charged[urgency]) {
            self.line[urgency].charge(state.class);
        }
        state.turn_left = state.turn_left.saturating_sub(1);
        let goes_on = state.turn_left > 0 && !state.held[at].is_empty();
        self.judge(id, at);
        if goes_on {
            self.put_first(id, urgency);
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
        let ids = self.parked_on.remove(key).unwrap_or_default();
        self.unpark_all(ids.into());
    }

    /// Time has come to `now`, and to `wall` for what people asked for: whoever waited for it may ask again, and who has waited for long enough is
    /// more urgent. Before the first job comes, and before each round of [`Frontier::next`].
    pub fn tick(&mut self, now: Mono, wall: WallMs) {
        let risen = self.aging.as_mut().map(|aging| aging.due(wall)).unwrap_or_default();
        for (id, at) in risen {
            self.judge(id, at);
        }
        let due = self.parked_until.iter().take_while(|(until, _, _)| *until <= now);
        let due: Vec<LaneId> = due.map(|(_, _, id)| *id).collect();
        self.unpark_all(due);
    }

    /// When [`Frontier::tick`] lets somebody ask again. That somebody rises starts nothing that could not have started before: it is in time
    /// when something may.
    #[must_use]
    pub fn next_tick(&self) -> Option<Mono> {
        self.parked_until.first().map(|(until, _, _)| *until)
    }

    /// What to lease now, most urgent first. Until [`Frontier::end_wants`], which comes before anything of what was leased, lanes that are leased for
    /// because their turn had come are out of line.
    pub fn wants(&mut self, gate: &Gate, now: Mono, appetite: Appetite) -> Vec<Want> {
        let mut wants = Vec::new();
        self.end_passes();
        self.want_claimed(gate, now, appetite, &mut wants);
        self.want_beside_held(gate, now, appetite, &mut wants);
        if appetite.lease_ahead {
            for urgency in 0..LEVELS {
                self.want_ahead(gate, now, urgency, appetite.max_losses, &mut wants);
            }
        }
        for want in &wants {
            if let Some(state) = self.lanes.get_mut(&want.lane) {
                state.wanted = 0;
            }
        }
        wants
    }

    /// Lanes that claimed a place share the room by their weights, the more urgent before the others, and go to the front of
    /// the line.
    fn want_claimed(&mut self, gate: &Gate, now: Mono, appetite: Appetite, wants: &mut Vec<Want>) {
        let max_losses = appetite.max_losses;
        let mut room = appetite.room;
        let least = self.bite.least(room);
        self.claimed.make_contiguous().sort_by_key(|claim| claim.urgency);
        let weights = self.weights_of_claims();
        let mut left: ByPriority<u128> = Default::default();
        for (claim, weight) in self.claimed.iter().zip(&weights) {
            left[claim.urgency] += weight;
        }
        let mut given_back = Vec::new();
        for (claim, weight) in std::mem::take(&mut self.claimed).into_iter().zip(weights) {
            let Claim { urgency, at, lane } = claim;
            let share = (room as u128 * weight).div_ceil(left[urgency]);
            let share = usize::try_from(share).map_or(room, |share| share.max(least).min(room));
            left[urgency] -= weight;
            let Some(state) = self.lanes.get_mut(&lane) else { continue };
            let reserved = usize::from(state.has_reserved(at)).min(share);
            let startable = reserved + state.startable(gate, now, at, share - reserved);
            if startable == 0 || !state.in_store[at] {
                state.give_back_reserved();
                given_back.push(claim);
            } else {
                room -= startable;
                // In a flood the rest will have its permits soon; were it left, it would be another want.
                let ahead = least.min(state.ahead(gate)).saturating_sub(startable);
                let count = startable + if appetite.lease_ahead { ahead } else { 0 };
                state.wanted += count;
                state.turn_left = startable.min(least);
                wants.push(Want { priority: Priority::ALL[at], lane, count, max_losses });
                self.under_way.push(claim);
            }
        }
        self.places_under_way = appetite.room - room;
        self.bite.begin(wants.len());
        let lanes: Vec<LaneId> = given_back.iter().map(|claim| claim.lane).collect();
        self.back_to_line(given_back);
        // Others may have been kept out of line for the sake of these claims.
        lanes.into_iter().for_each(|lane| self.wake(lane));
    }

    /// The turn that the wants were for is over: the lanes they came from go to the front of the line.
    pub fn end_wants(&mut self) {
        self.places_under_way = 0;
        let claims = std::mem::take(&mut self.under_way);
        self.back_to_line(claims);
        while let Some((lane, _)) = self.holding.pop() {
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.is_under_way = false;
                self.wake(lane);
            }
        }
    }

    /// Lanes that [`Frontier::claim_beside_held`] found holding jobs, and that nothing limits, share what room is left.
    fn want_beside_held(
        &mut self,
        gate: &Gate,
        now: Mono,
        Appetite { room, max_losses, .. }: Appetite,
        wants: &mut Vec<Want>,
    ) {
        let mut holding = std::mem::take(&mut self.holding);
        holding.retain(|(lane, at)| {
            let state = self.lanes.get(lane).filter(|state| state.in_store[*at]);
            state.is_some_and(|state| gate.free(&state.lane.key, now).is_none())
        });
        for (n, (lane, at)) in holding.iter().enumerate() {
            let left = room.saturating_sub(self.places_under_way);
            let count = left.div_ceil(holding.len() - n);
            let Some(state) = self.lanes.get_mut(lane).filter(|_| count > 0) else { continue };
            state.is_under_way = true;
            self.places_under_way += count;
            wants.push(Want { priority: Priority::ALL[*at], lane: *lane, count, max_losses });
        }
        self.holding = holding;
    }

    /// What each claim counts for: the lanes of a class share its weight.
    fn weights_of_claims(&self) -> Vec<u128> {
        if self.classes.is_empty() {
            return vec![1; self.claimed.len()];
        }
        let class = |claim: &Claim| self.lanes.get(&claim.lane).map(|state| state.class);
        let mut of_class: HashMap<(usize, usize), u128> = HashMap::default();
        for claim in &self.claimed {
            let index = class(claim).map_or(0, |class| class.index);
            *of_class.entry((claim.urgency, index)).or_default() += 1;
        }
        let weight = |claim: &Claim| {
            let (index, weight) = class(claim).map_or((0, 1), |class| (class.index, class.weight));
            let others = of_class.get(&(claim.urgency, index)).copied().unwrap_or(1);
            (u128::from(weight) << 16) / others
        };
        self.claimed.iter().map(|claim| weight(claim).max(1)).collect()
    }

    /// Puts lanes that claimed a place at the front of the line.
    fn back_to_line(&mut self, claims: Vec<Claim>) {
        for Claim { urgency, lane, .. } in claims.into_iter().rev() {
            if let Some(state) = self.lanes.get_mut(&lane) {
                state.standing[urgency] = Standing::Out;
            }
            self.put_first(lane, urgency);
        }
    }

    fn put_first(&mut self, id: LaneId, urgency: usize) {
        if let Some(state) = self.lanes.get_mut(&id)
            && state.standing[urgency] == Standing::Out
        {
            let entry = enter(state, urgency, &mut self.tickets);
            self.line[urgency].push_front(entry);
        }
    }

    /// Lanes in service whose key has no permit left over get up to `max_concurrent` held jobs. Where permits are left it is room that
    /// was short, and whatever was leased ahead would only wait for it.
    fn want_ahead(
        &mut self,
        gate: &Gate,
        now: Mono,
        urgency: usize,
        max_losses: u32,
        wants: &mut Vec<Want>,
    ) {
        while let Some((id, at)) = self.served[urgency].pop_front() {
            let Some(state) = self.lanes.get_mut(&id) else { continue };
            state.in_served[at] = false;
            if !state.in_store[at] || state.running == 0 {
                self.forget_if_idle(id);
                continue;
            }
            let leased = state.held() + state.wanted;
            let free = gate.free(&state.lane.key, now);
            let is_full =
                free.is_some_and(|free| usize::try_from(free).is_ok_and(|free| free <= leased));
            let count = state.ahead(gate);
            if count > 0 && is_full {
                state.wanted += count;
                wants.push(Want { priority: Priority::ALL[at], lane: id, count, max_losses });
            }
        }
    }

    /// What became of a want, in the order of [`Frontier::wants`]: how many jobs it brought, and whether its lane has nothing more ready at
    /// that priority.
    pub fn answered(&mut self, want: &Want, got: usize, dry: bool) {
        self.bite.learn(want.count, got);
        let at = level(want.priority);
        if let Some(state) = self.lanes.get_mut(&want.lane)
            && dry
        {
            state.in_store[at] = false;
            self.judge(want.lane, at);
            self.forget_if_idle(want.lane);
        }
    }

    /// There is no room: permits under such keys that were reserved for jobs which are held by now are given back.
    pub fn give_up(&mut self, is_awaited: impl Fn(&Key) -> bool) {
        let keeps =
            |state: &&mut LaneState| state.has_reserved_for_held() && is_awaited(&state.lane.key);
        for state in self.lanes.values_mut().filter(keeps) {
            state.give_back_reserved();
        }
    }

    /// Gives up every held job and reserved permit, for handing back. What is in the store must be offered again.
    pub fn take_held(&mut self) -> Vec<Arc<Leased>> {
        self.end_wants();
        let claims = std::mem::take(&mut self.claimed);
        self.back_to_line(claims.into());
        self.end_passes();
        let mut jobs = Vec::with_capacity(self.held);
        for state in self.lanes.values_mut() {
            state.give_back_reserved();
            jobs.extend(state.held.iter_mut().flat_map(std::mem::take));
        }
        self.held = 0;
        if self.aging.is_some() {
            let ids: Vec<LaneId> = self.lanes.keys().copied().collect();
            ids.into_iter().for_each(|id| (0..LEVELS).for_each(|at| self.judge(id, at)));
        }
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
        state.turn_left = 0;
        state.passed_over = state.passed_over.saturating_add(1);
    }

    /// In the order of their refusals; those that are overdue go before all others, so the one that is most so comes last here.
    fn unpark_all(&mut self, ids: Vec<LaneId>) {
        let mut overdue = Vec::new();
        for (order, id) in ids.into_iter().enumerate() {
            let state = self.lanes.get(&id).filter(|_| !self.classes.is_empty());
            match state.filter(|state| state.is_overdue(self.heaviest)) {
                Some(state) => overdue.push((state.owed(), Reverse(order), id)),
                None => self.unpark(id),
            }
        }
        overdue.sort_unstable();
        overdue.into_iter().for_each(|(_, _, id)| self.unpark(id));
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
        self.wake_as(id, true);
        self.forget_if_idle(id);
    }

    /// Puts a lane in every line it belongs in. Of a parked one, only what has its permit already.
    fn wake(&mut self, id: LaneId) {
        self.wake_as(id, false);
    }

    /// The same. `was_refused`: it comes back to try again for a permit that others want too.
    ///
    /// The turns of the classes are those for the room there is, and no measure for who gets a permit: a class that has its turns under
    /// other keys would never get one here. So where there are weights, lanes of the heaviest class are the first to try again, and
    /// each other lane once it was passed over for as many permits as its weight is worth less.
    fn wake_as(&mut self, id: LaneId, was_refused: bool) {
        let was_refused = was_refused && !self.classes.is_empty();
        let Some(state) = self.lanes.get_mut(&id) else { return };
        for at in 0..LEVELS {
            let urgency = state.urgency(at);
            if state.standing[urgency] == Standing::Out
                && state.has_work(at)
                && (state.parked.is_none() || state.has_reserved(at))
            {
                let entry = enter(state, urgency, &mut self.tickets);
                let line = &mut self.line[urgency];
                if was_refused && state.is_overdue(self.heaviest) {
                    line.push_front(entry);
                } else if was_refused && state.class.weight >= self.heaviest {
                    line.push_before_classes(entry);
                } else {
                    line.push_back(state.class, entry);
                }
            }
        }
    }

    /// Judges how urgent a lane's jobs of one level are, and has them go to another line where that changed: to its end, unless
    /// the lane has others in it.
    fn judge(&mut self, id: LaneId, at: usize) {
        let Some(aging) = &mut self.aging else { return };
        let Some(state) = self.lanes.get_mut(&id) else { return };
        let head = state.waits_since(at);
        let Some(ages) = &mut state.ages else { return };
        let before = aging.judge(id, ages, at, head);
        let (urgency, class) = (state.urgency(at), state.class);
        if urgency == before {
            return;
        }
        // What was taken to be old may turn out young: then the permit is another's, unless it is about to be leased for.
        if urgency > before && state.standing[before] != Standing::Claimed && state.has_reserved(at)
        {
            state.give_back_reserved();
        }
        if let Standing::InLine(left) = state.standing[before]
            && state.first_of(before).is_none()
        {
            state.standing[before] = Standing::Out;
            let lanes = &self.lanes;
            self.line[before].leave(class, left, |entry| is_own(lanes, before, entry));
        }
        self.wake(id);
    }

    fn forget_if_idle(&mut self, id: LaneId) {
        if self.lanes.get(&id).is_some_and(LaneState::is_forgettable) {
            self.lanes.remove(&id);
        }
    }
}

/// A new entry for a lane, which is in line under it from now on.
fn enter(state: &mut LaneState, urgency: usize, tickets: &mut u64) -> Entry {
    *tickets += 1;
    state.standing[urgency] = Standing::InLine(*tickets);
    Entry { lane: state.lane.id, ticket: *tickets }
}

/// Whether a lane is in the line of that urgency under that entry.
fn is_own(lanes: &HashMap<LaneId, LaneState>, urgency: usize, entry: &Entry) -> bool {
    let state = lanes.get(&entry.lane);
    state.is_some_and(|state| state.standing[urgency] == Standing::InLine(entry.ticket))
}

#[cfg(test)]
mod tests;
