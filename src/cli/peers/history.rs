//! `peerstatus peers history`: what happened to peers before, newest first.

use std::{
    cmp,
    collections::BTreeMap,
    io,
    time::{Duration, SystemTime},
};

use clap::Args;
use prost_types::Timestamp;

use crate::{
    api::pb::{ChangeKind, ListTransitionsRequest, PeerChange, Transition},
    cli::{
        self, GlobalArgs, Output,
        client::{Client, Pages, answer, request},
        exit::Failure,
        json,
        names::{Glob, PeerName, PoolName},
        print,
        style::{self, Style},
        table::{Cell, Table},
        text,
    },
};

/// The service's own bound for a page.
const LARGEST_PAGE: u32 = 5_000;

pub(super) const EXAMPLES: &str = "\
Examples:
  peerstatus peers history
  peerstatus peers history leaf-101:8009 --since 10m
  peerstatus peers history 'leaf-1*' --pool fabric-a --limit 500
  peerstatus peers history -o json | jq -r '.change.peer | [.time, .peer.status] | @tsv'

LASTED is how long a peer kept a status, on the line on which it took it. The service
remembers the last 65536 changes unless configured otherwise, and none from before its
start.";

/// What to look back at.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only peers whose `host:port` or host matches (* and ? are wildcards), or `pool/host:port` [default: all]
    peer: Option<PeerName<Glob>>,

    /// The same, as `watch` takes it
    #[arg(long = "peer", value_name = "GLOB", conflicts_with = "peer", hide = true)]
    option: Option<PeerName<Glob>>,

    /// Only the peers of this pool
    #[arg(long, value_name = "NAME")]
    pool: Option<PoolName>,

    /// How many changes at most
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// Only what happened within this time until now, for example 10m (by this machine's clock)
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

/// Lists.
pub(super) async fn run(mut args: HistoryArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    args.peer = args.peer.or(args.option.take());
    let asked = asked(&args, SystemTime::now())?;
    let mut client = Client::connect(&globals.server).await?.pools();
    let (mut transitions, mut pages) = (Vec::new(), Pages::default());
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    loop {
        let left = u32::try_from(limit.saturating_sub(transitions.len())).unwrap_or(LARGEST_PAGE);
        let page = ListTransitionsRequest {
            page_size: cmp::min(left, LARGEST_PAGE),
            page_token: pages.token.clone(),
            ..asked.clone()
        };
        let page = answer(client.list_transitions(request(page)).await)?;
        transitions.extend(page.transitions);
        if !pages.turn(page.next_page_token)? || transitions.len() >= limit {
            break;
        }
    }
    if let Some(remark) = nothing_matches(&args, &transitions) {
        cli::remark(globals, &remark);
    }
    match globals.output {
        Output::Human => print(table(&transitions, globals.style(&io::stdout()), SystemTime::now())),
        Output::Json => print(transitions.iter().map(json::line).collect::<Result<Vec<_>, _>>()?),
    }
}

/// The question, but for its pages.
fn asked(args: &HistoryArgs, now: SystemTime) -> Result<ListTransitionsRequest, Failure> {
    let pool = match &args.peer {
        Some(peer) => peer.pool_or(args.pool.as_ref())?,
        None => args.pool.as_ref(),
    };
    let parent = pool.map(ToString::to_string).unwrap_or_default();
    let peer = args.peer.as_ref().map(|peer| peer.address.clone().into()).unwrap_or_default();
    // Further back than the clock goes is as far back as there is anything.
    let start = args.since.and_then(|since| now.checked_sub(since)).map(Timestamp::from);
    Ok(ListTransitionsRequest { parent, peer, start_time: start, ..ListTransitionsRequest::default() })
}

/// A peer for whom nothing was found may be a typo, or one of whom nothing is remembered.
fn nothing_matches(args: &HistoryArgs, found: &[Transition]) -> Option<String> {
    let glob = String::from(args.peer.as_ref().filter(|_| found.is_empty())?.address.clone());
    let since = args.since.map(|since| format!(" --since {}", humantime::format_duration(since)));
    Some(format!("history: nothing that is remembered matches {glob}{}", since.unwrap_or_default()))
}

fn table(transitions: &[Transition], style: Style, now: SystemTime) -> Vec<String> {
    let changes = || transitions.iter().filter_map(|it| it.change.as_ref()?.peer.as_ref());
    let mut table = Table::new(&["TIME", "PEER", "POOL", "STATUS", "LASTED", "REASON", "DETAIL"]);
    // When each peer took the status that it has in the changes seen so far, which are the newer ones.
    let mut taken: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for change in changes() {
        let Some(peer) = &change.peer else { continue };
        let end = taken.get(peer.name.as_str()).copied();
        if takes_status(change) {
            taken.insert(&peer.name, change.time.unwrap_or_default());
        }
        table.push(vec![
            Cell::new(style::DIM, &text::stamp(change.time.as_ref())),
            Cell::plain(text::peer_address(&peer.name)),
            Cell::plain(&peer.pool),
            status(change, peer.status),
            Cell::plain(&lasted(change, end, now)),
            match change.kind() {
                ChangeKind::Origin => Cell::plain(&format!("now {}", text::origin(peer.origin))),
                _ => Cell::reason(peer),
            },
            Cell::plain(&peer.detail),
        ]);
    }
    if table.is_empty() { vec!["no changes".to_owned()] } else { table.lines(style) }
}

/// Whether the peer has another status than before, and not only another reason for it or another origin.
fn takes_status(change: &PeerChange) -> bool {
    change.peer.as_ref().is_some_and(|peer| peer.status != change.previous_status)
}

fn status(change: &PeerChange, status: i32) -> Cell {
    match change.kind() {
        ChangeKind::Removed => Cell::new(style::BOLD, "- removed"),
        _ if takes_status(change) => Cell::status(status),
        _ => Cell::status(status).dimmed(),
    }
}

/// How long the peer kept the status that it took then: until `end`, or to this day.
fn lasted(change: &PeerChange, end: Option<Timestamp>, now: SystemTime) -> String {
    let begin = change.time.and_then(|time| SystemTime::try_from(time).ok());
    let (Some(begin), true) = (begin, takes_status(change) && change.kind() != ChangeKind::Removed) else {
        return String::new();
    };
    match end.and_then(|end| SystemTime::try_from(end).ok()) {
        Some(end) => text::span(end.duration_since(begin).unwrap_or_default()),
        None => format!("{} so far", text::span(now.duration_since(begin).unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests;
