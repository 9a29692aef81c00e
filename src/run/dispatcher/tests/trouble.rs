//! A store that can be locked by another process whenever a test says so.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

use crate::job::{ArtifactId, JobRow, JobSpec, Kind, Observation, WallMs};
use crate::queue::store::*;

use crate::job::LimitKey;
use crate::share::KeyChange;

const NONE: u8 = 0;
const TURNS: u8 = 1;
const REMAINING: u8 = 2;

/// The switch.
#[derive(Clone, Default)]
pub(in crate::run) struct Trouble {
    what: Arc<AtomicU8>,
    turns: Arc<AtomicU64>,
}

struct Locked {
    inner: Box<dyn Store>,
    trouble: Trouble,
}

impl Trouble {
    pub(in crate::run) fn around(&self, inner: Box<dyn Store>) -> Box<dyn Store> {
        Box::new(Locked { inner, trouble: self.clone() })
    }

    /// Neither turns nor scans from now on.
    pub(in crate::run) fn begin(&self) {
        self.what.store(TURNS, SeqCst);
    }

    /// Only the question what remains is not answered.
    pub(in crate::run) fn begin_with_remaining(&self) {
        self.what.store(REMAINING, SeqCst);
    }

    pub(in crate::run) fn end(&self) {
        self.what.store(NONE, SeqCst);
    }

    /// Whether turns and scans are refused.
    pub(in crate::run) fn is_on(&self) -> bool {
        self.what.load(SeqCst) == TURNS
    }

    /// How many turns were made.
    pub(in crate::run) fn turns(&self) -> u64 {
        self.turns.load(SeqCst)
    }

    fn check(&self, what: u8) -> Result<(), StoreError> {
        match self.what.load(SeqCst) == what {
            true => Err(StoreError::Busy { path: PathBuf::from("a test") }),
            false => Ok(()),
        }
    }
}

impl Store for Locked {
    fn fork(&self) -> Result<Box<dyn Store>, StoreError> {
        Ok(self.trouble.around(self.inner.fork()?))
    }
    fn insert(
        &mut self,
        specs: &[JobSpec],
        on_duplicate: OnDuplicate,
        now: WallMs,
    ) -> Result<Vec<Inserted>, StoreError> {
        self.inner.insert(specs, on_duplicate, now)
    }
    fn register(&mut self, now: WallMs) -> Result<Owner, StoreError> {
        self.trouble.check(TURNS)?;
        self.inner.register(now)
    }
    fn beat(&mut self, owner: &Owner) -> Result<Beat, StoreError> {
        self.inner.beat(owner)
    }
    fn retire(&mut self, owner: &Owner, now: WallMs) -> Result<(), StoreError> {
        self.inner.retire(owner, now)
    }
    fn recover(
        &mut self,
        me: Option<&Owner>,
        terms: RecoverTerms,
    ) -> Result<Recovered, StoreError> {
        self.inner.recover(me, terms)
    }
    fn turn(&mut self, turn: &Turn<'_>) -> Result<TurnReport, StoreError> {
        self.trouble.check(TURNS)?;
        self.trouble.turns.fetch_add(1, SeqCst);
        self.inner.turn(turn)
    }
    fn ready_lanes(
        &mut self,
        after: Option<LaneCursor>,
        limit: usize,
        kinds: &[Kind],
    ) -> Result<Vec<ReadyLane>, StoreError> {
        self.trouble.check(TURNS)?;
        self.inner.ready_lanes(after, limit, kinds)
    }
    fn remaining(&mut self, owner: &Owner, kinds: &[Kind]) -> Result<Remaining, StoreError> {
        self.trouble.check(REMAINING)?;
        self.inner.remaining(owner, kinds)
    }
    fn counts(&mut self) -> Result<Counts, StoreError> {
        self.inner.counts()
    }
    fn counts_by(&mut self, by: Dimension) -> Result<Vec<(String, Counts)>, StoreError> {
        self.inner.counts_by(by)
    }
    fn yields(&mut self) -> Result<Vec<Observation>, StoreError> {
        self.inner.yields()
    }
    fn list(
        &mut self,
        filter: &Filter,
        after: Option<JobRow>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.inner.list(filter, after, limit)
    }
    fn show(&mut self, id: &ArtifactId) -> Result<Option<(JobView, Vec<AttemptView>)>, StoreError> {
        self.inner.show(id)
    }
    fn stories(&mut self, rows: &[JobRow]) -> Result<Vec<Vec<AttemptView>>, StoreError> {
        self.inner.stories(rows)
    }
    fn retry_failed_after(
        &mut self,
        after: Option<JobRow>,
        filter: &RetryFilter,
        limit: usize,
        now: WallMs,
        dry_run: bool,
    ) -> Result<Swept, StoreError> {
        self.inner.retry_failed_after(after, filter, limit, now, dry_run)
    }
    fn prune_after(
        &mut self,
        after: Option<JobRow>,
        before: WallMs,
        forget: bool,
        limit: usize,
    ) -> Result<Swept, StoreError> {
        self.inner.prune_after(after, before, forget, limit)
    }
    fn declare(&mut self, owner: &Owner, declared: &Declared) -> Result<(), StoreError> {
        self.inner.declare(owner, declared)
    }
    fn keys(&mut self, after: Option<&LimitKey>, limit: usize) -> Result<Vec<KeyView>, StoreError> {
        self.inner.keys(after, limit)
    }
    fn key(&mut self, key: &LimitKey) -> Result<KeyView, StoreError> {
        self.inner.key(key)
    }
    fn set_key(&mut self, key: &LimitKey, change: &KeyChange) -> Result<KeyView, StoreError> {
        self.inner.set_key(key, change)
    }
    fn place(&mut self, id: &ArtifactId, most: usize) -> Result<Option<Place>, StoreError> {
        self.inner.place(id, most)
    }
    fn backlog(
        &mut self,
        after: Option<LaneCursor>,
        limit: usize,
    ) -> Result<Vec<LaneBacklog>, StoreError> {
        self.inner.backlog(after, limit)
    }
    fn bell(&mut self, owner: &Owner) -> Result<Option<OwnedFd>, StoreError> {
        self.inner.bell(owner)
    }
}
