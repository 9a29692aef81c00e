//! A line of progress for an import that takes longer than a second, on a terminal only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::inputs::Input;
use crate::cli::duration;
use crate::cli::output::{Messages, thousands};
use crate::job::Mono;

const QUIET_AT_FIRST: Duration = Duration::from_secs(1);
/// The line is drawn no more often.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Shown on standard error.
pub(super) struct Progress {
    wanted: bool,
    verb: &'static str,
    began: Mono,
    drawn: Mono,
    bar: Option<ProgressBar>,
    extent: Extent,
}

/// How much there is to read, and how far it is.
#[derive(Default)]
struct Extent {
    /// Bytes of all inputs; `None` when one is no file.
    total: Option<u64>,
    /// Bytes of the inputs before the present one.
    before: u64,
    /// Bytes taken from the present one.
    present: Arc<AtomicU64>,
}

impl Extent {
    /// The part that is done, if that can be known.
    fn part(&self) -> Option<f64> {
        let done = self.before + self.present.load(Ordering::Relaxed);
        self.total.filter(|total| *total > 0).map(|total| (done as f64 / total as f64).min(1.0))
    }
}

impl Progress {
    pub(super) fn new(messages: Messages) -> Progress {
        let wanted = messages.is_terminal && !messages.quiet;
        let (began, extent) = (Mono::default(), Extent::default());
        Progress { wanted, verb: "", began, drawn: began, bar: None, extent }
    }

    /// All `inputs` will be gone through from now on, and what was done be called `verb`.
    pub(super) fn begin(&mut self, verb: &'static str, inputs: &[Input], now: Mono) {
        let total = inputs.iter().map(Input::bytes).sum();
        (self.verb, self.began) = (verb, now);
        self.extent = Extent { total, ..Extent::default() };
    }

    /// The next input is read: so many bytes were taken from it at any time.
    pub(super) fn input(&mut self, taken: Arc<AtomicU64>) {
        let last = std::mem::replace(&mut self.extent.present, taken);
        self.extent.before += last.load(Ordering::Relaxed);
    }

    /// `count` so far.
    pub(super) fn show(&mut self, now: Mono, count: u64) {
        let elapsed = now.since(self.began);
        let is_early = elapsed < QUIET_AT_FIRST || now.since(self.drawn) < DRAW_EVERY;
        if !self.wanted || is_early {
            return;
        }
        self.drawn = now;
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        bar.set_message(line(self.verb, count, elapsed, self.extent.part()));
        bar.tick();
    }

    /// Does `print` with the line out of the way.
    pub(super) fn aside(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the line away.
    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// What was done, how fast, and how long the rest takes at that pace: as long for each byte as so far.
fn line(verb: &str, count: u64, elapsed: Duration, part: Option<f64>) -> String {
    let per_second = count as f64 / elapsed.as_secs_f64().max(0.001);
    let mut line = format!("{verb} {}, {}/s", thousands(count), thousands(per_second as u64));
    if let Some(part) = part.filter(|part| *part > 0.0) {
        let left_ms = elapsed.as_secs_f64() * 1e3 * (1.0 - part) / part;
        // Nobody needs to know it to the millisecond.
        let left_ms = (left_ms / 1e3).ceil() as u64 * 1_000;
        line += &format!(", {} %, {} left", (part * 100.0) as u64, duration::words(left_ms));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_fast_how_far_and_how_long_yet() {
        let ten = Duration::from_secs(10);
        assert_eq!(line("checked", 1_234_567, ten, None), "checked 1,234,567, 123,456/s");
        let quarter = line("imported", 1_000_000, ten, Some(0.25));
        assert_eq!(
            quarter,
            format!("imported 1,000,000, 100,000/s, 25 %, {} left", duration::words(30_000))
        );
        assert_eq!(line("imported", 5, ten, Some(0.0)), "imported 5, 0/s", "no pace yet");
    }

    #[test]
    fn how_far_it_is_counts_the_inputs_before() {
        let extent = |total, before, present| {
            let present = Arc::new(AtomicU64::new(present));
            Extent { total, before, present }.part()
        };
        assert_eq!(extent(Some(400), 100, 100), Some(0.5));
        assert_eq!(extent(None, 100, 100), None, "a pipe is among them");
        assert_eq!(extent(Some(0), 0, 0), None, "all are empty");
        assert_eq!(extent(Some(10), 9, 9), Some(1.0), "it has grown meanwhile");
    }
}
