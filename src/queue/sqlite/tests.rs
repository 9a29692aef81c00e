//! What is this store's own: its files, its plans, its bytes. What every store must do is proven by the
//! conformance suite, in tests/.

mod keys;
mod opening;
mod owners;
mod plans;
mod sharing;
mod storage;

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use super::{OpenOptions, SqliteStore};
use crate::job::{JobSpec, Leased, Outcome, Priority, RetryPolicy, RetryTerms, WallMs};
use crate::queue::store::{OnDuplicate, Owner, Settled, Settlement, Store, Turn, TurnReport, Want};

const NOW: WallMs = WallMs(1_700_000_000_000);

/// A queue in a directory of its own.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("queue.sqlite")
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path(), &options()).unwrap()
    }
}

/// Nothing here waits for a lock that is not let go of soon.
fn options() -> OpenOptions {
    OpenOptions { busy_timeout: Duration::from_secs(60), ..OpenOptions::default() }
}

fn specs(count: usize) -> Vec<JobSpec> {
    (0..count).map(|n| JobSpec::new(&format!("job:{n}"), "noop").unwrap()).collect()
}

fn insert(store: &mut SqliteStore, count: usize) {
    store.insert(&specs(count), OnDuplicate::Skip, NOW).unwrap();
}

/// A turn that settles those and leases up to `count` from every lane that has some.
fn turn(store: &mut SqliteStore, owner: &Owner, settle: &[Settlement], count: usize) -> TurnReport {
    let kinds = [crate::job::Kind::new("noop").unwrap()];
    let lanes = store.ready_lanes(None, 64, &kinds).unwrap();
    let want = |lane: crate::queue::store::ReadyLane| Want {
        priority: lane.priority,
        lane: lane.lane.id,
        count,
        max_losses: u32::MAX,
    };
    let wants: Vec<Want> = lanes.into_iter().map(want).collect();
    let turn =
        Turn { owner, now: NOW, settle, lease: &wants, max_payload_bytes: usize::MAX, keys: None };
    store.turn(&turn).unwrap()
}

fn settlement(leased: &Leased, outcome: Outcome) -> Settlement {
    let terms = RetryTerms { max_attempts: 3, policy: RetryPolicy::queue_default(1_000, 1_000, 0) };
    Settlement {
        token: leased.token,
        change: outcome.settle(leased.attempt, terms, NOW, [0.0; 2]),
        started_at: NOW,
        elapsed_ms: 7,
    }
}

#[test]
fn a_fork_sees_what_the_first_handle_wrote_and_the_other_way_round() {
    let place = Place::new();
    let mut first = place.open();
    let mut second = first.fork().unwrap();
    insert(&mut first, 2);
    assert_eq!(second.counts().unwrap().queued, 2);
    let spec = JobSpec::new("another", "noop").unwrap();
    second.insert(&[spec], OnDuplicate::Skip, NOW).unwrap();
    assert_eq!(first.counts().unwrap().queued, 3);
}

#[test]
fn another_handle_of_the_same_owner_settles_its_leases() {
    let place = Place::new();
    let mut first = place.open();
    let owner = first.register(NOW).unwrap();
    insert(&mut first, 1);
    let leased = turn(&mut first, &owner, &[], 1).leased;
    let settle = [settlement(&leased[0], Outcome::done())];
    let turn = Turn {
        owner: &owner,
        now: NOW,
        settle: &settle,
        lease: &[],
        max_payload_bytes: 0,
        keys: None,
    };
    let report = first.fork().unwrap().turn(&turn).unwrap();
    assert_eq!(report.settled, [Settled::Accepted(crate::job::State::Done)]);
}

#[test]
fn a_lane_of_a_transaction_that_was_undone_is_not_remembered() {
    let place = Place::new();
    let mut store = place.open();
    let undone = store.write(|batch| {
        let kind = crate::job::Kind::new("noop").unwrap();
        batch.lanes.intern(batch.conn, &kind, &crate::job::Key::default(), None)?;
        Err::<(), _>(super::fault::Fault::Corrupt("for this test".to_owned()))
    });
    assert!(undone.is_err());
    assert_eq!(store.lanes.len(), 0);
    insert(&mut store, 1);
    let ready = store.ready_lanes(None, 1, &[crate::job::Kind::new("noop").unwrap()]).unwrap();
    assert_eq!(ready[0].priority, Priority::Normal);
}
