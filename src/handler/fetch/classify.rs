//! What an answer means: an error of the client, a status, or bytes that are no PDF.

use std::io::ErrorKind;

use serde::{Deserialize, Serialize};
use ureq::Error;
use ureq::http::StatusCode;
use url::Url;

use super::address::Refused;
use super::client::{self, NoAnswer};
use super::dns::Unresolved;
use super::scope::Cancelled;
use super::verdict::{Fault, Verdict, shown};
use super::wall;
use crate::job::{ErrorReason, SkipReason, WallMs};

/// How far from its beginning a file may say that it is a PDF. Readers accept as much
/// (ISO 32000-1, implementation note 13).
pub(super) const PDF_HEAD_BYTES: usize = 1_024;
const PDF_MARK: &[u8] = b"%PDF-";

/// How files begin that may hold a PDF unpacked, but are none: gzip and ZIP.
const CONTAINERS: [&[u8]; 2] = [b"\x1f\x8b", b"PK\x03\x04"];

/// Where the PDF begins, when the head of a file says that it is one, with at most 1 KiB before it.
pub(super) fn pdf_offset(head: &[u8]) -> Option<usize> {
    if CONTAINERS.iter().any(|container| head.starts_with(container)) {
        return None;
    }
    let head = &head[..head.len().min(PDF_HEAD_BYTES + PDF_MARK.len())];
    head.windows(PDF_MARK.len()).position(|window| window == PDF_MARK)
}

/// What may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A PDF.
    #[default]
    Pdf,
    /// A web page that holds the text.
    Html,
    /// The text in XML: JATS, TEI and their kin.
    Xml,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::Pdf, Kind::Html, Kind::Xml];

    /// The kind of that name: `pdf`, `html`, `xml`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.extension() == name)
    }

    /// Its name, which is also the extension of its files, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Kind::Pdf => "pdf",
            Kind::Html => "html",
            Kind::Xml => "xml",
        }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Kind::Pdf => "application/pdf",
            Kind::Html => "text/html",
            Kind::Xml => "application/xml",
        }
    }
}

/// What a body is, by its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// A PDF that begins here.
    Pdf {
        /// How many bytes stand before it.
        offset: usize,
    },
    /// A web page.
    Html,
    /// A text in XML.
    Xml {
        /// Its outermost element, as written.
        root: String,
    },
    /// Neither.
    Other,
}

impl Content {
    /// As what it may be kept.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Content::Pdf { .. } => Some(Kind::Pdf),
            Content::Html => Some(Kind::Html),
            Content::Xml { .. } => Some(Kind::Xml),
            Content::Other => None,
        }
    }

    /// How many bytes stand before the PDF.
    pub(super) fn pdf_offset(&self) -> usize {
        if let Content::Pdf { offset } = self { *offset } else { 0 }
    }
}

/// What a body that begins so is.
pub(super) fn sniff(head: &[u8]) -> Content {
    if let Some(offset) = pdf_offset(head) {
        return Content::Pdf { offset };
    }
    let text = String::from_utf8_lossy(head);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let root = root_element(text);
    if let Some(root) = root
        && (text.starts_with("<?xml") || is_text_root(root))
        && !is_no_text_root(root)
    {
        return Content::Xml { root: root.to_owned() };
    }
    if !text.starts_with("<?xml") && wall::is_html(&text.to_lowercase()) {
        return Content::Html;
    }
    let is_xhtml = root.is_some_and(|root| local(root).eq_ignore_ascii_case("html"));
    if is_xhtml { Content::Html } else { Content::Other }
}

/// Roots that are texts even where nothing says that the file is XML.
fn is_text_root(root: &str) -> bool {
    matches!(local(root), "article" | "TEI" | "teiCorpus" | "pmc-articleset")
}

/// Roots of XML that is no text: pages, feeds, lists and complaints.
fn is_no_text_root(root: &str) -> bool {
    let root = local(root).to_ascii_lowercase();
    matches!(root.as_str(), "html" | "rss" | "feed" | "rdf" | "urlset" | "sitemapindex" | "svg")
        || ["error", "exception", "fault"].iter().any(|word| root.contains(word))
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// The name of the first element of an XML file, past its prolog; `None` where there is none.
fn root_element(mut text: &str) -> Option<&str> {
    loop {
        text = text.trim_start();
        let after = |end: &str, from: &'_ str| from.find(end).map(|at| at + end.len());
        let skip = if text.starts_with("<?") {
            after("?>", text)?
        } else if text.starts_with("<!--") {
            after("-->", text)?
        } else if text.starts_with("<!") {
            // A document type may hold declarations of its own, in brackets.
            let (end, bracket) = (after(">", text)?, text.find('['));
            if bracket.is_some_and(|at| at < end) { after("]>", text)? } else { end }
        } else {
            let name = text.strip_prefix('<')?;
            let end = name.find(|c: char| c.is_whitespace() || c == '>' || c == '/');
            return Some(&name[..end?]).filter(|name| !name.is_empty());
        };
        text = &text[skip..];
    }
}

/// Whether the last bytes of an XML file close its outermost element.
pub(super) fn is_xml_end(tail: &[u8], root: &str) -> bool {
    let tail = tail.trim_ascii_end();
    let closing = format!("</{root}");
    tail.ends_with(b">") && memchr::memmem::rfind(tail, closing.as_bytes()).is_some()
}

/// How a PDF ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PdfEnd {
    /// With its mark, `%%EOF`.
    Marked,
    /// Without it, but with the `startxref` that stands before it: a habit of some writers.
    NoMark,
    /// Not at all: something is missing.
    Missing,
}

/// How the file ends whose last bytes these are. Padding after it is no part of it.
pub(super) fn pdf_end(tail: &[u8]) -> PdfEnd {
    let end = tail.iter().rposition(|b| !b.is_ascii_whitespace() && *b != 0).map_or(0, |at| at + 1);
    let tail = &tail[..end];
    let has = |bytes: &[u8], mark: &[u8]| memchr::memmem::find(bytes, mark).is_some();
    if has(&tail[end.saturating_sub(1_024)..], b"%%EOF") {
        PdfEnd::Marked
    } else if has(tail, b"startxref") {
        PdfEnd::NoMark
    } else {
        PdfEnd::Missing
    }
}

/// The verdict on an answer that is neither 200 nor a redirect.
pub(super) fn status(
    status: StatusCode,
    retry_after_ms: Option<u64>,
    now: WallMs,
    page: &[u8],
) -> Verdict {
    let code = status.as_u16();
    let message = match status.canonical_reason() {
        Some(reason) => format!("the server answered {code} {reason}"),
        None => format!("the server answered {code}"),
    };
    let told_to_wait = matches!(code, 429) || (code == 503 && retry_after_ms.is_some());
    let verdict = match code {
        401 | 403 | 503 if wall::is_challenge(page) => {
            let message = format!("{message}, with a page that wants to see a human");
            Verdict::lasting(ErrorReason::Challenge, message)
        }
        _ if told_to_wait => Verdict::passing(ErrorReason::RateLimited, message),
        // 202: being prepared; 408, 425, 429: too slow, too early, too often.
        202 | 408 | 425 => Verdict::passing(ErrorReason::HttpStatus, message),
        // Never going to work, however often it is asked.
        501 | 505 => Verdict::lasting(ErrorReason::HttpStatus, message),
        500..=599 => Verdict::passing(ErrorReason::HttpStatus, message),
        _ => Verdict::lasting(ErrorReason::HttpStatus, message),
    };
    let at = retry_after_ms.filter(|_| verdict.passing).map(|ms| now.plus_ms(ms));
    verdict.with_status(code).not_before(at)
}

/// What it means that no answer came.
pub(super) fn before_body(NoAnswer { error, at_proxy }: NoAnswer, url: &Url) -> Fault {
    let host = url.host_str().unwrap_or_default();
    let host = if at_proxy { format!("the proxy on the way to {host}") } else { host.to_owned() };
    let passing = |reason, what: String| Fault::Candidate(Verdict::passing(reason, what));
    let lasting = |reason, what: String| Fault::Candidate(Verdict::lasting(reason, what));
    match error {
        Error::Other(inner) => from_us(&*inner),
        Error::HostNotFound => passing(ErrorReason::Dns, format!("{host} has no address")),
        Error::Timeout(which) => {
            passing(ErrorReason::Timeout, format!("{host} did not answer in time ({which})"))
        }
        // rustls hands its own errors through as invalid data.
        Error::Io(inner) if inner.kind() == ErrorKind::InvalidData => {
            lasting(ErrorReason::Tls, format!("{host}: {inner}"))
        }
        Error::Io(inner) => passing(ErrorReason::Connect, format!("{host}: {inner}")),
        Error::Rustls(_) | Error::Tls(_) | Error::TlsRequired | Error::Pem(_) => {
            lasting(ErrorReason::Tls, format!("{host}: {error}"))
        }
        Error::ConnectProxyFailed(_) | Error::ConnectionFailed => {
            passing(ErrorReason::Connect, format!("{host}: {error}"))
        }
        Error::Protocol(_) => {
            passing(ErrorReason::Connect, format!("{host} does not speak HTTP: {error}"))
        }
        Error::LargeResponseHeader(..) => {
            lasting(ErrorReason::UnexpectedContent, format!("{host}: {error}"))
        }
        // These quote the whole URL.
        Error::BadUri(_) | Error::Http(_) => {
            lasting(ErrorReason::BadPayload, format!("cannot ask for {}", shown(url)))
        }
        other => passing(ErrorReason::Internal, format!("{host}: {other}")),
    }
}

/// What an error in the midst of the body means.
pub(super) fn within_body(error: std::io::Error, bytes: u64) -> Fault {
    let kind = error.kind();
    let truncated = |why: &str| {
        let message = format!("the body ended after {bytes} bytes: {why}");
        Fault::Candidate(Verdict::passing(ErrorReason::Truncated, message))
    };
    match Error::from(error) {
        Error::Other(inner) => from_us(&*inner),
        Error::Timeout(_) => {
            let message = format!("the body stood still after {bytes} bytes");
            Fault::Candidate(Verdict::passing(ErrorReason::Timeout, message))
        }
        error if client::is_disconnect(&error) => truncated("the connection was closed"),
        Error::Protocol(_) => truncated("a chunk is damaged"),
        _ if matches!(kind, ErrorKind::InvalidInput | ErrorKind::InvalidData) => {
            truncated("its encoding is damaged")
        }
        other => truncated(&other.to_string()),
    }
}

/// What our own parts of the client said.
fn from_us(error: &(dyn std::error::Error + 'static)) -> Fault {
    if let Some(Cancelled(reason)) = error.downcast_ref::<Cancelled>() {
        return reason.outcome().into();
    }
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return Verdict::skipped(SkipReason::PrivateAddress, refused).into();
    }
    if let Some(unresolved) = error.downcast_ref::<Unresolved>() {
        return Verdict::passing(ErrorReason::Dns, unresolved).into();
    }
    Verdict::passing(ErrorReason::Internal, error).into()
}

#[cfg(test)]
mod tests {
    use std::io;

    use ureq::Timeout;

    use super::*;
    use crate::job::Reason;

    #[test]
    fn a_pdf_may_begin_within_the_first_kibibyte() {
        let at = |junk: usize| pdf_offset(&[&vec![b' '; junk][..], b"%PDF-1.7"].concat());
        assert_eq!(at(0), Some(0));
        assert_eq!(at(1_024), Some(1_024));
        assert_eq!(at(1_025), None);
        assert_eq!(pdf_offset(b"%PDF"), None);
        assert_eq!(pdf_offset(b"PK\x03\x04 stored.pdf %PDF-1.7"), None);
    }

    #[test]
    fn the_end_of_a_pdf_is_known_by_either_mark() {
        let padded = [&b"%%EOF\n"[..], &[0; 3_000][..]].concat();
        let early = [&b"%%EOF"[..], &[b'x'; 2_000][..]].concat();
        assert_eq!(pdf_end(b"startxref\n12\n%%EOF"), PdfEnd::Marked);
        assert_eq!(pdf_end(b"startxref\n12\n"), PdfEnd::NoMark);
        assert_eq!(pdf_end(&padded), PdfEnd::Marked);
        assert_eq!(pdf_end(&early), PdfEnd::Missing);
        assert_eq!(pdf_end(b""), PdfEnd::Missing);
    }

    #[test]
    fn bodies_are_known_by_their_first_bytes() {
        let xml = |root: &str| Content::Xml { root: root.to_owned() };
        for (text, expected) in [
            ("%PDF-1.7", Content::Pdf { offset: 0 }),
            ("\u{feff}<!DOCTYPE html><p>x", Content::Html),
            ("<HTML><body>", Content::Html),
            (
                "<?xml version=\"1.0\"?><!DOCTYPE html PUBLIC \"x\"><html xmlns=\"y\">",
                Content::Html,
            ),
            ("<?xml version=\"1.0\"?>\n<!-- a > b -->\n<article dtd=\"1\"><body>", xml("article")),
            ("<!DOCTYPE article [<!ENTITY a \"<b>\"> ]><article>", xml("article")),
            ("<TEI xmlns=\"t\"><text><body>", xml("TEI")),
            ("<?xml version=\"1.0\"?><t:TEI>", xml("t:TEI")),
            ("<?xml version=\"1.0\"?><rss><channel><title>", Content::Other),
            ("<?xml version=\"1.0\"?><feed>", Content::Other),
            ("<?xml version=\"1.0\"?><Error><Code>AccessDenied", Content::Other),
            ("<?xml version=\"1.0\"?>", Content::Other),
            ("<?xml", Content::Other),
            ("<!", Content::Other),
            ("<", Content::Other),
            ("{\"error\":\"<html>\"}", Content::Other),
            ("{}", Content::Other),
            ("", Content::Other),
        ] {
            assert_eq!(sniff(text.as_bytes()), expected, "{text}");
        }
        assert!(is_xml_end(b"<p/></article>\n", "article"));
        assert!(!is_xml_end(b"<p/></article", "article"));
        assert!(!is_xml_end(b"<article><p/>", "article"));
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.extension()), Some(kind));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_beginning_is_survived(bytes: Vec<u8>, text in "<[?!a-z<>\\[\\] -]*") {
            sniff(&bytes);
            sniff(text.as_bytes());
        }
    }

    #[test]
    fn statuses_last_or_pass() {
        let check = |code: u16, after, reason, passing| {
            let verdict = status(StatusCode::from_u16(code).unwrap(), after, WallMs(0), b"");
            assert_eq!(verdict.reason, Reason::Error(reason), "{code}");
            assert_eq!(verdict.passing, passing, "{code}");
        };
        for code in [204, 206, 304, 400, 401, 402, 403, 404, 406, 410, 451, 501] {
            check(code, None, ErrorReason::HttpStatus, false);
        }
        for code in [202, 408, 425, 500, 502, 503, 504, 520] {
            check(code, None, ErrorReason::HttpStatus, true);
        }
        check(429, None, ErrorReason::RateLimited, true);
        check(503, Some(0), ErrorReason::RateLimited, true);
        let page = b"<html>Just a moment";
        let verdict = status(StatusCode::FORBIDDEN, None, WallMs(0), page);
        assert_eq!(verdict.reason, Reason::Error(ErrorReason::Challenge));
    }

    #[test]
    fn errors_of_the_client_have_their_reasons_and_no_secrets() {
        let url = Url::parse("http://user:secret@h.test/a?secret").unwrap();
        let io = |kind| Error::Io(io::Error::from(kind));
        for (error, reason, passing) in [
            (Error::HostNotFound, ErrorReason::Dns, true),
            (Error::Timeout(Timeout::Connect), ErrorReason::Timeout, true),
            (io(ErrorKind::ConnectionRefused), ErrorReason::Connect, true),
            (io(ErrorKind::UnexpectedEof), ErrorReason::Connect, true),
            (io(ErrorKind::InvalidData), ErrorReason::Tls, false),
            (Error::Tls("bad"), ErrorReason::Tls, false),
            (Error::ConnectProxyFailed("403".into()), ErrorReason::Connect, true),
            (Error::BadUri("http://h/?secret".into()), ErrorReason::BadPayload, false),
        ] {
            let no_answer = NoAnswer { error, at_proxy: false };
            let Fault::Candidate(verdict) = before_body(no_answer, &url) else { panic!() };
            assert_eq!((verdict.reason, verdict.passing), (Reason::Error(reason), passing));
            assert!(!verdict.message.contains("secret"), "{}", verdict.message);
        }
    }
}
