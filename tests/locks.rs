//! Only SQLite opens the database and what lies beside it: a close of ours would drop its locks.

use std::time::Duration;

use orch::queue::sqlite::{OpenOptions, SqliteStore};
use orch::queue::store::Store;
use rusqlite::Connection;

use crate::support::Place;

fn open(place: &Place) -> SqliteStore {
    let options =
        OpenOptions { busy_timeout: Duration::from_millis(100), ..OpenOptions::default() };
    SqliteStore::open(&place.database(), &options).unwrap()
}

/// POSIX locks are lost when the process closes any descriptor of the file, so another process shows whether they are.
#[test]
fn handles_that_come_and_go_leave_the_locks_of_others_in_force() {
    let place = Place::new();
    place.write("orch.toml", "[queue]\ntimeout_sec = 1\n");
    let mut store = open(&place);
    let writer = Connection::open(place.database()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(store.fork().unwrap());
    drop(open(&place));
    store.counts().unwrap();
    place.run("queue enqueue a --kind noop").code(1).says(&["locked"]);
    writer.execute_batch("COMMIT").unwrap();
    place.ok("queue enqueue a --kind noop");
    assert_eq!(place.integrity(), "ok");
    assert_eq!(store.counts().unwrap().queued, 1);
}
