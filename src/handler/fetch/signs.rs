//! What becomes of a request, as far as it tells of whoever was asked: told to the gate, once for each request.
//!
//! | what became of it | what the gate is told |
//! |---|---|
//! | no connection, no TLS, no HTTP | failed |
//! | too slow: to connect, to begin, in the midst of the body | failed, overloaded |
//! | 429 | told to slow down |
//! | 503 | failed, told to slow down |
//! | any other 5xx | failed |
//! | any other status, its body to the end | answered |
//! | no address, a refused address, a proxy in the way, our own trouble, cancelled | nothing |
//!
//! That a body breaks off or is not what was wanted is no sign: its server was there.
//!
//! Must never hold our own trouble against a server, nor tell two things of one request that contradict each other: an answer
//! counts when its body has ended, for one that stands still in the midst was none.

use std::io::ErrorKind;
use std::time::Duration;

use ureq::http::StatusCode;
use ureq::{Error, Timeout};

use super::client::NoAnswer;
use super::download;
use crate::handler::Context;
use crate::job::{Key, LimitKey, Mono};

/// Whom a request was sent to, and when: those whose answer it is.
#[derive(Debug)]
pub(super) struct Asked {
    whom: Vec<LimitKey>,
    at: Mono,
}

/// What a request that was not answered tells of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Failed,
    TimedOut,
    Nothing,
}

impl Asked {
    /// A request under `key` that is being sent now. A service answers for its host and for itself. Of a file the limit it counts
    /// under may be one that a line chose for many hosts: what one of them does says nothing of the others.
    pub(super) fn now(key: &Key, speaks_for_resolver: bool, context: &Context<'_>) -> Asked {
        let speaks = |part: &LimitKey| speaks_for_resolver || matches!(part, LimitKey::Host(_));
        Asked { whom: key.limits().filter(speaks).collect(), at: context.mono() }
    }

    /// No answer came.
    pub(super) fn unanswered(&self, why: &NoAnswer, context: &Context<'_>) {
        match sign_of(why) {
            Sign::Failed => self.failed(context),
            Sign::TimedOut => self.timed_out(context),
            Sign::Nothing => {}
        }
    }

    /// The head of an answer came. Returns when, where what is to be told depends on how the body ends: see [`Asked::ended`].
    pub(super) fn headed(&self, status: StatusCode, context: &Context<'_>) -> Option<Mono> {
        if status.is_server_error() {
            self.failed(context);
        }
        let is_proper = !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS;
        is_proper.then(|| context.mono())
    }

    /// The body has ended, or is given up, of an answer whose head came at `headed_at`.
    pub(super) fn ended(&self, headed_at: Mono, has_timed_out: bool, context: &Context<'_>) {
        if has_timed_out {
            self.timed_out(context);
        } else if !download::is_cancelled(context) {
            self.whom.iter().for_each(|key| context.answered(key, self.at, headed_at));
        }
    }

    /// The answer says to slow down. Returns until when everybody does.
    pub(super) fn told(&self, after: Option<Duration>, context: &Context<'_>) -> Option<Mono> {
        self.whom.iter().map(|key| context.hold(key, self.at, after)).max()
    }

    fn failed(&self, context: &Context<'_>) {
        self.whom.iter().for_each(|key| context.failed(key, self.at));
    }

    fn timed_out(&self, context: &Context<'_>) {
        self.failed(context);
        self.whom.iter().for_each(|key| context.overloaded(key, self.at));
    }
}

fn sign_of(NoAnswer { error, at_proxy }: &NoAnswer) -> Sign {
    match error {
        _ if *at_proxy => Sign::Nothing,
        // Names are looked up by this machine.
        Error::Timeout(Timeout::Resolve) => Sign::Nothing,
        Error::Timeout(_) => Sign::TimedOut,
        Error::Io(error) => match error.kind() {
            ErrorKind::TimedOut => Sign::TimedOut,
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof
            | ErrorKind::HostUnreachable
            // What rustls says.
            | ErrorKind::InvalidData => Sign::Failed,
            // No descriptor or port left, no network: ours.
            _ => Sign::Nothing,
        },
        Error::ConnectionFailed
        | Error::Protocol(_)
        | Error::Tls(_)
        | Error::TlsRequired
        | Error::Rustls(_) => Sign::Failed,
        // Cancelled, refused addresses, names without one, URLs that are none.
        _ => Sign::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::scope::Cancelled;
    use super::*;
    use crate::handler::CancelReason;

    #[test]
    fn only_what_is_not_our_own_trouble_tells_of_a_server() {
        let io = |kind| Error::Io(io::Error::from(kind));
        for (error, expected) in [
            (io(ErrorKind::ConnectionRefused), Sign::Failed),
            (io(ErrorKind::ConnectionReset), Sign::Failed),
            (io(ErrorKind::UnexpectedEof), Sign::Failed),
            (io(ErrorKind::HostUnreachable), Sign::Failed),
            (io(ErrorKind::InvalidData), Sign::Failed),
            (Error::Tls("bad"), Sign::Failed),
            (Error::ConnectionFailed, Sign::Failed),
            (Error::Timeout(Timeout::Connect), Sign::TimedOut),
            (Error::Timeout(Timeout::PerRead), Sign::TimedOut),
            (Error::Timeout(Timeout::RecvResponse), Sign::TimedOut),
            (io(ErrorKind::TimedOut), Sign::TimedOut),
            (Error::Timeout(Timeout::Resolve), Sign::Nothing),
            (Error::HostNotFound, Sign::Nothing),
            (io(ErrorKind::NetworkUnreachable), Sign::Nothing),
            (io(ErrorKind::AddrNotAvailable), Sign::Nothing),
            (io(ErrorKind::PermissionDenied), Sign::Nothing),
            (Error::ConnectProxyFailed("403".into()), Sign::Nothing),
            (Error::BadUri("x".into()), Sign::Nothing),
            (Error::Other(Box::new(Cancelled(CancelReason::Deadline))), Sign::Nothing),
        ] {
            let mut why = NoAnswer { error, at_proxy: false };
            assert_eq!(sign_of(&why), expected, "{why:?}");
            why.at_proxy = true;
            assert_eq!(sign_of(&why), Sign::Nothing, "{why:?}");
        }
    }
}
