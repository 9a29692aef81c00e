//! Import of JSONL: the whole command `orch queue import`, beside a bulk insert of the same rows with rusqlite.
//!
//! The command starts, reads and checks the file, inserts each id once, syncing every batch, and closes the queue. The raw side has its
//! rows ready in memory and one prepared statement; what else it may leave away is [`Bulk`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::figures::per_second;
use super::jobs::{shuffled_jobs, write_lines};
use super::raw::{self, Ids};
use super::{Bench, BenchError, Beside, JOBS_PER_SECOND, Part, alternately};

/// How many rows the transactions of a bulk insert in batches have.
const BATCH_ROWS: usize = 8_192;

/// What the command is measured beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    /// All rows in one transaction, and no index: what no durable row can go below.
    OneTransaction,
    /// 8,192 rows in a transaction, each synced, and no index.
    Batches,
    /// The same, and an index that keeps ids unique: what a program does that may be run twice.
    UniqueBatches,
}

/// A file of no-op jobs whose ids come in no order.
pub struct Import {
    /// What it is measured beside.
    pub beside: Bulk,
    jobs: usize,
    file: PathBuf,
    _folder: TempDir,
}

impl Import {
    /// Writes a file of `jobs` lines.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn new(bench: &Bench, jobs: usize) -> Result<Import, BenchError> {
        let folder = bench.fresh()?;
        let file = folder.path().join("jobs.jsonl");
        write_lines(&file, shuffled_jobs(0, jobs), bench.halt())?;
        Ok(Import { beside: Bulk::UniqueBatches, file, jobs, _folder: folder })
    }
}

impl Part for Import {
    fn round(&mut self, bench: &Bench, raw_first: bool) -> Result<Vec<Beside>, BenchError> {
        let folder = bench.fresh()?;
        let queue = || import(bench, folder.path(), &self.file);
        let raw = || raw_insert(bench, &folder.path().join("raw.sqlite"), self.jobs, self.beside);
        let (orch, raw) = alternately(raw_first, queue, raw)?;
        let (orch, raw) = (per_second(self.jobs, orch), per_second(self.jobs, raw));
        Ok(vec![Beside { measure: JOBS_PER_SECOND, orch, raw }])
    }
}

/// How long `orch queue import FILE` takes in the directory `place`, where the queue is made if it is not there.
///
/// # Errors
/// [`BenchError`].
pub fn import(bench: &Bench, place: &Path, file: &Path) -> Result<Duration, BenchError> {
    let file = file.to_string_lossy();
    let args = ["queue", "import", &*file];
    let (_, took) = bench.timed(|| bench.orch().run(place, &[], &args))?;
    Ok(took)
}

fn raw_insert(bench: &Bench, path: &Path, jobs: usize, bulk: Bulk) -> Result<Duration, BenchError> {
    let (ids, at_once) = match bulk {
        Bulk::OneTransaction => (Ids::Free, usize::MAX),
        Bulk::Batches => (Ids::Free, BATCH_ROWS),
        Bulk::UniqueBatches => (Ids::Unique, BATCH_ROWS),
    };
    let (making, took) = bench.timed(|| {
        let mut db = raw::open(path, ids)?;
        raw::insert(&mut db, shuffled_jobs(0, jobs), at_once, bench)
    })?;
    Ok(took.saturating_sub(making))
}
