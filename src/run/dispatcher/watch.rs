//! What people are shown of a run while it goes on.

use std::time::Duration;

use super::Dispatcher;
use crate::job::Mono;
use crate::limit::WaitReason;
use crate::run::event::{Busy, Event, Progress};

const PROGRESS_EVERY: Duration = Duration::from_millis(100);

impl Dispatcher {
    pub(super) fn show_progress(&mut self, now: Mono, last: bool) {
        let fresh = self.last_progress.is_some_and(|at| now.since(at) < PROGRESS_EVERY);
        if (fresh && !last) || !self.shared.listener.wants_progress() {
            return;
        }
        let Some(store) = &mut self.store else { return };
        self.last_progress = Some(now);
        // A progress line is not worth an error: the turn will meet the same trouble and say so.
        let Ok(queue) = store.counts() else { return };
        let progress = Progress {
            elapsed: now.since(self.began),
            at: now,
            queue,
            done: self.tally.done,
            skipped: self.tally.skipped,
            failed: self.tally.failed,
            retried: self.tally.retried,
            running: self.in_flight - self.jobs.len().min(self.in_flight),
            held: self.frontier.held(),
            workers: self.options.workers,
            busiest: self.busiest(now),
        };
        self.shared.listener.on(&Event::Progress(&progress));
    }

    pub(super) fn busiest(&self, now: Mono) -> Vec<Busy> {
        const MOST: usize = 5;
        let parked = self.frontier.parked(MOST);
        self.shared
            .gate
            .status(now, MOST)
            .into_iter()
            .map(|status| {
                let wait = parked.iter().find(|parked| parked.on == status.key);
                Busy {
                    held: wait.map_or(0, |wait| wait.held),
                    waiting: wait
                        .map(|wait| wait.reason.clone())
                        .or(status.held_until.map(|_| WaitReason::Held)),
                    until: wait
                        .and_then(|wait| wait.until)
                        .or(status.held_until)
                        .or(status.next_token),
                    key: status.key,
                    running: status.running,
                    limit: status.limit,
                }
            })
            .collect()
    }
}
