//! An answer of a service, and what all of them have in common.

use std::fmt;

use serde::de::DeserializeOwned;

use super::{No, NoKind};

/// A whole answer.
pub(in crate::handler::fetch) struct Reply<'a> {
    /// The status.
    pub(in crate::handler::fetch) status: u16,
    /// The `Content-Type`, lower-case; empty where there is none.
    pub(in crate::handler::fetch) content_type: &'a str,
    /// The body, decoded.
    pub(in crate::handler::fetch) body: &'a [u8],
}

impl Reply<'_> {
    /// The body of a 200 as JSON of that shape.
    ///
    /// # Errors
    /// [`NoKind::Refused`] for 401, 402, 403 and 407; [`NoKind::Broken`] for every other status and for what is not of that shape.
    /// A service's own way of saying no is to be read before.
    pub(in crate::handler::fetch) fn json<T: DeserializeOwned>(&self) -> Result<T, No> {
        self.ok()?;
        serde_json::from_slice(self.body).map_err(|error| {
            No::broken(format_args!(
                "an answer that is not understood: {}",
                Excerpt(&error.to_string())
            ))
        })
    }

    /// The body of a 200 as text; bytes that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`Reply::json`] for the status.
    pub(in crate::handler::fetch) fn text(&self) -> Result<String, No> {
        self.ok()?;
        Ok(String::from_utf8_lossy(self.body).into_owned())
    }

    /// Whether it is a 200.
    ///
    /// # Errors
    /// As [`Reply::json`].
    pub(in crate::handler::fetch) fn ok(&self) -> Result<(), No> {
        match self.status {
            200 | 203 => Ok(()),
            401 | 402 | 403 | 407 => Err(No::new(NoKind::Refused, self.told())),
            _ => Err(No::broken(self.told())),
        }
    }

    /// Whether the body says that it is JSON, by its type or by its first character.
    pub(in crate::handler::fetch) fn is_json(&self) -> bool {
        self.content_type.contains("json")
            || self.body.trim_ascii_start().first().is_some_and(|b| matches!(b, b'{' | b'['))
    }

    /// The status in words.
    pub(in crate::handler::fetch) fn told(&self) -> String {
        format!("the service answered {}", self.status)
    }
}

/// The beginning of a message of somebody else's.
struct Excerpt<'a>(&'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().take(100).try_for_each(|c| fmt::Write::write_char(f, c))
    }
}
