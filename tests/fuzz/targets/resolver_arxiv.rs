//! No answer of this service may make its resolver panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| orch::fuzzing::resolver("arxiv", data));
