//! `peerstatus peers history`: past changes of peers, newest first.

use std::{
    cmp,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use clap::Args;
use prost_types::Timestamp;

use crate::{
    api::pb::{ChangeKind, ListTransitionsRequest, PeerChange, Transition},
    cli::{
        GlobalArgs,
        client::{all_pages, call},
        exit::Failure,
        names::{self, PeerName},
        style::{self, Style},
        table::{Cell, table},
        text,
    },
};

/// The largest page that the service sends.
const MAX_PAGE: u32 = 5_000;

pub(super) const EXAMPLES: &str = "\
Examples:
  peerstatus peers history
  peerstatus peers history leaf-101:8009 --since 10m
  peerstatus peers history 'leaf-1*' --pool fabric-a --limit 500
  peerstatus peers history -o json | jq -r '.change.peer | [.time, .peer.status] | @tsv'

LASTED is how long a peer kept a status, on the line on which it took it. The service
remembers the last 65536 changes unless configured otherwise, and none from before its
start.";

/// The options of `history`.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Only peers whose `host:port` or host matches (* and ? are wildcards), or `pool/host:port` [default: all]
    #[arg(value_parser = names::peers)]
    peer: Option<PeerName<String>>,

    /// The same, as `watch` takes it
    #[arg(long = "peer", value_name = "GLOB", value_parser = names::peers, conflicts_with = "peer", hide = true)]
    option: Option<PeerName<String>>,

    /// Only the peers of this pool
    #[arg(long, value_name = "NAME", value_parser = names::pool)]
    pool: Option<String>,

    /// How many changes at most
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,

    /// Only what happened within this time until now, for example 10m (by this machine's clock)
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
}

/// Runs the command.
pub(super) async fn run(mut args: HistoryArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    args.peer = args.peer.or(args.option.take());
    let request = request(&args, SystemTime::now())?;
    let mut client = globals.connect().await?.pools();
    let mut left = args.limit;
    let transitions = all_pages(async |page_token| {
        let page_size = cmp::min(left, MAX_PAGE);
        let request = ListTransitionsRequest { page_size, page_token, ..request.clone() };
        let page = call(client.list_transitions(request)).await?;
        left = left.saturating_sub(u32::try_from(page.transitions.len()).unwrap_or(u32::MAX));
        Ok((page.transitions, if left > 0 { page.next_page_token } else { String::new() }))
    });
    let transitions = transitions.await?;
    if let Some(notice) = nothing_matches(&args, &transitions) {
        globals.notices().print(&notice);
    }
    globals.show(&transitions, |style, now| history_table(&transitions, style, now))
}

/// The request for all pages.
fn request(args: &HistoryArgs, now: SystemTime) -> Result<ListTransitionsRequest, Failure> {
    let parent = match &args.peer {
        Some(peer) => peer.pool_or(args.pool.as_deref())?,
        None => args.pool.clone(),
    };
    Ok(ListTransitionsRequest {
        parent: parent.unwrap_or_default(),
        peer: args.peer.as_ref().map(|peer| peer.address.clone()).unwrap_or_default(),
        // A time before the clock's begin is no limit.
        start_time: args.since.and_then(|since| now.checked_sub(since)).map(Timestamp::from),
        ..Default::default()
    })
}

/// A peer without changes may be a typo, or one whose changes are no longer in the log.
fn nothing_matches(args: &HistoryArgs, found: &[Transition]) -> Option<String> {
    let glob = &args.peer.as_ref().filter(|_| found.is_empty())?.address;
    let since = args.since.map(|since| format!(" --since {}", humantime::format_duration(since)));
    Some(format!("history: nothing that is remembered matches {glob}{}", since.unwrap_or_default()))
}

fn history_table(transitions: &[Transition], style: Style, now: SystemTime) -> Vec<String> {
    // When each peer took the status that it has in the rows so far, which are the newer ones.
    let mut taken: BTreeMap<&str, Option<SystemTime>> = BTreeMap::new();
    let mut rows = Vec::new();
    for change in transitions.iter().filter_map(|transition| transition.change.as_ref()?.peer.as_ref()) {
        let Some(peer) = &change.peer else { continue };
        let end = taken.get(peer.name.as_str()).copied().flatten();
        if takes_status(change) {
            taken.insert(&peer.name, text::system_time(change.time.as_ref()));
        }
        let status = Cell::status(peer.status);
        rows.push(vec![
            Cell::new(style::DIM, &text::stamp(change.time.as_ref())),
            Cell::plain(text::peer_address(&peer.name)),
            Cell::plain(&peer.pool),
            match change.kind() {
                ChangeKind::Removed => Cell::new(style::BOLD, "- removed"),
                _ if takes_status(change) => status,
                _ => status.dimmed(),
            },
            Cell::plain(duration_in_status(change, end, now)),
            match change.kind() {
                ChangeKind::Origin => Cell::new_origin(peer),
                _ => Cell::reason(peer),
            },
            Cell::plain(&peer.detail),
        ]);
    }
    let header = ["TIME", "PEER", "POOL", "STATUS", "LASTED", "REASON", "DETAIL"];
    table(&header, rows, "no changes", style)
}

/// Whether the peer has another status than before, and not only another reason or origin.
fn takes_status(change: &PeerChange) -> bool {
    change.peer.as_ref().is_some_and(|peer| peer.status != change.previous_status)
}

/// How long the peer kept the status that it took: until `end`, or until now.
fn duration_in_status(change: &PeerChange, end: Option<SystemTime>, now: SystemTime) -> String {
    let begin = text::system_time(change.time.as_ref());
    let Some(begin) = begin.filter(|_| takes_status(change) && change.kind() != ChangeKind::Removed) else {
        return String::new();
    };
    let duration = text::short_duration(end.unwrap_or(now).duration_since(begin).unwrap_or_default());
    if end.is_some() { duration } else { format!("{duration} so far") }
}

#[cfg(test)]
mod tests;
