//! Serde formats for values in the file, for types without one of their own.

use std::{fmt, time::Duration};

use serde::{
    Deserialize as _, Deserializer, Serializer,
    de::{Error, Visitor},
};

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
        from.deserialize_any(WithUnit)
    }

    struct WithUnit;

    impl Visitor<'_> for WithUnit {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"10s\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            let wrong = |error| E::custom(format!("{text:?} is not a duration such as \"10s\": {error}"));
            humantime::parse_duration(text).map_err(wrong)
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<Duration, E> {
            Err(E::custom(format!("{number} has no unit: write \"{number}s\" for seconds")))
        }
    }
}
