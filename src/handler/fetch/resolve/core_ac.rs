//! CORE: full texts gathered from repositories all over the world, by DOI.
//!
//! `GET /search/works/?q=doi:"{doi}"` (api.core.ac.uk/docs/v3), the slash at the end included, the key as a bearer token. Without
//! a key it answers few questions a day. A search may find works that merely cite the DOI: those of another DOI do not count.

use serde_json::Value;

use super::loose::{Reading, is_about, number, phrase, text};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "core";
/// Where it is.
pub(super) const BASE: &str = "https://api.core.ac.uk/v3";

/// CORE.
pub(super) struct Core(pub(super) Terms);

impl Resolver for Core {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let doi = work.doi.as_deref().filter(|_| step.number == 0)?;
        let mut url = self.0.url(["search", "works", ""]);
        let query = format!("doi:{}", phrase(doi));
        url.query_pairs_mut().append_pair("q", &query).append_pair("limit", "10");
        Some(Ask::json(url).with_key("authorization", "Bearer ", self.0.key.as_ref()))
    }

    fn read(&self, work: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        let answer: Value = reply.json()?;
        let Some(results) = answer.get("results").filter(|results| !results.is_null()) else {
            return Err(No::broken("an answer without results"));
        };
        let mut reading = Reading::default();
        let results = reading.objects(results, "results");
        if results.is_empty() && number(&answer["totalHits"]) != Some(0) {
            reading.note_odd("totalHits");
        }
        for (at, result) in results.into_iter().filter(|(_, it)| is_about(text(&it["doi"]), work)) {
            read_result(&mut reading, &at, result);
        }
        reading.said("no full text is known")
    }
}

fn read_result(reading: &mut Reading, at: &str, result: &Value) {
    let mut urls = reading.texts(&result["downloadUrl"], &format!("{at}.downloadUrl"));
    let links = reading.objects(&result["links"], &format!("{at}.links")).into_iter();
    for (at, link) in links.filter(|(_, link)| link["type"] == "download") {
        urls.extend(reading.texts(&link["url"], &at));
    }
    let sources = format!("{at}.sourceFulltextUrls");
    urls.extend(reading.texts(&result["sourceFulltextUrls"], &sources));
    for (at, url) in urls {
        let file = Candidate::file(url, at);
        reading.found(file.map(|file| {
            file.with_licence(result["license"].as_str()).with_host_type(Some("repository"))
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::ApiKey;
    use super::super::testing::{
        absent, asked, broken, found, never_panics, recordings, refused, terms, work,
    };
    use super::*;

    const BODY: &str = r#"{"totalHits":3,"results":[
        {"id":1,"doi":"10.1/y","downloadUrl":"http://h/other"},
        {"id":2,"doi":"10.1/X","downloadUrl":"https://core.ac.uk/download/2.pdf","sourceFulltextUrls":"http://h/b",
            "links":[{"type":"display","url":"http://h/page"},{"type":"download","url":"https://core.ac.uk/download/2.pdf"},
            {"type":"download","url":"http://h/a"}]},
        {"id":3,"doi":null,"downloadUrl":"","sourceFulltextUrls":["http://h/c",null,"http://h/b"]}]}"#;

    fn core() -> Core {
        Core(terms(BASE))
    }

    #[test]
    fn it_is_asked_by_doi_with_the_slash_that_it_wants() {
        assert_eq!(
            asked(&core(), &work("10.1/a\"b")),
            "https://api.core.ac.uk/v3/search/works/?q=doi%3A%2210.1%2Fa%5C%22b%22&limit=10"
        );
        assert!(core().ask(&Work::default(), &Step::default()).is_none());
        let known = Core(Terms { key: Some(ApiKey::new("s3cret")), ..terms(BASE) });
        let ask = known.ask(&work("10.1/x"), &Step::default()).unwrap();
        assert_eq!(ask.secret, Some(("authorization", ApiKey::new("Bearer s3cret"))));
    }

    #[test]
    fn every_text_of_this_work_counts_once() {
        let said = found(&core(), 200, BODY);
        let urls: Vec<&str> = said.iter().map(|it| it.url.as_str()).collect();
        let own = "https://core.ac.uk/download/2.pdf";
        assert_eq!(urls, [own, "http://h/a", "http://h/b", "http://h/c"]);
        assert_eq!(said[0].evidence.as_ref(), "results[1].downloadUrl");
    }

    #[test]
    fn one_odd_result_spoils_no_other() {
        let body =
            r#"{"results":[7,{"downloadUrl":{},"links":"x"},{"downloadUrl":["http://h/a"]}]}"#;
        assert_eq!(found(&core(), 200, body).len(), 1);
        broken(&core(), 200, r#"{"totalHits":1,"results":[{"downloadUrl":{}}]}"#);
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&core(), 200, r#"{"totalHits":0,"results":[]}"#);
        absent(&core(), 200, r#"{"totalHits":"0","results":[]}"#);
        absent(&core(), 200, r#"{"totalHits":1,"results":[{"doi":"10.1/x","downloadUrl":null}]}"#);
        absent(
            &core(),
            200,
            r#"{"totalHits":1,"results":[{"doi":"10.1/y","downloadUrl":"http://h/a"}]}"#,
        );
        broken(&core(), 200, r#"{"totalHits":2,"results":[]}"#);
        broken(&core(), 200, r#"{"results":[]}"#);
        broken(&core(), 200, r#"{"totalHits":0}"#);
        broken(&core(), 200, r#"{"message":"no"}"#);
        broken(&core(), 404, r#"{"message":"Not found"}"#);
        refused(&core(), 401, "{}");
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&core(), BODY);
    }

    /// All of them are of the API's second version, whose results lie elsewhere.
    #[test]
    fn recorded_answers_of_another_version_are_not_taken_for_absence() {
        for recording in recordings("core") {
            let body = String::from_utf8_lossy(&recording.body);
            broken(&core(), recording.status, &body);
        }
    }
}
