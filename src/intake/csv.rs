//! Rows of CSV (RFC 4180, commas) become the JSON objects that they stand for, and those become jobs.
//!
//! The object has the row's cells in the order of the header, trimmed; an empty cell is absent, and so is a
//! column without a name. Names of the contract are matched without regard to case; others are the handler's
//! and stay as written. Cells are strings, except:
//!
//! - `priority`, `max_attempts`, `timeout_seconds`, `max_bytes`, `publication_year` and `sleep_ms`: a number
//!   when the cell is one;
//! - `tags`, `pdf_urls`, `urls` and `landing_urls`: a list, either JSON or parted by `|`;
//! - `retry`, `command` and `env`: JSON when the cell is a JSON object or array.
//!
//! A quoted cell may hold line breaks. A quote that never closes must not swallow the file: the line where it
//! opens is bad, and reading goes on with the next one.

use std::io;

use csv_core::ReadRecordResult;

use super::error::{Fault, HeaderProblem, Problem, without_line_end};
use super::line::{Field, is_json, quoted};
use super::raw::{Got, MAX_LINE_BYTES, RawLines};
use crate::job::excerpt;

const NUMBERS: [&str; 6] =
    ["priority", "max_attempts", "timeout_seconds", "max_bytes", "publication_year", "sleep_ms"];
const LISTS: [&str; 4] = ["tags", "pdf_urls", "urls", "landing_urls"];
const STRUCTURES: [&str; 3] = ["retry", "command", "env"];

/// What parts the elements of a list; not allowed bare in a URL (RFC 3986), unlike `,` and `;`.
const LIST_SEPARATOR: char = '|';

/// What reading a record brought.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    /// A row; its cells are in [`Records::cells`].
    Row,
    /// Something that is no row.
    Bad(Fault),
    /// Nothing: the file is over.
    End,
}

/// Records out of lines.
pub(super) struct Records {
    parser: csv_core::Reader,
    /// The record as it came, lines and all.
    pub(super) raw: Vec<u8>,
    /// The line it began in.
    pub(super) line: u64,
    text: Vec<u8>,
    text_len: usize,
    ends: Vec<usize>,
    ends_len: usize,
}

impl Records {
    pub(super) fn new() -> Records {
        // A CR before the LF is trimmed with the cell; alone it is no end of a line.
        let terminator = csv_core::Terminator::Any(b'\n');
        Records {
            parser: csv_core::ReaderBuilder::new().terminator(terminator).build(),
            raw: Vec::new(),
            line: 0,
            text: vec![0; 1024],
            text_len: 0,
            ends: vec![0; 32],
            ends_len: 0,
        }
    }

    /// Reads the next record that is not blank.
    pub(super) fn read(&mut self, lines: &mut RawLines) -> io::Result<Record> {
        self.raw.clear();
        while self.raw.trim_ascii().is_empty() {
            self.raw.clear();
            match lines.read(&mut self.raw)? {
                Got::Line => {}
                Got::TooLong => {
                    self.line = lines.number();
                    return Ok(Record::Bad(Fault::TooLong));
                }
                Got::End => return Ok(Record::End),
            }
        }
        self.line = lines.number();
        (self.text_len, self.ends_len) = (0, 0);
        self.parser.reset();
        let mut fed = 0;
        while !self.feed(fed) {
            fed = self.raw.len();
            let got = lines.read(&mut self.raw)?;
            if got != Got::Line || self.raw.len() > MAX_LINE_BYTES {
                self.give_back(lines, got);
                return Ok(Record::Bad(Fault::UnclosedQuote));
            }
        }
        if std::str::from_utf8(&self.raw).is_err() {
            return Ok(Record::Bad(Fault::Utf8));
        }
        Ok(Record::Row)
    }

    /// The text of the row, its line ends inside included; empty when it is not UTF-8.
    pub(super) fn row(&self) -> &str {
        std::str::from_utf8(without_line_end(&self.raw)).unwrap_or_default()
    }

    /// `fault` of this record, placed in it.
    pub(super) fn problem(&self, fault: Fault) -> Problem {
        let row = self.row();
        match (fault, std::str::from_utf8(&self.raw)) {
            // The last cell is the one that was still open.
            (Fault::UnclosedQuote, _) => {
                let (offset, len) = cell_place(row, usize::MAX);
                Problem { fault: Fault::UnclosedQuote, offset, len }
            }
            (Fault::Utf8, Err(error)) => Problem::utf8(error),
            (fault, _) => Problem::whole(row, fault),
        }
    }

    /// The cells of the row, trimmed.
    pub(super) fn cells(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends_len).map(|index| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            let cell = self.text.get(start..self.ends[index]).unwrap_or_default();
            std::str::from_utf8(cell).unwrap_or_default().trim()
        })
    }

    /// Gives the parser what of the record it has not seen. Returns whether the record is whole.
    fn feed(&mut self, fed: usize) -> bool {
        if !self.raw.ends_with(b"\n") {
            self.raw.push(b'\n');
        }
        let mut input = &self.raw[fed..];
        loop {
            let (result, read, written, ended) = self.parser.read_record(
                input,
                &mut self.text[self.text_len..],
                &mut self.ends[self.ends_len..],
            );
            input = &input[read..];
            self.text_len += written;
            self.ends_len += ended;
            match result {
                ReadRecordResult::InputEmpty => return false,
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record | ReadRecordResult::End => return true,
            }
        }
    }

    /// Keeps the first line of the record and gives the others back; `last` is what the newest of them was.
    fn give_back(&mut self, lines: &mut RawLines, last: Got) {
        let first = self.raw.iter().position(|b| *b == b'\n').map_or(self.raw.len(), |at| at + 1);
        let rest = self.raw.split_off(first);
        let mut again: Vec<_> =
            rest.split_inclusive(|b| *b == b'\n').map(|line| (line.to_vec(), Got::Line)).collect();
        if let (Got::TooLong, Some((_, got))) = (last, again.last_mut()) {
            *got = Got::TooLong;
        }
        lines.unread(again);
    }
}

/// What the cells of a column become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Text,
    Number,
    List,
    Structure,
}

#[derive(Debug)]
struct Column {
    /// Its name as a JSON string; `None`: it has no name.
    key: Option<String>,
    shape: Shape,
}

/// The columns of a file, and the row that is being turned into an object.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    /// The object that the last row became.
    pub(super) object: String,
    /// Where in it each column ends.
    marks: Vec<usize>,
}

impl Table {
    /// The columns that a header names.
    pub(super) fn from_header<'a>(
        cells: impl Iterator<Item = &'a str>,
    ) -> Result<Table, HeaderProblem> {
        let mut names: Vec<String> = Vec::new();
        for cell in cells {
            let name = canonical(cell);
            if !name.is_empty() && names.contains(&name) {
                return Err(HeaderProblem::Duplicate(excerpt(&name)));
            }
            names.push(name);
        }
        if !names.iter().any(|name| Field::from_name(name).is_some()) {
            return Err(HeaderProblem::NoKnownColumn);
        }
        let columns = names.iter().map(|name| Column {
            key: (!name.is_empty()).then(|| quoted(name)),
            shape: shape(name),
        });
        Ok(Table { columns: columns.collect(), object: String::new(), marks: Vec::new() })
    }

    /// Makes the object of a row. Returns whether any cell says anything.
    pub(super) fn fill<'a>(
        &mut self,
        cells: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<bool, Fault> {
        self.object.clear();
        self.marks.clear();
        if cells.len() != self.columns.len() {
            return Err(Fault::CellCount { expected: self.columns.len(), found: cells.len() });
        }
        for (column, cell) in self.columns.iter().zip(cells) {
            if let (Some(key), false) = (&column.key, cell.is_empty()) {
                self.object.push(if self.object.is_empty() { '{' } else { ',' });
                self.object.push_str(key);
                self.object.push(':');
                push_value(&mut self.object, column.shape, cell);
            }
            self.marks.push(self.object.len());
        }
        let says = !self.object.is_empty();
        self.object.push('}');
        Ok(says)
    }

    /// `problem` of the object, placed in the row it was made of.
    pub(super) fn in_row(&self, problem: Problem, row: &str) -> Problem {
        if problem.offset == 0 {
            return Problem::whole(row, problem.fault);
        }
        let column = self.marks.partition_point(|end| *end <= problem.offset);
        let (offset, len) = cell_place(row, column);
        Problem { fault: problem.fault, offset, len }
    }
}

/// A name of the contract in its own spelling, any other as written.
fn canonical(name: &str) -> String {
    let lower = name.to_lowercase();
    let known = Field::from_name(&lower).is_some() || shape(&lower) != Shape::Text;
    if known { lower } else { name.to_owned() }
}

fn shape(name: &str) -> Shape {
    if NUMBERS.contains(&name) {
        Shape::Number
    } else if LISTS.contains(&name) {
        Shape::List
    } else if STRUCTURES.contains(&name) {
        Shape::Structure
    } else {
        Shape::Text
    }
}

fn push_value(object: &mut String, shape: Shape, cell: &str) {
    let as_json = match shape {
        Shape::Text => false,
        Shape::Number => cell.starts_with(|c: char| c == '-' || c.is_ascii_digit()),
        Shape::List => cell.starts_with('['),
        Shape::Structure => cell.starts_with(['[', '{']),
    };
    if as_json && is_json(cell) {
        // Line breaks between the tokens of a cell would make two lines of one payload.
        object.extend(cell.chars().map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c }));
    } else if shape == Shape::List {
        let parts = cell.split(LIST_SEPARATOR).map(str::trim).filter(|part| !part.is_empty());
        let parts: Vec<String> = parts.map(quoted).collect();
        object.push('[');
        object.push_str(&parts.join(","));
        object.push(']');
    } else {
        object.push_str(&quoted(cell));
    }
}

/// Where the cell of that column lies in a row, quotes included, as offset and length in bytes.
fn cell_place(row: &str, column: usize) -> (usize, usize) {
    let (mut start, mut index, mut quoted) = (0, 0, false);
    for (at, byte) in row.bytes().enumerate() {
        match byte {
            b'"' if quoted || row[start..at].trim().is_empty() => quoted = !quoted,
            b'"' => quoted = row[start..].starts_with('"'),
            b',' if !quoted => {
                if index == column {
                    return (start, at - start);
                }
                (start, index) = (at + 1, index + 1);
            }
            _ => {}
        }
    }
    (start, row.len() - start)
}

/// Whether a line looks like a header: its cells are names, and one of them is known.
pub(super) fn is_header(line: &[u8]) -> bool {
    let Ok(line) = std::str::from_utf8(without_line_end(line)) else { return false };
    let name = |cell: &str| cell.trim().trim_matches('"').to_lowercase();
    line.split(',').any(|cell| Field::from_name(&name(cell)).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(input: &str) -> Vec<(u64, Record, Vec<String>)> {
        let input = io::Cursor::new(input.as_bytes().to_vec());
        let mut lines = RawLines::new(Box::new(input));
        let mut records = Records::new();
        let mut all = Vec::new();
        loop {
            match records.read(&mut lines).unwrap() {
                Record::End => return all,
                record => {
                    let cells = match record {
                        Record::Row => records.cells().map(str::to_owned).collect(),
                        _ => vec![String::from_utf8(records.raw.clone()).unwrap()],
                    };
                    all.push((records.line, record, cells));
                }
            }
        }
    }

    #[track_caller]
    fn check(input: &str, expected: &[(u64, &[&str])]) {
        let found = records(input);
        let rows: Vec<_> = found
            .iter()
            .map(|(n, _, cells)| (*n, cells.iter().map(String::as_str).collect::<Vec<_>>()))
            .collect();
        let expected: Vec<_> = expected.iter().map(|(n, cells)| (*n, cells.to_vec())).collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn rows_are_cut_as_rfc_4180_says() {
        check("a,b\r\n\r\n c ,\"d, \"\"e\"\"\"\n", &[(1, &["a", "b"]), (3, &["c", "d, \"e\""])]);
        check("a,\"b\nc\"\nd,e", &[(1, &["a", "b\nc"]), (3, &["d", "e"])]);
        check("5\" pipe,x\rz\n", &[(1, &["5\" pipe", "x\rz"])]);
        check("a,\"b\"", &[(1, &["a", "b"])]);
        check(",,\n", &[(1, &["", "", ""])]);
    }

    #[test]
    fn long_and_many_cells_fit() {
        let long = "y".repeat(9_000);
        let row = format!("{long},{}", vec!["x"; 200].join(","));
        let found = records(&row);
        assert_eq!(found[0].2.len(), 201);
        assert_eq!(found[0].2[0], long);
    }

    #[test]
    fn an_unclosed_quote_costs_its_own_line_only() {
        let bad = Record::Bad(Fault::UnclosedQuote);
        let found = records("a,\"b\nc,d\ne,f\n");
        assert_eq!(found[0], (1, bad, vec!["a,\"b\n".to_owned()]));
        assert_eq!(found[1], (2, Record::Row, vec!["c".into(), "d".into()]));
        assert_eq!(found[2], (3, Record::Row, vec!["e".into(), "f".into()]));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn an_unclosed_quote_is_given_up_after_a_mebibyte() {
        let rows = MAX_LINE_BYTES / "c,d\n".len() + 1;
        let found = records(&format!("a,\"b\n{}x,y\"\n", "c,d\n".repeat(rows)));
        assert_eq!(found.len(), rows + 2);
        assert_eq!(found[0].1, Record::Bad(Fault::UnclosedQuote));
        let are_rows = found[1..].iter().all(|(_, record, _)| *record == Record::Row);
        assert!(are_rows && found.iter().zip(1..).all(|((n, ..), line)| *n == line));
    }

    #[test]
    fn a_long_line_inside_an_open_quote_is_still_a_line() {
        let input = format!("a,\"b\nc,d\n{}\ne,f\n", "x".repeat(MAX_LINE_BYTES + 1));
        let found = records(&input);
        let kinds: Vec<_> = found.iter().map(|(n, record, _)| (*n, record)).collect();
        assert_eq!(
            kinds,
            [
                (1, &Record::Bad(Fault::UnclosedQuote)),
                (2, &Record::Row),
                (3, &Record::Bad(Fault::TooLong)),
                (4, &Record::Row)
            ]
        );
    }

    #[track_caller]
    fn check_object(header: &str, row: &str, object: &str) {
        let mut table = Table::from_header(header.split(',')).unwrap();
        let cells: Vec<_> = row.split(',').collect();
        assert_eq!(table.fill(cells.into_iter()), Ok(object != "}"));
        assert_eq!(table.object, object);
        assert!(object == "}" || is_json(object));
    }

    #[test]
    fn a_row_becomes_an_object_in_the_order_of_the_header() {
        check_object(
            "Title,DOI,my Col",
            "a\"b,10.1234/X,2",
            r#"{"Title":"a\"b","doi":"10.1234/X","my Col":"2"}"#,
        );
        check_object("doi,,id", "10.1234/x,dropped,", r#"{"doi":"10.1234/x"}"#);
        check_object("doi,id", ",", "}");
        check_object(
            "PRIORITY,max_attempts,Sleep_ms,id",
            "1,x,50,7",
            r#"{"priority":1,"max_attempts":"x","sleep_ms":50,"id":"7"}"#,
        );
        check_object("priority,id", "high,x", r#"{"priority":"high","id":"x"}"#);
        check_object("priority,id", "1 2,x", r#"{"priority":"1 2","id":"x"}"#);
        check_object(
            "id,tags,urls",
            "x,a| b||,https://a.example/;b",
            r#"{"id":"x","tags":["a","b"],"urls":["https://a.example/;b"]}"#,
        );
        check_object("id,tags", "x,[\"a|b\"\n]", r#"{"id":"x","tags":["a|b" ]}"#);
        check_object("id,tags", "x,[a", r#"{"id":"x","tags":["[a"]}"#);
        check_object(
            "id,retry",
            "x,{\"strategy\":\"fixed\"}",
            r#"{"id":"x","retry":{"strategy":"fixed"}}"#,
        );
        check_object("id,retry", "x,quick", r#"{"id":"x","retry":"quick"}"#);
    }

    #[test]
    fn a_header_must_make_sense() {
        let header = |text: &str| Table::from_header(text.split(',')).unwrap_err();
        assert_eq!(header("title,year"), HeaderProblem::NoKnownColumn);
        assert_eq!(header("doi;title"), HeaderProblem::NoKnownColumn);
        assert_eq!(header("doi,DOI"), HeaderProblem::Duplicate("doi".into()));
        assert_eq!(header("doi,x,x"), HeaderProblem::Duplicate("x".into()));
        assert!(Table::from_header("doi,x,X,,".split(',')).is_ok());
    }

    #[test]
    fn a_header_is_known_by_one_name() {
        for yes in ["doi", "DOI\r\n", "title, \"Url\",x", "id,x"] {
            assert!(is_header(yes.as_bytes()), "{yes}");
        }
        for no in ["", "10.1234/abc", "title,year", "doi:10.1234/abc", "doi;x"] {
            assert!(!is_header(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn a_cell_is_found_in_its_row() {
        for (row, column, cell) in [
            ("a,b,c", 0, "a"),
            ("a,b,c", 2, "c"),
            ("a,\"b,\"\"x\",c", 1, "\"b,\"\"x\""),
            ("5\" pipe,b", 1, "b"),
            ("\"a\nb\",c", 1, "c"),
        ] {
            let (offset, len) = cell_place(row, column);
            assert_eq!(&row[offset..offset + len], cell, "{row}");
        }
    }
}
