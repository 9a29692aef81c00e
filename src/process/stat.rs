//! What the kernel says of processes: `/proc/<pid>/stat`, see proc_pid_stat(5).
//!
//! [`Stat::of_self`] runs between fork and exec: it must never allocate or take a lock.

use std::fs;
use std::io;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Longer than the first 22 fields can be: 21 numbers of at most 20 digits and a command name of at most 64 bytes.
const STAT_BYTES: usize = 1024;

/// The part of a process's status that tells it apart from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// Field 1: its process id.
    pub(super) pid: i32,
    /// Field 3: one letter, such as `R`, `S` or `Z`.
    pub(super) state: u8,
    /// Field 5: the id of its process group.
    pub(super) group: i32,
    /// Field 6: the id of its session.
    pub(super) session: i32,
    /// Field 20: how many threads it has.
    pub(super) threads: i64,
    /// Field 22: when it started, in clock ticks since boot. Kept by exec.
    pub(super) start_ticks: u64,
}

impl Stat {
    /// Reads one line of `/proc/<pid>/stat`; `None` when it is not such a line.
    pub(super) fn parse(line: &[u8]) -> Option<Stat> {
        // The command name may hold spaces and parentheses: fields count from the last one.
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let head = line.split(|byte| *byte == b' ').next()?;
        let mut fields = line.get(close + 2..)?.split(|byte| *byte == b' ');
        let state = *fields.next()?.first()?;
        let (_parent, group, session) = (fields.next()?, fields.next()?, fields.next()?);
        let threads = fields.nth(13)?;
        let start_ticks = fields.nth(1)?;
        Some(Stat {
            pid: number(head)?,
            state,
            group: number(group)?,
            session: number(session)?,
            threads: number(threads)?,
            start_ticks: number(start_ticks)?,
        })
    }

    /// The calling process's own. Async-signal-safe.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no start times elsewhere"))]
    pub(super) fn of_self() -> io::Result<Stat> {
        let file =
            rustix::fs::open(c"/proc/self/stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut line = [0; STAT_BYTES];
        let length = rustix::io::read(&file, &mut line)?;
        let line = line.get(..length).unwrap_or_default();
        Ok(Stat::parse(line).ok_or(Errno::NOTSUP)?)
    }

    /// Whether it runs no more and only waits to be reaped. A leading thread that ended before the others of its
    /// process shows the same letter, but is not alone.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }
}

/// Whether the process of that id is stopped: by a signal (Ctrl-Z, `kill -STOP`) or by a debugger. `None` where there is no such
/// process, or the system does not tell. The id alone does not tell a process apart from a later one: for people to read, no more.
#[must_use]
pub fn is_stopped(process: u32) -> Option<bool> {
    let line = fs::read(format!("/proc/{process}/stat")).ok()?;
    let stat = Stat::parse(&line).filter(|stat| !stat.has_ended())?;
    Some(matches!(stat.state, b'T' | b't'))
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Every process this one may see. Not one instant: what forks while it is read may be missed.
///
/// # Errors
/// When `/proc` cannot be listed.
pub(super) fn all_processes() -> io::Result<Vec<Stat>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            // One that ended since it was listed has nothing to read.
            let line = fs::read(entry.path().join("stat")).unwrap_or_default();
            all.extend(Stat::parse(&line));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_does_not_shift_the_fields() {
        let line = b"1234 (a) S 1 2 (b c) R 10 20 30 40 -1 4194304 1 2 3 4 5 6 7 8 20 0 17 0 987654321 1 1\n";
        let expected = Stat {
            pid: 1234,
            state: b'R',
            group: 20,
            session: 30,
            threads: 17,
            start_ticks: 987_654_321,
        };
        assert_eq!(Stat::parse(line), Some(expected));
    }

    #[test]
    fn half_a_line_is_no_status() {
        for line in ["", "12", "12 (x)", "12 (x) ", "12 (x) S 1 2 3 4", "x (x) S 1 2 3"] {
            assert_eq!(Stat::parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_finds_itself_in_the_list() {
        let own = Stat::of_self().unwrap();
        assert_eq!(own.pid, i32::try_from(std::process::id()).unwrap());
        let listed = all_processes().unwrap().into_iter().find(|stat| stat.pid == own.pid).unwrap();
        assert_eq!(
            (listed.group, listed.session, listed.start_ticks),
            (own.group, own.session, own.start_ticks)
        );
        assert!(!listed.has_ended());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_runs_is_not_stopped_and_nobody_is_nothing() {
        assert_eq!(is_stopped(std::process::id()), Some(false));
        assert_eq!(is_stopped(u32::MAX), None);
    }

    #[test]
    fn a_process_whose_other_threads_run_has_not_ended() {
        let with = |state, threads| {
            Stat { pid: 9, state, group: 9, session: 1, threads, start_ticks: 5 }.has_ended()
        };
        assert!(with(b'Z', 1));
        assert!(!with(b'Z', 2));
        assert!(!with(b'T', 1));
    }
}
