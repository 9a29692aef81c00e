//! The output directory: where unfinished bytes go, and what dead processes left of them.
//!
//! Unfinished bytes lie beside their final name as `.<name>.<random>.part`, under an exclusive
//! `flock` for as long as somebody writes or waits to publish them. Whoever can take that lock knows
//! that the writer is gone.

use std::fs::{self, DirEntry, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::name::{DIRECTORIES, FileName, directory_name};

const SUFFIX: &str = ".part";
/// How often a temporary file is made anew because a sweep took it before it was locked.
const MAX_TRIES: usize = 8;

/// The output directory.
pub(super) struct OutDir {
    root: PathBuf,
    /// Which of its directories are known to be there.
    made: Box<[AtomicBool]>,
}

impl OutDir {
    /// The directory at `root`, made with its parents, durably, where it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open(root: &Path) -> io::Result<OutDir> {
        make_durably(root)?;
        let made = (0..DIRECTORIES).map(|_| AtomicBool::new(false)).collect();
        Ok(OutDir { root: root.to_owned(), made })
    }

    /// Its path, as it was given.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A temporary file beside the final place of `name`, locked.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn temporary(&self, name: &FileName) -> io::Result<NamedTempFile> {
        let directory = name.directory_in(&self.root);
        let made = &self.made[usize::from(name.directory)];
        if !made.load(Ordering::Relaxed) {
            fs::create_dir_all(&directory)?;
            made.store(true, Ordering::Relaxed);
        }
        match locked_file(&directory, &name.stem) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody removed the directory under us.
                fs::create_dir_all(&directory)?;
                locked_file(&directory, &name.stem)
            }
            other => other,
        }
    }
}

fn locked_file(directory: &Path, stem: &str) -> io::Result<NamedTempFile> {
    let prefix = format!(".{stem}.");
    for _ in 0..MAX_TRIES {
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(SUFFIX)
            // As any program would make it: the umask decides who may read it.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(directory)?;
        if is_ours(file.as_file())? {
            return Ok(file);
        }
    }
    Err(io::Error::other("temporary files are taken away as soon as they are made"))
}

/// Locks a file just made; false when a sweep was faster.
fn is_ours(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file.metadata()?.nlink() > 0),
        Err(Errno::WOULDBLOCK) => Ok(false),
        // A file system without locks: then nothing can be swept there either.
        Err(_) => Ok(true),
    }
}

/// Removes the temporary files of processes that are gone; how many.
///
/// Looks into the 256 directories of the tree and nowhere else. What cannot be looked at is left.
pub(super) fn sweep_temporaries(root: &Path) -> usize {
    let directories = (0..=u8::MAX).map(|directory| root.join(directory_name(directory)));
    let entries = directories.filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    entries
        .flatten()
        .filter(is_temporary)
        .filter(|entry| remove_if_abandoned(&entry.path()))
        .count()
}

fn is_temporary(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(SUFFIX.as_bytes())
}

fn remove_if_abandoned(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && fs::remove_file(path).is_ok()
}

/// Makes a directory with its parents, and sees to it that their entries survive a power loss.
fn make_durably(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    fs::create_dir_all(path)?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::ArtifactId;

    fn name(id: &str) -> FileName {
        FileName::of(&ArtifactId::new(id).unwrap())
    }

    #[test]
    fn a_sweep_takes_what_the_dead_left_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let out = OutDir::open(&root.path().join("new/out")).unwrap();
        let alive = out.temporary(&name("a")).unwrap();
        let directory = alive.path().parent().unwrap().to_owned();
        let dead = directory.join(".x.abc.part");
        let kept = [directory.join("x.pdf"), directory.join(".x"), directory.join("x.part")];
        let outside = out.root().join(".x.abc.part");
        for path in kept.iter().chain([&dead, &outside]) {
            fs::write(path, "x").unwrap();
        }
        assert_eq!(sweep_temporaries(out.root()), 1);
        assert!(!dead.exists());
        assert!(alive.path().exists() && outside.exists());
        assert!(kept.iter().all(|path| path.exists()));

        let path = alive.into_temp_path().keep().unwrap();
        assert!(path.exists());
        assert_eq!(sweep_temporaries(out.root()), 1);
        assert!(!path.exists());
        assert_eq!(sweep_temporaries(Path::new("/no/such/directory")), 0);
    }

    #[test]
    fn a_directory_that_was_removed_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        let out = OutDir::open(root.path()).unwrap();
        drop(out.temporary(&name("a")).unwrap());
        fs::remove_dir(name("a").directory_in(root.path())).unwrap();
        assert!(out.temporary(&name("a")).unwrap().path().exists());
    }

    #[test]
    fn a_temporary_file_is_hidden_and_goes_away_unless_published() {
        let root = tempfile::tempdir().unwrap();
        let out = OutDir::open(root.path()).unwrap();
        let file = out.temporary(&name("a")).unwrap();
        let path = file.path().to_owned();
        let shown = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(shown.starts_with(".a-") && shown.ends_with(".part"), "{shown}");
        drop(file);
        assert!(!path.exists());
    }
}
