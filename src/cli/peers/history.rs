//! `peerstatus peers history`: past changes of peers, newest first.

mod entries;

use std::{
    iter,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use clap::Args;
use clap_complete::ArgValueCompleter;
use prost_types::Timestamp;

use self::entries::{Entry, entries};

use crate::{
    api::pb::{ChangeKind, ListTransitionsRequest, PeerStatus, Reason, Transition},
    cli::{
        self, GlobalArgs,
        client::{Client, all_pages, call},
        complete,
        exit::Failure,
        filter::{STATUSES, value_of},
        names::{self, PeerName},
        nodes,
        peers::list,
        places::Places,
        style::{self, Style},
        table::{Cell, layout, table},
        text,
    },
};

/// The largest page that the service sends.
const MAX_PAGE: u32 = 5_000;
/// Lines: about a screen.
const DEFAULT_LIMIT: u32 = 50;

/// The columns after those that name the peer.
const HEADER: [&str; 3] = ["STATUS", "LASTED", "REASON"];

pub(super) const EXAMPLES: &str = "\
Examples:
  peerstatus peers history
  peerstatus peers history leaf-101:8009 --since 10m
  peerstatus peers history 'leaf-1*' --pool fabric-a --limit 500
  peerstatus peers history --node worker-1 --since 10m
  peerstatus peers history --status ready --since 1h
  peerstatus peers history --reason tls_failed --reason handshake_rejected
  peerstatus peers history -o json | jq -r '.change.peer | [.time, .peer.status] | @tsv'

LASTED is how long a peer kept a status, on the line on which it took it. Where a peer
went through the same changes three times or more, they are shown once, and one line
below stands for all of them: `flapped × 812` if READY was reached and lost, `never
READY × 812` if not, with the TIME at which that began and how long it LASTED.
`asked again × 5` is a parked address that was asked for its peers and stays parked.
A `+` means that it began earlier. -o json shows each change. The service remembers the
last 65536 changes unless configured otherwise, and none from before its start.

If there is no such peer and nothing of it is remembered, the exit code is 1.";

/// The reasons as options: `connect_failed`.
static REASONS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let named = (1..=i32::from(u8::MAX)).filter_map(|number| Reason::try_from(number).ok());
    named.map(|reason| reason.as_str_name().trim_start_matches("REASON_").to_lowercase()).collect()
});

/// The options of `history`.
#[derive(Clone, Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only peers whose `host:port` or host matches (* and ? are wildcards), or `pool/host:port` [default: all]
    #[arg(value_parser = names::peers, add = ArgValueCompleter::new(complete::peers))]
    peer: Option<PeerName<String>>,

    /// The same, as `watch` takes it
    #[arg(long = "peer", value_name = "GLOB", value_parser = names::peers, conflicts_with = "peer", hide = true)]
    option: Option<PeerName<String>>,

    /// Only the peers of this pool
    #[arg(long, value_name = "NAME", value_parser = names::pool, add = ArgValueCompleter::new(complete::pools))]
    pool: Option<String>,

    /// Only the peers of nodes whose name matches (* and ? are wildcards), in a fleet
    #[arg(long, value_name = "GLOB", value_parser = names::glob, add = ArgValueCompleter::new(complete::nodes))]
    node: Option<String>,

    /// Only changes to this status; may be repeated
    #[arg(long = "status", value_name = "STATUS", ignore_case = true,
          value_parser = value_of(STATUSES, "PEER_STATUS_", PeerStatus::from_str_name))]
    statuses: Vec<i32>,

    /// Only changes for this reason; may be repeated
    #[arg(long = "reason", value_name = "REASON", ignore_case = true, hide_possible_values = true,
          value_parser = value_of(REASONS.iter().map(String::as_str), "REASON_", Reason::from_str_name))]
    reasons: Vec<i32>,

    /// How many lines at most
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// Only what happened within this time until now, for example 10m (by this machine's clock)
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

impl HistoryArgs {
    /// For all changes of this peer.
    fn of(peer: PeerName<String>) -> Self {
        let (statuses, reasons) = (Vec::new(), Vec::new());
        Self {
            peer: Some(peer),
            option: None,
            pool: None,
            node: None,
            statuses,
            reasons,
            limit: DEFAULT_LIMIT,
            since: None,
        }
    }
}

/// Runs the command.
pub(super) async fn run(mut args: HistoryArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    args.peer = args.peer.or(args.option.take());
    let request = request(&args, SystemTime::now())?;
    let is_for_people = globals.output == cli::Output::Human;
    let client = globals.connect().await?;
    nodes::check(&client, args.node.as_deref()).await?;
    let (read, is_cut) = read(&client, &args, &request, is_for_people).await?;
    let mut entries = entries(&read, &args, is_for_people);
    entries.truncate(limit(&args));
    if let Some(peer) = args.peer.as_ref().filter(|_| read.is_empty()) {
        // Of a peer that there is, at least that it was added is remembered.
        let anytime = ListTransitionsRequest { start_time: None, page_size: 1, ..request.clone() };
        let is_known = args.since.is_some()
            && !call(client.pools().list_transitions(anytime)).await?.transitions.is_empty();
        if !is_known {
            return Err(unknown(&peer.address));
        }
    }
    let transitions: Vec<Transition> = entries.iter().map(|entry| entry.transition.clone()).collect();
    globals.show(&transitions, |style, now| history_table(&entries, is_cut, style, now))
}

/// The past changes of one peer.
#[derive(Clone, Debug)]
pub(crate) struct PeerHistory {
    args: HistoryArgs,
    read: Vec<Transition>,
    is_cut: bool,
}

impl PeerHistory {
    /// Asks the service for them.
    pub(crate) async fn of(client: &Client, pool: &str, address: &str) -> Result<Self, Failure> {
        let pool = names::pool(pool).map_err(Failure::Usage)?;
        let args = HistoryArgs::of(PeerName { pool: Some(pool), address: address.to_owned() });
        let request = request(&args, SystemTime::now())?;
        let (read, is_cut) = read(client, &args, &request, true).await?;
        Ok(Self { args, read, is_cut })
    }

    /// As if the service had sent these.
    #[cfg(test)]
    pub(crate) fn sample(pool: &str, address: &str, read: Vec<Transition>) -> Self {
        let peer = PeerName { pool: Some(pool.to_owned()), address: address.to_owned() };
        Self { args: HistoryArgs::of(peer), read, is_cut: false }
    }

    /// As `peers history` prints them, on a terminal of this width, but without the name of the peer and with a line
    /// for each status: what failed while it lasted is with the reason for which it began.
    pub(crate) fn lines(&self, terminal: Option<usize>, now: SystemTime) -> Vec<Cell> {
        let mut entries = entries(&self.read, &self.args, true);
        entries.truncate(limit(&self.args));
        let mut rows = Vec::new();
        let mut newest: Option<Vec<Cell>> = None;
        for (entry, mut row) in entries.iter().zip(history_rows(&entries, None, self.is_cut, now)) {
            if entry.only_gives_reason() {
                newest = newest.or_else(|| style::is_failure(entry.peer.reason).then_some(row));
                continue;
            }
            match (newest.take(), row.last_mut()) {
                (Some(newest), Some(reason)) if entry.run.is_none() => {
                    let then = newest.into_iter().last().unwrap_or_default();
                    *reason = std::mem::take(reason).and(Cell::plain("; then ")).and(then);
                }
                (newest, _) => rows.extend(newest),
            }
            rows.push(row);
        }
        rows.extend(newest);
        let header = [&["TIME"][..], &HEADER].concat();
        let (header, rows) = layout(&header, &rows, terminal);
        iter::once(header).chain(rows.into_iter().flatten()).collect()
    }
}

fn limit(args: &HistoryArgs) -> usize {
    usize::try_from(args.limit).unwrap_or(usize::MAX)
}

/// The changes for so many lines as are wanted, and whether there are more.
async fn read(
    client: &Client,
    args: &HistoryArgs,
    request: &ListTransitionsRequest,
    folds: bool,
) -> Result<(Vec<Transition>, bool), Failure> {
    let mut client = client.pools();
    let (mut read, mut is_cut) = (Vec::new(), false);
    let pages = all_pages(async |page_token| {
        let request = ListTransitionsRequest { page_token, ..request.clone() };
        let page = call(client.list_transitions(request)).await?;
        read.extend(page.transitions);
        // A run that is folded may go on below the limit.
        let found = entries(&read, args, folds).len();
        is_cut = found > limit(args) && !page.next_page_token.is_empty();
        Ok((Vec::<()>::new(), if is_cut { String::new() } else { page.next_page_token }))
    });
    pages.await?;
    Ok((read, is_cut))
}

/// The request for all pages.
fn request(args: &HistoryArgs, now: SystemTime) -> Result<ListTransitionsRequest, Failure> {
    let parent = match &args.peer {
        Some(peer) => peer.pool_or(args.pool.as_deref())?,
        None => args.pool.clone(),
    };
    Ok(ListTransitionsRequest {
        parent: parent.unwrap_or_default(),
        page_size: MAX_PAGE,
        peer: args.peer.as_ref().map(|peer| peer.address.clone()).unwrap_or_default(),
        // A time before the clock's begin is no limit.
        start_time: args.since.and_then(|since| now.checked_sub(since)).map(Timestamp::from),
        ..Default::default()
    })
}

/// The same failure as of other commands that name a peer.
fn unknown(peer: &str) -> Failure {
    Failure::Refused {
        text: format!("{}: no such peer, and no change of one is remembered", text::plain(peer)),
        reason: "PEER_NOT_FOUND".to_owned(),
    }
}

fn history_table(entries: &[Entry<'_>], is_cut: bool, style: Style, now: SystemTime) -> Vec<String> {
    let places = list::places(entries.iter().map(|entry| entry.peer));
    let header: Vec<_> = iter::once("TIME").chain(places.header()).chain(HEADER).collect();
    table(&header, history_rows(entries, Some(places), is_cut, now), "no changes", style)
}

/// Without `places`, the peers are not named.
fn history_rows(
    entries: &[Entry<'_>],
    places: Option<Places>,
    is_cut: bool,
    now: SystemTime,
) -> Vec<Vec<Cell>> {
    let row = |entry: &Entry<'_>| {
        let (change, peer) = (entry.change, entry.peer);
        let status = Cell::status(peer.status);
        let (time, status, lasted) = match &entry.run {
            Some(run) => (run.begin(), Cell::new(style::BOLD, &run.times(is_cut)), run.lasted()),
            None => {
                let status = match change.kind() {
                    ChangeKind::Removed => Cell::new(style::BOLD, "- removed"),
                    _ if entry.takes_status() => status,
                    _ => status.dimmed(),
                };
                (change.time.as_ref(), status, entry.lasted(now))
            }
        };
        let why = match change.kind() {
            ChangeKind::Origin => Cell::new_origin(peer),
            _ => Cell::reason_and_detail(peer.reason, &peer.detail),
        };
        let time = Cell::new(style::DIM, &text::stamp(time));
        let names = places.map(|places| places.cells(&peer.name, &peer.pool));
        iter::once(time)
            .chain(names.into_iter().flatten())
            .chain([status, Cell::plain(lasted), why])
            .collect()
    };
    entries.iter().map(row).collect()
}

#[cfg(test)]
mod tests;
