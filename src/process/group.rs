//! A command that runs as the leader of a process group of its own.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::end;
use super::record::{Record, Recorder};

/// A command could not be started. Nothing of it runs, and no file is left.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// It did not get as far as the program: no process to be had, no such working directory, or its group
    /// could not be recorded.
    #[error("the process could not be prepared: {0}")]
    Prepare(#[source] io::Error),
    /// The program itself could not be run. Without a directory to record in, also for every reason of the other kind.
    #[error("the program could not be run: {0}")]
    Execute(#[source] io::Error),
}

/// A running command and everything it started that stayed in its group.
///
/// Dropped, it is ended like by [`Group::end`].
pub struct Group {
    leader: Child,
    pgid: Pid,
    exited: OwnedFd,
    record: Option<Record>,
    status: Option<ExitStatus>,
}

impl Group {
    /// Starts `command` in a process group of its own, recorded in `directory`, if one is given, before it begins.
    ///
    /// # Errors
    /// [`SpawnError`] saying how far it got.
    pub fn spawn(mut command: Command, directory: Option<&Path>) -> Result<Group, SpawnError> {
        command.process_group(0);
        let recorder = directory
            .map(|directory| Recorder::install(&mut command, directory))
            .transpose()
            .map_err(SpawnError::Prepare)?;
        let recording = recorder.is_some();
        let spawned = command.spawn();
        // Whoever reads the command's output must see its end: our copies of its descriptors go with it.
        drop(command);
        let record = recorder.and_then(Recorder::recorded);
        match spawned {
            Ok(leader) => Group::adopt(leader, record),
            Err(error) if recording && record.is_none() => Err(SpawnError::Prepare(error)),
            Err(error) => {
                record.iter().for_each(Record::remove);
                Err(SpawnError::Execute(error))
            }
        }
    }

    fn adopt(mut leader: Child, record: Option<Record>) -> Result<Group, SpawnError> {
        let pgid = Pid::from_child(&leader);
        match exit_descriptor(pgid) {
            Ok(exited) => Ok(Group { leader, pgid, exited, record, status: None }),
            Err(error) => {
                let _ = rustix::process::kill_process_group(pgid, Signal::KILL);
                let _ = leader.wait();
                record.iter().for_each(Record::remove);
                Err(SpawnError::Prepare(error))
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
            let _ = rustix::process::kill_process_group(self.pgid, signal);
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
        let status = self.leader.wait()?;
        self.status = Some(status);
        if self.members_are_gone() {
            self.record.iter().for_each(Record::remove);
        }
        Ok(status)
    }

    /// A record stays while somebody of the group hangs in the kernel: the successor must wait for them as well.
    fn members_are_gone(&self) -> bool {
        if rustix::process::test_kill_process_group(self.pgid) == Err(Errno::SRCH) {
            return true;
        }
        let gone = end::wait_for_members(self.pgid).is_ok();
        // Orphans come to us when we are process 1 of a container: nobody else would reap them.
        while let Ok(Some(_)) = rustix::process::waitpgid(self.pgid, WaitOptions::NOHANG) {}
        gone
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody is left to be told: the record stays when this fails.
        let _ = self.end();
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
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt;
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        command
    }

    fn has_exited(descriptor: BorrowedFd<'_>, within: Duration) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::try_from(within).unwrap())).unwrap() == 1
    }

    #[test]
    fn a_command_is_on_record_while_it_runs_and_not_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let mut group = Group::spawn(shell("exec sleep 600"), Some(directory.path())).unwrap();
        let files: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
        assert!(files[0].starts_with(&format!("group-{}-", group.pgid)), "{files:?}");
        group.end().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_command_that_cannot_be_recorded_does_not_run() {
        let directory = tempfile::tempdir().unwrap();
        let witness = directory.path().join("ran");
        let gone = directory.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let mut command = shell(&format!("touch '{}'", witness.display()));
        let recorder = Recorder::install(command.process_group(0), &gone).unwrap();
        fs::remove_dir(&gone).unwrap();
        let error = command.spawn().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(recorder.recorded().is_none());
        assert!(!witness.exists());
    }

    #[test]
    fn a_program_that_is_not_there_leaves_no_record() {
        let directory = tempfile::tempdir().unwrap();
        let error = Group::spawn(Command::new("/no/such/program"), Some(directory.path())).err();
        assert!(matches!(error, Some(SpawnError::Execute(_))), "{error:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let mut elsewhere = shell("true");
        elsewhere.current_dir("/no/such/directory");
        let error = Group::spawn(elsewhere, Some(directory.path())).err();
        assert!(matches!(error, Some(SpawnError::Prepare(_))), "{error:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_exit_is_seen_and_its_status_kept() {
        let mut group = Group::spawn(shell("exit 7"), None).unwrap();
        assert!(has_exited(group.exited(), Duration::from_secs(60)));
        assert_eq!(group.end().unwrap().code(), Some(7));
        assert_eq!(group.end().unwrap().code(), Some(7));
    }

    #[test]
    fn a_thread_sees_an_exit_where_the_kernel_gives_no_descriptor() {
        let (stdin, hold) = io::pipe().unwrap();
        let mut command = shell("read line");
        command.stdin(stdin);
        let mut group = Group::spawn(command, None).unwrap();
        let descriptor = exit_descriptor_by_thread(group.pgid).unwrap();
        assert!(!has_exited(descriptor.as_fd(), Duration::ZERO));
        drop(hold);
        assert!(has_exited(descriptor.as_fd(), Duration::from_secs(60)));
        assert_eq!(group.end().unwrap().code(), Some(1), "it could still be reaped");
    }

    #[test]
    fn a_group_that_runs_is_killed_when_it_is_ended() {
        let mut group = Group::spawn(shell("exec sleep 600"), None).unwrap();
        assert_eq!(group.end().unwrap().signal(), Some(9));
    }
}
