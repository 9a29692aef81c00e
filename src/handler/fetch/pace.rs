//! The least throughput: a server that hands out a byte a second holds a worker and a permit for nothing.

use std::time::Duration;

use crate::job::Mono;

/// The slowest that a body may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Floor {
    /// So many bytes a second over the wire; 0 for no floor.
    pub(super) bytes_per_second: u64,
    /// Measured over so long a time.
    pub(super) window: Duration,
}

/// Watches how fast one body comes.
#[derive(Debug)]
pub(super) struct Pace {
    floor: Floor,
    /// When the present window began, and how many bytes had come by then.
    began: Mono,
    bytes: u64,
}

impl Pace {
    /// From now on.
    pub(super) fn new(floor: Floor, now: Mono) -> Pace {
        Pace { floor, began: now, bytes: 0 }
    }

    /// `bytes` have come in all; whether that is too slow.
    pub(super) fn is_too_slow(&mut self, bytes: u64, now: Mono) -> bool {
        let elapsed = now.since(self.began);
        if elapsed < self.floor.window {
            return false;
        }
        let came = u128::from(bytes.saturating_sub(self.bytes)) * 1_000;
        let least = u128::from(self.floor.bytes_per_second) * elapsed.as_millis();
        (self.began, self.bytes) = (now, bytes);
        came < least
    }

    /// So much time was spent by us, on the disk: it is not held against the server.
    pub(super) fn excuse(&mut self, spent: Duration) {
        self.began = self.began.plus(spent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_with_too_few_bytes_is_too_slow_and_a_short_silence_is_not() {
        let floor = Floor { bytes_per_second: 10, window: Duration::from_secs(30) };
        let at = |seconds: u64| Mono::from_ms(seconds * 1_000);
        let mut pace = Pace::new(floor, at(5));
        assert!(!pace.is_too_slow(1, at(34)), "the window is not over");
        assert!(!pace.is_too_slow(300, at(35)));
        assert!(pace.is_too_slow(599, at(65)));
        assert!(!pace.is_too_slow(900, at(95)), "each window is judged by itself");

        let mut pace = Pace::new(floor, at(0));
        pace.excuse(Duration::from_secs(100));
        assert!(!pace.is_too_slow(1, at(129)));
        assert!(pace.is_too_slow(1, at(130)));

        let none = Floor { bytes_per_second: 0, ..floor };
        assert!(!Pace::new(none, at(0)).is_too_slow(0, at(1_000_000)));
    }
}
