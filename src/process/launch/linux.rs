//! Starting a command without copying this process.
//!
//! fork(2) copies the page tables: with 64 MB in use that halved the commands started in a second. posix_spawn(3)
//! copies nothing, but has no place to write a record in. So this does what it does (the child runs on a stack of its own in our
//! memory, and this thread waits until it has become the command or has ended), with the record in between.
//!
//! Must never let a signal handler run in the child, nor allocate or unwind there: it is our memory.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use super::{Launch, LaunchError, Register, Started};
use crate::process::record::{NameText, record_self, remove_record};

/// Stack of the child, in bytes: execvpe(3) needs a path's length (4 KiB) and, for a script without `#!`, a copy of
/// the list of arguments, which comes on top.
const STACK_BYTES: usize = 64 * 1024;
/// Signals are numbered from 1 to this.
const LAST_SIGNAL: c_int = 64;

/// Starts it. See [`Launch`].
///
/// # Errors
/// [`LaunchError`].
pub(in crate::process) fn start(
    launch: &Launch<'_>,
    register: Option<Register<'_>>,
) -> Result<Started, LaunchError> {
    let words = c_strings(launch.words).map_err(LaunchError::Execute)?;
    let environment = environment(launch.environment).map_err(LaunchError::Execute)?;
    let directory = launch.directory.map(|path| CString::new(path.as_os_str().as_bytes()));
    let directory = directory.transpose().map_err(|error| LaunchError::Directory(error.into()))?;
    let mut plan = Plan {
        launch,
        words: &pointers(&words),
        environment: &pointers(&environment),
        directory: directory.as_deref(),
        register,
        recorded: None,
        failure: None,
    };
    let leader = clone_and_wait(&mut plan).map_err(LaunchError::Prepare)?;
    let Some(failure) = plan.failure else {
        return Ok(Started { leader, recorded: plan.recorded });
    };
    // It has ended. Nobody else reaps it, and if somebody does, it is as well.
    while rustix::process::waitpid(Some(leader), WaitOptions::empty()).err() == Some(Errno::INTR) {}
    if let (Some(register), Some(name)) = (register, plan.recorded) {
        remove_record(register.directory, &name);
    }
    Err(failure.into())
}

fn c_strings(words: &[String]) -> io::Result<Vec<CString>> {
    if words.is_empty() {
        return Err(Errno::INVAL.into());
    }
    Ok(words.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?)
}

/// This process's environment with those variables added, as `NAME=value`.
fn environment(added: &BTreeMap<String, String>) -> io::Result<Vec<CString>> {
    let added_here = |name: &OsString| name.to_str().is_some_and(|name| added.contains_key(name));
    let inherited = std::env::vars_os().filter(|(name, _)| !added_here(name));
    let added = added.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    inherited
        .chain(added)
        .map(|(name, value)| Ok(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?))
        .collect()
}

/// A list as execve(2) takes it: with a null pointer at its end.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// What the child needs, and what it leaves: everything is made before, so that it allocates nothing.
struct Plan<'a> {
    launch: &'a Launch<'a>,
    /// Ends with a null pointer.
    words: &'a [*const c_char],
    /// Ends with a null pointer.
    environment: &'a [*const c_char],
    directory: Option<&'a CStr>,
    register: Option<Register<'a>>,
    recorded: Option<NameText>,
    failure: Option<Failure>,
}

/// What stopped the child, and where.
enum Failure {
    Prepare(Errno),
    Directory(Errno),
    Execute(Errno),
}

impl From<Failure> for LaunchError {
    fn from(failure: Failure) -> LaunchError {
        match failure {
            Failure::Prepare(error) => LaunchError::Prepare(error.into()),
            Failure::Directory(error) => LaunchError::Directory(error.into()),
            Failure::Execute(error) => LaunchError::Execute(error.into()),
        }
    }
}

impl Plan<'_> {
    /// All that happens in the child but the last step.
    fn prepare(&mut self) -> Result<(), Failure> {
        let Launch { stdin, output, .. } = self.launch;
        rustix::process::setpgid(None, None).map_err(Failure::Prepare)?;
        rustix::stdio::dup2_stdin(stdin).map_err(Failure::Prepare)?;
        rustix::stdio::dup2_stdout(output).map_err(Failure::Prepare)?;
        rustix::stdio::dup2_stderr(output).map_err(Failure::Prepare)?;
        if let Some(directory) = self.directory {
            rustix::process::chdir(directory).map_err(Failure::Directory)?;
        }
        if let Some(register) = self.register {
            self.recorded = Some(record_self(register).map_err(Failure::Prepare)?);
        }
        Ok(())
    }
}

/// Runs [`become_command`] in a child that shares our memory, until it has become the command or has ended.
#[expect(unsafe_code, reason = "no safe interface starts a process that shares memory")]
fn clone_and_wait(plan: &mut Plan<'_>) -> io::Result<Pid> {
    let slots = (STACK_BYTES + size_of_val(plan.words)) / size_of::<u128>();
    let mut stack: Vec<MaybeUninit<u128>> = Vec::with_capacity(slots);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are written before they are read. The stack begins at its highest address, which is aligned to 16
    // bytes on every architecture and belongs to the allocation; it and the plan outlive the child's use of them,
    // because with CLONE_VFORK this thread goes on only after the child has let go of our memory. Every signal is
    // blocked meanwhile, so no handler of ours runs in the child or on its stack.
    let cloned = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        let top = stack.as_mut_ptr().add(slots).cast::<c_void>();
        let cloned = libc::clone(become_command, top, flags, ptr::from_mut(plan).cast());
        let cloned = if cloned < 0 { Err(io::Error::last_os_error()) } else { Ok(cloned) };
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
        cloned
    };
    Ok(Pid::from_raw(cloned?).ok_or(Errno::SRCH)?)
}

/// The child. Returns, and so ends, only when it cannot become the command.
#[expect(unsafe_code, reason = "execve and signal dispositions have no safe interface here")]
extern "C" fn become_command(plan: *mut c_void) -> c_int {
    // SAFETY: `clone_and_wait` hands over a plan that nobody else uses until we are done.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    if let Err(failure) = plan.prepare() {
        plan.failure = Some(failure);
        return 127;
    }
    default_signals();
    // SAFETY: both lists are of NUL-terminated strings, end with a null pointer and outlive the call; the first word is
    // there. It returns only when it failed.
    unsafe {
        libc::execvpe(*plan.words.as_ptr(), plan.words.as_ptr(), plan.environment.as_ptr());
    }
    let error = io::Error::last_os_error();
    let error = Errno::from_io_error(&error).unwrap_or(Errno::NOEXEC);
    plan.failure = Some(Failure::Execute(error));
    127
}

/// Gives the command the signals a shell would: none blocked, SIGPIPE not ignored (Rust ignores it), our handlers gone
/// before one of them could run here.
#[expect(unsafe_code, reason = "signal dispositions have no safe interface here")]
fn default_signals() {
    // SAFETY: an all-zero sigaction is one with SIG_DFL and no flags. Dispositions and mask are the child's own. Numbers
    // that may not be changed (SIGKILL, SIGSTOP, those of the C library) are refused without harm.
    unsafe {
        let default: libc::sigaction = MaybeUninit::zeroed().assume_init();
        for signal in 1..=LAST_SIGNAL {
            let mut current: libc::sigaction = MaybeUninit::zeroed().assume_init();
            libc::sigaction(signal, ptr::null(), &raw mut current);
            let handled = current.sa_sigaction != libc::SIG_DFL
                && (current.sa_sigaction != libc::SIG_IGN || signal == libc::SIGPIPE);
            if handled {
                libc::sigaction(signal, &raw const default, ptr::null_mut());
            }
        }
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::path::Path;

    use super::*;

    /// Starts `/bin/sh -c script` for `owner`, recorded in `directory`; what it wrote until it ended.
    fn output_of(script: &str, directory: &Path, owner: Pid) -> Result<String, LaunchError> {
        let (mut output, writer) = io::pipe().unwrap();
        let launch = Launch {
            words: &["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
            environment: &BTreeMap::new(),
            directory: None,
            stdin: File::open("/dev/null").unwrap().into(),
            output: writer.into(),
        };
        let register = File::open(directory).unwrap();
        let register = Register { directory: register.as_fd(), owner };
        let started = start(&launch, Some(register))?;
        drop(launch);
        let mut said = String::new();
        output.read_to_string(&mut said).unwrap();
        rustix::process::waitpid(Some(started.leader), WaitOptions::empty()).unwrap();
        Ok(said)
    }

    #[test]
    fn a_command_whose_owner_has_died_does_not_run_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let witness = directory.path().join("ran");
        let script = format!("touch '{}'", witness.display());
        let stranger = rustix::process::getppid().unwrap();
        let error = output_of(&script, directory.path(), stranger).unwrap_err();
        let LaunchError::Prepare(error) = error else { panic!("{error:?}") };
        assert_eq!(Errno::from_io_error(&error), Some(Errno::SRCH));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_command_that_cannot_be_recorded_does_not_run() {
        let directory = tempfile::tempdir().unwrap();
        let gone = directory.path().join("gone");
        fs::create_dir(&gone).unwrap();
        let register = File::open(&gone).unwrap();
        fs::remove_dir(&gone).unwrap();
        let witness = directory.path().join("ran");
        let launch = Launch {
            words: &["touch".to_owned(), witness.to_str().unwrap().to_owned()],
            environment: &BTreeMap::new(),
            directory: None,
            stdin: File::open("/dev/null").unwrap().into(),
            output: File::open("/dev/null").unwrap().into(),
        };
        let owner = rustix::process::getpid();
        let register = Register { directory: register.as_fd(), owner };
        let error = start(&launch, Some(register)).err();
        assert!(matches!(error, Some(LaunchError::Prepare(_))), "{error:?}");
        assert!(!witness.exists());
    }

    #[test]
    fn a_command_is_on_record_before_it_begins() {
        let directory = tempfile::tempdir().unwrap();
        let script = format!(
            "ls '{}'; echo $$; cut -d' ' -f5,6,22 /proc/$$/stat",
            directory.path().display()
        );
        let said = output_of(&script, directory.path(), rustix::process::getpid()).unwrap();
        let lines: Vec<_> = said.lines().collect();
        let [name, pid, stat] = lines[..] else { panic!("{said}") };
        let fields: Vec<_> = stat.split(' ').collect();
        assert_eq!(fields[0], pid, "it leads its group");
        assert_eq!(name, format!("group-{pid}-{}-{}", fields[2], fields[1]));
    }

    #[test]
    fn a_command_begins_with_signals_as_a_shell_would_give_them() {
        let directory = tempfile::tempdir().unwrap();
        let script = "exec cat /proc/self/status";
        let said = output_of(script, directory.path(), rustix::process::getpid()).unwrap();
        let mask = |field: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        assert_eq!(mask("SigBlk:"), 0, "blocked: {said}");
        assert_eq!(mask("SigIgn:") & (1 << (libc::SIGPIPE - 1)), 0, "ignored: {said}");
    }
}
