//! Nothing that was learned is asked for again, and every walk ends: over deferrals, retries and conversations.

use super::server::{Reply, Request, Server};
use super::services::{absent, host_of, is_for, rig, wanted};
use super::*;
use crate::handler::CancelReason;
use crate::handler::fetch::resolve::{Active, Ask, No, Plan, Reply as Said, Resolver, Step, Work};
use crate::job::LimitKey;
use crate::limit::KeyLimits;

/// An answer of Unpaywall with PDFs at these paths of the same server.
fn unpaywall(request: &Request, paths: &[String]) -> Reply {
    let host = host_of(request);
    let at = |path: &String| json!({ "url_for_pdf": format!("http://{host}{path}") });
    let locations: Vec<Value> = paths.iter().map(at).collect();
    Reply::ok(json!({ "doi": "10.1234/abc", "oa_locations": locations }).to_string().as_bytes())
}

fn page_to(url: &str) -> Reply {
    Reply::ok(format!(r#"<html><meta name="citation_pdf_url" content="{url}"><body>x"#).as_bytes())
}

/// The next attempt at a job that is to be tried again.
#[track_caller]
fn again(job: &mut Leased, outcome: Outcome) {
    let Outcome::Retry { checkpoint, .. } = outcome else { panic!("{outcome:?}") };
    job.attempt += 1;
    job.attempts_total += 1;
    job.checkpoint = checkpoint;
}

fn count(server: &Server, what: &str) -> usize {
    server.targets().iter().filter(|target| target.contains(what)).count()
}

#[test]
fn no_candidate_is_asked_twice_when_there_is_no_room_for_its_verdict() {
    let server = Server::start(|request| match request.before {
        _ if is_for(request, "unpaywall") => {
            let paths: Vec<String> = (0..40).map(|n| format!("/busy/{n}")).collect();
            unpaywall(request, &paths)
        }
        _ if request.target.starts_with("/gone") => Reply::of(404, "", b""),
        // So that the test ends.
        3.. => Reply::of(404, "", b""),
        _ => Reply::of(500, "", b""),
    });
    let rig = rig(&server, &["line", "unpaywall"]);
    let gone: Vec<String> = (0..40).map(|n| server.url(&format!("/gone/{n}"))).collect();
    let outcome = rig.finish(&json!({ "doi": "10.1234/abc", "urls": gone }));
    assert_eq!(in_short(&outcome), "retry http_status", "{outcome:?}");
    let asked = server.seen();
    assert!(asked.iter().all(|request| request.before == 0), "{:?}", server.targets());
}

#[test]
fn urls_of_the_line_leave_room_for_what_services_know() {
    let server = Server::start(|request| match request.target.as_str() {
        "/a.pdf" => Reply::ok(PDF),
        _ if is_for(request, "unpaywall") => unpaywall(request, &["/a.pdf".to_owned()]),
        _ => Reply::of(404, "", b""),
    });
    for urls in [
        (0..60).map(|n| server.url(&format!("/gone/{n}"))).collect::<Vec<_>>(),
        (0..60).map(|n| format!("no URL {n}")).collect(),
    ] {
        let rig = rig(&server, &["line", "unpaywall"]);
        let outcome = rig.finish(&json!({ "doi": "10.1234/abc", "urls": urls }));
        assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    }
}

#[test]
fn what_fails_for_good_only_in_a_later_attempt_is_looked_for_in_the_archive() {
    let server = Server::start(|request| match request.target.as_str() {
        "/a.pdf" if request.before == 0 => Reply::of(500, "", b""),
        "/a.pdf" => Reply::of(404, "", b""),
        _ if is_for(request, "unpaywall") => {
            let port = host_of(request).rsplit(':').next().unwrap().to_owned();
            let url = format!("http://gone.test:{port}/a.pdf");
            let location =
                json!({ "doi": "10.1234/abc", "oa_locations": [{ "url_for_pdf": url }] });
            Reply::ok(location.to_string().as_bytes())
        }
        _ => Reply::ok(b"{}"),
    });
    let rig = rig(&server, &["unpaywall", "wayback"]);
    let mut job = job(&wanted());
    let first = rig.finish_job(&mut job);
    assert_eq!(count(&server, "/wayback/"), 0);
    again(&mut job, first);
    let _ = rig.finish_job(&mut job);
    assert!(count(&server, "/wayback/") > 0, "{:?}", server.targets());
}

#[test]
fn an_archive_that_had_no_time_is_asked_again() {
    let server = Server::start(|request| match request.target.as_str() {
        "/gone" => Reply::of(404, "", b""),
        index if index.contains("/cdx") => Reply::ok(b"[]"),
        _ if request.before == 0 => Reply::of(500, "", b""),
        _ => Reply::ok(b"{}"),
    });
    let rig = rig(&server, &["line", "wayback"]);
    let mut job = job(&json!({ "urls": [server.url_as("gone.test", "/gone")] }));
    let first = rig.finish_job(&mut job);
    assert_eq!(in_short(&first), "retry http_status", "{first:?}");
    again(&mut job, first);
    assert_eq!(in_short(&rig.finish_job(&mut job)), "fail http_status");
    assert_eq!(count(&server, "/wayback/wayback/"), 2, "{:?}", server.targets());
    assert_eq!(count(&server, "/gone"), 1, "{:?}", server.targets());
}

#[test]
fn a_service_that_names_thousands_is_heard_out_in_brief() {
    let server = Server::start(|request| match request.target.as_str() {
        _ if is_for(request, "unpaywall") => {
            let paths: Vec<String> = (0..50_000).map(|n| format!("/{n}")).collect();
            unpaywall(request, &paths)
        }
        _ => Reply::of(404, "", b""),
    });
    let outcome = rig(&server, &["unpaywall"]).finish(&wanted());
    assert_eq!(in_short(&outcome), "fail http_status", "{outcome:?}");
    assert_eq!(detail(&outcome)["asked"][0]["found"], 64);
}

#[test]
fn an_archive_is_told_no_passwords_and_no_tokens() {
    let server = Server::start(|request| match request.target.as_str() {
        target if target.starts_with("/gone") => Reply::of(404, "", b""),
        _ => Reply::ok(b"{}"),
    });
    let rig = rig(&server, &["line", "wayback"]);
    let port = server.address().port();
    let urls = [
        format!("http://user:secret@gone.test:{port}/gone/1"),
        format!("http://gone.test:{port}/gone/2?token=secret"),
    ];
    let outcome = rig.finish(&json!({ "urls": urls }));
    assert_eq!(in_short(&outcome), "fail http_status", "{outcome:?}");
    assert_eq!(count(&server, "/wayback/"), 0, "{:?}", server.targets());
}

/// One that always has more to ask.
struct Endless;

impl Resolver for Endless {
    fn ask(&self, work: &Work, _: &Step) -> Option<Ask> {
        Some(Ask::json(work.given.first()?.clone()))
    }

    fn read(&self, _: &Work, step: &Step, _: &Said<'_>) -> Result<super::super::resolve::Said, No> {
        Ok(super::super::resolve::Said::go_on(Step::new(step.number.saturating_add(1), "")))
    }
}

#[test]
fn a_conversation_without_an_end_is_broken_off() {
    let server = Server::start(|request| match request.before {
        // So that the test ends.
        100.. => Reply::raw("").then_close(),
        _ => Reply::ok(b"{}"),
    });
    let mut rig = rig(&server, &[]);
    rig.handler.net.plan = Plan::of(vec![Active { name: "osf", resolver: Box::new(Endless) }]);
    let outcome = rig.finish(&json!({ "url": server.url("/api") }));
    assert_eq!(in_short(&outcome), "retry http_status", "{outcome:?}");
    assert!(server.targets().len() < 20, "{}", server.targets().len());
}

#[test]
fn a_redirect_of_a_service_that_must_wait_goes_on_from_there() {
    let server = Server::start(|request| match request.target.as_str() {
        "/moved" => absent(),
        _ => Reply::to("/moved"),
    });
    let mut rig = rig(&server, &["unpaywall"]);
    let terms = KeyLimits { max_concurrent: Some(1), rate: Some("1/3s".parse().unwrap()) };
    let by_key = [(LimitKey::Resolver("unpaywall".into()), terms)].into();
    rig.gate = Gate::new(Limits { by_key, ..Limits::default() });
    let outcome = rig.finish(&wanted());
    assert_eq!(in_short(&outcome), "skipped no_open_copy", "{outcome:?}");
    assert_eq!(server.targets().len(), 2, "{:?}", server.targets());
}

#[test]
fn the_learned_order_does_not_change_within_a_job() {
    let server = Server::start(|_| absent());
    let mut rig = rig(&server, &["unpaywall", "crossref", "wayback"]);
    rig.handler.net.settings.order = super::super::Order::Learned;
    let yields = |name: &str| Observation { asked: 9, fetched: 9, ..Observation::of(name, None) };
    rig.handler.net.learned.add(&[yields("crossref")]);
    let service = Key::new(Some("crossref"), Some("127.0.0.1")).unwrap();
    let busy = rig.gate.try_admit(&service, rig.clock.mono()).unwrap();
    let mut job = job(&wanted());
    let Outcome::Defer { key, checkpoint, .. } = rig.run(&job) else { panic!() };
    assert_eq!(key, service);
    drop(busy);
    rig.handler.net.learned.add(&[0; 9].map(|_| yields("unpaywall")));
    (job.checkpoint, job.lane) = (checkpoint, Arc::new(Lane { key, ..Lane::clone(&job.lane) }));
    let _ = rig.finish_job(&mut job);
    assert!(server.targets()[0].starts_with("/crossref/"), "{:?}", server.targets());
}

#[test]
fn what_a_service_repeats_of_us_is_not_told() {
    let server = Server::start(|_| {
        let complaint = "me@lib.test with key k3y-k3y is nobody we know";
        Reply::of(422, "", json!({ "message": complaint }).to_string().as_bytes())
    });
    let mut rig = rig(&server, &["unpaywall"]);
    rig.handler.net.settings.resolvers[0].api_key = Some(super::super::ApiKey::new("k3y-k3y"));
    let outcome = rig.finish(&wanted());
    let told = format!("{outcome:?}");
    assert!(told.contains("nobody we know"), "{told}");
    assert!(!told.contains("me@lib.test") && !told.contains("k3y"), "{told}");
}

#[test]
fn a_candidate_that_had_to_wait_is_asked_once() {
    let server = Server::start(|_| Reply::of(404, "", b""));
    let rig = rig(&server, &["line"]);
    let mut job = job(&json!({ "url": server.url("/gone") }));
    let busy = rig.gate.try_admit(&job.lane.key, rig.clock.mono()).unwrap();
    let Outcome::Defer { checkpoint, .. } = rig.run(&job) else { panic!() };
    drop(busy);
    job.checkpoint = checkpoint;
    assert_eq!(in_short(&rig.finish_job(&mut job)), "fail http_status");
    assert_eq!(server.targets(), ["/gone"]);
}

#[test]
fn a_redirect_to_what_was_tried_is_not_followed() {
    let server = Server::start(|request| match request.target.as_str() {
        "/article" => Reply::ok(b"<html><body>An abstract"),
        _ if is_for(request, "crossref") => {
            let url = format!("http://{}/article", host_of(request));
            let work = json!({ "DOI": "10.1234/abc", "resource": { "primary": { "URL": url } } });
            Reply::ok(json!({ "status": "ok", "message": work }).to_string().as_bytes())
        }
        _ => Reply::to("/article"),
    });
    let outcome = rig(&server, &["crossref", "landing_page"]).finish(&wanted());
    assert_eq!(in_short(&outcome), "skipped no_open_copy", "{outcome:?}");
    assert_eq!(count(&server, "/article"), 1, "{:?}", server.targets());
}

#[test]
fn an_expired_link_that_a_page_named_is_read_from_the_page_once_more() {
    let server = Server::start(|request| match (request.target.as_str(), request.before) {
        ("/f?token=old", 0) => Reply::of(500, "", b""),
        ("/f?token=old", _) => Reply::of(403, "", b"expired"),
        ("/f?token=new", _) => Reply::ok(PDF),
        (_, 0) => page_to("/f?token=old"),
        _ => page_to("/f?token=new"),
    });
    let rig = rig(&server, &["landing_page"]);
    let mut job = job(&wanted());
    let first = rig.finish_job(&mut job);
    again(&mut job, first);
    let second = rig.finish_job(&mut job);
    assert_eq!(in_short(&second), "done ok", "{second:?} {:?}", server.targets());
}

#[test]
fn a_page_that_is_named_after_pages_were_read_is_read_all_the_same() {
    let server = Server::start(|request| match request.target.as_str() {
        "/article" => page_to("/a.pdf"),
        "/a.pdf" => Reply::ok(PDF),
        _ if is_for(request, "crossref") => {
            let url = format!("http://{}/article", host_of(request));
            let work = json!({ "DOI": "10.1234/abc", "resource": { "primary": { "URL": url } } });
            Reply::ok(json!({ "status": "ok", "message": work }).to_string().as_bytes())
        }
        _ => Reply::ok(b"<html><body>An abstract"),
    });
    let outcome = rig(&server, &["landing_page", "crossref"]).finish(&wanted());
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?} {:?}", server.targets());
}

#[test]
fn urls_of_the_line_never_count_as_requests_to_a_service_that_was_asked_meanwhile() {
    let server = Server::start(|request| match request.target.as_str() {
        "/a.pdf" => Reply::of(500, "", b""),
        _ => absent(),
    });
    let rig = rig(&server, &["line", "unpaywall"]);
    let mut job = job(&json!({ "doi": "10.1234/abc", "url": server.url("/a.pdf") }));
    let first = rig.finish_job(&mut job);
    again(&mut job, first);
    let service = Key::new(Some("unpaywall"), Some("127.0.0.1")).unwrap();
    job.lane = Arc::new(Lane { key: service, ..Lane::clone(&job.lane) });
    let host = Key::new(None, Some("127.0.0.1")).unwrap();
    let _busy = rig.gate.try_admit(&host, rig.clock.mono()).unwrap();
    let Outcome::Defer { key, .. } = rig.run(&job) else { panic!() };
    assert_eq!(key, host);
}

#[test]
fn an_attempt_that_is_stopped_hands_over_what_it_learned() {
    let cancel: Arc<parking_lot::Mutex<Option<Arc<Cancel>>>> = Arc::default();
    let raise = Arc::clone(&cancel);
    let server = Server::start(move |request| match request.target.as_str() {
        "/gone" => Reply::of(404, "", b""),
        "/slow" => Reply::of(500, "", b""),
        "/last" => {
            if let Some(cancel) = &*raise.lock() {
                cancel.cancel(CancelReason::Stop);
            }
            Reply::raw("").then_silence()
        }
        _ => {
            let paths = ["/gone", "/slow", "/last"].map(str::to_owned);
            unpaywall(request, &paths)
        }
    });
    let mut rig = rig(&server, &["unpaywall"]);
    *cancel.lock() = Some(Arc::clone(&rig.cancel));
    let mut job = job(&wanted());
    let Outcome::Retry { checkpoint, note, .. } = rig.run(&job) else { panic!() };
    // Not this attempt's end: it goes on, elsewhere, and is counted there.
    assert!(note.observed.is_empty());
    job.checkpoint = checkpoint;
    rig.cancel = Arc::new(Cancel::new().unwrap());
    *cancel.lock() = None;
    let before = server.targets().len();
    rig.cancel.cancel(CancelReason::Deadline);
    let Outcome::Retry { note, checkpoint, .. } = rig.run(&job) else { panic!() };
    // At the deadline it is over, and what it has counted is told.
    assert_eq!(note.observed.len(), 1);
    assert_eq!((note.observed[0].asked, note.observed[0].found), (1, 1));
    assert_eq!(server.targets().len(), before, "nothing is asked again, {:?}", server.targets());
    assert!(String::from_utf8(checkpoint.unwrap()).unwrap().contains("/last"));
}

#[test]
fn a_job_that_asked_nobody_gives_its_token_back() {
    let server = Server::start(|_| Reply::ok(PDF));
    let mut rig = Rig::new();
    let terms = KeyLimits { max_concurrent: None, rate: Some("1/3s".parse().unwrap()) };
    let by_key = [(LimitKey::Host("127.0.0.1".into()), terms)].into();
    rig.gate = Gate::new(Limits { by_key, ..Limits::default() });
    assert_eq!(in_short(&rig.fetch_url(&server.url("/"))), "done ok");
    let host = Key::new(None, Some("127.0.0.1")).unwrap();
    rig.clock.advance(Duration::from_secs(3));
    assert_eq!(in_short(&rig.fetch_url(&server.url("/"))), "done exists");
    assert_eq!(rig.gate.free(&host, rig.clock.mono()), Some(1));
}

#[test]
fn nothing_is_asked_after_the_deadline() {
    let server = Server::start(|_| Reply::ok(PDF));
    let rig = Rig::new();
    rig.clock.advance(Duration::from_secs(7_200));
    let outcome = rig.fetch_url(&server.url("/"));
    assert_eq!(in_short(&outcome), "retry deadline", "{outcome:?}");
    assert!(server.targets().is_empty());
}

#[test]
fn nobody_waits_for_hours_for_a_file_that_is_being_prepared_or_a_server_in_trouble() {
    for status in [202, 500, 408] {
        let server = Server::start(move |_| Reply::of(status, "Retry-After: 54000\r\n", b""));
        let outcome = Rig::new().fetch_url(&server.url("/"));
        assert_eq!(in_short(&outcome), "fail http_status", "{status} {outcome:?}");
    }
}

#[test]
fn a_file_is_asked_about_where_it_came_from_and_nowhere_else() {
    let server = Server::start(|request| match request.target.as_str() {
        "/a.pdf" => Reply::to("/f"),
        "/f" if request.head.to_ascii_lowercase().contains("if-none-match: \"e1\"") => {
            Reply::raw("HTTP/1.1 304 Not Modified\r\n\r\n")
        }
        "/f" => Reply::of(200, "ETag: \"e1\"\r\n", PDF),
        _ => unpaywall(request, &["/a.pdf".to_owned()]),
    });
    let rig = rig(&server, &["unpaywall"]);
    let mut job = job(&wanted());
    let first = rig.finish_job(&mut job);
    job.previous = Some(detail(&first).to_string());
    let second = rig.finish_job(&mut job);
    assert_eq!(in_short(&second), "done not_modified", "{second:?}");
    for request in server.seen() {
        let asks = request.head.to_ascii_lowercase().contains("if-none-match");
        assert!(!asks || request.target == "/f", "{}", request.head);
    }
}

#[test]
fn a_304_that_nobody_asked_for_says_nothing() {
    let server = Server::start(|request| match (request.target.as_str(), request.before) {
        ("/f", 0) => Reply::of(200, "ETag: \"e1\"\r\n", PDF),
        ("/a", 0) => Reply::to("/f"),
        _ => Reply::raw("HTTP/1.1 304 Not Modified\r\n\r\n"),
    });
    let rig = Rig::new();
    let mut job = job(&json!({ "url": server.url("/a") }));
    let first = rig.run(&job);
    job.previous = Some(detail(&first).to_string());
    assert_eq!(in_short(&rig.run(&job)), "done exists");
}

#[test]
fn a_newer_file_keeps_what_is_known_of_it_and_counts_for_nobody() {
    let newer = [b"%PDF-1.4 other\n", PDF].concat();
    let server = Server::start(move |request| match (request.target.as_str(), request.before) {
        ("/a.pdf", 0) => Reply::of(200, "ETag: \"e1\"\r\n", PDF),
        ("/a.pdf", _) => Reply::of(200, "ETag: \"e2\"\r\n", &newer),
        _ => {
            let url = format!("http://{}/a.pdf", host_of(request));
            let at =
                json!({ "url_for_pdf": url, "license": "cc-by", "version": "acceptedVersion" });
            let body = json!({ "doi": "10.1234/abc", "oa_locations": [at] });
            Reply::ok(body.to_string().as_bytes())
        }
    });
    let rig = rig(&server, &["unpaywall"]);
    let mut job = job(&wanted());
    let first = rig.finish_job(&mut job);
    job.previous = Some(detail(&first).to_string());
    let second = rig.finish_job(&mut job);
    assert_eq!(in_short(&second), "done ok", "{second:?}");
    for field in ["url", "resolver", "licence", "version", "evidence"] {
        assert_eq!(detail(&second)[field], detail(&first)[field], "{field}");
    }
    assert_eq!(observed(&second), []);
}
