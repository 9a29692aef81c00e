//! The only file that asks the time or sleeps.
//!
//! Everything that decides by time takes it as an argument ([`WallMs`], [`Mono`]); whoever drives it
//! asks a [`Clock`]. Leases and waits use monotonic time; only what people asked for (`run_at`,
//! retries that must outlive the process) uses wall time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::job::{Mono, WallMs};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Wall-clock time; may step.
    fn wall(&self) -> WallMs;
    /// Monotonic time since this clock began; never steps back.
    fn mono(&self) -> Mono;
    /// Lets `duration` pass. Only for gathering what comes in anyway; whoever waits for something waits for its event.
    fn pause(&self, duration: Duration);
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct System {
    began: Instant,
}

impl System {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn new() -> System {
        System { began: Instant::now() }
    }
}

impl Default for System {
    fn default() -> System {
        System::new()
    }
}

impl Clock for System {
    fn wall(&self) -> WallMs {
        let ms = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        WallMs(match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => ms(since),
            Err(before) => -ms(before.duration()),
        })
    }

    fn mono(&self) -> Mono {
        Mono(self.began.elapsed())
    }

    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that moves only when told: for simulations and tests of clock steps.
#[derive(Debug, Default)]
pub struct Manual {
    now: Mutex<(WallMs, Mono)>,
}

impl Manual {
    /// A clock that stands at `wall`, its monotonic time at zero.
    #[must_use]
    pub fn at(wall: WallMs) -> Manual {
        Manual { now: Mutex::new((wall, Mono::default())) }
    }

    /// Lets `duration` pass on both times.
    pub fn advance(&self, duration: Duration) {
        let mut now = self.now.lock();
        now.0 = now.0.plus_ms(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX));
        now.1 = now.1.plus(duration);
    }

    /// Steps the wall clock by `ms` milliseconds, either way; monotonic time does not notice.
    pub fn step_wall_ms(&self, ms: i64) {
        let mut now = self.now.lock();
        now.0 = WallMs(now.0.0.saturating_add(ms));
    }
}

impl Clock for Manual {
    fn wall(&self) -> WallMs {
        self.now.lock().0
    }

    fn mono(&self) -> Mono {
        self.now.lock().1
    }

    fn pause(&self, duration: Duration) {
        self.advance(duration);
    }
}
