//! Semantic Scholar: an index of all fields, by DOI, arXiv id, PubMed id or PMCID.
//!
//! `GET /paper/{id}?fields=openAccessPdf,…` (api.semanticscholar.org/api-docs/graph), the key in `x-api-key`. `openAccessPdf.url`
//! is often no PDF but the DOI's own page, and an empty text where there is none. `externalIds` may name a preprint in
//! arXiv that nobody else knows of.

use serde_json::Value;

use super::loose::{Reading, name};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work, arxiv};
use crate::job::Scheme;

/// Its name.
pub(super) const NAME: &str = "semantic_scholar";
/// Where it is.
pub(super) const BASE: &str = "https://api.semanticscholar.org/graph/v1";

const FIELDS: &str = "openAccessPdf,externalIds,isOpenAccess";

/// Semantic Scholar.
pub(super) struct SemanticScholar(pub(super) Terms);

impl Resolver for SemanticScholar {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let id = id(work).filter(|_| step.number == 0)?;
        // The slashes of an id are part of the path here, as the service's own examples have it.
        let mut url = self.0.url(["paper"].into_iter().chain(id.split('/')));
        url.query_pairs_mut().append_pair("fields", FIELDS);
        Some(Ask::json(url).with_key("x-api-key", "", self.0.key.as_ref()))
    }

    fn read(&self, _: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        if matches!(reply.status, 400 | 404) {
            return Err(denied(reply));
        }
        let paper: Value = reply.json()?;
        if !paper["paperId"].is_string() {
            return Err(No::broken("an answer without a paper"));
        }
        let mut reading = Reading::default();
        if paper.get("openAccessPdf").is_none() && !paper["isOpenAccess"].is_boolean() {
            reading.note_odd("an answer without openAccessPdf");
        }
        for (at, open) in reading.objects(&paper["openAccessPdf"], "openAccessPdf") {
            let url = reading.text(&open["url"], &at);
            reading.found(url.and_then(|url| candidate(url, &at)).map(|found| {
                let host = open["status"].as_str().and_then(host_of_status);
                found.with_licence(open["license"].as_str()).with_host_type(host)
            }));
        }
        let ids = &paper["externalIds"];
        reading.found(preprint(&ids["ArXiv"]));
        reading.learn(Scheme::Doi, &ids["DOI"]);
        reading.learn(Scheme::Arxiv, &ids["ArXiv"]);
        reading.learn(Scheme::Pmid, &ids["PubMed"]);
        reading.learn(Scheme::Pmcid, &ids["PubMedCentral"]);
        reading.said("no open copy is known")
    }
}

/// The work's name in Semantic Scholar's namespaces.
fn id(work: &Work) -> Option<String> {
    let doi = work.doi.as_ref().map(|doi| format!("DOI:{doi}"));
    let arxiv = || work.arxiv.as_ref().map(|id| format!("ARXIV:{id}"));
    let pmid = || work.pmid.as_ref().map(|pmid| format!("PMID:{pmid}"));
    let pmcid = || {
        let number = work.pmcid.as_deref()?.strip_prefix("PMC")?.split('.').next()?;
        Some(format!("PMCID:{number}"))
    };
    doi.or_else(arxiv).or_else(pmid).or_else(pmcid)
}

/// Its own 404 and 400 say why. A 400 mostly means that we asked for something that is no longer there, and only rarely that
/// the identifier is none.
fn denied(reply: &Reply<'_>) -> No {
    let said: Value = serde_json::from_slice(reply.body).unwrap_or_default();
    let Some(error) = said["error"].as_str().map(str::to_lowercase) else {
        return No::broken(reply.told());
    };
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    let is_about_id = || {
        says(&["paper id", "paper with id", "paper_id", "identifier", "doi"])
            && says(&["invalid", "not valid", "not a valid", "not found", "parse", "malformed"])
            && !says(&["field", "param"])
    };
    match reply.status {
        404 => No::absent("the work is not in Semantic Scholar"),
        _ if is_about_id() => No::absent("the identifier is none for Semantic Scholar"),
        _ => No::broken(reply.told()),
    }
}

/// A DOI's URL leads to the publisher's page, never to a file.
fn candidate(url: &str, at: &str) -> Option<Candidate> {
    let found = Candidate::file(url, at)?;
    match found.url.host_str() {
        Some("doi.org" | "dx.doi.org" | "www.doi.org") => Candidate::page(url, at),
        _ => Some(found),
    }
}

fn host_of_status(status: &str) -> Option<&'static str> {
    match status.to_ascii_uppercase().as_str() {
        "GREEN" => Some("repository"),
        "GOLD" | "HYBRID" | "BRONZE" | "DIAMOND" => Some("publisher"),
        _ => None,
    }
}

fn preprint(id: &Value) -> Option<Candidate> {
    let id = name(id)?;
    arxiv::pdf(&Scheme::Arxiv.parse(&id).ok()?.normal, "externalIds.ArXiv")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        absent, asked, broken, everything, found, learned, never_panics, reads_recordings, refused,
        terms, work,
    };
    use super::super::{ApiKey, HostType, Leads, Version};
    use super::*;

    const BODY: &str = r#"{"paperId":"1","externalIds":{"DOI":"10.1/x","ArXiv":"2101.00001","CorpusId":7},
        "isOpenAccess":true,"openAccessPdf":{"url":"http://h/a.pdf","status":"GREEN","license":"CCBY"}}"#;

    fn scholar() -> SemanticScholar {
        SemanticScholar(terms(BASE))
    }

    #[test]
    fn it_is_asked_by_the_first_identifier_there_is() {
        let path = |work: &Work| {
            let url = scholar().ask(work, &Step::default()).unwrap().url;
            url.path().trim_start_matches("/graph/v1/paper/").to_owned()
        };
        assert_eq!(
            asked(&scholar(), &work("10.1/a<b>")),
            "https://api.semanticscholar.org/graph/v1/paper/DOI:10.1/a%3Cb%3E?fields=openAccessPdf%2CexternalIds%2CisOpenAccess"
        );
        let mut work = everything();
        assert_eq!(path(&work), "DOI:10.1/x");
        work.doi = None;
        assert_eq!(path(&work), "ARXIV:2101.00001");
        work.arxiv = None;
        assert_eq!(path(&work), "PMID:1");
        work.pmid = None;
        work.pmcid = Some("PMC12.3".into());
        assert_eq!(path(&work), "PMCID:12");
        assert!(scholar().ask(&Work::default(), &Step::default()).is_none());
    }

    #[test]
    fn the_key_is_in_its_header() {
        let known = SemanticScholar(Terms { key: Some(ApiKey::new("s3cret")), ..terms(BASE) });
        let ask = known.ask(&work("10.1/x"), &Step::default()).unwrap();
        assert_eq!(ask.secret, Some(("x-api-key", ApiKey::new("s3cret"))));
    }

    #[test]
    fn the_open_copy_comes_before_the_preprint() {
        let said = found(&scholar(), 200, BODY);
        assert_eq!(said[0].url.as_str(), "http://h/a.pdf");
        assert_eq!(said[0].host_type, Some(HostType::Repository));
        assert_eq!(said[0].licence.as_deref(), Some("CCBY"));
        assert_eq!(said[1].url.as_str(), "https://arxiv.org/pdf/2101.00001");
        assert_eq!(said[1].version, Some(Version::Submitted));
    }

    #[test]
    fn the_ids_elsewhere_are_learned() {
        let body = BODY.replace(r#""CorpusId":7"#, r#""PubMed":"7","PubMedCentral":"8""#);
        let expected = Work {
            arxiv: Some("2101.00001".into()),
            pmid: Some("7".into()),
            pmcid: Some("PMC8".into()),
            ..work("10.1234/x")
        };
        let body = body.replace("10.1/", "10.1234/");
        assert_eq!(learned(&scholar(), &Work::default(), &body), expected);
    }

    #[test]
    fn a_doi_leads_to_a_page() {
        let body = BODY.replace("http://h/a.pdf", "https://doi.org/10.1/x");
        assert_eq!(found(&scholar(), 200, &body)[0].leads, Leads::Page);
    }

    #[test]
    fn what_is_odd_spoils_nothing_but_is_no_absence() {
        let body = r#"{"paperId":"1","openAccessPdf":"x","externalIds":{"ArXiv":"2101.00001"}}"#;
        assert_eq!(found(&scholar(), 200, body).len(), 1);
        broken(
            &scholar(),
            200,
            r#"{"paperId":"1","openAccessPdf":"x","externalIds":{"ArXiv":"no id"}}"#,
        );
        broken(&scholar(), 200, r#"{"paperId":"1","title":"x"}"#);
        broken(&scholar(), 200, r#"{"data":[]}"#);
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&scholar(), 200, r#"{"paperId":"1","openAccessPdf":null,"externalIds":null}"#);
        absent(&scholar(), 200, r#"{"paperId":"1","openAccessPdf":{"url":"","status":null}}"#);
        absent(&scholar(), 200, r#"{"paperId":"1","isOpenAccess":false}"#);
        absent(&scholar(), 404, r#"{"error":"Paper with id DOI:10.1/x not found"}"#);
        absent(&scholar(), 400, r#"{"error":"Could not parse paper id DOI:x"}"#);
        broken(
            &scholar(),
            400,
            r#"{"error":"Unrecognized or unsupported fields: [doi], not valid"}"#,
        );
        broken(&scholar(), 400, r#"{"error":"x"}"#);
        broken(&scholar(), 404, r#"{"message":"no route"}"#);
        broken(&scholar(), 404, "<html>");
        broken(&scholar(), 500, BODY);
        refused(&scholar(), 403, r#"{"message":"Forbidden"}"#);
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&scholar(), BODY);
    }

    #[test]
    fn recorded_copies_are_found() {
        reads_recordings(&scholar(), "semanticscholar", |recording| {
            let json = recording.json();
            let url = json["openAccessPdf"]["url"].as_str().filter(|url| !url.is_empty());
            url.map(|url| (work("10.1/x"), vec![url.to_owned()])).into_iter().collect()
        });
    }
}
