//! The files of an import, and how often they can be read.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::cli::error::CliError;
use crate::intake::{Format, Kinds, ReadError, Reader};

/// One input.
pub(super) struct Input {
    path: PathBuf,
    /// A copy of what can be read only once.
    spooled: Option<NamedTempFile>,
}

/// Fails before anything is imported when some file is not there.
pub(super) fn check_readable(files: &[PathBuf]) -> Result<(), ReadError> {
    for path in files.iter().filter(|path| !is_stdin(path)) {
        let open_error =
            |source| ReadError::Open { file: path.display().to_string().into(), source };
        let metadata = std::fs::metadata(path).map_err(open_error)?;
        if metadata.is_dir() {
            return Err(open_error(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        // Opening a named pipe would wait for its writer, and take what it writes.
        if metadata.is_file() {
            File::open(path).map_err(open_error)?;
        }
    }
    Ok(())
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

impl Input {
    /// An input that is read once.
    pub(super) fn plain(path: &Path) -> Input {
        Input { path: path.to_owned(), spooled: None }
    }

    /// An input that is read twice: standard input and pipes are copied to a temporary file.
    pub(super) fn spool(path: &Path) -> Result<Input, CliError> {
        if !is_stdin(path) && path.is_file() {
            return Ok(Input::plain(path));
        }
        let failed = |source| CliError::File {
            action: "spool to the temporary directory",
            path: path.to_owned(),
            source,
        };
        let spooled = NamedTempFile::new().map_err(failed)?;
        let mut source: Box<dyn io::Read> = if is_stdin(path) {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(path).map_err(failed)?)
        };
        let mut copy = BufWriter::new(spooled.as_file());
        io::copy(&mut source, &mut copy).and_then(|_| copy.flush()).map_err(failed)?;
        drop(copy);
        Ok(Input { path: path.to_owned(), spooled: Some(spooled) })
    }

    /// Its size in bytes, where that is known before it is read.
    pub(super) fn bytes(&self) -> Option<u64> {
        let metadata = match &self.spooled {
            Some(spooled) => spooled.as_file().metadata(),
            None => std::fs::metadata(&self.path),
        };
        metadata.ok().filter(std::fs::Metadata::is_file).map(|file| file.len())
    }

    /// Its jobs and bad lines, from the beginning.
    pub(super) fn reader(&self, format: Format, kinds: &Kinds) -> Result<Reader, ReadError> {
        let Some(spooled) = &self.spooled else {
            return Reader::open(&self.path, format, kinds);
        };
        let name = if is_stdin(&self.path) {
            "<stdin>".to_owned()
        } else {
            self.path.display().to_string()
        };
        let again = spooled
            .reopen()
            .map_err(|source| ReadError::Open { file: name.as_str().into(), source })?;
        Reader::from_read(&name, again, format, kinds)
    }
}
