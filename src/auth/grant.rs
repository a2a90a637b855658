//! Grants: which role whom.

use super::Role;
use crate::glob::Glob;

/// What the principals of a grant begin with: the others have their role elsewhere.
const KINDS: [&str; 2] = ["jwt:", "cert:"];

/// A role for some principals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    principals: Vec<Glob>,
    pub(super) role: Option<Role>,
}

impl Grant {
    /// A role for those that one of the globs fits; `None`: they get none.
    ///
    /// # Errors
    /// A glob could fit nobody. Tells which, and what is wrong with it.
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
        Ok(Self { principals: principals.iter().map(|glob| Glob::new(glob)).collect(), role })
    }

    pub(super) fn names(&self, principal: &str) -> bool {
        self.principals.iter().any(|glob| glob.matches(principal))
    }
}
