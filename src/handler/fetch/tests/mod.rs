//! The handler against real sockets: small servers on loopback that misbehave as told.

mod answers;
mod bodies;
mod down;
mod existing;
mod going_on;
mod hosts;
mod kinds;
mod redirects;
mod resolving;
mod resuming;
mod server;
mod services;
mod ways;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::{FetchHandler, FetchSettings, ResolverSettings};
use crate::clock::{Clock, Manual};
use crate::handler::{Cancel, Completion, Context, ContextParts, Handler, Ran};
use crate::job::{
    ArtifactId, Epoch, JobRow, Key, Kind, Lane, LaneId, LeaseToken, Leased, Mono, Observation,
    Outcome, Priority, WallMs,
};
use crate::limit::{Gate, Limits};

/// A whole, if dull, PDF.
const PDF: &[u8] = b"%PDF-1.4\n1 0 obj <</Type /Catalog>> endobj\nstartxref\n9\n%%EOF\n";
/// 1994-11-06T08:49:37Z.
const NOW: WallMs = WallMs(784_111_777_000);

/// Every name is this machine.
fn here(_: &str) -> io::Result<Vec<IpAddr>> {
    Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)])
}

/// A handler with a directory of its own, and all that a job needs to be run by it.
struct Rig {
    handler: FetchHandler,
    out: PathBuf,
    gate: Gate,
    clock: Manual,
    cancel: Arc<Cancel>,
    _directory: tempfile::TempDir,
}

impl Rig {
    fn new() -> Rig {
        Rig::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut FetchSettings)) -> Rig {
        Rig::with_names(change, here)
    }

    /// The same, where names have the addresses that `ask` says.
    fn with_names(change: impl FnOnce(&mut FetchSettings), ask: super::dns::Ask) -> Rig {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let mut settings = FetchSettings {
            out: out.clone(),
            allow_private_addresses: true,
            read_timeout: Duration::from_secs(60),
            obey_robots: false,
            ..FetchSettings::default()
        };
        change(&mut settings);
        Rig {
            handler: FetchHandler::with_names(settings, ask).unwrap(),
            out,
            gate: Gate::new(Limits { max_per_host: Some(1), ..Limits::default() }),
            clock: Manual::at(NOW),
            cancel: Arc::new(Cancel::new().unwrap()),
            _directory: directory,
        }
    }

    /// One attempt at a line with this one URL.
    fn fetch_url(&self, url: &str) -> Outcome {
        self.fetch(&json!({ "url": url }))
    }

    /// One attempt at this line.
    fn fetch(&self, payload: &Value) -> Outcome {
        self.run(&job(payload))
    }

    /// This line, to the end of its first attempt.
    fn finish(&self, payload: &Value) -> Outcome {
        self.finish_job(&mut job(payload))
    }

    /// An attempt to its end: deferred, it waits as long as it must and goes on.
    fn finish_job(&self, job: &mut Leased) -> Outcome {
        for _ in 0..200 {
            let (key, not_before, checkpoint) = match self.run(job) {
                Outcome::Defer { key, not_before, checkpoint } => (key, not_before, checkpoint),
                ended => return ended,
            };
            let wait_ms = not_before.map_or(0, |at| at.since_ms(self.clock.wall()));
            self.clock.advance(Duration::from_millis(wait_ms));
            if let Err(wait) = self.gate.try_admit(&key, self.clock.mono()) {
                let until = wait.until.expect("only time stands in the way");
                self.clock.advance(until.since(self.clock.mono()));
            }
            job.checkpoint = checkpoint;
            job.lane = Arc::new(Lane { key, ..Lane::clone(&job.lane) });
        }
        panic!("deferred again and again");
    }

    fn run(&self, job: &Leased) -> Outcome {
        let (send, outcome) = crossbeam_channel::bounded(1);
        let completion =
            Box::new(move || Completion::new(move |outcome| send.send(outcome).unwrap()));
        let mut context = Context::new(ContextParts {
            job,
            cancel: &self.cancel,
            gate: &self.gate,
            clock: &self.clock,
            permit: self.gate.try_admit(&job.lane.key, self.clock.mono()).ok(),
            deadline: Mono::from_ms(3_600_000),
            worker: 0,
            owner_directory: None,
            completion,
        });
        match self.handler.run(&mut context) {
            Ran::Finished(outcome) => outcome,
            Ran::Later => outcome.recv().unwrap().unwrap(),
            Ran::GaveUp(fault) => panic!("gave up: {fault}"),
        }
    }

    /// Everything below the output directory that is a file.
    fn files(&self) -> Vec<PathBuf> {
        fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, files) } else { files.push(path) }
            }
        }
        let mut files = Vec::new();
        walk(&self.out, &mut files);
        files
    }
}

/// A job of this payload, leased under the host of its `url`.
fn job(payload: &Value) -> Leased {
    let url = payload["url"].as_str().and_then(|url| Url::parse(url).ok());
    let host = url.as_ref().and_then(Url::host_str);
    Leased {
        token: LeaseToken { job: JobRow(1), epoch: Epoch(1) },
        artifact_id: ArtifactId::new("doi:10.1234/abc").unwrap(),
        enqueued_at: crate::job::WallMs(0),
        lane: Arc::new(Lane {
            id: LaneId(1),
            kind: Kind::fetch(),
            key: Key::new(None, host).unwrap(),
            tag: None,
        }),
        priority: Priority::default(),
        attempt: 1,
        attempts_total: 1,
        losses: 0,
        max_attempts: None,
        timeout_seconds: None,
        retry: None,
        payload: payload.to_string(),
        checkpoint: None,
        previous: None,
    }
}

/// How an outcome reads in one word or two: `done ok`, `retry timeout`, …
fn in_short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { reason, .. } => format!("done {}", reason.name()),
        Outcome::Skipped { reason, .. } => format!("skipped {}", reason.name()),
        Outcome::Retry { reason, .. } => format!("retry {}", reason.name()),
        Outcome::Fail { reason, .. } => format!("fail {}", reason.name()),
        Outcome::Defer { key, .. } => format!("defer {key}"),
    }
}

/// The particulars of an outcome.
fn detail(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Done { note, .. }
        | Outcome::Skipped { note, .. }
        | Outcome::Retry { note, .. }
        | Outcome::Fail { note, .. } => {
            note.detail.as_deref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
        }
        Outcome::Defer { .. } => Value::Null,
    }
}

/// What an outcome has counted.
fn observed(outcome: &Outcome) -> Vec<Observation> {
    match outcome {
        Outcome::Done { note, .. }
        | Outcome::Skipped { note, .. }
        | Outcome::Retry { note, .. }
        | Outcome::Fail { note, .. } => note.observed.clone(),
        Outcome::Defer { .. } => Vec::new(),
    }
}
