//! Starting a command as the leader of a new process group, its record written before it begins.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod portable;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::process::Pid;

use super::record::NameText;

#[cfg(target_os = "linux")]
pub(super) use linux::start;
#[cfg(not(target_os = "linux"))]
pub(super) use portable::start;

/// A command to be started.
pub struct Launch<'a> {
    /// The program, found as by execvp(3) in this process's `PATH`, and its arguments. No text here may contain NUL.
    pub words: &'a [String],
    /// Variables added to this process's environment; their names contain no `=`.
    pub environment: &'a BTreeMap<String, String>,
    /// Where it runs; `None`: where this process does.
    pub directory: Option<&'a Path>,
    /// Its standard input.
    pub stdin: OwnedFd,
    /// Its standard output and standard error.
    pub output: OwnedFd,
}

/// A command could not be started. Nothing of it runs, and no file is left.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// There is no process or descriptor to be had, or the group could not be recorded.
    #[error("the process could not be prepared: {0}")]
    Prepare(#[source] io::Error),
    /// It cannot run in that directory.
    #[error("the directory could not be entered: {0}")]
    Directory(#[source] io::Error),
    /// The program cannot be run.
    #[error("the program could not be run: {0}")]
    Execute(#[source] io::Error),
}

/// Where a command is recorded, and for whom.
#[derive(Clone, Copy)]
pub(super) struct Register<'a> {
    /// The owner's directory.
    pub(super) directory: BorrowedFd<'a>,
    /// The owner: this process.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "nobody takes over elsewhere")
    )]
    pub(super) owner: Pid,
}

/// A command that runs.
pub(super) struct Started {
    /// The leader of its group, to be reaped by this process.
    pub(super) leader: Pid,
    /// The name of the file it left, where it left one.
    pub(super) recorded: Option<NameText>,
}
