//! Figures of several rounds, and what to say of them.
//!
//! Must never average: one round that was disturbed would spoil all the others.

use std::fmt;
use std::time::Duration;

/// The same figure, round by round.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures(Vec<f64>);

impl Figures {
    /// Adds a round's.
    pub fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// Round by round.
    #[must_use]
    pub fn rounds(&self) -> &[f64] {
        &self.0
    }

    /// The middle one; of an even number, the mean of the two in the middle. Not a number when there is none.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let half = sorted.len() / 2;
        match sorted.get(half) {
            None => f64::NAN,
            Some(upper) if sorted.len() % 2 == 1 => *upper,
            Some(upper) => f64::midpoint(sorted[half - 1], *upper),
        }
    }

    /// The least.
    #[must_use]
    pub fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The most.
    #[must_use]
    pub fn most(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }
}

/// `median (least to most)`.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median(), self.least(), self.most())
    }
}

impl FromIterator<f64> for Figures {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Figures {
        Figures(figures.into_iter().collect())
    }
}

/// The wait that `part` percent of them do not exceed (nearest rank), in milliseconds. Not a number when there is none.
#[must_use]
pub fn percentile_ms(waits: &[Duration], part: usize) -> f64 {
    let mut sorted = waits.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * part).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(f64::NAN, |wait| wait.as_secs_f64() * 1_000.0)
}

/// So many in that time, for one second.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
pub fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_one_disturbed_round_does_not_move_it() {
        let median = |figures: &[f64]| figures.iter().copied().collect::<Figures>().median();
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[3.0, 1_000.0, 1.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 1_000.0]), 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_spread_is_from_the_least_to_the_most() {
        let figures: Figures = [2.0, 1.0, 3.0].into_iter().collect();
        assert_eq!((figures.least(), figures.most()), (1.0, 3.0));
        assert_eq!(figures.rounds(), [2.0, 1.0, 3.0]);
        assert_eq!(figures.to_string(), "2.00 (1.00 to 3.00)");
        assert!(Figures::default().least().is_nan());
    }

    #[test]
    fn a_percentile_is_a_wait_that_was_seen() {
        let waits: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let check = |part, ms: f64| assert_eq!(percentile_ms(&waits, part), ms, "p{part}");
        check(50, 100.0);
        check(99, 198.0);
        check(100, 200.0);
        check(0, 1.0);
        assert_eq!(percentile_ms(&waits[..1], 99), 200.0);
        assert!(percentile_ms(&[], 50).is_nan());
    }
}
