//! The end of what a command wrote: bounded, however much it writes.

use std::collections::VecDeque;

/// So much of the output is kept, in bytes.
pub(super) const KEPT_BYTES: usize = 64 * 1024;
/// A message quotes at most so many characters of the output.
const QUOTED_CHARS: usize = 200;

/// The last [`KEPT_BYTES`] of a stream, and how long it was.
#[derive(Debug, Default)]
pub(super) struct Tail {
    kept: VecDeque<u8>,
    total_bytes: u64,
}

impl Tail {
    /// More of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        let fresh = &bytes[bytes.len().saturating_sub(KEPT_BYTES)..];
        let overflow = (self.kept.len() + fresh.len()).saturating_sub(KEPT_BYTES);
        self.kept.drain(..overflow);
        self.kept.extend(fresh);
    }

    /// How long the stream was, in bytes.
    pub(super) fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Whether its beginning was dropped.
    pub(super) fn is_truncated(&self) -> bool {
        self.total_bytes > self.kept.len() as u64
    }

    /// What was kept, as text: what is not UTF-8 becomes U+FFFD, except the rest of a character cut at the beginning,
    /// which is left out.
    pub(super) fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(self.kept.len());
        let cut = if self.is_truncated() { self.split_character() } else { 0 };
        bytes.extend(self.kept.iter().skip(cut));
        match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    fn split_character(&self) -> usize {
        let is_continuation = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
        self.kept.iter().take(3).take_while(is_continuation).count()
    }
}

/// The last line of `text` with anything to read on it, fit for a message: short, without control characters.
pub(super) fn last_line(text: &str) -> Option<String> {
    text.lines().rev().find_map(|line| {
        let readable = line.chars().filter(|c| !c.is_control());
        let line: String = readable.take(QUOTED_CHARS).collect();
        let line = line.trim();
        (!line.is_empty()).then(|| line.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(chunks: &[&[u8]]) -> Tail {
        let mut tail = Tail::default();
        chunks.iter().for_each(|chunk| tail.push(chunk));
        tail
    }

    #[test]
    fn the_end_is_kept_however_it_comes() {
        let stream: Vec<u8> = (0..200_000u32).map(|n| b'a' + (n % 23) as u8).collect();
        let expected = &stream[stream.len() - KEPT_BYTES..];
        for chunk in [1, 7, 4_096, KEPT_BYTES - 1, KEPT_BYTES, KEPT_BYTES + 1, stream.len()] {
            let tail = tail_of(&stream.chunks(chunk).collect::<Vec<_>>());
            assert_eq!(tail.text().as_bytes(), expected, "in chunks of {chunk}");
            assert_eq!(tail.total_bytes(), 200_000);
            assert!(tail.is_truncated());
        }
    }

    #[test]
    fn exactly_as_much_as_is_kept_is_not_truncated() {
        let tail = tail_of(&[&[b'x'; KEPT_BYTES]]);
        assert!(!tail.is_truncated());
        assert_eq!(tail.text().len(), KEPT_BYTES);
    }

    #[test]
    fn a_character_cut_in_two_is_left_out_at_the_beginning_only() {
        let euros = "€".repeat(KEPT_BYTES / 3 + 1);
        let text = tail_of(&[euros.as_bytes()]).text();
        assert!(text.chars().all(|c| c == '€'), "{:?}", text.chars().next());
        assert_eq!(tail_of(&[b"\xACx\xFF"]).text(), "\u{FFFD}x\u{FFFD}");
    }

    #[test]
    fn a_quoted_line_is_short_and_harmless() {
        assert_eq!(last_line(""), None);
        assert_eq!(last_line("\n \n\t\n"), None);
        assert_eq!(last_line("one\ntwo \r\n\n").as_deref(), Some("two"));
        assert_eq!(last_line("\u{1b}[31mred\u{7}").as_deref(), Some("[31mred"));
        assert_eq!(last_line(&"é".repeat(500)).unwrap().chars().count(), QUOTED_CHARS);
    }
}
