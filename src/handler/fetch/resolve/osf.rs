//! OSF: the preprint servers of the Center for Open Science (PsyArXiv, SocArXiv, …), by DOI.
//!
//! Two steps (developer.osf.io, JSON:API): the preprint names its primary file by a link, and the file's record has the download URL and
//! the checksums. A DOI of its own servers (`10.31234/osf.io/abcde`) holds the id of the preprint; any other is searched for.

use serde_json::Value;
use url::Url;

use super::loose::{Reading, each, is_pdf, text};
use super::{
    Ask, Candidate, MAX_CARRIED_BYTES, No, NoKind, Reply, Resolver, Said, Step, Terms, Work,
};

/// Its name.
pub(super) const NAME: &str = "osf";
/// Where it is.
pub(super) const BASE: &str = "https://api.osf.io/v2";

/// The step that asks for the record of the file whose URL it carries.
const FILE: u8 = 1;

/// OSF.
pub(super) struct Osf(pub(super) Terms);

impl Resolver for Osf {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let url = match step.number {
            0 => self.preprint(work.doi.as_deref()?),
            FILE => self.own(&step.carried)?,
            _ => return None,
        };
        let ask = Ask { accept: "application/vnd.api+json, application/json", ..Ask::json(url) };
        // A personal access token raises the limit (developer.osf.io, "Rate limiting").
        Some(ask.with_key("authorization", "Bearer ", self.0.key.as_ref()))
    }

    fn read(&self, work: &Work, step: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        let names_one = step.number == FILE || work.doi.as_deref().and_then(preprint_id).is_some();
        if matches!(reply.status, 404 | 410) {
            let body: Value = serde_json::from_slice(reply.body).unwrap_or_default();
            let is_own_word = body["errors"].is_array() && (names_one || reply.status == 410);
            return Err(if is_own_word {
                No::absent("no such preprint, or it was taken back")
            } else {
                No::broken(reply.told())
            });
        }
        if reply.status == 400 && !names_one {
            // "not a filterable field", as people report since 2026: no word about this work, and none that waiting would change.
            return Err(No::new(NoKind::Refused, "it does not search by DOI"));
        }
        let body: Value = reply.json()?;
        match &body["data"] {
            file @ Value::Object(_) if step.number == FILE => read_file(file),
            data @ (Value::Object(_) | Value::Array(_)) if step.number != FILE => {
                self.read_preprints(data)
            }
            _ => Err(No::broken("an answer without data")),
        }
    }
}

impl Osf {
    fn preprint(&self, doi: &str) -> Url {
        if let Some(id) = preprint_id(doi) {
            return self.0.url(["preprints", id, ""]);
        }
        let mut url = self.0.url(["preprints", ""]);
        url.query_pairs_mut().append_pair("filter[doi]", doi);
        url
    }

    /// A link of the service's that leads to itself. Any other is not followed: what is asked as OSF must be OSF.
    fn own(&self, link: &str) -> Option<Url> {
        let url = super::super::payload::parse(link).ok()?;
        (url.host_str() == self.0.base.host_str()).then_some(url)
    }

    fn read_preprints(&self, data: &Value) -> Result<Said, No> {
        let mut strange = None;
        for preprint in each(data) {
            let Some(relationships) = preprint["relationships"].as_object() else {
                strange = Some("a preprint without relationships");
                continue;
            };
            let Some(file) = relationships.get("primary_file") else { continue };
            let related = &file["links"]["related"];
            match text(related).or_else(|| text(&related["href"])) {
                Some(link) if link.len() <= MAX_CARRIED_BYTES && self.own(link).is_some() => {
                    return Ok(Said::go_on(Step::new(FILE, link)));
                }
                Some(_) => strange = Some("the file's record is elsewhere"),
                // Taken back: the relationship is there and leads nowhere.
                None if related.is_null() => {}
                None => strange = Some("a link that is not understood"),
            }
        }
        Err(strange.map_or_else(|| No::absent("no preprint with a file"), No::broken))
    }
}

fn read_file(file: &Value) -> Result<Said, No> {
    let mut reading = Reading::default();
    let attributes = &file["attributes"];
    let name = text(&attributes["name"]);
    if name.is_some_and(|name| !is_pdf(name)) {
        return Err(No::absent("the preprint's file is no PDF"));
    }
    let hashes = &attributes["extra"]["hashes"];
    let link = reading.text(&file["links"]["download"], "links.download");
    let file = link.and_then(|link| Candidate::file(link, "primary_file"));
    reading.found(file.map(|it| {
        it.with_host_type(Some("repository"))
            .with_checksum(text(&hashes["md5"]))
            .with_checksum(text(&hashes["sha256"]))
    }));
    reading.said("the file cannot be downloaded")
}

/// The id in a DOI of OSF's preprint servers: `abcde` or `abcde_v2` in `10.3xxxx/osf.io/abcde_v2`.
fn preprint_id(doi: &str) -> Option<&str> {
    let (registrant, id) = doi.strip_prefix("10.")?.split_once("/osf.io/")?;
    let is_server = registrant.starts_with('3') && registrant.bytes().all(|b| b.is_ascii_digit());
    let is_id = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (is_server && is_id).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        absent, asked, broken, never_panics, read, read_step, refused, terms, work,
    };
    use super::*;

    const PREPRINT: &str = r#"{"data":[{"id":"old","relationships":{}},{"id":"abcde","relationships":{"primary_file":{
        "links":{"related":{"href":"https://api.osf.io/v2/files/5f/","meta":{}}}}}}]}"#;
    const RECORD: &str = r#"{"data":{"attributes":{"name":"Paper.PDF","extra":{"hashes":{
        "md5":"0123456789abcdef0123456789abcdef"}}},"links":{"download":"https://osf.io/download/5f/"}}}"#;

    fn osf() -> Osf {
        Osf(terms(BASE))
    }

    fn file_step() -> Step {
        Step::new(FILE, "https://api.osf.io/v2/files/5f/")
    }

    fn read_record(status: u16, body: &str) -> Result<Said, NoKind> {
        let said = read_step(&osf(), &work("10.1/x"), &file_step(), status, body.as_bytes());
        said.map_err(|(kind, _)| kind)
    }

    #[test]
    fn its_own_dois_are_asked_by_id_and_others_searched_for() {
        for (doi, expected) in [
            ("10.31219/osf.io/abcde", "preprints/abcde/"),
            ("10.31234/osf.io/abcde_v2", "preprints/abcde_v2/"),
            ("10.17605/osf.io/abcde", "preprints/?filter%5Bdoi%5D=10.17605%2Fosf.io%2Fabcde"),
            ("10.31219/osf.io/a.b", "preprints/?filter%5Bdoi%5D=10.31219%2Fosf.io%2Fa.b"),
            ("10.1/x", "preprints/?filter%5Bdoi%5D=10.1%2Fx"),
        ] {
            let expected = format!("https://api.osf.io/v2/{expected}");
            assert_eq!(asked(&osf(), &work(doi)), expected);
        }
        let doi = "10.1/a<b>;[1](2)\"%3c&x=+";
        let ask = osf().ask(&work(doi), &Step::default()).unwrap();
        assert_eq!(ask.url.query_pairs().next().unwrap().1, doi);
        assert!(osf().ask(&Work::default(), &Step::default()).is_none());
        assert!(osf().ask(&work("10.1/x"), &Step::new(2, "")).is_none());
    }

    #[test]
    fn the_preprint_leads_to_its_file_and_the_file_to_its_bytes() {
        let said = read(&osf(), 200, PREPRINT).unwrap();
        assert_eq!(said, Said::go_on(file_step()));
        let ask = osf().ask(&work("10.1/x"), &file_step()).unwrap();
        assert_eq!(ask.url.as_str(), "https://api.osf.io/v2/files/5f/");
        let file = &read_record(200, RECORD).unwrap().found[0];
        assert_eq!(file.url.as_str(), "https://osf.io/download/5f/");
        assert_eq!(file.md5.as_deref(), Some("0123456789abcdef0123456789abcdef"));
    }

    #[test]
    fn a_link_to_another_host_is_not_followed() {
        broken(&osf(), 200, &PREPRINT.replace("https://api.osf.io", "https://evil.test"));
        assert!(osf().ask(&work("10.1/x"), &Step::new(FILE, "https://evil.test/")).is_none());
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&osf(), 200, r#"{"data":[],"meta":{"total":0}}"#);
        absent(&osf(), 200, r#"{"data":[{"relationships":{}}]}"#);
        absent(&osf(), 410, r#"{"errors":[{"detail":"no longer available"}]}"#);
        broken(&osf(), 404, r#"{"errors":[{"detail":"Not found."}]}"#);
        broken(&osf(), 410, "<html>gone");
        broken(&osf(), 200, r#"{"data":null}"#);
        broken(&osf(), 200, r#"{"data":[{}]}"#);
        broken(&osf(), 200, &PREPRINT.replace(r#""https://api.osf.io/v2/files/5f/""#, "7"));
        refused(
            &osf(),
            400,
            r#"{"errors":[{"detail":"'doi' is not a valid field for this endpoint."}]}"#,
        );
        refused(&osf(), 401, r#"{"errors":[]}"#);
        let own = read_step(
            &osf(),
            &work("10.31219/osf.io/abcde"),
            &Step::default(),
            404,
            br#"{"errors":[{"detail":"Not found."}]}"#,
        );
        assert_eq!(own.map_err(|(kind, _)| kind), Err(NoKind::Absent));
    }

    #[test]
    fn a_file_that_is_no_pdf_or_not_there_is_absent() {
        let no = |status, body: &str| read_record(status, body).unwrap_err();
        assert_eq!(no(200, &RECORD.replace("Paper.PDF", "Paper.docx")), NoKind::Absent);
        assert_eq!(no(410, r#"{"errors":[]}"#), NoKind::Absent);
        assert_eq!(no(200, r#"{"data":{"links":{"download":null}}}"#), NoKind::Absent);
        assert_eq!(no(200, r#"{"data":{"links":{"download":7}}}"#), NoKind::Broken);
        assert_eq!(no(200, r#"{"data":[]}"#), NoKind::Broken);
        assert_eq!(no(404, "<html>"), NoKind::Broken);
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&osf(), PREPRINT);
        never_panics(&osf(), RECORD);
    }
}
