//! What the standard `OTEL_*` variables say. Pure: the variables are passed in.
//!
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/> and
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/> name them. A variable that is empty
//! counts as absent, as they ask. Header values are secrets: `Debug` hides them, errors never quote them.

use std::fmt;
use std::time::Duration;

use url::Url;

/// Whither telemetry is sent, and as whom.
#[derive(Debug, Clone, PartialEq)]
pub struct OtelSettings {
    /// Where spans go; `None`: nowhere.
    pub traces: Option<Signal>,
    /// Where metrics go; `None`: nowhere.
    pub metrics: Option<Signal>,
    /// `OTEL_SERVICE_NAME`; `orch` unless it or the resource attributes say otherwise.
    pub service_name: String,
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub resource: Vec<(String, String)>,
    /// `OTEL_BSP_MAX_QUEUE_SIZE` (2,048): spans that may wait to be sent; more are dropped.
    pub max_spans_waiting: usize,
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE` (512): spans sent at once.
    pub spans_per_request: usize,
    /// `OTEL_BSP_SCHEDULE_DELAY` (5 s): how long a span may wait for others to be sent with.
    pub span_delay: Duration,
    /// `OTEL_METRIC_EXPORT_INTERVAL` (60 s): how often metrics are sent.
    pub metric_interval: Duration,
    /// Variables that are set and have no effect here, for a warning.
    pub ignored: Vec<&'static str>,
}

/// Where one signal goes. An `http` or `https` URL, complete with its path.
#[derive(Clone, PartialEq)]
pub struct Signal {
    /// Requests are posted here.
    pub endpoint: Url,
    /// Sent with every request. Secret.
    pub headers: Vec<(String, String)>,
    /// For one request, its retries included.
    pub timeout: Duration,
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Signal")
            .field("endpoint", &self.shown_endpoint())
            .field("header_names", &names)
            .field("timeout", &self.timeout)
            .finish()
    }
}

impl Signal {
    /// The endpoint as it may be shown: without user, password and query.
    #[must_use]
    pub fn shown_endpoint(&self) -> String {
        format!("{}{}", self.endpoint.origin().ascii_serialization(), self.endpoint.path())
    }
}

/// A variable that cannot be read. Says what was expected, and never what was found: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: expected {expected}")]
pub struct OtelVariableError {
    /// The variable.
    pub name: String,
    /// What it should be.
    pub expected: &'static str,
}

const NO_EFFECT: [&str; 3] = [
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
];

impl OtelSettings {
    /// What the variables say; `None` when there is nowhere to send to, or `OTEL_SDK_DISABLED` is true.
    ///
    /// A signal for which no endpoint is given is not sent: there is no default endpoint here.
    ///
    /// # Errors
    /// [`OtelVariableError`] naming the variable and what was expected.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<OtelSettings>, OtelVariableError> {
        let read = Variables(&variable);
        if read.text("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let (traces, metrics) = (read.signal("TRACES")?, read.signal("METRICS")?);
        if traces.is_none() && metrics.is_none() {
            return Ok(None);
        }
        let resource = read.pairs("OTEL_RESOURCE_ATTRIBUTES")?;
        let named = resource.iter().find(|(key, _)| key == "service.name");
        let service_name = read
            .text("OTEL_SERVICE_NAME")
            .or_else(|| named.map(|(_, name)| name.clone()))
            .unwrap_or_else(|| "orch".into());
        let max_spans_waiting = read.count("OTEL_BSP_MAX_QUEUE_SIZE", 2_048)?;
        Ok(Some(OtelSettings {
            traces,
            metrics,
            service_name,
            resource,
            max_spans_waiting,
            spans_per_request: read
                .count("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)?
                .min(max_spans_waiting),
            span_delay: read.milliseconds("OTEL_BSP_SCHEDULE_DELAY", 5_000)?,
            metric_interval: read.milliseconds("OTEL_METRIC_EXPORT_INTERVAL", 60_000)?,
            ignored: NO_EFFECT.into_iter().filter(|name| read.text(name).is_some()).collect(),
        }))
    }
}

/// The variables, as they were passed in.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn text(&self, name: &str) -> Option<String> {
        (self.0)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The variable of one signal, else the one of all; with the name it was found under.
    fn of_signal(&self, signal: &str, what: &str) -> Option<(String, String)> {
        [format!("OTEL_EXPORTER_OTLP_{signal}_{what}"), format!("OTEL_EXPORTER_OTLP_{what}")]
            .into_iter()
            .find_map(|name| self.text(&name).map(|text| (name, text)))
    }

    fn signal(&self, signal: &str) -> Result<Option<Signal>, OtelVariableError> {
        let exporter = self.text(&format!("OTEL_{signal}_EXPORTER"));
        if exporter.is_some_and(|text| text.eq_ignore_ascii_case("none")) {
            return Ok(None);
        }
        let Some(endpoint) = self.endpoint(signal)? else { return Ok(None) };
        if let Some((name, protocol)) = self.of_signal(signal, "PROTOCOL")
            && protocol != "http/protobuf"
        {
            return Err(wrong(name, "http/protobuf, the one protocol orch speaks"));
        }
        let headers = match self.of_signal(signal, "HEADERS") {
            Some((name, _)) => self.pairs(&name)?,
            None => Vec::new(),
        };
        let timeout = match self.of_signal(signal, "TIMEOUT") {
            Some((name, _)) => self.milliseconds(&name, 10_000)?,
            None => Duration::from_secs(10),
        };
        Ok(Some(Signal { endpoint, headers, timeout }))
    }

    /// The signal's own endpoint as it is, or the common one with the signal's path added.
    fn endpoint(&self, signal: &str) -> Result<Option<Url>, OtelVariableError> {
        let Some((name, mut text)) = self.of_signal(signal, "ENDPOINT") else { return Ok(None) };
        if name == "OTEL_EXPORTER_OTLP_ENDPOINT" {
            text = format!("{}/v1/{}", text.trim_end_matches('/'), signal.to_ascii_lowercase());
        }
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Some(url)),
            _ => Err(wrong(name, "a URL such as http://localhost:4318")),
        }
    }

    /// `key=value,key=value`, values percent-encoded (W3C baggage, as the specification asks).
    fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, OtelVariableError> {
        let text = self.text(name).unwrap_or_default();
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            let key = key.trim();
            (!key.is_empty()).then_some(())?;
            Some((key.to_owned(), percent_decoded(value.trim())?))
        };
        text.split(',')
            .filter(|part| !part.trim().is_empty())
            .map(|part| pair(part).ok_or_else(|| wrong(name, "key=value pairs, comma-separated")))
            .collect()
    }

    fn count(&self, name: &str, default: usize) -> Result<usize, OtelVariableError> {
        let Some(text) = self.text(name) else { return Ok(default) };
        match text.parse() {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(wrong(name, "a number, 1 or more")),
        }
    }

    fn milliseconds(&self, name: &str, default: u64) -> Result<Duration, OtelVariableError> {
        let Some(text) = self.text(name) else { return Ok(Duration::from_millis(default)) };
        match text.parse() {
            Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
            _ => Err(wrong(name, "a number of milliseconds, 1 or more")),
        }
    }
}

fn wrong(name: impl Into<String>, expected: &'static str) -> OtelVariableError {
    OtelVariableError { name: name.into(), expected }
}

/// `a%20b` as `a b`; `None` when an escape is cut short or the bytes are not UTF-8.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    let hex = |digit: u8| char::from(digit).to_digit(16);
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => u8::try_from(hex(bytes.next()?)? * 16 + hex(bytes.next()?)?).ok()?,
            plain => plain,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What these variables say.
    pub(in super::super) fn settings(
        variables: &[(&str, &str)],
    ) -> Result<Option<OtelSettings>, OtelVariableError> {
        OtelSettings::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c.example:4318");

    fn with(more: &[(&str, &str)]) -> OtelSettings {
        settings(&[&[ENDPOINT], more].concat()).unwrap().unwrap()
    }

    #[test]
    fn without_an_endpoint_there_is_nothing() {
        assert_eq!(settings(&[]), Ok(None));
        assert_eq!(settings(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), Ok(None));
        assert_eq!(settings(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
        let none = [("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")];
        assert_eq!(settings(&[ENDPOINT, none[0], none[1]]), Ok(None));
    }

    #[test]
    fn an_endpoint_alone_brings_the_defaults_of_the_specification() {
        let all = with(&[]);
        let traces = all.traces.unwrap();
        assert_eq!(traces.endpoint.as_str(), "http://c.example:4318/v1/traces");
        assert_eq!(all.metrics.unwrap().endpoint.as_str(), "http://c.example:4318/v1/metrics");
        assert_eq!((traces.headers, traces.timeout), (vec![], Duration::from_secs(10)));
        assert_eq!(all.service_name, "orch");
        assert_eq!((all.max_spans_waiting, all.spans_per_request), (2_048, 512));
        assert_eq!((all.span_delay.as_secs(), all.metric_interval.as_secs()), (5, 60));
    }

    #[test]
    fn the_variable_of_a_signal_wins_and_its_endpoint_is_taken_as_it_is() {
        let all = settings(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example/otlp/"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t.example/in"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x=all"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x=traces"),
            ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "250"),
        ]);
        let all = all.unwrap().unwrap();
        let (traces, metrics) = (all.traces.unwrap(), all.metrics.unwrap());
        assert_eq!(traces.endpoint.as_str(), "https://t.example/in");
        assert_eq!(metrics.endpoint.as_str(), "https://c.example/otlp/v1/metrics");
        assert_eq!(traces.headers, [("x".into(), "traces".into())]);
        assert_eq!(metrics.headers, [("x".into(), "all".into())]);
        assert_eq!(traces.timeout.as_millis(), 10_000);
        assert_eq!(metrics.timeout.as_millis(), 250);
    }

    #[test]
    fn one_signal_may_go_alone() {
        let only = settings(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m.example/")]);
        let only = only.unwrap().unwrap();
        assert!(only.traces.is_none() && only.metrics.is_some());
        assert!(with(&[("OTEL_METRICS_EXPORTER", "none")]).metrics.is_none());
    }

    #[test]
    fn the_service_is_named_by_its_variable_then_by_the_resource() {
        let resource =
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=b%20c, deployment.environment=x=y,");
        assert_eq!(with(&[resource]).service_name, "b c");
        let both = with(&[resource, ("OTEL_SERVICE_NAME", "a")]);
        assert_eq!(both.service_name, "a");
        assert_eq!(both.resource[1], ("deployment.environment".into(), "x=y".into()));
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_named_and_never_quoted() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "secret:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "ftp://secret"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "key=%2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "=secret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "-1"),
        ] {
            let error = settings(&[(name, value), ENDPOINT]).unwrap_err();
            assert_eq!(error.name, name, "{value}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let all = settings(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:hush@c.example:4318/x?key=hush"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://user:hush@c.example:4318/x?key=hush"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hush"),
        ]);
        let all = all.unwrap().unwrap();
        let traces = all.traces.clone().unwrap();
        assert_eq!(traces.headers, [("authorization".into(), "Bearer hush".into())]);
        assert_eq!(traces.shown_endpoint(), "https://c.example:4318/x");
        let shown = format!("{all:?}");
        assert!(shown.contains("authorization") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn what_has_no_effect_is_said() {
        assert_eq!(with(&[]).ignored, Vec::<&str>::new());
        let ignored = with(&[("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem")]).ignored;
        assert_eq!(ignored, ["OTEL_EXPORTER_OTLP_CERTIFICATE"]);
    }
}
