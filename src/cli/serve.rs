//! `peerstatus serve`: the service, until it is told to stop.

mod reload;

use std::{env, error::Error as _, io, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::interval,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use crate::{
    app::{Service, StartError},
    cli::{self, exit::Failure},
    config::{Config, Overrides},
    metrics::LoopMonitors,
    systemd::{self, Systemd},
    telemetry::{self, Logs},
};

const EXAMPLES: &str = "\
Examples:
  peerstatus serve --peer leaf-101:8009 --peer leaf-102:8009
  peerstatus serve --config /etc/peerstatus.toml
  peerstatus serve --config /etc/peerstatus.toml --check
  PEERSTATUS_PEERS=10.0.0.30:8009 peerstatus serve

Prints `listening on IP:PORT`, and a line for the socket if there is one, on standard output
when it takes requests; logs go to standard error. SIGTERM and Ctrl-C stop it in order: clients
are sent away, then peers are closed. A second signal stops it at once. SIGHUP has it read its
configuration anew, as it does when the file changes: peers, limits, who gets in and the log
level take effect.";

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
    let file = reload::File::look(&args.settings);
    let config = Config::load(args.settings.clone()).map_err(|error| Failure::Usage(error.to_string()))?;
    if args.check {
        let peers: usize = config.pools.iter().map(|pool| pool.peers.len()).sum();
        return cli::print([format!(
            "configuration is right: pools: {}, peers: {peers}",
            config.pools.len()
        )]);
    }
    let logs = telemetry::init(&config.log);
    let level = logs.as_ref().map(Logs::level);
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let systemd = Arc::new(Systemd::at(env::var_os("NOTIFY_SOCKET").as_deref()));
    let socket = config.socket.as_ref().map(|socket| socket.path.clone());
    let mut service = Service::start(config).await.map_err(not_started)?;
    let socket = socket.map(|path| format!("listening on unix:{}", path.display()));
    cli::print([format!("listening on {}", service.address())].into_iter().chain(socket))?;
    systemd.ready();
    let _watchdog =
        watchdog().map(|every| run_beside(keep_alive(every, service.turns().clone(), Arc::clone(&systemd))));
    let _reloads = service.take_reloader().map(|reloader| {
        run_beside(reload::keep(reloader, args.settings, file, hangup, level, Arc::clone(&systemd)))
    });
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
        systemd.stopping();
        stop.cancel();
    }
}

fn run_beside(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

fn watchdog() -> Option<Duration> {
    let (micros, process) = (env::var("WATCHDOG_USEC").ok(), env::var("WATCHDOG_PID").ok());
    systemd::watchdog(micros.as_deref(), process.as_deref(), std::process::id())
}

/// Tells systemd that the service is alive, as long as its event loops turn.
async fn keep_alive(every: Duration, turns: LoopMonitors, systemd: Arc<Systemd>) {
    // Twice in the time, as it asks for: one may be late.
    let mut often = interval((every / 2).max(Duration::from_millis(1)));
    loop {
        often.tick().await;
        if turns.since() < every {
            systemd.alive();
        }
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
