//! A job as `list`, `show` and `export` put it into JSON: names that scripts may rely on.

use serde::Serialize;
use serde_json::value::RawValue;

use super::output::rfc3339;
use crate::job::{Jitter, RetryPolicy};
use crate::queue::store::{AttemptView, JobView};

/// What every listing says of a job.
#[derive(Debug, Serialize)]
pub(super) struct JobJson<'a> {
    artifact_id: &'a str,
    kind: &'a str,
    state: &'static str,
    reason: Option<&'static str>,
    message: &'a str,
    priority: &'static str,
    host: Option<&'a str>,
    resolver: Option<&'a str>,
    tags: &'a [String],
    /// Of the present allowance.
    attempts: u32,
    /// Over its whole life.
    attempts_total: u32,
    /// Deaths of its process.
    losses: u32,
    enqueued_at: Option<String>,
    changed_at: Option<String>,
    not_before: Option<String>,
    elapsed_ms: Option<u64>,
}

impl<'a> JobJson<'a> {
    pub(super) fn new(job: &'a JobView) -> JobJson<'a> {
        JobJson {
            artifact_id: job.artifact_id.as_str(),
            kind: job.kind.as_str(),
            state: job.state.name(),
            reason: job.reason.map(|reason| reason.name()),
            message: &job.message,
            priority: job.priority.name(),
            host: job.key.host.as_deref(),
            resolver: job.key.resolver.as_deref(),
            tags: &job.tags,
            attempts: job.attempts,
            attempts_total: job.attempts_total,
            losses: job.losses,
            enqueued_at: rfc3339(job.enqueued_at),
            changed_at: rfc3339(job.changed_at),
            not_before: job.not_before.and_then(rfc3339),
            elapsed_ms: job.elapsed_ms,
        }
    }
}

/// All there is to say of a job.
#[derive(Debug, Serialize)]
pub(super) struct WholeJobJson<'a> {
    #[serde(flatten)]
    job: JobJson<'a>,
    max_attempts: Option<u32>,
    timeout_seconds: Option<u32>,
    retry: Option<RetryJson>,
    /// The JSON object it came as, as it came.
    payload: Option<Box<RawValue>>,
    /// The particulars of its end or last failure.
    detail: Option<Box<RawValue>>,
    /// The story of its attempts, oldest first.
    history: Vec<AttemptJson<'a>>,
}

impl<'a> WholeJobJson<'a> {
    pub(super) fn new(job: &'a JobView, story: &'a [AttemptView]) -> WholeJobJson<'a> {
        WholeJobJson {
            job: JobJson::new(job),
            max_attempts: job.max_attempts,
            timeout_seconds: job.timeout_seconds,
            retry: job.retry.map(RetryJson::new),
            payload: raw(&job.payload),
            detail: job.detail.as_deref().and_then(raw),
            history: story.iter().map(AttemptJson::new).collect(),
        }
    }
}

/// Text that is JSON already, as it is.
fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}

/// A job's own retry policy, as a line of input would give it.
#[derive(Debug, Serialize)]
struct RetryJson {
    strategy: &'static str,
    base_seconds: f64,
    max_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter_fraction: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter_seconds: Option<f64>,
}

impl RetryJson {
    fn new(policy: RetryPolicy) -> RetryJson {
        let (jitter_fraction, jitter_seconds) = match policy.jitter {
            Jitter::Fraction(fraction) => (Some(fraction), None),
            Jitter::UpToMs(ms) => (None, Some(seconds(ms))),
        };
        RetryJson {
            strategy: policy.strategy.name(),
            base_seconds: seconds(policy.base_ms),
            max_seconds: seconds(policy.max_ms),
            jitter_fraction,
            jitter_seconds,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a delay is at most ten years: far below 2^52 ms")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[derive(Debug, Serialize)]
struct AttemptJson<'a> {
    outcome: &'a str,
    reason: Option<&'static str>,
    message: &'a str,
    started_at: Option<String>,
    elapsed_ms: u64,
    /// The lease it was made under; commands know it as `ORCH_FENCE`.
    epoch: i64,
}

impl<'a> AttemptJson<'a> {
    fn new(attempt: &'a AttemptView) -> AttemptJson<'a> {
        AttemptJson {
            outcome: &attempt.outcome,
            reason: attempt.reason.map(|reason| reason.name()),
            message: &attempt.message,
            started_at: rfc3339(attempt.started_at),
            elapsed_ms: attempt.elapsed_ms,
            epoch: attempt.epoch.0,
        }
    }
}
