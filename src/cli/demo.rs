//! `peerstatus demo`: simulated OpFlex peers on real sockets, the service, and a live watch of it, while peers fail and
//! recover.

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

/// Peers of the demonstration: one is configured and lists the other two.
const PEERS: usize = 3;
/// How often to check whether a peer is READY.
const READY_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Long enough to see the peers down at first.
const START_DELAY: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  peerstatus demo                 until Ctrl-C
  peerstatus demo --for 20s       for scripts
  peerstatus demo -o json         what a client receives, one JSON object a line

While it runs, any client can join at the address that it prints, for example:
  peerstatus --server 127.0.0.1:PORT peers list
  grpcurl -plaintext 127.0.0.1:PORT opflex.peerstatus.v1.PeerStatusService/WatchPeerStatus";

/// The options of `demo`.
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

/// The demo has no authentication, so it must not be reachable from the network.
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
    let print_line: PrintLine = match globals.output {
        Output::Human => |line| cli::print([format!("# {line}")]),
        Output::Json => |line| {
            eprintln!("# {line}"); // stdout is for machines
            Ok(())
        },
    };
    print_introduction(&service, &peers, print_line)?;
    let server: Target = service.address().to_string().parse().map_err(Failure::Usage)?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let until = async {
        tokio::select! {
            ended = run_outages(&mut peers, &server, seed, print_line) => ended,
            () = sleep(args.duration.unwrap_or(Duration::MAX)) => Ok(()),
            () = output_closed() => Ok(()),
            signal = tokio::signal::ctrl_c() => Ok(signal.context("cannot wait for Ctrl-C")?),
        }
    };
    let follower = Follower::new(WatchPeerStatusRequest::default());
    let ended = follow_until(server.clone(), follower, Printer::new(globals, false), until).await;
    service.stopper().cancel();
    service.join().await.map_err(anyhow::Error::new)?;
    // After the service, which would report them as lost.
    drop(peers);
    ended
}

/// Prints a line about the demonstration, between those of the watch.
type PrintLine = fn(&str) -> Result<(), Failure>;

fn print_introduction(service: &Service, peers: &[SimPeer], print_line: PrintLine) -> Result<(), Failure> {
    let addresses: Vec<_> = peers.iter().map(|peer| peer.address().to_string()).collect();
    let first = addresses.first().map(String::as_str).unwrap_or_default();
    print_line(&format!("simulated OpFlex peers: {}", addresses.join(", ")))?;
    print_line(&format!("the service knows {first} and learns of the others from it"))?;
    print_line(&format!("clients may join: peerstatus --server {} watch", service.address()))
}

/// Creates the peers: their ports are reserved, and they are down.
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

/// Starts the peers one by one, and then stops and restarts them.
async fn run_outages(
    peers: &mut [SimPeer],
    server: &Target,
    seed: u64,
    print_line: PrintLine,
) -> Result<(), Failure> {
    // The configured peer last, so that the peers that it lists are up.
    for peer in peers.iter_mut().rev() {
        sleep(START_DELAY).await;
        restart_peer(peer, print_line).await?;
    }
    for outage in Outages::new(peers.len(), seed) {
        sleep(outage.after).await;
        let Some(peer) = peers.get_mut(outage.peer) else { continue };
        wait_until_ready(peer.address(), server).await?;
        print_line(&format!("the demo kills {}, for {} s", peer.address(), outage.down_for.as_secs()))?;
        peer.stop().await;
        sleep(outage.down_for).await;
        restart_peer(peer, print_line).await?;
    }
    Ok(())
}

async fn restart_peer(peer: &mut SimPeer, print_line: PrintLine) -> Result<(), Failure> {
    let address = peer.address();
    print_line(&format!("the demo starts {address}"))?;
    Ok(peer.restart().await.with_context(|| format!("cannot listen on {address}"))?)
}

/// Waits until the peer is READY: before that, an outage would not be visible.
async fn wait_until_ready(address: SocketAddr, server: &Target) -> Result<(), Failure> {
    let mut pools = Client::connect(server).await?.pools();
    let request = GetPeerRequest { name: format!("pools/default/peers/{address}") };
    loop {
        let peer = call(pools.get_peer(request.clone())).await.ok().and_then(|response| response.peer);
        if peer.is_some_and(|peer| peer.status() == PeerStatus::Ready) {
            return Ok(());
        }
        sleep(READY_CHECK_INTERVAL).await;
    }
}
