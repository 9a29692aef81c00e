//! What must hold of those that wait, and at the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Line, Sim};
use crate::job::{Kind, Lane, Leased};
use crate::queue::store::{Filter, Store};
use crate::share::SHARE_PERIOD;

impl Sim {
    /// The longest that a job may wait for nothing.
    pub(super) fn patience(&self) -> Duration {
        let turn = self.processes.iter().map(|process| process.plan.turn_us).max().unwrap_or(0);
        let turn = Duration::from_millis(2) + Duration::from_micros(turn + self.world.bell_us);
        let living = self.processes.iter().filter(|process| !process.is_over()).count();
        if living > 1 { 2 * SHARE_PERIOD + 6 * turn } else { Duration::from_millis(55) + 4 * turn }
    }

    /// Notes which lanes wait, and which of them could start a job now.
    pub(super) fn look_at_all(&mut self) {
        let now = self.now();
        let ready = self.store.ready_lanes(None, 4_096, &self.kinds()).unwrap_or_default();
        let is_disturbed = self.suspects || self.world.deaf > 0.0 || now < self.disturbed_until;
        let (mut owed, mut lines) = (BTreeMap::new(), BTreeMap::new());
        for ready in ready.into_iter().filter(|_| !is_disturbed) {
            let (at, lane) = ((ready.lane.id, ready.priority), ready.lane);
            let new = Line { since: now, head: None, passed: 0, overlooked: 0 };
            let known = self.lines.get(&at).map_or(new, |(_, line)| *line);
            let line = Line { head: ready.head_enqueued_at, ..known };
            lines.insert(at, (Arc::clone(&lane), line));
            if !self.has_worker_for(&lane) {
                continue;
            }
            if let Some(since) = self.oracle.open_since(&lane.key, now) {
                let before = self.owed.get(&lane.id).copied().unwrap_or(now);
                owed.insert(lane.id, since.max(before));
            }
        }
        (self.owed, self.lines) = (owed, lines);
    }

    pub(super) fn has_worker_for(&self, lane: &Lane) -> bool {
        self.processes.iter().any(|process| {
            process.is_awake()
                && !process.is_stopping
                && process.idle_workers() > 0
                && process.plan.kinds.contains(&lane.kind.as_str())
        })
    }

    /// A job began: among those that wait for the same, nobody more urgent was overlooked, and nobody too often.
    pub(super) fn check_turn(&mut self, n: usize, job: &Leased) -> Result<(), String> {
        let (now, patience) = (self.now(), self.patience());
        let workers: usize = self.processes.iter().map(|process| process.workers.len()).sum();
        let schedule = &self.processes[n].plan.options.schedule;
        let weight = schedule.weights.values().copied().max().unwrap_or(1) as usize;
        let (has_aging, kinds) = (schedule.aging.is_some(), &self.processes[n].plan.kinds);
        let rivals = self.lines.values().filter(|(lane, _)| lane.key == job.lane.key).count();
        let most = 4 * rivals.max(1) * workers.max(4) * weight;
        self.lines.remove(&(job.lane.id, job.priority));
        // One that ends without a request takes nobody's place.
        if self.processes[n].gate().given_up(&job.lane.key, now).is_some() {
            return Ok(());
        }
        for ((_, priority), (lane, line)) in &mut self.lines {
            if lane.key != job.lane.key || !kinds.contains(&lane.kind.as_str()) {
                continue;
            }
            // What begins with it at the same instant, when a key opens, has overlooked nobody.
            line.overlooked +=
                usize::from(*priority < job.priority && now.since(line.since) > patience);
            if line.overlooked > workers + 2 && !has_aging {
                let (id, urgent) = (&job.artifact_id, *priority);
                let times = line.overlooked;
                return Err(format!("priority: {id} before {urgent:?} of {lane:?}, {times} times"));
            }
            // Where jobs rise with age, older ones go first.
            let is_older = has_aging && line.head.is_some_and(|head| job.enqueued_at < head);
            line.passed += usize::from(*priority == job.priority && !is_older);
            if line.passed > most {
                return Err(format!("starved: {lane:?} was passed over {} times", line.passed));
            }
        }
        Ok(())
    }

    /// Nothing was owed for too long.
    pub(super) fn check_owed(&mut self) -> Result<(), String> {
        let now = self.now();
        let patience = self.patience();
        let late = self.owed.iter().find(|(_, since)| now.since(**since) > patience);
        let Some((lane, since)) = late.map(|(lane, since)| (*lane, *since)) else { return Ok(()) };
        let ready = self.store.ready_lanes(None, 4_096, &self.kinds()).unwrap_or_default();
        let Some(lane) = ready.into_iter().map(|ready| ready.lane).find(|ready| ready.id == lane)
        else {
            return Ok(());
        };
        let waited = now.since(since);
        let error = format!("idle: {} waits for nothing for {waited:?}", lane.key);
        Err(self.explain(&lane.key, error))
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        ["a", "b"].iter().filter_map(|kind| Kind::new(kind).ok()).collect()
    }

    /// Every job ended, once.
    pub(super) fn check_end(&mut self) -> Result<(), String> {
        let counts = self.left();
        let jobs = u64::try_from(self.world.jobs.len()).unwrap_or(0);
        if counts.total() != jobs || counts.queued + counts.in_progress > 0 {
            return Err(format!("at the end: {counts:?} of {jobs}"));
        }
        let finals = std::mem::take(&mut self.heard.lock().finals);
        if let Some((job, (times, _))) = finals.iter().find(|(_, (times, _))| *times != 1) {
            return Err(format!("{job:?} ended {times} times"));
        }
        let page =
            self.store.list(&Filter::default(), None, 10_000).map_err(|error| error.to_string())?;
        for job in page.jobs {
            let told = finals.get(&job.row).map(|(_, state)| *state);
            let crashed = job.reason.is_some_and(|reason| reason.name() == "crashed");
            if told != Some(job.state) && !crashed {
                return Err(format!("{} is {:?}, told as {told:?}", job.artifact_id, job.state));
            }
        }
        Ok(())
    }
}
