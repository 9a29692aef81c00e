//! One store and the processes that use it: carries commands out and says what came of them.
//!
//! What it says leaves out all that stores may number as they like (rows, lanes, epochs, owner ids), so
//! that two stores can be compared line by line. What must hold of those numbers is asserted here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use orch::job::{
    ArtifactId, Change, Epoch, ErrorReason, FinalState, JobRow, JobSpec, Key, Kind, Lane, LaneId,
    LeaseToken, Leased, MAX_CHECKPOINT_BYTES, Mono, Note, Observation, Priority, Reason,
    SkipReason, State, WallMs,
};
use orch::queue::conformance::Subject;
use orch::queue::store::{
    AttemptView, Beat, Dimension, Filter, JobView, KeyView, Owner, Page, ReadyLane, RecoverTerms,
    RetryFilter, Settled, Settlement, Store, StoreError, Turn, TurnReport, Want,
};

use super::command::{self, Command, End, IDS, PROCESSES, Spec};
use super::sharing;

const LEASE_TTL_MS: u64 = 600_000;
const PRIORITIES: [Priority; 2] = [Priority::Normal, Priority::High];
const TEXTS: [&str; 3] = ["{}", "{\"n\": 1}", "{\"n\": \"two or more\"}"];
const SKIPS: [SkipReason; 2] = [SkipReason::NoOpenCopy, SkipReason::Robots];
const ERRORS: [ErrorReason; 2] = [ErrorReason::Dns, ErrorReason::Timeout];
/// What `retry-failed` is asked for by.
const REASONS: [&str; 5] = ["dns", "timeout", "robots", "crashed", "ok"];

/// A lane as people would name it, and a priority of its jobs.
type LaneName = (Priority, Kind, Key, Option<Box<str>>);

struct Process {
    store: Box<dyn Store>,
    owner: Owner,
    retired: bool,
    /// The version of what it was told of keys.
    known: i64,
}

struct Lease {
    token: LeaseToken,
    process: usize,
    settled: bool,
}

pub(super) struct World {
    subject: Box<dyn Subject>,
    /// Looks on.
    reader: Box<dyn Store>,
    processes: [Option<Process>; PROCESSES],
    wall: WallMs,
    mono: Mono,
    /// Every lease ever made, oldest first.
    leases: Vec<Lease>,
    /// The ids of all owners, in the order they registered.
    owners: Vec<Box<str>>,
    /// Every lane that was ever seen ready.
    lanes: BTreeMap<LaneName, LaneId>,
    /// The highest epoch seen of each row.
    epochs: BTreeMap<JobRow, Epoch>,
    /// Tokens under which a job was accepted finished.
    finished: BTreeSet<LeaseToken>,
}

fn kinds() -> [Kind; 2] {
    ["noop", "exec"].map(|name| Kind::new(name).unwrap())
}

fn key(index: usize) -> Key {
    let parts = [
        (None, None),
        (None, Some("a.example")),
        (Some("r"), Some("a.example")),
        (Some("r"), Some("b.example")),
    ];
    let (resolver, host) = parts[index];
    Key::new(resolver, host).unwrap()
}

fn id(index: usize) -> ArtifactId {
    ArtifactId::new(&format!("job {index}")).unwrap()
}

fn say(what: impl Debug) -> Vec<String> {
    vec![format!("{what:?}")]
}

impl World {
    pub(super) fn new(mut subject: Box<dyn Subject>) -> World {
        let reader = subject.open();
        World {
            subject,
            reader,
            processes: [const { None }; PROCESSES],
            wall: WallMs(1_800_000_000_000),
            mono: Mono::default(),
            leases: Vec::new(),
            owners: Vec::new(),
            lanes: BTreeMap::new(),
            epochs: BTreeMap::new(),
            finished: BTreeSet::new(),
        }
    }

    /// Carries the command out; what the store answered.
    pub(super) fn apply(&mut self, command: &Command) -> Vec<String> {
        match command {
            Command::Insert { specs, mode } => {
                let specs: Vec<JobSpec> = specs.iter().map(|spec| self.spec(spec)).collect();
                say(self.reader.insert(&specs, *mode, self.wall).unwrap())
            }
            Command::Start { process } => self.start(*process),
            Command::Kill { process } => {
                if let Some(gone) = self.processes[*process].take() {
                    self.subject.kill(&gone.owner, gone.store);
                }
                Vec::new()
            }
            Command::Retire { process } => {
                if let Some(process) = &mut self.processes[*process] {
                    process.store.retire(&process.owner, self.wall).unwrap();
                    process.retired = true;
                }
                Vec::new()
            }
            Command::Beat { process } => match self.active(*process) {
                Some(process) => say(process.store.beat(&process.owner).unwrap()),
                None => Vec::new(),
            },
            Command::Turn { process, settle, wants, max_payload_bytes } => {
                let settle = self.settlements(settle);
                let wants = self.wants(wants);
                self.turn(*process, &settle, &wants, *max_payload_bytes)
            }
            Command::LeaseAll { process } => {
                self.see_lanes();
                let all = self.lanes.len();
                let each = |lane| command::Want { lane, count: usize::MAX, max_losses: u32::MAX };
                let wants = self.wants(&(0..all).map(each).collect::<Vec<_>>());
                self.turn(*process, &[], &wants, usize::MAX)
            }
            Command::SettleAll { process, end } => {
                let held = self.leases.iter().filter(|l| l.process == *process && !l.settled);
                let settle: Vec<Settlement> =
                    held.map(|lease| self.settlement(lease.token, end)).collect();
                self.turn(*process, &settle, &[], usize::MAX)
            }
            Command::TooLarge { process } => self.too_large(*process),
            Command::Recover { process, max_job_losses } => self.recover(*process, *max_job_losses),
            Command::RetryFailed { max_attempts, reason, host, limit, dry_run } => {
                let filter = RetryFilter {
                    max_attempts: *max_attempts,
                    reason: reason.and_then(|index| Reason::from_name(REASONS[index])),
                    host: host.then(|| "a.example".into()),
                };
                say(self.reader.retry_failed(&filter, *limit, self.wall, *dry_run).unwrap())
            }
            Command::Prune { age_ms, forget, limit } => {
                let before = WallMs(self.wall.0 - age_ms);
                say(self.reader.prune(before, *forget, *limit).unwrap())
            }
            Command::Tell { process, claim, anew, reports } => {
                self.tell(*process, *claim, *anew, reports)
            }
            Command::Declare { process, per_host, by_key } => {
                if let Some(process) = self.active(*process) {
                    let declared = sharing::declared(*per_host, by_key);
                    process.store.declare(&process.owner, &declared).unwrap();
                }
                Vec::new()
            }
            Command::SetKey { key, change } => {
                let (key, change) = (sharing::key(*key), sharing::change(*change));
                let view = self.reader.set_key(&key, &change).unwrap();
                assert_eq!(self.reader.key(&key).unwrap(), view, "as it stands then");
                vec![self.say_key(&view)]
            }
            Command::Pass { mono_ms, wall_ms } => {
                self.mono = self.mono.plus(std::time::Duration::from_millis(*mono_ms));
                self.wall = self.after(*wall_ms);
                Vec::new()
            }
        }
    }

    fn after(&self, ms: i64) -> WallMs {
        WallMs(self.wall.0 + ms)
    }

    /// The process, if it runs and has not said its last word.
    fn active(&mut self, process: usize) -> Option<&mut Process> {
        self.processes[process].as_mut().filter(|process| !process.retired)
    }

    fn spec(&self, spec: &Spec) -> JobSpec {
        JobSpec {
            artifact_id: id(spec.id),
            kind: kinds()[spec.kind].clone(),
            priority: PRIORITIES[spec.priority],
            run_at: spec.run_at.map(|ms| self.after(ms)),
            max_attempts: u32::try_from(spec.text).ok().filter(|n| *n > 0),
            key: key(spec.key),
            tags: TEXTS[..spec.text].iter().map(|text| (*text).to_owned()).collect(),
            payload: TEXTS[spec.text].to_owned(),
            ..JobSpec::new("x", "noop").unwrap()
        }
    }

    fn change(&self, end: &End) -> Change {
        let checkpoint = |bytes: &Option<usize>| bytes.map(|n| TEXTS[n].as_bytes().to_vec());
        // As attempts go on, of the one or the other resolver, or of none.
        let observed =
            ["arxiv", "doaj"].into_iter().take(self.leases.len() % 3).map(|resolver| Observation {
                asked: 1,
                elapsed_ms: self.leases.len() as u64,
                ..Observation::of(resolver, Some(["10.1/a", "10.2/b"][self.leases.len() % 2]))
            });
        let note =
            Note::new("a sentence").with_detail("{\"why\":0}").with_observed(observed.collect());
        match end {
            End::Done { detail } => {
                let epoch = self.leases.len();
                let detail = detail.then(|| format!("{{\"etag\":{epoch}}}"));
                let reason = Reason::from_name("ok").unwrap();
                let note = Note { message: String::new(), detail, ..note };
                Change::Finish { state: FinalState::Done, reason, note, checkpoint: None }
            }
            End::Skipped { reason } => {
                let reason = Reason::Skipped(SKIPS[*reason]);
                Change::Finish { state: FinalState::Skipped, reason, note, checkpoint: None }
            }
            End::Failed { reason } => {
                let reason = Reason::Error(ERRORS[*reason]);
                // Now and then one that learned something at the last.
                let checkpoint = self.leases.len().is_multiple_of(3).then(|| b"last".to_vec());
                Change::Finish { state: FinalState::Error, reason, note, checkpoint }
            }
            End::Again { in_ms, checkpoint: bytes } => Change::Again {
                not_before: self.after(*in_ms),
                reason: ERRORS[0],
                note,
                checkpoint: checkpoint(bytes),
            },
            End::Defer { key: index, in_ms, checkpoint: bytes } => Change::Defer {
                key: key(*index),
                not_before: in_ms.map(|ms| self.after(ms)),
                checkpoint: checkpoint(bytes),
            },
            End::HandBack => Change::HandBack,
        }
    }

    fn settlement(&self, token: LeaseToken, end: &End) -> Settlement {
        let elapsed_ms = self.leases.len() as u64;
        Settlement { token, change: self.change(end), started_at: self.wall, elapsed_ms }
    }

    /// Settlements of some of the last leases, whoever holds them, each token once.
    fn settlements(&self, settle: &[command::Settle]) -> Vec<Settlement> {
        let mut tokens = BTreeSet::new();
        let chosen = settle.iter().filter_map(|settle| {
            let lease = self.leases.iter().rev().nth(settle.lease)?;
            tokens.insert(lease.token).then(|| self.settlement(lease.token, &settle.end))
        });
        chosen.collect()
    }

    /// Learns the numbers of all lanes that are ready.
    fn see_lanes(&mut self) -> Vec<ReadyLane> {
        let mut lanes: Vec<ReadyLane> = Vec::new();
        loop {
            let after = lanes.last().map(|ready| (ready.priority, ready.lane.id));
            let page = self.reader.ready_lanes(after, 2, &kinds()).unwrap();
            if page.is_empty() {
                break;
            }
            lanes.extend(page);
        }
        let number = |ready: &ReadyLane| (ready.priority, ready.lane.id);
        assert!(lanes.is_sorted_by(|a, b| number(a) < number(b)), "{lanes:?}");
        for ReadyLane { priority, lane, .. } in &lanes {
            let name = (*priority, lane.kind.clone(), lane.key.clone(), lane.tag.clone());
            let known = *self.lanes.entry(name).or_insert(lane.id);
            assert_eq!(known, lane.id, "a lane keeps its number");
        }
        lanes
    }

    fn wants(&mut self, wants: &[command::Want]) -> Vec<Want> {
        self.see_lanes();
        let lanes: Vec<(Priority, LaneId)> =
            self.lanes.iter().map(|((priority, ..), lane)| (*priority, *lane)).collect();
        if lanes.is_empty() {
            return Vec::new();
        }
        let want = |want: &command::Want| {
            let (priority, lane) = lanes[want.lane % lanes.len()];
            let command::Want { count, max_losses, .. } = *want;
            Want { priority, lane, count, max_losses }
        };
        wants.iter().map(want).collect()
    }

    fn start(&mut self, process: usize) -> Vec<String> {
        if let Some(retired) = self.processes[process].take_if(|process| process.retired) {
            self.subject.kill(&retired.owner, retired.store);
        }
        if self.processes[process].is_none() {
            let mut store = self.subject.open();
            let owner = store.register(self.wall).unwrap();
            self.owners.push(owner.id.clone());
            self.processes[process] = Some(Process { store, owner, retired: false, known: 0 });
            return say("started");
        }
        let wall = self.wall;
        let Some(running) = self.active(process) else { return Vec::new() };
        let beat = running.store.beat(&running.owner).unwrap();
        if beat == Beat::Lost {
            running.owner = running.store.register(wall).unwrap();
            running.known = 0;
            let id = running.owner.id.clone();
            assert!(!self.owners.contains(&id), "an owner's id is its own");
            self.owners.push(id);
        }
        say(beat)
    }

    fn turn(
        &mut self,
        process: usize,
        settle: &[Settlement],
        lease: &[Want],
        max_payload_bytes: usize,
    ) -> Vec<String> {
        let now = self.wall;
        let Some(running) = self.active(process) else { return Vec::new() };
        let owner = &running.owner;
        let turn = Turn { owner, now, settle, lease, max_payload_bytes, keys: None };
        let report = running.store.turn(&turn).unwrap();
        self.note_settled(process, settle, &report);
        for leased in &report.leased {
            let before = self.epochs.insert(leased.token.job, leased.token.epoch);
            assert!(before < Some(leased.token.epoch), "a lease raises the epoch: {leased:?}");
            self.leases.push(Lease { token: leased.token, process, settled: false });
        }
        let mut said = say(&report.settled);
        if report.owner_lost {
            assert!(report.leased.is_empty());
            assert!(report.settled.iter().all(|settled| *settled == Settled::LeaseLost));
            said.extend(say("owner lost"));
            return said;
        }
        said.extend(
            report
                .leased
                .into_iter()
                .map(|leased| format!("{:?}", anonymous(Arc::unwrap_or_clone(leased)))),
        );
        if max_payload_bytes == usize::MAX {
            said.extend(say(&report.dry));
        }
        said.extend(names(&report.ready));
        said.extend(say((report.next_due, report.more_due)));
        said
    }

    /// A turn that says something of limits.
    fn tell(
        &mut self,
        process: usize,
        claim: usize,
        anew: bool,
        reports: &[command::Report],
    ) -> Vec<String> {
        let (now, mono) = (self.wall, self.mono);
        let Some(running) = self.active(process) else { return Vec::new() };
        let known = if anew { 0 } else { running.known };
        let news = sharing::news(mono, known, claim, reports);
        let turn = Turn {
            owner: &running.owner,
            now,
            settle: &[],
            lease: &[],
            max_payload_bytes: 0,
            keys: Some(&news),
        };
        let report = running.store.turn(&turn).unwrap();
        assert_eq!(report.keys.is_none(), report.owner_lost);
        let Some(reply) = report.keys else { return say("owner lost") };
        assert!(reply.version >= known, "what was told is not untold");
        for said in &news.reports {
            let mut answers = reply.answers.iter();
            assert!(answers.any(|answer| answer.key == said.key), "{said:?} has its answer");
        }
        running.known = reply.version;
        sharing::say(&reply)
    }

    /// How every key stands, after looking whether one says what all say.
    fn say_keys(&mut self) -> Vec<String> {
        let mut views: Vec<KeyView> = Vec::new();
        loop {
            let after = views.last().map(|view| view.key.clone());
            let page = self.reader.keys(after.as_ref(), 2).unwrap();
            if page.is_empty() {
                break;
            }
            views.extend(page);
        }
        for view in &views {
            assert_eq!(self.reader.key(&view.key).unwrap(), *view);
        }
        views.iter().map(|view| self.say_key(view)).collect()
    }

    fn say_key(&self, view: &KeyView) -> String {
        let number = |id: &str| self.owners.iter().position(|known| **known == *id).unwrap();
        sharing::view(view, number)
    }

    fn note_settled(&mut self, process: usize, settle: &[Settlement], report: &TurnReport) {
        assert_eq!(report.settled.len(), settle.len());
        for (settlement, settled) in settle.iter().zip(&report.settled) {
            let Settled::Accepted(state) = settled else { continue };
            let expected = State::InProgress.next(settlement.change.event()).unwrap();
            assert_eq!(*state, expected, "{settlement:?}");
            let mut leases = self.leases.iter_mut();
            let lease = leases.find(|lease| lease.token == settlement.token).unwrap();
            assert_eq!(lease.process, process, "accepted from its holder only");
            assert!(!lease.settled, "accepted once only");
            lease.settled = true;
            if state.is_finished() {
                assert!(self.finished.insert(lease.token), "finished once per epoch");
            }
        }
    }

    fn too_large(&mut self, process: usize) -> Vec<String> {
        let token = |lease: &Lease| lease.token;
        let nobodys = LeaseToken { job: JobRow(1), epoch: Epoch(1) };
        let tokens: BTreeSet<LeaseToken> =
            self.leases.iter().rev().take(2).map(token).chain([nobodys]).collect();
        let change = |n| match n {
            0 => self.change(&End::Defer { key: 0, in_ms: None, checkpoint: None }),
            _ => self.change(&End::Done { detail: false }),
        };
        let settle = |(n, token)| Settlement {
            token,
            change: change(n),
            started_at: self.wall,
            elapsed_ms: 0,
        };
        let mut settle: Vec<Settlement> = tokens.into_iter().enumerate().map(settle).collect();
        if let Change::Defer { checkpoint, .. } = &mut settle[0].change {
            *checkpoint = Some(vec![0; MAX_CHECKPOINT_BYTES + 1]);
        }
        settle.reverse();
        let now = self.wall;
        let Some(running) = self.active(process) else { return Vec::new() };
        let owner = &running.owner;
        let turn =
            Turn { owner, now, settle: &settle, lease: &[], max_payload_bytes: 0, keys: None };
        let answer = running.store.turn(&turn);
        assert!(matches!(answer, Err(StoreError::CheckpointTooLarge(_))), "{answer:?}");
        say("too large")
    }

    fn recover(&mut self, process: usize, max_job_losses: u32) -> Vec<String> {
        let (now, mono) = (self.wall, self.mono);
        let terms = RecoverTerms { now, mono, lease_ttl_ms: LEASE_TTL_MS, max_job_losses };
        let Some(running) = self.active(process) else { return Vec::new() };
        let recovered = running.store.recover(Some(&running.owner), terms).unwrap();
        assert!(!recovered.owners.contains(&running.owner.id), "me is never judged");
        let number = |id| self.owners.iter().position(|known| known == id).unwrap();
        let owners: BTreeSet<usize> = recovered.owners.iter().map(number).collect();
        say((owners, recovered.requeued, recovered.crashed, recovered.handed_back))
    }

    /// Where every job stands, how long every line is, and how attempts at every host have gone.
    fn places(&mut self, views: &[JobView]) -> Vec<String> {
        let mut said = Vec::new();
        for view in views {
            let place = self.reader.place(&view.artifact_id, usize::MAX).unwrap().unwrap();
            assert_eq!(place.job, *view);
            assert_eq!(place.leased_by.is_some(), view.state == State::InProgress);
            let Lane { kind, key, tag, .. } = &*place.lane;
            said.push(format!("{}: {kind} {key} {tag:?} {:?}", view.artifact_id, place.ahead));
        }
        let mut backlog = Vec::new();
        for lane in self.reader.backlog(None, usize::MAX).unwrap() {
            let Lane { kind, key, tag, .. } = &*lane.lane;
            backlog.push(format!("{} {kind} {key} {tag:?}: {}", lane.priority, lane.ready));
        }
        backlog.sort();
        said.extend(backlog);
        for key in (0..4).flat_map(|index| key(index).limits().collect::<Vec<_>>()) {
            said.extend(say(self.reader.key(&key).unwrap().pace));
        }
        said
    }

    /// All there is to see, after looking whether it hangs together.
    pub(super) fn everything(&mut self) -> Vec<String> {
        let views = self.views();
        for view in &views {
            self.check(view);
        }
        let counts = self.reader.counts().unwrap();
        for state in State::ALL {
            let listed = views.iter().filter(|view| view.state == state).count();
            assert_eq!(counts.of(state), listed as u64, "{state}");
        }
        let mut said = say(counts);
        for by in [Dimension::Host, Dimension::Resolver, Dimension::Kind, Dimension::Reason] {
            said.extend(say((by, self.reader.counts_by(by).unwrap())));
        }
        said.extend(self.reader.yields().unwrap().into_iter().map(|row| format!("{row:?}")));
        said.extend(names(&self.see_lanes()));
        said.extend(self.places(&views));
        said.extend(self.say_keys());
        let [noop, exec] = kinds();
        for process in self.processes.iter_mut().flatten() {
            for kinds in [vec![noop.clone()], vec![noop.clone(), exec.clone()]] {
                let remaining = process.store.remaining(&process.owner, &kinds).unwrap();
                let leased = remaining.leased_here + remaining.leased_elsewhere;
                assert_eq!(leased, counts.in_progress);
                said.extend(say(remaining));
            }
        }
        for id in (0..IDS).map(id) {
            let shown = self.reader.show(&id).unwrap();
            let listed = views.iter().find(|view| view.artifact_id == id);
            assert_eq!(shown.as_ref().map(|(view, _)| view), listed, "list and show agree");
            for attempt in shown.into_iter().flat_map(|(view, story)| self.told(view.row, story)) {
                said.push(format!("{id}: {attempt:?}"));
            }
        }
        said.extend(views.into_iter().map(|view| format!("{:?}", plain(view))));
        said
    }

    fn views(&mut self) -> Vec<JobView> {
        let mut views: Vec<JobView> = Vec::new();
        let mut after = None;
        loop {
            let Page { jobs, next } = self.reader.list(&Filter::default(), after, 2).unwrap();
            views.extend(jobs);
            if next.is_none() {
                return views;
            }
            after = next;
        }
    }

    /// What must hold of one job at any time.
    fn check(&mut self, view: &JobView) {
        let highest = self.epochs.entry(view.row).or_insert(view.epoch);
        assert!(view.epoch >= *highest, "an epoch only grows: {view:?}");
        *highest = view.epoch;
        let mut leases = self.leases.iter().filter(|lease| lease.token.job == view.row);
        let made = leases.clone().count();
        assert!(view.attempts <= view.attempts_total, "{view:?}");
        assert!(view.attempts_total as usize <= made, "{made} leases: {view:?}");
        assert!(view.losses as usize <= made, "{made} leases: {view:?}");
        if view.state == State::InProgress {
            let last = leases.next_back().map(|lease| lease.token.epoch);
            assert_eq!(last, Some(view.epoch), "leased by the last lease");
        }
        assert!(view.not_before.is_none() || view.state == State::Queued, "{view:?}");
        assert!(view.reason.is_some() || !view.state.is_finished(), "{view:?}");
    }

    /// The story with its epochs as numbers of leases, without the sentences stores may choose.
    fn told(&self, row: JobRow, story: Vec<AttemptView>) -> Vec<(usize, AttemptView)> {
        let lease = |epoch| {
            let token = LeaseToken { job: row, epoch };
            self.leases.iter().position(|lease| lease.token == token)
        };
        let plain = |mut attempt: AttemptView| {
            let lease = lease(attempt.epoch).unwrap_or_else(|| panic!("no lease: {attempt:?}"));
            attempt.epoch = Epoch(0);
            if matches!(&*attempt.outcome, "lost" | "crashed" | "deferred") {
                attempt.message.clear();
            }
            (lease, attempt)
        };
        story.into_iter().map(plain).collect()
    }
}

fn names(lanes: &[ReadyLane]) -> Vec<String> {
    let name = |ready: &ReadyLane| {
        let head = ready.head_enqueued_at;
        let Lane { kind, key, tag, .. } = &*ready.lane;
        format!("ready: {} {kind} {key} {tag:?} since {head:?}", ready.priority)
    };
    let mut names: Vec<String> = lanes.iter().map(name).collect();
    names.sort();
    names
}

/// The lease without what stores number.
fn anonymous(leased: Leased) -> Leased {
    let lane = Arc::new(Lane { id: LaneId(0), ..(*leased.lane).clone() });
    Leased { token: LeaseToken { job: JobRow(0), epoch: Epoch(0) }, lane, ..leased }
}

/// The view without what stores number, or say in words of their own.
fn plain(view: JobView) -> JobView {
    let crashed = view.reason == Some(Reason::Error(ErrorReason::Crashed));
    let message = if crashed { String::new() } else { view.message };
    JobView { row: JobRow(0), epoch: Epoch(0), message, ..view }
}
