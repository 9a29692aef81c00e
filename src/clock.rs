//! The only file that asks the time or sleeps.
//!
//! Everything that decides by time takes it as an argument ([`WallMs`], [`Mono`]); whoever drives it
//! asks a [`Clock`]. Leases and waits use monotonic time; only what people asked for (`run_at`,
//! retries that must outlive the process) uses wall time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::job::{Mono, WallMs};

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Wall-clock time; may step.
    fn wall(&self) -> WallMs;
    /// Monotonic time since some start that all processes on this machine share; never steps back.
    fn mono(&self) -> Mono;
    /// Lets `duration` pass. Only for gathering what comes in anyway; whoever waits for something waits for its event.
    fn pause(&self, duration: Duration);
}

/// The machine's clock. Its monotonic time is that since the machine started, and so the same in all its processes.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl System {
    /// The clock.
    #[must_use]
    pub fn new() -> System {
        System
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
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
        // Neither is ever negative, and nanoseconds are below a second's.
        let nanos = u32::try_from(tv_nsec).unwrap_or(0);
        Mono(Duration::new(u64::try_from(tv_sec).unwrap_or(0), nanos))
    }

    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

/// A clock that moves only when told: for simulations and tests of clock steps.
#[derive(Debug, Default)]
pub struct Manual {
    /// What the wall clock showed when monotonic time began, as far as it has been stepped since, and the monotonic time.
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
        // From both: were each advance rounded by itself, the wall would fall behind.
        let (began, mono) = *self.now.lock();
        began.plus_ms(u64::try_from(mono.0.as_millis()).unwrap_or(u64::MAX))
    }

    fn mono(&self) -> Mono {
        self.now.lock().1
    }

    fn pause(&self, duration: Duration) {
        self.advance(duration);
    }
}
