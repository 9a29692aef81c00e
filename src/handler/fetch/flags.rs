//! What a careful reader wants to know of a PDF before opening it, as far as its bytes say it unpacked.
//!
//! A look, not a parse: dictionaries inside compressed object streams are not seen. A flagged file is kept.

use memchr::memchr_iter;

/// `/Encrypt` in the trailer or in the dictionary of a cross-reference stream, which are never compressed.
const ENCRYPTED: u8 = 1;
const JAVASCRIPT: u8 = 2;
const LAUNCH: u8 = 4;
const EMBEDDED_FILE: u8 = 8;
/// The flags with their names in manifests.
const FLAGS: [(u8, &str); 4] = [
    (ENCRYPTED, "encrypted"),
    (JAVASCRIPT, "javascript"),
    (LAUNCH, "launch"),
    (EMBEDDED_FILE, "embedded_file"),
];

/// Names (ISO 32000-1, section 7.3.5) with the bytes that may follow them (any, where none is given), and what
/// they mean. A short one must be followed narrowly, or compressed data would have it by chance.
const NAMES: [(&[u8], &[u8], u8); 5] = [
    (b"/Encrypt", b" \r\n\t<", ENCRYPTED),
    (b"/JavaScript", b"", JAVASCRIPT),
    (b"/JS", b" (", JAVASCRIPT),
    (b"/Launch", b" \r\n\t/>", LAUNCH),
    (b"/EmbeddedFile", b"", EMBEDDED_FILE),
];
/// The longest name and the byte after it.
const OVERLAP_BYTES: usize = 14;

/// Looks while the bytes pass.
#[derive(Debug, Default)]
pub(super) struct FlagScan {
    seen: u8,
    /// The last bytes that passed: a name may lie across two pieces.
    last: Vec<u8>,
}

impl FlagScan {
    /// These bytes come next.
    pub(super) fn update(&mut self, chunk: &[u8]) {
        let mut seam = std::mem::take(&mut self.last);
        seam.extend_from_slice(&chunk[..chunk.len().min(OVERLAP_BYTES)]);
        self.look(&seam);
        self.look(chunk);
        if chunk.len() >= OVERLAP_BYTES {
            seam.clear();
            seam.extend_from_slice(&chunk[chunk.len() - OVERLAP_BYTES..]);
        } else {
            seam.drain(..seam.len().saturating_sub(OVERLAP_BYTES));
        }
        self.last = seam;
    }

    fn look(&mut self, bytes: &[u8]) {
        for at in memchr_iter(b'/', bytes) {
            for (name, next, flag) in NAMES {
                let Some(rest) = bytes[at..].strip_prefix(name) else { continue };
                if rest.first().is_some_and(|byte| next.is_empty() || next.contains(byte)) {
                    self.seen |= flag;
                }
            }
        }
    }

    /// The names of what was seen.
    pub(super) fn finish(self) -> Vec<&'static str> {
        FLAGS.iter().filter(|(flag, _)| self.seen & flag != 0).map(|(_, name)| *name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(bytes: &[u8], piece: usize) -> Vec<&'static str> {
        let mut scan = FlagScan::default();
        bytes.chunks(piece).for_each(|chunk| scan.update(chunk));
        scan.finish()
    }

    #[test]
    fn names_are_seen_however_the_bytes_are_cut() {
        for (text, expected) in [
            ("trailer <</Size 9 /Encrypt 8 0 R>>", vec!["encrypted"]),
            ("<</EncryptMetadata true>>", vec![]),
            ("<</S /JavaScript /JS (app.alert)>>", vec!["javascript"]),
            ("<</JS(x)>>", vec!["javascript"]),
            ("<</JSON 1>>", vec![]),
            ("<</S/Launch/F(x)>> ", vec!["launch"]),
            ("<</Names <</EmbeddedFiles 3 0 R>>", vec!["embedded_file"]),
            ("/Encrypt 1 /Launch /EmbeddedFile ", vec!["encrypted", "launch", "embedded_file"]),
            ("/encrypt 1 0 R / Launch ", vec![]),
            ("", vec![]),
        ] {
            let padded = ["x".repeat(40), text.to_owned(), " ".repeat(3)].concat();
            for piece in 1..padded.len() {
                assert_eq!(flags(padded.as_bytes(), piece), expected, "{text} in {piece}");
            }
        }
    }
}
