//! Limits over all processes, beyond what the conformance suite sees through the trait: starts of the machine, and what a turn costs.

use std::time::Duration;

use super::{NOW, Place};
use crate::job::{LimitKey, Mono, WallMs};
use crate::queue::sqlite::SqliteStore;
use crate::queue::store::{Declared, Owner, RecoverTerms, Store, Turn};
use crate::share::{Claim, KeyEvent, KeyLimits, KeyNews, KeyReply, KeyReport, Policy, Rate, Told};

fn key() -> LimitKey {
    LimitKey::Host("a.example".into())
}

fn told(ms: u64, after: Duration) -> KeyReport {
    let now = Mono::from_ms(ms);
    let told = Told { asked_at: now, now, after: Some(after) };
    KeyReport { events: vec![KeyEvent::Told(told)], ..KeyReport::of(key()) }
}

fn tell(
    store: &mut SqliteStore,
    owner: &Owner,
    at: (u64, WallMs),
    claim: Claim,
    reports: Vec<KeyReport>,
) -> KeyReply {
    let (policy, known) = (Policy::default(), 0);
    let news = KeyNews { now: Mono::from_ms(at.0), known, claim, policy, reports };
    let turn =
        Turn { owner, now: at.1, settle: &[], lease: &[], max_payload_bytes: 0, keys: Some(&news) };
    store.turn(&turn).unwrap().keys.unwrap()
}

/// The machine starts anew: what follows is registered under another boot.
fn reboot(store: &SqliteStore) {
    store.conn.execute("UPDATE sharing SET boot = 'the one before'", []).unwrap();
}

fn one_number(store: &SqliteStore, sql: &str) -> Option<i64> {
    store.conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// A key that is held for ten minutes, an hour after a start of the machine.
fn held(place: &Place) -> SqliteStore {
    const HOUR_MS: u64 = 3_600_000;
    let mut store = place.open();
    let owner = store.register(NOW).unwrap();
    let report = told(HOUR_MS, Duration::from_mins(10));
    tell(&mut store, &owner, (HOUR_MS, NOW), Claim::Keep, vec![report]);
    store.retire(&owner, NOW).unwrap();
    store
}

#[test]
fn a_hold_goes_on_after_the_machine_started_anew() {
    let place = Place::new();
    let mut store = held(&place);
    reboot(&store);
    let owner = store.register(NOW).unwrap();
    // Four minutes later by the wall clock, five seconds after the start.
    let at = (5_000, NOW.plus_ms(240_000));
    let reply = tell(&mut store, &owner, at, Claim::Keep, Vec::new());
    let hold = reply.answers[0].record.hold.unwrap();
    assert_eq!(hold.until, Mono::from_ms(5_000 + 360_000));
    let later = tell(&mut store, &owner, (9_000, NOW), Claim::Keep, Vec::new());
    assert_eq!(later.answers[0].record.hold, Some(hold), "once");
}

#[test]
fn whoever_looks_after_the_dead_sees_to_it_as_well() {
    let place = Place::new();
    let mut store = held(&place);
    reboot(&store);
    store.register(NOW).unwrap();
    let (now, mono) = (NOW.plus_ms(540_000), Mono::from_ms(1_000));
    let terms = RecoverTerms { now, mono, lease_ttl_ms: 600_000, max_job_losses: 5 };
    store.recover(None, terms).unwrap();
    let hold = store.key(&key()).unwrap().record.hold.unwrap();
    assert_eq!(hold.until, Mono::from_ms(61_000));
}

#[test]
fn nothing_is_stale_under_the_same_start_nor_under_the_first() {
    let place = Place::new();
    let mut store = place.open();
    for _ in 0..2 {
        store.register(NOW).unwrap();
        assert_eq!(one_number(&store, "SELECT stale FROM sharing"), Some(0));
    }
    reboot(&store);
    store.register(NOW).unwrap();
    assert_eq!(one_number(&store, "SELECT stale FROM sharing"), Some(1));
}

#[test]
fn what_the_dead_sole_one_spent_is_void_under_another_start_too() {
    let place = Place::new();
    let mut store = place.open();
    let sole = store.register(NOW).unwrap();
    tell(&mut store, &sole, (3_600_000, NOW), Claim::Close, Vec::new());
    drop(store);
    let mut store = place.open();
    let recover = |store: &mut SqliteStore, ms| {
        let mono = Mono::from_ms(ms);
        let terms = RecoverTerms { now: NOW, mono, lease_ttl_ms: 600_000, max_job_losses: 5 };
        store.recover(None, terms).unwrap()
    };
    assert_eq!(recover(&mut store, 3_700_000).owners, [sole.id]);
    let void_ms =
        |store: &SqliteStore| one_number(store, "SELECT void_at_ns / 1000000 FROM sharing");
    assert_eq!(void_ms(&store), Some(3_700_000));
    reboot(&store);
    let owner = store.register(NOW).unwrap();
    let rate = Rate::parse("1/s").unwrap();
    let limits = KeyLimits { max_concurrent: None, rate: Some(rate) };
    let declared = Declared { by_key: vec![(key(), limits)], ..Declared::default() };
    store.declare(&owner, &declared).unwrap();
    let want = KeyReport { tokens_wanted: 1, ..KeyReport::of(key()) };
    let reply = tell(&mut store, &owner, (2_000, NOW), Claim::Keep, vec![want]);
    assert_eq!(void_ms(&store), Some(2_000));
    assert_eq!(reply.answers[0].next_token, Some(Mono::from_ms(3_000)));
}

#[test]
fn what_ends_with_its_owner_leaves_no_row() {
    let place = Place::new();
    let mut store = place.open();
    let owner = store.register(NOW).unwrap();
    let limits = KeyLimits { max_concurrent: Some(2), rate: None };
    let declared = Declared { per_host: Some(4), by_key: vec![(key(), limits)], process: Some(1) };
    store.declare(&owner, &declared).unwrap();
    let want = KeyReport { wanted: 1, ..KeyReport::of(key()) };
    tell(&mut store, &owner, (0, NOW), Claim::Keep, vec![want]);
    let rows = "SELECT (SELECT count(*) FROM share) + (SELECT count(*) FROM declared)";
    assert_eq!(one_number(&store, rows), Some(3));
    store.retire(&owner, NOW).unwrap();
    assert_eq!(one_number(&store, rows), Some(0));
    assert_eq!(
        one_number(&store, "SELECT count(*) FROM key_record"),
        Some(0),
        "it learned nothing"
    );
}

/// A turn that has nothing to say and is told nothing writes nothing: its commit waits for no disk.
#[test]
fn a_turn_with_nothing_to_say_writes_nothing() {
    let place = Place::new();
    let mut store = place.open();
    let owner = store.register(NOW).unwrap();
    tell(&mut store, &owner, (0, NOW), Claim::Close, Vec::new());
    let changes = |store: &SqliteStore| one_number(store, "SELECT total_changes()");
    let before = changes(&store);
    for ms in 1..10 {
        assert!(tell(&mut store, &owner, (ms, NOW), Claim::Keep, Vec::new()).is_sole);
    }
    assert_eq!(changes(&store), before);
}

#[test]
fn a_record_that_no_version_wrote_is_refused() {
    let place = Place::new();
    let mut store = held(&place);
    store.conn.execute("UPDATE key_record SET record = '['", []).unwrap();
    let error = store.key(&key()).unwrap_err().to_string();
    assert!(error.contains("did not write"), "{error}");
}
