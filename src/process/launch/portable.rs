//! Starting a command where nobody takes over from a dead owner's record.
//!
//! The record only serves to end all commands of this process at once, so it may be written after the command began.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::Access;
use rustix::process::{Pid, Signal, WaitOptions};

use super::{Launch, LaunchError, Register, Started};
use crate::process::record::{GroupName, create_record};

/// Starts it. See [`Launch`].
///
/// # Errors
/// [`LaunchError`].
pub(in crate::process) fn start(
    launch: &Launch<'_>,
    register: Option<Register<'_>>,
) -> Result<Started, LaunchError> {
    let leader = spawn(launch)?;
    let name = GroupName { pgid: leader, start_ticks: 0, session: 0 };
    match register.map(|register| create_record(register.directory, name)).transpose() {
        Ok(recorded) => Ok(Started { leader, recorded }),
        Err(error) => {
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
            let _ = rustix::process::waitpid(Some(leader), WaitOptions::empty());
            Err(LaunchError::Prepare(error))
        }
    }
}

fn spawn(launch: &Launch<'_>) -> Result<Pid, LaunchError> {
    let prepare = LaunchError::Prepare;
    let (program, arguments) = launch
        .words
        .split_first()
        .ok_or_else(|| LaunchError::Execute(io::ErrorKind::InvalidInput.into()))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(launch.environment)
        .stdin(launch.stdin.try_clone().map_err(prepare)?)
        .stdout(launch.output.try_clone().map_err(prepare)?)
        .stderr(launch.output.try_clone().map_err(prepare)?)
        .process_group(0);
    if let Some(directory) = launch.directory {
        command.current_dir(directory);
        let entered = rustix::fs::access(directory, Access::EXEC_OK);
        entered.map_err(|error| LaunchError::Directory(error.into()))?;
    }
    let child = command.spawn().map_err(LaunchError::Execute)?;
    Ok(Pid::from_child(&child))
}
