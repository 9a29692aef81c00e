//! What requests tell of hosts: those that are down are left alone, and nobody is blamed for what is ours.

use std::net::TcpListener;
use std::thread;

use crossbeam_channel::bounded;

use super::server::{Reply, Server};
use super::services::{absent, rig as rig_of_services};
use super::*;
use crate::handler::fetch::ProxySettings;
use crate::handler::{CancelReason, Finder};
use crate::job::{JobSpec, LimitKey};
use crate::limit::{Wait, WaitReason};
use crate::share::Transition;

/// A place where nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A server whose every answer is this.
fn always(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |_| reply())
}

fn impatient() -> Rig {
    Rig::with(|settings| settings.read_timeout = Duration::from_millis(50))
}

/// A body that begins and does not go on.
fn half() -> Reply {
    Reply::raw([b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n", PDF].concat()).then_silence()
}

fn key(resolver: Option<&str>, host: Option<&str>) -> Key {
    Key::new(resolver, host).unwrap()
}

/// Why nobody may ask under `key` now.
fn refusal(rig: &Rig, key: &Key) -> Option<WaitReason> {
    rig.gate.try_admit(key, rig.clock.mono()).err().map(|wait| wait.reason)
}

fn is_open(rig: &Rig, host: &str) -> bool {
    refusal(rig, &key(None, Some(host))) == Some(WaitReason::Open)
}

/// Asks five times, one after the other; whether the breaker of the host is open then.
fn opens(rig: &Rig, url: &str) -> bool {
    let host = Url::parse(url).unwrap().host_str().unwrap().to_owned();
    for nth in 0..5 {
        assert!(!is_open(rig, &host), "after {nth}");
        let _ = rig.fetch_url(url);
        // What its server asked for is waited for.
        if let Err(Wait { reason: WaitReason::Held, until: Some(until), .. }) =
            rig.gate.try_admit(&key(None, Some(&host)), rig.clock.mono())
        {
            rig.clock.advance(until.since(rig.clock.mono()));
        }
    }
    is_open(rig, &host)
}

#[test]
fn five_refused_connections_in_a_row_open_the_breaker_and_jobs_wait_and_keep_their_attempts() {
    let (rig, url) = (Rig::new(), format!("http://{}/a.pdf", nobody()));
    for _ in 0..5 {
        let outcome = rig.fetch_url(&url);
        assert_eq!(in_short(&outcome), "retry connect", "{outcome:?}");
    }
    let until = rig.clock.mono().plus(Duration::from_secs(60));
    let opened = (LimitKey::Host("127.0.0.1".into()), Transition::Opened { until });
    assert_eq!(rig.gate.transitions(rig.clock.mono()), [opened]);
    assert_eq!(in_short(&rig.fetch_url(&url)), "defer 127.0.0.1");

    // One request tries it, and it is no better.
    rig.clock.advance(Duration::from_secs(60));
    assert_eq!(in_short(&rig.fetch_url(&url)), "retry connect");
    assert!(is_open(&rig, "127.0.0.1"));
}

#[test]
fn a_host_that_is_back_is_whole_again_after_three_answers() {
    let server = Server::start(|request| match request.before {
        0..5 => Reply::of(500, "", b""),
        _ => Reply::of(404, "", b""),
    });
    let rig = Rig::new();
    assert!(opens(&rig, &server.url("/a")));
    rig.clock.advance(Duration::from_secs(60));
    for _ in 0..3 {
        assert_eq!(in_short(&rig.fetch_url(&server.url("/a"))), "fail http_status");
    }
    let changes: Vec<Transition> =
        rig.gate.transitions(rig.clock.mono()).into_iter().map(|(_, change)| change).collect();
    assert_eq!(changes[1..], [Transition::HalfOpened, Transition::Closed], "{changes:?}");
}

#[test]
fn server_errors_and_time_outs_count_and_proper_answers_do_not() {
    for status in [500, 501, 502, 503, 504, 520] {
        let server = always(move || Reply::of(status, "", b""));
        assert!(opens(&Rig::new(), &server.url("/")), "{status}");
    }
    let server = always(|| Reply::of(503, "Retry-After: 7\r\n", b""));
    assert!(opens(&Rig::new(), &server.url("/")), "told to wait, it has failed all the same");
    for status in [400, 401, 403, 404, 408, 410, 429, 451] {
        let server = always(move || Reply::of(status, "", b""));
        assert!(!opens(&Rig::new(), &server.url("/")), "{status}");
    }
    let silent = always(|| Reply::raw("").then_silence());
    assert!(opens(&impatient(), &silent.url("/")), "no first byte");
    assert!(opens(&impatient(), &always(half).url("/")), "a body that stands still");
    let page = || {
        Reply::raw("HTTP/1.1 404 Not Found\r\nContent-Length: 9000\r\n\r\n<html>").then_silence()
    };
    assert!(opens(&impatient(), &always(page).url("/")), "a page nobody wants that stands still");
    let garbage = always(|| Reply::raw("220 mail.test ESMTP\r\n\r\n").then_close());
    assert!(opens(&Rig::new(), &garbage.url("/")), "no HTTP");
    let cut = || Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n%PDF-").then_close();
    assert!(!opens(&Rig::new(), &always(cut).url("/")), "it was there");
    assert!(!opens(&Rig::new(), &always(|| Reply::ok(b"GIF89a")).url("/")));
}

#[test]
fn a_proper_answer_ends_the_row() {
    let server = Server::start(|request| match request.before {
        4 => Reply::of(404, "", b""),
        _ => Reply::of(500, "", b""),
    });
    let rig = Rig::new();
    assert!(!opens(&rig, &server.url("/")), "four have failed, and then one was answered");
    assert!(opens(&rig, &server.url("/")));
    assert_eq!(server.targets().len(), 10);
}

#[test]
fn a_503_counts_and_holds() {
    let server = Server::start(|request| match request.before {
        0 => Reply::of(503, "Retry-After: 3\r\n", b""),
        _ => Reply::of(500, "", b""),
    });
    let rig = Rig::new();
    assert!(matches!(rig.fetch_url(&server.url("/")), Outcome::Defer { .. }));
    assert_eq!(refusal(&rig, &key(None, Some("127.0.0.1"))), Some(WaitReason::Held));
    rig.clock.advance(Duration::from_secs(3));
    for _ in 0..4 {
        assert!(!is_open(&rig, "127.0.0.1"));
        let _ = rig.fetch_url(&server.url("/"));
    }
    assert!(is_open(&rig, "127.0.0.1"));
}

#[test]
fn a_time_out_halves_what_a_host_is_asked_at_once() {
    for reply in [half, || Reply::raw("").then_silence()] {
        let mut rig = impatient();
        rig.gate = Gate::new(Limits { max_per_host: Some(8), ..Limits::default() });
        assert_eq!(in_short(&rig.fetch_url(&always(reply).url("/"))), "retry timeout");
        assert_eq!(rig.gate.max_concurrent(&key(None, Some("127.0.0.1"))), Some(4));
    }
}

#[test]
fn names_and_addresses_that_are_refused_tell_nothing_of_a_host() {
    fn no_such_name(_: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::Error::other("no such name"))
    }
    assert!(!opens(&Rig::with_names(|_| (), no_such_name), "http://a.test/"));
    let strict = || Rig::with(|settings| settings.allow_private_addresses = false);
    assert!(!opens(&strict(), "http://127.0.0.1/"));
    assert!(!opens(&strict(), "http://a.test/"));
}

#[test]
fn what_a_proxy_does_not_let_through_tells_nothing_of_a_host() {
    let refusing = always(|| Reply::of(502, "", b""));
    for (proxy, url) in [
        (nobody(), "http://a.test/"),
        (nobody(), "https://a.test/"),
        (refusing.address().to_string(), "https://a.test/"),
    ] {
        let rig = Rig::with(|settings| {
            settings.proxy = ProxySettings::everywhere(&format!("http://{proxy}"));
        });
        let outcome = rig.fetch_url(url);
        let Outcome::Retry { note, .. } = &outcome else { panic!("{outcome:?}") };
        assert!(note.message.contains("the proxy on the way to a.test"), "{note:?}");
        assert!(!opens(&rig, url), "{url} by {proxy}");
    }
    // What comes through it does.
    let rig = Rig::with(|settings| {
        settings.proxy = ProxySettings::everywhere(&format!("http://{}", refusing.address()));
    });
    assert!(opens(&rig, "http://a.test/"));
}

#[test]
fn a_cancelled_request_tells_nothing_of_a_host() {
    for reply in [half, || Reply::raw("").then_silence()] {
        let (send, stalled) = bounded(5);
        let server = Server::start(move |_| {
            send.send(()).unwrap();
            reply()
        });
        let rig = Rig::new();
        for reason in
            [CancelReason::Stop, CancelReason::Deadline, CancelReason::LeaseLost].repeat(2)
        {
            let (cancel, stalled) = (Arc::clone(&rig.cancel), stalled.clone());
            let cancelling = thread::spawn(move || {
                stalled.recv().unwrap();
                cancel.cancel(reason);
            });
            let _ = rig.fetch_url(&server.url("/"));
            cancelling.join().unwrap();
            rig.cancel.reset();
        }
        assert!(!is_open(&rig, "127.0.0.1"));
        assert_eq!(rig.gate.transitions(rig.clock.mono()), []);
    }
}

/// Jobs of a host that is down, one after the other, until it has been waited for long enough.
fn until_given_up(rig: &Rig, url: &str) {
    let began = rig.clock.mono();
    assert!(opens(rig, url));
    while rig.clock.mono().since(began) < Duration::from_secs(900) {
        let outcome = rig.finish(&json!({ "url": url }));
        assert_eq!(in_short(&outcome), "retry http_status", "{outcome:?}");
    }
}

#[test]
fn a_host_that_is_down_for_long_ends_its_jobs_as_host_down_without_a_request() {
    let down = always(|| Reply::of(500, "", b""));
    let good = Server::start(|_| Reply::ok(PDF));
    let rig = Rig::new();
    let url = down.url_as("down.test", "/a.pdf");
    until_given_up(&rig, &url);
    let asked = down.targets().len();

    let outcome = rig.fetch_url(&url);
    assert_eq!(in_short(&outcome), "fail host_down", "{outcome:?}");
    let Outcome::Fail { note, .. } = &outcome else { panic!() };
    assert!(note.message.contains("orch queue retry-failed --host down.test"), "{note:?}");
    // Another may have it.
    let line = json!({ "url": url, "urls": [good.url_as("good.test", "/b.pdf")] });
    assert_eq!(in_short(&rig.fetch(&line)), "done ok");
    assert_eq!(down.targets().len(), asked, "nobody asked it");

    // It is tried again all the same, when it has rested.
    rig.clock.advance(Duration::from_secs(60));
    let mut other = job(&json!({ "url": url }));
    other.artifact_id = ArtifactId::new("another").unwrap();
    assert_eq!(in_short(&rig.run(&other)), "retry http_status");
    assert_eq!(down.targets().len(), asked + 1);
}

#[test]
fn a_service_that_is_down_is_broken_and_the_next_one_is_asked() {
    let server = Server::start(|request| match request.target.split('/').nth(1) {
        Some("unpaywall") => Reply::of(500, "", b""),
        _ => Reply::ok(PDF),
    });
    let port = server.address().port();
    let mut rig = Rig::with(|settings| {
        settings.contact_email = Some("me@lib.test".to_owned());
        settings.resolvers = ["unpaywall", "landing_page"]
            .map(|name| ResolverSettings {
                base_url: Url::parse(
                    &format!("http://{name}.test:{port}/{name}").replace('_', "-"),
                )
                .ok(),
                ..ResolverSettings::named(name)
            })
            .into();
    });
    let policy = crate::share::Policy { give_up: Duration::from_secs(1), ..Default::default() };
    rig.gate = Gate::new(Limits { policy, ..Limits::default() });
    for nth in 0..5 {
        let mut job = job(&json!({ "doi": format!("10.1234/{nth}") }));
        job.artifact_id = ArtifactId::new(&format!("a{nth}")).unwrap();
        assert_eq!(in_short(&rig.finish_job(&mut job)), "done ok");
    }
    assert_eq!(refusal(&rig, &key(Some("unpaywall"), None)), Some(WaitReason::Open));
    assert!(is_open(&rig, "unpaywall.test"));
    rig.clock.advance(Duration::from_secs(2));
    let outcome = rig.fetch(&json!({ "doi": "10.1234/abc" }));
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    let asked = &detail(&outcome)["asked"][0];
    assert_eq!(asked["said"], "broken", "{asked}");
    assert!(asked["message"].as_str().unwrap().starts_with("not asked: unpaywall"), "{asked}");
    assert_eq!(server.targets().iter().filter(|target| target.contains("unpaywall")).count(), 5);
}

#[test]
fn a_service_that_says_to_slow_down_is_held_itself_whatever_its_host() {
    let server = Server::start(|request| match request.target.contains("unpaywall") {
        true => Reply::of(429, "Retry-After: 7\r\n", b""),
        false => absent(),
    });
    let rig = rig_of_services(&server, &["unpaywall"]);
    let outcome = rig.fetch(&json!({ "doi": "10.1234/abc" }));
    assert_eq!(in_short(&outcome), "defer unpaywall at 127.0.0.1", "{outcome:?}");
    for held in [key(Some("unpaywall"), Some("elsewhere.test")), key(None, Some("127.0.0.1"))] {
        assert_eq!(refusal(&rig, &held), Some(WaitReason::Held), "{held}");
    }
}

#[test]
fn what_one_host_of_a_line_does_says_nothing_of_the_limit_that_the_line_chose() {
    for reply in [|| Reply::of(429, "Retry-After: 7\r\n", b""), || Reply::of(500, "", b""), half] {
        let server = always(reply);
        let rig = impatient();
        for _ in 0..5 {
            let mut job = job(&json!({ "url": server.url("/"), "resolver_hint": "mine" }));
            job.lane = Arc::new(Lane {
                key: key(Some("mine"), Some("127.0.0.1")),
                ..Lane::clone(&job.lane)
            });
            let _ = rig.run(&job);
        }
        assert_ne!(refusal(&rig, &key(Some("mine"), Some("127.0.0.1"))), None);
        assert_eq!(refusal(&rig, &key(Some("mine"), Some("b.test"))), None);
    }
}

#[test]
fn whoever_asks_by_hand_is_not_kept_waiting_for_a_service_that_is_down() {
    let finder = Finder::new(FetchSettings {
        resolvers: vec![ResolverSettings {
            base_url: Url::parse(&format!("http://{}/doaj", nobody())).ok(),
            ..ResolverSettings::named("doaj")
        }],
        allow_private_addresses: true,
        ..FetchSettings::default()
    })
    .unwrap();
    let (gate, clock, cancel) =
        (Gate::default(), Manual::at(NOW), Arc::new(Cancel::new().unwrap()));
    let payload = json!({ "doi": "10.1234/abc" }).to_string();
    let spec = JobSpec { payload, ..JobSpec::new("doi:10.1234/abc", "fetch").unwrap() };
    let ask = || finder.ask(&spec, "doaj", &gate, &clock, &cancel).unwrap();
    for _ in 0..5 {
        let said = ask();
        assert!(said.said == "broken" && said.message.contains("refused"), "{said:?}");
    }
    let said = ask();
    assert!(said.said == "broken" && said.message.contains("again and again"), "{said:?}");
}
