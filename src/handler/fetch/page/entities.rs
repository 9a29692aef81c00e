//! Character references in HTML text: `&amp;`, `&#38;`, `&#x26;`.
//!
//! Not the standard's two thousand names: those that stand in URLs and titles. What is not understood stays as it is.

use std::borrow::Cow;

const NAMES: [(&str, char); 17] = [
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", '\u{a0}'),
    ("sol", '/'),
    ("colon", ':'),
    ("period", '.'),
    ("quest", '?'),
    ("equals", '='),
    ("lowbar", '_'),
    ("num", '#'),
    ("percnt", '%'),
    ("plus", '+'),
    ("ndash", '–'),
    ("mdash", '—'),
];
/// The longest reference, between `&` and `;`, that is looked at.
const MAX_BYTES: usize = 10;

/// The text that was meant. Decoded once: `&amp;lt;` is `&lt;`.
pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split('&');
    let mut decoded = String::with_capacity(text.len());
    decoded.push_str(parts.next().unwrap_or_default());
    for part in parts {
        match part.split_once(';').and_then(|(name, rest)| Some((character(name)?, rest))) {
            Some((character, rest)) => {
                decoded.push(character);
                decoded.push_str(rest);
            }
            None => {
                decoded.push('&');
                decoded.push_str(part);
            }
        }
    }
    Cow::Owned(decoded)
}

fn character(name: &str) -> Option<char> {
    if name.len() > MAX_BYTES {
        return None;
    }
    match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(hex) => numbered(hex, 16),
            None => numbered(number, 10),
        },
        None => NAMES.iter().find(|(known, _)| *known == name).map(|(_, character)| *character),
    }
}

fn numbered(digits: &str, radix: u32) -> Option<char> {
    // `from_str_radix` would take a sign.
    let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    let number = u32::from_str_radix(digits, radix).ok().filter(|_| is_number)?;
    char::from_u32(number).filter(|character| *character != '\0')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_numbers_are_decoded_once() {
        for (text, expected) in [
            ("a?x=1&amp;y=2", "a?x=1&y=2"),
            ("&lt;&gt;&quot;&apos;", "<>\"'"),
            ("&#38;&#x26;&#X26;&#233;", "&&&é"),
            ("&amp;amp;", "&amp;"),
            ("&amp;lt;", "&lt;"),
            ("a&b;c&", "a&b;c&"),
            ("?a=1&lt=2&gt", "?a=1&lt=2&gt"),
            (
                "&#0;&#xd800;&#x110000;&#;&#x;&#+5;&#99999999999;",
                "&#0;&#xd800;&#x110000;&#;&#x;&#+5;&#99999999999;",
            ),
            ("plain", "plain"),
            ("", ""),
        ] {
            assert_eq!(decode(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_comes_back(text in "\\PC{0,30}") {
            let encoded = text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&#34;");
            prop_assert_eq!(decode(&encoded), text);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[&#x;a-f0-9é]{0,40}") {
            prop_assert!(decode(&text).len() <= text.len());
        }
    }
}
