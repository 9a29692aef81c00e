//! The file that a child leaves before it becomes the command: its name, and how it is written.
//!
//! What is marked async-signal-safe runs in the child too: it must never allocate or take a lock.

use std::ffi::CStr;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

#[cfg(target_os = "linux")]
use super::launch::Register;
#[cfg(target_os = "linux")]
use super::stat::Stat;

/// Room for the longest name, `group-` and numbers of 10, 20 and 10 digits, and a closing NUL.
const NAME_BYTES: usize = 64;

/// A name as it is written: NUL-terminated.
pub(super) type NameText = [u8; NAME_BYTES];

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
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group-{}-{}-{}", self.pgid, self.start_ticks, self.session)
    }
}

fn as_c_str(text: &NameText) -> io::Result<&CStr> {
    Ok(CStr::from_bytes_until_nul(text).map_err(|_| Errno::NAMETOOLONG)?)
}

/// Creates the file that names a group. Async-signal-safe.
///
/// # Errors
/// When the file cannot be created.
pub(super) fn create_record(directory: BorrowedFd<'_>, name: GroupName) -> io::Result<NameText> {
    let text = name.text()?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    drop(rustix::fs::openat(directory, as_c_str(&text)?, flags, mode)?);
    Ok(text)
}

/// Removes it: the group is over. Async-signal-safe.
///
/// A file that is gone already was removed by a successor. One that cannot be removed names a group that no longer
/// exists, as the successor will see.
pub(super) fn remove_record(directory: BorrowedFd<'_>, text: &NameText) {
    if let Ok(name) = as_c_str(text) {
        let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
    }
}

/// Records the calling process, which leads its group and has yet to become the command. Async-signal-safe.
///
/// The order matters. A successor looks for files only once the owner is dead, so a child that sees its owner
/// alive after the file is there will be found, and one that does not must not go on.
///
/// # Errors
/// When it could not be recorded or has lost its owner: it must end.
#[cfg(target_os = "linux")]
pub(super) fn record_self(register: Register<'_>) -> Result<NameText, Errno> {
    let created = GroupName::of_self().and_then(|name| create_record(register.directory, name));
    let text = created.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOTSUP))?;
    if rustix::process::getppid() != Some(register.owner) {
        remove_record(register.directory, &text);
        return Err(Errno::SRCH);
    }
    Ok(text)
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
