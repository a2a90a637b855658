//! Who has how many listeners.

use std::{collections::BTreeMap, sync::Arc};

use crate::status::{CreateError, Owner, Quota};

/// How many each of those owners has that may have only so many.
#[derive(Default)]
pub(super) struct Owners(BTreeMap<Arc<str>, usize>);

impl Owners {
    /// One more for this owner, if it may. Its name is kept once for all of its listeners.
    pub(super) fn one_more(&mut self, owner: &mut Owner, limit: usize) -> Result<(), CreateError> {
        if owner.quota == Quota::Exempt {
            return Ok(());
        }
        if let Some((name, _)) = self.0.get_key_value(&owner.name) {
            owner.name = Arc::clone(name);
        }
        let count = self.0.entry(Arc::clone(&owner.name)).or_default();
        if *count >= limit {
            return Err(CreateError::OwnerQuota { owner: Arc::clone(&owner.name), limit });
        }
        *count += 1;
        Ok(())
    }

    /// Lets this owner have another one.
    pub(super) fn one_less(&mut self, owner: &Owner) {
        if owner.quota == Quota::Limited
            && let Some(count) = self.0.get_mut(&owner.name)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&owner.name);
            }
        }
    }
}
