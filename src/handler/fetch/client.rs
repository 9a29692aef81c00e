//! The HTTP client: one agent per way out (directly, through a proxy), each reusing its connections.
//!
//! Must never follow a redirect, decode a body, keep a cookie, read the environment, or turn a status
//! into an error: all of that is decided above, per job and per hop.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ureq::config::Config;
use ureq::http::{HeaderName, HeaderValue, Response, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector};
use ureq::{Agent, Body, Error, Proxy, ProxyProtocol, RequestBuilder};
use url::Url;

use super::FetchSettings;
use super::dns::{Ask, CheckedResolver, Target};
use super::proxy::NoProxy;
use super::scope::Scope;
use super::transport::{Forward, SocketConnector};
use super::verdict::shown;
use crate::handler::Context;

/// What is accepted. Anything else has a chance too: many servers give PDFs another type, and the bytes
/// decide in the end.
const ACCEPT: &str = "application/pdf, */*;q=0.1";
/// How long an idle connection is kept. Common servers close theirs after 60 to 75 seconds.
const MAX_IDLE: Duration = Duration::from_secs(50);
/// Bytes read from a socket at once.
const INPUT_BUFFER_BYTES: usize = 64 * 1024;
/// Room for one request; the longest URL and its headers fit twice.
const OUTPUT_BUFFER_BYTES: usize = 32 * 1024;

/// Settings with which there can be no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file of certificates cannot be read.
    #[error("fetch.ca_file: {path}: {source}")]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It has no certificate in PEM form, or one that is damaged.
    #[error("fetch.ca_file: {path}: expected certificates in PEM form")]
    NoCertificates {
        /// Which file.
        path: PathBuf,
    },
    /// The proxy is not one we can use. Its text is not repeated: it may hold a password.
    #[error("the proxy for {scheme}: URLs: expected http://[user:password@]host[:port]")]
    Proxy {
        /// For which URLs it was given.
        scheme: &'static str,
    },
    /// Not a text that can stand in a header.
    #[error("fetch.user_agent, fetch.contact_email: expected printable ASCII characters")]
    UserAgent,
}

/// One request. Never shows the values of its headers, which may be keys and cookies, nor its body.
pub(super) struct Request<'a> {
    /// Where.
    pub(super) url: &'a Url,
    /// The body of a POST, in JSON; without one it is a GET.
    pub(super) json: Option<&'a str>,
    /// The `Accept` header.
    pub(super) accept: &'a str,
    /// Further headers.
    pub(super) headers: Vec<(HeaderName, String)>,
}

impl Request<'_> {
    /// A GET of a file.
    pub(super) fn get(url: &Url) -> Request<'_> {
        Request { url, json: None, accept: ACCEPT, headers: Vec::new() }
    }

    fn call(&self, agent: &Agent) -> Result<Response<Body>, Error> {
        match self.json {
            None => self.with_headers(agent.get(self.url.as_str()))?.call(),
            Some(json) => {
                let post = agent.post(self.url.as_str()).content_type("application/json");
                self.with_headers(post)?.send(json)
            }
        }
    }

    fn with_headers<B>(&self, mut builder: RequestBuilder<B>) -> Result<RequestBuilder<B>, Error> {
        if self.accept != ACCEPT {
            builder = builder.header(header::ACCEPT, self.accept);
        }
        for (name, text) in &self.headers {
            let value = HeaderValue::from_str(text).map_err(|error| Error::Http(error.into()))?;
            builder = builder.header(name, secret(value));
        }
        Ok(builder)
    }
}

/// The same value, shown by nobody who prints it.
fn secret(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = if self.json.is_some() { "POST" } else { "GET" };
        let names = self.headers.iter().map(|(name, _)| name.as_str());
        write!(f, "{method} {} {:?}", shown(self.url), names.collect::<Vec<_>>())
    }
}

/// No answer came.
#[derive(Debug)]
pub(super) struct NoAnswer {
    /// Why.
    pub(super) error: Error,
    /// Whether it ended before a proxy of ours had opened the way: whoever was asked is not to blame.
    pub(super) at_proxy: bool,
}

/// Asks for URLs.
pub(super) struct Client {
    direct: Agent,
    http_proxy: Option<Agent>,
    https_proxy: Option<Agent>,
    no_proxy: NoProxy,
}

impl Client {
    /// A client with these settings that asks `ask` for the addresses of names.
    ///
    /// # Errors
    /// [`ClientError`] when a setting cannot be used.
    pub(super) fn new(settings: &FetchSettings, ask: Ask) -> Result<Client, ClientError> {
        let tls = tls_config(settings)?;
        let user_agent = user_agent(settings)?;
        let config = |proxy| config(settings, tls.clone(), &user_agent, proxy);
        let resolver = |target| CheckedResolver::new(target, settings.allow_private_addresses, ask);
        let tunnelling = |proxy: Proxy| {
            let connector =
                ().chain(ConnectProxyConnector::default())
                    .chain(SocketConnector::direct())
                    .chain(RustlsConnector::default());
            Agent::with_parts(config(Some(proxy)), connector, resolver(Target::Proxy))
        };
        let forwarding = |proxy: Proxy| {
            let target = Target::ForwardProxy(proxy.host().into(), proxy.port());
            let forward = Forward { authorization: basic_authorization(&proxy) };
            Agent::with_parts(config(None), SocketConnector::forwarding(forward), resolver(target))
        };
        let connector = ().chain(SocketConnector::direct()).chain(RustlsConnector::default());
        let http_proxy = parse_proxy(settings.proxy.http.as_deref(), "http")?;
        let https_proxy = parse_proxy(settings.proxy.https.as_deref(), "https")?;
        Ok(Client {
            direct: Agent::with_parts(config(None), connector, resolver(Target::Host)),
            http_proxy: http_proxy.map(|proxy| match proxy.protocol() {
                ProxyProtocol::Http => forwarding(proxy),
                // A proxy that is itself reached over TLS: everything through a tunnel.
                _ => tunnelling(proxy),
            }),
            https_proxy: https_proxy.map(tunnelling),
            no_proxy: NoProxy::parse(&settings.proxy.no_proxy),
        })
    }

    /// The agent for this URL, and whether it goes through a proxy.
    fn agent(&self, url: &Url) -> (&Agent, bool) {
        let proxied = if url.scheme() == "https" { &self.https_proxy } else { &self.http_proxy };
        let proxied = proxied.as_ref().filter(|_| !self.no_proxy.covers(url));
        (proxied.unwrap_or(&self.direct), proxied.is_some())
    }

    /// Asks once, on behalf of the job of `context`; again if a connection kept from before turns out to be closed, also
    /// with a POST: ours are searches. What is read of the body must be read while the returned scope lives, so that
    /// a cancelled job stops reading.
    ///
    /// # Errors
    /// [`NoAnswer`]; a status is one.
    pub(super) fn ask(
        &self,
        request: &Request<'_>,
        context: &Context<'_>,
    ) -> Result<(Response<Body>, Scope), NoAnswer> {
        let (agent, is_proxied) = self.agent(request.url);
        let mut asked_again = false;
        loop {
            let scope = Scope::enter(context.cancel(), context.mono());
            match request.call(agent) {
                Ok(response) => return Ok((response, scope)),
                // The server closed an idle connection at the very moment it was used again.
                Err(error) if !asked_again && !scope.has_connected() && is_disconnect(&error) => {
                    asked_again = true;
                }
                Err(error) => {
                    let at_proxy = is_proxied && scope.has_connected() && !scope.was_let_through();
                    return Err(NoAnswer { error, at_proxy });
                }
            }
        }
    }
}

/// Whether the other end went away.
pub(super) fn is_disconnect(error: &Error) -> bool {
    let Error::Io(error) = error else { return false };
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

fn config(
    settings: &FetchSettings,
    tls: TlsConfig,
    user_agent: &str,
    proxy: Option<Proxy>,
) -> Config {
    let per_host = settings.connections_per_host.max(1);
    Agent::config_builder()
        .proxy(proxy)
        .http_status_as_error(false)
        .max_redirects(0)
        .user_agent(user_agent)
        .accept(ACCEPT)
        .accept_encoding("identity")
        .tls_config(tls)
        .timeout_resolve(Some(settings.connect_timeout))
        .timeout_connect(Some(settings.connect_timeout))
        // A head that comes a byte at a time never stands still.
        .timeout_recv_response(Some(settings.read_timeout.saturating_mul(2)))
        .timeout_per_read(Some(settings.read_timeout))
        .timeout_per_write(Some(settings.read_timeout))
        .max_idle_age(MAX_IDLE)
        .max_idle_connections(per_host.saturating_mul(2).max(16))
        .max_idle_connections_per_host(per_host)
        .max_response_header_size(INPUT_BUFFER_BYTES / 2)
        .input_buffer_size(INPUT_BUFFER_BYTES)
        .output_buffer_size(OUTPUT_BUFFER_BYTES)
        .build()
}

/// Who we are and whom to write to: `orch/0.1.0 (mailto:someone@example.org)`.
fn user_agent(settings: &FetchSettings) -> Result<String, ClientError> {
    let text = match &settings.contact_email {
        Some(email) => format!("{} (mailto:{email})", settings.user_agent),
        None => settings.user_agent.clone(),
    };
    let printable = |c: char| c.is_ascii_graphic() || c == ' ';
    if text.chars().all(printable) { Ok(text) } else { Err(ClientError::UserAgent) }
}

fn parse_proxy(text: Option<&str>, scheme: &'static str) -> Result<Option<Proxy>, ClientError> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    match Proxy::new(text) {
        Ok(proxy) if matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) => {
            Ok(Some(proxy))
        }
        Ok(_) | Err(_) => Err(ClientError::Proxy { scheme }),
    }
}

fn basic_authorization(proxy: &Proxy) -> Option<String> {
    let (user, password) = (proxy.username(), proxy.password());
    user.or(password)?;
    let pair = format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default());
    Some(format!("Basic {}", BASE64_STANDARD.encode(pair)))
}

/// The built-in roots, and those of `ca_file` beside them.
fn tls_config(settings: &FetchSettings) -> Result<TlsConfig, ClientError> {
    let Some(path) = &settings.ca_file else {
        return Ok(TlsConfig::builder().root_certs(RootCerts::WebPki).build());
    };
    let pem =
        fs::read(path).map_err(|source| ClientError::CaFile { path: path.clone(), source })?;
    let mut roots: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(ClientError::NoCertificates { path: path.clone() }),
        }
    }
    if roots.is_empty() {
        return Err(ClientError::NoCertificates { path: path.clone() });
    }
    roots.extend(
        webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| Certificate::from_der(der)),
    );
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(roots))).build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::fetch::ProxySettings;

    fn refused(settings: &FetchSettings) -> String {
        let made = Client::new(settings, crate::handler::fetch::dns::ask_system);
        made.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_request_keeps_the_values_of_its_headers_to_itself() {
        let url = Url::parse("http://h.test/a?key=secret").unwrap();
        let headers = vec![(header::AUTHORIZATION, "secret\n".to_owned())];
        let request = Request { json: Some("secret"), headers, ..Request::get(&url) };
        assert_eq!(format!("{request:?}"), "POST http://h.test/a?… [\"authorization\"]");
        let error = request.call(&Agent::new_with_defaults()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        assert_eq!(format!("{:?}", secret(HeaderValue::from_static("x"))), "Sensitive");
    }

    #[test]
    fn settings_that_cannot_be_used_are_named_and_keep_their_secrets() {
        let base = FetchSettings::default();
        for proxy in ["socks5://u:secret@h:1", "ftp://u:secret@h", "http://", "::secret::"] {
            let settings =
                FetchSettings { proxy: ProxySettings::everywhere(proxy), ..base.clone() };
            let message = refused(&settings);
            assert!(message.contains("proxy") && !message.contains("secret"), "{message}");
        }
        let message = refused(&FetchSettings { user_agent: "a\nb".to_owned(), ..base.clone() });
        assert!(message.contains("user_agent"), "{message}");
        let missing = FetchSettings { ca_file: Some("/no/such.pem".into()), ..base.clone() };
        assert!(refused(&missing).contains("/no/such.pem"));
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty = FetchSettings { ca_file: Some(file.path().into()), ..base.clone() };
        assert!(refused(&empty).contains("PEM"));
        let blank = FetchSettings { proxy: ProxySettings::everywhere(" "), ..base };
        assert_eq!(refused(&blank), "");
    }
}
