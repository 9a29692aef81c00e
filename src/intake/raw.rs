//! Bytes become lines, in constant memory: a line that is too long is passed over, never held.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};

/// The longest line, in bytes, without its end.
pub const MAX_LINE_BYTES: usize = 1 << 20;

/// How much of a line that is too long is shown, in bytes.
const SHOWN_BYTES: usize = 4 << 10;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The most that a line may bring along: a byte-order mark and CRLF.
const MAX_RAW_BYTES: usize = MAX_LINE_BYTES + BOM.len() + 2;

/// What reading a line brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// A line, with its end unless it is the last.
    Line,
    /// The beginning of a line longer than [`MAX_LINE_BYTES`].
    TooLong,
    /// Nothing: the file is over.
    End,
}

/// Lines out of a stream of bytes.
pub(super) struct RawLines {
    input: Box<dyn BufRead + Send>,
    /// Lines given out so far.
    number: u64,
    /// Lines that were given back.
    again: VecDeque<(Vec<u8>, Got)>,
}

impl RawLines {
    pub(super) fn new(input: Box<dyn BufRead + Send>) -> RawLines {
        RawLines { input, number: 0, again: VecDeque::new() }
    }

    /// The number of the last line given out; 0 before the first.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Appends the next line to `out`.
    pub(super) fn read(&mut self, out: &mut Vec<u8>) -> io::Result<Got> {
        let got = match self.again.pop_front() {
            Some((line, got)) => {
                out.extend_from_slice(&line);
                got
            }
            None => self.read_input(out)?,
        };
        self.number += u64::from(got != Got::End);
        Ok(got)
    }

    /// Takes `lines` back, the last ones given out: they are read again in this order.
    pub(super) fn unread(&mut self, lines: Vec<(Vec<u8>, Got)>) {
        self.number -= lines.len() as u64;
        for line in lines.into_iter().rev() {
            self.again.push_front(line);
        }
    }

    fn read_input(&mut self, out: &mut Vec<u8>) -> io::Result<Got> {
        let start = out.len();
        let taken = self.input.by_ref().take(MAX_RAW_BYTES as u64).read_until(b'\n', out)?;
        if taken == 0 {
            return Ok(Got::End);
        }
        let ended = out.ends_with(b"\n");
        if self.number == 0 && out[start..].starts_with(BOM) {
            out.drain(start..start + BOM.len());
        }
        if super::error::without_line_end(&out[start..]).len() <= MAX_LINE_BYTES {
            return Ok(Got::Line);
        }
        out.truncate(start + SHOWN_BYTES);
        if !ended {
            self.input.skip_until(b'\n')?;
        }
        Ok(Got::TooLong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: Vec<u8>) -> Vec<(Got, usize)> {
        let mut lines = RawLines::new(Box::new(io::Cursor::new(input)));
        let mut all = Vec::new();
        loop {
            let mut line = Vec::new();
            match lines.read(&mut line).unwrap() {
                Got::End => return all,
                got => all.push((got, line.len())),
            }
        }
    }

    #[test]
    fn a_line_of_one_mebibyte_is_the_longest() {
        for end in ["", "\n", "\r\n"] {
            for mark in ["", "\u{feff}"] {
                let of = |n: usize| [mark.as_bytes(), &vec![b'x'; n], end.as_bytes()].concat();
                assert_eq!(lines(of(MAX_LINE_BYTES)), [(Got::Line, MAX_LINE_BYTES + end.len())]);
                assert_eq!(lines(of(MAX_LINE_BYTES + 1)), [(Got::TooLong, SHOWN_BYTES)]);
            }
        }
    }

    #[test]
    fn a_long_line_is_passed_over_to_its_end() {
        for n in [MAX_LINE_BYTES + 1, MAX_RAW_BYTES - 1, MAX_RAW_BYTES, MAX_RAW_BYTES + 1, 5 << 20]
        {
            let input = [&vec![b'x'; n][..], b"\nab\n"].concat();
            assert_eq!(lines(input), [(Got::TooLong, SHOWN_BYTES), (Got::Line, 3)], "{n}");
        }
    }

    #[test]
    fn the_last_line_may_lack_its_end() {
        assert_eq!(lines(b"a\nb".to_vec()), [(Got::Line, 2), (Got::Line, 1)]);
        assert_eq!(lines(b"a\n".to_vec()), [(Got::Line, 2)]);
        assert_eq!(lines(Vec::new()), []);
    }

    #[test]
    fn lines_given_back_come_again_in_order_and_number() {
        let mut lines = RawLines::new(Box::new(io::Cursor::new(b"a\nb\nc\n".to_vec())));
        let mut out = Vec::new();
        for _ in 0..3 {
            lines.read(&mut out).unwrap();
        }
        lines.unread(vec![(b"b\n".to_vec(), Got::Line), (b"c\n".to_vec(), Got::TooLong)]);
        assert_eq!(lines.number(), 1);
        out.clear();
        assert_eq!(lines.read(&mut out).unwrap(), Got::Line);
        assert_eq!((out.as_slice(), lines.number()), (&b"b\n"[..], 2));
        assert_eq!(lines.read(&mut out).unwrap(), Got::TooLong);
        assert_eq!(lines.read(&mut out).unwrap(), Got::End);
        assert_eq!(lines.number(), 3);
    }
}
