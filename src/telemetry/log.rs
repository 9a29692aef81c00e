//! The log: tracing events, one line each, for people or as JSON, on standard error.
//!
//! Must never write to standard output, which is for data, and never ask the time itself.

use std::sync::Arc;

use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};

use super::Screen;
use crate::clock::Clock;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum LogFormat {
    /// Time, level, message, fields: for people.
    #[default]
    Text,
    /// One JSON object a line, with `timestamp`, `level`, `message` and the fields (`artifact_id`, `job_id`,
    /// `worker_id`, …) at its top level.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`; or directives of tracing's `EnvFilter`, such as
    /// `info,orch::job=debug`.
    pub level: String,
    /// Errors only, whatever the level says.
    pub quiet: bool,
    /// Colours in text.
    pub colour: bool,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings { format: LogFormat::Text, level: "info".into(), quiet: false, colour: false }
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A word that is no level.
    #[error("{found:?} is not a log level: expected one of {}", LEVELS.join(", "))]
    Level {
        /// The word.
        found: String,
        /// The level that looks most like it, if one does.
        nearest: Option<&'static str>,
    },
    /// A directive that cannot be read.
    #[error("{found:?} is not a log level or filter: {source}")]
    Filter {
        /// The directives.
        found: String,
        /// What is wrong.
        source: tracing_subscriber::filter::ParseError,
    },
    /// This process logs already.
    #[error("logging was set up twice in one process")]
    Twice(#[source] tracing::subscriber::SetGlobalDefaultError),
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// Sends this process's tracing events to `screen`, stamped by `clock`.
///
/// # Errors
/// [`LogError`] when the level cannot be read, or a subscriber is set already.
pub fn init(
    settings: &LogSettings,
    screen: &Screen,
    clock: Arc<dyn Clock>,
) -> Result<(), LogError> {
    let subscriber = subscriber(settings, screen.clone(), clock)?;
    tracing::subscriber::set_global_default(subscriber).map_err(LogError::Twice)
}

/// What [`init`] installs, writing to `writer`.
pub(super) fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
    clock: Arc<dyn Clock>,
) -> Result<impl Subscriber + Send + Sync, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = if settings.quiet { "error" } else { settings.level.as_str() };
    let lines = fmt::layer().with_writer(writer).with_timer(Stamp(clock));
    let lines = match settings.format {
        LogFormat::Text => lines.with_target(false).with_ansi(settings.colour).boxed(),
        LogFormat::Json => {
            let json = lines.json().flatten_event(true);
            json.with_current_span(false).with_span_list(false).boxed()
        }
    };
    Ok(tracing_subscriber::registry().with(filter(level)?).with(lines))
}

/// Reads a level or directives. A lone word that is no level is refused: to `EnvFilter`, `wran` would
/// be a module's name, and everything but that module would fall silent.
fn filter(text: &str) -> Result<EnvFilter, LogError> {
    for word in text.split(',').map(str::trim) {
        let is_word = !word.contains(['=', ':', '[']);
        if is_word && !LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) {
            return Err(LogError::Level { found: word.into(), nearest: nearest_level(word) });
        }
    }
    EnvFilter::builder()
        .parse(text)
        .map_err(|source| LogError::Filter { found: text.into(), source })
}

fn nearest_level(word: &str) -> Option<&'static str> {
    let lower = word.to_ascii_lowercase();
    let by_distance = |level: &&str| strsim::damerau_levenshtein(&lower, level);
    LEVELS.into_iter().min_by_key(by_distance).filter(|level| by_distance(level) <= 2)
}

/// RFC 3339 in UTC, to the millisecond.
struct Stamp(Arc<dyn Clock>);

impl FormatTime for Stamp {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0.wall().0) {
            Ok(time) => write!(writer, "{time:.3}"),
            // A clock set to before the year -9999; the line matters more than its time.
            Err(_) => writer.write_str("-"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io;

    use parking_lot::Mutex;
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::Manual;
    use crate::job::WallMs;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(text);
            Ok(text.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `act` logs under `settings`, at 2026-01-02T03:04:05.678Z.
    pub(in super::super) fn logged(settings: &LogSettings, act: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let clock = Arc::new(Manual::at(WallMs(1_767_323_045_678)));
        let subscriber = subscriber(settings, move || writer.clone(), clock).unwrap();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = captured.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    pub(in super::super) fn at(level: &str) -> LogSettings {
        LogSettings { level: level.into(), ..LogSettings::default() }
    }

    /// The lines that `act` logs as JSON at `level`.
    pub(in super::super) fn logged_json(level: &str, act: impl FnOnce()) -> Vec<Value> {
        let settings = LogSettings { format: LogFormat::Json, ..at(level) };
        logged(&settings, act).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn one_of_each() {
        tracing::error!("e");
        tracing::warn!("w");
        tracing::info!("i");
        tracing::debug!("d");
        tracing::trace!("t");
    }

    #[test]
    fn text_has_time_level_message_and_fields() {
        let line = logged(&at("info"), || tracing::info!(artifact_id = "doi:10.1/a", "found it"));
        assert_eq!(line, "2026-01-02T03:04:05.678Z  INFO found it artifact_id=\"doi:10.1/a\"\n");
    }

    #[test]
    fn json_has_its_fields_at_the_top_level() {
        let lines = logged_json("info", || tracing::warn!(job_id = 7, "a \"quoted\"\nword"));
        assert_eq!(
            lines,
            [json!({
                "timestamp": "2026-01-02T03:04:05.678Z",
                "level": "WARN",
                "message": "a \"quoted\"\nword",
                "job_id": 7,
                "target": "orch::telemetry::log::tests",
            })]
        );
    }

    #[test]
    fn a_level_lets_through_itself_and_what_is_worse() {
        let check = |settings: &LogSettings, messages: &str| {
            let text = logged(settings, one_of_each);
            let heard: String = text.lines().filter_map(|line| line.chars().last()).collect();
            assert_eq!(heard, messages, "{settings:?}");
        };
        check(&at("off"), "");
        check(&at("error"), "e");
        check(&at("warn"), "ew");
        check(&at("INFO"), "ewi");
        check(&at("debug"), "ewid");
        check(&at("trace"), "ewidt");
        check(&at("warn,orch::telemetry=debug"), "ewid");
        check(&at("info,orch::telemetry::log=off"), "");
        check(&LogSettings { quiet: true, ..at("trace") }, "e");
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_with_the_nearest() {
        let check = |text: &str, nearest: Option<&str>| match filter(text) {
            Err(LogError::Level { found, nearest: said }) => {
                assert_eq!((found.as_str(), said), (text.rsplit(',').next().unwrap(), nearest));
            }
            other => panic!("{text}: {other:?}"),
        };
        check("wran", Some("warn"));
        check("Debgu", Some("debug"));
        check("warning", None);
        check("info,orch", None);
        check("", None);
        check("3", None);
        assert!(matches!(filter("orch=loud"), Err(LogError::Filter { .. })));
        assert_eq!(
            filter("loud").unwrap_err().to_string(),
            "\"loud\" is not a log level: expected one of error, warn, info, debug, trace, off"
        );
    }
}
