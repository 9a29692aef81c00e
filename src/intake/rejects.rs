//! The rejects file: every bad line with its reason, as JSONL, for a person to mend and import again.
//!
//! Nothing is created before the first bad line. Must never leave a half-written file where a whole one was, nor
//! destroy the input when both are the same file: lines go to a temporary file that takes its place at the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::LineError;
use super::line::RejectLine;

/// Writes bad lines to a file of `{"file":…,"line":…,"column":…,"reason":…,"text":…}`.
#[derive(Debug)]
pub struct RejectsWriter {
    path: PathBuf,
    sink: Option<Sink>,
    written: u64,
}

/// The rejects file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the rejects file {path}: {source}")]
pub struct RejectsError {
    /// The file.
    path: PathBuf,
    /// What the system said.
    source: io::Error,
}

#[derive(Debug)]
enum Sink {
    /// Takes the place of a regular file, or of nothing, at the end.
    Replace(BufWriter<NamedTempFile>, PathBuf),
    /// A pipe, a terminal or another device: written as it is.
    Stream(BufWriter<File>),
}

impl RejectsWriter {
    /// A writer to `path`; touches nothing yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> RejectsWriter {
        RejectsWriter { path: path.into(), sink: None, written: 0 }
    }

    /// Adds a bad line.
    ///
    /// # Errors
    /// [`RejectsError`] when the file cannot be created or written.
    pub fn write(&mut self, error: &LineError) -> Result<(), RejectsError> {
        self.try_write(error).map_err(|source| self.error(source))?;
        self.written += 1;
        Ok(())
    }

    /// Lines written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Puts the file in its place, synced. Without this, or without a bad line, nothing is changed there.
    ///
    /// # Errors
    /// [`RejectsError`] when the file cannot be written or put in its place.
    pub fn finish(mut self) -> Result<u64, RejectsError> {
        let placed = match self.sink.take() {
            None => Ok(()),
            Some(Sink::Stream(mut out)) => out.flush(),
            Some(Sink::Replace(out, target)) => place(out, &target),
        };
        placed.map(|()| self.written).map_err(|source| self.error(source))
    }

    fn try_write(&mut self, error: &LineError) -> io::Result<()> {
        let sink = match &mut self.sink {
            Some(sink) => sink,
            empty => empty.insert(create(&self.path)?),
        };
        let out: &mut dyn Write = match sink {
            Sink::Replace(out, _) => out,
            Sink::Stream(out) => out,
        };
        serde_json::to_writer(&mut *out, &RejectLine::from(error))?;
        out.write_all(b"\n")
    }

    fn error(&self, source: io::Error) -> RejectsError {
        RejectsError { path: self.path.clone(), source }
    }
}

fn create(path: &Path) -> io::Result<Sink> {
    let target = match fs::metadata(path) {
        Ok(found) if found.is_file() => fs::canonicalize(path)?,
        Ok(_) => {
            return OpenOptions::new()
                .append(true)
                .open(path)
                .map(BufWriter::new)
                .map(Sink::Stream);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
    let file = NamedTempFile::with_prefix_in(".rejects-", directory.unwrap_or(Path::new(".")))?;
    Ok(Sink::Replace(BufWriter::new(file), target))
}

fn place(out: BufWriter<NamedTempFile>, target: &Path) -> io::Result<()> {
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(target)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::{Fault, LineError};

    fn bad() -> LineError {
        LineError {
            file: "in.jsonl".into(),
            line: 7,
            column: 3,
            fault: Fault::NoId,
            text: "{\"\u{fffd}\"}".into(),
            span_offset: 2,
            span_len: 1,
        }
    }

    #[test]
    fn a_reject_is_one_line_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let mut rejects = RejectsWriter::new(&path);
        rejects.write(&bad()).unwrap();
        rejects.write(&bad()).unwrap();
        assert!(!path.exists(), "not in its place before it is whole");
        assert_eq!(rejects.finish().unwrap(), 2);
        let line = format!(
            "{{\"file\":\"in.jsonl\",\"line\":7,\"column\":3,\"reason\":\"{}\",\"text\":\"{{\\\"\u{fffd}\\\"}}\"}}\n",
            Fault::NoId
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), line.repeat(2));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_a_bad_line_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        assert_eq!(RejectsWriter::new(&path).finish().unwrap(), 0);
        assert!(!path.exists());
    }

    #[test]
    fn an_unfinished_writer_leaves_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        fs::write(&path, "old").unwrap();
        let mut rejects = RejectsWriter::new(&path);
        rejects.write(&bad()).unwrap();
        assert_eq!(rejects.written(), 1);
        drop(rejects);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_device_is_written_and_not_replaced() {
        use std::os::unix::fs::FileTypeExt;
        let mut rejects = RejectsWriter::new("/dev/null");
        rejects.write(&bad()).unwrap();
        assert_eq!(rejects.finish().unwrap(), 1);
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("r.jsonl"), dir.path().join("link"));
        fs::write(&path, "old").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut rejects = RejectsWriter::new(&link);
        rejects.write(&bad()).unwrap();
        rejects.finish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&path).unwrap().starts_with("{\"file\""));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let mut rejects = RejectsWriter::new("/nonexistent/r.jsonl");
        let error = rejects.write(&bad()).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write the rejects file /nonexistent/r.jsonl: "),
            "{error}"
        );
    }
}
