//! Signals: the first lets what runs finish, the second does not.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{assert_untouched, exec, held, in_short, noop, until_there, with};
use crate::support::{Place, Running, until};

/// Seconds that are never waited for.
const FOREVER: &str = "[orchestrator]\nshutdown_seconds = 3600\nmax_per_host = 1\n";

fn on_one_host(line: Value) -> Value {
    with(line, &json!({"host": "busy.example"}))
}

/// A run that has one job running, and one of the others leased ahead for its host: they are of one kind.
fn busy(place: &Place, first: Value) -> Running {
    place.write("orch.toml", FOREVER);
    let is_exec = first["kind"] == "exec";
    let alike = |id| if is_exec { exec(id, "exit 0") } else { noop(id) };
    let waiting = ["b", "c", "d"].map(alike).map(on_one_host);
    place.import(&[vec![on_one_host(first)], waiting.to_vec()].concat());
    let running = place.start("queue run --workers 4 --allow-exec --format json");
    until("leases ahead", || place.count("in_progress") > 1);
    running
}

fn stops_in_good_order(signal: Signal, code: i32, name: &str) {
    let place = Place::new();
    let mut running = busy(&place, held("a"));
    until_there(&place, "started");
    running.signal(signal);
    until("what has not started to be given back", || place.count("in_progress") == 1);
    assert!(!running.is_over(), "it did not wait for what runs");
    for id in ["b", "c", "d"] {
        assert_untouched(&place.show(id));
    }
    place.write("go", "");
    let summary = running.end().code(code).json();
    assert_eq!((&summary["stopped_by"], &summary["exit_code"]), (&name.into(), &code.into()));
    assert_eq!(summary["done"], 1);
    assert!(summary["handed_back"].as_u64().unwrap() >= 1, "{summary:#}");
    assert_eq!(in_short(&place.show("a")), ("done", "ok", 1));
    assert_eq!((place.count("queued"), place.integrity()), (3, "ok".to_owned()));
}

#[test]
fn sigint_gives_back_what_has_not_started_and_lets_the_rest_finish() {
    stops_in_good_order(Signal::INT, 130, "sigint");
}

#[test]
fn sigterm_gives_back_what_has_not_started_and_lets_the_rest_finish() {
    stops_in_good_order(Signal::TERM, 143, "sigterm");
}

#[test]
fn what_does_not_finish_within_shutdown_seconds_is_cancelled_and_given_back() {
    let place = Place::new();
    place.write("orch.toml", "[orchestrator]\nshutdown_seconds = 1\n");
    place.import(&[exec("a", "touch started; sleep 600")]);
    let running = place.start("queue run --allow-exec");
    until_there(&place, "started");
    running.signal(Signal::TERM);
    running.end().code(143);
    assert_untouched(&place.show("a"));
}

/// Sends two signals; the second once the first has had its effect, lest they be merged.
#[track_caller]
fn end_with_two_signals(place: &Place, running: Running) {
    running.signal(Signal::TERM);
    until("the first signal's effect", || place.count("in_progress") == 1);
    running.signal(Signal::TERM);
    running.end().code(143);
}

#[test]
fn a_second_signal_ends_a_wait_of_minutes_at_once() {
    let place = Place::new();
    let running = busy(&place, with(noop("a"), &json!({"sleep_ms": 600_000})));
    end_with_two_signals(&place, running);
    assert_untouched(&place.show("a"));
}

/// A script that holds a lock on `lock`, as does a child of its own, until both are dead.
fn locking(rest: &str) -> String {
    format!("exec 9>>lock; flock 9; sleep 600 & touch started; {rest}")
}

/// Whether everybody is dead who held the lock.
fn lock_is_free(place: &Place) -> bool {
    let file = File::open(place.path("lock")).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[test]
fn a_second_signal_ends_a_command_and_all_its_children() {
    let place = Place::new();
    let running = busy(&place, exec("a", &locking("sleep 600")));
    until_there(&place, "started");
    assert!(!lock_is_free(&place));
    end_with_two_signals(&place, running);
    until("the group's death", || lock_is_free(&place));
    assert_untouched(&place.show("a"));
}

#[test]
fn a_command_that_ignores_sigterm_is_dead_too_and_its_job_is_not_charged() {
    let place = Place::new();
    let script = locking("trap '' TERM; while [ -e started ]; do sleep 1; done");
    let running = busy(&place, exec("a", &script));
    until_there(&place, "started");
    end_with_two_signals(&place, running);
    until("the group's death", || lock_is_free(&place));
    // Whoever looks next frees what could not be handed back; it may not start it.
    place.run("queue run --drain").code(4);
    assert_untouched(&place.show("a"));
}
