//! Bodies that break off, and how they are gone on with.
//!
//! Most of it is asked of the receiver itself: how often a job goes on is the walk's affair.

use std::cell::Cell;

use super::server::{Reply, Request, Server};
use super::*;
use crate::handler::CancelReason;
use crate::handler::fetch::client::Request as Ask;
use crate::handler::fetch::download::{Expected, Offer, Partial, Received, Receiver};
use crate::handler::fetch::name::FileName;
use crate::handler::fetch::pace::Floor;
use crate::handler::fetch::payload::Payload;
use crate::handler::fetch::verdict::{Fault, Verdict};
use crate::job::{ErrorReason, Reason};

/// A PDF of 200,000 bytes in which no two places look alike.
fn large() -> Vec<u8> {
    let mut bytes = b"%PDF-1.4\n".to_vec();
    for n in 0_u32.. {
        if bytes.len() >= 200_000 - 20 {
            break;
        }
        bytes.extend(format!("{n:08} ").bytes());
    }
    bytes.truncate(200_000 - 20);
    bytes.extend(*b"\nstartxref\n12\n%%EOF\n");
    assert_eq!(bytes.len(), 200_000);
    bytes
}

/// So many bytes of it, under this tag; then the connection is closed.
fn cut_at(bytes: usize, headers: &str) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: 200000\r\n\r\n");
    Reply::raw([head.as_bytes(), &large()[..bytes]].concat()).then_close()
}

/// From there to the end, as servers answer a range.
fn rest_from(first: usize) -> Reply {
    let range = format!("Content-Range: bytes {first}-199999/200000\r\nETag: \"v1\"\r\n");
    Reply::of(206, &range, &large()[first..])
}

const TAG: &str = "ETag: \"v1\"\r\n";

/// Where a request says it wants to go on.
fn range_of(request: &Request) -> Option<usize> {
    let head = request.head.to_ascii_lowercase();
    let (_, rest) = head.split_once("range: bytes=")?;
    rest.split_once('-')?.0.parse().ok()
}

impl Rig {
    /// What one request to `/` comes to, going on with `partial`.
    fn receive(
        &self,
        server: &Server,
        partial: Option<&Partial>,
        expected: &Expected,
    ) -> Result<Received, Fault> {
        let url = Url::parse(&server.url("/")).unwrap();
        let job = job(&json!({ "url": url.as_str() }));
        let mut context = None;
        let context = context.insert(Context::new(ContextParts {
            job: &job,
            cancel: &self.cancel,
            gate: &self.gate,
            clock: &self.clock,
            permit: None,
            deadline: Mono::from_ms(3_600_000),
            worker: 0,
            owner_directory: None,
            completion: Box::new(|| Completion::new(drop)),
        }));
        let name = FileName::of(&job.artifact_id);
        let receiver = Receiver {
            out: &self.handler.out,
            name: &name,
            payload: &Payload::default(),
            max_bytes: 30_000_000,
            accept: &self.handler.net.settings.accept,
            floor: Floor { bytes_per_second: 0, window: Duration::from_secs(1) },
            resumable: &self.handler.resumable,
            may_have_partial: Cell::new(true),
        };
        let mut request = Ask::get(&url);
        if let Some(partial) = partial {
            request.headers = Receiver::resume_headers(partial);
        }
        let (response, _scope) = self.handler.net.client.ask(&request, context).unwrap();
        let offer = Offer { url: &url, expected, resumed: partial };
        receiver.receive(response, &offer, context)
    }

    /// The same, where it must break off.
    fn cut(&self, server: &Server, partial: Option<&Partial>) -> (Verdict, Option<Partial>) {
        match self.receive(server, partial, &Expected::default()) {
            Ok(Received::Cut { verdict, partial }) => (verdict, partial),
            other => panic!("{other:?}"),
        }
    }

    /// The same, where the whole file must come of it.
    fn whole(&self, server: &Server, partial: Option<&Partial>) {
        match self.receive(server, partial, &Expected::default()) {
            Ok(Received::Whole(download)) => {
                assert_eq!(std::fs::read(download.file.path()).unwrap(), large());
                assert_eq!(download.etag.as_deref(), Some("\"v1\""));
            }
            other => panic!("{other:?}"),
        }
        assert!(self.files().is_empty(), "nothing is left behind: {:?}", self.files());
    }
}

/// A server that breaks off at 100,000 bytes and answers a range as told; and what was kept.
fn broken_off(answer: impl Fn(usize) -> Reply + Send + Sync + 'static) -> (Rig, Server, Partial) {
    let server = Server::start(move |request| match range_of(request) {
        Some(first) => answer(first),
        None => cut_at(100_000, TAG),
    });
    let rig = Rig::new();
    let (verdict, partial) = rig.cut(&server, None);
    assert_eq!(verdict.reason, Reason::Error(ErrorReason::Truncated));
    assert_eq!(rig.files().len(), 1, "{:?}", rig.files());
    let partial = partial.unwrap();
    let json = serde_json::to_string(&partial).unwrap();
    assert_eq!(serde_json::from_str::<Partial>(&json).unwrap(), partial);
    (rig, server, partial)
}

#[test]
fn fewer_bytes_than_announced_are_resumed_with_range_and_if_range() {
    let (rig, server, partial) = broken_off(rest_from);
    rig.whole(&server, Some(&partial));
    let head = server.seen()[1].head.to_ascii_lowercase();
    assert!(head.contains("\r\nrange: bytes=100000-\r\n"), "{head}");
    assert!(head.contains("\r\nif-range: \"v1\"\r\n"), "{head}");
}

#[test]
fn a_chunked_body_cut_short_is_resumed() {
    let chunked = || {
        let head = format!("HTTP/1.1 200 OK\r\n{TAG}Transfer-Encoding: chunked\r\n\r\n30d40\r\n");
        Reply::raw([head.as_bytes(), &large()[..100_000]].concat()).then_close()
    };
    let server = Server::start(move |request| match range_of(request) {
        Some(first) => rest_from(first),
        None => chunked(),
    });
    let rig = Rig::new();
    let (_, partial) = rig.cut(&server, None);
    rig.whole(&server, partial.as_ref());
}

#[test]
fn a_rest_that_breaks_off_too_is_gone_on_with_from_where_it_did() {
    let (rig, server, partial) = broken_off(|first| match first {
        100_000 => {
            let head = "HTTP/1.1 206 P\r\nContent-Range: bytes 100000-199999/200000\r\n\
                        Content-Length: 100000\r\n\r\n";
            Reply::raw([head.as_bytes(), &large()[100_000..150_000]].concat()).then_close()
        }
        // A part of the rest, as servers may answer.
        150_000 => {
            let head = "Content-Range: bytes 150000-159999/200000\r\n";
            Reply::of(206, head, &large()[150_000..160_000])
        }
        first => rest_from(first),
    });
    let (_, second) = rig.cut(&server, Some(&partial));
    let (_, third) = rig.cut(&server, second.as_ref());
    rig.whole(&server, third.as_ref());
    let asked: Vec<_> = server.seen().iter().map(range_of).collect();
    assert_eq!(asked, [None, Some(100_000), Some(150_000), Some(160_000)]);
}

#[test]
fn a_range_that_is_ignored_starts_again_from_0() {
    let (rig, server, partial) = broken_off(|_| Reply::of(200, TAG, &large()));
    rig.whole(&server, Some(&partial));
}

#[test]
fn a_206_at_the_wrong_offset_is_not_appended_and_its_host_is_not_resumed_again() {
    let wrong: [fn(usize) -> Reply; 5] = [
        |_| rest_from(0),
        |first| rest_from(first - 1),
        |first| Reply::of(206, TAG, &large()[first..]),
        |first| Reply::of(206, "Content-Range: bytes 100000-199999/200001\r\n", &large()[first..]),
        |first| {
            let head = "Content-Range: bytes 100000-199999/200000\r\nETag: \"v2\"\r\n";
            Reply::of(206, head, &large()[first..])
        },
    ];
    for answer in wrong {
        let (rig, server, partial) = broken_off(answer);
        let (verdict, none) = rig.cut(&server, Some(&partial));
        assert!(verdict.passing && none.is_none(), "{verdict:?}");
        assert!(rig.files().is_empty(), "what was kept is of no use: {:?}", rig.files());
        // It breaks off again, and nothing is kept of it now.
        let (_, none) = rig.cut(&server, None);
        assert!(none.is_none() && rig.files().is_empty());
    }
}

#[test]
fn a_416_for_a_complete_file_is_verified_and_finishes() {
    let complete = || {
        let head = format!("HTTP/1.1 200 OK\r\n{TAG}Transfer-Encoding: chunked\r\n\r\n30d40\r\n");
        // Only the last chunk's end is missing.
        Reply::raw([head.as_bytes(), &large()].concat()).then_close()
    };
    let server = Server::start(move |request| match range_of(request) {
        Some(_) => Reply::of(416, "Content-Range: bytes */200000\r\n", b"no"),
        None => complete(),
    });
    let rig = Rig::new();
    let (_, partial) = rig.cut(&server, None);
    rig.whole(&server, partial.as_ref());
}

#[test]
fn a_416_for_any_other_length_drops_what_was_kept() {
    for range in ["Content-Range: bytes */99999\r\n", "Content-Range: bytes */*\r\n", ""] {
        let (rig, server, partial) = broken_off(move |_| Reply::of(416, range, b"no"));
        let (verdict, none) = rig.cut(&server, Some(&partial));
        assert!(verdict.passing && none.is_none() && rig.files().is_empty());
    }
}

#[test]
fn a_different_length_each_time_stops_resuming_from_that_host() {
    let server = Server::start(|request| match (range_of(request), request.before) {
        (Some(first), _) => {
            let range = format!("Content-Range: bytes {first}-199998/199999\r\n");
            Reply::of(206, &range, &large()[first..199_999])
        }
        (None, 2) => Reply::of(200, TAG, &large()),
        (None, _) => cut_at(100_000, TAG),
    });
    let job = &mut job(&json!({ "url": server.url("/") }));
    let rig = Rig::new();
    assert_eq!(fetch_until_settled(&rig, job), "done ok");
    assert_eq!(std::fs::read(&rig.files()[0]).unwrap(), large());
    assert_eq!(rig.files().len(), 1);
    let ranges = server.seen().iter().filter_map(range_of).count();
    assert_eq!(ranges, 1, "asked for a range once, and then no more");
}

#[test]
fn only_a_strong_validator_and_64_kib_are_worth_keeping() {
    for (bytes, headers) in [
        (100_000, ""),
        (100_000, "ETag: W/\"v1\"\r\n"),
        (100_000, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
        (100_000, "ETag: \"v1\"\r\nAccept-Ranges: none\r\n"),
        (60_000, TAG),
        (100, TAG),
    ] {
        let headers = headers.to_owned();
        let server = Server::start(move |_| cut_at(bytes, &headers));
        let rig = Rig::new();
        let (verdict, partial) = rig.cut(&server, None);
        assert!(verdict.passing && partial.is_none());
        assert!(rig.files().is_empty(), "{:?}", rig.files());
    }
}

#[test]
fn a_changed_etag_makes_the_server_send_the_whole_of_the_new_version() {
    let (rig, server, partial) = broken_off(|_| Reply::of(200, "ETag: \"v2\"\r\n", PDF));
    match rig.receive(&server, Some(&partial), &Expected::default()) {
        Ok(Received::Whole(download)) => {
            assert_eq!(std::fs::read(download.file.path()).unwrap(), PDF);
            assert_eq!(download.etag.as_deref(), Some("\"v2\""));
        }
        other => panic!("{other:?}"),
    }
    assert!(rig.files().is_empty());
}

#[test]
fn kept_bytes_that_are_others_by_now_are_not_gone_on_with() {
    let damage: [fn(&Path); 3] = [
        |path| std::fs::write(path, vec![b'x'; 100_000]).unwrap(),
        |path| std::fs::write(path, &large()[..99_999]).unwrap(),
        |path| std::fs::remove_file(path).unwrap(),
    ];
    for damage in damage {
        let (rig, server, partial) = broken_off(rest_from);
        damage(&rig.files()[0]);
        let (verdict, none) = rig.cut(&server, Some(&partial));
        assert!(verdict.passing && none.is_none() && rig.files().is_empty());
    }
    // More than was noted is what a process leaves that died while it went on.
    let (rig, server, partial) = broken_off(rest_from);
    let more = [&large()[..100_000], b"unnoted"].concat();
    std::fs::write(&rig.files()[0], more).unwrap();
    rig.whole(&server, Some(&partial));
}

#[test]
fn a_cancelled_job_keeps_what_arrived() {
    let rig = Rig::new();
    let (cancel, out) = (Arc::clone(&rig.cancel), rig.out.clone());
    let server = Server::start(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\n{TAG}Content-Length: 29000000\r\n\r\n%PDF-1.4\n");
        let (cancel, out) = (Arc::clone(&cancel), out.clone());
        Reply::raw(head).then_keep_sending(move || {
            // When so much lies on the disk, the worker is in the midst of it.
            if bytes_below(&out) >= 100_000 {
                cancel.cancel(CancelReason::Stop);
            }
            vec![b'x'; 8_192]
        })
    });
    match rig.receive(&server, None, &Expected::default()) {
        Ok(Received::Cut { partial: Some(partial), .. }) => {
            assert_eq!(std::fs::metadata(&rig.files()[0]).unwrap().len(), partial.bytes);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn checksums_that_a_service_publishes_are_verified() {
    let server = Server::start(|_| Reply::ok(PDF));
    let rig = Rig::new();
    let hex = |text: &str| Some(Box::from(text));
    let md5 = "b5c1ea3a4f0a0e5cf3fd4b2b0a4a0c00";
    for (expected, is_right) in [
        (Expected { md5: hex(md5), sha256: None }, false),
        (Expected { md5: None, sha256: hex(&"0".repeat(64)) }, false),
        (Expected { md5: hex(&digest_md5(PDF)), sha256: None }, true),
    ] {
        match rig.receive(&server, None, &expected) {
            Ok(Received::Whole(download)) if is_right => {
                assert_eq!(download.inspected.md5.as_deref(), expected.md5.as_deref());
            }
            Err(Fault::Candidate(verdict)) if !is_right => {
                assert_eq!(verdict.reason, Reason::Error(ErrorReason::ChecksumMismatch));
                assert!(!verdict.passing, "{verdict:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_wrong_checksum_of_a_resumed_body_may_pass() {
    let (rig, server, partial) = broken_off(rest_from);
    let expected = Expected { md5: Some("0".repeat(32).into()), sha256: None };
    match rig.receive(&server, Some(&partial), &expected) {
        Err(Fault::Candidate(verdict)) => {
            assert_eq!(verdict.reason, Reason::Error(ErrorReason::ChecksumMismatch));
            assert!(verdict.passing && rig.files().is_empty());
        }
        other => panic!("{other:?}"),
    }
}

fn digest_md5(bytes: &[u8]) -> String {
    use md5::Digest;
    md5::Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Attempts, each with what the last one left, until one settles the job.
fn fetch_until_settled(rig: &Rig, job: &mut Leased) -> String {
    for _ in 0..5 {
        match rig.run(job) {
            Outcome::Retry { checkpoint, .. } => {
                job.checkpoint = checkpoint;
                job.attempt += 1;
                job.attempts_total += 1;
            }
            outcome => return in_short(&outcome),
        }
    }
    "never".to_owned()
}

#[test]
fn a_job_goes_on_where_its_last_request_broke_off() {
    let server = Server::start(|request| match range_of(request) {
        Some(first) => rest_from(first),
        None => cut_at(100_000, TAG),
    });
    let rig = Rig::new();
    let job = &mut job(&json!({ "url": server.url("/") }));
    assert_eq!(fetch_until_settled(&rig, job), "done ok");
    assert_eq!(std::fs::read(&rig.files()[0]).unwrap(), large());
    assert_eq!(rig.files().len(), 1);
    let asked: Vec<_> = server.seen().iter().map(range_of).collect();
    assert_eq!(asked, [None, Some(100_000)]);
}

#[test]
fn what_was_kept_goes_when_another_candidate_gives_the_file() {
    let server = Server::start(|request| match request.target.as_str() {
        "/broken" if range_of(request).is_some() => Reply::of(404, "", b""),
        "/broken" => cut_at(100_000, TAG),
        _ => Reply::ok(PDF),
    });
    let rig = Rig::new();
    let urls = json!({ "url": server.url("/broken"), "urls": [server.url("/good")] });
    assert_eq!(fetch_until_settled(&rig, &mut job(&urls)), "done ok");
    assert_eq!(rig.files().len(), 1, "{:?}", rig.files());
}

#[test]
fn what_was_kept_outlives_redirects_other_candidates_and_a_busy_server() {
    let server = Server::start(|request| match (request.target.as_str(), range_of(request)) {
        ("/a", _) => Reply::to("/f"),
        ("/f", None) => cut_at(100_000, TAG),
        ("/f", Some(_)) if request.before == 1 => Reply::of(500, "", b""),
        ("/f", Some(first)) => rest_from(first),
        _ => Reply::of(404, "", b""),
    });
    let rig = Rig::new();
    let mut job = job(&json!({ "url": server.url("/a"), "urls": [server.url("/gone")] }));
    let first = rig.finish_job(&mut job);
    let Outcome::Retry { checkpoint, .. } = first else { panic!("{first:?}") };
    (job.attempt, job.attempts_total, job.checkpoint) = (2, 2, checkpoint);
    let second = rig.finish_job(&mut job);
    assert_eq!(in_short(&second), "done ok", "{second:?}");
    let seen = server.seen();
    let files: Vec<_> = seen.iter().filter(|it| it.target == "/f").map(range_of).collect();
    assert_eq!(files, [None, Some(100_000), Some(100_000)]);
}

#[test]
fn what_was_kept_goes_when_the_job_is_skipped() {
    let server = Server::start(|request| match request.before {
        0 => cut_at(100_000, TAG),
        1 => Reply::of(500, "", b""),
        _ => Reply::ok(b"%PDF-1.4 whole"),
    });
    let rig = Rig::with(|settings| settings.read_timeout = Duration::from_secs(60));
    let mut job = job(&json!({ "url": server.url("/") }));
    let first = rig.finish_job(&mut job);
    let Outcome::Retry { checkpoint, .. } = first else { panic!("{first:?}") };
    assert_eq!(rig.files().len(), 1);
    (job.attempt, job.attempts_total, job.checkpoint) = (2, 2, checkpoint);
    job.payload = json!({ "title": "no URL any more" }).to_string();
    assert_eq!(in_short(&rig.finish_job(&mut job)), "skipped no_open_copy");
    assert!(rig.files().is_empty(), "{:?}", rig.files());
}

/// How many bytes the files below a directory have.
fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        // It was renamed or removed meanwhile.
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
