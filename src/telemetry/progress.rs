//! The progress display: one line on how the run stands, one on the busiest hosts and why they wait.
//!
//! Drawn when the run says how it stands, at most ten times a second, and never on a timer of its own.

use parking_lot::Mutex;

use super::Screen;
use super::pace::{Pace, Reading};
use super::text::{grouped, rate, rough};
use crate::job::Mono;
use crate::limit::WaitReason;
use crate::run::event::{Busy, Event, Listener, Progress};

/// Keeps the live lines of a [`Screen`] up to date, and takes them away at the end.
pub struct ProgressListener {
    screen: Screen,
    pace: Mutex<Pace>,
}

impl ProgressListener {
    /// Shows progress on `screen`.
    #[must_use]
    pub fn new(screen: Screen) -> ProgressListener {
        ProgressListener { screen, pace: Mutex::new(Pace::default()) }
    }
}

impl Listener for ProgressListener {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Progress(progress) => {
                let reading = self.pace.lock().observe(progress);
                let progress = (*progress).clone();
                self.screen.show(move |columns| lines(&progress, &reading, columns));
            }
            Event::Ended => self.screen.show(|_| Vec::new()),
            _ => {}
        }
    }

    fn wants_jobs(&self) -> bool {
        false
    }
}

/// The live lines, none longer than `columns`.
fn lines(progress: &Progress, reading: &Reading, columns: usize) -> Vec<String> {
    let mut lines = vec![summary_line(progress, reading, columns)];
    lines.extend(busiest_line(progress, columns));
    lines
}

/// How the run stands, most important first, as much as fits into `columns`.
fn summary_line(progress: &Progress, reading: &Reading, columns: usize) -> String {
    let mut parts = vec![
        format!("{} done", grouped(progress.done)),
        format!("{} failed", grouped(progress.failed)),
        format!("{} running", progress.running),
    ];
    parts.extend(reading.jobs_per_second.map(rate));
    parts.extend(reading.eta.map(|eta| format!("ETA {}", rough(eta))));
    parts.push(format!("{} queued", grouped(progress.queue.queued)));
    let more = [(progress.skipped, "skipped"), (progress.retried, "retried")];
    parts.extend(
        more.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", grouped(*n))),
    );
    fit(&parts, columns)
}

/// The busiest keys and why they wait, as many as fit; `None` when none is busy.
pub(super) fn busiest_line(progress: &Progress, columns: usize) -> Option<String> {
    let told: Vec<_> = progress.busiest.iter().map(|busy| tell(busy, progress.at)).collect();
    (!told.is_empty()).then(|| fit(&told, columns))
}

/// `arxiv.org 1/1 running, 311 held, next in 2.1 s`, `repo.org 0/4 running, 12 held, down for another 58 s`.
fn tell(busy: &Busy, now: Mono) -> String {
    let of = busy.limit.map(|limit| format!("/{limit}")).unwrap_or_default();
    let mut text = format!("{} {}{of} running", busy.key, busy.running);
    if busy.held > 0 {
        text.push_str(&format!(", {} held", busy.held));
    }
    if let Some(reason) = &busy.waiting {
        text.push_str(", ");
        text.push_str(&why(reason, busy.until.map(|until| rough(until.since(now)))));
    }
    text
}

/// Why it waits, and for how long, where that is known.
fn why(reason: &WaitReason, until: Option<String>) -> String {
    let (without, with) = match reason {
        // When these are over is up to people and processes: the time is only when it is looked at again.
        WaitReason::Paused => return "paused".to_owned(),
        WaitReason::Shared => return "in use by other processes".to_owned(),
        WaitReason::Full { .. } => ("full", "next in"),
        WaitReason::Rate => ("rate limited", "next in"),
        WaitReason::Held => ("told to wait", "told to wait"),
        WaitReason::Open => ("down", "down for another"),
    };
    until.map_or_else(|| without.to_owned(), |until| format!("{with} {until}"))
}

/// The first of `parts`, as many whole ones as fit into `columns`; the first is cut when even it does not fit.
fn fit(parts: &[String], columns: usize) -> String {
    const BETWEEN: &str = " · ";
    let mut line = String::new();
    let mut used = 0;
    for part in parts {
        let between = if line.is_empty() { "" } else { BETWEEN };
        let needed = between.chars().count() + part.chars().count();
        if used + needed > columns {
            break;
        }
        line.push_str(between);
        line.push_str(part);
        used += needed;
    }
    match parts.first() {
        Some(first) if line.is_empty() => first.chars().take(columns).collect(),
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::LimitKey;
    use crate::queue::store::Counts;

    fn progress() -> Progress {
        Progress {
            at: Mono::from_ms(60_000),
            done: 1_234,
            failed: 5,
            running: 8,
            queue: Counts { queued: 4_311, ..Counts::default() },
            ..Progress::default()
        }
    }

    const READING: Reading =
        Reading { jobs_per_second: Some(12.34), eta: Some(Duration::from_secs(349)) };

    #[test]
    fn the_line_says_what_matters_and_drops_its_end_where_it_is_narrow() {
        let full = "1,234 done · 5 failed · 8 running · 12.3/s · ETA 6 min · 4,311 queued";
        for (columns, line) in [
            (usize::MAX, full),
            (80, full),
            (69, full),
            (68, "1,234 done · 5 failed · 8 running · 12.3/s · ETA 6 min"),
            (40, "1,234 done · 5 failed · 8 running"),
            (10, "1,234 done"),
            (7, "1,234 d"),
            (0, ""),
        ] {
            assert_eq!(summary_line(&progress(), &READING, columns), line, "{columns}");
        }
    }

    #[test]
    fn what_is_unknown_or_none_is_left_out() {
        let line = summary_line(&progress(), &Reading::default(), 200);
        assert_eq!(line, "1,234 done · 5 failed · 8 running · 4,311 queued");
        let more = Progress { skipped: 12, retried: 1_000, ..progress() };
        let line = summary_line(&more, &Reading::default(), 200);
        let expected =
            "1,234 done · 5 failed · 8 running · 4,311 queued · 12 skipped · 1,000 retried";
        assert_eq!(line, expected);
    }

    fn host(name: &str, running: u32, limit: Option<u32>, held: usize) -> Busy {
        let key = LimitKey::Host(name.into());
        Busy { key, running, limit, held, waiting: None, until: None }
    }

    #[test]
    fn a_busy_host_says_why_it_waits() {
        let check = |busy: Busy, text: &str| assert_eq!(tell(&busy, Mono::from_ms(1_000)), text);
        let full = Some(WaitReason::Full { running: 1, limit: 1 });
        let arxiv = || host("arxiv.org", 1, Some(1), 311);
        let until = Some(Mono::from_ms(3_100));
        check(
            Busy { waiting: Some(WaitReason::Rate), until, ..arxiv() },
            "arxiv.org 1/1 running, 311 held, next in 2.1 s",
        );
        check(Busy { waiting: full, ..arxiv() }, "arxiv.org 1/1 running, 311 held, full");
        check(
            Busy { waiting: Some(WaitReason::Rate), ..arxiv() },
            "arxiv.org 1/1 running, 311 held, rate limited",
        );
        for (reason, timed, untimed) in [
            (WaitReason::Open, "down for another 2.1 s", "down"),
            (WaitReason::Paused, "paused", "paused"),
            (WaitReason::Shared, "in use by other processes", "in use by other processes"),
            (WaitReason::Held, "told to wait 2.1 s", "told to wait"),
        ] {
            let waits = |until| Busy { waiting: Some(reason.clone()), until, ..arxiv() };
            check(waits(until), &format!("arxiv.org 1/1 running, 311 held, {timed}"));
            check(waits(None), &format!("arxiv.org 1/1 running, 311 held, {untimed}"));
        }
        let over = Some(Mono::from_ms(10));
        check(
            Busy { waiting: Some(WaitReason::Rate), until: over, ..arxiv() },
            "arxiv.org 1/1 running, 311 held, next in 0.0 s",
        );
        check(host("x.org", 3, None, 0), "x.org 3 running");
        check(Busy { until, ..host("x.org", 2, Some(4), 0) }, "x.org 2/4 running");
    }

    #[test]
    fn the_busiest_come_first_and_only_whole() {
        let busiest = vec![host("a.org", 4, Some(4), 9), host("b.org", 1, Some(4), 0)];
        let two = Progress { busiest, ..progress() };
        let both = "a.org 4/4 running, 9 held · b.org 1/4 running";
        assert_eq!(busiest_line(&two, 45).as_deref(), Some(both));
        assert_eq!(busiest_line(&two, 44).as_deref(), Some("a.org 4/4 running, 9 held"));
        assert_eq!(busiest_line(&progress(), 80), None);
        assert_eq!(lines(&two, &READING, 80).len(), 2);
        assert_eq!(lines(&progress(), &READING, 80).len(), 1);
    }
}
