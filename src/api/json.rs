//! The API's messages as proto3-JSON: one object, one line. Canonical: names in lowerCamelCase, enums by name, 64 bit
//! numbers as strings, bytes in base64. Fields that have their default are there, so that the keys are the same whatever
//! happens; messages that are not set, and the events that a message is not about, are left out.

use std::sync::LazyLock;

use anyhow::{Context as _, anyhow};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::{api::pb, opflex::text::is_control_or_format};

/// The API as its proto files describe it.
static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(pb::DESCRIPTORS).map_err(|error| error.to_string()));

/// A message that has a name in the API.
pub(crate) trait Named: Message {
    /// The name within the API's package.
    const NAME: &'static str;
}

macro_rules! named {
    ($($message:ident),+ $(,)?) => {
        $(impl Named for pb::$message { const NAME: &'static str = stringify!($message); })+
    };
}

named!(
    Change,
    CreateListenerResponse,
    DestroyListenerResponse,
    ListListenersResponse,
    ListNodesResponse,
    ListPeersResponse,
    ListPoolsResponse,
    ListTransitionsResponse,
    Listener,
    Node,
    Peer,
    Pool,
    RemovePeerResponse,
    ResetPeersResponse,
    Transition,
    WatchPeerStatusResponse,
);

/// The message as JSON, without a line break in it or after it.
pub(crate) fn line<M: Named>(message: &M) -> anyhow::Result<String> {
    let pool = POOL.as_ref().map_err(|error| anyhow!("the API's description is broken: {error}"))?;
    let name = format!("opflex.peerstatus.v1.{}", M::NAME);
    let descriptor =
        pool.get_message_by_name(&name).with_context(|| format!("no message {name} in the API"))?;
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message)?;
    let mut json = serde_json::Serializer::new(Vec::new());
    dynamic.serialize_with_options(&mut json, &SerializeOptions::new().skip_default_fields(false))?;
    Ok(escape_controls(&String::from_utf8(json.into_inner())?))
}

/// JSON escapes the control characters of ASCII; a terminal acts upon those of Latin 1 and format characters as well.
fn escape_controls(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        if is_control_or_format(c) {
            line.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_change_is_one_line_of_canonical_json() {
        let peer = pb::Peer {
            name: "pools/default/peers/a:8009".into(),
            port: 8009,
            status: pb::PeerStatus::Ready as i32,
            status_since: Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }),
            detail: "two\nlines\u{9b}2J\u{202e}\u{e0001}".into(),
            revision: 7,
            ..Default::default()
        };
        let change = pb::Change {
            node: None,
            peer: Some(pb::PeerChange {
                peer: Some(peer),
                kind: pb::ChangeKind::Status as i32,
                previous_status: pb::PeerStatus::Connected as i32,
                time: None,
            }),
            health: None,
        };
        let message = pb::WatchPeerStatusResponse {
            revision: 7,
            previous_revision: 6,
            user_data: "hi".into(),
            event: Some(pb::watch_peer_status_response::Event::Change(change)),
        };
        assert_eq!(
            line(&message).unwrap(),
            concat!(
                r#"{"revision":"7","previousRevision":"6","userData":"aGk=","change":{"peer":{"peer":"#,
                r#"{"name":"pools/default/peers/a:8009","pool":"","host":"","port":8009,"#,
                r#""origin":"PEER_ORIGIN_UNSPECIFIED","status":"PEER_STATUS_READY","reason":"REASON_UNSPECIFIED","#,
                r#""detail":"two\nlines\u009b2J\u202e\udb40\udc01","statusSince":"1970-01-01T00:00:01.500Z","#,
                r#""consecutiveFailures":0,"transitionCount":"0","roles":[],"revision":"7","#,
                r#""wanted":false,"failureCount":"0","flapCount":"0","learnedFrom":"","evidence":"EVIDENCE_UNSPECIFIED"},"#,
                r#""kind":"CHANGE_KIND_STATUS","previousStatus":"PEER_STATUS_CONNECTED"}}}"#
            )
        );
    }

    #[test]
    fn every_named_message_is_in_the_api() {
        for empty in [
            line(&pb::CreateListenerResponse::default()),
            line(&pb::DestroyListenerResponse::default()),
            line(&pb::RemovePeerResponse::default()),
        ] {
            assert_eq!(empty.unwrap(), "{}");
        }
        assert_eq!(line(&pb::ResetPeersResponse::default()).unwrap(), r#"{"resetCount":0}"#);
        assert_eq!(line(&pb::Transition::default()).unwrap(), r#"{"revision":"0"}"#);
        assert!(line(&pb::Listener::default()).is_ok());
    }

    #[test]
    fn the_keys_are_the_same_whatever_the_values() {
        let pool = pb::Pool { identity: Some(pb::Identity::default()), ..Default::default() };
        assert_eq!(
            line(&pool).unwrap(),
            concat!(
                r#"{"name":"","health":"POOL_HEALTH_UNSPECIFIED","identity":{"name":"","domain":"","location":""},"#,
                r#""peerCount":0,"readyCount":0,"revision":"0","parkedCount":0,"detail":""}"#
            )
        );
        let peer = line(&pb::Peer { status: 77, ..Default::default() }).unwrap();
        assert!(
            peer.contains(r#""status":77,"#),
            "a value newer than this build is shown as its number: {peer}"
        );
        for key in ["consecutiveFailures", "detail", "host", "roles", "transitionCount"] {
            assert!(peer.contains(&format!("\"{key}\":")), "{key}: {peer}");
        }
    }
}
