//! Whether a text can be the address of somebody who answers.
//!
//! Services give their better terms for an address at which their operators reach whoever asks; one that was made up is worse
//! than none (Unpaywall answers 422 to it). So what is clearly no address of anybody is refused before the first request. Must
//! never refuse an address that may be real: what is not on the lists below is taken.

use std::fmt;

/// Domains that are nobody's: RFC 2606, section 3, and those that forms and manuals use.
const NOBODYS_DOMAINS: [&str; 8] = [
    "example.com",
    "example.org",
    "example.net",
    "example.edu",
    "domain.com",
    "domain.tld",
    "yourdomain.com",
    "yourdomain.org",
];
/// Top-level names that are nobody's: RFC 2606, section 2. (Not `.local` and `.internal`, which may be reached from within.)
const NOBODYS_TOPS: [&str; 4] = ["example", "test", "invalid", "localhost"];
/// Names that stand for the reader of a manual; compared without `.`, `_` and `-`.
const READERS: [&str; 6] = ["you", "your", "youremail", "yourname", "yourmail", "youraddress"];
/// Addresses that people type when they are asked for one.
const MADE_UP: [&str; 6] =
    ["foo@bar.com", "me@me.com", "test@test.com", "a@b.com", "a@b.c", "email@email.com"];

/// Why a text is not taken as an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum EmailError {
    /// It has not the form of one.
    #[error("an e-mail address: NAME@DOMAIN")]
    Form,
    /// It is somebody's in a manual, and nobody's in the world.
    #[error("an e-mail address at which you are reached; this one is a placeholder ({0})")]
    Placeholder(Because),
}

/// What gives a placeholder away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Because {
    /// Its domain.
    Domain,
    /// Its name.
    Name,
    /// All of it.
    Address,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Because::Domain => "no mail arrives at that domain",
            Because::Name => "its name stands for the reader of a manual",
            Because::Address => "it is made up",
        })
    }
}

/// Whether `text` is empty, which means "none", or may be the address of somebody.
///
/// # Errors
/// [`EmailError`], which reads after "expected".
pub(super) fn check(text: &str) -> Result<(), EmailError> {
    if text.is_empty() {
        return Ok(());
    }
    let (name, domain) = text.rsplit_once('@').ok_or(EmailError::Form)?;
    if !is_name(name) || !is_domain(domain) {
        return Err(EmailError::Form);
    }
    let (name, domain) = (name.to_ascii_lowercase(), domain.to_ascii_lowercase());
    let below = |parent: &str| {
        domain.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let top = domain.rsplit('.').next().unwrap_or_default();
    if NOBODYS_TOPS.contains(&top) || NOBODYS_DOMAINS.into_iter().any(below) {
        return Err(EmailError::Placeholder(Because::Domain));
    }
    let joined: String = name.chars().filter(|c| !"._-".contains(*c)).collect();
    if READERS.contains(&joined.as_str()) {
        return Err(EmailError::Placeholder(Because::Name));
    }
    if MADE_UP.contains(&format!("{name}@{domain}").as_str()) {
        return Err(EmailError::Placeholder(Because::Address));
    }
    Ok(())
}

/// A dot-atom of RFC 5322, section 3.2.3, at most 64 bytes; quoted names, which nobody has, are none.
fn is_name(name: &str) -> bool {
    let atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c);
    name.len() <= 64 && name.split('.').all(|part| !part.is_empty() && part.chars().all(atom))
}

/// A host name of two labels or more, the last of them no number.
fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let Some((_, top)) = domain.rsplit_once('.') else { return false };
    domain.len() <= 253
        && domain.split('.').all(label)
        && !top.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_people_are_taken() {
        for text in [
            "",
            "harvest@orch-demo.dev",
            "o'brien+papers@mail.library.edu",
            "Jo.Doe@uni-x.de",
            "test@institute.edu",
            "youri@institute.edu",
            "me@bar.com",
            "library@example-university.edu",
            "a@xn--bcher-kva.ch",
            "root@cluster.local",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "me",
            "@",
            "me@",
            "@c.d",
            "me@host",
            "a b@c.de",
            "a@b@",
            "a..b@c.de",
            ".a@c.de",
            "a@c..de",
            "a@-c.de",
            "a@c.de.",
            "a@1.2.3.4",
            "<me@c.de>",
            "mailto:me@c.de",
            "me@c.de,you@c.de",
            "m\u{e9}@c.de",
        ] {
            assert_eq!(check(text), Err(EmailError::Form), "{text}");
        }
        assert_eq!(check(&format!("{}@c.de", "a".repeat(65))), Err(EmailError::Form));
    }

    #[test]
    fn placeholders_are_refused() {
        let placeholder = |because| Err(EmailError::Placeholder(because));
        for (text, because) in [
            ("someone@example.org", Because::Domain),
            ("someone@mail.EXAMPLE.com", Because::Domain),
            ("user@domain.com", Because::Domain),
            ("a@lib.test", Because::Domain),
            ("a@lib.example", Because::Domain),
            ("a@host.localhost", Because::Domain),
            ("a@b.invalid", Because::Domain),
            ("you@institute.edu", Because::Name),
            ("Your.Email@gmail.com", Because::Name),
            ("your_name@institute.edu", Because::Name),
            ("foo@bar.com", Because::Address),
            ("Test@test.com", Because::Address),
            ("me@me.com", Because::Address),
        ] {
            assert_eq!(check(text), placeholder(because), "{text}");
        }
        assert_eq!(check("root@localhost"), Err(EmailError::Form));
    }
}
