//! A queue of millions, beside one of 100,000: what must not depend on the depth.
//!
//! ```text
//!   bytes     on disk for each queued job with a line of 150 bytes, all indexes
//!   commands  stats, list, show, explain: the whole process
//!   turns     512 leases, 512 settlements
//!   drain     `orch queue run` of all of it, jobs per second; and the most memory it had
//! ```
//!
//! `cargo bench --bench deep [-- DEPTH [SHALLOW [RUNS]]]`; RUNS are those of the commands, and of the shallow drain.

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use common::{bench, numbers, said};
use orch::bench::figures::Figures;
use orch::bench::jobs::{LINE_BYTES, insert, shuffled_jobs};
use orch::bench::{Bench, DEFAULT_QUEUE, new_queue};
use orch::job::{Change, FinalState, Kind, LeaseToken, Note, Reason, WallMs};
use orch::queue::sqlite::{OpenOptions, SqliteStore};
use orch::queue::store::{Owner, Settlement, Store, Turn, Want};

const AT_ONCE: usize = 512;
const TURNS: usize = 21;

fn main() {
    let [depth, shallow, runs] = numbers([5_000_000, 100_000, 5]);
    let bench = bench();
    let (one, other) = (bench.fresh().expect("a folder"), bench.fresh().expect("a folder"));
    let (deep_place, shallow_place) = (one.path(), other.path());
    fill(&bench, deep_place, depth);
    fill(&bench, shallow_place, shallow);
    bytes(deep_place, depth);
    let id = shuffled_jobs(0, shallow).last().expect("a job").artifact_id.to_string();
    let commands: [(&str, Vec<&str>); 5] = [
        ("stats", vec!["queue", "stats"]),
        ("list", vec!["queue", "list", "--limit", "20"]),
        ("list of errors", vec!["queue", "list", "--state", "error", "--limit", "20"]),
        ("show", vec!["queue", "show", &id]),
        ("explain", vec!["queue", "explain", &id]),
    ];
    for (name, args) in &commands {
        let mut both: [Figures; 2] = Default::default();
        for _ in 0..runs {
            for (place, figures) in [deep_place, shallow_place].into_iter().zip(&mut both) {
                let (_, took) =
                    bench.timed(|| bench.orch().run(place, &[], args)).expect("a command");
                figures.push(took.as_secs_f64() * 1_000.0);
            }
        }
        let budget = if *name == "stats" { "at most 20 ms" } else { "as at the shallow one" };
        let particulars = format!("ms, whole process; at {shallow}: {}; {runs} runs", both[1]);
        said(&format!("{name} at {depth}"), &both[0].to_string(), &particulars, budget);
    }
    turns(&bench, [deep_place, shallow_place], [depth, shallow]);
    drains(&bench, deep_place, depth, shallow, runs);
}

fn fill(bench: &Bench, place: &Path, jobs: usize) {
    let mut store = new_queue(&place.join(DEFAULT_QUEUE)).expect("a new queue");
    insert(&mut *store, shuffled_jobs(0, jobs), bench.halt()).expect("jobs");
}

fn bytes(place: &Path, jobs: usize) {
    let files = fs::read_dir(place.join("state")).expect("the queue").flatten();
    let bytes: u64 = files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum();
    let each = format!("{:.0} bytes", bytes as f64 / jobs as f64);
    let particulars = format!("{jobs} jobs, lines of {LINE_BYTES} bytes");
    said("bytes on disk for each queued job", &each, &particulars, "at most 330");
}

/// Leases and settles through the store, in the deep queue and in the shallow one in turn.
fn turns(bench: &Bench, places: [&Path; 2], jobs: [usize; 2]) {
    // A small queue has not so many turns in it.
    let most = jobs.into_iter().min().unwrap_or_default() / AT_ONCE;
    let mut handles = places.map(|place| Handle::open(&place.join(DEFAULT_QUEUE)));
    let mut leases: [Figures; 2] = Default::default();
    let mut settles: [Figures; 2] = Default::default();
    for _ in 0..TURNS.min(most) {
        for (index, handle) in handles.iter_mut().enumerate() {
            let (leased, took) = bench.timed(|| Ok(handle.lease())).expect("a turn");
            leases[index].push(took.as_secs_f64() * 1_000.0);
            let (_, took) = bench.timed(|| Ok(handle.settle(&leased))).expect("a turn");
            settles[index].push(took.as_secs_f64() * 1_000.0);
        }
    }
    for (what, [deep, shallow]) in [("leases", leases), ("settlements", settles)] {
        let particulars = format!("ms; at {}: {shallow}; {} turns", jobs[1], TURNS.min(most));
        let name = format!("a turn of {AT_ONCE} {what} at {}", jobs[0]);
        said(&name, &deep.to_string(), &particulars, "as at the shallow one");
    }
    for handle in handles {
        handle.close();
    }
}

/// A store and an owner in it.
struct Handle {
    store: Box<dyn Store>,
    owner: Owner,
}

impl Handle {
    fn open(path: &Path) -> Handle {
        let mut store = SqliteStore::open(path, &OpenOptions::default()).expect("the queue");
        let owner = store.register(WallMs(0)).expect("an owner");
        Handle { store: Box::new(store), owner }
    }

    fn turn(&mut self, settle: &[Settlement], lease: &[Want]) -> Vec<LeaseToken> {
        let turn = Turn {
            owner: &self.owner,
            now: WallMs(0),
            settle,
            lease,
            max_payload_bytes: usize::MAX,
            keys: None,
        };
        let report = self.store.turn(&turn).expect("a turn");
        report.leased.iter().map(|job| job.token).collect()
    }

    fn lease(&mut self) -> Vec<LeaseToken> {
        let kinds = [Kind::new("noop").expect("a kind")];
        let lanes = self.store.ready_lanes(None, 1, &kinds).expect("lanes");
        let lane = lanes.first().expect("ready jobs");
        let (priority, lane) = (lane.priority, lane.lane.id);
        let want = Want { priority, lane, count: AT_ONCE, max_losses: u32::MAX };
        self.turn(&[], &[want])
    }

    /// How many there are.
    fn settle(&mut self, leased: &[LeaseToken]) -> usize {
        let (state, reason) = (FinalState::Done, Reason::Done(orch::job::DoneReason::Ok));
        let note = Note::default();
        let change = Change::Finish { state, reason, note, checkpoint: None };
        let settlement = |token: &LeaseToken| Settlement {
            token: *token,
            change: change.clone(),
            started_at: WallMs(0),
            elapsed_ms: 0,
        };
        let settle: Vec<Settlement> = leased.iter().map(settlement).collect();
        self.turn(&settle, &[]);
        settle.len()
    }

    fn close(mut self) {
        self.store.retire(&self.owner, WallMs(0)).expect("the end");
    }
}

/// Drains shallow queues before and after the deep one.
fn drains(bench: &Bench, deep: &Path, depth: usize, shallow: usize, runs: usize) {
    let mut rates = Figures::default();
    let mut small_memory = Figures::default();
    let mut drain_shallow = || {
        let place = bench.fresh().expect("a folder");
        fill(bench, place.path(), shallow);
        let (rate, memory) = drain(bench, place.path());
        println!("{shallow:>9} jobs: {rate:>9.0} jobs/s, {memory:.1} MiB");
        rates.push(rate);
        small_memory.push(memory);
    };
    (0..runs.div_ceil(2)).for_each(|_| drain_shallow());
    let (rate, memory) = drain(bench, deep);
    println!("{depth:>9} jobs: {rate:>9.0} jobs/s, {memory:.1} MiB");
    (0..runs.div_ceil(2)).for_each(|_| drain_shallow());
    let figure = format!("{:.2} x itself at {shallow}", rate / rates.median());
    let particulars = format!("{rate:.0} jobs/s; there {} jobs/s", &rates);
    said(&format!("drain at {depth}"), &figure, &particulars, "at least 0.8");
    let particulars = format!("VmHWM; at {shallow}: {} MiB", small_memory);
    said(
        &format!("memory of queue run at {depth}"),
        &format!("{memory:.1} MiB"),
        &particulars,
        "at most 64 MB",
    );
}

/// Jobs per second, as the run itself says, and the most memory it had, in MiB.
fn drain(bench: &Bench, place: &Path) -> (f64, f64) {
    let args = ["queue", "run", "--drain", "--workers", "8", "--format", "json"];
    let ((said, memory), _) = bench
        .timed(|| {
            let mut command = bench.orch().command(place, &[], &args);
            let mut child = command.stderr(Stdio::inherit()).spawn().expect("a run");
            let pid = child.id();
            let watching = thread::spawn(move || most_memory(pid));
            let mut said = String::new();
            child.stdout.take().expect("its output").read_to_string(&mut said).expect("its end");
            assert!(child.wait().expect("its end").success(), "all jobs are done");
            Ok((said, watching.join().expect("the watch")))
        })
        .expect("a drain");
    let summary: serde_json::Value = serde_json::from_str(&said).expect("a summary");
    (summary["jobs_per_second"].as_f64().expect("a rate"), memory)
}

/// The high-water mark of a process, in MiB, as last seen before it ended.
fn most_memory(pid: u32) -> f64 {
    let mut most = 0.0_f64;
    while let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) {
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        // A process that has ended and was not waited for yet has none.
        let Some(line) = line else { break };
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        most = most.max(kibibytes / 1_024.0);
        thread::sleep(Duration::from_millis(20));
    }
    most
}
