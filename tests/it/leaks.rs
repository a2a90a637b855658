//! Disconnected clients leave nothing behind.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use opflex_peerstatus::{
    api::pb::{
        CreateListenerRequest, ListListenersRequest, WatchPeerStatusRequest,
        peer_status_service_client::PeerStatusServiceClient, watch_peer_status_response::Event,
    },
    server::Keepalive,
};
use tokio::{runtime::Handle, task::JoinSet};
use tonic::transport::Channel;

use crate::support::{Process, RawWatch, Stage, within};

/// Attachments and kills in all, and those of the warm-up, after which nothing may grow.
const ATTACHMENTS: usize = 10_000;
const KILLS: usize = 1_000;
const WARM_UP: usize = 10;
/// Connections at once, and streams on each.
const CONNECTIONS: usize = 4;
const STREAMS: usize = 16;
/// What each of those does before its connection is replaced: the client's library closes a connection on which it
/// has cancelled a thousand streams that were still being told something.
const CYCLES: usize = 16;
/// Clients that are killed at once.
const CROWD: usize = 50;
/// How often it is looked whether what must come has come, and how often something happens meanwhile.
const POLL: Duration = Duration::from_millis(20);
/// What the allocator may keep for itself, in KiB: less than half a KiB for every attachment.
const MARGIN: u64 = 4 * 1024;

/// Attaches and detaches that often, to a listener of their own or one that stays, read to different points.
async fn attach_and_detach(address: SocketAddr, times: usize) {
    for _ in 0..times.div_ceil(CONNECTIONS * STREAMS * CYCLES) {
        let mut workers = JoinSet::new();
        for connection in 0..CONNECTIONS {
            let client = connect(address).await;
            for stream in 0..STREAMS {
                workers.spawn(cycle(client.clone(), connection * STREAMS + stream));
            }
        }
        while let Some(ended) = workers.join_next().await {
            ended.unwrap();
        }
    }
}

async fn cycle(mut client: PeerStatusServiceClient<Channel>, number: usize) {
    let listener = if number.is_multiple_of(2) { format!("listeners/stays-{number}") } else { String::new() };
    for time in 0..CYCLES {
        // The one before has just gone, which the service may not know yet.
        let request =
            WatchPeerStatusRequest { listener: listener.clone(), takeover: true, ..Default::default() };
        let mut stream = client.watch_peer_status(request).await.unwrap().into_inner();
        for _ in 0..time % 4 {
            let message = within("a message", stream.message()).await.unwrap().unwrap();
            assert!(!matches!(message.event, Some(Event::Heartbeat(_))));
        }
    }
}

/// Makes the listeners that stay. Returns how many.
async fn create(address: SocketAddr) -> usize {
    let mut client = connect(address).await;
    let numbers = (0..CONNECTIONS * STREAMS).filter(|number| number.is_multiple_of(2));
    let mut count = 0;
    for number in numbers {
        let listener_id = format!("stays-{number}");
        client.create_listener(CreateListenerRequest { listener_id, ..Default::default() }).await.unwrap();
        count += 1;
    }
    count
}

/// Kills that many clients while they are being told something.
async fn kill(address: SocketAddr, clients: usize) {
    for _ in 0..clients / CROWD {
        let mut crowd = Vec::new();
        for number in 0..CROWD {
            let mut client = RawWatch::ask(address, &WatchPeerStatusRequest::default()).await;
            // Some before the first answer, some within a message.
            within("an answer", client.read(number * 4)).await;
            crowd.push(client);
        }
        for (number, client) in crowd.into_iter().enumerate() {
            if number.is_multiple_of(2) { client.kill() } else { drop(client) }
        }
    }
}

async fn connect(address: SocketAddr) -> PeerStatusServiceClient<Channel> {
    PeerStatusServiceClient::connect(format!("http://{address}")).await.expect("a connection")
}

#[tokio::test]
async fn ten_thousand_attachments_and_a_thousand_kills_leave_no_listener_stream_or_task() {
    let stage = Stage::new(1, 64, &["default"]);
    stage.add("leaf");
    let served = stage.serve(Keepalive::default()).await;
    let stay = create(served.address).await;
    let settled = |what: &'static str, tasks: usize| {
        let stage = &stage;
        within(what, async move {
            while stage.listeners.count() != (stay, 0)
                || Handle::current().metrics().num_alive_tasks() > tasks
            {
                tokio::time::sleep(POLL).await;
            }
        })
    };
    attach_and_detach(served.address, ATTACHMENTS / WARM_UP).await;
    kill(served.address, KILLS / WARM_UP).await;
    settled("the end of the warm-up", usize::MAX).await;
    // The server, and nobody else.
    settled("the end of its tasks", 1).await;
    let left = || (stage.hub.wakers().count(), Arc::strong_count(&stage.hub));
    let before = left();
    let churn = async {
        loop {
            stage.flap("leaf", 1);
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        () = churn => {}
        () = async {
            attach_and_detach(served.address, ATTACHMENTS).await;
            kill(served.address, KILLS).await;
        } => {}
    }
    settled("the end of streams and tasks", 1).await;
    assert_eq!(left(), before);
    served.stop().await;
}

#[tokio::test]
async fn ten_thousand_attachments_and_a_thousand_kills_leave_no_byte_or_file_in_the_process() {
    let peer = crate::support::sim();
    let args = ["serve", "--listen", "127.0.0.1:0", "--log", "off", "--peer", &peer.address().to_string()];
    let mut process = Process::start(&args);
    let address: SocketAddr = process.address().await.parse().unwrap();
    // Those it had before the first client, and the one to its peer.
    let sockets = process.sockets() + 1;
    create(address).await;
    let mut used = Vec::new();
    for (attachments, kills) in [(ATTACHMENTS / WARM_UP, KILLS / WARM_UP), (ATTACHMENTS, KILLS)] {
        attach_and_detach(address, attachments).await;
        kill(address, kills).await;
        let mut client = connect(address).await;
        within("the end of the streams", async {
            loop {
                let list = client.list_listeners(ListListenersRequest::default()).await.unwrap().into_inner();
                if list.listeners.iter().all(|listener| listener.expire_time.is_some()) {
                    break;
                }
            }
        })
        .await;
        drop(client);
        within("the end of connections", async {
            while process.sockets() > sockets {
                tokio::time::sleep(POLL).await;
            }
        })
        .await;
        used.push(process.resident());
    }
    let grown = used[1].saturating_sub(used[0]);
    assert!(grown < MARGIN, "{grown} KiB more than the {} KiB after the warm-up", used[0]);
    process.signal("TERM").await;
    assert!(process.ended().await.success());
}
