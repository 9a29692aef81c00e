//! No `Content-Range` may make its reader panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| orch::fuzzing::content_range(data));
