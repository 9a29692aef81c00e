//! Hosts that want to be left alone: told to slow down, forbidden by robots.txt, asked for patience.

use super::server::{Reply, Server};
use super::*;

/// The wait for the key that an outcome defers to, in seconds.
#[track_caller]
fn held_seconds(rig: &Rig, outcome: &Outcome) -> u64 {
    let Outcome::Defer { key, not_before: None, .. } = outcome else { panic!("{outcome:?}") };
    let wait = rig.gate.try_admit(key, rig.clock.mono()).expect_err("the host is held");
    wait.until.expect("time ends it").since(rig.clock.mono()).as_secs()
}

fn obeying() -> Rig {
    Rig::with(|settings| settings.obey_robots = true)
}

#[test]
fn told_to_slow_down_the_whole_host_waits_and_no_attempt_is_counted() {
    for (status, header, seconds) in [
        (429, "Retry-After: 7\r\n", 7),
        (429, "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\n", 60),
        // A floor, where nothing or nothing of use is said.
        (429, "", 1),
        (429, "Retry-After: 0\r\n", 1),
        (429, "Retry-After: soon\r\n", 1),
        (503, "Retry-After: 3\r\n", 3),
    ] {
        let server = Server::start(move |request| match request.before {
            0 => Reply::of(status, header, b"slow down"),
            _ => Reply::ok(PDF),
        });
        let rig = Rig::new();
        let mut job = job(&json!({ "url": server.url("/a.pdf") }));
        let outcome = rig.run(&job);
        assert_eq!(held_seconds(&rig, &outcome), seconds, "{status} {header}");
        // Another job of that host does not ask either.
        let other = rig.run(&super::job(&json!({ "url": server.url("/b.pdf") })));
        assert!(matches!(other, Outcome::Defer { .. }), "{other:?}");
        assert_eq!(server.targets(), ["/a.pdf"]);
        let Outcome::Defer { checkpoint, .. } = outcome else { panic!() };
        job.checkpoint = checkpoint;
        assert_eq!(in_short(&rig.finish_job(&mut job)), "done ok");
    }
}

#[test]
fn a_503_that_does_not_say_until_when_is_waited_for_a_few_times_and_then_counts() {
    let server = Server::start(|request| match request.before {
        0 => Reply::of(503, "", b"oops"),
        _ => Reply::ok(PDF),
    });
    let rig = Rig::new();
    let outcome = rig.run(&job(&json!({ "url": server.url("/a.pdf") })));
    assert_eq!(held_seconds(&rig, &outcome), 1);
    assert_eq!(in_short(&rig.finish(&json!({ "url": server.url("/a.pdf") }))), "done ok");

    let down = Server::start(|_| Reply::of(503, "", b"oops"));
    let rig = Rig::new();
    let began = rig.clock.mono();
    let outcome = rig.finish(&json!({ "url": down.url("/a.pdf") }));
    assert_eq!(in_short(&outcome), "retry http_status", "{outcome:?}");
    assert_eq!(down.targets().len(), 4);
    // A moment, and longer each time.
    assert!(rig.clock.mono().since(began) >= Duration::from_secs(1 + 2 + 4));
}

#[test]
fn a_page_that_two_ways_lead_to_is_read_once() {
    // Where the DOI leads is known only when it was asked; what a service names may come after.
    let server = Server::start(|request| match request.target.as_str() {
        "/doi/10.1234/abc" => Reply::to("/article"),
        "/other" => Reply::to("/article"),
        _ => Reply::ok(b"<html><title>An article</title><body>Its abstract"),
    });
    let rig = Rig::with(|settings| {
        settings.resolvers = vec![ResolverSettings {
            base_url: Some(Url::parse(&server.url("/doi")).unwrap()),
            ..ResolverSettings::named("landing_page")
        }];
    });
    let line = json!({ "doi": "10.1234/abc", "landing_urls": [server.url("/other")] });
    let outcome = rig.finish(&line);
    assert_eq!(in_short(&outcome), "skipped no_open_copy", "{outcome:?}");
    let read = server.targets().iter().filter(|target| *target == "/article").count();
    assert_eq!(read, 1, "{:?}", server.targets());
}

#[test]
fn a_page_that_names_its_file_and_refreshes_itself_leads_to_the_file() {
    let server = Server::start(|request| {
        match request.target.as_str() {
        "/page" => Reply::ok(
            b"<html><meta http-equiv=refresh content='5; url=/away'><meta name=citation_pdf_url content=/f.pdf>",
        ),
        "/f.pdf" => Reply::ok(PDF),
        _ => Reply::of(404, "", b""),
    }
    });
    let outcome = Rig::new().finish(&json!({ "url": server.url("/page") }));
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    assert_eq!(server.targets(), ["/page", "/f.pdf"]);
}

#[test]
fn a_host_that_wants_hours_is_given_up_at_once() {
    let server = Server::start(|_| Reply::of(429, "Retry-After: 54000\r\n", b""));
    let rig = Rig::new();
    let outcome = rig.fetch_url(&server.url("/a.pdf"));
    assert_eq!(in_short(&outcome), "fail rate_limited", "{outcome:?}");
    // And its other jobs end without a request.
    let outcome = rig.fetch_url(&server.url("/b.pdf"));
    assert_eq!(in_short(&outcome), "fail rate_limited", "{outcome:?}");
    assert_eq!(server.targets(), ["/a.pdf"]);
}

#[test]
fn a_resolver_that_wants_hours_is_busy_and_passed_over() {
    let server = Server::start(|request| {
        if request.target.starts_with("/unpaywall") {
            return Reply::of(429, "Retry-After: 54000\r\n", b"");
        }
        Reply::ok(PDF)
    });
    let port = server.address().port();
    let rig = Rig::with(|settings| {
        settings.contact_email = Some("me@lib.test".to_owned());
        let base = |text: String| Some(Url::parse(&text).unwrap());
        settings.resolvers = vec![
            ResolverSettings {
                base_url: base(format!("http://busy.test:{port}/unpaywall")),
                ..ResolverSettings::named("unpaywall")
            },
            ResolverSettings {
                base_url: base(format!("http://doi.test:{port}/doi")),
                ..ResolverSettings::named("landing_page")
            },
        ];
    });
    let mut job = job(&json!({ "doi": "10.1234/abc" }));
    let outcome = rig.finish_job(&mut job);
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    assert_eq!(detail(&outcome)["asked"][0]["said"], "busy");
    assert_eq!(observed(&outcome)[0].busy, 1);
}

#[test]
fn a_service_that_answers_a_byte_at_a_time_is_broken_and_the_next_one_is_asked() {
    let clock: Arc<parking_lot::Mutex<Option<Arc<Rig>>>> = Arc::default();
    let ticking = Arc::clone(&clock);
    let server = Server::start(move |request| {
        if !request.target.starts_with("/unpaywall") {
            return Reply::ok(PDF);
        }
        let ticking = Arc::clone(&ticking);
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{";
        // Two minutes for 120 bytes: longer than an answer may take, and far from the deadline.
        let mut left = 120;
        Reply::raw(head).then_keep_sending(move || {
            if left > 0 {
                left -= 1;
                ticking.lock().clone().unwrap().clock.advance(Duration::from_secs(1));
            }
            b" ".to_vec()
        })
    });
    let base = |path: &str| Some(Url::parse(&server.url(path)).unwrap());
    let rig = Arc::new(Rig::with(|settings| {
        settings.contact_email = Some("me@lib.test".to_owned());
        settings.resolvers = ["unpaywall", "landing_page"]
            .map(|name| ResolverSettings {
                base_url: base(&format!("/{name}")),
                ..ResolverSettings::named(name)
            })
            .into();
    }));
    *clock.lock() = Some(Arc::clone(&rig));
    let outcome = rig.finish(&json!({ "doi": "10.1234/abc" }));
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    assert_eq!(detail(&outcome)["asked"][0]["said"], "broken");
}

#[test]
fn a_host_that_says_later_again_and_again_is_not_waited_for_for_ever() {
    let server = Server::start(|_| Reply::of(429, "Retry-After: 1\r\n", b""));
    let rig = Rig::new();
    let outcome = rig.finish(&json!({ "url": server.url("/") }));
    assert!(
        matches!(&*in_short(&outcome), "fail rate_limited" | "retry rate_limited"),
        "{outcome:?}"
    );
    assert!(server.targets().len() < 50, "{}", server.targets().len());
}

#[test]
fn a_file_that_is_being_prepared_is_asked_for_a_few_times() {
    let server = Server::start(|request| match request.before {
        0 | 1 => Reply::of(202, "Retry-After: 3\r\n", b"please wait"),
        _ => Reply::ok(PDF),
    });
    let rig = Rig::new();
    let began = rig.clock.mono();
    assert_eq!(in_short(&rig.finish(&json!({ "url": server.url("/") }))), "done ok");
    assert_eq!(rig.clock.mono().since(began).as_secs(), 6);

    let never = Server::start(|_| Reply::of(202, "", b"please wait"));
    let outcome = Rig::new().finish(&json!({ "url": never.url("/") }));
    assert_eq!(in_short(&outcome), "retry http_status", "{outcome:?}");
    assert_eq!(never.targets().len(), 4);
}

#[test]
fn what_robots_txt_forbids_is_not_asked_for() {
    let server = Server::start(|request| match request.target.as_str() {
        "/robots.txt" => Reply::ok(b"User-agent: *\nDisallow: /private/\n"),
        _ => Reply::ok(PDF),
    });
    let rig = obeying();
    let outcome = rig.finish(&json!({ "url": server.url("/private/a.pdf") }));
    assert_eq!(in_short(&outcome), "skipped robots", "{outcome:?}");
    let outcome = rig.finish(&json!({ "url": server.url("/a.pdf") }));
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    // Asked once for all of them.
    assert_eq!(server.targets(), ["/robots.txt", "/a.pdf"]);
}

#[test]
fn a_redirect_into_what_robots_txt_forbids_is_not_followed() {
    let server = Server::start(|request| match request.target.as_str() {
        "/robots.txt" => Reply::ok(b"User-agent: *\nDisallow: /private/\n"),
        "/a" => Reply::to("/private/a.pdf"),
        _ => Reply::ok(PDF),
    });
    let outcome = obeying().finish(&json!({ "url": server.url("/a") }));
    assert_eq!(in_short(&outcome), "skipped robots", "{outcome:?}");
}

#[test]
fn a_host_without_robots_txt_forbids_nothing_and_one_whose_cannot_be_had_is_not_asked() {
    let without = Server::start(|request| match request.target.as_str() {
        "/robots.txt" => Reply::of(404, "", b"no"),
        _ => Reply::ok(PDF),
    });
    assert_eq!(in_short(&obeying().finish(&json!({ "url": without.url("/") }))), "done ok");

    for status in [500, 503, 429] {
        let down = Server::start(move |request| match request.target.as_str() {
            "/robots.txt" => Reply::of(status, "", b""),
            _ => Reply::ok(PDF),
        });
        let rig = obeying();
        let outcome = rig.run(&job(&json!({ "url": down.url("/") })));
        assert!(matches!(outcome, Outcome::Defer { .. }), "{status}: {outcome:?}");
        assert_eq!(down.targets(), ["/robots.txt"]);
    }

    let recovering = Server::start(|request| match (request.target.as_str(), request.before) {
        ("/robots.txt", 0) => Reply::of(500, "", b""),
        ("/robots.txt", _) => Reply::ok(b""),
        _ => Reply::ok(PDF),
    });
    assert_eq!(in_short(&obeying().finish(&json!({ "url": recovering.url("/") }))), "done ok");
}

#[test]
fn a_crawl_delay_is_kept_between_the_end_of_one_answer_and_the_next_request() {
    let server = Server::start(|request| match request.target.as_str() {
        "/robots.txt" => Reply::ok(b"User-agent: *\nCrawl-delay: 5\n"),
        _ => Reply::ok(PDF),
    });
    let rig = obeying();
    let began = rig.clock.mono();
    for n in 0..3 {
        assert_eq!(
            in_short(&rig.finish(&json!({ "url": server.url(&format!("/{n}")) }))),
            "done ok"
        );
        std::fs::remove_file(&rig.files()[0]).unwrap();
    }
    assert!(rig.clock.mono().since(began) >= Duration::from_secs(10));
}

#[test]
fn an_honest_agent_that_is_turned_away_does_not_come_back_in_disguise() {
    let server = Server::start(|_| Reply::of(403, "", b"no robots"));
    let rig = Rig::with(|settings| settings.contact_email = Some("me@lib.test".to_owned()));
    let url = |path: &str| server.url(path);
    let outcome = rig.finish(&json!({ "url": url("/a"), "urls": [url("/b")] }));
    assert_eq!(in_short(&outcome), "fail http_status");
    let agents: Vec<String> = server
        .seen()
        .iter()
        .flat_map(|request| {
            request
                .head
                .lines()
                .filter(|l| l.to_lowercase().starts_with("user-agent"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(agents.len(), 2);
    assert!(
        agents.iter().all(|agent| agent.contains("orch/") && agent.contains("me@lib.test")),
        "{agents:?}"
    );
}

#[test]
fn what_stands_in_the_way_of_robots_txt_stands_in_the_way_of_the_file() {
    let private = Rig::with(|settings| {
        (settings.obey_robots, settings.allow_private_addresses) = (true, false);
    });
    for url in ["http://127.0.0.1:1/a.pdf", "http://localhost/a.pdf", "http://named.test/a.pdf"] {
        let outcome = private.fetch_url(url);
        assert_eq!(in_short(&outcome), "skipped private_address", "{url} {outcome:?}");
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = obeying().fetch_url(&format!("http://{nobody}/a.pdf"));
    assert_eq!(in_short(&outcome), "retry connect", "{outcome:?}");
}

#[test]
fn a_robots_txt_elsewhere_that_must_be_waited_for_is_gone_on_with_there() {
    let server = Server::start(|request| {
        let head = request.head.to_ascii_lowercase();
        let (_, port) = head.split_once("host: a.test:").unwrap_or_default();
        match request.target.as_str() {
            "/robots.txt" if !port.is_empty() => {
                let port = port.lines().next().unwrap_or_default();
                Reply::to(&format!("http://b.test:{port}/robots.txt"))
            }
            "/robots.txt" => Reply::of(404, "", b""),
            _ => Reply::ok(PDF),
        }
    });
    let rig = obeying();
    let mut job = job(&json!({ "url": server.url_as("a.test", "/a.pdf") }));
    let elsewhere = Key::new(None, Some("b.test")).unwrap();
    let busy = rig.gate.try_admit(&elsewhere, rig.clock.mono()).unwrap();
    let Outcome::Defer { key, checkpoint, .. } = rig.run(&job) else { panic!() };
    assert_eq!(key, elsewhere);
    drop(busy);
    (job.checkpoint, job.lane) = (checkpoint, Arc::new(Lane { key, ..Lane::clone(&job.lane) }));
    assert_eq!(in_short(&rig.finish_job(&mut job)), "done ok");
    assert_eq!(server.targets(), ["/robots.txt", "/robots.txt", "/a.pdf"]);
}

#[test]
fn a_host_that_is_given_up_is_not_waited_for_because_of_its_robots_txt() {
    let server = Server::start(|_| Reply::of(429, "Retry-After: 54000\r\n", b""));
    let rig = obeying();
    let outcome = rig.finish(&json!({ "url": server.url("/a.pdf") }));
    assert_eq!(in_short(&outcome), "fail rate_limited", "{outcome:?}");
    assert_eq!(server.targets(), ["/robots.txt"]);
}

#[test]
fn a_robots_txt_that_is_never_to_be_had_is_not_waited_for_longer_than_any_host() {
    let server = Server::start(|_| Reply::of(500, "", b""));
    let rig = obeying();
    let began = rig.clock.mono();
    let outcome = rig.finish(&json!({ "url": server.url("/a.pdf") }));
    assert_eq!(in_short(&outcome), "retry http_status", "{outcome:?}");
    assert!(rig.clock.mono().since(began) <= Duration::from_mins(20), "{:?}", rig.clock.mono());
    // And the next attempt comes when there is something to try.
    let Outcome::Retry { after_ms, .. } = outcome else { panic!() };
    assert!(after_ms.is_some_and(|ms| ms > 900_000), "{after_ms:?}");
}
