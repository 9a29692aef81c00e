//! OpenAlex: an index of all works with their open locations, by DOI, PubMed id or PMCID.
//!
//! `GET /works/doi:{doi}?api_key=KEY` (docs.openalex.org). A work has a `best_oa_location` and `locations`; the best one
//! often has no PDF while another has. `open_access.oa_url` is where it can be read, mostly a page.
//!
//! The key is in the query: such a URL must never be logged.

use serde_json::Value;

use super::loose::{Reading, is_about, number, text};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};
use crate::job::Scheme;

/// Its name.
pub(super) const NAME: &str = "openalex";
/// Where it is.
pub(super) const BASE: &str = "https://api.openalex.org";

/// OpenAlex.
pub(super) struct OpenAlex(pub(super) Terms);

impl Resolver for OpenAlex {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let name = name(work).filter(|_| step.number == 0)?;
        let mut url = self.0.url(["works", &name]);
        if let Some(key) = &self.0.key {
            url.query_pairs_mut().append_pair("api_key", key.reveal());
        }
        Some(Ask::json(url))
    }

    fn read(&self, work: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        if reply.status == 404 {
            return Err(match is_own_404(reply) {
                true => No::absent("the work is not in OpenAlex"),
                false => No::broken(reply.told()),
            });
        }
        let answer: Value = reply.json()?;
        let mut reading = Reading::default();
        match answer.get("results") {
            None => {
                reading.learn(Scheme::Doi, &answer["doi"]);
                reading.learn(Scheme::Pmid, &answer["ids"]["pmid"]);
                reading.learn(Scheme::Pmcid, &answer["ids"]["pmcid"]);
                read_work(&mut reading, &answer);
            }
            Some(results) => {
                let results = reading.objects(results, "results");
                if results.is_empty() && number(&answer["meta"]["count"]) != Some(0) {
                    reading.note_odd("results");
                }
                let ours = results.into_iter().filter(|(_, it)| is_about(text(&it["doi"]), work));
                ours.for_each(|(_, it)| read_work(&mut reading, it));
            }
        }
        reading.said("no open copy is known")
    }
}

/// The work's name in OpenAlex's namespaces.
fn name(work: &Work) -> Option<String> {
    let doi = work.doi.as_ref().map(|doi| format!("doi:{doi}"));
    let pmid = || work.pmid.as_ref().map(|pmid| format!("pmid:{pmid}"));
    let pmcid = || {
        let pmcid = work.pmcid.as_deref()?.split('.').next()?;
        Some(format!("pmcid:{pmcid}"))
    };
    doi.or_else(pmid).or_else(pmcid)
}

/// Whether a 404 is its own word, rather than that of something in between.
fn is_own_404(reply: &Reply<'_>) -> bool {
    if reply.is_json() {
        let said: Option<Value> = serde_json::from_slice(reply.body).ok();
        return said.is_some_and(|said| said["error"].is_string() && said["message"].is_string());
    }
    // Its framework's page; nginx, which stands before many a broken service, puts its own in <center>.
    let page = String::from_utf8_lossy(reply.body);
    page.contains("404 Not Found") && !page.contains("<center>")
}

fn read_work(reading: &mut Reading, record: &Value) {
    const WHERE: [&str; 3] = ["best_oa_location", "locations", "open_access"];
    if WHERE.iter().all(|field| record.get(field).is_none()) {
        return reading.note_odd("a record without locations");
    }
    let mut locations = reading.objects(&record["best_oa_location"], "best_oa_location");
    locations.extend(reading.objects(&record["locations"], "locations"));
    for (at, it) in locations.iter().filter(|(_, it)| it["is_oa"] != false) {
        let url = reading.text(&it["pdf_url"], at);
        reading.found(url.and_then(|url| Candidate::file(url, at.as_str())).map(told(it)));
    }
    for (at, it) in locations.iter().filter(|(_, it)| it["is_oa"] == true) {
        let url = reading.text(&it["landing_page_url"], at);
        reading.found(url.and_then(|url| Candidate::page(url, at.as_str())).map(told(it)));
    }
    if record["open_access"]["is_oa"] == true {
        let at = "open_access.oa_url";
        let url = reading.text(&record["open_access"]["oa_url"], at);
        reading.found(url.and_then(|url| Candidate::page(url, at)));
    }
}

fn told(location: &Value) -> impl Fn(Candidate) -> Candidate {
    let kind = location["source"]["type"].as_str().or_else(|| location["host_type"].as_str());
    move |candidate| {
        candidate
            .with_licence(location["license"].as_str())
            .with_version(location["version"].as_str())
            .with_host_type(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        absent, asked, broken, everything, found, learned, never_panics, reads_recordings, refused,
        terms, work,
    };
    use super::super::{ApiKey, HostType, Leads, Version};
    use super::*;

    const BODY: &str = r#"{"id":"https://openalex.org/W1","doi":"https://doi.org/10.1/X",
        "open_access":{"is_oa":true,"oa_url":"http://h/read"},
        "best_oa_location":{"is_oa":true,"pdf_url":null,"landing_page_url":"http://h/page","license":"cc-by"},
        "locations":[{"is_oa":true,"pdf_url":"http://h/a.pdf","version":"acceptedVersion","license":"cc-by-nc",
            "source":{"type":"repository"},"landing_page_url":"http://h/page"},
        {"is_oa":false,"pdf_url":"http://h/closed.pdf","landing_page_url":"http://h/closed"},
        {"pdf_url":"http://h/b.pdf","source":null,"host_type":"publisher","landing_page_url":"http://h/b"}]}"#;
    const FLASK: &str =
        "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>";
    const NGINX: &str =
        "<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1>";

    fn openalex() -> OpenAlex {
        OpenAlex(terms(BASE))
    }

    #[test]
    fn it_is_asked_by_doi_or_else_by_the_ids_of_pubmed() {
        assert_eq!(
            asked(&openalex(), &everything()),
            "https://api.openalex.org/works/doi:10.1%2Fx"
        );
        let pmid = Work { doi: None, ..everything() };
        assert_eq!(asked(&openalex(), &pmid), "https://api.openalex.org/works/pmid:1");
        let pmcid = Work { pmcid: Some("PMC1.2".into()), ..Work::default() };
        assert_eq!(asked(&openalex(), &pmcid), "https://api.openalex.org/works/pmcid:PMC1");
        assert!(openalex().ask(&Work::default(), &Step::default()).is_none());
    }

    #[test]
    fn the_key_goes_along_and_is_not_shown() {
        let known = OpenAlex(Terms { key: Some(ApiKey::new("s3cret")), ..terms(BASE) });
        let ask = known.ask(&work("10.1/x"), &Step::default()).unwrap();
        assert_eq!(ask.url.query(), Some("api_key=s3cret"));
        assert!(!format!("{ask:?}").contains("s3cret"));
    }

    #[test]
    fn every_open_location_counts_and_files_come_before_pages() {
        let said = found(&openalex(), 200, BODY);
        let urls: Vec<&str> = said.iter().map(|it| it.url.as_str()).collect();
        assert_eq!(urls, ["http://h/a.pdf", "http://h/b.pdf", "http://h/page", "http://h/read"]);
        assert_eq!(said[0].version, Some(Version::Accepted));
        assert_eq!(said[0].host_type, Some(HostType::Repository));
        assert_eq!(said[1].host_type, Some(HostType::Publisher));
        assert_eq!((said[2].leads, said[2].licence.as_deref()), (Leads::Page, Some("cc-by")));
    }

    #[test]
    fn the_ids_of_pubmed_are_learned() {
        let ids = r#""ids":{"pmid":"https://pubmed.ncbi.nlm.nih.gov/7",
            "pmcid":"https://www.ncbi.nlm.nih.gov/pmc/articles/8"},"open_access""#;
        let body = BODY.replace("10.1/", "10.1234/").replace(r#""open_access""#, ids);
        let by_pmid = Work { pmid: Some("7".into()), ..Work::default() };
        let expected = Work { pmcid: Some("PMC8".into()), doi: work("10.1234/x").doi, ..by_pmid };
        assert_eq!(learned(&openalex(), &Work::default(), &body), expected);
    }

    #[test]
    fn a_record_may_come_in_a_list() {
        let other =
            r#"{"doi":"https://doi.org/10.1/y","locations":[{"pdf_url":"http://h/other.pdf"}]}"#;
        let list = format!(r#"{{"meta":{{"count":2}},"results":[{other},{BODY}]}}"#);
        assert_eq!(found(&openalex(), 200, &list)[0].url.as_str(), "http://h/a.pdf");
        absent(&openalex(), 200, &format!(r#"{{"results":[{other}]}}"#));
        absent(&openalex(), 200, r#"{"meta":{"count":0},"results":[]}"#);
        broken(&openalex(), 200, r#"{"results":[]}"#);
    }

    #[test]
    fn one_odd_location_spoils_no_other() {
        let body = r#"{"best_oa_location":"x","locations":[null,3,{"pdf_url":["a"]},{"pdf_url":"http://h/a","license":7}]}"#;
        assert_eq!(found(&openalex(), 200, body).len(), 1);
        broken(&openalex(), 200, r#"{"best_oa_location":"x","locations":[]}"#);
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&openalex(), 404, FLASK);
        absent(&openalex(), 404, r#"{"error":"Not Found","message":"no such work"}"#);
        absent(&openalex(), 200, r#"{"best_oa_location":null,"locations":[]}"#);
        broken(&openalex(), 404, NGINX);
        broken(&openalex(), 404, r#"{"message":"no route"}"#);
        broken(&openalex(), 404, "");
        broken(&openalex(), 200, r#"{"error":"x"}"#);
        broken(&openalex(), 200, "null");
        broken(&openalex(), 500, BODY);
        refused(&openalex(), 401, "{}");
        refused(&openalex(), 403, FLASK);
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&openalex(), BODY);
    }

    #[test]
    fn recorded_locations_are_found() {
        reads_recordings(&openalex(), "openalex", |recording| {
            let json = recording.json();
            let works = json["results"].as_array().cloned().unwrap_or_else(|| vec![json]);
            let promised = works.iter().filter_map(|it| {
                let places = it["locations"].as_array()?.iter();
                let urls = places.filter(|place| place["is_oa"] != false);
                let urls = urls.filter_map(|place| place["pdf_url"].as_str().map(str::to_owned));
                let doi = it["doi"].as_str()?.trim_start_matches("https://doi.org/").to_lowercase();
                Some((work(&doi), urls.collect::<Vec<_>>())).filter(|(_, urls)| !urls.is_empty())
            });
            promised.collect()
        });
    }
}
