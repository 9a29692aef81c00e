//! Redirects: followed by us, hop by hop, each under a permit of its own.

use super::server::{Reply, Server};
use super::services::port_of;
use super::*;

#[test]
fn a_chain_of_redirects_is_followed_and_remembered() {
    let server = Server::start(|request| match request.target.as_str() {
        "/a" => Reply::to("b?x=1"),
        "/b?x=1" => Reply::to("/c d/\u{e9}#fragment"),
        _ => Reply::ok(PDF),
    });
    let outcome = Rig::new().fetch_url(&server.url("/a"));
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    assert_eq!(server.targets(), ["/a", "/b?x=1", "/c%20d/%C3%A9"]);
    assert_eq!(detail(&outcome)["url"], server.url("/a"));
    assert_eq!(detail(&outcome)["final_url"], server.url("/c%20d/%C3%A9"));
    // Drained, so that all of it went over one connection.
    assert!(server.seen().iter().all(|request| request.connection == 0));
}

#[test]
fn circles_and_endless_chains_end() {
    let circle =
        Server::start(|request| Reply::to(if request.target == "/a" { "/b" } else { "/a" }));
    let outcome = Rig::new().fetch_url(&circle.url("/a"));
    assert_eq!(in_short(&outcome), "fail redirect");
    assert_eq!(circle.targets().len(), 2);

    let endless = Server::start(|request| Reply::to(&format!("{}x", request.target)));
    assert_eq!(in_short(&Rig::new().fetch_url(&endless.url("/"))), "fail redirect");
    assert_eq!(endless.targets().len(), 21);

    for location in ["Location:\r\n", "", "Location: file:///etc/passwd\r\n"] {
        let nowhere = Server::start(move |_| Reply::of(301, location, b""));
        assert_eq!(in_short(&Rig::new().fetch_url(&nowhere.url("/"))), "fail redirect");
    }
}

#[test]
fn a_redirect_to_a_full_host_defers_and_goes_on_from_that_hop() {
    let server = Server::start(|request| match request.target.as_str() {
        "/gone" => Reply::of(404, "", b""),
        "/a" => Reply::to(&format!("http://b.test:{}/b", port_of(request))),
        _ => Reply::ok(PDF),
    });
    let rig = Rig::new();
    let line = json!({
        "url": server.url_as("a.test", "/gone"),
        "urls": [server.url_as("a.test", "/a")],
    });
    let mut job = job(&line);
    let elsewhere = Key::new(None, Some("b.test")).unwrap();
    let busy = rig.gate.try_admit(&elsewhere, Mono::default()).unwrap();
    let outcome = rig.run(&job);
    let Outcome::Defer { key, not_before: None, checkpoint: Some(checkpoint) } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(key, elsewhere);
    assert_eq!(server.targets(), ["/gone", "/a"]);
    // It kept nobody else from the host it came from.
    assert!(rig.gate.try_admit(&job.lane.key, Mono::default()).is_ok());

    drop(busy);
    job.checkpoint = Some(checkpoint);
    job.lane = Arc::new(Lane { key, ..Lane::clone(&job.lane) });
    let outcome = rig.run(&job);
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    assert_eq!(server.targets(), ["/gone", "/a", "/b"]);
    assert_eq!(detail(&outcome)["url"], server.url_as("a.test", "/a"));
    assert_eq!(detail(&outcome)["tried"].as_array().unwrap().len(), 1);
}

#[test]
fn every_permit_is_back_when_the_attempt_is_over() {
    let server = Server::start(|request| match request.target.as_str() {
        "/a" => Reply::to(&format!("http://b.test:{}/b", port_of(request))),
        _ => Reply::ok(PDF),
    });
    let rig = Rig::new();
    assert_eq!(in_short(&rig.fetch_url(&server.url_as("a.test", "/a"))), "done ok");
    for host in ["a.test", "b.test"] {
        let key = Key::new(None, Some(host)).unwrap();
        assert!(rig.gate.try_admit(&key, Mono::default()).is_ok(), "{host}");
    }
}
