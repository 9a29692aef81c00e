//! A server on loopback that answers each request with the bytes it is told, and then does what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What was asked.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// As in the first line: a path, a whole URL, or `host:port`.
    pub(super) target: String,
    /// Everything up to the blank line.
    pub(super) head: String,
    /// How often this target was asked before.
    pub(super) before: usize,
    /// On which connection, from 0.
    pub(super) connection: usize,
}

/// What to answer, and what to do then.
pub(super) struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

/// What a server does after an answer.
enum Then {
    NextRequest,
    Close,
    Silence,
    KeepSending(Box<dyn FnMut() -> Vec<u8>>),
}

impl Reply {
    /// These bytes, head and all, then ready for the next request.
    pub(super) fn raw(bytes: impl Into<Vec<u8>>) -> Reply {
        Reply { bytes: bytes.into(), then: Then::NextRequest }
    }

    /// A status with headers (each with its line end) and a body of declared length.
    pub(super) fn of(status: u16, headers: &str, body: &[u8]) -> Reply {
        let length = body.len();
        let head = format!("HTTP/1.1 {status} Told\r\n{headers}Content-Length: {length}\r\n\r\n");
        Reply::raw([head.as_bytes(), body].concat())
    }

    /// 200 with this body.
    pub(super) fn ok(body: &[u8]) -> Reply {
        Reply::of(200, "", body)
    }

    /// A redirect to there.
    pub(super) fn to(location: &str) -> Reply {
        Reply::of(302, &format!("Location: {location}\r\n"), b"moved")
    }

    /// The same, then the connection is closed.
    pub(super) fn then_close(self) -> Reply {
        Reply { then: Then::Close, ..self }
    }

    /// The same, then one such piece after the other until the other end goes away.
    pub(super) fn then_keep_sending(self, piece: impl FnMut() -> Vec<u8> + 'static) -> Reply {
        Reply { then: Then::KeepSending(Box::new(piece)), ..self }
    }

    /// The same, then nothing more until the other end goes away.
    pub(super) fn then_silence(self) -> Reply {
        Reply { then: Then::Silence, ..self }
    }
}

type Route = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server. Its threads end with the connections of its clients, or with the tests.
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// A server that answers as `route` says.
    pub(super) fn start(route: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Server {
        Server::serve(Arc::new(route), Ok)
    }

    /// The same over TLS.
    pub(super) fn start_tls(
        config: Arc<ServerConfig>,
        route: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Server {
        Server::serve(Arc::new(route), move |stream| {
            let session = ServerConnection::new(Arc::clone(&config));
            Ok(StreamOwned::new(session.map_err(std::io::Error::other)?, stream))
        })
    }

    fn serve<S: Read + Write>(
        route: Arc<Route>,
        wrap: impl Fn(TcpStream) -> std::io::Result<S> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (log, wrap) = (Arc::clone(&seen), Arc::new(wrap));
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().flatten().enumerate() {
                let (route, log, wrap) = (Arc::clone(&route), Arc::clone(&log), Arc::clone(&wrap));
                thread::spawn(move || {
                    if let Ok(stream) = wrap(stream) {
                        converse(stream, connection, &*route, &log);
                    }
                });
            }
        });
        Server { address, seen }
    }

    /// A URL on this server.
    pub(super) fn url(&self, path: &str) -> String {
        self.url_as("127.0.0.1", path)
    }

    /// A URL on this server under another name.
    pub(super) fn url_as(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.address.port())
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked so far.
    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().clone()
    }

    /// The targets it was asked for so far.
    pub(super) fn targets(&self) -> Vec<String> {
        self.seen().into_iter().map(|request| request.target).collect()
    }
}

/// Reads the head of a request; `None` when there is none.
pub(super) fn read_head(reader: &mut impl BufRead) -> Option<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let target = head.split(' ').nth(1)?.to_owned();
    Some((target, head))
}

fn converse(
    stream: impl Read + Write,
    connection: usize,
    route: &Route,
    log: &Mutex<Vec<Request>>,
) {
    let mut reader = BufReader::new(stream);
    while let Some((target, head)) = read_head(&mut reader) {
        let request = {
            let mut log = log.lock();
            let before = log.iter().filter(|seen| seen.target == target).count();
            log.push(Request { target, head, before, connection });
            log[log.len() - 1].clone()
        };
        let reply = route(&request);
        let stream = reader.get_mut();
        if stream.write_all(&reply.bytes).and_then(|()| stream.flush()).is_err() {
            return;
        }
        match reply.then {
            Then::NextRequest => {}
            Then::Close => return,
            Then::KeepSending(mut piece) => {
                while stream.write_all(&piece()).and_then(|()| stream.flush()).is_ok() {}
                return;
            }
            Then::Silence => {
                let _ = reader.read_to_end(&mut Vec::new());
                return;
            }
        }
    }
}
