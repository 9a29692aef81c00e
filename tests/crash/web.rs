//! A web on loopback whose files come in two halves: the second one only when the test lets it pass. So the test knows,
//! without a clock, when bodies are under way.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// How many bytes come before a body breaks off: more than the least that is kept to go on with (64 KiB).
const PIECE_BYTES: usize = 72 * 1_024;
/// How long the test waits for more bodies when one is under way: a job that was lost thrice runs alone.
const PATIENCE: Duration = Duration::from_secs(1);

/// How one comes to a paper, and how it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The line has its URL.
    Plain,
    /// The line has a URL that redirects to it.
    Moved,
    /// Unpaywall knows it.
    Known,
    /// The line has its URL; it breaks off twice, and has a strong ETag: one attempt goes on twice.
    Broken,
    /// Unpaywall knows a URL that is gone and one that redirects; it breaks off four times, which takes a second attempt.
    KnownAndBroken,
}

fn way(paper: usize) -> Way {
    [Way::Plain, Way::Moved, Way::Known, Way::Broken, Way::KnownAndBroken][paper % 5]
}

/// How often a body breaks off before it is served whole.
fn breaks(paper: usize) -> usize {
    match way(paper) {
        Way::Plain | Way::Moved | Way::Known => 0,
        Way::Broken => 2,
        Way::KnownAndBroken => 4,
    }
}

/// A PDF that says which one it is, and no two of whose lines are alike.
fn body(paper: usize) -> Vec<u8> {
    let bytes = match breaks(paper) {
        0 => 4_000 + (paper * 7_919) % 60_000,
        breaks => breaks * PIECE_BYTES + 20_000,
    };
    let mut text = format!("%PDF-1.4\n% paper {paper}\n1 0 obj <</Type /Catalog>> endobj\n");
    while text.len() < bytes {
        let at = text.len();
        text.push_str(&format!("% {paper} at {at:09}\n"));
    }
    text.push_str("startxref\n9\n%%EOF\n");
    text.into_bytes()
}

/// What is under way, and what may go on.
#[derive(Default)]
struct Traffic {
    /// Connections of an earlier run are of an earlier round.
    round: usize,
    /// How many bodies may still have their second half in this round.
    passes: usize,
    /// Bodies of this round that have been let pass and are not yet all sent.
    unsent: usize,
    /// Papers whose body is half way.
    held: Vec<usize>,
    /// In how many rounds each was held to their end.
    cut_short: HashMap<usize, usize>,
    /// Nothing is held any more.
    is_open: bool,
    /// How often anybody asked for anything about each paper.
    asked: HashMap<usize, usize>,
    /// How often Unpaywall was asked for each.
    asked_unpaywall: HashMap<usize, usize>,
    /// How many answers of each broke off.
    broken: HashMap<usize, usize>,
    /// How many answers went on where another had broken off.
    resumed: usize,
}

/// The web; its threads end with the tests.
pub(super) struct Web {
    address: SocketAddr,
    served: Arc<Served>,
}

struct Served {
    address: SocketAddr,
    bodies: Vec<Vec<u8>>,
    traffic: Mutex<Traffic>,
    changed: Condvar,
}

impl Web {
    /// A web of so many papers.
    pub(super) fn of(papers: usize) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let bodies = (0..papers).map(body).collect();
        let served = Served { address, bodies, traffic: Mutex::default(), changed: Condvar::new() };
        let served = Arc::new(served);
        let all = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&all);
                thread::spawn(move || served.serve(stream));
            }
        });
        Web { address, served }
    }

    /// Where Unpaywall is.
    pub(super) fn unpaywall(&self) -> String {
        format!("http://{}/unpaywall", self.address)
    }

    /// A line for every paper.
    pub(super) fn lines(&self) -> Vec<Value> {
        let line = |paper| match way(paper) {
            Way::Plain | Way::Broken => {
                json!({"id": format!("n{paper}"), "url": self.served.url("file", paper)})
            }
            Way::Moved => {
                json!({"id": format!("n{paper}"), "url": self.served.url("moved", paper)})
            }
            Way::Known | Way::KnownAndBroken => json!({"doi": format!("10.1234/n{paper}")}),
        };
        (0..self.served.bodies.len()).map(line).collect()
    }

    /// Which paper a line's job is about.
    pub(super) fn paper_of(artifact_id: &str) -> usize {
        artifact_id.rsplit('n').next().unwrap().parse().unwrap()
    }

    /// Which paper these are the bytes of, all of them.
    pub(super) fn paper_in(&self, bytes: &[u8]) -> Option<usize> {
        self.served.bodies.iter().position(|body| body == bytes)
    }

    /// Another run: of it so many bodies may pass, and what the last one left does not count.
    pub(super) fn begin_round(&self, passes: usize) {
        let mut traffic = self.served.traffic();
        traffic.round += 1;
        (traffic.passes, traffic.unsent) = (passes, 0);
        for paper in std::mem::take(&mut traffic.held) {
            *traffic.cut_short.entry(paper).or_default() += 1;
        }
        self.served.changed.notify_all();
    }

    /// From now on everything passes.
    pub(super) fn open(&self) {
        self.begin_round(0);
        self.served.traffic().is_open = true;
    }

    /// Waits until all that may pass has passed and so many more bodies are half way, or at least one is and no more
    /// come; how many are. `None` when the run is over instead.
    pub(super) fn wait_until_half_way(
        &self,
        wanted: usize,
        mut is_over: impl FnMut() -> bool,
    ) -> Option<usize> {
        let mut traffic = self.served.traffic();
        for _ in 0..120 {
            let not_yet = |traffic: &mut Traffic| {
                traffic.passes > 0 || traffic.unsent > 0 || traffic.held.len() < wanted
            };
            let (now, waited) =
                self.served.changed.wait_timeout_while(traffic, PATIENCE, not_yet).unwrap();
            traffic = now;
            if !waited.timed_out() || (traffic.passes == 0 && !traffic.held.is_empty()) {
                return Some(traffic.held.len());
            }
            if is_over() {
                return None;
            }
        }
        panic!("two minutes, and the bodies that were waited for did not come");
    }

    /// How often anything about a paper was asked, Unpaywall included.
    pub(super) fn asked(&self, paper: usize) -> usize {
        self.served.traffic().asked.get(&paper).copied().unwrap_or(0)
    }

    /// How often Unpaywall was asked for a paper.
    pub(super) fn asked_unpaywall(&self, paper: usize) -> usize {
        self.served.traffic().asked_unpaywall.get(&paper).copied().unwrap_or(0)
    }

    /// How many answers went on where another had broken off.
    pub(super) fn resumed(&self) -> usize {
        self.served.traffic().resumed
    }
}

/// What is asked for.
struct Request {
    kind: String,
    paper: usize,
    /// From which byte on, if the file still has this tag.
    range: Option<(usize, String)>,
}

impl Request {
    /// `None` for what is not about a paper, or is not whole.
    fn read(reader: &mut impl BufRead) -> Option<Request> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let path = head.split([' ', '?']).nth(1)?;
        let kind = path.split('/').nth(1)?.to_owned();
        let paper = path.rsplit(['/', 'n']).next()?.parse().ok()?;
        let from = header("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        Some(Request { kind, paper, range: from.zip(header("if-range")) })
    }
}

impl Served {
    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap()
    }

    fn url(&self, kind: &str, paper: usize) -> String {
        format!("http://{}/{kind}/{paper}", self.address)
    }

    /// One request a connection. A client that is gone is no failure of ours.
    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let request = Request::read(&mut reader);
        let mut stream = reader.into_inner();
        let Some(request) = request.filter(|request| request.paper < self.bodies.len()) else {
            return tell(&mut stream, "404 Not Found", "", b"");
        };
        let paper = request.paper;
        let mut traffic = self.traffic();
        *traffic.asked.entry(paper).or_default() += 1;
        if request.kind == "unpaywall" {
            *traffic.asked_unpaywall.entry(paper).or_default() += 1;
        }
        drop(traffic);
        match &*request.kind {
            "moved" => {
                let location = format!("Location: {}\r\n", self.url("file", paper));
                tell(&mut stream, "302 Found", &location, b"");
            }
            "unpaywall" => {
                let json = "Content-Type: application/json\r\n";
                tell(&mut stream, "200 OK", json, self.known(paper).to_string().as_bytes());
            }
            "file" => {
                // Hung up, as everybody does whose process was killed.
                let _ = self.send(&request, &mut stream);
            }
            _ => tell(&mut stream, "410 Gone", "", b""),
        }
    }

    /// What Unpaywall knows of a paper.
    fn known(&self, paper: usize) -> Value {
        let kinds: &[&str] =
            if way(paper) == Way::KnownAndBroken { &["gone", "moved"] } else { &["file"] };
        let location = |kind: &&str| json!({"url_for_pdf": self.url(kind, paper)});
        let locations: Vec<Value> = kinds.iter().map(location).collect();
        let doi = format!("10.1234/n{paper}");
        json!({"doi": doi, "is_oa": true, "best_oa_location": null, "oa_locations": locations})
    }

    /// Sends a file, or what is left of it; breaks off in its midst where it does that, and else waits there.
    fn send(&self, request: &Request, stream: &mut TcpStream) -> std::io::Result<()> {
        let paper = request.paper;
        let body = &self.bodies[paper];
        let breaks = breaks(paper);
        let tag = format!("\"{paper}\"");
        let from = request
            .range
            .as_ref()
            .filter(|(from, if_tag)| breaks > 0 && *if_tag == tag && *from < body.len());
        let from = from.map(|(from, _)| *from);
        let rest = &body[from.unwrap_or(0)..];
        let mut head = format!(
            "HTTP/1.1 {}\r\nConnection: close\r\nContent-Type: application/pdf\r\nContent-Length: {}\r\n",
            if from.is_some() { "206 Partial Content" } else { "200 OK" },
            rest.len()
        );
        if breaks > 0 {
            head.push_str(&format!("ETag: {tag}\r\nAccept-Ranges: bytes\r\n"));
        }
        if let Some(from) = from {
            let (last, total) = (body.len() - 1, body.len());
            head.push_str(&format!("Content-Range: bytes {from}-{last}/{total}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        if self.breaks_off(paper, from.is_some()) && rest.len() > PIECE_BYTES {
            return stream.write_all(&rest[..PIECE_BYTES]);
        }
        let (first, second) = rest.split_at(rest.len() / 2);
        stream.write_all(first)?;
        let Some(round) = self.pass(paper, stream)? else { return Ok(()) };
        let sent = stream.write_all(second);
        let mut traffic = self.traffic();
        if traffic.round == round {
            traffic.unsent -= 1;
            self.changed.notify_all();
        }
        sent
    }

    /// Whether this answer breaks off.
    fn breaks_off(&self, paper: usize, is_rest: bool) -> bool {
        let mut traffic = self.traffic();
        traffic.resumed += usize::from(is_rest);
        let broken = traffic.broken.entry(paper).or_default();
        *broken += 1;
        *broken <= breaks(paper)
    }

    /// A body is half way: waits until it may pass, and says in which round that was; `None`: its client is gone.
    fn pass(&self, paper: usize, stream: &TcpStream) -> std::io::Result<Option<usize>> {
        let mut traffic = self.traffic();
        let round = traffic.round;
        if has_hung_up(stream)? {
            return Ok(None);
        }
        // Killed under it twice: once more, and its job would run with nothing beside it.
        let is_spared = traffic.cut_short.get(&paper).is_some_and(|rounds| *rounds >= 2);
        if is_spared {
            traffic.unsent += 1;
            return Ok(Some(round));
        }
        traffic.held.push(paper);
        self.changed.notify_all();
        let held = |traffic: &mut Traffic| {
            traffic.round == round && traffic.passes == 0 && !traffic.is_open
        };
        traffic = self.changed.wait_while(traffic, held).unwrap();
        if traffic.round != round {
            return Ok(None);
        }
        traffic.held.retain(|one| *one != paper);
        traffic.passes = traffic.passes.saturating_sub(1);
        traffic.unsent += 1;
        Ok(Some(round))
    }
}

/// Whether the other end of a connection is gone.
fn has_hung_up(stream: &TcpStream) -> std::io::Result<bool> {
    stream.set_nonblocking(true)?;
    let seen = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    Ok(!seen.is_err_and(|error| error.kind() == ErrorKind::WouldBlock))
}

fn tell(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
}
