//! Unpaywall: the widest index of open copies, by DOI.
//!
//! `GET /v2/{doi}?email=YOU` (unpaywall.org/products/api). The best location is often without a PDF while another has one, so
//! all of them count. It knows every Crossref DOI: 404 with its JSON says that the DOI is not in it, and an answer without
//! locations that the work is closed.

use serde_json::Value;

use super::loose::{Reading, number, text};
use super::{Ask, Candidate, No, NoKind, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "unpaywall";
/// Where it is.
pub(super) const BASE: &str = "https://api.unpaywall.org/v2";

/// Unpaywall.
pub(super) struct Unpaywall(pub(super) Terms);

impl Resolver for Unpaywall {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let doi = work.doi.as_deref().filter(|_| step.number == 0)?;
        // The DOI's slash is part of the path here, as the service's own examples have it.
        let mut url = self.0.url(doi.split('/'));
        url.query_pairs_mut().append_pair("email", self.0.contact.as_deref()?);
        Some(Ask::json(url))
    }

    fn read(&self, _: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        if matches!(reply.status, 404 | 422) {
            return Err(denied(reply));
        }
        let record: Value = reply.json()?;
        if !record["doi"].is_string() {
            return Err(No::broken("an answer without a DOI"));
        }
        let mut reading = Reading::default();
        let mut locations = reading.objects(&record["best_oa_location"], "best_oa_location");
        locations.extend(reading.objects(&record["oa_locations"], "oa_locations"));
        for (at, it) in &locations {
            let url = reading.text(&it["url_for_pdf"], at);
            reading.found(url.and_then(|url| Candidate::file(url, at.as_str())).map(told(it)));
        }
        for (at, it) in &locations {
            let url = reading.text(&it["url_for_landing_page"], at);
            reading.found(url.and_then(|url| Candidate::page(url, at.as_str())).map(told(it)));
        }
        reading.said("no open copy is known")
    }
}

fn denied(reply: &Reply<'_>) -> No {
    let said: Value = serde_json::from_slice(reply.body).unwrap_or_default();
    match (reply.status, number(&said["HTTP_status_code"])) {
        (404, Some(404)) => No::absent("the DOI is not in Unpaywall"),
        (422, _) => {
            let message = text(&said["message"]).unwrap_or("422: wants another e-mail");
            No::new(NoKind::Refused, message)
        }
        _ => No::broken(reply.told()),
    }
}

fn told(location: &Value) -> impl Fn(Candidate) -> Candidate {
    move |candidate| {
        candidate
            .with_licence(location["license"].as_str())
            .with_version(location["version"].as_str())
            .with_host_type(location["host_type"].as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        absent, asked, broken, found, never_panics, reads_recordings, refused, terms, work,
    };
    use super::*;

    const BODY: &str = r#"{"doi":"10.1/x","best_oa_location":{"url_for_pdf":null,"url_for_landing_page":"http://h/page",
        "license":"cc-by"},"oa_locations":[{"url_for_pdf":"http://h/a.pdf","version":"acceptedVersion",
        "host_type":"repository"},{"url_for_pdf":""}]}"#;

    fn unpaywall() -> Unpaywall {
        Unpaywall(terms(BASE))
    }

    #[test]
    fn it_is_asked_by_doi_and_with_the_contact() {
        assert_eq!(
            asked(&unpaywall(), &work("10.1234/a<b>;1(2)")),
            "https://api.unpaywall.org/v2/10.1234/a%3Cb%3E;1(2)?email=me%40lib.test"
        );
        let nobody = Unpaywall(Terms { contact: None, ..terms(BASE) });
        assert!(nobody.ask(&work("10.1234/a"), &Step::default()).is_none());
        assert!(unpaywall().ask(&Work::default(), &Step::default()).is_none());
    }

    #[test]
    fn every_location_counts_and_files_come_before_pages() {
        let said = found(&unpaywall(), 200, BODY);
        let urls: Vec<&str> = said.iter().map(|it| it.url.as_str()).collect();
        assert_eq!(urls, ["http://h/a.pdf", "http://h/page"]);
        assert_eq!(said[0].version.map(super::super::Version::name), Some("acceptedVersion"));
        assert_eq!(said[1].licence.as_deref(), Some("cc-by"));
    }

    #[test]
    fn one_odd_location_spoils_no_other() {
        let body = r#"{"doi":"10.1/x","best_oa_location":"http://h/a.pdf","oa_locations":[7,{"url_for_pdf":["x"]},
            {"url_for_pdf":"http://h/b.pdf","license":{},"version":7,"host_type":[]}]}"#;
        let said = found(&unpaywall(), 200, body);
        let told: Vec<_> = said.iter().map(|it| (it.url.as_str(), &*it.evidence)).collect();
        assert_eq!(told, [("http://h/b.pdf", "oa_locations[2]")]);
        broken(&unpaywall(), 200, &body.replace(r#""http://h/b.pdf""#, "null"));
        broken(&unpaywall(), 200, r#"{"doi":"10.1/x","oa_locations":"none"}"#);
    }

    #[test]
    fn absence_needs_its_own_word() {
        let closed = r#"{"doi":"10.1/x","best_oa_location":null,"oa_locations":[]}"#;
        absent(&unpaywall(), 200, closed);
        absent(&unpaywall(), 404, r#"{"HTTP_status_code":404,"error":true,"message":"x"}"#);
        broken(&unpaywall(), 404, "<html>not here");
        broken(&unpaywall(), 200, "{}");
        broken(&unpaywall(), 500, closed);
        refused(&unpaywall(), 422, r#"{"HTTP_status_code":422,"message":"use your own email"}"#);
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&unpaywall(), BODY);
    }

    #[test]
    fn recorded_locations_are_found() {
        reads_recordings(&unpaywall(), "unpaywall", |recording| {
            let json = recording.json();
            let locations = json["oa_locations"].as_array().cloned().unwrap_or_default();
            let urls = locations.iter().flat_map(|it| {
                [&it["url_for_pdf"], &it["url_for_landing_page"]].map(|url| url.as_str())
            });
            let urls: Vec<String> = urls.flatten().map(str::to_owned).collect();
            let known = json["doi"].is_string() && !urls.is_empty();
            if known { vec![(work("10.1/x"), urls)] } else { Vec::new() }
        });
    }
}
