//! What a store must do. Set-based: one call is one transaction.
//!
//! A store keeps jobs, leases and owners, and nothing of this process's limits, threads or handlers.
//! Every method is one atomic, durable transaction: when it returns `Ok`, what it says survives a
//! power loss; when it returns `Err`, nothing of it happened.
//!
//! Where a job is, at every instant exactly one of:
//!
//! ```text
//!   ready    queued, its time has come; found by (priority, lane, row), so a lane's order is first in, first out
//!   delayed  queued, its time has not come; found by (class, time, row)
//!   leased   in_progress: a lease row with the token's epoch and the owner
//!   finished done, skipped or error
//! ```
//!
//! A delayed job stays delayed until a turn finds its time come, and a job once ready stays ready when the
//! clock steps back. Rows only grow and are never used again, not even after a prune: a token of a pruned
//! job can never match another one's lease. A job that is put back keeps its row, and so its place in line.
//!
//! `Store` handles are not shared: each thread that talks to a store has one of its own ([`Store::fork`]).

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::job::{
    ArtifactId, Change, Epoch, JobRow, JobSpec, Key, Kind, Lane, LaneId, LeaseToken, Leased,
    LimitKey, Mono, Observation, Priority, Reason, RetryPolicy, State, WallMs,
};
use crate::share::{Configured, KeyChange, KeyLimits, KeyNews, KeyRecord, KeyReply, Share};

/// A lane in which at least one job of that priority was ready when the store looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyLane {
    /// The priority of the jobs.
    pub priority: Priority,
    /// The lane.
    pub lane: Arc<Lane>,
    /// When the job at its head was enqueued; `None`: not known, or it has none any more.
    pub head_enqueued_at: Option<WallMs>,
}

/// Where a walk over ready lanes goes on: after this priority and lane.
pub type LaneCursor = (Priority, LaneId);

/// What to do with an id that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum OnDuplicate {
    /// Leave it as it is.
    #[default]
    Skip,
    /// Replace payload, priority, key, run_at and policies of a job that has not started (queued,
    /// attempts and losses 0); its kind and tags too: all but its id, row and `enqueued_at`. A checkpoint was
    /// learned about the payload replaced and goes with it.
    Update,
    /// As update, and also run a finished one again, with a fresh allowance of attempts and no losses. Its
    /// reason, message, detail and `elapsed_ms` are cleared, its story and the total of attempts stay.
    Requeue,
}

/// What became of an inserted spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Inserted {
    /// A new row.
    New,
    /// The id was there; nothing changed.
    Duplicate,
    /// The id was pruned earlier; nothing changed, whatever was to be done with duplicates.
    Pruned,
    /// The id was there and its queued job was replaced.
    Updated,
    /// The id was there, finished, and is queued again.
    Requeued,
}

/// One process's (or one runner's) registration, as the store numbers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The store's number for it; never reused while any lease names it.
    pub row: i64,
    /// A random id, for people and file names.
    pub id: Box<str>,
    /// A directory that lives as long as the owner, for files that its successor must find
    /// (see [`crate::process`]); `None` for a store without files.
    pub directory: Option<PathBuf>,
}

/// Whether an owner is still in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Beat {
    /// Its counter was raised.
    Alive,
    /// Others have taken its leases away (it was stopped too long): every token it holds is stale.
    Lost,
}

/// How many jobs to lease from one lane at one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Of this priority.
    pub priority: Priority,
    /// From this lane.
    pub lane: LaneId,
    /// At most so many.
    pub count: usize,
    /// Skip jobs that were held in more owner deaths than this (see [`crate::job::Suspicion`]).
    pub max_losses: u32,
}

/// A finished attempt, to be written if its token still holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// The lease it was made under.
    pub token: LeaseToken,
    /// What to write.
    pub change: Change,
    /// When the attempt started (wall clock); for a hand-back, when it was leased.
    pub started_at: WallMs,
    /// How long it ran, in milliseconds, by the monotonic clock.
    pub elapsed_ms: u64,
}

/// One turn of a dispatcher: settle what finished, make due what is due, lease what may start.
#[derive(Debug, Clone)]
pub struct Turn<'a> {
    /// Who asks; leases of an owner that is no longer registered are refused.
    pub owner: &'a Owner,
    /// The wall-clock time of the turn.
    pub now: WallMs,
    /// Finished attempts, in any order, each token at most once.
    pub settle: &'a [Settlement],
    /// What to lease, in this order.
    pub lease: &'a [Want],
    /// No more leases once the payloads leased in this turn exceed so many bytes (at least one is made):
    /// the lease that crosses the bound is the last.
    pub max_payload_bytes: usize,
    /// What the process says and asks of its limits, in the same transaction; `None`: nothing.
    pub keys: Option<&'a KeyNews>,
}

/// Whether a settlement was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settled {
    /// Written; the job is now in this state.
    Accepted(State),
    /// The token is stale: nothing was written. A normal answer.
    LeaseLost,
}

/// What a turn did.
#[derive(Debug, Default)]
pub struct TurnReport {
    /// One answer per settlement, in order.
    pub settled: Vec<Settled>,
    /// The leases made, in the order of the wants.
    pub leased: Vec<Arc<Leased>>,
    /// Per want, whether its lane has nothing more ready at that priority once the want is served (skipped
    /// suspects count as more). May be `false` of an empty lane where `max_payload_bytes` ended the leasing.
    pub dry: Vec<bool>,
    /// Lanes that jobs became ready in: settled back at once, or their time came. Each once, in any order;
    /// also those whose jobs this same turn leased.
    pub ready: Vec<ReadyLane>,
    /// The earliest time at which a job that is still delayed after this turn becomes ready.
    pub next_due: Option<WallMs>,
    /// Whether delayed jobs were left over that are due already (a turn makes due a bounded number, of each
    /// class the earliest first).
    pub more_due: bool,
    /// The owner was no longer registered: nothing was leased or made due, and settlements were all lost.
    pub owner_lost: bool,
    /// The reply to [`Turn::keys`]; `None` where there were none, or the owner is lost.
    pub keys: Option<KeyReply>,
}

/// What is left, for `--drain` to decide whether to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remaining {
    /// Some job is ready of a kind in the list asked about.
    pub ready: bool,
    /// Some job is ready of a kind that is not in the list.
    pub ready_of_other_kinds: bool,
    /// Some job of any kind is delayed until its retry or the end of its deferral.
    pub delayed_retry: bool,
    /// Some job of any kind is delayed until its own `run_at`.
    pub delayed_run_at: bool,
    /// Leases held by this owner.
    pub leased_here: u64,
    /// Leases held by other owners.
    pub leased_elsewhere: u64,
}

/// What taking over from dead owners did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The ids of the owners found dead or silent, in any order; also of those that held nothing.
    pub owners: Vec<Box<str>>,
    /// Jobs that are queued again, each with one more loss.
    pub requeued: u64,
    /// Jobs that ended in error, reason `crashed`.
    pub crashed: u64,
    /// Jobs given back by an owner that had ended in good order: no loss counted.
    pub handed_back: u64,
}

/// How owners are judged dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoverTerms {
    /// Wall time, for the records.
    pub now: WallMs,
    /// The observer's own monotonic time.
    pub mono: Mono,
    /// An owner whose counter this handle has seen unchanged for so long is dead, lock or no lock. The
    /// handle looks when [`Store::recover`] is called; a fork has seen nothing yet.
    pub lease_ttl_ms: u64,
    /// So many deaths end a job: the death that brings its losses to this number does.
    pub max_job_losses: u32,
}

/// Counts by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Waiting.
    pub queued: u64,
    /// Leased.
    pub in_progress: u64,
    /// Finished well.
    pub done: u64,
    /// Nothing to be had.
    pub skipped: u64,
    /// Failed.
    pub error: u64,
}

impl Counts {
    /// All jobs.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.queued + self.in_progress + self.done + self.skipped + self.error
    }

    /// The count of one state.
    #[must_use]
    pub fn of(&self, state: State) -> u64 {
        match state {
            State::Queued => self.queued,
            State::InProgress => self.in_progress,
            State::Done => self.done,
            State::Skipped => self.skipped,
            State::Error => self.error,
        }
    }
}

/// What to break counts down by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// The host of the job's key.
    Host,
    /// The resolver of the job's key.
    Resolver,
    /// The handler.
    Kind,
    /// The reason of finished jobs.
    Reason,
}

/// Which jobs to list, export or put back. Empty matches all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// With this reason, as [`JobView::reason`] has it (finished ones, or the last failure of others).
    pub reason: Option<Reason>,
    /// Under a key with this host.
    pub host: Option<Arc<str>>,
}

/// A job as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// Its row.
    pub row: JobRow,
    /// Its name.
    pub artifact_id: ArtifactId,
    /// Its handler.
    pub kind: Kind,
    /// Its key.
    pub key: Key,
    /// Its state.
    pub state: State,
    /// Its priority.
    pub priority: Priority,
    /// The number of its last lease or change.
    pub epoch: Epoch,
    /// Attempts of the present allowance, one being made included.
    pub attempts: u32,
    /// Attempts over its whole life.
    pub attempts_total: u32,
    /// Owner deaths it was held in.
    pub losses: u32,
    /// Why it ended so, or why its last attempt failed. Kept while leased, deferred, handed back or lost.
    pub reason: Option<Reason>,
    /// One sentence about that.
    pub message: String,
    /// When it was enqueued.
    pub enqueued_at: WallMs,
    /// When it was last changed (enqueued, updated, settled, lost, put back). A lease and a hand-back leave
    /// it as it was.
    pub changed_at: WallMs,
    /// Not before (delayed only: `None` once it is ready).
    pub not_before: Option<WallMs>,
    /// How long the last attempt that counted ran, in milliseconds, where one was made.
    pub elapsed_ms: Option<u64>,
    /// Its own bound on attempts.
    pub max_attempts: Option<u32>,
    /// Its own bound on one attempt, in seconds.
    pub timeout_seconds: Option<u32>,
    /// Its own retry policy.
    pub retry: Option<RetryPolicy>,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// The JSON object it came as.
    pub payload: String,
    /// The particulars of its end or last failure (a JSON object).
    pub detail: Option<String>,
}

/// A job's story is that of so many attempts, the youngest; older ones are dropped as new ones come.
pub const MAX_ATTEMPTS_TOLD: usize = 50;

/// A store tells so many pairs of resolver and DOI prefix apart in what it has learned. What comes under others
/// beyond them is counted under [`Observation::NO_PREFIX`], of which each resolver has one beside them.
pub const MAX_YIELDS: usize = 100_000;

/// A job takes its turns with those of its lane. Of its tags, the first is part of its lane, so that tags can be given weights at any time; a
/// queue tells so many tags apart, and jobs with others are in lanes without one.
pub const MAX_TAG_LANES: usize = 64;

/// One reply to [`Turn::keys`] tells of at most so many records that others changed; the next turn is told of more.
pub const MAX_CHANGES_TOLD: usize = 256;

/// A key that has been in trouble is remembered for so long after that, whatever a process was configured to wait for.
pub const TROUBLE_REMEMBERED: Duration = Duration::from_hours(24);

/// One attempt that did not simply end done: the story `show` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptView {
    /// The epoch of its lease.
    pub epoch: Epoch,
    /// `retry`, `error`, `skipped`, `lost`, `crashed`, `deferred`: what it came to. (`done` when it was not its
    /// job's first: `attempts_total` is above 1 or losses were counted.) Hand-backs are not told.
    pub outcome: Box<str>,
    /// Why.
    pub reason: Option<Reason>,
    /// One sentence.
    pub message: String,
    /// When it started; for `lost` and `crashed`, when that was found.
    pub started_at: WallMs,
    /// How long it ran, in milliseconds; 0 for `lost` and `crashed`.
    pub elapsed_ms: u64,
}

/// A page of jobs, and where the next begins.
#[derive(Debug, Default)]
pub struct Page {
    /// The jobs, by row, ascending.
    pub jobs: Vec<JobView>,
    /// Pass as `after` for the next page; `None` when there is none. Where the filter matches little, a store may
    /// end a page early, even empty, and say here where to go on.
    pub next: Option<JobRow>,
}

/// What a process was configured with, for the others: see [`Store::declare`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Declared {
    /// For every host that is not named in `by_key`; `None`: unlimited.
    pub per_host: Option<u32>,
    /// By key, normalised.
    pub by_key: Vec<(LimitKey, KeyLimits)>,
    /// Its process id, for people.
    pub process: Option<u32>,
}

/// Somebody who has, or wants, a share of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Holder {
    /// The owner's id.
    pub owner: Box<str>,
    /// Its directory, where the store has one.
    pub directory: Option<PathBuf>,
    /// Its process id, where it was declared.
    pub process: Option<u32>,
    /// Its share.
    pub share: Share,
}

/// How a key stands, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyView {
    /// The key.
    pub key: LimitKey,
    /// What is known of it.
    pub record: KeyRecord,
    /// The strictest of what the live processes were configured with; nothing when there is none.
    pub configured: Configured,
    /// Who has or wants a share; the sole process too, with what it said it runs.
    pub holders: Vec<Holder>,
    /// Its jobs.
    pub counts: Counts,
    /// How its attempts have gone so far.
    pub pace: Pace,
}

/// How attempts under a key have gone: all that were settled but hand-backs. It outlives the jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// So many,
    pub attempts: u64,
    /// of so many milliseconds together.
    pub elapsed_ms: u64,
}

/// A number that was counted to its end, or given up on and estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// How many.
    pub count: u64,
    /// Whether it was counted.
    pub is_exact: bool,
}

/// Where a job stands in line: see [`Store::place`].
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// The job.
    pub job: JobView,
    /// The lane it is in.
    pub lane: Arc<Lane>,
    /// Who holds its lease: the owner's id and process id.
    pub leased_by: Option<(Box<str>, Option<u32>)>,
    /// For a ready job: ready jobs before it in its own lane (older ones of its priority) and in every lane that shares its host or resolver (the same, and those of a
    /// more urgent priority).
    pub ahead: Counted,
}

/// The ready jobs of one lane and priority, counted: see [`Store::backlog`].
#[derive(Debug, Clone, PartialEq)]
pub struct LaneBacklog {
    /// The priority.
    pub priority: Priority,
    /// The lane.
    pub lane: Arc<Lane>,
    /// So many are ready.
    pub ready: u64,
}

/// One step of what is done to all finished jobs that match: see [`Store::prune_after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// So many were changed.
    pub count: u64,
    /// Pass as `after` for the next step; `None` when no job is left to be looked at.
    pub next: Option<JobRow>,
}

/// What a handle's last write was to the others: see [`Store::last_write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastWrite {
    /// For so long nobody else could write.
    pub held: Duration,
    /// Whether somebody waited for that when it was about to end, as far as is known of who has much to write.
    pub was_awaited: bool,
}

/// Which jobs `retry-failed` takes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetryFilter {
    /// Tried fewer than so many times in all.
    pub max_attempts: Option<u32>,
    /// With this reason. A skip reason selects skipped jobs; without, only jobs in error are taken. A reason of
    /// done jobs selects none.
    pub reason: Option<Reason>,
    /// Under a key with this host.
    pub host: Option<Arc<str>>,
}

/// What may go wrong in a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no queue at that path, and the call does not make one.
    #[error("there is no queue at {path}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file is not a queue of ours.
    #[error("{path} is not an orch queue: {why}")]
    NotAQueue {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        why: String,
    },
    /// A newer orch made it.
    #[error("{path} was made by a newer orch (schema {found}, this one knows {known})")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// On a network file system, where locks do not hold.
    #[error("{path} is on a network file system ({kind}), where locks cannot be trusted")]
    NetworkFilesystem {
        /// The file.
        path: PathBuf,
        /// Which.
        kind: String,
    },
    /// No room left.
    #[error("no room left to write {path}")]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// Somebody held the write lock for longer than `timeout_sec`.
    #[error("{path} stayed locked by another process")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// May not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// `open`, `create`, `lock`, …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database said no.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: rusqlite::Error,
    },
    /// A row holds what no version of orch writes.
    #[error("{path} holds a value orch did not write: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// More checkpoint than allowed.
    #[error("a checkpoint of {0} bytes; at most {max} are allowed", max = crate::job::MAX_CHECKPOINT_BYTES)]
    CheckpointTooLarge(usize),
}

/// A durable work queue.
pub trait Store: Send {
    /// Another handle on the same store, for another thread.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be opened a second time.
    fn fork(&self) -> Result<Box<dyn Store>, StoreError>;

    /// Inserts `specs` in order, as of `now`; one answer each, in order. Two specs of one id in the same call
    /// are as two calls.
    ///
    /// # Errors
    /// [`StoreError`]; nothing was inserted.
    fn insert(
        &mut self,
        specs: &[JobSpec],
        on_duplicate: OnDuplicate,
        now: WallMs,
    ) -> Result<Vec<Inserted>, StoreError>;

    /// Registers a new owner.
    ///
    /// # Errors
    /// [`StoreError`]; no owner is registered.
    fn register(&mut self, now: WallMs) -> Result<Owner, StoreError>;

    /// Raises the owner's heartbeat counter.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be written; says nothing about the owner.
    fn beat(&mut self, owner: &Owner) -> Result<Beat, StoreError>;

    /// Marks the owner as ending in good order: leases it still holds are handed back uncounted once it is
    /// seen dead. Its row and files go when it holds no lease: now, or in the [`Store::recover`] that frees
    /// the last. The owner's last word: it settles and leases nothing after it. Of an owner that is not
    /// registered any more it changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]; the store may know it all the same once the owner is dead, where it has another place to note it.
    fn retire(&mut self, owner: &Owner, now: WallMs) -> Result<(), StoreError>;

    /// Finds dead owners and frees what they held: ends their process groups first, then gives the attempts
    /// back, counts the losses, and ends jobs lost `max_job_losses` times (reason `crashed`; no detail; the
    /// checkpoint is kept). Those queued again are ready at once. Epochs rise. `me` is never judged.
    ///
    /// # Errors
    /// [`StoreError`]; what was freed before the error stays freed.
    fn recover(&mut self, me: Option<&Owner>, terms: RecoverTerms)
    -> Result<Recovered, StoreError>;

    /// One turn of a dispatcher. See [`Turn`].
    ///
    /// A checkpoint is removed when its job ends done or skipped, and kept, or replaced by the one it ends with, when it ends
    /// in error. What an accepted
    /// settlement observed ([`Change::observed`]) is added to [`Store::yields`]; that of a stale one to nothing.
    ///
    /// # Errors
    /// [`StoreError`], [`StoreError::CheckpointTooLarge`] among them whatever the token; nothing was settled and nothing leased, and the same turn may be tried again.
    fn turn(&mut self, turn: &Turn<'_>) -> Result<TurnReport, StoreError>;

    /// Lanes with ready jobs after `after`, ordered by (priority, lane id), at most `limit`, of those `kinds` only.
    ///
    /// # Errors
    /// [`StoreError`].
    fn ready_lanes(
        &mut self,
        after: Option<LaneCursor>,
        limit: usize,
        kinds: &[Kind],
    ) -> Result<Vec<ReadyLane>, StoreError>;

    /// What is left, as seen by `owner`, for a run that may start `kinds`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remaining(&mut self, owner: &Owner, kinds: &[Kind]) -> Result<Remaining, StoreError>;

    /// Counts by state, without scanning.
    ///
    /// # Errors
    /// [`StoreError`].
    fn counts(&mut self) -> Result<Counts, StoreError>;

    /// Counts by state for each value of `by` that some job has now, most jobs first, then by name; jobs without a
    /// value are under `-`. For [`Dimension::Reason`] only finished jobs count.
    ///
    /// # Errors
    /// [`StoreError`].
    fn counts_by(&mut self, by: Dimension) -> Result<Vec<(String, Counts)>, StoreError>;

    /// What every resolver has yielded so far, added up over all attempts whose end was accepted, by resolver and then
    /// DOI prefix. It outlives the jobs. At most [`MAX_YIELDS`] rows have a prefix.
    ///
    /// # Errors
    /// [`StoreError`].
    fn yields(&mut self) -> Result<Vec<Observation>, StoreError>;

    /// Jobs that match `filter` after row `after`, by row, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn list(
        &mut self,
        filter: &Filter,
        after: Option<JobRow>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// One job and the story of its last [`MAX_ATTEMPTS_TOLD`] attempts, oldest first; `None` when the id is unknown.
    ///
    /// # Errors
    /// [`StoreError`].
    fn show(&mut self, id: &ArtifactId) -> Result<Option<(JobView, Vec<AttemptView>)>, StoreError>;

    /// The stories of these jobs, as [`Store::show`] tells them: one each, in order; empty for a row that is unknown.
    ///
    /// # Errors
    /// [`StoreError`].
    fn stories(&mut self, rows: &[JobRow]) -> Result<Vec<Vec<AttemptView>>, StoreError>;

    /// Puts back up to `limit` finished jobs that match, after a row and lowest first, with a fresh allowance of attempts and no
    /// losses; checkpoints are kept, the total of attempts too. They are ready at once, in the lane they were in
    /// last, and their reason, message, detail and `elapsed_ms` are cleared. With `dry_run` nothing changes.
    /// May stop before `limit`: it looks at a bounded number of jobs, for a bounded time.
    ///
    /// # Errors
    /// [`StoreError`]; none was put back.
    fn retry_failed_after(
        &mut self,
        after: Option<JobRow>,
        filter: &RetryFilter,
        limit: usize,
        now: WallMs,
        dry_run: bool,
    ) -> Result<Swept, StoreError>;

    /// Deletes up to `limit` finished jobs last changed before `before`, after a row and lowest first, and keeps their ids' hashes
    /// unless `forget`. May stop before `limit`, as [`Store::retry_failed_after`] does.
    ///
    /// # Errors
    /// [`StoreError`]; none was deleted.
    fn prune_after(
        &mut self,
        after: Option<JobRow>,
        before: WallMs,
        forget: bool,
        limit: usize,
    ) -> Result<Swept, StoreError>;

    /// [`Store::retry_failed_after`] from the first job on, until `limit` are put back or no more match. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`]; those of earlier steps stay put back.
    fn retry_failed(
        &mut self,
        filter: &RetryFilter,
        limit: usize,
        now: WallMs,
        dry_run: bool,
    ) -> Result<u64, StoreError> {
        sweep(limit, |after, limit| self.retry_failed_after(after, filter, limit, now, dry_run))
    }

    /// [`Store::prune_after`] from the first job on, until `limit` are deleted or no more match. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`]; those of earlier steps stay deleted.
    fn prune(&mut self, before: WallMs, forget: bool, limit: usize) -> Result<u64, StoreError> {
        sweep(limit, |after, limit| self.prune_after(after, before, forget, limit))
    }

    /// How long this handle's last write kept others from writing, for whoever has much to write and gives way to them. A store that
    /// nobody waits for says nothing.
    fn last_write(&self) -> LastWrite {
        LastWrite::default()
    }

    /// How many bytes the store keeps on disk of what it has not carried over into its main file; 0 where there is no such thing.
    fn log_bytes(&self) -> u64 {
        0
    }

    /// Writes beside the owner's row what its process was configured with, in place of what was there. It goes with the owner. A
    /// key's limit is the strictest of what all live owners declared.
    ///
    /// # Errors
    /// [`StoreError`].
    fn declare(&mut self, owner: &Owner, declared: &Declared) -> Result<(), StoreError>;

    /// How keys stand that somebody has jobs, a record or a share of, hosts first, by name, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn keys(&mut self, after: Option<&LimitKey>, limit: usize) -> Result<Vec<KeyView>, StoreError>;

    /// How one key stands, whether or not anything is known of it.
    ///
    /// # Errors
    /// [`StoreError`].
    fn key(&mut self, key: &LimitKey) -> Result<KeyView, StoreError>;

    /// Changes what holds of a key, for all processes: they are told at once. Returns how it stands then.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set_key(&mut self, key: &LimitKey, change: &KeyChange) -> Result<KeyView, StoreError>;

    /// Where a job stands; `None` when the id is unknown. Counts at most `most` jobs ahead of it, and estimates beyond.
    ///
    /// # Errors
    /// [`StoreError`].
    fn place(&mut self, id: &ArtifactId, most: usize) -> Result<Option<Place>, StoreError>;

    /// The ready jobs of each lane after `after`, ordered by (priority, lane id), of at most `limit` lanes. Never counts so long that others
    /// notice.
    ///
    /// # Errors
    /// [`StoreError`].
    fn backlog(
        &mut self,
        after: Option<LaneCursor>,
        limit: usize,
    ) -> Result<Vec<LaneBacklog>, StoreError>;

    /// A descriptor, non-blocking, that becomes readable when somebody else made work available: enqueued or put back
    /// jobs (delayed ones too), settled some back, made some due, freed a dead owner's. Readable without cause, and after this
    /// owner's own doing, is allowed; read it empty and take a turn. `None` where the store has no such thing.
    ///
    /// # Errors
    /// [`StoreError`]; the process has no descriptors left, or the owner's files are gone.
    fn bell(&mut self, owner: &Owner) -> Result<Option<OwnedFd>, StoreError>;
}

/// Takes step after step until `limit` jobs are changed or none is left.
fn sweep(
    limit: usize,
    mut step: impl FnMut(Option<JobRow>, usize) -> Result<Swept, StoreError>,
) -> Result<u64, StoreError> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let (mut count, mut after) = (0, None);
    while count < limit {
        let swept = step(after, usize::try_from(limit - count).unwrap_or(usize::MAX))?;
        count += swept.count;
        after = swept.next;
        if after.is_none() {
            break;
        }
    }
    Ok(count)
}
