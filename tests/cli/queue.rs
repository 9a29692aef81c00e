//! The commands that look at a queue and change what is in it.

use std::io::Read;
use std::process::Stdio;

use orch::job::{DoneReason, ErrorReason, FinalState, Note, Observation, Reason, SkipReason};

use super::{Place, Ran, noops};

#[test]
fn enqueue_takes_an_id_json_and_flags_and_flags_win() {
    let place = Place::new();
    assert_eq!(place.ok("queue enqueue doi:10.1234/abc").out, "enqueued: doi:10.1234/abc\n");
    assert_eq!(place.ok("queue enqueue doi:10.1234/abc").out, "already there: doi:10.1234/abc\n");
    let mut command =
        place.command("queue enqueue job --kind noop --priority high --host Example.ORG");
    command.args(["--resolver", "Europe-PMC", "--run-at", "2030-01-31T08:00:00Z"]);
    command.arg(r#"{"kind":"fetch","priority":"low","host":"other.example","sleep_ms":7}"#);
    Ran::of(&mut command).code(0);
    let job = place.ok("queue show job --format json").json();
    assert_eq!(job["kind"], "noop");
    assert_eq!(job["priority"], "high");
    assert_eq!(job["host"], "example.org");
    assert_eq!(job["resolver"], "europe_pmc");
    assert_eq!(job["not_before"], "2030-01-31T08:00:00.000Z");
    assert_eq!(job["payload"]["sleep_ms"], 7);
    let fetched = place.ok("queue show doi:10.1234/abc --format json").json();
    assert_eq!(fetched["payload"]["doi"], "10.1234/abc");
}

#[test]
fn a_delay_is_from_now() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop --delay 2h");
    let job = place.ok("queue show a --format json").json();
    let time = |name: &str| job[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let delay_ms = time("not_before").as_millisecond() - time("enqueued_at").as_millisecond();
    assert!((7_100_000..=7_200_000).contains(&delay_ms), "{delay_ms}");
}

#[test]
fn stats_are_a_table_and_json() {
    let place = Place::new();
    place.write("in.jsonl", format!("{}{{\"url\":\"https://a.example/x\"}}\n", noops(2)));
    place.ok("queue import in.jsonl");
    let table = place.ok("queue stats").out;
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["state", "jobs"]);
    assert_eq!(rows[1], ["queued", "3"]);
    assert_eq!(rows[6], ["total", "3"]);

    let json = place.ok("queue stats --format json --by host --by kind").json();
    let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["queued", "in_progress", "done", "skipped", "error", "total", "by"]);
    assert_eq!((&json["queued"], &json["total"]), (&3.into(), &3.into()));
    assert_eq!(json["by"]["host"]["a.example"]["queued"], 1);
    assert_eq!(json["by"]["kind"]["noop"]["total"], 2);
}

#[test]
fn stats_by_resolver_tell_what_each_has_yielded() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop --resolver doaj");
    let one = |resolver, doi| Observation {
        asked: 2,
        found: 1,
        elapsed_ms: 25,
        ..Observation::of(resolver, Some(doi))
    };
    let observed = vec![one("doaj", "10.1/a"), one("doaj", "10.2/b"), one("arxiv", "10.1/a")];
    let note = Note::default().with_observed(observed);
    place.end_all(FinalState::Done, Reason::Done(DoneReason::Ok), &note);
    place.ok("queue enqueue b --kind noop --resolver zenodo");

    let table = place.ok("queue stats --by resolver").out;
    let rows: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    let header = "resolver queued in_progress done skipped error total asked found fetched busy broken mean_ms";
    let at = rows.iter().position(|row| row.join(" ") == header);
    let at = at.unwrap_or_else(|| panic!("{table}")) + 1;
    assert_eq!(rows[at].join(" "), "doaj 0 0 1 0 0 1 4 2 0 0 0 13");
    assert_eq!(rows[at + 1].join(" "), "zenodo 1 0 0 0 0 1 0 0 0 0 0");
    assert_eq!(rows[at + 2].join(" "), "arxiv 0 0 0 0 0 0 2 1 0 0 0 13");

    let json = place.ok("queue stats --format json --by resolver --by kind").json();
    let keys = |of: &serde_json::Value| of.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let doaj = &json["by"]["resolver"]["doaj"];
    assert_eq!(keys(doaj).join(" "), header.trim_start_matches("resolver "));
    assert_eq!(
        (&doaj["total"], &doaj["asked"], &doaj["mean_ms"]),
        (&1.into(), &4.into(), &13.into())
    );
    assert_eq!(json["by"]["resolver"]["zenodo"]["mean_ms"], serde_json::Value::Null);
    assert_eq!(keys(&json["by"]["kind"]["noop"]).len(), 6, "only resolvers yield");
}

#[test]
fn list_filters_and_prints_a_table_or_an_array() {
    let place = Place::new();
    place.write("in.jsonl", format!("{}{{\"url\":\"https://a.example/x\"}}\n", noops(3)));
    place.ok("queue import in.jsonl");
    let ids = |line: &str| -> Vec<String> {
        let json = place.ok(line).json();
        json.as_array().unwrap().iter().map(|j| j["artifact_id"].as_str().unwrap().into()).collect()
    };
    assert_eq!(ids("queue list --format json --limit 2"), ["n0", "n1"]);
    assert_eq!(ids("queue list --format json --host A.example"), ["url:https://a.example/x"]);
    assert!(ids("queue list --format json --state done").is_empty());
    let table = place.ok("queue list").out;
    assert!(table.starts_with("artifact_id "), "{table}");
    assert_eq!(table.lines().count(), 5);
    assert!(!table.contains('\u{1b}'), "no colours in a pipe");
    place.ok("queue list --state done").says(&["note: no job matches"]);
    assert_eq!(place.ok("queue list --state done -q").err, "");
}

#[test]
fn show_tells_the_story_of_a_job() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop");
    place.fail_all(ErrorReason::HttpStatus);
    let text = place.ok("queue show a").out;
    for words in ["state", "error", "http_status", "as the test wants it", "1.2s", "history"] {
        assert!(text.contains(words), "no {words}: {text}");
    }
    let json = place.ok("queue show a --format json").json();
    assert_eq!(json["history"][0]["outcome"], "error");
    assert_eq!(json["history"][0]["elapsed_ms"], 1_234);
    place.run("queue show b").code(1).says(&["there is no job b", "hint: "]);
}

#[test]
fn show_tells_of_a_fetch_who_was_asked_and_what_was_tried() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop");
    let detail = r#"{"asked":[{"resolver":"doaj","said":"absent","message":"no such work"}],
        "tried":[{"resolver":"hal","url":"https://h.example/","reason":"wall","message":"a login"}],
        "round":2}"#;
    place.finish_all(FinalState::Error, Reason::Error(ErrorReason::Wall), detail);
    let text = place.ok("queue show a").out;
    let story = "\nasked\n  doaj  absent  no such work\n\ntried\n  hal  https://h.example/  wall: a login\n\ndetail\n  round  2\n\npayload\n";
    assert!(text.contains(story), "{text}");
    let json = place.ok("queue show a --format json").json();
    assert_eq!(json["detail"]["asked"][0]["said"], "absent");

    place.ok("queue enqueue b --kind noop");
    let detail = r#"{"exit_status":0}"#;
    place.finish_all(FinalState::Done, Reason::Done(DoneReason::Ok), detail);
    let text = place.ok("queue show b").out;
    assert!(text.contains("\ndetail\n  {\n    \"exit_status\": 0\n  }\n"), "{text}");
}

#[test]
fn a_line_cannot_drive_the_terminal() {
    let place = Place::new();
    place.write(
        "in.jsonl",
        "{\"id\":\"a\",\"kind\":\"noop\",\"tags\":[\"\\u001b[31m\"],\"x\":\"\\u001b[2J\"}\n",
    );
    place.ok("queue import in.jsonl");
    assert!(!place.ok("queue show a").out.contains('\u{1b}'));
}

#[test]
fn retry_failed_puts_back_and_says_how_many() {
    let place = Place::new();
    place.write("in.jsonl", noops(5));
    place.ok("queue import in.jsonl");
    assert_eq!(place.ok("queue retry-failed").out, "requeued 0\n");
    place.fail_all(ErrorReason::Timeout);
    assert_eq!(place.ok("queue retry-failed --reason dns").out, "requeued 0\n");
    assert_eq!(place.ok("queue retry-failed --max-attempts 1").out, "requeued 0\n");
    assert_eq!(place.ok("queue retry-failed --dry-run").out, "would requeue 5\n");
    assert_eq!(place.counts().error, 5);
    assert_eq!(place.ok("queue retry-failed --limit 2").out, "requeued 2\n");
    assert_eq!(
        place.ok("queue retry-failed --max-attempts 2 --reason timeout").out,
        "requeued 3\n"
    );
    assert_eq!(place.counts().queued, 5);
}

#[test]
fn retry_failed_takes_skipped_jobs_when_asked_by_their_reason() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop");
    place.finish_all(FinalState::Skipped, Reason::Skipped(SkipReason::NoOpenCopy), "");
    assert_eq!(place.ok("queue retry-failed").out, "requeued 0\n");
    assert_eq!(place.ok("queue retry-failed --reason no_open_copy").out, "requeued 1\n");
}

#[test]
fn export_lifts_what_the_handler_recorded() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop");
    let detail =
        r#"{"path":"artifacts/a.pdf","sha256":"00ff","bytes":17,"licence":"CC-BY, \"4.0\""}"#;
    place.finish_all(FinalState::Done, Reason::Done(DoneReason::Ok), detail);
    place.ok("queue enqueue b --kind noop");

    let line: serde_json::Value =
        serde_json::from_str(&place.ok("queue export --state done").out).unwrap();
    assert_eq!((&line["artifact_id"], &line["state"]), (&"a".into(), &"done".into()));
    assert_eq!((&line["path"], &line["bytes"]), (&"artifacts/a.pdf".into(), &17.into()));
    assert_eq!(line["etag"], serde_json::Value::Null);
    assert_eq!(place.ok("queue export").out.lines().count(), 2);

    place.write("out.csv", "old");
    assert_eq!(place.ok("queue export --format csv --output out.csv").out, "");
    let text = place.read("out.csv");
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let at = csv.headers().unwrap().iter().position(|name| name == "licence").unwrap();
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!((&rows[0][at], &rows[1][at], rows.len()), ("CC-BY, \"4.0\"", "", 2));
    let left: Vec<_> =
        std::fs::read_dir(place.folder()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".export-")), "{left:?}");
    place.run("queue export --output none/out.csv").code(1).says(&["none/out.csv", "hint: "]);
}

#[test]
fn export_has_every_field_of_the_manifest_and_the_flags_of_a_file() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop");
    let names = "path sha256 bytes media_type url final_url resolver licence version etag last_modified fetched_at";
    let mut detail: serde_json::Map<String, serde_json::Value> =
        names.split(' ').map(|name| (name.to_owned(), format!("its {name}").into())).collect();
    detail.insert("flags".to_owned(), serde_json::json!(["encrypted", "javascript"]));
    let text = serde_json::Value::from(detail.clone()).to_string();
    place.finish_all(FinalState::Done, Reason::Done(DoneReason::Ok), &text);
    let line: serde_json::Value = serde_json::from_str(&place.ok("queue export").out).unwrap();
    for (name, value) in &detail {
        assert_eq!(line[name], *value, "{name}");
    }
    assert_eq!(line["attempts"], 1);
    let csv = place.ok("queue export --format csv").out;
    assert!(csv.contains("encrypted javascript"), "{csv}");
}

#[test]
fn export_of_attempts_has_a_line_for_each_attempt() {
    let place = Place::new();
    place.write("in.jsonl", noops(2));
    place.ok("queue import in.jsonl");
    place.fail_all(ErrorReason::Timeout);
    place.ok("queue retry-failed --limit 1");
    place.finish_all(FinalState::Done, Reason::Done(DoneReason::Ok), r#"{"resolver":"arxiv"}"#);
    place.ok("queue enqueue once --kind noop --host h.example");
    place.finish_all(FinalState::Done, Reason::Done(DoneReason::Ok), "");
    place.ok("queue enqueue never --kind noop");

    let out = place.ok("queue export --attempts").out;
    let lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<String> = lines
        .iter()
        .map(|line| {
            let words = ["artifact_id", "attempt", "outcome", "reason", "host", "resolver"];
            words.map(|name| line[name].to_string().replace('"', "")).join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            "n0 1 error timeout null null",
            "n0 2 done ok null arxiv",
            "n1 1 error timeout null null",
            "once 1 done ok h.example null",
        ]
    );
    assert_eq!((&lines[3]["elapsed_ms"], &lines[3]["kind"]), (&1_234.into(), &"noop".into()));

    place.ok("queue export --attempts --state error --format csv --output attempts.csv");
    let text = place.read("attempts.csv");
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let header = csv.headers().unwrap().iter().collect::<Vec<_>>().join(",");
    let columns = "artifact_id,kind,attempt,epoch,outcome,reason,message,started_at,elapsed_ms,host,resolver,url";
    assert_eq!(header, columns);
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!((rows.len(), &rows[0][0], &rows[0][6]), (1, "n1", "as the test wants it"));
}

#[test]
fn prune_deletes_what_is_finished_and_old_and_remembers_it() {
    let place = Place::new();
    place.ok("queue enqueue a --kind noop");
    place.fail_all(ErrorReason::Timeout);
    place.ok("queue enqueue b --kind noop");
    assert_eq!(place.ok("queue prune --older-than 30d").out, "pruned 0\n");
    assert_eq!(place.ok("queue prune --older-than 0s").out, "pruned 1\n");
    assert_eq!(place.counts().total(), 1, "what is not finished stays");
    assert_eq!(place.ok("queue enqueue a --kind noop").out, "finished and pruned earlier: a\n");
    place.run("queue prune").code(2).says(&["--older-than"]);
    place.run("queue prune --older-than 30").code(2).says(&["30d"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_success() {
    let place = Place::new();
    place.write("in.jsonl", noops(20_000));
    place.ok("queue import in.jsonl");
    for line in
        ["queue list", "queue list --format json", "queue export", "queue export --format csv"]
    {
        let mut child =
            place.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut some = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut some).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{line}");
    }
}
