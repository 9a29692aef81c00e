//! `orch queue retry-failed`: what ended in error is queued again.

use clap::Args;
use std::sync::Arc;

use super::args;
use super::error::{CliError, Exit};
use super::session::Session;
use crate::job::{LimitKey, Reason};
use crate::queue::store::RetryFilter;
use crate::share::KeyChange;

/// Put failed jobs back, with a fresh allowance of attempts
///
/// Takes the jobs that ended in `error` and queues them again. The total of their attempts stays on record, and so does
/// what earlier attempts learned. With --reason no_open_copy (or another reason of skipped jobs) it takes those.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue retry-failed
  orch queue retry-failed --reason timeout --host example.org
  orch queue retry-failed --max-attempts 9 --dry-run      how many were tried fewer than 9 times in all")]
pub struct RetryFailedArgs {
    /// Only jobs tried fewer than N times in all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: Option<u32>,
    /// Only jobs that ended for this reason, such as timeout
    #[arg(long, value_parser = args::reason, value_name = "REASON")]
    reason: Option<Reason>,
    /// Only jobs of this host
    #[arg(long, value_parser = args::host, value_name = "HOST")]
    host: Option<Arc<str>>,
    /// At most so many, the oldest first
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Say how many it would be, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(session: &mut Session, args: &RetryFailedArgs) -> Result<Exit, CliError> {
    let filter = RetryFilter {
        max_attempts: args.max_attempts,
        reason: args.reason,
        host: args.host.clone(),
    };
    let mut queue = session.open_existing()?;
    if let (Some(host), false) = (&args.host, args.dry_run) {
        // Before its jobs are put back: one that was given up would fail them as they come up.
        let forgiven = KeyChange { forgive: true, ..KeyChange::default() };
        queue.set_key(&LimitKey::Host(host.clone()), &forgiven)?;
    }
    let jobs = queue.retry_failed(&filter, args.limit, args.dry_run)?;
    let what = if args.dry_run { "would requeue" } else { "requeued" };
    session.out.line(&format!("{what} {jobs}"))?;
    Ok(Exit::Ok)
}
