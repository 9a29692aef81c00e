//! Reading answers as services really write them: a field may be null, missing, of another type than documented, one object where
//! a list was, a number as a text.
//!
//! Each part of an answer is judged by itself, so that one odd element does not spoil the others. Must never take what was not
//! understood for absence: it is remembered, and when nothing was found the answer is [`NoKind::Broken`](super::NoKind::Broken).

use std::borrow::Cow;

use roxmltree::Node;
use serde_json::Value;

use super::{Candidate, Leads, No, Said, Step, Work};
use crate::job::Scheme;

/// What has been made of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    found: Vec<Candidate>,
    learned: Vec<(Scheme, Box<str>)>,
    /// Where the first thing stood that was not understood.
    odd: Option<Box<str>>,
}

impl Reading {
    /// The objects of a list, each with its place (`link[0]`); a single object is a list of one.
    pub(super) fn objects<'v>(&mut self, list: &'v Value, at: &str) -> Vec<(String, &'v Value)> {
        self.elements(list, at, Value::is_object)
    }

    /// The texts of a list, each with its place; a single text is a list of one. None of them is blank.
    pub(super) fn texts<'v>(&mut self, list: &'v Value, at: &str) -> Vec<(String, &'v str)> {
        let texts = self.elements(list, at, Value::is_string).into_iter();
        texts.filter_map(|(at, value)| Some((at, text(value)?))).collect()
    }

    fn elements<'v>(
        &mut self,
        list: &'v Value,
        at: &str,
        fits: fn(&Value) -> bool,
    ) -> Vec<(String, &'v Value)> {
        let Value::Array(elements) = list else {
            let single = self.fitting(list, at, fits);
            return single.map(|value| (at.to_owned(), value)).into_iter().collect();
        };
        let elements = elements.iter().enumerate().map(|(n, value)| (format!("{at}[{n}]"), value));
        elements
            .filter_map(|(at, value)| self.fitting(value, &at, fits).map(|value| (at, value)))
            .collect()
    }

    fn fitting<'v>(
        &mut self,
        value: &'v Value,
        at: &str,
        fits: fn(&Value) -> bool,
    ) -> Option<&'v Value> {
        if !value.is_null() && !fits(value) {
            self.note_odd(at);
        }
        Some(value).filter(|value| fits(value))
    }

    /// A text that is not blank.
    pub(super) fn text<'v>(&mut self, value: &'v Value, at: &str) -> Option<&'v str> {
        text(self.fitting(value, at, Value::is_string)?)
    }

    /// That what stands there is not understood.
    pub(super) fn note_odd(&mut self, at: &str) {
        self.odd.get_or_insert_with(|| at.into());
    }

    /// One candidate more, unless its URL is known already.
    pub(super) fn found(&mut self, candidate: Option<Candidate>) {
        let known = |new: &Candidate| self.found.iter().any(|old| old.url == new.url);
        let new = candidate.filter(|new| !known(new));
        self.found.extend(new);
    }

    /// Puts files before pages; among equals their order stays.
    pub(super) fn files_first(&mut self) {
        self.found.sort_by_key(|candidate| candidate.leads == Leads::Page);
    }

    /// The work's identifier of that scheme, where one stands there. Of several the first counts.
    pub(super) fn learn(&mut self, scheme: Scheme, value: &Value) {
        let text = name(value).filter(|text| scheme.parse(text).is_ok());
        self.learned.extend(text.map(|text| (scheme, Box::from(text))));
    }

    /// What the answer says when it is only the beginning.
    pub(super) fn go_on(self, next: Step) -> Said {
        Said { found: self.found, learned: self.learned, next: Some(next) }
    }

    /// What the answer says: absent, in these words, only when all of it was understood.
    ///
    /// # Errors
    /// [`No`].
    pub(super) fn said(self, absent: &str) -> Result<Said, No> {
        let Reading { found, learned, odd } = self;
        if !found.is_empty() {
            return Ok(Said { found, learned, next: None });
        }
        let no = match odd {
            Some(at) => No::broken(format_args!("{at}: not understood")),
            None => No::absent(absent),
        };
        Err(No { learned, ..no })
    }
}

/// The elements of a list; of anything else that element alone; of `null` none. For what an answer may as well leave out:
/// nothing is noted.
pub(super) fn each(value: &Value) -> std::slice::Iter<'_, Value> {
    match value {
        Value::Null => [].iter(),
        Value::Array(elements) => elements.iter(),
        one => std::slice::from_ref(one).iter(),
    }
}

/// A text that is not blank, without the blanks around it. Likewise.
pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// A number, also one that is written as a text.
pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| text(value)?.parse().ok())
}

/// A text, also one that is written as a number. Blank is none.
pub(super) fn name(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        value => text(value).map(Cow::Borrowed),
    }
}

/// Whether `text`, in any spelling, is the DOI `doi`, which is in its normal form.
pub(super) fn is_doi(text: &str, doi: &str) -> bool {
    const RESOLVERS: [&str; 4] =
        ["https://doi.org/", "http://doi.org/", "https://dx.doi.org/", "http://dx.doi.org/"];
    let folded = text.trim().to_lowercase();
    let bare = RESOLVERS.iter().find_map(|prefix| folded.strip_prefix(prefix)).unwrap_or(&folded);
    // A normal form may hold a percent sign, which reading it once more would decode.
    bare == doi.to_lowercase() || Scheme::Doi.parse(text).is_ok_and(|found| found.normal == doi)
}

/// Whether a record with these DOIs is that work. One without a DOI is, or the work is without: it was asked for.
pub(super) fn is_about<'v>(dois: impl IntoIterator<Item = &'v str>, work: &Work) -> bool {
    let mut theirs = dois.into_iter().peekable();
    match &work.doi {
        Some(ours) => theirs.peek().is_none() || theirs.any(|doi| is_doi(doi, ours)),
        None => true,
    }
}

/// Whether a URL's path, or the name of a file, ends in `.pdf`.
pub(super) fn is_pdf(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default().trim_end();
    path.to_ascii_lowercase().ends_with(".pdf")
}

/// The children of an XML element that have that name, in whichever namespace.
pub(super) fn children<'a, 'input>(
    node: Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(move |child| child.tag_name().name() == name)
}

/// A phrase in Lucene's query language: quoted, quotation marks and backslashes in it escaped.
pub(super) fn phrase(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::NoKind;
    use super::*;

    fn read(list: &Value) -> Result<usize, NoKind> {
        let mut reading = Reading::default();
        for (at, it) in reading.objects(list, "list") {
            let url = reading.text(&it["url"], "url").map(str::to_owned);
            reading.found(url.and_then(|url| Candidate::file(&url, at)));
        }
        reading.said("nothing").map(|said| said.found.len()).map_err(|no| no.kind)
    }

    #[test]
    fn an_odd_element_spoils_nothing_but_is_no_absence() {
        let good = json!({"url": "http://h/a"});
        assert_eq!(read(&json!([7, "x", good])), Ok(1));
        assert_eq!(read(&good), Ok(1));
        assert_eq!(read(&json!([good, good])), Ok(1));
        for nothing in [json!(null), json!([]), json!([null, {}]), json!([{"url": " "}])] {
            assert_eq!(read(&nothing), Err(NoKind::Absent), "{nothing}");
        }
        for odd in [json!("x"), json!(7), json!([7]), json!([{"url": ["http://h/a"]}])] {
            assert_eq!(read(&odd), Err(NoKind::Broken), "{odd}");
        }
    }

    #[test]
    fn texts_are_one_or_many() {
        let texts = |list: Value| {
            let texts = Reading::default().texts(&list, "t").into_iter();
            texts.map(|(_, text)| text.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts(json!("a")), ["a"]);
        assert_eq!(texts(json!(["a", null, "", 3, "b"])), ["a", "b"]);
    }

    #[test]
    fn what_may_be_left_out_is_one_or_many_too() {
        for (value, expected) in
            [(json!(["a", "b"]), 2), (json!("a"), 1), (json!({}), 1), (json!(null), 0)]
        {
            assert_eq!(each(&value).count(), expected, "{value}");
        }
        for (value, expected) in [(json!(7), Some(7)), (json!("7 "), Some(7)), (json!(-1), None)] {
            assert_eq!(number(&value), expected, "{value}");
        }
    }

    #[test]
    fn files_are_put_before_pages_and_the_first_of_two_with_one_url_is_kept() {
        let mut reading = Reading::default();
        reading.note_odd("x");
        reading.found(Candidate::page("http://h/p", "x"));
        reading.found(Candidate::file("http://h/f", "x"));
        reading.found(Candidate::page("http://h/f", "x"));
        reading.files_first();
        let found = reading.said("nothing").unwrap().found;
        let urls: Vec<&str> = found.iter().map(|it| it.url.as_str()).collect();
        assert_eq!(urls, ["http://h/f", "http://h/p"]);
    }

    #[test]
    fn what_is_learned_is_told_whatever_else_is() {
        for odd in [false, true] {
            let mut reading = Reading::default();
            reading.learn(Scheme::Pmcid, &json!("https://www.ncbi.nlm.nih.gov/pmc/articles/7"));
            reading.learn(Scheme::Pmid, &json!(8));
            reading.learn(Scheme::Arxiv, &json!("no id"));
            reading.learn(Scheme::Doi, &json!(null));
            if odd {
                reading.note_odd("x");
            }
            let learned = reading.said("nothing").unwrap_err().learned;
            let mut work = Work::default();
            learned.iter().for_each(|(scheme, text)| work.identify(*scheme, text));
            let expected =
                Work { pmcid: Some("PMC7".into()), pmid: Some("8".into()), ..Work::default() };
            assert_eq!((work, learned.len()), (expected, 2));
        }
    }

    #[test]
    fn only_the_path_tells_a_pdf() {
        for (url, expected) in [
            ("http://h/a.pdf", true),
            ("http://h/a.PDF?download=1#page=2", true),
            ("http://h/a?file=b.pdf", false),
            ("http://h/\u{e9}", false),
            ("pdf", false),
            ("", false),
        ] {
            assert_eq!(is_pdf(url), expected, "{url}");
        }
    }

    #[test]
    fn one_doi_in_any_spelling() {
        for same in ["10.1234/X", "https://doi.org/10.1234/x", "doi:10.1234/x ", "10.1234%2fx"] {
            assert!(is_doi(same, "10.1234/x"), "{same}");
        }
        for written in ["10.1234/A%41", "https://doi.org/10.1234/a%41"] {
            assert!(is_doi(written, "10.1234/a%41"), "{written}");
        }
        assert!(!is_doi("10.1234/xy", "10.1234/x"));
    }

    #[test]
    fn a_phrase_stays_one() {
        assert_eq!(phrase(r#"10.1/a"b\c"#), r#""10.1/a\"b\\c""#);
    }
}
