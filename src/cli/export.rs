//! `orch queue export`: what came of the jobs, for other programs.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, ValueHint};
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use super::args;
use super::error::{CliError, Exit};
use super::output::rfc3339;
use super::session::Session;
use crate::job::State;
use crate::queue::store::{Filter, JobView};

/// Write what came of the jobs as JSONL or CSV
///
/// One job a line, in the order they were added: its id, state and reason, and for a fetched file its path, sha256, bytes,
/// media_type, url, final_url, resolver, licence, version, etag, last_modified and fetched_at. What is not known is
/// null in JSONL and empty in CSV. A file named with --output appears whole, or not at all.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue export --state done --output manifest.jsonl
  orch queue export --format csv --output manifest.csv
  orch queue export --state done | jq -r .path")]
pub struct ExportArgs {
    /// Only jobs in this state: queued, in_progress, done, skipped, error
    #[arg(long, value_parser = args::state, value_name = "STATE")]
    state: Option<State>,
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

/// The columns, in order.
const COLUMNS: [&str; 22] = [
    "artifact_id",
    "kind",
    "state",
    "reason",
    "message",
    "host",
    "path",
    "sha256",
    "bytes",
    "media_type",
    "url",
    "final_url",
    "resolver",
    "licence",
    "version",
    "etag",
    "last_modified",
    "fetched_at",
    "attempts",
    "elapsed_ms",
    "enqueued_at",
    "changed_at",
];

pub(super) fn run(session: &mut Session, args: &ExportArgs) -> Result<Exit, CliError> {
    let mut queue = session.open_existing()?;
    let jobs = queue.jobs(Filter { state: args.state, ..Filter::default() });
    let jobs = jobs.map(|job| job.map_err(CliError::from));
    match &args.output {
        None => write_jobs(session.out.data(), args.format, jobs, &CliError::Output)?,
        Some(path) => {
            let failed = |source| CliError::File { action: "write", path: path.clone(), source };
            let mut target = Target::create(path).map_err(failed)?;
            write_jobs(target.writer(), args.format, jobs, &failed)?;
            target.place().map_err(failed)?;
        }
    }
    Ok(Exit::Ok)
}

fn write_jobs(
    out: &mut dyn Write,
    format: ExportFormat,
    jobs: impl Iterator<Item = Result<JobView, CliError>>,
    failed: &dyn Fn(io::Error) -> CliError,
) -> Result<(), CliError> {
    match format {
        ExportFormat::Jsonl => {
            for job in jobs {
                let record = record(&job?);
                serde_json::to_writer(&mut *out, &record).map_err(|e| failed(e.into()))?;
                out.write_all(b"\n").map_err(failed)?;
            }
        }
        ExportFormat::Csv => {
            let mut csv = csv::Writer::from_writer(&mut *out);
            let failed_csv = |error: csv::Error| failed(io_error(error));
            csv.write_record(COLUMNS).map_err(failed_csv)?;
            for job in jobs {
                let record = record(&job?);
                let cells = COLUMNS.map(|column| cell(record.get(column)).into_owned());
                csv.write_record(cells).map_err(failed_csv)?;
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

/// The job as one flat object, every column in its place.
fn record(job: &JobView) -> Map<String, Value> {
    let detail: Option<Map<String, Value>> =
        job.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok());
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    let value = |column: &str| match column {
        "artifact_id" => Value::from(job.artifact_id.as_str()),
        "kind" => Value::from(job.kind.as_str()),
        "state" => Value::from(job.state.name()),
        "reason" => text(job.reason.map(|reason| reason.name())),
        "message" => text(Some(job.message.as_str()).filter(|message| !message.is_empty())),
        "host" => text(job.key.host.as_deref()),
        "attempts" => Value::from(job.attempts_total),
        "elapsed_ms" => job.elapsed_ms.map_or(Value::Null, Value::from),
        "enqueued_at" => text(rfc3339(job.enqueued_at).as_deref()),
        "changed_at" => text(rfc3339(job.changed_at).as_deref()),
        // The rest is what the handler recorded.
        name => detail.as_ref().and_then(|detail| detail.get(name)).cloned().unwrap_or(Value::Null),
    };
    COLUMNS.iter().map(|&column| (column.to_owned(), value(column))).collect()
}

fn cell(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_string()),
    }
}

/// A file that appears whole or not at all; a pipe or a device is written as it is.
enum Target {
    Replace(BufWriter<NamedTempFile>, PathBuf),
    Stream(BufWriter<File>),
}

impl Target {
    fn create(path: &Path) -> io::Result<Target> {
        let path = match fs::metadata(path) {
            Ok(found) if found.is_file() => fs::canonicalize(path)?,
            Ok(_) => {
                let file = fs::OpenOptions::new().write(true).open(path)?;
                return Ok(Target::Stream(BufWriter::new(file)));
            }
            Err(_) => path.to_owned(),
        };
        // As any new file: the process's umask says who may read it.
        let file = tempfile::Builder::new()
            .prefix(".export-")
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory_of(&path))?;
        Ok(Target::Replace(BufWriter::new(file), path))
    }

    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Target::Replace(out, _) => out,
            Target::Stream(out) => out,
        }
    }

    fn place(self) -> io::Result<()> {
        match self {
            Target::Stream(mut out) => out.flush(),
            Target::Replace(out, path) => {
                let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                file.persist(&path)?;
                File::open(directory_of(&path))?.sync_all()
            }
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
