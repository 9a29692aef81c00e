//! An origin that counts: on loopback, the proxy of every `http://` host there is, and so all of them. It notes when each
//! request began and ended and whose it was, so that what was asked of a host can be held against its limits afterwards.
//!
//! A request begins when its head has been read and ends just before its answer is written: each after the client began
//! and before the client can know that it is over. What overlaps here did overlap there, so no check blames the innocent.
//! A request whose connection is gone has ended, and that is looked at before the next of its host begins.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};

/// How often a request that is not answered looks whether it is to be.
const FROZEN_STEP: Duration = Duration::from_millis(10);

/// What is asked, of whom, by whom.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) host: String,
    pub(super) path: String,
    /// The user agent: tells the processes apart.
    pub(super) client: String,
    /// How many requests of this host began before it.
    pub(super) before: usize,
}

/// An answer: status (0: the connection is closed without one), further headers (each with its line end), and how long it
/// takes. Its body is empty or, with 200, a PDF.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: &'static str,
    pub(super) after: Duration,
}

/// One request, as it was seen here. Times are since the origin began.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) asked: Asked,
    pub(super) begin: Duration,
    /// When it was answered, or its connection was seen to be gone; `None`: it goes on.
    pub(super) end: Option<Duration>,
    /// 0: it was not answered.
    pub(super) status: u16,
}

type Route = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The origin; its threads end with the tests.
pub(super) struct Origin {
    address: SocketAddr,
    serving: Arc<Serving>,
}

struct Serving {
    began: Instant,
    route: Box<Route>,
    log: Mutex<Log>,
    changed: Condvar,
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    /// By host: the places in `seen` of what runs there, with their connections.
    running: HashMap<String, Vec<(usize, Arc<TcpStream>)>>,
    begun: HashMap<String, usize>,
    /// Clients that get no answers.
    frozen: HashSet<String>,
}

impl Origin {
    /// An origin that answers each request as `route` says.
    pub(super) fn start(route: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::new(Serving {
            began: Instant::now(),
            route: Box::new(route),
            log: Mutex::default(),
            changed: Condvar::new(),
        });
        let shared = Arc::clone(&serving);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = Arc::clone(&shared);
                thread::spawn(move || serving.serve(stream));
            }
        });
        Origin { address, serving }
    }

    /// To be configured as the proxy.
    pub(super) fn proxy(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The time here.
    pub(super) fn now(&self) -> Duration {
        self.serving.began.elapsed()
    }

    /// From now on what this client asks is not answered, or is again.
    pub(super) fn freeze(&self, client: &str, is_frozen: bool) {
        let mut log = self.serving.log();
        if is_frozen {
            log.frozen.insert(client.to_owned());
        } else {
            log.frozen.remove(client);
        }
    }

    /// Everything so far, in the order it began.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.serving.log().seen.clone()
    }

    /// Waits until what has been seen is as wanted, and returns it; fails after two minutes.
    #[track_caller]
    pub(super) fn until(&self, what: &str, is_there: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let log = self.serving.log();
        let patience = Duration::from_secs(120);
        let not_yet = |log: &mut Log| !is_there(&log.seen);
        let (log, waited) =
            self.serving.changed.wait_timeout_while(log, patience, not_yet).unwrap();
        assert!(!waited.timed_out(), "waited two minutes for: {what}");
        log.seen.clone()
    }
}

impl Serving {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    /// Any number of requests, one after the other, on one connection.
    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let stream = Arc::new(stream);
        let mut reader = BufReader::new(&*stream);
        while let Some((host, path, client)) = read_head(&mut reader) {
            let (place, asked) = self.begin(host, path, client, &stream);
            let answer = (self.route)(&asked);
            let is_there = stays(&stream, answer.after) && self.thaws(&asked, &stream);
            self.end(place, &asked, if is_there { answer.status } else { 0 });
            if !is_there || answer.status == 0 || write_answer(&stream, &answer).is_err() {
                return;
            }
        }
    }

    fn begin(
        &self,
        host: String,
        path: String,
        client: String,
        stream: &Arc<TcpStream>,
    ) -> (usize, Asked) {
        let mut log = self.log();
        // Under the lock, so that begins are in the order of their times.
        let now = self.began.elapsed();
        log.end_gone(&host, now);
        let before = log.begun.entry(host.clone()).or_default();
        *before += 1;
        let asked = Asked { host, path, client, before: *before - 1 };
        let place = log.seen.len();
        log.seen.push(Seen { asked: asked.clone(), begin: now, end: None, status: 0 });
        log.running.entry(asked.host.clone()).or_default().push((place, Arc::clone(stream)));
        self.changed.notify_all();
        (place, asked)
    }

    /// Before the answer is written: see the module.
    fn end(&self, place: usize, asked: &Asked, status: u16) {
        let mut log = self.log();
        let now = self.began.elapsed();
        let seen = &mut log.seen[place];
        seen.end.get_or_insert(now);
        seen.status = status;
        if let Some(running) = log.running.get_mut(&asked.host) {
            running.retain(|(other, _)| *other != place);
        }
        self.changed.notify_all();
    }

    /// Waits while the client gets no answers; `false`: its connection is gone.
    fn thaws(&self, asked: &Asked, stream: &TcpStream) -> bool {
        while self.log().frozen.contains(&asked.client) {
            if !stays(stream, FROZEN_STEP) {
                return false;
            }
        }
        true
    }
}

impl Log {
    /// What runs on that host on connections that are gone has ended.
    fn end_gone(&mut self, host: &str, now: Duration) {
        let Some(running) = self.running.get_mut(host) else { return };
        running.retain(|(place, stream)| {
            let is_gone = has_hung_up(stream);
            if is_gone {
                self.seen[*place].end = Some(now);
            }
            !is_gone
        });
    }
}

/// Host, path and user agent of the next request; `None`: there is none.
fn read_head(reader: &mut impl BufRead) -> Option<(String, String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let url = url::Url::parse(head.split(' ').nth(1)?).ok()?;
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let client = lines.find(|(name, _)| name.eq_ignore_ascii_case("user-agent"));
    let client = client.map(|(_, value)| value.to_owned()).unwrap_or_default();
    Some((url.host_str()?.to_owned(), url.path().to_owned(), client))
}

/// Whether the client is still there after so long. It says nothing while it waits for an answer.
fn stays(stream: &TcpStream, after: Duration) -> bool {
    let until = Instant::now() + after;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap(),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(stream, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => return true,
            Ok(_) => return !has_hung_up(stream),
            Err(error) => assert_eq!(error, rustix::io::Errno::INTR),
        }
    }
}

/// Whether the other end of a connection is gone.
fn has_hung_up(stream: &TcpStream) -> bool {
    let seen = recv(stream, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    !seen.is_err_and(|error| error == rustix::io::Errno::AGAIN)
}

fn write_answer(mut stream: &TcpStream, answer: &Answer) -> std::io::Result<()> {
    let body = if answer.status == 200 { crate::run::origin::PDF } else { b"" };
    let head = format!(
        "HTTP/1.1 {} Told\r\n{}Content-Length: {}\r\n\r\n",
        answer.status,
        answer.headers,
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())
}
