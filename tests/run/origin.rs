//! An origin on loopback: answers each path as it is told, and counts how often it was asked.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A whole, if dull, PDF.
pub(crate) const PDF: &[u8] = b"%PDF-1.4\n1 0 obj <</Type /Catalog>> endobj\nstartxref\n9\n%%EOF\n";

/// An answer: status, headers (each with its line end), body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Answer {
        Answer { status: 200, headers: "", body: body.into() }
    }

    pub(crate) fn of(status: u16, headers: &'static str) -> Answer {
        Answer { status, headers, body: Vec::new() }
    }
}

/// Answers by path and how often that was asked before.
type Route = dyn Fn(&str, usize) -> Answer + Send + Sync;

/// The origin; its threads end with the tests.
pub(crate) struct Origin {
    address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Origin {
    pub(crate) fn start(route: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let (route, counts): (Arc<Route>, _) = (Arc::new(route), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (route, counts) = (Arc::clone(&route), Arc::clone(&counts));
                thread::spawn(move || answer(stream, &*route, &counts));
            }
        });
        Origin { address, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How often that path was asked.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().get(path).copied().unwrap_or(0)
    }
}

/// One request a connection.
fn answer(stream: TcpStream, route: &Route, counts: &Mutex<HashMap<String, usize>>) {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).is_ok_and(|read| read == 0) {
            return;
        }
    }
    let path = head.split(' ').nth(1).unwrap_or_default();
    let before = {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(path.to_owned()).or_default();
        *count += 1;
        *count - 1
    };
    let Answer { status, headers, body } = route(path, before);
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Told\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    // A client that has seen enough hangs up.
    let _ = reader.get_mut().write_all(&[head.as_bytes(), &body].concat());
}
