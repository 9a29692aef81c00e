//! Doors for the fuzz targets in tests/fuzz; only there with `--cfg fuzzing`, which cargo-fuzz sets.
//!
//! Each takes the bytes of a fuzzer and shows them to one parser. Must never make an input valid before it is parsed.

use url::Url;

use super::resolve::fuzzing as resolvers;
use super::{page, retry_after};
use crate::job::WallMs;

/// An answer of a service: a byte for the step, two for the status, and the body.
///
/// # Panics
/// When the name is no service's, or its parser has a fault.
pub fn resolver(name: &str, data: &[u8]) {
    resolvers::read(name, data);
}

/// A landing page.
///
/// # Panics
/// When the parser has a fault, or what it found cannot be asked.
pub fn page(data: &[u8]) {
    let Ok(at) = Url::parse("https://journal.test/article/view/7?x=1") else { return };
    let page = page::read(data, &at);
    assert!(!page.files.contains(&at), "the page is no file of its own");
    for url in page.files.iter().chain(&page.refresh) {
        assert!(matches!(url.scheme(), "http" | "https"), "{url}");
    }
}

/// Eight bytes for the time, and a `Retry-After`.
///
/// # Panics
/// When the parser has a fault.
pub fn retry_after(data: &[u8]) {
    let Some((now, text)) = data.split_first_chunk() else { return };
    let text = String::from_utf8_lossy(text);
    let _ = retry_after::parse_ms(&text, WallMs(i64::from_le_bytes(*now)));
}
