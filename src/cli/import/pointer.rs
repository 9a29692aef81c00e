//! A bad line drawn for a person: the place in the line, and what is wrong there.

use std::ops::Range;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, MietteError,
    MietteSpanContents, SourceCode, SourceSpan, SpanContents,
};

use crate::cli::output::printable;
use crate::intake::LineError;

/// So much of the line is shown on either side of what is wrong, in characters.
const AROUND: usize = 40;

/// The bad line as miette wants it.
#[derive(Debug)]
struct Pointed {
    message: String,
    excerpt: Excerpt,
    span: SourceSpan,
}

/// A piece of a line that knows which line it is of.
#[derive(Debug)]
struct Excerpt {
    text: String,
    file: String,
    /// From 0, as miette counts.
    line: usize,
    column: usize,
}

impl SourceCode for Excerpt {
    fn read_span<'a>(
        &'a self,
        _span: &SourceSpan,
        _lines_before: usize,
        _lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let whole = SourceSpan::from(0..self.text.len());
        let (data, name) = (self.text.as_bytes(), self.file.clone());
        Ok(Box::new(MietteSpanContents::new_named(name, data, whole, self.line, self.column, 1)))
    }
}

impl std::fmt::Display for Pointed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Pointed {}

impl Diagnostic for Pointed {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.excerpt)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some("here".into()), self.span))))
    }
}

/// The drawing, with its line end.
pub(super) fn render(error: &LineError, colour: bool) -> String {
    let pointed = pointed(error);
    let theme = if colour { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let mut text = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_links(false).with_width(100);
    match handler.render_report(&mut text, &pointed) {
        Ok(()) => text,
        Err(_) => format!("{}\n", pointed.message),
    }
}

fn pointed(error: &LineError) -> Pointed {
    let start = error.span_offset.min(error.text.len());
    let end = (start + error.span_len).min(error.text.len());
    let shown = around(&error.text, start..end);
    let before = printable(&error.text[shown.start..start]);
    let marked = printable(&error.text[start..end.min(shown.end)]);
    let after = printable(&error.text[end.min(shown.end)..shown.end]);
    Pointed {
        message: printable(&error.to_string()),
        span: SourceSpan::from(before.len()..before.len() + marked.len()),
        excerpt: Excerpt {
            text: format!("{before}{marked}{after}"),
            file: error.file.to_string(),
            line: usize::try_from(error.line.saturating_sub(1)).unwrap_or(usize::MAX),
            column: usize::try_from(error.column.saturating_sub(1)).unwrap_or(usize::MAX),
        },
    }
}

/// The bytes of `text` that are shown: some characters on either side of `span`, and no more than that of the span.
fn around(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text[..span.start]
        .char_indices()
        .rev()
        .take(AROUND)
        .last()
        .map_or(span.start, |(at, _)| at);
    let tail = &text[span.start..];
    let most = (text[span.clone()].chars().count()).min(AROUND) + AROUND;
    let end = tail.char_indices().nth(most).map_or(text.len(), |(at, _)| span.start + at);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Fault;

    fn bad(text: &str, span: Range<usize>) -> LineError {
        LineError {
            file: "in.jsonl".into(),
            line: 7,
            column: text[..span.start].chars().count() as u64 + 1,
            fault: Fault::NoId,
            text: text.to_owned(),
            span_offset: span.start,
            span_len: span.len(),
        }
    }

    #[test]
    fn it_names_the_line_and_points_at_the_place() {
        let drawn = render(&bad("{\"kind\": \"fecth\"}", 9..16), false);
        assert!(drawn.contains("in.jsonl:7:10"), "{drawn}");
        assert!(drawn.contains("7 │ {\"kind\": \"fecth\"}"), "{drawn}");
        assert!(!drawn.contains('\u{1b}'), "{drawn}");
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let text = format!("{}é!{}", "é".repeat(5_000), "x".repeat(5_000));
        let drawn = render(&bad(&text, 10_000..10_003), false);
        assert!(drawn.contains("é!xxx") && drawn.len() < 2_000, "{drawn}");
        let drawn = render(&bad(&text, 0..text.len()), false);
        assert!(drawn.len() < 2_000, "{drawn}");
    }

    #[test]
    fn what_a_line_holds_does_not_drive_the_terminal() {
        let drawn = render(&bad("{\u{1b}[31m}", 1..2), false);
        assert!(!drawn.contains('\u{1b}'), "{drawn}");
    }
}
