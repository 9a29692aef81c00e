//! What a run says: data on standard output, everything else on standard error.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{noop, with};
use crate::support::{Place, Ran, until};

const SUMMARY_KEYS: [&str; 14] = [
    "done",
    "skipped",
    "failed",
    "retried",
    "lost_leases",
    "handed_back",
    "elapsed_seconds",
    "jobs_per_second",
    "reasons",
    "queue",
    "waiting_for_run_at",
    "running_elsewhere",
    "stopped_by",
    "exit_code",
];

/// One job done, one in error.
fn mixed() -> Place {
    let place = Place::new();
    place.import(&[noop("good"), with(noop("bad"), &json!({"outcome": "error"}))]);
    place
}

fn log_lines(ran: &Ran) -> Vec<Value> {
    ran.err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn the_summary_is_one_json_object_and_all_there_is_on_standard_output() {
    let ran = mixed().run("queue run --drain --format json").code(3);
    assert_eq!(ran.out.lines().count(), 1, "{}", ran.out);
    let json = ran.json();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, SUMMARY_KEYS);
    assert_eq!(json["queue"]["total"], 2);
}

#[test]
fn the_summary_is_a_table_unless_asked_otherwise() {
    let ran = mixed().run("queue run --drain").code(3);
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[..3], [["done", "1"], ["skipped", "0"], ["failed", "1"]]);
    assert!(ran.out.contains("stopped by"), "{}", ran.out);
}

#[test]
fn nothing_moves_or_is_coloured_in_a_pipe() {
    let ran = mixed().run("queue run --drain").code(3).says(&["bad", "asked to fail"]);
    for text in [&ran.out, &ran.err] {
        assert!(!text.contains(['\u{1b}', '\r']), "{text:?}");
    }
}

#[test]
fn json_log_lines_name_job_and_worker_of_a_failure() {
    let ran = mixed().run("queue run --drain --log-format json").code(3);
    let lines = log_lines(&ran);
    for line in &lines {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "no {field}: {line}");
        }
        line["timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    let failed: Vec<&Value> = lines.iter().filter(|l| l["artifact_id"] == "bad").collect();
    assert_eq!((failed.len(), &failed[0]["level"]), (1, &"WARN".into()), "{lines:#?}");
    assert!(failed[0]["job_id"].is_u64() && failed[0]["worker_id"].is_u64(), "{failed:#?}");
    assert!(failed[0]["message"].as_str().unwrap().contains("asked to fail"));
}

#[test]
fn a_stop_is_logged_as_json_too() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop");
    let running = place.start("queue run --log-format json");
    until("it to run", || place.count("done") == 1);
    running.signal(Signal::TERM);
    let ran = running.end().code(143);
    let lines = log_lines(&ran);
    let said = |words: &str| lines.iter().any(|l| l["message"].as_str().unwrap().contains(words));
    assert!(said("run started") && said("stopping") && said("run ended"), "{lines:#?}");
}

#[test]
fn quiet_leaves_errors_alone_on_standard_error() {
    let place = mixed();
    let ran = place.run("queue run --drain -q --format json").code(3);
    assert_eq!(ran.err, "");
    assert_eq!(ran.json()["failed"], 1, "data is not silenced");
    place.write("orch.toml", "[fetch]\nout = \"jobs.jsonl\"\n");
    place.run("queue run --drain -q").code(1).says(&["error: ", "jobs.jsonl", "hint: "]);
}

#[test]
fn a_log_level_lets_more_through() {
    let ran = mixed().run("queue run --drain --log-level debug").code(3);
    ran.says(&["job done", "good"]);
    let ran = mixed().run("queue run --drain --log-level error").code(3);
    assert_eq!(ran.err, "");
}
