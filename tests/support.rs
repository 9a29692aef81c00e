//! What the tests through the real binary share: a folder, the binary, its answers.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// A folder of its own, and the binary run in it, with nothing of the machine's configuration in reach.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Where the queue is unless told otherwise.
    pub(crate) fn database(&self) -> PathBuf {
        self.path("state/workqueue.sqlite")
    }

    /// Writes a file, in a directory made for it, and says where it is.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The command of a line; words are separated by single spaces.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orch"));
        command.args(line.split(' ').filter(|word| !word.is_empty()));
        command.current_dir(self.folder()).env_clear().env("HOME", self.folder());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, line: &str) -> Ran {
        Ran::of(&mut self.command(line))
    }

    /// The same, but it must end with exit code 0.
    #[track_caller]
    pub(crate) fn ok(&self, line: &str) -> Ran {
        self.run(line).code(0)
    }

    /// Starts it and does not wait for its end.
    pub(crate) fn start(&self, line: &str) -> Running {
        let mut command = self.command(line);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running { child: Some(command.spawn().unwrap()) }
    }

    /// Imports these lines, all of which must be new and good.
    #[track_caller]
    pub(crate) fn import(&self, lines: &[Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.write("jobs.jsonl", text);
        let said = self.ok("queue import jobs.jsonl").out;
        assert_eq!(said, format!("imported {}, already there 0, rejected 0\n", lines.len()));
    }

    /// One job, as `queue show` tells it.
    #[track_caller]
    pub(crate) fn show(&self, id: &str) -> Value {
        self.ok(&format!("queue show {id} --format json")).json()
    }

    /// `queue stats` as JSON.
    #[track_caller]
    pub(crate) fn stats(&self) -> Value {
        self.ok("queue stats --format json").json()
    }

    /// One key of `queue stats`.
    #[track_caller]
    pub(crate) fn count(&self, state: &str) -> u64 {
        self.stats()[state].as_u64().unwrap()
    }

    /// Every job, as `queue export` writes it.
    #[track_caller]
    pub(crate) fn export(&self) -> Vec<Value> {
        let ran = self.ok("queue export");
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn integrity(&self) -> String {
        let db = rusqlite::Connection::open(self.database()).unwrap();
        db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
    }
}

/// A command under way. Dropped, it ends at once and in good order, its commands with it: a test that fails leaves
/// nothing behind. (Commands inherit descriptors: a shell that lives on keeps locks and pipes of whoever runs the tests.)
pub(crate) struct Running {
    child: Option<Child>,
}

impl Running {
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().unwrap().id();
        kill_process(Pid::from_raw(i32::try_from(id).unwrap()).unwrap(), signal).unwrap();
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ran {
        until("the end of the command", || self.is_over());
        self.child.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.is_none() || self.is_over() {
            return;
        }
        // Two signals of two kinds cannot be merged into one; a run that is stopped must first go on.
        for signal in [Signal::CONT, Signal::TERM, Signal::INT] {
            self.signal(signal);
        }
        let patience = Instant::now() + Duration::from_secs(10);
        while !self.is_over() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(mut child) = self.child.take() {
            // It may be over.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code, unless a signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it, if one did.
    pub(crate) signal: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(command: &mut Command) -> Ran {
        command.output().unwrap().into()
    }

    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// It said all of these on standard error.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Ran {
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in: {}", self.err);
        }
        self
    }

    /// What it wrote to standard output, all of which must be one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
            code: output.status.code(),
            signal: output.status.signal(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Waits until `done` says so, asking again and again; fails after two minutes.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed().as_secs() < 120, "waited two minutes for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every file below a directory.
pub(crate) fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { directories.push(path) } else { files.push(path) }
        }
    }
    files
}

/// The SHA-256 of these bytes, as hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
