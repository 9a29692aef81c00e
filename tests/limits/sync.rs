//! What `src/limit/sync.rs` is to the library: here every lock is a point at which shuttle may let another thread go on.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use std::sync::Arc;

/// Shuttle's mutex with `parking_lot`'s interface.
#[derive(Default)]
pub(super) struct Mutex<T> {
    inner: shuttle::sync::Mutex<T>,
}

std::thread_local! {
    /// Locks taken by the scenarios this thread has run (shuttle runs all threads of one on one).
    static LOCKS_TAKEN: AtomicUsize = const { AtomicUsize::new(0) };
}

impl<T> Mutex<T> {
    pub(super) const fn new(value: T) -> Mutex<T> {
        Mutex { inner: shuttle::sync::Mutex::new(value) }
    }

    pub(super) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
        LOCKS_TAKEN.with(|taken| taken.fetch_add(1, Ordering::Relaxed));
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many locks have been taken on this thread.
pub(super) fn locks_taken() -> usize {
    LOCKS_TAKEN.with(|taken| taken.load(Ordering::Relaxed))
}
