//! Commands: what they are told, what is kept of them, and how they end.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use super::{exec, in_short, with};
use crate::support::Place;

#[test]
fn a_command_knows_its_job_and_its_output_is_kept() {
    let place = Place::new();
    place.import(&[exec("doi:10.1/a", "env | grep ^ORCH_ | sort; echo to stderr >&2")]);
    place.ok("queue run --drain --allow-exec");
    let job = place.show("doi:10.1/a");
    let output = job["detail"]["output"].as_str().unwrap();
    let mut lines = output.lines();
    let mut next_after = |name: &str| {
        let line = lines.next().unwrap();
        let text = line.strip_prefix(name).unwrap_or_else(|| panic!("no {name} in {output}"));
        text.to_owned()
    };
    assert_eq!(next_after("ORCH_ARTIFACT_ID="), "doi:10.1/a");
    assert_eq!(next_after("ORCH_ATTEMPT="), "1");
    assert!(next_after("ORCH_FENCE=").parse::<u64>().is_ok());
    assert!(next_after("ORCH_JOB_ID=").parse::<u64>().is_ok());
    assert_eq!(next_after("to stderr"), "");
    assert_eq!(job["detail"]["exit_status"], 0);
}

#[test]
fn a_later_attempt_is_told_so_and_has_a_higher_fence() {
    let place = Place::new();
    let script = "echo $ORCH_ATTEMPT $ORCH_FENCE >> seen; [ $ORCH_ATTEMPT = 2 ] || exit 75";
    place.import(&[with(exec("a", script), &json!({"retry": "quick"}))]);
    place.ok("queue run --drain --allow-exec");
    let seen = place.read("seen");
    let seen: Vec<Vec<u32>> =
        seen.lines().map(|l| l.split(' ').map(|n| n.parse().unwrap()).collect()).collect();
    assert_eq!((seen[0][0], seen[1][0]), (1, 2));
    assert!(seen[1][1] > seen[0][1], "{seen:?}");
}

#[test]
fn a_command_that_fails_ends_in_error_with_its_last_words() {
    let place = Place::new();
    place.import(&[exec("a", "echo no such thing; exit 3")]);
    place.run("queue run --drain --allow-exec").code(3);
    let job = place.show("a");
    assert_eq!(in_short(&job), ("error", "exit_status", 1));
    assert_eq!(job["message"], "exit status 3: no such thing");
}

#[test]
fn at_its_timeout_a_command_is_killed_with_its_children() {
    let place = Place::new();
    let script = "exec 9>>lock; flock 9; sleep 600 & sleep 600";
    let line = with(exec("a", script), &json!({"timeout_seconds": 1, "max_attempts": 1}));
    place.import(&[line]);
    place.run("queue run --drain --allow-exec").code(3);
    assert_eq!(in_short(&place.show("a")), ("error", "deadline", 1));
    let file = File::open(place.path("lock")).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
}

#[test]
fn commands_may_be_allowed_by_configuration() {
    let place = Place::new();
    place.write("orch.toml", "[exec]\nallow = true\n");
    place.import(&[exec("a", "touch ran")]);
    place.ok("queue run --drain");
    assert!(place.path("ran").exists());
}
