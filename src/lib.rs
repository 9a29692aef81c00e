//! orch
pub mod clock;
pub mod handler;
pub mod intake;
pub mod job;
pub mod limit;
pub mod queue;
pub mod run;
