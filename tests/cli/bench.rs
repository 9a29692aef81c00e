//! `orch bench`.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use super::{Place, Ran};
use crate::support::{files_below, until};

/// All parts at a size that says nothing of the machine.
const TINY: &str = "--jobs 600 --files 5 --samples 3 --runs 2 --warm-up 1 --workers 2";

/// Every measure of every part, with what its size is called.
const PROMISED: [(&str, &str, &[&str]); 4] = [
    ("import", "jobs", &["jobs_per_second"]),
    ("drain", "jobs", &["jobs_per_second"]),
    ("latency", "samples", &["p50_ms", "p99_ms"]),
    ("fetch", "files", &["files_per_second"]),
];

#[track_caller]
fn assert_nothing_left(place: &Place) {
    let left: Vec<_> = fs::read_dir(place.folder()).unwrap().map(|it| it.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[track_caller]
fn check_rounds(figures: &Value, rounds: usize) {
    let number = |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name}: {figures}"));
    assert!(0.0 < number("least"), "{figures}");
    assert!(number("least") <= number("median") && number("median") <= number("most"), "{figures}");
    assert_eq!(figures["rounds"].as_array().unwrap().len(), rounds, "{figures}");
}

#[test]
fn every_part_is_told_beside_the_raw_limit_and_nothing_is_left() {
    let place = Place::new();
    let report = place.ok(&format!("bench {TINY} --format json")).json();
    for (name, value) in [("workers", 2), ("warm_up_rounds", 1), ("rounds", 2)]
        .map(|(name, value)| (name, Value::from(value)))
    {
        assert_eq!(report[name], value, "{name}");
    }
    assert_eq!(report["synchronous"], "full");
    assert!(report["cpus"].as_u64().unwrap() > 0 && report["version"].is_string(), "{report:#}");
    for (part, size, measures) in PROMISED {
        let part = &report["parts"][part];
        assert!(part[size].as_u64().unwrap() > 0, "{part}");
        for measure in measures {
            for side in ["orch", "raw", "ratio"] {
                check_rounds(&part[measure][side], 2);
            }
            assert_eq!(part[measure]["more_is_better"], !measure.ends_with("_ms"));
        }
    }
    assert_nothing_left(&place);
}

#[test]
fn a_table_has_the_parts_that_were_asked_for_each_once_and_says_how_they_were_measured() {
    let place = Place::new();
    let line = "bench latency drain drain --jobs 100 --samples 2 --runs 1 --warm-up 0";
    let ran = place.ok(line).says(&[
        "medians of 1 round, after 0",
        "synchronous=FULL",
        "multiple of raw",
    ]);
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|it| it.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..5], ["part", "what", "orch", "raw", "ratio"]);
    let parts: Vec<&str> = rows[1..].iter().map(|row| row[0]).collect();
    assert_eq!(parts, ["drain", "latency", "latency"]);
    assert_nothing_left(&place);
}

#[test]
fn it_measures_where_it_is_told_to_or_where_the_queue_would_be() {
    let place = Place::new();
    let tiny = "bench drain --jobs 1 --runs 1 --warm-up 0 --format json";
    fs::create_dir(place.path("disk")).unwrap();
    let disk = place.path("disk").canonicalize().unwrap();
    for wish in ["--dir disk", "--queue disk/not/yet/q.sqlite"] {
        let directory = &place.ok(&format!("{tiny} {wish}")).json()["directory"];
        assert_eq!(directory.as_str(), disk.to_str(), "{wish}");
    }
    assert!(fs::read_dir(place.path("disk")).unwrap().next().is_none(), "it left something");
}

#[test]
fn what_cannot_be_measured_is_a_bad_command_line() {
    let place = Place::new();
    for (line, word) in [
        ("bench speed", "latency"),
        ("bench --jobs 0", "--jobs"),
        ("bench --runs 0", "--runs"),
        ("bench --samples many", "--samples"),
        ("bench --workers 0", "--workers"),
        ("bench --format yaml", "--format"),
    ] {
        place.run(line).code(2).says(&[word]);
    }
    assert_nothing_left(&place);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let place = Place::new();
    place.write("file", "");
    let check = |dir: &str, why: &str| {
        let ran: Ran = place.run(&format!("bench drain --dir {dir}"));
        ran.code(1).says(&["cannot make a directory in ", dir, why, "hint: "]);
    };
    check("not/there", "No such file or directory");
    check("file", "Not a directory");
}

/// Stops a part when there is a file of that name below its directory, and so somebody in the midst of it.
fn check_stopped(part: &str, under_way: &str, signal: Signal, code: i32) {
    let place = Place::new();
    let much = "--jobs 300000 --samples 100000 --files 20000 --warm-up 0";
    let running = place.start(&format!("bench {part} {much}"));
    until(under_way, || {
        let files = files_below(place.folder());
        files.iter().any(|file| file.components().any(|part| part.as_os_str() == under_way))
    });
    running.signal(signal);
    let ran = running.end().code(code);
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "{part}");
    assert_nothing_left(&place);
}

#[test]
fn a_signal_ends_it_with_its_children_and_nothing_is_left() {
    check_stopped("import", "jobs.jsonl", Signal::TERM, 143);
    check_stopped("import", "workqueue.sqlite", Signal::INT, 130);
    check_stopped("drain", "workqueue.sqlite", Signal::INT, 130);
    check_stopped("latency", "queue.sqlite", Signal::TERM, 143);
    check_stopped("fetch", "artifacts", Signal::INT, 130);
}

#[test]
fn the_help_says_what_each_part_is_measured_beside() {
    let help = Place::new().ok("bench --help").out;
    for word in
        ["beside a bulk insert", "two UPDATEs", "synchronous=FULL", "warm up", "removed", "--dir"]
    {
        assert!(help.contains(word), "no {word:?} in: {help}");
    }
}
