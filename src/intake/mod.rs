//! Text becomes jobs: a stream of JSONL, CSV or plain lines in, a [`JobSpec`] or a [`LineError`] out per line.
//!
//! ```text
//!   file, stdin --source--> bytes --raw--> lines --jsonl | lines | csv--> JobSpec
//!                (gzip)                                              \--> LineError --> rejects file
//! ```
//!
//! A bad line never stops the good ones, memory does not grow with the file, and a line's object is kept as the
//! text it came as. Must never touch the queue, ask the time or look at what belongs to a handler.

mod csv;
mod error;
mod fields;
mod jsonl;
mod line;
mod lines;
mod raw;
mod rejects;
mod source;

use std::io::Read;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::job::{ArtifactId, JobSpec, Kind};

use crate::job::excerpt;
use error::{Problem, nearest, without_line_end};
use raw::{Got, RawLines};

pub use crate::job::{Identifier, IdentifierError, Scheme};
pub use error::{Fault, HeaderProblem, LineError, ReadError};
pub use raw::MAX_LINE_BYTES;
pub use rejects::{RejectsError, RejectsWriter};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// By the file's name (`.jsonl`, `.ndjson`, `.json`, `.csv`, `.txt`, each also with `.gz`), else by its
    /// first line that is not blank.
    #[default]
    Auto,
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values under a header of field names.
    Csv,
    /// One DOI, arXiv id, PMCID, PubMed id or URL a line; a line that begins with `#` is a remark.
    Lines,
}

/// A text that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no input format: expected auto, jsonl, csv or lines")]
pub struct FormatError(pub String);

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [Format::Auto, Format::Jsonl, Format::Csv, Format::Lines];

    /// The name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Lines => "lines",
        }
    }
}

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Format, FormatError> {
        Format::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| FormatError(excerpt(text)))
    }
}

/// The kinds that a line may ask for.
#[derive(Debug, Clone)]
pub struct Kinds {
    known: Vec<Kind>,
    default: Kind,
}

impl Kinds {
    /// `known` are those with a handler; a line that names none is of the kind `default`.
    #[must_use]
    pub fn new(known: impl IntoIterator<Item = Kind>, default: Kind) -> Kinds {
        Kinds { known: known.into_iter().collect(), default }
    }

    fn find(&self, name: &str) -> Result<Kind, Fault> {
        let names = || self.known.iter().map(Kind::as_str);
        self.known.iter().find(|kind| kind.as_str() == name).cloned().ok_or_else(|| {
            let nearest = nearest(name, names()).map(str::to_owned);
            Fault::UnknownKind { name: excerpt(name), known: one_of(names()), nearest }
        })
    }
}

/// `a, b or c`.
fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// What a line became.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A job.
    Job(JobSpec),
    /// Nothing, and why.
    Bad(Box<LineError>),
}

/// The jobs and bad lines of one input, in order, in constant memory.
///
/// Yields `Err` at most once, last: the input cannot be read further.
pub struct Reader {
    name: Arc<str>,
    format: Format,
    gzip: bool,
    kinds: Kinds,
    lines: RawLines,
    line: Vec<u8>,
    csv: Option<(csv::Records, csv::Table)>,
    over: bool,
    taken: Arc<AtomicU64>,
}

impl Reader {
    /// Opens `path`, or standard input when it is `-`. Gzip is recognised by its first bytes.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be opened, or its beginning cannot be read.
    pub fn open(path: &Path, format: Format, kinds: &Kinds) -> Result<Reader, ReadError> {
        source::open(path, format).map(|source| Reader::new(source, kinds))
    }

    /// Reads from an open stream, called `name` in messages.
    ///
    /// # Errors
    /// [`ReadError`] when its beginning cannot be read.
    pub fn from_read(
        name: &str,
        input: impl Read + Send + 'static,
        format: Format,
        kinds: &Kinds,
    ) -> Result<Reader, ReadError> {
        source::from_read(name, input, format).map(|source| Reader::new(source, kinds))
    }

    fn new(source: source::Source, kinds: &Kinds) -> Reader {
        Reader {
            name: source.name,
            format: source.format,
            gzip: source.gzip,
            kinds: kinds.clone(),
            lines: RawLines::new(source.input),
            line: Vec::new(),
            csv: None,
            over: false,
            taken: source.taken,
        }
    }

    /// The bytes taken from the input so far, as they are stored (compressed, where it is): counts on wherever the reader goes.
    #[must_use]
    pub fn bytes_taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }

    /// The format, found out if it was [`Format::Auto`].
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Lines read so far, blank ones and the header included.
    #[must_use]
    pub fn lines_read(&self) -> u64 {
        self.lines.number()
    }

    fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        if self.format == Format::Csv { self.next_row() } else { self.next_line() }
    }

    fn next_line(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            self.line.clear();
            let got = self.lines.read(&mut self.line).map_err(|error| self.broken(error))?;
            let spec = match got {
                Got::End => return Ok(None),
                Got::TooLong => Err(Problem::whole("", Fault::TooLong)),
                Got::Line => match std::str::from_utf8(without_line_end(&self.line)) {
                    Err(error) => Err(Problem::utf8(error)),
                    Ok(text) if text.trim().is_empty() => continue,
                    Ok(text) if self.format == Format::Jsonl => {
                        jsonl::spec(text, &self.kinds, None)
                    }
                    Ok(text) if lines::is_comment(text) => continue,
                    Ok(text) => lines::spec(text, &self.kinds),
                },
            };
            let bad =
                |problem| LineError::new(&self.name, self.lines.number(), &self.line, problem);
            return Ok(Some(item(spec.map_err(bad))));
        }
    }

    fn next_row(&mut self) -> Result<Option<Item>, ReadError> {
        let (mut records, mut table) = match self.csv.take() {
            Some(csv) => csv,
            None => match self.header()? {
                Some(csv) => csv,
                None => return Ok(None),
            },
        };
        let found = loop {
            let record = records.read(&mut self.lines).map_err(|error| self.broken(error))?;
            if record == csv::Record::End {
                return Ok(None);
            }
            match row_spec(record, &records, &mut table, &self.kinds) {
                Ok(None) => {}
                Ok(Some(spec)) => break Ok(spec),
                Err(problem) => {
                    break Err(LineError::new(&self.name, records.line, &records.raw, problem));
                }
            }
        };
        self.csv = Some((records, table));
        Ok(Some(item(found)))
    }

    fn header(&mut self) -> Result<Option<(csv::Records, csv::Table)>, ReadError> {
        let mut records = csv::Records::new();
        let record = records.read(&mut self.lines).map_err(|error| self.broken(error))?;
        let table = match record {
            csv::Record::End => return Ok(None),
            csv::Record::Row => csv::Table::from_header(records.cells()),
            csv::Record::Bad(_) => Err(HeaderProblem::Unreadable),
        };
        let table = table.map_err(|problem| {
            let header = String::from_utf8_lossy(without_line_end(&records.raw));
            ReadError::Header { file: Arc::clone(&self.name), problem, header: excerpt(&header) }
        })?;
        Ok(Some((records, table)))
    }

    fn broken(&self, source: std::io::Error) -> ReadError {
        let (file, lines) = (Arc::clone(&self.name), self.lines.number());
        if self.gzip && source::is_gzip_trouble(&source) {
            ReadError::Gzip { file, lines, source }
        } else {
            ReadError::Read { file, lines, source }
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        if self.over {
            return None;
        }
        let next = self.next_item().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

fn item(spec: Result<JobSpec, LineError>) -> Item {
    spec.map_or_else(|error| Item::Bad(Box::new(error)), Item::Job)
}

/// The job of a row; `None` when none of its cells says anything.
fn row_spec(
    record: csv::Record,
    records: &csv::Records,
    table: &mut csv::Table,
    kinds: &Kinds,
) -> Result<Option<JobSpec>, Problem> {
    if let csv::Record::Bad(fault) = record {
        return Err(records.problem(fault));
    }
    if !table.fill(records.cells()).map_err(|fault| records.problem(fault))? {
        return Ok(None);
    }
    jsonl::spec(&table.object, kinds, None)
        .map(Some)
        .map_err(|problem| table.in_row(problem, records.row()))
}

/// The job that a person names on the command line. The id stays as typed, surrounding white space aside.
///
/// With `json`, that object is the payload and its own ids are not looked at. Without, the payload carries the
/// identifier that the id is (`doi:10.1234/abc` gives `{"doi":"10.1234/abc"}`), or is empty when it is none.
///
/// # Errors
/// [`LineError`] of the file `<argument>`: the id or the object is bad.
pub fn spec_from_id(
    id: &str,
    json: Option<&str>,
    kinds: &Kinds,
) -> Result<JobSpec, Box<LineError>> {
    let bad = |text: &str, problem| {
        Box::new(LineError::new(&"<argument>".into(), 1, text.as_bytes(), problem))
    };
    let artifact_id =
        ArtifactId::new(id).map_err(|error| bad(id, Problem::whole(id, Fault::Id(error))))?;
    match json {
        Some(json) => {
            jsonl::spec(json, kinds, Some(artifact_id)).map_err(|problem| bad(json, problem))
        }
        None => {
            let found = Identifier::recognise(id).ok();
            Ok(lines::spec_of(artifact_id, found.as_ref(), kinds))
        }
    }
}

#[cfg(test)]
mod tests;
