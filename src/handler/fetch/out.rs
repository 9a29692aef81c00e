//! The output directory: where unfinished bytes go, and what dead processes left of them.
//!
//! Unfinished bytes lie beside their final name as `.<name>.<random>.part`, under an exclusive
//! `flock` for as long as somebody writes or waits to publish them. Whoever can take that lock knows
//! that the writer is gone. What arrived of a body that broke off may be kept as `.<name>.partial` until somebody
//! goes on with it; it is swept when it is a month old.

use std::fs::{self, DirEntry, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::UNIX_EPOCH;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::{NamedTempFile, TempPath};

use super::name::{DIRECTORIES, FileName, directory_name};
use crate::job::WallMs;

const SUFFIX: &str = ".part";
/// What broke off and may be gone on with: `.<name>.partial`, one for each artifact.
const PARTIAL_SUFFIX: &str = ".partial";
/// How long that is kept. Jobs are retried within hours; a month is for people.
const PARTIAL_MAX_AGE_MS: u64 = 30 * 24 * 3_600 * 1_000;
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

    /// Keeps what broke off, in place of what was kept before. The file must be one of this directory's.
    ///
    /// # Errors
    /// What the file system says; then nothing is kept.
    pub(super) fn keep_partial(&self, name: &FileName, file: NamedTempFile) -> io::Result<()> {
        let path = self.partial_path(name);
        if file.path() == path {
            file.keep().map_err(|failed| failed.error)?;
        } else {
            file.persist(path).map_err(|failed| failed.error)?;
        }
        Ok(())
    }

    /// What was kept, locked; it goes away unless it is kept again or published. `None` where there is nothing, or
    /// somebody else goes on with it.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn reopen_partial(&self, name: &FileName) -> io::Result<Option<NamedTempFile>> {
        let path = self.partial_path(name);
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !is_ours(&file)? {
            return Ok(None);
        }
        Ok(Some(NamedTempFile::from_parts(file, TempPath::try_from_path(path)?)))
    }

    /// Removes what was kept, if anything.
    pub(super) fn discard_partial(&self, name: &FileName) {
        // What cannot be removed is swept when it is old.
        let _ = fs::remove_file(self.partial_path(name));
    }

    /// Whether this is the path under which what broke off is kept.
    pub(super) fn is_partial(&self, name: &FileName, path: &Path) -> bool {
        path == self.partial_path(name)
    }

    fn partial_path(&self, name: &FileName) -> PathBuf {
        name.directory_in(&self.root).join(format!(".{}{PARTIAL_SUFFIX}", name.stem))
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

/// Removes the temporary files of processes that are gone, and what was kept of broken bodies if it is old; how many.
///
/// Looks into the 256 directories of the tree and nowhere else. What cannot be looked at is left.
pub(super) fn sweep_temporaries(root: &Path, now: WallMs) -> usize {
    let directories = (0..=u8::MAX).map(|directory| root.join(directory_name(directory)));
    let entries = directories.filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    entries
        .flatten()
        .filter(|entry| is_temporary(entry) || is_old_partial(entry, now))
        .filter(|entry| remove_if_abandoned(&entry.path()))
        .count()
}

fn is_temporary(entry: &DirEntry) -> bool {
    is_hidden(entry, SUFFIX)
}

fn is_old_partial(entry: &DirEntry, now: WallMs) -> bool {
    let written = || {
        let written = entry.metadata().ok()?.modified().ok()?;
        let since = written.duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since.as_millis()).ok().map(WallMs)
    };
    is_hidden(entry, PARTIAL_SUFFIX)
        && written().is_some_and(|written| now.since_ms(written) > PARTIAL_MAX_AGE_MS)
}

fn is_hidden(entry: &DirEntry, suffix: &str) -> bool {
    let name = entry.file_name();
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(suffix.as_bytes())
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
        assert_eq!(sweep_temporaries(out.root(), WallMs(0)), 1);
        assert!(!dead.exists());
        assert!(alive.path().exists() && outside.exists());
        assert!(kept.iter().all(|path| path.exists()));

        let path = alive.into_temp_path().keep().unwrap();
        assert!(path.exists());
        assert_eq!(sweep_temporaries(out.root(), WallMs(0)), 1);
        assert!(!path.exists());
        assert_eq!(sweep_temporaries(Path::new("/no/such/directory"), WallMs(0)), 0);
    }

    #[test]
    fn what_broke_off_is_kept_for_a_month_and_one_goes_on_with_it() {
        let root = tempfile::tempdir().unwrap();
        let out = OutDir::open(root.path()).unwrap();
        let partial =
            name("a").directory_in(out.root()).join(format!(".{}.partial", name("a").stem));
        assert!(out.reopen_partial(&name("a")).unwrap().is_none());
        out.keep_partial(&name("a"), out.temporary(&name("a")).unwrap()).unwrap();
        assert!(partial.exists());

        let reopened = out.reopen_partial(&name("a")).unwrap().unwrap();
        assert!(out.reopen_partial(&name("a")).unwrap().is_none(), "it is locked");
        let later = WallMs(i64::MAX);
        assert_eq!(sweep_temporaries(out.root(), later), 0);
        out.keep_partial(&name("a"), reopened).unwrap();
        assert_eq!(fs::read_dir(partial.parent().unwrap()).unwrap().count(), 1);

        let written = fs::metadata(&partial).unwrap().mtime() * 1_000;
        assert_eq!(sweep_temporaries(out.root(), WallMs(written + 29 * 86_400_000)), 0);
        assert_eq!(sweep_temporaries(out.root(), WallMs(written + 31 * 86_400_000)), 1);
        assert!(!partial.exists());
        out.discard_partial(&name("a"));

        out.keep_partial(&name("a"), out.temporary(&name("a")).unwrap()).unwrap();
        drop(out.reopen_partial(&name("a")).unwrap());
        assert!(!partial.exists(), "neither kept again nor published");
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
