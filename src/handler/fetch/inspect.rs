//! Looks at a file while its bytes pass: their number, their SHA-256, and whether they are a whole PDF.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::classify::{self, Content, Kind};
use super::flags::FlagScan;

/// How much of the end is kept to look at.
const TAIL_BYTES: usize = 4 * 1_024;
/// Bytes read or written at once.
pub(super) const CHUNK_BYTES: usize = 64 * 1_024;

/// What is known of the bytes so far.
pub(super) struct Inspection {
    hash: Sha256,
    /// Only where a service publishes one.
    md5: Option<Md5>,
    flags: FlagScan,
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
    /// Their MD5, 32 lower-case hexadecimal digits, where it was wanted.
    pub(super) md5: Option<String>,
    /// Whether they end as files of their kind do.
    pub(super) has_end: bool,
    /// What is unusual about them: `encrypted`, `javascript`, `launch`, `embedded_file`, `junk_before`, `no_eof`.
    pub(super) flags: Vec<&'static str>,
}

impl Inspection {
    /// Nothing seen yet.
    pub(super) fn new() -> Inspection {
        Inspection {
            hash: Sha256::new(),
            md5: None,
            flags: FlagScan::default(),
            bytes: 0,
            tail: Vec::new(),
        }
    }

    /// Nothing seen yet; the MD5 is wanted as well.
    pub(super) fn with_md5() -> Inspection {
        Inspection { md5: Some(Md5::new()), ..Inspection::new() }
    }

    /// These bytes come next.
    pub(super) fn update(&mut self, chunk: &[u8]) {
        self.hash.update(chunk);
        if let Some(md5) = &mut self.md5 {
            md5.update(chunk);
        }
        self.flags.update(chunk);
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

    /// The SHA-256 of the bytes so far.
    pub(super) fn sha256_so_far(&self) -> String {
        hex(&self.hash.clone().finalize())
    }

    /// That was all, and it is this.
    pub(super) fn finish(self, content: &Content) -> Inspected {
        let mut flags = Vec::new();
        let has_end = match content {
            Content::Pdf { offset } => {
                flags = self.flags.finish();
                let end = classify::pdf_end(&self.tail);
                flags.extend((*offset > 0).then_some("junk_before"));
                flags.extend((end == classify::PdfEnd::NoMark).then_some("no_eof"));
                end != classify::PdfEnd::Missing
            }
            Content::Xml { root } => classify::is_xml_end(&self.tail, root),
            // Pages are written without an end by many hands.
            Content::Html | Content::Other => true,
        };
        Inspected {
            bytes: self.bytes,
            sha256: hex(&self.hash.finalize()),
            md5: self.md5.map(|md5| hex(&md5.finalize())),
            has_end,
            flags,
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A whole file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Existing {
    /// Its bytes.
    pub(super) inspected: Inspected,
    /// What it is: what its extension says.
    pub(super) kind: Kind,
    /// Where the PDF begins in it.
    pub(super) pdf_offset: usize,
}

/// Looks at a file on disk. `None` when there is none, when its bytes are not, or not wholly, what its extension says, or when
/// `go_on` said no.
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
    let content = classify::sniff(&chunk[..head]);
    let Some(kind) = content
        .kind()
        .filter(|kind| path.extension().is_some_and(|extension| extension == kind.extension()))
    else {
        return Ok(None);
    };
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
    let inspected = inspection.finish(&content);
    Ok(inspected.has_end.then_some(Existing { inspected, kind, pdf_offset: content.pdf_offset() }))
}

/// Reads until the buffer is full or there is no more; how much.
pub(super) fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
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

    const PDF: Content = Content::Pdf { offset: 0 };

    #[test]
    fn it_does_not_matter_how_the_bytes_are_cut() {
        let bytes: Vec<u8> = (0..20_000_u32)
            .flat_map(u32::to_le_bytes)
            .chain(*b"/Encrypt 1 0 R /JS (x) startxref\n1\n%%EOF")
            .collect();
        let whole = |size: usize| {
            let mut inspection = Inspection::with_md5();
            bytes.chunks(size).for_each(|chunk| inspection.update(chunk));
            inspection.finish(&PDF)
        };
        let reference = whole(bytes.len());
        assert!(reference.has_end);
        assert_eq!(reference.flags, ["encrypted", "javascript"]);
        assert_eq!(reference.bytes, bytes.len() as u64);
        for size in [1, 7, 4_095, 4_096, 4_097, 65_536] {
            assert_eq!(whole(size), reference, "in pieces of {size}");
        }
    }

    #[test]
    fn the_checksums_are_those_people_publish() {
        // FIPS 180-2, appendix B.1, and RFC 1321, appendix A.5.
        let mut inspection = Inspection::with_md5();
        inspection.update(b"abc");
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(inspection.sha256_so_far(), sha256);
        let inspected = inspection.finish(&PDF);
        assert_eq!(inspected.sha256, sha256);
        assert_eq!(inspected.md5.as_deref(), Some("900150983cd24fb0d6963f7d28e17f72"));
    }

    #[test]
    fn what_is_unusual_about_a_pdf_is_flagged() {
        let flags = |bytes: &[u8]| {
            let mut inspection = Inspection::new();
            inspection.update(bytes);
            inspection.finish(&classify::sniff(bytes)).flags
        };
        assert_eq!(flags(b"%PDF-1.4 startxref 1 %%EOF"), [""; 0]);
        assert_eq!(flags(b"\r\n%PDF-1.4 startxref 1"), ["junk_before", "no_eof"]);
    }
}
