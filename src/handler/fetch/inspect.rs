//! Looks at a file while its bytes pass: their number, their SHA-256, and whether they are a whole PDF.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::classify;

/// How much of the end is kept to look at.
const TAIL_BYTES: usize = 4 * 1_024;
/// Bytes read or written at once.
pub(super) const CHUNK_BYTES: usize = 64 * 1_024;

/// What is known of the bytes so far.
pub(super) struct Inspection {
    hash: Sha256,
    bytes: u64,
    tail: Vec<u8>,
}

/// What is known of all the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inspected {
    /// How many.
    pub(super) bytes: u64,
    /// Their SHA-256, 64 lower-case hexadecimal digits.
    pub(super) sha256: String,
    /// Whether they end as a PDF does.
    pub(super) has_end: bool,
}

impl Inspection {
    /// Nothing seen yet.
    pub(super) fn new() -> Inspection {
        Inspection { hash: Sha256::new(), bytes: 0, tail: Vec::new() }
    }

    /// These bytes come next.
    pub(super) fn update(&mut self, chunk: &[u8]) {
        self.hash.update(chunk);
        self.bytes += chunk.len() as u64;
        let last = &chunk[chunk.len().saturating_sub(TAIL_BYTES)..];
        let keep = TAIL_BYTES - last.len();
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        self.tail.extend_from_slice(last);
    }

    /// How many bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// That was all.
    pub(super) fn finish(self) -> Inspected {
        let mut sha256 = String::with_capacity(64);
        for byte in self.hash.finalize() {
            // Writing to a String cannot fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        Inspected { bytes: self.bytes, sha256, has_end: classify::is_pdf_end(&self.tail) }
    }
}

/// A file on disk that is a whole PDF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Existing {
    /// Its bytes.
    pub(super) inspected: Inspected,
    /// Where the PDF begins in it.
    pub(super) pdf_offset: usize,
}

/// Looks at a file on disk. `None` when there is none, when it is no whole PDF, or when `go_on` said no.
///
/// # Errors
/// What reading it says.
pub(super) fn existing(path: &Path, go_on: impl Fn() -> bool) -> io::Result<Option<Existing>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut inspection = Inspection::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let head = fill(&mut file, &mut chunk)?;
    let Some(pdf_offset) = classify::pdf_offset(&chunk[..head]) else { return Ok(None) };
    inspection.update(&chunk[..head]);
    loop {
        let read = fill(&mut file, &mut chunk)?;
        if read == 0 {
            break;
        }
        if !go_on() {
            return Ok(None);
        }
        inspection.update(&chunk[..read]);
    }
    let inspected = inspection.finish();
    Ok(inspected.has_end.then_some(Existing { inspected, pdf_offset }))
}

/// Reads until the buffer is full or there is no more; how much.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut() {
        let bytes: Vec<u8> =
            (0..20_000_u32).flat_map(u32::to_le_bytes).chain(*b"startxref\n1\n%%EOF").collect();
        let whole = |size: usize| {
            let mut inspection = Inspection::new();
            bytes.chunks(size).for_each(|chunk| inspection.update(chunk));
            inspection.finish()
        };
        let reference = whole(bytes.len());
        assert!(reference.has_end);
        assert_eq!(reference.bytes, bytes.len() as u64);
        for size in [1, 7, 4_095, 4_096, 4_097, 65_536] {
            assert_eq!(whole(size), reference, "in pieces of {size}");
        }
    }

    #[test]
    fn the_checksum_is_the_one_people_publish() {
        // FIPS 180-2, appendix B.1.
        let mut inspection = Inspection::new();
        inspection.update(b"abc");
        assert_eq!(
            inspection.finish().sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
