//! What goes wrong below the trait, and how it is said to callers.
//!
//! The code inside works with [`Fault`], which knows no path; the path is added once, where the call ends.

use std::io;
use std::path::Path;

use rusqlite::ffi;
use rusqlite::{Error, ErrorCode};

use crate::job::IllegalEvent;
use crate::queue::store::StoreError;

/// An error inside a transaction.
#[derive(Debug)]
pub(super) enum Fault {
    /// SQLite said no.
    Sqlite(Error),
    /// A row holds what no version of orch writes.
    Corrupt(String),
    /// Already in the caller's words.
    Store(StoreError),
}

/// The result of work inside a transaction.
pub(super) type Worked<T> = Result<T, Fault>;

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Sqlite(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        Fault::Store(error)
    }
}

impl From<IllegalEvent> for Fault {
    fn from(illegal: IllegalEvent) -> Fault {
        Fault::Corrupt(illegal.to_string())
    }
}

impl Fault {
    /// The error to hand out, about the database at `path`.
    pub(super) fn at(self, path: &Path) -> StoreError {
        match self {
            Fault::Store(error) => error,
            Fault::Corrupt(what) => StoreError::Corrupt { path: path.into(), what },
            Fault::Sqlite(error) => sqlite(error, path),
        }
    }
}

/// Says what SQLite's result code means for a queue. See <https://www.sqlite.org/rescode.html>.
fn sqlite(error: Error, path: &Path) -> StoreError {
    let code = error.sqlite_error().copied();
    let path = path.to_path_buf();
    let io = |action, kind| {
        let source = io::Error::new(kind, error.to_string());
        StoreError::Io { action, path: path.clone(), source }
    };
    match code.map(|e| (e.code, e.extended_code)) {
        Some((ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE)) => {
            StoreError::Full { path }
        }
        Some((ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _)) => StoreError::Busy { path },
        Some((ErrorCode::NotADatabase, _)) => {
            StoreError::NotAQueue { path, why: "it is no SQLite database".to_owned() }
        }
        Some((ErrorCode::DatabaseCorrupt, _)) => {
            StoreError::Corrupt { path, what: error.to_string() }
        }
        Some((ErrorCode::CannotOpen, _)) => {
            io("open (is its directory there and writable?)", io::ErrorKind::Other)
        }
        Some((ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _)) => {
            io("write", io::ErrorKind::PermissionDenied)
        }
        _ => StoreError::Sqlite { path, source: error },
    }
}
