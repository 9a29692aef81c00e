//! The work queue.

pub mod memory;
pub mod sqlite;
pub mod store;
