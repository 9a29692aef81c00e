//! The work queue.

pub mod memory;
pub mod store;
