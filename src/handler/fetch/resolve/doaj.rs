//! DOAJ: articles of open-access journals, by DOI.
//!
//! `GET /search/articles/{query}` (doaj.org/api/docs), a Lucene query in one path segment. It keeps no files: its links lead to
//! the publisher, most of them to a page. An empty list says that it does not know the article.

use serde_json::Value;

use super::loose::{Reading, each, is_about, is_pdf, number, phrase, text};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "doaj";
/// Where it is.
pub(super) const BASE: &str = "https://doaj.org/api";

/// DOAJ.
pub(super) struct Doaj(pub(super) Terms);

impl Resolver for Doaj {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let doi = work.doi.as_deref().filter(|_| step.number == 0)?;
        let query = query(doi);
        Some(Ask::json(self.0.url(["search", "articles", query.as_str()])))
    }

    fn read(&self, work: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        let body: Value = reply.json()?;
        let results = body["results"].as_array();
        let results = results.ok_or_else(|| No::broken("an answer without results"))?;
        if results.is_empty() && number(&body["total"]).unwrap_or(0) > 0 {
            return Err(No::broken("results are counted but not given"));
        }
        let mut reading = Reading::default();
        for result in results {
            match &result["bibjson"] {
                bibjson @ Value::Object(_) => read_article(&mut reading, bibjson, work),
                _ => reading.note_odd("bibjson"),
            }
        }
        reading.files_first();
        reading.said("no article with this DOI and a link is in DOAJ")
    }
}

/// The query for a DOI. A phrase where Lucene would read some character as a command; DOAJ itself escapes the slash.
fn query(doi: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
    if doi.chars().all(is_plain) { format!("doi:{doi}") } else { format!("doi:{}", phrase(doi)) }
}

fn read_article(reading: &mut Reading, bibjson: &Value, work: &Work) {
    let named = each(&bibjson["identifier"]);
    let dois = named.filter(|it| is_called(&it["type"], "doi")).filter_map(|it| text(&it["id"]));
    if !is_about(dois, work) {
        return;
    }
    let licence = licence(bibjson);
    for (at, link) in reading.objects(&bibjson["link"], "link") {
        let url = reading.text(&link["url"], &at);
        let Some(url) = url.filter(|_| is_called(&link["type"], "fulltext")) else { continue };
        let kind = text(&link["content_type"]).unwrap_or_default().to_ascii_lowercase();
        let candidate = if kind.contains("pdf") || is_pdf(url) {
            Candidate::file(url, at)
        } else {
            Candidate::page(url, at)
        };
        reading
            .found(candidate.map(|it| it.with_licence(licence).with_host_type(Some("publisher"))));
    }
}

fn is_called(value: &Value, name: &str) -> bool {
    text(value).is_some_and(|text| text.eq_ignore_ascii_case(name))
}

/// The article's licence, otherwise its journal's.
fn licence(bibjson: &Value) -> Option<&str> {
    each(&bibjson["license"])
        .chain(each(&bibjson["journal"]["license"]))
        .find_map(|it| text(&it["type"]).or_else(|| text(&it["title"])))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{
        absent, asked, broken, found, never_panics, read_step, recordings, refused, terms, work,
    };
    use super::super::{Leads, NoKind};
    use super::*;

    const BODY: &str = r#"{"total":1,"results":[{"bibjson":{"identifier":[{"type":"DOI","id":"10.1/X"}],
        "journal":{"license":[{"type":"CC BY"}]},"link":[{"type":"fulltext","url":"http://h/page","content_type":"HTML"},
        {"type":"fulltext","url":"http://h/file","content_type":"PDF"},{"type":"fulltext","url":"http://h/a.pdf"},
        {"type":"toc","url":"http://h/toc"},{"type":"fulltext","url":null}]}}]}"#;

    fn doaj() -> Doaj {
        Doaj(terms(BASE))
    }

    #[test]
    fn it_is_asked_by_doi_in_one_segment() {
        assert_eq!(
            asked(&doaj(), &work("10.1234/a.b-c_d")),
            "https://doaj.org/api/search/articles/doi:10.1234%2Fa.b-c_d"
        );
        assert_eq!(
            asked(&doaj(), &work("10.1/a<b>;[1](2)\"%3c?#")),
            "https://doaj.org/api/search/articles/doi:%2210.1%2Fa%3Cb%3E;[1](2)%5C%22%253c%3F%23%22"
        );
        assert!(doaj().ask(&Work::default(), &Step::default()).is_none());
        assert!(doaj().ask(&work("10.1/x"), &Step::new(1, "")).is_none());
    }

    #[test]
    fn files_come_before_pages_and_carry_the_licence() {
        let said = found(&doaj(), 200, BODY);
        let got: Vec<_> =
            said.iter().map(|it| (it.url.as_str(), it.leads, &*it.evidence)).collect();
        assert_eq!(
            got,
            [
                ("http://h/file", Leads::File, "link[1]"),
                ("http://h/a.pdf", Leads::File, "link[2]"),
                ("http://h/page", Leads::Page, "link[0]"),
            ]
        );
        assert!(said.iter().all(|it| it.licence.as_deref() == Some("CC BY")));
    }

    #[test]
    fn an_article_with_another_doi_is_passed_over() {
        absent(&doaj(), 200, &BODY.replace("10.1/X", "10.1/y"));
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&doaj(), 200, r#"{"total":0,"results":[]}"#);
        absent(&doaj(), 200, r#"{"total":1,"results":[{"bibjson":{"title":"no links"}}]}"#);
        broken(&doaj(), 200, r#"{"total":2,"results":[]}"#);
        broken(&doaj(), 200, r#"{"total":1,"results":[{}]}"#);
        broken(&doaj(), 200, r#"{"total":1,"results":[{"bibjson":{"link":["http://h/a.pdf"]}}]}"#);
        broken(&doaj(), 200, "<html>no results");
        broken(&doaj(), 200, "{}");
        broken(&doaj(), 404, r#"{"status":"not_found"}"#);
        refused(&doaj(), 403, "<html>Forbidden");
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&doaj(), BODY);
    }

    #[test]
    fn every_recorded_article_gives_its_links() {
        for recording in recordings("doaj") {
            let (name, body) = (&recording.file, recording.json());
            let articles = body["results"].as_array().cloned().unwrap_or_else(|| vec![body]);
            for article in articles.iter().filter(|it| it["bibjson"]["journal"].is_object()) {
                let links = each(&article["bibjson"]["link"]).count();
                let doi = each(&article["bibjson"]["identifier"])
                    .find(|it| text(&it["type"]).is_some_and(|of| of.eq_ignore_ascii_case("doi")))
                    .and_then(|it| text(&it["id"]))
                    .map_or_else(|| "10.1/none".to_owned(), str::to_lowercase);
                let answer = json!({ "total": 1, "results": [article] }).to_string();
                let said =
                    read_step(&doaj(), &work(&doi), &Step::default(), 200, answer.as_bytes());
                match said {
                    Ok(said) => assert_eq!(said.found.len(), links, "{name} {doi}"),
                    Err((kind, _)) => {
                        assert_eq!((kind, links), (NoKind::Absent, 0), "{name} {doi}")
                    }
                }
            }
        }
    }
}
