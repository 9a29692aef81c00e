//! How a run is asked to stop, from any thread.

use crossbeam_channel::Sender;

use super::worker::Message;

/// Why a run ended before its work did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopCause {
    /// A signal, by number (2 for SIGINT, 15 for SIGTERM).
    Signal(i32),
    /// The time it was given is over.
    MaxRuntime,
    /// The program it is part of asked.
    Asked,
}

/// How soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct StopRequest {
    pub(super) cause: StopCause,
    /// Cancel what runs at once instead of letting it finish for `shutdown_seconds`.
    pub(super) now: bool,
}

/// Asks one run to stop. Cheap to clone; does nothing once the run is over.
#[derive(Debug, Clone)]
pub struct StopHandle {
    pub(super) inbox: Sender<Message>,
}

impl StopHandle {
    /// Lets what runs finish for up to `shutdown_seconds`, starts nothing new.
    pub fn stop(&self, cause: StopCause) {
        let _ = self.inbox.send(Message::Stop(StopRequest { cause, now: false }));
    }

    /// Cancels what runs at once.
    pub fn stop_now(&self, cause: StopCause) {
        let _ = self.inbox.send(Message::Stop(StopRequest { cause, now: true }));
    }
}
