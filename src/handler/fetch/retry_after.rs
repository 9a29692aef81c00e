//! The `Retry-After` header (RFC 9110, section 10.2.3): seconds, or a date.

use jiff::civil::DateTime;
use jiff::fmt::rfc2822;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;

use crate::job::WallMs;

/// The longest wait that is believed: 30 days. What is longer is a mistake of the server.
const MAX_MS: u64 = 30 * 24 * 3_600 * 1_000;

/// How many milliseconds after `now` the server wants to be asked again; 0 when that time has passed.
/// `None` when the text says nothing that can be understood.
pub(super) fn parse_ms(text: &str, now: WallMs) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a very long wait, not nonsense.
        let seconds = text.parse::<u64>().unwrap_or(u64::MAX);
        return Some(seconds.saturating_mul(1_000).min(MAX_MS));
    }
    let at = http_date(text)?;
    Some(at.since_ms(now).min(MAX_MS))
}

/// The three forms of an HTTP date (RFC 9110, section 5.6.7), all in Greenwich time.
fn http_date(text: &str) -> Option<WallMs> {
    let current = rfc2822::DateTimeParser::new().relaxed_weekday(true);
    if let Ok(at) = current.parse_timestamp(text) {
        return Some(WallMs(at.as_millisecond()));
    }
    ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"].into_iter().find_map(|form| {
        let civil: DateTime = strtime::parse(form, text).ok()?.to_datetime().ok()?;
        let at = civil.to_zoned(TimeZone::UTC).ok()?;
        Some(WallMs(at.timestamp().as_millisecond()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::*;

    /// 1994-11-06T08:49:37Z, the moment of the RFC's examples.
    const NOW: WallMs = WallMs(784_111_777_000);

    #[test]
    fn seconds_and_all_three_dates_are_understood() {
        for (text, expected) in [
            ("0", Some(0)),
            (" 120 ", Some(120_000)),
            ("54000", Some(54_000_000)),
            ("99999999999999999999999", Some(MAX_MS)),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Some(1_000)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60_000)),
            ("Sun Nov  6 09:49:37 1994", Some(3_600_000)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Fri, 31 Dec 1999 23:59:59 GMT", Some(MAX_MS)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994", None),
        ] {
            assert_eq!(parse_ms(text, NOW), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_and_no_clock_makes_it_panic(text in "\\PC{0,60}", now: i64) {
            if let Some(ms) = parse_ms(&text, WallMs(now)) {
                prop_assert!(ms <= MAX_MS);
            }
        }

        #[test]
        fn dates_with_odd_numbers_do_not_panic(
            day in 0_u32..100, year in 0_u32..100_000, h in 0_u32..99, m in 0_u32..99, s in 0_u32..99,
        ) {
            let _ = parse_ms(&format!("Sun, {day:02} Nov {year} {h:02}:{m:02}:{s:02} GMT"), NOW);
            let _ = parse_ms(&format!("Sunday, {day:02}-Nov-{year} {h:02}:{m:02}:{s:02} GMT"), NOW);
            let _ = parse_ms(&format!("Sun Nov {day} {h:02}:{m:02}:{s:02} {year}"), NOW);
        }
    }
}
