//! Bad lines: the first of them on standard error, all of them in the rejects file.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::pointer;
use super::progress::Progress;
use crate::cli::error::CliError;
use crate::cli::output::{Messages, printable};
use crate::intake::{LineError, RejectsWriter};

/// So many are shown; the rest is counted.
const SHOWN: u64 = 20;
/// So many of these are shown to a person with a pointer into the line.
const POINTED_AT: u64 = 3;

/// Counts bad lines, shows the first, and keeps all.
pub(super) struct BadLines {
    path: PathBuf,
    rejects: RejectsWriter,
    /// Draw pointers, and in colour.
    pointers: Option<bool>,
}

impl BadLines {
    /// To be kept in `path`.
    pub(super) fn new(path: PathBuf, messages: Messages) -> BadLines {
        let pointers = messages.is_terminal.then_some(messages.colour);
        BadLines { rejects: RejectsWriter::new(&path), path, pointers }
    }

    pub(super) fn count(&self) -> u64 {
        self.rejects.written()
    }

    /// Takes one.
    pub(super) fn add(&mut self, error: &LineError, progress: &Progress) -> Result<(), CliError> {
        if self.count() == 0 {
            self.make_directory()?;
        }
        let text = match self.pointers.filter(|_| self.count() < POINTED_AT) {
            Some(colour) => pointer::render(error, colour),
            None => format!("{}\n", printable(&error.to_string())),
        };
        if self.count() < SHOWN {
            // That nobody reads it is no reason to stop: the rejects file has it.
            progress.aside(|| drop(io::stderr().write_all(text.as_bytes())));
        }
        Ok(self.rejects.write(error)?)
    }

    /// The queue's directory may not be there yet.
    fn make_directory(&self) -> Result<(), CliError> {
        let Some(directory) = self.path.parent().filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(());
        };
        // For its owner alone, as the queue makes it.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|source| CliError::File {
            action: "create the directory",
            path: directory.to_owned(),
            source,
        })
    }

    /// Puts the rejects file in its place; its path, if there was a bad line.
    pub(super) fn finish(self, messages: Messages) -> Result<Option<PathBuf>, CliError> {
        let path = self.path;
        let count = self.rejects.finish()?;
        if count > SHOWN {
            messages.note(&and_more(count - SHOWN, &path));
        }
        Ok((count > 0).then_some(path))
    }
}

fn and_more(more: u64, path: &Path) -> String {
    format!("and {more} more bad lines: all of them are in {}", path.display())
}
