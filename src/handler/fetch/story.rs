//! What is told of an attempt: who was asked, and which candidates were tried.

use serde::{Deserialize, Serialize};

use super::progress::Stage;
use super::resolve::LINE;
use super::verdict::Tried;

/// What one resolver said, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Asked {
    resolver: Box<str>,
    /// `found`, `absent`, `busy`, `broken` or `refused`.
    said: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found: Option<u32>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    message: Box<str>,
    elapsed_ms: u64,
}

impl Asked {
    /// What that stage tells; nothing of the line itself, nor of a resolver that had nothing to be asked about.
    pub(super) fn of(stage: &Stage) -> Option<Asked> {
        if &*stage.name == LINE {
            return None;
        }
        let no = stage.no.as_ref();
        let said = match no {
            Some(no) => no.kind.name(),
            None if stage.found > 0 => "found",
            None => return None,
        };
        Some(Asked {
            resolver: stage.name.clone(),
            said: said.into(),
            found: Some(stage.found).filter(|found| *found > 0),
            message: no.map(|no| no.message.clone()).unwrap_or_default(),
            elapsed_ms: stage.elapsed_ms,
        })
    }
}

/// The particulars of an attempt that got no file, as a JSON object.
pub(super) fn told(asked: &[Asked], tried: &[Tried]) -> String {
    if asked.is_empty() {
        return serde_json::json!({ "tried": tried }).to_string();
    }
    serde_json::json!({ "asked": asked, "tried": tried }).to_string()
}
