//! What `fetch` reads of a line: which work is wanted, and which URLs are given for it.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{self, Deserializer};
use url::Url;

use super::resolve::Work;
use super::verdict::{Tried, Verdict};
use crate::job::{ErrorReason, Identifier, Scheme};

/// The most URLs of one line that are tried. A line has room for thousands; a checkpoint has not, and some of that is for
/// what services know.
pub(super) const MAX_CANDIDATES: usize = 32;
/// The most texts of one line that are told of because they are no URLs.
const MAX_REFUSED: usize = 8;
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
    landing_urls: Texts,
    doi: Texts,
    arxiv_id: Texts,
    pmcid: Texts,
    pmid: Texts,
    publication_year: Texts,
    #[serde(alias = "resolver")]
    resolver_hint: Texts,
    sha256: Option<Sha256>,
    max_bytes: Option<u64>,
    #[serde(alias = "license")]
    licence: Option<String>,
    version: Option<String>,
}

/// A text, a whole number, a list of texts, or nothing: lines are written by many hands.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
enum Texts {
    #[default]
    None,
    One(String),
    Number(u64),
    Many(Vec<Option<String>>),
}

impl Texts {
    fn iter(&self) -> Box<dyn Iterator<Item = Cow<'_, str>> + '_> {
        match self {
            Texts::None => Box::new(std::iter::empty()),
            Texts::One(text) => Box::new(std::iter::once(Cow::Borrowed(text.as_str()))),
            Texts::Number(number) => Box::new(std::iter::once(Cow::Owned(number.to_string()))),
            Texts::Many(texts) => {
                Box::new(texts.iter().flatten().map(|text| Cow::Borrowed(text.as_str())))
            }
        }
    }

    /// The texts that are not blank, trimmed.
    fn texts(&self) -> impl Iterator<Item = String> + '_ {
        self.iter().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
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

/// What a line asks for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wanted {
    /// The work, with the URLs that were given for it; each once.
    pub(super) work: Work,
    /// What cannot be asked, with the reason.
    pub(super) refused: Vec<Tried>,
}

impl Payload {
    /// The work: its identifiers, the URLs `url`, `pdf_urls`, `urls`, `open_access_url`, and the pages in `landing_urls`. A URL
    /// that is an identifier (doi.org, an abstract at arxiv.org) is a page about the work, and identifies it.
    pub(super) fn wanted(&self) -> Wanted {
        let mut wanted = Wanted::default();
        let work = &mut wanted.work;
        let by_scheme = [
            (Scheme::Doi, &self.doi),
            (Scheme::Arxiv, &self.arxiv_id),
            (Scheme::Pmcid, &self.pmcid),
            (Scheme::Pmid, &self.pmid),
        ];
        for (scheme, texts) in by_scheme {
            texts.texts().for_each(|text| work.identify(scheme, &text));
        }
        work.year = self.publication_year.texts().find_map(|year| year.parse().ok());
        let files = [&self.url, &self.pdf_urls, &self.urls, &self.open_access_url];
        for text in files.into_iter().flat_map(Texts::texts) {
            wanted.take(&text, false);
        }
        for text in self.landing_urls.texts() {
            wanted.take(&text, true);
        }
        wanted
    }

    /// The name of the limit that the line's own URLs count by, where the line says.
    pub(super) fn hint(&self) -> Option<String> {
        self.resolver_hint.texts().next()
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

impl Wanted {
    fn take(&mut self, text: &str, is_page: bool) {
        let work = &mut self.work;
        if work.given.len() + work.pages.len() >= MAX_CANDIDATES {
            return;
        }
        let url = match parse(text) {
            Ok(url) => url,
            Err(why) => {
                if self.refused.len() < MAX_REFUSED {
                    let verdict = Verdict::lasting(ErrorReason::BadPayload, why);
                    self.refused.push(Tried::text(text, verdict));
                }
                return;
            }
        };
        let named = Identifier::recognise(text).ok().filter(|found| found.scheme != Scheme::Url);
        if let Some(found) = &named {
            work.identify(found.scheme, &found.normal);
        }
        let is_file = named.is_none() || url.path().contains("/pdf/");
        let urls = if is_page || !is_file { &mut work.pages } else { &mut work.given };
        if !urls.contains(&url) {
            urls.push(url);
        }
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
        payload(json).wanted().work.given.iter().map(Url::to_string).collect()
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
        let found = found.wanted();
        assert!(found.work.given.is_empty());
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
        assert!(serde_json::from_str::<Payload>(r#"{"url":{}}"#).is_err());
    }

    #[test]
    fn a_line_names_its_work_in_any_spelling() {
        let line = payload(
            r#"{"doi":"https://doi.org/10.1234/ABC","pmid":31452104,"pmcid":"123","publication_year":"2019",
                "resolver":"mirror","url":"https://arxiv.org/abs/2101.00001v2","landing_urls":["http://h/page"]}"#,
        );
        let work = line.wanted().work;
        assert_eq!(work.doi.as_deref(), Some("10.1234/abc"));
        assert_eq!(work.pmid.as_deref(), Some("31452104"));
        assert_eq!(work.pmcid.as_deref(), Some("PMC123"));
        assert_eq!(work.arxiv.as_deref(), Some("2101.00001v2"));
        assert_eq!((work.year, line.hint().as_deref()), (Some(2019), Some("mirror")));
        assert!(work.given.is_empty());
        let pages: Vec<&str> = work.pages.iter().map(Url::as_str).collect();
        assert_eq!(pages, ["https://arxiv.org/abs/2101.00001v2", "http://h/page"]);
        let pdf = payload(r#"{"url":"https://arxiv.org/pdf/2101.00001"}"#).wanted().work;
        assert_eq!((pdf.given.len(), pdf.arxiv.as_deref()), (1, Some("2101.00001")));
    }
}
