//! The sockets below the HTTP client: every wait can be cancelled, every address gets its turn.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, connect, sockopt};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, time,
};
use ureq::{Error, Timeout};

use super::scope;

/// The least time one address is given, however many there are.
const MIN_PER_ADDRESS: Duration = Duration::from_millis(50);
/// The most hosts whose address family is remembered.
const MAX_FAMILIES: usize = 4_096;

/// How a plain request is sent through a proxy (RFC 9112, section 3.2.2): the whole URL in its first line.
pub(super) struct Forward {
    /// The value of `Proxy-Authorization`, where the proxy wants one.
    pub(super) authorization: Option<String>,
}

/// Opens sockets.
#[derive(Default)]
pub(super) struct SocketConnector {
    forward: Option<Arc<Forward>>,
    /// By host: whether an IPv6 address answered last.
    answered_v6: Mutex<HashMap<Box<str>, bool>>,
}

impl SocketConnector {
    /// A connector to the hosts themselves.
    pub(super) fn direct() -> SocketConnector {
        SocketConnector::default()
    }

    /// A connector to a proxy that passes plain requests on.
    pub(super) fn forwarding(forward: Forward) -> SocketConnector {
        SocketConnector { forward: Some(Arc::new(forward)), ..SocketConnector::default() }
    }

    /// The addresses of a host, those first whose family answered last time.
    fn ordered(&self, host: &str, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut ordered = addresses.to_vec();
        if let Some(v6) = self.answered_v6.lock().get(host).copied() {
            ordered.sort_by_key(|address| address.is_ipv6() != v6);
        }
        ordered
    }

    fn remember(&self, host: &str, address: SocketAddr) {
        let mut answered = self.answered_v6.lock();
        if answered.len() >= MAX_FAMILIES && !answered.contains_key(host) {
            answered.clear();
        }
        answered.insert(host.into(), address.is_ipv6());
    }

    fn open(&self, details: &ConnectionDetails) -> Result<TcpStream, Error> {
        let host = details.uri.host().unwrap_or_default();
        let addresses = self.ordered(host, &details.addrs);
        let mut last = Error::ConnectionFailed;
        for (index, address) in addresses.iter().enumerate() {
            let left = left_of(details);
            if left.after.is_zero() {
                return Err(Error::Timeout(Timeout::Connect));
            }
            match open_one(*address, share(left, addresses.len() - index)) {
                Ok(stream) => {
                    self.remember(host, *address);
                    return Ok(stream);
                }
                Err(error @ Error::Other(_)) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// What is left of the time to connect in.
fn left_of(details: &ConnectionDetails) -> NextTimeout {
    let mut left = details.timeout;
    let (began, now) = (details.now, (details.current_time)());
    if let (time::Duration::Exact(after), time::Instant::Exact(began), time::Instant::Exact(now)) =
        (left.after, began, now)
    {
        let spent = now.saturating_duration_since(began);
        left.after = time::Duration::Exact(after.saturating_sub(spent));
    }
    left
}

/// One address's part of the time: half of what is left, the last one all of it.
fn share(mut left: NextTimeout, addresses_left: usize) -> NextTimeout {
    if let time::Duration::Exact(after) = left.after
        && addresses_left > 1
    {
        left.after = time::Duration::Exact((after / 2).max(MIN_PER_ADDRESS).min(after));
    }
    left
}

fn open_one(address: SocketAddr, timeout: NextTimeout) -> Result<TcpStream, Error> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = new_socket(family)?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => {
            scope::wait(&socket, PollFlags::OUT, timeout)?;
            let outcome = sockopt::socket_error(&socket).map_err(io::Error::from)?;
            outcome.map_err(io::Error::from)?;
        }
        Err(error) => return Err(io::Error::from(error).into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A socket that never blocks and that no command we start inherits.
#[cfg(target_os = "linux")]
fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    use rustix::net::{SocketFlags, socket_with};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

/// A socket that never blocks and that no command we start inherits.
#[cfg(not(target_os = "linux"))]
fn new_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

impl<In: Transport> Connector<In> for SocketConnector {
    type Out = Either<In, SocketTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if let Some(tunnel) = chained {
            scope::note_let_through();
            return Ok(Some(Either::A(tunnel)));
        }
        scope::note_connected();
        let stream = self.open(details)?;
        if self.forward.is_some() {
            scope::note_let_through();
        }
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        let forward = self.forward.clone().map(|forward| {
            let authority = details.uri.authority().map(|a| a.as_str()).unwrap_or_default();
            let host = authority.rsplit('@').next().unwrap_or_default();
            (format!("http://{host}"), forward)
        });
        Ok(Some(Either::B(SocketTransport { stream, buffers, forward })))
    }
}

impl fmt::Debug for SocketConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketConnector").finish_non_exhaustive()
    }
}

/// One open socket.
pub(super) struct SocketTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
    /// Where requests are for (`http://host:port`), when the other end is a proxy that passes them on.
    forward: Option<(String, Arc<Forward>)>,
}

impl SocketTransport {
    fn write_all(
        mut stream: &TcpStream,
        mut bytes: &[u8],
        timeout: NextTimeout,
    ) -> Result<(), Error> {
        while !bytes.is_empty() {
            scope::check()?;
            match stream.write(bytes) {
                Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero).into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    scope::wait(&stream, PollFlags::OUT, timeout)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = &self.buffers.output()[..amount];
        let timeout = timeout.for_write();
        match &self.forward {
            Some((origin, forward)) => {
                let output = absolute_form(output, origin, forward.authorization.as_deref());
                SocketTransport::write_all(&self.stream, &output, timeout)
            }
            None => SocketTransport::write_all(&self.stream, output, timeout),
        }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        loop {
            // Also while bytes keep coming: a stream without an end must not outlive its job.
            scope::check()?;
            match (&self.stream).read(self.buffers.input_append_buf()) {
                Ok(read) => {
                    self.buffers.input_appended(read);
                    return Ok(read > 0);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let came = scope::wait(&self.stream, PollFlags::IN, timeout);
                    if matches!(came, Err(Error::Timeout(_))) {
                        // Also where nobody wants this body: that it stands still tells of the server.
                        scope::note_timeout();
                    }
                    came?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        // Bytes nobody asked for are as bad as an end: the next answer would begin with them.
        let read = (&self.stream).read(&mut [0]);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

impl fmt::Debug for SocketTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketTransport").field("peer", &self.stream.peer_addr().ok()).finish()
    }
}

/// A request as a proxy wants it. Only the beginning of a request starts like this, for our bodies are JSON; every other
/// piece of output passes unchanged.
fn absolute_form(output: &[u8], origin: &str, authorization: Option<&str>) -> Vec<u8> {
    let line_end = output.windows(2).position(|pair| pair == b"\r\n");
    let method = [&b"GET "[..], b"POST "].into_iter().find(|method| output.starts_with(method));
    let (Some(method), Some(line_end)) = (method, line_end) else {
        return output.to_vec();
    };
    let credentials =
        authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    let rest_of_line = &output[method.len()..line_end + 2];
    let headers = &output[line_end + 2..];
    [method, origin.as_bytes(), rest_of_line, credentials.as_bytes(), headers].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_to_a_proxy_names_the_whole_url() {
        let ask = |bytes: &[u8], credentials| {
            String::from_utf8(absolute_form(bytes, "http://h:81", credentials)).unwrap()
        };
        assert_eq!(
            ask(b"GET /a?b HTTP/1.1\r\nhost: h:81\r\n\r\n", None),
            "GET http://h:81/a?b HTTP/1.1\r\nhost: h:81\r\n\r\n"
        );
        assert_eq!(
            ask(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n", Some("Basic eA==")),
            "GET http://h:81/ HTTP/1.1\r\nProxy-Authorization: Basic eA==\r\nhost: h\r\n\r\n"
        );
        assert_eq!(
            ask(b"POST /a HTTP/1.1\r\nhost: h\r\n\r\n{}", None),
            "POST http://h:81/a HTTP/1.1\r\nhost: h\r\n\r\n{}"
        );
        assert_eq!(ask(b"{\"a\":\r\n1}", None), "{\"a\":\r\n1}");
        assert_eq!(ask(b"accept: x\r\n\r\n", None), "accept: x\r\n\r\n");
    }

    #[test]
    fn the_family_that_answered_comes_first_next_time() {
        let connector = SocketConnector::direct();
        let v6: SocketAddr = "[2606:4700::1]:80".parse().unwrap();
        let v4: SocketAddr = "1.1.1.1:80".parse().unwrap();
        assert_eq!(connector.ordered("h", &[v6, v4]), [v6, v4]);
        connector.remember("h", v4);
        assert_eq!(connector.ordered("h", &[v6, v4]), [v4, v6]);
        assert_eq!(connector.ordered("other", &[v6, v4]), [v6, v4]);
    }

    #[test]
    fn the_last_address_gets_all_the_time_that_is_left() {
        let left = NextTimeout { after: time::Duration::from_secs(8), ..NextTimeout::default() };
        assert_eq!(share(left, 3).after, time::Duration::from_secs(4));
        assert_eq!(share(left, 1).after, time::Duration::from_secs(8));
        let short = NextTimeout { after: time::Duration::from_millis(60), ..left };
        assert_eq!(share(short, 2).after, time::Duration::from_millis(50));
    }
}
