//! SIGINT and SIGTERM, passed on to whatever is under way.

use std::io;
use std::thread::JoinHandle;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// A thread that passes signals on.
pub(super) struct Watching {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Watching {
    /// Watches from now on: `told` is called with every signal, and how many there were before.
    ///
    /// # Errors
    /// When the system gives no thread, descriptor or handler.
    pub(super) fn start(told: impl Fn(usize, i32) + Send + 'static) -> io::Result<Watching> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for (nth, signal) in signals.forever().enumerate() {
                told(nth, signal);
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

/// Ends the process as that signal would have.
pub(super) fn die_of(signal: i32) -> ! {
    std::process::exit(128 + signal)
}
