//! What goes wrong, and which exit code and words it ends with.

use super::Place;

#[test]
fn a_bad_flag_is_exit_code_2_and_names_it() {
    let place = Place::new();
    place.run("queue stats --fromat json").code(2).says(&["--fromat", "--format"]);
    place.run("queue").code(2);
    place.run("queue import").code(2).says(&["FILE"]);
    place.run("queue list --state finished").code(2).says(&["finished", "in_progress"]);
    place.run("queue retry-failed --reason timeuot").code(2).says(&["did you mean timeout?"]);
    place.run("queue enqueue a --kind fecth").code(2).says(&["--kind fecth", "fetch"]);
    place.run("queue enqueue a --run-at tomorrow").code(2).says(&["RFC 3339"]);
    place.run("queue enqueue a --log-level loud").code(2).says(&["--log-level", "loud", "warn"]);
    place.run("queue enqueue a {bad").code(2).says(&["<argument>:1:", "hint: "]);
    assert!(!place.path("state").exists(), "none of them made a queue");
}

#[test]
fn a_queue_that_is_not_there_is_exit_code_1_with_the_next_step() {
    let place = Place::new();
    for line in [
        "queue stats",
        "queue list",
        "queue show a",
        "queue export",
        "queue retry-failed",
        "queue prune --older-than 1d",
    ] {
        let ran = place.run(line).code(1);
        let ran = ran.says(&["error: there is no queue at ", "hint: `orch queue import FILE`"]);
        assert_eq!(ran.out, "", "{line}");
    }
    assert!(!place.path("state").exists(), "looking made nothing");
}

#[test]
fn a_queue_that_is_not_a_database_is_left_as_it_is() {
    let place = Place::new();
    let text = "not a database\n".repeat(100);
    place.write("state/workqueue.sqlite", &text);
    place.write("in.jsonl", "{\"id\":\"a\",\"kind\":\"noop\"}\n");
    for line in ["queue stats", "queue import in.jsonl", "queue enqueue a"] {
        place.run(line).code(1).says(&["is not an orch queue", "hint: "]);
    }
    assert_eq!(place.read("state/workqueue.sqlite"), text);
}

/// A file where the directory should be: root may write anywhere else.
#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let place = Place::new();
    place.write("state", "a file");
    place.write("in.jsonl", "{\"id\":\"a\",\"kind\":\"noop\"}\n");
    for line in ["queue import in.jsonl", "queue enqueue a", "queue stats", "man state"] {
        let ran = place.run(line).code(1).says(&["error: ", "state", "hint: "]);
        assert_eq!(ran.out, "", "{line}");
    }
    place.run("queue import in.jsonl --queue q.sqlite --rejects state/r.jsonl").code(0);
    place.write("in.jsonl", "bad\n");
    let ran = place.run("queue import in.jsonl --queue q.sqlite --rejects state/r.jsonl");
    ran.code(1).says(&["error: ", "state", "hint: "]);
}

#[test]
fn help_and_version_are_data() {
    let place = Place::new();
    for line in ["--help", "queue --help", "queue import --help", "help queue", "--version"] {
        let ran = place.ok(line);
        assert!(!ran.out.is_empty() && ran.err.is_empty(), "{line}");
    }
    assert!(place.ok("queue import --help").out.contains("orch queue import artifacts.jsonl"));
}

#[test]
fn completions_and_man_pages_come_from_the_same_definitions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(place.ok(&format!("completions {shell}")).out.contains("retry-failed"), "{shell}");
    }
    place.ok("man pages/man1");
    let page = place.read("pages/man1/orch-queue-import.1");
    assert!(page.contains("strict"), "{page}");
    assert!(place.path("pages/man1/orch.1").is_file());
}
