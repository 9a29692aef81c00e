//! OpenAIRE: what European repositories report, by DOI.
//!
//! `GET /search/publications?doi={doi}&format=json` (graph.openaire.eu/docs, "Search API"): XML turned into JSON, so that what occurs once is no
//! list, and a text is `{"$": "…"}`. Each result has instances, each of them with web resources; most lead to a page.

use serde_json::Value;

use super::loose::{self, Reading, each, is_pdf, number, text};
use super::{Ask, Candidate, No, Reply, Resolver, Said, Step, Terms, Work};

/// Its name.
pub(super) const NAME: &str = "openaire";
/// Where it is.
pub(super) const BASE: &str = "https://api.openaire.eu";

/// The most pages that are taken of an answer. A work that many repositories report has dozens.
const MAX_PAGES: usize = 5;
/// How deep a web resource is looked into for its URLs. Two suffice for what is documented.
const MAX_DEPTH: usize = 8;

/// OpenAIRE.
pub(super) struct OpenAire(pub(super) Terms);

impl Resolver for OpenAire {
    fn ask(&self, work: &Work, step: &Step) -> Option<Ask> {
        let doi = work.doi.as_deref().filter(|_| step.number == 0)?;
        let mut url = self.0.url(["search", "publications"]);
        url.query_pairs_mut().append_pair("doi", doi).append_pair("format", "json");
        // A personal access token raises the limit (graph.openaire.eu/docs/apis/authentication).
        Some(Ask::json(url).with_key("authorization", "Bearer ", self.0.key.as_ref()))
    }

    fn read(&self, work: &Work, _: &Step, reply: &Reply<'_>) -> Result<Said, No> {
        let body: Value = reply.json()?;
        let response = &body["response"];
        let (Some(_), Some(results)) = (response["header"].as_object(), response.get("results"))
        else {
            return Err(No::broken("an answer without header and results"));
        };
        let total = number(content(&response["header"]["total"]));
        let mut results = each(results).flat_map(|it| each(&it["result"])).peekable();
        if results.peek().is_none() {
            return Err(match total {
                None | Some(0) => No::absent("the DOI is not in OpenAIRE"),
                Some(_) => No::broken("results are counted but not given"),
            });
        }
        let mut reading = Reading::default();
        let mut pages = Vec::new();
        for result in results {
            match &result["metadata"]["oaf:entity"]["oaf:result"] {
                entity @ Value::Object(_) => {
                    if is_about(work, entity) {
                        read_entity(&mut reading, entity, &mut pages);
                    }
                }
                _ => reading.note_odd("oaf:result"),
            }
        }
        pages.into_iter().take(MAX_PAGES).for_each(|page| reading.found(Some(page)));
        reading.said("OpenAIRE names no open copy")
    }
}

/// `{"$": "…"}` as what it holds.
fn content(value: &Value) -> &Value {
    value.get("$").unwrap_or(value)
}

fn instances(entity: &Value) -> impl Iterator<Item = &Value> {
    each(&entity["children"]).flat_map(|children| each(&children["instance"]))
}

fn read_entity(reading: &mut Reading, entity: &Value, pages: &mut Vec<Candidate>) {
    let instances: Vec<_> =
        instances(entity).flat_map(|it| reading.objects(it, "instance")).collect();
    for (at, instance) in instances {
        let licence =
            ["license", "licence"].into_iter().find_map(|at| text(content(&instance[at])));
        let mut urls = Vec::new();
        collect(&instance["webresource"], 0, &mut urls);
        if urls.is_empty() && !instance["webresource"].is_null() {
            reading.note_odd(&at);
        }
        for url in urls {
            if is_pdf(url) {
                let file = Candidate::file(url, "webresource");
                reading.found(file.map(|it| it.with_licence(licence)));
            } else if is_open(instance) {
                let page = Candidate::page(url, "webresource");
                let is_new = |page: &Candidate| pages.iter().all(|known| known.url != page.url);
                pages.extend(page.filter(is_new).map(|it| it.with_licence(licence)));
            }
        }
    }
}

/// All URLs at or below this place.
fn collect<'v>(value: &'v Value, depth: usize, urls: &mut Vec<&'v str>) {
    match value {
        Value::String(text) if text.trim_start().starts_with("http") => urls.push(text),
        Value::Array(elements) if depth < MAX_DEPTH => {
            elements.iter().for_each(|it| collect(it, depth + 1, urls));
        }
        Value::Object(fields) if depth < MAX_DEPTH => {
            fields.values().for_each(|it| collect(it, depth + 1, urls));
        }
        _ => {}
    }
}

fn is_open(instance: &Value) -> bool {
    each(&instance["accessright"]).any(|right| {
        ["@classid", "@classname", "$"].into_iter().filter_map(|at| text(&right[at])).any(|name| {
            ["open", "open access", "open source"].contains(&name.to_ascii_lowercase().as_str())
        })
    })
}

/// Whether the result is the work that is wanted, as far as it says. One result may stand for several versions, each with a DOI.
fn is_about(work: &Work, entity: &Value) -> bool {
    let is_doi_of =
        |it: &&Value| text(&it["@classid"]).is_some_and(|of| of.eq_ignore_ascii_case("doi"));
    let of_instances =
        instances(entity).flat_map(|it| each(&it["pid"]).chain(each(&it["alternateidentifier"])));
    let dois = each(&entity["pid"])
        .chain(of_instances)
        .filter(is_doi_of)
        .filter_map(|it| text(content(it)));
    loose::is_about(dois, work)
}

#[cfg(test)]
mod tests {
    use super::super::Leads;
    use super::super::testing::{absent, asked, broken, found, never_panics, refused, terms, work};
    use super::*;

    const ONE: &str = r#"{"response":{"header":{"total":{"$":1}},"results":{"result":{"metadata":{"oaf:entity":{
        "oaf:result":{"pid":{"@classid":"doi","$":"10.1/X"},"children":{"instance":{"accessright":{"@classid":"OPEN"},
        "license":{"$":"CC BY"},"webresource":{"url":{"$":"https://h/a.pdf"}}}}}}}}}}}"#;
    const MANY: &str = r#"{"response":{"header":{"total":{"$":1}},"results":{"result":[{"metadata":{"oaf:entity":{
        "oaf:result":{"pid":[{"@classid":"pmid","$":"7"},{"@classid":"doi","$":"10.1/x"}],"children":{"instance":[
        {"accessright":{"@classid":"OPEN"},"webresource":[{"url":{"$":"https://h/p1"}},{"url":{"$":"https://h/p2"}}]},
        {"accessright":{"@classid":"CLOSED"},"webresource":{"url":{"$":"https://h/closed"}}},
        {"webresource":[{"url":[{"$":"https://h/deep.PDF?x"}]}]}]}}}}}]}}}"#;

    fn openaire() -> OpenAire {
        OpenAire(terms(BASE))
    }

    fn urls(body: &str) -> Vec<(String, Leads)> {
        let said = found(&openaire(), 200, body);
        said.into_iter().map(|it| (it.url.into(), it.leads)).collect()
    }

    #[test]
    fn it_is_asked_by_doi() {
        assert_eq!(
            asked(&openaire(), &work("10.1/x")),
            "https://api.openaire.eu/search/publications?doi=10.1%2Fx&format=json"
        );
        let doi = "10.1/a<b>;[1](2)\"%3c&x=+";
        let ask = openaire().ask(&work(doi), &Step::default()).unwrap();
        assert_eq!(ask.url.query_pairs().next().unwrap().1, doi);
        assert!(openaire().ask(&Work::default(), &Step::default()).is_none());
        assert!(openaire().ask(&work("10.1/x"), &Step::new(1, "")).is_none());
    }

    #[test]
    fn objects_and_lists_are_read_alike() {
        assert_eq!(urls(ONE), [("https://h/a.pdf".to_owned(), Leads::File)]);
        assert_eq!(found(&openaire(), 200, ONE)[0].licence.as_deref(), Some("CC BY"));
        let expected = [
            ("https://h/deep.PDF?x", Leads::File),
            ("https://h/p1", Leads::Page),
            ("https://h/p2", Leads::Page),
        ];
        assert_eq!(urls(MANY), expected.map(|(url, leads)| (url.to_owned(), leads)));
    }

    #[test]
    fn only_so_many_pages_are_taken() {
        let resources: Vec<String> =
            (0..40).map(|n| format!(r#"{{"url":{{"$":"https://h/{n}"}}}}"#)).collect();
        let body = ONE
            .replace(r#"{"url":{"$":"https://h/a.pdf"}}"#, &format!("[{}]", resources.join(",")));
        assert_eq!(urls(&body).len(), MAX_PAGES);
    }

    #[test]
    fn absence_needs_its_own_word() {
        let none =
            r#"{"response":{"header":{"total":{"$":0}},"results":null,"browseResults":null}}"#;
        absent(&openaire(), 200, none);
        absent(&openaire(), 200, &ONE.replace("10.1/X", "10.1/y"));
        absent(&openaire(), 200, &ONE.replace("OPEN", "CLOSED").replace("a.pdf", "a"));
        broken(&openaire(), 200, &none.replace(":0", ":3"));
        broken(&openaire(), 200, r#"{"response":{}}"#);
        broken(&openaire(), 200, r#"{"response":{"header":{},"results":{"result":[{}]}}}"#);
        broken(&openaire(), 200, &ONE.replace(r#"{"$":"https://h/a.pdf"}"#, "7"));
        broken(&openaire(), 200, "<html>");
        broken(&openaire(), 404, none);
        refused(&openaire(), 401, "");
    }

    #[test]
    fn nothing_makes_it_panic() {
        never_panics(&openaire(), ONE);
        never_panics(&openaire(), MANY);
    }
}
