//! What is asked for: one job as it enters the queue.

use std::fmt;

use super::{Key, Priority, RetryPolicy, WallMs};

/// The longest artifact id, in bytes.
pub const MAX_ARTIFACT_ID_BYTES: usize = 2_048;
/// The most tags a job may have.
pub const MAX_TAGS: usize = 64;

/// Names a job for people, once per queue: `doi:10.1234/abc`, `url:https://…`, or whatever the line said.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactId(Box<str>);

/// Which handler does the job: `fetch`, `exec`, `noop`, or one a program registered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(Box<str>);

/// A text that cannot be part of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// An id that is empty.
    #[error("the artifact id is empty")]
    EmptyId,
    /// An id that is too long.
    #[error("the artifact id has {0} bytes; at most {MAX_ARTIFACT_ID_BYTES} are allowed")]
    LongId(usize),
    /// An id with a control character.
    #[error("the artifact id has a control character (U+{0:04X})")]
    ControlInId(u32),
    /// A kind that is no name.
    #[error(
        "{0:?} is no kind: expected a lower-case letter, then letters, digits, '_' or '-', at most 32"
    )]
    Kind(String),
}

impl ArtifactId {
    /// An id from text, surrounding white space removed.
    ///
    /// # Errors
    /// [`SpecError`] when it is empty, longer than [`MAX_ARTIFACT_ID_BYTES`] or has control characters.
    pub fn new(text: &str) -> Result<ArtifactId, SpecError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SpecError::EmptyId);
        }
        if text.len() > MAX_ARTIFACT_ID_BYTES {
            return Err(SpecError::LongId(text.len()));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(SpecError::ControlInId(u32::from(c))),
            None => Ok(ArtifactId(text.into())),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Kind {
    /// A kind from its name.
    ///
    /// # Errors
    /// [`SpecError::Kind`] when the text is no such name.
    pub fn new(name: &str) -> Result<Kind, SpecError> {
        let mut chars = name.chars();
        let head = chars.next().is_some_and(|c| c.is_ascii_lowercase());
        let tail =
            chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
        if head && tail && name.len() <= 32 {
            Ok(Kind(name.into()))
        } else {
            Err(SpecError::Kind(name.chars().take(80).collect()))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind of a line that names none.
    #[must_use]
    pub fn fetch() -> Kind {
        Kind("fetch".into())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One job as it enters the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// Its name; a second job of the same name changes nothing.
    pub artifact_id: ArtifactId,
    /// Which handler does it.
    pub kind: Kind,
    /// How urgent it is.
    pub priority: Priority,
    /// Not before this time; `None`: at once.
    pub run_at: Option<WallMs>,
    /// Attempts this job may use; `None`: from its retry policy or the configuration.
    pub max_attempts: Option<u32>,
    /// Seconds one attempt may take; `None`: from the configuration.
    pub timeout_seconds: Option<u32>,
    /// Its own retry policy; `None`: from the configuration.
    pub retry: Option<RetryPolicy>,
    /// The key it is limited by until its handler says otherwise.
    pub key: Key,
    /// Words to filter by.
    pub tags: Vec<String>,
    /// The JSON object it came as, byte for byte; what the handler reads.
    pub payload: String,
}

impl JobSpec {
    /// A job of that id and kind, with an empty payload and every other field at its default.
    ///
    /// # Errors
    /// [`SpecError`] when the id or the kind is no such name.
    pub fn new(artifact_id: &str, kind: &str) -> Result<JobSpec, SpecError> {
        Ok(JobSpec {
            artifact_id: ArtifactId::new(artifact_id)?,
            kind: Kind::new(kind)?,
            priority: Priority::default(),
            run_at: None,
            max_attempts: None,
            timeout_seconds: None,
            retry: None,
            key: Key::default(),
            tags: Vec::new(),
            payload: "{}".to_owned(),
        })
    }

    /// The same job with this JSON object as its payload.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<String>) -> JobSpec {
        self.payload = payload.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_trimmed_bounded_and_printable() {
        assert_eq!(ArtifactId::new(" doi:10.1/x ").unwrap().as_str(), "doi:10.1/x");
        assert_eq!(ArtifactId::new(" \t"), Err(SpecError::EmptyId));
        assert_eq!(ArtifactId::new("a\u{7}b"), Err(SpecError::ControlInId(7)));
        assert_eq!(ArtifactId::new(&"x".repeat(2049)), Err(SpecError::LongId(2049)));
        assert!(ArtifactId::new(&"x".repeat(2048)).is_ok());
    }

    #[test]
    fn kinds_are_short_lower_case_names() {
        for good in ["fetch", "exec", "noop", "a", "my-kind_2"] {
            assert_eq!(Kind::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "Fetch", "2x", "-x", "a b", "é", &"x".repeat(33)] {
            assert!(Kind::new(bad).is_err(), "{bad:?}");
        }
    }
}
