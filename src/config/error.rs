//! What may be wrong with a configuration. Every message says where, what was found and what was expected;
//! none shows a secret.

use std::fmt;
use std::path::PathBuf;

use super::layer::{NamedBy, Origin};

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}{named}: {source}", named = naming(*named_by))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Who named it.
        named_by: NamedBy,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML.
    #[error("{path}:{line}:{column}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// The column, in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: String,
    },
    /// Values that cannot be taken.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// The table of keys and the settings disagree: a fault of orch.
    #[error("the settings do not fit their own table of keys: {0}")]
    Internal(#[source] toml::de::Error),
}

/// One value, or key, that cannot be taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// The key, dotted.
    pub key: String,
    /// Where it stands.
    pub origin: Origin,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a key or a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// There is no such key.
    UnknownKey {
        /// The known key that looks most like it.
        nearest: Option<String>,
    },
    /// Not of the right type, or out of its bounds.
    Value {
        /// The value, fit to be shown.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A chosen name (of a host, a resolver) that is none.
    Name {
        /// Why.
        why: String,
    },
    /// The same key a second time, spelled otherwise.
    Twice {
        /// Where it stands first.
        earlier: Origin,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { key, origin, fault } = self;
        match fault {
            Fault::UnknownKey { nearest: Some(nearest) } => {
                write!(f, "{origin}: there is no key {key}: did you mean {nearest}?")
            }
            Fault::UnknownKey { nearest: None } => write!(f, "{origin}: there is no key {key}"),
            Fault::Value { found, expected } => {
                write!(f, "{origin}: {key} is {found}: expected {expected}")
            }
            Fault::Name { why } => write!(f, "{origin}: {key}: {why}"),
            Fault::Twice { earlier } => {
                write!(f, "{origin}: {key} is given twice: first at {earlier}")
            }
        }
    }
}

fn naming(by: NamedBy) -> &'static str {
    match by {
        NamedBy::Flag => " (--config)",
        NamedBy::Variable => " ($ORCH_CONFIG)",
        NamedBy::Nobody => "",
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}
