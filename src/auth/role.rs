//! Roles: each includes those before it.

use std::fmt;

use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// The permissions of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessRole {
    /// Reads, watches, and manages its own listeners.
    Viewer,
    /// Also changes pools, and manages the listeners of all callers.
    Operator,
}

impl AccessRole {
    /// The role of this name.
    #[must_use]
    pub fn from_name(word: &str) -> Option<Self> {
        match word {
            "viewer" => Some(Self::Viewer),
            "operator" => Some(Self::Operator),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for AccessRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A role in the configuration; `none`: no access.
pub(super) mod role_or_none {
    use super::*;

    #[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)] // as serde calls it
    pub(in super::super) fn serialize<S: Serializer>(
        role: &Option<AccessRole>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(role.map_or("none", AccessRole::as_str))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<AccessRole>, D::Error> {
        let word = String::deserialize(from)?;
        match AccessRole::from_name(&word) {
            None if word != "none" => Err(D::Error::unknown_variant(&word, &["none", "viewer", "operator"])),
            role => Ok(role),
        }
    }
}
