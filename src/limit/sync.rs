//! The primitives the limits are built on. `tests/limits` puts a model checker's in their place.

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) use parking_lot::Mutex;
