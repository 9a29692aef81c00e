//! Small files over loopback: the whole command `orch queue run`, beside as many threads that only write them down.
//!
//! ```text
//!   orch   admitted, asked for (robots.txt too), hashed, looked at, named, synced in groups, recorded
//!   raw    asked for over as many connections, written to a file each; one sync of the file system at the end
//! ```
//!
//! The origin is in this process and stands for a network that costs nothing. Must never ask anybody else.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::figures::per_second;
use super::origin::{Client, Origin};
use super::{Bench, BenchError, Beside, Measure, Part, alternately, sync_file_system};

const FILES_PER_SECOND: Measure =
    Measure { name: "files_per_second", unit: "files/s", more_is_better: true };

/// How large a file is, in bytes.
pub const FILE_BYTES: usize = 20_000;
/// Out of the way: it is the workers that bound what is asked at the same time.
const PER_HOST: &str = "64";

/// `files` files, fetched by `workers` workers.
pub struct Fetch {
    files: usize,
    workers: usize,
    origin: Origin,
    /// Kept to the end: file systems are slow to use again what was just freed.
    rounds: Vec<TempDir>,
}

impl Fetch {
    /// Starts the origin.
    ///
    /// # Errors
    /// [`BenchError::Io`] when no port or thread is to be had.
    pub fn new(files: usize, workers: usize) -> Result<Fetch, BenchError> {
        let origin = Origin::start(FILE_BYTES);
        let origin = origin.map_err(BenchError::io("start", "a server on 127.0.0.1"))?;
        Ok(Fetch { files, workers, origin, rounds: Vec::new() })
    }
}

impl Part for Fetch {
    fn round(&mut self, bench: &Bench, raw_first: bool) -> Result<Vec<Beside>, BenchError> {
        let folder = bench.fresh()?;
        let (orch_place, raw_place) = (folder.path().join("orch"), folder.path().join("raw"));
        for place in [&orch_place, &raw_place] {
            fs::create_dir(place).map_err(BenchError::io("make", place.display().to_string()))?;
        }
        let address = self.origin.address();
        let urls = |n| format!("http://{address}/{n}.pdf\n");
        let list: String = (0..self.files).map(urls).collect();
        let queue = || fetch(bench, &orch_place, &list, self.files, self.workers);
        let raw = || raw_fetch(bench, &raw_place, address, self.files, self.workers);
        let (orch, raw) = alternately(raw_first, queue, raw)?;
        self.rounds.push(folder);
        let (orch, raw) = (per_second(self.files, orch), per_second(self.files, raw));
        Ok(vec![Beside { measure: FILES_PER_SECOND, orch, raw }])
    }
}

/// How long `orch queue run` takes to fetch `files` files, whose addresses are in `list`, a line each, into the directory `place`.
///
/// # Errors
/// [`BenchError`]; [`BenchError::Short`] when some are not there afterwards.
pub fn fetch(
    bench: &Bench,
    place: &Path,
    list: &str,
    files: usize,
    workers: usize,
) -> Result<Duration, BenchError> {
    let path = place.join("list.txt");
    fs::write(&path, list).map_err(BenchError::io("write", path.display().to_string()))?;
    let workers = workers.to_string();
    let set = [
        ("ORCH_ORCHESTRATOR__MAX_PER_HOST", PER_HOST),
        ("ORCH_ORCHESTRATOR__MAX_WORKERS", &*workers),
    ];
    bench.orch().run(place, &set, &["queue", "import", "list.txt"])?;
    let args = ["queue", "run", "--drain", "--allow-private"];
    let (_, took) = bench.timed(|| bench.orch().run(place, &set, &args))?;
    let done = files_below(&place.join("artifacts"))?;
    if done == files {
        return Ok(took);
    }
    Err(BenchError::Short { side: "the run", done: done as u64, asked: files as u64 })
}

fn files_below(directory: &Path) -> Result<usize, BenchError> {
    let failed = || BenchError::io("read", directory.display().to_string());
    let mut files = 0;
    for entry in fs::read_dir(directory).map_err(failed())? {
        let path = entry.map_err(failed())?.path();
        files += if path.is_dir() { files_below(&path)? } else { 1 };
    }
    Ok(files)
}

fn raw_fetch(
    bench: &Bench,
    place: &Path,
    address: SocketAddr,
    files: usize,
    workers: usize,
) -> Result<Duration, BenchError> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<(), BenchError> {
        let asked = || BenchError::io("read from", address.to_string());
        let mut client = Client::connect(address).map_err(asked())?;
        let mut body = Vec::with_capacity(FILE_BYTES);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= files {
                return Ok(());
            }
            bench.halt().check()?;
            client.read(number, &mut body).map_err(asked())?;
            let path = place.join(format!("{number}.pdf"));
            let written = fs::write(&path, &body);
            written.map_err(BenchError::io("write", path.display().to_string()))?;
        }
    };
    let ((), took) = bench.timed(|| {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            // A worker does nothing that could panic; one that did has not done its files.
            let ends = threads.into_iter().map(|thread| {
                let asked = files as u64;
                let short = BenchError::Short { side: "the raw side", done: 0, asked };
                thread.join().unwrap_or(Err(short))
            });
            ends.collect::<Result<Vec<()>, BenchError>>()
        })?;
        sync_file_system(place)
    })?;
    Ok(took)
}
