//! The maps, and how a job moves between them while all goes well: insert, settle, make due, lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::keys::Keys;
use super::owners::OwnerState;
use super::yields::Yields;
use crate::job::{
    ArtifactId, Change, Epoch, Event, FinalState, JobRow, JobSpec, Key, Kind, Lane, LaneId,
    LeaseToken, Leased, LimitKey, Note, Priority, Reason, State, WallMs,
};
use crate::queue::store::{
    AttemptView, Inserted, MAX_ATTEMPTS_TOLD, MAX_TAG_LANES, OnDuplicate, Pace, ReadyLane, Settled,
    Settlement, Turn, TurnReport, Want,
};

/// So many delayed jobs a turn makes due at most.
const MAX_DUE_PER_TURN: usize = 1_024;

/// Why a job is delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delay {
    /// Until its own `run_at`.
    RunAt,
    /// Until its retry, or the end of its deferral.
    Retry,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Ready,
    Delayed(Delay, WallMs),
    Leased { owner: i64 },
    Finished(FinalState),
}

/// Why a job ended so, or why its last attempt failed.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub(super) reason: Reason,
    pub(super) note: Note,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    /// As it came; its key is only the first: the present one is its lane's.
    pub(super) spec: JobSpec,
    pub(super) lane: Arc<Lane>,
    pub(super) place: Place,
    pub(super) epoch: Epoch,
    pub(super) attempts: u32,
    pub(super) attempts_total: u32,
    pub(super) losses: u32,
    pub(super) verdict: Option<Verdict>,
    pub(super) elapsed_ms: Option<u64>,
    pub(super) checkpoint: Option<Vec<u8>>,
    /// The particulars of the last time it ended done.
    pub(super) previous: Option<String>,
    pub(super) enqueued_at: WallMs,
    pub(super) changed_at: WallMs,
    pub(super) story: Vec<AttemptView>,
}

/// Everything a store knows.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) jobs: BTreeMap<JobRow, Job>,
    pub(super) rows: BTreeMap<ArtifactId, JobRow>,
    pub(super) pruned: BTreeSet<ArtifactId>,
    pub(super) lanes: BTreeMap<LaneId, Arc<Lane>>,
    lane_ids: BTreeMap<(Kind, Key, Option<Box<str>>), LaneId>,
    /// The tags that lanes are told apart by.
    lane_tags: BTreeSet<Box<str>>,
    pub(super) paces: BTreeMap<LimitKey, Pace>,
    /// The jobs in [`Place::Ready`], in the order they are leased in.
    pub(super) ready: BTreeSet<(Priority, LaneId, JobRow)>,
    /// The jobs in [`Place::Delayed`], in the order they become due.
    pub(super) delayed: BTreeSet<(WallMs, JobRow)>,
    /// The jobs in [`Place::Leased`], and by whom.
    pub(super) leased: BTreeMap<JobRow, i64>,
    pub(super) owners: BTreeMap<i64, OwnerState>,
    pub(super) yields: Yields,
    pub(super) keys: Keys,
    last_row: i64,
    pub(super) last_owner: i64,
}

impl Place {
    pub(super) fn state(self) -> State {
        match self {
            Place::Ready | Place::Delayed(..) => State::Queued,
            Place::Leased { .. } => State::InProgress,
            Place::Finished(end) => end.state(),
        }
    }

    /// Queued until `time`, or ready when that has come.
    fn until(delay: Delay, time: Option<WallMs>, now: WallMs) -> Place {
        match time {
            Some(time) if time > now => Place::Delayed(delay, time),
            _ => Place::Ready,
        }
    }
}

impl Job {
    fn new(spec: &JobSpec, lane: Arc<Lane>, now: WallMs) -> Job {
        Job {
            spec: spec.clone(),
            lane,
            place: Place::until(Delay::RunAt, spec.run_at, now),
            epoch: Epoch(0),
            attempts: 0,
            attempts_total: 0,
            losses: 0,
            verdict: None,
            elapsed_ms: None,
            checkpoint: None,
            previous: None,
            enqueued_at: now,
            changed_at: now,
            story: Vec::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.place.state()
    }

    /// The only way from one state to another (invariant 1).
    ///
    /// # Panics
    /// When the table of [`State::next`] has no such way: the model is wrong, and nothing may be held against it.
    pub(super) fn go(&mut self, event: Event, to: Place) {
        assert_eq!(self.state().next(event), Ok(to.state()), "{event:?}");
        self.place = to;
    }

    fn has_not_started(&self) -> bool {
        self.state() == State::Queued && self.attempts == 0 && self.losses == 0
    }

    fn count_attempt(&mut self) {
        self.attempts += 1;
        self.attempts_total += 1;
    }

    pub(super) fn give_attempt_back(&mut self) {
        self.attempts -= 1;
        self.attempts_total -= 1;
    }

    /// Back to the beginning by a person's wish: a fresh allowance, and nothing said about it.
    pub(super) fn make_fresh(&mut self, now: WallMs) {
        self.attempts = 0;
        self.losses = 0;
        self.verdict = None;
        self.elapsed_ms = None;
        self.epoch = self.epoch.next();
        self.changed_at = now;
    }

    pub(super) fn tell(
        &mut self,
        outcome: &str,
        reason: Option<Reason>,
        message: &str,
        ran: (WallMs, u64),
    ) {
        self.story.push(AttemptView {
            epoch: self.epoch,
            outcome: outcome.into(),
            reason,
            message: message.to_owned(),
            started_at: ran.0,
            elapsed_ms: ran.1,
        });
        let too_many = self.story.len().saturating_sub(MAX_ATTEMPTS_TOLD);
        self.story.drain(..too_many);
    }
}

/// Jobs.
impl Model {
    /// The lane of that kind, key and tag, made if there is none.
    pub(super) fn lane(&mut self, kind: &Kind, key: &Key, tag: Option<&str>) -> Arc<Lane> {
        let last = self.lanes.last_key_value().map_or(0, |(id, _)| id.0);
        let (kind, key, tag) = (kind.clone(), key.clone(), tag.map(Box::from));
        let names = (kind.clone(), key.clone(), tag.clone());
        let id = *self.lane_ids.entry(names).or_insert(LaneId(last + 1));
        Arc::clone(self.lanes.entry(id).or_insert_with(|| Arc::new(Lane { id, kind, key, tag })))
    }

    /// The lane that a job enters the queue in: under its first tag, while there are not too many others.
    fn first_lane(&mut self, spec: &JobSpec) -> Arc<Lane> {
        let tag = spec.tags.first().map(String::as_str).filter(|tag| !tag.is_empty());
        if let Some(tag) = tag
            && self.lane_tags.len() < MAX_TAG_LANES
        {
            self.lane_tags.insert(tag.into());
        }
        let tag = tag.filter(|tag| self.lane_tags.contains(*tag));
        self.lane(&spec.kind, &spec.key, tag)
    }

    /// Takes the job out of the maps, changed or not, and puts it where it now belongs.
    pub(super) fn change<T>(
        &mut self,
        row: JobRow,
        change: impl FnOnce(&mut Job) -> T,
    ) -> Option<T> {
        let mut job = self.jobs.remove(&row)?;
        self.unindex(row, &job);
        let answer = change(&mut job);
        let _ = match job.place {
            Place::Ready => self.ready.insert((job.spec.priority, job.lane.id, row)),
            Place::Delayed(_, time) => self.delayed.insert((time, row)),
            Place::Leased { owner } => self.leased.insert(row, owner).is_none(),
            Place::Finished(_) => true,
        };
        self.jobs.insert(row, job);
        Some(answer)
    }

    pub(super) fn unindex(&mut self, row: JobRow, job: &Job) {
        let _ = match job.place {
            Place::Ready => self.ready.remove(&(job.spec.priority, job.lane.id, row)),
            Place::Delayed(_, time) => self.delayed.remove(&(time, row)),
            Place::Leased { .. } => self.leased.remove(&row).is_some(),
            Place::Finished(_) => true,
        };
    }

    pub(super) fn insert(&mut self, spec: &JobSpec, dup: OnDuplicate, now: WallMs) -> Inserted {
        if self.pruned.contains(&spec.artifact_id) {
            return Inserted::Pruned;
        }
        let Some(row) = self.rows.get(&spec.artifact_id).copied() else {
            let lane = self.first_lane(spec);
            self.last_row += 1;
            let row = JobRow(self.last_row);
            self.rows.insert(spec.artifact_id.clone(), row);
            self.jobs.insert(row, Job::new(spec, lane, now));
            self.change(row, |_| ());
            return Inserted::New;
        };
        let Some(job) = self.jobs.get(&row) else { return Inserted::Duplicate };
        let answer = match dup {
            OnDuplicate::Update | OnDuplicate::Requeue if job.has_not_started() => {
                Inserted::Updated
            }
            OnDuplicate::Requeue if job.state().is_finished() => Inserted::Requeued,
            _ => return Inserted::Duplicate,
        };
        let lane = self.first_lane(spec);
        self.change(row, |job| {
            let place = Place::until(Delay::RunAt, spec.run_at, now);
            match answer {
                Inserted::Requeued => job.go(Event::Requeue, place),
                _ => job.place = place,
            }
            job.spec = spec.clone();
            job.lane = lane;
            job.checkpoint = None;
            job.make_fresh(now);
        });
        answer
    }

    pub(super) fn turn(&mut self, turn: &Turn<'_>) -> TurnReport {
        if !self.is_registered(turn.owner) {
            return TurnReport {
                settled: vec![Settled::LeaseLost; turn.settle.len()],
                dry: vec![false; turn.lease.len()],
                owner_lost: true,
                ..TurnReport::default()
            };
        }
        let mut report = TurnReport::default();
        let mut woken = BTreeSet::new();
        for settlement in turn.settle {
            report.settled.push(self.settle(turn.owner.row, settlement, turn.now, &mut woken));
        }
        self.make_due(turn.now, &mut woken);
        report.keys = turn.keys.map(|news| self.hear(turn.owner, news));
        self.lease(turn, &mut report);
        report.ready = woken.into_iter().filter_map(|(p, lane)| self.ready_lane(p, lane)).collect();
        report.next_due = self.delayed.first().map(|(time, _)| *time);
        report.more_due = report.next_due.is_some_and(|time| time <= turn.now);
        report
    }

    pub(super) fn ready_lane(&self, priority: Priority, lane: LaneId) -> Option<ReadyLane> {
        let lane = Arc::clone(self.lanes.get(&lane)?);
        let head_enqueued_at = self.head_enqueued_at(priority, lane.id);
        Some(ReadyLane { priority, lane, head_enqueued_at })
    }

    /// When the job at the head of a lane was enqueued.
    pub(super) fn head_enqueued_at(&self, priority: Priority, lane: LaneId) -> Option<WallMs> {
        let rows = (priority, lane, JobRow(i64::MIN))..=(priority, lane, JobRow(i64::MAX));
        let (_, _, head) = self.ready.range(rows).next()?;
        self.jobs.get(head).map(|job| job.enqueued_at)
    }

    fn settle(
        &mut self,
        owner: i64,
        settlement: &Settlement,
        now: WallMs,
        woken: &mut BTreeSet<(Priority, LaneId)>,
    ) -> Settled {
        let token = settlement.token;
        let lane = match &settlement.change {
            Change::Defer { key, .. } => {
                let from = self.jobs.get(&token.job).map(|job| Arc::clone(&job.lane));
                from.map(|from| self.lane(&from.kind, key, from.tag.as_deref()))
            }
            _ => None,
        };
        let limits: Vec<LimitKey> = match self.jobs.get(&token.job) {
            Some(job) => job.lane.key.limits().collect(),
            None => Vec::new(),
        };
        let settled = self.change(token.job, |job| {
            if job.epoch != token.epoch || job.place != (Place::Leased { owner }) {
                return Settled::LeaseLost;
            }
            job.lane = lane.unwrap_or_else(|| Arc::clone(&job.lane));
            apply(job, settlement, now);
            if job.place == Place::Ready {
                woken.insert((job.spec.priority, job.lane.id));
            }
            Settled::Accepted(job.state())
        });
        let settled = settled.unwrap_or(Settled::LeaseLost);
        if settled != Settled::LeaseLost {
            settlement.change.observed().iter().for_each(|observed| self.yields.add(observed));
            if settlement.change != Change::HandBack {
                limits.into_iter().for_each(|key| self.attempted(key, settlement.elapsed_ms));
            }
        }
        settled
    }

    fn make_due(&mut self, now: WallMs, woken: &mut BTreeSet<(Priority, LaneId)>) {
        let due: Vec<JobRow> = self
            .delayed
            .iter()
            .take_while(|(time, _)| *time <= now)
            .take(MAX_DUE_PER_TURN)
            .map(|(_, row)| *row)
            .collect();
        for row in due {
            self.change(row, |job| {
                job.place = Place::Ready;
                woken.insert((job.spec.priority, job.lane.id));
            });
        }
    }

    fn lease(&mut self, turn: &Turn<'_>, report: &mut TurnReport) {
        let mut payload_bytes = 0;
        for want in turn.lease {
            let wanted: Vec<JobRow> = self.ready_in(want).take(want.count).collect();
            for row in wanted {
                if payload_bytes > turn.max_payload_bytes {
                    break;
                }
                let leased = self.change(row, |job| lease(job, row, turn.owner.row));
                payload_bytes += leased.as_ref().map_or(0, |leased| leased.payload.len());
                report.leased.extend(leased.map(Arc::new));
            }
            let suspects_too = Want { max_losses: u32::MAX, ..*want };
            let dry = self.ready_in(&suspects_too).next().is_none();
            report.dry.push(dry);
        }
    }

    /// The jobs that `want` may take, in the order it takes them.
    fn ready_in(&self, want: &Want) -> impl Iterator<Item = JobRow> {
        let from = (want.priority, want.lane, JobRow(i64::MIN));
        let to = (want.priority, want.lane, JobRow(i64::MAX));
        let bearable =
            |row: &JobRow| self.jobs.get(row).is_some_and(|job| job.losses <= want.max_losses);
        self.ready.range(from..=to).map(|(_, _, row)| *row).filter(bearable)
    }
}

/// What a settlement with a good token does to its job.
fn apply(job: &mut Job, settlement: &Settlement, now: WallMs) {
    let ran = (settlement.started_at, settlement.elapsed_ms);
    let event = settlement.change.event();
    match &settlement.change {
        Change::Finish { state, reason, note, checkpoint } => {
            let first = job.attempts_total == 1 && job.losses == 0;
            if *state != FinalState::Done || !first {
                job.tell(state.state().name(), Some(*reason), &note.message, ran);
            }
            if *state == FinalState::Done {
                job.previous.clone_from(&note.detail);
            }
            job.checkpoint = match state {
                FinalState::Error => checkpoint.clone().or(job.checkpoint.take()),
                FinalState::Done | FinalState::Skipped => None,
            };
            job.verdict = Some(Verdict { reason: *reason, note: note.clone() });
            job.elapsed_ms = Some(settlement.elapsed_ms);
            job.changed_at = now;
            job.go(event, Place::Finished(*state));
        }
        Change::Again { not_before, reason, note, checkpoint } => {
            let reason = Reason::Error(*reason);
            job.tell("retry", Some(reason), &note.message, ran);
            job.verdict = Some(Verdict { reason, note: note.clone() });
            job.elapsed_ms = Some(settlement.elapsed_ms);
            job.checkpoint = checkpoint.clone().or(job.checkpoint.take());
            job.changed_at = now;
            job.go(event, Place::until(Delay::Retry, Some(*not_before), now));
        }
        Change::Defer { key, not_before, checkpoint } => {
            job.tell("deferred", None, &format!("waits for {key}"), ran);
            job.give_attempt_back();
            job.checkpoint = checkpoint.clone().or(job.checkpoint.take());
            job.changed_at = now;
            job.go(event, Place::until(Delay::Retry, *not_before, now));
        }
        Change::HandBack => {
            job.give_attempt_back();
            job.go(event, Place::Ready);
        }
    }
}

fn lease(job: &mut Job, row: JobRow, owner: i64) -> Leased {
    job.epoch = job.epoch.next();
    job.count_attempt();
    job.go(Event::Lease, Place::Leased { owner });
    Leased {
        token: LeaseToken { job: row, epoch: job.epoch },
        artifact_id: job.spec.artifact_id.clone(),
        enqueued_at: job.enqueued_at,
        lane: Arc::clone(&job.lane),
        priority: job.spec.priority,
        attempt: job.attempts,
        attempts_total: job.attempts_total,
        losses: job.losses,
        max_attempts: job.spec.max_attempts,
        timeout_seconds: job.spec.timeout_seconds,
        retry: job.spec.retry,
        payload: job.spec.payload.clone(),
        checkpoint: job.checkpoint.clone(),
        previous: job.previous.clone(),
    }
}
