//! How fast it goes and when it will be over, from snapshots of a run. Pure: the time is in the snapshot.

use std::collections::VecDeque;
use std::time::Duration;

use crate::job::Mono;
use crate::run::event::Progress;

/// Rates are taken over so much of the recent past.
const WINDOW: Duration = Duration::from_secs(30);
/// Snapshots closer together than this replace one another, so that a window holds at most 61.
const SPACING: Duration = Duration::from_millis(500);

/// A sliding window over the snapshots of one run.
#[derive(Debug, Default)]
pub struct Pace {
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Mono,
    /// Finished by this run.
    here: u64,
    /// Finished in the whole queue, by whichever run.
    queue: u64,
}

/// What a window says.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reading {
    /// Jobs that this run finishes per second; `None` until there are two snapshots to compare.
    pub jobs_per_second: Option<f64>,
    /// Until nothing is queued or running, at the pace of all runs together; `None` when nothing moves.
    pub eta: Option<Duration>,
}

impl Pace {
    /// Takes `progress` in and says how it stands.
    ///
    /// The estimate takes everything that is queued for ready: jobs held back by a `run_at` far ahead
    /// make it too short, jobs enqueued meanwhile do as well.
    pub fn observe(&mut self, progress: &Progress) -> Reading {
        let newest = Sample {
            at: progress.at,
            here: progress.done + progress.skipped + progress.failed,
            queue: progress.queue.done + progress.queue.skipped + progress.queue.error,
        };
        self.push(newest);
        let Some(oldest) = self.samples.front().copied() else { return Reading::default() };
        let seconds = newest.at.since(oldest.at).as_secs_f64();
        if seconds <= 0.0 {
            return Reading::default();
        }
        let per_second = |new: u64, old: u64| new.saturating_sub(old) as f64 / seconds;
        let here = per_second(newest.here, oldest.here);
        // `prune` and `retry-failed` lower the queue's count: our own pace is then the better guess.
        let all = per_second(newest.queue, oldest.queue).max(here);
        let left = progress.queue.queued + progress.queue.in_progress;
        Reading { jobs_per_second: Some(here), eta: eta(left, all) }
    }

    fn push(&mut self, newest: Sample) {
        // The last sample but one is the anchor: the last may go when it is close to that.
        let close = self.samples.len() >= 2
            && self
                .samples
                .get(self.samples.len() - 2)
                .is_some_and(|anchor| newest.at.since(anchor.at) < SPACING);
        if close {
            self.samples.pop_back();
        }
        self.samples.push_back(newest);
        // One sample older than the window stays, so that a window is never shorter than the run so far.
        while self.samples.get(1).is_some_and(|second| newest.at.since(second.at) >= WINDOW) {
            self.samples.pop_front();
        }
    }
}

/// The time that `left` jobs take; `None` when it would be over a thousand years.
fn eta(left: u64, jobs_per_second: f64) -> Option<Duration> {
    let seconds = if left == 0 { 0.0 } else { left as f64 / jobs_per_second };
    Duration::try_from_secs_f64(seconds).ok().filter(|eta| eta.as_secs() < 31_557_600_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::store::Counts;

    fn snapshot(at_ms: u64, done_here: u64, done_elsewhere: u64, left: u64) -> Progress {
        let done = done_here + done_elsewhere;
        Progress {
            at: Mono::from_ms(at_ms),
            done: done_here,
            queue: Counts { queued: left, done, ..Counts::default() },
            ..Progress::default()
        }
    }

    fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn one_snapshot_says_nothing() {
        assert_eq!(Pace::default().observe(&snapshot(500, 9, 0, 100)), Reading::default());
    }

    #[test]
    fn rate_and_estimate_come_from_two_snapshots() {
        let mut pace = Pace::default();
        pace.observe(&snapshot(0, 0, 0, 100));
        let reading = pace.observe(&snapshot(2_000, 20, 0, 80));
        assert_eq!(reading, Reading { jobs_per_second: Some(10.0), eta: secs(8) });
    }

    #[test]
    fn other_runs_shorten_the_estimate_but_are_not_our_rate() {
        let mut pace = Pace::default();
        pace.observe(&snapshot(0, 0, 0, 100));
        let reading = pace.observe(&snapshot(2_000, 20, 20, 60));
        assert_eq!(reading, Reading { jobs_per_second: Some(10.0), eta: secs(3) });
    }

    #[test]
    fn a_queue_pruned_meanwhile_is_judged_by_our_own_rate() {
        let mut pace = Pace::default();
        pace.observe(&snapshot(0, 0, 1_000, 100));
        let reading = pace.observe(&snapshot(1_000, 10, 0, 90));
        assert_eq!(reading, Reading { jobs_per_second: Some(10.0), eta: secs(9) });
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut pace = Pace::default();
        for second in 0..=60 {
            pace.observe(&snapshot(second * 1_000, second * 100, 0, 1));
        }
        let mut last = Reading::default();
        for second in 61..=90 {
            last = pace.observe(&snapshot(second * 1_000, 6_000 + (second - 60), 0, 1));
        }
        assert_eq!(last, Reading { jobs_per_second: Some(1.0), eta: secs(1) });
    }

    #[test]
    fn memory_is_bounded_however_often_it_is_told() {
        let mut pace = Pace::default();
        for ms in 0..100_000 {
            pace.observe(&snapshot(ms, ms, 0, 1));
        }
        assert!(pace.samples.len() <= 62, "{}", pace.samples.len());
        let reading = pace.observe(&snapshot(100_000, 100_000, 0, 1));
        assert_eq!(reading.jobs_per_second, Some(1_000.0));
    }

    #[test]
    fn nothing_moving_has_no_end_and_nothing_left_is_over() {
        let mut pace = Pace::default();
        pace.observe(&snapshot(0, 5, 0, 100));
        let stuck = pace.observe(&snapshot(9_000, 5, 0, 100));
        assert_eq!(stuck, Reading { jobs_per_second: Some(0.0), eta: None });
        let over = pace.observe(&snapshot(10_000, 5, 0, 0));
        assert_eq!(over.eta, secs(0));
    }
}
