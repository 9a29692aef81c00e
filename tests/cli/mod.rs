//! What people and scripts see: every command through the real binary, exit codes included.

mod config;
mod errors;
mod import;
mod queue;

use std::path::PathBuf;

use assert_cmd::Command;
use orch::job::{Change, ErrorReason, FinalState, Kind, Note, Reason};
use orch::queue::WorkQueue;
use orch::queue::store::{Counts, Settlement, Turn, Want};

/// A directory of its own, with nothing of this machine's configuration in reach.
struct Place {
    directory: tempfile::TempDir,
}

/// What a command came to.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The command of a line; words are separated by single spaces.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orch"));
        command.current_dir(self.directory.path()).env_clear().env("HOME", self.directory.path());
        command.args(line.split(' ').filter(|word| !word.is_empty()));
        command
    }

    fn run(&self, line: &str) -> Ran {
        Ran::of(&mut self.command(line))
    }

    /// The same, but it must end so.
    #[track_caller]
    fn ok(&self, line: &str) -> Ran {
        self.run(line).code(0)
    }

    fn queue(&self) -> WorkQueue {
        WorkQueue::open_existing(self.path("state/workqueue.sqlite")).unwrap()
    }

    fn counts(&self) -> Counts {
        self.queue().counts().unwrap()
    }

    /// Ends every queued noop job in error, with that reason and particulars, as a run would.
    fn fail_all(&self, reason: ErrorReason) {
        self.finish_all(FinalState::Error, Reason::Error(reason), "");
    }

    fn finish_all(&self, state: FinalState, reason: Reason, detail: &str) {
        let mut queue = self.queue();
        let now = queue.clock().wall();
        let store = queue.store_mut();
        let owner = store.register(now).unwrap();
        let kinds = ["noop", "fetch"].map(|name| Kind::new(name).unwrap());
        let lanes = store.ready_lanes(None, 100, &kinds).unwrap();
        let lease: Vec<Want> = lanes
            .iter()
            .map(|ready| Want {
                priority: ready.priority,
                lane: ready.lane.id,
                count: 10_000,
                max_losses: u32::MAX,
            })
            .collect();
        let max_payload_bytes = usize::MAX;
        let leases = Turn { owner: &owner, now, settle: &[], lease: &lease, max_payload_bytes };
        let leased = store.turn(&leases).unwrap().leased;
        let detail = Some(detail.to_owned()).filter(|detail| !detail.is_empty());
        let settle: Vec<Settlement> = leased
            .iter()
            .map(|job| Settlement {
                token: job.token,
                change: Change::Finish {
                    state,
                    reason,
                    note: Note { message: "as the test wants it".into(), detail: detail.clone() },
                },
                started_at: now,
                elapsed_ms: 1_234,
            })
            .collect();
        let settles = Turn { owner: &owner, now, settle: &settle, lease: &[], max_payload_bytes };
        store.turn(&settles).unwrap();
        store.retire(&owner, now).unwrap();
    }
}

impl Ran {
    fn of(command: &mut Command) -> Ran {
        let output = command.output().unwrap();
        Ran {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn code(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// It said all of these on standard error.
    #[track_caller]
    fn says(self, words: &[&str]) -> Ran {
        for word in words {
            assert!(self.err.contains(word), "no {word:?} in: {}", self.err);
        }
        self
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}

/// Lines of noop jobs `n0`, `n1`, ….
fn noops(count: usize) -> String {
    (0..count).map(|n| format!("{{\"id\":\"n{n}\",\"kind\":\"noop\"}}\n")).collect()
}
