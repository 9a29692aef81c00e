//! Where jobs stand in line, and how attempts under a key have gone: counted plainly.

use super::model::{Model, Place as At};
use super::views;
use crate::job::{ArtifactId, Key, LimitKey};
use crate::queue::store::{Counted, LaneBacklog, LaneCursor, Pace, Place};

impl Model {
    /// See [`crate::queue::store::Store::place`]. What it would have to estimate it counts too, and says that it did not.
    pub(super) fn place(&self, id: &ArtifactId, most: usize) -> Option<Place> {
        let row = *self.rows.get(id)?;
        let job = self.jobs.get(&row)?;
        let leased_by = match job.place {
            At::Leased { owner } => self.owners.get(&owner).map(|own| {
                let process = own.declared.as_ref().and_then(|declared| declared.process);
                (own.id.clone(), process)
            }),
            _ => None,
        };
        let is_before = |(priority, lane, other): &(_, _, _)| {
            let lane = self.lanes.get(lane);
            lane.is_some_and(|lane| lane.id == job.lane.id || share(&lane.key, &job.lane.key))
                && (*priority, *other) < (job.spec.priority, row)
        };
        let count = match job.place {
            At::Ready => self.ready.iter().filter(|spot| is_before(spot)).count(),
            _ => 0,
        };
        Some(Place {
            job: views::view(row, job),
            lane: job.lane.clone(),
            leased_by,
            ahead: Counted { count: count as u64, is_exact: count <= most },
        })
    }

    /// See [`crate::queue::store::Store::backlog`].
    pub(super) fn backlog(&self, after: Option<LaneCursor>, limit: usize) -> Vec<LaneBacklog> {
        let mut found: Vec<LaneBacklog> = Vec::new();
        for (priority, id, _) in &self.ready {
            if after.is_some_and(|after| (*priority, *id) <= after) {
                continue;
            }
            let is_full = found.len() == limit;
            match found.last_mut() {
                Some(last) if last.priority == *priority && last.lane.id == *id => last.ready += 1,
                _ if is_full => break,
                _ => found.extend(self.lanes.get(id).map(|lane| LaneBacklog {
                    priority: *priority,
                    lane: lane.clone(),
                    ready: 1,
                })),
            }
        }
        found
    }

    /// An attempt under that key was settled.
    pub(super) fn attempted(&mut self, key: LimitKey, elapsed_ms: u64) {
        let pace = self.paces.entry(key).or_default();
        pace.attempts += 1;
        // As far as a column goes.
        pace.elapsed_ms = pace.elapsed_ms.saturating_add(elapsed_ms).min(i64::MAX.unsigned_abs());
    }

    /// How attempts under a key have gone.
    pub(super) fn pace_of(&self, key: &LimitKey) -> Pace {
        self.paces.get(key).copied().unwrap_or_default()
    }
}

/// Whether two keys have a host or a resolver in common.
fn share(a: &Key, b: &Key) -> bool {
    (a.host.is_some() && a.host == b.host) || (a.resolver.is_some() && a.resolver == b.resolver)
}
