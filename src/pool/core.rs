//! A pool as a value: events in, effects out. No task, no clock and no socket, so that the simulation drives the
//! same code as the owner task.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{
    command::{PoolError, Request, Reset},
    effect::{Effect, Effects},
    membership::Membership,
    restart_backoff::RestartBackoff,
    session::SessionEventKind,
};
use crate::{
    opflex::{ElementMode, Proxies},
    peer::{PeerAddress, PeerStatus, Report},
    status::Update,
};

/// Redials per second that a pool of dead peers may make: the cap of its backoff follows from it.
const REDIALS_PER_SECOND: u64 = 200;
/// Bounds of that cap, in milliseconds.
const BACKOFF_CAP_MS: std::ops::RangeInclusive<u64> = 1_000..=30_000;

/// A fact.
#[derive(Debug)]
pub(super) enum PoolEvent {
    /// The session or the probe of a peer reports. The owner drops reports of those that were stopped.
    Session(PeerAddress, SessionEventKind),
    /// A client or the configuration asks for something.
    Request(Request),
    /// The moment that [`PoolCore::next_deadline`] named has come.
    DeadlinePassed,
    /// The service stops.
    Stopping,
}

/// How a pool is configured, as far as its decisions depend on it.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) mode: ElementMode,
    /// How many peers it may have, learned and parked ones included.
    pub(super) peer_limit: usize,
    pub(super) location: Option<String>,
    /// How long the pool may be without a READY peer before parked addresses are asked again.
    pub(super) rediscovery_interval: Duration,
}

/// Decides which peers belong to the pool, which sessions run, and what is published.
#[derive(Debug)]
pub(super) struct PoolCore {
    settings: Settings,
    membership: Membership,
    ready: HashSet<PeerAddress>,
    restarts: RestartBackoff,
    /// As the newest answer has it, or the configuration.
    location: Option<String>,
    /// The first that a peer named, in transport mode.
    proxies: Option<Proxies>,
    /// When parked addresses are asked again. `None` while a peer is READY.
    rediscover_at: Option<Instant>,
    random: fastrand::Rng,
}

impl PoolCore {
    /// A pool without peers. The seed decides the pauses of restarts.
    pub(super) fn new(settings: Settings, now: Instant, seed: u64) -> Self {
        Self {
            membership: Membership::new(settings.mode, settings.peer_limit),
            ready: HashSet::new(),
            restarts: RestartBackoff::default(),
            location: settings.location.clone(),
            proxies: None,
            rediscover_at: Some(now + settings.rediscovery_interval),
            random: fastrand::Rng::with_seed(seed),
            settings,
        }
    }

    /// Returns what has to be done, in this order.
    pub(super) fn handle(&mut self, event: PoolEvent, now: Instant) -> Vec<Effect> {
        let mut effects = Effects::default();
        match event {
            PoolEvent::Session(address, kind) => self.handle_session(&address, kind, &mut effects),
            PoolEvent::Request(request) => self.handle_request(request, &mut effects),
            PoolEvent::DeadlinePassed => {
                if self.rediscover_at.is_some_and(|due| due <= now) {
                    self.rediscover_at = None;
                    self.membership.unpark(None, &mut effects);
                }
            }
            PoolEvent::Stopping => self.membership.stop_all(&mut effects),
        }
        self.note(&mut effects, now);
        effects.0
    }

    /// When to call `handle` with [`PoolEvent::DeadlinePassed`].
    pub(super) const fn next_deadline(&self) -> Option<Instant> {
        self.rediscover_at
    }

    pub(super) const fn mode(&self) -> ElementMode {
        self.settings.mode
    }

    /// How many peers the pool has, parked ones included.
    pub(super) fn len(&self) -> usize {
        self.membership.len()
    }

    /// Longest pause of a session between two attempts.
    pub(super) fn backoff_cap(&self) -> Duration {
        let peers = u64::try_from(self.len()).unwrap_or(u64::MAX);
        let cap = peers.saturating_mul(1_000) / REDIALS_PER_SECOND;
        Duration::from_millis(cap.clamp(*BACKOFF_CAP_MS.start(), *BACKOFF_CAP_MS.end()))
    }

    fn handle_session(&mut self, address: &PeerAddress, kind: SessionEventKind, effects: &mut Effects) {
        match kind {
            SessionEventKind::Status(report) => {
                let failures = if report.status == PeerStatus::Connecting { report.failures } else { 0 };
                effects.publish(address.clone(), Update::Status(report));
                self.membership.failed(address, failures, effects);
            }
            SessionEventKind::Answers => self.membership.answered(address, effects),
            SessionEventKind::Identified { location, proxies, roles, peers } => {
                let proxies = proxies.filter(|_| self.settings.mode == ElementMode::Transport);
                let location = location.or_else(|| self.location.clone());
                self.set_identity(location, self.proxies.or(proxies), effects);
                self.membership.identified(address, roles, peers, effects);
            }
        }
    }

    fn handle_request(&mut self, request: Request, effects: &mut Effects) {
        let decided = match request {
            Request::Add(address) => self.membership.add(address, effects),
            Request::Remove(address) => self.membership.remove(address, effects),
            Request::Reset(Reset::Named(names)) => self.membership.reset_named(&names, effects),
            Request::Reset(reset) => {
                self.restarts.forget();
                self.set_identity(self.settings.location.clone(), None, effects);
                self.membership.reset(reset == Reset::All, effects);
                Ok(())
            }
            Request::SetLimit(limit) => {
                self.membership.set_limit(limit);
                Ok(())
            }
        };
        let touched: Result<usize, PoolError> = decided.map(|()| effects.closed());
        effects.0.push(Effect::Reply(touched));
    }

    fn set_identity(&mut self, location: Option<String>, proxies: Option<Proxies>, effects: &mut Effects) {
        if (&location, proxies) != (&self.location, self.proxies) {
            (self.location, self.proxies) = (location.clone(), proxies);
            effects.0.push(Effect::SetIdentity(location, proxies));
        }
    }

    /// Follows which peers are READY and which sessions start, whatever the reason was.
    fn note(&mut self, effects: &mut Effects, now: Instant) {
        for effect in &mut effects.0 {
            match effect {
                Effect::Publish(address, Update::Status(Report { status: PeerStatus::Ready, .. })) => {
                    self.ready.insert(address.clone());
                }
                Effect::Publish(address, Update::Status(_) | Update::Removed) => {
                    self.ready.remove(address);
                }
                Effect::Start(address, pause) => {
                    *pause = self.restarts.pause(address, now, self.random.u64(..));
                }
                _ => {}
            }
        }
        let due = self.rediscover_at.unwrap_or(now + self.settings.rediscovery_interval);
        self.rediscover_at = self.ready.is_empty().then_some(due);
    }
}
