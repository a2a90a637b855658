//! The state of one pool and its peers.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use super::Update;
use crate::{
    opflex::Roles,
    peer::{Evidence, NewestFlaps, PeerAddress, PeerOrigin, PeerStatus, PoolHealth, Reason, Report},
    status::{
        ChangeKind, Event, Failure, FailureCounts, HealthChange, ObservedPeer, PeerChange, PeerState,
        PoolState,
    },
};

/// A pool and its peers.
pub(super) struct Pool {
    pub(super) state: Arc<PoolState>,
    /// Nothing is seen of the agent.
    pub(super) is_blind: bool,
    pub(super) peers: BTreeMap<PeerAddress, Arc<PeerState>>,
}

/// How many peers are wanted, and of those READY or unknown, and how many are parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::status) struct Counts {
    pub(in crate::status) wanted: u32,
    pub(in crate::status) ready: u32,
    pub(in crate::status) unknown: u32,
    pub(in crate::status) parked: u32,
}

/// The health of a pool with peers in these statuses.
pub(crate) fn health_of(statuses: impl Iterator<Item = PeerStatus>) -> PoolHealth {
    let all = statuses
        .fold(Counts::default(), |all, status| all.moved(Counts::default(), Counts::of(Some(status))));
    all.health()
}

impl Counts {
    /// What a peer in this status adds; `None`: it is not in the pool.
    pub(in crate::status) fn of(status: Option<PeerStatus>) -> Self {
        let is = |known| u32::from(status == Some(known));
        Self {
            wanted: u32::from(status.is_some_and(PeerStatus::is_wanted)),
            ready: is(PeerStatus::Ready),
            unknown: is(PeerStatus::Unknown),
            parked: is(PeerStatus::Disconnected),
        }
    }

    /// With peers that are unknown, the health is known only if it is the same whatever they are: DEGRADED, where one
    /// peer is READY and another one is known not to be.
    pub(in crate::status) const fn health(self) -> PoolHealth {
        let missing = self.wanted.saturating_sub(self.ready).saturating_sub(self.unknown);
        match (self.ready, missing, self.unknown) {
            (1.., 1.., _) => PoolHealth::Degraded,
            (_, _, 1..) => PoolHealth::Unknown,
            (0, _, 0) => PoolHealth::Down,
            (1.., 0, 0) => PoolHealth::Healthy,
        }
    }

    pub(in crate::status) fn moved(self, before: Self, after: Self) -> Self {
        let count = |all: u32, before, after| all.saturating_sub(before).saturating_add(after);
        Self {
            wanted: count(self.wanted, before.wanted, after.wanted),
            ready: count(self.ready, before.ready, after.ready),
            unknown: count(self.unknown, before.unknown, after.unknown),
            parked: count(self.parked, before.parked, after.parked),
        }
    }
}

impl Pool {
    pub(super) fn new(state: PoolState) -> Self {
        Self { state: Arc::new(state), is_blind: false, peers: BTreeMap::new() }
    }

    /// Applies updates in one step. Returns the changes among them, the first of which gets this revision.
    pub(super) fn apply(
        &mut self,
        updates: impl IntoIterator<Item = (PeerAddress, Update)>,
        at: SystemTime,
        revision: u64,
    ) -> Vec<Arc<Event>> {
        let mut counts = self.counts();
        let mut changes = Vec::new();
        for (address, update) in updates {
            let revision = revision + changes.len() as u64;
            let Some(change) = self.update(address, update, at, revision) else { continue };
            let after = (change.kind != ChangeKind::Removed).then_some(change.peer.status);
            counts = counts.moved(Counts::of(change.previous), Counts::of(after));
            changes.push((change, counts));
        }
        let (previous, health) = (self.state.health, self.health(counts));
        // The change with which the pool takes its new health and keeps it to the end of the step.
        let keeps = changes.iter().rev().take_while(|(_, counts)| self.health(*counts) == health).count();
        let cause = (previous != health).then(|| changes.len() - keeps);
        if let Some((newest, _)) = changes.last() {
            self.set_state(counts, at, newest.peer.revision);
        }
        let event = |(index, (peer, counts)): (usize, (PeerChange, Counts))| {
            let Counts { wanted, ready, .. } = counts;
            let health = (Some(index) == cause).then_some(HealthChange { previous, health, ready, wanted });
            let revision = revision + index as u64;
            let attachment = Default::default();
            Arc::new(Event { revision, time: at, peer: Some(peer), health, node: None, attachment })
        };
        changes.into_iter().enumerate().map(event).collect()
    }

    /// Applies one update to its peer. Returns the change, if it was one.
    fn update(
        &mut self,
        address: PeerAddress,
        update: Update,
        at: SystemTime,
        revision: u64,
    ) -> Option<PeerChange> {
        let before = self.peers.get(&address);
        let (previous, previous_origin) = before.map(|peer| (peer.status, peer.origin)).unzip();
        let mut peer = match (&update, before) {
            (Update::Added(origin, _), None) => new_peer(Arc::clone(&self.state.name), address, *origin, at),
            (Update::Observed(..), None) => {
                new_peer(Arc::clone(&self.state.name), address, PeerOrigin::Learned, at)
            }
            (Update::Added(..), Some(_)) | (_, None) => return None,
            (_, Some(before)) => PeerState::clone(before),
        };
        let kind = match update {
            Update::Added(_, by) => {
                peer.learned_from = by;
                Some(ChangeKind::Added)
            }
            Update::Status(report) => apply_report(&mut peer, report, at).then_some(ChangeKind::Status),
            Update::Observed(report, evidence) => {
                let is_change = apply_observed(&mut peer, report, evidence, at);
                if previous.is_none() {
                    Some(ChangeKind::Added)
                } else {
                    is_change.then_some(ChangeKind::Status)
                }
            }
            Update::Socket(socket) => {
                if let Some(observed) = &mut peer.observed {
                    (observed.time, observed.socket) = (observed.time.max(at), socket);
                }
                None
            }
            Update::Origin(origin) => {
                let is_new = std::mem::replace(&mut peer.origin, origin) != origin;
                is_new.then_some(ChangeKind::Origin)
            }
            Update::Listed(by) => {
                peer.learned_from = Some(by);
                None
            }
            Update::Echo(rtt) => {
                peer.echo_rtt = Some(rtt);
                None
            }
            Update::Removed => {
                // The reason stays that for which it closed.
                enter(&mut peer, PeerStatus::Disconnected, at);
                Some(ChangeKind::Removed)
            }
        };
        if kind.is_some() {
            peer.revision = revision;
        }
        let peer = Arc::new(peer);
        if kind == Some(ChangeKind::Removed) {
            self.peers.remove(&peer.address);
        } else {
            self.peers.insert(peer.address.clone(), Arc::clone(&peer));
        }
        Some(PeerChange { peer, kind: kind?, previous, previous_origin })
    }

    pub(super) fn counts(&self) -> Counts {
        let PoolState { wanted, ready, unknown, parked, .. } = *self.state;
        Counts { wanted, ready, unknown, parked }
    }

    pub(super) fn set_sight(&mut self, is_blind: bool, detail: &str, at: SystemTime) {
        self.is_blind = is_blind;
        if *self.state.detail != *detail {
            Arc::make_mut(&mut self.state).detail = Arc::from(detail);
        }
        if is_blind && self.state.wanted == 0 {
            self.enter_health(PoolHealth::Unknown, at);
        }
    }

    /// Whether it has other peers than it had cannot be known without sight.
    const fn health(&self, counts: Counts) -> PoolHealth {
        if self.is_blind && counts.wanted == 0 { PoolHealth::Unknown } else { counts.health() }
    }

    fn set_state(&mut self, counts: Counts, at: SystemTime, revision: u64) {
        let health = self.health(counts);
        let state = Arc::make_mut(&mut self.state);
        (state.wanted, state.ready) = (counts.wanted, counts.ready);
        (state.unknown, state.parked) = (counts.unknown, counts.parked);
        state.revision = revision;
        self.enter_health(health, at);
    }

    fn enter_health(&mut self, health: PoolHealth, at: SystemTime) {
        let state = Arc::make_mut(&mut self.state);
        if state.health != health {
            state.health_since = at;
            state.not_healthy_since = match health {
                PoolHealth::Healthy => None,
                _ => state.not_healthy_since.or(Some(at)),
            };
            state.health = health;
        }
    }
}

fn new_peer(pool: Arc<str>, address: PeerAddress, origin: PeerOrigin, at: SystemTime) -> PeerState {
    PeerState {
        pool,
        address,
        origin,
        status: PeerStatus::Connecting,
        reason: Reason::Added,
        detail: Arc::from(""),
        status_since: at,
        last_ready: None,
        not_ready_since: Some(at),
        consecutive_failures: 0,
        failures: FailureCounts::default(),
        last_failure: None,
        transitions: 0,
        flaps: 0,
        newest_flaps: NewestFlaps::default(),
        roles: Roles::default(),
        learned_from: None,
        echo_rtt: None,
        observed: None,
        revision: 0,
    }
}

/// As [`apply_report`], and counts failures: the observer knows of no attempts.
fn apply_observed(peer: &mut PeerState, report: Report, evidence: Option<Evidence>, at: SystemTime) -> bool {
    let failures = match report.status {
        PeerStatus::Ready => 0,
        _ => peer.consecutive_failures.saturating_add(u32::from(report.reason.is_failure())),
    };
    let is_open = matches!(report.status, PeerStatus::Connected | PeerStatus::Ready);
    let socket =
        peer.observed.as_ref().map(|observed| observed.socket).filter(|_| is_open).unwrap_or_default();
    let is_change = apply_report(peer, Report { failures, ..report }, at);
    peer.observed = Some(Box::new(ObservedPeer { evidence, time: at, socket }));
    is_change
}

/// Returns whether the status or the reason changed.
fn apply_report(peer: &mut PeerState, report: Report, at: SystemTime) -> bool {
    let Report { status, reason, detail, failures, roles } = report;
    let is_change = peer.status != status || peer.reason != reason;
    if reason.is_failure() {
        peer.failures.add(reason);
        peer.last_failure = Some(Failure { reason, detail: Arc::clone(&detail), time: at });
        if peer.status == PeerStatus::Ready {
            peer.flaps += 1;
            peer.newest_flaps.add(at);
        }
    }
    peer.roles = roles.unwrap_or(peer.roles);
    (peer.reason, peer.detail) = (reason, detail);
    // A peer that leaves or is parked keeps its count.
    if !matches!(status, PeerStatus::Closing | PeerStatus::Disconnected) {
        peer.consecutive_failures = failures;
    }
    enter(peer, status, at);
    is_change
}

fn enter(peer: &mut PeerState, status: PeerStatus, at: SystemTime) {
    if peer.status == status {
        return;
    }
    // While it is READY, since when; afterwards, until when.
    if peer.status == PeerStatus::Ready || status == PeerStatus::Ready {
        peer.last_ready = Some(at);
        peer.not_ready_since = (status != PeerStatus::Ready).then_some(at);
    }
    if !matches!(status, PeerStatus::Connected | PeerStatus::Ready) {
        peer.echo_rtt = None;
    }
    if peer.status == PeerStatus::Disconnected {
        // It was parked, on purpose.
        peer.not_ready_since = Some(at);
    }
    peer.status = status;
    peer.status_since = at;
    peer.transitions += 1;
}
