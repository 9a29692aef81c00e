//! A small web server on 127.0.0.1 that has as many files as one asks for, and one client that reads them.
//!
//! Must never listen on, or connect to, anything else, nor look at a disk: it stands for a network.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The longest head of a request or an answer that is read.
const MAX_HEAD_BYTES: u64 = 16 * 1_024;

/// The server; its threads end with it, and with the connections of its clients.
pub(super) struct Origin {
    address: SocketAddr,
    over: Arc<AtomicBool>,
}

impl Origin {
    /// Serves `/N.pdf`, a file of `bytes` bytes that differs with N, on a port that the system chooses.
    ///
    /// # Errors
    /// When no port or thread is to be had.
    pub(super) fn start(bytes: usize) -> io::Result<Origin> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let origin = Origin { address: listener.local_addr()?, over: Arc::default() };
        let over = Arc::clone(&origin.over);
        let file: Arc<[u8]> = file(bytes).into();
        thread::Builder::new().name("bench-origin".to_owned()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Acquire) {
                    return;
                }
                let file = Arc::clone(&file);
                // Without a thread the connection is dropped, which its client says; and one that hangs up is not our trouble.
                let _ = thread::Builder::new().spawn(move || converse(&stream, &file));
            }
        })?;
        Ok(origin)
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the listener, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers one connection's requests in turn, for as long as the client keeps it.
fn converse(stream: &TcpStream, file: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut answer = Vec::new();
    while let Some(first) = head(&mut reader, |_| {})? {
        let target = first.split(' ').nth(1).unwrap_or_default();
        let number = target.strip_prefix('/').and_then(|rest| rest.strip_suffix(".pdf"));
        answer.clear();
        match number.and_then(|number| number.parse::<u64>().ok()) {
            None => {
                answer.extend_from_slice(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            }
            Some(number) => {
                let length = file.len();
                write!(
                    answer,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\nContent-Length: {length}\r\n\r\n"
                )?;
                let body_at = answer.len();
                answer.extend_from_slice(file);
                // In the place that the file keeps for it.
                let digits = format!("{number:020}");
                answer[body_at + NUMBER_AT..][..digits.len()].copy_from_slice(digits.as_bytes());
            }
        }
        (&*stream).write_all(&answer)?;
    }
    Ok(())
}

/// Before the number in a file.
const OPENING: &[u8] = b"%PDF-1.4\n% ";
const NUMBER_AT: usize = OPENING.len();
/// The fewest bytes a file has: its opening, its number, a line end and its end.
const ENDING: &[u8] = b"\nstartxref\n9\n%%EOF\n";

/// What passes for a PDF, with room for a number.
fn file(bytes: usize) -> Vec<u8> {
    let mut file = [OPENING, &[b'0'; 20], b"\n"].concat();
    file.resize(bytes.saturating_sub(ENDING.len()).max(file.len()), b'x');
    file.extend_from_slice(ENDING);
    file
}

/// The first line of a request or an answer, after `each` has seen the lines that follow it; `None` when there is none.
fn head(
    reader: &mut BufReader<&TcpStream>,
    mut each: impl FnMut(&str),
) -> io::Result<Option<String>> {
    let mut head = reader.take(MAX_HEAD_BYTES);
    let mut first = String::new();
    if head.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut line = String::new();
    while head.read_line(&mut line)? > 0 {
        if line.trim_end().is_empty() {
            return Ok(Some(first));
        }
        each(line.trim_end());
        line.clear();
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// A connection that is kept from file to file.
pub(super) struct Client {
    stream: TcpStream,
    address: SocketAddr,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When the server does not listen.
    pub(super) fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, address })
    }

    /// Reads `/N.pdf` into `body`, in place of what was there.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is no file.
    pub(super) fn read(&mut self, number: usize, body: &mut Vec<u8>) -> io::Result<()> {
        let request = format!("GET /{number}.pdf HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        (&self.stream).write_all(request.as_bytes())?;
        // Nothing follows an answer that was asked for by one request, so no byte is lost with the reader.
        let mut reader = BufReader::with_capacity(32 * 1_024, &self.stream);
        let mut length = None;
        let first = head(&mut reader, |line| {
            let value = line.strip_prefix("Content-Length: ");
            length = value.and_then(|value| value.parse::<u64>().ok()).or(length);
        })?;
        let is_ok = first.is_some_and(|first| first.starts_with("HTTP/1.1 200 "));
        let length = length.filter(|_| is_ok).ok_or(io::ErrorKind::InvalidData)?;
        body.clear();
        let read = reader.take(length).read_to_end(body)?;
        if read as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_bytes_that_were_asked_for_and_differ() {
        let origin = Origin::start(20_000).unwrap();
        let mut client = Client::connect(origin.address()).unwrap();
        let (mut one, mut other) = (Vec::new(), Vec::new());
        client.read(1, &mut one).unwrap();
        client.read(2, &mut other).unwrap();
        assert_eq!((one.len(), other.len()), (20_000, 20_000));
        assert_ne!(one, other);
        assert!(one.starts_with(b"%PDF-") && one.ends_with(b"%%EOF\n"));
    }

    #[test]
    fn what_it_does_not_have_it_says() {
        let origin = Origin::start(100).unwrap();
        let mut stream = TcpStream::connect(origin.address()).unwrap();
        stream.write_all(b"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut reader = BufReader::new(&stream);
        let first = head(&mut reader, |_| {}).unwrap().unwrap();
        assert_eq!(first, "HTTP/1.1 404 Not Found\r\n");
    }
}
