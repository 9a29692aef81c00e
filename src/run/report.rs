//! How a run went, and why it could not go on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::stop::StopCause;
use crate::handler::MachineFault;
use crate::job::Reason;
use crate::queue::store::{Counts, Remaining, StoreError};

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The store could not be used, and patience is over. Nothing acknowledged is lost; what was leased is
    /// free again once this process has ended.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A handler said that no job can be done on this machine as it is. Its job was handed back, no attempt was
    /// counted, and what else ran was let finish.
    #[error(transparent)]
    Machine(#[from] MachineFault),
    /// The system gave no thread or descriptor.
    #[error("cannot start {what}: {source}")]
    Thread {
        /// What was to be started.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RunReport {
    /// Jobs that ended done in this run.
    pub done: u64,
    /// Jobs that ended skipped.
    pub skipped: u64,
    /// Jobs that ended in error, those that crashed their owners included.
    pub failed: u64,
    /// Attempts that failed and will be, or were, made again.
    pub retried: u64,
    /// Attempts that went back in line for another key.
    pub deferred: u64,
    /// Leases given back because the run stopped.
    pub handed_back: u64,
    /// Outcomes that were refused because the lease had been lost.
    pub lost: u64,
    /// Finished jobs by reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// How long the run took.
    pub elapsed: Duration,
    /// The whole queue at the end.
    pub queue: Counts,
    /// What is left.
    pub left: Remaining,
    /// Why it ended early, if it did.
    pub stopped: Option<StopCause>,
    /// Attempts that did not return when cancelled; their leases end with the process.
    pub abandoned: usize,
}

/// What a dispatcher counts as it goes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) done: u64,
    pub(super) skipped: u64,
    pub(super) failed: u64,
    pub(super) retried: u64,
    pub(super) deferred: u64,
    pub(super) handed_back: u64,
    pub(super) lost: u64,
    pub(super) crashed: u64,
    pub(super) reasons: BTreeMap<Reason, u64>,
    /// The owner is void and must be renewed before the next turn.
    pub(super) owner_lost: bool,
}

impl Tally {
    pub(super) fn report(
        mut self,
        elapsed: Duration,
        queue: Counts,
        left: Remaining,
        stopped: Option<StopCause>,
        abandoned: usize,
    ) -> RunReport {
        if self.crashed > 0 {
            let crashed = Reason::Error(crate::job::ErrorReason::Crashed);
            *self.reasons.entry(crashed).or_default() += self.crashed;
        }
        RunReport {
            done: self.done,
            skipped: self.skipped,
            failed: self.failed + self.crashed,
            retried: self.retried,
            deferred: self.deferred,
            handed_back: self.handed_back,
            lost: self.lost,
            reasons: self.reasons,
            elapsed,
            queue,
            left,
            stopped,
            abandoned,
        }
    }
}
