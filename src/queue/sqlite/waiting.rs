//! Who waits for the write lock, for those who write much at a time.
//!
//! ```text
//!   whoever finds the write lock taken ──flock, shared──> <database>-waiting <──flock, exclusive, for an instant── whoever has written much
//! ```
//!
//! SQLite does not tell whether others wait, and whoever begins again right after its commit is always faster than those who look every
//! millisecond. Courtesy only: without the file, or with a process that was stopped while it waited, everything works as before, and some
//! wait longer. Must never wait, nor make a write fail.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::open::sibling;

/// One handle's view of who waits.
#[derive(Debug)]
pub(super) struct Waiting {
    path: PathBuf,
    /// Opened when it was first needed.
    file: Option<File>,
    is_raised: bool,
}

impl Waiting {
    /// For the write lock of the database at `path`.
    pub(super) fn beside(path: &Path) -> Waiting {
        Waiting { path: sibling(path, "-waiting"), file: None, is_raised: false }
    }

    /// This handle waits from now on. Should somebody be looking at this instant, it is not seen; say it again.
    pub(super) fn raise(&mut self) {
        if self.is_raised {
            return;
        }
        if self.file.is_none() {
            let mut options = File::options();
            options.write(true).create(true).truncate(false).mode(0o600);
            self.file = options.open(&self.path).ok();
        }
        self.is_raised = self.lock(FlockOperation::NonBlockingLockShared) == Some(true);
    }

    /// It has what it waited for, or waits no more.
    pub(super) fn lower(&mut self) {
        if std::mem::take(&mut self.is_raised) {
            self.lock(FlockOperation::Unlock);
        }
    }

    /// Whether another handle waits.
    pub(super) fn is_anybody(&mut self) -> bool {
        if self.file.is_none() {
            // Who has never waited made no file.
            self.file = File::options().write(true).open(&self.path).ok();
        }
        let is_free = self.lock(FlockOperation::NonBlockingLockExclusive);
        self.lock(FlockOperation::Unlock);
        is_free == Some(false)
    }

    /// Whether that was done; `None` when it cannot be known.
    fn lock(&self, operation: FlockOperation) -> Option<bool> {
        match rustix::fs::flock(self.file.as_ref()?, operation) {
            Ok(()) => Some(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Some(false),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_seen_by_all_others_for_as_long_as_it_waits() {
        let folder = tempfile::tempdir().unwrap();
        let [mut one, mut two, mut writer] =
            [(); 3].map(|()| Waiting::beside(&folder.path().join("q")));
        assert!(!writer.is_anybody(), "nobody ever waited");
        one.raise();
        two.raise();
        assert!(writer.is_anybody());
        one.lower();
        assert!(writer.is_anybody(), "one still does");
        two.lower();
        assert!(!writer.is_anybody());
        one.raise();
        drop(one);
        assert!(!writer.is_anybody(), "who is gone waits no more");
    }

    #[test]
    fn without_a_place_for_the_file_nobody_is_seen_and_nothing_fails() {
        let mut waiting = Waiting::beside(Path::new("/nowhere/at/all"));
        waiting.raise();
        assert!(!Waiting::beside(Path::new("/nowhere/at/all")).is_anybody());
        waiting.lower();
    }
}
