//! Names to addresses, and only to addresses that may be asked.
//!
//! What this returns is what is connected to: nobody resolves the name a second time, so an answer
//! that changes between the check and the connection (DNS rebinding) cannot get through.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::PollFlags;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Error, Timeout};

use super::address::{self, Refused};
use super::scope;
use crate::job::Mono;

/// How long an answer is used. The HTTP client asks before every request, also on an open connection.
const KEEP: Duration = Duration::from_secs(60);
/// The most names remembered: memory does not grow with the number of hosts.
const MAX_REMEMBERED: usize = 1_024;
/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Asks for the addresses of a name; blocks.
pub(super) type Ask = fn(&str) -> io::Result<Vec<IpAddr>>;

/// The name has no address, or nobody could say.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve {host}: {source}")]
pub(super) struct Unresolved {
    host: String,
    source: io::Error,
}

/// Whose address is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The host of the URL.
    Host,
    /// The host of the URL, which is that of a configured proxy: exempt from the check.
    Proxy,
    /// Always this proxy's, whatever the URL says; exempt from the check.
    ForwardProxy(Box<str>, u16),
}

/// The resolver of one agent.
pub(super) struct CheckedResolver {
    target: Target,
    allow_private: bool,
    ask: Ask,
    remembered: Mutex<HashMap<Box<str>, Answer>>,
}

#[derive(Clone)]
struct Answer {
    addresses: Vec<IpAddr>,
    until: Mono,
}

impl CheckedResolver {
    /// A resolver for `target` that lets private addresses pass only with `allow_private`.
    pub(super) fn new(target: Target, allow_private: bool, ask: Ask) -> CheckedResolver {
        CheckedResolver { target, allow_private, ask, remembered: Mutex::default() }
    }

    fn addresses(&self, host: &str, timeout: NextTimeout) -> Result<Vec<IpAddr>, Error> {
        if let Ok(literal) = host.parse() {
            return Ok(vec![literal]);
        }
        if let Some(known) = self.recall(host) {
            return Ok(known);
        }
        let found = ask_aside(self.ask, host, timeout)?;
        self.remember(host, &found);
        Ok(found)
    }

    fn recall(&self, host: &str) -> Option<Vec<IpAddr>> {
        let now = scope::now()?;
        let remembered = self.remembered.lock();
        remembered.get(host).filter(|answer| now < answer.until).map(|a| a.addresses.clone())
    }

    fn remember(&self, host: &str, addresses: &[IpAddr]) {
        let Some(now) = scope::now() else { return };
        let answer = Answer { addresses: addresses.to_vec(), until: now.plus(KEEP) };
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.retain(|_, answer| now < answer.until);
        }
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(host.into(), answer);
    }

    /// Those of the addresses that may be asked.
    fn permitted(&self, host: &str, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, Error> {
        if self.allow_private || self.target != Target::Host {
            return Ok(found);
        }
        let why = found.iter().find_map(|address| address::not_public(*address));
        let public: Vec<IpAddr> =
            found.into_iter().filter(|address| address::not_public(*address).is_none()).collect();
        match why {
            Some(why) if public.is_empty() => {
                Err(Error::Other(Box::new(Refused { what: host.to_owned(), why })))
            }
            _ => Ok(public),
        }
    }
}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        // A proxy's name is looked up in the midst of connecting: it is a lookup all the same, and tells of no server.
        let timeout = NextTimeout { reason: Timeout::Resolve, ..timeout };
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let (host, port) = match &self.target {
            Target::ForwardProxy(host, port) => (&**host, *port),
            Target::Host | Target::Proxy => {
                let host = uri.host().ok_or(Error::HostNotFound)?;
                (bare(host), uri.port_u16().unwrap_or(default_port))
            }
        };
        let permitted = self.permitted(host, self.addresses(host, timeout)?)?;
        let mut resolved = self.empty();
        for address in permitted.into_iter().take(MAX_ADDRESSES) {
            resolved.push(SocketAddr::new(address, port));
        }
        if resolved.is_empty() { Err(Error::HostNotFound) } else { Ok(resolved) }
    }
}

/// A host without the brackets that an IPv6 address has in a URL.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// Asks the system.
pub(super) fn ask_system(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Asks on a thread of its own, because `getaddrinfo` can neither be cancelled nor given a time limit.
/// A thread that is given up ends by itself when the system does.
fn ask_aside(ask: Ask, host: &str, timeout: NextTimeout) -> Result<Vec<IpAddr>, Error> {
    let (ended, ending) = io::pipe()?;
    let (send, receive) = crossbeam_channel::bounded(1);
    let name = host.to_owned();
    thread::Builder::new().name("orch-dns".to_owned()).spawn(move || {
        // Nobody listens any more when the caller has given up.
        let _ = send.send(ask(&name));
        drop(ending);
    })?;
    scope::wait(&ended, PollFlags::IN, timeout)?;
    let unresolved = |source| Unresolved { host: host.to_owned(), source };
    match receive.try_recv() {
        Ok(Ok(addresses)) => Ok(addresses),
        Ok(Err(source)) => Err(Error::Other(Box::new(unresolved(source)))),
        Err(_) => Err(Error::HostNotFound),
    }
}

impl fmt::Debug for CheckedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckedResolver").field("target", &self.target).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ureq::unversioned::transport::time;

    use super::*;
    use crate::handler::Cancel;

    fn resolve(resolver: &CheckedResolver, uri: &str) -> Result<Vec<String>, Error> {
        let config = Config::builder().proxy(None).build();
        let timeout =
            NextTimeout { after: time::Duration::from_secs(60), ..NextTimeout::default() };
        let found = resolver.resolve(&uri.parse().unwrap(), &config, timeout)?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    fn mixed(host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(match host {
            "rebound.test" => vec!["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            _ => vec!["127.0.0.1".parse().unwrap(), "1.1.1.1".parse().unwrap()],
        })
    }

    #[test]
    fn an_answer_is_stripped_of_private_addresses_and_refused_when_nothing_is_left() {
        let strict = CheckedResolver::new(Target::Host, false, mixed);
        assert_eq!(resolve(&strict, "http://a.test/").unwrap(), ["1.1.1.1:80"]);
        assert_eq!(resolve(&strict, "https://a.test:8443/").unwrap(), ["1.1.1.1:8443"]);
        for uri in ["http://rebound.test/", "http://127.0.0.1/", "http://[::1]/"] {
            let Err(Error::Other(error)) = resolve(&strict, uri) else { panic!("{uri}") };
            assert!(error.is::<Refused>(), "{uri}: {error}");
        }
        let lax = CheckedResolver::new(Target::Host, true, mixed);
        assert_eq!(resolve(&lax, "http://rebound.test/").unwrap().len(), 2);
    }

    #[test]
    fn a_proxy_is_exempt_and_stands_for_every_host() {
        let forward = Target::ForwardProxy("127.0.0.1".into(), 3128);
        let resolver = CheckedResolver::new(forward, false, mixed);
        assert_eq!(resolve(&resolver, "http://a.test/").unwrap(), ["127.0.0.1:3128"]);
    }

    #[test]
    fn an_answer_is_used_for_a_minute_and_then_asked_again() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        fn counted(_: &str) -> io::Result<Vec<IpAddr>> {
            ASKED.fetch_add(1, Ordering::Relaxed);
            Ok(vec!["1.1.1.1".parse().unwrap()])
        }
        let resolver = CheckedResolver::new(Target::Host, false, counted);
        let cancel = std::sync::Arc::new(Cancel::new().unwrap());
        for (now_ms, asked) in [(0, 1), (59_999, 1), (60_000, 2)] {
            let _scope = scope::Scope::enter(&cancel, Mono::from_ms(now_ms));
            resolve(&resolver, "http://a.test/").unwrap();
            assert_eq!(ASKED.load(Ordering::Relaxed), asked, "at {now_ms} ms");
        }
    }

    #[test]
    fn a_lookup_that_hangs_is_given_up_when_the_job_is_cancelled() {
        fn hang(_: &str) -> io::Result<Vec<IpAddr>> {
            thread::park();
            Ok(Vec::new())
        }
        let cancel = std::sync::Arc::new(Cancel::new().unwrap());
        cancel.cancel(crate::handler::CancelReason::Stop);
        let _scope = scope::Scope::enter(&cancel, Mono::default());
        let resolver = CheckedResolver::new(Target::Host, false, hang);
        let Err(Error::Other(error)) = resolve(&resolver, "http://a.test/") else { panic!() };
        assert!(error.is::<scope::Cancelled>());
    }
}
