//! Reads one layer: a TOML text, the environment, or flags. What comes out is flat: one checked value per
//! key, with where it stands; what does not fit comes out as problems, all of them, not only the first.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::error::{Fault, Problem};
use super::keys::{self, Key, Place, Shown, Type};
use super::{Flag, dotted};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise: `config/default.toml`.
    Default,
    /// A file, with the line and the column (in characters), both from 1.
    File {
        /// The file as it was named.
        path: Arc<Path>,
        /// Its line.
        line: usize,
        /// The column in that line.
        column: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag of the command line.
    Flag {
        /// Its name, with the dashes.
        flag: &'static str,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line, column } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Origin::Environment { variable } => f.write_str(variable),
            Origin::Flag { flag } => f.write_str(flag),
        }
    }
}

/// One value that a layer gives, of the right type and within its bounds.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) path: Vec<String>,
    /// Index in [`keys::KEYS`].
    pub(super) key: usize,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// What a layer comes to.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub(super) given: Vec<Given>,
    pub(super) problems: Vec<Problem>,
}

impl Layer {
    fn problem(&mut self, path: &[String], origin: Origin, fault: Fault) {
        self.problems.push(Problem { key: dotted(path), origin, fault });
    }

    /// Takes a value for `path`, or the problem with it.
    fn leaf(&mut self, path: &[String], (index, key): (usize, &Key), value: Value, at: Origin) {
        let path = match keys::normalise(path) {
            Ok(path) => path,
            Err(why) => return self.problem(path, at, Fault::Name { why }),
        };
        if let Some(earlier) = self.given.iter().find(|given| given.path == path) {
            let earlier = earlier.origin.clone();
            return self.problem(&path, at, Fault::Twice { earlier });
        }
        match key.value.check(&value) {
            Ok(()) => self.given.push(Given { path, key: index, value, origin: at }),
            Err(expected) => {
                let found = shown(key.shown, &value).to_string();
                self.problem(&path, at, Fault::Value { found, expected });
            }
        }
    }

    fn unknown(&mut self, path: &[String], origin: Origin) {
        let nearest = keys::nearest(path);
        self.problem(path, origin, Fault::UnknownKey { nearest });
    }

    fn not_a_table(&mut self, path: &[String], origin: Origin) {
        let fault = Fault::Value { found: "a plain value".into(), expected: "a table".into() };
        self.problem(path, origin, fault);
    }

    /// Walks a table of TOML; `place` says where a span of it stands.
    fn table(
        &mut self,
        path: &mut Vec<String>,
        table: &DeTable<'_>,
        place: &dyn Fn(Range<usize>) -> Origin,
    ) {
        for (name, value) in table {
            path.push(name.get_ref().to_string());
            match (keys::place(path), value.get_ref()) {
                (Place::Leaf(index, key), found) => {
                    self.leaf(path, (index, key), plain(found), place(value.span()));
                }
                (Place::Table, DeValue::Table(inner)) => self.table(path, inner, place),
                (Place::Table, _) => self.not_a_table(path, place(value.span())),
                (Place::Unknown, _) => self.unknown(path, place(name.span())),
            }
            path.pop();
        }
    }
}

/// Reads the text of a configuration file. `None` as `path` means the compiled-in defaults.
///
/// # Errors
/// Line, column (both from 1) and message, when it is no TOML.
pub(super) fn read_toml(text: &str, path: Option<&Path>) -> Result<Layer, (usize, usize, String)> {
    let root = DeTable::parse(text).map_err(|error| {
        let (line, column) = position(text, error.span().map_or(text.len(), |span| span.start));
        // Not the error's own display: that quotes the line, and the line may hold a key.
        (line, column, error.message().to_owned())
    })?;
    let path: Option<Arc<Path>> = path.map(Arc::from);
    let place = |span: Range<usize>| match &path {
        None => Origin::Default,
        Some(path) => {
            let (line, column) = position(text, span.start);
            Origin::File { path: Arc::clone(path), line, column }
        }
    };
    let mut layer = Layer::default();
    layer.table(&mut Vec::new(), root.get_ref(), &place);
    Ok(layer)
}

/// Line and column of a byte offset, both from 1, the column in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Reads `ORCH_SECTION__KEY` variables. Every other variable is none of ours.
///
/// A text is taken as it stands. A number, a switch, a list (`["a", "b"]`, or `a,b`) or a whole table
/// (`ORCH_LIMITS__HOST='{"arxiv.org" = {max_concurrent = 1}}'`) is read as TOML. Names are case-insensitive.
pub(super) fn read_environment(variables: &[(OsString, OsString)]) -> Layer {
    let mut ours: Vec<(&str, &OsStr)> = variables
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?, value.as_os_str())))
        .filter(|(name, _)| name.strip_prefix("ORCH_").is_some_and(|rest| rest.contains("__")))
        .collect();
    ours.sort_unstable();

    let mut layer = Layer::default();
    for (variable, value) in ours {
        let path: Vec<String> =
            variable["ORCH_".len()..].split("__").map(str::to_ascii_lowercase).collect();
        let origin = Origin::Environment { variable: variable.to_owned() };
        match value.to_str() {
            Some(value) => layer.variable(path, value, origin),
            None => {
                let found = "bytes that are not UTF-8".to_owned();
                layer.problem(&path, origin, Fault::Value { found, expected: "UTF-8".into() });
            }
        }
    }
    layer
}

impl Layer {
    fn variable(&mut self, mut path: Vec<String>, text: &str, origin: Origin) {
        match keys::place(&path) {
            Place::Leaf(index, key) => {
                self.leaf(&path, (index, key), scalar(key.value, text), origin);
            }
            Place::Table => match DeValue::parse(text.trim()) {
                Ok(value) => match value.get_ref() {
                    DeValue::Table(table) => self.table(&mut path, table, &|_| origin.clone()),
                    _ => self.not_a_table(&path, origin),
                },
                Err(_) => self.not_a_table(&path, origin),
            },
            Place::Unknown => self.unknown(&path, origin),
        }
    }
}

/// The text of a variable as a value of that type where it can be one, as a text elsewhere.
fn scalar(wanted: Type, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    let as_toml = || DeValue::parse(text.trim()).ok().map(|value| plain(value.get_ref()));
    match wanted {
        Type::Text(_) => as_text(),
        Type::Some(_) | Type::Resolvers if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        Type::Some(_) | Type::Resolvers | Type::Bool | Type::Whole { .. } => {
            as_toml().unwrap_or_else(as_text)
        }
    }
}

/// Reads what the command line sets.
pub(super) fn read_flags(flags: &[Flag]) -> Layer {
    let mut layer = Layer::default();
    for flag in flags {
        let origin = Origin::Flag { flag: flag.flag };
        match keys::place(&flag.path) {
            Place::Leaf(index, key) => {
                layer.leaf(&flag.path, (index, key), flag.value.clone(), origin);
            }
            Place::Table | Place::Unknown => layer.unknown(&flag.path, origin),
        }
    }
    layer
}

/// A parsed value without its spans. A number beyond TOML's range stays a text, and so fits nowhere.
fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Value::String(number.to_string()), Value::Integer),
        DeValue::Float(number) => {
            number.as_str().parse().map_or_else(|_| Value::String(number.to_string()), Value::Float)
        }
        DeValue::Boolean(switch) => Value::Boolean(*switch),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(items) => {
            Value::Array(items.iter().map(|item| plain(item.get_ref())).collect())
        }
        DeValue::Table(table) => Value::Table(
            table.iter().map(|(k, v)| (k.get_ref().to_string(), plain(v.get_ref()))).collect(),
        ),
    }
}

/// The value as it may be shown: secrets as `(set)`, passwords in URLs left out.
pub(super) fn shown(how: Shown, value: &Value) -> Cow<'_, Value> {
    match (how, value) {
        (Shown::Whole, value) => Cow::Borrowed(value),
        (Shown::Secret, Value::String(text)) if text.is_empty() => Cow::Borrowed(value),
        (Shown::Secret, _) => Cow::Owned(Value::String("(set)".to_owned())),
        (Shown::WithoutUserInfo, Value::String(text)) => {
            Cow::Owned(Value::String(without_user_info(text)))
        }
        (Shown::WithoutUserInfo, value) => Cow::Borrowed(value),
    }
}

/// A URL with `***` in place of user and password. Works on what is no URL too, since errors show that.
fn without_user_info(text: &str) -> String {
    let after_scheme = text.find("://").map_or(0, |at| at + 3);
    let authority_end =
        text[after_scheme..].find(['/', '?', '#']).map_or(text.len(), |at| after_scheme + at);
    match text[after_scheme..authority_end].rfind('@') {
        Some(at) => format!("{}***{}", &text[..after_scheme], &text[after_scheme + at..]),
        None => text.to_owned(),
    }
}

/// The file that `sources` lead to, and who named it; the first of: `--config`, `$ORCH_CONFIG`, `./orch.toml`,
/// the user's configuration directory.
pub(super) fn find_file(
    flag: Option<&Path>,
    variables: &[(OsString, OsString)],
    directory: &Path,
) -> Option<(PathBuf, NamedBy)> {
    let variable = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        found.filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    if let Some(path) = flag {
        return Some((path.to_owned(), NamedBy::Flag));
    }
    if let Some(path) = variable("ORCH_CONFIG") {
        return Some((path, NamedBy::Variable));
    }
    let here = Path::new("orch.toml");
    if directory.join(here).is_file() {
        return Some((here.to_owned(), NamedBy::Nobody));
    }
    // The XDG base directory specification: a relative XDG_CONFIG_HOME is to be ignored.
    let base = variable("XDG_CONFIG_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| variable("HOME").map(|home| home.join(".config")))?;
    let users = base.join("orch").join("config.toml");
    users.is_file().then_some((users, NamedBy::Nobody))
}

/// Who named the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedBy {
    /// `--config`.
    Flag,
    /// `$ORCH_CONFIG`.
    Variable,
    /// It was found where one is looked for.
    Nobody,
}
