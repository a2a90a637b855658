//! All about one peer in few lines, so that its history has room below.

use std::time::SystemTime;

use crate::{
    api::pb::Peer,
    cli::{
        peers::{list, milliseconds, roles},
        table::Cell,
        text,
    },
};

/// Titles and values.
pub(super) fn rows(peer: &Peer, now: SystemTime) -> Vec<(&'static str, Cell)> {
    let since = match list::since(peer) {
        Some(since) => format!(" since {}", text::stamp(Some(since))),
        None => String::new(),
    };
    let status = list::status(peer, now).and(Cell::plain(", ")).and(list::how_long(peer, now));
    let in_a_row = match peer.consecutive_failures {
        0 => String::new(),
        number => format!(" ({number} in a row)"),
    };
    let flaps =
        list::flaps(peer, now).and(Cell::plain(format!("; failures: {}{in_a_row}", peer.failure_count)));
    let mut rows = vec![
        ("name", Cell::plain(&peer.name)),
        ("status", status.and(Cell::plain(since))),
        ("reason", list::reason(peer)),
    ];
    if let Some(failure) = &peer.last_failure
        && (failure.reason, &failure.detail) != (peer.reason, &peer.detail)
    {
        let ago = Cell::plain(format!("{} ago: ", text::age(failure.time.as_ref(), now)));
        rows.push(("last failure", ago.and(Cell::reason_and_detail(failure.reason, &failure.detail))));
    }
    rows.push(("flaps", flaps));
    rows.push(("origin", Cell::plain(origin(peer))));
    rows
}

/// `learned from b:8009; policy repository; echo in 1.24 ms`
fn origin(peer: &Peer) -> String {
    let mut origin = text::origin(peer.origin);
    if !peer.learned_from.is_empty() {
        origin = format!("{origin}, from the list of {}", text::peer_address(&peer.learned_from));
    }
    if !peer.roles.is_empty() {
        origin = format!("{origin}; {}", roles(peer));
    }
    if peer.echo_rtt.is_some() {
        origin = format!("{origin}; echo in {}", milliseconds(peer.echo_rtt));
    }
    if peer.observed_time.is_some() {
        let (evidence, rtt) = (text::evidence(peer.evidence), milliseconds(peer.tcp_rtt));
        origin = format!("{origin}; observed, evidence {evidence}, TCP round trip {rtt}");
    }
    origin
}
