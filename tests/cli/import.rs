//! `orch queue import`.

use std::io::Write;

use super::{Place, Ran, noops};

const SIX_GOOD_AND_LINE_7: &str = r#"{"doi":"10.1234/ABC","title":"one"}
{"id":"two","kind":"noop","sleep_ms":1}
{"url":"https://example.org/a.pdf"}

{"id":"five","kind":"noop"}
{"arxiv_id":"2101.00001"}
{"id": oops}
{"id":"eight","kind":"noop"}
"#;

#[test]
fn a_file_is_imported_once_and_says_so() {
    let place = Place::new();
    place.write("in.jsonl", noops(3));
    assert_eq!(place.ok("queue import in.jsonl").out, "imported 3, already there 0, rejected 0\n");
    assert_eq!(place.ok("queue import in.jsonl").out, "imported 0, already there 3, rejected 0\n");
    assert_eq!(place.counts().queued, 3);
}

#[test]
fn bad_json_on_line_7_stops_no_other_line() {
    let place = Place::new();
    place.write("in.jsonl", SIX_GOOD_AND_LINE_7);
    let ran = place.run("queue import in.jsonl").code(3).says(&["in.jsonl:7:8: not valid JSON"]);
    assert_eq!(
        ran.out,
        "imported 6, already there 0, rejected 1 (written to state/in.rejects.jsonl)\n"
    );
    let reject: serde_json::Value =
        serde_json::from_str(&place.read("state/in.rejects.jsonl")).unwrap();
    assert_eq!((&reject["line"], &reject["column"]), (&7.into(), &8.into()));
    assert_eq!(reject["text"], "{\"id\": oops}");
    assert_eq!(place.counts().queued, 6);
}

#[test]
fn strict_imports_nothing_if_any_line_is_bad() {
    let place = Place::new();
    place.write("good.jsonl", noops(2));
    place.write("bad.jsonl", SIX_GOOD_AND_LINE_7);
    let ran = place.run("queue import --strict good.jsonl bad.jsonl --rejects r.jsonl").code(3);
    assert_eq!(ran.out, "imported 0, already there 0, rejected 1 (written to r.jsonl)\n");
    assert!(!place.path("state/workqueue.sqlite").exists(), "no queue was made");
    assert!(place.read("r.jsonl").contains("\"file\":\"bad.jsonl\",\"line\":7"));
    assert_eq!(
        place.ok("queue import --strict good.jsonl").out,
        "imported 2, already there 0, rejected 0\n"
    );
}

#[test]
fn strict_reads_standard_input_twice() {
    let place = Place::new();
    let strict = |text: String| {
        let command = place.command("queue import --strict --report json -");
        let mut command = assert_cmd::Command::from_std(command);
        Ran::from(command.write_stdin(text).output().unwrap())
    };
    let bad = strict(SIX_GOOD_AND_LINE_7.to_owned()).code(3).says(&["<stdin>:7:8: "]);
    assert_eq!(bad.json()["imported"], 0);
    assert_eq!(bad.json()["rejects_file"], "state/stdin.rejects.jsonl");
    assert_eq!(strict(noops(5)).code(0).json()["imported"], 5);
}

#[test]
fn csv_lines_and_gzip_are_read_together() {
    let place = Place::new();
    place.write("a.csv", "doi,title\n10.1234/one,One\n10.1234/two,Two\n");
    place.write("b.txt", "# remark\nhttps://doi.org/10.1234/TWO\narXiv:2101.00001\n");
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(noops(4).as_bytes()).unwrap();
    std::fs::write(place.path("c.jsonl.gz"), zipped.finish().unwrap()).unwrap();
    let ran = place.ok("queue import a.csv b.txt c.jsonl.gz");
    assert_eq!(ran.out, "imported 7, already there 1, rejected 0\n");
}

#[test]
fn the_first_twenty_bad_lines_are_shown_and_all_are_kept() {
    let place = Place::new();
    place.write("in.jsonl", "bad\n".repeat(50));
    let ran =
        place.run("queue import in.jsonl").code(3).says(&["in.jsonl:20:", "30 more bad lines"]);
    assert!(!ran.err.contains("in.jsonl:21:"), "{}", ran.err);
    assert_eq!(place.read("state/in.rejects.jsonl").lines().count(), 50);
}

#[test]
fn a_limit_counts_jobs_and_not_lines() {
    let place = Place::new();
    place.write("in.jsonl", format!("bad\n\n{}", noops(10)));
    let ran = place.run("queue import in.jsonl --limit 4").code(3);
    assert!(ran.out.starts_with("imported 4, "), "{}", ran.out);
}

#[test]
fn duplicates_are_skipped_updated_or_run_again() {
    let place = Place::new();
    let line = |value| format!("{{\"id\":\"a\",\"kind\":\"noop\",\"sleep_ms\":{value}}}\n");
    let import = |value, how: &str| {
        place.write("in.jsonl", line(value));
        place.ok(&format!("queue import in.jsonl --on-duplicate {how}")).out
    };
    let sleep = || place.ok("queue show a --format json").json()["payload"]["sleep_ms"].clone();
    import(1, "skip");
    assert!(import(2, "skip").contains("already there 1"));
    assert_eq!(sleep(), 1);
    assert!(import(2, "update").contains("updated 1"));
    assert_eq!(sleep(), 2);
    place.fail_all(orch::job::ErrorReason::Timeout);
    assert!(import(3, "update").contains("already there 1"), "it has started");
    assert!(import(3, "requeue").contains("requeued 1"));
    assert_eq!((sleep(), place.counts().queued), (3.into(), 1));
}

#[test]
fn a_file_that_is_not_there_imports_nothing_of_the_others() {
    let place = Place::new();
    place.write("in.jsonl", noops(1));
    let ran =
        place.run("queue import in.jsonl nofile").code(1).says(&["error: ", "nofile", "hint: "]);
    assert_eq!(ran.out, "");
    assert!(!place.path("state").exists());
    place.run("queue import .").code(1).says(&["error: cannot open .", "hint: "]);
}

#[test]
fn a_file_cut_short_keeps_what_was_read() {
    let place = Place::new();
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    zipped.write_all(noops(20_000).as_bytes()).unwrap();
    let whole = zipped.finish().unwrap();
    std::fs::write(place.path("in.jsonl.gz"), &whole[..whole.len() / 2]).unwrap();
    let ran =
        place.run("queue import in.jsonl.gz").code(1).says(&["gzip", "hint: what was read before"]);
    let imported = place.counts().queued;
    assert!(imported > 5_000, "{imported}");
    assert_eq!(ran.out, format!("imported {imported}, already there 0, rejected 0\n"));
}
