//! No landing page may make the reader of its meta tags panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| orch::fuzzing::page(data));
