//! What survives: kill -9 at any moment, jobs that kill their process, processes that are stopped.

mod fetching;
mod web;

use std::collections::HashSet;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Place, Running, until};

/// Whoever died has been cleared away.
fn assert_no_owners(place: &Place) {
    let leftovers: Vec<_> =
        std::fs::read_dir(place.path("state/workqueue.sqlite-owners")).unwrap().collect();
    assert!(leftovers.is_empty(), "owners left behind: {leftovers:?}");
}

fn noop_lines(count: usize, sleep_ms: u32) -> String {
    (0..count)
        .map(|n| format!("{{\"id\": \"job-{n}\", \"kind\": \"noop\", \"sleep_ms\": {sleep_ms}}}\n"))
        .collect()
}

/// How often a run is killed: `ORCH_TEST_KILLS`, or a dozen times.
fn kills() -> usize {
    std::env::var("ORCH_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

/// Every job is there once, done once, and the database is whole.
fn assert_all_done(place: &Place, count: usize) {
    let stats = place.stats();
    assert_eq!(stats["done"], count, "{stats}");
    assert_eq!(stats["total"], count, "{stats}");
    let jobs = place.export();
    let ids: HashSet<&str> = jobs.iter().map(|job| job["artifact_id"].as_str().unwrap()).collect();
    assert_eq!((jobs.len(), ids.len()), (count, count));
    assert!(jobs.iter().all(|job| job["state"] == "done"));
    assert!(jobs.iter().all(|job| job["attempts"] == 1), "an attempt was counted that was lost");
    assert_eq!(place.integrity(), "ok");
}

#[test]
fn kill_9_in_the_middle_of_a_drain_loses_nothing_and_repeats_nothing() {
    const JOBS: usize = 20_000;
    let place = Place::new();
    place.write("jobs.jsonl", noop_lines(JOBS, 1));
    place.ok("queue import jobs.jsonl");
    let mut killed = 0;
    for round in 0..kills() {
        let before = place.count("done");
        let mut child = place.start("queue run --workers 8 --drain");
        // Not before it has taken over and got going, and then at another moment each time.
        until("progress", || place.count("done") > before || child.is_over());
        std::thread::sleep(Duration::from_millis((round as u64 * 7919) % 90));
        if child.is_over() {
            break;
        }
        child.signal(Signal::KILL);
        assert_eq!(child.end().signal, Some(9));
        killed += 1;
    }
    assert!(
        killed >= 3,
        "the drain was over after {killed} kills: it was not killed in its middle"
    );
    // lease_ttl_seconds is 600: this could not drain without taking over at once.
    place.ok("queue run --workers 8 --drain");
    assert_all_done(&place, JOBS);
    assert_no_owners(&place);
}

#[test]
fn a_job_that_kills_its_process_ends_crashed_and_takes_no_other_with_it() {
    let place = Place::new();
    let mut lines = noop_lines(60, 2);
    lines.push_str("{\"id\": \"killer\", \"kind\": \"exec\", \"shell\": \"kill -9 $PPID\"}\n");
    lines.push_str(&noop_lines(120, 2));
    place.write("jobs.jsonl", lines);
    place.ok("queue import jobs.jsonl");
    let mut deaths = 0;
    loop {
        if place.run("queue run --drain --allow-exec").signal != Some(9) {
            break;
        }
        deaths += 1;
        assert!(deaths <= 5, "it was leased again after max_job_losses deaths");
    }
    assert_eq!(deaths, 5);
    let killer = place.ok("queue show killer --format json").json();
    assert_eq!((&killer["state"], &killer["reason"]), (&"error".into(), &"crashed".into()));
    let stats = place.stats();
    assert_eq!((&stats["done"], &stats["error"]), (&120.into(), &1.into()), "{stats}");
}

#[test]
fn a_command_of_a_dead_owner_does_not_run_when_its_job_is_leased_again() {
    let place = Place::new();
    // Notes its start; whoever finds the other one's mark still locked has run beside it.
    let script = "exec 9>>lock; flock -n 9 || echo beside >> overlap; echo $$ >> starts; \
                  [ $(wc -l < starts) -gt 1 ] || sleep 600";
    let line = serde_json::json!({"id": "long", "kind": "exec", "shell": script});
    place.write("jobs.jsonl", format!("{line}\n"));
    place.ok("queue import jobs.jsonl");
    let first = place.start("queue run --drain --allow-exec");
    let starts = place.path("starts");
    until("the command to start", || std::fs::read_to_string(&starts).is_ok_and(|s| !s.is_empty()));
    first.signal(Signal::KILL);
    assert_eq!(first.end().signal, Some(9));
    place.ok("queue run --drain --allow-exec");
    assert_eq!(std::fs::read_to_string(&starts).unwrap().lines().count(), 2);
    assert!(!place.path("overlap").exists(), "the old command was still running");
}

/// Stops a process where it keeps nobody from the queue. One that is stopped in the midst of a transaction holds the lock of
/// the database for as long as it is, and no lease could be taken from it.
pub(crate) fn stop_between_transactions(process: &Running, place: &Place) {
    let database = rusqlite::Connection::open(place.database()).unwrap();
    database.busy_timeout(Duration::ZERO).unwrap();
    loop {
        process.signal(Signal::STOP);
        if database.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok() {
            return;
        }
        process.signal(Signal::CONT);
    }
}

#[test]
fn a_process_stopped_for_longer_than_a_lease_loses_nothing_and_doubles_nothing() {
    const JOBS: usize = 400;
    let place = Place::new();
    place.write("jobs.jsonl", noop_lines(JOBS, 20));
    place.write(
        "orch.toml",
        "[orchestrator]\nlease_ttl_seconds = 30\nheartbeat_seconds = 5\nmax_workers = 2\n",
    );
    place.ok("queue import jobs.jsonl");
    let stopped = place.start("queue run --drain");
    until("progress", || place.count("done") > 0);
    stop_between_transactions(&stopped, &place);
    // Not draining: it must still be there when the lease ends.
    let other = place.start("queue run");
    until("the silent owner's jobs", || place.count("done") == JOBS as u64);
    stopped.signal(Signal::CONT);
    stopped.end().code(0);
    other.signal(Signal::TERM);
    other.end().code(143);
    assert_all_done(&place, JOBS);
}
