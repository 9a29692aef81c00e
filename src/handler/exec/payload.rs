//! What a line asks to be run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::super::{Context, PayloadError};

/// The shell that runs `shell`.
const SHELL: &str = "/bin/sh";

#[derive(Deserialize)]
struct Wire {
    command: Option<Vec<String>>,
    shell: Option<String>,
    stdin: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<PathBuf>,
}

/// A command to be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// The program and its arguments; not empty.
    pub(super) words: Vec<String>,
    /// What is added to the environment: what the line says, and what orch says of the job, which wins.
    pub(super) environment: BTreeMap<String, String>,
    /// Where it runs; `None`: where orch runs.
    pub(super) directory: Option<PathBuf>,
    /// What it may read; empty: nothing.
    pub(super) stdin: String,
}

/// The line does not say what to run.
#[derive(Debug, thiserror::Error)]
pub(super) enum TaskError {
    #[error(transparent)]
    Payload(#[from] PayloadError),
    #[error("command: missing; expected a list of strings, or shell: a string")]
    Nothing,
    #[error("shell: given beside command; expected one of them")]
    Both,
    #[error("command: empty; expected a program and its arguments")]
    Empty,
    #[error("{0}: has a NUL character, which no program can be given")]
    Nul(&'static str),
    #[error("env: {0:?} cannot name a variable")]
    Variable(String),
}

impl Task {
    /// Reads the payload.
    ///
    /// # Errors
    /// [`TaskError`] naming the field that does not fit.
    pub(super) fn of(context: &Context<'_>) -> Result<Task, TaskError> {
        let wire: Wire = context.payload_as()?;
        let words = match (wire.command, wire.shell) {
            (None, None) => return Err(TaskError::Nothing),
            (Some(_), Some(_)) => return Err(TaskError::Both),
            (Some(words), None) if words.is_empty() => return Err(TaskError::Empty),
            (Some(words), None) => words,
            (None, Some(script)) => vec![SHELL.to_owned(), "-c".to_owned(), script],
        };
        let mut task = Task {
            words,
            environment: wire.env,
            directory: wire.cwd,
            stdin: wire.stdin.unwrap_or_default(),
        };
        task.check_text()?;
        task.environment.extend(of_the_job(context));
        Ok(task)
    }

    fn check_text(&self) -> Result<(), TaskError> {
        let has_nul = |text: &String| text.contains('\0');
        if self.words.iter().any(has_nul) {
            return Err(TaskError::Nul("command"));
        }
        if self.environment.values().any(has_nul) {
            return Err(TaskError::Nul("env"));
        }
        let directory = self.directory.as_deref().map(|path| path.as_os_str().as_encoded_bytes());
        if directory.is_some_and(|path| path.contains(&0)) {
            return Err(TaskError::Nul("cwd"));
        }
        match self.environment.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            Some(name) => Err(TaskError::Variable(name.clone())),
            None => Ok(()),
        }
    }
}

/// What a command is told of its job.
fn of_the_job(context: &Context<'_>) -> [(String, String); 4] {
    let job = context.job();
    [
        ("ORCH_ARTIFACT_ID", job.artifact_id.to_string()),
        ("ORCH_JOB_ID", job.token.job.0.to_string()),
        ("ORCH_ATTEMPT", context.attempt().to_string()),
        ("ORCH_FENCE", job.token.epoch.0.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}
