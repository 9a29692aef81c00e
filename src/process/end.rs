//! Ending groups that somebody recorded: those of a dead owner, or all of one's own at once.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, test_kill_process_group};

use super::record::GroupName;
use super::stat::{Stat, all_processes};

/// How long killed processes may take to go before that is an error, in milliseconds.
const PATIENCE_MS: u32 = 2_000;
/// How long one wait for one process is at most, in milliseconds.
const SLICE_MS: u32 = 50;

/// A killed group did not go: somebody in it hangs in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("process group {pgid} was killed and still runs (process {pid})")]
pub struct StillRunning {
    /// The group.
    pub pgid: i32,
    /// One of its members.
    pub pid: i32,
}

/// Ends every group that the owner of `directory` recorded and that still runs, waits until they are gone (for at most
/// about two seconds) and removes their files. How many were running.
///
/// For whoever takes over from a dead owner, before its jobs are freed. Nothing is ended, and no file removed, when
/// the file `lock` in that directory begins with the id of another boot than this one. A directory that is not there
/// has no groups. Works too while the leaders are children of this process that nobody has reaped.
///
/// # Errors
/// When the directory or `/proc` cannot be read, a group may not be signalled, or, as [`StillRunning`], one does not
/// go. Its file is then still there and its job must not be freed: call again.
pub fn end_recorded_groups(directory: &Path) -> io::Result<usize> {
    if is_of_another_boot(directory)? {
        return Ok(0);
    }
    let names = recorded_groups(directory)?;
    let running = if cfg!(target_os = "linux") { end_verified(&names)? } else { 0 };
    for name in &names {
        remove_record(directory, name)?;
    }
    Ok(running)
}

/// Ends every group that this process has recorded in its own `directory`, at once: for a second signal. How many were
/// running. The threads that wait for the commands reap them and say what came of them.
///
/// # Errors
/// As [`end_recorded_groups`].
pub fn kill_all_recorded(directory: &Path) -> io::Result<usize> {
    if cfg!(target_os = "linux") {
        return end_recorded_groups(directory);
    }
    // Our own: a record is removed as soon as its leader is reaped, so its name is still its own.
    let names = recorded_groups(directory)?;
    let kill = |name: &&GroupName| kill_group(name.pgid).is_ok();
    Ok(names.iter().filter(kill).count())
}

/// Waits until nobody of that group runs any more. It must have been killed.
///
/// # Errors
/// [`StillRunning`] after some seconds; or `/proc` cannot be read.
pub(super) fn wait_for_members(pgid: Pid) -> io::Result<()> {
    if cfg!(not(target_os = "linux")) {
        return Ok(());
    }
    let mut patience = Patience::new();
    loop {
        let mut members = all_processes()?;
        members.retain(|stat| stat.group == pgid.as_raw_pid() && !stat.has_ended());
        if members.is_empty() {
            return Ok(());
        }
        patience.wait_for(&members)?;
    }
}

fn is_of_another_boot(directory: &Path) -> io::Result<bool> {
    if cfg!(not(target_os = "linux")) {
        return Ok(false);
    }
    let lock = match fs::read(directory.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        read => String::from_utf8_lossy(&read?).into_owned(),
    };
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let recorded = lock.split_whitespace().next();
    Ok(recorded.is_some_and(|recorded| recorded != boot.trim()))
}

fn recorded_groups(directory: &Path) -> io::Result<Vec<GroupName>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().to_str().and_then(GroupName::parse));
    }
    Ok(names)
}

fn remove_record(directory: &Path, name: &GroupName) -> io::Result<()> {
    match fs::remove_file(directory.join(name.to_string())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn kill_group(pgid: Pid) -> io::Result<()> {
    match rustix::process::kill_process_group(pgid, Signal::KILL) {
        Err(Errno::SRCH) => Ok(()),
        killed => Ok(killed?),
    }
}

/// Kills those of the groups that still are what was recorded, until none of them is left. How many there were.
fn end_verified(names: &[GroupName]) -> io::Result<usize> {
    let mut patience = Patience::new();
    let mut killed = vec![false; names.len()];
    loop {
        // An id that no group has needs no look at all processes.
        let exists = |name: &GroupName| test_kill_process_group(name.pgid) != Err(Errno::SRCH);
        let suspects: Vec<_> = names.iter().enumerate().filter(|(_, name)| exists(name)).collect();
        if suspects.is_empty() {
            break;
        }
        let processes = all_processes()?;
        let mut members = Vec::new();
        for (index, name) in suspects {
            let living = living_members(name, &processes);
            if !living.is_empty() {
                kill_group(name.pgid)?;
                killed[index] = true;
                members.extend(living);
            }
        }
        if members.is_empty() {
            break;
        }
        patience.wait_for(&members)?;
    }
    Ok(killed.into_iter().filter(|killed| *killed).count())
}

/// The members of that very group which still run; empty when its id has gone to another.
///
/// While a group has members its id is given to no new process, so a leader with another start time proves the
/// group gone. Where there is no leader, the group is taken for the recorded one only in the same session, which
/// no member can change, and only for members no older than the leader was.
fn living_members(name: &GroupName, processes: &[Stat]) -> Vec<Stat> {
    let pgid = name.pgid.as_raw_pid();
    let leader = processes.iter().find(|stat| stat.pid == pgid);
    if leader.is_some_and(|leader| leader.start_ticks != name.start_ticks) {
        return Vec::new();
    }
    let is_member = |stat: &&Stat| {
        stat.group == pgid
            && stat.session == name.session
            && stat.start_ticks >= name.start_ticks
            && !stat.has_ended()
    };
    processes.iter().filter(is_member).copied().collect()
}

/// What is left of the time that killed processes may take.
struct Patience {
    left_ms: u32,
}

impl Patience {
    fn new() -> Patience {
        Patience { left_ms: PATIENCE_MS }
    }

    /// Waits until these have ended, or one of them has not for a while: then look again, it may be a stranger by now.
    fn wait_for(&mut self, members: &[Stat]) -> io::Result<()> {
        for member in members {
            if !ends_soon(member.pid)? {
                self.left_ms = self.left_ms.saturating_sub(SLICE_MS);
                if self.left_ms == 0 {
                    let error = StillRunning { pgid: member.group, pid: member.pid };
                    return Err(io::Error::new(io::ErrorKind::TimedOut, error));
                }
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Whether that process ends within a slice.
#[cfg(target_os = "linux")]
fn ends_soon(pid: i32) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{PidfdFlags, pidfd_open};

    let slice = Timespec { tv_sec: 0, tv_nsec: i64::from(SLICE_MS) * 1_000_000 };
    let opened = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let ended = match opened {
        None | Some(Err(Errno::SRCH)) => return Ok(true),
        // Before Linux 5.3: nothing tells, so look again after a slice.
        Some(Err(Errno::NOSYS | Errno::PERM)) => poll(&mut [], Some(&slice)),
        Some(process) => poll(&mut [PollFd::new(&process?, PollFlags::IN)], Some(&slice)),
    };
    match ended {
        Err(Errno::INTR) => Ok(false),
        ended => Ok(ended? > 0),
    }
}

/// Whether that process ends within a slice: nobody asks where processes cannot be listed.
#[cfg(not(target_os = "linux"))]
fn ends_soon(_pid: i32) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
