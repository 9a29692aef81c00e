//! SIGINT and SIGTERM: the first stops in good order, the second at once, the third ends the process.

use std::io;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::run::{StopCause, StopHandle};

/// A thread that passes signals on to a run.
pub(super) struct Watching {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Watching {
    /// Watches from now on.
    ///
    /// # Errors
    /// When the system gives no thread, descriptor or handler.
    pub(super) fn start(stop: StopHandle) -> io::Result<Watching> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for (nth, signal) in signals.forever().enumerate() {
                match nth {
                    0 => stop.stop(StopCause::Signal(signal)),
                    1 => stop.stop_now(StopCause::Signal(signal)),
                    // Nothing is lost: the queue is as safe as after kill -9.
                    _ => std::process::exit(128 + signal),
                }
            }
        })?;
        Ok(Watching { handle, thread })
    }

    /// Watches no longer.
    pub(super) fn end(self) {
        self.handle.close();
        // It does nothing that could panic.
        let _ = self.thread.join();
    }
}
