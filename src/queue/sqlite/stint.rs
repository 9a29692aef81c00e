//! How long one read transaction may go on.
//!
//! While somebody reads, the log cannot begin anew, so what reads much does so in stretches: bounded by what they pass, and by time, because
//! a cold disk or a busy machine takes as long as it likes over a page. Every walk asks here. Must never be asked less often than
//! every [`ASK_EVERY`] rows.

use std::time::Duration;

use crate::clock::{Clock, System};
use crate::job::Mono;

/// After so long a stretch ends. What is done at the end of some is a second one: together they stay below 250 ms.
const MAX_STRETCH: Duration = Duration::from_millis(100);

/// Walks ask whether they are over every so many rows.
pub(super) const ASK_EVERY: usize = 128;

/// One stretch of reading.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stint {
    ends: Mono,
}

impl Stint {
    /// Begins now.
    pub(super) fn begin() -> Stint {
        Stint { ends: System::new().mono().plus(MAX_STRETCH) }
    }

    /// Whether it is time to let go.
    pub(super) fn is_over(self) -> bool {
        System::new().mono() >= self.ends
    }

    /// One that is over before it begins.
    #[cfg(test)]
    pub(super) fn over() -> Stint {
        Stint { ends: Mono::default() }
    }
}
