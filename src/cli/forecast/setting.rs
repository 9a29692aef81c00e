//! `--set arxiv.org.max_concurrent=2`: a limit as it would be, for a forecast.

use std::fmt;

use crate::job::{KeyError, LimitKey, normalise_host, normalise_resolver};
use crate::limit::{Limits, Rate, RateError};
use crate::run::forecast::limits_of;

/// One limit of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    key: LimitKey,
    what: What,
    /// As it was typed.
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    MaxConcurrent(u32),
    Rate(Option<Rate>),
    Burst(u32),
}

/// Why a text is no such setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SettingError {
    /// No `NAME.LIMIT=VALUE`.
    #[error(
        "expected NAME.max_concurrent=N, NAME.rate=RATE or NAME.burst=N, such as arxiv.org.rate=1/s or resolver:crossref.max_concurrent=3"
    )]
    Form,
    /// A number that is none, or 0.
    #[error("expected a whole number, 1 or more, after the =")]
    Number,
    /// A rate that is none.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] KeyError),
}

pub(super) fn parse(text: &str) -> Result<Setting, SettingError> {
    let (path, value) = text.split_once('=').ok_or(SettingError::Form)?;
    let (name, limit) = path.trim().rsplit_once('.').ok_or(SettingError::Form)?;
    let key = match name.split_once(':') {
        Some(("resolver", name)) => LimitKey::Resolver(normalise_resolver(name)?),
        Some(("host", name)) => LimitKey::Host(normalise_host(name)?),
        _ => LimitKey::Host(normalise_host(name)?),
    };
    let value = value.trim();
    let number = || value.parse().ok().filter(|n| *n >= 1).ok_or(SettingError::Number);
    let what = match limit {
        "max_concurrent" | "max-concurrent" => What::MaxConcurrent(number()?),
        "rate" if value == "none" => What::Rate(None),
        "rate" => What::Rate(Some(Rate::parse(value)?)),
        "burst" => What::Burst(number()?),
        _ => return Err(SettingError::Form),
    };
    Ok(Setting { key, what, text: text.trim().to_owned() })
}

impl Setting {
    /// Has it hold, whatever held before. Whether it says anything: a burst alone does not where there is no rate.
    pub(super) fn apply(&self, limits: &mut Limits) -> bool {
        let mut own = limits_of(limits, &self.key);
        match self.what {
            What::MaxConcurrent(most) => own.max_concurrent = Some(most),
            What::Rate(rate) => own.rate = rate,
            What::Burst(burst) => match own.rate {
                Some(rate) => own.rate = Some(rate.with_burst(burst)),
                None => return false,
            },
        }
        limits.by_key.insert(self.key.clone(), own);
        true
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::KeyLimits;

    fn host(name: &str) -> LimitKey {
        LimitKey::Host(name.into())
    }

    #[test]
    fn a_limit_of_a_host_or_resolver_is_read() {
        let rate = |text: &str| Some(Rate::parse(text).unwrap());
        for (text, key, what) in [
            ("arxiv.org.max_concurrent=2", host("arxiv.org"), What::MaxConcurrent(2)),
            ("ArXiv.org.max-concurrent = 2", host("arxiv.org"), What::MaxConcurrent(2)),
            ("arxiv.org.rate=1/3s", host("arxiv.org"), What::Rate(rate("1/3s"))),
            ("arxiv.org.rate=none", host("arxiv.org"), What::Rate(None)),
            ("127.0.0.1.burst=5", host("127.0.0.1"), What::Burst(5)),
            ("::1.burst=5", host("::1"), What::Burst(5)),
            (
                "resolver:Europe-PMC.rate=5/s",
                LimitKey::Resolver("europe_pmc".into()),
                What::Rate(rate("5/s")),
            ),
        ] {
            let setting = parse(text).unwrap();
            assert_eq!((setting.key, setting.what), (key, what), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_was_expected() {
        for (text, words) in [
            ("", "expected NAME.max_concurrent=N"),
            ("arxiv.org", "expected NAME.max_concurrent=N"),
            ("arxiv.org=2", "expected NAME.max_concurrent=N"),
            ("arxiv.org.speed=2", "expected NAME.max_concurrent=N"),
            ("arxiv.org.max_concurrent=0", "1 or more"),
            ("arxiv.org.max_concurrent=x", "1 or more"),
            ("arxiv.org.rate=0/s", "0"),
            ("a b.rate=1/s", "not a host name"),
            ("resolver:a b.rate=1/s", "not a resolver name"),
        ] {
            let said = parse(text).unwrap_err().to_string();
            assert!(said.contains(words), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_set_holds_whatever_held_before() {
        let strict =
            KeyLimits { max_concurrent: Some(1), rate: Some(Rate::parse("1/3s").unwrap()) };
        let mut limits = Limits { max_per_host: Some(4), ..Limits::default() };
        limits.by_key.insert(host("a.org"), strict);
        assert!(parse("a.org.max_concurrent=9").unwrap().apply(&mut limits));
        assert_eq!(limits.by_key[&host("a.org")], KeyLimits { max_concurrent: Some(9), ..strict });
        assert!(parse("b.org.rate=1/s").unwrap().apply(&mut limits));
        let rate = Some(Rate::parse("1/s").unwrap());
        assert_eq!(limits.by_key[&host("b.org")], KeyLimits { max_concurrent: Some(4), rate });
        assert!(!parse("c.org.burst=3").unwrap().apply(&mut limits), "there is no rate");
    }
}
