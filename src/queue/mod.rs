//! The work queue.

pub mod conformance;
pub mod memory;
pub mod sqlite;
pub mod store;
