//! Going on with a body that broke off: only where the server vouches that it is still the same one.
//!
//! ```text
//!   cut      64 KiB or more, a strong ETag, not packed  ->  bytes kept beside the final name, a Partial in the checkpoint
//!   ask      Range: bytes=N-   If-Range: "etag"
//!   206      from N on, of the same total   ->  kept bytes hashed again, the rest appended
//!   200      another file, or no ranges     ->  from 0
//!   416 */N  there is no more               ->  verified as it is
//! ```
//!
//! Must never join bytes of two versions: a weak validator does not say that they are the same (RFC 9110, section 13.1.5),
//! and a server that answers a range with another one is not asked for ranges again.

use std::collections::HashSet;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, HeaderName, header};
use url::Url;

use super::content_range::{self, ContentRange};
use super::download::text_of;
use super::source::Encoding;
use super::verdict::UrlId;

/// Fewer bytes are not worth a second request's care.
pub(super) const MIN_PARTIAL_BYTES: u64 = 64 * 1_024;
/// The longest entity tag that is kept: it goes into a checkpoint.
const MAX_ETAG_BYTES: usize = 256;
/// The most hosts that are known to answer ranges wrongly.
const MAX_HOSTS: usize = 1_024;
/// Hexadecimal digits of a SHA-256 that tell whether kept bytes are still those.
pub(super) const DIGEST_DIGITS: usize = 32;

/// What was kept of a body that broke off, and the strong validator it belongs to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Partial {
    pub(super) url: UrlId,
    pub(super) etag: String,
    pub(super) bytes: u64,
    /// How many bytes the whole has, where the server said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) total: Option<u64>,
    /// The beginning of the SHA-256 of what was kept: a disk that lost power may hold something else.
    pub(super) digest: String,
}

impl Partial {
    /// Whether it was kept of this URL.
    pub(super) fn is_of(&self, url: &Url) -> bool {
        self.url == UrlId::of(url)
    }

    /// The headers that ask for the rest, or for the whole if it is another one by now.
    pub(super) fn headers(&self) -> Vec<(HeaderName, String)> {
        vec![
            (header::RANGE, format!("bytes={}-", self.bytes)),
            (header::IF_RANGE, self.etag.clone()),
        ]
    }

    /// Whether a 206 with these headers goes on where this ends; the whole's length, where it is known.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn continues_in(
        &self,
        headers: &HeaderMap,
        declared: Option<u64>,
    ) -> Result<Option<u64>, &'static str> {
        let range = text_of(headers, header::CONTENT_RANGE);
        let range = range.as_deref().and_then(content_range::parse);
        let Some(ContentRange::Part { first, last, total }) = range else {
            return Err("a part of a file without a word on which part");
        };
        if first != self.bytes {
            return Err("another part of the file than was asked for");
        }
        if self.total.is_some() && total.is_some() && total != self.total {
            return Err("the file has another length each time");
        }
        if declared.is_some_and(|declared| declared != last - first + 1) {
            return Err("a part of a file of another length than it says");
        }
        if strong_etag(headers).is_some_and(|etag| etag != self.etag) {
            return Err("a part of another version of the file");
        }
        if Encoding::of(headers) != Encoding::Identity {
            return Err("a packed part of a file");
        }
        Ok(total.or(self.total))
    }
}

/// The validator with which a body with these headers may be gone on with; `None` when it may not.
pub(super) fn validator(headers: &HeaderMap) -> Option<String> {
    let no_ranges = text_of(headers, header::ACCEPT_RANGES)
        .is_some_and(|units| units.trim().eq_ignore_ascii_case("none"));
    if no_ranges || Encoding::of(headers) != Encoding::Identity {
        return None;
    }
    strong_etag(headers)
}

/// The entity tag, quotes and all, if it is a strong one (RFC 9110, section 8.8.3) and fit to be sent back.
fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let text = text_of(headers, header::ETAG)?;
    let text = text.trim();
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let is_fit = inner.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
    (is_fit && text.len() <= MAX_ETAG_BYTES).then(|| text.to_owned())
}

/// The hosts whose answers to ranges were wrong: nothing of theirs is kept to go on with.
#[derive(Debug, Default)]
pub(super) struct Resumable {
    distrusted: Mutex<HashSet<Box<str>>>,
}

impl Resumable {
    /// Whether ranges of this host are to be relied on.
    pub(super) fn is_trusted(&self, host: &str) -> bool {
        !self.distrusted.lock().contains(host)
    }

    /// This host answered a range wrongly.
    pub(super) fn distrust(&self, host: &str) {
        let mut distrusted = self.distrusted.lock();
        if distrusted.len() >= MAX_HOSTS {
            distrusted.clear();
        }
        distrusted.insert(host.into());
    }
}

#[cfg(test)]
mod tests {
    use ureq::http::HeaderValue;

    use super::*;

    fn headers(list: &[(HeaderName, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_a_strong_tag_of_an_unpacked_body_is_a_validator() {
        for (etag, expected) in [
            ("\"a-1\"", Some("\"a-1\"")),
            (" \"a\" ", Some("\"a\"")),
            ("\"\"", Some("\"\"")),
            ("W/\"a\"", None),
            ("w/\"a\"", None),
            ("a", None),
            ("\"", None),
            ("\"a\"b\"", None),
            ("\"a b\"", None),
        ] {
            let found = validator(&headers(&[(header::ETAG, etag)]));
            assert_eq!(found.as_deref(), expected, "{etag}");
        }
        let long = format!("\"{}\"", "x".repeat(MAX_ETAG_BYTES));
        assert_eq!(validator(&headers(&[(header::ETAG, &long)])), None);
        for other in [(header::CONTENT_ENCODING, "gzip"), (header::ACCEPT_RANGES, "none")] {
            assert_eq!(validator(&headers(&[(header::ETAG, "\"a\""), other])), None);
        }
        assert_eq!(validator(&HeaderMap::<HeaderValue>::new()), None);
    }

    #[test]
    fn a_part_must_be_the_one_that_was_asked_for() {
        let partial = Partial {
            url: UrlId::digest("x"),
            etag: "\"a\"".to_owned(),
            bytes: 10,
            total: Some(20),
            digest: String::new(),
        };
        let check = |range: &str, declared, more: &[(HeaderName, &str)]| {
            let mut list = vec![(header::CONTENT_RANGE, range)];
            list.extend_from_slice(more);
            partial.continues_in(&headers(&list), declared)
        };
        assert_eq!(check("bytes 10-19/20", Some(10), &[]), Ok(Some(20)));
        assert_eq!(check("bytes 10-14/*", None, &[(header::ETAG, "\"a\"")]), Ok(Some(20)));
        for range in ["bytes 0-19/20", "bytes 11-19/20", "bytes 10-19/21", "bytes */20", "", "x"] {
            assert!(check(range, None, &[]).is_err(), "{range}");
        }
        assert!(check("bytes 10-19/20", Some(9), &[]).is_err());
        assert!(check("bytes 10-19/20", None, &[(header::ETAG, "\"b\"")]).is_err());
        assert!(check("bytes 10-19/20", None, &[(header::CONTENT_ENCODING, "gzip")]).is_err());
    }

    #[test]
    fn the_hosts_that_are_not_trusted_are_bounded() {
        let resumable = Resumable::default();
        for n in 0..=MAX_HOSTS {
            resumable.distrust(&n.to_string());
        }
        assert!(!resumable.is_trusted(&MAX_HOSTS.to_string()));
        assert!(resumable.distrusted.lock().len() <= MAX_HOSTS);
    }
}
