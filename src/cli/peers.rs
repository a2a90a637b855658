//! `peerstatus peers …`: the peers of a pool.

pub(super) mod history;
pub(super) mod list;

use std::{
    slice,
    time::{Duration, SystemTime},
};

use clap::{ArgGroup, Args, Subcommand};
use clap_complete::ArgValueCompleter;

use crate::{
    api::pb::{
        AddPeerRequest, GetPeerRequest, Peer, RemovePeerRequest, ResetPeersRequest, ResetPeersResponse,
        ResetScope,
    },
    cli::{
        GlobalArgs,
        client::{Client, call, promised},
        complete,
        exit::Failure,
        names::{self, PeerName, PeerOrHost},
        nodes, pool,
        style::{self, Style},
        table::{Cell, card},
        text,
    },
    peer::PeerAddress,
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
  peerstatus peers get leaf-101                 the host alone, if it has one peer
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

impl PeersArgs {
    /// Whether it goes on until Ctrl-C.
    pub(crate) const fn is_live(&self) -> bool {
        matches!(&self.command, PeersCommand::List(args) if args.is_live())
    }
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// List peers, the worst first, with since when and why they are not READY
    #[command(after_help = list::EXAMPLES)]
    List(list::ListArgs),
    /// Show all that is known about a peer
    #[command(after_help = GET_EXAMPLES)]
    Get {
        /// `host:port`, `pool/host:port` or `pools/…/peers/host:port`, IPv6 in brackets; the host alone if it has one peer
        #[arg(value_parser = names::peer_or_host, add = ArgValueCompleter::new(complete::peers))]
        peer: PeerName<PeerOrHost>,
        /// The pool of a peer given without [default: the one that has it]
        #[arg(long, value_name = "NAME", value_parser = names::pool, add = ArgValueCompleter::new(complete::pools))]
        pool: Option<String>,
    },
    /// Add a peer; one that was learned becomes configured
    #[command(after_help = ADD_EXAMPLES)]
    Add(NewPeer),
    /// Remove a configured peer
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove {
        /// `host:port`, `pool/host:port` or `pools/…/peers/host:port`, IPv6 in brackets; the host alone if it has one peer
        #[arg(value_parser = names::peer_or_host, add = ArgValueCompleter::new(complete::peers))]
        peer: PeerName<PeerOrHost>,
        /// The pool of a peer given without [default: default]
        #[arg(long, value_name = "NAME", value_parser = names::pool, add = ArgValueCompleter::new(complete::pools))]
        pool: Option<String>,
    },
    /// Close connections and start over
    #[command(after_help = RESET_EXAMPLES)]
    Reset(ResetArgs),
    /// List past changes of peers, newest first
    #[command(after_help = history::EXAMPLES)]
    History(history::HistoryArgs),
}

#[derive(Debug, Args)]
struct NewPeer {
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
    /// Close and redial these, of one pool: `host:port`, `pool/host:port` or `pools/…/peers/host:port`, IPv6 in brackets; the
    /// host alone if it has one peer
    #[arg(value_parser = names::peer_or_host, add = ArgValueCompleter::new(complete::peers))]
    peers: Vec<PeerName<PeerOrHost>>,
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
        PeersCommand::Remove { peer, pool } => remove(&peer, pool.as_deref(), globals).await,
        PeersCommand::Reset(args) => reset(&args, globals).await,
        PeersCommand::History(args) => history::run(args, globals).await,
    };
    result.map_err(|failure| {
        failure
            .advise("POOL_NOT_FOUND", "choose one with --pool")
            .advise("PEER_NOT_FOUND", "`peerstatus peers list` shows those that there are")
    })
}

async fn get(peer: &PeerName<PeerOrHost>, pool: Option<&str>, globals: &GlobalArgs) -> Result<(), Failure> {
    let named = peer.pool_or(pool)?;
    let client = globals.connect().await?;
    let peer = match &peer.address {
        PeerOrHost::Peer(address) => in_its_pool(address, named, &client).await?,
        PeerOrHost::Host(host) => of_host(host, named.as_deref(), &client).await?,
    };
    let stale = nodes::stale(&client, slice::from_ref(&peer)).await?;
    globals.show(slice::from_ref(&peer), |style, now| peer_card(&stale.known(&peer), style, now))
}

/// The peer at an address, of this pool or of the only one that has it.
async fn in_its_pool(address: &PeerAddress, pool: Option<String>, client: &Client) -> Result<Peer, Failure> {
    let pools = match pool {
        Some(pool) => vec![pool],
        None => pool::pools(client).await?.into_iter().map(|pool| pool.name).collect(),
    };
    let mut found = Vec::new();
    for pool in &pools {
        let name = format!("{pool}/peers/{address}");
        match call(client.pools().get_peer(GetPeerRequest { name })).await {
            Ok(response) => found.push(promised(response.peer, "peer")?),
            Err(failure) if failure.is_for("PEER_NOT_FOUND") && pools.len() > 1 => {}
            Err(failure) => return Err(failure),
        }
    }
    only_one(
        found,
        || format!("{address}: no such peer in any pool"),
        |several| {
            let pools: Vec<_> = several.iter().map(|peer| text::plain(&peer.pool)).collect();
            format!("{address} is in the pools {}: choose one with --pool", pools.join(" and "))
        },
    )
}

/// The peer with this host, if there is only one in the pool, or in all of them.
async fn of_host(host: &str, pool: Option<&str>, client: &Client) -> Result<Peer, Failure> {
    let mut found = list::peers(client, pool.unwrap_or_default()).await?;
    found.retain(|peer| peer.host == host);
    let place = pool.map_or_else(|| "any pool".to_owned(), |pool| format!("pool {}", text::pool_name(pool)));
    only_one(
        found,
        || format!("{host}: no peer in {place} has this host"),
        |several| {
            let with_pool =
                several.iter().any(|peer| Some(&peer.pool) != several.first().map(|first| &first.pool));
            let names: Vec<_> =
                several.iter().map(|peer| Cell::peer(&peer.name, with_pool).show(Style::default())).collect();
            format!("{host} is the host of several peers, choose one: {}", names.join(", "))
        },
    )
}

fn only_one(
    mut found: Vec<Peer>,
    none: impl FnOnce() -> String,
    several: impl FnOnce(&[Peer]) -> String,
) -> Result<Peer, Failure> {
    match (found.pop(), found.as_slice()) {
        (Some(peer), []) => Ok(peer),
        (None, _) => Err(Failure::Refused { text: none(), reason: "PEER_NOT_FOUND".to_owned() }),
        (Some(last), _) => {
            found.push(last);
            Err(Failure::Usage(several(&found)))
        }
    }
}

/// The full name of a peer of a pool.
async fn full_name(
    PeerName { address, .. }: &PeerName<PeerOrHost>,
    pool: &str,
    client: &Client,
) -> Result<String, Failure> {
    match address {
        PeerOrHost::Peer(address) => Ok(format!("{pool}/peers/{address}")),
        PeerOrHost::Host(host) => Ok(of_host(host, Some(pool), client).await?.name),
    }
}

async fn add(NewPeer { peer, pool }: &NewPeer, globals: &GlobalArgs) -> Result<(), Failure> {
    let (parent, _) = peer.in_full(pool.as_deref())?;
    let (host, port) = (peer.address.host().to_owned(), peer.address.port().into());
    let response =
        call(globals.connect().await?.pools().add_peer(AddPeerRequest { parent, host, port })).await?;
    let peer = promised(response.peer, "peer")?;
    let text = format!("added {}", peer.name);
    globals.confirm(peer, &text)
}

async fn remove(
    peer: &PeerName<PeerOrHost>,
    pool: Option<&str>,
    globals: &GlobalArgs,
) -> Result<(), Failure> {
    let (pool, _) = peer.in_full(pool)?;
    let client = globals.connect().await?;
    let name = full_name(peer, &pool, &client).await?;
    let text = format!("removed {name}");
    globals.confirm(call(client.pools().remove_peer(RemovePeerRequest { name })).await?, &text)
}

async fn reset(args: &ResetArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let (parent, _) = names::of_one_pool(&args.peers, args.pool.as_deref())?;
    let scope = match (args.peers.is_empty(), args.all) {
        (false, _) => ResetScope::Named,
        (true, true) => ResetScope::All,
        (true, false) => ResetScope::Learned,
    };
    let client = globals.connect().await?;
    let mut names = Vec::new();
    for peer in &args.peers {
        names.push(full_name(peer, &parent, &client).await?);
    }
    let response = reset_peers(&client, parent, scope, names).await?;
    globals.confirm(response, &format!("peers reset: {}", response.reset_count))
}

/// Resets peers of a pool; `names` are in full, for [`ResetScope::Named`].
pub(crate) async fn reset_peers(
    client: &Client,
    parent: String,
    scope: ResetScope,
    names: Vec<String>,
) -> Result<ResetPeersResponse, Failure> {
    let request = ResetPeersRequest { parent, scope: scope.into(), names };
    call(client.pools().reset_peers(request)).await
}

fn peer_card(peer: &Peer, style: Style, now: SystemTime) -> Vec<String> {
    card(card_rows(peer, now), style)
}

/// All that is known about a peer: titles and values.
fn card_rows(peer: &Peer, now: SystemTime) -> Vec<(&'static str, Cell)> {
    let failure = peer.last_failure.clone().unwrap_or_default();
    // Both times are new each time that a parked peer was asked for its peers.
    let (since, not_ready_since) = match list::is_parked(peer) {
        true => ("last asked", None),
        false => ("since", peer.not_ready_since.as_ref()),
    };
    let mut rows = vec![
        ("name", Cell::plain(&peer.name)),
        ("status", list::status(peer, now)),
        (since, Cell::plain(text::moment(peer.status_since.as_ref(), now))),
        ("not ready since", Cell::plain(text::moment(not_ready_since, now))),
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
        ("roles", Cell::plain(or_none(&roles(peer)))),
    ];
    rows.extend(match &peer.observed_time {
        None => vec![("echo round trip", Cell::plain(milliseconds(peer.echo_rtt)))],
        observed => vec![
            ("evidence", Cell::plain(text::evidence(peer.evidence))),
            ("observed", Cell::plain(text::moment(observed.as_ref(), now))),
            ("tcp round trip", Cell::plain(milliseconds(peer.tcp_rtt))),
            ("last received", Cell::plain(text::moment(peer.last_received_time.as_ref(), now))),
        ],
    });
    rows.push(("status changes", Cell::plain(peer.transition_count)));
    rows.push(("revision", Cell::plain(peer.revision)));
    rows
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

/// `policy repository, observer`
pub(crate) fn roles(peer: &Peer) -> String {
    let roles: Vec<_> = peer.roles.iter().map(|role| text::role(*role)).collect();
    roles.join(", ")
}

/// `1.24 ms`; `-` for an unset one.
pub(crate) fn milliseconds(span: Option<prost_types::Duration>) -> String {
    let rtt = span.and_then(|span| Duration::try_from(span).ok());
    rtt.map_or_else(|| "-".to_owned(), |rtt| format!("{:.2} ms", rtt.as_secs_f64() * 1e3))
}

#[cfg(test)]
mod tests;
