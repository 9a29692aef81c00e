//! Only SQLite opens the database and what lies beside it: a close of ours would drop its locks.

use std::time::Duration;

use orch::queue::sqlite::{OpenOptions, SqliteStore};
use orch::queue::store::Store;
use rusqlite::Connection;

use crate::support::Place;

fn open(place: &Place) -> SqliteStore {
    let options =
        OpenOptions { busy_timeout: Duration::from_millis(100), ..OpenOptions::default() };
    SqliteStore::open(&place.queue(), &options).unwrap()
}

/// POSIX locks are lost when the process closes any descriptor of the file, so another process shows whether they are.
#[test]
fn handles_that_come_and_go_leave_the_locks_of_others_in_force() {
    let place = Place::new();
    place.file("orch.toml", "[queue]\ntimeout_sec = 1\n");
    let mut store = open(&place);
    let writer = Connection::open(place.queue()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE; UPDATE counter SET next = next").unwrap();
    drop(store.fork().unwrap());
    drop(open(&place));
    store.counts().unwrap();
    let answer = place.orch(&["queue", "enqueue", "a", "--kind", "noop"]).ended(1);
    assert!(answer.err.contains("locked"), "{answer:#?}");
    writer.execute_batch("COMMIT").unwrap();
    place.orch(&["queue", "enqueue", "a", "--kind", "noop"]).ok();
    assert_eq!(place.integrity(), "ok");
    assert_eq!(store.counts().unwrap().queued, 1);
}
