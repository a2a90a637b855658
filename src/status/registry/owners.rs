//! What each owner has: listeners, streams, and the memory of filters. Equal filters are shared.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::ListenerLimits;
use crate::status::{AttachError, CreateError, Filter, ListenerSpec, Owner, Quota, filter::Compiled};

/// Bytes of the filters of one owner, each counted once: 2,000 listeners with 8 KiB each, which are 1 KiB of globs.
const FILTER_BYTES: usize = 16 * 1024 * 1024;
/// The same for an owner without a quota.
const EXEMPT_FILTER_BYTES: usize = 64 * 1024 * 1024;

/// All owners of listeners and streams.
#[derive(Debug, Default)]
pub(super) struct Owners {
    owners: BTreeMap<Arc<str>, Owned>,
    /// Each filter once, with the number of its listeners.
    filters: HashMap<Arc<Compiled>, usize>,
}

/// What one owner has.
#[derive(Debug, Default)]
struct Owned {
    listeners: usize,
    streams: usize,
    filter_bytes: usize,
    /// The number of its listeners with each filter.
    filters: HashMap<Arc<Compiled>, usize>,
}

impl Owned {
    const fn is_empty(&self) -> bool {
        self.listeners == 0 && self.streams == 0
    }
}

impl Owners {
    /// Counts one more listener. The listeners of an owner share one copy of its name, and those with equal filters share
    /// the filter.
    pub(super) fn add(
        &mut self,
        spec: &mut ListenerSpec,
        limits: &ListenerLimits,
    ) -> Result<(), CreateError> {
        let ListenerSpec { owner, filter, .. } = spec;
        if let Some((name, _)) = self.owners.get_key_value(&owner.name) {
            owner.name = Arc::clone(name);
        }
        let owned = self.owners.get(&owner.name);
        let listeners = owned.map_or(0, |owned| owned.listeners);
        if owner.quota == Quota::Limited && listeners >= limits.per_owner {
            return Err(CreateError::OwnerQuota { owner: Arc::clone(&owner.name), limit: limits.per_owner });
        }
        if let Some(compiled) = filter.compiled() {
            let is_known = owned.is_some_and(|owned| owned.filters.contains_key(compiled));
            let memory = compiled.memory() + owned.map_or(0, |owned| owned.filter_bytes);
            let limit = if owner.quota == Quota::Limited { FILTER_BYTES } else { EXEMPT_FILTER_BYTES };
            if !is_known && memory > limit {
                return Err(CreateError::FilterQuota { owner: Arc::clone(&owner.name), limit });
            }
        }
        let owned = self.owners.entry(Arc::clone(&owner.name)).or_default();
        owned.listeners += 1;
        if let Some(compiled) = filter.compiled().cloned() {
            let compiled = match self.filters.get_key_value(&compiled) {
                Some((shared, _)) => Arc::clone(shared),
                None => compiled,
            };
            *self.filters.entry(Arc::clone(&compiled)).or_default() += 1;
            let of_owner = owned.filters.entry(Arc::clone(&compiled)).or_default();
            *of_owner += 1;
            if *of_owner == 1 {
                owned.filter_bytes += compiled.memory();
            }
            *filter = Filter::shared(compiled);
        }
        Ok(())
    }

    /// A listener is gone.
    pub(super) fn remove(&mut self, ListenerSpec { owner, filter, .. }: &ListenerSpec) {
        if let Some(compiled) = filter.compiled() {
            release(&mut self.filters, compiled);
        }
        self.change(owner, |owned| {
            owned.listeners = owned.listeners.saturating_sub(1);
            if let Some(compiled) = filter.compiled()
                && release(&mut owned.filters, compiled)
            {
                owned.filter_bytes = owned.filter_bytes.saturating_sub(compiled.memory());
            }
        });
    }

    /// Checks the limit of streams, times `factor`.
    pub(super) fn check_streams(
        &self,
        caller: &Owner,
        limits: &ListenerLimits,
        factor: usize,
    ) -> Result<(), AttachError> {
        let limit = limits.streams_per_owner;
        let streams = self.owners.get(&caller.name).map_or(0, |owned| owned.streams);
        if caller.quota == Quota::Limited && streams >= limit.saturating_mul(factor) {
            return Err(AttachError::OwnerStreams { owner: Arc::clone(&caller.name), limit });
        }
        Ok(())
    }

    /// Counts one more stream.
    pub(super) fn add_stream(&mut self, caller: &Owner) {
        self.owners.entry(Arc::clone(&caller.name)).or_default().streams += 1;
    }

    /// A stream is gone.
    pub(super) fn remove_stream(&mut self, caller: &Owner) {
        self.change(caller, |owned| owned.streams = owned.streams.saturating_sub(1));
    }

    /// Changes what an owner has, and forgets it if that is nothing.
    fn change(&mut self, owner: &Owner, change: impl FnOnce(&mut Owned)) {
        let Some(owned) = self.owners.get_mut(&owner.name) else { return };
        change(owned);
        if owned.is_empty() {
            self.owners.remove(&owner.name);
        }
    }
}

/// Counts one listener less. True if it was the last with that filter.
fn release(filters: &mut HashMap<Arc<Compiled>, usize>, filter: &Arc<Compiled>) -> bool {
    let Some(count) = filters.get_mut(filter) else { return false };
    *count -= 1;
    *count == 0 && filters.remove(filter).is_some()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::status::FilterSpec;

    const LIMITS: ListenerLimits =
        ListenerLimits { listeners: 99_999, per_owner: 99_999, streams: 9, streams_per_owner: 9 };

    /// With 64 globs of 64 bytes, which begin with this number.
    fn wide(owner: &str, quota: Quota, number: usize) -> ListenerSpec {
        let peers = (0..64).map(|glob| format!("{number:08}{glob:02}{}", "?".repeat(54))).collect();
        let filter = Filter::compile(FilterSpec { peers, ..FilterSpec::default() }).unwrap();
        let owner = Owner { name: owner.into(), quota };
        ListenerSpec { owner, filter, ..ListenerSpec::default() }
    }

    #[test]
    fn the_filters_of_an_owner_have_a_limit_and_those_of_others_do_not_count() {
        let mut owners = Owners::default();
        let mut add = |owner: &str, quota, number| {
            let mut spec = wide(owner, quota, number);
            owners.add(&mut spec, &LIMITS).map(|()| spec)
        };
        let specs: Vec<_> = (0..).map_while(|number| add("a", Quota::Limited, number).ok()).collect();
        assert!((500..2_000).contains(&specs.len()), "{}", specs.len());
        let full = CreateError::FilterQuota { owner: "a".into(), limit: FILTER_BYTES };
        assert_eq!(add("a", Quota::Limited, specs.len()).unwrap_err(), full);
        add("a", Quota::Limited, 0).expect("it has that one already");
        add("b", Quota::Limited, specs.len()).expect("nobody else is kept from it");
        for number in 0..2 * specs.len() {
            add("local", Quota::Exempt, number).expect("it has more room");
        }
        owners.remove(&specs[0]);
        let last = specs.len();
        assert!(owners.add(&mut wide("a", Quota::Limited, last), &LIMITS).is_err(), "one still has it");
        owners.remove(&specs[0]);
        owners.add(&mut wide("a", Quota::Limited, last), &LIMITS).unwrap();
    }

    #[test]
    fn equal_filters_are_shared_and_nothing_stays_of_listeners_that_are_gone() {
        let mut owners = Owners::default();
        let mut specs = [("a", 1), ("a", 1), ("b", 1), ("b", 2)]
            .map(|(owner, number)| wide(owner, Quota::Limited, number));
        for spec in &mut specs {
            owners.add(spec, &LIMITS).unwrap();
        }
        let shared = |one: usize, other: usize| {
            Arc::ptr_eq(specs[one].filter.compiled().unwrap(), specs[other].filter.compiled().unwrap())
        };
        assert_eq!((shared(0, 1), shared(0, 2), shared(0, 3)), (true, true, false));
        assert_eq!(owners.filters.len(), 2);
        for spec in &specs {
            owners.remove(spec);
        }
        assert!(owners.filters.is_empty() && owners.owners.is_empty());
    }
}
