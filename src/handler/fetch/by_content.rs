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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    const SHA256: &str = "abcd";

    /// A disk with links, or without.
    struct Links(bool);

    impl Disk for Links {
        fn sync(&self, _: &[&File], _: &BTreeSet<PathBuf>) -> io::Result<()> {
            Ok(())
        }

        fn link(&self, file: &Path, path: &Path) -> io::Result<()> {
            if self.0 { fs::hard_link(file, path) } else { Err(io::ErrorKind::Unsupported.into()) }
        }
    }

    struct Rig(tempfile::TempDir);

    impl Rig {
        fn new() -> Rig {
            Rig(tempfile::tempdir().unwrap())
        }

        fn place(&self, disk: &Links, name: &str, bytes: &[u8]) -> fs::Metadata {
            let mut file = NamedTempFile::with_suffix_in(".part", self.0.path()).unwrap();
            file.write_all(bytes).unwrap();
            let path = self.0.path().join(name);
            ByContent::of(self.0.path()).place(disk, file, &path, SHA256).unwrap();
            assert_eq!(fs::read(&path).unwrap(), bytes);
            self.no_temporary_file_is_left();
            fs::metadata(path).unwrap()
        }

        fn canonical(&self) -> PathBuf {
            self.0.path().join(".by-sha256/ab/abcd")
        }

        fn no_temporary_file_is_left(&self) {
            for directory in [self.0.path(), &self.0.path().join(".by-sha256/ab")] {
                let Ok(entries) = fs::read_dir(directory) else { continue };
                for entry in entries.flatten() {
                    let name = entry.file_name().into_string().unwrap();
                    assert!(!name.ends_with(".part"), "{name}");
                }
            }
        }
    }

    #[test]
    fn two_artifacts_with_one_content_are_one_file() {
        let (rig, disk) = (Rig::new(), Links(true));
        let first = rig.place(&disk, "1.pdf", b"same");
        assert_eq!(first.nlink(), 2);
        let second = rig.place(&disk, "2.pdf", b"same");
        assert_eq!((second.ino(), second.nlink()), (first.ino(), 3));
        // Fetched again: onto a name that is the same file already.
        let again = rig.place(&disk, "2.pdf", b"same");
        assert_eq!((again.ino(), again.nlink()), (first.ino(), 3));
        // Deleting one harms no other.
        fs::remove_file(rig.0.path().join("1.pdf")).unwrap();
        assert_eq!(fs::read(rig.0.path().join("2.pdf")).unwrap(), b"same");
    }

    #[test]
    fn a_changed_canonical_copy_is_replaced_and_not_handed_out() {
        let (rig, disk) = (Rig::new(), Links(true));
        rig.place(&disk, "1.pdf", b"same");
        fs::write(rig.canonical(), b"edited in place").unwrap();
        let second = rig.place(&disk, "2.pdf", b"same");
        assert_eq!(second.nlink(), 2);
        assert_eq!(fs::metadata(rig.canonical()).unwrap().ino(), second.ino());
        assert_eq!(rig.place(&disk, "3.pdf", b"same").ino(), second.ino());
    }

    #[test]
    fn without_hard_links_every_artifact_has_its_own() {
        let rig = Rig::new();
        let first = rig.place(&Links(false), "1.pdf", b"same");
        let second = rig.place(&Links(false), "2.pdf", b"same");
        assert_ne!(first.ino(), second.ino());
        assert_eq!((first.nlink(), second.nlink()), (1, 1));
        // Also where they end, as they do when a file has as many as it can have.
        rig.place(&Links(true), "3.pdf", b"same");
        assert_eq!(rig.place(&Links(false), "4.pdf", b"same").nlink(), 1);
    }

    #[test]
    fn a_directory_in_the_way_keeps_nothing_from_being_published() {
        let rig = Rig::new();
        fs::create_dir_all(rig.canonical()).unwrap();
        assert_eq!(rig.place(&Links(true), "1.pdf", b"same").nlink(), 1);
    }
}
