//! HAL: the French national archive, by DOI.
//!
//! `GET /search/?q=doiId_id:"{doi}" OR doiId_s:"{doi}"` (api.archives-ouvertes.fr/docs/search), Solr underneath. `doiId_s` is the DOI as its
//! depositor wrote it, capitals and all; `doiId_id` is the same made for searching, and takes some DOIs for one that differ in
//! punctuation, so that a record must say which it has. A record without a file is a notice: it
//! tells of a work and keeps no copy. `fileMain_s` is the file whatever it is called (`…/hal-x/document`); of `files_s`, which holds
//! supplements too, only what is called a PDF counts.

use serde_json::Value;

use super::loose::{Reading, each, is_about, is_pdf, number, phrase, text};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "hal";
/// Where it is.
pub(super) const BASE: &str = "https://api.archives-ouvertes.fr";

/// HAL.
pub(super) struct Hal(pub(super) Terms);

impl Resolver for Hal {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let doi = work.doi.as_deref().filter(|_| step.number == 0)?;
        let phrase = phrase(doi);
        let mut url = self.0.url(["search", ""]);
        url.query_pairs_mut()
            .append_pair("q", &format!("doiId_id:{phrase} OR doiId_s:{phrase}"))
            .append_pair("fl", "doiId_s,fileMain_s,files_s,licence_s,uri_s")
            .append_pair("wt", "json");
        Some(Ask::json(url))
    }

    fn read(&self, work: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        let body: Value = reply.json()?;
        let response = &body["response"];
        let total = number(&response["numFound"]);
        let total = total.ok_or_else(|| No::broken("an answer without a count"))?;
        let docs = response["docs"].as_array().map_or(&[][..], Vec::as_slice);
        if total > 0 && docs.is_empty() {
            return Err(No::broken("records are counted but not given"));
        }
        let mut reading = Reading::default();
        let mut is_known = false;
        for doc in docs {
            if !doc.is_object() {
                reading.note_odd("docs");
            } else if is_about(each(&doc["doiId_s"]).filter_map(text), work) {
                is_known = true;
                read_record(&mut reading, doc);
            }
        }
        reading.said(if is_known { "a notice without a file" } else { "the DOI is not in HAL" })
    }
}

fn read_record(reading: &mut Reading, doc: &Value) {
    let licence = each(&doc["licence_s"]).find_map(text);
    for (field, must_be_called_pdf) in [("fileMain_s", false), ("files_s", true)] {
        for (_, url) in reading.texts(&doc[field], field) {
            let file = Candidate::file(url, field).filter(|_| !must_be_called_pdf || is_pdf(url));
            reading
                .found(file.map(|it| it.with_licence(licence).with_host_type(Some("repository"))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{absent, asked, broken, found, never_panics, refused, terms, work};
    use super::*;

    const BODY: &str = r#"{"response":{"numFound":2,"docs":[{"uri_s":"https://hal.science/hal-1"},
        {"fileMain_s":"https://hal.science/hal-2/document","files_s":["https://hal.science/hal-2/file/a.pdf",
        "https://hal.science/hal-2/file/a.zip"],"licence_s":"http://creativecommons.org/licenses/by/"}]}}"#;

    fn hal() -> Hal {
        Hal(terms(BASE))
    }

    fn query_of(doi: &str) -> String {
        let ask = hal().ask(&work(doi), &Step::default()).unwrap();
        let (_, query) = ask.url.query_pairs().find(|(name, _)| name == "q").unwrap();
        query.into_owned()
    }

    #[test]
    fn it_is_asked_by_doi_as_a_phrase() {
        assert_eq!(
            asked(&hal(), &work("10.1/x")),
            "https://api.archives-ouvertes.fr/search/?q=doiId_id%3A%2210.1%2Fx%22+OR+doiId_s%3A%2210.1%2Fx%22\
             &fl=doiId_s%2CfileMain_s%2Cfiles_s%2Clicence_s%2Curi_s&wt=json"
        );
        let phrase = r#""10.1/a<b>;[1](2)\"\\%3c&q=*""#;
        assert_eq!(
            query_of("10.1/a<b>;[1](2)\"\\%3c&q=*"),
            format!("doiId_id:{phrase} OR doiId_s:{phrase}")
        );
        assert!(hal().ask(&Work::default(), &Step::default()).is_none());
        assert!(hal().ask(&work("10.1/x"), &Step::new(1, "")).is_none());
    }

    #[test]
    fn the_main_file_comes_first_and_supplements_that_are_no_pdf_do_not_count() {
        let said = found(&hal(), 200, BODY);
        let got: Vec<_> = said.iter().map(|it| (it.url.as_str(), &*it.evidence)).collect();
        assert_eq!(
            got,
            [
                ("https://hal.science/hal-2/document", "fileMain_s"),
                ("https://hal.science/hal-2/file/a.pdf", "files_s"),
            ]
        );
        assert_eq!(said[0].licence.as_deref(), Some("http://creativecommons.org/licenses/by/"));
        let listed = BODY.replace(
            r#""https://hal.science/hal-2/document""#,
            r#"["https://hal.science/hal-2/document"]"#,
        );
        assert_eq!(found(&hal(), 200, &listed), said);
    }

    #[test]
    fn a_record_of_another_doi_does_not_count() {
        let of = |doi| BODY.replace(r#""fileMain_s""#, &format!(r#""doiId_s":{doi},"fileMain_s""#));
        let said = found(&hal(), 200, BODY);
        for ours in [r#""10.1/X""#, r#"["https://doi.org/10.1/x"]"#] {
            assert_eq!(found(&hal(), 200, &of(ours)), said, "{ours}");
        }
        absent(&hal(), 200, &of(r#""10.1-x""#));
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&hal(), 200, r#"{"response":{"numFound":0,"start":0,"docs":[]}}"#);
        absent(
            &hal(),
            200,
            r#"{"response":{"numFound":1,"docs":[{"uri_s":"https://hal.science/1"}]}}"#,
        );
        broken(&hal(), 200, r#"{"response":{"numFound":1,"docs":[]}}"#);
        broken(&hal(), 200, r#"{"response":{"numFound":1,"docs":[null]}}"#);
        broken(&hal(), 200, r#"{"response":{"numFound":1,"docs":[{"fileMain_s":{"a":1}}]}}"#);
        broken(&hal(), 200, r#"{"error":{"msg":"undefined field"}}"#);
        broken(&hal(), 200, "<html>maintenance");
        broken(&hal(), 404, r#"{"response":{"numFound":0,"docs":[]}}"#);
        refused(&hal(), 403, "");
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&hal(), BODY);
    }
}
