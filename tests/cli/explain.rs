//! `queue explain`: a sentence for every state, through the real binary.

use orch::job::{DoneReason, ErrorReason, FinalState, Reason};
use serde_json::{Value, json};

use super::Place;

fn explained(place: &Place, id: &str) -> (Value, String) {
    let json = place.ok(&format!("queue explain {id} --format json")).json();
    let said = place.ok(&format!("queue explain {id}")).out;
    (json, said.trim_end().to_owned())
}

#[track_caller]
fn check(place: &Place, id: &str, why: &str, words: &[&str]) {
    let (json, said) = explained(place, id);
    assert_eq!(json["why"], why, "{json:#}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
}

#[test]
fn a_job_that_nobody_runs_says_so_and_how_many_are_ahead() {
    let place = Place::new();
    let lines: Vec<Value> = (0..5)
        .map(|n| json!({"id": format!("n{n}"), "kind": "noop", "host": "arxiv.org"}))
        .collect();
    place.import(&lines);
    let words = [
        "waiting for arxiv.org: 0 of 1 running",
        "3 jobs ahead of it there",
        "nobody is running this queue",
    ];
    check(&place, "n3", "nobody_runs", &words);
    let (json, _) = explained(&place, "n3");
    assert_eq!((&json["ahead"], &json["ahead_is_exact"]), (&3.into(), &true.into()));
    assert_eq!(json["state"], "queued");
    assert_eq!(json["keys"][0]["name"], "arxiv.org");
}

#[test]
fn a_paused_host_is_why() {
    let place = Place::new();
    place.import(&[json!({"id": "a", "kind": "noop", "host": "a.example"})]);
    place.ok("queue hosts pause a.example");
    let words = ["a person paused it", "`orch queue hosts resume a.example`"];
    check(&place, "a", "nobody_runs", &words);
}

#[test]
fn a_time_of_its_own_is_why() {
    let place = Place::new();
    place.import(&[json!({"id": "a", "kind": "noop", "run_at": "2099-01-31T08:00:00Z"})]);
    check(&place, "a", "run_at", &["waits for its own time, run_at 2099-01-31T08:00:00Z"]);
    assert_eq!(explained(&place, "a").0["until"], "2099-01-31T08:00:00.000Z");
}

#[test]
fn a_retry_says_which_and_after_what() {
    let place = Place::new();
    place.import(&[json!({"id": "a", "kind": "noop", "outcome": "retry", "max_attempts": 3})]);
    place.run("queue run --drain --no-wait-retries").code(4);
    check(&place, "a", "retry", &["retry 2 of 3 at ", " after ", "nobody is running this queue"]);
}

#[test]
fn a_kind_that_no_run_from_here_starts_is_why() {
    let place = Place::new();
    place.import(&[json!({"id": "a", "kind": "exec", "command": ["true"]})]);
    check(&place, "a", "kind", &["of kind exec", "--allow-exec"]);
    let json = place.run("queue explain a --format json").code(0).json();
    assert_eq!(json["expected_start_ms"], Value::Null);
}

#[test]
fn a_finished_job_says_how_it_ended() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop");
    place.fail_all(ErrorReason::HttpStatus);
    let words = [
        "error: http_status: as the test wants it, after 1 attempt",
        "`orch queue retry-failed --reason http_status`",
    ];
    check(&place, "a", "error", &words);
    place.ok("queue enqueue b --kind noop");
    place.finish_all(FinalState::Done, Reason::Done(DoneReason::Ok), "");
    check(&place, "b", "done", &["done, ", " ago: ok"]);
    place.run("queue explain c").code(1).says(&["there is no job c", "hint: "]);
}

#[test]
fn a_job_that_runs_names_its_process() {
    let place = Place::new();
    place.import(&[json!({"id": "a", "kind": "noop", "sleep_ms": 60_000})]);
    let running = place.start("queue run");
    crate::support::until("it runs", || place.count("in_progress") == 1);
    check(&place, "a", "running", &["running on process "]);
    drop(running);
}
