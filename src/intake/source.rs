//! Where the bytes come from: a file or standard input, plain or gzip, and which format they are in.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::error::ReadError;
use super::{Format, csv};

const BUFFER_BYTES: usize = 128 << 10;

/// How far the format is looked for, in bytes.
const SNIFF_BYTES: usize = 64 << 10;

/// RFC 1952, section 2.3.1.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An open input.
pub(super) struct Source {
    /// What it is called in messages.
    pub(super) name: Arc<str>,
    /// Its format; never [`Format::Auto`].
    pub(super) format: Format,
    pub(super) gzip: bool,
    pub(super) input: Box<dyn BufRead + Send>,
    /// Bytes taken from it so far, as they are stored.
    pub(super) taken: Arc<AtomicU64>,
}

/// Counts what is read from a stream.
struct Counting<R> {
    input: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens `path`, or standard input when it is `-`.
pub(super) fn open(path: &Path, format: Format) -> Result<Source, ReadError> {
    if path == Path::new("-") {
        return from_read("<stdin>", io::stdin(), format);
    }
    let name = path.display().to_string();
    let format = if format == Format::Auto { by_extension(path) } else { format };
    match File::open(path) {
        Ok(file) => from_read(&name, file, format),
        Err(source) => Err(ReadError::Open { file: name.into(), source }),
    }
}

/// Uses an open stream.
pub(super) fn from_read(
    name: &str,
    input: impl Read + Send + 'static,
    format: Format,
) -> Result<Source, ReadError> {
    let name: Arc<str> = name.into();
    let taken = Arc::new(AtomicU64::new(0));
    let mut input = Counting { input, taken: Arc::clone(&taken) };
    let open_error = |source| ReadError::Open { file: Arc::clone(&name), source };
    let mut magic = Vec::with_capacity(GZIP_MAGIC.len());
    input.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut magic).map_err(open_error)?;
    let gzip = magic == GZIP_MAGIC;
    let whole = BufReader::with_capacity(BUFFER_BYTES, Cursor::new(magic).chain(input));
    let mut input: Box<dyn BufRead + Send> = if gzip {
        Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(whole)))
    } else {
        Box::new(whole)
    };
    let mut decided = format;
    if format == Format::Auto {
        let head = head(&mut input).map_err(|source| match gzip && is_gzip_trouble(&source) {
            true => ReadError::Gzip { file: Arc::clone(&name), lines: 0, source },
            false => open_error(source),
        })?;
        decided = sniff(&head);
        input = Box::new(Cursor::new(head).chain(input));
    }
    Ok(Source { name, format: decided, gzip, input, taken })
}

/// Whether the decoder, not the system, raised this error.
pub(super) fn is_gzip_trouble(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::InvalidInput | Kind::InvalidData | Kind::UnexpectedEof)
}

/// The format that a file's name promises; [`Format::Auto`] when it promises none.
fn by_extension(path: &Path) -> Format {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    match Path::new(name).extension().and_then(|extension| extension.to_str()) {
        Some("jsonl" | "ndjson" | "json") => Format::Jsonl,
        Some("csv") => Format::Csv,
        Some("txt") => Format::Lines,
        _ => Format::Auto,
    }
}

/// Takes bytes from `input` until they hold a whole line that is not blank.
fn head(input: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while head.len() < SNIFF_BYTES {
        let taken = input.by_ref().take(SNIFF_BYTES as u64).read_until(b'\n', &mut head)?;
        if taken == 0 || !without_mark(&head).is_empty() {
            break;
        }
    }
    Ok(head)
}

fn sniff(head: &[u8]) -> Format {
    match without_mark(head) {
        // A JSON array is no JSONL either, and the message for that is the one that helps.
        [b'{' | b'[', ..] => Format::Jsonl,
        line if csv::is_header(line) => Format::Csv,
        _ => Format::Lines,
    }
}

fn without_mark(head: &[u8]) -> &[u8] {
    head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_promises_a_format() {
        for (name, format) in [
            ("a.jsonl", Format::Jsonl),
            ("a.NDJSON", Format::Jsonl),
            ("a.b.json.gz", Format::Jsonl),
            ("dir.csv/a.csv.GZ", Format::Csv),
            ("a.txt", Format::Lines),
            ("dir.csv/a", Format::Auto),
            ("a.gz", Format::Auto),
            ("a.tsv", Format::Auto),
        ] {
            assert_eq!(by_extension(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn the_first_line_that_is_not_blank_tells_the_format() {
        for (text, format) in [
            ("\u{feff}\r\n  \n {\"id\":1}", Format::Jsonl),
            ("[{\"id\":1}]", Format::Jsonl),
            ("\ndoi\n10.1234/x\n", Format::Csv),
            ("\u{feff}\"Title\",\"DOI\"\r\n", Format::Csv),
            ("10.1234/x\n", Format::Lines),
            ("# doi, title\n", Format::Lines),
            ("https://a.example/?doi,x\n", Format::Lines),
            ("", Format::Lines),
        ] {
            let mut input = io::Cursor::new(text.as_bytes());
            assert_eq!(sniff(&head(&mut input).unwrap()), format, "{text:?}");
        }
    }

    #[test]
    fn looking_for_the_format_takes_little_and_loses_nothing() {
        let text = [" ".repeat(3 * SNIFF_BYTES).as_bytes(), b"\n10.1234/x\n"].concat();
        let mut source = from_read("x", Cursor::new(text.clone()), Format::Auto).unwrap();
        let mut again = Vec::new();
        source.input.read_to_end(&mut again).unwrap();
        assert_eq!(again, text);
        assert!(head(&mut Cursor::new(text)).unwrap().len() <= SNIFF_BYTES);
    }
}
