//! DataCite: what repositories register with their DOIs.
//!
//! `GET /dois/{doi}` (support.datacite.org/docs/api-get-doi). A few repositories register the file itself (`contentUrl`, a text or
//! a list); `url` is the page that doi.org leads to. A DOI of another agency is a 404 with a list of errors.

use serde_json::Value;

use super::loose::{Reading, each, is_about, is_pdf, text};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "datacite";
/// Where it is.
pub(super) const BASE: &str = "https://api.datacite.org";

/// DataCite.
pub(super) struct DataCite(pub(super) Terms);

impl Resolver for DataCite {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let doi = work.doi.as_deref().filter(|_| step.number == 0)?;
        Some(Ask::json(self.0.url(["dois"].into_iter().chain(doi.split('/')))))
    }

    fn read(&self, work: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        if reply.status == 404 {
            let body: Value = serde_json::from_slice(reply.body).unwrap_or_default();
            return Err(match body["errors"].as_array() {
                Some(_) => No::absent("the DOI is not DataCite's"),
                None => No::broken(reply.told()),
            });
        }
        let body: Value = reply.json()?;
        let attributes = &body["data"]["attributes"];
        if !attributes.is_object() {
            return Err(No::broken("an answer without attributes"));
        }
        let given = text(&attributes["doi"]).or_else(|| text(&body["data"]["id"]));
        if !is_about(given, work) {
            return Err(No::broken("an answer about another DOI"));
        }
        let licence = licence(attributes);
        let mut reading = Reading::default();
        let contents = reading.texts(&attributes["contentUrl"], "contentUrl");
        for (at, url) in contents.into_iter().filter(|(_, url)| is_pdf(url)) {
            reading.found(Candidate::file(url, at).map(|it| it.with_licence(licence)));
        }
        let page = reading.text(&attributes["url"], "url");
        let page = page.and_then(|url| Candidate::page(url, "url"));
        reading.found(page.map(|it| it.with_licence(licence)));
        reading.said("neither a file nor a page is registered")
    }
}

/// The first licence: its SPDX name, otherwise its name in words.
fn licence(attributes: &Value) -> Option<&str> {
    let first = each(&attributes["rightsList"]).next()?;
    ["rightsIdentifier", "rights", "rightsUri"].into_iter().find_map(|field| text(&first[field]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{
        absent, asked, broken, found, never_panics, read_step, recordings, refused, terms, work,
    };
    use super::super::{Leads, NoKind};
    use super::*;

    const BODY: &str = r#"{"data":{"id":"10.1/x","attributes":{"doi":"10.1/X","state":"registered","url":"https://h/page",
        "contentUrl":["https://h/data.zip","https://h/A.PDF?x=1",null],"rightsList":[{"rights":"Attribution",
        "rightsIdentifier":"cc-by-4.0"}]}}}"#;

    fn datacite() -> DataCite {
        DataCite(terms(BASE))
    }

    #[test]
    fn it_is_asked_by_doi() {
        assert_eq!(
            asked(&datacite(), &work("10.5281/zenodo.7")),
            "https://api.datacite.org/dois/10.5281/zenodo.7"
        );
        assert_eq!(
            asked(&datacite(), &work("10.1/a<b>;[1](2)\"%3c?#")),
            "https://api.datacite.org/dois/10.1/a%3Cb%3E;[1](2)%22%253c%3F%23"
        );
        assert!(datacite().ask(&Work::default(), &Step::default()).is_none());
        assert!(datacite().ask(&work("10.1/x"), &Step::new(1, "")).is_none());
    }

    #[test]
    fn a_registered_pdf_comes_before_the_page() {
        for content in
            [r#"["https://h/data.zip","https://h/A.PDF?x=1",null]"#, r#""https://h/A.PDF?x=1""#]
        {
            let list = r#"["https://h/data.zip","https://h/A.PDF?x=1",null]"#;
            let said = found(&datacite(), 200, &BODY.replace(list, content));
            let got: Vec<_> = said.iter().map(|it| (it.url.as_str(), it.leads)).collect();
            let expected = [("https://h/A.PDF?x=1", Leads::File), ("https://h/page", Leads::Page)];
            assert_eq!(got, expected);
            assert!(said.iter().all(|it| it.licence.as_deref() == Some("cc-by-4.0")));
        }
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&datacite(), 404, r#"{"errors":[{"status":"404","title":"doesn't exist"}]}"#);
        absent(&datacite(), 200, r#"{"data":{"attributes":{"url":null,"contentUrl":null}}}"#);
        broken(&datacite(), 404, "<html>not here");
        broken(&datacite(), 404, "{}");
        broken(&datacite(), 200, r#"{"data":null}"#);
        broken(&datacite(), 200, r#"{"data":{"attributes":{"url":{"a":1}}}}"#);
        broken(&datacite(), 200, &BODY.replace("10.1/X", "10.1/y"));
        broken(&datacite(), 500, BODY);
        refused(&datacite(), 403, "");
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&datacite(), BODY);
    }

    #[test]
    fn every_recorded_doi_gives_what_is_registered() {
        for recording in recordings("datacite") {
            let (name, body) = (&recording.file, recording.json());
            // Some were recorded from bulk files, without the envelope.
            let body = if body["attributes"].is_object() { json!({ "data": body }) } else { body };
            let doi =
                text(&body["data"]["attributes"]["doi"]).unwrap_or("10.1/none").to_lowercase();
            let status = if body["errors"].is_array() { 404 } else { 200 };
            let bytes = body.to_string();
            let said =
                read_step(&datacite(), &work(&doi), &Step::default(), status, bytes.as_bytes());
            let attributes = &body["data"]["attributes"];
            let files = each(&attributes["contentUrl"]).filter_map(text).filter(|url| is_pdf(url));
            let expected = files.count() + usize::from(text(&attributes["url"]).is_some());
            match said {
                Ok(said) => assert_eq!(said.found.len(), expected, "{name}"),
                Err((kind, _)) => assert_eq!((kind, expected), (NoKind::Absent, 0), "{name}"),
            }
        }
    }
}
