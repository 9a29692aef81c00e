//! PubMed Central: which article a DOI or PubMed id is there, and its PDF in PMC's public bucket.
//!
//! ```text
//!   convert   {base}/?ids={doi}                        -> the PMCID       (left out when it is known)
//!   list      bucket/?prefix=metadata/PMC123.          -> PMC123.1, PMC123.2: the versions of that article
//!   look      bucket/metadata/PMC123.2.json            -> pdf_url (s3://…?md5=…), license_code
//! ```
//!
//! The bucket holds what PMC may hand on: the open access subset and author manuscripts (pmc.ncbi.nlm.nih.gov/tools/pmcaws).
//! The article pages are never asked for a PDF: they answer robots with a puzzle.

use roxmltree::{Document, Node};
use serde_json::Value;
use url::Url;

use super::loose::{Reading, children, is_about, name, text};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};
use crate::job::Scheme;

/// Its name.
pub(super) const NAME: &str = "pmc";
/// Where its converter of identifiers is.
pub(super) const BASE: &str = "https://www.ncbi.nlm.nih.gov/pmc/utils/idconv/v1.0";

/// The bucket's name.
const BUCKET: &str = "pmc-oa-opendata";
/// Where the bucket is.
const BUCKET_URL: &str = "https://pmc-oa-opendata.s3.amazonaws.com/";
/// How we introduce ourselves to the converter, which asks for a name.
const TOOL: &str = "orch";

const LIST_STEP: u8 = 1;
const LOOK_STEP: u8 = 2;

/// PubMed Central.
pub(super) struct Pmc(pub(super) Terms);

/// What a step is about.
enum Stage<'a> {
    /// Which PMCID is that identifier?
    Convert(&'a str),
    /// Which versions are there of that PMCID?
    List(&'a str),
    /// Where is the PDF, says this object?
    Look(&'a str),
}

impl<'a> Stage<'a> {
    fn of(work: &'a Work, step: &'a Step) -> Option<Stage<'a>> {
        match step.number {
            0 => work
                .pmcid
                .as_deref()
                .map(Stage::List)
                .or_else(|| convertible(work).map(Stage::Convert)),
            LIST_STEP => Some(Stage::List(&step.carried)),
            LOOK_STEP => Some(Stage::Look(&step.carried)),
            _ => None,
        }
    }
}

/// The identifier that the converter is asked about. It takes several, separated by commas, so it cannot be asked about a
/// DOI that has one.
fn convertible(work: &Work) -> Option<&str> {
    work.doi.as_deref().filter(|doi| !doi.contains(',')).or(work.pmid.as_deref())
}

impl Resolver for Pmc {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        match Stage::of(work, step)? {
            Stage::Convert(id) => {
                let mut url = self.0.url([""]);
                let mut pairs = url.query_pairs_mut();
                pairs.append_pair("ids", id).append_pair("format", "json");
                pairs.append_pair("tool", TOOL);
                if let Some(contact) = &self.0.contact {
                    pairs.append_pair("email", contact);
                }
                drop(pairs);
                Some(Ask::json(url))
            }
            Stage::List(pmcid) => {
                let prefix = format!("metadata/{}.", article(pmcid));
                let mut url = Url::parse(BUCKET_URL).ok()?;
                url.query_pairs_mut().append_pair("list-type", "2").append_pair("prefix", &prefix);
                Some(Ask::xml(url))
            }
            Stage::Look(key) => Some(Ask::json(object(key)?)),
        }
    }

    fn read(&self, work: &Work, step: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        match Stage::of(work, step) {
            Some(Stage::Convert(_)) => converted(work, &reply.json()?),
            Some(Stage::List(pmcid)) => {
                let version = newest(&reply.text()?, pmcid)?;
                let key = format!("metadata/{}.{version}.json", article(pmcid));
                Ok(Said::go_on(Step::new(LOOK_STEP, key)))
            }
            Some(Stage::Look(_)) => pdf(&reply.json()?),
            None => Err(No::broken("an answer to no question")),
        }
    }
}

/// A PMCID without its version.
fn article(pmcid: &str) -> &str {
    pmcid.split('.').next().unwrap_or_default()
}

/// Where an object of the bucket is.
fn object(key: &str) -> Option<Url> {
    let mut url = Url::parse(BUCKET_URL).ok()?;
    url.path_segments_mut().ok()?.pop_if_empty().extend(key.split('/'));
    Some(url)
}

/// The PMCID that the converter gives is asked about next.
fn converted(work: &Work, answer: &Value) -> Result<Said, No> {
    let records = Reading::default().objects(&answer["records"], "records");
    let asked = convertible(work);
    let ours = records.into_iter().map(|(_, record)| record).find(|record| {
        name(&record["requested-id"]).as_deref() == asked || is_about(text(&record["doi"]), work)
    });
    let record = ours.ok_or_else(|| No::broken("an answer without a record of the work"))?;
    let mut reading = Reading::default();
    reading.learn(Scheme::Doi, &record["doi"]);
    reading.learn(Scheme::Pmid, &record["pmid"]);
    reading.learn(Scheme::Pmcid, &record["pmcid"]);
    if record["status"] == "error" || record["pmcid"].is_null() {
        return reading.said("the article is not in PMC");
    }
    let pmcid = name(&record["pmcid"])
        .and_then(|text| Some(Scheme::Pmcid.parse(&text).ok()?.normal.into_owned()));
    let pmcid = pmcid.ok_or_else(|| No::broken("an answer with a PMCID that is none"))?;
    Ok(reading.go_on(Step::new(LIST_STEP, pmcid)))
}

/// The version to take of those that a listing of the bucket names: that of `pmcid`, where it has one and it is there, or
/// else the highest.
fn newest(listing: &str, pmcid: &str) -> Result<u32, No> {
    let broken = || No::broken("an answer that is no listing");
    let document = Document::parse(listing).map_err(|_| broken())?;
    let root = document.root_element();
    if root.tag_name().name() != "ListBucketResult" {
        return Err(broken());
    }
    let contents: Vec<Node<'_, '_>> = children(root, "Contents").collect();
    let count = children(root, "KeyCount").next().and_then(|count| count.text());
    if contents.is_empty() && count.is_none_or(|count| count.trim() == "0") {
        return Err(No::absent("PMC may not hand the article on"));
    }
    let keys = contents.iter().filter_map(|it| children(*it, "Key").next()?.text());
    let versions: Vec<u32> = keys.filter_map(|key| version(key.trim(), article(pmcid))).collect();
    let wanted = pmcid.split_once('.').and_then(|(_, version)| version.parse().ok());
    let wanted = wanted.filter(|wanted| versions.contains(wanted));
    let chosen = wanted.or_else(|| versions.iter().copied().max());
    chosen.ok_or_else(|| No::broken("a listing that names no version of the article"))
}

/// The version that `metadata/PMC123.2.json` describes.
fn version(key: &str, article: &str) -> Option<u32> {
    let rest = key.strip_prefix("metadata/")?.strip_prefix(article)?;
    rest.strip_prefix('.')?.strip_suffix(".json")?.parse().ok()
}

/// The PDF that an object's description names.
fn pdf(description: &Value) -> Result<Said, No> {
    if !description.is_object() {
        return Err(No::broken("a description that is no object"));
    }
    let mut reading = Reading::default();
    for (at, text) in reading.texts(&description["pdf_url"], "pdf_url") {
        let file = in_bucket(text, &at).or_else(|| Candidate::file(text, at.as_str()));
        if file.is_none() {
            reading.note_odd(&at);
        }
        let licence =
            description["license_code"].as_str().or_else(|| description["license"].as_str());
        let version = Some("acceptedVersion").filter(|_| description["is_manuscript"] == true);
        reading.found(file.map(|file| {
            file.with_licence(licence).with_version(version).with_host_type(Some("repository"))
        }));
    }
    reading.said("PMC has the article without a PDF")
}

/// The candidate that `s3://pmc-oa-opendata/{key}?md5=…` is.
fn in_bucket(text: &str, at: &str) -> Option<Candidate> {
    let rest = text.strip_prefix("s3://")?.strip_prefix(BUCKET)?.strip_prefix('/')?;
    let (key, query) = rest.split_once('?').unwrap_or((rest, ""));
    let md5 = query.split('&').find_map(|pair| pair.strip_prefix("md5="));
    Some(Candidate::file(object(key)?.as_str(), at)?.with_checksum(md5))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        asked, everything, learned, never_panics, read_step, recordings, terms, work,
    };
    use super::super::{HostType, NoKind, Version};
    use super::*;

    const CONVERTED: &str =
        r#"{"status":"ok","records":[{"doi":"10.1/X","pmid":7,"pmcid":"PMC123"}]}"#;
    const LISTING: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>pmc-oa-opendata</Name><KeyCount>4</KeyCount>
        <Contents><Key>metadata/PMC123.10.json</Key></Contents><Contents><Key>metadata/PMC123.9.json</Key></Contents>
        <Contents><Key>metadata/PMC123.x.json</Key></Contents><Contents><Key/></Contents></ListBucketResult>"#;
    const EMPTY: &str = r#"<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><KeyCount>0</KeyCount></ListBucketResult>"#;
    const MD5: &str = "0123456789abcdef0123456789abcdef";

    fn described() -> String {
        format!(
            r#"{{"pmcid":"PMC123","version":2,"license_code":"CC BY","is_manuscript":false,
            "pdf_url":"s3://pmc-oa-opendata/PMC123.2/PMC123.2.pdf?md5={MD5}"}}"#
        )
    }

    fn pmc() -> Pmc {
        Pmc(terms(BASE))
    }

    fn read(step: u8, carried: &str, body: &str) -> Result<Said, NoKind> {
        let step = Step::new(step, carried);
        read_step(&pmc(), &work("10.1/x"), &step, 200, body.as_bytes()).map_err(|(kind, _)| kind)
    }

    #[test]
    fn the_converter_is_asked_unless_the_pmcid_is_known() {
        assert_eq!(
            asked(&pmc(), &work("10.1/x")),
            "https://www.ncbi.nlm.nih.gov/pmc/utils/idconv/v1.0/?ids=10.1%2Fx&format=json&tool=orch&email=me%40lib.test"
        );
        let list = "https://pmc-oa-opendata.s3.amazonaws.com/?list-type=2&prefix=metadata%2FPMC1.";
        assert_eq!(asked(&pmc(), &everything()), list);
        let versioned = Work { pmcid: Some("PMC1.2".into()), ..Work::default() };
        assert_eq!(asked(&pmc(), &versioned), list);
        let two = Work { pmid: Some("7".into()), ..work("10.1/a,b") };
        assert!(asked(&pmc(), &two).contains("?ids=7&"));
        assert!(pmc().ask(&work("10.1/a,b"), &Step::default()).is_none());
        assert!(pmc().ask(&Work::default(), &Step::default()).is_none());
    }

    #[test]
    fn a_doi_leads_to_a_file_with_its_checksum_in_three_steps() {
        let work = work("10.1/x");
        let next = |step: &Step, body: &str| {
            read_step(&pmc(), &work, step, 200, body.as_bytes()).unwrap().next.unwrap()
        };
        let list = next(&Step::default(), CONVERTED);
        let look = next(&list, LISTING);
        assert_eq!(
            pmc().ask(&work, &look).unwrap().url.as_str(),
            "https://pmc-oa-opendata.s3.amazonaws.com/metadata/PMC123.10.json"
        );
        let said = read_step(&pmc(), &work, &look, 200, described().as_bytes()).unwrap();
        let file = &said.found[0];
        assert_eq!(
            file.url.as_str(),
            "https://pmc-oa-opendata.s3.amazonaws.com/PMC123.2/PMC123.2.pdf"
        );
        assert_eq!((file.md5.as_deref(), file.licence.as_deref()), (Some(MD5), Some("CC BY")));
        assert_eq!((file.version, file.host_type), (None, Some(HostType::Repository)));
        assert!(said.next.is_none());
    }

    #[test]
    fn what_the_converter_tells_besides_is_learned() {
        let body = CONVERTED.replace("10.1/", "10.1234/");
        let by_doi = work("10.1234/x");
        let expected =
            Work { pmid: Some("7".into()), pmcid: Some("PMC123".into()), ..by_doi.clone() };
        assert_eq!(learned(&pmc(), &by_doi, &body), expected);
        let closed = body.replace(r#","pmcid":"PMC123""#, "");
        assert_eq!(learned(&pmc(), &by_doi, &closed), Work { pmcid: None, ..expected });
    }

    #[test]
    fn a_version_that_is_wanted_is_taken_if_it_is_there() {
        let key = |pmcid| read(1, pmcid, LISTING).unwrap().next.unwrap().carried;
        assert_eq!(key("PMC123.9").as_ref(), "metadata/PMC123.9.json");
        assert_eq!(key("PMC123.8").as_ref(), "metadata/PMC123.10.json");
        assert_eq!(read(1, "PMC12", LISTING), Err(NoKind::Broken));
    }

    #[test]
    fn a_manuscript_is_the_accepted_version() {
        let body = described().replace("false", "true");
        assert_eq!(read(2, "k", &body).unwrap().found[0].version, Some(Version::Accepted));
    }

    #[test]
    fn each_step_has_its_own_absence() {
        let error = CONVERTED.replace(r#""pmid":7"#, r#""status":"error""#);
        let without = CONVERTED.replace(r#","pmcid":"PMC123""#, "");
        for (step, carried, body) in [
            (0, "", error.as_str()),
            (0, "", &without),
            (1, "PMC1", EMPTY),
            (2, "k", r#"{"xml_url":"s3://x"}"#),
            (2, "k", r#"{"pdf_url":null}"#),
        ] {
            assert_eq!(read(step, carried, body), Err(NoKind::Absent), "{body}");
        }
    }

    #[test]
    fn what_is_not_understood_is_broken() {
        let foreign = CONVERTED.replace("10.1/X", "10.1/y");
        let no_pmcid = CONVERTED.replace("PMC123", "?");
        let error = "<Error><Code>NoSuchBucket</Code></Error>";
        let miscounted = EMPTY.replace('0', "1");
        for (step, body) in [
            (0, "{}"),
            (0, r#"{"records":[]}"#),
            (0, r#"{"status":"error","message":"x"}"#),
            (0, &foreign),
            (0, &no_pmcid),
            (1, error),
            (1, ""),
            (1, "<ListBucketResult>"),
            (1, &miscounted),
            (2, "[]"),
            (2, r#"{"pdf_url":7}"#),
            (2, r#"{"pdf_url":"s3://elsewhere/PMC1.1.pdf"}"#),
            (3, &described()),
        ] {
            assert_eq!(read(step, "PMC1", body), Err(NoKind::Broken), "{step} {body}");
        }
        let gone = read_step(&pmc(), &work("10.1/x"), &Step::new(2, "k"), 404, error.as_bytes());
        assert_eq!(gone.unwrap_err().0, NoKind::Broken);
    }

    #[test]
    fn nothing_makes_it_panic() {
        for valid in [CONVERTED, LISTING, &described()] {
            never_panics(&pmc(), valid);
        }
    }

    #[test]
    fn recorded_pmcids_go_on_to_the_bucket() {
        for recording in recordings("pmc_idconv") {
            let json = recording.json();
            let record = &json["records"][0];
            let doi = record["doi"].as_str().unwrap_or("10.1234/x").to_lowercase();
            let step = Step::default();
            let said = read_step(&pmc(), &work(&doi), &step, recording.status, &recording.body);
            let next = said.ok().and_then(|said| said.next).map(|next| next.carried.to_string());
            assert_eq!(next.as_deref(), record["pmcid"].as_str(), "{}", recording.file);
        }
    }
}
