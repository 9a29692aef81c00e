//! `orch queue prune`: finished jobs that are old enough are deleted.

use std::time::Duration;

use clap::Args;

use super::duration;
use super::error::{CliError, Exit};
use super::session::Session;
use crate::job::WallMs;

/// Delete finished jobs that are old enough
///
/// Takes jobs that are done, skipped or in error and have not changed for so long; never unfinished ones, and no files. Their
/// ids are remembered as short hashes, so a later import of the same list does not repeat them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue prune --older-than 30d
  orch queue prune --older-than 0s --forget      all that is finished, and let it be imported anew")]
pub struct PruneArgs {
    /// How long ago they finished: a number with ms, s, m, h, d or w
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    older_than: Duration,
    /// Forget the ids too: a later import runs them again
    #[arg(long)]
    forget: bool,
}

pub(super) fn run(session: &mut Session, args: &PruneArgs) -> Result<Exit, CliError> {
    let mut queue = session.open_existing()?;
    let age_ms = i64::try_from(args.older_than.as_millis()).unwrap_or(i64::MAX);
    // "Older than 0s" is what finished up to now: the bound itself is not included.
    let before = WallMs(queue.clock().wall().0.saturating_sub(age_ms).saturating_add(1));
    let pruned = queue.prune(before, args.forget)?;
    session.out.line(&format!("pruned {pruned}"))?;
    Ok(Exit::Ok)
}
