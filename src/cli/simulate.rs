//! `peerstatus simulate`: OpFlex peers on real sockets, with faults on demand.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use tokio::{select, signal, time::sleep};

use crate::{
    cli::{self, exit::Failure},
    peer::PeerAddress,
    sim::{Behaviour, Outages, SimConfig, SimPeer},
};

/// More would need more file descriptors than a process has as a rule.
const MAX_PORTS: usize = 500;

const EXAMPLES: &str = "\
Examples:
  Three peers that list each other:
    peerstatus simulate --ports 18009-18011
  The same, and every few seconds one of them dies and comes back:
    peerstatus simulate --ports 18009-18011 --scenario restart
  A peer that never answers, for 20 seconds:
    peerstatus simulate --ports 18012 --scenario silent --for 20s
  An anycast bootstrap address, which lists others but not itself:
    peerstatus simulate --ports 18008 --peers 127.0.0.1:18009,127.0.0.1:18010
  Two peers that list each other, in two processes:
    peerstatus simulate --ports 18009 --peers 127.0.0.1:18009,127.0.0.1:18010
    peerstatus simulate --ports 18010 --peers 127.0.0.1:18009,127.0.0.1:18010

Without --peers, peers list those of their own process and no others. A pool follows the
list that came last: what it has learned from one process leaves it, NOT_IN_PEER_LIST,
when a peer of another one lists only its own.

Prints a line when a peer comes up or goes down. Ends with Ctrl-C.";

/// Run OpFlex peers to develop and demonstrate against.
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SimulateArgs {
    /// Ports to listen on, one peer each: 18009, 18009-18011, or several of these with commas; 0 lets the system
    /// choose one
    #[arg(long, value_name = "PORTS", value_delimiter = ',', required = true)]
    ports: Vec<Ports>,

    /// IP address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,

    /// The behaviour of the peers
    #[arg(long, value_enum, default_value_t = Scenario::Steady)]
    scenario: Scenario,

    /// Peers to list in answers to identities [default: all that this process simulates]
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    peers: Vec<PeerAddress>,

    /// Stop after that long, for example 20s or 5m [default: at Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,

    /// Seed of the outages, for the scenario "restart" alone: the same seed gives the same ones [default: a new one,
    /// which is printed]
    #[arg(long)]
    seed: Option<u64>,
}

/// The behaviour of the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Nothing goes wrong
    Steady,
    /// Every few seconds one of the peers dies and comes back
    Restart,
    /// Each closes the connection right after the handshake
    Flap,
    /// Each accepts connections and never sends anything
    Silent,
    /// Each sends nothing after the handshake
    Mute,
    /// Each answers the handshake with an error
    Reject,
    /// Each answers the handshake with something that is not JSON
    Garbage,
}

impl Scenario {
    const fn behaviour(self) -> Behaviour {
        match self {
            Self::Steady | Self::Restart => Behaviour::Normal,
            Self::Flap => Behaviour::Flap,
            Self::Silent => Behaviour::Silent,
            Self::Mute => Behaviour::Mute,
            Self::Reject => Behaviour::RejectIdentity,
            Self::Garbage => Behaviour::Garbage,
        }
    }
}

/// One port or a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ports(RangeInclusive<u16>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            text.parse().map_err(|_| "expected a port or a range of ports, for example 18009 or 18009-18011")
        };
        match (port(first)?, port(last)?) {
            (first, last) if first > last => {
                Err(format!("the range ends before it begins: did you mean {last}-{first}?"))
            }
            (0, 1..) => Err("a range begins at port 1; 0 alone lets the system choose a port".to_owned()),
            (first, last) => Ok(Self(first..=last)),
        }
    }
}

/// Runs the peers until Ctrl-C, or for as long as was asked for.
pub(crate) async fn run(args: SimulateArgs) -> Result<(), Failure> {
    check(&args).map_err(Failure::Usage)?;
    let mut peers = start(&args)?;
    let ended = select! {
        ended = play(&args, &mut peers) => ended,
        interrupted = signal::ctrl_c() => Ok(interrupted.context("cannot wait for Ctrl-C")?),
        () = sleep(args.duration.unwrap_or(Duration::MAX)) => Ok(()),
    };
    for peer in &mut peers {
        peer.stop().await;
    }
    ended
}

/// Checks the options against each other.
fn check(args: &SimulateArgs) -> Result<(), String> {
    let ports: usize = args.ports.iter().map(|ports| ports.0.len()).sum();
    if ports > MAX_PORTS {
        return Err(format!("{ports} ports are too many: at most {MAX_PORTS} peers can be simulated"));
    }
    if args.host.is_unspecified() && args.peers.is_empty() {
        return Err(format!(
            "no client can connect to {}: give the addresses that the peers shall list with --peers",
            args.host
        ));
    }
    if args.seed.is_some() && args.scenario != Scenario::Restart {
        return Err("--seed is for the outages of --scenario restart; there are none without it".to_owned());
    }
    Ok(())
}

/// Starts the peers, each with its list.
fn start(args: &SimulateArgs) -> anyhow::Result<Vec<SimPeer>> {
    let peers: Vec<_> = args
        .ports
        .iter()
        .flat_map(|ports| ports.0.clone())
        .map(|port| start_one(SocketAddr::new(args.host, port), args.scenario.behaviour()))
        .collect::<Result<_, _>>()?;
    let listed: Vec<_> = if args.peers.is_empty() {
        peers.iter().map(|peer| (peer.address().ip().to_string(), peer.address().port())).collect()
    } else {
        args.peers.iter().map(|peer| (peer.host().to_owned(), peer.port())).collect()
    };
    for peer in &peers {
        peer.set_peers(listed.clone());
    }
    Ok(peers)
}

fn start_one(listen: SocketAddr, behaviour: Behaviour) -> anyhow::Result<SimPeer> {
    SimPeer::start(SimConfig { listen, behaviour }).with_context(|| format!("cannot listen on {listen}"))
}

/// Prints the peers, and runs their outages, if the scenario has any.
async fn play(args: &SimulateArgs, peers: &mut [SimPeer]) -> Result<(), Failure> {
    for peer in &*peers {
        cli::print([format!("{} up", peer.address())])?;
    }
    if args.scenario == Scenario::Restart {
        let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
        cli::print([format!("outages of --seed {seed}")])?;
        for outage in Outages::new(peers.len(), seed) {
            sleep(outage.after).await;
            if let Some(peer) = peers.get_mut(outage.peer) {
                die_and_come_back(peer, outage.down_for).await?;
            }
        }
    }
    std::future::pending().await
}

async fn die_and_come_back(peer: &mut SimPeer, down_for: Duration) -> Result<(), Failure> {
    let address = peer.address();
    peer.stop().await;
    cli::print([format!("{address} down for {} s", down_for.as_secs())])?;
    sleep(down_for).await;
    peer.restart().await.with_context(|| format!("cannot listen on {address} again"))?;
    cli::print([format!("{address} up")])
}

#[cfg(test)]
mod tests;
