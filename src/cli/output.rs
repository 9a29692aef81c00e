//! Standard output and standard error: data on the one, everything else on the other.
//!
//! On a terminal tables have lines and errors have colours; in a pipe there is plain aligned text. Must never
//! panic when whoever reads is gone: that is an error like others, and success in the end.

use std::io::{self, IsTerminal, Write};

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment};
use serde::Serialize;

use super::error::CliError;
use crate::job::WallMs;

/// Where a command writes.
pub struct Output {
    data: Box<dyn Write>,
    /// Whether a person reads the data.
    data_is_terminal: bool,
    /// Everything else.
    pub messages: Messages,
}

/// What is said beside the data.
#[derive(Debug, Clone, Copy)]
pub struct Messages {
    /// Whether a person reads them.
    pub is_terminal: bool,
    /// Whether they may be coloured.
    pub colour: bool,
    /// Errors only.
    pub quiet: bool,
}

impl Output {
    /// Of this process. `no_colour`: `NO_COLOR` is set (<https://no-color.org>).
    #[must_use]
    pub fn of_process(quiet: bool, no_colour: bool) -> Output {
        let stdout = io::stdout();
        let data_is_terminal = stdout.is_terminal();
        let is_terminal = io::stderr().is_terminal();
        Output {
            data: Box::new(io::BufWriter::new(stdout)),
            data_is_terminal,
            messages: Messages { is_terminal, colour: is_terminal && !no_colour, quiet },
        }
    }

    /// Where data goes.
    pub fn data(&mut self) -> &mut dyn Write {
        &mut self.data
    }

    /// Writes a line of data.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn line(&mut self, line: &str) -> Result<(), CliError> {
        writeln!(self.data, "{line}").map_err(CliError::Output)
    }

    /// Writes data as it is.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn text(&mut self, text: &str) -> Result<(), CliError> {
        self.data.write_all(text.as_bytes()).map_err(CliError::Output)
    }

    /// Writes `value` as JSON on one line, which it does not end.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn json_line(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer(&mut self.data, value).map_err(|error| CliError::Output(error.into()))
    }

    /// Writes `value` as JSON, indented.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), CliError> {
        serde_json::to_writer_pretty(&mut self.data, value)
            .map_err(|error| CliError::Output(error.into()))?;
        self.line("")
    }

    /// Writes a table: with lines on a terminal, plain in a pipe.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn table(&mut self, table: &Table) -> Result<(), CliError> {
        let text = if self.data_is_terminal { table.with_lines() } else { table.plain() };
        self.data.write_all(text.as_bytes()).map_err(CliError::Output)
    }

    /// Hands everything to whoever reads.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub fn flush(&mut self) -> Result<(), CliError> {
        self.data.flush().map_err(CliError::Output)
    }
}

impl Messages {
    /// A remark for the person who watches, unless they asked for quiet.
    pub fn note(self, text: &str) {
        if !self.quiet {
            self.message("note", "36", text);
        }
    }

    /// An error and what to do next.
    pub fn error(self, error: &CliError) {
        for line in error.to_string().lines() {
            self.message("error", "31", line);
        }
        if let Some(hint) = error.hint() {
            self.message("hint", "36", &hint);
        }
    }

    /// One line on standard error. That nobody reads it is no reason to stop.
    fn message(self, label: &str, colour: &str, text: &str) {
        let _ = if self.colour {
            writeln!(io::stderr(), "\x1b[1;{colour}m{label}:\x1b[0m {text}")
        } else {
            writeln!(io::stderr(), "{label}: {text}")
        };
    }
}

/// A column: its name, and whether it holds numbers, which are aligned right.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    name: &'static str,
    numbers: bool,
}

impl Column {
    /// A column of text.
    #[must_use]
    pub const fn text(name: &'static str) -> Column {
        Column { name, numbers: false }
    }

    /// A column of numbers.
    #[must_use]
    pub const fn numbers(name: &'static str) -> Column {
        Column { name, numbers: true }
    }
}

/// Rows under a header.
#[derive(Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table of these columns.
    #[must_use]
    pub fn new(columns: &[Column]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    fn with_lines(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(self.names());
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns).map(|(text, column)| {
                let side = if column.numbers { CellAlignment::Right } else { CellAlignment::Left };
                Cell::new(text).set_alignment(side)
            });
            table.add_row(cells.collect::<Vec<_>>());
        }
        format!("{table}\n")
    }

    fn plain(&self) -> String {
        let mut aligner = Aligner::new(&self.columns);
        aligner.widen(&self.rows);
        let mut text = aligner.header();
        text.extend(self.rows.iter().map(|row| aligner.line(row)));
        text
    }

    fn names(&self) -> Vec<&'static str> {
        self.columns.iter().map(|column| column.name).collect()
    }
}

/// Aligns lines of plain text whose rows come page by page: columns widen, and never narrow again.
#[derive(Debug)]
pub(super) struct Aligner {
    columns: Vec<(Column, usize)>,
}

impl Aligner {
    /// As wide as the names of the columns.
    #[must_use]
    pub(super) fn new(columns: &[Column]) -> Aligner {
        let width = |column: &Column| (*column, column.name.len());
        Aligner { columns: columns.iter().map(width).collect() }
    }

    /// Makes each column at least as wide as its cells in `rows`.
    pub(super) fn widen(&mut self, rows: &[Vec<String>]) {
        for row in rows {
            for ((_, width), cell) in self.columns.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }

    /// The line of names.
    #[must_use]
    pub(super) fn header(&self) -> String {
        let names: Vec<String> =
            self.columns.iter().map(|(column, _)| column.name.to_owned()).collect();
        self.line(&names)
    }

    /// One line: the cells two spaces apart, without white space at its end.
    #[must_use]
    pub(super) fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (index, ((column, width), cell)) in self.columns.iter().zip(cells).enumerate() {
            if index > 0 {
                line.push_str("  ");
            }
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            let (before, after) =
                if column.numbers { (padding.as_str(), "") } else { ("", padding.as_str()) };
            line.push_str(before);
            line.push_str(cell);
            line.push_str(after);
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

/// The text with control characters made visible: what a server or a line said must not drive a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = (!c.is_control()).then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

/// A time for people: UTC, to the second.
#[must_use]
pub(super) fn time(at: WallMs) -> String {
    match jiff::Timestamp::from_millisecond(at.0) {
        Ok(time) => format!("{time:.0}"),
        Err(_) => format!("{} ms", at.0),
    }
}

/// A time for programs: RFC 3339, UTC, to the millisecond; `None` beyond the years that has.
#[must_use]
pub(super) fn rfc3339(at: WallMs) -> Option<String> {
    jiff::Timestamp::from_millisecond(at.0).ok().map(|time| format!("{time:.3}"))
}

/// `12,345`
#[must_use]
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_aligned_and_has_no_trailing_space() {
        let mut table =
            Table::new(&[Column::text("state"), Column::numbers("jobs"), Column::text("note")]);
        table.row(vec!["queued".into(), "7".into(), String::new()]);
        table.row(vec!["done".into(), "12345".into(), "é\u{1b}[31m".into()]);
        assert_eq!(
            table.plain(),
            "state    jobs  note\n\
             queued      7\n\
             done    12345  é\\u{1b}[31m\n"
        );
    }

    #[test]
    fn times_are_utc() {
        let at = WallMs(1_769_846_400_250);
        assert_eq!(time(at), "2026-01-31T08:00:00Z");
        assert_eq!(rfc3339(at).as_deref(), Some("2026-01-31T08:00:00.250Z"));
        assert_eq!(rfc3339(WallMs(i64::MAX)), None);
    }

    #[test]
    fn large_numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")]
        {
            assert_eq!(thousands(number), text);
        }
    }
}
