//! What is kept beside PDFs, where the settings say so; and files of equal content.

use std::os::unix::fs::MetadataExt;

use super::server::{Reply, Server};
use super::*;
use crate::handler::ContentKind;

const ARTICLE: &[u8] = b"<?xml version=\"1.0\"?><article><body><p>x</p></body></article>\n";
const PAGE: &[u8] = b"<!DOCTYPE html><html><body><h1>The text</h1></body></html>";

fn fetch(accept: &[ContentKind], body: &'static [u8]) -> (Rig, Outcome) {
    let server = Server::start(move |_| Reply::ok(body));
    let rig = Rig::with(|settings| settings.accept = accept.to_vec());
    let outcome = rig.fetch_url(&server.url("/"));
    (rig, outcome)
}

#[test]
fn only_what_is_accepted_is_kept_and_under_its_own_extension() {
    use ContentKind::{Html, Pdf, Xml};
    for (accept, body, expected) in [
        (&[Pdf][..], PDF, "pdf"),
        (&[Pdf, Html], PAGE, "html"),
        (&[Html, Xml, Pdf], ARTICLE, "xml"),
        (&[Html, Xml, Pdf], PDF, "pdf"),
    ] {
        let (rig, outcome) = fetch(accept, body);
        assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
        let files = rig.files();
        assert_eq!(files[0].extension().unwrap(), expected);
        assert_eq!(std::fs::read(&files[0]).unwrap(), body);
        let kind = ContentKind::from_name(expected).unwrap();
        assert_eq!(detail(&outcome)["media_type"], kind.media_type());
        // It is there, also when somebody asks who does not know.
        assert_eq!(in_short(&rig.fetch_url("http://127.0.0.1:9/")), "done exists");
    }
    for (accept, body, expected) in [
        (&[Pdf][..], PAGE, "fail unexpected_content"),
        (&[Pdf], ARTICLE, "fail unexpected_content"),
        (&[Html, Xml], PDF, "skipped policy_type"),
        (&[Html], ARTICLE, "fail unexpected_content"),
        (&[Html], b"<html><title>Log in</title>", "fail wall"),
        (&[Html], b"<html><title>Just a moment...</title>", "fail challenge"),
        (&[Xml], b"<?xml version=\"1.0\"?><rss></rss>", "fail unexpected_content"),
        (&[Xml], b"<?xml version=\"1.0\"?><Error></Error>", "fail unexpected_content"),
        (&[Xml], &ARTICLE[..40], "retry truncated"),
    ] {
        let (rig, outcome) = fetch(accept, body);
        assert_eq!(in_short(&outcome), expected, "{outcome:?}");
        assert!(rig.files().is_empty());
    }
}

#[test]
fn a_page_larger_than_what_is_searched_is_kept_whole_or_not_at_all() {
    let long = [PAGE, &b"<p>text</p>".repeat(150_000)].concat();
    let (whole, length) = (long.clone(), long.len());
    let accept = |settings: &mut FetchSettings| settings.accept = vec![ContentKind::Html];
    let server = Server::start(move |_| Reply::ok(&whole));
    let rig = Rig::with(accept);
    assert_eq!(in_short(&rig.fetch_url(&server.url("/"))), "done ok");
    assert_eq!(std::fs::read(&rig.files()[0]).unwrap(), long);

    let cut = Server::start(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        Reply::raw([head.as_bytes(), &long[..length - 1]].concat()).then_close()
    });
    let rig = Rig::with(accept);
    assert_eq!(in_short(&rig.fetch_url(&cut.url("/"))), "fail unexpected_content");
    assert!(rig.files().is_empty());
}

#[test]
fn files_of_equal_content_are_one_where_that_is_wanted() {
    for dedup in [false, true] {
        let server = Server::start(|_| Reply::ok(PDF));
        let rig = Rig::with(|settings| settings.dedup = dedup);
        let mut inodes = std::collections::BTreeSet::new();
        for id in ["a", "b", "c"] {
            let mut job = job(&json!({ "url": server.url("/") }));
            job.artifact_id = ArtifactId::new(id).unwrap();
            let outcome = rig.run(&job);
            assert_eq!(in_short(&outcome), "done ok");
            let path = detail(&outcome)["path"].as_str().unwrap().to_owned();
            assert_eq!(std::fs::read(&path).unwrap(), PDF);
            inodes.insert(std::fs::metadata(&path).unwrap().ino());
        }
        assert_eq!(inodes.len(), if dedup { 1 } else { 3 });
        // The three, and the one by which they are found.
        assert_eq!(rig.files().len(), if dedup { 4 } else { 3 }, "{:?}", rig.files());
    }
}
