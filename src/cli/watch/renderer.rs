//! The messages of a watch as lines for people: first the state, then one line for each change. Pure; the caller
//! prints.

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
        table::{Cell, GAP, Table, line},
        text,
    },
};

/// `08:31:02.114`.
const CLOCK_WIDTH: usize = 12;
/// `DISCONNECTED`, the longest status.
const STATUS_WIDTH: usize = 12;
/// `→ ` before it.
const MOVE_WIDTH: usize = STATUS_WIDTH + 2;
/// `handshake complete`, with which peers become ready.
const REASON_WIDTH_MIN: usize = 18;
/// `HEALTHY → DEGRADED (12/34 ready)`, after the pool's name.
const HEALTH_WIDTH: usize = 33;
/// On a narrow terminal, what is left of a reason.
const REASON_WIDTH_LEAST: usize = 8;
/// The reason's column grows up to this; what is longer pushes the health to the right on its own line only.
const REASON_WIDTH_MAX: usize = 64;

/// Remembers only what keeps the columns aligned.
#[derive(Debug)]
pub struct Renderer {
    style: Style,
    /// Short names of the pools seen; with more than one, peers are shown as `pool/peer`.
    pools: BTreeSet<String>,
    peer_width: usize,
    reason_width: usize,
    /// The snapshot that is on its way.
    snapshot: Option<Snapshot>,
    /// How many streams there were.
    streams: usize,
    /// Whether they tell of peers.
    hears_peers: bool,
    after_state: AfterState,
}

/// What comes after the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AfterState {
    Changes,
    Nothing,
}

impl Renderer {
    /// A renderer that has seen nothing.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self {
            style,
            pools: BTreeSet::new(),
            peer_width: 0,
            reason_width: REASON_WIDTH_MIN,
            snapshot: None,
            streams: 0,
            hears_peers: true,
            after_state: AfterState::Changes,
        }
    }

    /// For a watch that ends when the state has been told.
    #[must_use]
    pub fn until_synced(self) -> Self {
        Self { after_state: AfterState::Nothing, ..self }
    }

    /// The lines for a message, without line breaks. `now` is for how long ago something was.
    pub fn render(&mut self, message: &WatchPeerStatusResponse, now: SystemTime) -> Vec<String> {
        match &message.event {
            Some(Event::Attached(attached)) => self.attached(attached),
            Some(Event::Snapshot(part)) => {
                let snapshot = self.snapshot.get_or_insert_default();
                snapshot.pools.extend_from_slice(&part.pools);
                snapshot.peers.extend_from_slice(&part.peers);
                Vec::new()
            }
            Some(Event::Synced(synced)) => self.synced(synced, now),
            Some(Event::Change(change)) => vec![self.change(change)],
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
        self.hears_peers = filter.is_none_or(filter::hears_peers);
        let listener = attached.listener.as_ref().map_or("", |listener| &listener.name);
        let line = match attached.resumed {
            _ if listener.is_empty() => return Vec::new(),
            true if self.streams > 1 => return Vec::new(),
            true => format!("-- watching as {listener}, from where it was --"),
            false => format!("-- watching as {listener} --"),
        };
        vec![self.furniture(&line)]
    }

    fn synced(&mut self, synced: &Synced, now: SystemTime) -> Vec<String> {
        let Some(snapshot) = self.snapshot.take() else {
            return vec![self.furniture(match self.after_state {
                AfterState::Nothing => "-- that is all; times are UTC --",
                AfterState::Changes if self.streams > 1 => "-- live again --",
                AfterState::Changes => "-- live; times are UTC --",
            })];
        };
        for name in snapshot.pools.iter().map(|pool| text::pool_name(&pool.name)) {
            self.pools.insert(name.to_owned());
        }
        self.pools.extend(snapshot.peers.iter().map(|peer| peer.pool.clone()));
        let mut lines: Vec<String> = snapshot.pools.iter().map(|pool| self.pool(pool, now)).collect();
        if !snapshot.peers.is_empty() {
            lines.extend(self.peers(&snapshot.peers, now).lines(self.style));
        }
        let count = match self.hears_peers {
            true => count(usize::try_from(synced.peer_count).unwrap_or(usize::MAX), "peer"),
            false => count(snapshot.pools.len(), "pool"),
        };
        lines.push(self.furniture(&match self.after_state {
            AfterState::Changes => format!("-- live: {count}; times are UTC --"),
            AfterState::Nothing => format!("-- as of now: {count}; times are UTC --"),
        }));
        lines
    }

    /// `pool default: DEGRADED for 3m 12s, 2 of 3 ready`
    fn pool(&self, pool: &Pool, now: SystemTime) -> String {
        let since = text::age(pool.health_since.as_ref(), now);
        let rest = format!(" for {since}, {} of {} ready", pool.ready_count, pool.peer_count);
        Cell::plain(&format!("pool {}: ", text::pool_name(&pool.name)))
            .and(Cell::health(pool.health))
            .and(Cell::plain(&rest))
            .show(self.style)
    }

    fn peers(&mut self, peers: &[Peer], now: SystemTime) -> Table {
        let mut table = Table::new(&["PEER", "STATUS", "SINCE", "FAILURES", "REASON"]);
        for peer in peers {
            table.push(vec![
                self.peer_name(&peer.name),
                Cell::status(peer.status),
                Cell::plain(&text::age(peer.status_since.as_ref(), now)),
                Cell::count(peer.consecutive_failures.into()),
                Cell::reason_and_detail(peer),
            ]);
        }
        table
    }

    /// The peer's cell; its column grows to hold it.
    fn peer_name(&mut self, name: &str) -> Cell {
        let address = text::peer_address(name);
        let pool =
            name.strip_prefix("pools/").and_then(|rest| rest.split_once("/peers/")).map(|(pool, _)| pool);
        let cell = match pool {
            Some(pool) if self.pools.len() > 1 => Cell::plain(&format!("{pool}/{address}")),
            _ => Cell::plain(address),
        };
        self.peer_width = self.peer_width.max(cell.width());
        cell
    }

    /// Time, peer, what happened, why, and what it did to the pool.
    fn change(&mut self, change: &Change) -> String {
        let Some((event, peer)) = change.peer.as_ref().and_then(|event| Some((event, event.peer.as_ref()?)))
        else {
            let event = change.health.clone().unwrap_or_default();
            let health = health(&event);
            let cause = self.peer_name(&event.cause).dimmed();
            return line([(&clock(event.time), 0), (&cause, self.peer_width), (&health, 0)], self.style);
        };
        self.pools.insert(peer.pool.clone());
        let moved = movement(event, peer);
        let name = self.peer_name(&peer.name);
        let columns = self.style.columns().unwrap_or(usize::MAX);
        let pool_width = self.pools.iter().map(|pool| pool.chars().count()).max().unwrap_or(0);
        let widths = [CLOCK_WIDTH, self.peer_width, STATUS_WIDTH, MOVE_WIDTH];
        let before_reason = widths.iter().sum::<usize>() + widths.len() * GAP.len();
        let after_reason = GAP.len() + pool_width + ": ".len() + HEALTH_WIDTH;
        match columns.checked_sub(before_reason + REASON_WIDTH_MIN + after_reason) {
            Some(_) => self.wide(event, moved, &name, change.health.as_ref(), columns - before_reason),
            None => self.narrow(event, moved, name, change.health.as_ref(), columns),
        }
    }

    /// All there is to tell, with `room` for the reason and the health.
    fn wide(
        &mut self,
        event: &PeerChange,
        (before, after, why): Movement,
        name: &Cell,
        change: Option<&HealthChange>,
        room: usize,
    ) -> String {
        let health = change.map(health).unwrap_or_default();
        let room = if change.is_some() { room.saturating_sub(GAP.len() + health.width()) } else { room };
        let why = why.cut(room);
        self.reason_width = self.reason_width.max(why.width()).min(REASON_WIDTH_MAX);
        let columns = [
            (&clock(event.time), 0),
            (name, self.peer_width),
            (&before, STATUS_WIDTH),
            (&after, MOVE_WIDTH),
            (&why, self.reason_width.min(room)),
            (&health, 0),
        ];
        line(columns, self.style)
    }

    /// What matters most: not where the peer was before, and the pool's new health in short.
    fn narrow(
        &self,
        event: &PeerChange,
        (before, after, why): Movement,
        name: Cell,
        change: Option<&HealthChange>,
        columns: usize,
    ) -> String {
        let now = if event.kind() == ChangeKind::Added { before } else { after };
        let health = change.map(|change| self.health_in_short(change)).unwrap_or_default();
        let peer_width = self.peer_width.min(columns / 3);
        let widths = [CLOCK_WIDTH, peer_width, MOVE_WIDTH, health.width()];
        let used = widths.iter().sum::<usize>() + widths.len() * GAP.len();
        let why = why.cut(columns.saturating_sub(used).max(REASON_WIDTH_LEAST));
        let name = name.cut(peer_width);
        let columns =
            [(&clock(event.time), 0), (&name, peer_width), (&now, MOVE_WIDTH), (&why, 0), (&health, 0)];
        line(columns, self.style)
    }

    /// `DEGRADED 2/3`
    fn health_in_short(&self, event: &HealthChange) -> Cell {
        let pool = format!("{}: ", text::pool_name(&event.pool));
        let counts = format!(" {}/{}", event.ready_count, event.peer_count);
        let pool = if self.pools.len() > 1 { Cell::plain(&pool) } else { Cell::default() };
        pool.and(Cell::health(event.health)).and(Cell::plain(&counts))
    }

    fn furniture(&self, text: &str) -> String {
        Cell::new(style::DIM, text).show(self.style)
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

/// Where the peer was, where it is now, and why.
type Movement = (Cell, Cell, Cell);

fn movement(event: &PeerChange, peer: &Peer) -> Movement {
    let to = |now: Cell| Cell::new(style::DIM, "→ ").and(now);
    let before = Cell::status(event.previous_status).dimmed();
    let now = Cell::status(peer.status);
    match event.kind() {
        ChangeKind::Added => (Cell::new(style::BOLD, "+ added"), to(now), origin(peer)),
        ChangeKind::Removed => {
            (before, to(Cell::new(style::BOLD, "- removed")), Cell::reason_and_detail(peer))
        }
        // only the reason or the origin is new: keep the eye on what moves
        _ if event.previous_status == peer.status => {
            let now = Cell::plain("  ").and(now);
            let why = match event.kind() {
                ChangeKind::Origin => Cell::plain(&format!("now {}", text::origin(peer.origin))),
                _ => Cell::reason_and_detail(peer).dimmed(),
            };
            (Cell::default(), now.dimmed(), why)
        }
        _ => (before, to(now), Cell::reason_and_detail(peer)),
    }
}

/// How a new peer came, which says more than that it was added.
fn origin(peer: &Peer) -> Cell {
    let origin = text::origin(peer.origin);
    Cell::plain(&if peer.detail.is_empty() { origin } else { format!("{origin}: {}", peer.detail) })
}

/// `default: HEALTHY → DEGRADED (2/3 ready)`
fn health(event: &HealthChange) -> Cell {
    let mut cell = Cell::plain(&format!("{}: ", text::pool_name(&event.pool)));
    if event.previous != event.health && event.previous != PoolHealth::Unspecified as i32 {
        cell = cell.and(Cell::health(event.previous).dimmed()).and(Cell::new(style::DIM, " → "));
    }
    let counts = format!(" ({}/{} ready)", event.ready_count, event.peer_count);
    cell.and(Cell::health(event.health)).and(Cell::plain(&counts))
}

#[cfg(test)]
mod tests;
