//! What `fetch` reads of a line, and which URLs that makes.

use serde::Deserialize;
use serde::de::{self, Deserializer};
use url::Url;

use super::verdict::{Tried, Verdict};
use crate::job::ErrorReason;

/// The most URLs of one line that are tried. A line has room for thousands; a checkpoint has not.
pub(super) const MAX_CANDIDATES: usize = 64;
/// The longest URL that is asked. Servers refuse longer ones (RFC 9110, section 4.1, asks for 8,000).
pub(super) const MAX_URL_BYTES: usize = 8_190;

/// The fields of a line that `fetch` reads; all others are somebody else's.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Payload {
    url: Texts,
    pdf_urls: Texts,
    urls: Texts,
    open_access_url: Texts,
    sha256: Option<Sha256>,
    max_bytes: Option<u64>,
    #[serde(alias = "license")]
    licence: Option<String>,
    version: Option<String>,
}

/// A text, a list of texts, or nothing: lines are written by many hands.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum Texts {
    #[default]
    None,
    One(String),
    Many(Vec<Option<String>>),
}

impl Texts {
    fn iter(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Texts::None => Box::new(std::iter::empty()),
            Texts::One(text) => Box::new(std::iter::once(text.as_str())),
            Texts::Many(texts) => Box::new(texts.iter().flatten().map(String::as_str)),
        }
    }
}

/// A SHA-256 as 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sha256(String);

impl Sha256 {
    /// The digits.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Sha256, D::Error> {
        let text = String::deserialize(deserializer)?.trim().to_ascii_lowercase();
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Sha256(text))
        } else {
            Err(de::Error::custom("expected 64 hexadecimal digits"))
        }
    }
}

/// The URLs of a line, in the order in which they are tried.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Candidates {
    /// What can be asked; each once.
    pub(super) urls: Vec<Url>,
    /// What cannot, with the reason.
    pub(super) refused: Vec<Tried>,
}

impl Payload {
    /// The URLs of the line: `url`, `pdf_urls`, `urls`, `open_access_url`.
    pub(super) fn candidates(&self) -> Candidates {
        let mut candidates = Candidates::default();
        let fields = [&self.url, &self.pdf_urls, &self.urls, &self.open_access_url];
        let texts = fields.into_iter().flat_map(Texts::iter).map(str::trim);
        for text in texts.filter(|text| !text.is_empty()) {
            if candidates.urls.len() + candidates.refused.len() >= MAX_CANDIDATES {
                break;
            }
            match parse(text) {
                Ok(url) if candidates.urls.contains(&url) => {}
                Ok(url) => candidates.urls.push(url),
                Err(why) => {
                    let verdict = Verdict::lasting(ErrorReason::BadPayload, why);
                    candidates.refused.push(Tried::text(text, verdict));
                }
            }
        }
        candidates
    }

    /// The checksum the file must have, where the line says.
    pub(super) fn expected_sha256(&self) -> Option<&Sha256> {
        self.sha256.as_ref()
    }

    /// The most bytes a file may have: what the line says, but never more than `configured`.
    pub(super) fn max_bytes(&self, configured: u64) -> u64 {
        self.max_bytes.map_or(configured, |own| own.min(configured))
    }

    /// The licence, where the line says.
    pub(super) fn licence(&self) -> Option<&str> {
        self.licence.as_deref()
    }

    /// The version of the text (`publishedVersion`, …), where the line says.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

/// A text as a URL that can be asked, without its fragment.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    if text.len() > MAX_URL_BYTES {
        return Err(format!("a URL of {} bytes; at most {MAX_URL_BYTES}", text.len()));
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    askable(url)
}

/// The URL without its fragment, if it is one that can be asked.
pub(super) fn askable(mut url: Url) -> Result<Url, String> {
    if !matches!(url.scheme(), "http" | "https") {
        let scheme: String = url.scheme().chars().take(20).collect();
        return Err(format!("{scheme}: is neither http nor https"));
    }
    if url.as_str().len() > MAX_URL_BYTES {
        return Err(format!("a URL of {} bytes; at most {MAX_URL_BYTES}", url.as_str().len()));
    }
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(json: &str) -> Payload {
        serde_json::from_str(json).unwrap()
    }

    fn urls(json: &str) -> Vec<String> {
        payload(json).candidates().urls.iter().map(Url::to_string).collect()
    }

    #[test]
    fn urls_come_in_the_order_of_the_contract_each_once() {
        assert_eq!(
            urls(
                r#"{"open_access_url":"http://d/","urls":["http://b/#x","http://c/"],
                    "pdf_urls":["http://a/","http://b/"],"url":" http://a/ ","doi":"10.1/x"}"#
            ),
            ["http://a/", "http://b/", "http://c/", "http://d/"]
        );
        assert_eq!(urls(r#"{"url":null,"urls":"http://a/","pdf_urls":[null,""]}"#), ["http://a/"]);
        assert!(urls("{}").is_empty());
    }

    #[test]
    fn what_cannot_be_asked_is_kept_with_its_reason() {
        let found = payload(r#"{"urls":["ftp://a/","file:///etc/passwd","no url","http://"]}"#);
        let found = found.candidates();
        assert!(found.urls.is_empty());
        assert_eq!(found.refused.len(), 4);
    }

    #[test]
    fn a_line_with_thousands_of_urls_is_bounded() {
        let many: Vec<String> = (0..5_000).map(|n| format!("http://h/{n}")).collect();
        let json = serde_json::json!({ "urls": many }).to_string();
        assert_eq!(urls(&json).len(), MAX_CANDIDATES);
    }

    #[test]
    fn a_checksum_is_64_digits_and_a_cap_only_lowers() {
        let digits = "AB".repeat(32);
        let line = payload(&format!(r#"{{"sha256":"{digits}","max_bytes":10,"license":"cc-by"}}"#));
        assert_eq!(line.expected_sha256().unwrap().as_str(), digits.to_lowercase());
        assert_eq!((line.max_bytes(5), line.max_bytes(50)), (5, 10));
        assert_eq!(line.licence(), Some("cc-by"));
        assert!(serde_json::from_str::<Payload>(r#"{"sha256":"abc"}"#).is_err());
        assert!(serde_json::from_str::<Payload>(r#"{"url":7}"#).is_err());
    }
}
