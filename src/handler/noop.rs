//! `noop`: waits as long as it is told to and comes to what it is told to, for rehearsing limits and policies.
//!
//! Must cost next to nothing: a drain of no-op jobs measures the queue, not this.
//!
//! | field | meaning | default |
//! |---|---|---|
//! | `sleep_ms` | wait so many milliseconds first; ends early when cancelled | 0 |
//! | `outcome` | `done`, `skipped` (reason `no_open_copy`: the commonest), `error` (reason `internal`), `retry` (the same, tried again), `panic` | `done` |

use std::time::Duration;

use serde::Deserialize;

use super::{Context, Handler, Ran};
use crate::job::{ErrorReason, Outcome, SkipReason};

/// The handler of kind `noop`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Noop;

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    sleep_ms: u64,
    #[serde(default)]
    outcome: Asked,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Asked {
    #[default]
    Done,
    Skipped,
    Error,
    Retry,
    Panic,
}

impl Handler for Noop {
    fn run(&self, context: &mut Context<'_>) -> Ran {
        if asks_for_nothing(context.payload()) {
            return Outcome::done().into();
        }
        match context.payload_as::<Payload>() {
            Ok(payload) => payload.rehearse(context).into(),
            Err(error) => Outcome::fail(ErrorReason::BadPayload, error.to_string()).into(),
        }
    }
}

/// Whether the payload surely has none of our fields. A backslash could spell one otherwise.
fn asks_for_nothing(payload: &str) -> bool {
    !["sleep_ms", "outcome", "\\"].iter().any(|part| payload.contains(part))
}

impl Payload {
    fn rehearse(self, context: &Context<'_>) -> Outcome {
        if self.sleep_ms > 0
            && let Some(reason) = context.cancel().wait(Duration::from_millis(self.sleep_ms))
        {
            return reason.outcome();
        }
        match self.outcome {
            Asked::Done => Outcome::done(),
            Asked::Skipped => Outcome::skipped(SkipReason::NoOpenCopy, "asked to skip"),
            Asked::Error => Outcome::fail(ErrorReason::Internal, "asked to fail"),
            Asked::Retry => Outcome::retry(ErrorReason::Internal, "asked to be tried again"),
            Asked::Panic => panic!("asked to panic"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::CancelReason;
    use super::super::context::testing::{Attempt, run};
    use super::*;

    fn check(payload: &str, expected: Outcome) {
        assert_eq!(run(&Noop, payload), expected, "{payload}");
    }

    #[test]
    fn it_comes_to_what_it_is_told() {
        let internal = ErrorReason::Internal;
        check("{}", Outcome::done());
        check(r#"{"id":"a","kind":"noop"}"#, Outcome::done());
        check(r#"{"sleep_ms":1}"#, Outcome::done());
        check(r#"{"outcome":"done"}"#, Outcome::done());
        check(
            r#"{"outcome":"skipped"}"#,
            Outcome::skipped(SkipReason::NoOpenCopy, "asked to skip"),
        );
        check(r#"{"outcome":"error"}"#, Outcome::fail(internal, "asked to fail"));
        check(r#"{"out\u0063ome":"error"}"#, Outcome::fail(internal, "asked to fail"));
        check(r#"{"outcome":"retry"}"#, Outcome::retry(internal, "asked to be tried again"));
    }

    #[test]
    fn asked_to_panic_it_panics() {
        let attempt = Attempt::of(r#"{"outcome":"panic"}"#);
        assert!(catch_unwind(AssertUnwindSafe(|| attempt.run(&Noop))).is_err());
    }

    #[test]
    fn a_cancelled_wait_ends_at_once() {
        for reason in [CancelReason::Deadline, CancelReason::Stop] {
            let attempt = Attempt::of(r#"{"sleep_ms":86400000}"#);
            attempt.cancel.cancel(reason);
            assert_eq!(attempt.run(&Noop), reason.outcome());
        }
    }

    #[test]
    fn a_bad_field_is_named() {
        for (payload, field) in [
            (r#"{"sleep_ms":-1}"#, "sleep_ms: "),
            (r#"{"sleep_ms":"5"}"#, "sleep_ms: "),
            (r#"{"outcome":"great"}"#, "outcome: "),
            (r#"{"outcome":null}"#, "outcome: "),
        ] {
            let Outcome::Fail { reason: ErrorReason::BadPayload, note } = run(&Noop, payload)
            else {
                panic!("{payload} was accepted");
            };
            assert!(note.message.starts_with(field), "{}", note.message);
        }
    }
}
