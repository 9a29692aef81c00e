//! figshare, and the institutional repositories that it hosts, by DOI.
//!
//! Two steps (docs.figshare.com): a search, by POST, finds the article's id; the article lists its files with their MD5. A DOI of
//! figshare itself (`10.6084/m9.figshare.123.v2`) holds the id, and the search is left out. Each version has a DOI, and they all
//! belong to one article. An id that it does not know is a 404 with `EntityNotFound`.

use serde_json::{Value, json};

use super::loose::{Reading, is_doi, is_pdf, number, text};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "figshare";
/// Where it is.
pub(super) const BASE: &str = "https://api.figshare.com/v2";

/// The step that asks for the article whose id it carries.
const ARTICLE: u8 = 1;

/// figshare.
pub(super) struct Figshare(pub(super) Terms);

impl Resolver for Figshare {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let doi = work.doi.as_deref()?;
        let id = match step.number {
            0 => article_id(doi),
            ARTICLE => Some(step.carried.parse().ok()?),
            _ => return None,
        };
        Some(match id {
            Some(id) => Ask::json(self.0.url(["articles", id.to_string().as_str()])),
            None => {
                let search = json!({ "search_for": format!(":doi: {doi}") });
                Ask::json(self.0.url(["articles", "search"])).with_json(search.to_string())
            }
        })
    }

    fn read(&self, work: &Work, step: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        if reply.status == 404 {
            let body: Value = serde_json::from_slice(reply.body).unwrap_or_default();
            return Err(match text(&body["code"]) {
                Some("EntityNotFound") => No::absent("no such article"),
                _ => No::broken(reply.told()),
            });
        }
        let body: Value = reply.json()?;
        let Some(doi) = work.doi.as_deref() else {
            return Err(No::broken("an answer to what was not asked"));
        };
        if step.number == 0 && article_id(doi).is_none() {
            read_search(doi, &body)
        } else {
            read_article(doi, &body)
        }
    }
}

/// The search finds what is alike, too: only the article with this DOI counts, or another version of it.
fn read_search(doi: &str, body: &Value) -> Result<Said, No> {
    let hits = body.as_array().ok_or_else(|| No::broken("an answer that is no list"))?;
    let with_doi: Vec<(&str, u64)> =
        hits.iter().filter_map(|hit| Some((text(&hit["doi"])?, number(&hit["id"])?))).collect();
    let same = with_doi.iter().find(|(found, _)| is_doi(found, doi));
    let version = || with_doi.iter().find(|(found, _)| is_version_of(found, doi));
    match same.or_else(version) {
        Some((_, id)) => Ok(Said::go_on(Step::new(ARTICLE, id.to_string()))),
        None if hits.iter().all(is_understood) => {
            Err(No::absent("no article with this DOI is on figshare"))
        }
        None => Err(No::broken("an answer that is not understood")),
    }
}

/// Whether a hit says which article it is. Not every article has a DOI; then the field is there and empty.
fn is_understood(hit: &Value) -> bool {
    let has_field = hit.get("doi").is_some_and(|doi| doi.is_string() || doi.is_null());
    has_field && number(&hit["id"]).is_some()
}

fn read_article(doi: &str, body: &Value) -> Result<Said, No> {
    if !body.is_object() || number(&body["id"]).is_none() {
        return Err(No::broken("an answer that is no article"));
    }
    if text(&body["doi"]).is_some_and(|found| !is_version_of(found, doi)) {
        return Err(No::broken("an answer about another DOI"));
    }
    let licence = text(&body["license"]["name"]);
    let mut reading = Reading::default();
    for (at, file) in reading.objects(&body["files"], "files") {
        let is_pdf = reading.text(&file["name"], &at).is_some_and(is_pdf);
        let url = reading.text(&file["download_url"], &at);
        let Some(url) = url.filter(|_| is_pdf) else { continue };
        let md5 = text(&file["computed_md5"]).or_else(|| text(&file["supplied_md5"]));
        reading.found(Candidate::file(url, at).map(|it| {
            it.with_licence(licence).with_host_type(Some("repository")).with_checksum(md5)
        }));
    }
    reading.said("the article has no PDF")
}

/// The article's id in a DOI of figshare's own: 123 in `10.6084/m9.figshare.123.v2`.
fn article_id(doi: &str) -> Option<u64> {
    let (registrant, suffix) = doi.split_once('/')?;
    let id = without_version(suffix.strip_prefix("m9.figshare.")?);
    let is_number = id.bytes().all(|b| b.is_ascii_digit());
    id.parse().ok().filter(|_| registrant.starts_with("10.") && is_number)
}

/// A DOI without the version at its end (`.v2`).
fn without_version(doi: &str) -> &str {
    match doi.rsplit_once(".v") {
        Some((article, version))
            if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) =>
        {
            article
        }
        _ => doi,
    }
}

fn is_version_of(found: &str, doi: &str) -> bool {
    let found = found.trim().to_ascii_lowercase();
    is_doi(&found, doi) || is_doi(without_version(&found), without_version(doi))
}

#[cfg(test)]
mod tests {
    use super::super::NoKind;
    use super::super::testing::{
        absent, asked, broken, never_panics, read, read_step, refused, terms, work,
    };
    use super::*;

    const HITS: &str =
        r#"[{"id":5,"doi":""},{"id":6,"doi":"10.25384/SAGE.7.v1"},{"id":7,"doi":"10.1/X.v1"}]"#;
    const ARTICLE_BODY: &str = r#"{"id":7,"doi":"10.1/x.v3","license":{"name":"CC BY 4.0"},"files":[
        {"name":"data.csv","download_url":"https://ndownloader.figshare.com/files/1"},{"name":"Paper.PDF",
        "download_url":"https://ndownloader.figshare.com/files/2","computed_md5":"0123456789abcdef0123456789abcdef"}]}"#;

    fn figshare() -> Figshare {
        Figshare(terms(BASE))
    }

    fn read_article_body(status: u16, body: &str) -> Result<Said, NoKind> {
        let step = Step::new(ARTICLE, "7");
        let said = read_step(&figshare(), &work("10.1/x"), &step, status, body.as_bytes());
        said.map_err(|(kind, _)| kind)
    }

    #[test]
    fn its_own_dois_are_asked_by_id() {
        for doi in ["10.6084/m9.figshare.123", "10.6084/m9.figshare.123.v2"] {
            assert_eq!(asked(&figshare(), &work(doi)), "https://api.figshare.com/v2/articles/123");
        }
        let ask = figshare().ask(&work("10.1/x"), &Step::new(ARTICLE, "7")).unwrap();
        assert_eq!(ask.url.as_str(), "https://api.figshare.com/v2/articles/7");
        assert_eq!(ask.json, None);
        for step in [Step::new(ARTICLE, "../x"), Step::new(2, "7")] {
            assert!(figshare().ask(&work("10.1/x"), &step).is_none());
        }
        assert!(figshare().ask(&Work::default(), &Step::default()).is_none());
    }

    #[test]
    fn other_dois_are_searched_for() {
        for doi in ["10.1/a<b>;[1](2)\"\\%3c", "10.6084/m9.figshare.x", "10.6084/m9.figshare.+1"] {
            let ask = figshare().ask(&work(doi), &Step::default()).unwrap();
            assert_eq!(ask.url.as_str(), "https://api.figshare.com/v2/articles/search");
            let body: Value = serde_json::from_str(&ask.json.unwrap()).unwrap();
            assert_eq!(body, json!({ "search_for": format!(":doi: {doi}") }));
        }
    }

    #[test]
    fn the_article_with_the_doi_is_asked_next() {
        let said = read(&figshare(), 200, HITS).unwrap();
        assert_eq!(said, Said::go_on(Step::new(ARTICLE, "7")));
        let exact = HITS.replace(']', r#",{"id":8,"doi":"10.1/X"}]"#);
        let said = read(&figshare(), 200, &exact).unwrap();
        assert_eq!(said, Said::go_on(Step::new(ARTICLE, "8")), "the same DOI before a version");
    }

    #[test]
    fn the_pdfs_of_an_article_are_found_with_their_md5() {
        let found = read_article_body(200, ARTICLE_BODY).unwrap().found;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].url.as_str(), "https://ndownloader.figshare.com/files/2");
        assert_eq!(found[0].md5.as_deref(), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(found[0].licence.as_deref(), Some("CC BY 4.0"));
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&figshare(), 200, "[]");
        absent(&figshare(), 200, r#"[{"id":7,"doi":null}]"#);
        absent(&figshare(), 200, &HITS.replace("10.1/X", "10.1/y"));
        absent(&figshare(), 404, r#"{"message":"Entity not found","code":"EntityNotFound"}"#);
        broken(&figshare(), 404, "<html>");
        broken(&figshare(), 404, r#"{"message":"no such route"}"#);
        broken(&figshare(), 200, r#"{"message":"x"}"#);
        broken(&figshare(), 200, r#"[{"id":7}]"#);
        broken(&figshare(), 200, "");
        refused(&figshare(), 403, r#"{"code":"Forbidden"}"#);
    }

    #[test]
    fn an_article_without_pdf_is_absent_and_another_one_broken() {
        let no = |body: &str| read_article_body(200, body).unwrap_err();
        assert_eq!(no(&ARTICLE_BODY.replace("PDF", "docx")), NoKind::Absent);
        assert_eq!(no(r#"{"id":7,"files":null}"#), NoKind::Absent);
        assert_eq!(no(r#"{"id":7,"files":["a.pdf"]}"#), NoKind::Broken);
        assert_eq!(no(&ARTICLE_BODY.replace("10.1/x", "10.1/y")), NoKind::Broken);
        assert_eq!(no("{}"), NoKind::Broken);
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&figshare(), HITS);
        never_panics(&figshare(), ARTICLE_BODY);
    }
}
