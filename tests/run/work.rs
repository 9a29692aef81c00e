//! Which work is done, in which order, and what becomes of it.

use rustix::process::Signal;
use serde_json::json;

use super::{exec, in_short, noop, with};
use crate::support::{Place, until};

#[test]
fn every_way_a_job_can_end_has_its_state_and_reason() {
    let place = Place::new();
    let ends = |outcome: &str| with(noop(outcome), &json!({"outcome": outcome, "retry": "quick"}));
    place.import(&["done", "skipped", "error", "retry", "panic"].map(ends));
    let summary = place.run("queue run --drain --format json").code(3).json();
    assert_eq!(in_short(&place.show("done")), ("done", "ok", 1));
    assert_eq!(in_short(&place.show("skipped")), ("skipped", "no_open_copy", 1));
    assert_eq!(in_short(&place.show("error")), ("error", "internal", 1));
    // Three retries after the first attempt.
    assert_eq!(in_short(&place.show("retry")), ("error", "internal", 4));
    assert_eq!(in_short(&place.show("panic")), ("error", "panic", 1));
    assert_eq!(summary["retried"], 3);

    let by = place.ok("queue stats --format json --by reason").json()["by"]["reason"].clone();
    assert_eq!((&by["ok"]["done"], &by["no_open_copy"]["skipped"]), (&1.into(), &1.into()));
    assert_eq!((&by["internal"]["error"], &by["panic"]["error"]), (&2.into(), &1.into()));
    let told = json!({"internal": 2, "no_open_copy": 1, "ok": 1, "panic": 1});
    assert_eq!(summary["reasons"], told);
}

#[test]
fn the_most_urgent_job_is_done_first_and_equals_in_the_order_they_came() {
    let place = Place::new();
    let priorities = ["background", "low", "normal", "high", "critical"];
    let lines = priorities.iter().flat_map(|priority| {
        [1, 2].map(|nth| {
            let line = exec(&format!("{priority}-{nth}"), "echo $ORCH_ARTIFACT_ID >> order");
            with(line, &json!({"priority": priority}))
        })
    });
    place.import(&lines.collect::<Vec<_>>());
    place.ok("queue run --drain --workers 1 --allow-exec");
    let order = place.read("order");
    let expected: Vec<String> =
        priorities.iter().rev().flat_map(|p| [1, 2].map(|nth| format!("{p}-{nth}"))).collect();
    assert_eq!(order.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn failed_jobs_are_put_back_and_run_again() {
    let place = Place::new();
    place.import(&[exec("a", "[ -e fixed ]"), exec("b", "exit 0")]);
    place.run("queue run --drain --allow-exec").code(3);
    place.write("fixed", "");
    assert_eq!(place.ok("queue retry-failed").out, "requeued 1\n");
    let summary = place.ok("queue run --drain --allow-exec --format json").json();
    assert_eq!(summary["done"], 1);
    let job = place.show("a");
    assert_eq!(in_short(&job), ("done", "ok", 1));
    assert_eq!(job["attempts_total"], 2, "the total stays on record");
}

#[test]
fn an_idle_run_wakes_when_another_process_enqueues() {
    let place = Place::new();
    // So far apart that nothing but the bell can wake it while this test waits.
    place.write(
        "orch.toml",
        "[orchestrator]\nheartbeat_seconds = 3600\nlease_ttl_seconds = 10800\n",
    );
    place.import(&[noop("first")]);
    let running = place.start("queue run");
    let is_done = |id: &str| place.show(id)["state"] == "done";
    until("the first job", || is_done("first"));
    for id in ["second", "third"] {
        place.ok(&format!("queue enqueue {id} --kind noop"));
        until(id, || is_done(id));
    }
    running.signal(Signal::INT);
    running.end().code(130);
}

#[test]
fn no_more_jobs_than_its_limit_run_on_one_host() {
    let place = Place::new();
    // Each looks how many others are there while it is.
    let script = "mkdir -p here; touch here/$ORCH_JOB_ID; sleep 0.05; \
                  ls here | wc -l >> seen; rm here/$ORCH_JOB_ID";
    let line = |n: usize| with(exec(&format!("j{n}"), script), &json!({"host": "h.example"}));
    place.import(&(0..12).map(line).collect::<Vec<_>>());
    place.ok("queue run --drain --workers 8 --max-per-host 2 --allow-exec");
    let most = place.read("seen").lines().map(|n| n.trim().parse::<u32>().unwrap()).max();
    assert!(most <= Some(2), "{most:?} at once");
}
