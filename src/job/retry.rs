//! When to try again: four strategies, four presets, and jitter. Random samples are passed in.

use std::str::FromStr;

/// How the delay grows with the number of the attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Always `base`.
    Fixed,
    /// `base · 2^(n-1)`.
    Exponential,
    /// `base · n`.
    Linear,
    /// Uniform between `base` and `max`.
    Random,
}

/// Spreads retries so that jobs that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Jitter {
    /// Adds uniform(0, ms) milliseconds: the queue's own default.
    UpToMs(u64),
    /// Multiplies by 1 + uniform(0, fraction): presets and lines.
    Fraction(f64),
}

/// A whole retry policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// How the delay grows.
    pub strategy: Strategy,
    /// The first delay, in milliseconds.
    pub base_ms: u64,
    /// No delay is longer than this, before jitter, in milliseconds.
    pub max_ms: u64,
    /// The spread.
    pub jitter: Jitter,
    /// How many attempts this policy brings along (a preset's retries + 1); `None`: from the job or config.
    pub max_attempts: Option<u32>,
}

/// A named policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// 5 retries, exponential from 0.5 s to 30 s, 10 % jitter.
    Aggressive,
    /// 3 retries, exponential from 1 s to 60 s, 10 % jitter.
    Standard,
    /// 2 retries, linear from 2 s to 10 s, 5 % jitter.
    Conservative,
    /// 3 retries, fixed 0.5 s, no jitter.
    Quick,
}

/// A text or number that makes no retry policy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RetryError {
    /// No preset of that name.
    #[error("{0:?} is no retry preset: expected aggressive, standard, conservative or quick")]
    Preset(String),
    /// No strategy of that name.
    #[error("{0:?} is no retry strategy: expected fixed, exponential, linear or random")]
    Strategy(String),
    /// A number out of its bounds.
    #[error("{field} must be {expected}, not {got}")]
    Bounds {
        /// Which field.
        field: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it was.
        got: f64,
    },
}

/// Ten years: longer than any sensible delay, short enough that adding it to a date cannot overflow.
const MAX_DELAY_SECONDS: f64 = 315_360_000.0;

impl RetryPolicy {
    /// The queue's own formula: `min(base · 2^(n-1), max) + uniform(0, jitter)`.
    #[must_use]
    pub fn queue_default(base_ms: u64, max_ms: u64, jitter_ms: u64) -> RetryPolicy {
        RetryPolicy {
            strategy: Strategy::Exponential,
            base_ms,
            max_ms,
            jitter: Jitter::UpToMs(jitter_ms),
            max_attempts: None,
        }
    }

    /// A policy from seconds and a jitter fraction, as a line of input gives it.
    ///
    /// # Errors
    /// [`RetryError::Bounds`] when a number is negative, not finite, above ten years, or the maximum
    /// is below the base.
    pub fn from_seconds(
        strategy: Strategy,
        base_seconds: f64,
        max_seconds: f64,
        jitter_fraction: f64,
    ) -> Result<RetryPolicy, RetryError> {
        let within = |field, value: f64, expected, low: f64, high: f64| {
            if value.is_finite() && (low..=high).contains(&value) {
                Ok(value)
            } else {
                Err(RetryError::Bounds { field, expected, got: value })
            }
        };
        let base = within("base_seconds", base_seconds, "0 to 315360000", 0.0, MAX_DELAY_SECONDS)?;
        let max = within(
            "max_seconds",
            max_seconds,
            "base_seconds to 315360000",
            base,
            MAX_DELAY_SECONDS,
        )?;
        let fraction = within("jitter_fraction", jitter_fraction, "0 to 1", 0.0, 1.0)?;
        Ok(RetryPolicy {
            strategy,
            base_ms: to_ms(base),
            max_ms: to_ms(max),
            jitter: Jitter::Fraction(fraction),
            max_attempts: None,
        })
    }

    /// The delay in milliseconds after attempt `attempt` (1 for the first) failed.
    ///
    /// `uniform` are two independent samples from `[0, 1)`: the first places a random strategy's delay,
    /// the second the jitter.
    #[must_use]
    pub fn delay_ms(&self, attempt: u32, uniform: [f64; 2]) -> u64 {
        let n = u64::from(attempt.max(1));
        let plain = match self.strategy {
            Strategy::Fixed => self.base_ms,
            Strategy::Exponential => {
                let doublings = u32::try_from(n - 1).unwrap_or(u32::MAX);
                self.base_ms.saturating_mul(2_u64.saturating_pow(doublings))
            }
            Strategy::Linear => self.base_ms.saturating_mul(n),
            Strategy::Random => {
                self.base_ms + part(self.max_ms.saturating_sub(self.base_ms), uniform[0])
            }
        }
        .min(self.max_ms);
        match self.jitter {
            Jitter::UpToMs(ms) => plain.saturating_add(part(ms, uniform[1])),
            Jitter::Fraction(f) => plain.saturating_add(part(plain, f * uniform[1])),
        }
    }
}

/// `share` (0 to 1) of `whole`, rounded down.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a delay in ms is far below 2^52, and share is within [0, 1]"
)]
fn part(whole: u64, share: f64) -> u64 {
    (whole as f64 * share.clamp(0.0, 1.0)) as u64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "callers have checked 0 <= seconds <= ten years"
)]
fn to_ms(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

impl Preset {
    /// Every preset.
    pub const ALL: [Preset; 4] =
        [Preset::Aggressive, Preset::Standard, Preset::Conservative, Preset::Quick];

    /// The name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Preset::Aggressive => "aggressive",
            Preset::Standard => "standard",
            Preset::Conservative => "conservative",
            Preset::Quick => "quick",
        }
    }

    /// The policy behind the name.
    #[must_use]
    pub fn policy(self) -> RetryPolicy {
        let (retries, strategy, base_ms, max_ms, fraction) = match self {
            Preset::Aggressive => (5, Strategy::Exponential, 500, 30_000, 0.10),
            Preset::Standard => (3, Strategy::Exponential, 1_000, 60_000, 0.10),
            Preset::Conservative => (2, Strategy::Linear, 2_000, 10_000, 0.05),
            Preset::Quick => (3, Strategy::Fixed, 500, 500, 0.0),
        };
        RetryPolicy {
            strategy,
            base_ms,
            max_ms,
            jitter: Jitter::Fraction(fraction),
            max_attempts: Some(retries + 1),
        }
    }
}

impl FromStr for Preset {
    type Err = RetryError;

    fn from_str(text: &str) -> Result<Preset, RetryError> {
        Preset::ALL
            .into_iter()
            .find(|preset| preset.name() == text)
            .ok_or_else(|| RetryError::Preset(text.to_owned()))
    }
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Strategy; 4] =
        [Strategy::Fixed, Strategy::Exponential, Strategy::Linear, Strategy::Random];

    /// The name in the contract.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Fixed => "fixed",
            Strategy::Exponential => "exponential",
            Strategy::Linear => "linear",
            Strategy::Random => "random",
        }
    }
}

impl FromStr for Strategy {
    type Err = RetryError;

    fn from_str(text: &str) -> Result<Strategy, RetryError> {
        Strategy::ALL
            .into_iter()
            .find(|strategy| strategy.name() == text)
            .ok_or_else(|| RetryError::Strategy(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert, proptest};

    fn delays(policy: RetryPolicy, uniform: [f64; 2]) -> Vec<u64> {
        (1..=6).map(|n| policy.delay_ms(n, uniform)).collect()
    }

    #[test]
    fn the_queue_default_doubles_to_its_maximum_and_adds_jitter() {
        let policy = RetryPolicy::queue_default(60_000, 3_600_000, 15_000);
        assert_eq!(
            delays(policy, [0.0; 2]),
            [60_000, 120_000, 240_000, 480_000, 960_000, 1_920_000]
        );
        assert_eq!(policy.delay_ms(7, [0.0; 2]), 3_600_000);
        assert_eq!(policy.delay_ms(1, [0.0, 0.5]), 67_500);
        assert_eq!(policy.delay_ms(u32::MAX, [0.0, 0.0]), 3_600_000);
    }

    #[test]
    fn the_four_presets_are_the_contracts() {
        assert_eq!(
            delays(Preset::Aggressive.policy(), [0.0; 2]),
            [500, 1_000, 2_000, 4_000, 8_000, 16_000]
        );
        assert_eq!(
            delays(Preset::Standard.policy(), [0.0; 2]),
            [1_000, 2_000, 4_000, 8_000, 16_000, 32_000]
        );
        assert_eq!(
            delays(Preset::Conservative.policy(), [0.0; 2]),
            [2_000, 4_000, 6_000, 8_000, 10_000, 10_000]
        );
        assert_eq!(delays(Preset::Quick.policy(), [0.9; 2]), [500; 6]);
        assert_eq!(
            Preset::ALL.map(|p| p.policy().max_attempts),
            [Some(6), Some(4), Some(3), Some(4)]
        );
        assert_eq!(Preset::Standard.policy().delay_ms(1, [0.0, 0.5]), 1_050);
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse(), Ok(preset));
        }
        for strategy in Strategy::ALL {
            assert_eq!(strategy.name().parse(), Ok(strategy));
        }
        assert_eq!("fast".parse::<Preset>(), Err(RetryError::Preset("fast".into())));
        assert_eq!("fast".parse::<Strategy>(), Err(RetryError::Strategy("fast".into())));
    }

    #[test]
    fn numbers_out_of_bounds_name_the_field() {
        let make = |base, max, jitter| {
            RetryPolicy::from_seconds(Strategy::Fixed, base, max, jitter).map_err(|e| match e {
                RetryError::Bounds { field, .. } => field,
                other => panic!("{other}"),
            })
        };
        assert_eq!(make(-1.0, 5.0, 0.0).unwrap_err(), "base_seconds");
        assert_eq!(make(f64::NAN, 5.0, 0.0).unwrap_err(), "base_seconds");
        assert_eq!(make(6.0, 5.0, 0.0).unwrap_err(), "max_seconds");
        assert_eq!(make(1.0, 1e12, 0.0).unwrap_err(), "max_seconds");
        assert_eq!(make(1.0, 5.0, 1.5).unwrap_err(), "jitter_fraction");
        assert_eq!(make(0.25, 5.0, 0.5).unwrap().base_ms, 250);
    }

    proptest! {
        #[test]
        fn a_delay_stays_between_its_bounds(
            which in 0_usize..4,
            base in 0_u64..1_000_000,
            spread in 0_u64..1_000_000,
            fraction in 0.0_f64..1.0,
            attempt in 0_u32..200,
            u in 0.0_f64..1.0,
            v in 0.0_f64..1.0,
        ) {
            let policy = RetryPolicy {
                strategy: Strategy::ALL[which],
                base_ms: base,
                max_ms: base + spread,
                jitter: Jitter::Fraction(fraction),
                max_attempts: None,
            };
            let delay = policy.delay_ms(attempt, [u, v]);
            prop_assert!(delay >= base);
            prop_assert!(delay <= 2 * (base + spread));
            let uncounted = policy.delay_ms(attempt, [u, 0.0]);
            prop_assert!(uncounted <= delay);
        }
    }
}
