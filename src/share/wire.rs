//! How what is kept of a key is written: compact text with short names.
//!
//! Times are whole nanoseconds, and what is at rest is left out. Unknown fields are ignored and missing ones are at rest, so that an
//! older and a newer program can share a queue. Must never write a number that a reader of JSON may round: a bucket's level, which
//! does not fit 64 bits, is a decimal text.

use std::time::Duration;

use crate::job::Mono;

/// A point in time or a length of time, as whole nanoseconds. What is beyond 2^64 of them (584 years) is written as the most there is.
pub(super) trait Nanos: Copy {
    fn to_ns(self) -> u64;
    fn from_ns(ns: u64) -> Self;
}

impl Nanos for Duration {
    fn to_ns(self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }

    fn from_ns(ns: u64) -> Duration {
        Duration::from_nanos(ns)
    }
}

impl Nanos for Mono {
    fn to_ns(self) -> u64 {
        self.0.to_ns()
    }

    fn from_ns(ns: u64) -> Mono {
        Mono(Duration::from_ns(ns))
    }
}

/// For `#[serde(skip_serializing_if)]`: whether something is at rest.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// For `#[serde(with)]` of a [`Nanos`].
pub(super) mod ns {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Nanos;

    pub(in crate::share) fn serialize<T: Nanos, S: Serializer>(
        time: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_u64(time.to_ns())
    }

    pub(in crate::share) fn deserialize<'de, T: Nanos, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        u64::deserialize(from).map(T::from_ns)
    }
}

/// For `#[serde(with)]` of a [`Nanos`] that may be missing.
pub(super) mod ns_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Nanos;

    pub(in crate::share) fn serialize<T: Nanos, S: Serializer>(
        time: &Option<T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(T::to_ns).serialize(to)
    }

    pub(in crate::share) fn deserialize<'de, T: Nanos, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(T::from_ns))
    }
}

/// For `#[serde(with)]` of a number that does not fit 64 bits.
pub(super) mod decimal {
    use std::borrow::Cow;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::share) fn serialize<S: Serializer>(
        number: &u128,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(number)
    }

    pub(in crate::share) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<u128, D::Error> {
        Cow::<str>::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
