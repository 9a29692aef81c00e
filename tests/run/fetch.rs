//! Fetching through the binary, from an origin on this machine.

use serde_json::json;

use super::in_short;
use super::origin::{Answer, Origin, PDF};
use crate::support::{Place, files_below, sha256};

const RUN: &str = "queue run --drain --allow-private";

#[test]
fn a_pdf_is_stored_and_all_that_is_known_of_it_is_shown() {
    let origin = Origin::start(|path, _| match path {
        "/moved" => Answer::of(302, "Location: /a.pdf\r\n"),
        _ => Answer {
            headers: "ETag: \"e1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            ..Answer::ok(PDF)
        },
    });
    let place = Place::new();
    place.import(&[json!({"doi": "10.1234/ABC", "url": origin.url("/moved")})]);
    place.ok(RUN);
    let job = place.show("doi:10.1234/abc");
    assert_eq!(in_short(&job), ("done", "ok", 1));
    let detail = &job["detail"];
    let path = detail["path"].as_str().unwrap();
    assert!(path.starts_with("artifacts/"), "{path}");
    assert_eq!(std::fs::read(place.path(path)).unwrap(), PDF);
    assert_eq!(detail["sha256"], sha256(PDF));
    assert_eq!(detail["bytes"], PDF.len());
    assert_eq!(detail["media_type"], "application/pdf");
    assert_eq!((&detail["etag"], &detail["url"]), (&"\"e1\"".into(), &origin.url("/moved").into()));
    assert_eq!(detail["last_modified"], "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(detail["final_url"], origin.url("/a.pdf"));
    detail["fetched_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
}

#[test]
fn the_manifest_is_exported_as_csv() {
    let origin = Origin::start(|path, _| match path {
        "/a.pdf" => Answer { headers: "ETag: \"e1\"\r\n", ..Answer::ok(PDF) },
        _ => Answer::of(404, ""),
    });
    let place = Place::new();
    let line = |id: &str, path: &str| json!({"id": id, "url": origin.url(path)});
    place.import(&[line("a", "/a.pdf"), line("gone", "/gone")]);
    place.run(RUN).code(3);
    let text = place.ok("queue export --state done --format csv").out;
    let mut csv = csv::Reader::from_reader(text.as_bytes());
    let header = csv.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    let cell = |name: &str| {
        let at = header.iter().position(|column| column == name);
        rows[0][at.unwrap_or_else(|| panic!("no column {name}: {header:?}"))].to_owned()
    };
    assert_eq!((cell("artifact_id"), cell("state")), ("a".to_owned(), "done".to_owned()));
    assert_eq!((cell("sha256"), cell("bytes")), (sha256(PDF), PDF.len().to_string()));
    assert_eq!(std::fs::read(place.path(&cell("path"))).unwrap(), PDF);
    assert_eq!((cell("final_url"), cell("etag")), (origin.url("/a.pdf"), "\"e1\"".to_owned()));
    for name in ["media_type", "url", "resolver", "fetched_at", "attempts"] {
        assert!(!cell(name).is_empty(), "{name} is empty");
    }
    for name in ["licence", "version", "last_modified"] {
        assert_eq!(cell(name), "", "{name} is not known");
    }
}

/// How one job ends whose only URL is answered so; nothing is stored but when it is done.
fn check(id: &str, answer: fn(usize) -> Answer, run: &str, expected: (&str, &str, u64)) {
    let origin = Origin::start(move |_, before| answer(before));
    let place = Place::new();
    place.import(&[json!({"id": id, "url": origin.url("/a.pdf")})]);
    place.run(run);
    assert_eq!(in_short(&place.show(id)), expected);
    assert_eq!(files(&place).len(), usize::from(expected.0 == "done"));
}

/// Every file below the output directory.
fn files(place: &Place) -> Vec<std::path::PathBuf> {
    files_below(&place.path("artifacts"))
}

#[test]
fn a_login_page_is_a_wall_and_never_a_pdf() {
    let page = |_| Answer {
        headers: "Content-Type: application/pdf\r\n",
        ..Answer::ok("<!doctype html><title>Sign in</title><input type=\"password\">")
    };
    check("a", page, RUN, ("error", "wall", 1));
}

#[test]
fn what_is_not_there_is_not_asked_again() {
    check("a", |_| Answer::of(404, ""), RUN, ("error", "http_status", 1));
}

#[test]
fn a_server_that_asks_for_a_second_is_asked_again_after_it() {
    let busy = |before| match before {
        0 => Answer::of(429, "Retry-After: 1\r\n"),
        _ => Answer::ok(PDF),
    };
    // It waited with its host, and no attempt was counted.
    check("a", busy, RUN, ("done", "ok", 1));
}

#[test]
fn a_private_address_is_not_asked_unless_allowed() {
    let origin = Origin::start(|_, _| Answer::ok(PDF));
    let place = Place::new();
    place.import(&[json!({"id": "a", "url": origin.url("/a.pdf")})]);
    place.ok("queue run --drain");
    assert_eq!(in_short(&place.show("a")), ("skipped", "private_address", 1));
    assert_eq!(origin.asked("/a.pdf"), 0);
}

#[test]
fn an_identifier_without_a_url_is_skipped_and_says_so() {
    let place = Place::new();
    place.write("orch.toml", "[fetch]\nresolvers = [\"line\"]\n");
    place.import(&[json!({"doi": "10.1234/abc"})]);
    place.ok("queue run --drain");
    let job = place.show("doi:10.1234/abc");
    assert_eq!(in_short(&job), ("skipped", "no_open_copy", 1));
    assert!(job["message"].as_str().unwrap().contains("no URL"), "{job:#}");
}

#[test]
fn a_whole_file_that_is_there_is_not_fetched_again() {
    let origin = Origin::start(|_, _| Answer::ok(PDF));
    let place = Place::new();
    place.import(&[json!({"id": "a", "url": origin.url("/a.pdf")})]);
    place.ok(RUN);
    let again = place.ok("queue import jobs.jsonl --on-duplicate requeue").out;
    assert!(again.contains("requeued 1"), "{again}");
    place.ok(RUN);
    let job = place.show("a");
    assert_eq!((&job["state"], &job["reason"]), (&"done".into(), &"exists".into()));
    assert_eq!(job["detail"]["sha256"], sha256(PDF), "the manifest is kept");
    assert_eq!((origin.asked("/a.pdf"), files(&place).len()), (1, 1));
}

#[test]
fn files_go_where_out_says() {
    let origin = Origin::start(|_, _| Answer::ok(PDF));
    let place = Place::new();
    place.import(&[json!({"id": "a", "url": origin.url("/a.pdf")})]);
    place.ok(&format!("{RUN} --out elsewhere"));
    let job = place.show("a");
    let path = job["detail"]["path"].as_str().unwrap();
    assert!(path.starts_with("elsewhere/") && place.path(path).is_file(), "{path}");
    assert!(!place.path("artifacts").exists());
}
