//! A full disk: a clear error, nothing lost, nothing half done, and all of it done once there is room.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use orch::clock::System;
use orch::handler::Noop;
use orch::job::JobSpec;
use orch::queue::WorkQueue;
use orch::queue::sqlite::OpenOptions;
use orch::queue::store::{OnDuplicate, StoreError};
use orch::run::{RunError, Runner};
use serde_json::{Value, json};

use super::origin::{Answer, Origin, PDF};
use super::{assert_untouched, exec, noop, with};
use crate::support::{Place, files_below};

/// A small file system of its own, unmounted when dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// A disk of so many MiB at `name`; `None`, said aloud, where this account cannot mount one.
    fn mount(place: &Place, name: &str, mib: u32) -> Option<SmallDisk> {
        let at = place.path(name);
        std::fs::create_dir(&at).unwrap();
        if mount(&format!("size={mib}m"), &at) {
            return Some(SmallDisk { at });
        }
        eprintln!("skipped: no tmpfs can be mounted here, so no disk can be filled");
        None
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut filler = std::fs::File::create(self.at.join("filler")).unwrap();
        let error = std::io::copy(&mut std::io::repeat(1), &mut filler).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    }

    fn grow(&self, mib: u32) {
        assert!(mount(&format!("remount,size={mib}m"), &self.at));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.at).status();
    }
}

fn mount(options: &str, at: &Path) -> bool {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[test]
fn an_import_that_does_not_fit_says_what_is_in_and_that_is_in() {
    const LINES: usize = 60_000;
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place, "state", 12) else { return };
    let line = |n: usize| format!("{{\"id\":\"n{n}\",\"kind\":\"noop\",\"title\":\"{n:0150}\"}}\n");
    place.write("jobs.jsonl", (0..LINES).map(line).collect::<String>());
    let ran = place.run("queue import jobs.jsonl").code(1);
    let ran = ran.says(&["no room left to write", "workqueue.sqlite", "hint: make room"]);
    let imported: u64 = ran.out["imported ".len()..].split(',').next().unwrap().parse().unwrap();
    assert!(imported > 0, "nothing fitted: {}", ran.out);

    disk.grow(100);
    assert_eq!((place.count("total"), place.integrity()), (imported, "ok".to_owned()));
    let rest = place.ok("queue import jobs.jsonl").out;
    let missing = LINES as u64 - imported;
    assert_eq!(rest, format!("imported {missing}, already there {imported}, rejected 0\n"));
}

#[test]
fn a_run_whose_queue_cannot_be_written_ends_and_the_next_one_does_the_rest() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place, "state", 8) else { return };
    // One fills the disk while the other runs: neither's end can be written.
    let filler =
        exec("filler", "[ -e full ] || { cat /dev/zero > state/filler; touch full; }; true");
    let innocent = exec("innocent", "while [ -d state ] && ! [ -e full ]; do sleep 0.02; done");
    let mut lines =
        [filler, innocent].map(|line| with(line, &json!({"priority": "critical"}))).to_vec();
    lines
        .extend((0..400).map(|n| with(noop(&format!("n{n}")), &json!({"title": "x".repeat(500)}))));
    place.import(&lines);
    let ran = place.run("queue run --drain --workers 2 --allow-exec").code(1);
    ran.says(&["to be tried again in", "error: no room left to write", "hint: make room"]);

    std::fs::remove_file(disk.at.join("filler")).unwrap();
    place.run("queue run --drain").code(4);
    for id in ["filler", "innocent"] {
        assert_untouched(&place.show(id));
    }
    place.ok("queue run --drain --allow-exec");
    assert_eq!((place.count("done"), place.count("total")), (402, 402));
    assert_eq!(place.integrity(), "ok");
}

#[test]
fn a_run_cannot_begin_on_a_full_disk_and_charges_nobody() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place, "state", 8) else { return };
    place.import(&["a", "b"].map(noop));
    disk.fill();
    for _ in 0..6 {
        place.run("queue run --drain").code(1).says(&[
            "error: ",
            "state/workqueue.sqlite",
            "hint: ",
        ]);
    }
    std::fs::remove_file(disk.at.join("filler")).unwrap();
    for id in ["a", "b"] {
        assert_untouched(&place.show(id));
    }
    place.ok("queue run --drain");
}

#[test]
fn a_fetch_that_does_not_fit_leaves_no_file_and_stops_the_run() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place, "out", 1) else { return };
    let large = [PDF, &vec![b' '; 3 << 20], b"startxref\n9\n%%EOF\n"].concat();
    let origin = Origin::start(move |_, _| Answer::ok(large.clone()));
    let line = |n: usize| json!({"id": format!("a{n}"), "url": origin.url(&format!("/{n}"))});
    let lines: Vec<Value> = (0..9).map(line).collect();
    place.import(&lines);
    let run = "queue run --drain --allow-private --out out --workers 2";
    place.run(run).code(1).says(&["error: no space left: out/", "hint: make room"]);
    assert!(files_below(&disk.at).is_empty(), "{:?}", files_below(&disk.at));
    for n in 0..lines.len() {
        assert_untouched(&place.show(&format!("a{n}")));
    }

    disk.grow(100);
    place.ok(run);
    assert_eq!((place.count("done"), files_below(&disk.at).len()), (9, 9));
}

/// The same without a disk of its own: a limit to the pages of the database.
#[test]
fn a_store_that_is_full_keeps_what_it_said_it_has() {
    const PAGES: u32 = 64;
    let place = Place::new();
    let open = |max_pages| {
        let options = OpenOptions { max_pages, ..OpenOptions::default() };
        WorkQueue::open_with(place.database(), &options, Arc::new(System::new())).unwrap()
    };
    let mut queue = open(Some(PAGES));
    let mut kept = 0;
    let error = loop {
        let specs: Vec<JobSpec> =
            (kept..kept + 50).map(|n| JobSpec::new(&format!("n{n}"), "noop").unwrap()).collect();
        match queue.insert(&specs, OnDuplicate::Skip) {
            Ok(answers) => kept += answers.len() as u64,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(kept > 0);
    assert_eq!((queue.counts().unwrap().queued, place.integrity()), (kept, "ok".to_owned()));

    let error = Runner::new(queue).handler("noop", Noop).unwrap().drain().unwrap_err();
    assert!(matches!(error, RunError::Store(StoreError::Full { .. })), "{error}");
    let report = Runner::new(open(None)).handler("noop", Noop).unwrap().drain().unwrap();
    assert_eq!((report.queue.done, report.failed), (kept, 0));
    assert_eq!(place.integrity(), "ok");
}
