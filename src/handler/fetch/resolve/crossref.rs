//! Crossref: what publishers themselves register, by DOI.
//!
//! `GET /works/{doi}?mailto=YOU` (api.crossref.org). The links of a work say what they are for: those meant for
//! `similarity-checking` are for Crossref's own plagiarism check and are never asked. The page that the DOI leads to comes after
//! the files. A DOI of another agency (DataCite, …) is a plain 404 here, as one that does not exist.

use serde_json::Value;

use super::loose::{Reading, is_pdf};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "crossref";
/// Where it is.
pub(super) const BASE: &str = "https://api.crossref.org";

/// Crossref.
pub(super) struct Crossref(pub(super) Terms);

impl Resolver for Crossref {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let doi = work.doi.as_deref().filter(|_| step.number == 0)?;
        let mut url = self.0.url(["works", doi]);
        if let Some(contact) = &self.0.contact {
            url.query_pairs_mut().append_pair("mailto", contact);
        }
        Some(Ask::json(url))
    }

    fn read(&self, _: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        if reply.status == 404 {
            let own = reply.body.trim_ascii().starts_with(b"Resource not found");
            return Err(match own {
                true => No::absent("the DOI is not in Crossref"),
                false => No::broken(reply.told()),
            });
        }
        let answer: Value = reply.json()?;
        let message = &answer["message"];
        if !message["DOI"].is_string() {
            return Err(No::broken("an answer without a DOI"));
        }
        let mut reading = Reading::default();
        let licences = licences(&message["license"]);
        let links = reading.objects(&message["link"], "link");
        let mut links: Vec<_> = links
            .into_iter()
            .filter_map(|(at, it)| Some((rank(&mut reading, it)?, at, it)))
            .collect();
        links.sort_by_key(|(rank, ..)| *rank);
        for (_, at, link) in links {
            let url = reading.text(&link["URL"], &at);
            let version = link["content-version"].as_str();
            let file = url.and_then(|url| Candidate::file(url, at.as_str()));
            reading.found(file.map(|file| told(file, version, &licences)));
        }
        let at = "resource.primary";
        let url = reading.text(&message["resource"]["primary"]["URL"], at);
        let page = url.and_then(|url| Candidate::page(url, at));
        reading.found(page.map(|page| told(page, Some("vor"), &licences)));
        reading.said("the publisher registered neither a PDF nor a page")
    }
}

/// A licence: of which version, and its URL.
type Licence<'v> = (Option<&'v str>, &'v str);

fn licences(list: &Value) -> Vec<Licence<'_>> {
    // Read aside: an odd licence says nothing about links.
    let licences = Reading::default().objects(list, "license").into_iter();
    let licences =
        licences.filter_map(|(_, it)| Some((it["content-version"].as_str(), it["URL"].as_str()?)));
    licences.collect()
}

fn told(candidate: Candidate, version: Option<&str>, licences: &[Licence<'_>]) -> Candidate {
    let of = |wanted| licences.iter().find(move |(version, _)| *version == wanted);
    let licence = of(version).or_else(|| of(Some("vor"))).or_else(|| licences.first());
    candidate
        .with_licence(licence.map(|(_, url)| *url))
        .with_version(version)
        .with_host_type(Some("publisher"))
}

/// In which place a link is tried, the lowest first; `None` when it leads to no PDF, or is not for us.
fn rank(reading: &mut Reading, link: &Value) -> Option<(u8, u8)> {
    if link["intended-application"] == "similarity-checking" {
        return None;
    }
    let kind = link["content-type"].as_str().unwrap_or("unspecified").trim().to_ascii_lowercase();
    let kind = match kind.as_str() {
        kind if kind.starts_with("application/pdf") => 0,
        "unspecified" | "" if is_pdf(reading.text(&link["URL"], "link")?) => 1,
        _ => return None,
    };
    let version = match link["content-version"].as_str() {
        Some("vor") => 0,
        Some("am") => 2,
        _ => 1,
    };
    Some((kind, version))
}

#[cfg(test)]
mod tests {
    use super::super::Leads;
    use super::super::testing::{
        absent, asked, broken, found, never_panics, reads_recordings, terms, work,
    };
    use super::*;

    const BODY: &str = r#"{"status":"ok","message-type":"work","message":{"DOI":"10.1/x","link":[
        {"URL":"http://h/check.pdf","content-type":"application/pdf","content-version":"vor",
            "intended-application":"similarity-checking"},
        {"URL":"http://h/plain.PDF?a=1","content-type":"unspecified","content-version":"vor",
            "intended-application":"text-mining"},
        {"URL":"http://h/am","content-type":"application/pdf","content-version":"am"},
        {"URL":"http://h/text.xml","content-type":"text/xml","content-version":"vor"},
        {"URL":"http://h/html","content-type":"unspecified","content-version":"vor"},
        {"URL":"http://h/vor","content-type":"application/pdf","content-version":"vor"}],
        "license":[{"URL":"http://l/tdm","content-version":"tdm"},{"URL":"http://l/am","content-version":"am"},
        {"URL":"http://l/vor","content-version":"vor"}],
        "resource":{"primary":{"URL":"http://h/page"}}}}"#;

    fn crossref() -> Crossref {
        Crossref(terms(BASE))
    }

    #[test]
    fn the_doi_is_one_segment_and_the_contact_goes_along() {
        assert_eq!(
            asked(&crossref(), &work("10.1037//a<b>;1?(2)%")),
            "https://api.crossref.org/works/10.1037%2F%2Fa%3Cb%3E;1%3F(2)%25?mailto=me%40lib.test"
        );
        let nobody = Crossref(Terms { contact: None, ..terms(BASE) });
        assert_eq!(asked(&nobody, &work("10.1/x")), "https://api.crossref.org/works/10.1%2Fx");
        assert!(crossref().ask(&Work::default(), &Step::default()).is_none());
        assert!(crossref().ask(&work("10.1/x"), &Step::new(1, "")).is_none());
    }

    #[test]
    fn the_version_of_record_comes_first_and_the_page_last() {
        let said = found(&crossref(), 200, BODY);
        let told: Vec<_> = said.iter().map(|it| (it.url.as_str(), it.licence.as_deref())).collect();
        assert_eq!(
            told,
            [
                ("http://h/vor", Some("http://l/vor")),
                ("http://h/am", Some("http://l/am")),
                ("http://h/plain.PDF?a=1", Some("http://l/vor")),
                ("http://h/page", Some("http://l/vor")),
            ]
        );
        assert_eq!(said[0].evidence.as_ref(), "link[5]");
        assert_eq!(said[1].version.map(super::super::Version::name), Some("acceptedVersion"));
        assert_eq!(said[3].leads, Leads::Page);
    }

    #[test]
    fn one_odd_link_spoils_no_other() {
        let body = r#"{"message":{"DOI":"10.1/x","license":"free","link":[7,{"URL":3,"content-type":"application/pdf"},
            {"URL":"http://h/a","content-type":"application/pdf;v=1","content-version":null}],"resource":[]}}"#;
        assert_eq!(found(&crossref(), 200, body).len(), 1);
        broken(&crossref(), 200, r#"{"message":{"DOI":"10.1/x","link":"http://h/a"}}"#);
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&crossref(), 404, "Resource not found.");
        absent(&crossref(), 200, r#"{"message":{"DOI":"10.1/x","link":null}}"#);
        absent(&crossref(), 200, r#"{"message":{"DOI":"10.1/x"}}"#);
        broken(&crossref(), 404, "<html><title>404 Not Found</title>Resource not found.");
        broken(&crossref(), 404, "");
        broken(&crossref(), 200, "Resource not found.");
        broken(&crossref(), 200, r#"{"message":{"agency":{}}}"#);
        broken(&crossref(), 200, "[]");
        broken(&crossref(), 400, BODY);
        broken(&crossref(), 504, BODY);
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&crossref(), BODY);
    }

    #[test]
    fn recorded_links_are_found() {
        reads_recordings(&crossref(), "crossref", |recording| {
            let json = recording.json();
            let links = json["message"]["link"].as_array().cloned().unwrap_or_default();
            let files = links.iter().filter(|it| {
                it["content-type"] == "application/pdf"
                    && it["intended-application"] != "similarity-checking"
            });
            let urls: Vec<String> =
                files.filter_map(|it| it["URL"].as_str().map(str::to_owned)).collect();
            let known = json["message"]["DOI"].is_string() && !urls.is_empty();
            if known { vec![(work("10.1/x"), urls)] } else { Vec::new() }
        });
    }
}
