//! Logs the transitions of the peers of a pool, the changes of its health, and warnings about its peers, rate-limited.

use std::{sync::Arc, time::Instant};

use tracing::{field::display, info, warn};

use super::log_limiter::{LogBudget, LogLimiter};
use crate::{
    peer::{PeerAddress, PoolHealth},
    status::{ChangeKind, Event, HealthChange},
};

#[derive(Debug)]
pub(super) struct TransitionLog {
    pool: Arc<str>,
    peers: LogLimiter<Topic, Line>,
    /// No peer can suppress these, so they need no limit for all pools.
    health: LogLimiter<(), Arc<Event>>,
}

/// A topic with a rate limit of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Topic {
    Changes(PeerAddress),
    Warnings(PeerAddress),
}

#[derive(Clone, Debug)]
enum Line {
    Change(Arc<Event>),
    Warning(String),
}

impl TransitionLog {
    pub(super) fn new(pool: Arc<str>, budget: LogBudget) -> Self {
        Self { pool, peers: LogLimiter::new(budget), health: LogLimiter::new(LogBudget::default()) }
    }

    /// Logs a published change, or suppresses it for now.
    pub(super) fn note(&mut self, event: &Arc<Event>, now: Instant) {
        if let Some(change) = &event.peer {
            let topic = Topic::Changes(change.peer.address.clone());
            self.offer(topic, Line::Change(Arc::clone(event)), now);
        }
        if event.health.is_some()
            && let Some(event) = self.health.offer((), Arc::clone(event), now)
        {
            log_health(&event, 0);
        }
    }

    /// Logs a warning about a peer, or suppresses it for now.
    pub(super) fn warn(&mut self, peer: PeerAddress, text: String, now: Instant) {
        self.offer(Topic::Warnings(peer), Line::Warning(text), now);
    }

    fn offer(&mut self, topic: Topic, line: Line, now: Instant) {
        if let Some(line) = self.peers.offer(topic.clone(), line, now) {
            self.log(&topic, &line, 0);
        }
    }

    /// When a suppressed line is to be logged.
    pub(super) fn due(&self) -> Option<Instant> {
        self.peers.due().into_iter().chain(self.health.due()).min()
    }

    /// Logs the suppressed lines that are due.
    pub(super) fn catch_up(&mut self, now: Instant) {
        while let Some((topic, line, suppressed)) = self.peers.take_due(now) {
            self.log(&topic, &line, suppressed);
        }
        while let Some(((), event, suppressed)) = self.health.take_due(now) {
            log_health(&event, suppressed);
        }
    }

    fn log(&self, topic: &Topic, line: &Line, suppressed: u64) {
        let (Topic::Changes(peer) | Topic::Warnings(peer)) = topic;
        match line {
            Line::Change(event) => log_peer(event, some(suppressed)),
            Line::Warning(text) => warn!(pool = %self.pool, %peer, suppressed = some(suppressed), "{text}"),
        }
    }
}

/// `None` for zero, so that the field is left out.
const fn some(suppressed: u64) -> Option<u64> {
    if suppressed > 0 { Some(suppressed) } else { None }
}

fn log_peer(event: &Event, suppressed: Option<u64>) {
    let Some(change) = &event.peer else { return };
    let peer = &change.peer;
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

fn log_health(event: &Event, suppressed: u64) {
    let suppressed = some(suppressed);
    let (Some(HealthChange { previous, health, ready, wanted }), Some(change)) = (event.health, &event.peer)
    else {
        return;
    };
    let (pool, cause, revision) = (&change.peer.pool, &change.peer.address, event.revision);
    // A pool that was unknown and is DOWN may have been better.
    if health < previous || (previous, health) == (PoolHealth::Unknown, PoolHealth::Down) {
        warn!(%pool, from = %previous, to = %health, ready, peers = wanted, %cause, revision, suppressed, "pool health");
    } else {
        info!(%pool, from = %previous, to = %health, ready, peers = wanted, %cause, revision, suppressed, "pool health");
    }
}
