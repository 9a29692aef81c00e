//! arXiv: preprints by their arXiv id, most of which need no call at all.
//!
//! The file of an id is at arxiv.org/pdf/{id}. Its API, `GET /api/query?id_list={id}` (info.arxiv.org/help/api), answers an
//! Atom feed with one entry for an id that it knows and none for one that it does not; now and then it gives that empty feed
//! for an id it does know, so it is asked once more before it is believed. It is asked after the file could not be had:
//! one call in three seconds is all that arXiv allows.

use roxmltree::{Document, Node};

use super::loose::children;
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};
use crate::job::Scheme;

/// Its name.
pub(super) const NAME: &str = "arxiv";
/// Where it is.
pub(super) const BASE: &str = "https://export.arxiv.org";

/// How the DOIs begin that arXiv registers for its own ids (info.arxiv.org/help/doi.html), in lower case.
const DOI_PREFIX: &str = "10.48550/arxiv.";
/// The first step, and the last: the same question.
const LAST_STEP: u8 = 1;

/// arXiv.
pub(super) struct Arxiv(pub(super) Terms);

impl Resolver for Arxiv {
    fn known(&self, work: &Work) -> Vec<Candidate> {
        id(work).and_then(|id| pdf(&id, "arXiv id")).into_iter().collect()
    }

    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let id = id(work).filter(|_| step.number <= LAST_STEP)?;
        let mut url = self.0.url(["api", "query"]);
        url.query_pairs_mut().append_pair("id_list", &id);
        Some(Ask::xml(url))
    }

    fn read(&self, work: &Work, step: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        if reply.status != 400 {
            reply.ok()?;
        }
        let text = String::from_utf8_lossy(reply.body);
        let broken = || No::broken("an answer that is no Atom feed");
        let document = Document::parse(&text).map_err(|_| broken())?;
        let feed = Some(document.root_element()).filter(|root| root.tag_name().name() == "feed");
        let feed = feed.ok_or_else(broken)?;
        let entries: Vec<Node<'_, '_>> = children(feed, "entry").collect();
        if let Some(error) = entries.iter().filter_map(|entry| error(*entry)).next() {
            return Err(error);
        }
        reply.ok()?;
        if entries.is_empty() {
            return nothing(feed, step);
        }
        let ours = entries.into_iter().filter(|entry| is_about(*entry, work));
        let found: Vec<Candidate> = ours.flat_map(files).collect();
        // It has no entry without a PDF or its source: without a link it is not understood.
        if found.is_empty() {
            Err(No::broken("no entry of that id with a link to its PDF"))
        } else {
            Ok(Said { found, ..Said::default() })
        }
    }
}

/// The file of an id that is in its normal form.
pub(super) fn pdf(id: &str, evidence: &str) -> Option<Candidate> {
    Candidate::file(&format!("https://arxiv.org/pdf/{id}"), evidence).map(preprint)
}

fn preprint(candidate: Candidate) -> Candidate {
    candidate.with_version(Some("submittedVersion")).with_host_type(Some("repository"))
}

/// The work's arXiv id in its normal form.
fn id(work: &Work) -> Option<Box<str>> {
    let of_doi = || work.doi.as_deref()?.strip_prefix(DOI_PREFIX);
    let text = work.arxiv.as_deref().or_else(of_doi)?;
    Scheme::Arxiv.parse(text).ok().map(|id| id.normal.as_ref().into())
}

/// The id without its version.
fn unversioned(id: &str) -> &str {
    let head = id.trim_end_matches(|c: char| c.is_ascii_digit());
    head.strip_suffix('v').unwrap_or(id)
}

/// A feed without entries.
fn nothing(feed: Node<'_, '_>, step: &Step) -> Result<Said, No> {
    let total = children(feed, "totalResults").next().and_then(|total| total.text());
    if total.is_some_and(|total| total.trim() != "0") {
        return Err(No::broken("a feed that counts entries and has none"));
    }
    if step.number < LAST_STEP {
        return Ok(Said::go_on(Step::new(LAST_STEP, "")));
    }
    Err(No::absent("the id is not in arXiv"))
}

/// Errors come as entries too.
fn error(entry: Node<'_, '_>) -> Option<No> {
    let name = children(entry, "id").next()?.text()?;
    let (_, code) = name.split_once("/api/errors")?;
    // Only this one is about the work: `incorrect_id_format_for_…`.
    Some(match code.contains("id_format") || code.contains("malformed") {
        true => No::absent("the id is none of arXiv's"),
        false => No::broken(format_args!("the service answered an error: {code}")),
    })
}

/// Whether an entry is the paper that was asked for, in whichever version.
fn is_about(entry: Node<'_, '_>, work: &Work) -> bool {
    let theirs = children(entry, "id").next().and_then(|id| id.text());
    let theirs = theirs.and_then(|id| Scheme::Arxiv.parse(id).ok());
    match (theirs, id(work)) {
        (Some(theirs), Some(ours)) => unversioned(&theirs.normal) == unversioned(&ours),
        _ => true,
    }
}

fn files<'a>(entry: Node<'a, 'a>) -> impl Iterator<Item = Candidate> + 'a {
    let licence_link =
        children(entry, "link").find(|link| link.attribute("rel") == Some("license"));
    let licence = licence_link.and_then(|link| link.attribute("href")).or_else(|| {
        ["license", "rights"].into_iter().find_map(|tag| children(entry, tag).next()?.text())
    });
    let links = children(entry, "link").filter(|link| {
        link.attribute("title") == Some("pdf") || link.attribute("type") == Some("application/pdf")
    });
    let files =
        links.filter_map(|link| Candidate::file(link.attribute("href")?, "link[title=pdf]"));
    files.map(move |file| preprint(file).with_licence(licence))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{asked, never_panics, read_step, reads_recordings, terms, work};
    use super::super::{HostType, NoKind, Version};
    use super::*;

    const ENTRY: &str = r#"<entry><id>http://arxiv.org/abs/2101.00001v3</id><title>x &amp; y</title>
        <link href="https://arxiv.org/abs/2101.00001v3" rel="alternate" type="text/html"/>
        <link href="https://arxiv.org/pdf/2101.00001v3" rel="related" type="application/pdf" title="pdf"/>
        <link href="http://creativecommons.org/licenses/by/4.0/" rel="license"/></entry>"#;

    fn feed(total: u8, entries: &str) -> String {
        format!(
            r#"<?xml version='1.0' encoding='UTF-8'?><feed xmlns="http://www.w3.org/2005/Atom"
            xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/"><id>https://arxiv.org/api/q</id>
            <opensearch:totalResults>{total}</opensearch:totalResults>{entries}</feed>"#
        )
    }

    fn arxiv() -> Arxiv {
        Arxiv(terms(BASE))
    }

    fn named(id: &str) -> Work {
        Work { arxiv: Some(id.into()), ..Work::default() }
    }

    fn read(step: u8, status: u16, body: &str) -> Result<Said, NoKind> {
        let step = Step::new(step, "");
        let said = read_step(&arxiv(), &named("2101.00001"), &step, status, body.as_bytes());
        said.map_err(|(kind, _)| kind)
    }

    #[test]
    fn the_file_needs_no_call() {
        let known = |work: &Work| arxiv().known(work).first().map(|it| it.url.to_string());
        assert_eq!(known(&named("2101.00001v2")).unwrap(), "https://arxiv.org/pdf/2101.00001v2");
        assert_eq!(known(&named("cs/0503050")).unwrap(), "https://arxiv.org/pdf/cs/0503050");
        let of_doi = work("10.48550/arxiv.2101.00001");
        assert_eq!(known(&of_doi).unwrap(), "https://arxiv.org/pdf/2101.00001");
        assert_eq!(known(&work("10.1234/2101.00001")), None);
        assert_eq!(known(&work("10.48550/arxiv.no")), None);
        let file = arxiv().known(&of_doi).remove(0);
        assert_eq!(file.version, Some(Version::Submitted));
        assert_eq!(file.host_type, Some(HostType::Repository));
    }

    #[test]
    fn it_is_asked_by_id_and_about_nothing_else() {
        assert_eq!(
            asked(&arxiv(), &named("cs/0503050")),
            "https://export.arxiv.org/api/query?id_list=cs%2F0503050"
        );
        assert!(arxiv().ask(&work("10.1234/x"), &Step::default()).is_none());
        assert!(arxiv().ask(&named("2101.00001"), &Step::new(2, "")).is_none());
    }

    #[test]
    fn an_entry_has_its_file_and_licence() {
        let found = read(0, 200, &feed(1, ENTRY)).unwrap().found;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].url.as_str(), "https://arxiv.org/pdf/2101.00001v3");
        let licence = Some("http://creativecommons.org/licenses/by/4.0/");
        assert_eq!(found[0].licence.as_deref(), licence);
        let other = ENTRY.replace("2101.00001", "2101.00002");
        assert_eq!(read(0, 200, &feed(1, &other)), Err(NoKind::Broken));
    }

    #[test]
    fn an_empty_feed_is_believed_the_second_time() {
        let again = Said::go_on(Step::new(1, ""));
        assert_eq!(read(0, 200, &feed(0, "")), Ok(again));
        assert_eq!(read(1, 200, &feed(0, "")), Err(NoKind::Absent));
        assert_eq!(read(1, 200, &feed(1, "")), Err(NoKind::Broken));
    }

    #[test]
    fn an_error_is_no_paper_and_only_one_of_them_is_absence() {
        let error = |code| {
            feed(
                1,
                &format!(
                    r#"<entry><id>https://arxiv.org/api/errors#{code}</id><link title="pdf"
                href="http://h/x"/></entry>"#
                ),
            )
        };
        for status in [200, 400] {
            let malformed = error("incorrect_id_format_for_abc");
            assert_eq!(read(0, status, &malformed), Err(NoKind::Absent));
            assert_eq!(read(0, status, &error("max_results_too_large")), Err(NoKind::Broken));
        }
        assert_eq!(read(0, 400, &feed(1, ENTRY)), Err(NoKind::Broken));
        assert_eq!(read(0, 400, "Bad Request"), Err(NoKind::Broken));
    }

    #[test]
    fn what_is_no_feed_is_broken() {
        for body in ["", "Rate exceeded.", "<html><body/></html>", "<feed>", "{}"] {
            assert_eq!(read(1, 200, body), Err(NoKind::Broken), "{body}");
        }
        let bomb = r#"<!DOCTYPE feed [<!ENTITY a "aaaa">]><feed>&a;</feed>"#;
        assert_eq!(read(1, 200, bomb), Err(NoKind::Broken));
        assert_eq!(read(1, 200, &"<feed>".repeat(100_000)), Err(NoKind::Broken));
        assert_eq!(read(1, 500, &feed(0, "")), Err(NoKind::Broken));
        assert_eq!(read(1, 403, &feed(0, "")), Err(NoKind::Refused));
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&arxiv(), &feed(1, ENTRY));
    }

    #[test]
    fn recorded_entries_are_found() {
        reads_recordings(&arxiv(), "arxiv", |recording| {
            let text = String::from_utf8_lossy(&recording.body);
            let urls: Vec<&str> =
                text.split('"').filter(|it| it.contains("arxiv.org/pdf/")).collect();
            let promised = urls.into_iter().map(|url| {
                (named(&Scheme::Arxiv.parse(url).unwrap().normal), vec![url.to_owned()])
            });
            promised.collect()
        });
    }
}
