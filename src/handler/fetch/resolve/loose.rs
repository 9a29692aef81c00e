<<<<<<< HEAD
//! Reading answers as services really write them: a field may be null, missing, of another type than documented, one object where
//! a list was, a number as a text.
//!
//! One odd element must not spoil the others. Must never take what was not understood for absence: it is remembered, and when
//! nothing was found the answer is [`NoKind::Broken`](super::NoKind::Broken).

use std::borrow::Cow;

use roxmltree::Node;
use serde_json::Value;

use super::{Candidate, No, Said, Work};
use crate::job::Scheme;

/// What has been made of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    found: Vec<Candidate>,
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
        let texts = texts.filter_map(|(at, value)| Some((at, value.as_str()?.trim())));
        texts.filter(|(_, text)| !text.is_empty()).collect()
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
        let text = self.fitting(value, at, Value::is_string)?.as_str()?.trim();
        Some(text).filter(|text| !text.is_empty())
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

    /// What the answer says: absent, in these words, only when all of it was understood.
    ///
    /// # Errors
    /// [`No`].
    pub(super) fn said(self, absent: &str) -> Result<Said, No> {
        match self.odd {
            Some(at) if self.found.is_empty() => {
                Err(No::broken(format_args!("{at}: not understood")))
            }
            _ => Said::found_or_absent(self.found, absent),
        }
    }
}

/// A number, also one that is written as a text.
pub(super) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A text, also one that is written as a number. Blank is none.
pub(super) fn name(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text.trim())).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
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

/// Whether a record whose DOI stands in `doi` is that work. One without a DOI is, or the work is without: it was asked for.
pub(super) fn is_about(doi: &Value, work: &Work) -> bool {
    let theirs = doi.as_str().filter(|doi| !doi.trim().is_empty());
    match (theirs, &work.doi) {
        (Some(theirs), Some(ours)) => is_doi(theirs, ours),
        _ => true,
    }
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

=======
//! Reading JSON whose shape a service does not promise: a list or its only element, a text or `null`.
//!
//! Each part of an answer is judged by itself, so that one odd part does not hide the others. What is odd is remembered:
//! must never let an answer that was understood in part end as [`super::NoKind::Absent`].

use serde_json::Value;

use super::super::payload::MAX_URL_BYTES;
use super::{Candidate, Leads, No, Said};
use crate::job::Scheme;

/// The elements of a list; of anything else that element alone; of `null` none.
pub(super) fn each(value: &Value) -> std::slice::Iter<'_, Value> {
    match value {
        Value::Null => [].iter(),
        Value::Array(elements) => elements.iter(),
        one => std::slice::from_ref(one).iter(),
    }
}

/// A text that says something, without the blanks around it.
pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// A number, also one written as a text.
pub(super) fn count(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| text(value)?.parse().ok())
}

/// Whether a URL's path ends in `.pdf`.
pub(super) fn is_pdf(url: &str) -> bool {
    let path = url.split(['?', '#']).next().unwrap_or_default().trim_end();
    path.len() >= 4 && path.as_bytes()[path.len() - 4..].eq_ignore_ascii_case(b".pdf")
}

/// Whether a DOI, in any spelling, is this one in its normal form.
pub(super) fn is_doi(spelling: &str, normal: &str) -> bool {
    spelling.trim().eq_ignore_ascii_case(normal)
        || Scheme::Doi.parse(spelling).is_ok_and(|doi| doi.normal == normal)
}

/// What is being gathered from an answer.
#[derive(Default)]
pub(super) struct Gathering {
    found: Vec<Candidate>,
    is_odd: bool,
}

impl Gathering {
    /// Takes a candidate. Of two with one URL the first is kept.
    pub(super) fn add(&mut self, candidate: Option<Candidate>) {
        let Some(candidate) = candidate else { return };
        if !self.found.iter().any(|known| known.url == candidate.url) {
            self.found.push(candidate);
        }
    }

    /// Something in the answer is not understood.
    pub(super) fn note_odd(&mut self) {
        self.is_odd = true;
    }

    /// The text that stands there. `null` and blanks are nothing; whatever else is no text is odd.
    pub(super) fn text<'v>(&mut self, value: &'v Value) -> Option<&'v str> {
        self.is_odd |= !value.is_null() && !value.is_string();
        // Longer ones are no URLs, and nothing else is read here.
        text(value).filter(|text| text.len() <= MAX_URL_BYTES)
    }

    /// The element, if it is an object; whatever else stands there, but `null`, is odd.
    pub(super) fn object<'v>(&mut self, value: &'v Value) -> Option<&'v Value> {
        self.is_odd |= !value.is_null() && !value.is_object();
        value.is_object().then_some(value)
    }

    /// What it comes to: files before pages, otherwise as they were given.
    ///
    /// # Errors
    /// Absent, in these words, when there is no candidate and all was understood; broken when not all was.
    pub(super) fn finish(mut self, absent: &str) -> Result<Said, No> {
        if self.found.is_empty() && self.is_odd {
            return Err(No::broken("an answer that is not understood"));
        }
        self.found.sort_by_key(|candidate| candidate.leads == Leads::Page);
        Said::found_or_absent(self.found, absent)
    }
}

>>>>>>> 2092839246b9606794fd2f032e908964efbebb4a
#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::NoKind;
    use super::*;

<<<<<<< HEAD
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
=======
    #[test]
    fn a_list_its_only_element_and_nothing_are_read_alike() {
        for (value, expected) in
            [(json!(["a", "b"]), 2), (json!("a"), 1), (json!({}), 1), (json!(null), 0)]
        {
            assert_eq!(each(&value).count(), expected, "{value}");
        }
        assert_eq!(count(&json!("7")), Some(7));
        assert_eq!(count(&json!(7)), Some(7));
        assert_eq!(count(&json!(-1)), None);
    }

    #[test]
    fn only_the_path_tells_a_pdf() {
        for (url, expected) in [
            ("http://h/a.pdf", true),
            ("http://h/a.PDF?download=1#page=2", true),
            ("http://h/a?file=b.pdf", false),
            ("http://h/é", false),
            ("pdf", false),
            ("", false),
        ] {
            assert_eq!(is_pdf(url), expected, "{url}");
>>>>>>> 2092839246b9606794fd2f032e908964efbebb4a
        }
    }

    #[test]
<<<<<<< HEAD
    fn texts_are_one_or_many() {
        let texts = |list: Value| {
            let texts = Reading::default().texts(&list, "t").into_iter();
            texts.map(|(_, text)| text.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(texts(json!("a")), ["a"]);
        assert_eq!(texts(json!(["a", null, "", 3, "b"])), ["a", "b"]);
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
=======
    fn a_doi_is_known_in_every_spelling() {
        for spelling in ["10.1234/ABC", "https://doi.org/10.1234/abc", "doi:10.1234/Abc "] {
            assert!(is_doi(spelling, "10.1234/abc"), "{spelling}");
        }
        assert!(!is_doi("10.1234/abcd", "10.1234/abc"));
    }

    #[test]
    fn what_is_odd_forbids_absence_but_not_what_was_found() {
        let kind = |gathering: Gathering| gathering.finish("nothing").map_err(|no| no.kind);
        assert_eq!(kind(Gathering::default()), Err(NoKind::Absent));
        let mut odd = Gathering::default();
        assert_eq!(odd.text(&json!(7)), None);
        assert_eq!(kind(odd), Err(NoKind::Broken));
        let mut both = Gathering::default();
        assert!(both.object(&json!([])).is_none());
        both.add(Candidate::page("http://h/p", "x"));
        both.add(Candidate::file("http://h/f", "x"));
        both.add(Candidate::page("http://h/f", "x"));
        let found = both.finish("nothing").unwrap().found;
        let urls: Vec<&str> = found.iter().map(|it| it.url.as_str()).collect();
        assert_eq!(urls, ["http://h/f", "http://h/p"]);
>>>>>>> 2092839246b9606794fd2f032e908964efbebb4a
    }
}
