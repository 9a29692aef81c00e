//! `orch queue explain`: why is this job not running, in one sentence.
//!
//! Reads, and changes nothing. Must never say more than is known: what is estimated is said to be "about".

mod sentence;
#[cfg(test)]
mod tests;

use clap::Args;
use serde::Serialize;

use crate::cli::args::TableFormat;
use crate::cli::error::{CliError, Exit};
use crate::cli::hosts;
use crate::cli::hosts::holders::Processes;
use crate::cli::hosts::json::KeyJson;
use crate::cli::hosts::standing::Terrain;
use crate::cli::output::{printable, rfc3339};
use crate::cli::session::Session;
use crate::job::{ArtifactId, Kind, LimitKey, RetryTerms};
use crate::queue::store::{JobView, KeyView, Place};
use sentence::{Explanation, Facts, MayStart};

/// Say why a job is not running, and when it is expected to
///
/// One sentence for every state: what it waits for, how many jobs are ahead of it there and when it is expected to start; when it is retried
/// and after what; which process runs it; how it ended and what to do. Up to 10,000 jobs ahead are counted, beyond that "about".
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  orch queue explain doi:10.1234/abc
  orch queue explain doi:10.1234/abc --format json | jq .expected_start_ms

JSON: {\"artifact_id\":…,\"state\":…,\"why\":…,\"sentence\":…,\"until\":…,\"ahead\":…,\"ahead_is_exact\":…,\"expected_start_ms\":…,
\"process\":…,\"keys\":[as orch queue hosts]}; why is one of done, skipped, error, running, process_stopped, retry, deferred, run_at,
nobody_runs, kind, paused, given_up, held, open, half_open, full, rate, in_line.")]
pub struct ExplainArgs {
    /// The job's id, as `orch queue list` prints it
    #[arg(value_name = "ARTIFACT_ID")]
    id: String,
    /// How to print
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: TableFormat,
}

#[derive(Debug, Serialize)]
struct ExplanationJson<'a> {
    artifact_id: &'a str,
    state: &'static str,
    why: &'static str,
    sentence: &'a str,
    until: Option<String>,
    ahead: Option<u64>,
    ahead_is_exact: Option<bool>,
    expected_start_ms: Option<u64>,
    process: Option<u32>,
    keys: Vec<KeyJson<'a>>,
}

pub(super) fn run(session: &mut Session, args: &ExplainArgs) -> Result<Exit, CliError> {
    let id = ArtifactId::new(&args.id)?;
    let mut queue = session.open_existing()?;
    let unknown = || CliError::NoSuchJob {
        id: args.id.clone(),
        queue: session.settings().queue.path.clone(),
    };
    let place = queue.place(&id)?.ok_or_else(unknown)?;
    let (_, story) = queue.show(&id)?.ok_or_else(unknown)?;
    let keys: Vec<KeyView> =
        place.job.key.limits().map(|key: LimitKey| queue.key(&key)).collect::<Result<_, _>>()?;
    let limits = session.settings().gate_limits()?;
    let terrain = hosts::terrain(session, &mut queue, &limits)?;
    let mut processes = Processes::default();
    let explanation = sentence::explain(
        &Facts {
            place: &place,
            last: story.last(),
            keys: &keys,
            terrain,
            may_start: may_start(session, &place.job.kind),
            max_attempts: max_attempts(session, &place.job),
        },
        &mut processes,
    );
    match args.format {
        TableFormat::Table => session.out.line(&printable(&explanation.sentence))?,
        TableFormat::Json => {
            let json = as_json(&place, &keys, &terrain, &explanation, &mut processes);
            session.out.json(&json)?;
        }
    }
    Ok(Exit::Ok)
}

/// Whether a run from here would start jobs of that kind.
fn may_start(session: &Session, kind: &Kind) -> MayStart {
    if session.kind(kind.as_str()).is_err() {
        MayStart::Unknown
    } else if kind.as_str() == "exec" && !session.settings().exec.allow {
        MayStart::IfAllowed
    } else {
        MayStart::Yes
    }
}

fn max_attempts(session: &Session, job: &JobView) -> u32 {
    let usual = session.settings().retry_terms();
    RetryTerms::merge(job.max_attempts, job.retry, usual.policy, usual.max_attempts).max_attempts
}

fn as_json<'a>(
    place: &'a Place,
    keys: &'a [KeyView],
    terrain: &Terrain<'_>,
    explanation: &'a Explanation,
    processes: &mut Processes,
) -> ExplanationJson<'a> {
    ExplanationJson {
        artifact_id: place.job.artifact_id.as_str(),
        state: place.job.state.name(),
        why: explanation.why,
        sentence: &explanation.sentence,
        until: explanation.until.and_then(rfc3339),
        ahead: explanation.ahead.map(|ahead| ahead.count),
        ahead_is_exact: explanation.ahead.map(|ahead| ahead.is_exact),
        expected_start_ms: explanation.expected_start_ms,
        process: place.leased_by.as_ref().and_then(|(_, process)| *process),
        keys: keys
            .iter()
            .map(|view| KeyJson::new(&terrain.stand(view), terrain.now, processes))
            .collect(),
    }
}
