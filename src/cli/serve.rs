//! `peerstatus serve`: the service, until it is told to stop.

use std::{error::Error as _, io};

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::{
    app::{Service, StartError},
    cli::{self, exit::Failure},
    config::{Config, Overrides},
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  peerstatus serve --peer leaf-101:8009 --peer leaf-102:8009
  peerstatus serve --config /etc/peerstatus.toml
  peerstatus serve --config /etc/peerstatus.toml --check
  PEERSTATUS_PEERS=10.0.0.30:8009 peerstatus serve

Prints `listening on IP:PORT` on standard output when it takes requests; logs go to
standard error. SIGTERM and Ctrl-C stop it in order: clients are sent away, then peers
are closed. A second signal stops it at once.";

/// How to serve.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    #[command(flatten)]
    settings: Overrides,

    /// Check the configuration and end
    #[arg(long)]
    check: bool,
}

/// Serves until a signal.
///
/// # Errors
/// The configuration is wrong, the address can't be bound, or the service failed.
pub async fn run(args: ServeArgs) -> Result<(), Failure> {
    let config = Config::load(args.settings).map_err(|error| Failure::Usage(error.to_string()))?;
    if args.check {
        let peers: usize = config.pools.iter().map(|pool| pool.peers.len()).sum();
        return cli::print([format!(
            "configuration is right: pools: {}, peers: {peers}",
            config.pools.len()
        )]);
    }
    let _logs = telemetry::init(&config.log);
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let service = Service::start(config).await.map_err(not_started)?;
    cli::print([format!("listening on {}", service.address())])?;
    let stop = service.stopper();
    let mut end = std::pin::pin!(service.join());
    loop {
        tokio::select! {
            ended = &mut end => return Ok(ended.map_err(anyhow::Error::new)?),
            _ = terminate.recv() => info!("SIGTERM"),
            _ = interrupt.recv() => info!("SIGINT"),
        }
        if stop.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        stop.cancel();
    }
}

/// Why the service did not start; and what to do where the address is taken, by another service as a rule.
pub fn not_started(error: StartError) -> Failure {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_taken = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::AddrInUse);
    let flag = match error {
        StartError::BindAdmin { .. } => "another address with --admin, or --admin off",
        _ => "another address with --listen",
    };
    let error = anyhow::Error::new(error);
    Failure::Other(if is_taken { anyhow!("{error:#}\n  choose {flag}") } else { error })
}
