//! From an identifier to a file: services on loopback, asked in order, and what becomes of what they say.

use super::server::{Reply, Request, Server};
use super::services::{absent, host_of, is_for, port_of, rig, wanted};
use super::*;

/// An answer of Unpaywall with PDFs at these URLs.
fn unpaywall(urls: &[String]) -> Reply {
    let locations: Vec<Value> = urls
        .iter()
        .map(|url| json!({ "url_for_pdf": url, "license": "cc-by", "version": "publishedVersion" }))
        .collect();
    Reply::ok(json!({ "doi": "10.1234/abc", "oa_locations": locations }).to_string().as_bytes())
}

#[test]
fn a_doi_becomes_the_first_file_that_is_one() {
    let server = Server::start(|request| match request.target.as_str() {
        target if target.starts_with("/unpaywall/10.1234/abc?email=") => {
            let at = |path: &str| format!("http://{}{path}", host_of(request));
            unpaywall(&[at("/wall"), at("/a.pdf"), at("/b.pdf")])
        }
        "/wall" => Reply::ok(b"<html><title>Sign in</title><body>Access through your institution"),
        _ => Reply::ok(PDF),
    });
    let rig = rig(&server, &["unpaywall"]);
    let outcome = rig.finish(&wanted());
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    let told = detail(&outcome);
    assert_eq!(told["resolver"], "unpaywall");
    assert_eq!(told["licence"], "cc-by");
    assert_eq!(told["version"], "publishedVersion");
    assert_eq!(told["evidence"], "oa_locations[1]");
    assert_eq!(told["asked"][0]["said"], "found");
    assert_eq!(told["tried"][0]["reason"], "wall");
    assert_eq!(told["tried"][0]["resolver"], "unpaywall");
    assert_eq!(server.targets().len(), 3);
    let observed = observed(&outcome);
    assert_eq!(observed.len(), 1);
    let one = &observed[0];
    assert_eq!((&*one.resolver, &*one.prefix), ("unpaywall", "10.1234"));
    assert_eq!((one.asked, one.found, one.fetched, one.busy, one.broken), (1, 1, 1, 0, 0));
}

#[test]
fn nothing_found_anywhere_is_no_failure() {
    let server = Server::start(|_| absent());
    let rig = rig(&server, &["line", "unpaywall"]);
    let outcome = rig.finish(&wanted());
    assert_eq!(in_short(&outcome), "skipped no_open_copy", "{outcome:?}");
    assert_eq!(detail(&outcome)["asked"][0]["said"], "absent");
}

#[test]
fn a_line_nobody_can_be_asked_about_says_so() {
    let server = Server::start(|_| absent());
    let rig = rig(&server, &["line", "unpaywall"]);
    let outcome = rig.finish(&json!({ "title": "A title alone" }));
    assert_eq!(in_short(&outcome), "skipped no_open_copy");
    assert!(server.targets().is_empty());
    let outcome = rig.finish(&json!({ "url": "ftp://h/x" }));
    assert_eq!(in_short(&outcome), "fail bad_payload");
}

#[test]
fn a_service_that_says_something_else_is_asked_again_and_the_others_are_not() {
    let server = Server::start(|request| match request.before {
        _ if is_for(request, "landing_page") => Reply::ok(b"<html><body>An abstract"),
        0 => Reply::of(500, "", b"oops"),
        _ => absent(),
    });
    let rig = rig(&server, &["unpaywall", "landing_page"]);
    let mut job = job(&wanted());
    let first = rig.finish_job(&mut job);
    assert_eq!(in_short(&first), "retry http_status", "{first:?}");
    let Outcome::Retry { checkpoint, .. } = first else { panic!() };
    (job.attempt, job.attempts_total, job.checkpoint) = (2, 2, checkpoint);
    let second = rig.finish_job(&mut job);
    assert_eq!(in_short(&second), "skipped no_open_copy", "{second:?}");
    let pages = server.targets().iter().filter(|target| target.contains("landing_page")).count();
    assert_eq!(pages, 1, "{:?}", server.targets());
}

#[test]
fn something_found_but_not_to_be_had_now_is_tried_again() {
    let server = Server::start(|request| match (request.target.as_str(), request.before) {
        ("/busy.pdf", 0) => Reply::of(500, "", b"later"),
        ("/busy.pdf", _) => Reply::ok(PDF),
        ("/gone.pdf", _) => Reply::of(404, "", b""),
        _ => unpaywall(
            &["/gone.pdf", "/busy.pdf"].map(|p| format!("http://{}{p}", host_of(request))),
        ),
    });
    let rig = rig(&server, &["unpaywall"]);
    let mut job = job(&wanted());
    let first = rig.finish_job(&mut job);
    assert_eq!(in_short(&first), "retry http_status", "{first:?}");
    let Outcome::Retry { checkpoint, .. } = first else { panic!() };
    (job.attempt, job.attempts_total, job.checkpoint) = (2, 2, checkpoint);
    assert_eq!(in_short(&rig.finish_job(&mut job)), "done ok");
    let asked: Vec<String> = server.targets();
    let count = |what: &str| asked.iter().filter(|target| target.contains(what)).count();
    assert_eq!(
        (count("/unpaywall/"), count("/gone.pdf"), count("/busy.pdf")),
        (1, 1, 2),
        "{asked:?}"
    );
}

#[test]
fn all_finally_refused_is_an_error_at_once_with_the_last_telling_reason() {
    let server = Server::start(|request| match request.target.as_str() {
        "/wall" => Reply::ok(b"<html><title>Sign in</title><body>Access through your institution"),
        "/gone" => Reply::of(404, "", b""),
        _ => unpaywall(&["/wall", "/gone"].map(|p| format!("http://{}{p}", host_of(request)))),
    });
    let outcome = rig(&server, &["unpaywall"]).finish(&wanted());
    assert_eq!(in_short(&outcome), "fail wall", "{outcome:?}");
}

#[test]
fn a_service_that_will_not_talk_to_us_leaves_the_question_open() {
    let server = Server::start(|_| Reply::of(403, "", b"{}"));
    let outcome = rig(&server, &["unpaywall"]).finish(&wanted());
    assert_eq!(in_short(&outcome), "fail http_status", "{outcome:?}");
    assert_eq!(detail(&outcome)["asked"][0]["said"], "refused");
}

#[test]
fn a_page_in_a_files_place_is_read_for_where_the_file_is_once() {
    let page = |to: &str| {
        Reply::ok(
            format!(r#"<html><meta name="citation_pdf_url" content="{to}"><body>x"#).as_bytes(),
        )
    };
    let server = Server::start(move |request| match request.target.as_str() {
        "/page" => page("/page"),
        "/leads" => page("/other?a=1&amp;b=2"),
        "/other?a=1&b=2" => page("/third"),
        _ => Reply::ok(PDF),
    });
    let rig = rig(&server, &["line"]);
    // Back to itself, and from page to page: not followed.
    let outcome = rig.finish(&json!({ "urls": [server.url("/page"), server.url("/leads")] }));
    assert_eq!(in_short(&outcome), "fail unexpected_content", "{outcome:?}");
    assert_eq!(server.targets(), ["/page", "/leads", "/other?a=1&b=2"]);
}

#[test]
fn a_landing_page_leads_to_its_file_and_one_without_is_no_failure() {
    let server = Server::start(|request| match request.target.as_str() {
        "/landing_page/10.1234/abc" => Reply::to("/article"),
        "/article" => Reply::ok(b"<html><meta property='citation_pdf_url' content='file.pdf'>"),
        "/file.pdf" => Reply::ok(PDF),
        _ => Reply::ok(b"<html><title>Sign in</title><body>Access through your institution"),
    });
    let rig = rig(&server, &["landing_page"]);
    let outcome = rig.finish(&wanted());
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    assert_eq!(detail(&outcome)["resolver"], "landing_page");
    let outcome = rig.finish(&json!({ "doi": "10.1234/other" }));
    assert_eq!(in_short(&outcome), "done exists", "the rig has one artifact: {outcome:?}");
    std::fs::remove_file(&rig.files()[0]).unwrap();
    let outcome = rig.finish(&json!({ "doi": "10.1234/other" }));
    assert_eq!(in_short(&outcome), "skipped no_open_copy", "{outcome:?}");
}

#[test]
fn a_meta_refresh_is_followed_once() {
    let refresh = |to: &str| {
        Reply::ok(format!(r#"<html><meta http-equiv="refresh" content="0; url={to}">"#).as_bytes())
    };
    let server = Server::start(move |request| match request.target.as_str() {
        "/a" => refresh("/a.pdf"),
        "/b" => refresh("/c"),
        "/c" => refresh("/a.pdf"),
        _ => Reply::ok(PDF),
    });
    let rig = rig(&server, &["line"]);
    assert_eq!(
        in_short(&rig.finish(&json!({ "url": server.url("/b") }))),
        "fail unexpected_content"
    );
    assert_eq!(in_short(&rig.finish(&json!({ "url": server.url("/a") }))), "done ok");
}

#[test]
fn a_cookie_that_was_just_set_is_brought_back_and_belongs_to_the_job() {
    let server = Server::start(|request| {
        if request.head.to_ascii_lowercase().contains("cookie: seen=1") {
            return Reply::ok(PDF);
        }
        Reply::of(
            302,
            &format!("Location: {}\r\nSet-Cookie: seen=1; Path=/\r\n", request.target),
            b"",
        )
    });
    let rig = rig(&server, &["line"]);
    assert_eq!(in_short(&rig.finish(&json!({ "url": server.url("/a") }))), "done ok");
    assert_eq!(server.targets(), ["/a", "/a"]);
    std::fs::remove_file(&rig.files()[0]).unwrap();
    assert_eq!(in_short(&rig.finish(&json!({ "url": server.url("/a") }))), "done ok");
    assert_eq!(server.targets().len(), 4, "another job has another jar");
}

#[test]
fn a_checksum_that_a_service_publishes_is_verified() {
    let zenodo = |request: &Request, md5: &str| {
        let url = format!("http://{}/file.pdf", host_of(request));
        let file =
            json!({ "key": "a.PDF", "links": { "self": url }, "checksum": format!("md5:{md5}") });
        let record = json!({ "doi": "10.1234/abc", "metadata": { "title": "x" }, "files": [file] });
        json!({ "hits": { "total": 1, "hits": [record] } }).to_string()
    };
    for (md5, expected) in [("0".repeat(32), "fail checksum_mismatch"), (md5_of(PDF), "done ok")] {
        let server = Server::start(move |request| match request.target.as_str() {
            "/file.pdf" => Reply::ok(PDF),
            _ => Reply::ok(zenodo(request, &md5).as_bytes()),
        });
        let outcome = rig(&server, &["zenodo"]).finish(&wanted());
        assert_eq!(in_short(&outcome), expected, "{outcome:?}");
    }
}

#[test]
fn an_archive_is_asked_last_and_only_for_what_failed() {
    let server = Server::start(|request| {
        let target = request.target.as_str();
        if is_for(request, "unpaywall") {
            return unpaywall(&[format!("http://gone.test:{}/a.pdf", port_of(request))]);
        }
        if target.starts_with("/wayback/web/20190101000000id_/http") {
            return Reply::ok(PDF);
        }
        if is_for(request, "wayback") {
            let closest = json!({ "available": true, "status": "200", "timestamp": "20190101000000",
                "url": "http://web.archive.org/web/20190101000000/http://gone.test/a.pdf" });
            return Reply::ok(
                json!({ "archived_snapshots": { "closest": closest } }).to_string().as_bytes(),
            );
        }
        assert_eq!(target, "/a.pdf");
        Reply::of(404, "", b"")
    });
    let rig = rig(&server, &["unpaywall", "wayback"]);
    let outcome = rig.finish(&wanted());
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    assert_eq!(detail(&outcome)["resolver"], "wayback");
    let targets = server.targets();
    assert_eq!(targets.len(), 4, "{targets:?}");
    assert!(targets[2].starts_with("/wayback/wayback/available?url="), "{targets:?}");
    assert!(targets[2].contains("gone.test"), "{targets:?}");
}

/// What Europe PMC says of the article with PubMed id 7: its DOI, and no full text.
fn europe_pmc() -> Reply {
    let article = json!({ "pmid": "7", "doi": "10.1234/ABC" });
    let body = json!({ "hitCount": 1, "resultList": { "result": [article] } });
    Reply::ok(body.to_string().as_bytes())
}

#[test]
fn who_was_passed_over_is_asked_by_what_others_told_before_pages_and_archives() {
    let server = Server::start(|request| match request.target.as_str() {
        _ if is_for(request, "europe_pmc") => europe_pmc(),
        _ if is_for(request, "unpaywall") => {
            unpaywall(&[format!("http://gone.test:{}/a.pdf", port_of(request))])
        }
        "/landing_page/10.1234/abc" => Reply::ok(b"<html><body>An abstract"),
        target if target.contains("/cdx/") => Reply::ok(b"[]"),
        _ if is_for(request, "wayback") => Reply::ok(b"{}"),
        _ => Reply::of(404, "", b""),
    });
    let rig = rig(&server, &["unpaywall", "arxiv", "europe_pmc", "landing_page", "wayback"]);
    let outcome = rig.finish(&json!({ "pmid": "7" }));
    assert_eq!(in_short(&outcome), "fail http_status", "{outcome:?}");
    let targets = server.targets();
    let expected = [
        "/europe_pmc/search?query=EXT_ID",
        "/unpaywall/10.1234/abc?email=",
        "/a.pdf",
        "/landing_page/10.1234/abc",
        "/wayback/wayback/available?",
        "/wayback/cdx/search/cdx?",
    ];
    let as_expected = targets.iter().zip(expected).all(|(target, start)| target.starts_with(start));
    assert!(targets.len() == expected.len() && as_expected, "{targets:?}");
    let observed = observed(&outcome);
    let of = |name: &str| observed.iter().find(|one| &*one.resolver == name);
    assert_eq!(
        of("unpaywall").map(|one| (one.asked, one.found, &*one.prefix)),
        Some((1, 1, "10.1234"))
    );
    assert!(of("arxiv").is_none(), "nothing was learned that it could be asked about");
}

#[test]
fn what_was_told_of_the_work_is_kept_for_the_next_attempt() {
    let server = Server::start(|request| match request.before {
        _ if is_for(request, "europe_pmc") => europe_pmc(),
        0 if is_for(request, "unpaywall") => Reply::of(500, "", b"oops"),
        _ if is_for(request, "unpaywall") => {
            unpaywall(&[format!("http://{}/a.pdf", host_of(request))])
        }
        _ => Reply::ok(PDF),
    });
    let rig = rig(&server, &["unpaywall", "europe_pmc"]);
    let mut job = job(&json!({ "pmid": "7" }));
    let first = rig.finish_job(&mut job);
    assert_eq!(in_short(&first), "retry http_status", "{first:?}");
    let Outcome::Retry { checkpoint, .. } = first else { panic!() };
    (job.attempt, job.attempts_total, job.checkpoint) = (2, 2, checkpoint);
    assert_eq!(in_short(&rig.finish_job(&mut job)), "done ok");
    let targets = server.targets();
    let asked = |name: &str| targets.iter().filter(|target| target.starts_with(name)).count();
    assert_eq!((asked("/europe_pmc/"), asked("/unpaywall/")), (1, 2), "{targets:?}");
}

#[test]
fn a_signed_link_that_expired_is_resolved_once_more() {
    let server = Server::start(|request| match (request.target.as_str(), request.before) {
        ("/f?sig=old", 0) => Reply::of(500, "", b""),
        ("/f?sig=old", _) => Reply::of(403, "", b"expired"),
        ("/f?sig=new", _) => Reply::ok(PDF),
        (_, before) => {
            let sig = if before == 0 { "old" } else { "new" };
            unpaywall(&[format!("http://{}/f?sig={sig}", host_of(request))])
        }
    });
    let rig = rig(&server, &["unpaywall"]);
    let mut job = job(&wanted());
    let first = rig.finish_job(&mut job);
    assert_eq!(in_short(&first), "retry http_status");
    let Outcome::Retry { checkpoint, .. } = first else { panic!() };
    (job.attempt, job.attempts_total, job.checkpoint) = (2, 2, checkpoint);
    assert_eq!(in_short(&rig.finish_job(&mut job)), "done ok", "{:?}", server.targets());
}

#[test]
fn each_request_is_made_under_its_resolver_and_host() {
    let server = Server::start(|request| match request.target.as_str() {
        "/a.pdf" => Reply::ok(PDF),
        _ => unpaywall(&[format!("http://files.test:{}/a.pdf", port_of(request))]),
    });
    let rig = rig(&server, &["unpaywall"]);
    let service = Key::new(Some("unpaywall"), Some("127.0.0.1")).unwrap();
    let mut job = job(&wanted());
    let busy = rig.gate.try_admit(&service, Mono::default()).unwrap();
    let outcome = rig.run(&job);
    let Outcome::Defer { key, checkpoint, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(key, service);
    drop(busy);
    job.checkpoint = checkpoint;
    let files = Key::new(None, Some("files.test")).unwrap();
    let busy = rig.gate.try_admit(&files, Mono::default()).unwrap();
    let outcome = rig.run(&job);
    let Outcome::Defer { key, checkpoint, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(key, files);
    drop(busy);
    let text = String::from_utf8(checkpoint.clone().unwrap()).unwrap();
    assert!(!text.contains("me@lib.test") && !text.contains("email"), "{text}");
    job.checkpoint = checkpoint;
    assert_eq!(in_short(&rig.run(&job)), "done ok");
    // What was learned before a deferral is not asked for again.
    assert_eq!(server.targets().len(), 2, "{:?}", server.targets());
}

fn md5_of(bytes: &[u8]) -> String {
    use md5::{Digest, Md5};
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
