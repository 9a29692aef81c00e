//! An idle run: how soon it starts a job that another process enqueues, and what it costs while it idles.
//!
//! The jobs are enqueued by a second process of this bench, from the moment before it begins to; the raw side is the same machine's
//! INSERT, byte through a pipe, and UPDATE, each synced. The cost is that of `orch queue run`, all of its threads together.
//!
//! `cargo bench --bench waking [-- SAMPLES [RUNS [IDLE_SECONDS]]]`

#![expect(clippy::expect_used, reason = "a bench that cannot go on says so by panicking")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{bench, numbers, said};
use orch::bench::figures::{Figures, percentile_ms};
use orch::bench::latency::KIND;
use orch::bench::{Bench, DEFAULT_QUEUE, Latency, Part, new_queue};
use orch::clock::{Clock, System};
use orch::job::{JobSpec, Mono, WallMs};
use orch::queue::WorkQueue;
use orch::queue::store::OnDuplicate;

/// Makes this program the other process.
const ENQUEUER: &str = "--enqueue-into";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == ENQUEUER) {
        return enqueue_what_is_asked(Path::new(&args[at + 1]));
    }
    let [samples, runs, idle_seconds] = numbers([200, 5, 10]);
    let bench = bench();
    wake(&bench, Latency { samples, workers: 8 }, runs);
    idle(&bench, idle_seconds as u64);
}

fn wake(bench: &Bench, mut latency: Latency, runs: usize) {
    println!("run      p50 ms   p99 ms   from the commit: p50   p99   raw: p50      p99");
    let mut all: [Figures; 6] = Default::default();
    for run in 1..=runs {
        let folder = bench.fresh().expect("a folder");
        let path = folder.path().join("queue.sqlite");
        let (from_begin, from_commit) = wake_from_elsewhere(bench, latency, &path);
        let raw = latency.round(bench, false).expect("a round");
        let figures = [
            percentile_ms(&from_begin, 50),
            percentile_ms(&from_begin, 99),
            percentile_ms(&from_commit, 50),
            percentile_ms(&from_commit, 99),
            raw[0].raw,
            raw[1].raw,
        ];
        println!("{run:>3} {}", figures.map(|figure| format!("{figure:>10.3}")).concat());
        for (all, figure) in all.iter_mut().zip(figures) {
            all.push(figure);
        }
    }
    let [p50, p99, commit_p50, commit_p99, raw_p50, raw_p99] = &all;
    let particulars = |commit: &Figures, raw: &Figures| {
        let (commit, raw) = (commit.median(), raw.median());
        let jobs = latency.samples;
        format!("ms; from the commit {commit:.2}; raw {raw:.2}; {jobs} jobs, {runs} runs")
    };
    let (at_50, at_99) = (particulars(commit_p50, raw_p50), particulars(commit_p99, raw_p99));
    said("waking p50", &p50.to_string(), &at_50, "at most 5 ms");
    said("waking p99", &p99.to_string(), &at_99, "at most 20 ms");
}

/// How long each took to start: from before the other process began to enqueue it, and from when that was done.
fn wake_from_elsewhere(
    bench: &Bench,
    latency: Latency,
    path: &Path,
) -> (Vec<Duration>, Vec<Duration>) {
    let store = new_queue(path).expect("a new queue");
    let mut other = Enqueuer::start(path);
    let mut enqueued = Vec::new();
    let waits = latency.run_and_wait(bench, store, |spec| {
        let [began, ended] = other.enqueue(spec);
        enqueued.push(ended.since(began));
        Ok(began)
    });
    let waits = waits.expect("all have started");
    let since = waits.iter().zip(enqueued).map(|(wait, took)| wait.saturating_sub(took)).collect();
    (waits, since)
}

/// The other process.
struct Enqueuer {
    child: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Enqueuer {
    fn start(path: &Path) -> Enqueuer {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .arg(ENQUEUER)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the other process");
        let answers = BufReader::new(child.stdout.take().expect("its answers"));
        Enqueuer { child, answers }
    }

    /// When it began to enqueue that job, and when it had.
    fn enqueue(&mut self, spec: &JobSpec) -> [Mono; 2] {
        let to = self.child.stdin.as_mut().expect("its input");
        writeln!(to, "{}", spec.artifact_id).expect("it listens");
        [(); 2].map(|()| {
            let mut nanoseconds = String::new();
            self.answers.read_line(&mut nanoseconds).expect("its answer");
            Mono(Duration::from_nanos(nanoseconds.trim().parse().expect("a time")))
        })
    }
}

impl Drop for Enqueuer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// In the other process: enqueues the ids it is told, and says when it began to and when it had. The monotonic clock is one for all processes.
fn enqueue_what_is_asked(path: &Path) {
    let mut queue = WorkQueue::open_existing(path).expect("the queue");
    for id in std::io::stdin().lines() {
        let spec = JobSpec::new(&id.expect("an id"), KIND).expect("a good id");
        let began = System::new().mono();
        queue.enqueue(&spec).expect("an insert");
        println!("{}\n{}", began.0.as_nanos(), System::new().mono().0.as_nanos());
    }
}

/// How much of one core `orch queue run` uses while there is nothing to do.
fn idle(bench: &Bench, seconds: u64) {
    let folder = bench.fresh().expect("a folder");
    let path = folder.path().join(DEFAULT_QUEUE);
    let mut store = new_queue(&path).expect("a new queue");
    let first = JobSpec::new("first", "noop").expect("a good id");
    store.insert(&[first], OnDuplicate::Skip, WallMs(0)).expect("an insert");
    let mut child = bench.orch().command(folder.path(), &[], &["queue", "run"]);
    let child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let run = KilledAtTheEnd(child.expect("a run"));
    // It is up when it has done a job.
    while store.counts().expect("counts").done == 0 {
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_secs(1));
    let before = cpu_time(run.0.id());
    thread::sleep(Duration::from_secs(seconds));
    let used = cpu_time(run.0.id()) - before;
    let share = used.as_secs_f64() / seconds as f64 * 100.0;
    let particulars = format!("{:.2} ms of CPU in {seconds} s", used.as_secs_f64() * 1_000.0);
    said("idle run", &format!("{share:.3} % of one core"), &particulars, "at most 0.3 %");
}

struct KilledAtTheEnd(Child);

impl Drop for KilledAtTheEnd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the threads of a process have used so far, as Linux tells it to the nanosecond.
fn cpu_time(pid: u32) -> Duration {
    let tasks = fs::read_dir(PathBuf::from(format!("/proc/{pid}/task"))).expect("its threads");
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}
