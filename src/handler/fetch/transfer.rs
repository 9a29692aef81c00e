//! The bytes of one body as they come, held to their bounds: size, growth, pace, and the attempt's deadline.

use std::time::Duration;

use ureq::Body;

use super::classify::{self, PDF_HEAD_BYTES};
use super::inspect::CHUNK_BYTES;
use super::pace::{Floor, Pace};
use super::scope;
use super::source::{Encoding, Source};
use super::verdict::{Fault, Verdict};
use crate::handler::{CancelReason, Context};
use crate::job::{ErrorReason, Mono};

/// How much of a page is read to be searched for links.
pub(super) const PAGE_BYTES: usize = 1_024 * 1_024;
/// The longest that a page may take.
const PAGE_TIME: Duration = Duration::from_secs(60);
/// How much of a body nobody wants is read, so that its connection can be used again.
pub(super) const DRAINED_BYTES: usize = 64 * 1_024;
/// In so many pieces: one that comes by the byte is not worth the wait.
const DRAINED_READS: usize = 16;

/// What a body must keep to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The most bytes, unpacked.
    pub(super) max_bytes: u64,
    /// The slowest it may come.
    pub(super) floor: Floor,
}

/// A body on its way.
pub(super) struct Transfer<'c, 'j> {
    context: &'c Context<'j>,
    bounds: Bounds,
    source: Source,
    pace: Pace,
    /// How many of its bytes were there before: they count against the cap.
    pub(super) kept_bytes: u64,
    /// How many came, unpacked.
    bytes: u64,
    /// What was read last.
    pub(super) chunk: Vec<u8>,
    /// How much of the chunk is the body's head, unread by anybody else.
    head: usize,
    /// Whether a page broke off.
    pub(super) is_broken: bool,
}

impl<'c, 'j> Transfer<'c, 'j> {
    /// The body of an answer that has just come.
    pub(super) fn new(
        body: Body,
        encoding: Encoding,
        bounds: Bounds,
        context: &'c Context<'j>,
    ) -> Transfer<'c, 'j> {
        Transfer {
            context,
            bounds,
            source: Source::new(body, encoding),
            pace: Pace::new(bounds.floor, context.mono()),
            kept_bytes: 0,
            bytes: 0,
            chunk: vec![0; CHUNK_BYTES],
            head: 0,
            is_broken: false,
        }
    }

    /// Reads until the chunk holds what is needed to tell what it is, or the body ends; how much.
    pub(super) fn read_head(&mut self) -> Result<usize, Fault> {
        self.fill_head()?;
        if self.source.is_packed_again(&self.chunk[..self.head]) {
            // Some servers pack what lies packed on their disk.
            let placeholder = Source::new(Body::builder().data(Vec::new()), Encoding::Identity);
            let once = std::mem::replace(&mut self.source, placeholder);
            self.source = once.unpacked_again(&self.chunk[..self.head]);
            (self.head, self.bytes) = (0, 0);
            self.fill_head()?;
        }
        Ok(self.head)
    }

    fn fill_head(&mut self) -> Result<(), Fault> {
        while self.head < 2 * PDF_HEAD_BYTES {
            match self.read_at(self.head)? {
                0 => break,
                read => self.head += read,
            }
        }
        Ok(())
    }

    /// The next bytes, at the beginning of the chunk; how many, none at the end.
    pub(super) fn read(&mut self) -> Result<usize, Fault> {
        self.read_at(0)
    }

    fn read_at(&mut self, at: usize) -> Result<usize, Fault> {
        if self.context.remaining().is_zero() {
            return Err(CancelReason::Deadline.outcome().into());
        }
        let read = match self.source.read(&mut self.chunk[at..]) {
            Ok(0) => return Ok(0),
            Ok(read) => read,
            Err(error) => return Err(classify::within_body(error, self.bytes)),
        };
        self.bytes += read as u64;
        self.check_bounds()?;
        Ok(read)
    }

    fn check_bounds(&mut self) -> Result<(), Verdict> {
        let max_bytes = self.bounds.max_bytes;
        if self.kept_bytes.saturating_add(self.bytes) > max_bytes {
            return Err(too_large(max_bytes, "more came"));
        }
        if self.source.is_bomb(self.bytes) {
            return Err(too_large(max_bytes, "it unpacks to far more than it is"));
        }
        if self.pace.is_too_slow(self.source.wire_bytes(), self.context.mono()) {
            scope::note_timeout();
            let Floor { bytes_per_second, window } = self.bounds.floor;
            let message = format!(
                "the body came slower than {bytes_per_second} bytes a second for {} s, {} bytes in all",
                window.as_secs(),
                self.bytes
            );
            return Err(Verdict::passing(ErrorReason::Timeout, message));
        }
        Ok(())
    }

    /// So much time was spent on the disk.
    pub(super) fn excuse(&mut self, spent: Duration) {
        self.pace.excuse(spent);
    }

    /// The head that was read, and what follows, up to `max_bytes`. That a page breaks off is of no account.
    ///
    /// # Errors
    /// Only when the attempt is over.
    pub(super) fn read_page(&mut self, max_bytes: usize) -> Result<Vec<u8>, Fault> {
        let began: Mono = self.context.mono();
        let mut page = self.chunk[..self.head].to_vec();
        while page.len() < max_bytes {
            if self.context.mono().since(began) > PAGE_TIME {
                self.is_broken = true;
                break;
            }
            match self.read() {
                Ok(0) => break,
                Ok(read) => page.extend_from_slice(&self.chunk[..read]),
                Err(Fault::Candidate(_)) => {
                    self.is_broken = true;
                    break;
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(page)
    }
}

/// The verdict on a body beyond its cap.
pub(super) fn too_large(max_bytes: u64, what: &str) -> Verdict {
    let message = format!("at most {max_bytes} bytes are allowed: {what}");
    Verdict::lasting(ErrorReason::TooLarge, message)
}

/// Reads what is left of a body nobody wants, up to 64 KiB, so that its connection can be used again.
pub(super) fn drain(body: Body) -> Vec<u8> {
    let mut source = Source::new(body, Encoding::Identity);
    let mut page = Vec::new();
    let mut chunk = vec![0; 8 * 1_024];
    for _ in 0..DRAINED_READS {
        if page.len() >= DRAINED_BYTES {
            break;
        }
        match source.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(read) => page.extend_from_slice(&chunk[..read]),
        }
    }
    page
}
