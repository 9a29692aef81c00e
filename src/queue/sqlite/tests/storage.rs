//! What lies in the file: hashes that collide, records that stay as long as they were, what is kept how long.

use std::ops::ControlFlow;

use super::{NOW, Place, insert, options, settlement, specs, turn};
use crate::job::{ErrorReason, JobSpec, Key, Outcome, State};
use crate::queue::sqlite::row::IdHash;
use crate::queue::sqlite::stint::{ASK_EVERY, Stint};
use crate::queue::sqlite::{Durability, OpenOptions, SqliteStore, seen, sql, view};
use crate::queue::store::{Dimension, Filter, Inserted, OnDuplicate, Settled, Store};

fn pages(store: &SqliteStore) -> i64 {
    store.conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
}

fn rows(store: &SqliteStore, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    store.conn.query_row(&sql, [], |row| row.get(0)).unwrap()
}

fn counter(store: &SqliteStore, name: &str) -> i64 {
    store.conn.query_row(sql::COUNTER, [name], |row| row.get(0)).unwrap()
}

#[test]
fn ids_whose_hashes_collide_are_different_jobs() {
    let place = Place::new();
    let mut store = place.open();
    let [one, two, new] = ["one", "two", "new"].map(|id| JobSpec::new(id, "noop").unwrap());
    store.insert(&[one.clone(), two.clone()], OnDuplicate::Skip, NOW).unwrap();
    // As if all three had one hash: `new` is not there yet, and finds the row of `one` in its place.
    let hash = |spec: &JobSpec| IdHash::of(&spec.artifact_id).seen();
    assert_eq!(store.conn.execute(sql::CLAIM, (hash(&new), 1)).unwrap(), 1);
    store.conn.execute("UPDATE seen_newest SET job = 1 WHERE hash = ?1", [hash(&two)]).unwrap();
    store.conn.execute(sql::CLAIM_TOO, (hash(&two), 2)).unwrap();
    let again = [one.clone(), new.clone(), two.clone(), new.clone()];
    assert_eq!(
        store.insert(&again, OnDuplicate::Skip, NOW).unwrap(),
        [Inserted::Duplicate, Inserted::New, Inserted::Duplicate, Inserted::Duplicate]
    );
    let row = |store: &mut SqliteStore, spec: &JobSpec| {
        store.show(&spec.artifact_id).unwrap().map(|(view, _)| (view.row.0, view.artifact_id))
    };
    assert_eq!(row(&mut store, &one), Some((1, one.artifact_id.clone())));
    assert_eq!(row(&mut store, &two), Some((2, two.artifact_id.clone())));
    assert_eq!(row(&mut store, &new), Some((4, new.artifact_id.clone())));

    let owner = store.register(NOW).unwrap();
    let leased = turn(&mut store, &owner, &[], 3).leased;
    let settle: Vec<_> = leased.iter().map(|job| settlement(job, Outcome::done())).collect();
    turn(&mut store, &owner, &settle, 0);
    assert_eq!(store.prune(NOW.plus_ms(1), true, 10).unwrap(), 3);
    assert_eq!(rows(&store, "seen_too"), 0);
}

/// Short transactions must not rewrite a page for each id: what makes ids in random order slow to insert into millions of rows.
#[test]
fn a_small_batch_touches_few_pages_however_many_ids_there_are() {
    let place = Place::new();
    let fast = OpenOptions { durability: Durability::Normal, ..options() };
    let mut store = SqliteStore::open(&place.path(), &fast).unwrap();
    let all = specs(160_000);
    store.insert(&all[..150_000], OnDuplicate::Skip, NOW).unwrap();
    let pages = |store: &SqliteStore| -> i64 {
        store.conn.query_row(sql::CARRY_OVER, [], |row| row.get(1)).unwrap()
    };
    let mut most = 0;
    for part in all[150_000..].chunks(1_000) {
        store.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        store.insert(part, OnDuplicate::Skip, NOW).unwrap();
        most = most.max(pages(&store));
    }
    // A thousand ids fall on a thousand pages of a table that is large; the smallest has sixty, and the jobs take thirty.
    assert!(most < 150, "{most} pages for a thousand jobs");
}

/// The hashes move from table to table under it.
#[test]
fn every_id_is_found_again_however_many_came_after_it() {
    let place = Place::new();
    let mut store = place.open();
    let count = usize::try_from(seen::MAX_LATELY).unwrap() + 40_000;
    let all = specs(count);
    let fast = OpenOptions { durability: Durability::Normal, ..options() };
    for part in all.chunks(40_000) {
        SqliteStore::open(&place.path(), &fast)
            .unwrap()
            .insert(part, OnDuplicate::Skip, NOW)
            .unwrap();
    }
    assert!(rows(&store, "seen") > 0, "some have moved");
    assert!(rows(&store, "seen_lately") <= seen::MAX_LATELY);
    let levels = ["seen_newest", "seen_lately", "seen"].map(|table| rows(&store, table));
    assert_eq!(levels.iter().sum::<i64>(), rows(&store, "job"));
    let counted = ["seen_newest", "seen_lately"].map(|name| counter(&store, name));
    assert_eq!(counted, levels[..2], "what is counted is what is there");
    let again = store.insert(&all, OnDuplicate::Skip, NOW).unwrap();
    assert!(again.iter().all(|answer| *answer == Inserted::Duplicate));
    assert_eq!(store.counts().unwrap().queued, count as u64);
}

#[test]
fn rows_follow_the_order_of_the_input_whatever_their_hashes() {
    let place = Place::new();
    let mut store = place.open();
    insert(&mut store, 500);
    let page = store.list(&Filter::default(), None, 1_000).unwrap();
    let ids: Vec<_> = page.jobs.iter().map(|job| job.artifact_id.clone()).collect();
    let given: Vec<_> = specs(500).into_iter().map(|spec| spec.artifact_id).collect();
    assert_eq!(ids, given);
}

/// What settling writes must not depend on how long the line was that the job came as.
#[test]
fn draining_leaves_the_job_rows_alone_and_adds_forty_bytes_each_at_most() {
    let place = Place::new();
    let mut store = place.open();
    let payload = format!("{{\"x\":\"{}\"}}", "y".repeat(140));
    let specs: Vec<_> =
        specs(20_000).into_iter().map(|spec| spec.with_payload(payload.clone())).collect();
    store.insert(&specs, OnDuplicate::Skip, NOW).unwrap();
    let owner = store.register(NOW).unwrap();
    let full = pages(&store);
    store
        .conn
        .execute_batch(
            "CREATE TEMP TRIGGER unwritten UPDATE ON job BEGIN SELECT raise(ABORT, 'written'); END",
        )
        .unwrap();
    let mut settle = Vec::new();
    loop {
        let report = turn(&mut store, &owner, &settle, 512);
        settle = report.leased.iter().map(|job| settlement(job, Outcome::done())).collect();
        if settle.is_empty() {
            break;
        }
    }
    assert_eq!(store.counts().unwrap().done, 20_000);
    assert!((pages(&store) - full) * 4_096 <= 20_000 * 40, "{full} pages became {}", pages(&store));
    for table in ["ready", "delayed", "lease", "result", "attempt", "checkpoint"] {
        assert_eq!(rows(&store, table), 0, "{table}");
    }
}

#[test]
fn a_queued_job_takes_at_most_330_bytes() {
    let place = Place::new();
    let mut store = place.open();
    let payload = format!("{{\"x\":\"{}\"}}", "y".repeat(142));
    let spec = |n| JobSpec::new(&format!("doi:10.1234/{n:08}"), "noop").unwrap();
    let specs: Vec<_> = (0..20_000).map(|n| spec(n).with_payload(payload.clone())).collect();
    store.insert(&specs, OnDuplicate::Skip, NOW).unwrap();
    let bytes = pages(&store) * 4_096 / 20_000;
    assert!(bytes <= 330, "{bytes}");
}

#[test]
fn nothing_is_left_of_a_job_that_was_pruned_and_forgotten() {
    let place = Place::new();
    let mut store = place.open();
    let owner = store.register(NOW).unwrap();
    insert(&mut store, 2);
    let leased = turn(&mut store, &owner, &[], 2).leased;
    let outcome = || Outcome::fail(ErrorReason::Dns, "no such host");
    let failed: Vec<_> = leased.iter().map(|job| settlement(job, outcome())).collect();
    turn(&mut store, &owner, &failed, 0);
    assert_eq!(store.prune(NOW.plus_ms(1), true, 10).unwrap(), 2);
    for table in [
        "job",
        "progress",
        "seen",
        "seen_lately",
        "seen_newest",
        "result",
        "attempt",
        "checkpoint",
        "pruned",
    ] {
        assert_eq!(rows(&store, table), 0, "{table}");
    }
    let names = [Dimension::Kind, Dimension::Host, Dimension::Resolver, Dimension::Reason];
    assert!(names.iter().all(|by| store.counts_by(*by).unwrap().is_empty()));
}

#[test]
fn lanes_are_remembered_up_to_a_bound() {
    let place = Place::new();
    let mut store = place.open();
    let spec = |n: usize| {
        let mut spec = JobSpec::new(&format!("job:{n}"), "noop").unwrap();
        spec.key.host = Some(format!("h{n}.example").into());
        spec
    };
    let specs: Vec<_> = (0..20_000).map(spec).collect();
    for part in specs.chunks(4_000) {
        store.insert(part, OnDuplicate::Skip, NOW).unwrap();
    }
    assert!(store.lanes.len() <= 16_384);
    assert_eq!(store.counts_by(Dimension::Host).unwrap().len(), 20_000);
}

/// Leases are ended in runs; what lies between them, another owner's or unsettled, must stay.
#[test]
fn of_many_leases_exactly_those_settled_end() {
    let place = Place::new();
    let mut store = place.open();
    let [one, two] = [(); 2].map(|()| store.register(NOW).unwrap());
    insert(&mut store, 900);
    let mut ours = Vec::new();
    for _ in 0..9 {
        turn(&mut store, &two, &[], 20);
        ours.extend(turn(&mut store, &one, &[], 80).leased);
    }
    assert_eq!(store.counts().unwrap().in_progress, 900);
    // Singles, runs, and gaps short and long; out of order; among them stale and foreign tokens.
    let is_settled = |at: usize| at.is_multiple_of(7) || (100..160).contains(&at) || at % 90 == 1;
    let (settled, kept): (Vec<_>, Vec<_>) = (0..ours.len()).partition(|at| is_settled(*at));
    let mut settle: Vec<_> =
        settled.iter().rev().map(|at| settlement(&ours[*at], Outcome::done())).collect();
    let mut stale = settlement(&ours[kept[0]], Outcome::done());
    stale.token.epoch = stale.token.epoch.next();
    settle.insert(3, stale.clone());
    stale.token =
        crate::job::LeaseToken { job: crate::job::JobRow(1), epoch: crate::job::Epoch(1) };
    settle.insert(5, stale.clone());
    stale.token.job.0 = 1_000_000;
    settle.push(stale);
    let report = turn(&mut store, &one, &settle, 0);
    let lost = |at: usize| report.settled[at] == Settled::LeaseLost;
    assert!(lost(3) && lost(5) && lost(settle.len() - 1));
    let counts = store.counts().unwrap();
    assert_eq!(counts.done, settled.len() as u64);
    assert_eq!(counts.in_progress, 900 - settled.len() as u64);

    let rest: Vec<_> = kept.iter().map(|at| settlement(&ours[*at], Outcome::done())).collect();
    let report = turn(&mut store, &one, &rest, 0);
    assert!(report.settled.iter().all(|answer| *answer == Settled::Accepted(State::Done)));
    assert_eq!(store.counts().unwrap().in_progress, 180);
}

/// A page must not cost a walk over all that its filter leaves out, nor more than it holds where all match.
#[test]
fn a_page_that_matches_little_ends_early_and_says_where_to_go_on() {
    let place = Place::new();
    let mut store = place.open();
    insert(&mut store, view::MAX_WALKED + 10);
    let spec = JobSpec::new("wanted", "noop").unwrap();
    let wanted = JobSpec { key: Key::new(None, Some("h.example")).unwrap(), ..spec };
    store.insert(&[wanted], OnDuplicate::Skip, NOW).unwrap();
    let filter = Filter { host: Some("h.example".into()), ..Filter::default() };
    let first = store.list(&filter, None, 5).unwrap();
    assert!(first.jobs.is_empty());
    let second = store.list(&filter, first.next, 5).unwrap();
    assert_eq!((second.jobs.len(), second.next), (1, None));
}

/// A page of large jobs must neither fill the memory nor keep its snapshot while megabytes are read.
#[test]
fn a_page_of_large_jobs_ends_early_and_says_where_to_go_on() {
    let place = Place::new();
    let mut store = place.open();
    let large = || format!("{{\"x\":\"{}\"}}", "y".repeat(view::MAX_PAGE_BYTES / 4));
    let jobs: Vec<_> = specs(10).into_iter().map(|spec| spec.with_payload(large())).collect();
    store.insert(&jobs, OnDuplicate::Skip, NOW).unwrap();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(&Filter::default(), after, 1_000).unwrap();
        assert!(page.jobs.len() <= 4, "{}", page.jobs.len());
        found.extend(page.jobs.into_iter().map(|job| job.row.0));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, (1..=10).collect::<Vec<_>>());
}

#[test]
fn a_walk_whose_time_is_over_ends_soon_and_goes_on_where_it_was() {
    let place = Place::new();
    let mut store = place.open();
    insert(&mut store, 1_000);
    let (mut passed, mut after, mut stretches) = (0, Some(crate::job::JobRow(0)), 0);
    while let Some(row) = after {
        after = store
            .read(|conn, _| {
                view::walk(conn, view::Walk::All, row, Stint::over(), |_| {
                    passed += 1;
                    ControlFlow::Continue(())
                })
            })
            .unwrap();
        stretches += 1;
    }
    assert_eq!(passed, 1_000);
    assert_eq!(stretches, 1_000 / ASK_EVERY + 1);
}

#[test]
fn counts_by_name_read_in_many_pages_are_those_read_in_one() {
    let place = Place::new();
    let mut store = place.open();
    let spec = |n: usize| {
        let key = Key::new(None, (n > 0).then(|| format!("h{}.example", n % 7)).as_deref());
        JobSpec { key: key.unwrap(), ..JobSpec::new(&format!("job:{n}"), "noop").unwrap() }
    };
    store.insert(&(0..40).map(spec).collect::<Vec<_>>(), OnDuplicate::Skip, NOW).unwrap();
    let owner = store.register(NOW).unwrap();
    turn(&mut store, &owner, &[], 2);
    let all = store.counts_by(Dimension::Host).unwrap();
    assert_eq!((all.len(), all[7].0.as_str()), (8, "-"));
    for most in 1..10 {
        let mut named = view::NamedCounts::begin();
        let mut pages = 1;
        while !store.read(|conn, lanes| named.go_on(conn, lanes, Dimension::Host, most)).unwrap() {
            pages += 1;
        }
        assert_eq!(named.sorted(), all, "in pages of {most}");
        assert_eq!(pages, 8 / most + 1);
    }
}
