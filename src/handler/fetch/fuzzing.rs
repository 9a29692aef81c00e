//! Doors for the fuzz targets in tests/fuzz; only there with `--cfg fuzzing`, which cargo-fuzz sets.
//!
//! Each takes the bytes of a fuzzer and shows them to one parser. Must never make an input valid before it is parsed.

use url::Url;

use super::resolve::fuzzing as resolvers;
use super::robots::Robots;
use super::{content_range, page, retry_after};
use crate::job::{Mono, WallMs};

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

/// A robots.txt, and a path it is asked about.
///
/// # Panics
/// When the parser has a fault.
pub fn robots(data: &[u8]) {
    let robots = Robots::new("orch");
    let Ok(url) = Url::parse("https://h.test/a/b.pdf?x=1") else { return };
    let _ = robots.learn(&url, 200, data, Mono::default());
    let _ = robots.ask(&url, Mono::default());
}

/// A `Content-Range`.
///
/// # Panics
/// When the parser has a fault.
pub fn content_range(data: &[u8]) {
    let _ = content_range::parse(&String::from_utf8_lossy(data));
}
