//! The wire form of a line: the one place of intake that knows serde.
//!
//! One pass over the text finds the fields that the queue reads and remembers the JSON text of each; nothing is
//! copied and no tree is built. Must never look into, change or reorder what belongs to the handler.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::error::{Fault, Problem};
use super::{LineError, Scheme};

/// A field of a line that the queue itself reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    ArtifactId,
    Id,
    Kind,
    Priority,
    RunAt,
    MaxAttempts,
    TimeoutSeconds,
    Retry,
    ResolverHint,
    Resolver,
    Host,
    Tags,
    Doi,
    ArxivId,
    Pmcid,
    Pmid,
    Url,
    PdfUrls,
    Urls,
    OpenAccessUrl,
    LandingUrls,
}

/// Their names, in the order of the enum.
const NAMES: [&str; 21] = [
    "artifact_id",
    "id",
    "kind",
    "priority",
    "run_at",
    "max_attempts",
    "timeout_seconds",
    "retry",
    "resolver_hint",
    "resolver",
    "host",
    "tags",
    "doi",
    "arxiv_id",
    "pmcid",
    "pmid",
    "url",
    "pdf_urls",
    "urls",
    "open_access_url",
    "landing_urls",
];

impl Field {
    pub(super) fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    pub(super) fn from_name(name: &str) -> Option<Field> {
        Some(match name {
            "artifact_id" => Field::ArtifactId,
            "id" => Field::Id,
            "kind" => Field::Kind,
            "priority" => Field::Priority,
            "run_at" => Field::RunAt,
            "max_attempts" => Field::MaxAttempts,
            "timeout_seconds" => Field::TimeoutSeconds,
            "retry" => Field::Retry,
            "resolver_hint" => Field::ResolverHint,
            "resolver" => Field::Resolver,
            "host" => Field::Host,
            "tags" => Field::Tags,
            "doi" => Field::Doi,
            "arxiv_id" => Field::ArxivId,
            "pmcid" => Field::Pmcid,
            "pmid" => Field::Pmid,
            "url" => Field::Url,
            "pdf_urls" => Field::PdfUrls,
            "urls" => Field::Urls,
            "open_access_url" => Field::OpenAccessUrl,
            "landing_urls" => Field::LandingUrls,
            _ => return None,
        })
    }

    pub(super) fn of(scheme: Scheme) -> Field {
        match scheme {
            Scheme::Doi => Field::Doi,
            Scheme::Arxiv => Field::ArxivId,
            Scheme::Pmcid => Field::Pmcid,
            Scheme::Pmid => Field::Pmid,
            Scheme::Url => Field::Url,
        }
    }
}

/// The queue's fields of one JSON object, each as the JSON text it came as. `null` is as good as absent.
#[derive(Debug)]
pub(super) struct Line<'a> {
    object: &'a str,
    values: [Option<&'a str>; NAMES.len()],
}

impl<'a> Line<'a> {
    /// Finds the fields of `object`, which has no white space around it.
    pub(super) fn parse(object: &'a str) -> Result<Line<'a>, Problem> {
        if !object.starts_with('{') {
            return Err(Problem::whole(object, Fault::NotAnObject(type_of(object))));
        }
        let mut json = serde_json::Deserializer::from_str(object);
        let fields = json
            .deserialize_map(FieldsVisitor)
            .and_then(|fields| json.end().map(|()| fields))
            .map_err(|error| syntax(object, &error))?;
        match fields.twice {
            Some((field, value)) => Err(Problem::at(object, value, Fault::Duplicate(field.name()))),
            None => Ok(Line { object, values: fields.values }),
        }
    }

    /// The JSON text of a field that is there and not `null`.
    pub(super) fn value(&self, field: Field) -> Option<&'a str> {
        self.values[field as usize]
    }

    /// A field read by `decode`; what is wrong with it is placed at its value.
    pub(super) fn read<T>(
        &self,
        field: Field,
        decode: impl FnOnce(&'a str) -> Result<T, Fault>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.value(field) else { return Ok(None) };
        decode(value).map(Some).map_err(|fault| Problem::at(self.object, value, fault))
    }

    /// `fault` is about the whole line.
    pub(super) fn problem(&self, fault: Fault) -> Problem {
        Problem::whole(self.object, fault)
    }
}

struct Fields<'a> {
    values: [Option<&'a str>; NAMES.len()],
    twice: Option<(Field, &'a str)>,
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields { values: [None; NAMES.len()], twice: None };
        while let Some(FieldName(field)) = map.next_key()? {
            let Some(field) = field else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value::<&RawValue>()?.get();
            let slot = &mut fields.values[field as usize];
            if slot.is_some() {
                fields.twice.get_or_insert((field, value));
            }
            if value != "null" {
                *slot = Some(value);
            }
        }
        Ok(fields)
    }
}

/// A key: one of ours, or the handler's.
struct FieldName(Option<Field>);

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FieldName, D::Error> {
        struct NameVisitor;
        impl Visitor<'_> for NameVisitor {
            type Value = FieldName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, name: &str) -> Result<FieldName, E> {
                Ok(FieldName(Field::from_name(name)))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// The members of an object in order, for the few objects that the queue itself reads.
pub(super) struct Members<'a>(pub(super) Vec<(String, &'a str)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members<'de>, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key()? {
                    members.push((name, map.next_value::<&RawValue>()?.get()));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Reads a JSON value as `T`. What `syntax` would call a place is inside the value, so only the words remain.
pub(super) fn decode<'a, T: Deserialize<'a>>(value: &'a str) -> Result<T, Fault> {
    serde_json::from_str(value).map_err(|error| Fault::Json(words(&error)))
}

/// The text of a JSON string; `None` when the value is none.
pub(super) fn text(value: &str) -> Result<Option<Cow<'_, str>>, Fault> {
    let Some(inside) = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')) else {
        return Ok(None);
    };
    if inside.contains('\\') {
        decode::<String>(value).map(|text| Some(Cow::Owned(text)))
    } else {
        Ok(Some(Cow::Borrowed(inside)))
    }
}

/// What a JSON value is, by its first character.
pub(super) fn type_of(value: &str) -> &'static str {
    match value.bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(_) if matches!(value, "true" | "false") => "true or false",
        Some(_) if value == "null" => "null",
        Some(_) => "other text",
        None => "nothing",
    }
}

/// The first string of a JSON array of strings, or the string itself.
pub(super) fn first_text(value: &str) -> Option<String> {
    let inside = value.strip_prefix('[').unwrap_or(value);
    serde_json::Deserializer::from_str(inside).into_iter::<String>().next()?.ok()
}

/// `text` as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether `text` is one JSON value.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// One line of the rejects file.
#[derive(Serialize)]
pub(super) struct RejectLine<'a> {
    file: &'a str,
    line: u64,
    column: u64,
    reason: String,
    text: &'a str,
}

impl<'a> From<&'a LineError> for RejectLine<'a> {
    fn from(error: &'a LineError) -> RejectLine<'a> {
        let LineError { file, line, column, fault, text, .. } = error;
        RejectLine { file, line: *line, column: *column, reason: fault.to_string(), text }
    }
}

fn syntax(object: &str, error: &serde_json::Error) -> Problem {
    let earlier: usize =
        object.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let offset = (earlier + error.column().saturating_sub(1)).min(object.len());
    Problem { fault: Fault::Json(words(error)), offset, len: usize::from(offset < object.len()) }
}

/// The message of `error` without the place, which is said elsewhere.
fn words(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(at) => message[..at].replace("EOF", "the line ends"),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_place() {
        for (index, name) in NAMES.into_iter().enumerate() {
            let field = Field::from_name(name).unwrap();
            assert_eq!((field as usize, field.name()), (index, name));
        }
        for scheme in Scheme::ALL {
            assert_eq!(Field::of(scheme).name(), scheme.field());
        }
        assert_eq!(Field::from_name("title"), None);
    }

    #[test]
    fn fields_are_found_as_the_text_they_came_as() {
        let line = Line::parse(
            r#"{"title":{"doi":"no"},"doi" : "10.1/\u0061" ,"tags":[ "a" ],"k\u0069nd":"noop","url":null,"x":1e999}"#,
        )
        .unwrap();
        assert_eq!(line.value(Field::Doi), Some(r#""10.1/\u0061""#));
        assert_eq!(line.value(Field::Tags), Some(r#"[ "a" ]"#));
        assert_eq!(line.value(Field::Kind), Some(r#""noop""#));
        assert_eq!(line.value(Field::Url), None);
        assert_eq!(line.value(Field::Id), None);
    }

    #[track_caller]
    fn check_syntax(object: &str, message: &str, offset: usize) {
        let problem = Line::parse(object).unwrap_err();
        assert_eq!((problem.fault, problem.offset), (Fault::Json(message.into()), offset));
    }

    #[test]
    fn syntax_errors_point_at_the_place() {
        check_syntax(r#"{"a":}"#, "expected value", 5);
        check_syntax(r#"{"a":1"#, "the line ends while parsing an object", 5);
        check_syntax(r#"{"doi":01}"#, "invalid number", 8);
        check_syntax(r#"{"a":1} {"b":2}"#, "trailing characters", 8);
        check_syntax("{\"a\":1,\n \"b\":x}", "expected value", 13);
        check_syntax("{'a':1}", "key must be a string", 1);
    }

    #[test]
    fn a_field_given_twice_is_found_at_its_second_value() {
        let problem = Line::parse(r#"{"kind":"a","kind":"b","x":1,"x":2}"#).unwrap_err();
        assert_eq!(problem.fault, Fault::Duplicate("kind"));
        assert_eq!((problem.offset, problem.len), (19, 3));
        assert!(Line::parse(r#"{"x":1,"x":2}"#).is_ok(), "the handler's keys are its own");
    }

    #[test]
    fn the_first_text_of_a_list() {
        assert_eq!(first_text(r#"["a","b"]"#).as_deref(), Some("a"));
        assert_eq!(first_text(r#"[ "a\u0062" ]"#).as_deref(), Some("ab"));
        assert_eq!(first_text(r#""a""#).as_deref(), Some("a"));
        for none in ["[]", "[1]", "{}", "7", "[[\"a\"]]"] {
            assert_eq!(first_text(none), None, "{none}");
        }
    }
}
