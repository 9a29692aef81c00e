//! Unpaywall: the widest index of open copies, by DOI.
//!
//! `GET /v2/{doi}?email=YOU` (unpaywall.org/products/api). The best location is often without a PDF while another has one, so
//! all of them count. It knows every Crossref DOI: 404 with its JSON says that the DOI is not in it, and an answer without
//! locations that the work is closed.

use serde::Deserialize;

use super::{Ask, Candidate, No, NoKind, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "unpaywall";
/// Where it is.
pub(super) const BASE: &str = "https://api.unpaywall.org/v2";

/// Unpaywall.
pub(super) struct Unpaywall(pub(super) Terms);

#[derive(Deserialize)]
struct Record {
    doi: Option<String>,
    best_oa_location: Option<Location>,
    #[serde(default)]
    oa_locations: Option<Vec<Location>>,
}

#[derive(Deserialize)]
struct Location {
    url_for_pdf: Option<String>,
    url_for_landing_page: Option<String>,
    license: Option<String>,
    version: Option<String>,
    host_type: Option<String>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "HTTP_status_code")]
    status: Option<u16>,
    message: Option<String>,
}

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
            let refusal: Option<Refusal> = serde_json::from_slice(reply.body).ok();
            let said = refusal.as_ref().and_then(|said| said.message.as_deref());
            return Err(match (reply.status, refusal.as_ref().and_then(|said| said.status)) {
                (404, Some(404)) => No::absent("the DOI is not in Unpaywall"),
                (422, _) => No::new(NoKind::Refused, said.unwrap_or("422: wants another e-mail")),
                _ => No::broken(reply.told()),
            });
        }
        let record: Record = reply.json()?;
        if record.doi.is_none() {
            return Err(No::broken("an answer without a DOI"));
        }
        let best =
            record.best_oa_location.into_iter().map(|it| ("best_oa_location".to_owned(), it));
        let others = record.oa_locations.unwrap_or_default().into_iter().enumerate();
        let others = others.map(|(n, it)| (format!("oa_locations[{n}]"), it));
        let locations: Vec<(String, Location)> = best.chain(others).collect();
        let files = locations.iter().filter_map(|(at, it)| candidate(at, it, false));
        let pages = locations.iter().filter_map(|(at, it)| candidate(at, it, true));
        Said::found_or_absent(files.chain(pages).collect(), "no open copy is known")
    }
}

fn candidate(at: &str, location: &Location, page: bool) -> Option<Candidate> {
    let found = if page {
        Candidate::page(location.url_for_landing_page.as_deref()?, at)
    } else {
        Candidate::file(location.url_for_pdf.as_deref()?, at)
    };
    Some(
        found?
            .with_licence(location.license.as_deref())
            .with_version(location.version.as_deref())
            .with_host_type(location.host_type.as_deref()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{absent, asked, broken, found, refused, terms, work};
    use super::*;

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
        let body = r#"{"doi":"10.1/x","best_oa_location":{"url_for_pdf":null,"url_for_landing_page":"http://h/page",
            "license":"cc-by"},"oa_locations":[{"url_for_pdf":"http://h/a.pdf","version":"acceptedVersion",
            "host_type":"repository"},{"url_for_pdf":""}]}"#;
        let said = found(&unpaywall(), 200, body);
        let urls: Vec<&str> = said.iter().map(|it| it.url.as_str()).collect();
        assert_eq!(urls, ["http://h/a.pdf", "http://h/page"]);
        assert_eq!(said[0].version.map(super::super::Version::name), Some("acceptedVersion"));
        assert_eq!(said[1].licence.as_deref(), Some("cc-by"));
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
}
