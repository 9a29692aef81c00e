//! Numbers, times and names as people read them. Pure.

use std::time::Duration;

use crate::job::LimitKey;
use crate::share::Transition;

/// The stable name of what sort of key it is: `host`, `resolver`.
pub(super) fn kind_of(key: &LimitKey) -> &'static str {
    match key {
        LimitKey::Host(_) => "host",
        LimitKey::Resolver(_) => "resolver",
    }
}

/// The stable name of how a breaker changed: `opened`, `half_opened`, `closed`.
pub(super) fn name_of(transition: Transition) -> &'static str {
    match transition {
        Transition::Opened { .. } => "opened",
        Transition::HalfOpened => "half_opened",
        Transition::Closed => "closed",
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration to about two figures: `0.3 s`, `2.1 s`, `95 s`, `12 min`, `5.3 h`, `9 days`.
pub(super) fn rough(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 119.5 => format!("{s:.0} s"),
        s if s < 119.5 * 60.0 => format!("{:.0} min", s / 60.0),
        s if s < 47.95 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

/// A rate in jobs per second to about two figures: `1,204/s`, `12.3/s`, `4.2/min`, `0.5/h`.
pub(super) fn rate(jobs_per_second: f64) -> String {
    match jobs_per_second {
        r if r >= 99.95 => format!("{}/s", grouped(r.round() as u64)),
        r if r >= 0.995 => format!("{r:.1}/s"),
        r if r * 60.0 >= 0.995 => format!("{:.1}/min", r * 60.0),
        r => format!("{:.1}/h", r * 3600.0),
    }
}

/// `text` with every control character (line breaks, escapes) as a space: a log line stays one line.
pub(super) fn one_line(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains(char::is_control) {
        text.replace(char::is_control, " ").into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_threes() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12_345, "12,345"),
            (999_999, "999,999"),
            (1_000_000, "1,000,000"),
            (u64::MAX, "18,446,744,073,709,551,615"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn durations_are_rough_and_change_unit_in_time() {
        for (ms, text) in [
            (0, "0.0 s"),
            (40, "0.0 s"),
            (2_140, "2.1 s"),
            (9_949, "9.9 s"),
            (9_950, "10 s"),
            (95_000, "95 s"),
            (119_499, "119 s"),
            (119_500, "2 min"),
            (7_100_000, "118 min"),
            (7_200_000, "2.0 h"),
            (19_080_000, "5.3 h"),
            (172_800_000, "2 days"),
        ] {
            assert_eq!(rough(Duration::from_millis(ms)), text, "{ms} ms");
        }
    }

    #[test]
    fn rates_are_told_in_a_unit_in_which_they_are_at_least_one() {
        for (jobs_per_second, text) in [
            (312_345.6, "312,346/s"),
            (99.96, "100/s"),
            (12.34, "12.3/s"),
            (1.0, "1.0/s"),
            (0.5, "30.0/min"),
            (1.0 / 60.0, "1.0/min"),
            (0.5 / 60.0, "30.0/h"),
            (0.0, "0.0/h"),
        ] {
            assert_eq!(rate(jobs_per_second), text, "{jobs_per_second}");
        }
    }

    #[test]
    fn a_message_cannot_break_its_line_or_paint_the_terminal() {
        assert_eq!(one_line("plain \u{e9}"), "plain \u{e9}");
        assert_eq!(one_line("a\r\nb\t\u{1b}[31mc\u{9b}d"), "a  b  [31mc d");
    }
}
