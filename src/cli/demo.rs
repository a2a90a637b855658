//! `peerstatus demo`: simulated OpFlex peers on real sockets, the service or that of a fleet, and a live watch of it, while
//! peers fail and recover.

mod agent;
mod faults;
mod nats;
mod services;

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use self::services::Services;
use crate::{
    api::pb::WatchPeerStatusRequest,
    cli::{
        self, GlobalArgs, Output,
        exit::Failure,
        target::Target,
        top::{self, Display, End},
        watch::{follow_until, follower::Follower, output_closed, printer::Printer},
    },
    config::parse_listen,
};

const EXAMPLES: &str = "\
Examples:
  peerstatus demo                 until Ctrl-C
  peerstatus demo --top           on the whole terminal
  peerstatus demo --observe       the service observes an agent, and connects to nothing
  peerstatus demo --fleet         three nodes, NATS, and one watch of all of them
  peerstatus demo --for 1m        for scripts
  peerstatus demo -o json         what a client receives, one JSON object a line

In the first minute one peer dies, one flaps, one is rejected, and all recover. Then peers die
at random. While it runs, a browser can open the status page whose address it prints, and any client can join, for example:
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

    /// Show the peers on the whole terminal, as `peerstatus top` does, instead of the watch
    #[arg(long)]
    top: bool,

    /// A fleet of three nodes, which publish to a nats-server that the demo starts, and the service that reads it; needs
    /// nats-server 2.11 or newer in PATH or .tools/bin
    #[arg(long)]
    fleet: bool,

    /// A stand-in for an opflex-agent connects to the peers, and the service observes its log and its sockets
    #[arg(long, conflicts_with = "fleet")]
    observe: bool,

    /// Seed of the random outages: the same seed gives the same ones [default: a new one]
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
    if args.top {
        if globals.output == Output::Json {
            return Err(Failure::Usage("--top shows no JSON: leave out --top or --output".to_owned()));
        }
        top::require_terminal()?;
    }
    let mut services = match args.fleet {
        true => Services::fleet(args.listen).await?,
        false if args.observe => Services::observed(args.listen).await?,
        false => Services::single(args.listen).await?,
    };
    let server: Target = services.main.address().to_string().parse().map_err(Failure::Usage)?;
    for peer in &services.peers {
        faults::wait_until_ready(peer.address(), &server).await?;
    }
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let over = sleep(args.duration.unwrap_or(Duration::MAX));
    let ended = if args.top {
        let display = Display::new(server.clone());
        let message = display.messages();
        let print_line: PrintLine = Box::new(move |line| {
            message(line);
            Ok(())
        });
        let until = async {
            tokio::select! {
                ended = faults::run(&mut services.peers, &server, seed, &print_line) => ended.map(|()| End::Quit),
                () = over => Ok(End::Quit),
            }
        };
        display.show(globals.color, until).await.map(drop)
    } else {
        let print_line = lines_to(globals.output);
        services.print_introduction(&print_line)?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let until = async {
            tokio::select! {
                ended = faults::run(&mut services.peers, &server, seed, &print_line) => ended,
                () = over => Ok(()),
                () = output_closed() => Ok(()),
                signal = tokio::signal::ctrl_c() => Ok(signal.context("cannot wait for Ctrl-C")?),
                _ = terminate.recv() => Ok(()),
            }
        };
        let follower = Follower::new(WatchPeerStatusRequest::default());
        follow_until(server.clone(), follower, Printer::new(globals, false), until).await
    };
    services.stop().await?;
    ended
}

/// Announces something about the demonstration.
type PrintLine = Box<dyn Fn(&str) -> Result<(), Failure> + Send + Sync>;

/// Lines between those of the watch.
fn lines_to(output: Output) -> PrintLine {
    match output {
        Output::Human => Box::new(|line| cli::print([format!("# {line}")])),
        Output::Json => Box::new(|line| {
            eprintln!("# {line}"); // stdout is for machines
            Ok(())
        }),
    }
}
