//! The ways to a server: connections, proxies, certificates, private addresses, cancellation.

use std::io::{BufReader, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use crossbeam_channel::bounded;
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::server::{Reply, Request, Server, read_head};
use super::*;
use crate::handler::CancelReason;
use crate::handler::fetch::ProxySettings;

#[test]
fn connections_are_used_again() {
    let server = Server::start(|_| Reply::ok(PDF));
    let rig = Rig::new();
    for n in 0..5 {
        let mut job = job(&json!({ "url": server.url(&format!("/{n}")) }));
        job.artifact_id = ArtifactId::new(&format!("a{n}")).unwrap();
        assert_eq!(in_short(&rig.run(&job)), "done ok");
    }
    assert_eq!(server.targets().len(), 5);
    assert!(server.seen().iter().all(|request| request.connection == 0));
}

#[test]
fn a_connection_that_died_while_idle_is_replaced_unnoticed() {
    let server = Server::start(|request| match (request.connection, request.target.as_str()) {
        (0, "/1") => Reply::ok(PDF),
        (0, _) => Reply::raw("").then_close(),
        _ => Reply::ok(PDF),
    });
    let rig = Rig::new();
    let mut second = job(&json!({ "url": server.url("/2") }));
    second.artifact_id = ArtifactId::new("another").unwrap();
    assert_eq!(in_short(&rig.fetch_url(&server.url("/1"))), "done ok");
    assert_eq!(in_short(&rig.run(&second)), "done ok");
    assert_eq!(server.targets(), ["/1", "/2", "/2"]);
}

#[test]
fn a_server_that_never_answers_a_fresh_connection_is_not_asked_twice() {
    let server = Server::start(|_| Reply::raw("").then_close());
    assert_eq!(in_short(&Rig::new().fetch_url(&server.url("/"))), "retry connect");
    assert_eq!(server.targets().len(), 1);
}

#[test]
fn silence_ends_with_a_timeout_before_and_within_the_body() {
    for bytes in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n%PDF-"] {
        let server = Server::start(move |_| Reply::raw(bytes).then_silence());
        let rig = Rig::with(|settings| settings.read_timeout = Duration::from_millis(50));
        assert_eq!(in_short(&rig.fetch_url(&server.url("/"))), "retry timeout");
    }
}

#[test]
fn nobody_listening_is_an_error_of_the_connection_and_no_name_one_of_dns() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let outcome = Rig::new().fetch_url(&format!("http://127.0.0.1:{port}/"));
    assert_eq!(in_short(&outcome), "retry connect", "{outcome:?}");

    let mut rig = Rig::new();
    let settings = rig.handler.net.settings.clone();
    rig.handler =
        FetchHandler::with_names(settings, |_| Err(io::Error::other("no such name"))).unwrap();
    let outcome = rig.fetch_url("http://a.test/");
    assert_eq!(in_short(&outcome), "retry dns", "{outcome:?}");
}

#[test]
fn a_cancelled_job_stops_reading_at_once() {
    for (reason, expected) in
        [(CancelReason::Stop, "retry internal"), (CancelReason::Deadline, "retry deadline")]
    {
        let (send, stalled) = bounded(1);
        let server = Server::start(move |_| {
            send.send(()).unwrap();
            let half = [b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n", PDF].concat();
            Reply::raw(half).then_silence()
        });
        let rig = Rig::new();
        let cancel = Arc::clone(&rig.cancel);
        thread::spawn(move || {
            stalled.recv().unwrap();
            cancel.cancel(reason);
        });
        // Not cancelled, it would end after the minute of the read timeout, with another reason.
        let outcome = rig.fetch_url(&server.url("/"));
        assert_eq!(in_short(&outcome), expected, "{outcome:?}");
        assert!(rig.files().is_empty());
    }
}

#[test]
fn a_deadline_that_has_passed_ends_a_body_that_keeps_coming() {
    let rig = Arc::new(Rig::new());
    let clock = Arc::clone(&rig);
    let server = Server::start(move |_| {
        clock.clock.advance(Duration::from_secs(3_601));
        Reply::ok(PDF)
    });
    assert_eq!(in_short(&rig.fetch_url(&server.url("/"))), "retry deadline");
}

#[test]
fn private_addresses_are_refused_by_default_at_every_hop() {
    let strict = || Rig::with(|settings| settings.allow_private_addresses = false);
    let server = Server::start(|_| Reply::ok(PDF));
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f000001", "a.test"] {
        let outcome = strict().fetch_url(&server.url_as(host, "/"));
        assert_eq!(in_short(&outcome), "skipped private_address", "{host}: {outcome:?}");
    }
    assert!(server.targets().is_empty());

    // A public server (as its proxy says) that sends us home.
    let proxy = Server::start(|_| Reply::to("http://127.0.0.1/admin"));
    let rig = Rig::with(|settings| {
        settings.allow_private_addresses = false;
        settings.proxy = ProxySettings::everywhere(&format!("http://{}", proxy.address()));
    });
    let outcome = rig.fetch_url("http://public.test/");
    assert_eq!(in_short(&outcome), "skipped private_address", "{outcome:?}");
    assert_eq!(proxy.targets(), ["http://public.test/"]);
}

#[test]
fn plain_requests_go_through_a_proxy_with_their_whole_url() {
    let proxy = Server::start(|_| Reply::ok(PDF));
    let direct = Server::start(|_| Reply::ok(PDF));
    let rig = Rig::with(|settings| {
        let url = format!("http://user:p%40ss@{}", proxy.address());
        settings.proxy =
            ProxySettings { no_proxy: "inside.test".to_owned(), ..ProxySettings::everywhere(&url) };
    });
    assert_eq!(in_short(&rig.fetch_url("http://outside.test:81/a?b")), "done ok");
    assert_eq!(proxy.targets(), ["http://outside.test:81/a?b"]);
    let head = proxy.seen()[0].head.clone();
    // user:p@ss
    assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwQHNz\r\n"), "{head}");
    assert!(head.to_ascii_lowercase().contains("host: outside.test:81\r\n"), "{head}");

    let mut inside = job(&json!({ "url": direct.url_as("www.inside.test", "/x") }));
    inside.artifact_id = ArtifactId::new("another").unwrap();
    assert_eq!(in_short(&rig.run(&inside)), "done ok");
    assert_eq!(direct.targets(), ["/x"]);
    assert_eq!(proxy.targets().len(), 1);
}

/// A certificate authority's certificate as a file, and a server configuration for `a.test` signed by it.
fn authority() -> (tempfile::NamedTempFile, Arc<ServerConfig>) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(ca_certificate.pem().as_bytes()).unwrap();

    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (file, Arc::new(config))
}

fn https(server: &Server, host: &str) -> String {
    server.url_as(host, "/").replace("http://", "https://")
}

#[test]
fn a_certificate_is_trusted_only_when_its_authority_is() {
    let (ca_file, config) = authority();
    let server = Server::start_tls(config, |_| Reply::ok(PDF));
    let outcome = Rig::new().fetch_url(&https(&server, "a.test"));
    assert_eq!(in_short(&outcome), "fail tls", "{outcome:?}");

    let trusting = || Rig::with(|settings| settings.ca_file = Some(ca_file.path().to_owned()));
    let rig = trusting();
    assert_eq!(in_short(&rig.fetch_url(&https(&server, "a.test"))), "done ok");
    let outcome = trusting().fetch_url(&https(&server, "wrong.test"));
    assert_eq!(in_short(&outcome), "fail tls", "{outcome:?}");
    assert_eq!(server.targets().len(), 1);
}

/// A socket at this port of `::1` that swallows whoever knocks: its queue is full and nobody empties it. `None` where there is
/// no IPv6.
#[cfg(target_os = "linux")]
fn swallowing(port: u16) -> Option<(std::os::fd::OwnedFd, TcpStream)> {
    use std::net::{Ipv6Addr, SocketAddr};

    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let listener = socket(AddressFamily::INET6, SocketType::STREAM, None).ok()?;
    bind(&listener, &address).ok()?;
    listen(&listener, 0).ok()?;
    Some((listener, TcpStream::connect(address).ok()?))
}

#[test]
#[cfg(target_os = "linux")]
fn an_ipv6_address_that_swallows_packets_gives_way_to_the_next_and_is_asked_last_from_then_on() {
    fn both(_: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![std::net::Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()])
    }
    let server = Server::start(|_| Reply::ok(PDF).then_close());
    let port = server.address().port();
    let Some(swallowing) = swallowing(port) else {
        eprintln!("skipped: there is no IPv6 here");
        return;
    };
    let rig = Rig::with_names(|settings| settings.connect_timeout = Duration::from_secs(2), both);
    let url = server.url_as("both.test", "/a.pdf");
    let outcome = rig.fetch_url(&url);
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");

    // Whoever asked there first now would get another answer.
    drop(swallowing);
    let other = TcpListener::bind(("::1", port)).unwrap();
    thread::spawn(move || {
        for mut stream in other.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    std::fs::remove_file(&rig.files()[0]).unwrap();
    let outcome = rig.fetch_url(&url);
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
}

#[test]
fn a_way_that_leaves_tls_is_followed_without_its_cookies_and_told() {
    let plain = Server::start(|_| Reply::ok(PDF));
    let (ca_file, config) = authority();
    let to = plain.url_as("a.test", "/a.pdf");
    let secure = Server::start_tls(config, move |_| {
        let cookies = "Set-Cookie: k=secret; Secure; Path=/\r\nSet-Cookie: open=1; Path=/\r\n";
        Reply::of(302, &format!("Location: {to}\r\n{cookies}"), b"")
    });
    let rig = Rig::with(|settings| settings.ca_file = Some(ca_file.path().to_owned()));
    let outcome = rig.finish(&json!({ "url": https(&secure, "a.test") }));
    let Outcome::Done { note, .. } = &outcome else { panic!("{outcome:?}") };
    assert!(note.message.contains("without TLS"), "{note:?}");
    assert_eq!(detail(&outcome)["flags"], json!(["downgraded"]));
    let head = plain.seen()[0].head.to_ascii_lowercase();
    assert!(head.contains("cookie: open=1") && !head.contains("secret"), "{head}");
}

#[test]
fn tls_goes_through_a_proxy_in_a_tunnel() {
    let (ca_file, config) = authority();
    let server = Server::start_tls(config, |_| Reply::ok(PDF));
    let (proxy, tunnels) = tunnelling_proxy();
    let rig = Rig::with(|settings| {
        // The proxy is private and exempt; the name is resolved by it, not by us.
        settings.allow_private_addresses = false;
        settings.ca_file = Some(ca_file.path().to_owned());
        settings.proxy.https = Some(format!("http://{proxy}"));
    });
    let outcome = rig.fetch_url(&https(&server, "a.test"));
    assert_eq!(in_short(&outcome), "done ok", "{outcome:?}");
    assert_eq!(
        tunnels.try_iter().collect::<Vec<_>>(),
        [format!("a.test:{}", server.address().port())]
    );

    let outcome = rig.fetch_url("https://127.0.0.1/");
    assert_eq!(in_short(&outcome), "done exists", "the file is there: {outcome:?}");
    std::fs::remove_file(&rig.files()[0]).unwrap();
    let outcome = rig.fetch_url("https://127.0.0.1/");
    assert_eq!(in_short(&outcome), "skipped private_address", "{outcome:?}");
    assert!(tunnels.is_empty());
}

#[test]
fn a_proxy_that_refuses_is_an_error_of_the_connection() {
    let proxy = Server::start(|_: &Request| Reply::of(502, "", b""));
    let rig = Rig::with(|settings| {
        settings.proxy.https = Some(format!("http://{}", proxy.address()));
    });
    assert_eq!(in_short(&rig.fetch_url("https://a.test/")), "retry connect");
}

/// A proxy that tunnels to the same port on this machine; and what it was asked for.
fn tunnelling_proxy() -> (std::net::SocketAddr, crossbeam_channel::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (send, asked) = crossbeam_channel::unbounded();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let Some((target, head)) = read_head(&mut reader) else { continue };
            assert!(head.starts_with("CONNECT "), "{head}");
            let port = target.rsplit(':').next().unwrap().parse::<u16>().unwrap();
            send.send(target).unwrap();
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (from_server, to_client) = (server.try_clone().unwrap(), client);
            thread::spawn(move || {
                let _ = copy(&mut &from_server, &mut &to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let _ = copy(&mut reader, &mut &server);
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    (address, asked)
}
