//! When the next turn is made.
//!
//! During a turn nobody passes on the permits of attempts that end, so turns keep out of the way of ends: attempts that began
//! together end together, and a turn waits for the last of them. Must never let a worker idle that a turn would give a job.

use std::time::Duration;

use super::Dispatcher;
use crate::job::Mono;

/// Turns follow each other at least this far apart while no worker waits for one: what finished meanwhile shares a
/// transaction, and freed permits are passed on at once instead of after a commit.
pub(super) const TURN_EVERY: Duration = Duration::from_millis(2);
/// A turn waits until no attempt has ended for so long, though no longer than two turns would. Attempts that end during a
/// turn are followed by others all at once, when it is over; jobs of like length would stay in step with the turns, and each
/// of them wait for the end of one.
const QUIET: Duration = Duration::from_micros(300);
/// With so many assigned jobs waiting for a worker, messages are looked at every [`super::GATHER_STEP`] instead of one by one.
pub(super) const FLOOD: usize = 64;

/// Few ends are counted for so long at least: two that happen to follow each other closely say nothing of how many will.
const COUNTED_FOR: Duration = Duration::from_millis(20);
/// And many, [`FLOOD`] or more, for so long.
const COUNTED_IN_FLOOD_FOR: Duration = TURN_EVERY;

/// How many attempts end in a given time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    since: Mono,
    ended: usize,
    /// In the time before, and how long that was.
    before: (usize, Duration),
}

impl Pace {
    pub(super) fn from(now: Mono) -> Pace {
        Pace { since: now, ended: 0, before: (0, COUNTED_FOR) }
    }

    /// One has ended.
    pub(super) fn count(&mut self) {
        self.ended += 1;
    }

    /// How many will end in that time.
    pub(super) fn expected(&mut self, now: Mono, within: Duration) -> usize {
        let enough = if self.ended < FLOOD { COUNTED_FOR } else { COUNTED_IN_FLOOD_FOR };
        let counted = (self.ended, now.since(self.since).max(enough));
        if now.since(self.since) >= enough {
            *self = Pace { since: now, ended: 0, before: counted };
        }
        let at_pace = |(ended, time): (usize, Duration)| {
            let ended = u128::try_from(ended).unwrap_or(u128::MAX);
            ended.saturating_mul(within.as_nanos()) / time.as_nanos().max(1)
        };
        let expected = at_pace(counted).max(at_pace(self.before));
        usize::try_from(expected).unwrap_or(usize::MAX)
    }
}

/// Settlements that no turn has written yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    /// When the first was seen.
    since: Mono,
    /// When the last was seen.
    last: Mono,
    count: usize,
}

impl Pending {
    /// When nothing more is expected to join them.
    fn quiet_at(self) -> Mono {
        self.last.plus(QUIET).min(self.since.plus(2 * TURN_EVERY))
    }
}

impl Dispatcher {
    /// How long the next turn is put off, for nobody waits for it: no worker lacks a job that a lease would give it, in a flood
    /// the workers have more to do than has been done, and either the last turn is fresh or attempts are just ending. Those count
    /// only while fewer jobs wait for workers than there are, for then it is permits that are short; where half as many as run
    /// have ended, the turn is made as soon as it is quiet, lest it meet the other half. A lone job is settled at once.
    pub(super) fn hold_off(&mut self, now: Mono) -> Option<Duration> {
        let (unstarted, count) = (self.jobs.len(), self.settlements.len());
        self.pending = match self.pending {
            _ if count == 0 => None,
            Some(pending) if pending.count == count => Some(pending),
            before => Some(Pending { since: before.map_or(now, |it| it.since), last: now, count }),
        };
        let may = self.is_running()
            && self.in_flight > 0
            && !self.frontier.has_claims()
            && (unstarted < FLOOD || unstarted > count);
        let spaced = self.turn_began.plus(TURN_EVERY);
        let at = match self.pending.filter(|_| unstarted < self.options.workers) {
            Some(pending) if 2 * count >= self.in_flight => pending.quiet_at(),
            Some(pending) => pending.quiet_at().max(spaced),
            None => spaced,
        };
        (may && now < at).then(|| at.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_that_of_a_while_and_not_of_two_ends_in_a_row() {
        let ms = Duration::from_millis;
        let start = Mono(ms(1_000));
        let mut pace = Pace::from(start);
        let mut counted = |ends: usize, at: u64| {
            (0..ends).for_each(|_| pace.count());
            pace.expected(start.plus(ms(at)), ms(10))
        };
        assert_eq!(counted(1, 0), 0, "one end says nothing");
        assert_eq!(counted(39, 10), 20, "forty in the first 20 ms at least");
        assert_eq!(counted(20, 20), 30);
        assert_eq!(counted(0, 21), 30, "the time before counts while little is known of this one");
        assert_eq!(counted(400, 22), 2_000, "many say more");
        assert_eq!(counted(0, 23), 2_000);
        assert_eq!(counted(10, 1_023), 0, "what was long ago is forgotten");
    }
}
