//! The bytes of a body: counted on the wire, unpacked where a server packed them unasked, and never
//! more than a bounded multiple of what came.

use std::io::{self, Chain, Cursor, Read};

use flate2::read::GzDecoder;
use ureq::http::{HeaderMap, header};
use ureq::{Body, BodyReader};

use super::download::text_of;

/// A body may grow by this factor when it is decoded: text by some 20, a PDF by less than 10.
const MAX_EXPANSION: u64 = 200;
/// Growth that is never held against a body.
const FREE_EXPANSION_BYTES: u64 = 1_024 * 1_024;
/// How a gzip stream begins (RFC 1952).
const GZIP_MARK: &[u8] = b"\x1f\x8b";

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Not at all, as we ask.
    Identity,
    /// Asked for `identity`, some servers compress all the same.
    Gzip,
    /// In a way that we cannot unpack.
    Unknown,
}

impl Encoding {
    /// What the headers say.
    pub(super) fn of(headers: &HeaderMap) -> Encoding {
        let Some(text) = text_of(headers, header::CONTENT_ENCODING) else {
            return Encoding::Identity;
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "identity" | "none" => Encoding::Identity,
            // More than once on one line: the bytes say how often.
            "gzip" | "x-gzip" | "gzip, gzip" | "gzip,gzip" => Encoding::Gzip,
            _ => Encoding::Unknown,
        }
    }
}

/// A body, and what stands between the wire and its bytes.
pub(super) enum Source {
    /// As it comes.
    Plain(Wire),
    /// Unpacked.
    Gzip(Box<GzDecoder<Wire>>),
    /// Packed twice: what was unpacked already, and the rest, unpacked again.
    Twice(Box<GzDecoder<UnpackedOnce>>),
}

/// The beginning that was read already, and what follows it.
type UnpackedOnce = Chain<Cursor<Vec<u8>>, GzDecoder<Wire>>;

/// Counts what comes over the wire.
pub(super) struct Wire {
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
    /// The body of an answer that is encoded so. One that cannot be unpacked passes as it is.
    pub(super) fn new(body: Body, encoding: Encoding) -> Source {
        let wire = Wire { body: body.into_reader(), bytes: 0 };
        match encoding {
            Encoding::Gzip => Source::Gzip(Box::new(GzDecoder::new(wire))),
            Encoding::Identity | Encoding::Unknown => Source::Plain(wire),
        }
    }

    /// The next bytes; none at the end. Interruptions by signals are overlooked.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.read_once(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Source::Plain(wire) => wire.read(buffer),
            Source::Gzip(decoder) => match decoder.read(buffer) {
                // Not even a header of its own: there was no body to decode.
                Err(error) if is_end(&error) && decoder.get_ref().bytes == 0 => Ok(0),
                other => other,
            },
            Source::Twice(decoder) => decoder.read(buffer),
        }
    }

    /// Given the first unpacked bytes: whether they are packed once more.
    pub(super) fn is_packed_again(&self, head: &[u8]) -> bool {
        matches!(self, Source::Gzip(_)) && head.starts_with(GZIP_MARK)
    }

    /// The same body from its beginning, unpacked once more; `head` is what was read of it.
    pub(super) fn unpacked_again(self, head: &[u8]) -> Source {
        match self {
            Source::Gzip(decoder) => {
                let whole = Cursor::new(head.to_vec()).chain(*decoder);
                Source::Twice(Box::new(GzDecoder::new(whole)))
            }
            other => other,
        }
    }

    /// How many bytes came over the wire.
    pub(super) fn wire_bytes(&self) -> u64 {
        match self {
            Source::Plain(wire) => wire.bytes,
            Source::Gzip(decoder) => decoder.get_ref().bytes,
            Source::Twice(decoder) => decoder.get_ref().get_ref().1.get_ref().bytes,
        }
    }

    /// Whether `bytes` decoded bytes are beyond all proportion to what came over the wire.
    pub(super) fn is_bomb(&self, bytes: u64) -> bool {
        let allowed =
            FREE_EXPANSION_BYTES.saturating_add(self.wire_bytes().saturating_mul(MAX_EXPANSION));
        !matches!(self, Source::Plain(_)) && bytes > allowed
    }
}

fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}
