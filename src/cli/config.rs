//! `orch config show|check|default`.

use std::ffi::OsString;
use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::args::TableFormat;
use super::error::{CliError, Exit};
use super::output::Output;
use super::run::fetch_settings;
use crate::config::{Config, DEFAULT_TOML, Entry, Origin, Sources};
use crate::handler::{FetchPlan, FetchSetupError};

/// `orch config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting in force, and where it came from
    Show(ShowArgs),
    /// Check the configuration; exit code 2 when something is wrong with it
    #[command(after_help = "\
Examples:
  orch config check
  orch config check --config new.toml")]
    Check,
    /// Print the defaults: every key with its bounds and what it does
    #[command(after_help = "\
Example:
  orch config default > orch.toml")]
    Default,
}

/// Print every setting in force, and where it came from
///
/// Later wins: the defaults, the configuration file, the environment (ORCH_QUEUE__PATH), flags. The output is a
/// configuration file itself, except that secrets are shown as "(set)".
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch config show
  orch config show --format json | jq '.\"queue.path\"'
  ORCH_ORCHESTRATOR__MAX_WORKERS=16 orch config show | grep max_workers")]
pub struct ShowArgs {
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: TableFormat,
}

pub(super) fn run(
    out: &mut Output,
    command: &ConfigCommand,
    sources: &Sources,
    environment: &[(OsString, OsString)],
) -> Result<Exit, CliError> {
    match command {
        ConfigCommand::Show(args) => show(out, args, &Config::load(sources)?),
        ConfigCommand::Check => check(out, &Config::load(sources)?, environment),
        ConfigCommand::Default => {
            out.text(DEFAULT_TOML)?;
            Ok(Exit::Ok)
        }
    }
}

fn show(out: &mut Output, args: &ShowArgs, config: &Config) -> Result<Exit, CliError> {
    match args.format {
        TableFormat::Table => out.text(&as_text(config.entries()))?,
        TableFormat::Json => out.json(&as_json(config.entries()))?,
    }
    Ok(Exit::Ok)
}

/// `key = value   # origin`, aligned: TOML, and so a configuration file.
fn as_text(entries: &[Entry]) -> String {
    let settings: Vec<String> =
        entries.iter().map(|entry| format!("{} = {}", entry.key, entry.value)).collect();
    let width = settings.iter().map(|setting| setting.chars().count()).max().unwrap_or(0);
    let lines = settings.iter().zip(entries).map(|(setting, entry)| {
        // One very long value must not push every comment off the screen.
        let padding = width.min(60).saturating_sub(setting.chars().count());
        format!("{setting}{}  # {}\n", " ".repeat(padding), entry.origin)
    });
    lines.collect()
}

fn as_json(entries: &[Entry]) -> Value {
    let entry = |entry: &Entry| {
        let value = json!(entry.value);
        (entry.key.clone(), json!({ "value": value, "origin": origin(&entry.origin) }))
    };
    Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
}

fn origin(origin: &Origin) -> Value {
    match origin {
        Origin::Default => json!({ "layer": "default" }),
        Origin::File { path, line, column } => {
            json!({ "layer": "file", "path": path.display().to_string(), "line": line, "column": column })
        }
        Origin::Environment { variable } => {
            json!({ "layer": "environment", "variable": variable })
        }
        Origin::Flag { flag } => json!({ "layer": "flag", "flag": flag }),
    }
}

fn check(
    out: &mut Output,
    config: &Config,
    environment: &[(OsString, OsString)],
) -> Result<Exit, CliError> {
    let plan = FetchPlan::new(&fetch_settings(&config.settings, environment))
        .map_err(FetchSetupError::from)?;
    for off in plan.off() {
        out.messages.note(&format!("resolver {} is off: {}", off.resolver, off.why));
    }
    out.line(&format!("ok: {}", what_was_read(config.file.as_deref())))?;
    Ok(Exit::Ok)
}

pub(super) fn what_was_read(file: Option<&Path>) -> String {
    match file {
        Some(path) => path.display().to_string(),
        None => "no configuration file; the defaults, the environment and flags".to_owned(),
    }
}
