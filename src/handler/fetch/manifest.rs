//! What is recorded of a fetched file: the particulars of a done job, as one JSON object.

use serde::{Deserialize, Serialize};

use super::story::Asked;
use super::verdict::Tried;
use crate::job::WallMs;

/// A file that was put away, and where it came from. Absent fields are not known.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Manifest {
    /// Where it lies: below the output directory as that was given.
    pub(super) path: String,
    /// Its SHA-256, 64 lower-case hexadecimal digits.
    pub(super) sha256: String,
    /// Its size.
    pub(super) bytes: u64,
    /// What it is, by its bytes.
    pub(super) media_type: String,
    /// Its MD5, where a service publishes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) md5: Option<String>,
    /// What is unusual about it: `encrypted`, `javascript`, `launch`, `embedded_file`, `junk_before`, `no_eof`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) flags: Vec<String>,
    /// Where in the file the PDF begins, when that is not its first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pdf_offset: Option<usize>,
    /// The URL that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// The URL that answered, after redirects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) final_url: Option<String>,
    /// Who named the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resolver: Option<String>,
    /// Who keeps the copy: `publisher` or `repository`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_type: Option<String>,
    /// Where in the resolver's answer the URL stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) evidence: Option<String>,
    /// Its licence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) licence: Option<String>,
    /// Which version of the text it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// The server's entity tag, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
    /// The server's date of last change, as it came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_modified: Option<String>,
    /// When its last byte had arrived (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fetched_at: Option<String>,
    /// The resolvers that were asked, and what they said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) asked: Vec<Asked>,
    /// The candidates that were tried before, with their verdicts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tried: Vec<Tried>,
}

impl Manifest {
    /// As the particulars of an outcome.
    pub(super) fn to_json(&self) -> String {
        // Strings, numbers and lists of them: there is nothing in it that JSON has no form for.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A time as RFC 3339; `None` outside the years that has.
pub(super) fn rfc3339(at: WallMs) -> Option<String> {
    jiff::Timestamp::from_millisecond(at.0).ok().map(|at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(WallMs(784_111_777_000)).as_deref(), Some("1994-11-06T08:49:37Z"));
        assert_eq!(rfc3339(WallMs(i64::MAX)), None);
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let manifest = Manifest { path: "a".into(), bytes: 1, ..Manifest::default() };
        let json = manifest.to_json();
        assert_eq!(json, r#"{"path":"a","sha256":"","bytes":1,"media_type":""}"#);
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), manifest);
    }
}
