//! The state of the display, as a value: no terminal, no clock, no connection.

use std::{collections::BTreeSet, time::SystemTime};

use crate::{
    api::pb::{Node, Peer, Pool, PoolHealth, WatchPeerStatusResponse},
    cli::{
        peers::{
            history::PeerHistory,
            list::{self, Sort, View, live::known::Known},
        },
        pool, text,
        watch::notice,
    },
    client::Notice,
    status::node_of,
};

/// What a key or the time asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// End the display.
    Quit,
    /// End it as Ctrl-C does.
    Interrupt,
    /// Ask for the history of this peer.
    History(Box<Peer>),
    /// Reset this peer.
    Reset(Box<Peer>),
}

/// Whether the display shows the present state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// There was none yet.
    Connecting,
    Live,
    /// There is none since then.
    Lost {
        since: SystemTime,
        cause: String,
    },
}

/// What is below the first line.
#[derive(Debug)]
pub(super) enum Page {
    Peers,
    Detail(Box<Detail>),
    Help,
}

/// One peer and its history.
#[derive(Debug)]
pub(super) struct Detail {
    /// The peer, as it was last.
    pub(super) peer: Peer,
    pub(super) is_gone: bool,
    /// `None` until it comes; or why it did not.
    pub(super) history: Option<Result<PeerHistory, String>>,
    /// The line at the top.
    pub(super) scroll: usize,
    /// Whether the history was asked for, and has not come.
    is_asked: bool,
    /// Whether the peer has changed since the history was asked for.
    is_stale: bool,
}

/// What a view had room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Peers, or lines, on a page.
    pub(super) page: usize,
    /// How far a page of lines can be scrolled.
    pub(super) max_scroll: usize,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) server: String,
    pub(super) known: Known,
    /// Nodes of a fleet of which peers may be missing.
    incomplete: BTreeSet<String>,
    pub(super) stream: Stream,
    pub(super) page: Page,
    pub(super) sort: Sort,
    /// Only peers of this pool.
    pub(super) pool: Option<String>,
    /// Only peers with all of these words.
    pub(super) filter: String,
    /// Whether keys go to the filter.
    pub(super) is_typing: bool,
    /// The peer that is to be reset, if the answer is yes.
    pub(super) question: Option<Box<Peer>>,
    /// The result of the last action.
    pub(super) message: Option<String>,
    /// The peers to show, in order.
    pub(super) rows: Vec<Peer>,
    /// The name of the peer that was chosen with a key. Without one the first is selected, whichever that is.
    chosen: Option<String>,
    /// The index of the selected peer in `rows`.
    pub(super) selected: usize,
    pub(super) shown: Shown,
    /// Grows with each change, so that nothing is drawn twice.
    pub(super) version: u64,
    /// The time of the last tick, by the clock of the service.
    now: SystemTime,
}

impl Model {
    pub(super) fn new(server: String) -> Self {
        Self {
            server,
            known: Known::default(),
            incomplete: BTreeSet::new(),
            stream: Stream::Connecting,
            page: Page::Peers,
            sort: Sort::Worst,
            pool: None,
            filter: String::new(),
            is_typing: false,
            question: None,
            message: None,
            rows: Vec::new(),
            chosen: None,
            selected: 0,
            shown: Shown::default(),
            version: 0,
            now: SystemTime::UNIX_EPOCH,
        }
    }

    /// Applies a message of the watch.
    pub(super) fn apply(&mut self, message: &WatchPeerStatusResponse) {
        self.stream = Stream::Live;
        self.known.apply(message);
        self.arrange();
    }

    /// Takes counters, which may be newer than the last change.
    pub(super) fn refresh(&mut self, peers: Vec<Peer>) {
        if !peers.is_empty() {
            self.known.refresh(peers);
            self.arrange();
        }
    }

    /// Takes the nodes of a fleet.
    pub(super) fn nodes(&mut self, nodes: &[Node]) {
        let incomplete = nodes.iter().filter(|node| node.incomplete);
        self.incomplete = incomplete.map(|node| text::node_name(&node.name).to_owned()).collect();
        self.version += 1;
    }

    /// Whether peers of the node of this pool may be missing.
    pub(super) fn is_incomplete(&self, pool: &Pool) -> bool {
        let node = node_of(text::pool_name(&pool.name)).map(|(node, _)| node);
        node.is_some_and(|node| self.incomplete.contains(node))
    }

    /// Applies a notice of the watch about itself.
    pub(super) fn notice(&mut self, notice: &Notice, now: SystemTime) {
        if matches!(notice, Notice::Lost { .. }) {
            let since = match self.stream {
                Stream::Lost { since, .. } => since,
                _ => now,
            };
            self.stream = Stream::Lost { since, cause: notice::text(notice) };
        } else {
            self.message = Some(notice::text(notice));
        }
        self.version += 1;
    }

    /// The answer to [`Effect::History`].
    pub(super) fn history(&mut self, peer: &str, history: Result<PeerHistory, String>) {
        if let Page::Detail(detail) = &mut self.page
            && detail.peer.name == peer
        {
            detail.is_asked = false;
            detail.history = Some(history);
        }
        self.version += 1;
    }

    /// Shows a result.
    pub(super) fn tell(&mut self, message: String) {
        self.message = Some(message);
        self.version += 1;
    }

    /// Called every second.
    pub(super) fn tick(&mut self, now: SystemTime) -> Option<Effect> {
        self.now = now;
        let Page::Detail(detail) = &mut self.page else { return None };
        (detail.is_stale && !detail.is_asked).then(|| detail.ask())
    }

    /// What the view had room for.
    pub(super) fn fit(&mut self, shown: Shown) {
        self.shown = shown;
        if let Page::Detail(detail) = &mut self.page {
            detail.scroll = detail.scroll.min(shown.max_scroll);
        }
    }

    /// Brings the rows up to date. The chosen peer stays selected; if it has gone, the one in its place is.
    pub(super) fn arrange(&mut self) {
        self.version += 1;
        let words: Vec<String> = self.filter.split_whitespace().map(str::to_lowercase).collect();
        let is_shown = |peer: &&Peer| {
            self.pool.as_ref().is_none_or(|pool| peer.pool == *pool)
                && (words.is_empty() || has(peer, &words, self.now))
        };
        let view = View { sort: self.sort, ..VIEW };
        self.rows = view.of(self.known.peers().filter(is_shown));
        let place = self.chosen.as_ref().map(|name| self.rows.iter().position(|peer| peer.name == *name));
        self.selected = match place {
            None => 0,
            Some(place) => place.unwrap_or(self.selected).min(self.rows.len().saturating_sub(1)),
        };
        if let Page::Detail(detail) = &mut self.page {
            match self.known.peer(&detail.peer.name) {
                Some(peer) => {
                    detail.is_stale |= peer.revision != detail.peer.revision;
                    (detail.peer, detail.is_gone) = (peer.clone(), false);
                }
                None => detail.is_gone = true,
            }
        }
    }

    /// Shows all peers again, and selects the first.
    pub(super) fn clear_filter(&mut self) {
        if !self.filter.is_empty() {
            self.filter.clear();
            self.chosen = None;
        }
        self.arrange();
    }

    /// Selects the peer so many rows below.
    pub(super) fn step(&mut self, rows: isize) {
        let last = self.rows.len().saturating_sub(1);
        self.select(self.selected.saturating_add_signed(rows).min(last));
    }

    /// Selects a row.
    pub(super) fn select(&mut self, row: usize) {
        if let Some(peer) = self.rows.get(row) {
            (self.selected, self.chosen) = (row, Some(peer.name.clone()));
        }
    }

    /// The peer that keys are about.
    pub(super) fn peer(&self) -> Option<&Peer> {
        match &self.page {
            Page::Peers => self.rows.get(self.selected),
            Page::Detail(detail) => Some(&detail.peer),
            Page::Help => None,
        }
    }

    /// Opens the selected peer.
    pub(super) fn open(&mut self) -> Option<Effect> {
        let peer = self.peer()?.clone();
        self.chosen = Some(peer.name.clone());
        let mut detail =
            Detail { peer, is_gone: false, history: None, scroll: 0, is_asked: false, is_stale: false };
        let effect = detail.ask();
        self.page = Page::Detail(Box::new(detail));
        Some(effect)
    }

    /// Shows the next pool alone; after the last one all of them.
    pub(super) fn next_pool(&mut self) {
        let is_next = |name: &&str| self.pool.as_ref().is_none_or(|shown| *name > shown.as_str());
        let next = self.known.pools().map(|pool| text::pool_name(&pool.name)).find(is_next);
        self.pool = next.map(str::to_owned);
        self.arrange();
    }

    /// The pools, the worst first, with how many peers are READY, wanted and parked.
    pub(super) fn pools(&self) -> Vec<(&Pool, Counts)> {
        let counts = |pool: &Pool| {
            let name = text::pool_name(&pool.name);
            Counts::of(self.known.peers().filter(|peer| peer.pool == name))
        };
        let mut pools: Vec<_> = self.known.pools().map(|pool| (pool, counts(pool))).collect();
        pools.sort_by_key(|(pool, _)| match PoolHealth::try_from(pool::health(pool)) {
            Ok(PoolHealth::Down) => 0,
            Ok(PoolHealth::Unspecified) | Err(_) => 1,
            Ok(PoolHealth::Degraded) => 2,
            Ok(PoolHealth::Healthy) => 3,
        });
        pools
    }
}

/// As `peers list` shows peers.
pub(super) const VIEW: View = View { not_ready: false, sort: Sort::Worst, wide: false };

impl Detail {
    fn ask(&mut self) -> Effect {
        (self.is_asked, self.is_stale) = (true, false);
        Effect::History(Box::new(self.peer.clone()))
    }
}

/// Peers of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) ready: usize,
    pub(super) wanted: usize,
    pub(super) parked: usize,
}

impl Counts {
    fn of<'a>(peers: impl Iterator<Item = &'a Peer>) -> Self {
        peers.fold(Self::default(), |counts, peer| Self {
            ready: counts.ready + usize::from(peer.wanted && !list::is_missing(peer)),
            wanted: counts.wanted + usize::from(peer.wanted),
            parked: counts.parked + usize::from(list::is_parked(peer)),
        })
    }
}

/// Whether pool, address, status or last failure have all of these words, as on the status page.
fn has(peer: &Peer, words: &[String], now: SystemTime) -> bool {
    let failure = peer.last_failure.clone().unwrap_or_default();
    let parked = if list::is_parked(peer) { "parked" } else { "" };
    let flapping = if list::is_flapping(peer, now) { "flapping" } else { "" };
    let (address, status) = (text::peer_address(&peer.name), text::status(peer.status));
    let (reason, detail) = (text::reason(failure.reason), &failure.detail);
    let text =
        format!("{}/{address} {status} {flapping} {parked} {reason}: {detail}", peer.pool).to_lowercase();
    words.iter().all(|word| text.contains(word))
}
