//! What servers send as bodies: the rows of the table of misbehaviour that concern the bytes of an answer.

use std::io::Write;

use crossbeam_channel::never;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::server::{Reply, Server};
use super::*;

const LOGIN: &[u8] = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome";
const CHALLENGE: &[u8] = b"<!DOCTYPE html><title>Just a moment...</title><p>Enable JavaScript";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A server that answers one path in a bad way, and every other with the PDF.
fn bad_and_good(bad: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |request| match request.target.as_str() {
        "/bad" => bad(),
        _ => Reply::ok(PDF),
    })
}

/// What comes of a bad URL with a good one after it: the verdict on the bad one, once the good one was taken.
fn verdict_beside_a_good_one(bad: impl Fn() -> Reply + Send + Sync + 'static) -> Value {
    let server = bad_and_good(bad);
    let rig = Rig::with(|settings| settings.max_bytes = 100_000);
    let outcome = rig.fetch(&json!({ "url": server.url("/bad"), "urls": [server.url("/good")] }));
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    assert_eq!(std::fs::read(&rig.files()[0]).unwrap(), PDF);
    assert_eq!(rig.files().len(), 1);
    detail(&outcome)["tried"][0].clone()
}

/// What comes of a URL that answers so, alone; nothing may be left on disk unless it is done.
fn alone(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Outcome {
    let server = Server::start(move |_| reply());
    let rig = Rig::with(|settings| settings.max_bytes = 3_000_000);
    let outcome = rig.fetch_url(&server.url("/"));
    let is_done = in_short(&outcome).starts_with("done");
    assert_eq!(rig.files().len(), usize::from(is_done), "{:?}", rig.files());
    outcome
}

#[test]
fn a_login_or_just_a_moment_page_under_application_pdf_is_never_a_pdf_and_the_next_candidate_is() {
    for (page, reason) in [(LOGIN, "wall"), (CHALLENGE, "challenge")] {
        for media_type in ["application/pdf", "text/html"] {
            let head = format!("Content-Type: {media_type}\r\n");
            let tried = verdict_beside_a_good_one(move || Reply::of(200, &head, page));
            assert_eq!(tried["reason"], reason);
        }
    }
}

#[test]
fn a_pdf_under_another_type_or_after_junk_is_accepted_and_its_offset_recorded() {
    for media_type in ["application/octet-stream", "text/html", "image/jp2", ""] {
        let head = format!("Content-Type: {media_type}\r\n");
        let outcome = alone(move || Reply::of(200, &head, PDF));
        assert_eq!(in_short(&outcome), "done ok", "{media_type:?}");
        assert_eq!(detail(&outcome)["flags"], Value::Null);
    }
    for junk in [1, 4, 1_024] {
        let body = [&b"<!-- cached -->\n".repeat(64)[..junk], PDF].concat();
        let outcome = alone(move || Reply::ok(&body));
        assert_eq!(in_short(&outcome), "done ok");
        assert_eq!(detail(&outcome)["pdf_offset"], junk);
        assert_eq!(detail(&outcome)["flags"], json!(["junk_before"]));
    }
    let body = [&b" ".repeat(1_025), PDF].concat();
    assert_eq!(in_short(&alone(move || Reply::ok(&body))), "fail unexpected_content");
}

#[test]
fn no_eof_is_suspect_and_fatal_only_when_the_length_is_short_too_or_there_is_no_startxref() {
    let unmarked = &PDF[..PDF.len() - b"%%EOF\n".len()];
    let outcome = alone(|| Reply::ok(unmarked));
    assert_eq!(in_short(&outcome), "done ok");
    assert_eq!(detail(&outcome)["flags"], json!(["no_eof"]));
    // The mark further than a kibibyte from the end.
    let padded = [PDF, &b"x".repeat(1_100)].concat();
    let outcome = alone(move || Reply::ok(&padded));
    assert_eq!(detail(&outcome)["flags"], json!(["no_eof"]));

    let short = || {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", PDF.len());
        Reply::raw([head.as_bytes(), unmarked].concat()).then_close()
    };
    assert_eq!(in_short(&alone(short)), "retry truncated");
    assert_eq!(in_short(&alone(|| Reply::ok(&PDF[..30]))), "retry truncated");
}

#[test]
fn error_json_is_rejected_and_an_empty_body_is_tried_once_more_then_the_next_candidate() {
    let json = || Reply::of(200, "Content-Type: application/pdf\r\n", b"{\"error\":\"login\"}");
    let tried = verdict_beside_a_good_one(json);
    assert_eq!(tried["reason"], "unexpected_content");
    assert!(tried["message"].as_str().unwrap().starts_with("JSON"), "{tried}");

    let server = bad_and_good(|| Reply::ok(b""));
    let outcome =
        Rig::new().fetch(&json!({ "url": server.url("/bad"), "urls": [server.url("/good")] }));
    assert_eq!(in_short(&outcome), "done ok");
    assert_eq!(server.targets(), ["/bad", "/bad", "/good"]);
    assert_eq!(detail(&outcome)["tried"][0]["reason"], "unexpected_content");
}

#[test]
fn a_server_that_closes_before_headers_or_stands_still_is_transient() {
    assert_eq!(in_short(&alone(|| Reply::raw("").then_close())), "retry connect");
    assert_eq!(in_short(&alone(|| Reply::raw("HTTP/1.1 20").then_close())), "retry connect");
    let server = Server::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n%PDF-1.4").then_silence()
    });
    let rig = Rig::with(|settings| settings.read_timeout = Duration::from_millis(50));
    let outcome = rig.fetch_url(&server.url("/"));
    assert_eq!(in_short(&outcome), "retry timeout", "{outcome:?}");
}

/// What comes of a body that begins so and goes on for ever with a byte each millisecond, where at least 100,000 bytes a
/// second are wanted. (The deadline is an hour off: that is 3,600,000 pieces.)
fn a_byte_a_millisecond(begin: &'static [u8]) -> Outcome {
    let rig = Arc::new(Rig::with(|settings| {
        settings.min_bytes_per_second = 100_000;
        settings.throughput_window = Duration::from_millis(30);
        settings.max_bytes = 2_000_000;
    }));
    let clock = Arc::clone(&rig);
    let server = Server::start(move |_| {
        let clock = Arc::clone(&clock);
        let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        Reply::raw([head, begin].concat()).then_keep_sending(move || {
            clock.clock.advance(Duration::from_millis(1));
            b" ".to_vec()
        })
    });
    let outcome = rig.fetch_url(&server.url("/"));
    assert!(rig.files().is_empty(), "{:?}", rig.files());
    outcome
}

#[test]
fn a_byte_a_second_ends_for_want_of_throughput() {
    for begin in [&b"%PDF-1.4\n"[..], &[&b"%PDF-1.4\n"[..], &[b'x'; 4_000]].concat()] {
        let outcome = a_byte_a_millisecond(begin.to_vec().leak());
        let Outcome::Retry { note, .. } = &outcome else { panic!("{outcome:?}") };
        assert!(note.message.contains("slower than 100000 bytes a second"), "{note:?}");
        assert_eq!(in_short(&outcome), "retry timeout");
    }
}

#[test]
fn a_head_that_comes_a_byte_at_a_time_never_stands_still_and_still_times_out() {
    let server = Server::start(|_| {
        Reply::raw("HTTP/1.1 200 OK\r\nX: ").then_keep_sending(|| {
            // How fast such a server is: faster than the read timeout, slower than the longest head.
            let _ = never::<()>().recv_timeout(Duration::from_millis(20));
            b"x".to_vec()
        })
    });
    let rig = Rig::with(|settings| settings.read_timeout = Duration::from_millis(200));
    let outcome = rig.fetch_url(&server.url("/"));
    assert_eq!(in_short(&outcome), "retry timeout", "{outcome:?}");
}

#[test]
fn garbage_and_pages_without_an_end_are_not_read_to_it() {
    let endless = |begin: &'static [u8]| {
        move || {
            let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
            Reply::raw([head, begin].concat()).then_keep_sending(|| vec![b'x'; 65_536])
        }
    };
    assert_eq!(in_short(&alone(endless(b"GIF89a"))), "fail unexpected_content");
    assert_eq!(in_short(&alone(endless(b"{\"data\":\""))), "fail unexpected_content");
    assert_eq!(in_short(&alone(endless(b"<html>"))), "fail unexpected_content");
    assert_eq!(in_short(&alone(endless(b"%PDF-1.4"))), "fail too_large");
}

#[test]
fn the_announced_length_may_be_that_of_the_unpacked_body_and_the_wire_is_what_counts() {
    // A text that packs well, so that the connection ends long before the announced length.
    let text = [b"%PDF-1.4\n", &b"q Q ".repeat(20_000)[..], b"startxref\n9\n%%EOF\n"].concat();
    let announced = text.len();
    for then_close in [false, true] {
        let packed = gzip(&text);
        let outcome = alone(move || {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {announced}\r\n\r\n"
            );
            let reply = Reply::raw([head.as_bytes(), &packed].concat());
            if then_close { reply.then_close() } else { reply.then_silence() }
        });
        assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
        assert_eq!(detail(&outcome)["bytes"], announced);
    }
}

#[test]
fn a_corrupt_or_doubly_packed_body_is_unpacked_or_refused() {
    let encoded =
        |body: Vec<u8>| alone(move || Reply::of(200, "Content-Encoding: gzip\r\n", &body));
    let mut corrupt = gzip(&PDF.repeat(50));
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 0xff;
    let outcome = encoded(corrupt);
    assert_eq!(in_short(&outcome), "retry truncated", "{outcome:?}");
    assert_eq!(in_short(&encoded(gzip(&gzip(PDF)))), "done ok");
    let strange = || alone(|| Reply::of(200, "Content-Encoding: br\r\n", b"\x0b\x02\x80abc"));
    assert_eq!(in_short(&strange()), "fail unexpected_content");
}

#[test]
fn names_that_servers_give_are_ignored() {
    for name in ["../../x", "/etc/passwd", "a\u{0}b", &"n".repeat(400), "CON"] {
        let server = {
            let head = format!("Content-Disposition: attachment; filename=\"{name}\"\r\n");
            Server::start(move |_| Reply::of(200, &head, PDF))
        };
        let rig = Rig::new();
        let outcome = rig.fetch_url(&server.url("/../..%2f..%2fx"));
        if name.contains('\0') {
            // No header may hold such a byte: it is no answer at all.
            assert_eq!(in_short(&outcome), "retry connect", "{outcome:?}");
            continue;
        }
        assert_eq!(in_short(&outcome), "done ok", "{name}: {outcome:?}");
        let files = rig.files();
        assert_eq!(files.len(), 1);
        let file = files[0].file_name().unwrap().to_str().unwrap();
        assert!(file.starts_with("doi_10.1234_abc-") && file.ends_with(".pdf"), "{file}");
    }
}

#[test]
fn two_artifacts_with_one_name_are_two_files() {
    let server = Server::start(|_| Reply::ok(PDF));
    let rig = Rig::new();
    for id in ["doi:10.1/a.b", "doi:10.1/A.b", "doi:10.1_a.b"] {
        let mut job = job(&json!({ "url": server.url("/same.pdf") }));
        job.artifact_id = ArtifactId::new(id).unwrap();
        assert_eq!(in_short(&rig.run(&job)), "done ok");
    }
    assert_eq!(rig.files().len(), 3);
}

#[test]
fn what_is_unusual_about_a_pdf_is_kept_and_flagged() {
    let body = [
        b"%PDF-1.4\n1 0 obj <</OpenAction <</S /JavaScript /JS (x)>>>> endobj\n".as_slice(),
        b"2 0 obj <</S /Launch /F (x)>> endobj 3 0 obj <</Type /EmbeddedFile>> endobj\n",
        b"trailer <</Encrypt 4 0 R>>\nstartxref\n9\n%%EOF\n",
    ]
    .concat();
    let outcome = alone(move || Reply::ok(&body));
    let flags = json!(["encrypted", "javascript", "launch", "embedded_file"]);
    assert_eq!(detail(&outcome)["flags"], flags, "{outcome:?}");
}
