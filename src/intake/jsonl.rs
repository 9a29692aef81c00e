//! A JSON object becomes a job.
//!
//! The payload is the object's text as it came. Only the queue's own fields are read; an identifier field is
//! looked at only when the id has to be derived from it, because with an explicit id it is the handler's affair.

use crate::job::{ArtifactId, JobSpec, Key, normalise_host, normalise_resolver};
use std::sync::Arc;

use super::error::{Fault, Problem};
use super::line::{Field, Line, first_text, text};
use super::{Kinds, fields};
use crate::job::{Scheme, host_of};

/// JSON's white space (RFC 8259, section 2).
const WHITE_SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// Where a host is looked for when the line names none, in this order.
const URL_FIELDS: [Field; 5] =
    [Field::Url, Field::PdfUrls, Field::Urls, Field::OpenAccessUrl, Field::LandingUrls];

/// The job that one line of JSONL asks for. `given` is its id when something outside the line says it.
pub(super) fn spec(
    line: &str,
    kinds: &Kinds,
    given: Option<ArtifactId>,
) -> Result<JobSpec, Problem> {
    let object = line.trim_matches(WHITE_SPACE);
    let before = line.len() - line.trim_start_matches(WHITE_SPACE).len();
    assemble(object, kinds, given).map_err(|problem| problem.after(before))
}

fn assemble(object: &str, kinds: &Kinds, given: Option<ArtifactId>) -> Result<JobSpec, Problem> {
    let line = Line::parse(object)?;
    let kind = line.read(Field::Kind, |v| kinds.find(&fields::string(Field::Kind, v)?))?;
    Ok(JobSpec {
        artifact_id: given.map_or_else(|| artifact_id(&line), Ok)?,
        kind: kind.unwrap_or_else(|| kinds.default.clone()),
        priority: line.read(Field::Priority, fields::priority)?.unwrap_or_default(),
        run_at: line.read(Field::RunAt, fields::run_at)?,
        max_attempts: line.read(Field::MaxAttempts, |v| fields::count(Field::MaxAttempts, v))?,
        timeout_seconds: line
            .read(Field::TimeoutSeconds, |v| fields::count(Field::TimeoutSeconds, v))?,
        retry: line.read(Field::Retry, fields::retry)?,
        key: key(&line)?,
        tags: line.read(Field::Tags, fields::tags)?.unwrap_or_default(),
        payload: object.to_owned(),
    })
}

/// `artifact_id`, else `id`, else derived. Where both are given, `id` is the handler's.
fn artifact_id(line: &Line<'_>) -> Result<ArtifactId, Problem> {
    let either = [Field::ArtifactId, Field::Id].into_iter().find(|f| line.value(*f).is_some());
    let Some(field) = either else { return derived_id(line) };
    let explicit =
        line.read(field, |v| ArtifactId::new(&fields::string(field, v)?).map_err(Fault::Id))?;
    explicit.ok_or_else(|| line.problem(Fault::NoId))
}

/// From the first identifier field that is there and not blank. A bad one is not passed over: the line would
/// get another name than its author meant.
fn derived_id(line: &Line<'_>) -> Result<ArtifactId, Problem> {
    for scheme in Scheme::ALL {
        let field = Field::of(scheme);
        let id = line.read(field, |value| {
            let written = match scheme {
                Scheme::Pmid => fields::string_or_number(field, value)?,
                _ => fields::string(field, value)?,
            };
            if written.trim().is_empty() {
                return Ok(None);
            }
            let id = scheme.parse(&written)?.artifact_id();
            ArtifactId::new(&id).map(Some).map_err(Fault::DerivedId)
        })?;
        if let Some(id) = id.flatten() {
            return Ok(id);
        }
    }
    Err(line.problem(Fault::NoId))
}

fn key(line: &Line<'_>) -> Result<Key, Problem> {
    let resolver = [Field::ResolverHint, Field::Resolver]
        .into_iter()
        .find(|field| line.value(*field).is_some())
        .map(|f| line.read(f, |v| Ok(normalise_resolver(&fields::string(f, v)?)?)))
        .transpose()?
        .flatten();
    let host = line
        .read(Field::Host, |v| Ok(normalise_host(&fields::string(Field::Host, v)?)?))?
        .or_else(|| URL_FIELDS.into_iter().find_map(|field| url_host(line.value(field)?)));
    Ok(Key { resolver, host })
}

/// The host of a URL, or of the first of a list. One that is no URL is for the handler to complain about.
fn url_host(value: &str) -> Option<Arc<str>> {
    match text(value) {
        Ok(Some(url)) => host_of(&url),
        Ok(None) => host_of(&first_text(value)?),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Kind, Preset, Priority, WallMs};

    fn kinds() -> Kinds {
        let known = ["exec", "fetch", "noop"].map(|name| Kind::new(name).unwrap());
        Kinds::new(known, Kind::fetch())
    }

    fn read(line: &str) -> JobSpec {
        spec(line, &kinds(), None).unwrap_or_else(|problem| panic!("{line}: {problem:?}"))
    }

    #[track_caller]
    fn check_bad(line: &str, offset: usize, words: &str) {
        let problem = spec(line, &kinds(), None).unwrap_err();
        assert!(problem.fault.to_string().contains(words), "{line}: {}", problem.fault);
        assert_eq!(problem.offset, offset, "{line}");
    }

    #[test]
    fn every_field_of_the_queue_is_read() {
        let line = r#"{"artifact_id":" A 1 ","kind":"noop","priority":"low","run_at":"1970-01-01T00:00:01Z",
            "max_attempts":7,"timeout_seconds":9,"retry":"quick","resolver_hint":"Europe-PMC",
            "host":"Example.ORG:80","tags":["x","y"],"sleep_ms":5}"#;
        let expected = JobSpec {
            priority: Priority::Low,
            run_at: Some(WallMs(1_000)),
            max_attempts: Some(7),
            timeout_seconds: Some(9),
            retry: Some(Preset::Quick.policy()),
            key: Key::new(Some("europe_pmc"), Some("example.org")).unwrap(),
            tags: vec!["x".into(), "y".into()],
            ..JobSpec::new("A 1", "noop").unwrap().with_payload(line)
        };
        assert_eq!(read(line), expected);
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let line = r#"{"doi":null,"arxiv_id":"2101.00001","kind":null,"priority":null,"run_at":null,"retry":null,
            "max_attempts":null,"timeout_seconds":null,"host":null,"resolver":null,"tags":null,"id":null}"#;
        let expected = JobSpec::new("arxiv:2101.00001", "fetch").unwrap().with_payload(line);
        assert_eq!(read(line), expected);
    }

    #[test]
    fn the_payload_is_the_text_as_it_came() {
        for object in [
            r#"{ "b" : 1.50 , "a":1e2,"id":"x", "z":"\u00e9\/", "a":2 }"#,
            r#"{"id":"x","n":123456789012345678901234567890,"deep":[[[{}]]]}"#,
        ] {
            assert_eq!(read(&format!(" \t{object} \r")).payload, object);
        }
    }

    #[test]
    fn the_id_comes_from_the_first_that_is_there() {
        for (line, id) in [
            (r#"{"artifact_id":"a","id":"b","doi":"10.1234/C"}"#, "a"),
            (r#"{"artifact_id":"a","id":7}"#, "a"),
            (r#"{"id":"DOI:10.1234/ABC"}"#, "DOI:10.1234/ABC"),
            (r#"{"id":"x","doi":"not a doi"}"#, "x"),
            (
                r#"{"url":"https://a.example/","pmid":31452104,"doi":"DOI:10.1234/ABC"}"#,
                "doi:10.1234/abc",
            ),
            (r#"{"url":"https://a.example/","pmid":31452104}"#, "pmid:31452104"),
            (r#"{"pmid":1,"pmcid":"pmc9","doi":" "}"#, "pmcid:PMC9"),
            (r#"{"url":"HTTPS://a.example/#x"}"#, "url:https://a.example/"),
        ] {
            assert_eq!(read(line).artifact_id.as_str(), id, "{line}");
        }
    }

    #[test]
    fn the_host_comes_from_the_first_url() {
        for (line, host) in [
            (r#"{"id":"x","host":"h.example","url":"https://u.example/"}"#, Some("h.example")),
            (
                r#"{"id":"x","pdf_urls":["https://p.example/"],"url":"https://U.example:8443/"}"#,
                Some("u.example"),
            ),
            (
                r#"{"id":"x","urls":["https://s.example/"],"pdf_urls":["https://p.example/","x"]}"#,
                Some("p.example"),
            ),
            (
                r#"{"id":"x","open_access_url":"https://o.example/","urls":["https://s.example/"]}"#,
                Some("s.example"),
            ),
            (
                r#"{"id":"x","landing_urls":["https://l.example/"],"open_access_url":"https://o.example/"}"#,
                Some("o.example"),
            ),
            (r#"{"id":"x","landing_urls":["https:\/\/l.example/"],"urls":[]}"#, Some("l.example")),
            (r#"{"id":"x","url":"file:///etc/passwd","urls":[1]}"#, None),
            (r#"{"id":"x","url":{"a":1}}"#, None),
            (r#"{"doi":"10.1234/abc"}"#, None),
        ] {
            assert_eq!(read(line).key.host.as_deref(), host, "{line}");
        }
        assert_eq!(
            read(r#"{"id":"x","resolver":"b","resolver_hint":"a"}"#).key.resolver.as_deref(),
            Some("a")
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_placed() {
        check_bad("[1]", 0, "expected a JSON object on one line, found an array");
        check_bad("hello", 0, "found other text");
        check_bad(r#" {"id":"x","a":}"#, 15, "not valid JSON: expected value");
        check_bad("{}", 0, "no artifact_id, and none of");
        check_bad(r#"{"title":"x","doi":null}"#, 0, "no artifact_id");
        check_bad(r#"{"id":7}"#, 6, "id must be a string, not a number (put it in quotes)");
        check_bad(r#"{"id":""}"#, 6, "the artifact id is empty");
        check_bad(r#"{"id":"a\u0007b"}"#, 6, "control character (U+0007)");
        check_bad(r#"{"id":"\ud800"}"#, 6, "not valid JSON");
        check_bad(r#"  {"doi":"11.1/x"}"#, 9, "\"11.1/x\" is no DOI");
        check_bad(r#"{"doi":["10.1234/x"]}"#, 7, "doi must be a string, not an array");
        check_bad(r#"{"doi":"10.1234/x","doi":"10.1234/y"}"#, 25, "doi is given twice");
        check_bad(r#"{"pmid":1.5}"#, 8, "\"1.5\" is no PubMed id");
        check_bad(r#"{"url":"ftp://a.example/"}"#, 7, "is no http or https URL");
        check_bad(
            r#"{"id":"x","kind":"fecth"}"#,
            17,
            "expected exec, fetch or noop; did you mean fetch?",
        );
        check_bad(r#"{"id":"x","kind":3}"#, 17, "kind must be a string");
        check_bad(r#"{"id":"x","priority":"urgent"}"#, 21, "\"urgent\" is no priority");
        check_bad(r#"{"id":"x","priority":5}"#, 21, "\"5\" is no priority");
        check_bad(r#"{"id":"x","run_at":"tomorrow"}"#, 19, "run_at must be an RFC 3339 time");
        check_bad(
            r#"{"id":"x","max_attempts":0}"#,
            25,
            "max_attempts must be a whole number from 1",
        );
        check_bad(
            r#"{"id":"x","timeout_seconds":"5"}"#,
            28,
            "timeout_seconds must be a whole number",
        );
        check_bad(r#"{"id":"x","retry":{"base":1}}"#, 18, "retry has no \"base\"");
        check_bad(r#"{"id":"x","host":"a b"}"#, 17, "\"a b\" is not a host name");
        check_bad(r#"{"id":"x","resolver":"a b"}"#, 21, "\"a b\" is not a resolver name");
        check_bad(r#"{"id":"x","tags":"a"}"#, 17, "tags must be a list of strings, not a string");
        let long = format!(r#"{{"url":"https://a.example/{}"}}"#, "x".repeat(3_000));
        check_bad(&long, 7, "give the line an artifact_id of its own");
    }

    #[test]
    fn an_id_from_outside_wins() {
        let given = ArtifactId::new("mine").unwrap();
        let job = spec(r#"{"id":"theirs","doi":"bad"}"#, &kinds(), Some(given)).unwrap();
        assert_eq!(job.artifact_id.as_str(), "mine");
    }
}
