//! The file that an export is written to.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that appears whole or not at all; a pipe or a device is written as it is.
pub(super) enum Target {
    Replace(BufWriter<NamedTempFile>, PathBuf),
    Stream(BufWriter<File>),
}

impl Target {
    /// Where `path` will be.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn create(path: &Path) -> io::Result<Target> {
        let path = match fs::metadata(path) {
            Ok(found) if found.is_file() => fs::canonicalize(path)?,
            Ok(_) => {
                let file = fs::OpenOptions::new().write(true).open(path)?;
                return Ok(Target::Stream(BufWriter::new(file)));
            }
            Err(_) => path.to_owned(),
        };
        // As any new file: the process's umask says who may read it.
        let file = tempfile::Builder::new()
            .prefix(".export-")
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory_of(&path))?;
        Ok(Target::Replace(BufWriter::new(file), path))
    }

    /// Where its bytes go.
    pub(super) fn writer(&mut self) -> &mut dyn Write {
        match self {
            Target::Replace(out, _) => out,
            Target::Stream(out) => out,
        }
    }

    /// Makes it appear, down to the disk.
    ///
    /// # Errors
    /// What the file system says; nothing has appeared.
    pub(super) fn place(self) -> io::Result<()> {
        match self {
            Target::Stream(mut out) => out.flush(),
            Target::Replace(out, path) => {
                let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                file.persist(&path)?;
                File::open(directory_of(&path))?.sync_all()
            }
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
