//! The demo's web: six hosts behind one loopback proxy, each with a manner of its own.
//!
//! It must never listen on, or connect to, anything but 127.0.0.1. The proxy tunnels whatever host it is
//! asked for to the origin, which tells the hosts apart by the `Host` header.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::job::Mono;

/// How a demo host behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Answers at once.
    Quick,
    /// Takes its time.
    Slow,
    /// Answers 503 the first time it is asked for a file.
    Flaky,
    /// Answers 429 when asked more often than ten times a second.
    Limited,
    /// Answers a login page instead of the file.
    Wall,
    /// Answers some, then hangs up on everybody.
    Dying,
}

/// One demo host: its name, how it behaves, and how many artifacts it has.
struct Host {
    name: &'static str,
    manner: Manner,
    artifacts: usize,
}

const HOSTS: [Host; 6] = [
    Host { name: "archive.example", manner: Manner::Quick, artifacts: 150 },
    Host { name: "slow.example", manner: Manner::Slow, artifacts: 36 },
    Host { name: "flaky.example", manner: Manner::Flaky, artifacts: 40 },
    Host { name: "limited.example", manner: Manner::Limited, artifacts: 40 },
    Host { name: "wall.example", manner: Manner::Wall, artifacts: 18 },
    Host { name: "dying.example", manner: Manner::Dying, artifacts: 16 },
];

const SLOW_ANSWER: Duration = Duration::from_millis(250);
const LIMITED_PER_SECOND: u32 = 10;
const DYING_ANSWERS: u32 = 8;
const MAX_HEAD_BYTES: u64 = 16 * 1024;

/// The demo's web, listening until it is dropped.
pub(super) struct Web {
    /// Where the proxy listens.
    pub(super) proxy: SocketAddr,
    origin: SocketAddr,
    /// Dropped to wake whoever takes its time.
    stop: Option<Sender<()>>,
}

struct Origin {
    clock: Arc<dyn Clock>,
    stopped: Receiver<()>,
    asked: Mutex<HashMap<String, u32>>,
    window: Mutex<(Mono, u32)>,
}

struct Request {
    host: String,
    path: String,
}

/// The lines of the demo's input: one JSON object per artifact, host by host.
pub(super) fn artifacts() -> impl Iterator<Item = String> {
    HOSTS.iter().flat_map(|host| {
        (1..=host.artifacts).map(move |n| {
            let name = host.name.trim_end_matches(".example");
            format!(
                r#"{{"artifact_id": "demo:{name}-{n:03}", "url": "http://{}/papers/{n:03}.pdf", "title": "Paper {n} of {name}"}}"#,
                host.name
            )
        })
    })
}

/// What each host does, for the viewer.
pub(super) fn cast() -> impl Iterator<Item = (&'static str, usize, &'static str)> {
    HOSTS.iter().map(|host| {
        let does = match host.manner {
            Manner::Quick => "answers at once",
            Manner::Slow => "takes a quarter of a second for each answer",
            Manner::Flaky => "answers 503 the first time it is asked for a file",
            Manner::Limited => "answers 429 when asked more than ten times a second",
            Manner::Wall => "serves a login page where the PDF should be",
            Manner::Dying => "answers eight times, then hangs up on everybody",
        };
        (host.name, host.artifacts, does)
    })
}

impl Web {
    /// Starts origin and proxy on ports the system chooses.
    ///
    /// # Errors
    /// When no port or thread is to be had.
    pub(super) fn start(clock: Arc<dyn Clock>) -> io::Result<Web> {
        let (stop, stopped) = bounded(0);
        let began = clock.mono();
        let origin = Arc::new(Origin {
            clock,
            stopped: stopped.clone(),
            asked: Mutex::default(),
            window: Mutex::new((began, 0)),
        });
        let origin_address = serve("demo-origin", stopped.clone(), move |stream| {
            // A client that hangs up is not our trouble.
            let _ = origin.converse(&stream);
            let _ = stream.shutdown(Shutdown::Both);
        })?;
        let proxy = serve("demo-proxy", stopped, move |client| {
            let _ = tunnel(&client, origin_address);
            let _ = client.shutdown(Shutdown::Both);
        })?;
        Ok(Web { proxy, origin: origin_address, stop: Some(stop) })
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop = None;
        // A connection each wakes the two listeners, which then see that the demo is over.
        let _ = TcpStream::connect(self.proxy);
        let _ = TcpStream::connect(self.origin);
    }
}

/// Serves every connection on a thread of its own, until `stopped` is closed.
fn serve(
    name: &str,
    stopped: Receiver<()>,
    answer: impl Fn(TcpStream) + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let answer = Arc::new(answer);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if is_closed(&stopped) {
                return;
            }
            let answer = Arc::clone(&answer);
            // Without a thread the connection is dropped: the client sees a server in trouble.
            let _ = thread::Builder::new().spawn(move || answer(stream));
        }
    })?;
    Ok(address)
}

fn is_closed(stopped: &Receiver<()>) -> bool {
    matches!(stopped.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected))
}

impl Origin {
    /// Answers one connection's requests in turn, for as long as the client keeps it.
    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = read_request(&mut reader)? {
            let Some(answer) = self.answer(&request) else { return Ok(()) };
            (&*stream).write_all(&answer)?;
        }
        Ok(())
    }

    /// The bytes of the answer; `None` to hang up.
    fn answer(&self, request: &Request) -> Option<Vec<u8>> {
        let host = HOSTS.iter().find(|host| host.name == request.host);
        let manner = host.map(|host| host.manner);
        let pdf = || response("200 OK", "application/pdf", "", &pdf(&request.path));
        if request.path == "/robots.txt" && manner.is_some() {
            return Some(response("404 Not Found", "text/plain", "", b"All are welcome.\n"));
        }
        Some(match manner? {
            Manner::Quick => pdf(),
            Manner::Slow => {
                // Waits for the end of the demo, and no longer than it takes to be slow.
                let _ = self.stopped.recv_timeout(SLOW_ANSWER);
                pdf()
            }
            Manner::Flaky if self.times_asked(&request.path) == 1 => {
                response("503 Service Unavailable", "text/plain", "", b"Back in a moment.\n")
            }
            Manner::Limited if self.over_limit() => response(
                "429 Too Many Requests",
                "text/plain",
                "Retry-After: 1\r\n",
                b"Please slow down.\n",
            ),
            Manner::Flaky | Manner::Limited => pdf(),
            Manner::Wall => response(
                "200 OK",
                "application/pdf",
                "",
                b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>\
                  <h1>Sign in to read this article</h1>\
                  <form action=\"/login\"><input type=\"password\" name=\"password\"></form></body></html>",
            ),
            Manner::Dying if self.times_asked("dying") > DYING_ANSWERS => return None,
            Manner::Dying => pdf(),
        })
    }

    fn times_asked(&self, what: &str) -> u32 {
        let mut asked = self.asked.lock();
        let count = asked.entry(what.to_owned()).or_default();
        *count += 1;
        *count
    }

    fn over_limit(&self) -> bool {
        let now = self.clock.mono();
        let mut window = self.window.lock();
        if now.since(window.0) >= Duration::from_secs(1) {
            *window = (now, 0);
        }
        window.1 += 1;
        window.1 > LIMITED_PER_SECOND
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut head = reader.take(MAX_HEAD_BYTES);
    let mut first = String::new();
    if head.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut request = Request { host: String::new(), path: String::new() };
    let target = first.split(' ').nth(1).unwrap_or("/");
    match target.strip_prefix("http://").and_then(|rest| rest.split_once('/')) {
        Some((host, path)) => {
            request.host = host.to_owned();
            request.path = format!("/{path}");
        }
        None => request.path = target.to_owned(),
    }
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("host") => {
                request.host = value.trim().trim_end_matches(":80").to_owned();
            }
            Some(_) => {}
            None => return Ok(Some(request)),
        }
    }
}

fn response(status: &str, media_type: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Passes a client's bytes to the origin and back, whichever host it asked for.
fn tunnel(client: &TcpStream, origin: SocketAddr) -> io::Result<()> {
    client.set_nodelay(true)?;
    let upstream = TcpStream::connect(origin)?;
    upstream.set_nodelay(true)?;
    let mut peek = [0; 8];
    if client.peek(&mut peek)? >= 7 && peek.starts_with(b"CONNECT") {
        let mut reader = BufReader::with_capacity(1, client);
        read_request(&mut reader)?;
        (&*client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    }
    let (from, to) = (client.try_clone()?, upstream.try_clone()?);
    let forth = thread::Builder::new().spawn(move || {
        let _ = io::copy(&mut &from, &mut &to);
        let _ = to.shutdown(Shutdown::Write);
    })?;
    let _ = io::copy(&mut &upstream, &mut &*client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = forth.join();
    Ok(())
}

/// A small valid PDF of one page that names its path.
fn pdf(path: &str) -> Vec<u8> {
    let text = format!("BT /F1 18 Tf 72 720 Td (orch demo: {path}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{text}\nendstream", text.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut out = String::from("%PDF-1.4\n");
    let mut table = String::from("0000000000 65535 f \n");
    for (n, object) in objects.iter().enumerate() {
        table.push_str(&format!("{:010} 00000 n \n", out.len()));
        out.push_str(&format!("{} 0 obj\n{object}\nendobj\n", n + 1));
    }
    let start = out.len();
    let size = objects.len() + 1;
    out.push_str(&format!(
        "xref\n0 {size}\n{table}trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    ));
    out.into_bytes()
}
