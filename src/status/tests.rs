//! What listeners are promised, held against the hub, its log and its subscriptions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod continuity;
mod filter;
mod health;
mod hub;
mod listener;
mod log;
mod mirror;
mod owners;
mod subscription;
mod wait;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::*;
use crate::{
    opflex::{Identity, Roles},
    peer::{PeerAddress, PeerOrigin, PeerStatus, PeerStatus::*, PoolHealth, Reason, Report},
};

const EPOCH: u64 = 7;
const HEARTBEAT: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(300);

/// A hub with the empty pool `p` that remembers `history` changes.
fn hub(history: usize) -> Arc<Hub> {
    let hub = Hub::new(EPOCH, history);
    hub.add_pool("p".into(), identity(), at(0));
    Arc::new(hub)
}

fn identity() -> Arc<Identity> {
    let (name, domain, mac) = ("agent".into(), "domain".into(), "00:11:22:33:44:55".into());
    Arc::new(Identity { name, domain, location: None, mac, roles: Roles::default() })
}

fn at(second: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(second)
}

/// A peer on port 8009.
fn peer(host: &str) -> PeerAddress {
    PeerAddress::new(host, 8009).unwrap()
}

fn publish(hub: &Hub, host: &str, what: Update) -> Option<u64> {
    hub.publish(PeerUpdate { pool: "p".into(), address: peer(host), at: at(1), what })
}

fn add(hub: &Hub, host: &str) -> Option<u64> {
    publish(hub, host, Update::added(PeerOrigin::Configured))
}

fn is(status: PeerStatus, reason: Reason) -> Update {
    Update::Status(Report::new(status, reason))
}

/// The peer enters a status, for a reason that always is the same for that status.
fn set(hub: &Hub, host: &str, status: PeerStatus) -> Option<u64> {
    publish(hub, host, is(status, [Reason::Reset, Reason::Dialing][usize::from(status == Connecting)]))
}

fn options() -> AttachOptions {
    let (gap_policy, client) = (GapPolicy::Resnapshot, "client".into());
    let (resume_after, takeover, stop_after_sync, heartbeat) = (None, false, false, HEARTBEAT);
    let (caller, scope) = (Owner::default(), ListenerScope::All);
    AttachOptions { resume_after, gap_policy, takeover, stop_after_sync, heartbeat, client, caller, scope }
}

fn resume(epoch: u64, revision: u64) -> AttachOptions {
    AttachOptions { resume_after: Some(Cursor { epoch, revision }), ..options() }
}

/// What the stream has to say now; `None` if nothing.
fn now(stream: &mut Subscription) -> Option<Option<Result<ListenerMessage, EndReason>>> {
    match stream.advance() {
        Progress::Message(message) => Some(Some(Ok(message))),
        Progress::Ended(end) => Some(end.map(Err)),
        Progress::Idle(_) | Progress::Busy => None,
    }
}

/// The next message in short, or how it ended, or that there is nothing: see the tests of subscriptions.
fn next(stream: &mut Subscription) -> String {
    match now(stream) {
        None => "nothing".into(),
        Some(None) => "over".into(),
        Some(Some(Err(end))) => format!("end {end:?}"),
        Some(Some(Ok(message))) => short(&message),
    }
}

/// Everything the stream has to say now, in short.
fn told(stream: &mut Subscription) -> Vec<String> {
    let mut said: Vec<String> = Vec::new();
    while said.last().is_none_or(|last| last != "nothing" && last != "over") {
        said.push(next(stream));
    }
    said.retain(|message| message != "nothing");
    said
}

fn short(ListenerMessage { revision, previous, delivery }: &ListenerMessage) -> String {
    match delivery {
        Delivery::Attached { cursor, resumed, .. } => {
            format!("attached {}{}", cursor.revision, if *resumed { " resumed" } else { "" })
        }
        Delivery::Snapshot { peers, .. } => {
            let hosts: Vec<_> = peers.iter().map(|peer| peer.address.host()).collect();
            format!("snapshot {previous}>{revision} [{}]", hosts.join(" "))
        }
        Delivery::Synced { cursor, peers } => format!("synced {} {peers}", cursor.revision),
        Delivery::Change { event, parts } => {
            let peer = event.peer.as_ref().filter(|_| parts.peer).map(|change| &change.peer);
            let who = peer.map(|peer| format!(" {} {}", peer.address.host(), peer.status));
            let health = event.health.filter(|_| parts.health).map(|health| format!(" {}", health.health));
            format!("{previous}>{revision}{}{}", who.unwrap_or_default(), health.unwrap_or_default())
        }
        Delivery::Reset { reason, missed } => format!("reset {reason:?} {missed}"),
        Delivery::Heartbeat(cursor) => format!("heartbeat {}", cursor.revision),
        Delivery::Draining { cursor, .. } => format!("draining {}", cursor.revision),
    }
}
