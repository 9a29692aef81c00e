//! What people see of the model. Changes nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

use super::model::{Delay, Job, Model, Place};
use crate::job::{ArtifactId, JobRow, Kind, State};
use crate::queue::store::{
    AttemptView, Counts, Dimension, Filter, JobView, LaneCursor, Owner, Page, ReadyLane, Remaining,
};

impl Model {
    pub(super) fn ready_lanes(
        &self,
        after: Option<LaneCursor>,
        limit: usize,
        kinds: &[Kind],
    ) -> Vec<ReadyLane> {
        let mut found = Vec::new();
        let mut cursor = after;
        while found.len() < limit {
            let from = match cursor {
                None => Bound::Unbounded,
                Some((priority, lane)) => Bound::Excluded((priority, lane, JobRow(i64::MAX))),
            };
            let next = self.ready.range((from, Bound::Unbounded)).next();
            let Some((priority, lane, _)) = next else { break };
            cursor = Some((*priority, *lane));
            let ready = self.ready_lane(*priority, *lane);
            let ready = ready.filter(|ready| kinds.contains(&ready.lane.kind));
            let head_enqueued_at = self.head_enqueued_at(*priority, *lane);
            found.extend(ready.map(|ready| ReadyLane { head_enqueued_at, ..ready }));
        }
        found
    }

    pub(super) fn remaining(&self, owner: &Owner, kinds: &[Kind]) -> Remaining {
        let mut remaining = Remaining::default();
        for job in self.jobs.values() {
            match job.place {
                Place::Ready if kinds.contains(&job.lane.kind) => remaining.ready = true,
                Place::Ready => remaining.ready_of_other_kinds = true,
                Place::Delayed(Delay::Retry, _) => remaining.delayed_retry = true,
                Place::Delayed(Delay::RunAt, _) => remaining.delayed_run_at = true,
                Place::Leased { owner: by } if by == owner.row => remaining.leased_here += 1,
                Place::Leased { .. } => remaining.leased_elsewhere += 1,
                Place::Finished(_) => {}
            }
        }
        remaining
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for job in self.jobs.values() {
            count(&mut counts, job.state());
        }
        counts
    }

    pub(super) fn counts_by(&self, by: Dimension) -> Vec<(String, Counts)> {
        let mut groups: BTreeMap<String, Counts> = BTreeMap::new();
        for job in self.jobs.values() {
            let name = match by {
                Dimension::Host => job.lane.key.host.as_deref(),
                Dimension::Resolver => job.lane.key.resolver.as_deref(),
                Dimension::Kind => Some(job.lane.kind.as_str()),
                Dimension::Reason if !job.state().is_finished() => continue,
                Dimension::Reason => job.verdict.as_ref().map(|verdict| verdict.reason.name()),
            };
            count(groups.entry(name.unwrap_or("-").to_owned()).or_default(), job.state());
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, counts)| Reverse(counts.total()));
        groups
    }

    pub(super) fn list(&self, filter: &Filter, after: Option<JobRow>, limit: usize) -> Page {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut matching = self
            .jobs
            .range((from, Bound::Unbounded))
            .map(|(row, job)| view(*row, job))
            .filter(|view| is_listed(filter, view));
        let jobs: Vec<JobView> = matching.by_ref().take(limit).collect();
        let next = matching.next().and(jobs.last().map(|job| job.row));
        Page { jobs, next }
    }

    pub(super) fn show(&self, id: &ArtifactId) -> Option<(JobView, Vec<AttemptView>)> {
        let row = *self.rows.get(id)?;
        let job = self.jobs.get(&row)?;
        Some((view(row, job), job.story.clone()))
    }

    pub(super) fn stories(&self, rows: &[JobRow]) -> Vec<Vec<AttemptView>> {
        let story = |row| self.jobs.get(row).map(|job| job.story.clone()).unwrap_or_default();
        rows.iter().map(story).collect()
    }
}

pub(super) fn count(counts: &mut Counts, state: State) {
    *match state {
        State::Queued => &mut counts.queued,
        State::InProgress => &mut counts.in_progress,
        State::Done => &mut counts.done,
        State::Skipped => &mut counts.skipped,
        State::Error => &mut counts.error,
    } += 1;
}

fn is_listed(filter: &Filter, view: &JobView) -> bool {
    filter.state.is_none_or(|state| view.state == state)
        && (filter.reason.is_none() || filter.reason == view.reason)
        && (filter.host.is_none() || filter.host == view.key.host)
}

pub(super) fn view(row: JobRow, job: &Job) -> JobView {
    let note = job.verdict.as_ref().map(|verdict| verdict.note.clone()).unwrap_or_default();
    JobView {
        row,
        artifact_id: job.spec.artifact_id.clone(),
        kind: job.lane.kind.clone(),
        key: job.lane.key.clone(),
        state: job.state(),
        priority: job.spec.priority,
        epoch: job.epoch,
        attempts: job.attempts,
        attempts_total: job.attempts_total,
        losses: job.losses,
        reason: job.verdict.as_ref().map(|verdict| verdict.reason),
        message: note.message,
        enqueued_at: job.enqueued_at,
        changed_at: job.changed_at,
        not_before: match job.place {
            Place::Delayed(_, time) => Some(time),
            _ => None,
        },
        elapsed_ms: job.elapsed_ms,
        max_attempts: job.spec.max_attempts,
        timeout_seconds: job.spec.timeout_seconds,
        retry: job.spec.retry,
        tags: job.spec.tags.clone(),
        payload: job.spec.payload.clone(),
        detail: note.detail,
    }
}
