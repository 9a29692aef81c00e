//! What the tests through the real binary share: a folder, the binary, its answers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A folder of its own, and the binary run in it, with nothing of the machine's configuration.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn queue(&self) -> PathBuf {
        self.path().join("state/workqueue.sqlite")
    }

    /// Writes a file and gives its name back.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orch"));
        command.args(args).current_dir(self.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn orch(&self, args: &[&str]) -> Answer {
        Answer::of(self.command(args).output().unwrap())
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// `queue stats` as JSON.
    pub(crate) fn stats(&self) -> Value {
        self.orch(&["queue", "stats", "--format", "json"]).ok().json()
    }

    /// One key of `queue stats`.
    pub(crate) fn count(&self, state: &str) -> u64 {
        self.stats()[state].as_u64().unwrap()
    }

    /// Every job, as `queue export` writes it.
    pub(crate) fn export(&self) -> Vec<Value> {
        let answer = self.orch(&["queue", "export"]).ok();
        answer.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn integrity(&self) -> String {
        let db = rusqlite::Connection::open(self.queue()).unwrap();
        db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
    }
}

/// What the binary said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    #[expect(dead_code, reason = "shown when a test fails")]
    pub(crate) err: String,
}

impl Answer {
    pub(crate) fn of(output: Output) -> Answer {
        Answer {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The same answer, which must have been a success.
    #[track_caller]
    pub(crate) fn ok(self) -> Answer {
        self.ended(0)
    }

    /// The same answer, which must have ended with that code.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Answer {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Waits until `done` says so, asking again and again; fails after two minutes.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed().as_secs() < 120, "waited two minutes for: {what}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
