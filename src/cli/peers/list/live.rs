//! `peers list --watch`: the list, kept up to date by a watch that resumes by itself. On a terminal it is redrawn in
//! place, elsewhere each change appends a line.

pub(in crate::cli) mod known;
mod screen;

use std::{
    io::{self, IsTerminal as _, Write},
    iter,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use prost_types::Timestamp;
use tokio::time::sleep;

use self::{known::Known, screen::Screen};
use super::{View, Width, is_missing, peers, places};
use crate::{
    api::{
        json,
        pb::{
            Change, Interest, ListenerFilter, Peer, WatchPeerStatusRequest, WatchPeerStatusResponse,
            watch_peer_status_response::Event,
        },
    },
    cli::{
        self, GlobalArgs, client,
        exit::Failure,
        notices::Notices,
        service_clock,
        style::{self, Style},
        table::{Cell, Columns},
        target::Target,
        text,
        watch::{follow::Sink, follow_until, notice, output_closed},
    },
    client::{Follower, Notice},
};

/// A failure that is the same as the one before is no change, so the counters on the screen are asked for this often.
pub(in crate::cli) const COUNTERS: Duration = Duration::from_secs(5);

/// Follows the peers until Ctrl-C.
pub(super) async fn run(
    pool: String,
    node: Option<String>,
    view: View,
    globals: &GlobalArgs,
) -> Result<(), Failure> {
    // JSON has the peers as the service gives them, without what is known of their nodes.
    let is_human = globals.output == cli::Output::Human;
    let nodes = is_human.then_some(Interest::Nodes);
    let interests = [Interest::Peers].into_iter().chain(nodes).map(Into::into).collect();
    let filter = ListenerFilter {
        nodes: node.into_iter().collect(),
        pools: (!pool.is_empty()).then(|| text::pool_name(&pool).to_owned()).into_iter().collect(),
        interests,
        ..Default::default()
    };
    let follower = Follower::new(WatchPeerStatusRequest { filter: Some(filter), ..Default::default() });
    let fresh = Arc::new(Mutex::new(Vec::new()));
    let is_on_screen = is_human && io::stdout().is_terminal();
    let until = async {
        Err(tokio::select! {
            _ = tokio::signal::ctrl_c() => Failure::Interrupted,
            () = output_closed() => Failure::OutputClosed,
            () = ask_again(&pool, &globals.server, &fresh), if is_on_screen => Failure::Interrupted,
        })
    };
    let server = globals.server.clone();
    match is_on_screen {
        true => {
            let screen = Screen::new(view, Style::of_stdout(globals.color), Arc::clone(&fresh));
            follow_until(server, follower, screen, until).await
        }
        false => follow_until(server, follower, Lines::new(view, globals), until).await,
    }
}

/// Puts the peers as they are into `fresh`, every few seconds. While the service cannot be reached, the watch says so.
pub(in crate::cli) async fn ask_again(pool: &str, server: &Target, fresh: &Mutex<Vec<Peer>>) {
    loop {
        sleep(COUNTERS).await;
        if let Ok(client) = client::connect(server).await
            && let Ok(peers) = peers(&client, pool).await
        {
            *fresh.lock() = peers;
        }
    }
}

/// Appends a line for each peer, and then for each that looks different.
struct Lines {
    view: View,
    known: Known,
    columns: Columns,
    /// For people; without it lines are JSON.
    style: Option<Style>,
    has_header: bool,
    output: Box<dyn Write + Send>,
    notices: Notices,
}

impl Lines {
    fn new(view: View, globals: &GlobalArgs) -> Self {
        let style = || Style::of(globals.color, &io::stdout());
        Self {
            view,
            known: Known::default(),
            columns: Columns::default(),
            style: (globals.output == cli::Output::Human).then(style),
            has_header: false,
            output: Box::new(io::stdout()),
            notices: globals.notices(),
        }
    }

    /// Each line begins with the time of what it shows.
    fn lines(&mut self, peers: &[Peer], time: Timestamp) -> Result<Vec<String>, Failure> {
        let Some(style) = self.style else {
            return Ok(peers.iter().map(json::line).collect::<Result<_, _>>()?);
        };
        let (places, now) = (places(self.known.peers()), service_clock::now());
        let of_peers = peers.iter().map(|peer| {
            let time = Cell::new(style::DIM, &text::stamp(Some(&time)));
            iter::once(time).chain(self.view.row(peer, places, Width::Full, now)).collect()
        });
        let is_first = !std::mem::replace(&mut self.has_header, true);
        let header =
            || iter::once("TIME").chain(self.view.header(places, Width::Full)).map(Cell::plain).collect();
        let rows: Vec<Vec<Cell>> = is_first.then(header).into_iter().chain(of_peers).collect();
        rows.iter().for_each(|row| self.columns.grow(row));
        Ok(rows.iter().flat_map(|row| self.columns.lines(row, style)).collect())
    }
}

impl Sink for Lines {
    fn message(&mut self, message: &WatchPeerStatusResponse) -> Result<(), Failure> {
        let changed = self.known.apply(message);
        // With --not-ready also those that are READY again.
        let is_shown = |peer: &&(Peer, bool)| !self.view.not_ready || is_missing(&peer.0) || peer.1;
        let shown: Vec<Peer> = changed.iter().filter(is_shown).map(|(peer, _)| peer.clone()).collect();
        let shown = View { not_ready: false, ..self.view }.of(&shown);
        if shown.is_empty() {
            return Ok(());
        }
        let time = match &message.event {
            Some(Event::Change(Change { peer: Some(change), .. })) => change.time,
            Some(Event::Change(Change { node: Some(change), .. })) => change.time,
            _ => None,
        };
        for line in self.lines(&shown, time.unwrap_or_else(|| service_clock::now().into()))? {
            writeln!(self.output, "{line}")?;
        }
        Ok(self.output.flush()?)
    }

    fn notice(&mut self, notice: &Notice) {
        self.notices.print(&format!("list: {}", notice::text(notice)));
    }

    fn tick(&mut self, _: bool) -> Result<(), Failure> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
