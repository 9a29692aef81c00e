//! `orch queue stats`: how many jobs are in which state.

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::args::TableFormat;
use super::error::{CliError, Exit};
use super::output::{Column, Table};
use super::session::Session;
use crate::job::State;
use crate::queue::store::{Counts, Dimension};

/// Count jobs by state
///
/// Counts are kept, not computed: this takes milliseconds however large the queue is, and disturbs no run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue stats
  orch queue stats --by reason
  orch queue stats --format json | jq .queued

JSON: {\"queued\":…,\"in_progress\":…,\"done\":…,\"skipped\":…,\"error\":…,\"total\":…}, and with --by
also \"by\": {\"host\": {\"arxiv.org\": {the same six}}}. Jobs without a host or resolver are counted
under \"-\".")]
pub struct StatsArgs {
    /// Break the counts down; may be given several times
    #[arg(long, value_name = "WHAT")]
    by: Vec<By>,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: TableFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// By the host a job asks next.
    Host,
    /// By the resolver a job asks next.
    Resolver,
    /// By kind: fetch, exec, noop.
    Kind,
    /// By the reason of finished jobs.
    Reason,
}

impl By {
    fn dimension(self) -> Dimension {
        match self {
            By::Host => Dimension::Host,
            By::Resolver => Dimension::Resolver,
            By::Kind => Dimension::Kind,
            By::Reason => Dimension::Reason,
        }
    }

    fn name(self) -> &'static str {
        match self {
            By::Host => "host",
            By::Resolver => "resolver",
            By::Kind => "kind",
            By::Reason => "reason",
        }
    }
}

#[derive(Serialize)]
struct CountsJson {
    queued: u64,
    in_progress: u64,
    done: u64,
    skipped: u64,
    error: u64,
    total: u64,
}

impl From<&Counts> for CountsJson {
    fn from(counts: &Counts) -> CountsJson {
        CountsJson {
            queued: counts.queued,
            in_progress: counts.in_progress,
            done: counts.done,
            skipped: counts.skipped,
            error: counts.error,
            total: counts.total(),
        }
    }
}

pub(super) fn run(session: &mut Session, args: &StatsArgs) -> Result<Exit, CliError> {
    let mut queue = session.open_existing()?;
    let all = queue.counts()?;
    let mut groups = Vec::new();
    for by in &args.by {
        groups.push((*by, queue.counts_by(by.dimension())?));
    }
    match args.format {
        TableFormat::Json => session.out.json(&as_json(&all, &groups))?,
        TableFormat::Table => {
            session.out.table(&by_state(&all))?;
            for (by, counts) in &groups {
                session.out.line("")?;
                session.out.table(&by_group(*by, counts))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn as_json(all: &Counts, groups: &[(By, Vec<(String, Counts)>)]) -> Value {
    let mut root = json!(CountsJson::from(all));
    if let Some(root) = root.as_object_mut().filter(|_| !groups.is_empty()) {
        let group = |(by, counts): &(By, Vec<(String, Counts)>)| {
            let members =
                counts.iter().map(|(name, counts)| (name.clone(), json!(CountsJson::from(counts))));
            (by.name().to_owned(), Value::Object(members.collect()))
        };
        let by: Map<String, Value> = groups.iter().map(group).collect();
        root.insert("by".to_owned(), Value::Object(by));
    }
    root
}

fn by_state(counts: &Counts) -> Table {
    let mut table = Table::new(&[Column::text("state"), Column::numbers("jobs")]);
    for state in State::ALL {
        table.row(vec![state.name().to_owned(), counts.of(state).to_string()]);
    }
    table.row(vec!["total".to_owned(), counts.total().to_string()]);
    table
}

fn by_group(by: By, groups: &[(String, Counts)]) -> Table {
    let mut columns = vec![Column::text(by.name())];
    columns.extend(State::ALL.map(|state| Column::numbers(state.name())));
    columns.push(Column::numbers("total"));
    let mut table = Table::new(&columns);
    for (name, counts) in groups {
        let mut row = vec![name.clone()];
        row.extend(State::ALL.map(|state| counts.of(state).to_string()));
        row.push(counts.total().to_string());
        table.row(row);
    }
    table
}
