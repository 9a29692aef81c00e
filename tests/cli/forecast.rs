//! `queue forecast`: how long the rest will take, through the real binary.

use serde_json::{Value, json};

use super::Place;

fn jobs(count: usize, host: &str) -> Vec<Value> {
    (0..count).map(|n| json!({"id": format!("{host}-{n}"), "kind": "noop", "host": host})).collect()
}

/// That many seconds, give or take a fiftieth.
#[track_caller]
fn near(ms: &Value, seconds: f64) {
    let off = ms.as_f64().unwrap() / 1_000.0 / seconds;
    assert!((0.98..1.02).contains(&off), "{ms} is not {seconds} s");
}

#[test]
fn an_empty_queue_needs_no_time() {
    let place = Place::new();
    place.import(&jobs(1, "a.example"));
    place.ok("queue run --drain");
    assert!(place.ok("queue forecast").out.starts_with("nothing is left to do\n"));
    assert_eq!(place.ok("queue forecast --format json").json()["makespan_ms"], 0);
}

#[test]
fn the_bottleneck_is_named_and_what_another_limit_would_change() {
    let place = Place::new();
    place.import(&jobs(100, "slow.example"));
    place.ok("queue hosts set slow.example --max-concurrent 1");
    let now = place.ok("queue forecast --format json").json();
    near(&now["makespan_ms"], 100.0);
    assert_eq!(now["bottleneck"], json!({"kind": "host", "name": "slow.example"}));
    assert_eq!((&now["jobs"], &now["workers"], &now["scale"]), (&100.into(), &8.into(), &1.into()));
    assert_eq!(now["changed"], Value::Null);
    assert!(now["assumes"][0].as_str().unwrap().contains("every job is taken to last 1 s"));

    let line = "queue forecast --set slow.example.max_concurrent=10 --workers 5 --format json";
    let then = place.ok(line).json();
    near(&then["makespan_ms"], 100.0);
    near(&then["changed"]["makespan_ms"], 20.0);
    assert_eq!(then["changed"]["set"], json!(["slow.example.max_concurrent=10"]));
    assert_eq!(then["changed"]["bottleneck"]["kind"], "workers");
    let said = place.ok("queue forecast --set slow.example.rate=1/2s").out;
    assert!(
        said.starts_with("100 jobs, 8 workers: about 100 s; slow.example decides (1 at once)\n"),
        "{said}"
    );
    assert!(
        said.contains("\nwith slow.example.rate=1/2s: 100 jobs, 8 workers: about 5 min; "),
        "{said}"
    );
}

#[test]
fn durations_seen_so_far_are_gone_by() {
    let place = Place::new();
    let mut lines = jobs(20, "a.example");
    lines.iter_mut().take(4).for_each(|line| line["sleep_ms"] = json!(100));
    lines.iter_mut().skip(4).for_each(|line| line["run_at"] = json!("2099-01-01T00:00:00Z"));
    place.import(&lines);
    place.ok("queue run --drain");
    let json = place.ok("queue forecast --format json").json();
    // Four at once of a tenth of a second each; a busy machine may have made them longer.
    let ms = json["makespan_ms"].as_u64().unwrap();
    assert!((400..2_000).contains(&ms), "{json:#}");
    assert!(json["assumes"].to_string().contains("16 jobs that run, wait for a retry"), "{json:#}");
}

#[test]
fn what_no_run_from_here_starts_is_left_out() {
    let place = Place::new();
    let mut lines = jobs(10, "a.example");
    lines.extend(jobs(7, "paused.example"));
    lines.push(json!({"id": "x", "kind": "exec", "command": ["true"]}));
    place.import(&lines);
    place.ok("queue hosts pause paused.example");
    let json = place.ok("queue forecast --format json").json();
    assert_eq!(json["jobs"], 10);
    let assumes = json["assumes"].to_string();
    assert!(
        assumes.contains("7 jobs of paused hosts") && assumes.contains("1 jobs of a kind"),
        "{assumes}"
    );
}

#[test]
fn what_is_no_limit_is_refused_and_the_flag_is_named() {
    let place = Place::new();
    place.import(&jobs(1, "a.example"));
    for set in ["a.example", "a.example.max_concurrent=0", "a.example.rate=x", "a/b.rate=1/s"] {
        place.run(&format!("queue forecast --set {set}")).code(2).says(&["--set"]);
    }
    place.run("queue forecast --set a.example.burst=3").code(2).says(&["--set", "rate", "hint: "]);
    place.run("queue forecast --workers 0").code(2).says(&["--workers"]);
}
