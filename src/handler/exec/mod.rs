//! `exec`: runs a command. Registered only where commands are allowed; here nobody asks again.
//!
//! | field | meaning |
//! |---|---|
//! | `command` | a list of strings: a program, found as by execvp(3), and its arguments |
//! | `shell` | a string, run as `/bin/sh -c`; exactly one of the two |
//! | `stdin` | a string for it to read; absent: nothing |
//! | `env` | a map of strings, added to orch's own environment |
//! | `cwd` | where it runs; absent: where orch runs |
//!
//! It inherits orch's environment whole, credentials of orch that are in it included: who may have commands run may
//! read it anyway. Added are `ORCH_ARTIFACT_ID`, `ORCH_JOB_ID` (the row's number), `ORCH_ATTEMPT` (1 for the first) and
//! `ORCH_FENCE` (the lease's epoch: of two attempts the later has the higher). They win over `env`.
//!
//! | it ends | the job |
//! |---|---|
//! | with status 0 | is done |
//! | with status 75 (`EX_TEMPFAIL` of sysexits.h) | is tried again, reason `exit_status` |
//! | by SIGHUP, SIGINT, SIGKILL or SIGTERM | the same: somebody else ended it (a shutdown, the OOM killer) |
//! | with another status, or by another signal | ends in error, reason `exit_status` |
//! | because it was cancelled, however it then ends | is tried again, reason `deadline` or `internal` |
//! | before it began: no such program or directory, not allowed | ends in error, reason `bad_payload` |
//! | before it began: no process, memory or descriptor to be had | is tried again, reason `internal` |
//! | before it began: no room on the disk to record it | is handed back, and the run ends |
//!
//! The command leads a process group of its own (see [`crate::process`]). Cancelled, the group gets SIGTERM, and SIGKILL
//! two seconds later. As soon as the leader has exited, whatever is left of its group is killed: no command outlives its
//! job, in the background or otherwise, and nobody is waited for who merely holds its output open.
//!
//! Standard output and error are one pipe, so they stay in the order they were written; the last 64 KiB are kept:
//!
//! ```text
//!   {"exit_status":3,"signal":null,"output":"…","output_bytes":70000,"truncated":true}
//! ```
//!
//! A command that succeeds without a word leaves no such particulars.
//!
//! Must never sleep or block other than in `poll`, and never leave a process behind.

mod output;
mod payload;
mod pump;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::Signal;
use serde::Serialize;

use super::{Context, Handler, MachineFault, Ran};
use crate::job::{ErrorReason, Outcome};
use crate::process::{Group, Launch, LaunchError};
use output::{Tail, last_line};
use payload::Task;
use pump::{Feed, Finished, Pump};

/// "Temporary failure; the user is invited to retry": `EX_TEMPFAIL` of sysexits.h.
const EX_TEMPFAIL: i32 = 75;

/// The handler of kind `exec`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exec;

impl Handler for Exec {
    fn run(&self, context: &mut Context<'_>) -> Ran {
        match Task::of(context) {
            Ok(task) => attempt(&task, context).into(),
            Err(error) => Outcome::fail(ErrorReason::BadPayload, error.to_string()).into(),
        }
    }
}

fn attempt(task: &Task, context: &Context<'_>) -> Result<Outcome, MachineFault> {
    if let Some(reason) = context.cancel().reason() {
        return Ok(reason.outcome());
    }
    let pump = match start(task, context) {
        Ok(pump) => pump,
        Err(error) => return not_started(task, &error, context.owner_directory()),
    };
    Ok(match pump.finish(context) {
        Ok(finished) => verdict(&finished),
        Err(error) => {
            Outcome::retry(ErrorReason::Internal, format!("lost sight of the command: {error}"))
        }
    })
}

fn start<'a>(task: &'a Task, context: &Context<'_>) -> Result<Pump<'a>, LaunchError> {
    let (output, writer) = io::pipe().map_err(LaunchError::Prepare)?;
    let (stdin, input) = input(&task.stdin).map_err(LaunchError::Prepare)?;
    let launch = Launch {
        words: &task.words,
        environment: &task.environment,
        directory: task.directory.as_deref(),
        stdin,
        output: writer.into(),
    };
    // Our copies of the command's ends go with the launch, so that we see when everybody has closed theirs.
    let group = Group::start(&launch, context.owner_directory())?;
    Ok(Pump::new(group, output, input))
}

/// What the command reads from, and what has to be written to it.
fn input(text: &str) -> io::Result<(OwnedFd, Option<Feed<'_>>)> {
    if text.is_empty() {
        return Ok((File::open("/dev/null")?.into(), None));
    }
    let (reader, writer) = io::pipe()?;
    // Blocks the command when it is empty, but not us when it is full.
    rustix::io::ioctl_fionbio(&writer, true)?;
    Ok((reader.into(), Some(Feed { pipe: writer, rest: text.as_bytes() })))
}

/// Whether the line is to blame, this machine, or the moment.
fn not_started(
    task: &Task,
    error: &LaunchError,
    owner_directory: Option<&Path>,
) -> Result<Outcome, MachineFault> {
    let full = |cause| owner_directory.and_then(|at| MachineFault::of_full_disk(at, cause));
    let message = match error {
        LaunchError::Directory(cause) if will_not_pass(cause) => {
            let directory = task.directory.as_deref().unwrap_or(Path::new("."));
            format!("cwd: cannot run in {}: {cause}", directory.display())
        }
        LaunchError::Execute(cause) if will_not_pass(cause) => {
            let program = task.words.first().map_or("", String::as_str);
            format!("command: cannot run {program:?}: {cause}")
        }
        LaunchError::Prepare(cause) if let Some(fault) = full(cause) => return Err(fault),
        error => return Ok(Outcome::retry(ErrorReason::Internal, error.to_string())),
    };
    Ok(Outcome::fail(ErrorReason::BadPayload, message))
}

/// Whether execve(2) or chdir(2) would say the same again: the others are want of something, such as memory.
fn will_not_pass(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::NOENT
                | Errno::ACCESS
                | Errno::PERM
                | Errno::NOTDIR
                | Errno::ISDIR
                | Errno::NOEXEC
                | Errno::LOOP
                | Errno::NAMETOOLONG
                | Errno::TOOBIG
                | Errno::INVAL
        )
    )
}

fn verdict(finished: &Finished) -> Outcome {
    let Finished { status, cancelled, output } = finished;
    let text = output.text();
    let outcome = match cancelled {
        Some(reason) => reason.outcome(),
        None => judge(*status, &text),
    };
    let says_nothing = output.total_bytes() == 0 && status.success();
    if says_nothing { outcome } else { with_detail(outcome, detail(*status, output, &text)) }
}

fn judge(status: ExitStatus, output: &str) -> Outcome {
    let say = |what: String| match last_line(output) {
        Some(line) => format!("{what}: {line}"),
        None => what,
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::done(),
        (Some(EX_TEMPFAIL), _) => {
            Outcome::retry(ErrorReason::ExitStatus, say(format!("exit status {EX_TEMPFAIL}")))
        }
        (Some(code), _) => {
            Outcome::fail(ErrorReason::ExitStatus, say(format!("exit status {code}")))
        }
        (None, Some(signal)) if is_sent_by_others(signal) => {
            Outcome::retry(ErrorReason::ExitStatus, say(format!("ended by signal {signal}")))
        }
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            Outcome::fail(ErrorReason::ExitStatus, say(format!("ended by signal {signal}")))
        }
    }
}

/// Whether such a signal comes from somebody who wants the process to end, not from what the process did.
fn is_sent_by_others(signal: i32) -> bool {
    [Signal::HUP, Signal::INT, Signal::KILL, Signal::TERM].iter().any(|s| s.as_raw() == signal)
}

#[derive(Serialize)]
struct Detail<'a> {
    exit_status: Option<i32>,
    signal: Option<i32>,
    output: &'a str,
    output_bytes: u64,
    truncated: bool,
}

fn detail(status: ExitStatus, output: &Tail, text: &str) -> Option<String> {
    let detail = Detail {
        exit_status: status.code(),
        signal: status.signal(),
        output: text,
        output_bytes: output.total_bytes(),
        truncated: output.is_truncated(),
    };
    serde_json::to_string(&detail).ok()
}

fn with_detail(mut outcome: Outcome, detail: Option<String>) -> Outcome {
    match &mut outcome {
        Outcome::Done { note, .. }
        | Outcome::Skipped { note, .. }
        | Outcome::Retry { note, .. }
        | Outcome::Fail { note, .. } => note.detail = detail,
        Outcome::Defer { .. } => {}
    }
    outcome
}
