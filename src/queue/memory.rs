//! The reference model of a store: plain maps in memory, scanned where scanning is plainest.
//!
//! What a store must do is said in [`super::store`]; this is the same said in code, slowly and
//! obviously, so that faster stores can be held against it. It also serves tests and simulations that
//! need a queue and no disk. Must never be clever, and never ask the time.
//!
//! Forks share one [`Model`] under one lock; what a handle has seen of other owners' heartbeats is its own.

mod bells;
mod keys;
mod model;
mod owners;
mod place;
mod upkeep;
mod views;
mod yields;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::store::{
    AttemptView, Beat, Counts, Declared, Dimension, Filter, Inserted, JobView, KeyView,
    LaneBacklog, LaneCursor, OnDuplicate, Owner, Page, Place, ReadyLane, RecoverTerms, Recovered,
    Remaining, RetryFilter, Settled, Store, StoreError, Swept, Turn, TurnReport,
};
use crate::job::{
    ArtifactId, Change, JobRow, JobSpec, Kind, LimitKey, MAX_CHECKPOINT_BYTES, Mono, Observation,
    State, WallMs,
};
use crate::share::KeyChange;
#[cfg(test)]
use crate::share::KeyRecord;
use bells::Bells;
use keys::Sweep;
use model::Model;

/// What all handles on one store share.
#[derive(Default)]
struct Shared {
    model: Mutex<Model>,
    bells: Bells,
}

/// A store in memory: gone with its last handle, and dead to other processes.
#[derive(Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
    /// By owner: the counter as this handle last saw it change, and when that was.
    seen: BTreeMap<i64, (u64, Mono)>,
    sweep: Sweep,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Another handle on the same store.
    #[must_use]
    pub fn handle(&self) -> MemoryStore {
        MemoryStore { shared: Arc::clone(&self.shared), ..MemoryStore::default() }
    }

    /// The process of `owner` is gone, as if its lock file were free: the next [`Store::recover`] sees it
    /// dead at once.
    pub fn kill_owner(&self, owner: &Owner) {
        self.shared.model.lock().kill_owner(owner);
    }

    /// What is known of a key, for those who look on.
    #[cfg(test)]
    pub(crate) fn record(&self, key: &LimitKey) -> KeyRecord {
        self.shared.model.lock().record_of(key)
    }

    /// Rings for everybody but `except`. After the model's lock is released: ringing is I/O.
    fn ring(&self, except: Option<&Owner>) {
        self.shared.bells.ring(except.map(|owner| owner.row));
    }

    /// Rings for those whom the model names: what they may start, or must give back, has changed.
    fn ring_for_shares(&self) {
        let rung = std::mem::take(&mut self.shared.model.lock().keys.ring);
        if !rung.is_empty() {
            self.shared.bells.ring_where(|owner| rung.contains(&owner));
        }
    }

    /// Takes the bells of owners that are gone away; their readers see the end of the pipe.
    fn unhang_bells(&self) {
        let rows = self.shared.model.lock().owner_rows();
        self.shared.bells.keep(&rows);
    }
}

impl Store for MemoryStore {
    fn fork(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(Box::new(self.handle()))
    }

    fn insert(
        &mut self,
        specs: &[JobSpec],
        on_duplicate: OnDuplicate,
        now: WallMs,
    ) -> Result<Vec<Inserted>, StoreError> {
        let answers: Vec<Inserted> = {
            let mut model = self.shared.model.lock();
            specs.iter().map(|spec| model.insert(spec, on_duplicate, now)).collect()
        };
        let changes = |answer: &Inserted| !matches!(answer, Inserted::Duplicate | Inserted::Pruned);
        if answers.iter().any(changes) {
            self.ring(None);
        }
        Ok(answers)
    }

    fn register(&mut self, _now: WallMs) -> Result<Owner, StoreError> {
        let owner = self.shared.model.lock().register();
        self.ring_for_shares();
        Ok(owner)
    }

    fn beat(&mut self, owner: &Owner) -> Result<Beat, StoreError> {
        Ok(self.shared.model.lock().beat(owner))
    }

    fn retire(&mut self, owner: &Owner, _now: WallMs) -> Result<(), StoreError> {
        self.shared.model.lock().retire(owner);
        self.unhang_bells();
        self.ring_for_shares();
        Ok(())
    }

    fn recover(
        &mut self,
        me: Option<&Owner>,
        terms: RecoverTerms,
    ) -> Result<Recovered, StoreError> {
        let recovered = {
            let mut model = self.shared.model.lock();
            let recovered = model.recover(me, terms, &mut self.seen);
            model.sweep(terms, &mut self.sweep);
            recovered
        };
        self.unhang_bells();
        self.ring_for_shares();
        if recovered.requeued + recovered.handed_back > 0 {
            self.ring(me);
        }
        Ok(recovered)
    }

    fn turn(&mut self, turn: &Turn<'_>) -> Result<TurnReport, StoreError> {
        let checkpoints = turn.settle.iter().filter_map(|settlement| match &settlement.change {
            Change::Finish { checkpoint, .. }
            | Change::Again { checkpoint, .. }
            | Change::Defer { checkpoint, .. } => checkpoint.as_ref(),
            Change::HandBack => None,
        });
        if let Some(bytes) = checkpoints.map(Vec::len).find(|bytes| *bytes > MAX_CHECKPOINT_BYTES) {
            return Err(StoreError::CheckpointTooLarge(bytes));
        }
        let report = self.shared.model.lock().turn(turn);
        self.ring_for_shares();
        let settled_back = report.settled.contains(&Settled::Accepted(State::Queued));
        if settled_back || !report.ready.is_empty() {
            self.ring(Some(turn.owner));
        }
        Ok(report)
    }

    fn ready_lanes(
        &mut self,
        after: Option<LaneCursor>,
        limit: usize,
        kinds: &[Kind],
    ) -> Result<Vec<ReadyLane>, StoreError> {
        Ok(self.shared.model.lock().ready_lanes(after, limit, kinds))
    }

    fn remaining(&mut self, owner: &Owner, kinds: &[Kind]) -> Result<Remaining, StoreError> {
        Ok(self.shared.model.lock().remaining(owner, kinds))
    }

    fn counts(&mut self) -> Result<Counts, StoreError> {
        Ok(self.shared.model.lock().counts())
    }

    fn counts_by(&mut self, by: Dimension) -> Result<Vec<(String, Counts)>, StoreError> {
        Ok(self.shared.model.lock().counts_by(by))
    }

    fn yields(&mut self) -> Result<Vec<Observation>, StoreError> {
        Ok(self.shared.model.lock().yields.all())
    }

    fn list(
        &mut self,
        filter: &Filter,
        after: Option<JobRow>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        Ok(self.shared.model.lock().list(filter, after, limit))
    }

    fn show(&mut self, id: &ArtifactId) -> Result<Option<(JobView, Vec<AttemptView>)>, StoreError> {
        Ok(self.shared.model.lock().show(id))
    }

    fn stories(&mut self, rows: &[JobRow]) -> Result<Vec<Vec<AttemptView>>, StoreError> {
        Ok(self.shared.model.lock().stories(rows))
    }

    fn retry_failed_after(
        &mut self,
        after: Option<JobRow>,
        filter: &RetryFilter,
        limit: usize,
        now: WallMs,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        let swept = self.shared.model.lock().retry_failed(after, filter, limit, now, dry_run);
        if swept.count > 0 && !dry_run {
            self.ring(None);
        }
        Ok(swept)
    }

    fn prune_after(
        &mut self,
        after: Option<JobRow>,
        before: WallMs,
        forget: bool,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        Ok(self.shared.model.lock().prune(after, before, forget, limit))
    }

    fn declare(&mut self, owner: &Owner, declared: &Declared) -> Result<(), StoreError> {
        self.shared.model.lock().declare(owner, declared);
        self.ring_for_shares();
        Ok(())
    }

    fn keys(&mut self, after: Option<&LimitKey>, limit: usize) -> Result<Vec<KeyView>, StoreError> {
        Ok(self.shared.model.lock().key_views(after, limit))
    }

    fn key(&mut self, key: &LimitKey) -> Result<KeyView, StoreError> {
        Ok(self.shared.model.lock().key_view(key))
    }

    fn set_key(&mut self, key: &LimitKey, change: &KeyChange) -> Result<KeyView, StoreError> {
        let view = self.shared.model.lock().set_key(key, change);
        self.ring(None);
        Ok(view)
    }

    fn place(&mut self, id: &ArtifactId, most: usize) -> Result<Option<Place>, StoreError> {
        Ok(self.shared.model.lock().place(id, most))
    }

    fn backlog(
        &mut self,
        after: Option<LaneCursor>,
        limit: usize,
    ) -> Result<Vec<LaneBacklog>, StoreError> {
        Ok(self.shared.model.lock().backlog(after, limit))
    }

    fn bell(&mut self, owner: &Owner) -> Result<Option<OwnedFd>, StoreError> {
        let hung = self.shared.bells.hang(owner.row);
        hung.map(Some).map_err(|source| StoreError::Io {
            action: "create",
            path: PathBuf::from("a pipe"),
            source,
        })
    }
}
