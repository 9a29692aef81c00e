//! `orch queue export`: what came of the jobs, or of each attempt, for other programs.
//!
//! Every line is one flat record: names that scripts may rely on, in one order. Must never hold the queue while it
//! writes: jobs and their stories are read by the page.

mod attempt;
mod job;
mod target;

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};
use serde_json::{Map, Value};

use crate::cli::args;
use crate::cli::error::{CliError, Exit};
use crate::cli::session::Session;
use crate::job::State;
use crate::queue::store::Filter;
use target::Target;

/// Write what came of the jobs as JSONL or CSV
///
/// One job a line, in the order they were added: its id, state and reason, and for a fetched file its path, sha256, bytes,
/// media_type, url, final_url, resolver, licence, version, etag, last_modified, fetched_at and flags. With --attempts one
/// attempt a line instead, oldest first within its job: attempt (from 1), epoch, outcome, reason, message,
/// started_at, elapsed_ms, host, resolver and url. What is not known is null in JSONL and empty in CSV; lists are
/// separated by spaces in CSV. A file named with --output appears whole, or not at all.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue export --state done --output manifest.jsonl
  orch queue export --format csv --output manifest.csv
  orch queue export --state done | jq -r .path
  orch queue export --attempts --state error --format csv --output attempts.csv")]
pub struct ExportArgs {
    /// Only jobs in this state: queued, in_progress, done, skipped, error
    #[arg(long, value_parser = args::state, value_name = "STATE")]
    state: Option<State>,
    /// One line for each attempt, in place of one for each job
    #[arg(long)]
    attempts: bool,
    /// How to write
    #[arg(long, value_name = "FORMAT", default_value = "jsonl")]
    format: ExportFormat,
    /// The file to write, in place of standard output
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values under a header.
    Csv,
}

/// One line: every column in its place.
type Record = Map<String, Value>;

pub(super) fn run(session: &mut Session, args: &ExportArgs) -> Result<Exit, CliError> {
    let mut queue = session.open_existing()?;
    let filter = Filter { state: args.state, ..Filter::default() };
    let mut write = |out: &mut dyn Write, failed: &dyn Fn(io::Error) -> CliError| {
        let format = args.format;
        if args.attempts {
            let stories = queue.stories(filter.clone());
            let records = stories.flat_map(|told| match told {
                Ok((job, story)) => attempt::records(&job, &story).into_iter().map(Ok).collect(),
                Err(error) => vec![Err(CliError::from(error))],
            });
            write_records(out, format, &attempt::COLUMNS, records, failed)
        } else {
            let jobs = queue.jobs(filter.clone());
            let records = jobs.map(|job| Ok(job::record(&job?)));
            write_records(out, format, &job::COLUMNS, records, failed)
        }
    };
    match &args.output {
        None => write(session.out.data(), &CliError::Output)?,
        Some(path) => {
            let failed = |source| CliError::File { action: "write", path: path.clone(), source };
            let mut target = Target::create(path).map_err(failed)?;
            write(target.writer(), &failed)?;
            target.place().map_err(failed)?;
        }
    }
    Ok(Exit::Ok)
}

fn write_records(
    out: &mut dyn Write,
    format: ExportFormat,
    columns: &[&str],
    records: impl Iterator<Item = Result<Record, CliError>>,
    failed: &dyn Fn(io::Error) -> CliError,
) -> Result<(), CliError> {
    match format {
        ExportFormat::Jsonl => {
            for record in records {
                serde_json::to_writer(&mut *out, &record?).map_err(|e| failed(e.into()))?;
                out.write_all(b"\n").map_err(failed)?;
            }
        }
        ExportFormat::Csv => {
            let mut csv = csv::Writer::from_writer(&mut *out);
            let failed_csv = |error: csv::Error| failed(io_error(error));
            csv.write_record(columns).map_err(failed_csv)?;
            for record in records {
                let record = record?;
                let cells = columns.iter().map(|column| cell(record.get(*column)).into_owned());
                csv.write_record(cells.collect::<Vec<_>>()).map_err(failed_csv)?;
            }
            csv.flush().map_err(failed)?;
        }
    }
    out.flush().map_err(failed)
}

/// The error of the file below, its kind kept: a broken pipe must be seen to be one.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

fn cell(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(Value::Array(items)) => {
            let items: Vec<Cow<'_, str>> = items.iter().map(|item| cell(Some(item))).collect();
            Cow::Owned(items.join(" "))
        }
        Some(other) => Cow::Owned(other.to_string()),
    }
}

/// Where there is no text there is null.
fn text(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cell_of_csv_is_bare_text() {
        let check = |value: Value, expected: &str| assert_eq!(cell(Some(&value)), expected);
        check(json!(null), "");
        check(json!("a b"), "a b");
        check(json!(17), "17");
        check(json!(["encrypted", "javascript"]), "encrypted javascript");
        check(json!([]), "");
        check(json!({"a": 1}), "{\"a\":1}");
        assert_eq!(cell(None), "");
    }
}
