//! `peerstatus peers list`: every peer, the worst first, with since when and why it is not READY.

pub(in crate::cli) mod live;

use std::{cmp::Reverse, collections::BTreeMap, iter, time::SystemTime};

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use prost_types::Timestamp;

use crate::{
    api::pb::{ListPeersRequest, Peer, PeerStatus, Reason},
    cli::{
        GlobalArgs,
        client::{Client, all_pages, call},
        complete,
        exit::Failure,
        names, nodes,
        places::Places,
        style::{self, Style},
        table::{self, Cell},
        text,
    },
    peer::{PeerAddress, Severity},
    status::node_of,
};

pub(super) const EXAMPLES: &str = "\
Examples:
  peerstatus peers list
  peerstatus peers list --not-ready           only what is wrong
  peerstatus peers list --watch               the same, kept up to date until Ctrl-C
  peerstatus peers list --wide                with the time since when
  peerstatus peers list --pool fabric-a --sort flaps
  peerstatus peers list --node 'worker-1*'     of a fleet, which has a column NODE
  peerstatus peers list -o json | jq -r '[.name, .status, .lastFailure.detail] | @tsv'

The worst comes first: peers that are not READY, the longest first, then those that were
lost most often (FLAPS), then those that failed before they became READY, then the parked
ones, and last the others. HOW LONG is since READY was lost, or since the peer was added
if it never was READY; `up` is since it became READY. FLAPS and FAILURES count since the
peer was added; where there is room, FLAPS has how long ago the last one was. `~flapping`
is a peer that lost READY three times within ten minutes. A peer that is READY keeps its
LAST FAILURE. A parked peer is not in its own list of peers, and no connection is wanted:
for the anycast address of a fabric that is as it should be. It is asked again from time
to time.";

/// What to list.
#[derive(Clone, Debug, Args)]
pub(super) struct ListArgs {
    /// Only the peers of this pool
    #[arg(long, value_name = "NAME", value_parser = names::pool, add = ArgValueCompleter::new(complete::pools))]
    pool: Option<String>,

    /// Only the peers of nodes whose name matches (* and ? are wildcards), in a fleet
    #[arg(long, value_name = "GLOB", value_parser = names::glob, add = ArgValueCompleter::new(complete::nodes))]
    node: Option<String>,

    #[command(flatten)]
    view: View,

    /// Keep the list up to date until Ctrl-C; if the output is no terminal, append a line for each change
    #[arg(short, long)]
    watch: bool,
}

impl ListArgs {
    /// Whether it goes on until Ctrl-C.
    pub(super) const fn is_live(&self) -> bool {
        self.watch
    }
}

/// Which peers to show, and in which order.
#[derive(Clone, Copy, Debug, Args)]
pub(in crate::cli) struct View {
    /// Only peers that are wanted and not READY
    #[arg(long)]
    pub(in crate::cli) not_ready: bool,

    /// The order
    #[arg(long, value_enum, default_value_t = Sort::Worst)]
    pub(in crate::cli) sort: Sort,

    /// With a column SINCE: the time, in UTC, that HOW LONG counts from; on a narrow terminal it is below
    #[arg(long)]
    pub(in crate::cli) wide: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Sort {
    /// Not READY (the longest first), lost at some time, failed at some time, parked, the others
    Worst,
    /// By pool and address
    Name,
    /// Those lost most often first
    Flaps,
    /// Those that failed most often first
    Failures,
}

/// Runs the command.
pub(super) async fn run(args: ListArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let pool = args.pool.unwrap_or_default();
    let client = globals.connect().await?;
    nodes::check(&client, args.node.as_deref()).await?;
    let mut peers = peers(&client, &pool).await?;
    peers.retain(|peer| names::is_of_node(args.node.as_deref(), &peer.pool));
    if args.watch {
        return live::run(pool, args.node, args.view, globals).await;
    }
    let stale = nodes::stale(&client, &peers).await?;
    let known: Vec<Peer> = peers.iter().map(|peer| stale.known(peer).into_owned()).collect();
    let (shown, total) = (args.view.of(&known), total(&known));
    // JSON has them as the service gave them.
    let given: BTreeMap<_, _> = peers.into_iter().map(|peer| (peer.name.clone(), peer)).collect();
    let given: Vec<Peer> = shown.iter().filter_map(|peer| given.get(&peer.name)).cloned().collect();
    globals.show(&given, |style, now| args.view.lines(&shown, total, style, now))
}

/// All peers of a pool in full, or of all pools. In a fleet, the name of a pool without its node is that of all nodes.
pub(crate) async fn peers(client: &Client, parent: &str) -> Result<Vec<Peer>, Failure> {
    match peers_of(client, parent).await {
        Err(failure) if failure.is_for("POOL_NOT_FOUND") => {
            let mut all = peers_of(client, "").await?;
            all.retain(|peer| node_of(&peer.pool).is_some_and(|(_, name)| name == text::pool_name(parent)));
            if all.is_empty() { Err(failure) } else { Ok(all) }
        }
        answer => answer,
    }
}

async fn peers_of(client: &Client, parent: &str) -> Result<Vec<Peer>, Failure> {
    let mut pools = client.pools();
    all_pages(async |page_token| {
        let request = ListPeersRequest { parent: parent.to_owned(), page_token, ..Default::default() };
        let page = call(pools.list_peers(request)).await?;
        Ok((page.peers, page.next_page_token))
    })
    .await
}

impl View {
    /// Those to show, in order.
    pub(in crate::cli) fn of<'a>(self, peers: impl IntoIterator<Item = &'a Peer>) -> Vec<Peer> {
        let is_shown = |peer: &&Peer| !self.not_ready || is_missing(peer);
        let mut shown: Vec<Peer> = peers.into_iter().filter(is_shown).cloned().collect();
        shown.sort_by_cached_key(order);
        match self.sort {
            Sort::Worst => shown.sort_by_key(severity),
            Sort::Name => {}
            Sort::Flaps => shown.sort_by_key(|peer| Reverse(peer.flap_count)),
            Sort::Failures => shown.sort_by_key(|peer| Reverse(peer.failure_count)),
        }
        shown
    }
}

/// All of them as `peers list` shows them, the worst first.
pub(crate) fn table_of(peers: &[Peer], places: Places, style: Style, now: SystemTime) -> Vec<String> {
    let view = View { not_ready: false, sort: Sort::Worst, wide: false };
    view.table(&view.of(peers), places, style, now)
}

/// What tells these peers apart.
pub(in crate::cli) fn places<'a>(peers: impl IntoIterator<Item = &'a Peer>) -> Places {
    Places::of(peers.into_iter().map(|peer| peer.pool.as_str()))
}

/// By pool and address, as the service orders them.
fn order(peer: &Peer) -> (String, Option<PeerAddress>, String) {
    let address = u16::try_from(peer.port).ok().and_then(|port| PeerAddress::new(&peer.host, port).ok());
    (peer.pool.clone(), address, peer.name.clone())
}

/// Whether a connection is wanted and is not there.
pub(in crate::cli) fn is_missing(peer: &Peer) -> bool {
    peer.wanted && peer.status() != PeerStatus::Ready
}

/// The worst is the least; of those that are not READY, the longest first.
fn severity(peer: &Peer) -> (Severity, Option<(i64, i32)>) {
    let is_ready = peer.status() == PeerStatus::Ready;
    let severity = Severity::of(peer.wanted, is_ready, peer.flap_count, peer.failure_count);
    let since = peer.not_ready_since.filter(|_| severity == Severity::Missing);
    (severity, since.map(|since| (since.seconds, since.nanos)))
}

/// Whether it is not known what it is: some peers of observed pools and those of STALE nodes are.
pub(in crate::cli) fn is_unknown(peer: &Peer) -> bool {
    peer.wanted && peer.status() == PeerStatus::Unspecified
}

/// `38 of 40 READY, 1 unknown, 1 parked`, or `no peers`
pub(in crate::cli) fn total<'a>(peers: impl IntoIterator<Item = &'a Peer>) -> String {
    let (mut all, mut ready, mut wanted, mut unknown, mut parked) = (0, 0, 0, 0, 0);
    for peer in peers {
        all += 1;
        ready += u32::from(peer.wanted && !is_missing(peer));
        wanted += u32::from(peer.wanted);
        unknown += u32::from(is_unknown(peer));
        parked += u32::from(is_parked(peer));
    }
    let some = |count, what| if count > 0 { format!(", {count} {what}") } else { String::new() };
    let others = [some(unknown, "unknown"), some(parked, "parked")].concat();
    if all == 0 { "no peers".to_owned() } else { format!("{ready} of {wanted} READY{others}") }
}

pub(in crate::cli) fn is_parked(peer: &Peer) -> bool {
    !peer.wanted && peer.status() == PeerStatus::Disconnected
}

pub(in crate::cli) fn is_flapping(peer: &Peer, now: SystemTime) -> bool {
    let until = text::system_time(peer.flapping_until.as_ref());
    peer.wanted && until.is_some_and(|until| until > now)
}

impl View {
    /// The table, and the total below it.
    fn lines(self, peers: &[Peer], total: String, style: Style, now: SystemTime) -> Vec<String> {
        let mut lines = match peers.is_empty() {
            true => Vec::new(),
            false => self.table(peers, places(peers), style, now),
        };
        lines.push(total);
        lines
    }

    fn table(self, peers: &[Peer], places: Places, style: Style, now: SystemTime) -> Vec<String> {
        let (header, rows) = self.layout(peers, places, style.columns, now);
        iter::once(&header).chain(rows.iter().flatten()).map(|line| line.show(style)).collect()
    }

    /// The line of the header and the lines of each row, on a terminal of this width.
    pub(in crate::cli) fn layout(
        self,
        peers: &[Peer],
        places: Places,
        terminal: Option<usize>,
        now: SystemTime,
    ) -> (Cell, Vec<Vec<Cell>>) {
        let rows = |width| peers.iter().map(|peer| self.row(peer, places, width, now)).collect::<Vec<_>>();
        let (mut header, mut cells) = (self.header(places, Width::Full), rows(Width::Full));
        if !table::fits(&header, &cells, terminal) {
            (header, cells) = (self.header(places, Width::Narrow), rows(Width::Narrow));
        }
        table::layout(&header, &cells, terminal)
    }

    fn header(self, places: Places, width: Width) -> Vec<&'static str> {
        let since = (self.wide && width == Width::Full).then_some("SINCE");
        places
            .header()
            .chain(["STATUS", "HOW LONG"])
            .chain(since)
            .chain(["FLAPS", "FAILURES", "LAST FAILURE"])
            .collect()
    }

    fn row(self, peer: &Peer, places: Places, width: Width, now: SystemTime) -> Vec<Cell> {
        let (mut flaps, mut failure) = (Cell::plain(peer.flap_count), last_failure(peer, now));
        let since = self.wide.then(|| text::stamp(since(peer)));
        let mut row: Vec<_> = places.cells(&peer.name, &peer.pool).collect();
        row.extend([status(peer, now), how_long(peer, now)]);
        match (width, since) {
            (Width::Full, since) => {
                flaps = self::flaps(peer, now);
                row.extend(since.map(Cell::plain));
            }
            (Width::Narrow, Some(since)) => {
                let colon = if failure == Cell::default() { "" } else { ": " };
                failure = Cell::plain(format!("since {since}{colon}")).and(failure);
            }
            (Width::Narrow, None) => {}
        }
        row.extend([flaps, Cell::plain(peer.failure_count), failure]);
        row
    }
}

/// How much of a row has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Full,
    /// FLAPS is the number alone, and the time since when is in the last column, which goes below the row.
    Narrow,
}

/// `READY`, or `READY ~flapping` if it comes and goes.
pub(in crate::cli) fn status(peer: &Peer, now: SystemTime) -> Cell {
    match is_flapping(peer, now) {
        true => Cell::new(style::FLAPPING, &format!("{} ~flapping", text::status(peer.status))),
        false => Cell::status(peer.status),
    }
}

/// Since when it has not been READY, or has been what it is instead, or unknown. Of a parked one it is not known: its status is new
/// each time that it was asked again.
pub(in crate::cli) fn since(peer: &Peer) -> Option<&Timestamp> {
    match () {
        () if is_unknown(peer) => peer.status_since.as_ref(),
        () if is_missing(peer) => peer.not_ready_since.as_ref(),
        () if is_parked(peer) => None,
        () => peer.status_since.as_ref(),
    }
}

/// The same as a duration: `not ready 3m 12s`, `up 2d 4h`, `unknown 8s`, `parked`.
pub(in crate::cli) fn how_long(peer: &Peer, now: SystemTime) -> Cell {
    let age = text::age(since(peer), now);
    match peer.status() {
        _ if is_unknown(peer) => Cell::plain(format!("unknown {age}")),
        _ if is_missing(peer) => Cell::plain(format!("not ready {age}")),
        PeerStatus::Ready => Cell::plain(format!("up {age}")),
        PeerStatus::Disconnected => Cell::new(style::DIM, "parked"),
        _ => Cell::new(style::DIM, &format!("leaving {age}")),
    }
}

/// How often READY was lost, and about how long ago the last time was: `9, 3m ago`. Of a peer that is READY again, the last
/// failure before that is the end of that outage.
pub(in crate::cli) fn flaps(peer: &Peer, now: SystemTime) -> Cell {
    let last = match peer.status() {
        PeerStatus::Ready => peer.last_failure.as_ref().and_then(|failure| failure.time.as_ref()),
        _ => peer.last_ready_time.as_ref(),
    };
    Cell::plain(match last.filter(|_| peer.flap_count > 0) {
        Some(last) => format!("{}, {} ago", peer.flap_count, text::brief_age(last, now)),
        None => peer.flap_count.to_string(),
    })
}

/// Why it is what it is. That of a STALE node has no reason of its own.
pub(in crate::cli) fn reason(peer: &Peer) -> Cell {
    match peer.reason() {
        Reason::Unspecified => Cell::plain(text::plain(&peer.detail)),
        _ => Cell::reason_and_detail(peer.reason, &peer.detail),
    }
}

/// Why it is not READY. Of one that is, what is past.
pub(in crate::cli) fn last_failure(peer: &Peer, now: SystemTime) -> Cell {
    let dim = |text: String| Cell::new(style::DIM, &text);
    let order = |time: Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos));
    match &peer.last_failure {
        _ if !peer.wanted => dim(text::reason_and_detail(peer.reason, &peer.detail)),
        _ if is_unknown(peer) => reason(peer),
        Some(failure) if !is_missing(peer) => {
            let ago = text::age(failure.time.as_ref(), now);
            dim(format!("{ago} ago: {}", text::reason_and_detail(failure.reason, &failure.detail)))
        }
        Some(failure) if order(failure.time) >= order(peer.not_ready_since) => {
            Cell::reason_and_detail(failure.reason, &failure.detail)
        }
        // It was not a failure that ended READY, or there was none yet.
        _ if peer.status() == PeerStatus::Ready => Cell::default(),
        _ if peer.status() == PeerStatus::Connected => {
            dim("none yet: no answer to send_identity so far".to_owned())
        }
        _ => dim(format!("none yet: {}", text::reason_and_detail(peer.reason, &peer.detail))),
    }
}

#[cfg(test)]
mod tests;
