//! Lengths of time as people write them: `90s`, `2h`, `30d`, `1h30m`.

use std::fmt::Write as _;
use std::time::Duration;

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// A number without its unit.
    #[error(
        "{0:?} has no unit: expected a number with ms, s, m, h, d or w, such as 90s, 2h or 30d"
    )]
    NoUnit(String),
    /// Anything else.
    #[error(
        "{0:?} is no length of time: expected a number with ms, s, m, h, d or w, such as 90s, 2h or 30d"
    )]
    Form(String),
    /// Longer than ten years.
    #[error("{0:?} is too long: at most 3650d")]
    TooLong(String),
}

/// Ten years: adding it to a date cannot overflow.
const LONGEST_MS: u64 = 3_650 * DAY_MS;
const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Reads one or several whole numbers, each with its unit.
///
/// # Errors
/// [`DurationError`] saying what was expected.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let form = || DurationError::Form(text.to_owned());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(form());
    }
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if number.is_empty() {
            return Err(form());
        }
        if unit.is_empty() {
            return Err(DurationError::NoUnit(text.to_owned()));
        }
        let unit_ms = unit_ms(unit).ok_or_else(form)?;
        let too_long = || DurationError::TooLong(text.to_owned());
        let number: u64 = number.parse().map_err(|_| too_long())?;
        total_ms = number
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .filter(|ms| *ms <= LONGEST_MS)
            .ok_or_else(too_long)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(total_ms))
}

fn unit_ms(unit: &str) -> Option<u64> {
    match unit {
        "ms" => Some(1),
        "s" | "sec" => Some(SECOND_MS),
        "m" | "min" => Some(MINUTE_MS),
        "h" | "hour" | "hours" => Some(HOUR_MS),
        "d" | "day" | "days" => Some(DAY_MS),
        "w" | "week" | "weeks" => Some(7 * DAY_MS),
        _ => None,
    }
}

/// The two largest units: `1h 30m`, `2.5s`, `40ms`.
#[must_use]
pub fn show(duration_ms: u64) -> String {
    match duration_ms {
        0..SECOND_MS => format!("{duration_ms}ms"),
        SECOND_MS..MINUTE_MS => {
            format!("{}.{}s", duration_ms / SECOND_MS, duration_ms % SECOND_MS / 100)
        }
        MINUTE_MS..HOUR_MS => two(duration_ms, (MINUTE_MS, "m"), (SECOND_MS, "s")),
        HOUR_MS..DAY_MS => two(duration_ms, (HOUR_MS, "h"), (MINUTE_MS, "m")),
        _ => two(duration_ms, (DAY_MS, "d"), (HOUR_MS, "h")),
    }
}

/// In words for a sentence, as exact as anybody wants to know: `2.1 s`, `45 s`, `15 min`, `3.5 h`, `12 days`.
#[must_use]
pub fn words(duration_ms: u64) -> String {
    const TWO_HOURS_MS: u64 = 2 * HOUR_MS;
    const TWO_DAYS_MS: u64 = 2 * DAY_MS;
    let rounded = |unit_ms: u64| (duration_ms + unit_ms / 2) / unit_ms;
    let tenths = |unit_ms: u64, unit: &str| {
        let tenths = rounded(unit_ms / 10);
        match (tenths / 10, tenths % 10) {
            (whole, 0) => format!("{whole} {unit}"),
            (whole, part) => format!("{whole}.{part} {unit}"),
        }
    };
    match duration_ms {
        0..9_950 => tenths(SECOND_MS, "s"),
        9_950..119_500 => format!("{} s", rounded(SECOND_MS)),
        119_500..TWO_HOURS_MS => format!("{} min", rounded(MINUTE_MS)),
        TWO_HOURS_MS..TWO_DAYS_MS => tenths(HOUR_MS, "h"),
        _ => format!("{} days", rounded(DAY_MS)),
    }
}

fn two(ms: u64, (large, large_name): (u64, &str), (small, small_name): (u64, &str)) -> String {
    let mut text = format!("{}{large_name}", ms / large);
    let rest = ms % large / small;
    if rest > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, " {rest}{small_name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_numbers_with_units() {
        for (text, ms) in [
            ("90s", 90_000),
            ("2h", 7_200_000),
            ("30d", 2_592_000_000),
            ("1h30m", 5_400_000),
            ("1h 30min", 5_400_000),
            ("500ms", 500),
            ("0s", 0),
            ("2w", 1_209_600_000),
            ("3650d", LONGEST_MS),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_was_expected() {
        for text in
            ["", " ", "h", "2x", "-1s", "1.5h", "two hours", "3651d", "99999999999999999999s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        let said = parse("30").unwrap_err().to_string();
        assert!(said.contains("no unit") && said.contains("30d"), "{said}");
    }

    #[test]
    fn a_length_in_a_sentence_is_rounded() {
        for (ms, text) in [
            (0, "0 s"),
            (49, "0 s"),
            (2_149, "2.1 s"),
            (3_000, "3 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (119_499, "119 s"),
            (119_500, "2 min"),
            (933_000, "16 min"),
            (7_199_999, "120 min"),
            (7_200_000, "2 h"),
            (12_600_000, "3.5 h"),
            (172_800_000, "2 days"),
            (1_000_000_000, "12 days"),
        ] {
            assert_eq!(words(ms), text, "{ms}");
        }
    }

    #[test]
    fn a_length_is_shown_in_its_largest_units() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (2_540, "2.5s"),
            (60_000, "1m"),
            (90_000, "1m 30s"),
            (5_400_000, "1h 30m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(show(ms), text);
        }
    }
}
