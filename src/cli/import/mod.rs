//! `orch queue import`: files of work become jobs.
//!
//! ```text
//!   files, stdin --feed (a thread reads ahead)--> batches --WorkQueue::load--> on disk --> "imported N"
//!                                         \--> bad lines --> standard error, rejects file
//! ```
//!
//! Memory does not grow with the input. A batch is inserted when it is large enough or old enough, so that a slow pipe's
//! jobs do not wait for the next 16,384 lines. Transactions are short, and shorter yet beside a run (see `queue/bulk.rs`).

mod bad_lines;
mod feed;
mod inputs;
mod pointer;
mod progress;
mod report;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, ValueEnum, ValueHint};

use super::enqueue::Duplicate;
use super::error::{CliError, Exit};
use super::output::Output;
use super::session::Session;
use crate::intake::{Format, FormatError, Item, ReadError};
use crate::job::{ArtifactId, JobSpec};
use crate::queue::WorkQueue;

use bad_lines::BadLines;
use feed::Feed;
use inputs::Input;
use progress::Progress;
use report::Tally;

/// Load jobs from files or standard input
///
/// A file is JSONL (an object a line), CSV with a header, or a plain list of DOIs, arXiv ids, PMCIDs and URLs; it may be
/// gzip. Importing the same file again adds nothing. A bad line never stops the good ones: it is reported as
/// file:line:column with the reason, written to the rejects file, and counted; the exit code is then 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue import artifacts.jsonl
  orch queue import dois.txt more.csv.gz
  zcat list.gz | orch queue import --format lines -
  orch queue import artifacts.jsonl --strict         nothing, if any line is bad
  orch queue import artifacts.jsonl --limit 100      a hundred jobs, to try it out

The fields of a line: artifact_id (or derived from doi, arxiv_id, pmcid, pmid, url), kind,
priority, run_at, max_attempts, timeout_seconds, retry, resolver, host, tags; everything else is
the handler's and is kept as it came.")]
pub struct ImportArgs {
    /// The files; - is standard input
    #[arg(value_name = "FILE", required = true, value_hint = ValueHint::FilePath)]
    files: Vec<PathBuf>,
    /// How they are written: auto, jsonl, csv or lines
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = format)]
    format: Format,
    /// Stop after N different jobs (jobs, not lines)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Check every line first, and import nothing if any is bad
    #[arg(long)]
    strict: bool,
    /// Where bad lines go, with their reasons [default: NAME.rejects.jsonl beside the queue, after the first file]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    rejects: Option<PathBuf>,
    /// What to do with an id that is there already
    #[arg(long, value_name = "WHAT", default_value = "skip")]
    on_duplicate: Duplicate,
    /// How to say what was done
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    report: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// One line for people.
    Text,
    /// One JSON object.
    Json,
}

fn format(text: &str) -> Result<Format, FormatError> {
    Format::from_str(text)
}

pub(super) fn run(session: &mut Session, args: &ImportArgs) -> Result<Exit, CliError> {
    inputs::check_readable(&args.files)?;
    let mut import = Import {
        bad_lines: BadLines::new(rejects_path(session, args), session.out.messages),
        progress: Progress::new(session.out.messages),
        tally: Tally::default(),
        limit: Limit::new(args.limit),
        session,
        args,
    };
    let mut inputs = Vec::with_capacity(args.files.len());
    for file in &args.files {
        inputs.push(if args.strict { Input::spool(file)? } else { Input::plain(file) });
    }
    let done = import.all(&inputs);
    import.finish(done)
}

/// Beside the queue, named after the first input: `artifacts.jsonl.gz` gives `artifacts.rejects.jsonl`.
fn rejects_path(session: &Session, args: &ImportArgs) -> PathBuf {
    if let Some(path) = &args.rejects {
        return path.clone();
    }
    let first = args.files.first().map(PathBuf::as_path).filter(|path| *path != Path::new("-"));
    let name = first.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "stdin".to_owned());
    let stem = name.find('.').filter(|at| *at > 0).map_or(name.as_str(), |at| &name[..at]);
    session.settings().queue.path.with_file_name(format!("{stem}.rejects.jsonl"))
}

/// An import under way.
struct Import<'a> {
    session: &'a mut Session,
    args: &'a ImportArgs,
    bad_lines: BadLines,
    progress: Progress,
    tally: Tally,
    limit: Limit,
}

impl Import<'_> {
    fn all(&mut self, inputs: &[Input]) -> Result<(), CliError> {
        if self.args.strict {
            self.progress.begin("checked", inputs, self.session.clock.mono());
            for input in inputs {
                self.validate(input)?;
            }
            if self.bad_lines.count() > 0 {
                return Ok(());
            }
            self.limit = Limit::new(self.args.limit);
        }
        let mut queue = self.session.open_or_create()?;
        self.progress.begin("imported", inputs, self.session.clock.mono());
        for input in inputs {
            self.load(&mut queue, input)?;
        }
        Ok(())
    }

    /// Reads an input and keeps nothing of it but its bad lines.
    fn validate(&mut self, input: &Input) -> Result<(), CliError> {
        let reader = input.reader(self.args.format, &self.session.kinds())?;
        self.progress.input(reader.bytes_taken());
        for (index, item) in reader.enumerate() {
            match item? {
                Item::Bad(error) => self.bad_lines.add(&error, &self.progress)?,
                Item::Job(spec) if !self.limit.admits(&spec.artifact_id) => break,
                Item::Job(_) => {}
            }
            if index % feed::BATCH_JOBS == 0 {
                self.progress.show(self.session.clock.mono(), index as u64);
            }
        }
        Ok(())
    }

    fn load(&mut self, queue: &mut WorkQueue, input: &Input) -> Result<(), CliError> {
        let kinds = self.session.kinds();
        let reader = input.reader(self.args.format, &kinds)?;
        self.progress.input(reader.bytes_taken());
        let mut feed = Feed::start(reader, self.session.placing())?;
        loop {
            let mut batch = feed.next_batch(&*self.session.clock);
            for error in &batch.bad {
                self.bad_lines.add(error, &self.progress)?;
            }
            let all = batch.jobs.len();
            let admitted =
                batch.jobs.iter().take_while(|spec| self.limit.admits(&spec.artifact_id));
            let admitted = admitted.count();
            batch.jobs.truncate(admitted);
            self.insert(queue, &batch.jobs)?;
            self.progress.show(self.session.clock.mono(), self.tally.jobs());
            if let Some(end) = batch.end {
                return end.map_err(|error: ReadError| error.into());
            }
            if admitted < all {
                return Ok(());
            }
        }
    }

    fn insert(&mut self, queue: &mut WorkQueue, jobs: &[JobSpec]) -> Result<(), CliError> {
        let Import { session, args, progress, tally, .. } = self;
        queue.load(jobs, args.on_duplicate.into(), |answers| {
            tally.add(answers);
            progress.show(session.clock.mono(), tally.jobs());
        })?;
        Ok(())
    }

    /// Puts the rejects file in its place and says what was done, also when an error ended it early.
    fn finish(self, done: Result<(), CliError>) -> Result<Exit, CliError> {
        let Import { session, args, bad_lines, mut progress, mut tally, .. } = self;
        progress.end();
        tally.rejected = bad_lines.count();
        let rejects = bad_lines.finish(session.out.messages)?;
        // An import that could not begin has nothing to report but its error.
        if done.is_ok() || tally != Tally::default() {
            report(&mut session.out, args, &tally, rejects.as_deref())?;
        }
        done?;
        Ok(if tally.rejected > 0 { Exit::Partial } else { Exit::Ok })
    }
}

fn report(
    out: &mut Output,
    args: &ImportArgs,
    tally: &Tally,
    rejects: Option<&Path>,
) -> Result<(), CliError> {
    match args.report {
        ReportFormat::Text => out.line(&tally.as_text(rejects))?,
        ReportFormat::Json => out.json(&tally.as_json(rejects))?,
    }
    if args.strict && tally.rejected > 0 && tally.jobs() == 0 {
        out.messages.note("nothing was imported: --strict, and not every line is good");
    }
    Ok(())
}

/// `--limit`: so many different jobs, whether new or there already.
struct Limit {
    left: Option<u64>,
    /// Hashes of the ids so far; as many as the limit at most, and none without one.
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl Limit {
    fn new(limit: Option<u64>) -> Limit {
        Limit { left: limit, seen: HashSet::new(), hasher: RandomState::new() }
    }

    /// Whether a job of this id may still come in.
    fn admits(&mut self, id: &ArtifactId) -> bool {
        let Some(left) = &mut self.left else { return true };
        let hash = self.hasher.hash_one(id);
        if self.seen.contains(&hash) {
            return true;
        }
        if *left == 0 {
            return false;
        }
        *left -= 1;
        self.seen.insert(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_counts_jobs_and_not_lines() {
        let mut limit = Limit::new(Some(2));
        let mut admits = |id: &str| limit.admits(&ArtifactId::new(id).unwrap());
        let answers = ["a", "a", "b", "a", "c", "b"].map(&mut admits);
        assert_eq!(answers, [true, true, true, true, false, true]);
        assert!(Limit::new(None).admits(&ArtifactId::new("a").unwrap()));
    }
}
