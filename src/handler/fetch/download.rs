//! One answer with a body: counted, bounded, hashed, and written down if its bytes are a PDF.
//!
//! What a server declares (type, length, encoding) is never believed where the bytes can be asked.

use std::io::{self, Read, Write};

use flate2::read::GzDecoder;
use tempfile::NamedTempFile;
use ureq::http::{HeaderMap, Response, header};
use ureq::{Body, BodyReader};

use super::classify::{self, PDF_HEAD_BYTES};
use super::inspect::{CHUNK_BYTES, Inspected, Inspection};
use super::name::FileName;
use super::out::OutDir;
use super::payload::Payload;
use super::verdict::{Fault, Verdict, disk_trouble};
use crate::handler::{CancelReason, Context};
use crate::job::ErrorReason;

/// How much of a page that is no PDF is read to see what it is.
const PAGE_BYTES: usize = 64 * 1_024;
/// A body may grow by this factor when it is decoded: text by some 20, a PDF by less than 10.
const MAX_EXPANSION: u64 = 200;
/// Growth that is never held against a body.
const FREE_EXPANSION_BYTES: u64 = 1_024 * 1_024;

/// A whole, verified file under its temporary name.
#[derive(Debug)]
pub(super) struct Download {
    /// The file.
    pub(super) file: NamedTempFile,
    /// Its bytes.
    pub(super) inspected: Inspected,
    /// Where the PDF begins in it.
    pub(super) pdf_offset: usize,
    pub(super) kind: classify::Kind,
    pub(super) flags: Vec<&'static str>,
    /// The server's entity tag.
    pub(super) etag: Option<String>,
    /// The server's date of last change.
    pub(super) last_modified: Option<String>,
}

/// What a body came to.
#[derive(Debug)]
pub(super) enum Received {
    /// A PDF.
    Whole(Box<Download>),
    /// Nothing at all, which happens to good servers on bad days.
    Empty,
    Page {
        html: Vec<u8>,
        verdict: Verdict,
        kept: Option<Box<Download>>,
    },
    Cut {
        verdict: Verdict,
        partial: Option<Partial>,
    },
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Partial {
    url: super::verdict::UrlId,
}
impl Partial {
    pub(super) fn is_of(&self, url: &url::Url) -> bool {
        self.url == super::verdict::UrlId::of(url)
    }
}
pub(super) struct Expected {
    pub(super) md5: Option<Box<str>>,
    pub(super) sha256: Option<Box<str>>,
}
pub(super) struct Offer<'a> {
    pub(super) url: &'a url::Url,
    pub(super) expected: &'a Expected,
    pub(super) resumed: Option<&'a Partial>,
}
#[derive(Default)]
pub(super) struct Resumable;

/// What a body is received for.
pub(super) struct Receiver<'a> {
    /// Where it is written.
    pub(super) out: &'a OutDir,
    /// Under which name.
    pub(super) name: &'a FileName,
    /// What the line expects of it.
    pub(super) payload: &'a Payload,
    /// The most bytes it may have.
    pub(super) max_bytes: u64,
    pub(super) accept: &'a [classify::Kind],
    pub(super) resumable: &'a Resumable,
    pub(super) min_bytes_per_second: u64,
    pub(super) throughput_window: std::time::Duration,
}

impl Receiver<'_> {
    pub(super) fn resume_headers(_: &Partial) -> Vec<(header::HeaderName, String)> {
        Vec::new()
    }
    /// Receives one body.
    ///
    /// # Errors
    /// [`Fault`]: a verdict on the candidate, or the end of the attempt.
    pub(super) fn receive(
        &self,
        response: Response<Body>,
        _offer: &Offer<'_>,
        context: &Context<'_>,
    ) -> Result<Received, Fault> {
        let (parts, body) = response.into_parts();
        let gzip = is_gzip(&parts.headers);
        if let Some(declared) = body.content_length().filter(|declared| *declared > self.max_bytes)
            && !gzip
        {
            return Err(self.too_large(format!("{declared} bytes announced")).into());
        }
        let mut source = Source::new(body.into_reader(), gzip);
        let mut chunk = vec![0; CHUNK_BYTES];
        let head = self.read_head(&mut source, &mut chunk, context)?;
        if head == 0 {
            return Ok(Received::Empty);
        }
        let Some(pdf_offset) = classify::pdf_offset(&chunk[..head]) else {
            let announced = text_of(&parts.headers, header::CONTENT_TYPE);
            let page = read_page(&mut source, &chunk[..head]);
            let verdict = classify::not_a_pdf(&page, announced.as_deref());
            if page.windows(5).any(|w| w.eq_ignore_ascii_case(b"<html")) {
                return Ok(Received::Page { html: page, verdict, kept: None });
            }
            return Err(verdict.into());
        };
        let (file, inspected) = self.write(&mut source, &mut chunk, head, context)?;
        self.verify(&inspected)?;
        Ok(Received::Whole(Box::new(Download {
            file,
            inspected,
            pdf_offset,
            kind: classify::Kind::Pdf,
            flags: Vec::new(),
            etag: text_of(&parts.headers, header::ETAG),
            last_modified: text_of(&parts.headers, header::LAST_MODIFIED),
        })))
    }

    /// Reads until the buffer holds what is needed to tell a PDF, or the body ends; how much.
    fn read_head(
        &self,
        source: &mut Source,
        buffer: &mut [u8],
        context: &Context<'_>,
    ) -> Result<usize, Fault> {
        let mut filled = 0;
        while filled < 2 * PDF_HEAD_BYTES {
            match self.read(source, &mut buffer[filled..], filled as u64, context)? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    fn write(
        &self,
        source: &mut Source,
        chunk: &mut [u8],
        head: usize,
        context: &Context<'_>,
    ) -> Result<(NamedTempFile, Inspected), Fault> {
        let trouble =
            |error: io::Error| disk_trouble(&self.name.directory_in(self.out.root()), &error);
        let mut file = self.out.temporary(self.name).map_err(trouble)?;
        let mut inspection = Inspection::new();
        let mut read = head;
        while read > 0 {
            inspection.update(&chunk[..read]);
            file.as_file_mut().write_all(&chunk[..read]).map_err(trouble)?;
            read = self.read(source, chunk, inspection.bytes(), context)?;
        }
        Ok((file, inspection.finish()))
    }

    /// Reads some bytes of a body of which `bytes` were read before, holding it to its bounds.
    fn read(
        &self,
        source: &mut Source,
        buffer: &mut [u8],
        bytes: u64,
        context: &Context<'_>,
    ) -> Result<usize, Fault> {
        if context.remaining().is_zero() {
            return Err(CancelReason::Deadline.outcome().into());
        }
        let read = loop {
            match source.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(classify::within_body(error, bytes)),
                Ok(read) => break read,
            }
        };
        let bytes = bytes + read as u64;
        if bytes > self.max_bytes {
            return Err(self.too_large("more came".to_owned()).into());
        }
        if source.is_bomb(bytes) {
            return Err(self.too_large("it unpacks to far more than it is".to_owned()).into());
        }
        Ok(read)
    }

    fn too_large(&self, what: String) -> Verdict {
        let message = format!("at most {} bytes are allowed: {what}", self.max_bytes);
        Verdict::lasting(ErrorReason::TooLarge, message)
    }

    fn verify(&self, inspected: &Inspected) -> Result<(), Verdict> {
        if !inspected.has_end {
            let message = format!("a PDF of {} bytes without its end", inspected.bytes);
            return Err(Verdict::passing(ErrorReason::Truncated, message));
        }
        match self.payload.expected_sha256() {
            Some(expected) if expected.as_str() != inspected.sha256 => {
                let message = format!("its SHA-256 is {}", inspected.sha256);
                Err(Verdict::lasting(ErrorReason::ChecksumMismatch, message))
            }
            _ => Ok(()),
        }
    }
}

/// A body, and what stands between the wire and its bytes.
enum Source {
    Plain(Wire),
    Gzip(Box<GzDecoder<Wire>>),
}

struct Wire {
    body: BodyReader<'static>,
    bytes: u64,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.body.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl Source {
    fn new(body: BodyReader<'static>, gzip: bool) -> Source {
        let wire = Wire { body, bytes: 0 };
        if gzip { Source::Gzip(Box::new(GzDecoder::new(wire))) } else { Source::Plain(wire) }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Plain(wire) => wire.read(buffer),
            Source::Gzip(decoder) => match decoder.read(buffer) {
                // Not even a header of its own: there was no body to decode.
                Err(error) if is_end(&error) && decoder.get_ref().bytes == 0 => Ok(0),
                other => other,
            },
        }
    }

    /// Whether `bytes` decoded bytes are beyond all proportion to what came over the wire.
    fn is_bomb(&self, bytes: u64) -> bool {
        match self {
            Source::Plain(_) => false,
            Source::Gzip(decoder) => {
                let wire = decoder.get_ref().bytes;
                bytes > FREE_EXPANSION_BYTES.saturating_add(wire.saturating_mul(MAX_EXPANSION))
            }
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// Asked for `identity`, some servers compress all the same.
pub(super) fn is_gzip(headers: &HeaderMap) -> bool {
    let encoding = text_of(headers, header::CONTENT_ENCODING).unwrap_or_default();
    matches!(encoding.trim().to_ascii_lowercase().as_str(), "gzip" | "x-gzip")
}

/// The beginning of a page: enough to see what it is. That it may break off is of no account.
fn read_page(source: &mut Source, head: &[u8]) -> Vec<u8> {
    let mut page = head.to_vec();
    let mut chunk = vec![0; 8 * 1_024];
    while page.len() < PAGE_BYTES {
        match source.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(read) => page.extend_from_slice(&chunk[..read]),
        }
    }
    page
}

/// Reads what is left of a body nobody wants, up to 64 KiB, so that its connection can be used again.
pub(super) fn drain_up_to(body: Body, _most: usize) -> Vec<u8> {
    drain(body)
}
pub(super) fn drain(body: Body) -> Vec<u8> {
    let wire = Wire { body: body.into_reader(), bytes: 0 };
    read_page(&mut Source::Plain(wire), &[])
}

/// A header as text; bytes that are no UTF-8 are replaced, for some servers send Latin-1.
pub(super) fn text_of(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}
