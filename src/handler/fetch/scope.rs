//! Which job this thread is asking for, and the one way to wait on a descriptor while it does.
//!
//! A pooled connection outlives the job that opened it, so it cannot know whose cancel flag to watch.
//! Each request therefore says so, in a variable of its thread, for as long as it lasts; every wait of
//! the network code watches that flag beside its own descriptor and ends at once when it is raised.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use ureq::Error;
use ureq::unversioned::transport::NextTimeout;

use crate::handler::{Cancel, CancelReason};
use crate::job::Mono;

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

struct Current {
    cancel: Arc<Cancel>,
    now: Mono,
    connected: bool,
    let_through: bool,
    timed_out: bool,
}

/// The attempt is being cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub(super) struct Cancelled(pub(super) CancelReason);

/// While it lives, this thread asks on behalf of one job.
#[must_use]
pub(super) struct Scope(());

impl Scope {
    /// From here on, waits of this thread end when `cancel` is raised; `now` is the time of the request.
    pub(super) fn enter(cancel: &Arc<Cancel>, now: Mono) -> Scope {
        let cancel = Arc::clone(cancel);
        let current =
            Current { cancel, now, connected: false, let_through: false, timed_out: false };
        CURRENT.with_borrow_mut(|slot| *slot = Some(current));
        Scope(())
    }

    /// Whether a connection was opened since the scope was entered (rather than one reused).
    pub(super) fn has_connected(&self) -> bool {
        seen(|current| current.connected)
    }

    /// Whether a proxy opened the way since then.
    pub(super) fn was_let_through(&self) -> bool {
        seen(|current| current.let_through)
    }

    /// Whether an answer stood still for too long since then, or came too slowly.
    pub(super) fn has_timed_out(&self) -> bool {
        seen(|current| current.timed_out)
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(|slot| *slot = None);
    }
}

/// Notes that this request opens a connection.
pub(super) fn note_connected() {
    note(|current| current.connected = true);
}

/// Notes that a proxy has opened the way for this request: what goes wrong from here on is not the proxy's.
pub(super) fn note_let_through() {
    note(|current| current.let_through = true);
}

/// Notes that the answer to this request stood still for too long, or comes too slowly.
pub(super) fn note_timeout() {
    note(|current| current.timed_out = true);
}

fn note(what: impl FnOnce(&mut Current)) {
    CURRENT.with_borrow_mut(|slot| {
        if let Some(current) = slot {
            what(current);
        }
    });
}

fn seen(what: impl FnOnce(&Current) -> bool) -> bool {
    CURRENT.with_borrow(|slot| slot.as_ref().is_some_and(what))
}

/// The time of the request; `None` outside one.
pub(super) fn now() -> Option<Mono> {
    CURRENT.with_borrow(|slot| slot.as_ref().map(|current| current.now))
}

fn cancel() -> Option<Arc<Cancel>> {
    CURRENT.with_borrow(|slot| slot.as_ref().map(|current| Arc::clone(&current.cancel)))
}

/// Says whether the job's flag is raised.
///
/// # Errors
/// [`Cancelled`], as an error of the HTTP client.
pub(super) fn check() -> Result<(), Error> {
    let raised = cancel().and_then(|cancel| cancel.reason());
    raised.map_or(Ok(()), |reason| Err(Error::Other(Box::new(Cancelled(reason)))))
}

/// Waits until `fd` is ready for `flags`, broken, or the time is up, or the job is cancelled.
///
/// # Errors
/// [`Cancelled`]; [`Error::Timeout`]; or what `poll` says.
pub(super) fn wait(fd: &impl AsFd, flags: PollFlags, timeout: NextTimeout) -> Result<(), Error> {
    if timeout.after.is_zero() {
        return Err(Error::Timeout(timeout.reason));
    }
    // A wait too long for the system's clock is one without an end.
    let limit = timeout.not_zero().and_then(|after| Timespec::try_from(*after).ok());
    let cancel = cancel();
    let mut fds = vec![PollFd::new(fd, flags)];
    fds.extend(cancel.as_deref().map(|cancel| PollFd::new(cancel, PollFlags::IN)));
    let ready = loop {
        match poll(&mut fds, limit.as_ref()) {
            // A signal: its handler runs elsewhere, and waiting the whole time again does no harm.
            Err(Errno::INTR) => {}
            Err(error) => return Err(Error::Io(io::Error::from(error))),
            Ok(ready) => break ready,
        }
    };
    check()?;
    if ready == 0 { Err(Error::Timeout(timeout.reason)) } else { Ok(()) }
}
