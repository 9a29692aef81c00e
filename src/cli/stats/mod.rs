//! `orch queue stats`: how many jobs are in which state, and what resolvers have yielded.

mod yields;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::cli::args::TableFormat;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Column, Table};
use crate::cli::session::Session;
use crate::job::State;
use crate::queue::WorkQueue;
use crate::queue::store::{Counts, Dimension};
use yields::{Yield, YieldJson};

/// Count jobs by state
///
/// Counts are kept, not computed: this takes milliseconds however large the queue is, and disturbs no run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue stats
  orch queue stats --by reason
  orch queue stats --by resolver
  orch queue stats --format json | jq .queued

With --by resolver, beside the jobs that ask it next, what asking each resolver has come to so far:
  asked    works it was asked about
  found    of those, it named at least one copy
  fetched  of those, its copy is the file that was kept
  busy     put off: it was held, or asked to be left alone
  broken   it gave no answer that could be read
  mean_ms  milliseconds for one work; empty when it was never asked
These count finished attempts, of jobs that are gone now too.

JSON: {\"queued\":…,\"in_progress\":…,\"done\":…,\"skipped\":…,\"error\":…,\"total\":…}, and with --by
also \"by\": {\"host\": {\"arxiv.org\": {the same six}}}; a resolver has the six above beside them. Jobs
without a host or resolver are counted under \"-\".")]
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

#[derive(Serialize)]
struct GroupJson {
    #[serde(flatten)]
    counts: CountsJson,
    #[serde(flatten)]
    yielded: Option<YieldJson>,
}

/// One value of what the counts are broken down by. Only resolvers yield.
struct Row {
    name: String,
    counts: Counts,
    yielded: Option<Yield>,
}

pub(super) fn run(session: &mut Session, args: &StatsArgs) -> Result<Exit, CliError> {
    let mut queue = session.open_existing()?;
    let all = queue.counts()?;
    let mut groups = Vec::new();
    for by in &args.by {
        groups.push((*by, rows(&mut queue, *by)?));
    }
    match args.format {
        TableFormat::Json => session.out.json(&as_json(&all, &groups))?,
        TableFormat::Table => {
            session.out.table(&by_state(&all))?;
            for (by, rows) in &groups {
                session.out.line("")?;
                session.out.table(&by_group(*by, rows))?;
            }
        }
    }
    Ok(Exit::Ok)
}

fn rows(queue: &mut WorkQueue, by: By) -> Result<Vec<Row>, CliError> {
    let counts = queue.counts_by(by.dimension())?;
    if by != By::Resolver {
        let row = |(name, counts)| Row { name, counts, yielded: None };
        return Ok(counts.into_iter().map(row).collect());
    }
    let row = |(name, counts, sum)| Row { name, counts, yielded: Some(sum) };
    Ok(yields::by_resolver(counts, &queue.yields()?).into_iter().map(row).collect())
}

fn as_json(all: &Counts, groups: &[(By, Vec<Row>)]) -> Value {
    let mut root = json!(CountsJson::from(all));
    if let Some(root) = root.as_object_mut().filter(|_| !groups.is_empty()) {
        let member = |row: &Row| {
            let counts = CountsJson::from(&row.counts);
            let group = GroupJson { counts, yielded: row.yielded.map(YieldJson::from) };
            (row.name.clone(), json!(group))
        };
        let group = |(by, rows): &(By, Vec<Row>)| {
            (by.name().to_owned(), Value::Object(rows.iter().map(member).collect()))
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

fn by_group(by: By, rows: &[Row]) -> Table {
    let mut columns = vec![Column::text(by.name())];
    columns.extend(State::ALL.map(|state| Column::numbers(state.name())));
    columns.push(Column::numbers("total"));
    if by == By::Resolver {
        columns.extend(yields::COLUMNS);
    }
    let mut table = Table::new(&columns);
    for row in rows {
        let mut cells = vec![row.name.clone()];
        cells.extend(State::ALL.map(|state| row.counts.of(state).to_string()));
        cells.push(row.counts.total().to_string());
        cells.extend(row.yielded.into_iter().flat_map(Yield::cells));
        table.row(cells);
    }
    table
}
