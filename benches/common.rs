//! What the benches of the queue share: one in a fresh folder, and how jobs come into it.

use std::path::Path;

use orch::job::{JobSpec, WallMs};
use orch::queue::sqlite::{OpenOptions, SqliteStore};
use orch::queue::store::{OnDuplicate, Store};

/// A new queue at `path`, durable as by default.
pub(crate) fn new_queue(path: &Path) -> Box<dyn Store> {
    let options = OpenOptions { create: true, ..OpenOptions::default() };
    Box::new(SqliteStore::open(path, &options).expect("a new queue"))
}

/// Inserts them in batches.
pub(crate) fn insert(store: &mut dyn Store, specs: impl Iterator<Item = JobSpec>) {
    let mut batch = Vec::with_capacity(8_192);
    for spec in specs {
        batch.push(spec);
        if batch.len() == 8_192 {
            store.insert(&batch, OnDuplicate::Skip, WallMs(0)).expect("an insert");
            batch.clear();
        }
    }
    store.insert(&batch, OnDuplicate::Skip, WallMs(0)).expect("an insert");
}
