//! The attempts at a job as flat records, oldest first.
//!
//! A store tells the attempts that did not simply end done. A first attempt that did is told here from the job
//! itself, so that every finished job has a line. Must never guess: where an attempt was made is known of the last that
//! counted only, because its particulars are the job's.

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{Record, text};
use crate::cli::output::rfc3339;
use crate::queue::store::{AttemptView, JobView};

/// The columns, in order.
pub(super) const COLUMNS: [&str; 12] = [
    "artifact_id",
    "kind",
    "attempt",
    "epoch",
    "outcome",
    "reason",
    "message",
    "started_at",
    "elapsed_ms",
    "host",
    "resolver",
    "url",
];

/// What became of each attempt that is known of, numbered from 1.
pub(super) fn records(job: &JobView, story: &[AttemptView]) -> Vec<Record> {
    let only = story.is_empty().then(|| from_job(job)).flatten();
    let told = only.as_ref().map_or(story, std::slice::from_ref);
    // The job was read before its story: what came in between is not what its particulars are about.
    let is_described = |attempt: &AttemptView| {
        attempt.epoch <= job.epoch
            && matches!(&*attempt.outcome, "done" | "skipped" | "error" | "retry")
    };
    let described = told.iter().rposition(is_described);
    told.iter()
        .enumerate()
        .map(|(index, attempt)| {
            let place =
                if Some(index) == described { Place::of(job, attempt) } else { Place::default() };
            record(job, index + 1, attempt, place)
        })
        .collect()
}

/// The attempt of a job that ended at the first, and of which nothing else is told.
fn from_job(job: &JobView) -> Option<AttemptView> {
    if !job.state.is_finished() {
        return None;
    }
    let elapsed_ms = job.elapsed_ms.unwrap_or(0);
    let started_at = job.changed_at.0.saturating_sub(i64::try_from(elapsed_ms).unwrap_or(i64::MAX));
    Some(AttemptView {
        epoch: job.epoch,
        outcome: job.state.name().into(),
        reason: job.reason,
        message: job.message.clone(),
        started_at: crate::job::WallMs(started_at),
        elapsed_ms,
    })
}

/// Where an attempt was made.
#[derive(Debug, Default)]
struct Place {
    host: Option<String>,
    resolver: Option<String>,
    url: Option<String>,
}

/// What a handler says of it: that of a kept file, or of the candidates that were refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Particulars {
    url: Option<String>,
    resolver: Option<String>,
    tried: Vec<Refused>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refused {
    url: Option<String>,
    resolver: Option<String>,
    reason: String,
}

impl Place {
    /// Of the last attempt that counted. A failed one was made where the last candidate was that gave its reason.
    fn of(job: &JobView, attempt: &AttemptView) -> Place {
        let detail = job.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok());
        let Particulars { mut url, mut resolver, tried } = detail.unwrap_or_default();
        if &*attempt.outcome != "done" && url.is_none() {
            let reason = attempt.reason.map(|reason| reason.name());
            let telling = tried.into_iter().rfind(|one| Some(one.reason.as_str()) == reason);
            (url, resolver) = telling.map_or((None, resolver), |one| (one.url, one.resolver));
        }
        let asked = url.as_deref().and_then(|url| Url::parse(url).ok());
        let asked = asked.and_then(|url| url.host_str().map(str::to_owned));
        // Nothing came after it: the job still has the key it was made under.
        let key = (attempt.epoch == job.epoch).then_some(&job.key);
        let part = |part: Option<&str>| part.map(str::to_owned);
        Place {
            host: asked.or_else(|| key.and_then(|key| part(key.host.as_deref()))),
            resolver: resolver.or_else(|| key.and_then(|key| part(key.resolver.as_deref()))),
            url,
        }
    }
}

fn record(job: &JobView, number: usize, attempt: &AttemptView, place: Place) -> Record {
    let value = |column: &str| match column {
        "artifact_id" => json!(job.artifact_id.as_str()),
        "kind" => json!(job.kind.as_str()),
        "attempt" => json!(number),
        "epoch" => json!(attempt.epoch.0),
        "outcome" => json!(attempt.outcome),
        "reason" => text(attempt.reason.map(|reason| reason.name())),
        "message" => text(Some(attempt.message.as_str()).filter(|message| !message.is_empty())),
        "started_at" => text(rfc3339(attempt.started_at).as_deref()),
        "elapsed_ms" => json!(attempt.elapsed_ms),
        "host" => json!(place.host),
        "resolver" => json!(place.resolver),
        "url" => json!(place.url),
        _ => Value::Null,
    };
    COLUMNS.iter().map(|&column| (column.to_owned(), value(column))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Manual;
    use crate::job::{
        Change, DoneReason, ErrorReason, FinalState, JobSpec, Key, Kind, Note, Reason, WallMs,
    };
    use crate::queue::WorkQueue;
    use crate::queue::memory::MemoryStore;
    use crate::queue::store::{Filter, OnDuplicate, Settlement, Turn, Want};

    const START: WallMs = WallMs(1_769_846_400_000);

    /// A queue of one job that came to these ends, one after the other, each after 25 ms.
    fn lived(changes: &[Change]) -> (JobView, Vec<AttemptView>) {
        let clock = std::sync::Arc::new(Manual::at(START));
        let mut queue = WorkQueue::new(Box::new(MemoryStore::new()), clock);
        let spec =
            JobSpec { key: key("api.example"), ..JobSpec::new("doi:10.1/a", "noop").unwrap() };
        for change in changes {
            queue.insert(std::slice::from_ref(&spec), OnDuplicate::Requeue).unwrap();
            let store = queue.store_mut();
            let owner = store.register(START).unwrap();
            let kinds = [Kind::new("noop").unwrap()];
            let ready = store.ready_lanes(None, 1, &kinds).unwrap().remove(0);
            let want = Want {
                priority: ready.priority,
                lane: ready.lane.id,
                count: 1,
                max_losses: u32::MAX,
            };
            let turn = |settle: &[Settlement],
                        lease: &[Want],
                        store: &mut dyn crate::queue::store::Store| {
                let max_payload_bytes = usize::MAX;
                let turn = Turn {
                    owner: &owner,
                    now: START,
                    settle,
                    lease,
                    max_payload_bytes,
                    keys: None,
                };
                store.turn(&turn).unwrap()
            };
            let token = turn(&[], &[want], store).leased[0].token;
            let settlement =
                Settlement { token, change: change.clone(), started_at: START, elapsed_ms: 25 };
            turn(&[settlement], &[], store);
        }
        queue.stories(Filter::default()).next().unwrap().unwrap()
    }

    fn key(host: &str) -> Key {
        Key::new(Some("unpaywall"), Some(host)).unwrap()
    }

    fn done(detail: Option<&str>) -> Change {
        let note = Note { detail: detail.map(str::to_owned), ..Note::default() };
        Change::Finish {
            state: FinalState::Done,
            reason: Reason::Done(DoneReason::Ok),
            note,
            checkpoint: None,
        }
    }

    fn again(reason: ErrorReason, detail: &str) -> Change {
        let note = Note::new("so it was").with_detail(detail);
        Change::Again { not_before: START, reason, note, checkpoint: None }
    }

    /// The named columns of every line, joined.
    fn check(changes: &[Change], columns: &[&str], expected: &[&str]) {
        let (job, story) = lived(changes);
        let line = |record: &Record| {
            let cells = columns.iter().map(|column| super::super::cell(record.get(*column)));
            cells.collect::<Vec<_>>().join(" ")
        };
        let lines: Vec<String> = records(&job, &story).iter().map(line).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_job_that_ended_done_at_once_has_one_line_made_from_itself() {
        let detail = r#"{"url":"https://h.example/a.pdf","resolver":"arxiv"}"#;
        let columns = ["attempt", "outcome", "reason", "elapsed_ms", "host", "resolver", "url"];
        let expected = "1 done ok 25 h.example arxiv https://h.example/a.pdf";
        check(&[done(Some(detail))], &columns, &[expected]);
        check(&[done(None)], &columns, &["1 done ok 25 api.example unpaywall "]);
        let (job, story) = lived(&[done(None)]);
        let record = records(&job, &story).remove(0);
        assert_eq!(record["started_at"], "2026-01-31T07:59:59.975Z");
        assert_eq!((&record["message"], &record["url"]), (&Value::Null, &Value::Null));
        assert!(record.keys().eq(COLUMNS), "{record:?}");
    }

    #[test]
    fn attempts_are_told_in_order_and_only_the_last_that_counted_says_where() {
        let tried = r#"{"tried":[
            {"url":"https://one.example/","resolver":"doaj","reason":"dns"},
            {"url":"https://two.example/","resolver":"core","reason":"dns"},
            {"url":"https://three.example/","resolver":"hal","reason":"wall"}]}"#;
        let defer = Change::Defer { key: key("b.example"), not_before: None, checkpoint: None };
        let columns = ["attempt", "outcome", "reason", "host", "resolver", "url"];
        let twice = [again(ErrorReason::Tls, tried), again(ErrorReason::Dns, tried)];
        let last = "2 retry dns two.example core https://two.example/";
        check(&twice, &columns, &["1 retry tls   ", last]);
        let [first, second] = twice;
        check(std::slice::from_ref(&defer), &columns, &["1 deferred    "]);
        check(&[first, second, defer], &columns, &["1 retry tls   ", last, "3 deferred    "]);
        // No candidate has its reason: it is not known which.
        let lone = [again(ErrorReason::Tls, tried)];
        check(&lone, &columns, &["1 retry tls api.example unpaywall "]);
    }

    /// It was read, and then tried once more.
    #[test]
    fn particulars_are_those_of_the_attempt_they_were_read_with() {
        let tried =
            r#"{"tried":[{"url":"https://one.example/","resolver":"doaj","reason":"dns"}]}"#;
        let attempts = [again(ErrorReason::Dns, tried), again(ErrorReason::Dns, tried)];
        let (job, _) = lived(&attempts[..1]);
        let (_, story) = lived(&attempts);
        let urls: Vec<Value> =
            records(&job, &story).into_iter().map(|r| r["url"].clone()).collect();
        assert_eq!(urls, [json!("https://one.example/"), Value::Null]);
    }

    #[test]
    fn a_job_that_was_never_tried_has_no_line_and_one_done_again_tells_of_the_last() {
        check(&[Change::HandBack], &["attempt"], &[]);
        check(&[done(None), done(None)], &["attempt", "outcome"], &["1 done"]);
        let particulars = r#"{"exit_status": 3, "tried": "not a list"}"#;
        check(&[again(ErrorReason::ExitStatus, particulars)], &["host", "url"], &["api.example "]);
    }
}
