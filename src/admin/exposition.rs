//! The page of metrics.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use prometheus_client::{
    encoding::text::encode,
    metrics::{gauge::Gauge, info::Info},
    registry::Registry,
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{process::Process, state::State};
use crate::{
    metrics::{Calls, Deliveries, LoopMonitors, Peers, Reloads},
    status::{Hub, Listeners},
};

/// Where the numbers come from.
pub struct Sources {
    /// The state of pools and peers.
    pub hub: Arc<Hub>,
    /// Listeners.
    pub listeners: Arc<Listeners>,
    /// What pools count.
    pub peers: Peers,
    /// What is counted of calls.
    pub calls: Arc<Calls>,
    /// Connections of clients that are open.
    pub connections: Gauge,
    /// How old changes are when they are handed out.
    pub deliveries: Deliveries,
    /// Whether event loops turn.
    pub turns: LoopMonitors,
    /// Reloads of the configuration.
    pub reloads: Reloads,
    /// Certificates that expire, as they are when it is asked.
    pub certificates: Box<dyn Fn() -> Vec<Certificate> + Send + Sync>,
}

/// When a certificate expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What for: `server`, `client_ca` or `pool`.
    pub usage: &'static str,
    /// The pool whose peers are shown it; empty for the others.
    pub pool: Arc<str>,
    /// When.
    pub expires: SystemTime,
}

/// Everything that is exported.
pub struct Exposition {
    registry: Registry,
    /// A page of a hundred thousand peers takes a while, and memory: one at a time.
    turn: Semaphore,
}

impl Exposition {
    /// What a page is.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Puts it together.
    #[must_use]
    pub fn new(sources: Sources) -> Arc<Self> {
        let mut registry = Registry::default();
        let Sources { hub, listeners, peers, calls, connections, deliveries, turns, reloads, certificates } =
            sources;
        peers.register(&mut registry);
        listeners.counts().register(&mut registry);
        reloads.register(&mut registry);
        deliveries.register(&mut registry);
        registry.register("opflex_peerstatus_connections", "Connections of clients", connections);
        registry.register_collector(Box::new(calls));
        registry.register_collector(Box::new(State { hub, listeners, turns, certificates }));
        registry.register_collector(Box::new(Process { started: SystemTime::now() }));
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("opflex_peerstatus_build", "What runs", version);
        Arc::new(Self { registry, turn: Semaphore::new(1) })
    }

    /// The numbers as they are now; `None` if that can't be.
    pub(super) async fn page(self: Arc<Self>) -> Option<Bytes> {
        let _turn = self.turn.acquire().await.ok()?;
        let this = Arc::clone(&self);
        let made = spawn_blocking(move || {
            let mut text = String::new();
            encode(&mut text, &this.registry).ok().map(|()| Bytes::from(text))
        });
        made.await.ok().flatten()
    }
}
