//! What is logged of a pool: each transition of a peer, and each change of the pool's health, in the words of the API.
//! What keeps changing is logged now and then.

use std::{sync::Arc, time::Instant};

use tracing::{info, warn};

use super::log_limiter::{Limiter, Verdict};
use crate::{
    peer::PeerAddress,
    status::{ChangeKind, Event, HealthChange},
};

/// What is logged of one pool.
#[derive(Debug, Default)]
pub(super) struct TransitionLog {
    peers: Limiter<PeerAddress, Arc<Event>>,
    health: Limiter<(), (Arc<Event>, HealthChange)>,
}

impl TransitionLog {
    /// A change was published.
    pub(super) fn note(&mut self, event: &Arc<Event>, now: Instant) {
        let address = event.peer.peer.address.clone();
        if let Verdict::Say(event, suppressed) = self.peers.offer(address, Arc::clone(event), now) {
            tell_peer(&event, suppressed);
        }
        if let Some(change) = event.health
            && let Verdict::Say((event, change), suppressed) =
                self.health.offer((), (Arc::clone(event), change), now)
        {
            tell_health(&event, change, suppressed);
        }
    }

    /// When something that was held back is to be logged.
    pub(super) fn due(&self) -> Option<Instant> {
        self.peers.due().into_iter().chain(self.health.due()).min()
    }

    /// Logs what was held back, and is due.
    pub(super) fn catch_up(&mut self, now: Instant) {
        while let Some((event, suppressed)) = self.peers.take_due(now) {
            tell_peer(&event, suppressed);
        }
        while let Some(((event, change), suppressed)) = self.health.take_due(now) {
            tell_health(&event, change, suppressed);
        }
    }
}

fn tell_peer(event: &Event, suppressed: u64) {
    let (change, peer) = (&event.peer, &event.peer.peer);
    let from = change.previous.map(tracing::field::display);
    let detail = (!peer.detail.is_empty()).then_some(&*peer.detail);
    let health = event.health.map(|health| tracing::field::display(health.health));
    let suppressed = (suppressed > 0).then_some(suppressed);
    let what = match change.kind {
        ChangeKind::Added => "peer added",
        ChangeKind::Status => "peer status",
        ChangeKind::Removed => "peer removed",
        ChangeKind::Origin => "peer origin",
    };
    info!(
        pool = %peer.pool,
        peer = %peer.address,
        from,
        to = %peer.status,
        reason = %peer.reason,
        detail,
        origin = %peer.origin,
        health,
        revision = event.revision,
        suppressed,
        "{what}"
    );
}

fn tell_health(event: &Event, change: HealthChange, suppressed: u64) {
    let HealthChange { previous, health, ready, wanted } = change;
    let (pool, cause) = (&event.peer.peer.pool, &event.peer.peer.address);
    let (revision, suppressed) = (event.revision, (suppressed > 0).then_some(suppressed));
    if health < previous {
        warn!(%pool, from = %previous, to = %health, ready, peers = wanted, %cause, revision, suppressed, "pool health");
    } else {
        info!(%pool, from = %previous, to = %health, ready, peers = wanted, %cause, revision, suppressed, "pool health");
    }
}
