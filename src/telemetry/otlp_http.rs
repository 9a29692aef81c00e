//! The HTTP client under the OTLP exporters: a blocking request, on the SDK's own threads.
//!
//! Must never retry or wait beyond its timeout, and never log a header. The exporter above it knows how
//! to retry; the threads that run a queue never come here.

use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tracing::{debug, warn};

use super::otel_settings::Signal;
use super::text::one_line;

/// The most of an answer that is read; a collector answers with a few bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Posts to one endpoint.
pub(super) struct OtlpHttp {
    agent: ureq::Agent,
    shown_endpoint: String,
    trouble: Arc<Trouble>,
}

/// Says once in a process's life that the collector does not take what it is sent.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    said: AtomicBool,
}

impl OtlpHttp {
    pub(super) fn new(signal: &Signal, trouble: Arc<Trouble>) -> OtlpHttp {
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(signal.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false);
        if is_local(signal) {
            // ureq takes its proxy from the environment; a collector on this machine is not behind it.
            config = config.proxy(None);
        }
        OtlpHttp {
            agent: config.build().new_agent(),
            shown_endpoint: signal.shown_endpoint(),
            trouble,
        }
    }

    fn post(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = request.into_parts();
        let answer = self.agent.run(Request::from_parts(head, body.as_ref()))?;
        let (head, mut body) = answer.into_parts();
        let body = body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        Ok(Response::from_parts(head, Bytes::from(body)))
    }

    fn note(&self, answer: &Result<Response<Bytes>, ureq::Error>) {
        match answer {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => self.trouble.say(&self.shown_endpoint, &answer.status()),
            Err(error) => self.trouble.say(&self.shown_endpoint, error),
        }
    }
}

fn is_local(signal: &Signal) -> bool {
    match signal.endpoint.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

impl Trouble {
    fn say(&self, endpoint: &str, what: &dyn fmt::Display) {
        let what = what.to_string();
        let what = one_line(&what);
        if self.said.swap(true, Ordering::Relaxed) {
            debug!(target: "orch::otel", endpoint, "the collector does not take telemetry: {what}");
        } else {
            warn!(
                target: "orch::otel",
                endpoint,
                "the collector does not take telemetry, which is lost meanwhile; jobs are not \
                 affected, and this is said once: {what}"
            );
        }
    }
}

/// Without the agent: its configuration may hold a proxy's password.
impl fmt::Debug for OtlpHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpHttp").field("endpoint", &self.shown_endpoint).finish_non_exhaustive()
    }
}

/// Written out, where others use the `async_trait` macro: the request is over when the future is made.
impl HttpClient for OtlpHttp {
    fn send_bytes<'life, 'future>(
        &'life self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        let answer = self.post(request);
        self.note(&answer);
        Box::pin(ready(answer.map_err(HttpError::from)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use super::super::log::tests::{at, logged};
    use super::super::otel_settings::tests::settings;
    use super::*;

    fn client(endpoint: &str) -> OtlpHttp {
        let settings = settings(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hush"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ]);
        let signal = settings.unwrap().unwrap().traces.unwrap();
        OtlpHttp::new(&signal, Arc::default())
    }

    fn post(client: &OtlpHttp) -> Result<Response<Bytes>, ureq::Error> {
        let request = Request::post(client.shown_endpoint.as_str())
            .header("authorization", "hush")
            .body(Bytes::from_static(b"spans"));
        let answer = client.post(request.unwrap());
        client.note(&answer);
        answer
    }

    #[test]
    fn trouble_is_said_once_and_without_secrets() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = logged(&at("trace"), || {
            let client = client(&format!("http://user:hush@{address}/v1/traces?key=hush"));
            for _ in 0..3 {
                assert!(post(&client).is_err());
            }
        });
        let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].contains(&format!("http://{address}/v1/traces")), "{log}");
        assert!(!log.contains("hush"), "{log}");
    }

    #[test]
    fn a_request_that_is_never_answered_ends_at_its_timeout() {
        // Connections are accepted by the system and lie in the backlog for ever.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = client(&format!("http://{}/v1/traces", listener.local_addr().unwrap()));
        let (ended, end) = crossbeam_channel::bounded(1);
        thread::spawn(move || {
            let _ = ended.send(post(&client));
        });
        let answer = end.recv_timeout(Duration::from_secs(60)).expect("an end");
        assert!(matches!(answer, Err(ureq::Error::Timeout(_))), "{answer:?}");
    }

    #[test]
    fn a_refusal_is_an_answer_and_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"spans") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 401 No\r\ncontent-length: 3\r\n\r\nwho").unwrap();
        });
        let log = logged(&at("warn"), || {
            let answer = post(&client(&format!("http://{address}/v1/traces"))).unwrap();
            assert_eq!((answer.status().as_u16(), answer.body().as_ref()), (401, &b"who"[..]));
        });
        assert!(log.contains("401 Unauthorized"), "{log}");
    }
}
