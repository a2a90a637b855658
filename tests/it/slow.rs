//! Slow, unresponsive and vanished clients: nothing waits for them or is kept for them, and they are disconnected.

use std::{
    net::SocketAddr,
    sync::Weak,
    time::{Duration, Instant},
};

use opflex_peerstatus::{
    api::pb::{
        CreateListenerRequest, DestroyListenerRequest, GetListenerRequest, Listener, ListenerState,
        ResetReason, WatchPeerStatusRequest, peer_status_service_client::PeerStatusServiceClient,
        watch_peer_status_response::Event as Said,
    },
    server::Keepalive,
    status::Event,
};
use tonic::transport::{Channel, Endpoint};

use crate::support::{
    Proxy, QUICK, RawClient, RawWatch, Stage, Watch,
    raw::{DATA, END_STREAM, HEADERS, LARGEST_WINDOW, RST_STREAM, WATCH, question},
    within,
};

/// Changes that the service remembers.
const HISTORY: usize = 256;
/// What a stream that is stuck may have taken out of the log: what it reads at a time.
const READ_AHEAD: usize = 64;
/// A window so small that a client that does not read is noticed after some changes.
const WINDOW: u32 = 4096;

struct Scene {
    stage: Stage,
    address: SocketAddr,
    client: PeerStatusServiceClient<Channel>,
    /// A client like any other: it has to hear of everything, in order and one by one.
    other: Watch,
    heard: u64,
}

impl Scene {
    async fn set(address: SocketAddr, stage: Stage) -> Self {
        let mut client = connect(address).await;
        stage.add("leaf");
        let other = client.watch_peer_status(WatchPeerStatusRequest::default()).await.unwrap().into_inner();
        let mut other = Watch::new(other);
        assert_eq!(other.synced().await.len(), 1);
        Self { stage, address, client, other, heard: 1 }
    }

    /// Lets so much happen, in steps that the other client keeps up with, and checks that it does.
    async fn flap(&mut self, changes: usize) {
        let mut left = changes;
        while left > 0 {
            let step = left.min(HISTORY / 4);
            self.stage.flap("leaf", step);
            left -= step;
            while self.heard < self.stage.hub.cursor().revision {
                let (_, message) = self.other.change().await;
                self.heard += 1;
                assert_eq!(message.revision, self.heard, "one after the other, and none left out");
            }
        }
    }

    async fn create(&mut self) -> String {
        // Every change is as long as it may be, so that buffers on the way are full soon.
        let request = CreateListenerRequest { user_data: vec![0; 4096].into(), ..Default::default() };
        let created = self.client.create_listener(request).await.unwrap();
        created.into_inner().listener.unwrap().name
    }

    async fn listener(&mut self, name: &str) -> Listener {
        let request = GetListenerRequest { name: name.to_owned() };
        self.client.get_listener(request).await.unwrap().into_inner().listener.unwrap()
    }

    /// Waits until somebody is attached to a listener.
    async fn until_attached(&mut self, name: &str) {
        within("a stream", async { while self.listener(name).await.state() != ListenerState::Attached {} })
            .await;
    }

    /// Lets things happen until nobody is attached to a listener, which then lags.
    async fn until_let_go(&mut self, name: &str) {
        let begin = Instant::now();
        within("the end of the stream", async {
            while self.listener(name).await.state() != ListenerState::Detached {
                self.flap(HISTORY).await;
            }
        })
        .await;
        assert!(begin.elapsed() < Keepalive::default().interval, "what was configured counts");
        assert_eq!(self.stage.listeners.count().1, 1, "only the other client is left");
        let before = self.listener(name).await.lag;
        self.flap(1).await;
        assert_eq!(self.listener(name).await.lag, before + 1, "nothing is told any more");
    }
}

async fn connect(address: SocketAddr) -> PeerStatusServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let windows = endpoint.initial_stream_window_size(WINDOW).initial_connection_window_size(1 << 20);
    PeerStatusServiceClient::new(windows.connect().await.expect("a connection"))
}

fn named(name: &str) -> WatchPeerStatusRequest {
    WatchPeerStatusRequest { listener: name.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody_and_nothing_is_kept_for_it() {
    let stage = Stage::new(1, HISTORY, &["default"]);
    // It is alive, and answers pings, so it stays.
    let served = stage.serve(QUICK).await;
    let mut scene = Scene::set(served.address, stage).await;
    let name = scene.create().await;
    let mut deaf = scene.client.watch_peer_status(named(&name)).await.unwrap().into_inner();
    let mut published: Vec<Weak<Event>> = Vec::new();
    let mut lag = 0;
    for _ in 0..8 {
        let from = scene.stage.hub.cursor().revision;
        scene.flap(HISTORY).await;
        let mut events = Vec::new();
        scene.stage.hub.read_after(from, HISTORY, &mut events).unwrap();
        published.extend(events.iter().map(std::sync::Arc::downgrade));
        drop(events);
        let kept = published.iter().filter(|event| event.strong_count() > 0).count();
        assert!(kept <= HISTORY + READ_AHEAD, "{kept} changes are kept, the log has {HISTORY}");
        let listener = scene.listener(&name).await;
        assert_eq!((listener.state(), listener.reset_count), (ListenerState::Attached, 0));
        assert!(listener.lag > lag, "{} after {lag}", listener.lag);
        lag = listener.lag;
    }
    // That is where it stood still; now it reads again.
    let place = scene.stage.hub.cursor().revision - lag;
    let mut chain = 0;
    let (cut, missed) = loop {
        let message = within("a message", deaf.message()).await.unwrap().unwrap();
        match message.event.unwrap() {
            Said::Change(_) => assert_eq!((message.previous_revision, message.revision), (chain, chain + 1)),
            Said::Reset(reset) => {
                assert_eq!(reset.reason(), ResetReason::Overflow);
                break (message.revision, reset.missed_count);
            }
            _ => {}
        }
        chain = message.revision;
    };
    assert!(chain >= place, "what was handed to the transport has come");
    assert_eq!((cut, missed), (scene.stage.hub.cursor().revision, cut - chain));
    let mut deaf = Resynced::of(deaf).await;
    assert_eq!(deaf.synced, cut);
    let listener = scene.listener(&name).await;
    assert_eq!((listener.lag, listener.reset_count, listener.missed_count), (0, 1, missed));
    scene.flap(1).await;
    assert_eq!(deaf.next_change().await, cut + 1);
    drop((deaf, scene));
    served.stop().await;
}

/// The stream after a reset.
struct Resynced {
    stream: tonic::Streaming<opflex_peerstatus::api::pb::WatchPeerStatusResponse>,
    synced: u64,
}

impl Resynced {
    async fn of(mut stream: tonic::Streaming<opflex_peerstatus::api::pb::WatchPeerStatusResponse>) -> Self {
        loop {
            let message = within("a message", stream.message()).await.unwrap().unwrap();
            if matches!(message.event, Some(Said::Synced(_))) {
                return Self { stream, synced: message.revision };
            }
        }
    }

    async fn next_change(&mut self) -> u64 {
        let message = within("a change", self.stream.message()).await.unwrap().unwrap();
        assert!(matches!(message.event, Some(Said::Change(_))), "{message:?}");
        message.revision
    }
}

#[tokio::test]
async fn a_connection_that_is_never_read_is_let_go_within_the_keepalive() {
    let stage = Stage::new(1, HISTORY, &["default"]);
    let served = stage.serve(QUICK).await;
    let mut scene = Scene::set(served.address, stage).await;
    let name = scene.create().await;
    let stuck = RawWatch::ask(scene.address, &named(&name)).await;
    scene.until_attached(&name).await;
    scene.until_let_go(&name).await;
    drop((stuck, scene));
    served.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_a_byte_now_and_then_is_let_go_as_well() {
    let stage = Stage::new(1, HISTORY, &["default"]);
    let served = stage.serve(QUICK).await;
    let mut scene = Scene::set(served.address, stage).await;
    let name = scene.create().await;
    let mut trickle = RawWatch::ask(scene.address, &named(&name)).await;
    scene.until_attached(&name).await;
    let reader = tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        while trickle.read(1).await {
            every.tick().await;
        }
    });
    scene.until_let_go(&name).await;
    assert!(!reader.is_finished(), "it went on reading");
    reader.abort();
    drop(scene);
    served.stop().await;
}

#[tokio::test]
async fn a_client_whose_network_vanishes_is_let_go_and_comes_back_to_what_it_missed() {
    let stage = Stage::new(1, 1 << 20, &["default"]);
    let served = stage.serve(QUICK).await;
    let mut scene = Scene::set(served.address, stage).await;
    let name = scene.create().await;
    let proxy = Proxy::to(scene.address).await;
    let mut far = connect(proxy.address).await;
    let mut lost = Watch::new(far.watch_peer_status(named(&name)).await.unwrap().into_inner());
    lost.synced().await;
    scene.flap(1).await;
    while lost.cursor().revision < scene.heard {
        lost.change().await;
    }
    proxy.cut();
    scene.until_let_go(&name).await;
    let resume = WatchPeerStatusRequest { resume_after: Some(lost.cursor()), ..named(&name) };
    let mut back = Watch::new(scene.client.watch_peer_status(resume).await.unwrap().into_inner());
    for expected in lost.cursor().revision + 1..=scene.heard {
        assert_eq!(back.change().await.1.revision, expected);
    }
    drop((back, lost, far, proxy, scene));
    served.stop().await;
}

/// Bytes of a snapshot, at least.
const SNAPSHOT: usize = 2_000 * 400;

/// Two watches on one connection, which have a snapshot each to tell, asked for in one go.
async fn twins(mut client: RawClient, stage: &Stage) -> RawClient {
    for number in 0..2_000 {
        let leaf = format!("leaf-{number}");
        stage.add(&leaf);
        stage.flap(&leaf, 1);
    }
    let asked = [1, 3].map(|stream| question(stream, WATCH, &WatchPeerStatusRequest::default()));
    client.write(&asked.concat()).await;
    client
}

#[tokio::test]
async fn watches_on_one_connection_are_told_in_turn() {
    let stage = Stage::new(1, HISTORY, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut client = twins(RawClient::connect(served.address, LARGEST_WINDOW).await, &stage).await;
    let mut told = [0; 4];
    while told[1].min(told[3]) < SNAPSHOT / 2 {
        let frame = client.frame().await.unwrap();
        if frame.kind == DATA {
            told[usize::try_from(frame.stream).unwrap()] += frame.payload.len();
            assert!(told[1].abs_diff(told[3]) <= 256 << 10, "{told:?}");
        }
    }
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn who_has_one_watch_is_not_cut_off_though_others_fill_all_the_room_there_is() {
    let stage = Stage::new(1, HISTORY, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut client = twins(RawClient::connect(served.address, 1).await, &stage).await;
    let mut others = Vec::new();
    let mut is_full = false;
    let much = WatchPeerStatusRequest { user_data: vec![7; 4096].into(), ..Default::default() };
    while !is_full {
        assert!(others.len() < 150, "nobody is cut off");
        let mut other = RawClient::connect(served.address, 1).await;
        for number in 0..128 {
            other.watch(2 * number + 1, &much).await;
            let mut is_begun = false;
            while !is_begun {
                let frame = other.frame().await.unwrap();
                // It ends with RESOURCE_EXHAUSTED, for which no room is needed.
                let is_refused = frame.kind == HEADERS && frame.flags & END_STREAM != 0;
                is_full |= is_refused;
                is_begun = frame.kind == DATA || is_refused;
            }
        }
        others.push(other);
    }
    // It has had a byte of the first message as well, and now makes room for the rest of it.
    let mut told = 0;
    while told < SNAPSHOT {
        client.make_room(1, 1 << 14).await;
        let frame = client.frame().await.unwrap();
        assert!(frame.stream != 1 || frame.kind != RST_STREAM);
        if frame.kind == DATA && frame.stream == 1 {
            told += frame.payload.len();
            client.make_room(0, u32::try_from(frame.payload.len()).unwrap()).await;
        }
    }
    drop((client, others));
    served.stop().await;
}

#[tokio::test]
async fn watches_share_what_room_there_is_for_all_of_them() {
    let stage = Stage::new(1, HISTORY, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let mut client = twins(RawClient::connect_sparing(served.address).await, &stage).await;
    let mut told = [0; 4];
    while told[1].min(told[3]) < 100 << 10 {
        let frame = client.frame().await.unwrap();
        if frame.kind == DATA {
            let length = frame.payload.len();
            told[usize::try_from(frame.stream).unwrap()] += length;
            assert!(told[1].max(told[3]) < SNAPSHOT, "{told:?}");
            client.make_room(0, u32::try_from(length).unwrap()).await;
        }
    }
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn a_watch_that_gets_no_room_is_reset_when_it_has_to_end() {
    let stage = Stage::new(1, HISTORY, &["default"]);
    let served = stage.serve(Keepalive::default()).await;
    let url = format!("http://{}", served.address);
    let mut client = PeerStatusServiceClient::connect(url).await.unwrap();
    let create = CreateListenerRequest { listener_id: "deaf".into(), ..Default::default() };
    client.create_listener(create).await.unwrap();
    // Not even the first message fits.
    let mut deaf = RawClient::connect(served.address, 0).await;
    deaf.watch(1, &named("listeners/deaf")).await;
    within("a stream", async {
        while stage.listeners.count().1 != 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let destroy = DestroyListenerRequest { name: "listeners/deaf".into(), ..Default::default() };
    client.destroy_listener(destroy).await.unwrap();
    within("a reset", async { while deaf.frame().await.unwrap().kind != RST_STREAM {} }).await;
    assert_eq!(stage.listeners.count().1, 0);
    drop((deaf, client));
    served.stop().await;
}
