//! Jobs and events that the tests of this module share.

use std::sync::Arc;
use std::time::Duration;

use crate::job::{
    ArtifactId, DoneReason, Epoch, ErrorReason, JobRow, Key, Kind, Lane, LaneId, LeaseToken,
    Leased, Priority, Reason, State, WallMs,
};
use crate::run::event::Settled;

/// Job 7 under its third lease, on its second attempt.
pub(super) fn leased(artifact_id: &str) -> Leased {
    let lane = Lane { id: LaneId(1), kind: Kind::fetch(), key: Key::default(), tag: None };
    Leased {
        token: LeaseToken { job: JobRow(7), epoch: Epoch(3) },
        artifact_id: ArtifactId::new(artifact_id).unwrap(),
        enqueued_at: crate::job::WallMs(0),
        lane: Arc::new(lane),
        priority: Priority::Normal,
        attempt: 2,
        attempts_total: 2,
        losses: 0,
        max_attempts: None,
        timeout_seconds: None,
        retry: None,
        payload: "{}".into(),
        checkpoint: None,
        previous: None,
    }
}

/// The job, run by worker 4 from 2026-01-02T03:04:05Z for 250 ms, ended done.
pub(super) fn done(job: &Leased) -> Settled<'_> {
    Settled {
        job,
        worker: Some(4),
        state: Some(State::Done),
        reason: Some(Reason::Done(DoneReason::Ok)),
        message: "",
        again_at: None,
        deferred_to: None,
        started_at: WallMs(1_767_323_045_000),
        elapsed: Duration::from_millis(250),
    }
}

/// The same, ended in error.
pub(super) fn failed<'a>(job: &'a Leased, message: &'a str) -> Settled<'a> {
    let reason = Some(Reason::Error(ErrorReason::HttpStatus));
    Settled { state: Some(State::Error), reason, message, ..done(job) }
}

/// The same, to be tried again.
pub(super) fn retried<'a>(job: &'a Leased, message: &'a str) -> Settled<'a> {
    let again_at = Some(WallMs(1_767_323_105_000));
    Settled { state: Some(State::Queued), again_at, ..failed(job, message) }
}
