//! The `Content-Range` header (RFC 9110, section 14.4): which part of the whole an answer holds.
//!
//! Must never panic, and never take for a range what is none: bytes put in the wrong place make a file that looks whole.

/// What the header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentRange {
    /// `bytes 10-19/20` or `bytes 10-19/*`.
    Part {
        /// Its first byte, from 0.
        first: u64,
        /// Its last byte, inclusive; never before the first, and within the total.
        last: u64,
        /// How many bytes the whole has, where the server says.
        total: Option<u64>,
    },
    /// `bytes */20`: no part, but the whole has so many bytes.
    Unsatisfied {
        /// How many bytes the whole has.
        total: u64,
    },
}

/// The meaning of the header's value; `None` for other units and for what makes no sense.
pub(super) fn parse(text: &str) -> Option<ContentRange> {
    let (unit, rest) = text.trim().split_once([' ', '\t'])?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.split_once('/')?;
    let (range, total) = (range.trim(), total.trim());
    if range == "*" {
        return Some(ContentRange::Unsatisfied { total: number(total)? });
    }
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    let total = if total == "*" { None } else { Some(number(total)?) };
    let fits = first <= last && total.is_none_or(|total| last < total) && last < u64::MAX;
    fits.then_some(ContentRange::Part { first, last, total })
}

/// Digits and nothing else: `str::parse` would take a sign as well.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn parts_and_totals_are_read_and_nonsense_is_not() {
        let part = |first, last, total| Some(ContentRange::Part { first, last, total });
        for (text, expected) in [
            ("bytes 0-0/1", part(0, 0, Some(1))),
            ("bytes 10-19/20", part(10, 19, Some(20))),
            (" Bytes  10 - 19 / * ", part(10, 19, None)),
            ("bytes */20", Some(ContentRange::Unsatisfied { total: 20 })),
            ("bytes */*", None),
            ("bytes 19-10/20", None),
            ("bytes 10-20/20", None),
            ("bytes 10-/20", None),
            ("bytes -10/20", None),
            ("bytes +1-+2/3", None),
            ("bytes 10-19", None),
            ("bytes=10-19/20", None),
            ("items 10-19/20", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes 0-18446744073709551616/*", None),
            ("bytes", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived_and_any_part_makes_sense(text in "\\PC*|bytes [0-9*/ -]*") {
            if let Some(ContentRange::Part { first, last, total }) = parse(&text) {
                prop_assert!(first <= last && total.is_none_or(|total| last < total));
            }
        }

        #[test]
        fn what_servers_write_is_read(first: u32, length in 1..u32::MAX, more: u32) {
            let last = u64::from(first) + u64::from(length) - 1;
            let total = last + 1 + u64::from(more);
            let read = parse(&format!("bytes {first}-{last}/{total}"));
            let expected = ContentRange::Part { first: first.into(), last, total: Some(total) };
            prop_assert_eq!(read, Some(expected));
        }
    }
}
