//! `orch queue hosts`: how every host and resolver stands, and changing what holds of one while it is in use.
//!
//! Must never keep a read open while it prints, nor touch a limit but through [`WorkQueue::set_key`].

mod change;
pub(super) mod holders;
pub(super) mod json;
pub(super) mod standing;
#[cfg(test)]
pub(super) mod tests;

use std::cmp::Reverse;

use clap::{Args, Subcommand};

use crate::cli::args::TableFormat;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Column, Table, thousands};
use crate::cli::session::Session;
use crate::job::{LimitKey, normalise_host, normalise_resolver};
use crate::limit::Limits;
use crate::queue::WorkQueue;
use crate::queue::store::KeyView;
use crate::share::Configured;
use change::{PauseArgs, ResumeArgs, SetArgs};
use holders::Processes;
use json::KeyJson;
use standing::{Moment, Stand, Terrain, binds_words, holding, rate_words};

/// Show how hosts and resolvers stand, and change their limits
///
/// Every host and resolver that has jobs, or of which something is remembered: what runs there of how much, which limit binds, what its
/// jobs wait for and until when, and which processes hold its slots. Troubled ones with work come first, then the busiest.
/// `set`, `pause` and `resume` change one for all processes on the queue, at once, whether or not anything runs.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  orch queue hosts
  orch queue hosts set arxiv.org --max-concurrent 1 --rate 1/3s
  orch queue hosts pause repository.example
  orch queue hosts resume repository.example
  orch queue hosts --format json | jq -r '.[] | select(.why == \"open\") | .name'

The limit that binds is the strictest of: configured (of all runs in progress, or of a run from here when there is none), set,
crawl delay (robots.txt), adaptive (what the host has been seen to bear), breaker (half-open: one at a time).
A holder that is stopped keeps its slots until it goes on or ends: `held by` says so.

JSON: one array, an object for each: kind, name, running, max_concurrent, binds, rate, burst, waiting, why (paused, given_up, held, open,
half_open, full, rate), until, wait_ms, next_token_at, paused, held_until, trouble_since, crawl_delay_ms, adaptive, breaker {state,
failures, since, until}, set, configured, counts {as stats}, attempts, mean_ms, holders [{owner, process, state, slots, running,
tokens, wanted, tokens_wanted, waiting_since}]."
)]
pub struct HostsArgs {
    #[command(subcommand)]
    change: Option<HostsCommand>,
    /// Show all of them; the table shows 50 otherwise
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How to print; json is one array, of all unless --limit says otherwise
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: TableFormat,
}

// No comments on the variants: they would hide the help of the commands, which is their arguments' comment.
#[derive(Debug, Subcommand)]
enum HostsCommand {
    Set(SetArgs),
    Pause(PauseArgs),
    Resume(ResumeArgs),
}

/// How many the table shows unless told otherwise.
const ROWS: usize = 50;

const COLUMNS: [Column; 10] = [
    Column::text("name"),
    Column::numbers("running"),
    Column::text("binds"),
    Column::text("rate"),
    Column::numbers("waiting"),
    Column::numbers("done"),
    Column::numbers("skipped"),
    Column::numbers("error"),
    Column::text("why"),
    Column::text("held by"),
];

pub(super) fn run(session: &mut Session, args: &HostsArgs) -> Result<Exit, CliError> {
    match &args.change {
        None => list(session, args)?,
        Some(HostsCommand::Set(args)) => change::set(session, args)?,
        Some(HostsCommand::Pause(args)) => change::pause(session, args)?,
        Some(HostsCommand::Resume(args)) => change::resume(session, args)?,
    }
    Ok(Exit::Ok)
}

fn list(session: &mut Session, args: &HostsArgs) -> Result<(), CliError> {
    let mut queue = session.open_existing()?;
    let limits = session.settings().gate_limits()?;
    let terrain = terrain(session, &mut queue, &limits)?;
    let most = match (args.limit, args.format) {
        (Some(limit), _) => limit,
        (None, TableFormat::Table) if !args.all => ROWS,
        (None, _) => usize::MAX,
    };
    let mut first = First::new(most);
    queue.each_key(|view| first.add(view, &terrain))?;
    let (views, left_out) = first.end();
    let stands: Vec<Stand<'_>> = views.iter().map(|view| terrain.stand(view)).collect();
    match args.format {
        TableFormat::Table => as_table(session, &stands, terrain.now)?,
        TableFormat::Json => as_json(session, &stands, terrain.now)?,
    }
    if left_out > 0 && args.format == TableFormat::Table {
        let left_out = thousands(left_out);
        session.out.messages.note(&format!("and {left_out} more: --all shows them"));
    }
    if !terrain.is_run {
        session.out.messages.note("no run is in progress: limits are those of a run from here");
    }
    Ok(())
}

/// By what keys are judged now.
pub(super) fn terrain<'a>(
    session: &Session,
    queue: &mut WorkQueue,
    limits: &'a Limits,
) -> Result<Terrain<'a>, CliError> {
    // Every `queue run` declares a limit for all hosts: of any host whatever, something is configured while one lives.
    let any_host = LimitKey::Host("localhost".into());
    let is_run = queue.key(&any_host)?.configured != Configured::default();
    let now = Moment { mono: session.clock.mono(), wall: session.clock.wall() };
    Ok(Terrain { now, limits, is_run })
}

/// The key a person names.
fn key_of(name: &str, is_resolver: bool) -> Result<LimitKey, CliError> {
    let key = if is_resolver {
        normalise_resolver(name).map(LimitKey::Resolver)
    } else {
        normalise_host(name).map(LimitKey::Host)
    };
    key.map_err(CliError::Name)
}

/// The first of many keys by [`rank`], without keeping the others.
struct First {
    most: usize,
    kept: Vec<(Rank, KeyView)>,
    dropped: u64,
}

/// Troubled with work, with work, troubled, the rest; then the most work; then by name.
type Rank = (u8, Reverse<u64>, LimitKey);

fn rank(stand: &Stand<'_>) -> Rank {
    let work = stand.unfinished();
    let group = match (stand.is_in_trouble(), work > 0) {
        (true, true) => 0,
        (false, true) => 1,
        (true, false) => 2,
        (false, false) => 3,
    };
    (group, Reverse(work), stand.view.key.clone())
}

impl First {
    fn new(most: usize) -> First {
        First { most, kept: Vec::new(), dropped: 0 }
    }

    fn add(&mut self, view: KeyView, terrain: &Terrain<'_>) {
        let rank = rank(&terrain.stand(&view));
        self.kept.push((rank, view));
        // Sorted rarely: the cost of one key stays small however many there are.
        if self.kept.len() > self.most.saturating_mul(2).max(1_000) {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        self.kept.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        self.dropped += self.kept.len().saturating_sub(self.most) as u64;
        self.kept.truncate(self.most);
    }

    /// The first, in order, and how many were left out.
    fn end(mut self) -> (Vec<KeyView>, u64) {
        self.shrink();
        (self.kept.into_iter().map(|(_, view)| view).collect(), self.dropped)
    }
}

fn as_table(session: &mut Session, stands: &[Stand<'_>], now: Moment) -> Result<(), CliError> {
    if stands.is_empty() {
        session.out.messages.note("no host or resolver has jobs, and nothing is remembered of any");
        return Ok(());
    }
    let mut table = Table::new(&COLUMNS);
    let mut processes = Processes::default();
    stands.iter().for_each(|stand| table.row(cells(stand, now, &mut processes)));
    session.out.table(&table)
}

fn cells(stand: &Stand<'_>, now: Moment, processes: &mut Processes) -> Vec<String> {
    let counts = &stand.view.counts;
    let none = || "-".to_owned();
    let held_by: Vec<String> = holding(stand.view)
        .map(|holder| holders::cell(holder, processes.of(holder.process)))
        .collect();
    vec![
        standing::name(&stand.view.key),
        stand.running_words(),
        binds_words(stand.terms.binds).to_owned(),
        stand.terms.rate.map_or_else(none, rate_words),
        counts.queued.to_string(),
        counts.done.to_string(),
        counts.skipped.to_string(),
        counts.error.to_string(),
        stand.why(now).unwrap_or_else(none),
        Some(held_by.join(", ")).filter(|text| !text.is_empty()).unwrap_or_else(none),
    ]
}

fn as_json(session: &mut Session, stands: &[Stand<'_>], now: Moment) -> Result<(), CliError> {
    let mut processes = Processes::default();
    session.out.text("[")?;
    for (index, stand) in stands.iter().enumerate() {
        session.out.text(if index == 0 { "\n  " } else { ",\n  " })?;
        session.out.json_line(&KeyJson::new(stand, now, &mut processes))?;
    }
    session.out.text("\n]\n")
}
