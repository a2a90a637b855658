//! The same rules over HTTP/2 and sockets, while the service churns at its own pace. No run is like another.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use opflex_peerstatus::{
    api::pb::{
        Cursor, ListenerFilter, WatchPeerStatusRequest, peer_status_service_client::PeerStatusServiceClient,
    },
    server::Keepalive,
};
use parking_lot::Mutex;
use tokio::{task::JoinSet, time::sleep};
use tonic::transport::Endpoint;

use super::{
    POOLS, chance,
    client::{Client, Phase},
    model::{Model, Peers},
    world::list_peers,
};
use crate::support::{Stage, within};

const HISTORY: u64 = 64;
const CHANGES: u64 = 3_000;
const CLIENTS: u8 = 6;
/// So small that a client that pauses is soon behind.
const WINDOW: u32 = 2048;

/// The service and what is true of it. Publishing is within the lock, so that nobody hears of what the model does
/// not know yet.
struct Churn {
    stage: Stage,
    model: Mutex<Model>,
    over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_sockets_a_client_knows_in_the_end_what_the_service_knows() {
    let stage = Stage::new(1, usize::try_from(HISTORY).unwrap(), &POOLS);
    let served = stage.serve(Keepalive::default()).await;
    let churn =
        Arc::new(Churn { stage, model: Mutex::new(Model::new(&POOLS)), over: AtomicBool::new(false) });
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(follow(Arc::clone(&churn), served.address, number));
    }
    let mut rng = fastrand::Rng::new();
    while churn.model.lock().head() < CHANGES {
        for _ in 0..rng.u32(..40) {
            let (pool, host, what) = chance::update(&mut rng);
            let mut model = churn.model.lock();
            let expected = model.publish(pool, host, &what);
            assert_eq!(churn.stage.publish(pool, host, what), expected);
        }
        sleep(Duration::from_millis(rng.u64(..5))).await;
    }
    churn.over.store(true, Ordering::SeqCst);
    let now = Cursor { epoch: 1, revision: churn.model.lock().head() };
    let listed = list_peers(&churn.stage, now).await;
    while let Some(ended) = clients.join_next().await {
        let (filter, peers) = ended.expect("it heard what is true");
        let mut wanted: Peers = listed.clone();
        let admitted = churn.model.lock().state_for(&filter, now.revision).0;
        wanted.retain(|key, _| admitted.contains_key(key));
        assert_eq!(peers, wanted, "what it knows, and what ListPeers says");
    }
    served.stop().await;
}

/// Watches, goes away and comes back, until a heartbeat says that it has heard everything. Returns what it knows.
async fn follow(churn: Arc<Churn>, address: SocketAddr, number: u8) -> (ListenerFilter, Peers) {
    let mut rng = fastrand::Rng::new();
    let filter = chance::filter(&mut rng);
    let mut client = Client::new(HISTORY, filter.clone(), vec![number]);
    loop {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let channel = endpoint.initial_stream_window_size(WINDOW).connect().await.expect("a connection");
        (client.asked, client.phase) = (client.cursor, Phase::New);
        let request = WatchPeerStatusRequest {
            filter: Some(filter.clone()),
            user_data: vec![number].into(),
            resume_after: client.cursor,
            heartbeat_interval: Duration::from_secs(1).try_into().ok(),
            ..Default::default()
        };
        let mut service = PeerStatusServiceClient::new(channel);
        let mut stream = service.watch_peer_status(request).await.expect("a watch").into_inner();
        let mut left = rng.u32(1..300);
        while left > 0 || churn.over.load(Ordering::SeqCst) {
            left = left.saturating_sub(1);
            if rng.u32(..100) == 0 {
                sleep(Duration::from_millis(rng.u64(..50))).await;
            }
            let message = within("a message", stream.message()).await.expect("no end").expect("no end");
            let model = churn.model.lock();
            let heartbeat = client.hear(&message, &model);
            if churn.over.load(Ordering::SeqCst) && heartbeat == Some(model.head()) {
                return (filter, client.peers().clone());
            }
        }
    }
}
