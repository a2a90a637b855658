//! How many nodes are in which state, and what is wrong with which: counted as they change.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    metrics::Problem,
    status::{Liveness, NodeState},
};

/// Counts of the nodes of a fleet.
#[derive(Debug)]
pub(super) struct Census {
    pub(super) live: usize,
    pub(super) stale: usize,
    pub(super) problems: BTreeSet<Problem>,
    is_changed: bool,
}

impl Census {
    /// Of no nodes, which is new.
    pub(super) const fn new() -> Self {
        Self { live: 0, stale: 0, problems: BTreeSet::new(), is_changed: true }
    }

    /// A node changed.
    pub(super) fn update(&mut self, before: Option<&Arc<NodeState>>, after: Option<&Arc<NodeState>>) {
        let is_same = match (before, after) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (None, None) => true,
            _ => false,
        };
        if is_same {
            return;
        }
        if let Some(before) = before {
            *self.count(before.liveness) -= 1;
            for problem in problems(before) {
                self.is_changed |= self.problems.remove(&(Arc::clone(&before.name), problem));
            }
        }
        if let Some(after) = after {
            *self.count(after.liveness) += 1;
            for problem in problems(after) {
                self.is_changed |= self.problems.insert((Arc::clone(&after.name), problem));
            }
        }
        let liveness = |state: Option<&Arc<NodeState>>| state.map(|state| state.liveness);
        self.is_changed |= liveness(before) != liveness(after);
    }

    /// Whether there is something new since the last call.
    pub(super) fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// A node that is GONE is not kept.
    const fn count(&mut self, liveness: Liveness) -> &mut usize {
        match liveness {
            Liveness::Live => &mut self.live,
            Liveness::Stale | Liveness::Gone => &mut self.stale,
        }
    }
}

fn problems(state: &NodeState) -> impl Iterator<Item = &'static str> {
    [
        (state.liveness == Liveness::Stale, "stale"),
        (state.has_conflict, "conflict"),
        (state.is_incomplete, "incomplete"),
    ]
    .into_iter()
    .filter_map(|(is_so, problem)| is_so.then_some(problem))
}
