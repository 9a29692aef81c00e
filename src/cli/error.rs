//! What a command may end with: which exit code, which words, and what to do next.
//!
//! The one place that knows exit codes. Every message names the thing and the place; the hint names the next step.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::bench::BenchError;
use crate::config::ConfigError;
use crate::handler::{FetchSetupError, OffReason};
use crate::intake::{LineError, ReadError, RejectsError};
use crate::job::{IdentifierError, KeyError, SpecError};
use crate::queue::store::StoreError;
use crate::run::RunError;
use crate::telemetry::LogError;

/// How a command ended that did what it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All of it worked.
    Ok,
    /// What was looked at is not as it must be.
    Unfit,
    /// Done, but not all of it worked: lines were rejected, jobs ended in error.
    Partial,
    /// Stopped with work left.
    WorkLeft,
    /// A signal stopped it, in good order: its number.
    Signal(u8),
}

impl Exit {
    /// The code of the process.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Unfit => 1,
            Exit::Partial => 3,
            Exit::WorkLeft => 4,
            Exit::Signal(number) => 128_u8.saturating_add(number),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Settings that cannot be taken.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The argument of `enqueue` is no job.
    #[error(transparent)]
    Job(#[from] Box<LineError>),
    /// An id that cannot be one.
    #[error(transparent)]
    Id(#[from] SpecError),
    /// A text that is no identifier.
    #[error(transparent)]
    Identifier(#[from] IdentifierError),
    /// A resolver that is to be asked and is off.
    #[error("--resolver {name}: {why}")]
    ResolverOff {
        /// Its name.
        name: &'static str,
        /// Why it is off.
        why: OffReason,
    },
    /// Every resolver is off.
    #[error("fetch.resolvers: no resolver is on")]
    NobodyToAsk,
    /// Standard input.
    #[error("cannot read standard input: {source}")]
    Stdin {
        /// What the system said.
        source: io::Error,
    },
    /// A kind that no handler does.
    #[error("--kind {name}: there is no such kind: expected one of {known}")]
    UnknownKind {
        /// What was asked for.
        name: String,
        /// Every kind there is.
        known: String,
    },
    /// The queue.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An input file.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The rejects file.
    #[error(transparent)]
    Rejects(#[from] RejectsError),
    /// Standard output.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// Some other file or directory.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// `create`, `write`, …
        action: &'static str,
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The run could not begin, or could not go on.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Files cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchSetupError),
    /// The log cannot be set up.
    #[error("log.level: {0}")]
    Log(#[from] LogError),
    /// A limit's name.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An argument that names no host or resolver.
    #[error("NAME: {0}")]
    Name(#[source] KeyError),
    /// A burst without a rate.
    #[error("--set {setting}: there is no rate there for a burst to be of")]
    NoRate {
        /// As it was typed.
        setting: String,
    },
    /// The system gave no thread or descriptor.
    #[error("cannot start {what}: {source}")]
    Thread {
        /// What was to be started.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A measurement came to nothing.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// No job of that id.
    #[error("there is no job {id} in {queue}")]
    NoSuchJob {
        /// The id.
        id: String,
        /// The queue's file.
        queue: PathBuf,
    },
}

impl CliError {
    /// The exit code; see `orch --help`.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            CliError::Config(ConfigError::Internal(_)) => 1,
            CliError::Config(_)
            | CliError::Job(_)
            | CliError::Id(_)
            | CliError::Identifier(_)
            | CliError::ResolverOff { .. }
            | CliError::NobodyToAsk
            | CliError::Log(_)
            | CliError::Key(_)
            | CliError::Name(_)
            | CliError::NoRate { .. }
            | CliError::Fetch(FetchSetupError::Client(_) | FetchSetupError::Plan(_))
            | CliError::UnknownKind { .. } => 2,
            CliError::Store(_)
            | CliError::Run(_)
            | CliError::Fetch(FetchSetupError::Out { .. })
            | CliError::Thread { .. }
            | CliError::Stdin { .. }
            | CliError::Read(_)
            | CliError::Rejects(_)
            | CliError::Output(_)
            | CliError::File { .. }
            | CliError::Bench(_)
            | CliError::NoSuchJob { .. } => 1,
        }
    }

    /// Whether nobody reads what it would say: whoever read our output has seen enough.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, CliError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            CliError::Config(error) => config_hint(error),
            CliError::Job(_) => Some(
                "the second argument is one JSON object, in quotes: '{\"url\": \"https://…\"}'"
                    .into(),
            ),
            CliError::Store(error)
            | CliError::Run(RunError::Store(error))
            | CliError::Bench(BenchError::Store(error)) => store_hint(error),
            CliError::Fetch(FetchSetupError::Out { source, .. }) => io_hint(source),
            CliError::Fetch(FetchSetupError::Client(_) | FetchSetupError::Plan(_)) => {
                Some("`orch config show` says where each setting came from".to_owned())
            }
            CliError::Thread { .. } | CliError::Run(RunError::Thread { .. }) => {
                Some("the limits of this account (`ulimit -a`) may be too low".to_owned())
            }
            CliError::Run(RunError::Machine(_)) => Some(
                "make room and run the same command again: the jobs were given back, no attempt is counted"
                    .to_owned(),
            ),
            CliError::Read(error) => read_hint(error),
            CliError::Rejects(_) => Some("name another file with --rejects FILE".into()),
            CliError::File { source, .. } | CliError::Bench(BenchError::Io { source, .. }) => {
                io_hint(source)
            }
            CliError::NoSuchJob { .. } => {
                Some("`orch queue list` names the jobs there are".to_owned())
            }
            CliError::ResolverOff { .. } | CliError::NobodyToAsk => {
                Some("`orch config check` names every resolver that is off, and why".to_owned())
            }
            CliError::Name(_) => Some(
                "`orch queue hosts` lists the names there are; a resolver's goes with --resolver".to_owned(),
            ),
            CliError::NoRate { .. } => Some("set NAME.rate=… before it".to_owned()),
            CliError::Identifier(_) => {
                Some("such as 10.1234/abc, arXiv:2101.00001, PMC123456 or https://…".to_owned())
            }
            CliError::Id(_)
            | CliError::Stdin { .. }
            | CliError::UnknownKind { .. }
            | CliError::Output(_)
            | CliError::Log(_)
            | CliError::Bench(_)
            | CliError::Key(_) => None,
        }
    }
}

fn config_hint(error: &ConfigError) -> Option<String> {
    let hint = match error {
        ConfigError::Unreadable { .. } => {
            "`orch config default > orch.toml` makes one to start from"
        }
        ConfigError::Syntax { .. } => {
            "the file is TOML: `orch config default` prints one with every key"
        }
        ConfigError::Problems(_) => {
            "`orch config default` prints every key with its bounds; `orch config check` checks again"
        }
        ConfigError::Internal(_) => "this is a fault of orch: please report it",
    };
    Some(hint.to_owned())
}

fn store_hint(error: &StoreError) -> Option<String> {
    let hint = match error {
        StoreError::Missing { .. } => {
            "`orch queue import FILE` makes one; or name another with --queue PATH"
        }
        StoreError::NotAQueue { .. } => {
            "name another file with --queue PATH, or move this one out of the way"
        }
        StoreError::TooNew { .. } => "use the orch that made it, or a newer one",
        StoreError::NetworkFilesystem { .. } => {
            "put the queue on a local disk: --queue PATH, or queue.path in the configuration"
        }
        StoreError::Full { .. } => {
            "make room and run the same command again: what was acknowledged is not lost"
        }
        StoreError::Busy { .. } => {
            "another process is writing: try again, or raise queue.timeout_sec"
        }
        StoreError::Io { source, .. } => return io_hint(source),
        StoreError::Sqlite { .. } | StoreError::Corrupt { .. } => {
            "keep a copy of the file with its -wal and -shm beside it before anything else; docs/operations.md says more"
        }
        StoreError::CheckpointTooLarge(_) => return None,
    };
    Some(hint.to_owned())
}

fn read_hint(error: &ReadError) -> Option<String> {
    match error {
        ReadError::Open { source, .. } => io_hint(source),
        ReadError::Read { .. } => {
            Some("what was read before is imported: importing again adds only the rest".to_owned())
        }
        ReadError::Gzip { .. } => Some(
            "what was read before is imported: get the whole file and import it again, it adds only the rest".to_owned(),
        ),
        ReadError::Header { .. } => Some(
            "the first line of CSV names the columns (artifact_id, doi, url, …); --format lines reads a plain list"
                .to_owned(),
        ),
    }
}

fn io_hint(error: &io::Error) -> Option<String> {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "check the spelling of the path, and the directory you are in",
        io::ErrorKind::PermissionDenied => "check who owns it and its mode, or name another place",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file stands where a directory is needed: name another place, or move it out of the way"
        }
        io::ErrorKind::IsADirectory => "that is a directory: name a file",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only: name another place",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room and run the same command again"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}
