//! What observing an agent costs: processor and memory over time, beside a service that does nothing and one that connects.
//!
//! A program, not a timed test. The agent is `peerstatus simulate --agent-log -`, and this process is its container runtime: it
//! frames what the agent writes, adds what other parts of an agent write, and rotates. All services run at the same time, each
//! with peers of its own. Loopback only; ends by itself.

mod agent;
mod service;
#[path = "../support/mod.rs"]
mod support;

use std::{env, net::SocketAddr, process::ExitCode, time::Duration};

use agent::Agent;
use opflex_peerstatus::sim::{SimConfig, SimPeer};
use service::Service;
use support::Outcome;
use tokio::time::{Instant, sleep, sleep_until};

const HELP: &str = "\
What observing an agent costs: processor and memory over time.

Usage: cargo bench --bench observe -- [--minutes N] [--lines N]

  --minutes N   how long to measure [default: 2]
  --lines N     lines a second that the noisy agent writes besides those about peers [default: 100]";

/// As many as the issue asks for. A leaf pair is two.
const PEERS: u8 = 20;
/// Connections and handshakes are over by then.
const SETTLING: Duration = Duration::from_secs(5);
/// Figures of memory, evenly over the time.
const SAMPLES: u32 = 12;
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let number = |flag: &str, default: u32| {
        let given = args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
        given.map_or(Ok(default), |given| given.parse())
    };
    let outcome = match (number("--minutes", 2), number("--lines", 100)) {
        (Ok(minutes), Ok(lines)) => run(MINUTE * minutes, lines).await,
        _ => Err("--minutes and --lines take a number".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(duration: Duration, lines: u32) -> Outcome<()> {
    let (_quiet_peers, quiet_addresses) = peers()?;
    let (_noisy_peers, noisy_addresses) = peers()?;
    let (_peers, addresses) = peers()?;
    let (quiet, noisy) = (Agent::new(&quiet_addresses, 0)?, Agent::new(&noisy_addresses, lines)?);
    let list = addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let services = [
        Service::start("no pool", "").await?,
        Service::start("connects to 20 peers", &format!("[[pool]]\nname = \"pool\"\npeers = {list:?}\n"))
            .await?,
        Service::start("observes 20 peers, and a log that says nothing else", &quiet.pool()).await?,
        Service::start(&format!("observes 20 peers, and {lines} lines a second"), &noisy.pool()).await?,
    ];
    // The agents start when they are observed, so that the log says how each peer got READY.
    let mut agents = [quiet.start()?, noisy.start()?];
    sleep(SETTLING).await;
    for service in &services {
        println!("{}: {}", service.what, service.peers().await?);
    }
    measure(&services, duration).await?;
    for agent in &mut agents {
        println!("rotations of the log: {}", agent.stop().await?);
    }
    sleep(SETTLING).await;
    for service in &services {
        println!("{}, after the agents stopped: {}", service.what, service.peers().await?);
    }
    Ok(())
}

/// Prints what each service used.
async fn measure(services: &[Service], duration: Duration) -> Outcome<()> {
    let begun = Instant::now();
    let mut used = Vec::new();
    for service in services {
        used.push(service.cpu()?);
    }
    for sample in 0..=SAMPLES {
        sleep_until(begun + duration * sample / SAMPLES).await;
        let resident = services.iter().map(Service::resident).collect::<Outcome<Vec<_>>>()?;
        println!("after {:>4} s: {resident:?} KiB resident", begun.elapsed().as_secs());
    }
    for (service, before) in services.iter().zip(used) {
        let share = (service.cpu()? - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
        println!("{:<55} {share:>6.2} % of a core", service.what);
    }
    Ok(())
}

/// Peers at different addresses and one port, as leaves are, of which each lists itself alone.
fn peers() -> Outcome<(Vec<SimPeer>, Vec<SocketAddr>)> {
    let start = |host: u8, port| {
        SimPeer::start(SimConfig { listen: ([127, 0, 9, host], port).into(), ..SimConfig::default() })
    };
    let mut peers = vec![start(1, 0)?];
    let port = peers.iter().map(|peer| peer.address().port()).next().ok_or("no peer")?;
    for host in 2..=PEERS {
        peers.push(start(host, port)?);
    }
    let addresses = peers.iter().map(SimPeer::address).collect();
    Ok((peers, addresses))
}
