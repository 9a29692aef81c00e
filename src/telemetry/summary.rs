//! What a run reports at its end: a table for people, one JSON object for programs. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Map, Value, json};

use super::text::{grouped, rate, rough};
use crate::job::{Reason, State};
use crate::queue::store::Counts;

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoppedBy {
    /// Nothing is left that it may start.
    Drained,
    /// What is left is of a kind it may not start, or waits for a retry it was told not to wait for.
    WorkLeft,
    /// `--max-runtime` was reached.
    MaxRuntime,
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// It could not go on; the error was told apart.
    Trouble,
}

impl StoppedBy {
    /// The stable name, as in JSON: `drained`, `work_left`, `max_runtime`, `sigint`, `sigterm`, `trouble`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StoppedBy::Drained => "drained",
            StoppedBy::WorkLeft => "work_left",
            StoppedBy::MaxRuntime => "max_runtime",
            StoppedBy::Interrupt => "sigint",
            StoppedBy::Terminate => "sigterm",
            StoppedBy::Trouble => "trouble",
        }
    }

    fn words(self) -> &'static str {
        match self {
            StoppedBy::Drained => "nothing left to start",
            StoppedBy::WorkLeft => "what is left may not be started by this run",
            StoppedBy::MaxRuntime => "--max-runtime",
            StoppedBy::Interrupt => "SIGINT",
            StoppedBy::Terminate => "SIGTERM",
            StoppedBy::Trouble => "an error",
        }
    }
}

/// What a run did and left behind. Counts are of this run, unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Jobs that ended done.
    pub done: u64,
    /// Jobs that ended skipped.
    pub skipped: u64,
    /// Jobs that ended in error.
    pub failed: u64,
    /// Attempts that failed and were, or will be, made again.
    pub retried: u64,
    /// Outcomes that were not written because another run had taken the job.
    pub lost_leases: u64,
    /// Leased jobs given back unfinished when it stopped.
    pub handed_back: u64,
    /// From its start to its end.
    pub elapsed: Duration,
    /// Counts of the whole queue after it.
    pub queue: Counts,
    /// Whether jobs are left whose own `run_at` lies ahead.
    pub waiting_for_run_at: bool,
    /// Jobs that other live runs hold.
    pub running_elsewhere: u64,
    /// Why it ended.
    pub stopped_by: StoppedBy,
    /// How often jobs ended for each reason; in any order.
    pub reasons: Vec<(Reason, u64)>,
    /// The exit code of the process.
    pub exit_code: u8,
}

impl RunSummary {
    /// Jobs finished per second, whole run; 0 for a run that took no time.
    #[must_use]
    pub fn jobs_per_second(&self) -> f64 {
        let finished = self.done + self.skipped + self.failed;
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { finished as f64 / seconds } else { 0.0 }
    }

    /// Reasons, most frequent first, then by name; those that did not occur are left out.
    fn reasons_sorted(&self) -> Vec<(Reason, u64)> {
        let mut reasons: Vec<_> =
            self.reasons.iter().copied().filter(|(_, count)| *count > 0).collect();
        reasons.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), reason.name()));
        reasons
    }

    /// One JSON object on one line, without a line break. Keys are stable.
    #[must_use]
    pub fn to_json(&self) -> String {
        let queue: Map<String, Value> = State::ALL
            .into_iter()
            .map(|state| (state.name().to_owned(), self.queue.of(state).into()))
            .chain([("total".to_owned(), self.queue.total().into())])
            .collect();
        let reasons: Map<String, Value> = self
            .reasons_sorted()
            .into_iter()
            .map(|(reason, count)| (reason.name().to_owned(), count.into()))
            .collect();
        let to_thousandths = |value: f64| (value * 1_000.0).round() / 1_000.0;
        json!({
            "done": self.done,
            "skipped": self.skipped,
            "failed": self.failed,
            "retried": self.retried,
            "lost_leases": self.lost_leases,
            "handed_back": self.handed_back,
            "elapsed_seconds": to_thousandths(self.elapsed.as_secs_f64()),
            "jobs_per_second": to_thousandths(self.jobs_per_second()),
            "reasons": reasons,
            "queue": queue,
            "waiting_for_run_at": self.waiting_for_run_at,
            "running_elsewhere": self.running_elsewhere,
            "stopped_by": self.stopped_by.name(),
            "exit_code": self.exit_code,
        })
        .to_string()
    }

    /// A table of two columns, without a line break at its end. What is zero and not to be expected is left out.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        let mut row = |what: &str, value: String| {
            table.add_row([what, &value]);
        };
        row("done", grouped(self.done));
        row("skipped", grouped(self.skipped));
        row("failed", grouped(self.failed));
        for (what, count) in [
            ("retried", self.retried),
            ("leases lost", self.lost_leases),
            ("handed back", self.handed_back),
        ] {
            if count > 0 {
                row(what, grouped(count));
            }
        }
        row("took", format!("{} ({})", rough(self.elapsed), rate(self.jobs_per_second())));
        if !self.reasons_sorted().is_empty() {
            row("reasons", listed(self.reasons_sorted().iter().map(|(r, n)| (r.name(), *n))));
        }
        row("queue now", listed(State::ALL.iter().map(|s| (s.name(), self.queue.of(*s)))));
        if self.waiting_for_run_at {
            row("waiting", "some jobs have a run_at that lies ahead".into());
        }
        if self.running_elsewhere > 0 {
            row("elsewhere", format!("{} held by other runs", grouped(self.running_elsewhere)));
        }
        row("stopped by", self.stopped_by.words().into());
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 2));
        });
        table.trim_fmt()
    }
}

/// `12 ok, 3 exists`.
fn listed<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut text = String::new();
    for (name, count) in counts {
        let between = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{between}{} {name}", grouped(count));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{DoneReason, ErrorReason};

    fn full() -> RunSummary {
        RunSummary {
            done: 12_340,
            skipped: 12,
            failed: 5,
            retried: 7,
            lost_leases: 1,
            handed_back: 3,
            elapsed: Duration::from_millis(61_500),
            queue: Counts { queued: 4, in_progress: 2, done: 20_000, skipped: 12, error: 5 },
            waiting_for_run_at: true,
            running_elsewhere: 2,
            stopped_by: StoppedBy::Drained,
            reasons: vec![
                (Reason::Error(ErrorReason::Timeout), 2),
                (Reason::Error(ErrorReason::Dns), 2),
                (Reason::Error(ErrorReason::Wall), 0),
                (Reason::Done(DoneReason::Ok), 12_340),
            ],
            exit_code: 3,
        }
    }

    fn idle() -> RunSummary {
        RunSummary {
            done: 0,
            skipped: 0,
            failed: 0,
            retried: 0,
            lost_leases: 0,
            handed_back: 0,
            elapsed: Duration::ZERO,
            queue: Counts::default(),
            waiting_for_run_at: false,
            running_elsewhere: 0,
            stopped_by: StoppedBy::Terminate,
            reasons: Vec::new(),
            exit_code: 143,
        }
    }

    #[test]
    fn json_is_one_line_with_these_keys() {
        assert_eq!(
            full().to_json(),
            concat!(
                r#"{"done":12340,"skipped":12,"failed":5,"retried":7,"lost_leases":1,"#,
                r#""handed_back":3,"elapsed_seconds":61.5,"jobs_per_second":200.927,"#,
                r#""reasons":{"ok":12340,"dns":2,"timeout":2},"#,
                r#""queue":{"queued":4,"in_progress":2,"done":20000,"skipped":12,"error":5,"total":20023},"#,
                r#""waiting_for_run_at":true,"running_elsewhere":2,"stopped_by":"drained","exit_code":3}"#,
            )
        );
        let idle: Value = serde_json::from_str(&idle().to_json()).unwrap();
        let full: Value = serde_json::from_str(&full().to_json()).unwrap();
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&idle), keys(&full), "the keys do not depend on the run");
        assert_eq!(idle["jobs_per_second"], 0.0);
    }

    #[test]
    fn the_table_says_what_happened_and_no_more() {
        assert_eq!(
            full().to_table(),
            "done         12,340\n\
             skipped      12\n\
             failed       5\n\
             retried      7\n\
             leases lost  1\n\
             handed back  3\n\
             took         62 s (201/s)\n\
             reasons      12,340 ok, 2 dns, 2 timeout\n\
             queue now    4 queued, 2 in_progress, 20,000 done, 12 skipped, 5 error\n\
             waiting      some jobs have a run_at that lies ahead\n\
             elsewhere    2 held by other runs\n\
             stopped by   nothing left to start"
        );
        assert_eq!(
            idle().to_table(),
            "done        0\n\
             skipped     0\n\
             failed      0\n\
             took        0.0 s (0.0/h)\n\
             queue now   0 queued, 0 in_progress, 0 done, 0 skipped, 0 error\n\
             stopped by  SIGTERM"
        );
    }
}
