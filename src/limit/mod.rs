//! May this job run now? Slots per resolver and host, tokens per rate: all of them, in one order.
//!
//! Must never ask the time (it is passed in), block, or hold a lock while calling out.

mod gate;

pub use gate::{Gate, KeyLimits, KeyStatus, Limits, Permit, Rate, Wait, WaitReason};
