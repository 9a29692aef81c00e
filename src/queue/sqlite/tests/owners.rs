//! Owners as files and locks, beyond what the conformance suite sees through the trait.

use std::fs;

use super::{NOW, Place, insert, settlement, turn};
use crate::job::{Mono, Outcome};
use crate::queue::sqlite::SqliteStore;
use crate::queue::sqlite::open::lock_upkeep;
use crate::queue::store::{Beat, Owner, RecoverTerms, Recovered, Settled, Store};

const TTL_MS: u64 = 600_000;

fn recover(store: &mut SqliteStore, mono_ms: u64) -> Recovered {
    let mono = Mono::from_ms(mono_ms);
    let terms = RecoverTerms { now: NOW, mono, lease_ttl_ms: TTL_MS, max_job_losses: 5 };
    store.recover(None, terms).unwrap()
}

fn directory(owner: &Owner) -> &std::path::Path {
    owner.directory.as_deref().unwrap()
}

#[test]
fn an_owner_lives_as_long_as_the_last_handle_of_its_process() {
    let place = Place::new();
    let mut observer = place.open();
    let mut store = place.open();
    let owner = store.register(NOW).unwrap();
    let fork = store.fork().unwrap();
    drop(store);
    assert_eq!(recover(&mut observer, 0), Recovered::default());
    drop(fork);
    let found = recover(&mut observer, 0);
    assert_eq!(found.owners, std::slice::from_ref(&owner.id));
    assert!(!directory(&owner).exists());
}

#[test]
fn an_owner_whose_directory_is_gone_is_dead() {
    let place = Place::new();
    let mut store = place.open();
    let owner = store.register(NOW).unwrap();
    insert(&mut store, 3);
    assert_eq!(turn(&mut store, &owner, &[], 3).leased.len(), 3);
    fs::remove_dir_all(directory(&owner)).unwrap();
    let found = recover(&mut place.open(), 0);
    assert_eq!((found.owners.len(), found.requeued), (1, 3));
}

#[test]
fn more_leases_than_one_step_frees_are_all_freed() {
    let place = Place::new();
    let mut store = place.open();
    let owner = store.register(NOW).unwrap();
    insert(&mut store, 10_000);
    assert_eq!(turn(&mut store, &owner, &[], 10_000).leased.len(), 10_000);
    drop(store);
    let mut store = place.open();
    assert_eq!(recover(&mut store, 0).requeued, 10_000);
    let counts = store.counts().unwrap();
    assert_eq!((counts.queued, counts.in_progress), (10_000, 0));
}

#[test]
fn a_silent_owner_loses_its_leases_keeps_its_files_and_learns_of_it() {
    let place = Place::new();
    let mut stopped = place.open();
    let owner = stopped.register(NOW).unwrap();
    insert(&mut stopped, 1);
    let leased = turn(&mut stopped, &owner, &[], 1).leased;

    let mut observer = place.open();
    assert_eq!(recover(&mut observer, 0), Recovered::default());
    assert_eq!(recover(&mut observer, TTL_MS - 1), Recovered::default());
    assert_eq!(recover(&mut observer, TTL_MS).requeued, 1);
    assert!(directory(&owner).exists(), "its lock is still held");

    assert_eq!(stopped.beat(&owner).unwrap(), Beat::Lost);
    let settle = [settlement(&leased[0], Outcome::done())];
    let report = turn(&mut stopped, &owner, &settle, 1);
    assert!(report.owner_lost);
    assert_eq!(report.settled, [Settled::LeaseLost]);
    drop(stopped);
    recover(&mut observer, TTL_MS);
    assert!(!directory(&owner).exists(), "swept once its lock is free");
}

#[test]
fn a_beat_starts_the_observers_wait_again() {
    let place = Place::new();
    let mut slow = place.open();
    let owner = slow.register(NOW).unwrap();
    let mut observer = place.open();
    recover(&mut observer, 0);
    assert_eq!(slow.beat(&owner).unwrap(), Beat::Alive);
    assert_eq!(recover(&mut observer, TTL_MS), Recovered::default());
    assert_eq!(recover(&mut observer, 2 * TTL_MS - 1), Recovered::default());
    assert_eq!(recover(&mut observer, 2 * TTL_MS).owners.len(), 1);
}

#[test]
fn files_that_no_row_names_are_swept_when_their_lock_is_free() {
    let place = Place::new();
    let mut store = place.open();
    let living = store.register(NOW).unwrap();
    let stray = directory(&living).with_file_name("0190-stray");
    fs::create_dir(&stray).unwrap();
    fs::write(stray.join("lock"), "").unwrap();

    let registering = lock_upkeep(&place.path()).unwrap();
    recover(&mut store, 0);
    assert!(stray.exists(), "it may be that of an owner about to write its row");
    drop(registering);
    recover(&mut store, 0);
    assert!(!stray.exists());
    assert!(directory(&living).exists());
}

#[test]
fn a_retired_owner_takes_its_files_along() {
    let place = Place::new();
    let mut store = place.open();
    let owner = store.register(NOW).unwrap();
    assert!(directory(&owner).join("lock").exists());
    store.retire(&owner, NOW).unwrap();
    assert!(!directory(&owner).exists());
    assert_eq!(store.beat(&owner).unwrap(), Beat::Lost);
    let next = store.register(NOW).unwrap();
    assert!(next.row > owner.row, "a number is not used again");
}

#[test]
fn the_lock_and_the_bell_are_not_inherited_by_commands() {
    let place = Place::new();
    let mut store = place.open();
    let owner = store.register(NOW).unwrap();
    // A command that outlives its owner must not keep the owner alive.
    let mut command = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    drop(store);
    let found = recover(&mut place.open(), 0);
    command.kill().unwrap();
    command.wait().unwrap();
    assert_eq!(found.owners, [owner.id]);
}
