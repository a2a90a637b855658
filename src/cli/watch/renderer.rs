//! The messages of a watch as lines for people: first the state, then the changes as rows of one table. The caller
//! prints them.

use std::{collections::BTreeSet, time::SystemTime};

use prost_types::Timestamp;

use crate::{
    api::pb::{
        Attached, Change, ChangeKind, HealthChange, Peer, PeerChange, Pool, PoolHealth, Snapshot, Synced,
        WatchPeerStatusResponse, watch_peer_status_response::Event,
    },
    cli::{
        filter,
        style::{self, Style},
        table::{Cell, Columns, table},
        text,
    },
};

/// `08:31:02.114`
const TIME_WIDTH: usize = 12;
/// `CONNECTING → CONNECTED`
const STATUS_WIDTH: usize = 22;

/// Keeps what aligns the rows, and a snapshot until it is complete.
#[derive(Debug)]
pub(crate) struct Renderer {
    pub(crate) style: Style,
    /// Whether nothing comes after the state.
    until_synced: bool,
    /// Short names of the pools seen; with more than one, peers are shown as `pool/peer`.
    pools: BTreeSet<String>,
    /// Of the changes: when, who, the status before and now, why.
    columns: Columns,
    snapshot: Option<Snapshot>,
    /// How many streams there were.
    streams: usize,
    includes_peers: bool,
}

impl Renderer {
    pub(crate) fn new(style: Style, until_synced: bool) -> Self {
        Self {
            style,
            until_synced,
            pools: BTreeSet::new(),
            columns: Columns::new([TIME_WIDTH, 0, STATUS_WIDTH, 0]),
            snapshot: None,
            streams: 0,
            includes_peers: true,
        }
    }

    /// The lines for a message, without line breaks.
    pub(crate) fn render(&mut self, message: &WatchPeerStatusResponse, now: SystemTime) -> Vec<String> {
        match &message.event {
            Some(Event::Attached(attached)) => self.attached(attached),
            Some(Event::Snapshot(part)) => {
                let snapshot = self.snapshot.get_or_insert_default();
                snapshot.pools.extend_from_slice(&part.pools);
                snapshot.peers.extend_from_slice(&part.peers);
                Vec::new()
            }
            Some(Event::Synced(synced)) => self.synced(synced, now),
            Some(Event::Change(change)) => self.change(change),
            Some(Event::Reset(_)) => {
                self.snapshot = None;
                Vec::new()
            }
            Some(Event::Heartbeat(_) | Event::Draining(_)) | None => Vec::new(),
        }
    }

    fn attached(&mut self, attached: &Attached) -> Vec<String> {
        self.snapshot = None;
        self.streams += 1;
        let filter = attached.listener.as_ref().and_then(|listener| listener.filter.as_ref());
        self.includes_peers = filter.is_none_or(filter::includes_peers);
        let listener = attached.listener.as_ref().map_or("", |listener| &listener.name);
        match attached.resumed {
            _ if listener.is_empty() => Vec::new(),
            true if self.streams > 1 => Vec::new(),
            true => vec![self.heading(&format!("watching as {listener}, from where it was"))],
            false => vec![self.heading(&format!("watching as {listener}"))],
        }
    }

    fn synced(&mut self, synced: &Synced, now: SystemTime) -> Vec<String> {
        let Some(snapshot) = self.snapshot.take() else {
            return vec![self.heading(match self.until_synced {
                true => "that is all; times are UTC",
                false if self.streams > 1 => "live again",
                false => "live; times are UTC",
            })];
        };
        self.pools.extend(snapshot.pools.iter().map(|pool| text::pool_name(&pool.name).to_owned()));
        self.pools.extend(snapshot.peers.iter().map(|peer| peer.pool.clone()));
        let mut lines: Vec<String> = snapshot.pools.iter().map(|pool| self.pool(pool, now)).collect();
        if !snapshot.peers.is_empty() {
            lines.extend(self.peers(&snapshot.peers, now));
        }
        let count = match self.includes_peers {
            true => count(usize::try_from(synced.peer_count).unwrap_or(usize::MAX), "peer"),
            false => count(snapshot.pools.len(), "pool"),
        };
        let live = if self.until_synced { "as of now" } else { "live" };
        lines.push(self.heading(&format!("{live}: {count}; times are UTC")));
        lines
    }

    /// `pool default: DEGRADED for 3m 12s, 2 of 3 peers ready`
    fn pool(&self, pool: &Pool, now: SystemTime) -> String {
        let since = text::age(pool.health_since.as_ref(), now);
        let counts = text::ready_of(pool.ready_count, pool.peer_count);
        Cell::plain(format!("pool {}: ", text::pool_name(&pool.name)))
            .and(Cell::health(pool.health))
            .and(Cell::plain(format!(" for {since}, {counts}")))
            .show(self.style)
    }

    fn peers(&mut self, peers: &[Peer], now: SystemTime) -> Vec<String> {
        let mut rows = Vec::new();
        for peer in peers {
            let name = self.peer_name(&peer.name);
            self.columns.grow(&[Cell::default(), name.clone()]);
            rows.push(vec![
                name,
                Cell::status(peer.status),
                Cell::plain(text::age(peer.status_since.as_ref(), now)),
                match peer.consecutive_failures {
                    0 => Cell::default(), // what is not zero stands out
                    failures => Cell::plain(failures),
                },
                Cell::reason_and_detail(peer),
            ]);
        }
        table(&["PEER", "STATUS", "SINCE", "FAILURES", "REASON"], rows, "", self.style)
    }

    fn peer_name(&self, name: &str) -> Cell {
        let address = text::peer_address(name);
        let pool = name.strip_prefix("pools/").and_then(|rest| rest.split_once("/peers/"));
        match pool {
            Some((pool, _)) if self.pools.len() > 1 => Cell::plain(format!("{pool}/{address}")),
            _ => Cell::plain(address),
        }
    }

    /// A row for what happened to the peer, and one for what that did to its pool.
    fn change(&mut self, change: &Change) -> Vec<String> {
        let mut rows = Vec::new();
        if let Some(event) = &change.peer
            && let Some(peer) = &event.peer
        {
            self.pools.insert(peer.pool.clone());
            let (status, why) = status_change(event, peer);
            rows.push([clock(event.time), self.peer_name(&peer.name), status, why]);
        }
        if let Some(event) = &change.health {
            let mut why = Cell::plain(text::ready_of(event.ready_count, event.peer_count));
            if rows.is_empty() {
                why = why.and(Cell::plain(": ")).and(self.peer_name(&event.cause)).dimmed();
            }
            let pool = Cell::plain(format!("pool {}", text::pool_name(&event.pool)));
            rows.push([clock(event.time), pool, health(event), why]);
        }
        rows.iter().for_each(|row| self.columns.grow(row));
        rows.iter().map(|row| self.columns.line(row, self.style)).collect()
    }

    fn heading(&self, text: &str) -> String {
        Cell::new(style::DIM, &format!("-- {text} --")).show(self.style)
    }
}

/// `no peers`, `1 peer`, `2 peers`
fn count(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

fn clock(time: Option<Timestamp>) -> Cell {
    Cell::new(style::DIM, &text::clock(time.as_ref()))
}

/// `READY → CONNECTING`, the first part dimmed.
fn arrow(before: Cell, now: Cell) -> Cell {
    before.dimmed().and(Cell::new(style::DIM, " → ")).and(now)
}

/// The status of the peer before and now, and why.
fn status_change(event: &PeerChange, peer: &Peer) -> (Cell, Cell) {
    let (before, now) = (Cell::status(event.previous_status), Cell::status(peer.status));
    let why = Cell::reason_and_detail(peer);
    match event.kind() {
        ChangeKind::Added => (Cell::new(style::BOLD, "+ added"), Cell::plain(text::origin(peer.origin))),
        ChangeKind::Removed => (Cell::new(style::BOLD, "- removed"), why),
        ChangeKind::Origin => (now.dimmed(), Cell::new_origin(peer)),
        _ if event.previous_status == peer.status => (now.dimmed(), why.dimmed()), // only the reason is new
        _ => (arrow(before, now), why),
    }
}

/// The health of the pool before and now.
fn health(event: &HealthChange) -> Cell {
    let now = Cell::health(event.health);
    if event.previous == event.health || event.previous == i32::from(PoolHealth::Unspecified) {
        return now;
    }
    arrow(Cell::health(event.previous), now)
}

#[cfg(test)]
mod tests;
