//! A line of progress for an import that takes longer than a second, on a terminal only.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::{Messages, thousands};
use crate::job::Mono;

const QUIET_AT_FIRST: Duration = Duration::from_secs(1);

/// Shown on standard error.
pub(super) struct Progress {
    wanted: bool,
    began: Mono,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(messages: Messages, now: Mono) -> Progress {
        Progress { wanted: messages.is_terminal && !messages.quiet, began: now, bar: None }
    }

    /// `verb` `count` so far.
    pub(super) fn show(&mut self, now: Mono, verb: &str, count: u64) {
        let elapsed = now.since(self.began);
        if !self.wanted || elapsed < QUIET_AT_FIRST {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner} {msg}");
            ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        });
        let per_second = u128::from(count) * 1_000 / elapsed.as_millis().max(1);
        let per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        bar.set_message(format!("{verb} {}, {}/s", thousands(count), thousands(per_second)));
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
