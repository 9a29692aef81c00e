//! What the checks work with: a process on the store, and short ways to say things.

use std::sync::Arc;

use crate::job::{
    ArtifactId, Change, ErrorReason, FinalState, JobRow, JobSpec, Key, Kind, LeaseToken, Leased,
    Mono, Note, Priority, Reason, SkipReason, WallMs,
};
use crate::queue::conformance::Subject;
use crate::queue::store::{
    AttemptView, Counts, Dimension, Filter, Inserted, JobView, OnDuplicate, Owner, ReadyLane,
    RecoverTerms, Recovered, Settled, Settlement, Store, Turn, TurnReport, Want,
};

/// When every check begins.
pub(super) const START: WallMs = WallMs(1_800_000_000_000);

/// The terms most deaths are judged by: five end a job, and nobody is ever silent long enough.
pub(super) const TERMS: RecoverTerms =
    RecoverTerms { now: START, mono: Mono::from_ms(0), lease_ttl_ms: 600_000, max_job_losses: 5 };

/// A process that uses the store: a handle and its owner.
pub(super) struct Process {
    pub(super) store: Box<dyn Store>,
    pub(super) owner: Owner,
    /// The time of everything it does.
    pub(super) now: WallMs,
}

/// A job of kind `noop` under no key.
pub(super) fn job(id: &str) -> JobSpec {
    JobSpec::new(id, "noop").unwrap()
}

/// A job of kind `noop` at `host`.
pub(super) fn hosted(id: &str, host: &str) -> JobSpec {
    JobSpec { key: at_host(host), ..job(id) }
}

pub(super) fn at_host(host: &str) -> Key {
    Key::new(None, Some(host)).unwrap()
}

/// The kinds that jobs in these checks have.
pub(super) fn kinds() -> [Kind; 3] {
    ["noop", "exec", "fetch"].map(|name| Kind::new(name).unwrap())
}

pub(super) fn id(text: &str) -> ArtifactId {
    ArtifactId::new(text).unwrap()
}

pub(super) fn done() -> Change {
    finish(FinalState::Done, "ok", Note::default())
}

pub(super) fn skipped(reason: SkipReason) -> Change {
    finish(FinalState::Skipped, reason.name(), Note::default())
}

pub(super) fn failed(reason: ErrorReason) -> Change {
    finish(FinalState::Error, reason.name(), Note::default())
}

pub(super) fn finish(state: FinalState, reason: &str, note: Note) -> Change {
    Change::Finish { state, reason: Reason::from_name(reason).unwrap(), note, checkpoint: None }
}

/// Failed with a timeout, and again at `not_before`.
pub(super) fn again(not_before: WallMs) -> Change {
    Change::Again {
        not_before,
        reason: ErrorReason::Timeout,
        note: Note::new("slow"),
        checkpoint: None,
    }
}

/// Waits for `host`, ready at once.
pub(super) fn defer(host: &str) -> Change {
    Change::Defer { key: at_host(host), not_before: None, checkpoint: None }
}

pub(super) fn ids(leased: &[Arc<Leased>]) -> Vec<&str> {
    leased.iter().map(|leased| leased.artifact_id.as_str()).collect()
}

impl Process {
    /// A new process with an owner of its own.
    pub(super) fn start(subject: &mut dyn Subject) -> Process {
        let mut store = subject.open();
        let owner = store.register(START).unwrap();
        Process { store, owner, now: START }
    }

    /// It dies without a word.
    pub(super) fn die(self, subject: &mut dyn Subject) {
        subject.kill(&self.owner, self.store);
    }

    pub(super) fn insert(&mut self, specs: &[JobSpec]) -> Vec<Inserted> {
        self.store.insert(specs, OnDuplicate::Skip, self.now).unwrap()
    }

    /// Every lane with ready jobs, most urgent first.
    pub(super) fn ready_lanes(&mut self) -> Vec<ReadyLane> {
        self.store.ready_lanes(None, 1_000, &kinds()).unwrap()
    }

    /// Up to `count` of that priority under that key, of kind `noop`; nothing when no such lane is ready.
    pub(super) fn want(&mut self, priority: Priority, key: &Key, count: usize) -> Option<Want> {
        let lanes = self.ready_lanes();
        let found = lanes.into_iter().find(|ready| {
            ready.priority == priority && ready.lane.key == *key && ready.lane.kind == kinds()[0]
        })?;
        Some(Want { priority, lane: found.lane.id, count, max_losses: u32::MAX })
    }

    pub(super) fn turn(&mut self, settle: &[Settlement], lease: &[Want]) -> TurnReport {
        let turn = Turn {
            owner: &self.owner,
            now: self.now,
            settle,
            lease,
            max_payload_bytes: usize::MAX,
            keys: None,
        };
        self.store.turn(&turn).unwrap()
    }

    /// Leases up to `count` jobs, the most urgent lanes first.
    pub(super) fn lease(&mut self, count: usize) -> Vec<Arc<Leased>> {
        let mut leased = Vec::new();
        for ready in self.ready_lanes() {
            let want = Want {
                priority: ready.priority,
                lane: ready.lane.id,
                count: count - leased.len(),
                max_losses: u32::MAX,
            };
            if want.count > 0 {
                leased.extend(self.turn(&[], &[want]).leased);
            }
        }
        leased
    }

    /// Makes due what is due, then leases the one job that is ready.
    pub(super) fn lease_only(&mut self) -> Arc<Leased> {
        self.turn(&[], &[]);
        let mut leased = self.lease(2);
        assert_eq!(leased.len(), 1, "one job should have been ready: {leased:?}");
        leased.remove(0)
    }

    /// Settles one attempt that began now and ran for 25 ms.
    pub(super) fn settle(&mut self, token: LeaseToken, change: Change) -> Settled {
        let settlement = self.settlement(token, change);
        self.turn(&[settlement], &[]).settled[0]
    }

    pub(super) fn settlement(&self, token: LeaseToken, change: Change) -> Settlement {
        Settlement { token, change, started_at: self.now, elapsed_ms: 25 }
    }

    /// Inserts a job and brings it to its end by `change`.
    pub(super) fn ended(&mut self, spec: JobSpec, change: Change) {
        let id = spec.artifact_id.clone();
        assert_eq!(self.insert(&[spec]), [Inserted::New]);
        for leased in self.lease(usize::MAX) {
            let change = if leased.artifact_id == id { change.clone() } else { Change::HandBack };
            assert!(matches!(self.settle(leased.token, change), Settled::Accepted(_)));
        }
        assert!(self.view(id.as_str()).state.is_finished());
    }

    pub(super) fn recover(&mut self, terms: RecoverTerms) -> Recovered {
        self.store.recover(Some(&self.owner), terms).unwrap()
    }

    pub(super) fn view(&mut self, id: &str) -> JobView {
        self.show(id).0
    }

    pub(super) fn story(&mut self, id: &str) -> Vec<AttemptView> {
        self.show(id).1
    }

    fn show(&mut self, text: &str) -> (JobView, Vec<AttemptView>) {
        self.store.show(&id(text)).unwrap().unwrap_or_else(|| panic!("{text} is gone"))
    }

    /// The ids of all that match, by row.
    pub(super) fn listed(&mut self, filter: &Filter) -> Vec<String> {
        let views = self.views(filter);
        views.into_iter().map(|view| view.artifact_id.to_string()).collect()
    }

    fn views(&mut self, filter: &Filter) -> Vec<JobView> {
        let mut views: Vec<JobView> = Vec::new();
        let mut after: Option<JobRow> = None;
        loop {
            let page = self.store.list(filter, after, 3).unwrap();
            views.extend(page.jobs);
            match page.next {
                Some(next) => after = Some(next),
                None => return views,
            }
        }
    }

    /// All there is to see, after looking whether it hangs together. What two calls of this agree on has
    /// not changed in between.
    pub(super) fn everything(&mut self) -> Vec<(JobView, Vec<AttemptView>)> {
        let views = self.views(&Filter::default());
        let mut counts = Counts::default();
        for view in &views {
            *match view.state {
                crate::job::State::Queued => &mut counts.queued,
                crate::job::State::InProgress => &mut counts.in_progress,
                crate::job::State::Done => &mut counts.done,
                crate::job::State::Skipped => &mut counts.skipped,
                crate::job::State::Error => &mut counts.error,
            } += 1;
        }
        assert_eq!(self.store.counts().unwrap(), counts, "the counts are those of the list");
        for by in [Dimension::Host, Dimension::Resolver, Dimension::Kind] {
            let sum: u64 =
                self.store.counts_by(by).unwrap().iter().map(|(_, counts)| counts.total()).sum();
            assert_eq!(sum, counts.total(), "by {by:?}");
        }
        let mut all = Vec::new();
        for view in views {
            let shown = self.show(view.artifact_id.as_str());
            assert_eq!(shown.0, view, "list and show say the same");
            all.push(shown);
        }
        all
    }
}
