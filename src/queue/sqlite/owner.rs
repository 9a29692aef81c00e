//! Owners as files: who is alive, without asking the clock or the database.
//!
//! ```text
//!   <database>-owners/<id>/lock    flock, exclusive, for as long as the owner's process lives (or its last handle);
//!                                  empty once it ended in good order but had no room to write so in the database
//!                          bell    a FIFO; a byte in it says that there is work
//!                          …       records of process groups, see crate::process
//! ```
//!
//! The lock is taken before the owner's row is written, so a row whose lock is free is a dead owner's, whatever
//! the clock says (invariant 5). Locks are files of their own under flock, on close-on-exec descriptors, and
//! never the database itself (invariant 11).

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, OFlags};

use crate::queue::store::StoreError;

const LOCK: &str = "lock";
const BELL: &str = "bell";

/// The descriptors of one living owner.
#[derive(Debug)]
struct Held {
    /// Closing it is the owner's death.
    lock: File,
    /// Keeps the FIFO open for those who ring, and what they rang until somebody reads it.
    _bell: Option<File>,
}

/// The directory of all owners of one database, and those that live in this process's handles.
#[derive(Debug)]
pub(super) struct Owners {
    directory: PathBuf,
    held: Mutex<HashMap<Box<str>, Held>>,
}

/// What an owner's lock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// Somebody holds it.
    Held,
    /// Nobody does, or it is not there any more.
    Free,
}

/// An error about a file.
pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> StoreError + use<> {
    let path = path.to_path_buf();
    move |source| StoreError::Io { action, path, source }
}

/// Waits for a lock on a descriptor of ours.
pub(super) fn lock_file(file: &File) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

impl Owners {
    /// The owners of the database at `path`.
    pub(super) fn beside(path: &Path) -> Owners {
        Owners { directory: super::open::sibling(path, "-owners"), held: Mutex::default() }
    }

    /// The directory of the owner of that id.
    pub(super) fn directory(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }

    /// Makes the files of a new owner and holds its lock. Returns its directory.
    pub(super) fn create(&self, id: &str) -> Result<PathBuf, StoreError> {
        let directory = self.directory(id);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(io_error("create", &directory))?;
        match hold(&directory) {
            Ok(held) => _ = self.held.lock().insert(id.into(), held),
            Err(error) => {
                // Of no use to anybody, and named by no row: swept later if it cannot go now.
                let _ = fs::remove_dir_all(&directory);
                return Err(error);
            }
        }
        Ok(directory)
    }

    /// Removes the files of an owner, and lets go of its lock if it is one of ours.
    pub(super) fn remove(&self, id: &str) -> Result<(), StoreError> {
        let directory = self.directory(id);
        let removed = fs::remove_dir_all(&directory);
        self.held.lock().remove(id);
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &directory)(error))
            }
            _ => Ok(()),
        }
    }

    /// Notes beside the database that an owner of ours ends in good order. Takes no room: the disk may be full.
    pub(super) fn resign(&self, id: &str) {
        if let Some(held) = self.held.lock().get(id) {
            // As bad as before: it will be taken for one that died.
            let _ = held.lock.set_len(0);
        }
    }

    /// Whether that owner ended so.
    pub(super) fn has_resigned(&self, id: &str) -> bool {
        fs::metadata(self.directory(id).join(LOCK)).is_ok_and(|lock| lock.len() == 0)
    }

    /// Whether somebody holds the lock of that owner.
    pub(super) fn probe(&self, id: &str) -> Result<Lock, StoreError> {
        let path = self.directory(id).join(LOCK);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Free),
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Lock::Free),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(Lock::Held),
            Err(error) => Err(io_error("probe", &path)(error.into())),
        }
    }

    /// The ids of all owners that have files.
    pub(super) fn list(&self) -> Result<Vec<String>, StoreError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &self.directory)(error)),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.collect())
    }

    /// Tells each of those owners that there is work. Nobody is waited for: an owner that is gone or has a full bell
    /// needs no telling.
    pub(super) fn ring(&self, ids: &[String]) {
        for id in ids {
            let bell = File::options()
                .write(true)
                .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
                .open(self.directory(id).join(BELL));
            if let Ok(mut bell) = bell {
                let _ = bell.write(&[1]);
            }
        }
    }

    /// The reading end of an owner's bell: non-blocking; `None` on systems without.
    pub(super) fn bell(&self, id: &str) -> Result<Option<OwnedFd>, StoreError> {
        let path = self.directory(id).join(BELL);
        if cfg!(target_vendor = "apple") {
            return Ok(None);
        }
        open_bell(&path).map(|file| Some(file.into())).map_err(io_error("open", &path))
    }
}

fn hold(directory: &Path) -> Result<Held, StoreError> {
    let path = directory.join(LOCK);
    let mut lock = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("create", &path))?;
    lock_file(&lock).map_err(io_error("lock", &path))?;
    writeln!(lock, "{}", boot_id().trim()).map_err(io_error("write", &path))?;
    let path = directory.join(BELL);
    let bell = make_bell(&path).map_err(io_error("create", &path))?;
    Ok(Held { lock, _bell: bell })
}

#[cfg(not(target_vendor = "apple"))]
fn make_bell(path: &Path) -> io::Result<Option<File>> {
    use rustix::fs::Mode;
    rustix::fs::mkfifoat(rustix::fs::CWD, path, Mode::RUSR | Mode::WUSR)?;
    open_bell(path).map(Some)
}

/// No FIFO: a run there looks for work when its heartbeat beats.
#[cfg(target_vendor = "apple")]
fn make_bell(_path: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// Opened for writing too, so that it never reads as ended when the last one who rang has gone.
fn open_bell(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
}

/// Which boot of this machine it is, where the system says so: process ids of another boot mean nothing.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}
