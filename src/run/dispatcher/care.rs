//! How much may be leased and assigned, given how careful the run must be with suspects.

use super::pace::{FLOOD, TURN_EVERY};
use super::{Dispatcher, MAX_AHEAD, Phase};
use crate::job::Suspicion;
use crate::run::frontier::Appetite;

/// Every so many turns suspects are given a chance beside a backlog of others.
const SUSPECTS_EVERY_TURNS: u32 = 256;

/// How careful the next turn must be: as careful as the jobs that are left demand.
#[derive(Debug)]
pub(super) struct Care {
    level: Suspicion,
    turns_since_search: u32,
    /// Looking for suspects beside a backlog of others, lest they wait for its end.
    searching: bool,
}

impl Care {
    /// A run begins looking for suspects: it may have been started because another died.
    pub(super) fn at_start() -> Care {
        Care { level: Suspicion::FreeWorker, turns_since_search: 0, searching: true }
    }

    /// Learns from a turn that wanted something: whether some lane had ready jobs but gave none (`short`), whether
    /// suspects were among the jobs it leased, and how many it leased.
    pub(super) fn after_turn(&mut self, short: bool, suspects: bool, leased: usize) {
        self.turns_since_search += 1;
        if short && (leased == 0 || self.searching) {
            // Ready jobs, yet none this careful: what is left there is more suspect.
            self.level = self.level.more();
        } else if !suspects {
            self.searching = self.turns_since_search >= SUSPECTS_EVERY_TURNS;
            self.level = if self.searching { Suspicion::FreeWorker } else { Suspicion::None };
            if self.searching {
                self.turns_since_search = 0;
            }
        }
    }
}

impl Dispatcher {
    /// How many more jobs may be assigned now.
    pub(super) fn room(&self) -> usize {
        let ahead = if self.care.level == Suspicion::None { self.ahead } else { 0 };
        let kept = self.busy + self.frontier.places_under_way();
        (self.options.workers + ahead).saturating_sub(kept)
    }

    /// Half of what may be assigned.
    pub(super) fn half(&self) -> usize {
        (self.options.workers + self.ahead).div_ceil(2)
    }

    /// How much may be leased now, given how careful we must be.
    pub(super) fn appetite(&self) -> Appetite {
        let max_losses = |care: Suspicion| care.max_losses(self.options.max_job_losses);
        let nothing = Appetite::NOTHING;
        // Held jobs take none of it: those that may start have started before the turn, the others wait for their key.
        let room = self.room();
        // In a flood half of what is assigned is leased while the other half is run.
        let room = if self.ahead < FLOOD { room } else { room.min(self.half()) };
        match self.care.level {
            _ if self.phase != Phase::Running => nothing,
            Suspicion::None => {
                Appetite { room, lease_ahead: true, max_losses: max_losses(self.care.level) }
            }
            Suspicion::FreeWorker => {
                Appetite { room, lease_ahead: false, max_losses: max_losses(self.care.level) }
            }
            Suspicion::OneAtATime if self.wary > 0 => {
                Appetite { room, lease_ahead: false, max_losses: max_losses(Suspicion::FreeWorker) }
            }
            Suspicion::OneAtATime => Appetite {
                room: room.min(1),
                lease_ahead: false,
                max_losses: max_losses(self.care.level),
            },
            Suspicion::Alone if self.in_flight > 0 || self.frontier.held() > 0 => nothing,
            Suspicion::Alone => {
                Appetite { room: 1, lease_ahead: false, max_losses: max_losses(self.care.level) }
            }
        }
    }

    /// Learns how far to assign ahead: what the workers get through in a few turns at their pace.
    pub(super) fn measure(&mut self) {
        let now = self.shared.clock.mono();
        let horizon = 4 * TURN_EVERY + 2 * now.since(self.turn_began);
        self.ahead = self.pace.expected(now, horizon).min(MAX_AHEAD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels after each turn: (short, suspects, leased).
    fn levels(care: &mut Care, turns: &[(bool, bool, usize)]) -> Vec<Suspicion> {
        let after = |&(short, suspects, leased)| {
            care.after_turn(short, suspects, leased);
            care.level
        };
        turns.iter().map(after).collect()
    }

    #[test]
    fn care_grows_until_something_is_leased_and_stays_while_suspects_come() {
        let mut care = Care::at_start();
        assert_eq!(care.level, Suspicion::FreeWorker);
        let turns = [(true, false, 0), (true, false, 0), (true, false, 0), (false, true, 1)];
        let alone = Suspicion::Alone;
        assert_eq!(levels(&mut care, &turns), [Suspicion::OneAtATime, alone, alone, alone]);
    }

    #[test]
    fn care_returns_to_none_once_the_suspects_are_through() {
        let mut care = Care::at_start();
        let turns = [(true, false, 0), (false, true, 2), (false, false, 5), (false, false, 0)];
        let (wary, none) = (Suspicion::OneAtATime, Suspicion::None);
        assert_eq!(levels(&mut care, &turns), [wary, wary, none, none]);
    }

    #[test]
    fn a_backlog_of_others_is_interrupted_for_suspects_now_and_then() {
        let mut care = Care::at_start();
        let busy = vec![(true, false, 100); 1_000];
        levels(&mut care, &[(false, false, 1)]);
        let seen = levels(&mut care, &busy);
        let none = seen.iter().filter(|level| **level == Suspicion::None).count();
        assert!(seen.contains(&Suspicion::Alone), "suspects wait for the end of the backlog");
        assert!(none > 200, "the others were hardly leased for at all: {none}");
    }
}
