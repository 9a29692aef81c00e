//! The state machine of a job: one total table, consulted for every change (invariant 1).
//!
//! ```text
//!             Lease                       Finish*
//!   queued ---------> in_progress ---------------------> done | skipped | error
//!     ^                |  Retry, Defer, HandBack, Lose          |
//!     +----------------+                                        |
//!     +---------------------------------------------------------+  Requeue
//! ```

use std::fmt;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waiting to be leased (now, or after its time has come).
    Queued,
    /// Leased by a live owner.
    InProgress,
    /// Finished with what was asked for.
    Done,
    /// Finished, and there was nothing to be had: not a failure.
    Skipped,
    /// Finished without success after its attempts.
    Error,
}

/// What may happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// An owner takes it.
    Lease,
    /// It ended done.
    FinishDone,
    /// It ended skipped.
    FinishSkipped,
    /// It ended in error.
    FinishError,
    /// The attempt failed and is to be made again.
    Retry,
    /// It must wait for another key; no attempt is lost.
    Defer,
    /// It was leased but not finished by a stopping owner; no attempt is lost.
    HandBack,
    /// Its owner died; the attempt is given back and the loss counted.
    Lose,
    /// Its owner died for the last permitted time.
    Crash,
    /// A person put it back to be run again.
    Requeue,
}

/// An event that has no place in the state it met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {state} cannot take the event {event:?}")]
pub struct IllegalEvent {
    /// The state the job was in.
    pub state: State,
    /// The event that was offered.
    pub event: Event,
}

impl State {
    /// Every state, in the order in which `stats` prints them.
    pub const ALL: [State; 5] =
        [State::Queued, State::InProgress, State::Done, State::Skipped, State::Error];

    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalEvent`] when the table has no such transition.
    pub fn next(self, event: Event) -> Result<State, IllegalEvent> {
        use Event as E;
        use State as S;
        let illegal = Err(IllegalEvent { state: self, event });
        match (self, event) {
            (S::Queued, E::Lease) => Ok(S::InProgress),
            (S::InProgress, E::FinishDone) => Ok(S::Done),
            (S::InProgress, E::FinishSkipped) => Ok(S::Skipped),
            (S::InProgress, E::FinishError | E::Crash) => Ok(S::Error),
            (S::InProgress, E::Retry | E::Defer | E::HandBack | E::Lose) => Ok(S::Queued),
            (S::Done | S::Skipped | S::Error, E::Requeue) => Ok(S::Queued),
            (S::Queued, _) | (S::InProgress, _) | (S::Done | S::Skipped | S::Error, _) => illegal,
        }
    }

    /// Whether the job is over unless a person requeues it.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, State::Done | State::Skipped | State::Error)
    }

    /// The name in the contract: `queued`, `in_progress`, `done`, `skipped`, `error`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::InProgress => "in_progress",
            State::Done => "done",
            State::Skipped => "skipped",
            State::Error => "error",
        }
    }

    /// The state of that name, or `None`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }

    /// The integer a store keeps. Never renumbered: it is in people's databases.
    #[must_use]
    pub fn code(self) -> i64 {
        match self {
            State::Queued => 0,
            State::Done => 1,
            State::Skipped => 2,
            State::Error => 3,
            State::InProgress => 4,
        }
    }

    /// The state a store kept as `code`, or `None` for a number no version wrote.
    #[must_use]
    pub fn from_code(code: i64) -> Option<State> {
        State::ALL.into_iter().find(|state| state.code() == code)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 10] = [
        Event::Lease,
        Event::FinishDone,
        Event::FinishSkipped,
        Event::FinishError,
        Event::Retry,
        Event::Defer,
        Event::HandBack,
        Event::Lose,
        Event::Crash,
        Event::Requeue,
    ];

    /// The whole table, written out a second time as a picture: `.` is illegal.
    #[test]
    fn the_table_is_total_and_is_this_one() {
        let picture: String = State::ALL
            .iter()
            .map(|state| {
                let row: String = EVENTS
                    .iter()
                    .map(|event| match state.next(*event) {
                        Ok(State::Queued) => 'Q',
                        Ok(State::InProgress) => 'P',
                        Ok(State::Done) => 'D',
                        Ok(State::Skipped) => 'S',
                        Ok(State::Error) => 'E',
                        Err(illegal) => {
                            assert_eq!(illegal, IllegalEvent { state: *state, event: *event });
                            '.'
                        }
                    })
                    .collect();
                format!("{:<12}{row}\n", state.name())
            })
            .collect();
        assert_eq!(
            picture,
            "queued      P.........\n\
             in_progress .DSEQQQQE.\n\
             done        .........Q\n\
             skipped     .........Q\n\
             error       .........Q\n"
        );
    }

    #[test]
    fn names_and_codes_round_trip_and_are_distinct() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
            assert_eq!(State::from_code(state.code()), Some(state));
        }
        assert_eq!(State::from_name("Done"), None);
        assert_eq!(State::from_code(5), None);
    }
}
