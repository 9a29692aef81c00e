//! What is said of an attempt beside how it ended.

use super::Observation;

/// What a person and a program may read about an attempt, and what it adds to what the queue has learned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Note {
    /// One sentence; empty when there is nothing to say.
    pub message: String,
    /// A JSON object with the particulars (path, sha256, exit status, …), as text.
    pub detail: Option<String>,
    /// What its resolvers yielded; counted once, when the attempt's end is accepted.
    pub observed: Vec<Observation>,
}

impl Note {
    /// A note of one sentence.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Note {
        Note { message: message.into(), ..Note::default() }
    }

    /// The same note with particulars.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Note {
        self.detail = Some(detail.into());
        self
    }

    /// The same note with what resolvers yielded, in place of what it had.
    #[must_use]
    pub fn with_observed(mut self, observed: Vec<Observation>) -> Note {
        self.observed = observed;
        self
    }
}
