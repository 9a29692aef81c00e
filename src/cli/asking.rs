//! Asking resolvers without fetching, for `orch resolve` and `orch doctor`: under the limits of the configuration, until a signal.

use std::ffi::OsString;
use std::sync::{Arc, OnceLock};

use super::error::{CliError, Exit};
use super::run::fetch_settings;
use super::session::Session;
use super::signals::{self, Watching};
use crate::clock::Clock;
use crate::handler::{Cancel, CancelReason, Consultation, Finder, Off};
use crate::job::JobSpec;
use crate::limit::Gate;

/// Whoever asks. The first signal ends the waiting, the second ends the process.
pub(super) struct Asking {
    finder: Finder,
    gate: Gate,
    clock: Arc<dyn Clock>,
    cancel: Arc<Cancel>,
    stopped_by: Arc<OnceLock<i32>>,
    watching: Watching,
}

impl Asking {
    /// Makes ready to ask; asks nobody yet.
    ///
    /// # Errors
    /// [`CliError`] when a setting cannot be used, or the system gives no thread or descriptor.
    pub(super) fn start(
        session: &Session,
        environment: &[(OsString, OsString)],
    ) -> Result<Asking, CliError> {
        let settings = session.settings();
        let finder = Finder::new(fetch_settings(settings, environment))?;
        let gate = Gate::new(settings.gate_limits()?);
        let thread = |source| CliError::Thread { what: "the signal thread", source };
        let cancel = Arc::new(Cancel::new().map_err(thread)?);
        let stopped_by = Arc::new(OnceLock::new());
        let watching = Watching::start({
            let (cancel, stopped_by) = (Arc::clone(&cancel), Arc::clone(&stopped_by));
            move |nth, signal| match nth {
                0 => {
                    // The first is the one that counts.
                    let _ = stopped_by.set(signal);
                    cancel.cancel(CancelReason::Stop);
                }
                _ => signals::die_of(signal),
            }
        })
        .map_err(thread)?;
        let clock = Arc::clone(&session.clock);
        Ok(Asking { finder, gate, clock, cancel, stopped_by, watching })
    }

    /// The resolvers that can be asked, in order.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.finder.names().collect()
    }

    /// Those that are not asked, and why.
    pub(super) fn off(&self) -> &[Off] {
        self.finder.off()
    }

    /// What the resolver `name` says of the work; `None` when a signal came.
    pub(super) fn ask(&self, spec: &JobSpec, name: &'static str) -> Option<Consultation> {
        let answer = self.finder.ask(spec, name, &self.gate, &*self.clock, &self.cancel);
        if self.stopped_by.get().is_some() {
            return None;
        }
        Some(answer.unwrap_or_else(|| Consultation {
            resolver: name,
            said: "busy",
            message: "no answer in the time there is for one".to_owned(),
            elapsed_ms: 0,
            candidates: Vec::new(),
        }))
    }

    /// Asks no more; the signal that came meanwhile, as a way to end.
    pub(super) fn end(self) -> Option<Exit> {
        self.watching.end();
        let signal = self.stopped_by.get().copied()?;
        Some(Exit::Signal(u8::try_from(signal).unwrap_or(u8::MAX)))
    }
}
