//! `peerstatus peers …`: the peers of a pool.

mod history;

use std::{io, time::SystemTime};

use clap::{ArgGroup, Args, Subcommand};

use crate::{
    api::pb::{
        AddPeerRequest, GetPeerRequest, ListPeersRequest, Peer, RemovePeerRequest, ResetPeersRequest,
        ResetScope,
    },
    cli::{
        GlobalArgs, Output,
        client::{Client, Pages, answer, promised, request},
        exit::Failure,
        json,
        names::{self, PeerName, PoolName},
        print,
        style::Style,
        table::{Cell, Table},
        text,
    },
};

const EXAMPLES: &str = "\
Examples:
  peerstatus peers list
  peerstatus peers list --pool fabric-a -o json
  peerstatus peers get 127.0.0.1:8009
  peerstatus peers get leaf-101:8009 --pool fabric-a
  peerstatus peers add leaf-103:8009
  peerstatus peers remove leaf-103:8009
  peerstatus peers reset leaf-101:8009
  peerstatus peers reset --learned
  peerstatus peers history leaf-101:8009 --since 10m
  peerstatus peers get 'pools/fabric-a/peers/[2001:db8::1]:8009'";

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

/// What to do with peers.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PeersArgs {
    #[command(subcommand)]
    command: PeersCommand,
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// List peers, one a line
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only the peers of this pool
        #[arg(long, value_name = "NAME")]
        pool: Option<PoolName>,
    },
    /// Show all that is known about a peer
    #[command(after_help = GET_EXAMPLES)]
    Get {
        /// `host:port`, `pool/host:port` or `pools/…/peers/host:port`; IPv6 in brackets
        peer: PeerName,
        /// The pool of a peer given as `host:port` [default: default]
        #[arg(long, value_name = "NAME")]
        pool: Option<PoolName>,
    },
    /// Add a peer; one that was learned becomes configured
    #[command(after_help = ADD_EXAMPLES)]
    Add {
        /// `host:port`, `pool/host:port` or `pools/…/peers/host:port`; IPv6 in brackets
        peer: PeerName,
        /// The pool of a peer given as `host:port` [default: default]
        #[arg(long, value_name = "NAME")]
        pool: Option<PoolName>,
    },
    /// Remove a configured peer
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove {
        /// `host:port`, `pool/host:port` or `pools/…/peers/host:port`; IPv6 in brackets
        peer: PeerName,
        /// The pool of a peer given as `host:port` [default: default]
        #[arg(long, value_name = "NAME")]
        pool: Option<PoolName>,
    },
    /// Close connections and start over
    #[command(after_help = RESET_EXAMPLES)]
    #[command(group = ArgGroup::new("what").required(true).args(["peers", "learned", "all"]))]
    Reset {
        /// Close and redial these, of one pool: `host:port`, `pool/host:port` or `pools/…/peers/host:port`; IPv6 in
        /// brackets
        peers: Vec<PeerName>,
        /// Drop the learned peers, and close and redial the configured ones that told of others, so that they tell again;
        /// the pool may be DOWN for a moment
        #[arg(long)]
        learned: bool,
        /// Drop the learned peers, and close and redial all the others; the pool is DOWN for a moment
        #[arg(long)]
        all: bool,
        /// The pool [default: default]
        #[arg(long, value_name = "NAME")]
        pool: Option<PoolName>,
    },
    /// List past changes of peers, newest first
    #[command(after_help = history::EXAMPLES)]
    History(history::HistoryArgs),
}

/// Does it.
///
/// # Errors
/// The call failed, or the output is closed.
pub async fn run(args: PeersArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    obey(args.command, globals).await.map_err(|failure| {
        failure
            .advise("POOL_NOT_FOUND", "choose one with --pool")
            .advise("PEER_NOT_FOUND", "`peerstatus peers list` shows those that there are")
    })
}

async fn obey(command: PeersCommand, globals: &GlobalArgs) -> Result<(), Failure> {
    match command {
        PeersCommand::List { pool } => list(pool.as_ref(), globals).await,
        PeersCommand::Get { peer, pool } => get(&peer, pool.as_ref(), globals).await,
        PeersCommand::Add { peer, pool } => add(&peer, pool.as_ref(), globals).await,
        PeersCommand::Remove { peer, pool } => remove(&peer, pool.as_ref(), globals).await,
        PeersCommand::Reset { peers, all, pool, .. } => reset(&peers, all, pool.as_ref(), globals).await,
        PeersCommand::History(args) => history::run(args, globals).await,
    }
}

async fn list(pool: Option<&PoolName>, globals: &GlobalArgs) -> Result<(), Failure> {
    let parent = pool.map(ToString::to_string).unwrap_or_default();
    let mut client = Client::connect(&globals.server).await?.pools();
    let (mut peers, mut pages) = (Vec::new(), Pages::default());
    loop {
        let page_token = pages.token.clone();
        let page = ListPeersRequest { parent: parent.clone(), page_token, ..ListPeersRequest::default() };
        let page = answer(client.list_peers(request(page)).await)?;
        peers.extend(page.peers);
        if !pages.turn(page.next_page_token)? {
            break;
        }
    }
    match globals.output {
        Output::Human => print(table(&peers, globals.style(&io::stdout()), SystemTime::now())),
        Output::Json => print(peers.iter().map(json::line).collect::<Result<Vec<_>, _>>()?),
    }
}

async fn get(peer: &PeerName, pool: Option<&PoolName>, globals: &GlobalArgs) -> Result<(), Failure> {
    let name = peer.in_full(pool)?;
    let mut client = Client::connect(&globals.server).await?.pools();
    let response = answer(client.get_peer(request(GetPeerRequest { name })).await)?;
    let peer = promised(response.peer, "peer")?;
    match globals.output {
        Output::Human => print(card(&peer, globals.style(&io::stdout()), SystemTime::now())),
        Output::Json => print([json::line(&peer)?]),
    }
}

async fn add(peer: &PeerName, pool: Option<&PoolName>, globals: &GlobalArgs) -> Result<(), Failure> {
    let parent = peer.pool_or(pool)?.cloned().unwrap_or_default().to_string();
    let PeerName { address, .. } = peer;
    let add = AddPeerRequest { parent, host: address.host().to_owned(), port: address.port().into() };
    let mut client = Client::connect(&globals.server).await?.pools();
    let peer = promised(answer(client.add_peer(request(add)).await)?.peer, "peer")?;
    match globals.output {
        Output::Human => print([format!("added {}", text::plain(&peer.name))]),
        Output::Json => print([json::line(&peer)?]),
    }
}

async fn remove(peer: &PeerName, pool: Option<&PoolName>, globals: &GlobalArgs) -> Result<(), Failure> {
    let name = peer.in_full(pool)?;
    let mut client = Client::connect(&globals.server).await?.pools();
    let response = answer(client.remove_peer(request(RemovePeerRequest { name: name.clone() })).await)?;
    match globals.output {
        Output::Human => print([format!("removed {}", text::plain(&name))]),
        Output::Json => print([json::line(&response)?]),
    }
}

async fn reset(
    peers: &[PeerName],
    all: bool,
    pool: Option<&PoolName>,
    globals: &GlobalArgs,
) -> Result<(), Failure> {
    let (pool, names) = names::of_one_pool(peers, pool)?;
    let scope = match (peers.is_empty(), all) {
        (false, _) => ResetScope::Named,
        (true, true) => ResetScope::All,
        (true, false) => ResetScope::Learned,
    };
    let mut client = Client::connect(&globals.server).await?.pools();
    let reset = ResetPeersRequest { parent: pool.to_string(), scope: scope.into(), names };
    let response = answer(client.reset_peers(request(reset)).await)?;
    match globals.output {
        Output::Human => print([format!("peers reset: {}", response.reset_count)]),
        Output::Json => print([json::line(&response)?]),
    }
}

fn table(peers: &[Peer], style: Style, now: SystemTime) -> Vec<String> {
    let mut table =
        Table::new(&["PEER", "POOL", "ORIGIN", "STATUS", "REASON", "SINCE", "FAILURES", "DETAIL"]);
    for peer in peers {
        table.push(vec![
            Cell::plain(text::peer_address(&peer.name)),
            Cell::plain(&peer.pool),
            Cell::plain(&text::origin(peer.origin)),
            Cell::status(peer.status),
            Cell::reason(peer),
            Cell::plain(&text::age(peer.status_since.as_ref(), now)),
            Cell::plain(&peer.consecutive_failures.to_string()),
            Cell::plain(&peer.detail),
        ]);
    }
    if table.is_empty() { vec!["no peers".to_owned()] } else { table.lines(style) }
}

fn card(peer: &Peer, style: Style, now: SystemTime) -> Vec<String> {
    let mut card = Table::new(&[]);
    let mut row = |title, cell| card.push(vec![Cell::plain(title), cell]);
    let roles: Vec<String> = peer.roles.iter().map(|role| text::role(*role)).collect();
    row("name", Cell::plain(&peer.name));
    row("status", Cell::status(peer.status));
    row("since", Cell::plain(&text::moment(peer.status_since.as_ref(), now)));
    row("reason", Cell::reason(peer));
    row("detail", Cell::plain(&peer.detail));
    row("origin", Cell::plain(&text::origin(peer.origin)));
    row("roles", Cell::plain(&roles.join(", ")));
    row("last ready", Cell::plain(&text::moment(peer.last_ready_time.as_ref(), now)));
    row("failures in a row", Cell::plain(&peer.consecutive_failures.to_string()));
    row("transitions", Cell::plain(&peer.transition_count.to_string()));
    row("revision", Cell::plain(&peer.revision.to_string()));
    card.lines(style)
}

#[cfg(test)]
mod tests;
