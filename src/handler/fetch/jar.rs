//! The cookies of one job: a jar of its own, filled and emptied with the attempt.
//!
//! Some servers give a file only to who brings back the cookie they have just set. Nothing of one job's jar is ever sent for
//! another's. Must stay small: it is part of the job's checkpoint.

use cookie_store::CookieStore;
use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, header};
use url::Url;

/// The most cookies kept.
const MAX_COOKIES: usize = 16;
/// The most bytes of all that is kept.
const MAX_KEPT_BYTES: usize = 4 * 1_024;

/// A cookie as its server set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// Who set it, without a query.
    #[serde(rename = "u")]
    url: Url,
    /// The header.
    #[serde(rename = "c")]
    set_cookie: Box<str>,
}

/// A jar.
#[derive(Debug, Default)]
pub(super) struct Jar {
    store: CookieStore,
    kept: Vec<Kept>,
}

impl Jar {
    /// The jar that holds these.
    pub(super) fn of(kept: &[Kept]) -> Jar {
        let mut jar = Jar::default();
        for one in kept {
            jar.add(one.clone());
        }
        jar
    }

    /// What it holds.
    pub(super) fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// Takes what an answer of that URL sets. Cookies that are no text, or for another site, are left.
    pub(super) fn take(&mut self, headers: &HeaderMap, url: &Url) {
        for value in headers.get_all(header::SET_COOKIE) {
            let Ok(set_cookie) = value.to_str() else { continue };
            let mut url = url.clone();
            url.set_query(None);
            self.add(Kept { url, set_cookie: set_cookie.into() });
        }
    }

    fn add(&mut self, one: Kept) {
        let size = |kept: &Kept| kept.set_cookie.len() + kept.url.as_str().len();
        let used: usize = self.kept.iter().map(size).sum();
        if self.kept.len() >= MAX_COOKIES || used + size(&one) > MAX_KEPT_BYTES {
            return;
        }
        if self.store.parse(&one.set_cookie, &one.url).is_ok() && !self.kept.contains(&one) {
            self.kept.push(one);
        }
    }

    /// The `Cookie` header of a request for that URL.
    pub(super) fn header(&self, url: &Url) -> Option<String> {
        let mut pairs: Vec<String> = self
            .store
            .get_request_values(url)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        // The store has no order of its own, and a loop is known by the header.
        pairs.sort_unstable();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn set(jar: &mut Jar, at: &str, cookies: &[&str]) {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(header::SET_COOKIE, cookie.parse().unwrap());
        }
        jar.take(&headers, &url(at));
    }

    #[test]
    fn a_cookie_goes_back_to_its_own_site_only() {
        let mut jar = Jar::default();
        set(
            &mut jar,
            "https://a.test/x?token=1",
            &["seen=1; Path=/", "b=2; Path=/y; Secure", "evil=1; Domain=b.test"],
        );
        assert_eq!(jar.header(&url("https://a.test/z")).as_deref(), Some("seen=1"));
        assert_eq!(jar.header(&url("https://a.test/y/1")).as_deref(), Some("b=2; seen=1"));
        // A secure cookie is not sent in the clear.
        assert_eq!(jar.header(&url("http://a.test/y/1")).as_deref(), Some("seen=1"));
        assert_eq!(jar.header(&url("https://b.test/")), None);
        let again = Jar::of(jar.kept());
        assert_eq!(
            again.header(&url("https://a.test/y/1")),
            jar.header(&url("https://a.test/y/1"))
        );
        assert!(!serde_json::to_string(jar.kept()).unwrap().contains("token"));
    }

    #[test]
    fn a_cookie_that_is_taken_back_is_gone_and_a_jar_stays_small() {
        let mut jar = Jar::default();
        set(&mut jar, "https://a.test/", &["seen=1"]);
        set(&mut jar, "https://a.test/", &["seen=; Max-Age=0"]);
        assert_eq!(jar.header(&url("https://a.test/")), None);
        let many: Vec<String> = (0..100).map(|n| format!("c{n}={}", "x".repeat(500))).collect();
        set(&mut jar, "https://a.test/", &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(serde_json::to_vec(jar.kept()).unwrap().len() < 2 * MAX_KEPT_BYTES);
    }
}
