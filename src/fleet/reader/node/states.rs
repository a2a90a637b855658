//! The states of a node's pools and peers, and the changes between two of them.

use std::{collections::BTreeSet, sync::Arc};

use super::{MAX_REPLACED, Node, Origin, Skipped, Step};
use crate::{
    api::pb,
    fleet::{
        Content,
        reader::{
            parse::{self, Change},
            view::{NodeLimits, PeerKey, View},
        },
    },
    peer::{PeerOrigin, PeerStatus, PoolHealth},
    status::{ChangeKind, Mirrored, PeerState},
};

impl Node {
    pub(super) fn change(
        &mut self,
        key: PeerKey,
        change: Change,
        previous: u64,
        origin: Origin,
        step: &mut Step,
    ) -> Result<(), Skipped> {
        let Change { mut peer, kind, previous: status, health, time } = change;
        if !self.is_committed(origin.epoch) {
            peer.revision = step.revision;
            let Origin { revision, bytes, limits, .. } = origin;
            return Ok(self.stage(origin.epoch, step, |staged| {
                staged.revision = staged.revision.max(revision);
                if kind == ChangeKind::Removed {
                    staged.remove(&key);
                    return Ok(());
                }
                staged.put(key, Arc::new(peer), revision, bytes, limits)
            })?);
        }
        let is_snapshot = step.effects.is_none();
        if !is_snapshot && origin.revision <= self.view.revision {
            // It was sent again after the stream had forgotten its id.
            return Ok(());
        }
        self.advance_alone(origin.revision, previous != self.view.revision, step);
        self.anchor(origin.revision);
        if !self.view.listed.contains(&key.0) {
            return Err(Skipped::UnknownPool);
        }
        step.at = time;
        peer.revision = step.revision;
        let peer = Arc::new(peer);
        if kind == ChangeKind::Removed {
            let is_known = self.view.remove(&key).is_some() || is_snapshot;
            if is_known && self.view.pools.contains_key(&key.0) {
                let health = self.own_health(&key.0, health, step);
                step.emit(Mirrored::PeerRemoved { peer, previous: status, health });
            }
            return Ok(());
        }
        self.view.put(key.clone(), Arc::clone(&peer), origin.revision, origin.bytes, origin.limits)?;
        if !self.view.pools.contains_key(&key.0) {
            // Its change is published with its pool.
            return Ok(());
        }
        let health = self.own_health(&key.0, health, step);
        let previous_origin = previous_origin(&peer, kind);
        step.emit(Mirrored::Peer { peer, kind, previous: status, previous_origin, health });
        Ok(())
    }

    pub(super) fn peer_state(
        &mut self,
        key: PeerKey,
        mut peer: PeerState,
        origin: Origin,
        step: &mut Step,
    ) -> Result<(), Skipped> {
        let is_committed = self.is_committed(origin.epoch);
        if is_committed {
            self.advance_alone(origin.revision, origin.revision > self.view.revision, step);
        }
        if !is_committed || !self.view.listed.contains(&key.0) {
            peer.revision = step.revision;
            let Origin { revision, bytes, limits, .. } = origin;
            let put = |staged: &mut View| staged.put(key, Arc::new(peer), revision, bytes, limits);
            return Ok(self.stage(origin.epoch, step, put)?);
        }
        let has_pool = self.view.pools.contains_key(&key.0);
        let before = self.view.peer(&key).map(|known| (Arc::clone(&known.state), known.revision));
        if before.as_ref().is_some_and(|(_, revision)| *revision > origin.revision) {
            return Ok(());
        }
        let before = before.map(|(state, _)| state);
        let difference = difference(before.as_deref(), &peer);
        peer.revision = match (&before, difference) {
            (Some(before), None) => before.revision,
            _ => step.revision,
        };
        let peer = Arc::new(peer);
        self.view.put(key, Arc::clone(&peer), origin.revision, origin.bytes, origin.limits)?;
        if has_pool {
            self.emit_difference(before.as_deref(), peer, difference, step);
        }
        Ok(())
    }

    pub(super) fn pool_state(
        &mut self,
        pool: &str,
        published: &pb::Pool,
        origin: Origin,
        step: &mut Step,
    ) -> Result<(), Skipped> {
        let mut state = parse::pool(&self.name, pool, published)?;
        if self.is_committed(origin.epoch) {
            self.advance_alone(origin.revision, origin.revision > self.view.revision, step);
        }
        state.revision = step.revision;
        let state = Arc::new(state);
        // A pool that a running process adds is listed by the commit that follows.
        if !self.is_committed(origin.epoch) || !self.view.listed.contains(&state.name) {
            let put = |staged: &mut View| staged.put_pool(state, origin.bytes, origin.limits);
            return Ok(self.stage(origin.epoch, step, put)?);
        }
        let is_new = !self.view.pools.contains_key(&state.name);
        self.view.put_pool(Arc::clone(&state), origin.bytes, origin.limits)?;
        if state.health == PoolHealth::Unknown {
            self.view.note_unknown(&state.name);
        }
        if let Some(shown) = self.view.shown_pool(&state.name) {
            step.apply(Mirrored::PoolState(shown));
        }
        if is_new {
            self.show_peers_of(&state.name, step);
            let pools = self.view.pools.keys().cloned().collect();
            self.change_node(step, |state| state.pools = pools);
        }
        Ok(())
    }

    /// Adds the pools that the commit lists and that were published before it.
    pub(super) fn add_pools(&mut self, new: View, limits: NodeLimits, step: &mut Step) {
        for pool in self.view.adopt(new, limits) {
            if let Some(shown) = self.view.shown_pool(&pool) {
                step.apply(Mirrored::PoolState(shown));
            }
            self.show_peers_of(&pool, step);
        }
    }

    /// A pool is there now, and with it its peers.
    fn show_peers_of(&mut self, pool: &Arc<str>, step: &mut Step) {
        let peers = self.view.peers.iter().filter(|((of, _), _)| of == pool);
        for peer in peers.map(|(_, known)| Arc::clone(&known.state)).collect::<Vec<_>>() {
            self.emit_difference(None, peer, Some(ChangeKind::Added), step);
        }
        if let Some(known) = self.view.pools.get_mut(pool) {
            // Without peers, no change carries it.
            known.sent = Some(known.state.health);
        }
    }

    /// A process that was replaced goes on.
    pub(super) fn conflict(&mut self, step: &mut Step) {
        self.conflict_at = Some(step.stored);
        self.change_node(step, |state| state.has_conflict = true);
    }

    /// Puts what another process has published in the place of the state.
    pub(super) fn replace(&mut self, new: View, listed: &BTreeSet<Arc<str>>, step: &mut Step) {
        let mut old = std::mem::replace(&mut self.view, new);
        if self.state.is_some() {
            self.replaced.push_back(old.epoch);
            if self.replaced.len() > MAX_REPLACED {
                self.replaced.pop_front();
            }
        }
        for (name, known) in &mut self.view.pools {
            if let Some(before) = old.pools.get(name) {
                (known.sent, known.is_outdated) = (before.sent, before.is_outdated);
            }
            if listed.contains(name) {
                step.apply(Mirrored::PoolState(Arc::clone(&known.state)));
            }
        }
        let is_left = |key: &PeerKey, view: &View| !view.peers.contains_key(key);
        let left: Vec<_> = old.peers.keys().filter(|key| is_left(key, &self.view)).cloned().collect();
        for key in left {
            if let Some(known) = old.remove(&key) {
                self.emit_removed(&known.state, step);
            }
        }
        for pool in old.pools.keys().filter(|pool| !self.view.pools.contains_key(*pool)) {
            step.apply(Mirrored::PoolRemoved(Arc::clone(pool)));
        }
        let keys: Vec<_> = self.view.peers.keys().cloned().collect();
        for key in keys {
            if !listed.contains(&key.0) {
                self.view.remove(&key);
            }
            if !listed.contains(&key.0) || !self.view.pools.contains_key(&key.0) {
                // The change of a peer whose pool is listed is published with the pool, whose record follows.
                if let Some(known) = old.remove(&key) {
                    self.emit_removed(&known.state, step);
                }
                continue;
            }
            let Some(known) = self.view.peers.get_mut(&key) else { continue };
            let before = old.peer(&key).map(|known| &*known.state);
            let difference = difference(before, &known.state);
            let revision = match (before, difference) {
                (Some(before), None) => before.revision,
                _ => step.revision,
            };
            Arc::make_mut(&mut known.state).revision = revision;
            let state = Arc::clone(&known.state);
            self.emit_difference(before, state, difference, step);
        }
    }

    pub(super) fn remove_pool(&mut self, pool: &Arc<str>, step: &mut Step) {
        for peer in self.view.remove_pool(pool) {
            self.emit_removed(&peer, step);
        }
    }

    /// A peer left, and its node did not say so.
    pub(super) fn emit_removed(&mut self, peer: &PeerState, step: &mut Step) {
        let last = PeerState { status: PeerStatus::Disconnected, revision: step.revision, ..peer.clone() };
        let health = self.other_health(&peer.pool, step);
        step.emit(Mirrored::PeerRemoved { peer: Arc::new(last), previous: Some(peer.status), health });
    }

    fn emit_difference(
        &mut self,
        before: Option<&PeerState>,
        peer: Arc<PeerState>,
        difference: Option<ChangeKind>,
        step: &mut Step,
    ) {
        let Some(kind) = difference else {
            step.apply(Mirrored::PeerState(peer));
            return;
        };
        let (previous, previous_origin) = before.map(|before| (before.status, before.origin)).unzip();
        let health = self.other_health(&peer.pool, step);
        step.emit(Mirrored::Peer { peer, kind, previous, previous_origin, health });
    }
}

/// Whether a record has all changes up to its revision: behind later ones it would take them back.
pub(super) const fn is_state(content: &Content) -> bool {
    matches!(content, Content::State(_) | Content::Pool(_) | Content::Commit { .. })
}

/// The kind of the change between two states of a peer.
fn difference(before: Option<&PeerState>, after: &PeerState) -> Option<ChangeKind> {
    let Some(before) = before else { return Some(ChangeKind::Added) };
    if (before.status, before.reason) != (after.status, after.reason) {
        return Some(ChangeKind::Status);
    }
    (before.origin != after.origin).then_some(ChangeKind::Origin)
}

/// A record does not say it, but there are only two.
const fn previous_origin(peer: &PeerState, kind: ChangeKind) -> Option<PeerOrigin> {
    match (kind, peer.origin) {
        (ChangeKind::Added, _) => None,
        (ChangeKind::Origin, PeerOrigin::Learned) => Some(PeerOrigin::Configured),
        (ChangeKind::Origin, PeerOrigin::Configured) => Some(PeerOrigin::Learned),
        (_, origin) => Some(origin),
    }
}
