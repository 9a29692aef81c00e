//! The keys that limits count by: a resolver, a host, or both.

use std::fmt;
use std::sync::Arc;

/// What a job will ask next: the *next key*. Either part may be absent; with neither, nothing limits it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key {
    /// The service asked, such as `arxiv`; normalised.
    pub resolver: Option<Arc<str>>,
    /// The host asked, such as `arxiv.org`; normalised, without a port.
    pub host: Option<Arc<str>>,
}

/// One countable thing: what a limit is set on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitKey {
    /// A named service.
    Resolver(Arc<str>),
    /// A host name.
    Host(Arc<str>),
}

/// A text that names no host or resolver.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a host name or address.
    #[error("{0:?} is not a host name or address")]
    Host(String),
    /// Not a resolver name.
    #[error("{0:?} is not a resolver name: expected letters, digits, '_', '-' or '.', at most 64")]
    Resolver(String),
}

impl Key {
    /// A key of these parts, each normalised.
    ///
    /// # Errors
    /// [`KeyError`] naming the part that cannot be a key.
    pub fn new(resolver: Option<&str>, host: Option<&str>) -> Result<Key, KeyError> {
        Ok(Key {
            resolver: resolver.map(normalise_resolver).transpose()?,
            host: host.map(normalise_host).transpose()?,
        })
    }

    /// Whether nothing limits a job under this key.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.resolver.is_none() && self.host.is_none()
    }

    /// The limits this key is subject to, in the one order everybody takes them: resolver, then host.
    pub fn limits(&self) -> impl Iterator<Item = LimitKey> + '_ {
        let resolver = self.resolver.clone().map(LimitKey::Resolver);
        let host = self.host.clone().map(LimitKey::Host);
        resolver.into_iter().chain(host)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.resolver, &self.host) {
            (Some(resolver), Some(host)) => write!(f, "{resolver} at {host}"),
            (Some(name), None) | (None, Some(name)) => f.write_str(name),
            (None, None) => f.write_str("-"),
        }
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LimitKey::Resolver(name) | LimitKey::Host(name) => f.write_str(name),
        }
    }
}

/// The one spelling of a host: lower case, punycode, no port, no closing dot, no IPv6 brackets.
///
/// # Errors
/// [`KeyError::Host`] when the text is neither a host name nor an address.
pub fn normalise_host(text: &str) -> Result<Arc<str>, KeyError> {
    let bad = || KeyError::Host(text.chars().take(80).collect());
    let trimmed = text.trim().trim_end_matches('.');
    let looks_v6 = trimmed.matches(':').count() > 1 && !trimmed.starts_with('[');
    let bracketed = if looks_v6 { format!("[{trimmed}]") } else { trimmed.to_owned() };
    if bracketed.is_empty() || bracketed.contains(['/', '?', '#', '@', '\\', ' ']) {
        return Err(bad());
    }
    let parsed = url::Url::parse(&format!("http://{bracketed}/")).map_err(|_| bad())?;
    let host = parsed.host_str().ok_or_else(bad)?.trim_end_matches('.');
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() || bare.len() > 253 {
        return Err(bad());
    }
    Ok(bare.into())
}

/// The one spelling of a resolver's name: lower case, `-` as `_`.
///
/// # Errors
/// [`KeyError::Resolver`] when it is empty, too long or has other characters.
pub fn normalise_resolver(text: &str) -> Result<Arc<str>, KeyError> {
    let name = text.trim().to_ascii_lowercase().replace('-', "_");
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(KeyError::Resolver(text.chars().take(80).collect()));
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_has_one_spelling() {
        for (text, host) in [
            ("ArXiv.org", "arxiv.org"),
            ("arxiv.org.", "arxiv.org"),
            (" arxiv.org:443 ", "arxiv.org"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("127.0.0.1:8080", "127.0.0.1"),
            ("[::1]:80", "::1"),
            ("::1", "::1"),
            ("0x7f.1", "127.0.0.1"),
        ] {
            assert_eq!(normalise_host(text).as_deref(), Ok(host), "{text}");
        }
        for bad in ["", ".", "a b", "http://x", "x/y", "user@x", "a..b:99999", "\0"] {
            assert!(normalise_host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn resolvers_are_lower_case_names() {
        assert_eq!(normalise_resolver("Europe-PMC").as_deref(), Ok("europe_pmc"));
        for bad in ["", " ", "a b", "é", &"x".repeat(65)] {
            assert!(normalise_resolver(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn limits_come_resolver_first() {
        let key = Key::new(Some("arxiv"), Some("arxiv.org")).unwrap();
        let limits: Vec<_> = key.limits().collect();
        assert_eq!(
            limits,
            [LimitKey::Resolver("arxiv".into()), LimitKey::Host("arxiv.org".into())]
        );
        assert_eq!(key.to_string(), "arxiv at arxiv.org");
        assert!(Key::default().is_free());
    }
}
