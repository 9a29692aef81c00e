//! The work queue.

pub mod store;
