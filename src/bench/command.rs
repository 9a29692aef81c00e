//! This program as a process of its own, for what is measured as a person runs it.
//!
//! Must never let its child see the person's configuration, nor outlive a halt.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{BenchError, Halt};

/// This program's executable.
#[derive(Clone)]
pub struct Orch {
    executable: PathBuf,
    halt: Halt,
}

impl Orch {
    pub(super) fn new(executable: PathBuf, halt: Halt) -> Orch {
        Orch { executable, halt }
    }

    /// The command of these arguments in the directory `place`, with nothing of the environment, and settings from `set`
    /// (such as `("ORCH_ORCHESTRATOR__MAX_WORKERS", "8")`).
    #[must_use]
    pub fn command(&self, place: &Path, set: &[(&str, &str)], args: &[&str]) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(args).current_dir(place).env_clear().env("HOME", place);
        command.envs(set.iter().copied());
        // Ctrl-C is for whoever measures, who ends the child.
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end, and returns what it wrote to standard output. Meant for commands that write little.
    ///
    /// # Errors
    /// [`BenchError::Command`] when its exit code is not 0; [`BenchError::Io`] when it cannot be started; [`BenchError::Stopped`].
    pub fn run(
        &self,
        place: &Path,
        set: &[(&str, &str)],
        args: &[&str],
    ) -> Result<String, BenchError> {
        self.halt.check()?;
        let line = args.join(" ");
        let failed = || BenchError::io("run", format!("`orch {line}`"));
        let mut child = self.command(place, set, args).spawn().map_err(failed())?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // Let go of before the child is waited for: until then its number is nobody else's.
        let guard = self.halt.guard(move || {
            if let Some(pid) = pid {
                // It may be over.
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let read = read_both(&mut child);
        drop(guard);
        let status = child.wait().map_err(failed())?;
        self.halt.check()?;
        let (out, said) = read.map_err(failed())?;
        if status.success() {
            return Ok(out);
        }
        let said = said.trim().to_owned();
        Err(BenchError::Command { line, status: status.to_string(), said })
    }
}

fn read_both(child: &mut Child) -> std::io::Result<(String, String)> {
    let (mut out, mut said) = (String::new(), String::new());
    if let Some(stderr) = &mut child.stderr {
        stderr.read_to_string(&mut said)?;
    }
    if let Some(stdout) = &mut child.stdout {
        stdout.read_to_string(&mut out)?;
    }
    Ok((out, said))
}
