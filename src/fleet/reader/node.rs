//! One node, as the fold of its records. Pure.
//!
//! The node's newest commit says which process its state is of. What another process publishes is kept aside until that
//! one commits, and replaces the state then, in one step. A process that was replaced does not come back: if it goes on
//! to publish, two nodes have one name.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::SystemTime,
};

use self::certainty::Completeness;
use super::{
    parse::{self, Invalid},
    signs_of_life::Receipt,
    view::{Excess, NodeLimits, PeerKey, View},
};
use crate::{
    api::pb,
    fleet::{Content, Header, Topic},
    peer::PeerAddress,
    status::{Liveness, Mirrored, NodeState, fleet_pool},
};

mod certainty;
mod liveness;
mod states;

/// Processes that were replaced and are remembered.
const MAX_REPLACED: usize = 8;
/// Processes that have not committed and are kept aside: one, unless a node is restarted again and again.
const MAX_STAGED: usize = 3;

/// Why a record was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skipped {
    /// Its contents cannot be.
    Invalid,
    /// It is of a pool that the node does not have.
    UnknownPool,
    /// The node has more than it may.
    Excess(Excess),
    /// It is of a process that was replaced.
    Conflict,
}

impl From<Invalid> for Skipped {
    fn from(_: Invalid) -> Self {
        Self::Invalid
    }
}

impl From<Excess> for Skipped {
    fn from(excess: Excess) -> Self {
        Self::Excess(excess)
    }
}

/// What a record comes from, and what it may take.
#[derive(Clone, Copy, Debug)]
struct Origin {
    /// The process.
    epoch: u64,
    /// The revision of the node at which it was so.
    revision: u64,
    /// Its length.
    bytes: usize,
    limits: NodeLimits,
}

/// What one record does.
#[derive(Debug)]
pub(super) struct Step {
    /// The revision of the next effect that is a change.
    pub(super) revision: u64,
    /// When it happened.
    pub(super) at: SystemTime,
    /// When the record was stored.
    pub(super) stored: SystemTime,
    /// `None`: they are not wanted.
    pub(super) effects: Option<Vec<Mirrored>>,
    /// Changes before it are missing.
    pub(super) is_break: bool,
    /// See [`super::Outcome`].
    pub(super) is_uncertain: bool,
    /// The record as a sign of life.
    receipt: Receipt,
}

impl Step {
    /// One that changed nothing yet.
    pub(super) fn new(revision: u64, stored: SystemTime, receipt: Receipt, is_live: bool) -> Self {
        let effects = is_live.then(Vec::new);
        Self { revision, at: stored, stored, effects, is_break: false, is_uncertain: false, receipt }
    }

    /// An effect that makes an event.
    fn emit(&mut self, effect: Mirrored) {
        if let Some(effects) = &mut self.effects {
            effects.push(effect);
        }
        self.revision += 1;
    }

    /// One that makes none.
    fn apply(&mut self, effect: Mirrored) {
        if let Some(effects) = &mut self.effects {
            effects.push(effect);
        }
    }
}

/// A node and what it has published.
#[derive(Debug)]
pub(super) struct Node {
    name: Arc<str>,
    cluster: Arc<str>,
    /// `None` before its first commit.
    state: Option<Arc<NodeState>>,
    /// Of the process that committed last.
    view: View,
    /// Of other processes, which have not committed.
    staged: Vec<View>,
    replaced: VecDeque<u64>,
    /// The process that gave the newest sign of life.
    up: Option<u64>,
    /// The newest sign of life of the process that the state is of; `None`: it was replaced by one of another process.
    last_sign: Option<Receipt>,
    conflict_at: Option<SystemTime>,
    /// Of a snapshot without a sign of life of the process that the state is of.
    is_liveness_unknown: bool,
    completeness: Completeness,
    /// The newest count of its peers that it published, and the revision at which it was so.
    counted: Option<(u64, u32)>,
}

impl Node {
    pub(super) fn new(name: Arc<str>, cluster: Arc<str>) -> Self {
        let (view, staged) = (View::default(), Vec::new());
        let (replaced, up, last_sign, conflict_at) = (VecDeque::new(), None, None, None);
        Self {
            name,
            cluster,
            state: None,
            view,
            staged,
            replaced,
            up,
            last_sign,
            conflict_at,
            is_liveness_unknown: true,
            completeness: Completeness::Complete,
            counted: None,
        }
    }

    /// Whether nothing is known of it.
    pub(super) fn is_gone(&self) -> bool {
        self.is_idle() && self.up.is_none()
    }

    /// Whether it has no state and publishes none now: it gives signs of life alone, or is gone.
    pub(super) fn is_idle(&self) -> bool {
        self.state.is_none() && self.staged.is_empty()
    }

    /// Whether its next commit is to come soon.
    pub(super) fn is_staging(&self) -> bool {
        self.completeness == Completeness::Incomplete
    }

    /// Whether its changes may be others than those that the records before the snapshot led to.
    pub(super) fn is_incomplete(&self) -> bool {
        self.completeness != Completeness::Complete
    }

    /// The newest sign of life of a node that is LIVE.
    pub(super) fn last_sign(&self) -> Option<Receipt> {
        let is_live = self.state.as_ref().is_some_and(|state| state.liveness == Liveness::Live);
        self.last_sign.filter(|_| is_live)
    }

    pub(super) const fn state(&self) -> Option<&Arc<NodeState>> {
        self.state.as_ref()
    }

    /// Applies a record. `bytes`: its length.
    pub(super) fn record(
        &mut self,
        topic: &Topic,
        header: &Header,
        content: &Content,
        bytes: usize,
        limits: NodeLimits,
        step: &mut Step,
    ) -> Result<(), Skipped> {
        let origin = Origin { epoch: header.epoch, revision: header.revision, bytes, limits };
        if self.replaced.contains(&header.epoch) {
            self.conflict(step);
            self.note_other_process(step);
            return Err(Skipped::Conflict);
        }
        let is_live = step.effects.is_some() && self.is_committed(header.epoch);
        if is_live && header.revision < self.view.revision && states::is_state(content) {
            // Stored twice, or after later ones. In that case the node publishes its state again.
            return Ok(());
        }
        match (topic, content) {
            (_, Content::Up(node)) => self.up(node, header, step),
            (_, Content::Commit { node, state }) => return self.commit(node, header, *state, limits, step),
            (Topic::Peer { pool, address }, Content::Change { change, previous }) => {
                let key = self.key(pool.as_str(), address);
                let change = parse::change(&key.0, address, change)?;
                return self.change(key, change, *previous, origin, step);
            }
            (Topic::Peer { pool, address }, Content::State(change)) => {
                let key = self.key(pool.as_str(), address);
                let peer = change.peer.as_ref().and_then(|change| change.peer.as_ref()).ok_or(Invalid)?;
                let peer = parse::peer(&key.0, address, peer)?;
                return self.peer_state(key, peer, origin, step);
            }
            (Topic::Health { pool }, Content::Pool(published)) => {
                return self.pool_state(pool.as_str(), published, origin, step);
            }
            // Records are decoded by their subjects.
            _ => return Err(Skipped::Invalid),
        }
        Ok(())
    }

    /// The last record of a peer is gone.
    pub(super) fn peer_expired(&mut self, pool: &str, address: &PeerAddress, step: &mut Step) {
        let key = self.key(pool, address);
        for staged in &mut self.staged {
            staged.remove(&key);
        }
        self.staged.retain(|staged| !staged.peers.is_empty());
        if let Some(known) = self.view.remove(&key) {
            self.emit_removed(&known.state, step);
        }
    }

    /// The last commit is gone, and so is the node.
    pub(super) fn commit_expired(&mut self, step: &mut Step) {
        self.learn_liveness(step);
        let pools: Vec<_> = self.view.pools.keys().cloned().collect();
        for pool in &pools {
            self.remove_pool(pool, step);
        }
        self.change_node(step, |state| {
            state.liveness = Liveness::Gone;
            state.pools = Arc::default();
        });
        for pool in pools {
            step.apply(Mirrored::PoolRemoved(pool));
        }
        (self.state, self.view) = (None, View::default());
    }

    fn key(&self, pool: &str, address: &PeerAddress) -> PeerKey {
        let name = fleet_pool(&self.name, pool);
        let known = self.view.pools.get_key_value(&*name).map(|(name, _)| Arc::clone(name));
        (known.unwrap_or_else(|| name.into()), address.clone())
    }

    /// Whether the state is of this process.
    fn is_committed(&self, epoch: u64) -> bool {
        self.state.is_some() && self.view.epoch == epoch
    }

    /// Changes what a process has published that has not committed.
    fn stage<R>(&mut self, epoch: u64, step: &Step, change: impl FnOnce(&mut View) -> R) -> R {
        let known = self.staged.iter().position(|staged| staged.epoch == epoch);
        let mut staged =
            known.map_or_else(|| View::new(epoch, step.revision), |index| self.staged.swap_remove(index));
        let result = change(&mut staged);
        staged.last = step.revision;
        if self.staged.len() >= MAX_STAGED {
            self.staged.sort_by_key(|staged| staged.first);
            self.staged.remove(0);
        }
        self.staged.push(staged);
        result
    }

    fn commit(
        &mut self,
        node: &pb::Node,
        header: &Header,
        since: u64,
        limits: NodeLimits,
        step: &mut Step,
    ) -> Result<(), Skipped> {
        let listed: BTreeSet<Arc<str>> =
            node.pools.iter().map(|pool| fleet_pool(&self.name, pool).into()).collect();
        let staged = self.staged.iter().position(|staged| staged.epoch == header.epoch);
        let new = staged.map(|index| self.staged.remove(index));
        let added = if self.is_committed(header.epoch) {
            self.advance(header.revision, header.revision > self.view.revision, step);
            for known in self.view.remove_before(since) {
                self.emit_removed(&known.state, step);
            }
            new
        } else {
            let mut new = new.unwrap_or_else(|| View::new(header.epoch, step.revision));
            new.remove_before(since);
            // What began earlier is of processes that are gone.
            self.staged.retain(|staged| staged.first > new.first);
            self.replace(new, &listed, step);
            None
        };
        self.view.revision = self.view.revision.max(header.revision);
        (self.view.anchor, self.view.last) = (self.view.revision, step.revision);
        self.view.listed = listed;
        let listed = &self.view.listed;
        let gone: Vec<_> = self.view.pools.keys().filter(|pool| !listed.contains(*pool)).cloned().collect();
        for pool in gone {
            self.remove_pool(&pool, step);
            step.apply(Mirrored::PoolRemoved(pool));
        }
        if let Some(mut new) = added {
            new.remove_before(since);
            self.add_pools(new, limits, step);
        }
        // Of pools with peers that were skipped: no change has carried it.
        for known in self.view.pools.values_mut().filter(|known| known.sent != Some(known.state.health)) {
            known.sent = Some(known.state.health);
            step.apply(Mirrored::PoolState(Arc::clone(&known.state)));
        }
        self.committed(node, step);
        Ok(())
    }

    /// Tells what is new of a node whose state was committed.
    fn committed(&mut self, node: &pb::Node, step: &mut Step) {
        if step.effects.is_some() {
            self.learn_liveness(step);
        } else {
            self.is_liveness_unknown = true;
        }
        if step.effects.is_some() || self.up == Some(self.view.epoch) {
            self.last_sign = Some(step.receipt);
        }
        self.completeness = Completeness::Complete;
        self.counted = Some((self.view.revision, node.peer_count));
        let is_short = self.is_short();
        let pools: Arc<[Arc<str>]> = self.view.pools.keys().cloned().collect();
        let (stored, has_break) = (step.stored, step.is_break);
        let update = |state: &mut NodeState| {
            (state.liveness, state.stale_since) = (Liveness::Live, None);
            (state.last_seen, state.own_revision, state.epoch) =
                (stored, self.view.revision, self.view.epoch);
            (state.pools, state.version) = (pools, parse::version(node));
            state.is_incomplete = is_short;
            state.chain_breaks += u64::from(has_break);
        };
        let previous = self.state.as_ref().map(|state| state.liveness);
        let mut state = self.state.as_ref().map_or_else(|| self.new_state(stored), |state| (**state).clone());
        update(&mut state);
        self.set_node(state, previous, step);
    }

    fn new_state(&self, stored: SystemTime) -> NodeState {
        NodeState {
            name: Arc::clone(&self.name),
            cluster: Arc::clone(&self.cluster),
            liveness: Liveness::Live,
            stale_since: None,
            last_seen: stored,
            epoch: 0,
            own_revision: 0,
            pools: Arc::default(),
            version: Arc::from(""),
            chain_breaks: 0,
            has_conflict: false,
            is_incomplete: false,
            revision: 0,
        }
    }

    fn change_node(&mut self, step: &mut Step, change: impl FnOnce(&mut NodeState)) {
        let Some(state) = &self.state else { return };
        let (previous, mut state) = (state.liveness, NodeState::clone(state));
        change(&mut state);
        self.set_node(state, Some(previous), step);
    }

    /// Stores the state. It is a change if more than times and revisions differ, and what other replicas do not know.
    fn set_node(&mut self, mut state: NodeState, previous: Option<Liveness>, step: &mut Step) {
        let is_same = self.state.as_ref().is_some_and(|before| {
            let NodeState { last_seen, own_revision, revision, is_incomplete, .. } = **before;
            NodeState { last_seen, own_revision, revision, is_incomplete, ..state.clone() } == **before
        });
        if is_same {
            let state = Arc::new(state);
            self.state = Some(Arc::clone(&state));
            step.apply(Mirrored::NodeState(state));
            return;
        }
        state.revision = step.revision;
        let state = Arc::new(state);
        self.state = Some(Arc::clone(&state));
        step.emit(Mirrored::Node { node: state, previous });
    }
}
