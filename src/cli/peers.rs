//! `peerstatus peers …`: the peers of a pool.

mod history;
pub(super) mod list;

use std::time::{Duration, SystemTime};

use clap::{ArgGroup, Args, Subcommand};
use clap_complete::ArgValueCompleter;

use crate::{
    api::pb::{AddPeerRequest, GetPeerRequest, Peer, RemovePeerRequest, ResetPeersRequest, ResetScope},
    cli::{
        GlobalArgs,
        client::{call, promised},
        complete,
        exit::Failure,
        names::{self, PeerName},
        pool,
        style::{self, Style},
        table::{Cell, card},
        text,
    },
};

const EXAMPLES: &str = "\
Examples:
  peerstatus peers list                  every peer, the worst first
  peerstatus peers list --not-ready      only what is wrong, since when and why
  peerstatus peers get leaf-101:8009
  peerstatus peers history leaf-101:8009 --since 10m
  peerstatus peers reset --learned";

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
    /// List peers, the worst first, with since when and why they are not READY
    #[command(after_help = list::EXAMPLES)]
    List(list::ListArgs),
    /// Show all that is known about a peer
    #[command(after_help = GET_EXAMPLES)]
    Get {
        /// `host:port`, `pool/host:port` or `pools/…/peers/host:port`; IPv6 in brackets
        #[arg(value_parser = names::peer, add = ArgValueCompleter::new(complete::peers))]
        peer: PeerName,
        /// The pool of a peer given as `host:port` [default: the one that has it]
        #[arg(long, value_name = "NAME", value_parser = names::pool, add = ArgValueCompleter::new(complete::pools))]
        pool: Option<String>,
    },
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
    #[arg(value_parser = names::peer, add = ArgValueCompleter::new(complete::peers))]
    peer: PeerName,
    /// The pool of a peer given as `host:port` [default: default]
    #[arg(long, value_name = "NAME", value_parser = names::pool, add = ArgValueCompleter::new(complete::pools))]
    pool: Option<String>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["peers", "learned", "all"]))]
struct ResetArgs {
    /// Close and redial these, of one pool: `host:port`, `pool/host:port` or `pools/…/peers/host:port`; IPv6 in brackets
    #[arg(value_parser = names::peer, add = ArgValueCompleter::new(complete::peers))]
    peers: Vec<PeerName>,
    /// Drop the learned peers, and close and redial the configured ones that list others, to learn them again; the pool
    /// may be DOWN for a moment
    #[arg(long)]
    learned: bool,
    /// Drop the learned peers, and close and redial all the others; the pool is DOWN for a moment
    #[arg(long)]
    all: bool,
    /// The pool [default: default]
    #[arg(long, value_name = "NAME", value_parser = names::pool, add = ArgValueCompleter::new(complete::pools))]
    pool: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(args: PeersArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let result = match args.command {
        PeersCommand::List(args) => list::run(args, globals).await,
        PeersCommand::Get { peer, pool } => get(&peer, pool.as_deref(), globals).await,
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

async fn get(peer: &PeerName, pool: Option<&str>, globals: &GlobalArgs) -> Result<(), Failure> {
    let named = peer.pool_or(pool)?;
    let client = globals.connect().await?;
    let pools = match named {
        Some(pool) => vec![pool],
        None => pool::pools(&client).await?.into_iter().map(|pool| pool.name).collect(),
    };
    let mut found = Vec::new();
    for pool in &pools {
        let name = format!("{pool}/peers/{}", peer.address);
        match call(client.pools().get_peer(GetPeerRequest { name })).await {
            Ok(response) => found.push(promised(response.peer, "peer")?),
            Err(failure) if failure.is_for("PEER_NOT_FOUND") && pools.len() > 1 => {}
            Err(failure) => return Err(failure),
        }
    }
    let address = &peer.address;
    match found.as_slice() {
        [peer] => globals.show(&found, |style, now| peer_card(peer, style, now)),
        [] => Err(Failure::Refused {
            text: format!("{address}: no such peer in any pool"),
            reason: "PEER_NOT_FOUND".to_owned(),
        }),
        several => {
            let pools: Vec<_> = several.iter().map(|peer| text::plain(&peer.pool)).collect();
            let pools = pools.join(" and ");
            Err(Failure::Usage(format!("{address} is in the pools {pools}: choose one with --pool")))
        }
    }
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

fn peer_card(peer: &Peer, style: Style, now: SystemTime) -> Vec<String> {
    let roles: Vec<String> = peer.roles.iter().map(|role| text::role(*role)).collect();
    let failure = peer.last_failure.clone().unwrap_or_default();
    let rows = vec![
        ("name", Cell::plain(&peer.name)),
        ("status", Cell::status(peer.status)),
        ("since", Cell::plain(text::moment(peer.status_since.as_ref(), now))),
        ("not ready since", Cell::plain(text::moment(peer.not_ready_since.as_ref(), now))),
        ("reason", Cell::new(style::reason(peer.reason), &text::reason(peer.reason))),
        ("detail", Cell::plain(&peer.detail)),
        (
            "last failure",
            match &peer.last_failure {
                Some(failure) => Cell::reason_and_detail(failure.reason, &failure.detail),
                None => Cell::plain("-"),
            },
        ),
        ("failed at", Cell::plain(text::moment(failure.time.as_ref(), now))),
        ("failures", Cell::plain(format!("{}, {} in a row", peer.failure_count, peer.consecutive_failures))),
        ("flaps", Cell::plain(peer.flap_count)),
        ("last ready", Cell::plain(text::moment(peer.last_ready_time.as_ref(), now))),
        ("wanted", Cell::plain(if peer.wanted { "yes" } else { "no" })),
        ("origin", Cell::plain(text::origin(peer.origin))),
        ("learned from", Cell::plain(or_none(text::peer_address(&peer.learned_from)))),
        ("roles", Cell::plain(or_none(&roles.join(", ")))),
        ("echo round trip", Cell::plain(milliseconds(peer.echo_rtt))),
        ("transitions", Cell::plain(peer.transition_count)),
        ("revision", Cell::plain(peer.revision)),
    ];
    card(rows, style)
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// `1.24 ms`; `-` for an unset one.
fn milliseconds(rtt: Option<prost_types::Duration>) -> String {
    let rtt = rtt.and_then(|rtt| Duration::try_from(rtt).ok());
    rtt.map_or_else(|| "-".to_owned(), |rtt| format!("{:.2} ms", rtt.as_secs_f64() * 1e3))
}

#[cfg(test)]
mod tests;
