//! What came of an attempt, and what that makes of the job.

use std::fmt;

use super::{Key, Note, Observation, RetryPolicy, State, WallMs};

/// The largest checkpoint, in bytes.
pub const MAX_CHECKPOINT_BYTES: usize = 64 * 1024;

macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every reason of this family.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The name in the contract.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// The integer a store keeps. Never renumbered: it is in people's databases.
            #[must_use]
            pub fn code(self) -> i64 {
                match self { $($name::$variant => $code,)+ }
            }
        }
    };
}

reasons! {
    /// Why a job is done.
    DoneReason {
        /// The work was done now.
        Ok = 1 "ok",
        /// The server says what we hold is still current.
        NotModified = 2 "not_modified",
        /// The whole file was there already.
        Exists = 3 "exists",
    }
}

reasons! {
    /// Why there was nothing to do.
    SkipReason {
        /// No open copy is known.
        NoOpenCopy = 20 "no_open_copy",
        /// robots.txt forbids it.
        Robots = 21 "robots",
        /// A media type that was not asked for.
        PolicyType = 22 "policy_type",
        /// Larger than was asked for.
        PolicySize = 23 "policy_size",
        /// A private address, and those are refused.
        PrivateAddress = 24 "private_address",
    }
}

reasons! {
    /// Why an attempt or a job failed.
    ErrorReason {
        /// The server answered with an error status.
        HttpStatus = 40 "http_status",
        /// Connecting, reading or the whole request took too long.
        Timeout = 41 "timeout",
        /// The host name does not resolve.
        Dns = 42 "dns",
        /// No connection, or it broke.
        Connect = 43 "connect",
        /// The certificate or the handshake is bad.
        Tls = 44 "tls",
        /// More bytes than allowed.
        TooLarge = 45 "too_large",
        /// The bytes are not what was asked for.
        UnexpectedContent = 46 "unexpected_content",
        /// A login or paywall page.
        Wall = 47 "wall",
        /// A "prove you are human" page.
        Challenge = 48 "challenge",
        /// Fewer bytes than declared.
        Truncated = 49 "truncated",
        /// Another size than published.
        SizeMismatch = 50 "size_mismatch",
        /// Another checksum than expected.
        ChecksumMismatch = 51 "checksum_mismatch",
        /// Too many redirects, a loop, or one that leads nowhere.
        Redirect = 52 "redirect",
        /// Told to slow down.
        RateLimited = 53 "rate_limited",
        /// The host has been failing for too long.
        HostDown = 54 "host_down",
        /// The command ended with a failure status.
        ExitStatus = 55 "exit_status",
        /// The job's own deadline passed.
        Deadline = 56 "deadline",
        /// Its process died too often while holding it.
        Crashed = 57 "crashed",
        /// Its handler panicked.
        Panic = 58 "panic",
        /// The line does not say what the handler needs.
        BadPayload = 59 "bad_payload",
        /// A fault of orch or of this machine.
        Internal = 60 "internal",
    }
}

/// Why a finished job ended as it did, or why the last attempt of a queued one failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It is done.
    Done(DoneReason),
    /// It was skipped.
    Skipped(SkipReason),
    /// It failed.
    Error(ErrorReason),
}

impl Reason {
    /// Every reason there is.
    pub fn all() -> impl Iterator<Item = Reason> {
        let done = DoneReason::ALL.iter().copied().map(Reason::Done);
        let skipped = SkipReason::ALL.iter().copied().map(Reason::Skipped);
        let error = ErrorReason::ALL.iter().copied().map(Reason::Error);
        done.chain(skipped).chain(error)
    }

    /// The name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::Done(reason) => reason.name(),
            Reason::Skipped(reason) => reason.name(),
            Reason::Error(reason) => reason.name(),
        }
    }

    /// The reason of that name, or `None`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Reason> {
        Reason::all().find(|reason| reason.name() == name)
    }

    /// The integer a store keeps.
    #[must_use]
    pub fn code(self) -> i64 {
        match self {
            Reason::Done(reason) => reason.code(),
            Reason::Skipped(reason) => reason.code(),
            Reason::Error(reason) => reason.code(),
        }
    }

    /// The reason a store kept as `code`, or `None` for a number no version wrote.
    #[must_use]
    pub fn from_code(code: i64) -> Option<Reason> {
        Reason::all().find(|reason| reason.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a handler says of its attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Finished with what was asked for.
    Done {
        /// How.
        reason: DoneReason,
        /// The particulars.
        note: Note,
    },
    /// Finished: there was nothing to be had.
    Skipped {
        /// Why.
        reason: SkipReason,
        /// The particulars.
        note: Note,
    },
    /// Failed in a way that may pass: try again while attempts are left.
    Retry {
        /// Why.
        reason: ErrorReason,
        /// The particulars.
        note: Note,
        /// Milliseconds the other side asked to be left alone; `None` or 0: the job's own backoff.
        after_ms: Option<u64>,
        /// What was learned, so the next attempt need not ask again (at most [`MAX_CHECKPOINT_BYTES`]).
        checkpoint: Option<Vec<u8>>,
    },
    /// Failed in a way that will not pass.
    Fail {
        /// Why.
        reason: ErrorReason,
        /// The particulars.
        note: Note,
    },
    /// Cannot go on under the key it holds: wait in line for another. Costs no attempt.
    Defer {
        /// The key to wait for.
        key: Key,
        /// Not before this time; `None`: as soon as there is a permit.
        not_before: Option<WallMs>,
        /// What was learned so far (at most [`MAX_CHECKPOINT_BYTES`]).
        checkpoint: Option<Vec<u8>>,
    },
}

impl Outcome {
    /// Done, nothing more to say.
    #[must_use]
    pub fn done() -> Outcome {
        Outcome::Done { reason: DoneReason::Ok, note: Note::default() }
    }

    /// Skipped for that reason.
    #[must_use]
    pub fn skipped(reason: SkipReason, message: impl Into<String>) -> Outcome {
        Outcome::Skipped { reason, note: Note::new(message) }
    }

    /// To be tried again, at the job's own backoff.
    #[must_use]
    pub fn retry(reason: ErrorReason, message: impl Into<String>) -> Outcome {
        Outcome::Retry { reason, note: Note::new(message), after_ms: None, checkpoint: None }
    }

    /// Failed for good.
    #[must_use]
    pub fn fail(reason: ErrorReason, message: impl Into<String>) -> Outcome {
        Outcome::Fail { reason, note: Note::new(message) }
    }

    /// What this outcome makes of a job that made attempt number `attempt` under `terms` at `now`.
    ///
    /// `uniform` are two samples from `[0, 1)` for the delay (see [`RetryPolicy::delay_ms`]). A retry
    /// whose attempts are used up ends in error, with its own reason.
    #[must_use]
    pub fn settle(self, attempt: u32, terms: RetryTerms, now: WallMs, uniform: [f64; 2]) -> Change {
        let finish = |state, reason, note| Change::Finish { state, reason, note, checkpoint: None };
        match self {
            Outcome::Done { reason, note } => finish(FinalState::Done, Reason::Done(reason), note),
            Outcome::Skipped { reason, note } => {
                finish(FinalState::Skipped, Reason::Skipped(reason), note)
            }
            Outcome::Fail { reason, note } => {
                finish(FinalState::Error, Reason::Error(reason), note)
            }
            Outcome::Retry { reason, note, checkpoint, .. } if attempt >= terms.max_attempts => {
                let (state, reason) = (FinalState::Error, Reason::Error(reason));
                Change::Finish { state, reason, note, checkpoint }
            }
            Outcome::Retry { reason, note, after_ms, checkpoint } => {
                let backoff_ms = terms.policy.delay_ms(attempt, uniform);
                let delay_ms = after_ms.filter(|ms| *ms > 0).unwrap_or(backoff_ms);
                Change::Again { not_before: now.plus_ms(delay_ms), reason, note, checkpoint }
            }
            Outcome::Defer { key, not_before, checkpoint } => {
                Change::Defer { key, not_before, checkpoint }
            }
        }
    }
}

/// How often and how a job may be retried, with config, preset and line already merged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryTerms {
    /// Attempts allowed in all, the first included.
    pub max_attempts: u32,
    /// The delays between them.
    pub policy: RetryPolicy,
}

impl RetryTerms {
    /// The terms of a job: its own `max_attempts` wins, then its preset's, then the default's preset,
    /// then `default_max_attempts`.
    #[must_use]
    pub fn merge(
        own_max_attempts: Option<u32>,
        own_policy: Option<RetryPolicy>,
        default_policy: RetryPolicy,
        default_max_attempts: u32,
    ) -> RetryTerms {
        let policy = own_policy.unwrap_or(default_policy);
        let max_attempts =
            own_max_attempts.or(policy.max_attempts).unwrap_or(default_max_attempts).max(1);
        RetryTerms { max_attempts, policy }
    }
}

/// A state in which a job is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinalState {
    /// Finished with what was asked for.
    Done,
    /// Nothing to be had.
    Skipped,
    /// Failed.
    Error,
}

impl FinalState {
    /// The same as a [`State`].
    #[must_use]
    pub fn state(self) -> State {
        match self {
            FinalState::Done => State::Done,
            FinalState::Skipped => State::Skipped,
            FinalState::Error => State::Error,
        }
    }
}

/// What a settlement writes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The job is over. The attempt counts.
    Finish {
        /// How it ended.
        state: FinalState,
        /// Why.
        reason: Reason,
        /// The particulars.
        note: Note,
        /// Replaces the checkpoint of a job that ends in error, when present: what its last attempt learned is of use if
        /// somebody puts it back.
        checkpoint: Option<Vec<u8>>,
    },
    /// Back in the queue until a time. The attempt counts.
    Again {
        /// Not before.
        not_before: WallMs,
        /// Why the attempt failed.
        reason: ErrorReason,
        /// The particulars.
        note: Note,
        /// Replaces the job's checkpoint when present.
        checkpoint: Option<Vec<u8>>,
    },
    /// Back in the queue under another key. The attempt does not count.
    Defer {
        /// The key to wait for.
        key: Key,
        /// Not before; `None`: at once.
        not_before: Option<WallMs>,
        /// Replaces the job's checkpoint when present.
        checkpoint: Option<Vec<u8>>,
    },
    /// Back in the queue as it was. The attempt does not count.
    HandBack,
}

impl Change {
    /// The event this change is in the state machine.
    #[must_use]
    pub fn event(&self) -> super::Event {
        match self {
            Change::Finish { state: FinalState::Done, .. } => super::Event::FinishDone,
            Change::Finish { state: FinalState::Skipped, .. } => super::Event::FinishSkipped,
            Change::Finish { state: FinalState::Error, .. } => super::Event::FinishError,
            Change::Again { .. } => super::Event::Retry,
            Change::Defer { .. } => super::Event::Defer,
            Change::HandBack => super::Event::HandBack,
        }
    }

    /// What the resolvers of the attempt yielded. A change that counts no attempt tells of none: its handler keeps
    /// that in the checkpoint until the attempt ends.
    #[must_use]
    pub fn observed(&self) -> &[Observation] {
        match self {
            Change::Finish { note, .. } | Change::Again { note, .. } => &note.observed,
            Change::Defer { .. } | Change::HandBack => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Preset, RetryPolicy};

    const POLICY: RetryPolicy = RetryPolicy {
        strategy: crate::job::Strategy::Fixed,
        base_ms: 1_000,
        max_ms: 1_000,
        jitter: crate::job::Jitter::UpToMs(0),
        max_attempts: None,
    };
    const TERMS: RetryTerms = RetryTerms { max_attempts: 3, policy: POLICY };

    fn settled(outcome: Outcome, attempt: u32) -> Change {
        outcome.settle(attempt, TERMS, WallMs(10_000), [0.0; 2])
    }

    #[test]
    fn names_and_codes_are_distinct_and_round_trip() {
        let all: Vec<Reason> = Reason::all().collect();
        assert_eq!(all.len(), 3 + 5 + 21);
        for reason in &all {
            assert_eq!(Reason::from_name(reason.name()), Some(*reason));
            assert_eq!(Reason::from_code(reason.code()), Some(*reason));
        }
        assert_eq!(Reason::from_name("okay"), None);
        assert_eq!(Reason::from_code(0), None);
    }

    #[test]
    fn a_retry_comes_back_until_its_attempts_are_used_up() {
        let retry = || Outcome::retry(ErrorReason::Timeout, "slow");
        for attempt in 1..3 {
            assert!(matches!(
                settled(retry(), attempt),
                Change::Again { not_before: WallMs(11_000), reason: ErrorReason::Timeout, .. }
            ));
        }
        assert!(matches!(
            settled(retry(), 3),
            Change::Finish {
                state: FinalState::Error,
                reason: Reason::Error(ErrorReason::Timeout),
                ..
            }
        ));
    }

    #[test]
    fn retry_after_replaces_the_backoff_unless_it_is_zero() {
        let busy = |after_ms| Outcome::Retry {
            reason: ErrorReason::RateLimited,
            note: Note::default(),
            after_ms,
            checkpoint: None,
        };
        let not_before = |change| match change {
            Change::Again { not_before, .. } => not_before.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(not_before(settled(busy(Some(7_000)), 1)), 17_000);
        assert_eq!(not_before(settled(busy(Some(0)), 1)), 11_000);
        assert_eq!(not_before(settled(busy(None), 1)), 11_000);
    }

    #[test]
    fn what_the_last_attempt_learned_goes_with_its_end() {
        let outcome = Outcome::Retry {
            reason: ErrorReason::Truncated,
            note: Note::default(),
            after_ms: None,
            checkpoint: Some(b"kept".to_vec()),
        };
        let Change::Finish { checkpoint, .. } = settled(outcome, 3) else { panic!() };
        assert_eq!(checkpoint.as_deref(), Some(&b"kept"[..]));
    }

    #[test]
    fn every_other_outcome_maps_to_its_change() {
        assert!(matches!(
            settled(Outcome::done(), 1),
            Change::Finish { state: FinalState::Done, reason: Reason::Done(DoneReason::Ok), .. }
        ));
        assert!(matches!(
            settled(Outcome::skipped(SkipReason::Robots, ""), 1),
            Change::Finish { state: FinalState::Skipped, .. }
        ));
        assert!(matches!(
            settled(Outcome::fail(ErrorReason::Tls, ""), 1),
            Change::Finish { state: FinalState::Error, .. }
        ));
        let defer = Outcome::Defer { key: Key::default(), not_before: None, checkpoint: None };
        assert!(matches!(settled(defer, 9), Change::Defer { .. }));
    }

    #[test]
    fn the_line_wins_over_its_preset_and_the_preset_over_the_config() {
        let preset = Preset::Standard.policy();
        let max = |own, policy| RetryTerms::merge(own, policy, POLICY, 3).max_attempts;
        assert_eq!(max(Some(9), Some(preset)), 9);
        assert_eq!(max(None, Some(preset)), 4);
        assert_eq!(max(None, Some(POLICY)), 3);
        assert_eq!(max(None, None), 3);
        assert_eq!(max(Some(0), None), 1);
        assert_eq!(RetryTerms::merge(None, None, preset, 3).max_attempts, 4);
    }
}
