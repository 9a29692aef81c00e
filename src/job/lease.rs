//! A lease: a job owned for a while, fenced by a token that only grows.

use std::fmt;
use std::sync::Arc;

use super::{ArtifactId, Key, Kind, Priority, RetryPolicy, WallMs};

/// The row of a job inside one store. Not stable between stores; people see artifact ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobRow(pub i64);

/// A per-job integer raised by every lease and by every change made without one. Only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i64);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0.saturating_add(1))
    }
}

/// Names one lease of one job. A settlement is accepted only with the token of the lease in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseToken {
    /// Which job.
    pub job: JobRow,
    /// Which of its leases; given to commands as `ORCH_FENCE`.
    pub epoch: Epoch,
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job.0, self.epoch.0)
    }
}

/// A (kind, key, tag) triple that jobs queue up under, as the store numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub i64);

/// A lane: jobs of one kind under one key, first in first out inside a priority.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Its number in this store.
    pub id: LaneId,
    /// Which handler its jobs want.
    pub kind: Kind,
    /// What limits them.
    pub key: Key,
    /// The tag they share turns by, where they have one: see [`crate::queue::store::MAX_TAG_LANES`].
    pub tag: Option<Box<str>>,
}

/// A leased job, with all its handler needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// The lease.
    pub token: LeaseToken,
    /// The job's name.
    pub artifact_id: ArtifactId,
    /// When it was enqueued.
    pub enqueued_at: WallMs,
    /// The lane it was leased from.
    pub lane: Arc<Lane>,
    /// Its priority.
    pub priority: Priority,
    /// Which attempt of the present allowance this is: 1 for the first.
    pub attempt: u32,
    /// Attempts made over its whole life, this one included.
    pub attempts_total: u32,
    /// Owner deaths it was held in.
    pub losses: u32,
    /// Its own bound on attempts.
    pub max_attempts: Option<u32>,
    /// Its own bound on one attempt, in seconds.
    pub timeout_seconds: Option<u32>,
    /// Its own retry policy.
    pub retry: Option<RetryPolicy>,
    /// The JSON object it came as.
    pub payload: String,
    /// What an earlier attempt left.
    pub checkpoint: Option<Vec<u8>>,
    /// The particulars of the last time it ended done (a JSON object), when it ran before.
    pub previous: Option<String>,
}

/// How carefully a job is started, given how many of its owners died holding it (invariant 2).
///
/// A process that dies takes everything it held with it, and nobody can tell afterwards which job
/// did it. So the more deaths a job was present at, the fewer others are put at risk beside it:
/// the guilty one keeps dying alone and reaches the limit, the bystanders finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suspicion {
    /// No death yet: may be leased ahead.
    None,
    /// One death: leased only for a worker that is free now.
    FreeWorker,
    /// Two deaths: and only one such job at a time.
    OneAtATime,
    /// Three deaths, or one short of the limit: runs with nothing else in this process.
    Alone,
}

impl Suspicion {
    /// How carefully a job with `losses` owner deaths is started, where `max_job_losses` end it.
    #[must_use]
    pub fn of(losses: u32, max_job_losses: u32) -> Suspicion {
        match losses {
            0 => Suspicion::None,
            n if n >= 3 || n.saturating_add(1) >= max_job_losses => Suspicion::Alone,
            1 => Suspicion::FreeWorker,
            _ => Suspicion::OneAtATime,
        }
    }

    /// The most losses a job may have and still be started this carefully.
    #[must_use]
    pub fn max_losses(self, max_job_losses: u32) -> u32 {
        if self == Suspicion::Alone {
            return u32::MAX;
        }
        (0..3).rev().find(|n| Suspicion::of(*n, max_job_losses) <= self).unwrap_or(0)
    }

    /// The next more careful way; [`Suspicion::Alone`] is the last.
    #[must_use]
    pub fn more(self) -> Suspicion {
        match self {
            Suspicion::None => Suspicion::FreeWorker,
            Suspicion::FreeWorker => Suspicion::OneAtATime,
            Suspicion::OneAtATime | Suspicion::Alone => Suspicion::Alone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_grows_with_every_death_and_never_relaxes() {
        let with_five: Vec<_> = (0..6).map(|n| Suspicion::of(n, 5)).collect();
        assert_eq!(
            with_five,
            [
                Suspicion::None,
                Suspicion::FreeWorker,
                Suspicion::OneAtATime,
                Suspicion::Alone,
                Suspicion::Alone,
                Suspicion::Alone
            ]
        );
        assert_eq!(Suspicion::of(1, 2), Suspicion::Alone);
        assert_eq!(Suspicion::of(0, 1), Suspicion::None);
        for max in 1..10 {
            for losses in 0..20 {
                assert!(Suspicion::of(losses, max) <= Suspicion::of(losses + 1, max));
            }
        }
    }

    #[test]
    fn max_losses_is_the_inverse_of_suspicion() {
        for max in 1..8 {
            let mut level = Suspicion::None;
            loop {
                let most = level.max_losses(max);
                assert!(Suspicion::of(most, max) <= level);
                if level == Suspicion::Alone {
                    break;
                }
                assert!(Suspicion::of(most + 1, max) > level, "{level:?} of {max}");
                level = level.more();
            }
        }
    }

    #[test]
    fn an_epoch_only_grows() {
        assert_eq!(Epoch(3).next(), Epoch(4));
        assert_eq!(Epoch(i64::MAX).next(), Epoch(i64::MAX));
    }
}
