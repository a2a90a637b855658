//! Our service: hub, listeners and server, with published commands instead of peers.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, SystemTime},
};

use opflex_peerstatus::{
    api::{self, Api},
    metrics::WatchMetrics,
    opflex::Identity,
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reason, Report},
    server::{Server, ServerMetrics, ServerOptions},
    status::{Hub, ListenerLimits, Listeners, PeerUpdate, Update},
};
use tokio::{net::TcpListener, sync::watch};

use super::{obey, ready};
use crate::support::Outcome;

const HISTORY: usize = 65_536;
const PEERS: u64 = 50;

pub(super) fn serve(options: &str) -> Outcome<()> {
    let (serving, peers) = settings(options)?;
    let hub = Arc::new(Hub::new(fastrand::u64(1..), HISTORY));
    let identity = Identity::new("bench".to_owned(), "default".to_owned());
    hub.add_pool("default".into(), Arc::new(identity), SystemTime::now());
    for number in 0..peers {
        publish(&hub, peers, number, Update::added(PeerOrigin::Configured))?;
    }
    let (bound, address) = mpsc::sync_channel(1);
    let served = Arc::clone(&hub);
    thread::spawn(move || run(served, serving, &bound));
    ready(address.recv()?)?;
    obey(|number| {
        // Alternating reasons: each is a change, and none changes the health of the pool.
        let reason =
            if (number / peers).is_multiple_of(2) { Reason::ConnectFailed } else { Reason::ConnectTimeout };
        let detail = Arc::from("connection refused (os error 111)");
        let status = PeerStatus::Connecting;
        publish(
            &hub,
            peers,
            number,
            Update::Status(Report { status, reason, detail, failures: 1, roles: None }),
        )
    })
}

/// `,pacing=5,threads=2,peers=10000`, in milliseconds.
fn settings(options: &str) -> Outcome<(ServerOptions, u64)> {
    let (mut serving, mut peers) = (ServerOptions::default(), PEERS);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=').ok_or("a setting is KEY=NUMBER")? {
            ("pacing", window) => serving.pacing = Duration::from_millis(window.parse()?),
            ("threads", threads) => serving.threads = threads.parse()?,
            ("peers", count) => peers = count.parse()?,
            _ => return Err(format!("{option:?} is no setting").into()),
        }
    }
    Ok((serving, peers))
}

fn publish(hub: &Hub, peers: u64, number: u64, what: Update) -> Outcome<()> {
    let address = PeerAddress::new(&format!("leaf-{}", 101 + number % peers), 8009)?;
    let update = PeerUpdate { pool: "default".into(), address, at: SystemTime::now(), what };
    hub.publish(update).map(drop).ok_or_else(|| "that was no change".into())
}

#[tokio::main]
async fn run(hub: Arc<Hub>, serving: ServerOptions, bound: &mpsc::SyncSender<std::net::SocketAddr>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    bound.send(listener.local_addr().expect("an address")).expect("somebody waits");
    let listeners = Listeners::new(
        Arc::clone(&hub),
        ListenerLimits {
            listeners: 100_000,
            per_owner: 100_000,
            streams: 100_000,
            streams_per_owner: 100_000,
        },
    );
    let (_drain, draining) = watch::channel(false);
    let (watches, metrics, methods) = (WatchMetrics::default(), ServerMetrics::default(), api::methods());
    let api = Api { hub: Arc::clone(&hub), listeners, pools: Arc::default(), metrics: watches, draining };
    let server = Server::start(api.routes(), &methods, hub, serving, Arc::default(), metrics);
    let server = server.await.expect("threads");
    server.serve(listener, std::future::pending()).await.expect("no error");
}
