//! All metrics of the service, encoded as one page.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use prometheus_client::{
    encoding::text::encode,
    metrics::{gauge::Gauge, info::Info},
    registry::Registry,
};
use tokio::{sync::Mutex, task::spawn_blocking};

use super::{fleet_metrics::ForwardLag, process_metrics::ProcessMetrics, service_metrics::ServiceMetrics};
use crate::{
    metrics::{
        CallMetrics, FleetMetrics, ForwarderMetrics, LoopMonitors, ObserverMetrics, PeerMetrics,
        ReloadMetrics, WatchMetrics,
    },
    status::{Hub, Listeners},
};

/// Where the metrics come from.
pub struct Sources {
    /// The state of pools and peers.
    pub hub: Arc<Hub>,
    /// The listeners.
    pub listeners: Arc<Listeners>,
    /// Counters and histograms of the pools.
    pub peers: PeerMetrics,
    /// Counters of the observed pools.
    pub observer: ObserverMetrics,
    /// Counters of gRPC calls.
    pub calls: Arc<CallMetrics>,
    /// Open client connections.
    pub connections: Gauge,
    /// Counters of watches, and the age of changes when they are handed out.
    pub watches: WatchMetrics,
    /// The state of the event loops.
    pub loops: LoopMonitors,
    /// Counters of the forwarder; `None`: the node belongs to no fleet.
    pub forwarder: Option<ForwarderMetrics>,
    /// Counters of the service of a fleet; `None`: it is the service of a node.
    pub fleet: Option<FleetMetrics>,
    /// Counters of configuration reloads.
    pub reloads: ReloadMetrics,
    /// Lists the certificates in use, at each scrape.
    pub certificates: Box<dyn Fn() -> Vec<CertificateExpiry> + Send + Sync>,
}

/// A certificate in use, with its expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateExpiry {
    /// `server`, `client_ca` or `pool`.
    pub usage: &'static str,
    /// The pool that presents it to its peers; empty for the others.
    pub pool: Arc<str>,
    /// The end of its validity.
    pub expires: SystemTime,
}

/// Encodes all metrics. A page about 100,000 peers takes time and memory, so the lock lets one be encoded at a time.
#[derive(Clone)]
pub struct Exposition(Arc<Mutex<Registry>>);

impl Exposition {
    /// The media type of the page.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Registers the metrics of all sources.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        let mut registry = Registry::default();
        let Sources {
            hub,
            listeners,
            peers,
            observer,
            calls,
            connections,
            watches,
            loops,
            forwarder,
            fleet,
            reloads,
            certificates,
        } = sources;
        peers.register(&mut registry);
        observer.register(&mut registry);
        watches.register(&mut registry);
        reloads.register(&mut registry);
        registry.register("opflex_peerstatus_connections", "Client connections", connections);
        registry.register_collector(Box::new(calls));
        if let Some(metrics) = fleet {
            metrics.register(&mut registry);
        }
        if let Some(metrics) = forwarder {
            metrics.register(&mut registry);
            registry.register_collector(Box::new(ForwardLag { hub: Arc::clone(&hub), metrics }));
        }
        registry.register_collector(Box::new(ServiceMetrics { hub, listeners, loops, certificates }));
        registry.register_collector(Box::new(ProcessMetrics { started: SystemTime::now() }));
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("opflex_peerstatus_build", "Version of the service", version);
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Encodes the current metrics. `None` if a collector fails or panics.
    pub(super) async fn encode(self) -> Option<Bytes> {
        // The blocking task holds the lock, because it goes on when a client disconnects and this future is dropped.
        let registry = self.0.lock_owned().await;
        let encoded = spawn_blocking(move || {
            let mut text = String::new();
            encode(&mut text, &registry).ok().map(|()| Bytes::from(text))
        });
        encoded.await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
    use tokio::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Sends a message when it begins to encode, and ends when it receives one.
    #[derive(Debug)]
    struct Stalled {
        begun: Sender<()>,
        end: parking_lot::Mutex<Receiver<()>>,
    }

    impl Collector for Stalled {
        fn encode(&self, _: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
            self.begun.blocking_send(()).unwrap();
            self.end.lock().blocking_recv().ok_or(fmt::Error)
        }
    }

    #[tokio::test]
    async fn a_client_that_disconnects_does_not_let_two_pages_be_encoded_at_a_time() {
        let ((begun, mut has_begun), (end, may_end)) = (channel(1), channel(1));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Stalled { begun, end: parking_lot::Mutex::new(may_end) }));
        let exposition = Exposition(Arc::new(Mutex::new(registry)));
        let request = tokio::spawn(exposition.clone().encode());
        has_begun.recv().await.unwrap();
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        assert!(exposition.0.try_lock().is_err());
        end.send(()).await.unwrap();
        end.send(()).await.unwrap();
        assert_eq!(exposition.encode().await.unwrap(), "# EOF\n");
    }
}
