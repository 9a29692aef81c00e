//! `orch bench`: how fast this machine is, each figure beside what the machine does without a queue.
//!
//! What is measured is written in [`crate::bench`]; here is what may be asked for, and how it is told. Must never leave anything
//! behind: its directory goes when it ends, also when a signal ends it.

mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use clap::{Args, ValueEnum, ValueHint, value_parser};
use indicatif::{ProgressBar, ProgressStyle};

use super::args::TableFormat;
use super::error::{CliError, Exit};
use super::output::Messages;
use super::session::Session;
use super::signals;
use crate::bench::drain::Way;
use crate::bench::{Bench, BenchError, Drain, Fetch, Halt, Import, Latency, Part};
use crate::config::Flag;
use report::{Measured, Report};

/// Measure this machine: import, drain, latency and fetch, each beside the raw limit
#[derive(Debug, Args)]
#[command(
    long_about = "\
Measure this machine: import, drain, latency and fetch, each beside the raw limit

A figure alone says little: a disk, a virtual machine or a neighbour may be slow. So each part
measures orch and, in the same round, what this machine does without a queue. Compare the ratio.

  import   `orch queue import` of JSONL, beside a bulk insert of the same rows with rusqlite,
           ids UNIQUE and in no order, 8,192 rows in a transaction
  drain    `orch queue run` of no-op jobs, beside one thread that does two UPDATEs for each,
           512 jobs in a transaction
  latency  from before a job is enqueued until an idle run starts it, beside an INSERT, a byte
           through a pipe, and an UPDATE
  fetch    `orch queue run` of 20 KB files from a server on 127.0.0.1, beside as many threads
           that write them to files, and one sync of the file system at the end

Both sides have the same durability: a write-ahead log with synchronous=FULL. They take turns in
going first, the file system is synced before each, and rounds to warm up are not counted. Whole
commands are measured, their start and the making of a queue included: few jobs say little.

Nobody but this machine is asked, and your queue is not touched. All that is made is removed at
the end, also after Ctrl-C; a second one ends at once, and may leave a directory orch-bench-….",
    after_help = "\
Examples:
  orch bench                                   all four parts, one or two minutes
  orch bench drain --jobs 1000000 --runs 5
  orch bench import latency --dir /mnt/ssd     how that disk does
  orch bench --format json | jq '.parts.drain.jobs_per_second.ratio.median'

ratio is orch as a multiple of raw: of jobs/s and files/s more is better, of ms less. Quote a
ratio with its spread: where that is wide, something else kept the machine busy.

JSON: {\"version\":…,\"directory\":…,\"cpus\":…,\"workers\":…,\"synchronous\":\"full\",\"warm_up_rounds\":…,
\"rounds\":…,\"parts\":{\"import\":{\"jobs\":…,\"jobs_per_second\":F},\"drain\":{\"jobs\":…,
\"jobs_per_second\":F},\"latency\":{\"samples\":…,\"p50_ms\":F,\"p99_ms\":F},\"fetch\":{\"files\":…,
\"file_bytes\":…,\"files_per_second\":F}}} with the parts that were measured, and for each F
{\"more_is_better\":…,\"orch\":R,\"raw\":R,\"ratio\":R}, where R is
{\"median\":…,\"least\":…,\"most\":…,\"rounds\":[…]}.

Exit codes: 0 measured; 1 it could not be; 2 the command line or the configuration is wrong;
130, 143 a signal."
)]
pub struct BenchArgs {
    /// What to measure [default: all of it]
    #[arg(value_name = "PART")]
    parts: Vec<PartName>,
    /// How many jobs are imported, and drained
    #[arg(long, value_name = "N", default_value = "100000", value_parser = value_parser!(u32).range(1..=10_000_000))]
    jobs: u32,
    /// How many files are fetched
    #[arg(long, value_name = "N", default_value = "2000", value_parser = value_parser!(u32).range(1..=1_000_000))]
    files: u32,
    /// How many jobs are started one by one, in each round of latency
    #[arg(long, value_name = "N", default_value = "100", value_parser = value_parser!(u32).range(1..=100_000))]
    samples: u32,
    /// How many rounds are counted; told are their medians
    #[arg(long, value_name = "N", default_value = "3", value_parser = value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// How many rounds go before them and are not counted
    #[arg(long, value_name = "N", default_value = "1", value_parser = value_parser!(u32).range(..=1_000))]
    warm_up: u32,
    /// Workers, of orch and of raw fetching [config: orchestrator.max_workers]
    #[arg(long, value_name = "N")]
    workers: Option<u32>,
    /// Where temporary queues and files go, which is the disk that is measured [default: where the configured queue is, or would be]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: Option<PathBuf>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: TableFormat,
}

/// What can be measured, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum PartName {
    /// JSONL becomes jobs.
    Import,
    /// Jobs that do nothing are run.
    Drain,
    /// An idle run wakes.
    Latency,
    /// Small files over loopback.
    Fetch,
}

impl PartName {
    fn name(self) -> &'static str {
        match self {
            PartName::Import => "import",
            PartName::Drain => "drain",
            PartName::Latency => "latency",
            PartName::Fetch => "fetch",
        }
    }
}

impl BenchArgs {
    /// The settings these flags give; their bounds are those of the configuration.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let flag = |workers| Flag::new("--workers", &["orchestrator", "max_workers"], workers);
        self.workers.map(flag).into_iter().collect()
    }

    /// What was asked for, each once, in the order in which it is measured.
    fn parts(&self) -> Vec<PartName> {
        let mut parts = self.parts.clone();
        if parts.is_empty() {
            parts = PartName::value_variants().to_vec();
        }
        parts.sort_unstable();
        parts.dedup();
        parts
    }

    /// Ready to be measured, and how many of what that is.
    fn part(
        &self,
        bench: &Bench,
        name: PartName,
        workers: usize,
    ) -> Result<(Box<dyn Part>, u32), BenchError> {
        let (jobs, files, samples) =
            (self.jobs as usize, self.files as usize, self.samples as usize);
        Ok(match name {
            PartName::Import => (Box::new(Import::new(bench, jobs)?), self.jobs),
            PartName::Drain => (Box::new(Drain { jobs, workers, way: Way::Command }), self.jobs),
            PartName::Latency => (Box::new(Latency { samples, workers }), self.samples),
            PartName::Fetch => (Box::new(Fetch::new(files, workers)?), self.files),
        })
    }
}

/// Measures what was asked for, and tells it.
///
/// # Errors
/// [`CliError`] when it cannot be measured, or cannot be said.
pub(super) fn run(session: &mut Session, args: &BenchArgs) -> Result<Exit, CliError> {
    let directory = match &args.dir {
        Some(directory) => directory.clone(),
        None => nearest_there(&session.settings().queue.path),
    };
    // As it stands, where it is not there: that error comes below, in one form for all of them.
    let directory = directory.canonicalize().unwrap_or(directory);
    let failed = |source| CliError::Thread { what: "another process of this program", source };
    let executable = std::env::current_exe().map_err(failed)?;
    // Before there is anything to be removed.
    let (halt, signal) = (Halt::default(), Arc::new(AtomicI32::new(0)));
    let failed = |source| CliError::Thread { what: "the signal thread", source };
    let told = stopping(halt.clone(), Arc::clone(&signal));
    let watching = signals::Watching::start(told).map_err(failed)?;
    let bench = Bench::new(Arc::clone(&session.clock), &directory, executable, halt)?;
    if is_in_memory(&directory) {
        let directory = directory.display();
        session.out.messages.note(&format!("{directory} is in memory, where syncs cost nothing"));
    }
    let workers = session.settings().orchestrator.max_workers;
    let mut report = Report::new(args, &directory, workers);
    let measured = measure(&bench, args, workers, session.out.messages, &mut report);
    let removed = bench.close();
    watching.end();
    let exit = match measured {
        Ok(()) => Exit::Ok,
        Err(BenchError::Stopped) => {
            Exit::Signal(u8::try_from(signal.load(Ordering::Acquire)).unwrap_or(u8::MAX))
        }
        Err(error) => return Err(error.into()),
    };
    report.print(session)?;
    removed?;
    Ok(exit)
}

/// The first signal ends what is being measured, and lets it be removed; the second ends the process.
fn stopping(halt: Halt, signal: Arc<AtomicI32>) -> impl Fn(usize, i32) + Send {
    move |nth, number| {
        if nth > 0 {
            signals::die_of(number);
        }
        signal.store(number, Ordering::Release);
        halt.halt();
    }
}

/// The parts, one after the other. Those that were measured before an error are in the report.
fn measure(
    bench: &Bench,
    args: &BenchArgs,
    workers: usize,
    messages: Messages,
    report: &mut Report,
) -> Result<(), BenchError> {
    let progress = Progress::new(messages);
    for name in args.parts() {
        progress.show(name, "making ready");
        let (mut part, count) = args.part(bench, name, workers)?;
        let mut measured = Measured::new(name, count);
        for round in 0..args.warm_up + args.runs {
            let counted = (round + 1).checked_sub(args.warm_up).filter(|nth| *nth > 0);
            match counted {
                None => progress.show(name, "warming up"),
                Some(nth) => progress.show(name, &format!("round {nth} of {}", args.runs)),
            }
            let figures = part.round(bench, round % 2 == 1)?;
            if counted.is_some() {
                measured.add(&figures);
            }
        }
        report.parts.push(measured);
    }
    Ok(())
}

/// Where the queue is, or the nearest directory above that is there: most likely on the same disk.
fn nearest_there(queue: &Path) -> PathBuf {
    let here = || PathBuf::from(".");
    // A relative path ends with an empty one, which is here.
    let above = queue.ancestors().skip(1).find(|above| above.is_dir());
    above.map_or_else(here, Path::to_owned)
}

#[cfg(target_os = "linux")]
fn is_in_memory(directory: &Path) -> bool {
    /// `TMPFS_MAGIC` in statfs(2).
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::statfs(directory).is_ok_and(|found| u64::try_from(found.f_type) == Ok(TMPFS))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_directory: &Path) -> bool {
    false
}

/// What is being measured, on a terminal only. It is drawn between rounds and never beside one.
struct Progress(Option<ProgressBar>);

impl Progress {
    fn new(messages: Messages) -> Progress {
        let wanted = messages.is_terminal && !messages.quiet;
        Progress(wanted.then(|| {
            let style = ProgressStyle::with_template("{msg}");
            ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        }))
    }

    fn show(&self, part: PartName, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(format!("{}: {what}", part.name()));
            bar.tick();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
