//! What people and scripts see: every command through the real binary, exit codes included.

mod bench;
mod config;
mod doctor;
mod errors;
mod explain;
mod forecast;
mod hosts;
mod import;
mod queue;
mod resolve;

use orch::job::{Change, ErrorReason, FinalState, Kind, Note, Reason};
use orch::queue::WorkQueue;
use orch::queue::store::{Counts, Settlement, Turn, Want};

use crate::support::{Place, Ran};

/// What only these tests want of a place: its queue through the library.
impl Place {
    fn queue(&self) -> WorkQueue {
        WorkQueue::open_existing(self.database()).unwrap()
    }

    fn counts(&self) -> Counts {
        self.queue().counts().unwrap()
    }

    /// Ends every queued noop job in error, with that reason and particulars, as a run would.
    fn fail_all(&self, reason: ErrorReason) {
        self.finish_all(FinalState::Error, Reason::Error(reason), "");
    }

    fn finish_all(&self, state: FinalState, reason: Reason, detail: &str) {
        let detail = Some(detail.to_owned()).filter(|detail| !detail.is_empty());
        self.end_all(state, reason, &Note { detail, ..Note::new("as the test wants it") });
    }

    /// The same, with all that a note may hold.
    fn end_all(&self, state: FinalState, reason: Reason, note: &Note) {
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
        let leases =
            Turn { owner: &owner, now, settle: &[], lease: &lease, max_payload_bytes, keys: None };
        let leased = store.turn(&leases).unwrap().leased;
        let settle: Vec<Settlement> = leased
            .iter()
            .map(|job| Settlement {
                token: job.token,
                change: Change::Finish { state, reason, note: note.clone(), checkpoint: None },
                started_at: now,
                elapsed_ms: 1_234,
            })
            .collect();
        let settles =
            Turn { owner: &owner, now, settle: &settle, lease: &[], max_payload_bytes, keys: None };
        store.turn(&settles).unwrap();
        store.retire(&owner, now).unwrap();
    }
}

/// Lines of noop jobs `n0`, `n1`, ….
fn noops(count: usize) -> String {
    (0..count).map(|n| format!("{{\"id\":\"n{n}\",\"kind\":\"noop\"}}\n")).collect()
}
