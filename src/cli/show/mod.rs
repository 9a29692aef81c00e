//! `orch queue show`: one job, with the story of its attempts.

mod particulars;

use clap::Args;

use crate::cli::args::TableFormat;
use crate::cli::duration;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Column, Table, printable, time};
use crate::cli::session::Session;
use crate::cli::view::WholeJobJson;
use crate::job::{ArtifactId, State};
use crate::queue::store::{AttemptView, JobView};
use particulars::Particulars;

/// Show one job, with the story of its attempts
///
/// Of a fetch it tells who was asked for a copy and what each said, which copies were tried and why they were refused, and
/// which one was kept.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue show doi:10.1234/abc
  orch queue show doi:10.1234/abc --format json | jq .detail.path")]
pub struct ShowArgs {
    /// The job's id, as `orch queue list` prints it
    #[arg(value_name = "ARTIFACT_ID")]
    id: String,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: TableFormat,
}

pub(super) fn run(session: &mut Session, args: &ShowArgs) -> Result<Exit, CliError> {
    let id = ArtifactId::new(&args.id)?;
    let mut queue = session.open_existing()?;
    let Some((job, story)) = queue.show(&id)? else {
        let queue = session.settings().queue.path.clone();
        return Err(CliError::NoSuchJob { id: args.id.clone(), queue });
    };
    match args.format {
        TableFormat::Json => session.out.json(&WholeJobJson::new(&job, &story))?,
        TableFormat::Table => as_text(session, &job, &story)?,
    }
    Ok(Exit::Ok)
}

fn as_text(session: &mut Session, job: &JobView, story: &[AttemptView]) -> Result<(), CliError> {
    let fields = fields(job);
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in &fields {
        session.out.line(&format!("{name:width$}  {}", printable(value)))?;
    }
    if let Some(detail) = &job.detail {
        particulars(session, detail, job.state == State::Done)?;
    }
    session.out.line("\npayload")?;
    session.out.line(&indented(&job.payload))?;
    if !story.is_empty() {
        session.out.line("\nhistory")?;
        session.out.table(&history(story))?;
    }
    Ok(())
}

/// Of a fetch, lines; of anything else, the JSON that its handler recorded.
fn particulars(session: &mut Session, detail: &str, is_done: bool) -> Result<(), CliError> {
    let Some(particulars) = Particulars::read(detail, is_done) else {
        session.out.line("\ndetail")?;
        return session.out.line(&indented(detail));
    };
    for (name, lines) in particulars.sections() {
        session.out.line(&format!("\n{name}"))?;
        for line in lines {
            session.out.line(&format!("  {line}"))?;
        }
    }
    Ok(())
}

fn fields(job: &JobView) -> Vec<(&'static str, String)> {
    let optional = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut fields = vec![
        ("artifact_id", job.artifact_id.to_string()),
        ("kind", job.kind.to_string()),
        ("state", job.state.to_string()),
        ("reason", optional(job.reason.map(|reason| reason.to_string()))),
        ("message", optional(Some(job.message.clone()).filter(|text| !text.is_empty()))),
        ("priority", job.priority.to_string()),
        ("host", optional(job.key.host.as_deref().map(str::to_owned))),
        ("resolver", optional(job.key.resolver.as_deref().map(str::to_owned))),
        ("attempts", format!("{} ({} in all)", job.attempts, job.attempts_total)),
        ("losses", job.losses.to_string()),
        ("enqueued", time(job.enqueued_at)),
        ("changed", time(job.changed_at)),
    ];
    // What most jobs do not have is left out.
    let own = [
        ("not before", job.not_before.map(time)),
        ("elapsed", job.elapsed_ms.map(duration::show)),
        ("max_attempts", job.max_attempts.map(|n| n.to_string())),
        ("timeout", job.timeout_seconds.map(|sec| duration::show(u64::from(sec) * 1_000))),
        ("tags", Some(job.tags.join(", ")).filter(|tags| !tags.is_empty())),
    ];
    fields.extend(own.into_iter().filter_map(|(name, value)| Some((name, value?))));
    fields
}

/// JSON on several lines, its numbers and the order of its members as they came.
fn indented(json: &str) -> String {
    let pretty = serde_json::from_str::<serde_json::Value>(json)
        .ok()
        .and_then(|value| serde_json::to_string_pretty(&value).ok());
    let text = pretty.unwrap_or_else(|| printable(json));
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn history(story: &[AttemptView]) -> Table {
    let mut table = Table::new(&[
        Column::text("started"),
        Column::numbers("took"),
        Column::text("outcome"),
        Column::text("reason"),
        Column::text("message"),
    ]);
    for attempt in story {
        table.row(vec![
            time(attempt.started_at),
            duration::show(attempt.elapsed_ms),
            attempt.outcome.to_string(),
            attempt.reason.map_or_else(|| "-".to_owned(), |reason| reason.to_string()),
            attempt.message.clone(),
        ]);
    }
    table
}
