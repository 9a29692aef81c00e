//! Runs a queue.

pub mod event;
