//! What servers answer, and what becomes of it.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::server::{Reply, Server};
use super::*;
use crate::job::JobSpec;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What comes of a URL that answers like this, and that nothing is left on disk unless it is done.
fn check(reply: impl Fn() -> Reply + Send + Sync + 'static, expected: &str) -> Outcome {
    let server = Server::start(move |_| reply());
    let rig = Rig::with(|settings| settings.max_bytes = 100_000);
    let outcome = rig.fetch_url(&server.url("/secret.pdf?token=secret2"));
    assert_eq!(in_short(&outcome), expected, "{outcome:?}");
    assert_eq!(rig.files().len(), usize::from(expected.starts_with("done")), "{:?}", rig.files());
    if let Outcome::Fail { note, .. } | Outcome::Retry { note, .. } = &outcome {
        assert!(!format!("{note:?}").contains("secret2"), "{note:?}");
        assert_eq!(detail(&outcome)["tried"].as_array().unwrap().len(), 1);
    }
    outcome
}

#[test]
fn a_pdf_is_put_away_with_all_that_is_known_of_it() {
    let server = Server::start(|_| {
        Reply::of(200, "ETag: \"e1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", PDF)
    });
    let rig = Rig::with(|settings| settings.contact_email = Some("a@example.org".to_owned()));
    let url = server.url("/a.pdf?q=1");
    let line = json!({ "url": url, "license": "cc-by", "version": "publishedVersion" });
    let outcome = rig.fetch(&line);
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");

    let files = rig.files();
    assert_eq!(files.len(), 1);
    assert_eq!(std::fs::read(&files[0]).unwrap(), PDF);
    assert_eq!(
        detail(&outcome),
        json!({
            "path": files[0].to_str().unwrap(),
            "sha256": sha256(PDF),
            "bytes": PDF.len(),
            "media_type": "application/pdf",
            "url": url,
            "final_url": url,
            "resolver": "line",
            "licence": "cc-by",
            "version": "publishedVersion",
            "etag": "\"e1\"",
            "last_modified": "Sun, 06 Nov 1994 08:49:37 GMT",
            "fetched_at": "1994-11-06T08:49:37Z",
        })
    );
    let head = server.seen()[0].head.to_ascii_lowercase();
    let agent =
        concat!("user-agent: orch/", env!("CARGO_PKG_VERSION"), " (mailto:a@example.org)\r\n");
    assert!(head.contains(agent), "{head}");
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
    assert!(head.contains("accept: application/pdf"), "{head}");
    assert!(!head.contains("cookie"), "{head}");
}

#[test]
fn the_bytes_decide_what_is_a_pdf() {
    let junk = |bytes: usize| [&vec![b'\n'; bytes][..], PDF].concat();
    let outcome =
        check(move || Reply::of(200, "Content-Type: text/html\r\n", &junk(1_000)), "done ok");
    assert_eq!(detail(&outcome)["pdf_offset"], 1_000);
    check(move || Reply::ok(&junk(1_100)), "fail unexpected_content");

    let typed = |body: &'static str| {
        move || Reply::of(200, "Content-Type: application/pdf\r\n", body.as_bytes())
    };
    check(typed("<html><form><input type=\"password\"></form>"), "fail wall");
    check(typed("<html><title>Just a moment...</title>"), "fail challenge");
    check(typed("<html><p>An abstract</p>"), "fail unexpected_content");
    check(typed("{\"error\": \"no\"}"), "fail unexpected_content");
    check(|| Reply::of(403, "", b"<html>Just a moment..."), "fail challenge");
}

#[test]
fn a_body_cut_short_is_never_kept() {
    let half = &PDF[..PDF.len() / 2];
    let cut = move || {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PDF.len());
        Reply::raw([head.as_bytes(), half].concat()).then_close()
    };
    check(cut, "retry truncated");
    let chunked = |rest: &'static [u8]| {
        move || {
            let head =
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", PDF.len());
            Reply::raw([head.as_bytes(), PDF, rest].concat()).then_close()
        }
    };
    check(chunked(b""), "retry truncated");
    check(chunked(b"\r\nzzz"), "retry truncated");
    check(chunked(b"\r\n0\r\n\r\n"), "done ok");
    // Whole by its length, but not by its bytes.
    check(move || Reply::ok(half), "retry truncated");
    let until_close = |bytes: &'static [u8]| {
        move || Reply::raw([b"HTTP/1.1 200 OK\r\n\r\n", bytes].concat()).then_close()
    };
    check(until_close(half), "retry truncated");
    check(until_close(PDF), "done ok");
}

#[test]
fn a_body_longer_than_announced_is_cut_there_and_seen_to_lack_its_end() {
    let longer = || {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PDF.len() / 2);
        Reply::raw([head.as_bytes(), PDF].concat())
    };
    check(longer, "retry truncated");
}

#[test]
fn too_large_is_seen_in_the_announcement_and_in_the_stream() {
    let announced =
        || Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\n").then_silence();
    check(announced, "fail too_large");
    let streamed = || {
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%PDF-1.4\n";
        Reply::raw([&head[..], &[b'x'; 200_000]].concat()).then_silence()
    };
    check(streamed, "fail too_large");

    let server = Server::start(|_| Reply::ok(PDF));
    let line = json!({ "url": server.url("/"), "max_bytes": PDF.len() - 1 });
    assert_eq!(in_short(&Rig::new().fetch(&line)), "fail too_large");
}

#[test]
fn gzip_that_nobody_asked_for_is_unpacked_within_bounds() {
    let encoded = |body: Vec<u8>| move || Reply::of(200, "Content-Encoding: gzip\r\n", &body);
    let outcome = check(encoded(gzip(PDF)), "done ok");
    assert_eq!(detail(&outcome)["bytes"], PDF.len());
    assert_eq!(detail(&outcome)["sha256"], sha256(PDF));
    // The announced length is that of the unpacked body, and the connection ends with the packed one.
    let lying = || {
        let head = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 99999\r\n\r\n";
        Reply::raw([head.as_bytes(), &gzip(PDF)].concat()).then_silence()
    };
    check(lying, "done ok");
    let cut = gzip(PDF);
    check(encoded(cut[..cut.len() - 12].to_vec()), "retry truncated");
    check(encoded(b"no gzip at all, whatever it says".to_vec()), "retry truncated");
    check(encoded(Vec::new()), "fail unexpected_content");
    let outcome = check(encoded(gzip(&gzip(PDF))), "done ok");
    assert_eq!(detail(&outcome)["sha256"], sha256(PDF));
    check(encoded(gzip(&gzip(&gzip(PDF)))), "fail unexpected_content");
    check(encoded(gzip(&gzip(PDF)[..40])), "retry truncated");
    let bomb = [&b"%PDF-1.4\n"[..], &vec![0; 50_000_000]].concat();
    check(encoded(gzip(&bomb)), "fail too_large");
    check(encoded(gzip(&gzip(&bomb))), "fail too_large");
}

#[test]
fn a_bomb_is_stopped_by_its_growth_before_the_cap() {
    let bomb = gzip(&[&b"%PDF-1.4\n"[..], &vec![0; 50_000_000]].concat());
    let server = Server::start(move |_| Reply::of(200, "Content-Encoding: gzip\r\n", &bomb));
    let outcome = Rig::new().fetch_url(&server.url("/"));
    assert_eq!(in_short(&outcome), "fail too_large", "{outcome:?}");
}

#[test]
fn an_empty_body_is_tried_once_more() {
    let later = Server::start(|request| Reply::ok(if request.before == 0 { b"" } else { PDF }));
    assert_eq!(in_short(&Rig::new().fetch_url(&later.url("/"))), "done ok");
    let never = Server::start(|_| Reply::ok(b""));
    assert_eq!(in_short(&Rig::new().fetch_url(&never.url("/"))), "fail unexpected_content");
    assert_eq!(never.targets().len(), 2);
}

#[test]
fn the_expected_checksum_is_verified() {
    let server = Server::start(|_| Reply::ok(PDF));
    let rig = Rig::new();
    let line = |digits: &str| json!({ "url": server.url("/"), "sha256": digits });
    assert_eq!(in_short(&rig.fetch(&line(&"0".repeat(64)))), "fail checksum_mismatch");
    assert!(rig.files().is_empty());
    assert_eq!(in_short(&rig.fetch(&line(&sha256(PDF).to_uppercase()))), "done ok");
}

#[test]
fn a_server_in_trouble_is_tried_again_later() {
    check(|| Reply::of(500, "Retry-After: 7\r\n", b""), "retry http_status");
    check(|| Reply::of(504, "", b""), "retry http_status");
}

#[test]
fn the_first_candidate_that_is_whole_wins_and_the_others_are_noted() {
    let server = Server::start(|request| match request.target.as_str() {
        "/gone" => Reply::of(404, "", b"no"),
        "/wall" => Reply::ok(b"<html>Log in"),
        "/busy" => Reply::of(500, "", b"oops"),
        _ => Reply::ok(PDF),
    });
    let url = |path: &str| server.url(path);
    let rig = Rig::new();
    let outcome = rig.fetch(&json!({
        "url": url("/gone"),
        "pdf_urls": [url("/wall"), "ftp://example.org/x"],
        "urls": [url("/busy"), url("/good"), url("/never")],
    }));
    assert_eq!(in_short(&outcome), "done ok");
    assert_eq!(server.targets(), ["/gone", "/wall", "/busy", "/good"]);
    let detail = detail(&outcome);
    assert_eq!(detail["final_url"], url("/good"));
    let tried: Vec<_> =
        detail["tried"].as_array().unwrap().iter().map(|one| &one["reason"]).collect();
    assert_eq!(tried, ["bad_payload", "http_status", "wall", "http_status"]);
}

#[test]
fn a_job_fails_with_the_most_telling_reason_and_asks_again_only_what_may_pass() {
    let server = Server::start(|request| match request.target.as_str() {
        "/wall" => Reply::ok(b"<html>Log in"),
        "/slow" => Reply::of(504, "", b""),
        _ => Reply::of(404, "", b""),
    });
    let rig = Rig::new();
    let urls = |paths: &[&str]| -> Value {
        let urls: Vec<String> = paths.iter().map(|path| server.url(path)).collect();
        json!({ "url": urls[0], "urls": urls })
    };
    assert_eq!(in_short(&rig.fetch(&urls(&["/wall", "/gone"]))), "fail wall");
    assert_eq!(in_short(&rig.fetch(&urls(&["/gone"]))), "fail http_status");

    let mut job = job(&urls(&["/wall", "/slow"]));
    let outcome = rig.run(&job);
    let Outcome::Retry { checkpoint, .. } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(in_short(&outcome), "retry http_status");
    // The next attempt asks only those that may have changed their mind.
    job.checkpoint.clone_from(checkpoint);
    (job.attempt, job.attempts_total) = (2, 2);
    let asked = server.targets().len();
    rig.run(&job);
    assert_eq!(server.targets()[asked..], ["/slow"]);
}

#[test]
fn a_line_without_urls_is_no_failure_and_one_with_bad_urls_is() {
    let rig = Rig::new();
    let outcome = rig.fetch(&json!({ "doi": "10.1/x" }));
    assert_eq!(in_short(&outcome), "skipped no_open_copy");
    assert_eq!(in_short(&rig.fetch(&json!({ "urls": ["ftp://h/x"] }))), "fail bad_payload");
    assert_eq!(in_short(&rig.fetch(&json!({ "urls": 7 }))), "fail bad_payload");
}

#[test]
fn a_job_is_first_run_under_the_host_it_will_ask_unless_its_line_names_one() {
    let key_of = |payload: &str, key: Key| {
        let spec = JobSpec::new("a", "fetch").unwrap().with_payload(payload);
        crate::handler::FetchPlan::new(&FetchSettings::default())
            .unwrap()
            .first_key(&JobSpec { key, ..spec })
    };
    let host = |host: &str| Key::new(Some("x"), Some(host)).unwrap();
    let bare = Key::new(Some("x"), None).unwrap();
    let line = r#"{"pdf_urls":["ftp://no/","https://WWW.Example.org:8443/a"]}"#;
    assert_eq!(key_of(line, bare.clone()), host("www.example.org"));
    assert_eq!(key_of(line, host("other.org")), host("other.org"));
    assert_eq!(key_of("{}", bare.clone()), bare);
    assert_eq!(key_of(r#"{"url":7}"#, bare.clone()), bare);
}
