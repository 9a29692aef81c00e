//! Files that are there already are not fetched again, and never trusted unseen.

use super::server::{Reply, Server};
use super::*;

#[test]
fn a_whole_file_is_not_fetched_again() {
    let server = Server::start(|_| Reply::ok(PDF));
    let rig = Rig::new();
    let mut job = job(&json!({ "url": server.url("/") }));
    let first = rig.run(&job);
    assert_eq!(in_short(&first), "done ok");

    // Recorded, and the server gave nothing to ask by: the record stays as it is.
    job.previous = Some(detail(&first).to_string());
    let again = rig.run(&job);
    assert_eq!(in_short(&again), "done exists");
    assert_eq!(detail(&again), detail(&first));

    // Not recorded: the process died between the rename and the settlement.
    job.previous = None;
    let unrecorded = rig.run(&job);
    assert_eq!(in_short(&unrecorded), "done exists");
    assert_eq!(detail(&unrecorded)["sha256"], detail(&first)["sha256"]);
    assert_eq!(detail(&unrecorded)["path"], detail(&first)["path"]);
    assert_eq!(server.targets().len(), 1);
}

#[test]
fn a_file_whose_server_gave_validators_is_asked_about_and_not_fetched_again() {
    let server = Server::start(|request| {
        if request.head.to_ascii_lowercase().contains("if-none-match: \"e1\"") {
            return Reply::raw("HTTP/1.1 304 Not Modified\r\nETag: \"e1\"\r\n\r\n");
        }
        Reply::of(200, "ETag: \"e1\"\r\n", PDF)
    });
    let rig = Rig::new();
    let mut job = job(&json!({ "url": server.url("/") }));
    let first = rig.run(&job);
    job.previous = Some(detail(&first).to_string());
    let again = rig.run(&job);
    assert_eq!(in_short(&again), "done not_modified", "{again:?}");
    assert_eq!(detail(&again), detail(&first));
    assert_eq!(server.targets().len(), 2);
}

#[test]
fn a_file_that_changed_at_its_server_is_replaced_and_one_that_is_gone_there_is_kept() {
    let other = [b"%PDF-1.4 other\n", PDF].concat();
    let newer = other.clone();
    let server = Server::start(move |request| match request.before {
        0 => Reply::of(200, "ETag: \"e1\"\r\n", PDF),
        1 => Reply::of(200, "ETag: \"e2\"\r\n", &newer),
        _ => Reply::of(404, "", b""),
    });
    let rig = Rig::new();
    let mut job = job(&json!({ "url": server.url("/") }));
    let first = rig.run(&job);
    job.previous = Some(detail(&first).to_string());
    let second = rig.run(&job);
    assert_eq!(in_short(&second), "done ok", "{second:?}");
    assert_eq!(std::fs::read(&rig.files()[0]).unwrap(), other);
    job.previous = Some(detail(&second).to_string());
    let third = rig.run(&job);
    assert_eq!(in_short(&third), "done exists", "{third:?}");
    assert_eq!(detail(&third), detail(&second));
}

#[test]
fn a_file_that_was_changed_damaged_or_is_another_than_expected_is_fetched_again() {
    let server = Server::start(|_| Reply::ok(PDF));
    let rig = Rig::new();
    let mut job = job(&json!({ "url": server.url("/") }));
    let first = rig.run(&job);
    let path = rig.files().remove(0);
    let mut asked = 1;
    let mut refetched = |job: &Leased, bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(in_short(&rig.run(job)), "done ok");
        assert_eq!(std::fs::read(&path).unwrap(), PDF);
        asked += 1;
        assert_eq!(server.targets().len(), asked);
    };
    refetched(&job, &PDF[..20]);
    refetched(&job, b"");
    refetched(&job, b"<html>no PDF</html>");
    job.previous = Some(detail(&first).to_string());
    refetched(&job, &[PDF, PDF].concat());
    job.previous = None;
    let sha256 = detail(&first)["sha256"].clone();
    job.payload = json!({ "url": server.url("/"), "sha256": sha256 }).to_string();
    refetched(&job, &[PDF, PDF].concat());
}

#[test]
fn a_temporary_file_of_a_dead_process_is_swept_when_a_handler_starts() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    std::fs::create_dir_all(out.join("3f")).unwrap();
    let left = out.join("3f/.doi_10.1-0.abc.part");
    std::fs::write(&left, "half").unwrap();
    let settings = FetchSettings { out, ..FetchSettings::default() };
    drop(FetchHandler::new(settings).unwrap());
    assert!(!left.exists());
}

#[test]
fn an_output_directory_that_cannot_be_made_is_an_error_that_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let out = file.path().join("out");
    let settings = FetchSettings { out: out.clone(), ..FetchSettings::default() };
    let error = FetchHandler::new(settings).err().unwrap().to_string();
    assert!(error.contains(out.to_str().unwrap()), "{error}");
}
