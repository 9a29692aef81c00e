//! What one attempt came to, in one word: the `outcome` of metrics, spans and log lines.

use crate::job::{Reason, State};
use crate::run::event::Settled;

/// What one attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Finished with what was asked for.
    Done,
    /// Finished: there was nothing to be had.
    Skipped,
    /// Finished without success.
    Error,
    /// Failed, to be tried again.
    Retry,
    /// Waits for another key; no attempt was lost.
    Deferred,
    /// Given back unfinished by a stopping run; no attempt was lost.
    HandedBack,
    /// Somebody else owns the job by now: nothing was written.
    LeaseLost,
}

impl Ending {
    /// What `settled` came to.
    #[must_use]
    pub fn of(settled: &Settled<'_>) -> Ending {
        match settled.state {
            None => Ending::LeaseLost,
            Some(State::Done) => Ending::Done,
            Some(State::Skipped) => Ending::Skipped,
            Some(State::Error) => Ending::Error,
            Some(State::Queued | State::InProgress) => Ending::of_unfinished(settled),
        }
    }

    fn of_unfinished(settled: &Settled<'_>) -> Ending {
        if settled.deferred_to.is_some() {
            Ending::Deferred
        } else if matches!(settled.reason, Some(Reason::Error(_))) {
            Ending::Retry
        } else {
            Ending::HandedBack
        }
    }

    /// Whether the job is over.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Ending::Done | Ending::Skipped | Ending::Error)
    }

    /// Its name: `done`, `skipped`, `error`, `retry`, `deferred`, `handed_back`, `lease_lost`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Ending::Done => "done",
            Ending::Skipped => "skipped",
            Ending::Error => "error",
            Ending::Retry => "retry",
            Ending::Deferred => "deferred",
            Ending::HandedBack => "handed_back",
            Ending::LeaseLost => "lease_lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{done, failed, leased, retried};
    use super::*;
    use crate::job::Key;

    #[test]
    fn every_way_to_settle_has_one_ending() {
        let job = leased("a");
        let key = Key::default();
        let check = |settled: Settled<'_>, name: &str, is_final: bool| {
            let ending = Ending::of(&settled);
            assert_eq!((ending.name(), ending.is_final()), (name, is_final), "{settled:?}");
        };
        let queued = || Settled { state: Some(State::Queued), reason: None, ..done(&job) };
        check(done(&job), "done", true);
        check(Settled { state: Some(State::Skipped), ..done(&job) }, "skipped", true);
        check(failed(&job, ""), "error", true);
        check(retried(&job, ""), "retry", false);
        check(Settled { deferred_to: Some(&key), ..queued() }, "deferred", false);
        check(queued(), "handed_back", false);
        check(Settled { state: None, ..failed(&job, "") }, "lease_lost", false);
    }
}
