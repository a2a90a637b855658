//! What is not known of a node whose state began with the last record of each subject, and which changes are therefore
//! not certain to be those that a reader of all records sends.

use std::sync::Arc;

use super::{Node, Step};
use crate::{
    fleet::reader::{
        signs_of_life::Receipt,
        view::{Known, View},
    },
    peer::PoolHealth,
    status::{HealthChange, Liveness, Mirrored, health_of},
};

/// What a snapshot has of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    /// All.
    Complete,
    /// It may end in the middle of a state that the node publishes again: the next change or sign of life decides.
    Unanchored,
    /// It ends in the middle of a state, whose records have replaced others: complete with the next commit.
    Incomplete,
    /// It has something else in place of records: complete with the next commit, which may take long.
    Spoiled,
}

impl Node {
    /// The end of a snapshot, with its newest record: a node without a sign of life in it is STALE, and so is one whose sign is
    /// too old. Returns the effects that make its state.
    pub(in crate::fleet::reader) fn finish_snapshot(
        &mut self,
        is_spoiled: bool,
        newest: Receipt,
        into: &mut Vec<Mirrored>,
    ) {
        let Some(state) = &mut self.state else { return };
        if self.up != Some(self.view.epoch) {
            // Its signs of life count from then on.
            self.last_sign = self.up.map(|_| newest);
        }
        let receipt = self.last_sign.map(|receipt| Receipt { received: newest.received, ..receipt });
        let end = receipt.map(|receipt| receipt.end());
        self.last_sign = receipt.filter(|receipt| !receipt.is_over(newest.stored));
        if self.last_sign.is_none() && state.liveness == Liveness::Live {
            let state = Arc::make_mut(state);
            (state.liveness, state.stale_since) = (Liveness::Stale, end.or(Some(state.last_seen)));
        }
        for known in self.view.pools.values_mut() {
            known.sent = Some(known.state.health);
            into.push(Mirrored::PoolState(Arc::clone(&known.state)));
        }
        let newest = self.view.peers.values().map(|known| known.revision).max().unwrap_or_default();
        self.view.revision = self.view.revision.max(newest);
        into.extend(self.view.peers.values().map(|known| Mirrored::PeerState(Arc::clone(&known.state))));
        self.is_liveness_unknown &= self.up != Some(self.view.epoch);
        // What is before the commit was late, and the commit has replaced it.
        let is_short = self.is_short();
        let Some(state) = &mut self.state else { return };
        let has_others = self.staged.iter().any(|staged| staged.last > self.view.last);
        Arc::make_mut(state).is_incomplete = has_others || is_spoiled || is_short;
        into.push(Mirrored::NodeState(Arc::clone(state)));
        self.completeness = match () {
            () if has_others => Completeness::Incomplete,
            () if is_spoiled => Completeness::Spoiled,
            () if self.view.anchor < self.view.revision => Completeness::Unanchored,
            () => Completeness::Complete,
        };
    }

    /// From now on, clients are sent the state. Returns the pools whose newest record is older than the health that the newest
    /// states of their peers make.
    pub(in crate::fleet::reader) fn serve(&mut self) -> Vec<Mirrored> {
        let is_complete = self.state.as_ref().is_some_and(|state| !state.is_incomplete);
        let View { pools, peers, .. } = &mut self.view;
        let outdated = pools.iter_mut().filter_map(|(name, known)| {
            let is_outdated = std::mem::take(&mut known.is_outdated) && is_complete;
            let peers = || peers.iter().filter(|((pool, _), _)| pool == name).map(|(_, known)| &known.state);
            let health = health_of(peers().map(|peer| peer.status));
            // An observed pool without peers is unknown or DOWN, which its record alone tells.
            let is_told = known.state.identity.is_some() || peers().any(|peer| peer.status.is_wanted());
            if !is_outdated || !is_told || health == known.state.health {
                return None;
            }
            let state = Arc::make_mut(&mut known.state);
            let since = peers().map(|peer| peer.status_since).max().unwrap_or(state.health_since);
            (state.health, state.health_since) = (health, since);
            state.not_healthy_since = match health {
                PoolHealth::Healthy => None,
                _ => state.not_healthy_since.or(Some(since)),
            };
            known.sent = Some(health);
            Some(Mirrored::PoolState(Arc::clone(&known.state)))
        });
        outdated.collect()
    }

    /// Whether the node has published that it had another number of peers than there are here: the stream dropped records of
    /// them before it published those again, or they are more than it may have.
    pub(super) fn is_short(&self) -> bool {
        let count =
            |known: &Known| self.view.pools.contains_key(&known.state.pool) && known.state.status.is_wanted();
        let wanted = || self.view.peers.values().filter(|known| count(known)).count();
        self.counted
            .is_some_and(|(revision, peers)| revision == self.view.revision && wanted() != peers as usize)
    }

    /// Whether nothing but the number of peers said that something is missing, and it says so no more.
    pub(super) fn has_all(&self) -> bool {
        let is_known = self.counted.is_some_and(|(revision, _)| revision == self.view.revision);
        is_known
            && !matches!(self.completeness, Completeness::Incomplete | Completeness::Spoiled)
            && !self.is_short()
    }

    /// What comes says whether the node is LIVE. If that was not known before, it is not known whether that is a change.
    pub(super) const fn learn_liveness(&mut self, step: &mut Step) {
        step.is_uncertain |= step.effects.is_some() && self.state.is_some() && self.is_liveness_unknown;
        self.is_liveness_unknown = false;
    }

    /// Every change up to this revision is in the records so far, or is missing.
    pub(super) fn advance(&mut self, revision: u64, is_break: bool, step: &mut Step) {
        self.view.revision = self.view.revision.max(revision);
        if step.effects.is_none() || !is_break {
            return;
        }
        step.is_break = true;
        if self.view.pools.values().any(|known| known.is_outdated) {
            // Nor is it known what clients were sent.
            (step.is_uncertain, self.completeness) = (true, Completeness::Incomplete);
        }
    }

    /// A change or a sign of life came, neither of which a node publishes in the middle of its state with this revision.
    pub(super) fn anchor(&mut self, revision: u64) {
        self.view.anchor = self.view.anchor.max(revision);
        if self.completeness == Completeness::Unanchored && revision >= self.view.revision {
            self.completeness = Completeness::Complete;
        }
    }

    /// As [`Node::advance`], of a record that says nothing else about the node: clients are first sent that changes are missing,
    /// and then those that make the state right.
    pub(super) fn advance_alone(&mut self, revision: u64, is_break: bool, step: &mut Step) {
        self.advance(revision, is_break, step);
        if step.is_break {
            self.change_node(step, |state| state.chain_breaks += 1);
        }
    }

    /// The health to send with a change that the node published.
    pub(super) fn own_health(
        &mut self,
        pool: &str,
        own: Option<HealthChange>,
        step: &Step,
    ) -> Option<HealthChange> {
        let health = self.view.health_to_send(pool, own);
        if step.effects.is_none() {
            self.view.outdate(pool, own);
        }
        health
    }

    /// The health to send with a change that the node did not publish.
    pub(super) fn other_health(&mut self, pool: &str, step: &mut Step) -> Option<HealthChange> {
        step.is_uncertain |= self.view.settle(pool) && step.effects.is_some();
        self.view.health_to_send(pool, None)
    }
}
