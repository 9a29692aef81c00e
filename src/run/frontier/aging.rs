//! How old jobs rise: a lane's jobs of one priority count as more urgent, one level for each step of the age of the first of them.
//!
//! Nothing is rewritten and nobody is looked at in vain: the times at which lanes rise next are kept in order. Wall time may
//! step: forward, and many rise at once; back, and what has risen stays, while the others wait for their time to come again.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{ByPriority, LEVELS};
use crate::job::{LaneId, WallMs};

/// When lanes rise.
#[derive(Debug)]
pub(super) struct Aging {
    step_ms: u64,
    /// As it was last told.
    wall: Option<WallMs>,
    /// When which lane rises next, at which level.
    next: BTreeSet<(WallMs, LaneId, usize)>,
}

/// How urgent the jobs of one lane are, by the level of their priority.
#[derive(Debug)]
pub(super) struct Ages {
    pub(super) urgency: ByPriority<usize>,
    /// When the first job in the store was enqueued, or one before it.
    pub(super) in_store_since: ByPriority<Option<WallMs>>,
    /// When it rises next.
    next: ByPriority<Option<WallMs>>,
}

impl Default for Ages {
    fn default() -> Ages {
        let mut urgency = [0; LEVELS];
        (0..LEVELS).for_each(|at| urgency[at] = at);
        Ages { urgency, in_store_since: [None; LEVELS], next: [None; LEVELS] }
    }
}

impl Aging {
    pub(super) fn new(step: Duration) -> Aging {
        let step_ms = u64::try_from(step.as_millis()).unwrap_or(u64::MAX).max(1);
        Aging { step_ms, wall: None, next: BTreeSet::new() }
    }

    /// Since when jobs have been in the store that nobody knows more of: since now.
    pub(super) fn unknown(&self) -> Option<WallMs> {
        self.wall
    }

    /// Time is `wall`. Whoever rises now, to be judged again.
    pub(super) fn due(&mut self, wall: WallMs) -> Vec<(LaneId, usize)> {
        self.wall = Some(wall);
        let mut due = Vec::new();
        while let Some((_, lane, at)) = self.next.first().copied().filter(|next| next.0 <= wall) {
            self.next.pop_first();
            due.push((lane, at));
        }
        due
    }

    /// Judges how urgent a lane's jobs at one level are, the first of them enqueued at `head` (`None`: there are none). Returns how
    /// urgent they were before.
    pub(super) fn judge(
        &mut self,
        lane: LaneId,
        ages: &mut Ages,
        at: usize,
        head: Option<WallMs>,
    ) -> usize {
        let (urgency, next) = match (head, self.wall) {
            (Some(head), Some(wall)) => self.urgency(at, head, wall),
            _ => (at, None),
        };
        if let Some(before) = std::mem::replace(&mut ages.next[at], next)
            && Some(before) != next
        {
            self.next.remove(&(before, lane, at));
        }
        self.next.extend(next.map(|next| (next, lane, at)));
        std::mem::replace(&mut ages.urgency[at], urgency)
    }

    /// How urgent a job is, and when it will be more so.
    fn urgency(&self, at: usize, head: WallMs, wall: WallMs) -> (usize, Option<WallMs>) {
        let steps = wall.since_ms(head) / self.step_ms;
        let urgency = at.saturating_sub(usize::try_from(steps).unwrap_or(usize::MAX));
        let rise = || head.plus_ms(self.step_ms.saturating_mul(steps.saturating_add(1)));
        (urgency, (urgency > 0).then(rise))
    }

    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.next.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_rises_one_level_with_each_step_and_never_above_critical() {
        let aging = Aging::new(Duration::from_secs(60));
        let urgency = |at, age_ms: i64| aging.urgency(at, WallMs(1_000), WallMs(1_000 + age_ms));
        let rises_at = |ms: i64| Some(WallMs(1_000 + ms));
        for (at, age_ms, expected) in [
            (2, -5_000, (2, rises_at(60_000))),
            (2, 0, (2, rises_at(60_000))),
            (2, 59_999, (2, rises_at(60_000))),
            (2, 60_000, (1, rises_at(120_000))),
            (2, 119_999, (1, rises_at(120_000))),
            (2, 120_000, (0, None)),
            (4, 1_000_000_000, (0, None)),
            (0, 0, (0, None)),
        ] {
            assert_eq!(urgency(at, age_ms), expected, "{at} at {age_ms}");
        }
    }

    #[test]
    fn the_end_of_time_is_not_looked_at_for_ever() {
        let mut aging = Aging::new(Duration::MAX);
        let mut ages = Ages::default();
        aging.due(WallMs(i64::MAX));
        aging.judge(LaneId(1), &mut ages, 4, Some(WallMs(i64::MAX - 1)));
        assert_eq!(aging.due(WallMs(i64::MAX)), [(LaneId(1), 4)]);
        aging.judge(LaneId(1), &mut ages, 4, None);
        assert!(aging.is_at_rest());
    }
}
