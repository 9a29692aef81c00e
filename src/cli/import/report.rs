//! What an import came to.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::queue::store::Inserted;

/// Counts of what became of the lines.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) imported: u64,
    pub(super) updated: u64,
    pub(super) requeued: u64,
    pub(super) already_there: u64,
    pub(super) pruned: u64,
    pub(super) rejected: u64,
}

impl Tally {
    pub(super) fn add(&mut self, answers: &[Inserted]) {
        for answer in answers {
            *match answer {
                Inserted::New => &mut self.imported,
                Inserted::Updated => &mut self.updated,
                Inserted::Requeued => &mut self.requeued,
                Inserted::Duplicate => &mut self.already_there,
                Inserted::Pruned => &mut self.pruned,
            } += 1;
        }
    }

    /// Good lines.
    pub(super) fn jobs(&self) -> u64 {
        self.imported + self.updated + self.requeued + self.already_there + self.pruned
    }

    /// `imported 3, already there 0, rejected 1 (written to …)`; what did not happen and seldom does is left out.
    pub(super) fn as_text(&self, rejects: Option<&Path>) -> String {
        let mut text = format!("imported {}", self.imported);
        let seldom = [
            ("updated", self.updated),
            ("requeued", self.requeued),
            ("finished and pruned earlier", self.pruned),
        ];
        // Writing to a String cannot fail.
        for (what, count) in seldom.into_iter().filter(|(_, count)| *count > 0) {
            let _ = write!(text, ", {what} {count}");
        }
        let _ = write!(text, ", already there {}, rejected {}", self.already_there, self.rejected);
        if let Some(rejects) = rejects {
            let _ = write!(text, " (written to {})", rejects.display());
        }
        text
    }

    pub(super) fn as_json(&self, rejects: Option<&Path>) -> Value {
        json!({
            "imported": self.imported,
            "updated": self.updated,
            "requeued": self.requeued,
            "already_there": self.already_there,
            "pruned": self.pruned,
            "rejected": self.rejected,
            "rejects_file": rejects.map(|path| path.display().to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_happened() {
        let mut tally = Tally::default();
        tally.add(&[Inserted::New, Inserted::New, Inserted::Duplicate]);
        assert_eq!(tally.as_text(None), "imported 2, already there 1, rejected 0");
        tally.add(&[Inserted::Updated, Inserted::Requeued, Inserted::Pruned]);
        tally.rejected = 1;
        assert_eq!(
            tally.as_text(Some(Path::new("r.jsonl"))),
            "imported 2, updated 1, requeued 1, finished and pruned earlier 1, already there 1, \
             rejected 1 (written to r.jsonl)"
        );
        assert_eq!(tally.jobs(), 6);
    }
}
