//! When a run ends by itself, and with which exit code.

use serde_json::json;

use super::{assert_untouched, exec, held, in_short, noop, until_there, with};
use crate::support::{Place, until};

#[test]
fn a_drained_queue_is_exit_code_0() {
    let place = Place::new();
    place.import(&[noop("a"), with(noop("b"), &json!({"outcome": "skipped"}))]);
    let summary = place.ok("queue run --drain --format json").json();
    assert_eq!((&summary["done"], &summary["skipped"]), (&1.into(), &1.into()));
    assert_eq!(summary["stopped_by"], "drained");
    let again = place.ok("queue run --drain --format json").json();
    assert_eq!(again["done"], 0, "the counts are of one run");
}

#[test]
fn a_job_that_ended_in_error_is_exit_code_3() {
    let place = Place::new();
    place.import(&[noop("a"), with(noop("b"), &json!({"outcome": "error"}))]);
    let summary = place.run("queue run --drain --format json").code(3).json();
    assert_eq!((&summary["failed"], &summary["exit_code"]), (&1.into(), &3.into()));
    place.ok("queue run --drain");
}

#[test]
fn commands_do_not_run_unless_allowed_and_are_exit_code_4() {
    let place = Place::new();
    place.import(&[noop("a"), exec("b", "touch ran")]);
    let summary = place.run("queue run --drain --format json").code(4).json();
    assert_eq!((&summary["done"], &summary["stopped_by"]), (&1.into(), &"work_left".into()));
    assert!(!place.path("ran").exists());
    assert_untouched(&place.show("b"));
    place.ok("queue run --drain --allow-exec");
    assert!(place.path("ran").exists());
}

#[test]
fn a_drain_waits_for_retries() {
    let place = Place::new();
    place.import(&[with(
        exec("a", "[ -e once ] || { touch once; exit 75; }"),
        &json!({"retry": "quick"}),
    )]);
    let summary = place.ok("queue run --drain --allow-exec --format json").json();
    assert_eq!((&summary["done"], &summary["retried"]), (&1.into(), &1.into()));
    let job = place.show("a");
    assert_eq!(in_short(&job), ("done", "ok", 2));
    assert_eq!(job["history"][0]["reason"], "exit_status");
}

#[test]
fn retries_that_are_not_waited_for_are_exit_code_4() {
    let place = Place::new();
    place.import(&[with(noop("a"), &json!({"outcome": "retry"})), noop("b")]);
    let summary = place.run("queue run --drain --no-wait-retries --format json").code(4).json();
    assert_eq!((&summary["done"], &summary["retried"]), (&1.into(), &1.into()));
    assert_eq!(summary["queue"]["queued"], 1);
}

#[test]
fn max_runtime_with_work_left_is_exit_code_4() {
    let place = Place::new();
    place.write("orch.toml", "[orchestrator]\nshutdown_seconds = 0\n");
    place.import(&[with(noop("long"), &json!({"sleep_ms": 600_000}))]);
    let summary = place.run("queue run --drain --max-runtime 1s --format json").code(4).json();
    assert_eq!(summary["stopped_by"], "max_runtime");
    assert_eq!(summary["handed_back"], 1);
    assert_untouched(&place.show("long"));
}

#[test]
fn max_runtime_that_leaves_nothing_is_exit_code_0() {
    let place = Place::new();
    place.import(&[noop("a")]);
    // Without --drain: it is idle when its time is over.
    let summary = place.ok("queue run --max-runtime 1s --format json").json();
    assert_eq!((&summary["done"], &summary["stopped_by"]), (&1.into(), &"max_runtime".into()));
}

#[test]
fn a_job_whose_run_at_lies_ahead_is_named_and_not_waited_for() {
    let place = Place::new();
    place.import(&[noop("a"), with(noop("later"), &json!({"run_at": "2999-01-01T00:00:00Z"}))]);
    let summary = place.ok("queue run --drain --format json").json();
    assert_eq!((&summary["done"], &summary["waiting_for_run_at"]), (&1.into(), &true.into()));
    let table = place.ok("queue run --drain").out;
    assert!(table.contains("run_at"), "{table}");
}

#[test]
fn a_job_that_another_run_has_is_named_and_not_waited_for() {
    let place = Place::new();
    place.import(&[held("a")]);
    let first = place.start("queue run --drain --allow-exec");
    until_there(&place, "started");
    place.ok("queue enqueue b --kind noop");
    let second = place.ok("queue run --drain --allow-exec --format json").json();
    // The first one may have been faster with b, too.
    assert!(second["running_elsewhere"].as_u64().unwrap() >= 1, "{second:#}");
    until("b to be done, by either", || place.count("done") == 1);
    assert_eq!(place.count("in_progress"), 1);
    place.write("go", "");
    first.end().code(0);
    assert_eq!(place.count("done"), 2);
}
