//! orch
pub mod clock;
pub mod handler;
pub mod job;
pub mod limit;
pub mod process;
pub mod queue;
pub mod run;
