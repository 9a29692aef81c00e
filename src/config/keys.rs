//! The table of keys: what may be set, of which type, within which bounds.
//!
//! One line per key of `config/default.toml`; a test holds the two together.

use toml::Value;

use super::{email, resolvers};
use crate::job::{Preset, normalise_host, normalise_resolver};
use crate::limit::Rate;

/// A day: longer waits for a lock or a byte are slips of the pen.
const DAY_SEC: u64 = 86_400;
/// Ten years: adding it to a date cannot overflow.
const LONGEST_SEC: u64 = 315_360_000;
/// Counts are `u32` everywhere.
const MOST: u64 = u32::MAX as u64;
/// The largest number TOML holds.
const LARGEST: u64 = i64::MAX as u64;

/// One key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Dotted; `<host>`, `<resolver>` and `<tag>` stand for a name the person chooses.
    pub(super) pattern: &'static str,
    pub(super) value: Type,
    /// How much of the value may be shown.
    pub(super) shown: Shown,
}

/// What a value must be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type {
    Bool,
    Whole {
        min: u64,
        max: u64,
    },
    Text(Form),
    /// A list of some of these words, at least one, each once.
    Some(&'static [&'static str]),
    /// A list of names of resolvers, each once.
    Resolvers,
}

/// What a text must look like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Any,
    Path,
    OneOf(&'static [&'static str]),
    Preset,
    Rate,
    /// `http://` or `https://`, to which paths are added; empty where that means "none".
    Base,
    /// `http://`; empty: from the environment.
    Proxy,
    Email,
    /// What an HTTP header may hold.
    Header,
    LogLevel,
}

/// How much of a value may be shown to people and in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Whole,
    /// All but the user and the password of a URL.
    WithoutUserInfo,
    /// Only whether it is set.
    Secret,
}

const fn key(pattern: &'static str, value: Type) -> Key {
    Key { pattern, value, shown: Shown::Whole }
}

const fn at_least(min: u64) -> Type {
    Type::Whole { min, max: MOST }
}

const fn seconds(min: u64) -> Type {
    Type::Whole { min, max: LONGEST_SEC }
}

const fn one_of(words: &'static [&'static str]) -> Type {
    Type::Text(Form::OneOf(words))
}

const UP_TO_A_DAY: Type = Type::Whole { min: 1, max: DAY_SEC };
const RATE: Type = Type::Text(Form::Rate);

/// Every key, in the order in which `config show` prints them.
pub(super) const KEYS: &[Key] = &[
    key("queue.backend", one_of(&["sqlite"])),
    key("queue.path", Type::Text(Form::Path)),
    key("queue.wal_mode", Type::Bool),
    key("queue.timeout_sec", UP_TO_A_DAY),
    key("queue.durability", one_of(&["full", "normal"])),
    key("orchestrator.max_workers", Type::Whole { min: 1, max: 256 }),
    key("orchestrator.max_per_resolver.<resolver>", at_least(1)),
    key("orchestrator.max_per_host", at_least(1)),
    key("orchestrator.lease_ttl_seconds", seconds(30)),
    key("orchestrator.heartbeat_seconds", seconds(5)),
    key("orchestrator.max_job_attempts", at_least(1)),
    key("orchestrator.max_job_losses", at_least(1)),
    key("orchestrator.job_timeout_seconds", seconds(1)),
    key("orchestrator.retry", Type::Text(Form::Preset)),
    key("orchestrator.retry_backoff_seconds", seconds(1)),
    key("orchestrator.retry_backoff_max_seconds", seconds(1)),
    key("orchestrator.jitter_seconds", seconds(0)),
    key("orchestrator.shutdown_seconds", seconds(0)),
    key("limits.host.<host>.max_concurrent", at_least(1)),
    key("limits.host.<host>.rate", RATE),
    key("limits.host.<host>.burst", at_least(1)),
    key("limits.resolver.<resolver>.max_concurrent", at_least(1)),
    key("limits.resolver.<resolver>.rate", RATE),
    key("limits.resolver.<resolver>.burst", at_least(1)),
    key("fetch.out", Type::Text(Form::Path)),
    key("fetch.user_agent", Type::Text(Form::Header)),
    key("fetch.contact_email", Type::Text(Form::Email)),
    key("fetch.resolvers", Type::Resolvers),
    key("fetch.connect_timeout_seconds", UP_TO_A_DAY),
    key("fetch.read_timeout_seconds", UP_TO_A_DAY),
    key("fetch.min_bytes_per_second", at_least(0)),
    key("fetch.max_bytes", Type::Whole { min: 1, max: LARGEST }),
    key("fetch.accept", Type::Some(&["pdf", "html", "xml"])),
    key("fetch.obey_robots", Type::Bool),
    key("fetch.allow_private_addresses", Type::Bool),
    Key { shown: Shown::WithoutUserInfo, ..key("fetch.proxy", Type::Text(Form::Proxy)) },
    key("fetch.ca_file", Type::Text(Form::Any)),
    key("fetch.dedup", Type::Bool),
    key("fetch.order", one_of(&["fixed", "learned"])),
    key("resolvers.<resolver>.enabled", Type::Bool),
    Key {
        shown: Shown::WithoutUserInfo,
        ..key("resolvers.<resolver>.base_url", Type::Text(Form::Base))
    },
    Key { shown: Shown::Secret, ..key("resolvers.<resolver>.api_key", Type::Text(Form::Header)) },
    key("resolvers.<resolver>.max_concurrent", at_least(1)),
    key("resolvers.<resolver>.rate", RATE),
    key("resolvers.<resolver>.burst", at_least(1)),
    key("exec.allow", Type::Bool),
    key("breaker.failures", at_least(1)),
    key("breaker.open_seconds", seconds(1)),
    key("breaker.successes", at_least(1)),
    key("breaker.give_up_seconds", seconds(1)),
    key("schedule.aging_seconds", seconds(0)),
    key("schedule.weights.<tag>", at_least(1)),
    key("log.format", one_of(&["text", "json"])),
    key("log.level", Type::Text(Form::LogLevel)),
];

/// What a path leads to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// A key, by its index in [`KEYS`].
    Leaf(usize, &'static Key),
    /// A table that has keys below it.
    Table,
    Unknown,
}

impl Key {
    pub(super) fn segments(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.pattern.split('.')
    }

    /// The part of the pattern before its first chosen name, if it has one: the table of names.
    pub(super) fn table_of_names(&self) -> Option<&'static str> {
        self.pattern.find(".<").map(|at| &self.pattern[..at])
    }
}

/// Where `path` leads, whatever the names in it are.
pub(super) fn place(path: &[String]) -> Place {
    let follows = |key: &Key| {
        key.segments().zip(path).all(|(segment, name)| segment == name || is_name(segment))
    };
    let mut is_table = false;
    for (index, key) in KEYS.iter().enumerate() {
        let depth = key.segments().count();
        if depth < path.len() || !follows(key) {
            continue;
        }
        if depth == path.len() {
            return Place::Leaf(index, key);
        }
        is_table = true;
    }
    if is_table { Place::Table } else { Place::Unknown }
}

fn is_name(segment: &str) -> bool {
    segment.starts_with('<')
}

/// `path` with the chosen names in the one spelling that limits count by.
///
/// # Errors
/// What was expected of the name.
pub(super) fn normalise(path: &[String]) -> Result<Vec<String>, String> {
    let Some(key) = KEYS.iter().find(|key| {
        key.segments().count() >= path.len()
            && key.segments().zip(path).all(|(segment, name)| segment == name || is_name(segment))
    }) else {
        return Ok(path.to_vec());
    };
    let spelled = key.segments().zip(path).map(|(segment, name)| match segment {
        "<host>" => normalise_host(name).map(|host| host.to_string()).map_err(|e| e.to_string()),
        "<resolver>" => {
            let name = normalise_resolver(name).map_err(|e| e.to_string())?;
            // Limits may be of any name that a line gives; a section is of a resolver there is.
            match path[0].as_str() {
                "resolvers" => resolvers::resolver_named(&name).map(str::to_owned),
                _ => Ok(name.to_string()),
            }
        }
        _ => Ok(name.clone()),
    });
    spelled.collect()
}

/// The known key that looks most like `path`, if one does: a sibling first, then a key of another section.
pub(super) fn nearest(path: &[String]) -> Option<String> {
    let (last, parents) = path.split_last()?;
    let close = |word: &str| {
        let distance = strsim::damerau_levenshtein(&last.to_lowercase(), word);
        let allowed = (last.chars().count() / 3).clamp(1, 4);
        (distance <= allowed).then_some(distance)
    };
    let sibling = |key: &'static Key| {
        let mut segments = key.segments();
        let same_parents = parents
            .iter()
            .all(|name| segments.next().is_some_and(|s| s == name.as_str() || is_name(s)));
        let word = segments.next().filter(|word| same_parents && !is_name(word))?;
        close(word).map(|distance| (distance, dotted(parents, word)))
    };
    let elsewhere = |key: &'static Key| {
        let word = key.segments().last().filter(|word| !is_name(word))?;
        close(word).map(|distance| (distance, key.pattern.to_owned()))
    };
    let best = |found: Vec<(usize, String)>| found.into_iter().min_by_key(|(d, _)| *d);
    best(KEYS.iter().filter_map(sibling).collect())
        .or_else(|| best(KEYS.iter().filter_map(elsewhere).collect()))
        .map(|(_, name)| name)
}

fn dotted(parents: &[String], last: &str) -> String {
    let mut path = parents.to_vec();
    path.push(last.to_owned());
    super::dotted(&path)
}

impl Type {
    /// Whether `value` is of this type and within its bounds.
    ///
    /// # Errors
    /// What was expected.
    pub(super) fn check(self, value: &Value) -> Result<(), String> {
        let fits = match (self, value) {
            (Type::Bool, Value::Boolean(_)) => true,
            (Type::Whole { min, max }, Value::Integer(number)) => match u64::try_from(*number) {
                Ok(number) if number > max => {
                    return Err(format!("a whole number from {min} to {max}"));
                }
                number => number.is_ok_and(|number| number >= min),
            },
            (Type::Text(form), Value::String(text)) => return form.check(text),
            (Type::Some(words), Value::Array(items)) => {
                let known = |item: &Value| item.as_str().is_some_and(|text| words.contains(&text));
                !items.is_empty() && items.iter().all(known) && each_once(items)
            }
            (Type::Resolvers, Value::Array(items)) => {
                let names: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
                match names {
                    Some(names) => return resolvers::check_order(&names),
                    None => false,
                }
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(self.expected()) }
    }

    /// What the value must be, in words.
    pub(super) fn expected(self) -> String {
        match self {
            Type::Bool => "true or false".to_owned(),
            Type::Whole { min, max: MOST | LONGEST_SEC | LARGEST } => {
                format!("a whole number, {min} or more")
            }
            Type::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Type::Text(form) => form.expected(),
            Type::Some(words) => format!("a list of {}: at least one, each once", quoted_or(words)),
            Type::Resolvers => "a list of names of resolvers, each once".to_owned(),
        }
    }
}

impl Form {
    fn check(self, text: &str) -> Result<(), String> {
        let fits = match self {
            Form::Any => true,
            Form::Path => !text.is_empty() && !text.contains('\0'),
            Form::OneOf(words) => words.contains(&text),
            Form::Preset => text.is_empty() || text.parse::<Preset>().is_ok(),
            Form::Rate => return Rate::parse(text).map(drop).map_err(|error| error.to_string()),
            Form::Base => text.is_empty() || is_base(text),
            Form::Proxy => text.is_empty() || is_url(text, &["http"]),
            Form::Email => return email::check(text).map_err(|error| error.to_string()),
            Form::Header => text.chars().all(|c| c == ' ' || c.is_ascii_graphic()),
            Form::LogLevel => is_log_level(text),
        };
        if fits { Ok(()) } else { Err(self.expected()) }
    }

    fn expected(self) -> String {
        match self {
            Form::Any => "a text".to_owned(),
            Form::Path => "a path".to_owned(),
            Form::OneOf(words) => quoted_or(words),
            Form::Preset => {
                let names: Vec<&str> =
                    std::iter::once("").chain(Preset::ALL.map(Preset::name)).collect();
                quoted_or(&names)
            }
            Form::Rate => "a rate: COUNT/TIME, such as \"20/s\", \"1/3s\" or \"100000/day\"".into(),
            Form::Base => "an http:// or https:// URL without query".to_owned(),
            Form::Proxy => "an http:// URL: http://HOST:PORT".to_owned(),
            Form::Email => "an e-mail address".to_owned(),
            Form::Header => "a text of printable ASCII characters".to_owned(),
            Form::LogLevel => format!("{}, or directives such as \"info,orch::run=debug\"", {
                quoted_or(&LOG_LEVELS)
            }),
        }
    }
}

const LOG_LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

fn quoted_or(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    url::Url::parse(text).is_ok_and(|url| schemes.contains(&url.scheme()) && url.host().is_some())
}

/// A URL that paths can be added to.
fn is_base(text: &str) -> bool {
    is_url(text, &["http", "https"]) && !text.contains(['?', '#'])
}

fn each_once(items: &[Value]) -> bool {
    items.iter().enumerate().all(|(index, item)| !items[..index].contains(item))
}

/// A level, or directives whose levels are levels (what stands before `=` is the logger's to judge).
fn is_log_level(text: &str) -> bool {
    text.split(',').all(|directive| {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        LOG_LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level.trim()))
    })
}
