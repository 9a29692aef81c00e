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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::NoKind;
    use super::*;

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
        }
    }

    #[test]
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
    }
}
