//! Zenodo: CERN's repository, by DOI.
//!
//! `GET /records/{id}` for its own DOIs (10.5281/zenodo.{id}), `GET /records?q=doi:"{doi}"` for all others, which uploaders may
//! bring along (developers.zenodo.org). A concept DOI stands for all versions of an upload and leads to the newest. Files
//! come with their MD5. Since Zenodo moved to InvenioRDM two shapes of files are about: a list, and an object of `entries`.

use serde_json::Value;

use super::loose::{Reading, is_doi, number, phrase};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "zenodo";
/// Where it is.
pub(super) const BASE: &str = "https://zenodo.org/api";

/// How its own DOIs begin.
const DOI_PREFIX: &str = "10.5281/zenodo.";

/// Zenodo.
pub(super) struct Zenodo(pub(super) Terms);

impl Resolver for Zenodo {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let doi = work.doi.as_deref().filter(|_| step.number == 0)?;
        if let Some(id) = own_id(doi) {
            return Some(Ask::json(self.0.url(["records", id])));
        }
        let mut url = self.0.url(["records"]);
        url.query_pairs_mut().append_pair("q", &format!("doi:{}", phrase(doi)));
        Some(Ask::json(url))
    }

    fn read(&self, work: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        if matches!(reply.status, 404 | 410) {
            return Err(gone(reply));
        }
        let answer: Value = reply.json()?;
        let mut reading = Reading::default();
        match answer.get("hits") {
            Some(hits) => read_hits(&mut reading, hits, work)?,
            None => read_record(&mut reading, &answer),
        }
        reading.said("no open record has a PDF")
    }
}

/// The record that one of Zenodo's own DOIs names.
fn own_id(doi: &str) -> Option<&str> {
    let id = doi.strip_prefix(DOI_PREFIX)?;
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())).then_some(id)
}

fn gone(reply: &Reply<'_>) -> No {
    let said: Value = serde_json::from_slice(reply.body).unwrap_or_default();
    if number(&said["status"]) == Some(reply.status.into()) {
        No::absent("the record is not in Zenodo")
    } else {
        No::broken(reply.told())
    }
}

fn read_hits(reading: &mut Reading, hits: &Value, work: &Work) -> Result<(), No> {
    let Some(list) = hits.get("hits").filter(|list| !list.is_null()) else {
        return Err(No::broken("an answer without hits"));
    };
    let records = reading.objects(list, "hits");
    // Elasticsearch counts in a number, and since its seventh version in an object.
    let total = number(&hits["total"]).or_else(|| number(&hits["total"]["value"]));
    if records.is_empty() && total != Some(0) {
        reading.note_odd("hits.total");
    }
    let doi = work.doi.as_deref().unwrap_or_default();
    for (at, record) in records {
        let names = names(record);
        if names.is_empty() {
            reading.note_odd(&at);
        } else if names.iter().any(|name| is_doi(name, doi)) {
            read_record(reading, record);
        }
    }
    Ok(())
}

/// The DOIs of a record: its own, and that of all its versions.
fn names(record: &Value) -> Vec<&str> {
    let places = [
        &record["doi"],
        &record["conceptdoi"],
        &record["metadata"]["doi"],
        &record["pids"]["doi"]["identifier"],
        &record["parent"]["pids"]["doi"]["identifier"],
    ];
    places.into_iter().filter_map(Value::as_str).collect()
}

fn read_record(reading: &mut Reading, record: &Value) {
    let metadata = &record["metadata"];
    if !metadata.is_object() {
        return reading.note_odd("a record without metadata");
    }
    let right = metadata["access_right"].as_str().or_else(|| record["access"]["files"].as_str());
    if matches!(right, Some("closed" | "restricted" | "embargoed")) {
        return;
    }
    let licence = licence(metadata);
    for (at, key, file) in files(reading, &record["files"]) {
        if !key.to_ascii_lowercase().ends_with(".pdf") {
            continue;
        }
        let links = &file["links"];
        // In the newer shape `self` describes the file and `content` is it.
        let links = ["content", "download", "self"].map(|kind| reading.text(&links[kind], &at));
        let Some(url) = links.into_iter().flatten().next() else {
            reading.note_odd(&at);
            continue;
        };
        reading.found(Candidate::file(url, at).map(|found| {
            found
                .with_licence(licence)
                .with_host_type(Some("repository"))
                .with_checksum(file["checksum"].as_str())
        }));
    }
}

/// A file: where it stands, its name, and what is said of it.
type File<'v> = (String, &'v str, &'v Value);

fn files<'v>(reading: &mut Reading, files: &'v Value) -> Vec<File<'v>> {
    let entries = files.get("entries").filter(|entries| !entries.is_null());
    if let Some(Value::Object(entries)) = entries {
        let named = entries.iter().flat_map(|(key, file)| {
            let file = reading.objects(file, &format!("files.{key}")).into_iter();
            file.map(move |(at, file)| (at, key.as_str(), file))
        });
        return named.collect();
    }
    if entries.is_none() && files.get("enabled").is_some() {
        return Vec::new(); // a record of metadata only
    }
    let list = reading.objects(entries.unwrap_or(files), "files").into_iter();
    let named = list.filter_map(|(at, file)| {
        let key = reading.text(&file["key"], &at);
        let key = key.or_else(|| reading.text(&file["filename"], &at));
        if key.is_none() {
            reading.note_odd(&at);
        }
        Some((at, key?, file))
    });
    named.collect()
}

fn licence(metadata: &Value) -> Option<&str> {
    let places = [&metadata["license"]["id"], &metadata["license"], &metadata["rights"][0]["id"]];
    places.into_iter().find_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::super::HostType;
    use super::super::testing::{
        absent, asked, broken, found, never_panics, read_step, reads_recordings, refused, terms,
        work,
    };
    use super::*;

    const MD5: &str = "0123456789abcdef0123456789abcdef";

    fn record() -> String {
        format!(
            r#"{{"id":7,"doi":"10.1/X","conceptdoi":"10.5281/zenodo.6","metadata":{{"access_right":"open",
            "license":{{"id":"CC-BY-4.0"}}}},"files":[{{"key":"data.zip","links":{{"self":"http://z/data.zip"}}}},
            {{"key":"Paper.PDF","checksum":"md5:{MD5}","links":{{"self":"http://z/paper"}}}}]}}"#
        )
    }

    fn hits(total: &str, records: &str) -> String {
        format!(r#"{{"hits":{{"hits":[{records}],"total":{total}}}}}"#)
    }

    fn zenodo() -> Zenodo {
        Zenodo(terms(BASE))
    }

    #[test]
    fn its_own_dois_are_records_and_others_are_searched() {
        assert_eq!(
            asked(&zenodo(), &work("10.5281/zenodo.123")),
            "https://zenodo.org/api/records/123"
        );
        assert_eq!(
            asked(&zenodo(), &work("10.1/a\"b\\")),
            "https://zenodo.org/api/records?q=doi%3A%2210.1%2Fa%5C%22b%5C%5C%22"
        );
        for other in ["10.5281/zenodo.", "10.5281/zenodo.12a"] {
            assert!(asked(&zenodo(), &work(other)).contains("?q="), "{other}");
        }
        assert!(zenodo().ask(&Work::default(), &Step::default()).is_none());
    }

    #[test]
    fn a_pdf_comes_with_its_checksum_and_licence() {
        let said = found(&zenodo(), 200, &record());
        assert_eq!(said.len(), 1);
        assert_eq!(said[0].url.as_str(), "http://z/paper");
        assert_eq!(said[0].md5.as_deref(), Some(MD5));
        assert_eq!(said[0].licence.as_deref(), Some("CC-BY-4.0"));
        assert_eq!(said[0].host_type, Some(HostType::Repository));
    }

    #[test]
    fn files_may_be_an_object_of_entries() {
        let body = |files: &str| {
            format!(
                r#"{{"metadata":{{"rights":[{{"id":"cc0"}}]}},"files":{{"enabled":true,"entries":{files}}}}}"#
            )
        };
        let file = r#"{"key":"a.pdf","links":{"self":"http://z/about","content":"http://z/a"}}"#;
        let nameless = file.replace(r#""key":"a.pdf","#, "");
        for entries in [
            format!(r#"{{"a.pdf":{file}}}"#),
            format!(r#"{{"a.pdf":{nameless}}}"#),
            format!("[{file}]"),
        ] {
            let said = found(&zenodo(), 200, &body(&entries));
            assert_eq!(said[0].url.as_str(), "http://z/a");
            assert_eq!(said[0].licence.as_deref(), Some("cc0"));
        }
        absent(&zenodo(), 200, &body("{}"));
        absent(&zenodo(), 200, r#"{"metadata":{},"files":{"enabled":false}}"#);
    }

    #[test]
    fn only_hits_of_this_doi_count() {
        let (ours, other) = (record(), record().replace("10.1/X", "10.1/y"));
        assert_eq!(found(&zenodo(), 200, &hits("1", &ours)).len(), 1);
        absent(&zenodo(), 200, &hits("1", &other));
        let concept = work("10.5281/zenodo.6");
        let body = hits("1", &other);
        let said = read_step(&zenodo(), &concept, &Step::default(), 200, body.as_bytes());
        assert_eq!(said.map(|said| said.found.len()), Ok(1));
        broken(&zenodo(), 200, &hits("1", r#"{"metadata":{},"files":[]}"#));
    }

    #[test]
    fn one_odd_file_spoils_no_other() {
        let body = r#"{"metadata":{"license":"cc-by"},"files":[3,{"key":"b.pdf","links":{"self":7}},
            {"filename":"a.pdf","links":{"download":"http://z/a"}}]}"#;
        let said = found(&zenodo(), 200, body);
        assert_eq!((said.len(), said[0].licence.as_deref()), (1, Some("cc-by")));
        broken(&zenodo(), 200, r#"{"metadata":{},"files":[{"key":"b.pdf","links":{"self":7}}]}"#);
        broken(&zenodo(), 200, r#"{"metadata":{},"files":"b.pdf"}"#);
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&zenodo(), 404, r#"{"status":404,"message":"PID does not exist."}"#);
        absent(&zenodo(), 410, r#"{"status":"410","message":"removed"}"#);
        absent(&zenodo(), 200, &hits("0", ""));
        absent(&zenodo(), 200, &hits(r#"{"value":0}"#, ""));
        absent(&zenodo(), 200, r#"{"metadata":{"access_right":"open"},"files":[]}"#);
        absent(&zenodo(), 200, &record().replace(r#""open""#, r#""closed""#));
        absent(&zenodo(), 200, r#"{"metadata":{"access_right":"embargoed"}}"#);
        broken(&zenodo(), 404, "<html>");
        broken(&zenodo(), 404, r#"{"message":"x"}"#);
        broken(&zenodo(), 200, &hits("1", ""));
        broken(&zenodo(), 200, r#"{"hits":{"total":0}}"#);
        broken(&zenodo(), 200, "{}");
        broken(&zenodo(), 500, &record());
        refused(&zenodo(), 403, r#"{"status":403}"#);
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&zenodo(), &record());
        never_panics(&zenodo(), &hits("1", &record()));
    }

    #[test]
    fn recorded_pdfs_are_found() {
        let promised = |record: &Value| {
            let files = record["files"].as_array()?.iter();
            let pdfs =
                files.filter(|file| file["key"].as_str().is_some_and(|key| key.ends_with(".pdf")));
            let urls = pdfs.filter_map(|file| file["links"]["self"].as_str().map(str::to_owned));
            let urls: Vec<String> = urls.collect();
            (!urls.is_empty()).then(|| (work(record["doi"].as_str().unwrap_or("10.1/x")), urls))
        };
        reads_recordings(&zenodo(), "zenodo", |recording| {
            let json = recording.json();
            let records = json["hits"]["hits"].as_array().cloned().unwrap_or_else(|| vec![json]);
            records.iter().filter_map(promised).collect()
        });
    }
}
