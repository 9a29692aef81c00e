//! What became of a candidate that gave no file, and what ends a whole attempt.

use std::fmt;
use std::io;
use std::path::Path;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::Url;

use super::resolve::{Candidate, LINE, Leads};
use crate::handler::MachineFault;
use crate::job::{ErrorReason, Outcome, Reason, Scheme, SkipReason, WallMs};

/// The longest text kept of one URL.
const MAX_SHOWN_URL_BYTES: usize = 200;
/// The longest message kept of one verdict.
const MAX_MESSAGE_BYTES: usize = 200;

/// A verdict on one candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    /// Why it gave no file.
    #[serde(serialize_with = "write_reason", deserialize_with = "read_reason")]
    pub(super) reason: Reason,
    /// One sentence.
    pub(super) message: String,
    /// The status the server answered, where it is what decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    /// Whether it may turn out otherwise later.
    pub(super) passing: bool,
    /// Not before this time, where the server said so (milliseconds since 1970).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) not_before_ms: Option<i64>,
    /// Whether it was a page that led on to candidates, whose verdicts count in its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) leads_on: bool,
}

impl Verdict {
    fn new(reason: Reason, message: impl fmt::Display, passing: bool) -> Verdict {
        let message = sentence(&message);
        Verdict { reason, message, status: None, passing, not_before_ms: None, leads_on: false }
    }

    /// It will not turn out otherwise, however often it is asked.
    pub(super) fn lasting(reason: ErrorReason, message: impl fmt::Display) -> Verdict {
        Verdict::new(Reason::Error(reason), message, false)
    }

    /// It may turn out otherwise later.
    pub(super) fn passing(reason: ErrorReason, message: impl fmt::Display) -> Verdict {
        Verdict::new(Reason::Error(reason), message, true)
    }

    /// It is not to be asked.
    pub(super) fn skipped(reason: SkipReason, message: impl fmt::Display) -> Verdict {
        Verdict::new(Reason::Skipped(reason), message, false)
    }

    /// The same, of a page that led on to other candidates.
    pub(super) fn leading_on(mut self) -> Verdict {
        self.leads_on = true;
        self
    }

    /// The same, decided by this status.
    pub(super) fn with_status(mut self, status: u16) -> Verdict {
        self.status = Some(status);
        self
    }

    /// The same, not to be asked again before `at`.
    pub(super) fn not_before(mut self, at: Option<WallMs>) -> Verdict {
        self.not_before_ms = at.map(|at| at.0);
        self
    }

    /// Whether the server asked to be left alone.
    pub(super) fn is_rate_limit(&self) -> bool {
        self.reason == Reason::Error(ErrorReason::RateLimited)
    }

    /// Whether nobody asked, for its host or service is not worth waiting for.
    pub(super) fn is_given_up(&self) -> bool {
        let reasons = [ErrorReason::RateLimited, ErrorReason::HostDown].map(Reason::Error);
        !self.passing && reasons.contains(&self.reason)
    }

    /// Whether it says no more than that there is nothing at that URL.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self.status, Some(404 | 410))
    }
}

/// A candidate and its verdict, as kept in the particulars of an attempt and in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tried {
    /// Tells two candidates apart whose masked texts are the same.
    pub(super) id: UrlId,
    /// Who named it; empty for what the line gives.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub(super) resolver: Box<str>,
    /// The URL, its query masked.
    pub(super) url: String,
    /// Where in the resolver's answer it stood.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub(super) evidence: Box<str>,
    /// Whether it was asked only for where it leads: a page about the work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) page: bool,
    /// The verdict.
    #[serde(flatten)]
    pub(super) verdict: Verdict,
}

impl Tried {
    /// A verdict on a URL.
    pub(super) fn new(url: &Url, verdict: Verdict) -> Tried {
        let (resolver, evidence) = Default::default();
        Tried { id: UrlId::of(url), resolver, url: shown(url), evidence, page: false, verdict }
    }

    /// The same, of a candidate that `resolver` named.
    pub(super) fn by(mut self, resolver: &str, candidate: &Candidate) -> Tried {
        self.resolver = if resolver == LINE { Box::default() } else { resolver.into() };
        self.evidence = candidate.evidence.clone();
        self.page = candidate.leads == Leads::Page;
        self
    }

    /// Whether `resolver` named it.
    pub(super) fn is_by(&self, resolver: &str) -> bool {
        let own = if self.resolver.is_empty() { LINE } else { &*self.resolver };
        own == resolver
    }

    /// A verdict on a text that is no URL to be asked.
    pub(super) fn text(text: &str, verdict: Verdict) -> Tried {
        let url = match Url::parse(text) {
            Ok(url) if url.has_host() => shown(&url),
            Ok(url) => format!("{}:…", shorten(url.scheme(), 20)),
            Err(_) => {
                // Before an '@' may stand a password, after a '?' a token.
                let bare = text.rsplit('@').next().unwrap_or_default();
                shorten(bare.split('?').next().unwrap_or_default(), 40)
            }
        };
        let (resolver, evidence) = Default::default();
        Tried { id: UrlId::digest(text), resolver, url, evidence, page: false, verdict }
    }
}

/// A short name of a URL or a host, the same for the same one: the first 64 bits of its BLAKE3 hash.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct UrlId(String);

impl UrlId {
    /// The name of the place a URL leads to: the same for all spellings of it that lead there in practice (http and
    /// https, a closing slash, other escapes, a version of an arXiv paper).
    pub(super) fn of(url: &Url) -> UrlId {
        UrlId::digest(&spelled(url))
    }

    /// The name of a request: this very URL, with these cookies.
    pub(super) fn of_request(url: &Url, cookies: Option<&str>) -> UrlId {
        match cookies {
            Some(cookies) => UrlId::digest(&format!("{url}\n{cookies}")),
            None => UrlId::digest(url.as_str()),
        }
    }

    /// The name of a text.
    pub(super) fn digest(text: &str) -> UrlId {
        UrlId(blake3::hash(text.as_bytes()).to_hex()[..16].to_owned())
    }
}

/// One spelling of a URL, for comparing.
fn spelled(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().filter(|port| !matches!(port, 80 | 443));
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(paper) = Scheme::Arxiv.parse(url.as_str())
        && url.path().starts_with("/pdf/")
        && url.query().is_none()
    {
        let bare = paper.normal.trim_end_matches(|c: char| c.is_ascii_digit());
        // Of an old id without a version the digits are its number.
        let paper = bare.strip_suffix('v').unwrap_or(&paper.normal);
        return format!("arxiv.org/pdf/{paper}");
    }
    let rest = format!("{}{query}", url.path());
    let decoded = percent_decode_str(&rest).decode_utf8_lossy();
    format!("{host}{port}{}", decoded.trim_end_matches('/'))
}

/// A URL as messages and logs show it: no user, no password, the query masked, not too long.
pub(super) fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?…" } else { "" };
    let room = MAX_SHOWN_URL_BYTES.saturating_sub(query.len());
    shorten(&format!("{}://{host}{port}{}", url.scheme(), url.path()), room) + query
}

/// A sentence as messages show it: at most 200 bytes, nothing that could command a terminal.
pub(super) fn sentence(text: &impl fmt::Display) -> String {
    shorten(&text.to_string(), MAX_MESSAGE_BYTES)
}

/// The beginning of a text, without the control characters that could command a terminal.
pub(super) fn shorten(text: &str, max_bytes: usize) -> String {
    let printable: String = text.chars().filter(|c| !c.is_control()).collect();
    if printable.len() <= max_bytes {
        return printable;
    }
    let end = printable.floor_char_boundary(max_bytes.saturating_sub('…'.len_utf8()));
    format!("{}…", &printable[..end])
}

/// What stands in the way: of this candidate, or of the whole attempt.
#[derive(Debug)]
pub(super) enum Fault {
    /// The next candidate may do better.
    Candidate(Verdict),
    /// Nothing more can be done in this attempt: cancelled, deferred, or refused by the disk.
    Attempt(Box<Outcome>),
    /// Nothing more can be done in any attempt: no room on the disk.
    Machine(MachineFault),
}

impl From<Verdict> for Fault {
    fn from(verdict: Verdict) -> Fault {
        Fault::Candidate(verdict)
    }
}

impl From<Outcome> for Fault {
    fn from(outcome: Outcome) -> Fault {
        Fault::Attempt(Box::new(outcome))
    }
}

impl From<Result<Outcome, MachineFault>> for Fault {
    fn from(ended: Result<Outcome, MachineFault>) -> Fault {
        ended.map_or_else(Fault::Machine, Fault::from)
    }
}

/// What an attempt comes to when this machine's disk does not take the file.
///
/// # Errors
/// [`MachineFault`] when the disk is full: the next file would fare no better.
pub(super) fn disk_trouble(path: &Path, error: &io::Error) -> Result<Outcome, MachineFault> {
    if let Some(fault) = MachineFault::of_full_disk(path, error) {
        return Err(fault);
    }
    let message = format!("the file system refuses: {}: {error}", path.display());
    Ok(Outcome::retry(ErrorReason::Internal, message))
}

/// An optional reason, by its name.
pub(super) mod reason_name {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::job::Reason;

    #[expect(clippy::ref_option, reason = "serde passes references")]
    pub(in crate::handler::fetch) fn serialize<S: Serializer>(
        reason: &Option<Reason>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(reason.map(Reason::name).unwrap_or_default())
    }

    pub(in crate::handler::fetch) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Reason>, D::Error> {
        Ok(Reason::from_name(&String::deserialize(deserializer)?))
    }
}

fn write_reason<S: Serializer>(reason: &Reason, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.name())
}

fn read_reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Reason, D::Error> {
    let name = String::deserialize(deserializer)?;
    Reason::from_name(&name).ok_or_else(|| de::Error::custom("expected the name of a reason"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_keeps_secrets_to_itself() {
        for (text, expected) in [
            ("https://user:secret@h.org:8443/a/b?token=abc", "https://h.org:8443/a/b?…"),
            ("http://h.org", "http://h.org/"),
            ("http://h.org/?", "http://h.org/?…"),
        ] {
            assert_eq!(shown(&Url::parse(text).unwrap()), expected);
        }
        let verdict = || Verdict::lasting(ErrorReason::BadPayload, "x");
        for text in [
            "ftp://user:secret@h/x?token=secret",
            "user:secret@h?token=secret",
            "http://user:secret@:999999/?token=secret",
            "no url at all?secret",
        ] {
            let tried = Tried::text(text, verdict());
            assert!(!tried.url.contains("secret"), "{}", tried.url);
        }
    }

    #[test]
    fn spellings_of_one_place_have_one_name() {
        let id = |text: &str| UrlId::of(&Url::parse(text).unwrap());
        for (one, other) in [
            ("http://h.org/a", "https://h.org/a/"),
            ("http://h.org:80/a", "https://h.org:443/a"),
            ("http://h.org/a%20(b)", "http://h.org/a%20%28b%29"),
            ("https://arxiv.org/pdf/2101.00001", "http://export.arxiv.org/pdf/2101.00001v3.pdf"),
            ("https://arxiv.org/pdf/cs/0503050", "http://arxiv.org/pdf/cs/0503050v1"),
        ] {
            assert_eq!(id(one), id(other), "{one} {other}");
        }
        for (one, other) in [
            ("http://h.org/a", "http://h.org/a?b"),
            ("http://h.org/a", "http://h.org:8080/a"),
            ("https://arxiv.org/pdf/2101.00001", "https://arxiv.org/pdf/2101.00002"),
            ("https://arxiv.org/pdf/2101.00001", "https://arxiv.org/abs/2101.00001"),
            ("https://arxiv.org/pdf/2101.00001", "https://arxiv.org/pdf/2101.00001?download=1"),
        ] {
            assert_ne!(id(one), id(other), "{one} {other}");
        }
        let url = Url::parse("http://h.org/a").unwrap();
        assert_ne!(UrlId::of_request(&url, None), UrlId::of_request(&url, Some("a=1")));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let url = Url::parse(&format!("http://h/{}", "x".repeat(5_000))).unwrap();
        assert_eq!(shown(&url).len(), MAX_SHOWN_URL_BYTES);
        let message = Verdict::passing(ErrorReason::Dns, "é".repeat(5_000)).message;
        assert!(message.len() <= MAX_MESSAGE_BYTES && message.ends_with("é…"), "{message}");
        assert_eq!(Verdict::passing(ErrorReason::Dns, "a\u{1b}[2Jb").message, "a[2Jb");
    }

    #[test]
    fn a_verdict_survives_json() {
        let url = Url::parse("http://h/?q").unwrap();
        let verdict = Verdict::passing(ErrorReason::RateLimited, "busy")
            .with_status(429)
            .not_before(Some(WallMs(7)));
        let tried = Tried::new(&url, verdict);
        let json = serde_json::to_string(&tried).unwrap();
        assert_eq!(serde_json::from_str::<Tried>(&json).unwrap(), tried);
        assert!(json.contains(r#""reason":"rate_limited""#), "{json}");
    }
}
