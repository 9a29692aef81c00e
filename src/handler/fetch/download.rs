//! One answer with a body: counted, bounded, hashed, and written down if its bytes are what is wanted.
//!
//! ```text
//!   200, 203  sniff the head:  a PDF, or XML that is accepted   -> written, verified        Whole
//!                              a page                           -> its first 1 MiB          Page
//!                              anything else                    -> a verdict
//!   206       goes on where the kept bytes end: hashed again, appended                      Whole
//!   416       there is no more: the kept bytes are the file                                 Whole
//!   broke off on the way: bytes worth keeping are kept (see `resume`)                       Cut
//! ```
//!
//! What a server declares (type, length, encoding, range) is never believed where the bytes can be asked.

use std::cell::Cell;
use std::io::{self, Write};

use tempfile::NamedTempFile;
use ureq::Body;
use ureq::http::response::Parts;
use ureq::http::{HeaderMap, HeaderName, Response, StatusCode, header};
use url::Url;

use super::classify::{self, Content, Kind};
use super::inspect::{Inspected, Inspection};
use super::name::FileName;
use super::out::OutDir;
use super::pace::Floor;
use super::payload::Payload;
use super::resume;
use super::source::Encoding;
use super::transfer::{Bounds, Transfer};
use super::verdict::{Fault, Verdict, disk_trouble};
use super::wall;
use crate::handler::Context;
use crate::job::{ErrorReason, Reason, SkipReason};

pub(super) use super::resume::{Partial, Resumable};
pub(super) use super::transfer::drain;

/// A whole, verified file under its temporary name.
#[derive(Debug)]
pub(super) struct Download {
    /// The file.
    pub(super) file: NamedTempFile,
    /// What it is.
    pub(super) kind: Kind,
    /// Its bytes.
    pub(super) inspected: Inspected,
    /// Where the PDF begins in it.
    pub(super) pdf_offset: usize,
    /// The server's entity tag.
    pub(super) etag: Option<String>,
    /// The server's date of last change.
    pub(super) last_modified: Option<String>,
}

/// What a body came to.
#[derive(Debug)]
pub(super) enum Received {
    /// A file of an accepted kind.
    Whole(Box<Download>),
    /// Nothing at all, which happens to good servers on bad days.
    Empty,
    /// A web page.
    Page {
        /// Its first mebibyte.
        html: Vec<u8>,
        /// What it deserves if it leads to no file.
        verdict: Verdict,
        /// The whole of it, where pages are accepted and this one is more than a wall.
        kept: Option<Box<Download>>,
    },
    /// It broke off, also where the attempt is cancelled: look at the flag before asking again.
    Cut {
        /// What it deserves if nobody goes on with it.
        verdict: Verdict,
        /// What was kept to go on with.
        partial: Option<Partial>,
    },
}

/// What a service says the file must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// 32 lower-case hexadecimal digits.
    pub(super) md5: Option<Box<str>>,
    /// 64 lower-case hexadecimal digits.
    pub(super) sha256: Option<Box<str>>,
}

/// Whose answer it is that is received.
pub(super) struct Offer<'a> {
    /// The URL that was asked.
    pub(super) url: &'a Url,
    /// What the file must be.
    pub(super) expected: &'a Expected,
    /// What was kept of this URL, where the rest of it was asked for.
    pub(super) resumed: Option<&'a Partial>,
}

impl Offer<'_> {
    /// Whose it is.
    pub(super) fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }
}

/// What bodies are received for: one artifact.
pub(super) struct Receiver<'a> {
    /// Where it is written.
    pub(super) out: &'a OutDir,
    /// Under which name.
    pub(super) name: &'a FileName,
    /// What the line expects of it.
    pub(super) payload: &'a Payload,
    /// The most bytes it may have.
    pub(super) max_bytes: u64,
    /// What may be kept.
    pub(super) accept: &'a [Kind],
    /// The slowest it may come.
    pub(super) floor: Floor,
    /// Which hosts answer ranges wrongly.
    pub(super) resumable: &'a Resumable,
    /// Whether bytes may have been kept of this artifact: by an earlier attempt, or by this one.
    pub(super) may_have_partial: Cell<bool>,
}

/// What is known of a body before its bytes.
pub(super) struct Arrival {
    /// What it is.
    pub(super) content: Content,
    /// Its entity tag.
    pub(super) etag: Option<String>,
    /// Its date of last change.
    pub(super) last_modified: Option<String>,
    /// With what it may be gone on with if it breaks off.
    pub(super) validator: Option<String>,
    /// How long the whole is, where the server says.
    pub(super) total: Option<u64>,
    /// How many of its bytes were kept before.
    pub(super) kept_bytes: u64,
}

/// A file being written.
pub(super) struct Writing {
    /// Under its temporary name.
    pub(super) file: NamedTempFile,
    /// What is known of its bytes so far.
    pub(super) inspection: Inspection,
}

impl Receiver<'_> {
    /// The headers that ask for the rest of what was kept.
    pub(super) fn resume_headers(partial: &Partial) -> Vec<(HeaderName, String)> {
        partial.headers()
    }

    /// Removes what was kept of this artifact, if anything.
    pub(super) fn discard_partial(&self) {
        if self.may_have_partial.replace(false) {
            self.out.discard_partial(self.name);
        }
    }

    /// Receives one body, of an answer 200 or 203, or of 206 or 416 to [`Receiver::resume_headers`].
    ///
    /// # Errors
    /// [`Fault`]: a verdict on the candidate, or the end of the attempt.
    pub(super) fn receive(
        &self,
        response: Response<Body>,
        offer: &Offer<'_>,
        context: &Context<'_>,
    ) -> Result<Received, Fault> {
        let (parts, body) = response.into_parts();
        let resumed = offer.resumed.filter(|partial| partial.is_of(offer.url));
        let received = match (parts.status, resumed) {
            (StatusCode::PARTIAL_CONTENT, Some(partial)) => {
                self.receive_rest(&parts, body, partial, offer, context)
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(partial)) => {
                self.receive_no_more(&parts, body, partial, offer)
            }
            (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, None) => {
                Ok(cut("a part of a file where the whole was asked for"))
            }
            (_, partial) => {
                if partial.is_some() {
                    // The server has another version by now, or no ranges.
                    self.discard_partial();
                }
                self.receive_whole(&parts, body, offer, context)
            }
        }?;
        if let Received::Whole(download) = &received
            && self.may_have_partial.get()
            && !self.out.is_partial(self.name, download.file.path())
        {
            self.discard_partial();
        }
        Ok(received)
    }

    fn receive_whole(
        &self,
        parts: &Parts,
        body: Body,
        offer: &Offer<'_>,
        context: &Context<'_>,
    ) -> Result<Received, Fault> {
        let headers = &parts.headers;
        let encoding = Encoding::of(headers);
        let declared = body.content_length().filter(|_| encoding != Encoding::Gzip);
        self.check_declared(declared)?;
        let mut transfer = self.transfer(body, encoding, context);
        let head = match transfer.read_head() {
            Ok(0) => return Ok(Received::Empty),
            Ok(head) => head,
            Err(fault) => return broke_off(fault, context, None),
        };
        let content = classify::sniff(&transfer.chunk[..head]);
        let accepted = |kind| self.accept.contains(&kind);
        match content.kind() {
            Some(Kind::Html) => return self.receive_page(transfer, parts, offer, context),
            Some(kind) if accepted(kind) => {}
            Some(Kind::Pdf) => {
                let message = "a PDF, and fetch.accept does not name them";
                return Err(Verdict::skipped(SkipReason::PolicyType, message).into());
            }
            Some(Kind::Xml) | None => {
                let bytes = transfer.read_page(super::transfer::DRAINED_BYTES)?;
                return Err(wall::not_a_pdf(&bytes, announced(headers).as_deref()).into());
            }
        }
        let arrival = Arrival {
            content,
            etag: text_of(headers, header::ETAG),
            last_modified: text_of(headers, header::LAST_MODIFIED),
            validator: resume::validator(headers),
            total: declared,
            kept_bytes: 0,
        };
        let file = self.out.temporary(self.name).map_err(|error| self.trouble(&error))?;
        let writing = Writing { file, inspection: self.inspection(offer) };
        self.write(transfer, writing, head, arrival, offer, context)
    }

    /// A web page: read to be searched for links, and kept whole where pages are accepted.
    fn receive_page(
        &self,
        mut transfer: Transfer<'_, '_>,
        parts: &Parts,
        offer: &Offer<'_>,
        context: &Context<'_>,
    ) -> Result<Received, Fault> {
        let html = transfer.read_page(super::transfer::PAGE_BYTES)?;
        let verdict = wall::not_a_pdf(&html, announced(&parts.headers).as_deref());
        let is_more = verdict.reason == Reason::Error(ErrorReason::UnexpectedContent);
        if !is_more || transfer.is_broken || !self.accept.contains(&Kind::Html) {
            return Ok(Received::Page { html, verdict, kept: None });
        }
        let file = self.out.temporary(self.name).map_err(|error| self.trouble(&error))?;
        let mut writing = Writing { file, inspection: self.inspection(offer) };
        self.append(&mut writing, &html)?;
        let arrival = Arrival {
            content: Content::Html,
            etag: text_of(&parts.headers, header::ETAG),
            last_modified: text_of(&parts.headers, header::LAST_MODIFIED),
            validator: None,
            total: None,
            kept_bytes: 0,
        };
        let kept = match self.write(transfer, writing, 0, arrival, offer, context) {
            Ok(Received::Whole(download)) => Some(download),
            Ok(_) | Err(Fault::Candidate(_)) => None,
            Err(fault) => return Err(fault),
        };
        Ok(Received::Page { html, verdict, kept })
    }

    /// Writes the body down to its end; `head` bytes of it are in the chunk already.
    pub(super) fn write(
        &self,
        mut transfer: Transfer<'_, '_>,
        mut writing: Writing,
        head: usize,
        arrival: Arrival,
        offer: &Offer<'_>,
        context: &Context<'_>,
    ) -> Result<Received, Fault> {
        let mut read = head;
        loop {
            let began = context.mono();
            self.append(&mut writing, &transfer.chunk[..read])?;
            transfer.excuse(context.mono().since(began));
            match transfer.read() {
                Ok(0) => break,
                Ok(more) => read = more,
                Err(fault) => {
                    let partial = self.keep(&fault, writing, &arrival, offer, context);
                    return broke_off(fault, context, partial);
                }
            }
        }
        // Of a part, or of a body that ends with its connection, nobody but us counts the bytes.
        match arrival.total {
            Some(total) if writing.inspection.bytes() < total => {
                let message =
                    format!("the body ended after {} of {total} bytes", writing.inspection.bytes());
                let verdict = Verdict::passing(ErrorReason::Truncated, message);
                let fault = Fault::Candidate(verdict);
                let partial = self.keep(&fault, writing, &arrival, offer, context);
                broke_off(fault, context, partial)
            }
            Some(total) if writing.inspection.bytes() > total => {
                self.resumable.distrust(offer.host());
                Ok(cut("more bytes than the file is said to have"))
            }
            _ => self.finish(writing, arrival, offer),
        }
    }

    fn append(&self, writing: &mut Writing, bytes: &[u8]) -> Result<(), Fault> {
        writing.inspection.update(bytes);
        writing.file.as_file_mut().write_all(bytes).map_err(|error| self.trouble(&error))
    }

    /// The file is whole by its length: verifies what it is.
    pub(super) fn finish(
        &self,
        writing: Writing,
        arrival: Arrival,
        offer: &Offer<'_>,
    ) -> Result<Received, Fault> {
        let inspected = writing.inspection.finish(&arrival.content);
        let Some(kind) = arrival.content.kind() else {
            return Ok(cut("what was kept of it is no file of ours"));
        };
        if !inspected.has_end {
            let what = kind.extension().to_uppercase();
            return Ok(cut(format!("{what} of {} bytes without its end", inspected.bytes)));
        }
        if let Some(message) = self.mismatch(&inspected, offer.expected) {
            // Bytes of two transfers may not belong together; those of one are what the server has.
            let verdict = if arrival.kept_bytes > 0 {
                Verdict::passing(ErrorReason::ChecksumMismatch, message)
            } else {
                Verdict::lasting(ErrorReason::ChecksumMismatch, message)
            };
            return Err(verdict.into());
        }
        Ok(Received::Whole(Box::new(Download {
            file: writing.file,
            kind,
            inspected,
            pdf_offset: arrival.content.pdf_offset(),
            etag: arrival.etag,
            last_modified: arrival.last_modified,
        })))
    }

    /// What of the file is not as expected.
    fn mismatch(&self, inspected: &Inspected, expected: &Expected) -> Option<String> {
        let line = self.payload.expected_sha256().map(super::payload::Sha256::as_str);
        let differs = |wanted: Option<&str>| wanted.is_some_and(|it| it != inspected.sha256);
        if differs(line) || differs(expected.sha256.as_deref()) {
            return Some(format!("its SHA-256 is {}", inspected.sha256));
        }
        let md5 = inspected.md5.as_deref().filter(|md5| expected.md5.as_deref() != Some(md5))?;
        Some(format!("its MD5 is {md5}"))
    }

    pub(super) fn inspection(&self, offer: &Offer<'_>) -> Inspection {
        if offer.expected.md5.is_some() { Inspection::with_md5() } else { Inspection::new() }
    }

    pub(super) fn transfer<'c, 'j>(
        &self,
        body: Body,
        encoding: Encoding,
        context: &'c Context<'j>,
    ) -> Transfer<'c, 'j> {
        let bounds = Bounds { max_bytes: self.max_bytes, floor: self.floor };
        Transfer::new(body, encoding, bounds, context)
    }

    pub(super) fn check_declared(&self, declared: Option<u64>) -> Result<(), Verdict> {
        match declared.filter(|declared| *declared > self.max_bytes) {
            Some(declared) => {
                let what = format!("{declared} bytes announced");
                Err(super::transfer::too_large(self.max_bytes, &what))
            }
            None => Ok(()),
        }
    }

    pub(super) fn trouble(&self, error: &io::Error) -> Fault {
        disk_trouble(&self.name.directory_in(self.out.root()), error).into()
    }
}

/// It broke off, or cannot be gone on with, and nothing of it is kept.
pub(super) fn cut(why: impl std::fmt::Display) -> Received {
    Received::Cut { verdict: Verdict::passing(ErrorReason::Truncated, why), partial: None }
}

/// A body that ended with this fault.
fn broke_off(
    fault: Fault,
    context: &Context<'_>,
    partial: Option<Partial>,
) -> Result<Received, Fault> {
    match fault {
        Fault::Candidate(verdict) if verdict.passing => Ok(Received::Cut { verdict, partial }),
        Fault::Attempt(_) if partial.is_some() && is_cancelled(context) => {
            let verdict = Verdict::passing(ErrorReason::Truncated, "the attempt was cancelled");
            Ok(Received::Cut { verdict, partial })
        }
        fault => Err(fault),
    }
}

/// Whether the attempt must end.
pub(super) fn is_cancelled(context: &Context<'_>) -> bool {
    context.cancel().reason().is_some() || context.remaining().is_zero()
}

fn announced(headers: &HeaderMap) -> Option<String> {
    text_of(headers, header::CONTENT_TYPE)
}

/// A header as text; bytes that are no UTF-8 are replaced, for some servers send Latin-1.
pub(super) fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let value = headers.get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}
