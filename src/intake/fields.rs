//! What each of the queue's fields may hold: JSON text in, the vocabulary of [`crate::job`] out.
//!
//! Every function takes the JSON text of one value and says in a [`Fault`] what is wrong with it.

use std::borrow::Cow;

use crate::job::{MAX_TAGS, Preset, Priority, PriorityError, RetryPolicy, Strategy, WallMs};

use super::error::{Fault, nearest};
use super::line::{Field, Members, decode, text, type_of};
use crate::job::excerpt;

/// What a member of a retry object is when it is absent: as in the preset `standard`.
const RETRY_DEFAULTS: (Strategy, f64, f64, f64) = (Strategy::Exponential, 1.0, 60.0, 0.1);

const RETRY_MEMBERS: [&str; 4] = ["strategy", "base_seconds", "max_seconds", "jitter_fraction"];

/// A string.
pub(super) fn string(field: Field, value: &str) -> Result<Cow<'_, str>, Fault> {
    string_named(field.name(), value)
}

fn string_named<'a>(field: &'static str, value: &'a str) -> Result<Cow<'a, str>, Fault> {
    let found = match type_of(value) {
        "a number" => "a number (put it in quotes)",
        other => other,
    };
    text(value)?.ok_or(Fault::Type { field, expected: "a string", found })
}

/// A string, or a number as its digits: PubMed ids come as either.
pub(super) fn string_or_number(field: Field, value: &str) -> Result<Cow<'_, str>, Fault> {
    match type_of(value) {
        "a number" => Ok(Cow::Borrowed(value)),
        _ => string(field, value),
    }
}

/// A priority by name or by level, 0 to 4.
pub(super) fn priority(value: &str) -> Result<Priority, Fault> {
    let name = text(value)?.unwrap_or(Cow::Borrowed(value));
    name.parse().map_err(|_| Fault::Priority(PriorityError(excerpt(&name))))
}

/// An RFC 3339 time; fractions below a millisecond are dropped.
pub(super) fn run_at(value: &str) -> Result<WallMs, Fault> {
    let time = string(Field::RunAt, value)?;
    match time.trim().parse::<jiff::Timestamp>() {
        Ok(timestamp) => Ok(WallMs(timestamp.as_millisecond())),
        Err(_) => Err(Fault::RunAt(excerpt(&time))),
    }
}

/// A whole number from 1 up, written as one: not `3.0`, not `"3"`.
pub(super) fn count(field: Field, value: &str) -> Result<u32, Fault> {
    let bad = || Fault::Count { field: field.name(), got: excerpt(value) };
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    value.parse().ok().filter(|count| *count >= 1).ok_or_else(bad)
}

/// A preset's name, or an object; members that are absent are as in the preset `standard`, and the maximum is
/// never below the base by default. An object brings no number of attempts: that is `max_attempts` of the line.
pub(super) fn retry(value: &str) -> Result<RetryPolicy, Fault> {
    if let Some(name) = text(value)? {
        let preset = name.parse::<Preset>()?;
        return Ok(preset.policy());
    }
    if type_of(value) != "an object" {
        let expected = "the name of a preset or an object";
        return Err(Fault::Type { field: "retry", expected, found: type_of(value) });
    }
    let (mut strategy, mut base, mut max, mut jitter) =
        (RETRY_DEFAULTS.0, RETRY_DEFAULTS.1, None, RETRY_DEFAULTS.3);
    let mut seen = Vec::new();
    for (name, value) in decode::<Members<'_>>(value)?.0 {
        let member = RETRY_MEMBERS.into_iter().find(|known| *known == name).ok_or_else(|| {
            Fault::RetryMember { name: excerpt(&name), nearest: nearest(&name, RETRY_MEMBERS) }
        })?;
        if seen.contains(&member) {
            return Err(Fault::Duplicate(member));
        }
        seen.push(member);
        match member {
            _ if value == "null" => {}
            "strategy" => strategy = string_named(member, value)?.parse()?,
            "base_seconds" => base = number(member, value)?,
            "max_seconds" => max = Some(number(member, value)?),
            _ => jitter = number(member, value)?,
        }
    }
    let max = max.unwrap_or(RETRY_DEFAULTS.2.max(base));
    Ok(RetryPolicy::from_seconds(strategy, base, max, jitter)?)
}

fn number(field: &'static str, value: &str) -> Result<f64, Fault> {
    let found = type_of(value);
    match value.parse() {
        Ok(number) if found == "a number" => Ok(number),
        _ => Err(Fault::Type { field, expected: "a number", found }),
    }
}

/// A list of strings.
pub(super) fn tags(value: &str) -> Result<Vec<String>, Fault> {
    if type_of(value) != "an array" {
        let expected = "a list of strings";
        return Err(Fault::Type { field: "tags", expected, found: type_of(value) });
    }
    let tags = decode::<Vec<String>>(value).map_err(|fault| match fault {
        Fault::Json(words) if !words.starts_with("invalid type") => Fault::Json(words),
        _ => Fault::Type {
            field: "tags",
            expected: "a list of strings",
            found: "a list of other things",
        },
    })?;
    if tags.len() > MAX_TAGS { Err(Fault::TooManyTags(tags.len())) } else { Ok(tags) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Jitter, RetryError};

    #[test]
    fn a_priority_is_a_name_or_a_level() {
        for good in ["\"high\"", "\"HIGH\"", "1", "\"1\""] {
            assert_eq!(priority(good), Ok(Priority::High), "{good}");
        }
        for bad in ["5", "-1", "1.0", "\"urgent\"", "true", "[1]", "\"\""] {
            assert!(matches!(priority(bad), Err(Fault::Priority(_))), "{bad}");
        }
    }

    #[test]
    fn a_time_needs_its_offset() {
        for (good, ms) in [
            ("\"1970-01-01T00:00:01Z\"", 1_000),
            ("\"1970-01-01t01:00:00.5+01:00\"", 500),
            ("\"1969-12-31T23:59:59-00:00\"", -1_000),
        ] {
            assert_eq!(run_at(good), Ok(WallMs(ms)), "{good}");
        }
        for bad in ["\"2026-01-31T08:00:00\"", "\"2026-02-30T08:00:00Z\"", "\"soon\"", "\"\""] {
            assert!(matches!(run_at(bad), Err(Fault::RunAt(_))), "{bad}");
        }
        assert!(matches!(run_at("1767225600"), Err(Fault::Type { field: "run_at", .. })));
    }

    #[test]
    fn a_count_is_a_whole_number_from_one_up() {
        assert_eq!(count(Field::MaxAttempts, "1"), Ok(1));
        assert_eq!(count(Field::MaxAttempts, "4294967295"), Ok(u32::MAX));
        for bad in ["0", "-1", "1.0", "1e3", "4294967296", "\"3\"", "true", "[]"] {
            assert_eq!(
                count(Field::TimeoutSeconds, bad),
                Err(Fault::Count { field: "timeout_seconds", got: bad.into() })
            );
        }
    }

    #[test]
    fn what_a_retry_object_leaves_out_is_standard() {
        let standard = RetryPolicy { max_attempts: None, ..Preset::Standard.policy() };
        assert_eq!(retry("{}"), Ok(standard));
        assert_eq!(retry(r#"{"base_seconds":null}"#), Ok(standard));
        assert_eq!(retry("\"standard\""), Ok(Preset::Standard.policy()));
        let given =
            r#"{"strategy":"linear","base_seconds":0.5,"max_seconds":2,"jitter_fraction":0}"#;
        let expected = RetryPolicy {
            strategy: Strategy::Linear,
            base_ms: 500,
            max_ms: 2_000,
            jitter: Jitter::Fraction(0.0),
            max_attempts: None,
        };
        assert_eq!(retry(given), Ok(expected));
        assert_eq!(retry(r#"{"base_seconds":90}"#).map(|policy| policy.max_ms), Ok(90_000));
    }

    #[test]
    fn a_bad_retry_names_what_is_wrong() {
        #[track_caller]
        fn check(value: &str, words: &str) {
            let fault = retry(value).unwrap_err().to_string();
            assert!(fault.contains(words), "{value}: {fault}");
        }
        check("\"fast\"", "\"fast\" is no retry preset");
        check("3", "retry must be the name of a preset or an object, not a number");
        check("[]", "not an array");
        check(r#"{"strategy":"expo"}"#, "\"expo\" is no retry strategy");
        check(r#"{"strategy":1}"#, "strategy must be a string");
        check(r#"{"base_seconds":"1"}"#, "base_seconds must be a number, not a string");
        check(r#"{"base_seconds":-1}"#, "base_seconds must be 0 to 315360000, not -1");
        check(r#"{"base_seconds":1e999}"#, "base_seconds");
        check(r#"{"base_seconds":9,"max_seconds":1}"#, "max_seconds");
        check(r#"{"jitter_fraction":1.5}"#, "jitter_fraction must be 0 to 1, not 1.5");
        check(r#"{"jiter_fraction":0}"#, "did you mean jitter_fraction?");
        check(r#"{"max_attempts":3}"#, "retry has no \"max_attempts\"");
        check(r#"{"strategy":"fixed","strategy":"fixed"}"#, "strategy is given twice");
        assert_eq!(retry("\"fast\""), Err(Fault::Retry(RetryError::Preset("fast".into()))));
    }

    #[test]
    fn tags_are_a_bounded_list_of_strings() {
        assert_eq!(tags(r#"["a","\u0062"]"#), Ok(vec!["a".into(), "b".into()]));
        for bad in ["\"a\"", "{}", "[1]", "[\"a\",null]", "[[\"a\"]]"] {
            assert!(matches!(tags(bad), Err(Fault::Type { field: "tags", .. })), "{bad}");
        }
        assert!(matches!(tags(r#"["\ud800"]"#), Err(Fault::Json(_))));
        let list = |n: usize| format!("[{}]", vec!["\"t\""; n].join(","));
        assert_eq!(tags(&list(MAX_TAGS)).map(|tags| tags.len()), Ok(MAX_TAGS));
        assert_eq!(tags(&list(MAX_TAGS + 1)), Err(Fault::TooManyTags(MAX_TAGS + 1)));
    }

    #[test]
    fn strings_are_unescaped_and_numbers_are_not_strings() {
        assert_eq!(string(Field::Doi, r#""a\/b""#).as_deref(), Ok("a/b"));
        assert_eq!(string_or_number(Field::Pmid, "31452104").as_deref(), Ok("31452104"));
        let fault = string(Field::Id, "7").unwrap_err();
        assert_eq!(fault.to_string(), "id must be a string, not a number (put it in quotes)");
    }
}
