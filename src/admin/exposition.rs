//! All metrics of the service, encoded as one page.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use prometheus_client::{encoding::text::encode, metrics::info::Info, registry::Registry};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{process_metrics::ProcessMetrics, service_metrics::ServiceMetrics};
use crate::{
    metrics::{Calls, Peers, Reloads, Shards, Turns},
    status::{Hub, Listeners},
};

/// Where the metrics come from.
pub struct Sources {
    /// The state of pools and peers.
    pub hub: Arc<Hub>,
    /// The listeners.
    pub listeners: Arc<Listeners>,
    /// Counters and histograms of the pools.
    pub peers: Peers,
    /// Counters of gRPC calls.
    pub calls: Arc<Calls>,
    /// Counters and histograms of the threads that serve clients.
    pub shards: Shards,
    /// The state of the event loops.
    pub turns: Turns,
    /// Counters of configuration reloads.
    pub reloads: Reloads,
    /// Lists the certificates in use, at each scrape.
    pub certificates: Box<dyn Fn() -> Vec<Certificate> + Send + Sync>,
}

/// When a certificate expires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// `server`, `client_ca` or `pool`.
    pub usage: &'static str,
    /// The pool that presents it to its peers; empty for the others.
    pub pool: Arc<str>,
    /// The end of its validity.
    pub expires: SystemTime,
}

/// Encodes all metrics.
pub struct Exposition {
    registry: Registry,
    /// A page about 100,000 peers takes time and memory: only one is encoded at a time.
    turn: Semaphore,
}

impl Exposition {
    /// The media type of the page.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Registers the metrics of all sources.
    #[must_use]
    pub fn new(sources: Sources) -> Arc<Self> {
        let mut registry = Registry::default();
        let Sources { hub, listeners, peers, calls, shards, turns, reloads, certificates } = sources;
        peers.register(&mut registry);
        listeners.counts().register(&mut registry);
        reloads.register(&mut registry);
        registry.register_collector(Box::new(calls));
        registry.register_collector(Box::new(ServiceMetrics { hub, listeners, shards, turns, certificates }));
        registry.register_collector(Box::new(ProcessMetrics { started: SystemTime::now() }));
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("opflex_peerstatus_build", "Version of the service", version);
        Arc::new(Self { registry, turn: Semaphore::new(1) })
    }

    /// Encodes the current metrics. `None` if a collector fails or panics.
    pub(super) async fn encode(self: Arc<Self>) -> Option<Bytes> {
        let _turn = self.turn.acquire().await.ok()?;
        let this = Arc::clone(&self);
        let encoded = spawn_blocking(move || {
            let mut text = String::new();
            encode(&mut text, &this.registry).ok().map(|()| Bytes::from(text))
        });
        encoded.await.ok().flatten()
    }
}
