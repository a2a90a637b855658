//! Grants: roles for principals by pattern.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use wildmatch::WildMatch;

use super::{AccessRole, role::role_or_none};

/// Prefixes of the principals in a grant: the others have their role elsewhere.
const KINDS: [&str; 2] = ["jwt:", "cert:"];

/// A role for some principals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The grant is for those that match one of these.
    pub principals: Vec<PrincipalPattern>,
    /// `None`: no access.
    #[serde(with = "role_or_none")]
    pub role: Option<AccessRole>,
}

impl Grant {
    pub(super) fn names(&self, principal: &str) -> bool {
        self.principals.iter().any(|pattern| pattern.0.matches(principal))
    }
}

/// A glob for principals with a JWT or a certificate.
#[derive(Clone, Debug, PartialEq)]
pub struct PrincipalPattern(WildMatch);

impl PrincipalPattern {
    /// # Errors
    /// The glob cannot match any principal.
    pub fn new(glob: &str) -> Result<Self, String> {
        if KINDS.iter().any(|kind| glob.starts_with(kind)) {
            return Ok(Self(WildMatch::new(glob)));
        }
        Err(format!(
            "{glob:?} does not begin with `jwt:` or `cert:`; tokens have their roles in the file of tokens, and \
             `local` and `anonymous` are settings"
        ))
    }
}

impl Serialize for PrincipalPattern {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PrincipalPattern {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}
