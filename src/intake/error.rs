//! What can be wrong with a line, and what can be wrong with a file.
//!
//! A bad line never stops the good ones: it becomes a [`LineError`] and reading goes on. Only a [`ReadError`]
//! ends a file.

use std::fmt;
use std::io;
use std::str::Utf8Error;
use std::sync::Arc;

use crate::job::{KeyError, MAX_TAGS, PriorityError, RetryError, SpecError};

use super::{IdentifierError, MAX_LINE_BYTES};

/// Why a line became no job.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Longer than [`MAX_LINE_BYTES`].
    #[error("the line is longer than {MAX_LINE_BYTES} bytes (1 MiB)")]
    TooLong,
    /// Not UTF-8; the column is that of the first bad byte.
    #[error("the line is not valid UTF-8")]
    Utf8,
    /// Not JSON.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// JSON, but not an object.
    #[error("expected a JSON object on one line, found {0}")]
    NotAnObject(&'static str),
    /// A field of the wrong type.
    #[error("{field} must be {expected}, not {found}")]
    Type {
        /// Which field.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        found: &'static str,
    },
    /// A field that is there twice.
    #[error("{0} is given twice")]
    Duplicate(&'static str),
    /// No id, and nothing to derive one from.
    #[error("no artifact_id, and none of doi, arxiv_id, pmcid, pmid and url to derive one from")]
    NoId,
    /// An id that cannot be one.
    #[error(transparent)]
    Id(SpecError),
    /// A derived id that cannot be one.
    #[error("{0}: give the line an artifact_id of its own")]
    DerivedId(SpecError),
    /// An identifier field that is none.
    #[error(transparent)]
    Identifier(#[from] IdentifierError),
    /// A kind without a handler.
    #[error("unknown kind {name:?}: expected {known}{hint}", hint = did_you_mean(nearest.as_deref()))]
    UnknownKind {
        /// What was asked for.
        name: String,
        /// Every kind there is.
        known: String,
        /// The known kind most like it.
        nearest: Option<String>,
    },
    /// A priority that is none.
    #[error(transparent)]
    Priority(#[from] PriorityError),
    /// A time that is none.
    #[error(
        "run_at must be an RFC 3339 time with its offset, such as 2026-01-31T08:00:00Z, not {0:?}"
    )]
    RunAt(String),
    /// A number that is no count.
    #[error("{field} must be a whole number from 1 to 4294967295, not {got}")]
    Count {
        /// Which field.
        field: &'static str,
        /// What it was.
        got: String,
    },
    /// A retry policy out of its bounds, or of an unknown name.
    #[error("retry: {0}")]
    Retry(#[from] RetryError),
    /// A member that a retry policy does not have.
    #[error(
        "retry has no {name:?}: expected strategy, base_seconds, max_seconds or jitter_fraction{hint}",
        hint = did_you_mean(*nearest)
    )]
    RetryMember {
        /// What was given.
        name: String,
        /// The member most like it.
        nearest: Option<&'static str>,
    },
    /// A host or resolver that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Too many tags.
    #[error("{0} tags; at most {MAX_TAGS} are allowed")]
    TooManyTags(usize),
    /// A CSV row of another length than the header.
    #[error("{found} cells where the header has {expected}")]
    CellCount {
        /// Columns of the header.
        expected: usize,
        /// Cells of the row.
        found: usize,
    },
    /// A CSV cell whose quote never ends.
    #[error("a quoted cell begins here and does not end within 1 MiB, or at all")]
    UnclosedQuote,
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// The name in `known` most like `name`, if any is like it at all.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: String = name.chars().take(40).flat_map(char::to_lowercase).collect();
    let limit = (name.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A fault and where it lies in the text it was found in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub(super) fault: Fault,
    /// Bytes before it.
    pub(super) offset: usize,
    /// Bytes of it.
    pub(super) len: usize,
}

impl Problem {
    /// `fault` is about the whole of `text`.
    pub(super) fn whole(text: &str, fault: impl Into<Fault>) -> Problem {
        Problem { fault: fault.into(), offset: 0, len: text.len() }
    }

    /// `fault` is about `part`, which is a slice of `text`.
    pub(super) fn at(text: &str, part: &str, fault: impl Into<Fault>) -> Problem {
        let offset = part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
        Problem { fault: fault.into(), offset, len: part.len() }
    }

    /// A text that is not UTF-8, at its first bad byte.
    pub(super) fn utf8(error: Utf8Error) -> Problem {
        Problem { fault: Fault::Utf8, offset: error.valid_up_to(), len: 1 }
    }

    /// The same problem, where `bytes` more stand before the text it was found in.
    pub(super) fn after(mut self, bytes: usize) -> Problem {
        self.offset += bytes;
        self
    }
}

/// A line that became no job. Displays as `file:line:column: reason`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{file}:{line}:{column}: {fault}")]
pub struct LineError {
    /// The file as it was named, or `<stdin>`.
    pub file: Arc<str>,
    /// Its line, 1 for the first; of a CSV row that spans several, the first of them.
    pub line: u64,
    /// Where in the line, in characters (not bytes), 1 for the first.
    pub column: u64,
    /// What is wrong.
    pub fault: Fault,
    /// The line as it came, without its end; bytes that are no UTF-8 as U+FFFD. Of a line that is too long,
    /// the first 4 KiB.
    pub text: String,
    /// Bytes of [`text`](LineError::text) before what is wrong.
    pub span_offset: usize,
    /// Bytes of [`text`](LineError::text) that are wrong; may be 0.
    pub span_len: usize,
}

impl LineError {
    pub(super) fn new(file: &Arc<str>, line: u64, raw: &[u8], problem: Problem) -> LineError {
        let raw = without_line_end(raw);
        let text = String::from_utf8_lossy(raw).into_owned();
        let span_offset = text.floor_char_boundary(problem.offset);
        let span_end = text.ceil_char_boundary(problem.offset.saturating_add(problem.len));
        let column = text[..span_offset].chars().count() as u64 + 1;
        let span_len = span_end - span_offset;
        LineError {
            file: Arc::clone(file),
            line,
            column,
            fault: problem.fault,
            text,
            span_offset,
            span_len,
        }
    }
}

/// The line without its closing LF or CRLF.
pub(super) fn without_line_end(raw: &[u8]) -> &[u8] {
    let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
    raw.strip_suffix(b"\r").unwrap_or(raw)
}

/// Why a file cannot be read (further). Jobs read before it are good.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be opened.
    #[error("cannot open {file}: {source}")]
    Open {
        /// The file.
        file: Arc<str>,
        /// What the system said.
        source: io::Error,
    },
    /// Reading failed on the way.
    #[error("cannot read {file} further than {lines} lines: {source}")]
    Read {
        /// The file.
        file: Arc<str>,
        /// Lines read before it.
        lines: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It is gzip, and damaged or cut short.
    #[error("{file} is damaged or incomplete gzip, after {lines} lines: {source}")]
    Gzip {
        /// The file.
        file: Arc<str>,
        /// Lines read before it.
        lines: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// A CSV file whose header has no known column.
    #[error("{file}: {problem}: {header:?}")]
    Header {
        /// The file.
        file: Arc<str>,
        /// What is wrong with it.
        problem: HeaderProblem,
        /// The header line, cut to 80 characters.
        header: String,
    },
}

/// What makes a CSV header unusable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderProblem {
    /// None of its columns is a field of a job: it may be no header at all, or not separated by commas.
    NoKnownColumn,
    /// A column is there twice.
    Duplicate(String),
    /// It is no line of UTF-8 text of at most 1 MiB.
    Unreadable,
}

impl fmt::Display for HeaderProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderProblem::NoKnownColumn => f.write_str(
                "the CSV header has none of the columns artifact_id, doi, arxiv_id, pmcid, pmid, url, …, \
                 separated by commas",
            ),
            HeaderProblem::Duplicate(name) => write!(f, "the CSV header has the column {name:?} twice"),
            HeaderProblem::Unreadable => {
                f.write_str("the CSV header is not one line of UTF-8 of at most 1 MiB")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_near() {
        let kinds = ["exec", "fetch", "noop"];
        assert_eq!(nearest("fecth", kinds), Some("fetch"));
        assert_eq!(nearest("Noop", kinds), Some("noop"));
        assert_eq!(nearest("exce", kinds), Some("exec"));
        assert_eq!(nearest("download", kinds), None);
        assert_eq!(nearest("", kinds), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), kinds), None);
    }

    #[test]
    fn a_column_counts_characters_and_a_span_counts_bytes() {
        let problem = Problem { fault: Fault::NoId, offset: 3, len: 2 };
        let error = LineError::new(&"a.jsonl".into(), 7, "é\u{1}xy\r\n".as_bytes(), problem);
        assert_eq!((error.column, error.span_offset, error.span_len), (3, 3, 2));
        assert_eq!(error.text, "é\u{1}xy");
        assert!(error.to_string().starts_with("a.jsonl:7:3: no artifact_id"), "{error}");
    }

    #[test]
    fn a_span_never_leaves_its_text() {
        let problem = Problem { fault: Fault::Utf8, offset: 90, len: 9 };
        let error = LineError::new(&"a".into(), 1, b"\xff\xfe", problem);
        assert_eq!((error.span_offset, error.span_len), (error.text.len(), 0));
    }
}
