//! orch
pub mod cli;
pub mod clock;
pub mod config;
pub mod handler;
pub mod intake;
pub mod job;
pub mod limit;
pub mod process;
pub mod queue;
pub mod run;
pub mod telemetry;
