//! One run: a service that churns, its clients, and chance from one seed.
//!
//! It is all in one thread and in virtual time: the clients call the service as a function, messages encoded and
//! decoded as ever, so that a seed is always the same run. What a client does not read stays with the service.

use std::time::Duration;

use futures_util::FutureExt as _;
use opflex_peerstatus::api::pb::{
    CreateListenerRequest, Cursor, DestroyListenerRequest, GapPolicy, GetListenerRequest, ListPeersRequest,
    WatchPeerStatusRequest, WatchPeerStatusResponse, peer_status_service_client::PeerStatusServiceClient,
    pool_service_client::PoolServiceClient, watch_peer_status_response::Event,
};
use tonic::{Code, Request, Status, Streaming, service::Routes};

use super::{
    POOLS, chance,
    client::{Client, Phase},
    model::{Known, Model, Peers},
};
use crate::support::{Stage, explain};

/// So short that some steps without a read are an overflow.
const HISTORY: u64 = 12;
const STEPS: usize = 200;
/// The last of them watch a listener that outlives its stream.
const CLIENTS: usize = 3;
/// The name of that.
const NAMED: &str = "listeners/named";

type Service = PeerStatusServiceClient<Routes>;

/// A client and its stream.
struct Place {
    client: Client,
    stream: Option<Streaming<WatchPeerStatusResponse>>,
    /// What the service counted is what the client was told: no stream was ever cut short.
    exact: bool,
}

pub(super) struct World {
    rng: fastrand::Rng,
    epoch: u64,
    stage: Stage,
    model: Model,
    service: Service,
    places: Vec<Place>,
    show: bool,
    /// What happened, in few words: the same for the same seed.
    pub(super) told: Vec<String>,
}

impl World {
    pub(super) fn new(seed: u64, show: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (stage, model, service) = start(1);
        let places = (0..CLIENTS).map(|number| Place {
            client: Client::new(HISTORY, chance::filter(&mut rng), vec![0, 255, b'0' + number as u8]),
            stream: None,
            exact: true,
        });
        let places = places.collect();
        Self { rng, epoch: 1, stage, model, service, places, show, told: Vec::new() }
    }

    pub(super) async fn run(&mut self) {
        for _ in 0..STEPS {
            self.step().await;
        }
        for which in 0..CLIENTS {
            if self.places[which].stream.is_none() {
                self.attach(which).await;
            }
            self.catch_up(which).await;
        }
        for place in &mut self.places {
            place.stream = None;
        }
        assert_eq!(self.stage.listeners.count().1, 0, "streams that are left behind");
    }

    async fn step(&mut self) {
        let which = self.rng.usize(..CLIENTS);
        match self.rng.u32(..100) {
            0..50 => {
                let burst = if self.rng.u32(..8) == 0 { 2 * HISTORY } else { 4 };
                (0..self.rng.u64(1..=burst)).for_each(|_| self.publish());
            }
            50..70 => {
                let messages = self.rng.usize(1..10);
                self.read(which, messages).await;
            }
            70..82 => self.catch_up(which).await,
            82..86 => self.cut_short(which),
            86..98 => {
                // Those that are attached mostly stay so.
                if self.places[which].stream.is_none() || self.rng.u32(..4) == 0 {
                    self.attach(which).await;
                }
            }
            98 => self.destroy().await,
            _ => {
                let in_order = self.rng.bool();
                self.restart(in_order).await;
            }
        }
    }

    fn tell(&mut self, what: String) {
        if self.show {
            println!("{:>4} {what}", self.model.head());
        }
        self.told.push(what);
    }

    fn publish(&mut self) {
        let (pool, host, what) = chance::update(&mut self.rng);
        let expected = self.model.publish(pool, host, &what);
        let said = format!("publish {pool} {host} {what:?}");
        assert_eq!(self.stage.publish(pool, host, what), expected, "{said}");
        self.tell(said);
    }

    /// Reads up to that many messages, if they are there. A stream that ends is gone.
    async fn read(&mut self, which: usize, messages: usize) {
        for _ in 0..messages {
            let Some(stream) = &mut self.places[which].stream else { return };
            match stream.message().now_or_never() {
                None => return,
                Some(said) => _ = self.hear(which, said),
            }
        }
    }

    /// Takes in what a stream said. Returns the revision of a heartbeat.
    fn hear(&mut self, which: usize, said: Result<Option<WatchPeerStatusResponse>, Status>) -> Option<u64> {
        let place = &mut self.places[which];
        match said {
            Ok(Some(message)) => {
                let heartbeat = place.client.hear(&message, &self.model);
                self.tell(format!("{which} hears {}", brief(&message)));
                heartbeat
            }
            Ok(None) => panic!("no watch ends with OK"),
            Err(end) => {
                // Nothing else ends it here: it was read too slowly, and wanted to be told so.
                assert_eq!(explain(&end), (Code::OutOfRange, "CURSOR_COMPACTED".into(), vec![]));
                assert_eq!(place.client.gap_policy, GapPolicy::Fail);
                place.stream = None;
                self.tell(format!("{which} ends"));
                None
            }
        }
    }

    /// Reads until a heartbeat says that all was told, and compares with the lists.
    async fn catch_up(&mut self, which: usize) {
        loop {
            let Some(stream) = &mut self.places[which].stream else { return };
            let said = stream.message().await;
            if self.hear(which, said) == Some(self.model.head()) {
                break;
            }
        }
        let now = Cursor { epoch: self.epoch, revision: self.model.head() };
        let Place { client, exact, .. } = &self.places[which];
        assert_eq!((client.cursor, client.phase), (Some(now), Phase::Live));
        let filter = &client.filter;
        let mut listed = list_peers(&self.stage, now).await;
        listed.retain(|key, _| self.model.state_for(filter, now.revision).0.contains_key(key));
        assert_eq!(client.peers(), &listed, "what it knows, and what ListPeers says");
        let get = GetListenerRequest { name: client.listener.clone() };
        let listener = self.service.get_listener(get).await.unwrap().into_inner().listener.unwrap();
        assert_eq!((listener.cursor, listener.lag), (Some(now), 0));
        let counted = (listener.delivered_count, listener.reset_count, listener.missed_count);
        if *exact {
            assert_eq!(counted, client.counts);
        } else {
            let (changes, resets, missed) = client.counts;
            assert!(counted.0 >= changes && counted.1 >= resets && counted.2 >= missed);
        }
    }

    /// The client goes without a word.
    fn cut_short(&mut self, which: usize) {
        self.places[which].stream = None;
        self.places[which].exact = false;
        self.tell(format!("{which} goes"));
    }

    async fn attach(&mut self, which: usize) {
        let named = which == CLIENTS - 1;
        if named {
            self.create_named().await;
        } else {
            self.cut_short(which);
            self.places[which].exact = true;
        }
        let client = &self.places[which].client;
        let cursor = client.cursor.filter(|_| self.rng.u32(..4) > 0);
        let gap_policy = if self.rng.bool() { GapPolicy::Fail } else { GapPolicy::Resnapshot };
        let request = WatchPeerStatusRequest {
            listener: if named { NAMED.into() } else { String::new() },
            filter: (!named).then(|| client.filter.clone()),
            user_data: if named { Vec::new().into() } else { client.user_data.clone().into() },
            resume_after: cursor,
            gap_policy: gap_policy.into(),
            takeover: self.rng.bool(),
            heartbeat_interval: Duration::from_secs(self.rng.u64(1..=30)).try_into().ok(),
            ..Default::default()
        };
        let expected = self.refusal(which, &request);
        self.tell(format!("{which} attaches {request:?}: {expected:?}"));
        match (self.service.watch_peer_status(request).await, expected) {
            (Ok(stream), None) => {
                let place = &mut self.places[which];
                let mut older = place.client.clone();
                (place.client.phase, place.client.asked) = (Phase::New, cursor);
                place.client.gap_policy = gap_policy;
                if !named {
                    place.client.counts = (0, 0, 0);
                }
                if let Some(replaced) = place.stream.replace(stream.into_inner()) {
                    place.exact = false;
                    assert_eq!(self.rest(&mut older, replaced).await, "LISTENER_TAKEN_OVER");
                }
            }
            (Err(status), Some(reason)) => assert_eq!(explain(&status).1, reason),
            (Ok(_), Some(reason)) => panic!("it is attached in spite of {reason}"),
            (Err(status), None) => panic!("it is refused: {status}"),
        }
    }

    /// Why the service has to refuse that.
    fn refusal(&self, which: usize, request: &WatchPeerStatusRequest) -> Option<&'static str> {
        if let Some(cursor) = request.resume_after
            && request.gap_policy() == GapPolicy::Fail
        {
            if cursor.epoch != self.epoch {
                return Some("EPOCH_MISMATCH");
            }
            if self.model.head() - cursor.revision > HISTORY {
                return Some("CURSOR_COMPACTED");
            }
        }
        (self.places[which].stream.is_some() && !request.takeover).then_some("LISTENER_ATTACHED")
    }

    /// Makes the named listener, if there is none.
    async fn create_named(&mut self) {
        let Place { client, .. } = &self.places[CLIENTS - 1];
        let request = CreateListenerRequest {
            listener_id: NAMED.trim_start_matches("listeners/").into(),
            filter: Some(client.filter.clone()),
            user_data: client.user_data.clone().into(),
            ..Default::default()
        };
        match self.service.create_listener(request).await {
            Ok(created) => {
                let now = Cursor { epoch: self.epoch, revision: self.model.head() };
                assert_eq!(created.into_inner().cursor, Some(now));
                self.places[CLIENTS - 1].client.counts = (0, 0, 0);
                self.places[CLIENTS - 1].exact = true;
            }
            Err(status) => assert_eq!(explain(&status).1, "LISTENER_EXISTS"),
        }
    }

    /// Hears a stream to its end. Returns the reason of that.
    async fn rest(&mut self, client: &mut Client, mut stream: Streaming<WatchPeerStatusResponse>) -> String {
        loop {
            match stream.message().await {
                Ok(message) => _ = client.hear(&message.expect("no watch ends with OK"), &self.model),
                Err(end) => return explain(&end).1,
            }
        }
    }

    /// The named listener is destroyed: its stream is told everything until now.
    async fn destroy(&mut self) {
        let request = DestroyListenerRequest { name: NAMED.into(), allow_missing: true };
        self.service.destroy_listener(request).await.unwrap();
        self.end(CLIENTS - 1, "LISTENER_DESTROYED").await;
    }

    /// A stream is told everything until now, and then ends for this reason.
    async fn end(&mut self, which: usize, reason: &str) {
        self.tell(format!("{which} has to go: {reason}"));
        let Some(stream) = self.places[which].stream.take() else { return };
        let mut client = self.places[which].client.clone();
        let told = self.rest(&mut client, stream).await;
        if told == reason {
            client.has_heard_all(&self.model);
        } else {
            assert_eq!((told.as_str(), client.gap_policy), ("CURSOR_COMPACTED", GapPolicy::Fail));
        }
        self.places[which].client = client;
    }

    /// Another process takes over, which knows nothing of this one.
    async fn restart(&mut self, in_order: bool) {
        if in_order {
            self.stage.listeners.drain();
        }
        for which in 0..CLIENTS {
            if in_order {
                self.end(which, "DRAINING").await;
            }
            self.places[which].stream = None;
        }
        if in_order {
            let refused = self.service.watch_peer_status(WatchPeerStatusRequest::default()).await;
            assert_eq!(explain(&refused.err().unwrap()), (Code::Unavailable, "DRAINING".into(), vec![]));
        }
        self.epoch += 1;
        (self.stage, self.model, self.service) = start(self.epoch);
        self.tell(format!("another process, number {}", self.epoch));
    }
}

fn start(epoch: u64) -> (Stage, Model, Service) {
    let stage = Stage::new(epoch, usize::try_from(HISTORY).unwrap(), &POOLS);
    let service = PeerStatusServiceClient::new(stage.api.clone().routes());
    (stage, Model::new(&POOLS), service)
}

/// A message without times and names that nobody chose.
fn brief(message: &WatchPeerStatusResponse) -> String {
    let what = match message.event.as_ref().expect("something") {
        Event::Attached(attached) => format!("attached, resumed: {}", attached.resumed),
        Event::Snapshot(snapshot) => format!("snapshot of {} peers", snapshot.peers.len()),
        Event::Synced(synced) => format!("synced, {} peers", synced.peer_count),
        Event::Change(change) => {
            format!("change, peer: {}, health: {}", change.peer.is_some(), change.health.is_some())
        }
        Event::Reset(reset) => format!("reset: {:?}, {} missed", reset.reason(), reset.missed_count),
        Event::Heartbeat(_) => "heartbeat".to_owned(),
        Event::Draining(_) => "draining".to_owned(),
    };
    format!("{} → {}: {what}", message.previous_revision, message.revision)
}

/// All peers, page by page, as they are at this cursor.
pub(super) async fn list_peers(stage: &Stage, at: Cursor) -> Peers {
    let mut pools = PoolServiceClient::new(stage.api.clone().routes());
    let (mut peers, mut page_token) = (Peers::new(), String::new());
    loop {
        let request = ListPeersRequest { page_size: 3, page_token, ..Default::default() };
        let page = pools.list_peers(Request::new(request)).await.unwrap().into_inner();
        assert_eq!(page.cursor, Some(at));
        for peer in &page.peers {
            peers.insert((peer.pool.clone(), peer.host.clone()), Known::from(peer));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return peers;
        }
    }
}
