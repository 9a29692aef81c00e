//! "20/s", "1/3s", "100000/day": so many starts in so much time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire::ns;

/// A rate: `count` starts per `per`, at most `burst` at once.
///
/// As [`Rate::parse`] makes it, no part is 0. Made by hand, a `count` of 0 never gives a start back, a `burst` of 0 is as 1,
/// and a `per` of zero as one nanosecond. Written with `per` in nanoseconds; what a text lacks of it is as in "1/s".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rate {
    /// So many starts,
    #[serde(default = "one")]
    pub count: u32,
    /// in so much time.
    #[serde(rename = "per_ns", default = "a_second", with = "ns")]
    pub per: Duration,
    /// The most that may start at once after a pause.
    #[serde(default = "one")]
    pub burst: u32,
}

fn one() -> u32 {
    1
}

fn a_second() -> Duration {
    Duration::from_secs(1)
}

/// A text that is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not of the form COUNT/TIME.
    #[error(
        "{0:?} is not a rate: expected COUNT/TIME, such as \"20/s\", \"1/3s\" or \"100000/day\""
    )]
    Form(String),
    /// The count is no number a rate can have.
    #[error("{0:?} is no count of a rate: expected a whole number from 1 to {max}", max = u32::MAX)]
    Count(String),
    /// The number before the unit is none.
    #[error("{0:?} is no number of units: expected a whole number, at least 1, or none")]
    Multiple(String),
    /// The time has no such unit.
    #[error("{0:?} is no unit of time: expected s, sec, m, min, h, hour, d or day")]
    Unit(String),
    /// The time is longer than anybody means.
    #[error("{0:?} is too long: a rate counts over at most {days} days", days = MAX_PERIOD_SEC / DAY_SEC)]
    TooLong(String),
}

const MIN_SEC: u64 = 60;
const HOUR_SEC: u64 = 60 * MIN_SEC;
const DAY_SEC: u64 = 24 * HOUR_SEC;
/// A year; anything longer is a slip of the pen.
const MAX_PERIOD_SEC: u64 = 366 * DAY_SEC;

impl Rate {
    /// Reads `COUNT/TIME`, where TIME is a unit (s, sec, m, min, h, hour, d, day) or a whole number of them.
    ///
    /// The burst is one second's worth, rounded down, but at least 1: what a server sees within any second is then at
    /// most twice its rate, and a rate slower than one a second never doubles up. [`Rate::with_burst`] sets another.
    ///
    /// # Errors
    /// [`RateError`] naming the part that does not fit, and what was expected.
    pub fn parse(text: &str) -> Result<Rate, RateError> {
        let shown = |part: &str| part.chars().take(40).collect::<String>();
        let (count_text, time) =
            text.split_once('/').ok_or_else(|| RateError::Form(shown(text)))?;
        let (count_text, time) = (count_text.trim(), time.trim());
        let count = whole(count_text).ok_or_else(|| RateError::Count(shown(count_text)))?;

        let digits = time.find(|c: char| !c.is_ascii_digit()).unwrap_or(time.len());
        let (multiple_text, unit) = time.split_at(digits);
        let unit_sec = unit_sec(unit.trim_start()).ok_or_else(|| RateError::Unit(shown(unit)))?;
        let multiple = match multiple_text {
            "" => 1,
            text => whole(text).ok_or_else(|| RateError::Multiple(shown(text)))?,
        };
        let per_sec = u64::from(multiple) * unit_sec;
        if per_sec > MAX_PERIOD_SEC {
            return Err(RateError::TooLong(shown(time)));
        }
        let per_second = u64::from(count) / per_sec;
        let burst = u32::try_from(per_second).unwrap_or(u32::MAX).clamp(1, count);
        Ok(Rate { count, per: Duration::from_secs(per_sec), burst })
    }

    /// This rate with another burst.
    #[must_use]
    pub fn with_burst(self, burst: u32) -> Rate {
        Rate { burst, ..self }
    }

    /// The slower of the two; of two as slow, the one of the smaller burst.
    #[must_use]
    pub fn stricter(self, other: Rate) -> Rate {
        // a.count / a.per < b.count / b.per, without the division. 2^32 · 2^94 fits.
        let speed = |a: Rate, b: Rate| u128::from(a.count) * b.per.as_nanos();
        let order = speed(self, other).cmp(&speed(other, self)).then(self.burst.cmp(&other.burst));
        if order.is_le() { self } else { other }
    }
}

/// A whole number from 1, of digits only (`u32::from_str` would take a sign).
fn whole(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&number| digits && number >= 1)
}

fn unit_sec(unit: &str) -> Option<u64> {
    match unit {
        "s" | "sec" => Some(1),
        "m" | "min" => Some(MIN_SEC),
        "h" | "hour" => Some(HOUR_SEC),
        "d" | "day" => Some(DAY_SEC),
        _ => None,
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Rate, RateError> {
        Rate::parse(text)
    }
}

impl fmt::Display for Rate {
    /// As [`Rate::parse`] reads it, in the largest unit that fits; the burst is not shown. (A period of a fraction of a
    /// second, which no text gives, is shown as `1/500ms`.)
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sec = self.per.as_secs();
        if sec == 0 || self.per.subsec_nanos() != 0 {
            return write!(f, "{}/{:?}", self.count, self.per);
        }
        let units = [("day", DAY_SEC), ("h", HOUR_SEC), ("min", MIN_SEC)];
        let whole = units.into_iter().find(|(_, unit_sec)| sec.is_multiple_of(*unit_sec));
        let (unit, unit_sec) = whole.unwrap_or(("s", 1));
        match sec / unit_sec {
            1 => write!(f, "{}/{unit}", self.count),
            multiple => write!(f, "{}/{multiple}{unit}", self.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, count: u32, per_sec: u64, burst: u32) {
        let expected = Rate { count, per: Duration::from_secs(per_sec), burst };
        assert_eq!(Rate::parse(text), Ok(expected), "{text}");
    }

    #[test]
    fn rates_read_as_people_write_them() {
        check("20/s", 20, 1, 20);
        check("1/3s", 1, 3, 1);
        check("100000/day", 100_000, 86_400, 1);
        check("5/sec", 5, 1, 5);
        check("90/m", 90, 60, 1);
        check("600/min", 600, 60, 10);
        check("10/2min", 10, 120, 1);
        check("7/h", 7, 3_600, 1);
        check("7200/hour", 7_200, 3_600, 2);
        check("1/2d", 1, 172_800, 1);
        check(" 3 / 10 s ", 3, 10, 1);
        check("4294967295/s", u32::MAX, 1, u32::MAX);
        check("1/366d", 1, 366 * 86_400, 1);
    }

    #[test]
    fn what_is_no_rate_is_refused_with_what_was_expected() {
        let text = String::from;
        for (bad, error) in [
            ("", RateError::Form(text(""))),
            ("20", RateError::Form(text("20"))),
            ("20 per s", RateError::Form(text("20 per s"))),
            ("/s", RateError::Count(text(""))),
            ("0/s", RateError::Count(text("0"))),
            ("-1/s", RateError::Count(text("-1"))),
            ("+1/s", RateError::Count(text("+1"))),
            ("1.5/s", RateError::Count(text("1.5"))),
            ("4294967296/s", RateError::Count(text("4294967296"))),
            ("1/0s", RateError::Multiple(text("0"))),
            ("1/99999999999s", RateError::Multiple(text("99999999999"))),
            ("1/", RateError::Unit(text(""))),
            ("1/3", RateError::Unit(text(""))),
            ("1/week", RateError::Unit(text("week"))),
            ("1/ms", RateError::Unit(text("ms"))),
            ("1/1.5s", RateError::Unit(text(".5s"))),
            ("1/s/s", RateError::Unit(text("s/s"))),
            ("1/367d", RateError::TooLong(text("367d"))),
            ("1/4294967295d", RateError::TooLong(text("4294967295d"))),
        ] {
            assert_eq!(Rate::parse(bad), Err(error), "{bad:?}");
        }
        let said = |bad: &str| Rate::parse(bad).unwrap_err().to_string();
        assert!(said("1/week").ends_with("expected s, sec, m, min, h, hour, d or day"));
        assert!(said("0/s").ends_with("expected a whole number from 1 to 4294967295"));
        assert!(said("1/9999d").ends_with("at most 366 days"));
    }

    #[test]
    fn a_rate_shows_in_its_largest_unit() {
        for (given, shown) in [
            ("20/sec", "20/s"),
            ("1/3s", "1/3s"),
            ("1/60s", "1/min"),
            ("5/90m", "5/90min"),
            ("5/120m", "5/2h"),
            ("100000/24h", "100000/day"),
        ] {
            assert_eq!(Rate::parse(given).unwrap().to_string(), shown, "{given}");
        }
        let fraction = Rate { count: 1, per: Duration::from_millis(500), burst: 1 };
        assert_eq!(fraction.to_string(), "1/500ms");
    }

    #[test]
    fn the_stricter_rate_is_the_slower_one() {
        let rate = |text: &str| Rate::parse(text).unwrap();
        for (strict, lax) in [("1/3s", "20/s"), ("1/day", "1/h"), ("59/min", "1/s")] {
            assert_eq!(rate(strict).stricter(rate(lax)), rate(strict));
            assert_eq!(rate(lax).stricter(rate(strict)), rate(strict));
        }
        let (wide, narrow) = (rate("60/min").with_burst(9), rate("1/s"));
        assert_eq!((wide.stricter(narrow), narrow.stricter(wide)), (narrow, narrow));
    }

    proptest! {
        #[test]
        fn every_rate_reads_back_as_it_shows(
            count in 1..=u32::MAX,
            multiple in 1..=366_u32,
            unit in prop::sample::select(vec!["s", "sec", "m", "min", "h", "hour", "d", "day"]),
        ) {
            let rate = Rate::parse(&format!("{count}/{multiple}{unit}")).unwrap();
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
            prop_assert!(rate.burst >= 1 && rate.burst <= rate.count);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9a-z/ .+-]{0,30}|\\PC{0,20}") {
            if let Ok(rate) = Rate::parse(&text) {
                prop_assert!(rate.count > 0 && rate.burst > 0 && !rate.per.is_zero());
            }
        }
    }
}
