//! Files of equal content, stored once: hard links to `out/.by-sha256/<2 digits>/<sha256>`.
//!
//! That name is one more link to a file that some artifact has under its own; the bytes of another artifact with the same
//! SHA-256 are dropped, and it gets a link too. Of the file found there only the size is compared with what is
//! expected, and beyond that it is trusted: nobody but us writes there, and whoever edits an artifact in place has edited all of its
//! links. Files whose last artifact was deleted stay; `find out/.by-sha256 -links 1` names them.
//!
//! Must never keep a file from being published: where links are not to be had, it is stored by itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use super::place::Disk;

/// Below the output directory.
const DIRECTORY: &str = ".by-sha256";

/// The files that are there, by content.
pub(super) struct ByContent {
    directory: PathBuf,
}

impl ByContent {
    /// The store of the output directory `root`.
    pub(super) fn of(root: &Path) -> ByContent {
        ByContent { directory: root.join(DIRECTORY) }
    }

    /// Gives `file`, whose bytes are durable, its final name: it, or an equal one that is there already.
    ///
    /// # Errors
    /// What the file system says; then the name is as it was.
    pub(super) fn place(
        &self,
        disk: &impl Disk,
        file: NamedTempFile,
        path: &Path,
        sha256: &str,
    ) -> io::Result<()> {
        let canonical = self.directory.join(&sha256[..sha256.len().min(2)]).join(sha256);
        if is_same_size(&canonical, &file) && link_to(disk, &canonical, &file, path).is_ok() {
            // Ours goes away with `file`.
            return Ok(());
        }
        disk.rename(file, path)?;
        // None there, one of another size, or one that has as many links as it can have.
        let _ = register(disk, path, &canonical);
        Ok(())
    }
}

fn is_same_size(canonical: &Path, file: &NamedTempFile) -> bool {
    let there = fs::symlink_metadata(canonical).ok().filter(fs::Metadata::is_file);
    let ours = file.as_file().metadata().ok();
    there.zip(ours).is_some_and(|(there, ours)| there.len() == ours.len())
}

/// Names the canonical file `path`, in place of what has that name.
fn link_to(
    disk: &impl Disk,
    canonical: &Path,
    file: &NamedTempFile,
    path: &Path,
) -> io::Result<()> {
    replace(disk, canonical, &beside(file.path()), path)
}

/// Makes the file at `path` the canonical one.
fn register(disk: &impl Disk, path: &Path, canonical: &Path) -> io::Result<()> {
    if let Some(directory) = canonical.parent() {
        fs::create_dir_all(directory)?;
    }
    match disk.link(path, canonical) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            replace(disk, path, &beside(path), canonical)
        }
        other => other,
    }
}

/// A link cannot replace a name, but a rename can: by way of `between`, a temporary name in a directory that is swept.
fn replace(disk: &impl Disk, from: &Path, between: &Path, to: &Path) -> io::Result<()> {
    disk.link(from, between)?;
    // Renaming one link onto another of the same file does nothing: the temporary name goes in any case.
    let between = TempPath::try_from_path(between)?;
    fs::rename(&between, to)
}

/// A hidden temporary name beside a file.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{}.link.part", name.trim_start_matches('.')))
}
