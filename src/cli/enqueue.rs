//! `orch queue enqueue`: one job from the command line.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::args;
use super::duration;
use super::error::{CliError, Exit};
use super::session::Session;
use crate::intake;
use crate::job::{JobSpec, Priority, WallMs};
use crate::queue::store::{Inserted, OnDuplicate};

/// Add one job
///
/// ARTIFACT_ID names the job; a second one of the same name changes nothing. JSON is an object as a line of `import` has it.
/// Without it, the id itself says what to fetch: doi:10.1234/abc, arxiv:2101.00001, pmcid:PMC123 or a URL. Flags win over
/// fields of the same name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue enqueue doi:10.1234/abc
  orch queue enqueue report '{\"url\": \"https://example.org/report.pdf\"}' --priority high
  orch queue enqueue nightly --kind exec '{\"command\": [\"make\", \"report\"]}' --run-at 2026-12-01T03:00:00Z
  orch queue enqueue rehearsal --kind noop '{\"sleep_ms\": 50}' --delay 90s")]
pub struct EnqueueArgs {
    /// The job's name, once per queue
    #[arg(value_name = "ARTIFACT_ID")]
    id: String,
    /// What its handler reads: one JSON object
    #[arg(value_name = "JSON")]
    json: Option<String>,
    /// fetch, exec or noop [default: the JSON's, else fetch]
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// critical, high, normal, low, background or 0 to 4 [default: the JSON's, else normal]
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<Priority>,
    /// Not before this time: RFC 3339, such as 2026-12-01T03:00:00Z
    #[arg(long, value_name = "TIME", value_parser = timestamp, conflicts_with = "delay")]
    run_at: Option<WallMs>,
    /// Not before so long from now: a number with ms, s, m, h, d or w
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    delay: Option<Duration>,
    /// The resolver whose limits it counts under
    #[arg(long, value_name = "NAME", value_parser = crate::job::normalise_resolver)]
    resolver: Option<Arc<str>>,
    /// The host whose limits it counts under [default: that of its first URL]
    #[arg(long, value_name = "HOST", value_parser = args::host)]
    host: Option<Arc<str>>,
    /// What to do when the id is there already
    #[arg(long, value_name = "WHAT", default_value = "skip")]
    on_duplicate: Duplicate,
}

/// What to do with an id that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Duplicate {
    /// Leave it as it is.
    Skip,
    /// Replace the payload of a job that has not started.
    Update,
    /// As update, and run a finished one again.
    Requeue,
}

impl From<Duplicate> for OnDuplicate {
    fn from(duplicate: Duplicate) -> OnDuplicate {
        match duplicate {
            Duplicate::Skip => OnDuplicate::Skip,
            Duplicate::Update => OnDuplicate::Update,
            Duplicate::Requeue => OnDuplicate::Requeue,
        }
    }
}

/// A time as RFC 3339 with its offset.
fn timestamp(text: &str) -> Result<WallMs, String> {
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        "expected an RFC 3339 time with its offset, such as 2026-12-01T03:00:00Z".to_owned()
    })?;
    Ok(WallMs(time.as_millisecond()))
}

pub(super) fn run(session: &mut Session, args: &EnqueueArgs) -> Result<Exit, CliError> {
    let spec = spec(session, args)?;
    let mut queue = session.open_or_create()?;
    let answers = queue.insert(std::slice::from_ref(&spec), args.on_duplicate.into())?;
    let said = match answers.first() {
        Some(Inserted::New) => "enqueued",
        Some(Inserted::Updated) => "updated",
        Some(Inserted::Requeued) => "requeued",
        Some(Inserted::Pruned) => "finished and pruned earlier",
        Some(Inserted::Duplicate) | None => "already there",
    };
    session
        .out
        .line(&format!("{said}: {}", super::output::printable(spec.artifact_id.as_str())))?;
    Ok(Exit::Ok)
}

fn spec(session: &Session, args: &EnqueueArgs) -> Result<JobSpec, CliError> {
    let kind = args.kind.as_deref().map(|name| session.kind(name)).transpose()?;
    let mut spec = intake::spec_from_id(&args.id, args.json.as_deref(), &session.kinds())?;
    if let Some(kind) = kind {
        spec.kind = kind;
    }
    if let Some(priority) = args.priority {
        spec.priority = priority;
    }
    if let Some(resolver) = &args.resolver {
        spec.key.resolver = Some(resolver.clone());
    }
    if let Some(host) = &args.host {
        spec.key.host = Some(host.clone());
    }
    if let Some(at) = args.run_at {
        spec.run_at = Some(at);
    }
    if let Some(delay) = args.delay {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        spec.run_at = Some(session.clock.wall().plus_ms(delay_ms));
    }
    session.place(&mut spec);
    Ok(spec)
}
