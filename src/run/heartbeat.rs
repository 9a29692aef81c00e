//! The heartbeat thread: one row per process, on its own connection; and the ear for the bell.
//!
//! It must never touch a job or a lease itself except through [`Store::recover`]. It reports when the store's log grows. It waits for the bell
//! (another process made work available), for the end of the run, and for its next beat, in one `poll`.

use std::io::PipeReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::event::Event;
use super::worker::{Message, Shared};
use crate::job::Mono;
use crate::queue::store::{Beat, Owner, RecoverTerms, Store, StoreError};

/// How often dead owners are looked for: their locks are probed, which costs microseconds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A log of the store that is longer is reported.
const LONG_LOG_BYTES: u64 = 256 << 20;

/// What was reported of the store's log.
#[derive(Debug, Default)]
struct LogWatch {
    /// How long it was when it was last reported; 0 when it is not long.
    reported: u64,
}

impl LogWatch {
    /// Whether this length is worth a report.
    fn is_news(&mut self, bytes: u64) -> bool {
        if bytes <= LONG_LOG_BYTES {
            self.reported = 0;
        }
        let is_news = bytes > LONG_LOG_BYTES && bytes >= self.reported.saturating_mul(2);
        if is_news {
            self.reported = bytes;
        }
        is_news
    }
}

/// When to beat and when to judge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) heartbeat: Duration,
    pub(super) lease_ttl_ms: u64,
    pub(super) max_job_losses: u32,
}

/// The body of the heartbeat thread. Ends when the other end of `over` is closed.
pub(super) fn beat(mut store: Box<dyn Store>, shared: &Shared, terms: Terms, over: &PipeReader) {
    let mut owner = Arc::clone(&shared.owner.read());
    let mut bell = store.bell(&owner).ok().flatten();
    let mut next_beat = shared.clock.mono().plus(terms.heartbeat);
    let mut next_look = shared.clock.mono().plus(LOOK_EVERY);
    let mut log = LogWatch::default();
    loop {
        let now = shared.clock.mono();
        let timeout = next_beat.min(next_look).since(now);
        match wait(bell.as_ref(), over.as_fd(), timeout) {
            Heard::Over => return,
            Heard::Bell => {
                send(&shared.inbox, Message::Bell);
            }
            Heard::BellGone => {
                // Readable for ever, and for nothing: its owner may be gone too, which the next beat tells.
                bell = None;
                next_beat = now;
            }
            Heard::Nothing => {}
        }
        let now = shared.clock.mono();
        let current = Arc::clone(&shared.owner.read());
        if current != owner {
            owner = current;
            bell = store.bell(&owner).ok().flatten();
        }
        if now >= next_look {
            next_look = now.plus(LOOK_EVERY);
            look(&mut *store, shared, &owner, terms, now);
            let bytes = store.log_bytes();
            if log.is_news(bytes) {
                shared.listener.on(&Event::LogGrew { bytes });
            }
        }
        if now >= next_beat {
            next_beat = now.plus(terms.heartbeat);
            match store.beat(&owner) {
                Ok(Beat::Alive) => send(&shared.inbox, Message::Beat),
                Ok(Beat::Lost) => send(&shared.inbox, Message::OwnerLost(Arc::clone(&owner))),
                Err(error) => trouble(&shared.inbox, &error, terms.heartbeat),
            }
        }
    }
}

fn look(store: &mut dyn Store, shared: &Shared, owner: &Owner, terms: Terms, mono: Mono) {
    let recover = RecoverTerms {
        now: shared.clock.wall(),
        mono,
        lease_ttl_ms: terms.lease_ttl_ms,
        max_job_losses: terms.max_job_losses,
    };
    match store.recover(Some(owner), recover) {
        Ok(recovered) if recovered.owners.is_empty() => {}
        Ok(recovered) => send(&shared.inbox, Message::Recovered(recovered)),
        Err(error) => trouble(&shared.inbox, &error, LOOK_EVERY),
    }
}

fn trouble(inbox: &Sender<Message>, error: &StoreError, again_in: Duration) {
    send(inbox, Message::HeartbeatTrouble { message: error.to_string(), again_in });
}

fn send(inbox: &Sender<Message>, message: Message) {
    // A dispatcher that is gone closes `over` next.
    let _ = inbox.send(message);
}

enum Heard {
    Over,
    Bell,
    /// Nobody can ring it any more.
    BellGone,
    Nothing,
}

fn wait(bell: Option<&OwnedFd>, over: BorrowedFd<'_>, timeout: Duration) -> Heard {
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    let mut fds = vec![PollFd::from_borrowed_fd(over, PollFlags::IN)];
    fds.extend(bell.map(|bell| PollFd::new(bell, PollFlags::IN)));
    // An interrupted or failed wait is a wait that heard nothing: the times are checked anyway.
    let _ = poll(&mut fds, Some(&timeout));
    if fds.first().is_some_and(|over| !over.revents().is_empty()) {
        return Heard::Over;
    }
    match fds.get(1).map(PollFd::revents) {
        Some(heard) if heard.contains(PollFlags::IN) => {}
        Some(heard) if !heard.is_empty() => return Heard::BellGone,
        _ => return Heard::Nothing,
    }
    if let Some(bell) = bell {
        let mut rings = [0; 64];
        // Non-blocking: reads what rang so far, so that many rings make one look.
        while matches!(rustix::io::read(bell, &mut rings), Ok(n) if n == rings.len()) {}
    }
    Heard::Bell
}

#[cfg(test)]
mod tests {
    use std::io;

    use crossbeam_channel::unbounded;
    use parking_lot::RwLock;

    use super::*;
    use crate::clock::System;
    use crate::handler::Registry;
    use crate::job::{JobSpec, WallMs};
    use crate::limit::Gate;
    use crate::queue::memory::MemoryStore;
    use crate::queue::store::OnDuplicate;
    use crate::run::Nobody;

    #[test]
    fn a_long_log_is_reported_once_and_again_when_it_has_doubled() {
        let mut log = LogWatch::default();
        let mib = |mib: u64| mib << 20;
        let lengths = [10, 256, 257, 300, 513, 514, 900, 64, 257].map(mib);
        let news = lengths.map(|bytes| log.is_news(bytes));
        assert_eq!(news, [false, false, true, false, false, true, false, false, true]);
    }

    #[test]
    fn a_bell_that_is_gone_is_no_ringing_and_the_loss_is_learned_at_once() {
        let mut store = MemoryStore::new();
        let owner = store.register(WallMs(0)).unwrap();
        let (inbox, messages) = unbounded();
        let shared = Arc::new(Shared {
            registry: Registry::new(),
            gate: Gate::default(),
            clock: Arc::new(System::new()),
            listener: Arc::new(Nobody),
            owner: RwLock::new(Arc::new(owner.clone())),
            inbox,
        });
        let terms = Terms {
            heartbeat: Duration::from_secs(3_600),
            lease_ttl_ms: u64::MAX,
            max_job_losses: 5,
        };
        let (reader, over) = io::pipe().unwrap();
        let fork = store.fork().unwrap();
        let thread = std::thread::spawn(move || beat(fork, &shared, terms, &reader));
        let others = RecoverTerms {
            now: WallMs(0),
            mono: Mono::default(),
            lease_ttl_ms: u64::MAX,
            max_job_losses: 5,
        };
        // Until it listens.
        let mut ids = 0..;
        while messages.recv_timeout(Duration::from_millis(10)).is_err() {
            let spec = JobSpec::new(&format!("job-{:?}", ids.next()), "test").unwrap();
            store.insert(&[spec], OnDuplicate::Skip, WallMs(0)).unwrap();
        }
        store.kill_owner(&owner);
        store.recover(None, others).unwrap();
        let mut rings = 0;
        loop {
            match messages.recv_timeout(Duration::from_secs(20)).expect("it never learns") {
                Message::OwnerLost(lost) => break assert_eq!(*lost, owner),
                Message::Bell => rings += 1,
                other => panic!("{other:?}"),
            }
            assert!(rings < 100, "it rings for nothing, again and again");
        }
        drop(over);
        thread.join().unwrap();
    }
}
