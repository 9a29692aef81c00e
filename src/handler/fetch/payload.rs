//! What `fetch` reads of a line: which work is wanted, and which URLs are given for it.

use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::Value;
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
    publication_year: Aside,
    resolver_hint: Aside,
    resolver: Aside,
    #[serde(deserialize_with = "read_sha256")]
    sha256: Option<Sha256>,
    #[serde(deserialize_with = "read_bytes")]
    max_bytes: Option<u64>,
    licence: Aside,
    license: Aside,
    version: Aside,
}

/// Texts that say what is wanted, none of them blank: a text, a number, a list of such, or nothing. Lines are written by many
/// hands.
#[derive(Debug, Default)]
struct Texts(Vec<String>);

/// The same, of a field without which the work can be done: what cannot be read is as nothing.
#[derive(Debug, Default)]
struct Aside(Option<String>);

impl Texts {
    fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Texts, D::Error> {
        let texts = match Value::deserialize(deserializer)? {
            Value::Array(list) => list.iter().filter_map(text).collect(),
            Value::Object(_) => {
                return Err(de::Error::custom("expected a text or a list of texts"));
            }
            one => text(&one).into_iter().collect(),
        };
        Ok(Texts(texts))
    }
}

impl<'de> Deserialize<'de> for Aside {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Aside, D::Error> {
        Ok(Aside(match Value::deserialize(deserializer)? {
            Value::Array(list) => list.iter().find_map(text),
            one => text(&one),
        }))
    }
}

/// A text or a number as text, trimmed; `None` for a blank one and for everything else.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Some(text).filter(|text| !text.is_empty())
}

/// A whole number, also as a text; nothing for a blank one.
fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let Some(text) = text(&value) else {
        let is_nothing = matches!(&value, Value::Null | Value::String(_));
        return if is_nothing { Ok(None) } else { Err(de::Error::custom("expected a number")) };
    };
    text.parse().map(Some).map_err(|_| de::Error::custom("expected a whole number of bytes"))
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

/// A checksum; nothing for a blank one.
fn read_sha256<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Sha256>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    let text = text.trim().to_ascii_lowercase();
    match text.len() {
        0 => Ok(None),
        64 if text.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(Some(Sha256(text))),
        _ => Err(de::Error::custom("expected 64 hexadecimal digits")),
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
            texts.texts().for_each(|text| work.identify(scheme, text));
        }
        work.year = self.publication_year.0.as_deref().and_then(|year| year.parse().ok());
        let files = [&self.url, &self.pdf_urls, &self.urls, &self.open_access_url];
        for text in files.into_iter().flat_map(Texts::texts) {
            wanted.take(text, false);
        }
        for text in self.landing_urls.texts() {
            wanted.take(text, true);
        }
        wanted
    }

    /// The name of the limit that the line's own URLs count by, where the line says.
    pub(super) fn hint(&self) -> Option<String> {
        self.resolver_hint.0.as_ref().or(self.resolver.0.as_ref()).cloned()
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
        self.licence.0.as_deref().or(self.license.0.as_deref())
    }

    /// The version of the text (`publishedVersion`, …), where the line says.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.0.as_deref()
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
    fn odd_types_in_a_line_do_not_spoil_it() {
        let line = payload(
            r#"{"pmid":[31452104,null,true],"doi":[null,"","10.1234/x"],"publication_year":2019.0,"version":1,
                "license":null,"licence":["cc-by"],"resolver":"mirror","resolver_hint":null,"max_bytes":"1000",
                "urls":[7,"http://a/",{"url":"http://b/"}],"url":false,"sha256":null,"title":["x"]}"#,
        );
        let work = line.wanted().work;
        assert_eq!(work.pmid.as_deref(), Some("31452104"));
        assert_eq!((work.doi.as_deref(), work.given.len()), (Some("10.1234/x"), 1));
        assert_eq!((line.licence(), line.version()), (Some("cc-by"), Some("1")));
        assert_eq!((line.hint().as_deref(), line.max_bytes(5_000)), (Some("mirror"), 1_000));
        for aside in ["license", "licence", "version", "publication_year", "resolver"] {
            let line = payload(&format!(r#"{{"{aside}":{{"a":1}},"url":"http://a/"}}"#));
            assert_eq!(line.wanted().work.given.len(), 1, "{aside}");
        }
        assert_eq!(payload(r#"{"max_bytes":" ","sha256":" "}"#).max_bytes(5), 5);
        assert!(serde_json::from_str::<Payload>(r#"{"max_bytes":"much"}"#).is_err());
        // What is no identifier identifies nothing.
        assert_eq!(payload(r#"{"doi":"none","pmid":"x"}"#).wanted().work, Work::default());
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
