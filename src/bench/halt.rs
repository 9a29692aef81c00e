//! Stopping a measurement from another thread, so that it ends soon and leaves nothing behind.
//!
//! Must never end the process: whoever measures still has to remove its directory.

use std::sync::Arc;

use parking_lot::Mutex;

use super::BenchError;

/// Shared by whoever measures and whoever may stop it.
#[derive(Clone, Default)]
pub struct Halt(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    halted: bool,
    /// Ends what is under way now.
    end: Option<Box<dyn Fn() + Send>>,
}

impl Halt {
    /// Ends what is under way, and lets nothing else begin.
    pub fn halt(&self) {
        let mut inner = self.0.lock();
        inner.halted = true;
        if let Some(end) = &inner.end {
            end();
        }
    }

    /// Whether it may go on.
    ///
    /// # Errors
    /// [`BenchError::Stopped`].
    pub fn check(&self) -> Result<(), BenchError> {
        if self.0.lock().halted { Err(BenchError::Stopped) } else { Ok(()) }
    }

    /// While the guard lives, a halt calls `end`, which must return at once; at once if it was halted before. One at a time.
    #[must_use]
    pub fn guard(&self, end: impl Fn() + Send + 'static) -> Guard {
        let mut inner = self.0.lock();
        if inner.halted {
            end();
        }
        inner.end = Some(Box::new(end));
        Guard(self.clone())
    }
}

/// See [`Halt::guard`].
pub struct Guard(Halt);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.lock().end = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn what_is_under_way_is_ended_once_and_what_comes_later_at_once() {
        let halt = Halt::default();
        let ended = Arc::new(AtomicU32::new(0));
        let count = || {
            let ended = Arc::clone(&ended);
            move || {
                ended.fetch_add(1, Ordering::Relaxed);
            }
        };
        drop(halt.guard(count()));
        let _under_way = halt.guard(count());
        halt.check().unwrap();
        halt.halt();
        assert!(matches!(halt.check(), Err(BenchError::Stopped)));
        assert_eq!(ended.load(Ordering::Relaxed), 1);
        let _later = halt.guard(count());
        assert_eq!(ended.load(Ordering::Relaxed), 2);
    }
}
