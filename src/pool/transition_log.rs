//! Logs the transitions of the peers of a pool and the changes of its health, rate-limited per peer.

use std::{sync::Arc, time::Instant};

use tracing::{field::display, info, warn};

use super::log_limiter::LogLimiter;
use crate::{
    peer::PeerAddress,
    status::{ChangeKind, Event, HealthChange},
};

#[derive(Debug, Default)]
pub(super) struct TransitionLog(LogLimiter<Topic, Arc<Event>>);

/// A topic with a rate limit of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Topic {
    Peer(PeerAddress),
    Health,
}

impl TransitionLog {
    /// Logs a published change, or suppresses it for now.
    pub(super) fn note(&mut self, event: &Arc<Event>, now: Instant) {
        let peer = Topic::Peer(event.peer.peer.address.clone());
        for topic in [Some(peer), event.health.map(|_| Topic::Health)].into_iter().flatten() {
            if let Some(event) = self.0.offer(topic.clone(), Arc::clone(event), now) {
                log(&topic, &event, 0);
            }
        }
    }

    /// When a suppressed change is to be logged.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.due()
    }

    /// Logs the suppressed changes that are due.
    pub(super) fn catch_up(&mut self, now: Instant) {
        while let Some((topic, event, suppressed)) = self.0.take_due(now) {
            log(&topic, &event, suppressed);
        }
    }
}

fn log(topic: &Topic, event: &Event, suppressed: u64) {
    let suppressed = (suppressed > 0).then_some(suppressed);
    match topic {
        Topic::Peer(_) => log_peer(event, suppressed),
        Topic::Health => log_health(event, suppressed),
    }
}

fn log_peer(event: &Event, suppressed: Option<u64>) {
    let (change, peer) = (&event.peer, &event.peer.peer);
    let from = change.previous.map(display);
    let detail = (!peer.detail.is_empty()).then_some(&*peer.detail);
    let health = event.health.map(|health| display(health.health));
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

fn log_health(event: &Event, suppressed: Option<u64>) {
    let Some(HealthChange { previous, health, ready, wanted }) = event.health else { return };
    let (pool, cause, revision) = (&event.peer.peer.pool, &event.peer.peer.address, event.revision);
    if health < previous {
        warn!(%pool, from = %previous, to = %health, ready, peers = wanted, %cause, revision, suppressed, "pool health");
    } else {
        info!(%pool, from = %previous, to = %health, ready, peers = wanted, %cause, revision, suppressed, "pool health");
    }
}
