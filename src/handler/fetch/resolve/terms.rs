//! What a service is asked with, and how its URLs are made.
//!
//! Must never let an identifier climb out of the path that it is put into.

use url::Url;

use super::ApiKey;

/// What one service is asked with.
#[derive(Debug, Clone)]
pub(in crate::handler::fetch) struct Terms {
    /// Where it is, without a slash at the end.
    pub(in crate::handler::fetch) base: Url,
    /// Our key.
    pub(in crate::handler::fetch) key: Option<ApiKey>,
    /// An address where its operators reach us.
    pub(in crate::handler::fetch) contact: Option<Box<str>>,
}

impl Terms {
    /// The base with these path segments, each percent-encoded as one segment (a `/` in it as `%2F`), below it.
    ///
    /// A segment `.` or `..` means a place in a URL, however it is encoded (url.spec.whatwg.org, "double-dot URL path segment").
    /// It becomes the end of the segment before it, the slash between them encoded: to whoever decodes it the path is the same.
    pub(in crate::handler::fetch) fn url<'s>(
        &self,
        segments: impl IntoIterator<Item = &'s str>,
    ) -> Url {
        let mut whole: Vec<String> = Vec::new();
        for segment in segments {
            match whole.last_mut() {
                Some(before) if matches!(segment, "." | "..") => {
                    before.push('/');
                    before.push_str(segment);
                }
                _ => whole.push(segment.to_owned()),
            }
        }
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(whole);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::terms;
    use super::*;

    #[test]
    fn no_part_of_an_identifier_is_lost_or_climbs() {
        for (doi, expected) in [
            ("10.1234/a/b", "https://h.test/v2/10.1234/a/b"),
            ("10.1234//a", "https://h.test/v2/10.1234//a"),
            ("10.1234/a/../b", "https://h.test/v2/10.1234/a%2F../b"),
            ("10.1234/a/./../b", "https://h.test/v2/10.1234/a%2F.%2F../b"),
            ("10.1234/..", "https://h.test/v2/10.1234%2F.."),
            ("10.1234/a/%2e%2e/b", "https://h.test/v2/10.1234/a/%252e%252e/b"),
        ] {
            let url = terms("https://h.test/v2").url(doi.split('/'));
            assert_eq!(url.as_str(), expected);
            assert_eq!(Url::parse(url.as_str()), Ok(url), "{doi}");
        }
    }
}
