//! The status page: rendered with the state at the time of the request, so that it is complete without scripts; with
//! them, it goes on from there by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::SystemTime,
};

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
    },
};

use super::router::INDEX;
use crate::{
    peer::{PeerStatus, PoolHealth, Severity},
    status::{Hub, PeerState, PoolState, Snapshot, clock, node_of},
};

/// Rows of the page as it is served. Scripts add the others on request.
const ROWS: usize = 200;
/// Only its own style, script and connections. `data:` is its empty icon.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);
const PROTECTION: [(HeaderName, HeaderValue); 4] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// For browsers the page, for others the list of paths.
pub(super) async fn page(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    if !accept.contains("text/html") {
        return INDEX.into_response();
    }
    // Off the runtime, because many peers take a while.
    let rendered =
        tokio::task::spawn_blocking(move || Page::of(&hub.snapshot(), hub.is_fleet()).render()).await;
    match rendered.map_err(|error| error.to_string()).and_then(|page| page.map_err(|error| error.to_string()))
    {
        Ok(page) => (PROTECTION, [(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the page could not be rendered: {error}\n"))
                .into_response()
        }
    }
}

pub(super) async fn style() -> impl IntoResponse {
    (PROTECTION, [(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page/page.css"))
}

pub(super) async fn script() -> impl IntoResponse {
    (PROTECTION, [(CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page/page.js"))
}

#[derive(Template)]
#[template(path = "index.html")]
struct Page {
    version: &'static str,
    time: String,
    is_fleet: bool,
    severities: String,
    pools: Vec<PoolTile>,
    peers: Vec<PeerRow>,
    /// Peers that have no row.
    hidden: usize,
}

struct PoolTile {
    name: Arc<str>,
    health: PoolHealth,
    ready: u32,
    wanted: u32,
    parked: u32,
    /// Of a fleet: whether peers of its node may be missing.
    is_incomplete: bool,
    since: String,
}

struct PeerRow {
    /// Empty, but in a fleet.
    node: String,
    pool: String,
    address: String,
    learned_from: Option<String>,
    status: PeerStatus,
    is_wanted: bool,
    is_flapping: bool,
    since: String,
    flaps: u64,
    failures: u64,
    last_failure: String,
}

impl Page {
    fn of(snapshot: &Snapshot, is_fleet: bool) -> Self {
        let stale: BTreeMap<&str, SystemTime> =
            snapshot.pools.iter().filter_map(|pool| Some((&*pool.name, pool.stale_since?))).collect();
        let mut peers: Vec<KnownPeer<'_>> =
            snapshot.peers.iter().map(|peer| KnownPeer::of(peer, &stale)).collect();
        peers.sort_by_key(KnownPeer::severity);
        let nodes = snapshot.nodes.iter().map(|summary| &summary.node).filter(|node| node.is_incomplete);
        let incomplete: BTreeSet<&str> = nodes.map(|node| &*node.name).collect();
        let is_incomplete = |pool: &str| node_of(pool).is_some_and(|(node, _)| incomplete.contains(node));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            time: clock::rfc3339(SystemTime::now()),
            is_fleet,
            severities: severities(),
            pools: snapshot.pools.iter().map(|pool| PoolTile::of(pool, is_incomplete(&pool.name))).collect(),
            hidden: peers.len().saturating_sub(ROWS),
            peers: peers.iter().take(ROWS).map(PeerRow::of).collect(),
        }
    }
}

impl PoolTile {
    fn of(pool: &PoolState, is_incomplete: bool) -> Self {
        Self {
            is_incomplete,
            name: Arc::clone(&pool.name),
            health: if pool.stale_since.is_some() { PoolHealth::Unknown } else { pool.health },
            ready: pool.known_ready(),
            wanted: pool.wanted,
            parked: pool.parked,
            since: clock::rfc3339(clock::shift().to_system(pool.stale_since.unwrap_or(pool.health_since))),
        }
    }
}

/// A peer as far as it is known: of one that is wanted, and whose node is STALE, only what it was.
struct KnownPeer<'a> {
    last: &'a PeerState,
    status: PeerStatus,
    stale_since: Option<SystemTime>,
}

impl<'a> KnownPeer<'a> {
    /// `stale` has the pools of STALE nodes.
    fn of(last: &'a PeerState, stale: &BTreeMap<&str, SystemTime>) -> Self {
        let stale_since = stale.get(&*last.pool).copied().filter(|_| last.status.is_wanted());
        let status = stale_since.map_or(last.status, |_| PeerStatus::Unknown);
        Self { last, status, stale_since }
    }

    /// Since when it has not been READY, or has been what it is instead, or unknown.
    fn since(&self) -> SystemTime {
        let not_ready_since = self.last.not_ready_since.filter(|_| self.status != PeerStatus::Unknown);
        self.stale_since.or(not_ready_since).unwrap_or(self.last.status_since)
    }

    /// The worst is the least; of those that are not READY, the longest first.
    fn severity(&self) -> (Severity, Option<SystemTime>) {
        let (peer, is_ready) = (self.last, self.status == PeerStatus::Ready);
        let severity = Severity::of(peer.status.is_wanted(), is_ready, peer.flaps, peer.failures.total());
        let since = self.stale_since.or(peer.not_ready_since);
        (severity, since.filter(|_| severity == Severity::Missing))
    }

    fn last_failure(&self, node: &str) -> String {
        match &self.last.last_failure {
            _ if self.stale_since.is_some() => {
                format!("was {}; nothing is heard of node {node}", self.last.status)
            }
            _ if self.status == PeerStatus::Unknown => format!("{}: {}", self.last.reason, self.last.detail),
            Some(failure) => format!("{}: {}", failure.reason, failure.detail),
            None => String::new(),
        }
    }
}

impl PeerRow {
    fn of(known: &KnownPeer<'_>) -> Self {
        let peer = known.last;
        let (node, pool) = node_of(&peer.pool).unwrap_or(("", &peer.pool));
        Self {
            node: node.to_owned(),
            pool: pool.to_owned(),
            address: peer.address.to_string(),
            learned_from: peer.learned_from.as_ref().map(ToString::to_string),
            status: known.status,
            is_wanted: peer.status.is_wanted(),
            is_flapping: peer.is_flapping(),
            since: clock::rfc3339(clock::shift().to_system(known.since())),
            flaps: peer.flaps,
            failures: peer.failures.total(),
            last_failure: known.last_failure(node),
        }
    }
}

/// For the script: how bad a peer is, for each kind of peer. Its bits: wanted, READY, lost at some time, failed before.
fn severities() -> String {
    let kind = |kind: u64| Severity::of(kind & 8 != 0, kind & 4 != 0, kind >> 1 & 1, kind & 1);
    let kinds = (0..16).map(kind).collect::<Vec<_>>();
    let ranks = BTreeSet::from_iter(kinds.iter().copied());
    kinds.iter().map(|kind| ranks.range(..kind).count().to_string()).collect()
}

/// The class of an element that shows a status or a health.
fn class(shown: impl fmt::Display) -> String {
    shown.to_string().to_lowercase()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::status::Cursor;

    fn empty(is_fleet: bool) -> Page {
        let cursor = Cursor { epoch: 0, revision: 0 };
        Page::of(&Snapshot { cursor, peers: [].into(), pools: [].into(), nodes: [].into() }, is_fleet)
    }

    #[test]
    fn the_script_gets_the_order_of_peers() {
        // Not wanted; wanted and not READY; READY: never failed, failed before, lost, both.
        assert_eq!(severities(), "33333333".to_owned() + "0000" + "4211");
    }

    #[test]
    fn a_fleet_has_a_column_for_nodes() {
        for is_fleet in [true, false] {
            let page = empty(is_fleet).render().unwrap();
            assert_eq!(page.contains("scope=\"col\">Node</th>"), is_fleet, "{page}");
        }
    }

    #[test]
    fn what_peers_say_is_text_and_never_markup() {
        let markup = "<img src=x onerror=alert(1)>\"'&";
        let row = PeerRow {
            node: String::new(),
            pool: "default".to_owned(),
            address: "leaf-1:8009".to_owned(),
            learned_from: Some(markup.to_owned()),
            status: PeerStatus::Connecting,
            is_wanted: true,
            is_flapping: false,
            since: String::new(),
            flaps: 0,
            failures: 1,
            last_failure: markup.to_owned(),
        };
        let page = Page { peers: vec![row], ..empty(false) };
        let page = page.render().unwrap();
        assert!(!page.contains("<img") && page.contains("&#60;img src=x"), "{page}");
        assert_eq!(page.matches("onerror").count(), 2);
    }
}
