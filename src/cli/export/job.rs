//! A job as one flat record.

use serde_json::{Map, Value};

use super::{Record, text};
use crate::cli::output::rfc3339;
use crate::queue::store::JobView;

/// The columns, in order.
pub(super) const COLUMNS: [&str; 23] = [
    "artifact_id",
    "kind",
    "state",
    "reason",
    "message",
    "host",
    "path",
    "sha256",
    "bytes",
    "media_type",
    "url",
    "final_url",
    "resolver",
    "licence",
    "version",
    "etag",
    "last_modified",
    "fetched_at",
    "flags",
    "attempts",
    "elapsed_ms",
    "enqueued_at",
    "changed_at",
];

/// The job, every column in its place.
pub(super) fn record(job: &JobView) -> Record {
    let detail: Option<Map<String, Value>> =
        job.detail.as_deref().and_then(|detail| serde_json::from_str(detail).ok());
    let value = |column: &str| match column {
        "artifact_id" => Value::from(job.artifact_id.as_str()),
        "kind" => Value::from(job.kind.as_str()),
        "state" => Value::from(job.state.name()),
        "reason" => text(job.reason.map(|reason| reason.name())),
        "message" => text(Some(job.message.as_str()).filter(|message| !message.is_empty())),
        "host" => text(job.key.host.as_deref()),
        "attempts" => Value::from(job.attempts_total),
        "elapsed_ms" => job.elapsed_ms.map_or(Value::Null, Value::from),
        "enqueued_at" => text(rfc3339(job.enqueued_at).as_deref()),
        "changed_at" => text(rfc3339(job.changed_at).as_deref()),
        // The rest is what the handler recorded.
        name => detail.as_ref().and_then(|detail| detail.get(name)).cloned().unwrap_or(Value::Null),
    };
    COLUMNS.iter().map(|&column| (column.to_owned(), value(column))).collect()
}
