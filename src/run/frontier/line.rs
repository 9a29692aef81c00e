//! A line of lanes that wait for their turn: one for each urgency.
//!
//! Lanes of one class stand in it first in, first out. The classes take turns by stride scheduling: each turn moves a class on by a
//! stride that is the shorter the greater its weight, and the one that is least far goes next. Must never let a class
//! save up turns while none of its lanes is in line: who comes back begins where the others are.

use std::collections::VecDeque;

use crate::job::LaneId;

/// What a class of weight 1 moves on by with each turn: divided by any weight, it is still something.
const STRIDE: u128 = 1 << 32;
/// So many entries that were left behind are not worth tidying up.
const MAX_LEFT_BEHIND: usize = 64;

/// Lanes that share their turns: those of a tag with a weight of its own, or all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    /// 0 for all others.
    pub(super) index: usize,
    /// Turns it gets for one of a class of weight 1; at least 1.
    pub(super) weight: u32,
}

/// A lane that waits to start, or to be leased for, a job of one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) lane: LaneId,
    /// The level of the priority.
    pub(super) at: usize,
    /// Its number: a lane that went to another line leaves an entry behind that is no longer its own.
    pub(super) ticket: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Lanes whose turn came before, and that were kept waiting with what they were given: before every class.
    first: VecDeque<Entry>,
    queues: Vec<Queue>,
    /// How far the class was that had the last turn.
    reached: u128,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// So many of them were left behind; never all.
    left_behind: usize,
    /// How far its class is.
    pass: u128,
}

impl Line {
    /// Whether no lane is in it.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.queues.iter().all(|queue| queue.entries.is_empty())
    }

    pub(super) fn push_back(&mut self, class: Class, entry: Entry) {
        self.joined(class).entries.push_back(entry);
    }

    /// Gives a lane its turn back.
    pub(super) fn push_front(&mut self, entry: Entry) {
        self.first.push_front(entry);
    }

    /// The next in line. `is_own` tells an entry from one that was left behind.
    pub(super) fn pop(&mut self, is_own: impl Fn(&Entry) -> bool) -> Option<Entry> {
        if let Some(entry) = self.first.pop_front() {
            return Some(entry);
        }
        let waiting = self.queues.iter_mut().filter(|queue| !queue.entries.is_empty());
        let queue = waiting.min_by_key(|queue| queue.pass)?;
        loop {
            let entry = queue.entries.pop_front()?;
            if queue.left_behind == 0 {
                return Some(entry);
            }
            if is_own(&entry) {
                queue.forget_if_all_left();
                return Some(entry);
            }
            queue.left_behind -= 1;
        }
    }

    /// A lane of that class is no longer in this line under that ticket, but its entry is.
    pub(super) fn leave(&mut self, class: Class, ticket: u64, is_own: impl Fn(&Entry) -> bool) {
        if let Some(at) = self.first.iter().position(|entry| entry.ticket == ticket) {
            self.first.remove(at);
            return;
        }
        let Some(queue) = self.queues.get_mut(class.index) else { return };
        queue.left_behind += 1;
        queue.forget_if_all_left();
        if queue.left_behind > MAX_LEFT_BEHIND.max(queue.entries.len() / 2) {
            queue.entries.retain(is_own);
            queue.left_behind = 0;
        }
    }

    /// A lane of that class had a turn.
    pub(super) fn charge(&mut self, class: Class) {
        let queue = self.queue(class);
        let pass = queue.pass;
        queue.pass += STRIDE / u128::from(class.weight.max(1));
        self.reached = self.reached.max(pass);
    }

    fn joined(&mut self, class: Class) -> &mut Queue {
        let reached = self.reached;
        let queue = self.queue(class);
        if queue.entries.is_empty() {
            queue.pass = queue.pass.max(reached);
        }
        queue
    }

    fn queue(&mut self, class: Class) -> &mut Queue {
        if class.index >= self.queues.len() {
            self.queues.resize_with(class.index + 1, Queue::default);
        }
        &mut self.queues[class.index]
    }
}

impl Queue {
    /// So that a queue with entries has one that is a lane's own.
    fn forget_if_all_left(&mut self) {
        if self.left_behind == self.entries.len() {
            self.entries.clear();
            self.left_behind = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHERS: Class = Class { index: 0, weight: 1 };

    fn entry(lane: i64, ticket: u64) -> Entry {
        Entry { lane: LaneId(lane), at: 2, ticket }
    }

    /// Who has the next turns, when everybody comes back at once.
    fn turns(line: &mut Line, classes: &[Class], count: usize) -> Vec<usize> {
        let mut turns = Vec::new();
        for _ in 0..count {
            let entry = line.pop(|_| true).unwrap();
            let class = classes[usize::try_from(entry.lane.0).unwrap()];
            line.charge(class);
            line.push_back(class, entry);
            turns.push(class.index);
        }
        turns
    }

    #[test]
    fn classes_take_turns_by_their_weights() {
        let classes = [OTHERS, Class { index: 1, weight: 3 }, Class { index: 2, weight: u32::MAX }];
        for (count, expected) in [(2, [100, 300]), (1, [400, 0])] {
            let mut line = Line::default();
            for (class, lane) in classes[..count].iter().zip(0..) {
                line.push_back(*class, entry(lane, 0));
            }
            let turns = turns(&mut line, &classes, 400);
            let had = |index| turns.iter().filter(|turn| **turn == index).count();
            assert_eq!([had(0), had(1)], expected);
        }
        let mut line = Line::default();
        line.push_back(classes[2], entry(2, 0));
        line.push_back(OTHERS, entry(0, 0));
        let turns = turns(&mut line, &classes, 10_000);
        assert!(turns.iter().filter(|turn| **turn == 0).count() <= 1);
    }

    #[test]
    fn a_class_that_was_away_has_saved_nothing_up() {
        let classes = [OTHERS, Class { index: 1, weight: 2 }];
        let mut line = Line::default();
        line.push_back(classes[0], entry(0, 0));
        turns(&mut line, &classes, 1_000);
        line.push_back(classes[1], entry(1, 0));
        let turns = turns(&mut line, &classes, 9);
        assert_eq!(turns.iter().filter(|turn| **turn == 0).count(), 3, "{turns:?}");
    }

    #[test]
    fn entries_left_behind_are_passed_over_and_do_not_pile_up() {
        let mut line = Line::default();
        line.push_back(OTHERS, entry(1, 0));
        for ticket in 1..10_000 {
            line.push_back(OTHERS, entry(2, ticket));
            line.leave(OTHERS, ticket, |entry| entry.lane == LaneId(1));
            assert!(line.queues[0].entries.len() <= MAX_LEFT_BEHIND + 2);
        }
        assert_eq!(line.pop(|entry| entry.lane == LaneId(1)), Some(entry(1, 0)));
        assert!(line.is_empty(), "those left behind are nobody's");
        line.push_back(OTHERS, entry(2, 1));
        line.leave(OTHERS, 1, |_| false);
        assert_eq!(line.pop(|_| false), None);
        line.push_back(OTHERS, entry(3, 3));
        line.push_front(entry(2, 2));
        line.leave(OTHERS, 2, |_| true);
        assert_eq!(line.pop(|_| true), Some(entry(3, 3)));
    }
}
