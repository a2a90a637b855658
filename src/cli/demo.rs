//! `peerstatus demo`: the whole thing in one command. Simulated OpFlex peers on real sockets, the service, and a
//! live watch of it, in which peers go away and come back.

mod observer;

use std::{collections::BTreeSet, io, net::SocketAddr, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::{sync::watch, time::sleep};

use self::observer::DemoObserver;

use crate::{
    api::pb::{WatchPeerStatusRequest, WatchPeerStatusResponse},
    app::{LoadedConfig, Service},
    cli::{
        self, GlobalArgs, Output,
        exit::Failure,
        serve::not_started,
        target::Target,
        watch::{
            follow_until,
            follower::Follower,
            output_closed,
            printer::{Form, Printer},
            renderer::Renderer,
        },
    },
    config::{Admin, Overrides, parse_listen},
    sim::{Outages, SimConfig, SimPeer},
};

/// Peers of the demonstration: one is configured and tells of the other two.
const PEERS: usize = 3;
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
pub struct DemoArgs {
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
///
/// # Errors
/// Something could not be started, or the output is closed.
pub async fn run(args: DemoArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let mut peers = make_peers().await?;
    let service = start_service(&args, &peers).await?;
    let narrator = Narrator { quiet: globals.output == Output::Json };
    narrator.introduce(&service, &peers)?;
    let server: Target = service.address().to_string().parse().map_err(Failure::Usage)?;
    let form = match globals.output {
        Output::Human => Form::Human(Renderer::new(globals.style(&io::stdout()).fitted())),
        Output::Json => Form::Json,
    };
    let (mut observer, ready) = DemoObserver::new();
    let hear = move |message: &WatchPeerStatusResponse| match observer.hear(message) {
        Some(explanation) => narrator.say(explanation),
        None => Ok(()),
    };
    let printer = Printer::new(form, globals.style(&io::stderr())).heard_by(hear);
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let until = async {
        tokio::select! {
            ended = play(&mut peers, ready, seed, narrator) => ended,
            () = elapse(args.duration) => Ok(()),
            () = output_closed() => Ok(()),
            signal = tokio::signal::ctrl_c() => Ok(signal.context("cannot wait for Ctrl-C")?),
        }
    };
    let follower = Follower::new(WatchPeerStatusRequest::default());
    let ended = follow_until(server, follower, printer, until).await;
    service.stopper().cancel();
    service.join().await.map_err(anyhow::Error::new)?;
    // Last, or their end would look like a disaster.
    drop(peers);
    ended
}

/// Peers that have their ports and are down.
async fn make_peers() -> anyhow::Result<Vec<SimPeer>> {
    let start = |_| SimPeer::start(SimConfig::default()).context("cannot start a simulated peer");
    let mut peers = (0..PEERS).map(start).collect::<anyhow::Result<Vec<_>>>()?;
    let list: Vec<_> =
        peers.iter().map(|peer| (peer.address().ip().to_string(), peer.address().port())).collect();
    for peer in &mut peers {
        peer.set_peers(list.clone());
        peer.stop().await;
    }
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

/// Brings the peers up, one by one, and then takes them away and brings them back. `ready` are those that the service
/// says are READY: to take away another one would show nothing.
async fn play(
    peers: &mut [SimPeer],
    mut ready: watch::Receiver<BTreeSet<String>>,
    seed: u64,
    narrator: Narrator,
) -> Result<(), Failure> {
    // Last the one that the service knows, so that those that it tells of are there.
    for peer in peers.iter_mut().rev() {
        sleep(BEFORE_EACH_START).await;
        start_again(peer, narrator).await?;
    }
    for outage in Outages::new(peers.len(), seed) {
        sleep(outage.after).await;
        let Some(peer) = peers.get_mut(outage.peer) else { continue };
        let address = peer.address().to_string();
        if ready.wait_for(|ready| ready.contains(&address)).await.is_err() {
            return Ok(()); // the watch has ended, and says why
        }
        narrator.say(&format!("the demo kills {address}, for {} s", outage.down_for.as_secs()))?;
        peer.stop().await;
        sleep(outage.down_for).await;
        start_again(peer, narrator).await?;
    }
    Ok(())
}

async fn start_again(peer: &mut SimPeer, narrator: Narrator) -> Result<(), Failure> {
    let address = peer.address();
    narrator.say(&format!("the demo starts {address}"))?;
    Ok(peer.restart().await.with_context(|| format!("cannot listen on {address}"))?)
}

async fn elapse(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => std::future::pending().await,
    }
}

/// What the demonstration itself has to say, between the lines of the watch.
#[derive(Clone, Copy)]
struct Narrator {
    /// What it says goes to standard error: the output is for machines.
    quiet: bool,
}

impl Narrator {
    fn introduce(self, service: &Service, peers: &[SimPeer]) -> Result<(), Failure> {
        let addresses: Vec<_> = peers.iter().map(|peer| peer.address().to_string()).collect();
        let first = addresses.first().map(String::as_str).unwrap_or_default();
        self.say(&format!("simulated OpFlex peers: {}", addresses.join(", ")))?;
        self.say(&format!("the service knows {first} and learns of the others from it"))?;
        self.say(&format!("clients may join: peerstatus --server {} watch", service.address()))
    }

    fn say(self, line: &str) -> Result<(), Failure> {
        if self.quiet {
            eprintln!("# {line}");
            return Ok(());
        }
        cli::print([format!("# {line}")])
    }
}
