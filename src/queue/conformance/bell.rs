//! A process that waits is told of work that others make.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Subject;
use super::scene::{Process, START, TERMS, again, failed, job};
use crate::job::{Change, ErrorReason, JobSpec};
use crate::queue::store::{RecoverTerms, RetryFilter};

/// Whether the bell rings within `seconds`; read empty afterwards.
pub(super) fn rings(bell: &OwnedFd, seconds: i64) -> bool {
    let timeout = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let mut poll_fds = [PollFd::new(bell, PollFlags::IN)];
    let readable = poll(&mut poll_fds, Some(&timeout)).unwrap() > 0;
    let mut buffer = [0; 64];
    // Ends at an empty pipe, where a descriptor that blocks would hang.
    while rustix::io::read(bell, &mut buffer).is_ok_and(|bytes| bytes > 0) {}
    readable
}

/// Enqueued, delayed, put back, settled back and freed: each wakes the one who waits. Stores without a bell pass.
pub fn the_bell_rings_for_work_from_elsewhere(subject: &mut dyn Subject) {
    /// Far longer than any store needs; only a failure waits so long.
    const PATIENCE_SECONDS: i64 = 20;
    let mut waiting = Process::start(subject);
    let Some(bell) = waiting.store.bell(&waiting.owner).unwrap() else { return };
    let mut other = Process::start(subject);
    let expect = |what: &str| assert!(rings(&bell, PATIENCE_SECONDS), "{what}");
    rings(&bell, 0);

    other.insert(&[job("a")]);
    expect("enqueued");
    let token = other.lease_only().token;
    rings(&bell, 0);
    other.settle(token, again(START));
    expect("settled back");
    let token = other.lease_only().token;
    other.settle(token, failed(ErrorReason::Dns));
    rings(&bell, 0);
    other.store.retry_failed(&RetryFilter::default(), 9, START, false).unwrap();
    expect("put back");
    let token = other.lease_only().token;
    rings(&bell, 0);
    other.settle(token, Change::HandBack);
    expect("handed back");
    let mut doomed = Process::start(subject);
    doomed.lease_only();
    doomed.die(subject);
    rings(&bell, 0);
    assert_eq!(other.recover(RecoverTerms { max_job_losses: 9, ..TERMS }).requeued, 1);
    expect("freed");
    let soon = START.plus_ms(1);
    other.insert(&[JobSpec { run_at: Some(soon), ..job("delayed") }]);
    expect("delayed work");
}
