//! Settings: their defaults, their bounds, and where each value came from.
//!
//! ```text
//!   config/default.toml  <  one file  <  ORCH_SECTION__KEY  <  flags        (later wins, key by key)
//!            \               |                |                /
//!             +---- layer: checked, flat values, each with its origin ----+
//!                                     |
//!                        merge, bounds between keys
//!                                     |
//!                     Settings (typed)  +  Entry (key, value, origin)
//! ```
//!
//! Must never read the environment, the home directory or the time by itself: they are passed in
//! ([`Sources`]). The layers are merged by hand on `toml`'s spanned tables, and not by the `config`
//! crate: that one forgets line and column, knows an origin only as a text for the whole file, and
//! drops variables it cannot split, while every value here must say where it came from.

mod email;
mod error;
mod keys;
mod layer;
mod resolvers;
mod settings;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

pub use error::{ConfigError, Fault, Problem};
pub use layer::{NamedBy, Origin};
pub use resolvers::{RESOLVERS, resolver_named};
pub use settings::{
    Accept, Breaker, Durability, Exec, Fetch, KeyLimit, Limits, Log, LogFormat, Orchestrator,
    Order, Queue, Resolver, Schedule, Secret, Settings,
};

use keys::KEYS;
use layer::{Given, Layer};

/// One value per path.
type Merged = BTreeMap<Vec<String>, Given>;

/// The text of `config/default.toml`.
pub const DEFAULT_TOML: &str = include_str!("../../config/default.toml");

/// Where settings are looked for, besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The environment: `ORCH_SECTION__KEY`, and `ORCH_CONFIG`, `XDG_CONFIG_HOME` and `HOME` to find the file.
    pub environment: Vec<(OsString, OsString)>,
    /// Where `./orch.toml` is looked for.
    pub directory: PathBuf,
    /// What the command line sets.
    pub flags: Vec<Flag>,
}

/// A setting given on the command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Flag {
    /// The flag, with its dashes, for messages.
    pub flag: &'static str,
    /// The key it sets, one item per part.
    pub path: Vec<String>,
    /// The value.
    pub value: Value,
}

impl Flag {
    /// `flag` sets `path` to `value`.
    #[must_use]
    pub fn new(flag: &'static str, path: &[&str], value: impl Into<Value>) -> Flag {
        let path = path.iter().map(|&part| part.to_owned()).collect();
        Flag { flag, path, value: value.into() }
    }
}

/// One value in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, dotted; names that TOML would quote are quoted.
    pub key: String,
    /// The value, fit to be shown: a secret is `(set)`.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// Settings, and how they came about.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the program goes by.
    pub settings: Settings,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    entries: Vec<Entry>,
}

impl Config {
    /// Reads all layers.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read, is no TOML, or some layer has values that cannot be taken (all of
    /// them are told).
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        let found =
            layer::find_file(sources.file.as_deref(), &sources.environment, &sources.directory);
        let defaults = defaults()?;
        let mut layers = Vec::new();
        if let Some((path, named_by)) = &found {
            layers.push(read_file(path, &sources.directory, *named_by)?);
        }
        layers.push(layer::read_environment(&sources.environment));
        layers.push(layer::read_flags(&sources.flags));
        Config::merge(defaults, layers, found.map(|(path, _)| path))
    }

    fn merge(
        defaults: Layer,
        layers: Vec<Layer>,
        file: Option<PathBuf>,
    ) -> Result<Config, ConfigError> {
        let by_path = |given: Given| (given.path.clone(), given);
        let mut problems = defaults.problems;
        let defaults: Merged = defaults.given.into_iter().map(by_path).collect();
        let mut merged = defaults.clone();
        for layer in layers {
            problems.extend(layer.problems);
            for given in &layer.given {
                drop_burst_of_earlier_rate(&mut merged, &given.path);
            }
            merged.extend(layer.given.into_iter().map(by_path));
        }
        public_pool_of_crossref(&mut merged, &defaults);
        problems.extend(between_keys(&merged));
        if !problems.is_empty() {
            return Err(ConfigError::Problems(problems));
        }
        let settings = Settings::from_table(nested(&merged)).map_err(ConfigError::Internal)?;
        Ok(Config { settings, file, entries: entries(&merged) })
    }

    /// Every value in force, section by section, in the order of `config/default.toml`.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn defaults() -> Result<Layer, ConfigError> {
    syntax(layer::read_toml(DEFAULT_TOML, None), Path::new("config/default.toml"))
}

fn read_file(path: &Path, directory: &Path, named_by: NamedBy) -> Result<Layer, ConfigError> {
    let text = std::fs::read_to_string(directory.join(path))
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), named_by, source })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    syntax(layer::read_toml(text, Some(path)), path)
}

fn syntax(read: Result<Layer, (usize, usize, String)>, path: &Path) -> Result<Layer, ConfigError> {
    read.map_err(|(line, column, message)| ConfigError::Syntax {
        path: path.to_owned(),
        line,
        column,
        message,
    })
}

/// A rate brings its own burst, or none: the one that an earlier layer gave was meant for another rate.
fn drop_burst_of_earlier_rate(merged: &mut Merged, path: &[String]) {
    if let [section @ .., key] = path
        && key == "rate"
    {
        let mut burst = section.to_vec();
        burst.push("burst".to_owned());
        merged.remove(&burst);
    }
}

/// Without an address where we are reached, Crossref's public pool is ours: 5 requests a second, one at a time (its announcement
/// of December 2025). Only what nobody set to something else than the default gives way to it.
fn public_pool_of_crossref(merged: &mut Merged, defaults: &Merged) {
    let contact = merged.get(&path_of("fetch.contact_email"));
    if contact.and_then(|given| given.value.as_str()).is_some_and(|text| !text.is_empty()) {
        return;
    }
    let terms: [(&str, Value); 2] = [("max_concurrent", 1.into()), ("rate", "5/s".into())];
    for (key, value) in terms {
        let path = path_of(&format!("resolvers.crossref.{key}"));
        let usual = defaults.get(&path).map(|usual| &usual.value);
        if let Some(given) = merged.get_mut(&path).filter(|given| usual == Some(&given.value)) {
            (given.value, given.origin) = (value, Origin::Default);
        }
    }
}

fn path_of(key: &str) -> Vec<String> {
    key.split('.').map(str::to_owned).collect()
}

/// Bounds that hold between two keys.
fn between_keys(merged: &Merged) -> Vec<Problem> {
    let mut problems = Vec::new();
    let given = |key: &str| {
        let given = merged.get(&path_of(key))?;
        Some((given.value.as_integer()?, given))
    };
    let ttl = given("orchestrator.lease_ttl_seconds");
    let heartbeat = given("orchestrator.heartbeat_seconds");
    if let (Some((ttl_sec, ttl)), Some((heartbeat_sec, heartbeat))) = (ttl, heartbeat)
        && ttl_sec < heartbeat_sec.saturating_mul(3)
    {
        // Whoever changed one of the two is told about that one.
        let origin = if ttl.origin == Origin::Default { &heartbeat.origin } else { &ttl.origin };
        problems.push(Problem {
            key: dotted(&ttl.path),
            origin: origin.clone(),
            fault: Fault::Value {
                found: ttl_sec.to_string(),
                expected: format!("at least 3 × orchestrator.heartbeat_seconds ({heartbeat_sec})"),
            },
        });
    }
    problems.extend(merged.values().filter_map(|burst| burst_without_rate(burst, merged)));
    problems
}

/// A burst says nothing without the rate it belongs to.
fn burst_without_rate(burst: &Given, merged: &Merged) -> Option<Problem> {
    let [section @ .., key] = burst.path.as_slice() else { return None };
    if key != "burst" {
        return None;
    }
    let has_rate = |section: &[String]| {
        let rate: Vec<String> = section.iter().cloned().chain(["rate".to_owned()]).collect();
        merged.contains_key(&rate)
    };
    let elsewhere = match section {
        [limits, family, name] if limits == "limits" && family == "resolver" => {
            has_rate(&["resolvers".to_owned(), name.clone()])
        }
        _ => false,
    };
    (!has_rate(section) && !elsewhere).then(|| Problem {
        key: dotted(&burst.path),
        origin: burst.origin.clone(),
        fault: Fault::Value {
            found: burst.value.to_string(),
            expected: "a rate beside it".to_owned(),
        },
    })
}

/// The flat values as the nested table that the settings are read from.
fn nested(merged: &Merged) -> Table {
    let mut root = Table::new();
    for (path, given) in merged {
        insert(&mut root, path, given.value.clone());
    }
    root
}

fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Every value, fit to be shown, in the order of the table of keys; a table of names that has none is `{}`.
fn entries(merged: &Merged) -> Vec<Entry> {
    let entry = |given: &Given| {
        let key = &KEYS[given.key];
        Entry {
            key: dotted(&given.path),
            value: layer::shown(key.shown, &given.value).into_owned(),
            origin: given.origin.clone(),
        }
    };
    let mut entries = Vec::new();
    let mut tables_done: Vec<&str> = Vec::new();
    for (index, key) in KEYS.iter().enumerate() {
        let Some(table) = key.table_of_names() else {
            entries.extend(merged.values().find(|given| given.key == index).map(entry));
            continue;
        };
        if tables_done.contains(&table) {
            continue;
        }
        tables_done.push(table);
        let depth = table.split('.').count();
        let in_table = |given: &&Given| KEYS[given.key].table_of_names() == Some(table);
        let mut given: Vec<&Given> = merged.values().filter(in_table).collect();
        given.sort_by_key(|given| (&given.path[depth], given.key));
        if given.is_empty() {
            entries.push(Entry {
                key: table.to_owned(),
                value: Value::Table(Table::new()),
                origin: Origin::Default,
            });
        }
        entries.extend(given.into_iter().map(entry));
    }
    entries
}

/// A path as TOML would write it: parts that are no bare keys are quoted.
fn dotted(path: &[String]) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let parts = path.iter().map(|part| {
        let is_bare = !part.is_empty() && part.chars().all(bare);
        if is_bare { part.clone() } else { Value::String(part.clone()).to_string() }
    });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests;
