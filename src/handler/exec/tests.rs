//! Real commands through the handler.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use super::super::CancelReason;
use super::super::context::testing::{Attempt, run};
use super::output::KEPT_BYTES;
use super::*;
use crate::job::{DoneReason, Note};

fn shell(script: &str) -> String {
    json!({ "shell": script }).to_string()
}

fn note_of(outcome: &Outcome) -> &Note {
    match outcome {
        Outcome::Done { note, .. }
        | Outcome::Skipped { note, .. }
        | Outcome::Retry { note, .. }
        | Outcome::Fail { note, .. } => note,
        Outcome::Defer { .. } => panic!("a command was deferred"),
    }
}

fn detail_of(outcome: &Outcome) -> Value {
    serde_json::from_str(note_of(outcome).detail.as_deref().expect("particulars")).unwrap()
}

/// What a command that succeeds wrote.
fn output_of(outcome: &Outcome) -> String {
    assert!(matches!(outcome, Outcome::Done { reason: DoneReason::Ok, .. }), "{outcome:?}");
    detail_of(outcome)["output"].as_str().unwrap().to_owned()
}

fn records_in(directory: &Path) -> usize {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("group-")).count()
}

/// A named pipe: whoever opens the other end has got so far.
fn fifo(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    path.into_os_string().into_string().unwrap()
}

#[test]
fn a_silent_success_is_done_and_leaves_nothing() {
    assert_eq!(run(&Exec, r#"{"command":["true"]}"#), Outcome::done());
}

#[test]
fn the_way_it_ends_decides() {
    let check = |script: &str, retried: bool, message: &str, detail: Value| {
        let outcome = run(&Exec, &shell(script));
        let reason = ErrorReason::ExitStatus;
        let as_expected = match &outcome {
            Outcome::Retry { reason: r, .. } => retried && *r == reason,
            Outcome::Fail { reason: r, .. } => !retried && *r == reason,
            _ => false,
        };
        assert!(as_expected, "{script}: {outcome:?}");
        assert_eq!(note_of(&outcome).message, message);
        assert_eq!(detail_of(&outcome), detail);
    };
    let silent = |status, signal| json!({"exit_status": status, "signal": signal, "output": "", "output_bytes": 0, "truncated": false});
    let (none, some) = (None::<i32>, Some::<i32>);
    check("exit 3", false, "exit status 3", silent(some(3), none));
    check("exit 75", true, "exit status 75", silent(some(75), none));
    check("kill -TERM $$", true, "ended by signal 15", silent(none, some(15)));
    check("kill -KILL $$", true, "ended by signal 9", silent(none, some(9)));
    check("kill -SEGV $$", false, "ended by signal 11", silent(none, some(11)));
    check(
        "echo one; echo 'no luck' >&2; exit 1",
        false,
        "exit status 1: no luck",
        json!({"exit_status": 1, "signal": null, "output": "one\nno luck\n", "output_bytes": 12, "truncated": false}),
    );
}

#[test]
fn output_and_errors_stay_in_order() {
    let script = "for i in 1 2 3; do echo o$i; echo e$i >&2; done";
    assert_eq!(output_of(&run(&Exec, &shell(script))), "o1\ne1\no2\ne2\no3\ne3\n");
}

#[test]
fn input_larger_than_any_pipe_comes_back_whole() {
    let text: String = (0..20_000).map(|n| format!("line {n:05}\n")).collect();
    let outcome = run(&Exec, &json!({"command": ["cat"], "stdin": text}).to_string());
    let detail = detail_of(&outcome);
    assert_eq!(detail["output_bytes"], text.len());
    assert_eq!(detail["output"], text[text.len() - KEPT_BYTES..]);
    let sum = json!({"shell": "cksum", "stdin": text}).to_string();
    let counted = output_of(&run(&Exec, &sum));
    assert!(counted.contains(&text.len().to_string()), "{counted}");
}

#[test]
fn without_input_there_is_nothing_to_read() {
    assert_eq!(run(&Exec, r#"{"command":["cat"]}"#), Outcome::done());
    assert_eq!(run(&Exec, r#"{"command":["cat"],"stdin":""}"#), Outcome::done());
}

#[test]
fn input_that_nobody_reads_is_no_failure() {
    let payload = json!({"command": ["true"], "stdin": "x".repeat(1_000_000)}).to_string();
    assert_eq!(run(&Exec, &payload), Outcome::done());
}

#[test]
fn of_a_megabyte_the_end_is_kept() {
    let script = "head -c 1000000 /dev/zero | tr '\\0' x; printf END";
    let detail = detail_of(&run(&Exec, &shell(script)));
    assert_eq!(detail["output_bytes"], 1_000_003);
    assert_eq!(detail["truncated"], true);
    let output = detail["output"].as_str().unwrap();
    assert_eq!(output.len(), KEPT_BYTES);
    assert!(output.ends_with("xxxEND"));
}

#[test]
fn it_knows_its_job_and_its_surroundings() {
    let directory = tempfile::tempdir().unwrap();
    let here = fs::canonicalize(directory.path()).unwrap();
    let payload = json!({
        "shell": "echo \"$ORCH_ARTIFACT_ID $ORCH_JOB_ID $ORCH_ATTEMPT $ORCH_FENCE $EXTRA ${PATH:+path} $(pwd -P)\"",
        "env": {"EXTRA": "é 1", "ORCH_JOB_ID": "forged"},
        "cwd": here,
    });
    let output = output_of(&run(&Exec, &payload.to_string()));
    assert_eq!(output, format!("test:1 7 1 3 é 1 path {}\n", here.display()));
}

#[test]
fn what_cannot_be_run_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    let cases = [
        (json!({"command": ["/no/such/program"]}), "command: cannot run \"/no/such/program\": "),
        (json!({"command": ["no-such-program"]}), "command: cannot run \"no-such-program\": "),
        (json!({"command": [""]}), "command: cannot run \"\": "),
        (json!({"command": [plain]}), "command: cannot run "),
        (json!({"shell": "true", "cwd": "/no/such/place"}), "cwd: cannot run in /no/such/place: "),
        (json!({"shell": "true", "cwd": plain}), "cwd: cannot run in "),
    ];
    for owner in [None, Some(directory.path().to_path_buf())] {
        for (payload, beginning) in &cases {
            let mut attempt = Attempt::of(&payload.to_string());
            attempt.owner_directory.clone_from(&owner);
            match attempt.run(&Exec) {
                Outcome::Fail { reason: ErrorReason::BadPayload, note } => {
                    assert!(note.message.starts_with(beginning), "{}", note.message);
                }
                outcome => panic!("{payload}: {outcome:?}"),
            }
        }
    }
    assert_eq!(records_in(directory.path()), 0);
}

#[test]
fn a_line_that_asks_for_nothing_sensible_is_refused() {
    for (payload, beginning) in [
        ("{}", "command: missing"),
        (r#"{"command":[]}"#, "command: empty"),
        (r#"{"command":["true"],"shell":"true"}"#, "shell: given beside command"),
        (r#"{"command":"true"}"#, "command: invalid type"),
        (r#"{"command":["echo",5]}"#, "command[1]: invalid type"),
        (r#"{"shell":["true"]}"#, "shell: invalid type"),
        (r#"{"shell":"true","stdin":5}"#, "stdin: invalid type"),
        (r#"{"shell":"true","env":["A=b"]}"#, "env: invalid type"),
        (r#"{"shell":"true","env":{"A":1}}"#, "env.A: invalid type"),
        (r#"{"shell":"true","env":{"A=B":""}}"#, "env: \"A=B\""),
        (r#"{"shell":"true","env":{"":""}}"#, "env: \"\""),
        (r#"{"shell":"true","cwd":7}"#, "cwd: invalid type"),
        (r#"{"shell":"echo \u0000"}"#, "command: has a NUL"),
        (r#"{"shell":"true","cwd":"\u0000"}"#, "cwd: has a NUL"),
        (r#"{"shell":"true","env":{"A":"\u0000"}}"#, "env: has a NUL"),
    ] {
        match run(&Exec, payload) {
            Outcome::Fail { reason: ErrorReason::BadPayload, note } => {
                assert!(note.message.starts_with(beginning), "{payload}: {}", note.message);
            }
            outcome => panic!("{payload}: {outcome:?}"),
        }
    }
}

#[test]
fn without_a_place_for_its_record_it_is_tried_again_later() {
    let mut attempt = Attempt::of(&shell("true"));
    attempt.owner_directory = Some("/no/such/owner".into());
    let outcome = attempt.run(&Exec);
    assert!(matches!(outcome, Outcome::Retry { reason: ErrorReason::Internal, .. }), "{outcome:?}");
}

#[test]
fn cancelled_before_it_began_it_does_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let witness = directory.path().join("ran");
    let attempt = Attempt::of(&json!({"command": ["touch", witness]}).to_string());
    attempt.cancel.cancel(CancelReason::Stop);
    assert_eq!(attempt.run(&Exec), CancelReason::Stop.outcome());
    assert!(!witness.exists());
}

/// Runs `script`, which must open the named pipe `$UP` for writing once it is ready; then cancels it. What it came to, and
/// what came through the pipe until everybody had closed it.
fn cancel_when_up(script: &str, reason: CancelReason) -> (Outcome, String) {
    let directory = tempfile::tempdir().unwrap();
    let up = fifo(directory.path(), "up");
    let mut attempt = Attempt::of(&json!({"shell": script, "env": {"UP": up}}).to_string());
    attempt.owner_directory = Some(directory.path().to_path_buf());
    let attempt = Arc::new(attempt);
    let running = {
        let attempt = Arc::clone(&attempt);
        thread::spawn(move || attempt.run(&Exec))
    };
    let mut pipe = fs::File::open(&up).unwrap();
    let mut first = [0];
    pipe.read_exact(&mut first).unwrap();
    assert_eq!(records_in(directory.path()), 1, "on record while it runs");
    attempt.cancel.cancel(reason);
    let outcome = running.join().unwrap();
    let mut heard = String::from_utf8(first.to_vec()).unwrap();
    // Ends only when every process that holds the other end is gone.
    pipe.read_to_string(&mut heard).unwrap();
    assert_eq!(records_in(directory.path()), 0, "off record afterwards");
    (outcome, heard)
}

#[test]
fn cancelled_it_may_end_by_itself() {
    let script = "exec 3> \"$UP\"; trap 'echo bye >&3; echo saved; exit 0' TERM; echo up >&3; while :; do sleep 600 & wait; done";
    let (outcome, heard) = cancel_when_up(script, CancelReason::Deadline);
    assert_eq!(heard, "up\nbye\n");
    assert_eq!(detail_of(&outcome)["output"], "saved\n");
    assert_eq!(detail_of(&outcome)["exit_status"], 0);
    let Outcome::Retry { reason: ErrorReason::Deadline, note, .. } = &outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(note.message, note_of(&CancelReason::Deadline.outcome()).message);
}

#[test]
fn cancelled_a_group_that_will_not_end_is_killed_whole() {
    // Leader and grandchild ignore the request; both hold the pipe.
    let script = "trap '' TERM; exec 3> \"$UP\"; (while :; do sleep 600; done) & echo up >&3; while :; do sleep 600; done";
    let (outcome, heard) = cancel_when_up(script, CancelReason::Stop);
    assert_eq!(heard, "up\n");
    assert_eq!(detail_of(&outcome)["signal"], 9);
    assert!(matches!(outcome, Outcome::Retry { reason: ErrorReason::Internal, .. }), "{outcome:?}");
}

#[test]
fn a_grandchild_that_ignores_the_request_dies_with_its_leader() {
    let script = "exec 3> \"$UP\"; (trap '' TERM; echo up >&3; while :; do sleep 600; done) & wait";
    let (outcome, heard) = cancel_when_up(script, CancelReason::Deadline);
    assert_eq!(heard, "up\n");
    assert_eq!(detail_of(&outcome)["signal"], 15);
}

#[test]
fn a_job_ends_with_its_leader_and_takes_the_background_along() {
    let directory = tempfile::tempdir().unwrap();
    let held = fifo(directory.path(), "held");
    let payload = json!({
        "shell": "(exec 3> \"$HELD\"; sleep 600) & read up < \"$HELD.back\"; echo started",
        "env": {"HELD": held},
    });
    fifo(directory.path(), "held.back");
    let mut attempt = Attempt::of(&payload.to_string());
    attempt.owner_directory = Some(directory.path().to_path_buf());
    let running = thread::spawn(move || attempt.run(&Exec));
    // The grandchild is up once it opens its pipe; only then may the leader go.
    let mut pipe = fs::File::open(&held).unwrap();
    let mut back = fs::OpenOptions::new().write(true).open(format!("{held}.back")).unwrap();
    back.write_all(b"go\n").unwrap();
    assert_eq!(output_of(&running.join().unwrap()), "started\n");
    assert_eq!(io::copy(&mut pipe, &mut io::sink()).unwrap(), 0, "closed by its death");
    assert_eq!(records_in(directory.path()), 0);
}

#[test]
fn one_that_left_the_group_and_keeps_the_output_open_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (up, quit) = (fifo(directory.path(), "up"), fifo(directory.path(), "quit"));
    let payload = json!({
        "shell": "setsid sh -c 'echo up > \"$UP\"; read line < \"$QUIT\"' & read up < \"$UP\"; echo started",
        "env": {"UP": up, "QUIT": quit},
    });
    assert_eq!(output_of(&run(&Exec, &payload.to_string())), "started\n");
    // It lives: opening waits for it. Let it go.
    fs::OpenOptions::new().write(true).open(&quit).unwrap();
}
