//! A command that runs as the leader of a process group of its own.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::end;
use super::launch::{self, Launch, LaunchError, Register};
use super::record::{NameText, remove_record};

/// A running command and everything it started that stayed in its group.
///
/// Dropped, it is ended as by [`Group::end`].
pub struct Group {
    /// The leader's process id, which is the group's.
    leader: Pid,
    exited: OwnedFd,
    record: Option<Record>,
    status: Option<ExitStatus>,
}

/// The file that names the group.
struct Record {
    directory: OwnedFd,
    name: NameText,
}

impl Group {
    /// Starts a command in a process group of its own, recorded in `register`, if one is given, before it begins.
    ///
    /// # Errors
    /// [`LaunchError`] saying how far it got.
    pub fn start(launch: &Launch<'_>, register: Option<&Path>) -> Result<Group, LaunchError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // By descriptor: a path would not do for a child that has changed its directory.
        let register = register
            .map(|path| rustix::fs::open(path, flags, Mode::empty()))
            .transpose()
            .map_err(|error| LaunchError::Prepare(error.into()))?;
        let owner = rustix::process::getpid();
        let place = register.as_ref().map(|d| Register { directory: d.as_fd(), owner });
        let started = launch::start(launch, place)?;
        let record =
            register.zip(started.recorded).map(|(directory, name)| Record { directory, name });
        Group::adopt(started.leader, record)
    }

    fn adopt(leader: Pid, record: Option<Record>) -> Result<Group, LaunchError> {
        match exit_descriptor(leader) {
            Ok(exited) => Ok(Group { leader, exited, record, status: None }),
            Err(error) => {
                let _ = rustix::process::kill_process_group(leader, Signal::KILL);
                let _ = reap(leader);
                record.iter().for_each(Record::remove);
                Err(LaunchError::Prepare(error))
            }
        }
    }

    /// Readable once the leader has exited: for `poll`. Never read from it.
    #[must_use]
    pub fn exited(&self) -> BorrowedFd<'_> {
        self.exited.as_fd()
    }

    /// Sends a signal to the whole group. Nothing happens once it was ended.
    pub fn signal(&self, signal: Signal) {
        // Until it is reaped the leader keeps its id from being given to a stranger. An error means that there
        // is nobody left to hear it.
        if self.status.is_none() {
            let _ = rustix::process::kill_process_group(self.leader, signal);
        }
    }

    /// Kills what is left of the group, reaps the leader, waits (at most some seconds) until the other members are gone
    /// too, and removes the record. How the leader ended. Blocks only as long as killed processes take to go.
    ///
    /// # Errors
    /// When the leader cannot be waited for.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        self.signal(Signal::KILL);
        let status = reap(self.leader)?;
        self.status = Some(status);
        if self.members_are_gone() {
            self.record.iter().for_each(Record::remove);
        }
        Ok(status)
    }

    /// A record stays while somebody of the group hangs in the kernel: the successor must wait for them as well.
    fn members_are_gone(&self) -> bool {
        if rustix::process::test_kill_process_group(self.leader) == Err(Errno::SRCH) {
            return true;
        }
        let gone = end::wait_for_members(self.leader).is_ok();
        // Orphans come to us when we are process 1 of a container: nobody else would reap them.
        while let Ok(Some(_)) = rustix::process::waitpgid(self.leader, WaitOptions::NOHANG) {}
        gone
    }
}

impl Record {
    fn remove(&self) {
        remove_record(self.directory.as_fd(), &self.name);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody is left to be told: the record stays when this fails.
        let _ = self.end();
    }
}

fn reap(leader: Pid) -> io::Result<ExitStatus> {
    loop {
        match rustix::process::waitpid(Some(leader), WaitOptions::empty()) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(None) => return Err(Errno::CHILD.into()),
            Ok(Some((_, status))) => return Ok(ExitStatus::from_raw(status.as_raw())),
        }
    }
}

/// A descriptor that becomes readable when that child of ours has exited; the child stays to be reaped.
#[cfg(target_os = "linux")]
fn exit_descriptor(leader: Pid) -> io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, pidfd_open};
    match pidfd_open(leader, PidfdFlags::empty()) {
        // Before Linux 5.3, and in sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => exit_descriptor_by_thread(leader),
        opened => Ok(opened?),
    }
}

/// A descriptor that becomes readable when that child of ours has exited; the child stays to be reaped.
#[cfg(not(target_os = "linux"))]
fn exit_descriptor(leader: Pid) -> io::Result<OwnedFd> {
    exit_descriptor_by_thread(leader)
}

/// The same, told by a thread that waits for the child.
fn exit_descriptor_by_thread(leader: Pid) -> io::Result<OwnedFd> {
    let (reader, mut writer) = io::pipe()?;
    thread::Builder::new().name("orch-exit".to_owned()).spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while rustix::process::waitid(WaitId::Pid(leader), options).err() == Some(Errno::INTR) {}
        // Fails only when nobody listens any more.
        let _ = writer.write_all(&[1]);
    })?;
    Ok(reader.into())
}

#[cfg(test)]
pub(super) mod testing {
    use std::collections::BTreeMap;
    use std::fs::File;

    use super::*;

    /// Starts `words`; it reads `stdin` and writes where this process writes.
    pub(in crate::process) fn start(
        words: &[&str],
        stdin: OwnedFd,
        register: Option<&Path>,
    ) -> Result<Group, LaunchError> {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        let launch = Launch {
            words: &words,
            environment: &BTreeMap::new(),
            directory: None,
            stdin,
            output: io::stdout().as_fd().try_clone_to_owned().unwrap(),
        };
        Group::start(&launch, register)
    }

    /// Starts a shell that runs `script` and reads nothing.
    pub(in crate::process) fn shell(script: &str, register: Option<&Path>) -> Group {
        let nothing = File::open("/dev/null").unwrap();
        start(&["/bin/sh", "-c", script], nothing.into(), register).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::testing::{shell, start};
    use super::*;

    fn has_exited(descriptor: BorrowedFd<'_>, within: Duration) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::try_from(within).unwrap())).unwrap() == 1
    }

    #[test]
    fn a_command_is_on_record_while_it_runs_and_not_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let mut group = shell("exec sleep 600", Some(directory.path()));
        let files: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(files[0].starts_with(&format!("group-{}-", group.leader)), "{files:?}");
        group.end().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_program_that_is_not_there_leaves_no_record() {
        let directory = tempfile::tempdir().unwrap();
        let nothing = File::open("/dev/null").unwrap();
        let error = start(&["/no/such/program"], nothing.into(), Some(directory.path())).err();
        assert!(matches!(error, Some(LaunchError::Execute(_))), "{error:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_exit_is_seen_and_its_status_kept() {
        let mut group = shell("exit 7", None);
        assert!(has_exited(group.exited(), Duration::from_secs(60)));
        assert_eq!(group.end().unwrap().code(), Some(7));
        assert_eq!(group.end().unwrap().code(), Some(7));
    }

    #[test]
    fn a_thread_sees_an_exit_where_the_kernel_gives_no_descriptor() {
        let (stdin, hold) = io::pipe().unwrap();
        let mut group = start(&["cat"], stdin.into(), None).unwrap();
        let descriptor = exit_descriptor_by_thread(group.leader).unwrap();
        assert!(!has_exited(descriptor.as_fd(), Duration::ZERO));
        drop(hold);
        assert!(has_exited(descriptor.as_fd(), Duration::from_secs(60)));
        assert_eq!(group.end().unwrap().code(), Some(0), "it could still be reaped");
    }

    #[test]
    fn a_group_that_runs_is_killed_when_it_is_ended() {
        let mut group = shell("exec sleep 600", None);
        assert_eq!(group.end().unwrap().signal(), Some(9));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn nobody_of_a_group_is_left_once_it_was_ended() {
        use super::super::stat::all_processes;

        let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 600 & done; exit 3";
        let mut group = shell(script, None);
        assert!(has_exited(group.exited(), Duration::from_secs(60)));
        assert_eq!(group.end().unwrap().code(), Some(3), "its end was its own");
        let pgid = group.leader.as_raw_pid();
        let left = all_processes().unwrap().into_iter().filter(|stat| stat.group == pgid);
        assert_eq!(left.filter(|stat| !stat.has_ended()).count(), 0);
    }
}
