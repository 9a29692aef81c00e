//! How whoever has much to write gives way to those who have little.
//!
//! ```text
//!   alone        ████████████████ ████████████████ ████████████████   transactions of fifty milliseconds, one after the other
//!   beside turns ██........................██........................   short ones, and a long rest after each that somebody waited for
//! ```
//!
//! A write lock has no queue: whoever begins again right after its commit is faster than everybody who waits. So an import or a prune learns
//! from every transaction whether somebody waited for its end, and then rests for several times as long as it had kept them waiting. What the
//! others lose to it is bounded by that ratio, however much there is to write. Pure: must never ask the time nor write.

use std::time::Duration;

use super::store::LastWrite;

/// A transaction that nobody waits for takes about so long.
const ALONE: Duration = Duration::from_millis(50);

/// One of a writer that was waited for lately.
const BESIDE: Duration = Duration::from_millis(10);

/// After a transaction that was waited for comes a rest of so many times its length.
const REST: u32 = 9;

/// After a transaction nobody waited for, the next may be longer by this part.
const GROWTH: f64 = 1.1;

/// How much to write at once, and how long to rest after it, in units of the writer's own (bytes, or rows).
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long the next transaction is to be.
    aim: Duration,
    /// How much that is, by the last one's speed.
    amount: f64,
    least: f64,
    most: f64,
}

impl Pace {
    /// Begins with the amount `first`, and never writes less than `least` nor more than `most` in one transaction.
    pub(super) fn new(first: usize, least: usize, most: usize) -> Pace {
        Pace { aim: ALONE, amount: first as f64, least: least as f64, most: most as f64 }
    }

    /// How much to write in the next transaction.
    pub(super) fn amount(&self) -> usize {
        self.amount as usize
    }

    /// Learns from a transaction that wrote `amount`. How long to rest now.
    pub(super) fn after(&mut self, amount: usize, last: LastWrite) -> Duration {
        self.aim = match last.was_awaited {
            true => BESIDE,
            false => self.aim.mul_f64(GROWTH).min(ALONE),
        };
        let held = last.held.as_secs_f64();
        let fitting = amount as f64 * self.aim.as_secs_f64() / held;
        // A short transaction because there was little to write says nothing about longer ones.
        if held > 0.0 && amount > 0 && (amount as f64 >= self.amount / 2.0 || fitting < self.amount)
        {
            // One transaction may have been slow, or fast, for no reason that lasts.
            let (half, twice) = (self.amount / 2.0, self.amount * 2.0);
            self.amount = match last.was_awaited {
                true => fitting.min(twice),
                false => fitting.clamp(half, twice),
            };
        }
        self.amount = self.amount.clamp(self.least, self.most);
        if last.was_awaited { last.held * REST } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pace() -> Pace {
        Pace::new(1_000, 16, 100_000)
    }

    /// Transactions of a writer that gets through `per_ms` a millisecond: their lengths in milliseconds, and the rests after them.
    fn lengths(pace: &mut Pace, per_ms: f64, awaited: impl Fn(usize) -> bool) -> Vec<(f64, f64)> {
        let transaction = |at| {
            let amount = pace.amount();
            let held = Duration::from_secs_f64(amount as f64 / per_ms / 1e3);
            let rest = pace.after(amount, LastWrite { held, was_awaited: awaited(at) });
            (held.as_secs_f64() * 1e3, rest.as_secs_f64() * 1e3)
        };
        (0..60).map(transaction).collect()
    }

    #[test]
    fn alone_transactions_grow_to_fifty_milliseconds_and_follow_each_other() {
        let all = lengths(&mut pace(), 200.0, |_| false);
        assert!(all.iter().all(|(held, rest)| *held < 51.0 && *rest == 0.0), "{all:?}");
        assert!(all[59].0 > 49.0, "{all:?}");
    }

    #[test]
    fn beside_others_they_are_short_and_leave_nine_tenths_of_the_time() {
        let all = lengths(&mut pace(), 200.0, |_| true);
        let (held, rest) = all.iter().skip(1).fold((0.0, 0.0), |sum, t| (sum.0 + t.0, sum.1 + t.1));
        assert!(all.iter().skip(1).all(|(held, _)| *held < 10.1), "{all:?}");
        assert!(held / (held + rest) < 0.101, "{held} of {}", held + rest);
    }

    #[test]
    fn the_first_that_is_waited_for_makes_the_next_short() {
        let all = lengths(&mut pace(), 200.0, |at| at == 30);
        assert!(all[30].0 > 45.0 && all[31].0 < 10.1, "{all:?}");
        assert!(all[59].0 > 45.0, "and it recovers: {all:?}");
    }

    #[test]
    fn having_little_to_write_for_once_makes_the_next_no_shorter() {
        let mut pace = pace();
        lengths(&mut pace, 200.0, |_| false);
        let before = pace.amount();
        pace.after(3, LastWrite { held: Duration::from_micros(10), was_awaited: false });
        assert_eq!(pace.amount(), before);
        // Unless even that took too long.
        pace.after(3, LastWrite { held: Duration::from_millis(90), was_awaited: false });
        assert!(pace.amount() <= before / 2 + 1);
    }

    proptest! {
        #[test]
        fn amounts_stay_within_their_bounds(held_us in prop::collection::vec((0_u64..2_000_000, any::<bool>()), 1..50)) {
            let mut pace = pace();
            for (us, was_awaited) in held_us {
                let amount = pace.amount();
                prop_assert!((16..=100_000).contains(&amount));
                pace.after(amount, LastWrite { held: Duration::from_micros(us), was_awaited });
            }
        }
    }
}
