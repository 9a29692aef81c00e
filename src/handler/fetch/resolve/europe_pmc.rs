//! Europe PMC: life sciences, by DOI, PMCID or PubMed id.
//!
//! `GET /search?query=DOI:"{doi}"&resultType=core&format=json` (europepmc.org/RestfulWebService). A result lists its full texts
//! with an `availabilityCode`: `OA` is open access, `F` free to read, `S` by subscription. The list may be missing altogether.
//!
//! Its own PDFs (`…?pdf=render`) are tried last: since March 2026 it closes such connections without a byte.

use serde_json::Value;

use super::loose::{Reading, is_about, number, phrase, text};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};
use crate::job::Scheme;

/// Its name.
pub(super) const NAME: &str = "europe_pmc";
/// Where it is.
pub(super) const BASE: &str = "https://www.ebi.ac.uk/europepmc/webservices/rest";

/// Europe PMC.
pub(super) struct EuropePmc(pub(super) Terms);

impl Resolver for EuropePmc {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let query = query(work).filter(|_| step.number == 0)?;
        let mut url = self.0.url(["search"]);
        let mut pairs = url.query_pairs_mut();
        pairs.append_pair("query", &query).append_pair("resultType", "core");
        pairs.append_pair("format", "json");
        drop(pairs);
        Some(Ask::json(url))
    }

    fn read(&self, work: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        let answer: Value = reply.json()?;
        let hits = number(&answer["hitCount"]);
        let hits = hits.ok_or_else(|| No::broken("an answer without a hitCount"))?;
        let mut reading = Reading::default();
        let results = reading.objects(&answer["resultList"]["result"], "result");
        if results.is_empty() && hits > 0 {
            reading.note_odd("resultList");
        }
        let ours = results.into_iter().filter(|(_, it)| is_about(text(&it["doi"]), work));
        let mut texts: Vec<Text<'_>> = Vec::new();
        for (_, result) in ours {
            learn(&mut reading, result, work);
            texts.extend(texts_of(&mut reading, result));
        }
        for turn in [Turn::File, Turn::Page, Turn::Render] {
            texts.iter().filter(|it| it.turn == turn).for_each(|it| reading.found(it.candidate()));
        }
        reading.said("no open full text is known")
    }
}

/// The question, in the query language of europepmc.org/searchsyntax.
fn query(work: &Work) -> Option<String> {
    let doi = work.doi.as_ref().map(|doi| format!("DOI:{}", phrase(doi)));
    let pmcid = || {
        let pmcid = work.pmcid.as_deref()?.split('.').next()?;
        Some(format!("PMCID:{}", phrase(pmcid)))
    };
    let pmid = || work.pmid.as_ref().map(|pmid| format!("EXT_ID:{} AND SRC:MED", phrase(pmid)));
    doi.or_else(pmcid).or_else(pmid)
}

/// Takes in the identifiers of a result that is surely the work: the search may have taken one without a DOI for it.
fn learn(reading: &mut Reading, result: &Value, work: &Work) {
    if work.doi.is_none() || text(&result["doi"]).is_some() {
        reading.learn(Scheme::Doi, &result["doi"]);
        reading.learn(Scheme::Pmid, &result["pmid"]);
        reading.learn(Scheme::Pmcid, &result["pmcid"]);
    }
}

/// In which turn a text is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    File,
    Page,
    /// A PDF that Europe PMC makes itself.
    Render,
}

/// An open full text.
struct Text<'v> {
    at: String,
    url: &'v str,
    turn: Turn,
    site: Option<&'v str>,
    licence: Option<&'v str>,
    is_manuscript: bool,
}

fn texts_of<'v>(reading: &mut Reading, result: &'v Value) -> Vec<Text<'v>> {
    let list = &result["fullTextUrlList"];
    // The XML form's one list of a list has been seen as either in JSON.
    let list = list.get("fullTextUrl").unwrap_or(list);
    let urls = reading.objects(list, "fullTextUrl").into_iter();
    let open = urls.filter(|(_, it)| matches!(it["availabilityCode"].as_str(), Some("OA" | "F")));
    let texts = open.filter_map(|(at, it)| {
        let url = reading.text(&it["url"], &at)?;
        let turn = match it["documentStyle"].as_str()? {
            "pdf" if url.contains("pdf=render") => Turn::Render,
            "pdf" => Turn::File,
            "html" => Turn::Page,
            _ => return None,
        };
        let licence = result["license"].as_str();
        let is_manuscript = result["authMan"] == "Y" || result["epmcAuthMan"] == "Y";
        Some(Text { at, url, turn, site: it["site"].as_str(), licence, is_manuscript })
    });
    texts.collect()
}

impl Text<'_> {
    fn candidate(&self) -> Option<Candidate> {
        let found = match self.turn {
            Turn::Page => Candidate::page(self.url, self.at.as_str()),
            Turn::File | Turn::Render => Candidate::file(self.url, self.at.as_str()),
        };
        let in_archive = matches!(self.site, Some("Europe_PMC" | "PubMedCentral"));
        // What it says of manuscripts is true of the archive's copy only.
        let version = Some("acceptedVersion").filter(|_| in_archive && self.is_manuscript);
        let host = Some("repository").filter(|_| in_archive);
        Some(found?.with_licence(self.licence).with_version(version).with_host_type(host))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        absent, asked, broken, everything, found, learned, never_panics, read_step,
        reads_recordings, terms, work,
    };
    use super::super::{HostType, Leads, NoKind, Version};
    use super::*;

    const BODY: &str = r#"{"hitCount":2,"resultList":{"result":[
        {"doi":"10.1/y","fullTextUrlList":{"fullTextUrl":[{"availabilityCode":"OA","documentStyle":"pdf","url":"http://h/other"}]}},
        {"doi":"10.1/X","license":"cc by","authMan":"Y","fullTextUrlList":{"fullTextUrl":[
            {"availabilityCode":"OA","documentStyle":"pdf","site":"Europe_PMC","url":"https://europepmc.org/articles/PMC1?pdf=render"},
            {"availabilityCode":"OA","documentStyle":"html","site":"PubMedCentral","url":"http://h/page"},
            {"availabilityCode":"S","documentStyle":"pdf","url":"http://h/closed"},
            {"availabilityCode":"OA","documentStyle":"doi","url":"http://h/doi"},
            {"availabilityCode":"F","documentStyle":"pdf","site":"Unpaywall","url":"http://h/free.pdf"}]}}]}}"#;

    fn europe_pmc() -> EuropePmc {
        EuropePmc(terms(BASE))
    }

    #[test]
    fn it_is_asked_by_doi_or_else_by_the_ids_of_pubmed() {
        let query = |work: &Work| {
            let url = europe_pmc().ask(work, &Step::default()).unwrap().url;
            url.query_pairs().next().unwrap().1.into_owned()
        };
        assert_eq!(
            asked(&europe_pmc(), &work("10.1/a(b)\"")),
            "https://www.ebi.ac.uk/europepmc/webservices/rest/search\
             ?query=DOI%3A%2210.1%2Fa%28b%29%5C%22%22&resultType=core&format=json"
        );
        assert_eq!(query(&everything()), r#"DOI:"10.1/x""#);
        let pmcid =
            Work { pmcid: Some("PMC12.3".into()), pmid: Some("1".into()), ..Work::default() };
        assert_eq!(query(&pmcid), r#"PMCID:"PMC12""#);
        let pmid = Work { pmid: Some("1".into()), ..Work::default() };
        assert_eq!(query(&pmid), r#"EXT_ID:"1" AND SRC:MED"#);
        assert!(europe_pmc().ask(&Work::default(), &Step::default()).is_none());
    }

    #[test]
    fn open_texts_of_this_work_count_and_rendered_ones_come_last() {
        let said = found(&europe_pmc(), 200, BODY);
        let urls: Vec<&str> = said.iter().map(|it| it.url.as_str()).collect();
        let rendered = "https://europepmc.org/articles/PMC1?pdf=render";
        assert_eq!(urls, ["http://h/free.pdf", "http://h/page", rendered]);
        assert_eq!((said[0].version, said[0].host_type), (None, None));
        assert_eq!(said[1].leads, Leads::Page);
        assert_eq!(said[2].version, Some(Version::Accepted));
        assert_eq!(said[2].host_type, Some(HostType::Repository));
        assert!(said.iter().all(|it| it.licence.as_deref() == Some("cc by")));
    }

    #[test]
    fn a_result_without_a_doi_is_what_was_asked_for() {
        let body = BODY.replace("10.1/X", "").replace(r#""doi":"","#, "");
        assert_eq!(found(&europe_pmc(), 200, &body).len(), 3);
        let by_id = Work { pmid: Some("1".into()), ..Work::default() };
        let said = read_step(&europe_pmc(), &by_id, &Step::default(), 200, BODY.as_bytes());
        assert_eq!(said.map(|said| said.found.len()), Ok(4));
    }

    #[test]
    fn the_ids_of_a_result_that_is_surely_the_work_are_learned() {
        let body = r#"{"hitCount":1,"resultList":{"result":[
            {"doi":"10.1234/X","pmid":"7","pmcid":"PMC8"}]}}"#;
        let by_doi = work("10.1234/x");
        let by_pmid = Work { pmid: Some("7".into()), ..Work::default() };
        let all = Work { pmcid: Some("PMC8".into()), doi: by_doi.doi.clone(), ..by_pmid.clone() };
        assert_eq!(learned(&europe_pmc(), &by_doi, body), all);
        let without = body.replace(r#""doi":"10.1234/X","#, "");
        assert_eq!(learned(&europe_pmc(), &by_doi, &without), Work::default());
        assert_eq!(learned(&europe_pmc(), &by_pmid, &without), Work { doi: None, ..all });
    }

    #[test]
    fn one_odd_text_spoils_no_other() {
        let body = r#"{"hitCount":"1","resultList":{"result":{"fullTextUrlList":{"fullTextUrl":[3,
            {"availabilityCode":"OA","documentStyle":"pdf","url":7},
            {"availabilityCode":"OA","documentStyle":"pdf","url":"http://h/a"}]}}}}"#;
        assert_eq!(found(&europe_pmc(), 200, body).len(), 1);
        broken(&europe_pmc(), 200, &body.replace(r#""http://h/a""#, "[]"));
    }

    #[test]
    fn absence_needs_its_own_word() {
        absent(&europe_pmc(), 200, r#"{"hitCount":0,"resultList":{"result":[]}}"#);
        absent(&europe_pmc(), 200, r#"{"hitCount":0}"#);
        absent(&europe_pmc(), 200, r#"{"hitCount":1,"resultList":{"result":[{"doi":"10.1/x"}]}}"#);
        absent(&europe_pmc(), 200, r#"{"hitCount":1,"resultList":{"result":[{"doi":"10.1/y"}]}}"#);
        broken(&europe_pmc(), 200, r#"{"hitCount":1,"resultList":{"result":[]}}"#);
        broken(&europe_pmc(), 200, r#"{"errCode":404,"errMsg":"x"}"#);
        broken(&europe_pmc(), 200, r#"{"resultList":{"result":[]}}"#);
        broken(&europe_pmc(), 200, "<responseWrapper><hitCount>0</hitCount></responseWrapper>");
        broken(&europe_pmc(), 404, r#"{"hitCount":0}"#);
        let said = read_step(&europe_pmc(), &work("10.1/x"), &Step::default(), 403, b"");
        assert_eq!(said.unwrap_err().0, NoKind::Refused);
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&europe_pmc(), BODY);
    }

    #[test]
    fn recorded_texts_are_found() {
        reads_recordings(&europe_pmc(), "europepmc", |recording| {
            let json = recording.json();
            let results = json["resultList"]["result"].as_array().cloned().unwrap_or_default();
            let promised = results.iter().filter_map(|result| {
                let texts = result["fullTextUrlList"]["fullTextUrl"].as_array()?.iter();
                let open = texts.filter(|it| {
                    it["documentStyle"] == "pdf"
                        && (it["availabilityCode"] == "OA" || it["availabilityCode"] == "F")
                });
                let urls: Vec<String> =
                    open.filter_map(|it| it["url"].as_str().map(str::to_owned)).collect();
                let doi = result["doi"].as_str()?.to_lowercase();
                (!urls.is_empty()).then(|| (work(&doi), urls))
            });
            promised.collect()
        });
    }
}
