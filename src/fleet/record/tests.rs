use proptest::prelude::*;

use super::*;
use crate::fleet::subject::tests::{names, subjects};

fn peer(pool: &Name, address: &PeerAddress) -> pb::Peer {
    pb::Peer {
        name: format!("pools/{pool}/peers/{address}"),
        pool: pool.to_string(),
        host: address.host().to_owned(),
        port: address.port().into(),
        status: pb::PeerStatus::Ready.into(),
        ..Default::default()
    }
}

fn change(pool: &Name, address: &PeerAddress, kind: pb::ChangeKind, has_health: bool) -> pb::Change {
    let peer = peer(pool, address);
    let health = has_health.then(|| pb::HealthChange {
        pool: format!("pools/{pool}"),
        health: pb::PoolHealth::Degraded.into(),
        cause: peer.name.clone(),
        ..Default::default()
    });
    let peer = pb::PeerChange { peer: Some(peer), kind: kind.into(), ..Default::default() };
    pb::Change { peer: Some(peer), health, node: None }
}

fn node(subject: &Subject, pools: Vec<Name>) -> pb::Node {
    pb::Node {
        name: format!("nodes/{}", subject.node),
        cluster: subject.cluster.to_string(),
        pools: pools.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// A valid record, and all that can be in one.
fn records() -> impl Strategy<Value = Record> {
    let kinds = prop_oneof![
        Just(pb::ChangeKind::Unspecified),
        Just(pb::ChangeKind::Added),
        Just(pb::ChangeKind::Status),
        Just(pb::ChangeKind::Removed),
        Just(pb::ChangeKind::Origin),
    ];
    let pools = prop::collection::vec(names(), 0..4);
    let numbers = (any::<u64>(), any::<u64>(), any::<u64>());
    (subjects(), kinds, any::<bool>(), pools, numbers).prop_map(
        |(subject, kind, has_health, pools, (epoch, revision, other))| {
            let content = match &subject.topic {
                Topic::Peer { pool, address } => match change(pool, address, kind, has_health) {
                    change if kind == pb::ChangeKind::Unspecified => Content::State(change),
                    change => Content::Change { change, previous: other },
                },
                Topic::Health { pool } => {
                    Content::Pool(pb::Pool { name: format!("pools/{pool}"), ..Default::default() })
                }
                Topic::Node => Content::Commit { node: node(&subject, pools), state: other },
                Topic::Up => Content::Up(node(&subject, pools)),
            };
            let header = Header { id: format!("{epoch}:{revision}"), epoch, revision };
            Record { subject, header, content }
        },
    )
}

/// The message as a reader gets it.
fn decode(message: &OutboundMessage) -> Result<Entry, RecordError> {
    Entry::decode(&message.subject, message.headers.as_ref().unwrap(), &message.payload)
}

proptest! {
    #[test]
    fn a_record_is_decoded_as_it_was_encoded(record in records()) {
        prop_assert_eq!(decode(&record.encode()), Ok(Entry::Record(Box::new(record))));
    }

    #[test]
    fn a_record_on_the_subject_of_another_is_rejected(one in records(), other in subjects()) {
        prop_assume!(one.subject != other);
        let mut message = one.encode();
        // A sign of life and a commit of one node have the same payload, but not the same headers.
        let is_same_node = one.subject.cluster == other.cluster && one.subject.node == other.node;
        prop_assume!(!(is_same_node && matches!(other.topic, Topic::Node | Topic::Up)));
        message.subject = other.to_string().into();
        // Records of a peer or a pool do not name their node: credentials decide who publishes on the subject.
        match (&one.subject.topic, &other.topic) {
            (a, b) if a == b && !matches!(a, Topic::Node | Topic::Up) => {}
            _ => prop_assert!(decode(&message).is_err()),
        }
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(
        subject in subjects(),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        values in prop::collection::vec("[ -~]{0,24}", 4),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in [EPOCH, REVISION, PREVIOUS, STATE].into_iter().zip(values) {
            headers.insert(name, value);
        }
        let _ = Entry::decode(&subject.to_string(), &headers, &payload);
    }

    #[test]
    fn a_damaged_record_is_an_error_or_a_record_of_the_same_subject(
        record in records(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut message = record.encode();
        let mut payload = message.payload.to_vec();
        if !payload.is_empty() {
            let place = place.index(payload.len());
            payload[place] = byte;
        }
        message.payload = payload.into();
        if let Ok(Entry::Record(decoded)) = decode(&message) {
            prop_assert_eq!(decoded.subject, record.subject);
        }
    }
}

fn example(content: impl FnOnce(&Subject) -> Content, subject: &str) -> Record {
    let subject: Subject = subject.parse().unwrap();
    let content = content(&subject);
    Record { content, subject, header: Header { id: "7:3".into(), epoch: 7, revision: 3 } }
}

fn header<'a>(message: &'a OutboundMessage, name: &str) -> Option<&'a str> {
    message.headers.as_ref().unwrap().get(name).map(|value| value.as_str())
}

#[test]
fn the_headers_are_those_of_the_contract() {
    let (pool, address) = ("default".parse().unwrap(), "leaf-101:8009".parse().unwrap());
    let removed = change(&pool, &address, pb::ChangeKind::Removed, false);
    let subject = "opflex.v1.lab.n.default.peer.dhim2phd64o32eho60o3i";
    let message = example(|_| Content::Change { change: removed, previous: 2 }, subject).encode();
    assert_eq!(header(&message, "Nats-Msg-Id"), Some("7:3"));
    assert_eq!(
        [header(&message, "Opflex-Epoch"), header(&message, "Opflex-Revision")],
        [Some("7"), Some("3")]
    );
    assert_eq!(header(&message, "Opflex-Previous-Revision"), Some("2"));
    assert_eq!(header(&message, "Nats-TTL"), Some("3600s"));

    let commit = example(
        |subject| Content::Commit { node: node(subject, vec![pool]), state: 1 },
        "opflex.v1.lab.n.node",
    );
    assert_eq!(header(&commit.encode(), "Opflex-State-Revision"), Some("1"));
    assert_eq!(header(&commit.encode(), "Nats-TTL"), None);
    let up = example(|subject| Content::Up(node(subject, Vec::new())), "opflex.v1.lab.n.up").encode();
    assert_eq!([header(&up, "Nats-TTL"), header(&up, "Opflex-Previous-Revision")], [Some("120s"), None]);
}

#[test]
fn a_marker_of_the_server_needs_no_other_header() {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Marker-Reason", "MaxAge");
    let subject = "opflex.v1.lab.n.up";
    let expired = Entry::Marker(subject.parse().unwrap(), MarkerReason::Expired);
    assert_eq!(Entry::decode(subject, &headers, b""), Ok(expired));
    for reason in ["Purge", "Remove"] {
        headers.insert("Nats-Marker-Reason", reason);
        let deleted = Entry::Marker(subject.parse().unwrap(), MarkerReason::Deleted);
        assert_eq!(Entry::decode(subject, &headers, b""), Ok(deleted));
    }
}

#[test]
fn what_is_too_large_or_lacks_a_header_is_rejected() {
    let up = example(|subject| Content::Up(node(subject, Vec::new())), "opflex.v1.lab.n.up").encode();
    let headers = up.headers.clone().unwrap();
    let long = vec![0; MAX_RECORD + 1];
    assert_eq!(Entry::decode(&up.subject, &headers, &long), Err(RecordError::TooLarge(long.len())));
    let none = HeaderMap::new();
    assert_eq!(Entry::decode(&up.subject, &none, &up.payload), Err(RecordError::Header(EPOCH)));
}
