//! Which files are taken for a queue, and which are refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::{NOW, Place, insert, options, settlement, specs, turn};
use crate::job::{ArtifactId, DoneReason, Note, Observation, Outcome};
use crate::queue::sqlite::open::{MIGRATIONS, create_file};
use crate::queue::sqlite::row::IdHash;
use crate::queue::sqlite::{Durability, OpenOptions, SqliteStore};
use crate::queue::store::{Inserted, OnDuplicate, Store, StoreError};

fn refused(path: &Path, options: &OpenOptions) -> String {
    SqliteStore::open(path, options).unwrap_err().to_string()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn all_files_of_a_queue_are_private() {
    let place = Place::new();
    let path = place.directory.path().join("new/state/queue.sqlite");
    let mut store = SqliteStore::open(&path, &options()).unwrap();
    insert(&mut store, 1);
    let owner = store.register(NOW).unwrap();
    let directory = owner.directory.unwrap();
    for name in ["queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm", "queue.sqlite-lock"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("lock")), 0o600);
    if cfg!(target_os = "linux") {
        assert_eq!(mode(&directory.join("bell")), 0o600);
    }
}

#[test]
fn the_file_is_private_before_there_is_anything_in_it() {
    let place = Place::new();
    create_file(&place.path()).unwrap();
    assert_eq!((mode(&place.path()), fs::metadata(place.path()).unwrap().len()), (0o600, 0));
}

#[test]
fn a_queue_that_was_copied_with_a_wide_mode_is_made_private() {
    let place = Place::new();
    drop(place.open());
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o644)).unwrap();
    drop(place.open());
    assert_eq!(mode(&place.path()), 0o600);
}

#[test]
fn a_missing_queue_is_made_only_when_asked_for() {
    let place = Place::new();
    let open = OpenOptions { create: false, ..options() };
    assert!(matches!(SqliteStore::open(&place.path(), &open), Err(StoreError::Missing { .. })));
    assert!(fs::read_dir(place.directory.path()).unwrap().next().is_none(), "nothing was made");
    drop(place.open());
    SqliteStore::open(&place.path(), &open).unwrap();
}

#[test]
fn what_is_no_queue_is_refused_and_left_as_it_was() {
    let place = Place::new();
    let path = place.path();
    fs::write(&path, "a,b\n1,2\n").unwrap();
    assert!(refused(&path, &options()).contains("no SQLite database"));
    assert_eq!(fs::read(&path).unwrap(), b"a,b\n1,2\n");

    assert!(refused(place.directory.path(), &options()).contains("no regular file"));

    fs::write(&path, "").unwrap();
    let look = OpenOptions { create: false, ..options() };
    assert!(refused(&path, &look).contains("it is empty"));
    SqliteStore::open(&path, &options()).unwrap();
}

#[test]
fn another_programs_database_is_refused_and_left_as_it_was() {
    let place = Place::new();
    Connection::open(place.path()).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    let before = fs::read(place.path()).unwrap();
    assert!(refused(&place.path(), &options()).contains("another program's"));
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[test]
fn a_queue_of_a_newer_version_is_refused() {
    let place = Place::new();
    drop(place.open());
    let newer =
        "INSERT INTO refinery_schema_history VALUES (9, 'later', '2030-01-01T00:00:00Z', '1')";
    Connection::open(place.path()).unwrap().execute_batch(newer).unwrap();
    let error = SqliteStore::open(&place.path(), &options()).unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 9, known: 5, .. }), "{error}");
}

/// What an earlier version of orch made: the schema as of `version`, three jobs at a host and one that has ended.
fn make_older(place: &Place, version: usize) {
    create_file(&place.path()).unwrap();
    let mut conn = Connection::open(place.path()).unwrap();
    conn.pragma_update(None, "application_id", 0x6f72_6368).unwrap();
    let known: Vec<_> = MIGRATIONS[..version]
        .iter()
        .map(|(name, sql)| refinery::Migration::unapplied(name, sql).unwrap())
        .collect();
    refinery::Runner::new(&known).run(&mut conn).unwrap();
    let hash = |id: &str| IdHash::of(&ArtifactId::new(id).unwrap()).seen();
    // A lane's tag came with the fourth.
    let (tag, no_tag) = if version >= 4 { (", tag", ", ''") } else { ("", "") };
    conn.execute_batch(&format!(
        "INSERT INTO lane (id, host, resolver, kind{tag}) VALUES (7, 'h.example', '', 'noop'{no_tag});
         INSERT INTO job (id, enqueued_at_ms, priority, lane, artifact_id, tags, payload) VALUES
             (1, 5, 2, 7, 'job:0', '[\"t\"]', '{{}}'), (2, 6, 2, 7, 'job:1', NULL, '{{}}'),
             (3, 7, 2, 7, 'job:2', NULL, '{{}}'), (4, 8, 2, 7, 'job:3', NULL, '{{}}');
         INSERT INTO ready VALUES (2, 7, 1, 0), (2, 7, 2, 0), (2, 7, 3, 0);
         INSERT INTO progress VALUES (4, 1, 1, 1, 1, 0, 1, 9, 10, NULL, 7);
         INSERT INTO seen_lately VALUES ({}, 1), ({}, 2), ({}, 3), ({}, 4);
         INSERT INTO tally (dimension, key, queued, done, skipped, error) VALUES
             (0, '', 3, 1, 0, 0), (1, 'noop', 3, 1, 0, 0), (2, 'h.example', 3, 1, 0, 0),
             (3, '', 3, 1, 0, 0), (4, 'ok', 0, 1, 0, 0);
         UPDATE counter SET value = 5 WHERE name = 'next_job';
         UPDATE counter SET value = 4 WHERE name = 'seen_lately'",
        hash("job:0"),
        hash("job:1"),
        hash("job:2"),
        hash("job:3")
    ))
    .unwrap();
}

#[test]
fn a_queue_of_an_older_version_is_brought_up_to_date_and_keeps_its_jobs() {
    for version in 1..MIGRATIONS.len() {
        let place = Place::new();
        make_older(&place, version);
        // As the commands that only look open it.
        let look = OpenOptions { create: false, ..options() };
        let mut store = SqliteStore::open(&place.path(), &look).unwrap();
        assert_eq!(store.yields().unwrap(), []);
        let counts = store.counts().unwrap();
        assert_eq!((counts.queued, counts.done), (3, 1), "version {version}");
        assert_eq!(
            store.insert(&specs(4), OnDuplicate::Skip, NOW).unwrap(),
            [Inserted::Duplicate; 4]
        );
        let owner = store.register(NOW).unwrap();
        let leased = turn(&mut store, &owner, &[], 9).leased;
        assert_eq!(leased.len(), 3, "version {version}");
        assert_eq!((leased[0].lane.id.0, leased[0].lane.tag.as_deref()), (7, None));
        let observed = Observation { asked: 1, ..Observation::of("arxiv", None) };
        let note = Note::default().with_observed(vec![observed.clone()]);
        let done = Outcome::Done { reason: DoneReason::Ok, note };
        turn(&mut store, &owner, &[settlement(&leased[0], done)], 0);
        assert_eq!(store.yields().unwrap(), [observed]);
        assert_eq!(store.prune(NOW, true, 9).unwrap(), 1, "the one that had ended");
        let all = store.insert(&specs(5), OnDuplicate::Skip, NOW).unwrap();
        let [Inserted::Duplicate, _, _, forgotten, new] = all[..] else { panic!("{all:?}") };
        assert_eq!([forgotten, new], [Inserted::New; 2], "version {version}");
    }
}

#[test]
fn a_making_that_was_cut_short_is_finished() {
    let place = Place::new();
    let conn = Connection::open(place.path()).unwrap();
    conn.pragma_update(None, "application_id", 0x6f72_6368).unwrap();
    drop(conn);
    let mut store = place.open();
    insert(&mut store, 1);
    assert_eq!(store.counts().unwrap().queued, 1);
}

#[test]
fn many_may_make_the_same_queue_at_once() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut store = place.open();
                store.insert(&specs(10), OnDuplicate::Skip, NOW).unwrap();
            });
        }
    });
    assert_eq!(place.open().counts().unwrap().queued, 10);
}

#[test]
fn the_options_reach_sqlite() {
    let ask = |store: &SqliteStore, pragma| -> String {
        let value = |row: &rusqlite::Row<'_>| row.get::<_, rusqlite::types::Value>(0);
        match store.conn.pragma_query_value(None, pragma, value).unwrap() {
            rusqlite::types::Value::Integer(n) => n.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => panic!("{other:?}"),
        }
    };
    let place = Place::new();
    let store = place.open();
    assert_eq!(ask(&store, "journal_mode"), "wal");
    assert_eq!(ask(&store, "synchronous"), "2");
    // As every handle after the first is opened.
    let conn = super::super::open::reopen(&place.path(), &options()).unwrap();
    let fork = SqliteStore::over(conn, std::sync::Arc::clone(&store.shared)).unwrap();
    assert_eq!(ask(&fork, "synchronous"), "2");
    drop((fork, store));
    let other = OpenOptions { wal_mode: false, durability: Durability::Normal, ..options() };
    let store = SqliteStore::open(&place.path(), &other).unwrap();
    assert_eq!(ask(&store, "journal_mode"), "delete");
    assert_eq!(ask(&store, "synchronous"), "1");
}

#[test]
fn a_full_database_is_said_to_be_full_and_loses_nothing() {
    let place = Place::new();
    let mut store = place.open();
    insert(&mut store, 10);
    let small = OpenOptions { max_pages: Some(64), ..options() };
    let mut store = SqliteStore::open(&place.path(), &small).unwrap();
    let big = specs(2_000).into_iter().map(|spec| spec.with_payload("x".repeat(1_000)));
    let big: Vec<_> = big.collect();
    let error = store.insert(&big, OnDuplicate::Skip, NOW).unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(store.counts().unwrap().queued, 10);
    insert(&mut store, 11);
    assert_eq!(store.counts().unwrap().queued, 11);
}

#[test]
fn a_queue_that_stays_locked_is_said_to_be_busy() {
    let place = Place::new();
    let mut store = place.open();
    let options = OpenOptions { busy_timeout: std::time::Duration::ZERO, ..options() };
    let mut other = SqliteStore::open(&place.path(), &options).unwrap();
    store
        .write(|batch| {
            assert!(matches!(
                other.insert(&specs(1), OnDuplicate::Skip, NOW),
                Err(StoreError::Busy { .. })
            ));
            batch.run(super::super::sql::SET_COUNTER, ("next_job", 1))
        })
        .unwrap();
    insert(&mut other, 1);
}

#[cfg(target_os = "linux")]
#[test]
fn network_file_systems_are_known_by_their_magic() {
    use crate::queue::sqlite::open::network_name;
    for (magic, name) in
        [(0x6969, Some("nfs")), (0xfe53_4d42, Some("smb2")), (0x0102_1997, Some("9p"))]
    {
        assert_eq!(network_name(magic), name);
    }
    for (local, name) in
        [(0xef53, "ext4"), (0x0102_1994, "tmpfs"), (0x6573_5546, "fuse"), (0x9123_683e, "btrfs")]
    {
        assert_eq!(network_name(local), None, "{name}");
    }
}
