//! What `src/limit/sync.rs` is to the library: here every lock is a point at which shuttle may let another thread go on.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

pub(super) use std::sync::Arc;

pub(super) use shuttle::sync::atomic::{AtomicUsize, Ordering};

std::thread_local! {
    /// Shuttle runs all threads of a scenario on one.
    static COUNTS: Cell<Locks> = const { Cell::new(Locks { taken: 0, held: 0 }) };
}

/// Locks of the limits, over all threads of the scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Locks {
    /// Taken so far.
    pub(super) taken: usize,
    /// Held now.
    pub(super) held: usize,
}

/// Shuttle's mutex with `parking_lot`'s interface, counted.
#[derive(Default)]
pub(super) struct Mutex<T> {
    inner: shuttle::sync::Mutex<T>,
}

pub(super) struct MutexGuard<'a, T> {
    inner: shuttle::sync::MutexGuard<'a, T>,
}

/// How many locks are and were taken.
pub(super) fn locks() -> Locks {
    COUNTS.get()
}

impl<T> Mutex<T> {
    pub(super) const fn new(value: T) -> Mutex<T> {
        Mutex { inner: shuttle::sync::Mutex::new(value) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Locks { taken, held } = locks();
        COUNTS.set(Locks { taken: taken + 1, held: held + 1 });
        MutexGuard { inner }
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        let Locks { taken, held } = locks();
        COUNTS.set(Locks { taken, held: held - 1 });
    }
}
