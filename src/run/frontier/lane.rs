//! What the frontier knows of one lane.

use std::collections::VecDeque;
use std::sync::Arc;

use super::aging::Ages;
use super::line::Class;
use super::{ByPriority, LEVELS};
use crate::job::{Lane, Leased, Mono, WallMs};
use crate::limit::{Gate, Permit, Wait};

/// Where a lane is with its jobs of one urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Standing {
    /// Not in line: it has none, or is parked, or a more urgent claim of its own is to be served first.
    #[default]
    Out,
    /// In line, under this ticket.
    InLine(u64),
    /// Its turn came while it held nothing.
    Claimed,
    /// The same, and no place was to be claimed: it keeps its turn.
    Passed,
}

pub(super) struct LaneState {
    pub(super) lane: Arc<Lane>,
    /// Whom it shares its turns with.
    pub(super) class: Class,
    pub(super) held: ByPriority<VecDeque<Arc<Leased>>>,
    pub(super) in_store: ByPriority<bool>,
    /// By urgency: levels that are as urgent by now share one place in line.
    pub(super) standing: ByPriority<Standing>,
    pub(super) in_served: ByPriority<bool>,
    /// By urgency: its class has had the turn of the job that it starts next, when its place was claimed.
    pub(super) is_charged: ByPriority<bool>,
    /// Permits that others had since it last started a job, while it was refused; -1 right after: the next refusal is its own doing.
    pub(super) passed_over: i32,
    /// What it waits for, and the number of the refusal.
    pub(super) parked: Option<(Wait, u64)>,
    /// The permit that its claim at this level took: for a job at least as urgent.
    pub(super) reserved: Option<(usize, Permit)>,
    /// Jobs asked for in the round of [`super::Frontier::wants`] that is being made.
    pub(super) wanted: usize,
    /// Jobs of its own that it may start one after the other, for it was leased for all of them.
    pub(super) turn_left: usize,
    pub(super) running: usize,
    /// The turn under way leases for it although it held jobs when that began.
    pub(super) is_under_way: bool,
    /// Where jobs rise with age.
    pub(super) ages: Option<Box<Ages>>,
}

impl LaneState {
    pub(super) fn new(lane: Arc<Lane>, class: Class, ages: Option<Box<Ages>>) -> LaneState {
        LaneState {
            lane,
            class,
            held: Default::default(),
            in_store: Default::default(),
            standing: Default::default(),
            in_served: Default::default(),
            is_charged: Default::default(),
            passed_over: 0,
            parked: None,
            reserved: None,
            wanted: 0,
            turn_left: 0,
            running: 0,
            is_under_way: false,
            ages,
        }
    }

    /// How urgent its jobs of that level are by now.
    pub(super) fn urgency(&self, at: usize) -> usize {
        self.ages.as_ref().map_or(at, |ages| ages.urgency[at])
    }

    /// Which of its levels go first. Of those that are as urgent by now, the one that waits for longest: in the order of their
    /// priorities, jobs that have risen would never have the turn of the fresh ones they rose to.
    fn order(&self, at: usize) -> (usize, WallMs, usize) {
        match self.ages {
            None => (at, WallMs(0), at),
            Some(_) => (self.urgency(at), self.waits_since(at).unwrap_or(WallMs(i64::MAX)), at),
        }
    }

    /// The level whose turn it is when it is that of the lane in the line of that urgency, if it has work there.
    pub(super) fn first_of(&self, urgency: usize) -> Option<usize> {
        if self.ages.is_none() {
            return Some(urgency).filter(|at| self.has_work(*at));
        }
        let there = |at: &usize| self.urgency(*at) == urgency && self.has_work(*at);
        (0..LEVELS).filter(there).min_by_key(|at| self.order(*at))
    }

    /// Its levels, those first that go first.
    pub(super) fn levels(&self) -> [usize; LEVELS] {
        let mut levels = std::array::from_fn(|at| at);
        if self.ages.is_some() {
            levels.sort_by_key(|at| self.order(*at));
        }
        levels
    }

    /// Since when the first of its jobs of that level waits.
    pub(super) fn waits_since(&self, at: usize) -> Option<WallMs> {
        match self.held[at].front() {
            Some(job) => Some(job.enqueued_at),
            None if !self.in_store[at] => None,
            None => self.ages.as_ref().and_then(|ages| ages.in_store_since[at]),
        }
    }

    pub(super) fn held(&self) -> usize {
        self.held.iter().map(VecDeque::len).sum()
    }

    pub(super) fn has_work(&self, at: usize) -> bool {
        !self.held[at].is_empty() || self.in_store[at]
    }

    /// Held jobs as urgent as those of this level, or more.
    fn held_up_to(&self, at: usize) -> usize {
        let is_first = |level: &usize| self.order(*level) <= self.order(at);
        (0..LEVELS).filter(is_first).map(|level| self.held[level].len()).sum()
    }

    /// How many more jobs of this priority could start now than are held for it, at most `most`.
    pub(super) fn startable(&self, gate: &Gate, now: Mono, at: usize, most: usize) -> usize {
        match gate.free(&self.lane.key, now) {
            None => most,
            Some(free) => usize::try_from(free)
                .unwrap_or(usize::MAX)
                .saturating_sub(self.held_up_to(at))
                .min(most),
        }
    }

    /// How many more jobs may be leased for it than may start: what it holds is never more than may run at once. Of a lane without such a
    /// limit none, for there all may start.
    pub(super) fn ahead(&self, gate: &Gate) -> usize {
        let limit = gate.max_concurrent(&self.lane.key).unwrap_or(0);
        usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(self.held() + self.wanted)
    }

    /// Whether a more urgent claim of its own has taken a permit.
    pub(super) fn has_reserved_before(&self, at: usize) -> bool {
        self.reserved.as_ref().is_some_and(|(level, _)| self.order(*level) < self.order(at))
    }

    /// The permit for a job of that level: the one reserved for it, or another.
    pub(super) fn permit(&mut self, gate: &Gate, now: Mono, at: usize) -> Result<Permit, Wait> {
        if !self.has_reserved_before(at)
            && let Some((_, permit)) = self.reserved.take()
        {
            return Ok(permit);
        }
        gate.try_admit(&self.lane.key, now)
    }

    pub(super) fn has_reserved(&self, at: usize) -> bool {
        self.reserved.as_ref().is_some_and(|(level, _)| *level == at)
    }

    /// Whether a permit was reserved for its turn at this level, or for one that is as urgent.
    pub(super) fn has_reserved_for(&self, at: usize) -> bool {
        self.reserved.as_ref().is_some_and(|(level, _)| self.urgency(*level) == self.urgency(at))
    }

    /// Whether others have had more permits in its stead than the heaviest class may, for one of its own.
    pub(super) fn is_overdue(&self, heaviest: u32) -> bool {
        self.owed() > 0 && self.owed() >= u64::from(heaviest)
    }

    /// How many permits others have had in its stead, by what its class counts for.
    pub(super) fn owed(&self) -> u64 {
        u64::try_from(self.passed_over).unwrap_or(0) * u64::from(self.class.weight)
    }

    /// Whether the permit was reserved for a claim that came to nothing.
    pub(super) fn has_reserved_in_vain(&self) -> bool {
        self.reserved.as_ref().is_some_and(|(level, _)| !self.has_work(*level))
    }

    /// Whether the permit was reserved for jobs that have come.
    pub(super) fn has_reserved_for_held(&self) -> bool {
        self.reserved.as_ref().is_some_and(|(level, _)| !self.held[*level].is_empty())
    }

    /// Gives back a permit that nothing is to be started under; whether there was one.
    pub(super) fn give_back_reserved(&mut self) -> bool {
        self.reserved.take().map(|(_, permit)| permit.refund()).is_some()
    }

    pub(super) fn is_forgettable(&self) -> bool {
        self.running == 0
            && self.parked.is_none()
            && self.reserved.is_none()
            && !self.in_store.contains(&true)
            && self.standing.iter().all(|standing| *standing == Standing::Out)
            && !self.in_served.contains(&true)
            && self.held.iter().all(VecDeque::is_empty)
    }
}
