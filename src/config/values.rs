//! Serde formats for values in the file, for types without one of their own.

use std::{fmt, time::Duration};

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// Deserializes a string and parses it.
pub(crate) fn parse<'de, D, T, E>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: fmt::Display,
{
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// `10s`.
pub(crate) mod duration {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&humantime::format_duration(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parse(from, |text| {
            humantime::parse_duration(text)
                .map_err(|error| format!("{text:?} is not a duration such as \"10s\": {error}"))
        })
    }
}
