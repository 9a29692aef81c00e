//! What can be found out without asking a service: settings, clock, queue, output directory, proxies.
//!
//! Must never leave anything behind, nor make what is not there yet.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use rustix::fs::Access;
use url::Url;

use super::Finding;
use crate::cli::output::{rfc3339, thousands};
use crate::cli::run::fetch_settings;
use crate::cli::session::Session;
use crate::config::Config;
use crate::job::WallMs;
use crate::queue::sqlite::{OpenOptions, SqliteStore};
use crate::queue::store::{Store, StoreError};

/// 2026-01-01 and 2100-01-01, in UTC: a clock outside of these is wrong, and certificates seem expired or not yet valid.
const SANE_CLOCK_MS: std::ops::Range<i64> = 1_767_225_600_000..4_102_444_800_000;
/// A run ends soon with less free than this.
const FEW_BYTES: u64 = 64 << 20;
/// A run ends some day with less free than this.
const SCARCE_BYTES: u64 = 1 << 30;
/// A larger queue is not read as a whole: that would keep a read transaction, and so the log, for longer than a run bears.
const MAX_READ_BYTES: u64 = 64 << 20;

/// A log that is longer has a reader that does not end.
const LONG_LOG_BYTES: u64 = 256 << 20;

/// Which file was read.
pub(super) fn configuration(config: &Config) -> Finding {
    Finding::ok("config", super::super::config::what_was_read(config.file.as_deref()))
}

/// Whether the clock can be right.
pub(super) fn clock(now: WallMs) -> Finding {
    let shown = rfc3339(now).unwrap_or_else(|| format!("{} ms", now.0));
    if SANE_CLOCK_MS.contains(&now.0) {
        return Finding::ok("clock", shown);
    }
    Finding::fail("clock", shown, "set the machine's clock: certificates are judged by it")
}

/// Whether servers' operators can reach whoever runs this.
pub(super) fn contact(contact_email: Option<&str>) -> Finding {
    match contact_email {
        Some(address) => Finding::ok("contact", address),
        None => Finding::warn(
            "contact",
            "none: Unpaywall is not asked, and Crossref only on its terms for strangers",
            "set fetch.contact_email to your address",
        ),
    }
}

/// Whether the queue opens, or could be made, and is whole; and the room it has.
pub(super) fn queue(session: &Session) -> [Finding; 2] {
    let settings = &session.settings().queue;
    let path = settings.path.as_path();
    let options = OpenOptions { create: false, ..OpenOptions::from(settings) };
    let finding = match SqliteStore::open(path, &options) {
        Ok(store) => look_into(store, path),
        Err(StoreError::Missing { .. }) => match can_be_made(path) {
            Ok(()) => Finding::ok("queue", format!("{}: none yet, can be made", path.display())),
            Err(error) => Finding::cannot("queue", path, error),
        },
        Err(error) => Finding::of_error("queue", &error.into()),
    };
    [finding, free_space("queue disk", path)]
}

fn look_into(mut store: SqliteStore, path: &Path) -> Finding {
    let counted = store.counts().map(|counts| counts.total());
    let looked = counted.and_then(|total| Ok((total, store.structural_faults(MAX_READ_BYTES)?)));
    let (jobs, faults) = match looked {
        Ok(found) => found,
        Err(error) => return Finding::of_error("queue", &error.into()),
    };
    let found = format!("{}: {} jobs", path.display(), thousands(jobs));
    let log_bytes = store.log_bytes();
    match faults {
        Some(faults) if !faults.is_empty() => Finding::fail(
            "queue",
            format!("{found}; damaged: {}", faults.join("; ")),
            "keep a copy of the file with its -wal and -shm beside it before anything else; docs/operations.md says more",
        ),
        _ if log_bytes > LONG_LOG_BYTES => Finding::warn(
            "queue",
            format!("{found}; its log (-wal) has {} MiB", thousands(log_bytes >> 20)),
            "some program keeps a transaction on it open: end that, and the log shrinks with the next run",
        ),
        Some(_) => Finding::ok("queue", format!("{found}, structure whole")),
        None => Finding::ok(
            "queue",
            format!("{found}; larger than {} MiB, so not read as a whole", MAX_READ_BYTES >> 20),
        ),
    }
}

/// Whether files can be put into the output directory, or it could be made; and the room it has.
pub(super) fn out(path: &Path) -> [Finding; 2] {
    let finding = match path.symlink_metadata() {
        Ok(_) => match write_something(path) {
            Ok(()) => Finding::ok("out", format!("{}: can be written", path.display())),
            Err(error) => Finding::cannot("out", path, error),
        },
        Err(_) => match can_be_made(path) {
            Ok(()) => Finding::ok("out", format!("{}: none yet, can be made", path.display())),
            Err(error) => Finding::cannot("out", path, error),
        },
    };
    [finding, free_space("out disk", path)]
}

fn write_something(directory: &Path) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".orch-doctor-").tempfile_in(directory)?;
    file.write_all(b"orch doctor")?;
    file.as_file().sync_data()
}

/// The nearest directory there is on the way to `path`, itself included.
fn nearest(path: &Path) -> &Path {
    let here = Path::new(".");
    let there = |place: &&Path| !place.as_os_str().is_empty() && place.exists();
    path.ancestors().find(there).unwrap_or(here)
}

/// Whether something can be made at `path`, where nothing is.
fn can_be_made(path: &Path) -> io::Result<()> {
    let parent = nearest(path);
    if !parent.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    Ok(rustix::fs::access(parent, Access::WRITE_OK | Access::EXEC_OK)?)
}

fn free_space(check: &'static str, path: &Path) -> Finding {
    let place = nearest(path);
    let bytes = match rustix::fs::statvfs(place) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => return Finding::cannot(check, place, error.into()),
    };
    let found = format!("{} MiB free", thousands(bytes >> 20));
    let make_room = "make room: a run stops when the disk is full";
    match bytes {
        0..FEW_BYTES => Finding::fail(check, found, make_room),
        FEW_BYTES..SCARCE_BYTES => Finding::warn(check, found, make_room),
        _ => Finding::ok(check, found),
    }
}

/// Whether each proxy takes connections.
pub(super) fn proxies(
    session: &Session,
    environment: &[(OsString, OsString)],
    offline: bool,
) -> Vec<Finding> {
    let fetch = fetch_settings(session.settings(), environment);
    let mut proxies: Vec<&str> =
        [&fetch.proxy.https, &fetch.proxy.http].into_iter().flatten().map(String::as_str).collect();
    proxies.dedup();
    if proxies.is_empty() {
        return vec![Finding::ok("proxy", "none: hosts are asked directly")];
    }
    let ask = |proxy: &str| one_proxy(proxy, fetch.connect_timeout, offline);
    proxies.into_iter().map(ask).collect()
}

fn one_proxy(proxy: &str, timeout: Duration, offline: bool) -> Finding {
    let url = Url::parse(proxy).ok().filter(|url| url.scheme() == "http");
    let place = url.as_ref().and_then(|url| Some((url.host_str()?, url.port_or_known_default()?)));
    let Some((host, port)) = place else {
        let to_do = "fetch.proxy, HTTPS_PROXY and HTTP_PROXY are written http://HOST:PORT";
        return Finding::fail("proxy", "what is set is no http:// URL", to_do);
    };
    let shown = format!("{host}:{port}");
    if offline {
        return Finding::ok("proxy", format!("{shown}; not asked"));
    }
    match connect((host.trim_start_matches('[').trim_end_matches(']'), port), timeout) {
        Ok(()) => Finding::ok("proxy", format!("{shown} takes connections")),
        Err(error) => Finding::fail(
            "proxy",
            format!("{shown}: {error}"),
            "check fetch.proxy, HTTPS_PROXY and HTTP_PROXY, and that it runs",
        ),
    }
}

fn connect(place: (&str, u16), timeout: Duration) -> io::Result<()> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in place.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(_) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_clock_of_another_age_is_found() {
        assert_eq!(clock(WallMs(0)).status, Status::Fail);
        assert_eq!(clock(WallMs(1_795_000_000_000)).status, Status::Ok);
        assert_eq!(clock(WallMs(i64::MAX)).status, Status::Fail);
    }

    #[test]
    fn the_nearest_directory_is_looked_at_where_nothing_is_yet() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b/c");
        assert_eq!(nearest(&deep), folder.path());
        assert!(can_be_made(&deep).is_ok());
        assert_eq!(nearest(Path::new("none/of/these")), Path::new("."));
        std::fs::write(folder.path().join("a"), "").unwrap();
        assert_eq!(can_be_made(&deep).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }

    #[test]
    fn a_proxy_that_takes_no_connection_is_found_and_its_password_not_shown() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = format!("http://me:hush@{}", listener.local_addr().unwrap());
        let asked = |offline| one_proxy(&proxy, Duration::from_secs(5), offline);
        assert_eq!(asked(false).status, Status::Ok);
        drop(listener);
        let finding = asked(false);
        assert_eq!(finding.status, Status::Fail);
        assert!(!format!("{finding:?}").contains("hush"), "{finding:?}");
        assert_eq!(asked(true).status, Status::Ok, "not asked");
        assert_eq!(one_proxy("me:hush@host", Duration::ZERO, true).status, Status::Fail);
    }
}
