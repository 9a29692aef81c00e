//! Several who write to one file: who gives way to whom, and what becomes of the log.

use std::fs;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use super::{NOW, Place, insert, options, specs};
use crate::job::JobSpec;
use crate::queue::sqlite::open::{MAX_LOG_KEPT, sibling};
use crate::queue::sqlite::{Durability, OpenOptions, SqliteStore};
use crate::queue::store::{OnDuplicate, Store};

fn megabytes(store: &mut SqliteStore, from: usize, megabytes: usize) {
    let payload = format!("{{\"x\":\"{}\"}}", "y".repeat(1 << 20));
    for n in from..from + megabytes {
        let spec = JobSpec::new(&format!("large:{n}"), "noop").unwrap();
        let spec = spec.with_payload(payload.clone());
        store.insert(&[spec], OnDuplicate::Skip, NOW).unwrap();
    }
}

fn fast() -> OpenOptions {
    OpenOptions { durability: Durability::Normal, ..options() }
}

#[test]
fn a_bulk_writer_learns_that_somebody_waits_and_a_brief_one_does_not_ask() {
    let place = Place::new();
    let mut bulk = place.open();
    let mut brief = SqliteStore::open(&place.path(), &options()).unwrap();
    let begin = |store: &SqliteStore| store.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    let commit = |store: &SqliteStore| store.conn.execute_batch("COMMIT").unwrap();

    insert(&mut bulk, 100);
    assert!(!bulk.last_write().was_awaited);
    assert!(bulk.last_write().held > Duration::ZERO);

    // Somebody waits for a third one, and so does the bulk writer: it is told of the one that waits when it has had its turn.
    let third = place.open();
    begin(&third);
    let waiting = thread::spawn(move || {
        insert(&mut brief, 1);
        brief
    });
    while !bulk.waiting.is_anybody() {
        thread::yield_now();
    }
    commit(&third);
    let mut brief = waiting.join().unwrap();
    assert!(!brief.last_write().was_awaited);
    assert!(!bulk.waiting.is_anybody(), "it has what it waited for");

    bulk.waiting.lower();
    brief.waiting.raise();
    bulk.insert(&specs(300)[100..], OnDuplicate::Skip, NOW).unwrap();
    assert!(bulk.last_write().was_awaited);
    brief.waiting.lower();
    bulk.insert(&specs(500)[300..], OnDuplicate::Skip, NOW).unwrap();
    assert!(!bulk.last_write().was_awaited);
}

#[test]
fn who_gives_up_waiting_is_not_seen_to_wait_any_more() {
    let place = Place::new();
    let holder = place.open();
    holder.conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    let impatient = OpenOptions { busy_timeout: Duration::from_millis(5), ..options() };
    let mut store = SqliteStore::open(&place.path(), &impatient).unwrap();
    store.insert(&specs(1), OnDuplicate::Skip, NOW).unwrap_err();
    let mut bulk = SqliteStore::open(&place.path(), &options()).unwrap();
    assert!(!bulk.waiting.is_anybody());
}

/// Where two take turns, somebody has always written since the log was last carried over.
#[test]
fn the_log_stays_short_though_somebody_always_writes() {
    let place = Place::new();
    let [mut one, mut two] = [(); 2].map(|()| SqliteStore::open(&place.path(), &fast()).unwrap());
    let other = thread::spawn(move || megabytes(&mut two, 1_000, 200));
    let mut longest = 0;
    for n in 0..200 {
        megabytes(&mut one, n, 1);
        longest = longest.max(one.log_bytes());
    }
    other.join().unwrap();
    // It is pressed from 32 MiB on, as soon as the lock is to be had, which on a busy machine takes a few tries; all that was written
    // comes to 400.
    assert!(longest < 200 << 20, "{} MiB", longest >> 20);
}

#[test]
fn under_a_long_reader_the_log_grows_and_is_cut_back_once_that_has_ended() {
    let place = Place::new();
    let mut store = SqliteStore::open(&place.path(), &fast()).unwrap();
    insert(&mut store, 1);
    let reader = Connection::open(place.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM job;").unwrap();
    let kept = u64::try_from(MAX_LOG_KEPT).unwrap();
    let size = || fs::metadata(sibling(&place.path(), "-wal")).unwrap().len();
    megabytes(&mut store, 0, 80);
    assert!(size() > kept && store.log_bytes() == size(), "{}", size());
    reader.execute_batch("COMMIT").unwrap();
    // What is written next finds it whole, and begins anew.
    megabytes(&mut store, 100, 6);
    assert!(size() <= kept, "{} MiB", size() >> 20);
}
