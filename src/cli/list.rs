//! `orch queue list`: jobs, one a line.

use clap::Args;

use super::args::{FilterArgs, TableFormat};
use super::error::{CliError, Exit};
use super::output::{Aligner, Column, printable, time};
use super::session::Session;
use super::view::JobJson;
use crate::queue::store::{Filter, JobView};

/// List jobs
///
/// In the order they were added, read page by page: a list of millions is printed as it is read, and holds nobody up.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue list --state error
  orch queue list --reason http_status --host example.org
  orch queue list --state queued --limit 20 --format json | jq -r '.[].artifact_id'")]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// At most so many jobs
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How to print; json is one array
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: TableFormat,
}

/// How many rows are looked at for the width of the columns before they are printed.
const ROWS_AT_ONCE: usize = 200;

const COLUMNS: [Column; 7] = [
    Column::text("artifact_id"),
    Column::text("kind"),
    Column::text("state"),
    Column::text("reason"),
    Column::numbers("attempts"),
    Column::text("key"),
    Column::text("changed"),
];

impl From<&FilterArgs> for Filter {
    fn from(args: &FilterArgs) -> Filter {
        Filter { state: args.state, reason: args.reason, host: args.host.clone() }
    }
}

pub(super) fn run(session: &mut Session, args: &ListArgs) -> Result<Exit, CliError> {
    let mut queue = session.open_existing()?;
    let jobs = queue
        .jobs(Filter::from(&args.filter))
        .take(args.limit.unwrap_or(usize::MAX))
        .map(|job| job.map_err(CliError::from));
    match args.format {
        TableFormat::Table => as_table(session, jobs)?,
        TableFormat::Json => as_json(session, jobs)?,
    }
    Ok(Exit::Ok)
}

fn as_table(
    session: &mut Session,
    jobs: impl Iterator<Item = Result<JobView, CliError>>,
) -> Result<(), CliError> {
    let mut jobs = jobs.peekable();
    if jobs.peek().is_none() {
        session.out.messages.note("no job matches");
        return Ok(());
    }
    let mut aligner = Aligner::new(&COLUMNS);
    let mut header_is_due = true;
    while jobs.peek().is_some() {
        let rows: Vec<Vec<String>> = jobs
            .by_ref()
            .take(ROWS_AT_ONCE)
            .map(|job| Ok(cells(&job?)))
            .collect::<Result<_, CliError>>()?;
        aligner.widen(&rows);
        let header = header_is_due.then(|| aligner.header());
        header_is_due = false;
        let lines = header.into_iter().chain(rows.iter().map(|row| aligner.line(row)));
        session.out.text(&lines.collect::<String>())?;
    }
    Ok(())
}

fn cells(job: &JobView) -> Vec<String> {
    vec![
        printable(job.artifact_id.as_str()),
        job.kind.to_string(),
        job.state.to_string(),
        job.reason.map_or_else(|| "-".to_owned(), |reason| reason.to_string()),
        job.attempts_total.to_string(),
        job.key.to_string(),
        time(job.changed_at),
    ]
}

/// One array, an object a line: valid JSON as a whole, and readable while it comes.
fn as_json(
    session: &mut Session,
    jobs: impl Iterator<Item = Result<JobView, CliError>>,
) -> Result<(), CliError> {
    session.out.text("[")?;
    for (index, job) in jobs.enumerate() {
        session.out.text(if index == 0 { "\n  " } else { ",\n  " })?;
        session.out.json_line(&JobJson::new(&job?))?;
    }
    session.out.text("\n]\n")
}
