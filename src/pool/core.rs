//! A pool as a value: events in, effects out. No task, no clock and no socket, so that the simulation drives the
//! same code as the owner task.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{
    admission::LearnRules,
    command::{PoolError, Request, Reset},
    effect::{Effect, Effects},
    membership::Membership,
    rediscovery::{self, Rediscovery},
    restart_backoff::RestartBackoff,
    session::SessionEventKind,
};
use crate::{
    opflex::{ElementMode, Proxies},
    peer::{BackoffCaps, PeerAddress, PeerStatus},
    status::Update,
};

/// Redials per second that a pool of dead peers may make: the cap of its backoff follows from it.
const REDIALS_PER_SECOND: u64 = 200;
/// Bounds of that cap, in milliseconds.
const BACKOFF_CAP_MS: std::ops::RangeInclusive<u64> = 1_000..=30_000;
/// The cap after a lookup that failed, in milliseconds, for each name in the pool. Pauses are half of it on average, so a
/// pool of names that do not exist makes less than one lookup a second, and seldom more.
const LOOKUP_CAP_MS: u64 = 3_000;
/// Upper bound of that cap, in milliseconds: how long a peer may wait when name servers are back.
const MAX_LOOKUP_CAP_MS: u64 = 60_000;

/// A fact.
#[derive(Debug)]
pub(super) enum PoolEvent {
    /// The session of a peer reports. The owner drops reports of those that were stopped.
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
    pub(super) rules: LearnRules,
}

/// Decides which peers belong to the pool, which sessions run, and what is published.
#[derive(Debug)]
pub(super) struct PoolCore {
    settings: Settings,
    membership: Membership,
    ready: HashSet<PeerAddress>,
    /// Learned peers that failed so often that they may have successors.
    failing: HashSet<PeerAddress>,
    restarts: RestartBackoff,
    /// As the newest answer has it, or the configuration.
    location: Option<String>,
    /// The first that a peer named, in transport mode.
    proxies: Option<Proxies>,
    rediscovery: Rediscovery,
    random: fastrand::Rng,
}

impl PoolCore {
    /// A pool without peers. The seed decides the pauses of restarts.
    pub(super) fn new(settings: Settings, now: Instant, seed: u64) -> Self {
        let mut rediscovery = Rediscovery::new(settings.rediscovery_interval);
        rediscovery.update(false, true, now);
        Self {
            membership: Membership::new(settings.mode, settings.peer_limit, settings.rules.clone()),
            ready: HashSet::new(),
            failing: HashSet::new(),
            restarts: RestartBackoff::default(),
            location: settings.location.clone(),
            proxies: None,
            rediscovery,
            random: fastrand::Rng::with_seed(seed),
            settings,
        }
    }

    /// Returns what has to be done, in this order.
    pub(super) fn handle(&mut self, event: PoolEvent, now: Instant) -> Vec<Effect> {
        let mut effects = Effects::default();
        let was_recovered = self.is_recovered();
        match event {
            PoolEvent::Session(address, kind) => self.handle_session(&address, kind, now, &mut effects),
            PoolEvent::Request(request) => self.handle_request(request, now, &mut effects),
            PoolEvent::DeadlinePassed => {}
            PoolEvent::Stopping => self.membership.stop_all(&mut effects),
        }
        self.membership.take_up(now, &mut effects);
        self.track(&effects, now);
        if self.rediscovery.take_due(now) {
            self.membership.ask_parked(&mut effects);
        } else if self.is_recovered() && !was_recovered {
            self.membership.park_asked(&mut effects);
        }
        for action in &mut effects.actions {
            if let Effect::Start(address, pause, _) = action {
                *pause = self.restarts.pause(address, now, self.random.u64(..));
            }
        }
        effects.into_vec()
    }

    /// When to call `handle` with [`PoolEvent::DeadlinePassed`].
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.rediscovery.next_deadline().into_iter().chain(self.membership.next_deadline()).min()
    }

    pub(super) const fn mode(&self) -> ElementMode {
        self.settings.mode
    }

    /// How many peers the pool has, parked ones included.
    pub(super) fn len(&self) -> usize {
        self.membership.len()
    }

    /// Longest pauses of a session between two attempts.
    pub(super) fn backoff_caps(&self) -> BackoffCaps {
        let count = |peers| u64::try_from(peers).unwrap_or(u64::MAX);
        let dial = count(self.len()).saturating_mul(1_000) / REDIALS_PER_SECOND;
        let lookup = count(self.membership.names()).saturating_mul(LOOKUP_CAP_MS).min(MAX_LOOKUP_CAP_MS);
        BackoffCaps {
            dial: Duration::from_millis(dial.clamp(*BACKOFF_CAP_MS.start(), *BACKOFF_CAP_MS.end())),
            lookup: Duration::from_millis(lookup),
        }
    }

    fn handle_session(
        &mut self,
        address: &PeerAddress,
        kind: SessionEventKind,
        now: Instant,
        effects: &mut Effects,
    ) {
        match kind {
            SessionEventKind::Status(report) => effects.publish(address.clone(), Update::Status(report)),
            SessionEventKind::EchoRtt(rtt) => effects.publish(address.clone(), Update::Echo(rtt)),
            SessionEventKind::Warning(text) => effects.actions.push(Effect::Warn(address.clone(), text)),
            SessionEventKind::Identified { location, proxies, roles, peers, ready } => {
                let proxies = proxies.filter(|_| self.settings.mode == ElementMode::Transport);
                let location = location.or_else(|| self.location.clone());
                self.set_identity(location, self.proxies.or(proxies), effects);
                self.membership.identified(address, roles, peers, ready, now, effects);
            }
        }
    }

    fn handle_request(&mut self, request: Request, now: Instant, effects: &mut Effects) {
        let decided = match request {
            Request::Add(address) => self.membership.add(address, effects),
            Request::Remove(address) => self.membership.remove(address, effects),
            Request::Reset(Reset::Named(names)) => self.membership.reset_named(&names, effects),
            Request::Reset(reset) => {
                self.restarts.forget();
                self.set_identity(self.settings.location.clone(), None, effects);
                self.membership.reset(reset == Reset::All, &self.ready, now, effects);
                Ok(())
            }
            Request::SetLimit(limit) => {
                self.membership.set_limit(limit);
                Ok(())
            }
        };
        let touched: Result<usize, PoolError> = decided.map(|()| effects.closed());
        effects.actions.push(Effect::Reply(touched));
    }

    fn set_identity(&mut self, location: Option<String>, proxies: Option<Proxies>, effects: &mut Effects) {
        if (&location, proxies) != (&self.location, self.proxies) {
            (self.location, self.proxies) = (location.clone(), proxies);
            effects.actions.push(Effect::SetIdentity(location, proxies));
        }
    }

    /// Whether a peer is READY and no learned one keeps failing: parked addresses need not be asked.
    fn is_recovered(&self) -> bool {
        self.failing.is_empty() && !self.ready.is_empty()
    }

    /// Follows from what is published which peers are READY, and which learned ones keep failing.
    fn track(&mut self, effects: &Effects, now: Instant) {
        for (address, update) in &effects.updates {
            let report = match update {
                Update::Status(report) => Some(report),
                Update::Removed => None,
                _ => continue,
            };
            if report.is_some_and(|report| report.status == PeerStatus::Ready) {
                self.ready.insert(address.clone());
            } else {
                self.ready.remove(address);
            }
            let fails = report.is_some_and(|report| report.failures >= rediscovery::FAILURES);
            if !fails || !self.membership.is_learned(address) {
                self.failing.remove(address);
            } else if self.failing.insert(address.clone()) {
                self.rediscovery.start(now);
            }
        }
        self.rediscovery.update(!self.failing.is_empty(), self.ready.is_empty(), now);
    }
}
