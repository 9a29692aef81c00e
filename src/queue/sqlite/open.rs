//! Opening a queue: refusing what is none, making what is missing, and bringing the schema up to date.
//!
//! Must never open or close the database, its `-wal` or its `-shm` other than through SQLite: closing such a
//! descriptor drops the POSIX locks of every connection this process has (invariant 11). Before the first connection
//! there is only `stat`, `statfs`, and the exclusive creation of a file that nobody can have open.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use refinery::{Migration, Runner};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};
use rustix::fs::FlockOperation;

use super::fault::Fault;
use super::owner::{io_error, lock_file};
use crate::queue::store::StoreError;

/// `orch` in ASCII: the application id in the header of our databases.
const APPLICATION_ID: i32 = 0x6f72_6368;

/// Every step of the schema, oldest first: name as refinery has it, and text.
pub(super) const MIGRATIONS: [(&str, &str); 5] = [
    ("V1__queue", include_str!("migrations/V1__queue.sql")),
    ("V2__yield", include_str!("migrations/V2__yield.sql")),
    ("V3__shares", include_str!("migrations/V3__shares.sql")),
    ("V4__lanes", include_str!("migrations/V4__lanes.sql")),
    ("V5__seen_newest", include_str!("migrations/V5__seen_newest.sql")),
];

/// The schema this version knows.
const SCHEMA: i64 = 5;

const PAGE_BYTES: u32 = 4_096;

/// A log that grew larger is cut back to so many bytes when it begins anew.
pub(super) const MAX_LOG_KEPT: i64 = 64 << 20;

/// How the WAL and its syncs are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Durability {
    /// A commit survives a power loss.
    #[default]
    Full,
    /// A commit survives a crash of the program; a power loss may take the last ones.
    Normal,
}

/// How to open a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOptions {
    /// Make the queue, and its directory, if there is none.
    pub create: bool,
    /// How long to wait for another's write lock.
    pub busy_timeout: Duration,
    /// What a commit survives.
    pub durability: Durability,
    /// Whether to keep a write-ahead log (readers then never wait for writers).
    pub wal_mode: bool,
    /// The most pages the database may have; then it is full. `None`: as many as the disk takes.
    pub max_pages: Option<u32>,
}

impl Default for OpenOptions {
    fn default() -> OpenOptions {
        OpenOptions {
            create: true,
            busy_timeout: Duration::from_secs(10),
            durability: Durability::Full,
            wal_mode: true,
            max_pages: None,
        }
    }
}

/// How much memory a connection's page cache may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cache {
    /// The handle that does the work.
    Large,
    /// One that beats, or looks in.
    Small,
}

/// The path with a suffix to its name, as SQLite names the files beside its database.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The first connection to a queue: checked, made and migrated as needed.
pub(super) fn open(path: &Path, options: &OpenOptions) -> Result<Connection, StoreError> {
    let exists = exists(path)?;
    if !exists && !options.create {
        return Err(StoreError::Missing { path: path.into() });
    }
    refuse_network(path)?;
    let mut lock = None;
    if !exists {
        create_directory(path)?;
        lock = Some(lock_upkeep(path)?);
        create_file(path)?;
    }
    let mut conn = connect(path, options)?;
    if look(&conn, path)? != Found::Current {
        let _lock = match lock {
            Some(lock) => lock,
            None => lock_upkeep(path)?,
        };
        // Looked at again: whoever held the lock may have done it.
        match look(&conn, path)? {
            Found::Current => {}
            Found::Empty if !options.create => {
                return Err(StoreError::NotAQueue { path: path.into(), why: "it is empty".into() });
            }
            found => {
                bring_up_to_date(&mut conn, found, options).map_err(|fault| fault.at(path))?;
            }
        }
    }
    make_private(path)?;
    configure(&conn, path, options, Cache::Large)?;
    Ok(conn)
}

/// Another connection to a queue that is open already.
pub(super) fn reopen(path: &Path, options: &OpenOptions) -> Result<Connection, StoreError> {
    let conn = connect(path, options)?;
    configure(&conn, path, options, Cache::Small)?;
    Ok(conn)
}

fn exists(path: &Path) -> Result<bool, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(true),
        Ok(_) => {
            Err(StoreError::NotAQueue { path: path.into(), why: "it is no regular file".into() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("open", path)(error)),
    }
}

/// Makes the directory of a queue, down to the disk: a queue that survives a power loss must be found after it.
fn create_directory(path: &Path) -> Result<(), StoreError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let missing: Vec<&Path> = parent.ancestors().take_while(|place| !place.exists()).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(parent)
        .map_err(io_error("create the directory", parent))?;
    // The queue's own entry is synced by SQLite, with that of its log.
    for above in missing.iter().filter_map(|place| place.parent()) {
        File::open(above)
            .and_then(|directory| directory.sync_all())
            .map_err(io_error("sync", above))?;
    }
    Ok(())
}

/// Makes an empty file that is private from its first instant; `-wal` and `-shm` take their mode from it.
/// Exclusive, so that it can be no file that somebody has open.
pub(super) fn create_file(path: &Path) -> Result<(), StoreError> {
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(io_error("create", path)(error))
        }
        _ => Ok(()),
    }
}

/// Takes away what others may do with a queue that was copied here with a wider mode.
fn make_private(path: &Path) -> Result<(), StoreError> {
    for suffix in ["", "-wal", "-shm"] {
        let path = sibling(path, suffix);
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.permissions().mode() & 0o077 != 0 {
            match fs::set_permissions(&path, fs::Permissions::from_mode(0o600)) {
                // The log of another process goes with its last connection.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(io_error("make private", &path))?,
            }
        }
    }
    Ok(())
}

/// Waits for the lock under which queues are made, migrated and swept. Held until the file is dropped.
pub(super) fn lock_upkeep(path: &Path) -> Result<File, StoreError> {
    let path = sibling(path, "-lock");
    let file = open_lock(&path)?;
    lock_file(&file).map_err(io_error("lock", &path))?;
    Ok(file)
}

/// The same lock if nobody holds it.
pub(super) fn try_lock_upkeep(path: &Path) -> Result<Option<File>, StoreError> {
    let path = sibling(path, "-lock");
    let file = open_lock(&path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(io_error("lock", &path)(error.into())),
    }
}

/// The lock file itself, not locked. Never removed: two processes could then hold two of them.
fn open_lock(path: &Path) -> Result<File, StoreError> {
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io_error("open", path))
}

fn connect(path: &Path, options: &OpenOptions) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || -> rusqlite::Result<Connection> {
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(options.busy_timeout)?;
        conn.set_prepared_statement_cache_capacity(256);
        // Without it, a statement with a bound LIMIT is compiled anew whenever the limit is bound.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(conn)
    };
    connect().map_err(|error| Fault::from(error).at(path))
}

/// What a database turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A queue of the schema we know.
    Current,
    /// A queue of an older one, or one whose making was cut short.
    Older,
    /// Nothing yet.
    Empty,
}

fn look(conn: &Connection, path: &Path) -> Result<Found, StoreError> {
    let at = |error: rusqlite::Error| Fault::from(error).at(path);
    // One snapshot: between two reads somebody else may make the queue.
    let conn = conn.unchecked_transaction().map_err(at)?;
    let number = |sql| conn.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = number("SELECT application_id FROM pragma_application_id").map_err(at)?;
    if application != i64::from(APPLICATION_ID) {
        return match number("SELECT count(*) FROM sqlite_schema").map_err(at)? {
            0 if application == 0 => Ok(Found::Empty),
            _ => Err(StoreError::NotAQueue {
                path: path.into(),
                why: "it is another program's SQLite database".to_owned(),
            }),
        };
    }
    let history = "SELECT count(*) FROM sqlite_schema WHERE name = 'refinery_schema_history'";
    if number(history).map_err(at)? == 0 {
        return Ok(Found::Older);
    }
    let schema = "SELECT ifnull(max(version), 0) FROM refinery_schema_history";
    match number(schema).map_err(at)? {
        found if found > SCHEMA => {
            Err(StoreError::TooNew { path: path.into(), found, known: SCHEMA })
        }
        SCHEMA => Ok(Found::Current),
        _ => Ok(Found::Older),
    }
}

/// Runs the migrations that are missing. Only under the lock of [`lock_upkeep`].
fn bring_up_to_date(
    conn: &mut Connection,
    found: Found,
    options: &OpenOptions,
) -> Result<(), Fault> {
    if found == Found::Empty {
        conn.pragma_update(None, "page_size", PAGE_BYTES)?;
        if options.wal_mode {
            // The first commit that anybody waits for syncs all of the log: until then there is nothing to lose.
            set_journal(conn, options)?;
            conn.pragma_update(None, "synchronous", "NORMAL")?;
        }
        // Before the first table: a making that is cut short is then known for ours.
        conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    let migrations = MIGRATIONS.map(|(name, sql)| Migration::unapplied(name, sql));
    let migrations = migrations.into_iter().collect::<Result<Vec<_>, _>>().map_err(migration)?;
    Runner::new(&migrations).run(conn).map_err(migration)?;
    Ok(())
}

/// What went wrong in a migration, SQLite's own word for it where it is one.
fn migration(error: refinery::Error) -> Fault {
    if let refinery::error::Kind::Connection(_, source) = error.kind()
        && let Some(rusqlite::Error::SqliteFailure(code, message)) = source.downcast_ref()
    {
        return Fault::Sqlite(rusqlite::Error::SqliteFailure(*code, message.clone()));
    }
    Fault::Corrupt(error.to_string())
}

fn configure(
    conn: &Connection,
    path: &Path,
    options: &OpenOptions,
    cache: Cache,
) -> Result<(), StoreError> {
    let at = |error: rusqlite::Error| Fault::from(error).at(path);
    if conn.is_readonly(MAIN_DB).map_err(at)? {
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        return Err(io_error("write", path)(source));
    }
    set_journal(conn, options).map_err(at)?;
    let synchronous = match options.durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    let cache_kib: i64 = match cache {
        Cache::Large => 8 * 1024,
        Cache::Small => 4 * 1024,
    };
    let pragmas: [(&str, &dyn rusqlite::ToSql); 6] = [
        ("synchronous", &synchronous),
        ("cache_size", &-cache_kib),
        ("temp_store", &"MEMORY"),
        ("foreign_keys", &"OFF"),
        ("trusted_schema", &"OFF"),
        // What a log that has grown is cut back to.
        ("journal_size_limit", &MAX_LOG_KEPT),
    ];
    for (name, value) in pragmas {
        conn.pragma_update(None, name, value).map_err(at)?;
    }
    if let Some(pages) = options.max_pages {
        conn.pragma_update(None, "max_page_count", pages).map_err(at)?;
    }
    Ok(())
}

/// Sets the journal. Leaving WAL takes the database alone; while others have it open it stays as it is.
fn set_journal(conn: &Connection, options: &OpenOptions) -> rusqlite::Result<()> {
    let present: String = conn.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    let wanted = if options.wal_mode { "wal" } else { "delete" };
    if present == wanted {
        return Ok(());
    }
    match conn.pragma_update(None, "journal_mode", wanted) {
        Err(error)
            if !options.wal_mode
                && error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// File systems that other machines may write at the same time, by the magic number that `statfs` gives
/// (linux/magic.h, and the sources of those out of tree). FUSE is not here: it is as often a local disk.
#[cfg(target_os = "linux")]
const NETWORK_FILESYSTEMS: [(u32, &str); 17] = [
    (0x0000_6969, "nfs"),
    (0x0000_517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x0000_564c, "ncp"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x7461_636f, "ocfs2"),
    (0x0116_1970, "gfs2"),
    (0x1983_0326, "beegfs"),
    (0x786f_4256, "vboxsf"),
    (0xaad7_aaea, "panfs"),
];

#[cfg(target_os = "linux")]
pub(super) fn network_name(magic: u32) -> Option<&'static str> {
    NETWORK_FILESYSTEMS.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

/// Refuses a path on a network file system; what does not exist yet is judged by its nearest parent that does.
#[cfg(target_os = "linux")]
fn refuse_network(path: &Path) -> Result<(), StoreError> {
    for place in path.ancestors() {
        match rustix::fs::statfs(place) {
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(io_error("open", place)(error.into())),
            Ok(found) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "magic numbers have 32 bits, whatever the type of the field"
                )]
                let kind = network_name(found.f_type as u32);
                return kind.map_or(Ok(()), |kind| {
                    let path = path.into();
                    Err(StoreError::NetworkFilesystem { path, kind: kind.to_owned() })
                });
            }
        }
    }
    Ok(())
}

/// Not looked at: there is no common way to ask.
#[cfg(not(target_os = "linux"))]
fn refuse_network(_path: &Path) -> Result<(), StoreError> {
    Ok(())
}
