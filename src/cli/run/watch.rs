//! Who watches a run: live lines on a terminal, the log, and OpenTelemetry when there is a collector.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::error::CliError;
use crate::cli::output::Messages;
use crate::cli::session::Session;
use crate::config;
use crate::run::event::Listener;
use crate::telemetry::{
    Listeners, LogFormat, LogListener, LogSettings, Otel, OtelSettings, ProgressListener, Screen,
    init,
};

/// In a pipe there is a line of progress this often.
const PROGRESS_LINE_EVERY: Duration = Duration::from_secs(10);
/// A collector, or a terminal that was stopped, is waited for this long at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Everybody who watches.
pub(super) struct Watch {
    screen: Screen,
    otel: Option<Arc<Otel>>,
    listeners: Arc<Listeners>,
}

impl Watch {
    /// Sets up the log and whoever listens.
    ///
    /// # Errors
    /// [`CliError`] when the log level is none, or the system gives no thread.
    pub(super) fn start(
        session: &Session,
        environment: &[(OsString, OsString)],
    ) -> Result<Watch, CliError> {
        let messages = session.out.messages;
        let thread = |source: io::Error| CliError::Thread { what: "the screen thread", source };
        let screen = Screen::stderr(messages.is_terminal && !messages.quiet).map_err(thread)?;
        let settings = &session.settings().log;
        let log = LogSettings {
            format: match settings.format {
                config::LogFormat::Text => LogFormat::Text,
                config::LogFormat::Json => LogFormat::Json,
            },
            level: settings.level.clone(),
            quiet: messages.quiet,
            colour: messages.colour,
        };
        init(&log, &screen, Arc::clone(&session.clock))?;
        let otel = otel(environment, messages);
        let progress_lines = (!screen.is_live()).then_some(PROGRESS_LINE_EVERY);
        let mut all: Vec<Arc<dyn Listener>> = vec![Arc::new(LogListener::new(progress_lines))];
        if screen.is_live() {
            all.push(Arc::new(ProgressListener::new(screen.clone())));
        }
        all.extend(otel.clone().map(|otel| otel as Arc<dyn Listener>));
        Ok(Watch { screen, otel, listeners: Arc::new(Listeners::new(all)) })
    }

    pub(super) fn listener(&self) -> Arc<dyn Listener> {
        Arc::clone(&self.listeners) as Arc<dyn Listener>
    }

    /// Says the last words, to whoever still listens.
    pub(super) fn end(self, messages: Messages) {
        let delivery = self.otel.map(|otel| otel.shutdown(LAST_WORDS));
        self.screen.flush(LAST_WORDS);
        match delivery {
            Some(delivery) if !delivery.in_time => {
                messages.note("the OpenTelemetry collector did not take everything in time");
            }
            _ => {}
        }
    }
}

/// OpenTelemetry's variables belong to many programs: one that we cannot use is no reason not to run.
fn otel(environment: &[(OsString, OsString)], messages: Messages) -> Option<Arc<Otel>> {
    let variable =
        |name: &str| environment.iter().find(|(key, _)| key == name)?.1.to_str().map(str::to_owned);
    let started = match OtelSettings::from_variables(variable) {
        Ok(None) => return None,
        Ok(Some(settings)) => Otel::start(&settings).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match started {
        Ok(otel) => Some(Arc::new(otel)),
        Err(error) => {
            messages.note(&format!("running without OpenTelemetry: {error}"));
            None
        }
    }
}
