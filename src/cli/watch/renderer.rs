//! The messages of a watch as lines for people: first the state, then the changes as rows of one table. The caller
//! prints them.

use std::{collections::BTreeSet, time::SystemTime};

use prost_types::Timestamp;

use crate::{
    api::pb::{
        Attached, Change, ChangeKind, HealthChange, Interest, Node, NodeChange, NodeState, Peer, PeerChange,
        Pool, Snapshot, Synced, WatchPeerStatusResponse, watch_peer_status_response::Event,
    },
    cli::{
        nodes,
        peers::list,
        places::Places,
        pool,
        stale::StaleNodes,
        style::{self, Style},
        table::{Cell, Columns},
        text,
        watch::flood::{Floods, Folded},
    },
    client::includes_peers,
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
    /// Globs for nodes.
    nodes: Vec<String>,
    floods: Floods,
    /// The day of the last line, in UTC.
    day: Option<String>,
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
            nodes: Vec::new(),
            floods: Floods::default(),
            day: None,
        }
    }

    /// The lines for a message, without line breaks.
    pub(crate) fn render(&mut self, message: &WatchPeerStatusResponse, now: SystemTime) -> Vec<String> {
        self.day.get_or_insert_with(|| text::day(Some(&now.into())));
        match &message.event {
            Some(Event::Attached(attached)) => self.attached(attached),
            Some(Event::Snapshot(part)) => {
                let snapshot = self.snapshot.get_or_insert_default();
                snapshot.pools.extend_from_slice(&part.pools);
                snapshot.peers.extend_from_slice(&part.peers);
                snapshot.nodes.extend_from_slice(&part.nodes);
                Vec::new()
            }
            Some(Event::Synced(synced)) => self.synced(synced, now),
            Some(Event::Change(change)) => self.change(change, now),
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
        self.includes_peers = filter.is_none_or(includes_peers);
        let asked = filter.filter(|filter| {
            filter.interests.is_empty() || filter.interests.contains(&Interest::Nodes.into())
        });
        self.nodes = asked.map(|filter| filter.nodes.clone()).unwrap_or_default();
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
        // All of them if they are what was asked for, else those that pools and peers do not tell of.
        let has_others = !(snapshot.pools.is_empty() && snapshot.peers.is_empty());
        let is_shown = |node: &&Node| !has_others || node.state() != NodeState::Live;
        let shown: Vec<Node> = snapshot.nodes.iter().filter(is_shown).cloned().collect();
        let mut lines = nodes::table_of(&shown, self.style, now);
        lines.extend(snapshot.pools.iter().map(|pool| self.pool(pool, now)));
        if !snapshot.peers.is_empty() {
            let stale = StaleNodes::of(&snapshot.nodes);
            let known: Vec<Peer> = snapshot.peers.iter().map(|peer| stale.known(peer).into_owned()).collect();
            lines.extend(self.peers(&known, now));
        }
        let count = match (self.includes_peers, snapshot.pools.len()) {
            (true, _) => count(usize::try_from(synced.peer_count).unwrap_or(usize::MAX), "peer"),
            (false, 0) if !snapshot.nodes.is_empty() => count(snapshot.nodes.len(), "node"),
            (false, pools) => count(pools, "pool"),
        };
        let live = if self.until_synced { "as of now" } else { "live" };
        let missing = match self.nodes.is_empty() || !snapshot.nodes.is_empty() {
            true => String::new(),
            false => format!("; no node matches {} yet", text::plain(&self.nodes.join(", "))),
        };
        lines.push(self.heading(&format!("{live}: {count}; times are UTC{missing}")));
        lines
    }

    /// `pool default: DEGRADED for 3m 12s, 2 of 3 peers ready`
    fn pool(&self, pool: &Pool, now: SystemTime) -> String {
        let since = text::age(pool.health_since.as_ref(), now);
        let counts = text::ready_of(pool.ready_count, pool.peer_count);
        let rest = match pool.stale_since {
            None => Cell::plain(format!(" for {since}, {counts}")),
            Some(_) => Cell::plain(", ").and(pool::how_long(pool, now)),
        };
        Cell::plain(format!("pool {}: ", text::pool_name(&pool.name)))
            .and(Cell::health(pool::health(pool)))
            .and(rest)
            .show(self.style)
    }

    fn peers(&mut self, peers: &[Peer], now: SystemTime) -> Vec<String> {
        for peer in peers {
            self.columns.grow(&[Cell::default(), self.peer_name(&peer.name)]);
        }
        list::table_of(peers, Places::of(self.pools.iter().map(String::as_str)), self.style, now)
    }

    fn peer_name(&self, name: &str) -> Cell {
        Cell::peer(name, self.pools.len() > 1)
    }

    /// What was folded and is to be shown now; at the end all of it.
    pub(crate) fn tick(&mut self, now: SystemTime, is_end: bool) -> Vec<String> {
        let due = self.floods.due(now, is_end);
        due.iter().flat_map(|folded| self.folded(folded)).collect()
    }

    fn change(&mut self, change: &Change, now: SystemTime) -> Vec<String> {
        let (is_shown, folded) = self.floods.take(change, now);
        let mut lines = folded.map(|folded| self.folded(&folded)).unwrap_or_default();
        if is_shown {
            lines.extend(self.rows(change.peer.as_ref(), change.health.as_ref(), None));
        }
        lines.extend(change.node.as_ref().and_then(|event| self.node(event)));
        lines
    }

    /// `12:00:00  node worker-1  LIVE → STALE`
    fn node(&mut self, event: &NodeChange) -> Option<String> {
        let node = event.node.as_ref()?;
        let now = Cell::plain(text::node_state(node.state));
        let is_moved = event.previous != node.state && event.previous != 0;
        let state = if is_moved { arrow(Cell::plain(text::node_state(event.previous)), now) } else { now };
        let why = match (node.conflict, node.stale_since.is_some()) {
            (true, _) => "two nodes have this name".to_owned(),
            (_, true) => "no sign of life: its pools keep their last state".to_owned(),
            _ => text::ready_of(node.ready_count, node.peer_count),
        };
        let name = Cell::plain(format!("node {}", text::node_name(&node.name)));
        let row = [clock(event.time), name, state, Cell::plain(why)];
        self.columns.grow(&row);
        let day = self.new_day(event.time);
        let lines = day.into_iter().chain(self.columns.lines(&row, self.style));
        Some(lines.collect::<Vec<_>>().join("\n"))
    }

    /// How a flood ended, so far.
    fn folded(&mut self, folded: &Folded) -> Vec<String> {
        self.rows(Some(&folded.peer), folded.health.as_ref(), Some(folded.times()))
    }

    /// A row for what happened to the peer, and one for what that did to its pool. Of several times, the state after
    /// them and the last failure.
    fn rows(
        &mut self,
        event: Option<&PeerChange>,
        of_pool: Option<&HealthChange>,
        times: Option<String>,
    ) -> Vec<String> {
        let mut rows = Vec::new();
        if let Some(event) = event
            && let Some(peer) = &event.peer
        {
            self.pools.insert(peer.pool.clone());
            let (mut status, mut why) = status_change(event, peer);
            if let Some(times) = times {
                let failure = peer.last_failure.as_ref();
                let (reason, detail) =
                    failure.map_or((peer.reason, &peer.detail), |it| (it.reason, &it.detail));
                status = Cell::status(peer.status);
                why = Cell::new(style::BOLD, &format!("{times}: "))
                    .and(Cell::reason_and_detail(reason, detail));
            }
            rows.push((event.time, [clock(event.time), self.peer_name(&peer.name), status, why]));
        }
        if let Some(event) = of_pool {
            let mut why = Cell::plain(text::ready_of(event.ready_count, event.peer_count));
            if rows.is_empty() {
                why = why.and(Cell::plain(": ")).and(self.peer_name(&event.cause)).dimmed();
            }
            let pool = Cell::plain(format!("pool {}", text::pool_name(&event.pool)));
            rows.push((event.time, [clock(event.time), pool, health(event), why]));
        }
        rows.iter().for_each(|(_, row)| self.columns.grow(row));
        let mut lines = Vec::new();
        for (time, row) in &rows {
            lines.extend(self.new_day(*time));
            lines.extend(self.columns.lines(row, self.style));
        }
        lines
    }

    /// `-- 2026-12-01 --` before the first line of another day.
    fn new_day(&mut self, time: Option<Timestamp>) -> Option<String> {
        let day = text::day(time.as_ref());
        let is_new = time.is_some() && self.day.as_ref() != Some(&day);
        is_new.then(|| {
            let heading = self.heading(&day);
            self.day = Some(day);
            heading
        })
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
    let why = Cell::reason_and_detail(peer.reason, &peer.detail);
    match event.kind() {
        ChangeKind::Added if peer.observed_time.is_some() => {
            (Cell::new(style::BOLD, "+ added ").and(Cell::status(peer.status)), why)
        }
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
    if event.previous == event.health {
        return now;
    }
    arrow(Cell::health(event.previous), now)
}

#[cfg(test)]
mod tests;
