//! `peerstatus demo`: the whole thing in one command. Simulated OpFlex peers on real sockets, the service, and a
//! live watch of it, in which peers go away and come back.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::time::sleep;

use crate::{
    api::pb::{GetPeerRequest, PeerStatus, WatchPeerStatusRequest},
    app::{LoadedConfig, Service},
    cli::{
        self, GlobalArgs, Output,
        client::{Client, call},
        exit::Failure,
        serve::not_started,
        target::Target,
        watch::{follow_until, follower::Follower, output_closed, printer::Printer},
    },
    config::{Admin, Overrides, parse_listen},
    sim::{Outages, SimConfig, SimPeer},
};

/// Peers of the demonstration: one is configured and tells of the other two.
const PEERS: usize = 3;
/// How often to look whether a peer is READY.
const READY_CHECK: Duration = Duration::from_millis(200);
/// Long enough to see that nobody is there yet, short enough not to be bored.
const BEFORE_EACH_START: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  peerstatus demo                 until Ctrl-C
  peerstatus demo --for 20s       for scripts
  peerstatus demo -o json         what a client receives, one JSON object a line

While it runs, any client can join at the address that it prints, for example:
  peerstatus --server 127.0.0.1:PORT peers list
  grpcurl -plaintext 127.0.0.1:PORT opflex.peerstatus.v1.PeerStatusService/WatchPeerStatus";

/// What to demonstrate.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Stop after that long, for example 20s [default: at Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,

    /// Where the service listens, on loopback; port 0 lets the system choose
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0", value_parser = parse_loopback)]
    listen: SocketAddr,

    /// Seed of the outages: the same seed gives the same ones [default: a new one]
    #[arg(long)]
    seed: Option<u64>,
}

/// There is nothing in a demonstration that is worth the risk of a port that is open to the network.
fn parse_loopback(text: &str) -> Result<SocketAddr, String> {
    match parse_listen(text)? {
        listen if listen.ip().is_loopback() => Ok(listen),
        other => Err(format!(
            "the demo serves on loopback only, for example 127.0.0.1:{}; `peerstatus simulate` and `peerstatus serve` \
             do the same for others",
            other.port()
        )),
    }
}

/// Demonstrates until Ctrl-C, or for as long as was asked for.
pub(crate) async fn run(args: DemoArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let mut peers = make_peers()?;
    let service = start_service(&args, &peers).await?;
    let say: Say = match globals.output {
        Output::Human => |line| cli::print([format!("# {line}")]),
        Output::Json => |line| {
            eprintln!("# {line}"); // stdout is for machines
            Ok(())
        },
    };
    introduce(&service, &peers, say)?;
    let server: Target = service.address().to_string().parse().map_err(Failure::Usage)?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let until = async {
        tokio::select! {
            ended = play(&mut peers, &server, seed, say) => ended,
            () = sleep(args.duration.unwrap_or(Duration::MAX)) => Ok(()),
            () = output_closed() => Ok(()),
            signal = tokio::signal::ctrl_c() => Ok(signal.context("cannot wait for Ctrl-C")?),
        }
    };
    let follower = Follower::new(WatchPeerStatusRequest::default());
    let ended = follow_until(server.clone(), follower, Printer::new(globals, false), until).await;
    service.stopper().cancel();
    service.join().await.map_err(anyhow::Error::new)?;
    // Last, or their end would look like a disaster.
    drop(peers);
    ended
}

/// Prints a line of the demonstration itself, between those of the watch.
type Say = fn(&str) -> Result<(), Failure>;

fn introduce(service: &Service, peers: &[SimPeer], say: Say) -> Result<(), Failure> {
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address().to_string()).collect();
    let first = addresses.first().map(String::as_str).unwrap_or_default();
    say(&format!("simulated OpFlex peers: {}", addresses.join(", ")))?;
    say(&format!("the service knows {first} and learns of the others from it"))?;
    say(
        "a learned peer that fails four times in a row is given up: it leaves the pool until it answers again",
    )?;
    say(&format!("clients may join: peerstatus --server {} watch", service.address()))
}

/// Peers that have their ports and are down.
fn make_peers() -> anyhow::Result<Vec<SimPeer>> {
    let bind = |_| SimPeer::bind(SimConfig::default()).context("cannot start a simulated peer");
    let peers = (0..PEERS).map(bind).collect::<anyhow::Result<Vec<_>>>()?;
    let list: Vec<_> =
        peers.iter().map(|peer| (peer.address().ip().to_string(), peer.address().port())).collect();
    peers.iter().for_each(|peer| peer.set_peers(list.clone()));
    Ok(peers)
}

async fn start_service(args: &DemoArgs, peers: &[SimPeer]) -> Result<Service, Failure> {
    let configured = peers.first().map(|peer| peer.address().to_string());
    let configured = configured.map(|address| address.parse()).transpose().map_err(anyhow::Error::new)?;
    let settings = Overrides {
        listen: Some(args.listen),
        admin: Some(Admin::Off),
        name: Some("demo".to_owned()),
        domain: Some("simulated".to_owned()),
        peers: configured.into_iter().collect(),
        ..Overrides::default()
    };
    let config = LoadedConfig::load(&settings).map_err(|error| Failure::Usage(error.to_string()))?;
    Service::start(config).await.map_err(not_started)
}

/// Brings the peers up, one by one, and then takes them away and brings them back.
async fn play(peers: &mut [SimPeer], server: &Target, seed: u64, say: Say) -> Result<(), Failure> {
    // Last the one that the service knows, so that those that it tells of are there.
    for peer in peers.iter_mut().rev() {
        sleep(BEFORE_EACH_START).await;
        start_again(peer, say).await?;
    }
    for outage in Outages::new(peers.len(), seed) {
        sleep(outage.after).await;
        let Some(peer) = peers.get_mut(outage.peer) else { continue };
        until_ready(peer.address(), server).await?;
        say(&format!("the demo kills {}, for {} s", peer.address(), outage.down_for.as_secs()))?;
        peer.stop().await;
        sleep(outage.down_for).await;
        start_again(peer, say).await?;
    }
    Ok(())
}

async fn start_again(peer: &mut SimPeer, say: Say) -> Result<(), Failure> {
    let address = peer.address();
    say(&format!("the demo starts {address}"))?;
    Ok(peer.restart().await.with_context(|| format!("cannot listen on {address}"))?)
}

/// Waits until the service says that the peer is READY: to take away another one would show nothing.
async fn until_ready(address: SocketAddr, server: &Target) -> Result<(), Failure> {
    let mut pools = Client::connect(server).await?.pools();
    let request = GetPeerRequest { name: format!("pools/default/peers/{address}") };
    loop {
        // One that was given up is not found until it is back.
        let peer = call(pools.get_peer(request.clone())).await.ok().and_then(|response| response.peer);
        if peer.is_some_and(|peer| peer.status() == PeerStatus::Ready) {
            return Ok(());
        }
        sleep(READY_CHECK).await;
    }
}
