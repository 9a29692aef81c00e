//! The file that a child leaves before it becomes the command: its name, and both ends of writing it.
//!
//! What runs in the child runs between fork and exec: it must never allocate, take a lock or touch anything but
//! its own stack and what it was handed.

use std::ffi::CStr;
use std::fmt;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

#[cfg(target_os = "linux")]
use super::stat::Stat;

/// Room for the longest name, `group-` and numbers of 10, 20 and 10 digits, and a closing NUL.
const NAME_BYTES: usize = 64;

/// A name as it is written: NUL-terminated.
type NameText = [u8; NAME_BYTES];

/// A process group as its file is named: `group-<pgid>-<start>-<session>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupName {
    /// The group's id, which is its leader's process id.
    pub(super) pgid: Pid,
    /// When the leader started, in clock ticks since boot; 0 where the system does not tell.
    pub(super) start_ticks: u64,
    /// The session the group is in for as long as it exists; 0 where the system does not tell.
    pub(super) session: i32,
}

impl GroupName {
    /// Reads a file name; `None` when it names no group that could be ended.
    pub(super) fn parse(name: &str) -> Option<GroupName> {
        let mut parts = name.strip_prefix("group-")?.split('-');
        let (pgid, start, session) = (parts.next()?, parts.next()?, parts.next()?);
        // kill(2) takes a group of 1 for "everybody", and 0 for its own.
        let pgid = pgid.parse().ok().filter(|pgid| *pgid > 1).and_then(Pid::from_raw)?;
        let name =
            GroupName { pgid, start_ticks: start.parse().ok()?, session: session.parse().ok()? };
        parts.next().is_none().then_some(name)
    }

    /// The name as it is written. Async-signal-safe.
    pub(super) fn text(&self) -> io::Result<NameText> {
        let mut text = [0; NAME_BYTES];
        let (mut room, _nul) = text.split_at_mut(NAME_BYTES - 1);
        write!(room, "{self}")?;
        Ok(text)
    }

    /// The name of the calling process's group. Async-signal-safe.
    ///
    /// # Errors
    /// When it does not lead one, or `/proc` does not say.
    #[cfg(target_os = "linux")]
    fn of_self() -> io::Result<GroupName> {
        let stat = Stat::of_self()?;
        if stat.group != stat.pid {
            return Err(Errno::PERM.into());
        }
        let pgid = Pid::from_raw(stat.group).ok_or(Errno::SRCH)?;
        Ok(GroupName { pgid, start_ticks: stat.start_ticks, session: stat.session })
    }

    /// The name of the calling process's group. Async-signal-safe.
    #[cfg(not(target_os = "linux"))]
    fn of_self() -> io::Result<GroupName> {
        Ok(GroupName { pgid: rustix::process::getpgrp(), start_ticks: 0, session: 0 })
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group-{}-{}-{}", self.pgid, self.start_ticks, self.session)
    }
}

fn as_c_str(text: &NameText) -> io::Result<&CStr> {
    Ok(CStr::from_bytes_until_nul(text).map_err(|_| Errno::NAMETOOLONG)?)
}

/// Creates the file in the child. Async-signal-safe.
///
/// The order matters. A successor looks for files only once the owner is dead, so a child that sees its parent
/// alive after the file is there will be found, and one that sees it dead must not go on.
fn record_self(directory: BorrowedFd<'_>, parent: Pid, told: BorrowedFd<'_>) -> io::Result<()> {
    let text = GroupName::of_self()?.text()?;
    let name = as_c_str(&text)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    drop(rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    let told = match rustix::process::getppid() {
        Some(living) if living == parent => rustix::io::write(told, &text),
        _ => Err(Errno::SRCH),
    };
    if let Err(error) = told {
        let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        return Err(error.into());
    }
    Ok(())
}

/// The parent's end: learns what the child recorded, also when the child then could not become the command.
pub(super) struct Recorder {
    directory: Arc<OwnedFd>,
    told: PipeReader,
}

impl Recorder {
    /// Lets `command` record itself in `directory` before it runs.
    ///
    /// # Errors
    /// When the directory cannot be opened, or no descriptors are left.
    pub(super) fn install(command: &mut Command, directory: &Path) -> io::Result<Recorder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // By descriptor: the child may have changed its directory before it writes.
        let directory = Arc::new(rustix::fs::open(directory, flags, Mode::empty())?);
        let (told, writer) = io::pipe()?;
        rustix::io::ioctl_fionbio(&told, true)?;
        record_before_exec(command, Arc::clone(&directory), writer);
        Ok(Recorder { directory, told })
    }

    /// What was recorded; `None` when the child did not get so far. Asked after the child became the command or failed to.
    pub(super) fn recorded(self) -> Option<Record> {
        let mut text = [0; NAME_BYTES];
        // Not blocking: an empty pipe means that nothing was recorded.
        let length = rustix::io::read(&self.told, &mut text).ok()?;
        (length == NAME_BYTES).then_some(Record { directory: self.directory, text })
    }
}

#[expect(unsafe_code, reason = "nothing else runs code between fork and exec")]
fn record_before_exec(command: &mut Command, directory: Arc<OwnedFd>, told: PipeWriter) {
    let parent = rustix::process::getpid();
    // SAFETY: the closure only makes system calls through rustix and formats into its own stack: it allocates
    // nothing and takes no lock that another thread may have held at the fork.
    unsafe {
        command.pre_exec(move || record_self(directory.as_fd(), parent, told.as_fd()));
    }
}

/// A file that names a group.
pub(super) struct Record {
    directory: Arc<OwnedFd>,
    text: NameText,
}

impl Record {
    /// Removes the file: the group is over. A file that is gone already was removed by a successor.
    pub(super) fn remove(&self) {
        // One that cannot be removed names a group that no longer exists: the successor will see that.
        let _ = as_c_str(&self.text)
            .map(|name| rustix::fs::unlinkat(self.directory.as_fd(), name, AtFlags::empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_name_fits_and_comes_back() {
        let name = GroupName {
            pgid: Pid::from_raw(i32::MAX).unwrap(),
            start_ticks: u64::MAX,
            session: i32::MAX,
        };
        let text = name.text().unwrap();
        let written = as_c_str(&text).unwrap().to_str().unwrap();
        assert_eq!(written, "group-2147483647-18446744073709551615-2147483647");
        assert_eq!(GroupName::parse(written), Some(name));
    }

    #[test]
    fn a_name_that_would_hit_everybody_is_none() {
        for name in [
            "lock",
            "group-",
            "group-1-5-1",
            "group-0-5-1",
            "group--5-5-1",
            "group-7-5",
            "group-7-5-1-1",
            "group-7--1-1",
            "group-99999999999-5-1",
            "group-x-5-1",
        ] {
            assert_eq!(GroupName::parse(name), None, "{name}");
        }
        assert!(GroupName::parse("group-7-0-0").is_some());
    }
}
