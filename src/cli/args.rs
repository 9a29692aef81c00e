//! What may be typed. Help, man pages and completions all come from these definitions.
//!
//! What was typed becomes settings once ([`GlobalArgs::flags`] and the like); past that nobody asks which flag it was.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::config::Flag;
use crate::job::{Reason, State};

use super::{
    bench, completions, config, demo, doctor, enqueue, explain, export, forecast, hosts, import,
};
use super::{list, man, prune, resolve, retry_failed, run, show, stats};

/// Takes a large pile of work and gets it done
///
/// orch reads a list of work (DOIs, arXiv ids, URLs, commands) into a durable queue and runs it: politely towards
/// every host it touches, and without losing or repeating finished work when something dies half-way.
#[derive(Debug, Parser)]
#[command(
    name = "orch",
    bin_name = "orch",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_long_help = "\
Examples:
  orch queue import artifacts.jsonl        load a list of work
  orch queue stats                         what is there, by state
  orch queue list --state error            what failed
  orch queue explain ID                    why is it not running
  orch queue hosts                         how every host stands, and what it waits for
  orch queue retry-failed                  give what failed another chance
  orch resolve 10.1371/journal.pone.0214986   who knows an open copy, and who does not
  orch doctor                              is everything there that a run needs
  orch bench                               how fast this machine is, beside its own limit
  orch config show                         every setting, and where it came from

Exit codes:
  0  all of it worked
  1  it could not be done: the message says what and what to do
  2  the command line or the configuration is wrong
  3  done, but not all of it worked: lines were rejected, or jobs ended in error
  4  stopped with work left
  130, 143  a signal stopped it

Data goes to standard output, everything else to standard error."
)]
pub struct Cli {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Configuration file [default: $ORCH_CONFIG, ./orch.toml or ~/.config/orch/config.toml]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// The queue's file [config: queue.path]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub queue: Option<String>,
    /// How log lines look [config: log.format]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// How much is logged: error, warn, info, debug, trace, off [config: log.level]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// No progress and no remarks: errors only
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add jobs, look at them, put them back
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Show what each resolver says of a work, without downloading
    Resolve(resolve::ResolveArgs),
    /// Check everything a run needs, and ask each service one question
    Doctor(doctor::DoctorArgs),
    #[expect(missing_docs, reason = "as for the commands of `orch queue`")]
    Bench(bench::BenchArgs),
    /// Show and check the settings
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// See it work: the whole way on this machine alone
    Demo(demo::DemoArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual, one page per command
    Man(man::ManArgs),
}

/// `orch queue …`
#[expect(
    missing_docs,
    reason = "a comment here would hide the help of the command, which is its arguments' comment"
)]
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    Enqueue(enqueue::EnqueueArgs),
    Import(import::ImportArgs),
    Run(run::RunArgs),
    Stats(stats::StatsArgs),
    RetryFailed(retry_failed::RetryFailedArgs),
    List(list::ListArgs),
    Show(show::ShowArgs),
    Explain(explain::ExplainArgs),
    Hosts(hosts::HostsArgs),
    Forecast(forecast::ForecastArgs),
    Export(export::ExportArgs),
    Prune(prune::PruneArgs),
}

impl GlobalArgs {
    /// The settings these flags give.
    #[must_use]
    pub fn flags(&self) -> Vec<Flag> {
        let mut flags = Vec::new();
        if let Some(path) = &self.queue {
            flags.push(Flag::new("--queue", &["queue", "path"], path.as_str()));
        }
        if let Some(format) = self.log_format {
            let name = match format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
            };
            flags.push(Flag::new("--log-format", &["log", "format"], name));
        }
        if let Some(level) = &self.log_level {
            flags.push(Flag::new("--log-level", &["log", "level"], level.as_str()));
        }
        flags
    }
}

/// A table for people, or JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum TableFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// Which jobs: the filters that several commands share.
#[derive(Debug, Clone, Default, Args)]
pub struct FilterArgs {
    /// Only jobs in this state: queued, in_progress, done, skipped, error
    #[arg(long, value_parser = state, value_name = "STATE")]
    pub state: Option<State>,
    /// Only jobs with this reason, such as http_status or no_open_copy
    #[arg(long, value_parser = reason, value_name = "REASON")]
    pub reason: Option<Reason>,
    /// Only jobs of this host
    #[arg(long, value_parser = host, value_name = "HOST")]
    pub host: Option<Arc<str>>,
}

/// A state by its name.
///
/// # Errors
/// The names there are.
pub(super) fn state(text: &str) -> Result<State, String> {
    State::from_name(text).ok_or_else(|| unknown("state", text, &State::ALL.map(State::name)))
}

/// A reason by its name.
///
/// # Errors
/// The names there are.
pub(super) fn reason(text: &str) -> Result<Reason, String> {
    let names: Vec<&str> = Reason::all().map(Reason::name).collect();
    Reason::from_name(text).ok_or_else(|| unknown("reason", text, &names))
}

/// A host in the one spelling that limits count by.
///
/// # Errors
/// Why it is none.
pub(super) fn host(text: &str) -> Result<Arc<str>, crate::job::KeyError> {
    crate::job::normalise_host(text)
}

/// What to say of a word that is none of `known`.
fn unknown(what: &str, text: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&text.to_lowercase(), name), name))
        .filter(|(distance, _)| *distance <= (text.chars().count() / 3).max(1))
        .min()
        .map(|(_, name)| format!(" (did you mean {name}?)"))
        .unwrap_or_default();
    format!("there is no such {what}{near}; expected one of {}", known.join(", "))
}
