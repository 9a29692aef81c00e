//! The work queue, as the rest of the program sees it: a store, and the clock that tells it the time.
//!
//! ```text
//!   import, list, show, export, ... --> WorkQueue --> trait Store --> SQLite | memory
//! ```
//!
//! What takes long is cut into bounded pages here, one short transaction each, and what writes much gives way to those who
//! have little to write (`bulk.rs`): no call keeps the store to itself, or a snapshot open, while millions of rows go by. Must never know of handlers, threads or limits.

mod bulk;
pub mod conformance;
pub mod memory;
pub mod sqlite;
pub mod store;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, System};
use crate::job::{ArtifactId, JobRow, JobSpec, LimitKey, Observation, Reason, State, WallMs};
use crate::share::KeyChange;

use bulk::Pace;
use memory::MemoryStore;
use sqlite::{OpenOptions, SqliteStore};
use store::{
    AttemptView, Counts, Dimension, Filter, Inserted, JobView, KeyView, LaneBacklog, OnDuplicate,
    Place, RetryFilter, Store, StoreError, Swept,
};

/// How many jobs one transaction reads, with their payloads.
const PAGE_JOBS: usize = 1_000;

/// How many jobs one transaction puts back or deletes: at first, at least, and at most.
const CHUNK_JOBS: [usize; 3] = [500, 16, 10_000];

/// How much is inserted in one transaction, in bytes of payload and [`JOB_BYTES`] for each job: at first, at least, and at most.
const LOAD_BYTES: [usize; 3] = [1 << 20, 16 << 10, 16 << 20];

/// What a job costs beside its payload.
const JOB_BYTES: usize = 256;

/// How many keys, or lanes, one transaction looks at.
const PAGE_KEYS: usize = 500;

/// How many jobs are counted one by one to say how many stand before one; beyond, it is an estimate.
const EXACT_RANK: usize = 10_000;

/// A durable queue of jobs.
pub struct WorkQueue {
    store: Box<dyn Store>,
    clock: Arc<dyn Clock>,
    /// How [`WorkQueue::load`] has come on so far.
    loading: Pace,
}

impl WorkQueue {
    /// The queue in the SQLite file at `path`, made if there is none; by the system's clock.
    ///
    /// # Errors
    /// [`StoreError`]: it is no queue, was made by a newer orch, is on a network file system, or cannot be written.
    pub fn open(path: impl AsRef<Path>) -> Result<WorkQueue, StoreError> {
        WorkQueue::open_with(path, &OpenOptions::default(), Arc::new(System::new()))
    }

    /// The same, but with these options and by this clock.
    ///
    /// # Errors
    /// As [`WorkQueue::open`]; [`StoreError::Missing`] when there is none and `options` do not let it be made.
    pub fn open_with(
        path: impl AsRef<Path>,
        options: &OpenOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<WorkQueue, StoreError> {
        let store = SqliteStore::open(path.as_ref(), options)?;
        Ok(WorkQueue::new(Box::new(store), clock))
    }

    /// The queue in the SQLite file at `path`, which must be there; by the system's clock.
    ///
    /// # Errors
    /// As [`WorkQueue::open`], and [`StoreError::Missing`].
    pub fn open_existing(path: impl AsRef<Path>) -> Result<WorkQueue, StoreError> {
        let options = OpenOptions { create: false, ..OpenOptions::default() };
        WorkQueue::open_with(path, &options, Arc::new(System::new()))
    }

    /// A queue that is gone with its last handle: for tests, and for programs that need no file.
    #[must_use]
    pub fn in_memory() -> WorkQueue {
        WorkQueue::new(Box::new(MemoryStore::new()), Arc::new(System::new()))
    }

    /// A queue on that store, going by that clock.
    #[must_use]
    pub fn new(store: Box<dyn Store>, clock: Arc<dyn Clock>) -> WorkQueue {
        let [first, least, most] = LOAD_BYTES;
        WorkQueue { store, clock, loading: Pace::new(first, least, most) }
    }

    /// Adds one job; an id that is there already changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was added.
    pub fn enqueue(&mut self, spec: &JobSpec) -> Result<Inserted, StoreError> {
        let answers = self.insert(std::slice::from_ref(spec), OnDuplicate::Skip)?;
        // One spec, one answer: `Store::insert` says so, and the conformance suite holds stores to it.
        Ok(answers.first().copied().unwrap_or(Inserted::Duplicate))
    }

    /// Adds jobs in one transaction; one answer each, in order. When it returns they are on disk.
    ///
    /// # Errors
    /// [`StoreError`]; none was added.
    pub fn insert(
        &mut self,
        specs: &[JobSpec],
        on_duplicate: OnDuplicate,
    ) -> Result<Vec<Inserted>, StoreError> {
        self.store.insert(specs, on_duplicate, self.clock.wall())
    }

    /// Adds any number of jobs, in order, in as many transactions as it takes to hold nobody up: whoever else has something to write
    /// waits for one of them at most, and is left the store for most of the time. `done` hears the answers as they come, each once what it
    /// says is on disk.
    ///
    /// # Errors
    /// [`StoreError`]; what `done` heard of was added, and no more.
    pub fn load(
        &mut self,
        mut specs: &[JobSpec],
        on_duplicate: OnDuplicate,
        mut done: impl FnMut(&[Inserted]),
    ) -> Result<(), StoreError> {
        while !specs.is_empty() {
            let (count, bytes) = first_within(specs, self.loading.amount());
            let (now, later) = specs.split_at(count);
            done(&self.insert(now, on_duplicate)?);
            specs = later;
            let rest = self.loading.after(bytes, self.store.last_write());
            self.rest(rest);
        }
        Ok(())
    }

    /// Leaves the store to others for a while.
    fn rest(&self, rest: Duration) {
        if !rest.is_zero() {
            self.clock.pause(rest);
        }
    }

    /// Takes step after step over finished jobs, until `most` were changed or none is left, and gives way to the others between them.
    fn sweep(
        &mut self,
        most: u64,
        mut step: impl FnMut(&mut dyn Store, Option<JobRow>, usize) -> Result<Swept, StoreError>,
    ) -> Result<u64, StoreError> {
        let [first, least, largest] = CHUNK_JOBS;
        let mut pace = Pace::new(first, least, largest);
        let (mut changed, mut after) = (0, None);
        while changed < most {
            let left = usize::try_from(most - changed).unwrap_or(usize::MAX);
            let swept = step(&mut *self.store, after, left.min(pace.amount()))?;
            changed += swept.count;
            after = swept.next;
            if after.is_none() {
                break;
            }
            if swept.count > 0 {
                let count = usize::try_from(swept.count).unwrap_or(usize::MAX);
                let rest = pace.after(count, self.store.last_write());
                self.rest(rest);
            }
        }
        Ok(changed)
    }

    /// Counts by state, without scanning.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn counts(&mut self) -> Result<Counts, StoreError> {
        self.store.counts()
    }

    /// Counts by state for each value of `by`; see [`Store::counts_by`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn counts_by(&mut self, by: Dimension) -> Result<Vec<(String, Counts)>, StoreError> {
        self.store.counts_by(by)
    }

    /// What every resolver has yielded so far, by DOI prefix; see [`Store::yields`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn yields(&mut self) -> Result<Vec<Observation>, StoreError> {
        self.store.yields()
    }

    /// The jobs that match, oldest row first. Read page by page: what changes meanwhile is seen as it is when
    /// its page is read. Ends after the first error.
    pub fn jobs(&mut self, filter: Filter) -> Jobs<'_> {
        Jobs { store: &mut *self.store, filter, page: VecDeque::new(), after: None, over: false }
    }

    /// The jobs that match, as [`WorkQueue::jobs`] has them, each with the story of its attempts, oldest first. A
    /// story is as it is when it is read, shortly after its job.
    pub fn stories(&mut self, filter: Filter) -> Stories<'_> {
        Stories { jobs: self.jobs(filter), told: VecDeque::new() }
    }

    /// One job and the story of its attempts, oldest first; `None` when the id is unknown.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn show(
        &mut self,
        id: &ArtifactId,
    ) -> Result<Option<(JobView, Vec<AttemptView>)>, StoreError> {
        self.store.show(id)
    }

    /// Has `each` look at every key that somebody has jobs, a record or a share of: hosts first, by name. Read page by page.
    ///
    /// # Errors
    /// [`StoreError`]; it may have looked at some.
    pub fn each_key(&mut self, mut each: impl FnMut(KeyView)) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.store.keys(after.as_ref(), PAGE_KEYS)?;
            after = page.last().map(|last| last.key.clone());
            if page.is_empty() {
                return Ok(());
            }
            page.into_iter().for_each(&mut each);
        }
    }

    /// How one key stands, whether or not anything is known of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn key(&mut self, key: &LimitKey) -> Result<KeyView, StoreError> {
        self.store.key(key)
    }

    /// Changes what holds of a key, for all processes, which are told at once; how it stands then.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is changed.
    pub fn set_key(&mut self, key: &LimitKey, change: &KeyChange) -> Result<KeyView, StoreError> {
        self.store.set_key(key, change)
    }

    /// Where a job stands; `None` when the id is unknown. Up to 10,000 jobs ahead of it are counted, more are estimated.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn place(&mut self, id: &ArtifactId) -> Result<Option<Place>, StoreError> {
        self.store.place(id, EXACT_RANK)
    }

    /// The ready jobs of every lane, by priority and lane. Read page by page.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn backlog(&mut self) -> Result<Vec<LaneBacklog>, StoreError> {
        let mut all: Vec<LaneBacklog> = Vec::new();
        loop {
            let after = all.last().map(|last| (last.priority, last.lane.id));
            let page = self.store.backlog(after, PAGE_KEYS)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Puts failed jobs back, at most `limit` (`None`: all), with a fresh allowance of attempts. Returns how many; with
    /// `dry_run`, how many it would be, and nothing changes.
    ///
    /// # Errors
    /// [`StoreError`]; pages before the one that failed stay put back.
    pub fn retry_failed(
        &mut self,
        filter: &RetryFilter,
        limit: Option<u64>,
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        let counts = self.store.counts()?;
        // No more than there are now: beside a runner that fails jobs as fast as they are put back, this ends.
        let there = match filter.reason {
            Some(Reason::Skipped(_)) => counts.skipped,
            _ => counts.error,
        };
        let most = limit.map_or(there, |limit| limit.min(there));
        if dry_run {
            return self.count_retryable(filter, most);
        }
        let clock = Arc::clone(&self.clock);
        self.sweep(most, |store, after, limit| {
            store.retry_failed_after(after, filter, limit, clock.wall(), false)
        })
    }

    /// What [`Store::retry_failed`] would take, counted page by page: asked for all at once, it would read
    /// millions of rows in one transaction.
    fn count_retryable(&mut self, filter: &RetryFilter, most: u64) -> Result<u64, StoreError> {
        let state = match filter.reason {
            Some(Reason::Skipped(_)) => State::Skipped,
            _ => State::Error,
        };
        let wanted =
            Filter { state: Some(state), reason: filter.reason, host: filter.host.clone() };
        let mut found = 0;
        for job in self.jobs(wanted) {
            if found == most {
                break;
            }
            let attempts_total = job?.attempts_total;
            found += u64::from(filter.max_attempts.is_none_or(|max| attempts_total < max));
        }
        Ok(found)
    }

    /// Deletes finished jobs last changed before `before` and keeps their ids' hashes, so that a later import does not
    /// repeat them; with `forget`, not even those. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`]; pages before the one that failed stay deleted.
    pub fn prune(&mut self, before: WallMs, forget: bool) -> Result<u64, StoreError> {
        self.sweep(u64::MAX, |store, after, limit| store.prune_after(after, before, forget, limit))
    }

    /// The clock it goes by.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The store, for whoever runs the queue.
    pub fn store_mut(&mut self) -> &mut dyn Store {
        &mut *self.store
    }

    /// The store alone.
    #[must_use]
    pub fn into_store(self) -> Box<dyn Store> {
        self.store
    }
}

impl From<WorkQueue> for Box<dyn Store> {
    fn from(queue: WorkQueue) -> Box<dyn Store> {
        queue.into_store()
    }
}

/// How many of the first jobs fit into an amount of bytes, at least one, and how much they come to.
fn first_within(specs: &[JobSpec], amount: usize) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0);
    for spec in specs {
        let more = JOB_BYTES + spec.payload.len();
        if count > 0 && bytes + more > amount {
            break;
        }
        (count, bytes) = (count + 1, bytes + more);
    }
    (count, bytes)
}

/// Jobs, page by page; see [`WorkQueue::jobs`].
pub struct Jobs<'a> {
    store: &'a mut dyn Store,
    filter: Filter,
    page: VecDeque<JobView>,
    after: Option<JobRow>,
    over: bool,
}

impl Jobs<'_> {
    /// Sees to it that there is a job on the page, if one is left.
    fn fill(&mut self) -> Result<(), StoreError> {
        // A page may be empty and still not the last: a store reads a bounded number of rows, not of matches.
        while self.page.is_empty() && !self.over {
            let page = self.store.list(&self.filter, self.after, PAGE_JOBS);
            self.over = page.as_ref().map_or(true, |page| page.next.is_none());
            let page = page?;
            self.page = page.jobs.into();
            self.after = page.next;
        }
        Ok(())
    }
}

impl Iterator for Jobs<'_> {
    type Item = Result<JobView, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.fill() {
            Ok(()) => self.page.pop_front().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }
}

/// Jobs with their stories, page by page; see [`WorkQueue::stories`].
pub struct Stories<'a> {
    jobs: Jobs<'a>,
    /// Those of the jobs on the page.
    told: VecDeque<Vec<AttemptView>>,
}

impl Stories<'_> {
    fn fill(&mut self) -> Result<(), StoreError> {
        if !self.jobs.page.is_empty() {
            return Ok(());
        }
        self.jobs.fill()?;
        let rows: Vec<JobRow> = self.jobs.page.iter().map(|job| job.row).collect();
        let told = self.jobs.store.stories(&rows);
        if told.is_err() {
            self.jobs.page.clear();
            self.jobs.over = true;
        }
        self.told = told?.into();
        Ok(())
    }
}

impl Iterator for Stories<'_> {
    type Item = Result<(JobView, Vec<AttemptView>), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.fill() {
            return Some(Err(error));
        }
        let job = self.jobs.page.pop_front()?;
        Some(Ok((job, self.told.pop_front().unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests;
