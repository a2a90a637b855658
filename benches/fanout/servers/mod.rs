//! The servers: ours and the baselines. Each publishes on commands from its standard input.

mod naive;
mod ours;
mod raw;

use std::{
    io::{self, BufRead as _, Write as _},
    net::SocketAddr,
    sync::LazyLock,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use opflex_peerstatus::api::pb;
use prost::Message as _;

use super::support::Outcome;

/// Runs one of the servers until the end of standard input.
pub(crate) fn be(role: &str) -> Outcome<()> {
    match role {
        "raw" => raw::serve(),
        "naive" => naive::serve(),
        _ => ours::serve(role.strip_prefix("ours").ok_or("no such server")?),
    }
}

fn ready(address: SocketAddr) -> Outcome<()> {
    println!("listening on {address}");
    Ok(io::stdout().flush()?)
}

/// Reads commands, and calls `publish` with the number of each change.
fn obey(mut publish: impl FnMut(u64) -> Outcome<()>) -> Outcome<()> {
    let mut number = 0;
    for order in io::stdin().lock().lines() {
        let order = order?;
        let words: Vec<&str> = order.split(' ').collect();
        let [what, rate, changes] = words[..] else { return Err("an order of three words".into()) };
        let between =
            if what == "pace" { Duration::from_secs(1) / rate.parse::<u32>()? } else { Duration::ZERO };
        let mut due = Instant::now();
        for _ in 0..changes.parse::<u32>()? {
            if let Some(early) = due.checked_duration_since(Instant::now()) {
                thread::sleep(early);
            }
            due += between;
            number += 1;
            publish(number)?;
        }
        println!("done");
        io::stdout().flush()?;
    }
    Ok(())
}

/// Length of the HTTP/2 and gRPC headers before a message.
const HEADERS: usize = 9 + 5;

/// Bytes for one change, for those who do not speak our API: as many as it has there. They begin with the time, in
/// nanoseconds.
pub(crate) fn record_len() -> usize {
    // A fixed time, since its encoded length varies.
    static LENGTH: LazyLock<usize> = LazyLock::new(|| {
        let then = UNIX_EPOCH + Duration::from_nanos(1_800_000_000_987_654_321);
        HEADERS + message_at(1_000_000, then).encoded_len()
    });
    *LENGTH
}

/// The message of the change with this number, as our service sends it.
pub(crate) fn message(number: u64) -> pb::WatchPeerStatusResponse {
    message_at(number, SystemTime::now())
}

fn message_at(number: u64, now: SystemTime) -> pb::WatchPeerStatusResponse {
    let host = format!("leaf-{}", 101 + number % 50);
    let peer = pb::Peer {
        name: format!("pools/default/peers/{host}:8009"),
        pool: "default".to_owned(),
        host,
        port: 8009,
        origin: pb::PeerOrigin::Configured.into(),
        status: pb::PeerStatus::Connecting.into(),
        reason: pb::Reason::ConnectFailed.into(),
        detail: "connection refused (os error 111)".to_owned(),
        status_since: Some(now.into()),
        last_ready_time: Some(now.into()),
        consecutive_failures: 1,
        transition_count: number,
        roles: Vec::new(),
        revision: number,
        wanted: true,
        not_ready_since: Some(now.into()),
        last_failure: Some(pb::PeerFailure {
            reason: pb::Reason::ConnectFailed.into(),
            detail: "connection refused (os error 111)".to_owned(),
            time: Some(now.into()),
        }),
        failure_count: number,
        flap_count: 1,
        learned_from: String::new(),
        ..pb::Peer::default()
    };
    let change = pb::PeerChange {
        peer: Some(peer),
        kind: pb::ChangeKind::Status.into(),
        previous_status: pb::PeerStatus::Connecting.into(),
        time: Some(now.into()),
    };
    pb::WatchPeerStatusResponse {
        revision: number,
        previous_revision: number - 1,
        user_data: bytes::Bytes::new(),
        event: Some(pb::watch_peer_status_response::Event::Change(pb::Change {
            node: None,
            peer: Some(change),
            health: None,
        })),
    }
}
