//! No `Retry-After` may make its reader panic, whatever the time.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| orch::fuzzing::retry_after(data));
