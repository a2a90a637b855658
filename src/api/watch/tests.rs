//! What is sent, held against the slow and simple way to encode the same.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;

use super::*;
use crate::{
    opflex::Identity,
    peer::{PeerAddress, PeerOrigin, PeerStatus, Reason, Report},
    status::{
        Cursor, Filter, FilterSpec, Hub, Interest, ListenerLimits, ListenerSpec, Listeners, PeerUpdate,
        ResetReason, Update,
    },
};

const STATUSES: [PeerStatus; 4] =
    [PeerStatus::Connecting, PeerStatus::Connected, PeerStatus::Ready, PeerStatus::Closing];

/// Something that happened to one of a handful of peers.
#[derive(Debug, Clone)]
struct Happened {
    host: u8,
    at: Duration,
    what: Update,
}

fn happened() -> impl Strategy<Value = Happened> {
    let is = (0..STATUSES.len(), 0..Reason::ALL.len(), "[a-zé ]{0,40}", any::<u32>()).prop_map(
        |(status, reason, detail, failures)| {
            Update::Status(Report {
                status: STATUSES[status],
                reason: Reason::ALL[reason],
                detail: detail.into(),
                failures,
                roles: None,
            })
        },
    );
    let what = prop_oneof![
        2 => Just(Update::added(PeerOrigin::Configured)),
        1 => Just(Update::added(PeerOrigin::Learned)),
        6 => is,
        1 => Just(Update::Origin(PeerOrigin::Configured)),
        1 => Just(Update::Removed),
    ];
    (0..4_u8, any::<u32>().prop_map(|nanos| Duration::from_nanos(u64::from(nanos) * 1_000)), what)
        .prop_map(|(host, at, what)| Happened { host, at, what })
}

fn hub_of(history: Vec<Happened>) -> Arc<Hub> {
    let hub = Arc::new(Hub::new(u64::MAX, 1_000));
    let identity = Arc::new(Identity::new("node", "domain"));
    hub.add_pool("p".into(), identity, SystemTime::UNIX_EPOCH);
    for Happened { host, at, what } in history {
        let hosts = ["leaf-101", "10.0.0.1", "2001:db8::1", "x"];
        let address = PeerAddress::new(hosts[usize::from(host)], 8009).unwrap();
        hub.publish(PeerUpdate { pool: "p".into(), address, at: SystemTime::UNIX_EPOCH + at, what });
    }
    hub
}

/// A message as a choice among what there is to be said.
#[derive(Debug, Clone)]
struct Choice {
    kind: u8,
    which: prop::sample::Index,
    parts: u8,
    previous: Option<u64>,
    number: u64,
}

fn choice() -> impl Strategy<Value = Choice> {
    let previous = prop_oneof![
        3 => Just(None),
        1 => Just(Some(0)),
        1 => (1..300_u64).prop_map(Some),
        1 => prop_oneof![Just(u64::MAX), any::<u64>()].prop_map(Some),
    ];
    let number = prop_oneof![Just(0), 1..300_u64, any::<u64>()];
    // Mostly changes.
    (0..14_u8, any::<prop::sample::Index>(), 0..3_u8, previous, number)
        .prop_map(|(kind, which, parts, previous, number)| Choice { kind, which, parts, previous, number })
}

impl Choice {
    fn message(&self, hub: &Arc<Hub>, events: &[Arc<Event>]) -> ListenerMessage {
        let cursor = Cursor { epoch: hub.epoch(), revision: self.number };
        let delivery = match self.kind {
            0 => self.attached(hub, cursor),
            1 => {
                let snapshot = hub.snapshot();
                Delivery::Snapshot {
                    peers: snapshot.peers.to_vec(),
                    pools: snapshot.pools.to_vec(),
                    nodes: Vec::new(),
                }
            }
            2 => Delivery::Snapshot { peers: Vec::new(), pools: Vec::new(), nodes: Vec::new() },
            3 => Delivery::Synced { cursor, peers: usize::try_from(self.number).unwrap() },
            4 => {
                let reasons = [ResetReason::Overflow, ResetReason::Compacted, ResetReason::EpochChanged];
                Delivery::Reset { reason: *self.which.get(&reasons), missed: self.number }
            }
            5 => Delivery::Heartbeat(cursor),
            6 => Delivery::Draining { cursor, retry_after: Duration::from_millis(self.number >> 16) },
            _ if events.is_empty() => Delivery::Heartbeat(cursor),
            _ => return self.change(self.which.get(events)),
        };
        ListenerMessage { revision: self.number, previous: self.previous.unwrap_or_default(), delivery }
    }

    fn change(&self, event: &Arc<Event>) -> ListenerMessage {
        let health = event.health.is_some();
        let parts = match self.parts {
            1 if health => Parts { peer: false, health, node: false },
            2 => Parts { peer: true, health: false, node: false },
            _ => Parts { peer: true, health, node: false },
        };
        let previous = self.previous.unwrap_or(event.revision - 1);
        let delivery = Delivery::Change { event: Arc::clone(event), parts };
        ListenerMessage { revision: event.revision, previous, delivery }
    }

    fn attached(&self, hub: &Arc<Hub>, cursor: Cursor) -> Delivery {
        let listeners = Listeners::new(
            Arc::clone(hub),
            ListenerLimits { listeners: 1, per_owner: 1, streams: 1, streams_per_owner: 1 },
        );
        let filter = FilterSpec {
            peers: vec!["leaf-*".to_owned()],
            interests: vec![Interest::Health],
            ..FilterSpec::default()
        };
        let filter = Filter::compile(filter).unwrap();
        let user_data = self.number.to_be_bytes()[..].into();
        let spec = ListenerSpec {
            filter,
            user_data,
            idle_ttl: Some(Duration::from_secs(600)),
            ..ListenerSpec::default()
        };
        let view = listeners.create(Some("id"), spec).unwrap();
        Delivery::Attached { listener: Box::new(view), cursor, resumed: self.parts == 1 }
    }
}

/// What is sent, and what a client makes of it.
fn sent(message: ListenerMessage, user_data: Option<&Arc<[u8]>>) -> (Vec<u8>, pb::WatchPeerStatusResponse) {
    let (mut bytes, message) = (Vec::new(), WatchMessage::new(message, user_data));
    message.encode_to(&mut bytes);
    assert_eq!(bytes.len(), message.length());
    let decoded = pb::WatchPeerStatusResponse::decode(&bytes[..]).unwrap();
    (bytes, decoded)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_message_is_sent_as_if_it_were_encoded_for_its_listener_alone(
        history in prop::collection::vec(happened(), 0..20),
        choices in prop::collection::vec(choice(), 0..12),
        user_data in prop_oneof![Just(Vec::new()), prop::collection::vec(any::<u8>(), 0..300)],
    ) {
        let (hub, user_data) = (hub_of(history), (!user_data.is_empty()).then(|| Arc::from(user_data)));
        let mut events = Vec::new();
        hub.read_after(0, usize::MAX, &mut events).unwrap();
        for choice in choices {
            let message = choice.message(&hub, &events);
            let expected = convert::message(&message, user_data.as_ref());
            prop_assert_eq!(sent(message, user_data.as_ref()).1, expected);
        }
    }

    #[test]
    fn a_change_is_encoded_once_for_all_listeners(
        history in prop::collection::vec(happened(), 1..20),
    ) {
        let hub = hub_of(history);
        let mut events = Vec::new();
        hub.read_after(0, usize::MAX, &mut events).unwrap();
        for event in events {
            for parts in [Parts { peer: true, health: false, node: false }, Parts { peer: true, health: true, node: false }] {
                prop_assert_eq!(encoded(&event, parts).as_ptr(), encoded(&event, parts).as_ptr());
            }
        }
    }
}
