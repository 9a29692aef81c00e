//! What an answer means: an error of the client, a status, or bytes that are no PDF.

use std::io::ErrorKind;

use ureq::Error;
use ureq::http::StatusCode;
use url::Url;

use super::address::Refused;
use super::client;
use super::dns::Unresolved;
use super::scope::Cancelled;
use super::verdict::{Fault, Verdict, shown};
use crate::job::{ErrorReason, SkipReason, WallMs};

/// How far from its beginning a file may say that it is a PDF. Readers accept as much
/// (ISO 32000-1, implementation note 13).
pub(super) const PDF_HEAD_BYTES: usize = 1_024;
const PDF_MARK: &[u8] = b"%PDF-";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pdf,
    Html,
    Xml,
}
impl Kind {
    pub(super) fn extension(self) -> &'static str {
        "pdf"
    }
    pub(super) fn media_type(self) -> &'static str {
        "application/pdf"
    }
}

/// What pages say that want to see a human.
const CHALLENGE_WORDS: [&str; 9] = [
    "just a moment",
    "captcha",
    "cf-chl",
    "challenge-platform",
    "are you a robot",
    "you are human",
    "you are not a robot",
    "unusual traffic",
    "enable javascript and cookies",
];

/// What pages say that want a login or money.
const WALL_WORDS: [&str; 16] = [
    "type=\"password\"",
    "sign in",
    "signin",
    "log in",
    "login",
    "institutional access",
    "through your institution",
    "shibboleth",
    "openathens",
    "get access",
    "do not have access",
    "buy article",
    "buy this article",
    "purchase",
    "subscribe",
    "paywall",
];

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

/// The verdict on bytes that are no PDF, whatever they were announced as.
pub(super) fn not_a_pdf(bytes: &[u8], announced: Option<&str>) -> Verdict {
    let text = String::from_utf8_lossy(bytes).to_lowercase();
    let found = if is_challenge(&text) {
        (ErrorReason::Challenge, "a page that wants to see a human")
    } else if is_html(&text) && WALL_WORDS.iter().any(|word| text.contains(word)) {
        (ErrorReason::Wall, "a page that wants a login or money")
    } else if is_html(&text) {
        (ErrorReason::UnexpectedContent, "a web page")
    } else if text.trim_start().starts_with(['{', '[']) {
        (ErrorReason::UnexpectedContent, "JSON")
    } else {
        (ErrorReason::UnexpectedContent, "something else")
    };
    let announced: String = announced.unwrap_or("nothing").chars().take(60).collect();
    Verdict::lasting(found.0, format!("{} in place of a PDF, announced as {announced}", found.1))
}

/// Whether this page, in lower case, wants to see a human.
pub(super) fn is_challenge(text: &str) -> bool {
    is_html(text) && CHALLENGE_WORDS.iter().any(|word| text.contains(word))
}

fn is_html(text: &str) -> bool {
    ["<html", "<!doctype html", "<head", "<body", "<title"].iter().any(|tag| text.contains(tag))
}

/// Whether the last bytes of a file are the end of a PDF. Padding after it is no part of it.
///
/// A missing `%%EOF` alone is a habit of some writers; without `startxref` too, the end is missing.
pub(super) fn is_pdf_end(tail: &[u8]) -> bool {
    let end = tail.iter().rposition(|b| !b.is_ascii_whitespace() && *b != 0).map_or(0, |at| at + 1);
    let tail = &tail[..end];
    let has = |bytes: &[u8], mark: &[u8]| bytes.windows(mark.len()).any(|window| window == mark);
    has(&tail[end.saturating_sub(1_024)..], b"%%EOF") || has(tail, b"startxref")
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
        401 | 403 | 503 if is_challenge(&String::from_utf8_lossy(page).to_lowercase()) => {
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

/// What an error before the body means.
pub(super) fn before_body(error: Error, url: &Url) -> Fault {
    let host = url.host_str().unwrap_or_default();
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
        assert!(is_pdf_end(b"startxref\n12\n%%EOF"));
        assert!(is_pdf_end(b"startxref\n12\n"));
        assert!(is_pdf_end(&padded));
        assert!(!is_pdf_end(&early));
        assert!(!is_pdf_end(b""));
    }

    #[test]
    fn pages_are_told_apart() {
        let reason = |text: &str| not_a_pdf(text.as_bytes(), None).reason;
        for (text, expected) in [
            ("<html><title>Just a moment...</title>", ErrorReason::Challenge),
            ("<!DOCTYPE html><a>Log in</a>", ErrorReason::Wall),
            ("<html><body>Subscribe to read</body>", ErrorReason::Wall),
            ("<html><body>An abstract</body>", ErrorReason::UnexpectedContent),
            ("{\"error\":\"login\"}", ErrorReason::UnexpectedContent),
            ("\u{1}\u{2}", ErrorReason::UnexpectedContent),
        ] {
            assert_eq!(reason(text), Reason::Error(expected), "{text}");
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
            let Fault::Candidate(verdict) = before_body(error, &url) else { panic!() };
            assert_eq!((verdict.reason, verdict.passing), (Reason::Error(reason), passing));
            assert!(!verdict.message.contains("secret"), "{}", verdict.message);
        }
    }
}
