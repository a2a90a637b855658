//! Grants: roles for principals by pattern.

use wildmatch::WildMatch;

use super::Role;

/// Prefixes of the principals in a grant: the others have their role elsewhere.
const KINDS: [&str; 2] = ["jwt:", "cert:"];

/// A role for some principals.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    principals: Vec<WildMatch>,
    pub(super) role: Option<Role>,
}

impl Grant {
    /// A role for the principals that match one of the globs; `None`: no role.
    ///
    /// # Errors
    /// A glob cannot match any principal: its index, and the reason.
    pub fn new(principals: &[String], role: Option<Role>) -> Result<Self, (usize, String)> {
        let wrong = |glob: &String| !KINDS.iter().any(|kind| glob.starts_with(kind));
        if let Some(index) = principals.iter().position(wrong) {
            let given = principals.get(index).map(String::as_str).unwrap_or_default();
            let reason = format!(
                "{given:?} does not begin with `jwt:` or `cert:`; tokens have their roles in the file of tokens, and \
                 `local` and `anonymous` are settings"
            );
            return Err((index, reason));
        }
        Ok(Self { principals: principals.iter().map(|glob| WildMatch::new(glob)).collect(), role })
    }

    pub(super) fn names(&self, principal: &str) -> bool {
        self.principals.iter().any(|glob| glob.matches(principal))
    }
}
