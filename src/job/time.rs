//! Two kinds of time, never mixed: wall time for what people asked for, monotonic time for waiting.

use std::time::Duration;

/// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z. May step in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallMs(pub i64);

impl WallMs {
    /// This time plus `ms` milliseconds, saturating at the ends of the range.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> WallMs {
        WallMs(self.0.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)))
    }

    /// Milliseconds from `earlier` to `self`; zero when the clock stepped back in between.
    #[must_use]
    pub fn since_ms(self, earlier: WallMs) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

/// Monotonic time since a start that all processes of this boot share (see [`crate::clock::Clock`]). Never steps back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub Duration);

impl Mono {
    /// A monotonic time `ms` milliseconds after the start of the clock.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Mono {
        Mono(Duration::from_millis(ms))
    }

    /// This time plus `duration`, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Mono {
        Mono(self.0.saturating_add(duration))
    }

    /// The duration from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
