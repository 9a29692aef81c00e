//! Listens to what happens in a run and turns it into progress, logs, metrics and traces.
//!
//! Must never change a run or slow it: a listener returns at once, whatever becomes of the terminal,
//! the pipe or the collector behind it. All three are fed through bounded queues by threads of their
//! own; what does not fit is dropped and counted, and the count is said aloud.
//!
//! ```text
//!              +-- LogListener -----> tracing --+
//!   run::event |                                +--> Screen: one thread owns stderr
//!   ---------->+-- ProgressListener ------------+
//!   Listeners  |
//!              +-- Otel --> bounded queue --> the SDK's threads --> OTLP over HTTP --> a collector
//! ```

mod ending;
mod log;
mod log_listener;
mod otel;
mod otel_settings;
mod otlp_http;
mod pace;
mod progress;
mod screen;
mod summary;
mod text;

use std::sync::Arc;

use crate::run::event::{Event, Listener};

pub use ending::Ending;
pub use log::{LogError, LogFormat, LogSettings, init};
pub use log_listener::LogListener;
pub use otel::{Delivery, Otel, OtelError};
pub use otel_settings::{OtelSettings, OtelVariableError, Signal};
pub use pace::{Pace, Reading};
pub use progress::ProgressListener;
pub use screen::Screen;
pub use summary::{RunSummary, StoppedBy};

/// Several listeners as one: each is told of every event, in this order.
pub struct Listeners {
    /// With whether it asked for the events of single jobs.
    all: Vec<(Arc<dyn Listener>, bool)>,
}

impl Listeners {
    /// A fan-out to `all`. Each is asked once, here, whether it wants the events of single jobs.
    #[must_use]
    pub fn new(all: Vec<Arc<dyn Listener>>) -> Listeners {
        let ask = |listener: Arc<dyn Listener>| {
            let wants_jobs = listener.wants_jobs();
            (listener, wants_jobs)
        };
        Listeners { all: all.into_iter().map(ask).collect() }
    }
}

impl Listener for Listeners {
    fn on(&self, event: &Event<'_>) {
        let of_a_job = matches!(event, Event::JobStarted { .. } | Event::JobSettled(_));
        for (listener, wants_jobs) in &self.all {
            if *wants_jobs || !of_a_job {
                listener.on(event);
            }
        }
    }

    fn wants_jobs(&self) -> bool {
        self.all.iter().any(|(_, wants_jobs)| *wants_jobs)
    }
}

#[cfg(test)]
mod fixtures;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Counter {
        heard: AtomicUsize,
        wants_jobs: bool,
    }

    impl Listener for Counter {
        fn on(&self, _: &Event<'_>) {
            self.heard.fetch_add(1, Ordering::Relaxed);
        }
        fn wants_jobs(&self) -> bool {
            self.wants_jobs
        }
    }

    fn counter(wants_jobs: bool) -> Arc<Counter> {
        Arc::new(Counter { heard: AtomicUsize::new(0), wants_jobs })
    }

    #[test]
    fn only_who_wants_jobs_hears_of_jobs() {
        let (keen, calm) = (counter(true), counter(false));
        let both = Listeners::new(vec![keen.clone(), calm.clone()]);
        let job = fixtures::leased("doi:10.1/a");
        both.on(&Event::JobStarted { job: &job, worker: 0 });
        both.on(&Event::JobSettled(fixtures::done(&job)));
        both.on(&Event::Ended);
        assert_eq!(keen.heard.load(Ordering::Relaxed), 3);
        assert_eq!(calm.heard.load(Ordering::Relaxed), 1);
        assert!(both.wants_jobs());
        assert!(!Listeners::new(vec![calm]).wants_jobs());
        assert!(!Listeners::new(Vec::new()).wants_jobs());
    }
}
