//! `peerstatus peers …`: the peers of a pool.

mod history;

use std::{slice, time::SystemTime};

use clap::{ArgGroup, Args, Subcommand};

use crate::{
    api::pb::{
        AddPeerRequest, GetPeerRequest, ListPeersRequest, Peer, RemovePeerRequest, ResetPeersRequest,
        ResetScope,
    },
    cli::{
        GlobalArgs,
        client::{all_pages, call, promised},
        exit::Failure,
        names::{self, PeerName},
        style::Style,
        table::{Cell, card, table},
        text,
    },
};

const EXAMPLES: &str = "\
Examples:
  peerstatus peers list
  peerstatus peers get leaf-101:8009 --pool fabric-a
  peerstatus peers history leaf-101:8009 --since 10m
  peerstatus peers reset --learned";

const LIST_EXAMPLES: &str = "\
Examples:
  peerstatus peers list
  peerstatus peers list --pool fabric-a
  peerstatus peers list -o json | jq -r '[.name, .status, .reason] | @tsv'";

const GET_EXAMPLES: &str = "\
Examples:
  peerstatus peers get leaf-101:8009
  peerstatus peers get fabric-a/leaf-101:8009
  peerstatus peers get 'pools/fabric-a/peers/[2001:db8::1]:8009'
  peerstatus peers get leaf-101:8009 -o json | jq -r .status";

const ADD_EXAMPLES: &str = "\
Examples:
  peerstatus peers add leaf-103:8009
  peerstatus peers add fabric-a/leaf-103:8009
  peerstatus peers add '[2001:db8::1]:8009' --pool fabric-a

The peer stays until it is removed or the service ends; one that is to outlive that
belongs into the configuration.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  peerstatus peers remove leaf-103:8009
  peerstatus peers remove fabric-a/leaf-103:8009

Only configured peers can be removed; learned ones come and go with the lists of others.
A peer that others still list does not come back at once: it is learned when a peer that
lists it identifies itself again, which it does when its connection is made anew.";

const RESET_EXAMPLES: &str = "\
Examples:
  peerstatus peers reset leaf-101:8009 leaf-102:8009
  peerstatus peers reset --learned
  peerstatus peers reset --all --pool fabric-a";

/// The subcommands of `peers`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    command: PeersCommand,
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// List peers, one a line
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only the peers of this pool
        #[arg(long, value_name = "NAME", value_parser = names::pool)]
        pool: Option<String>,
    },
    /// Show all that is known about a peer
    #[command(after_help = GET_EXAMPLES)]
    Get(OnePeer),
    /// Add a peer; one that was learned becomes configured
    #[command(after_help = ADD_EXAMPLES)]
    Add(OnePeer),
    /// Remove a configured peer
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove(OnePeer),
    /// Close connections and start over
    #[command(after_help = RESET_EXAMPLES)]
    Reset(ResetArgs),
    /// List past changes of peers, newest first
    #[command(after_help = history::EXAMPLES)]
    History(history::HistoryArgs),
}

#[derive(Debug, Args)]
struct OnePeer {
    /// `host:port`, `pool/host:port` or `pools/…/peers/host:port`; IPv6 in brackets
    #[arg(value_parser = names::peer)]
    peer: PeerName,
    /// The pool of a peer given as `host:port` [default: default]
    #[arg(long, value_name = "NAME", value_parser = names::pool)]
    pool: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["peers", "learned", "all"]))]
struct ResetArgs {
    /// Close and redial these, of one pool: `host:port`, `pool/host:port` or `pools/…/peers/host:port`; IPv6 in brackets
    #[arg(value_parser = names::peer)]
    peers: Vec<PeerName>,
    /// Drop the learned peers, and close and redial the configured ones that list others, to learn them again; the pool
    /// may be DOWN for a moment
    #[arg(long)]
    learned: bool,
    /// Drop the learned peers, and close and redial all the others; the pool is DOWN for a moment
    #[arg(long)]
    all: bool,
    /// The pool [default: default]
    #[arg(long, value_name = "NAME", value_parser = names::pool)]
    pool: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(args: PeersArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let result = match args.command {
        PeersCommand::List { pool } => list(pool.unwrap_or_default(), globals).await,
        PeersCommand::Get(peer) => get(&peer, globals).await,
        PeersCommand::Add(peer) => add(&peer, globals).await,
        PeersCommand::Remove(peer) => remove(&peer, globals).await,
        PeersCommand::Reset(args) => reset(&args, globals).await,
        PeersCommand::History(args) => history::run(args, globals).await,
    };
    result.map_err(|failure| {
        failure
            .advise("POOL_NOT_FOUND", "choose one with --pool")
            .advise("PEER_NOT_FOUND", "`peerstatus peers list` shows those that there are")
    })
}

async fn list(parent: String, globals: &GlobalArgs) -> Result<(), Failure> {
    let mut client = globals.connect().await?.pools();
    let peers = all_pages(async |page_token| {
        let request = ListPeersRequest { parent: parent.clone(), page_token, ..Default::default() };
        let page = call(client.list_peers(request)).await?;
        Ok((page.peers, page.next_page_token))
    });
    let peers = peers.await?;
    globals.show(&peers, |style, now| peers_table(&peers, style, now))
}

async fn get(OnePeer { peer, pool }: &OnePeer, globals: &GlobalArgs) -> Result<(), Failure> {
    let (_, name) = peer.in_full(pool.as_deref())?;
    let response = call(globals.connect().await?.pools().get_peer(GetPeerRequest { name })).await?;
    let peer = promised(response.peer, "peer")?;
    globals.show(slice::from_ref(&peer), |style, now| peer_card(&peer, style, now))
}

async fn add(OnePeer { peer, pool }: &OnePeer, globals: &GlobalArgs) -> Result<(), Failure> {
    let (parent, _) = peer.in_full(pool.as_deref())?;
    let (host, port) = (peer.address.host().to_owned(), peer.address.port().into());
    let response =
        call(globals.connect().await?.pools().add_peer(AddPeerRequest { parent, host, port })).await?;
    let peer = promised(response.peer, "peer")?;
    let text = format!("added {}", peer.name);
    globals.confirm(peer, &text)
}

async fn remove(OnePeer { peer, pool }: &OnePeer, globals: &GlobalArgs) -> Result<(), Failure> {
    let (_, name) = peer.in_full(pool.as_deref())?;
    let text = format!("removed {name}");
    globals
        .confirm(call(globals.connect().await?.pools().remove_peer(RemovePeerRequest { name })).await?, &text)
}

async fn reset(args: &ResetArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let (parent, names) = names::of_one_pool(&args.peers, args.pool.as_deref())?;
    let scope = match (names.is_empty(), args.all) {
        (false, _) => ResetScope::Named,
        (true, true) => ResetScope::All,
        (true, false) => ResetScope::Learned,
    };
    let request = ResetPeersRequest { parent, scope: scope.into(), names };
    let response = call(globals.connect().await?.pools().reset_peers(request)).await?;
    globals.confirm(response, &format!("peers reset: {}", response.reset_count))
}

fn peers_table(peers: &[Peer], style: Style, now: SystemTime) -> Vec<String> {
    let row = |peer: &Peer| {
        vec![
            Cell::plain(text::peer_address(&peer.name)),
            Cell::plain(&peer.pool),
            Cell::plain(text::origin(peer.origin)),
            Cell::status(peer.status),
            Cell::reason(peer),
            Cell::plain(text::age(peer.status_since.as_ref(), now)),
            Cell::plain(peer.consecutive_failures),
            Cell::plain(&peer.detail),
        ]
    };
    let header = ["PEER", "POOL", "ORIGIN", "STATUS", "REASON", "SINCE", "FAILURES", "DETAIL"];
    table(&header, peers.iter().map(row).collect(), "no peers", style)
}

fn peer_card(peer: &Peer, style: Style, now: SystemTime) -> Vec<String> {
    let roles: Vec<String> = peer.roles.iter().map(|role| text::role(*role)).collect();
    let rows = vec![
        ("name", Cell::plain(&peer.name)),
        ("status", Cell::status(peer.status)),
        ("since", Cell::plain(text::moment(peer.status_since.as_ref(), now))),
        ("reason", Cell::reason(peer)),
        ("detail", Cell::plain(&peer.detail)),
        ("origin", Cell::plain(text::origin(peer.origin))),
        ("roles", Cell::plain(roles.join(", "))),
        ("last ready", Cell::plain(text::moment(peer.last_ready_time.as_ref(), now))),
        ("failures in a row", Cell::plain(peer.consecutive_failures)),
        ("transitions", Cell::plain(peer.transition_count)),
        ("revision", Cell::plain(peer.revision)),
    ];
    card(rows, style)
}

#[cfg(test)]
mod tests;
