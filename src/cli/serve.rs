//! `peerstatus serve`: runs the service until a signal stops it.

mod config_watch;

use std::{error::Error as _, io, time::Duration};

use anyhow::{Context as _, anyhow};
use clap::Args;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::{interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};
use tracing_appender::non_blocking::ErrorCounter;

use crate::{
    app::{LoadedConfig, Service, StartError},
    cli::{self, GlobalArgs, exit::Failure},
    config::{Overrides, Role},
    metrics::LoopMonitors,
    observe::check_log,
    telemetry::{self, Logs},
};

/// How long to wait for systemd to read a notification before stopping.
const STOPPING_TIMEOUT: Duration = Duration::from_secs(1);

/// How often to check whether log lines were dropped.
const DROPPED_INTERVAL: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Examples:
  peerstatus serve --peer leaf-101:8009 --peer leaf-102:8009
  peerstatus serve --config /etc/peerstatus.toml
  peerstatus serve --config /etc/peerstatus.toml --check
  PEERSTATUS_PEERS=10.0.0.30:8009 peerstatus serve

Prints `listening on IP:PORT`, and a line for the socket if there is one, on standard output
when it takes requests; logs go to standard error. SIGTERM and Ctrl-C stop it gracefully: the
streams of clients end, then the connections to peers close. A second signal stops it at once.
SIGHUP reloads the configuration, as a change of the file does: peers, limits, TLS,
authentication and the log level take effect.";

/// The options of `serve`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    settings: Overrides,

    /// Check the configuration and exit
    #[arg(long)]
    check: bool,
}

const FLEET_EXAMPLES: &str = "\
Examples:
  peerstatus fleet --fleet-cluster lab --fleet-nats nats://nats:4222
  peerstatus fleet --config /etc/peerstatus-fleet.toml
  peerstatus --server 127.0.0.1:50051 nodes list

Reads what the nodes of a cluster publish to NATS JetStream, and serves the same API for all of
them. It has no pools and no state of its own: run as many as you like. docs/fleet.md has more.";

/// The options of `fleet`.
#[derive(Debug, Args)]
#[command(after_help = FLEET_EXAMPLES)]
pub(crate) struct FleetArgs {
    #[command(flatten)]
    serve: ServeArgs,
}

/// Serves a fleet until a signal.
pub(crate) async fn run_fleet(args: FleetArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let ServeArgs { settings, check } = args.serve;
    run(ServeArgs { settings: Overrides { role: Role::Fleet, ..settings }, check }, globals).await
}

/// Serves until a signal.
pub(crate) async fn run(args: ServeArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let file = config_watch::watch(&args.settings);
    let loaded = LoadedConfig::load(&args.settings).map_err(|error| Failure::Usage(error.to_string()))?;
    let config = loaded.config();
    let warnings = config.warnings();
    if args.check {
        let mut notices = globals.notices();
        let of_logs = config.pools.iter().filter_map(|pool| {
            let missing = check_log(pool.log.as_ref()?).err()?;
            Some(format!(
                "pool {:?}: {missing}; it is UNKNOWN until the log of the agent can be read",
                pool.name
            ))
        });
        let all = warnings.into_iter().chain(of_logs);
        all.for_each(|warning| notices.print(&format!("warning: {warning}")));
        let peers: usize = config.pools.iter().map(|pool| pool.peers.len()).sum();
        return cli::print([format!(
            "configuration is valid: pools: {}, peers: {peers}",
            config.pools.len()
        )]);
    }
    let logs = telemetry::init(&config.log);
    let level = logs.as_ref().map(Logs::level);
    let _dropped = logs.as_ref().map(|logs| spawn_guarded(report_dropped(logs.dropped())));
    warnings.iter().for_each(|warning| warn!("{warning}"));
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let socket = config.server.socket.as_ref().map(|socket| socket.path.clone());
    let mut service = Service::start(loaded).await.map_err(not_started)?;
    let socket = socket.map(|path| format!("listening on unix:{}", path.display()));
    print_addresses([format!("listening on {}", service.address())].into_iter().chain(socket).collect());
    notify_systemd(vec![NotifyState::Ready]).await;
    let watchdog = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero());
    let _watchdog = watchdog.map(|timeout| spawn_guarded(feed_watchdog(timeout, service.loops().clone())));
    let _reloads = service
        .take_reloader()
        .map(|reloader| spawn_guarded(config_watch::run(reloader, args.settings, file, hangup, level)));
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
        let _ = timeout(STOPPING_TIMEOUT, notify_systemd(vec![NotifyState::Stopping])).await;
        stop.cancel();
    }
}

/// Prints the addresses beside the service, which runs whether anybody reads them or not.
fn print_addresses(lines: Vec<String>) {
    tokio::spawn(async {
        if let Ok(Err(error)) = spawn_blocking(|| cli::print(lines)).await {
            warn!(%error, "cannot print the addresses on standard output");
        }
    });
}

/// Logs how many lines were dropped because standard error was not read.
async fn report_dropped(dropped: ErrorCounter) {
    let (mut every, mut reported) = (interval(DROPPED_INTERVAL), 0);
    loop {
        every.tick().await;
        let total = dropped.dropped_lines();
        if total > reported {
            warn!(dropped = total - reported, "log lines were dropped: standard error is read too slowly");
            reported = total;
        }
    }
}

fn spawn_guarded(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// Notifies systemd if it has started the service with `Type=notify`, which sets `NOTIFY_SOCKET`.
async fn notify_systemd(states: Vec<NotifyState<'static>>) {
    // Sending blocks while systemd does not read from its socket.
    let sent = spawn_blocking(move || sd_notify::notify(&states).map_err(|error| (error, states))).await;
    if let Ok(Err((error, states))) = sent {
        debug!(%error, ?states, "cannot notify systemd");
    }
}

/// Notifies the watchdog of systemd as long as the event loops run.
async fn feed_watchdog(timeout: Duration, loops: LoopMonitors) {
    // Twice per timeout, as systemd recommends: one notification may be late.
    let mut often = interval((timeout / 2).max(Duration::from_millis(1)));
    loop {
        often.tick().await;
        if loops.since_last_run() < timeout {
            notify_systemd(vec![NotifyState::Watchdog]).await;
        }
    }
}

/// The error of a failed start, with advice if the address is in use.
pub(crate) fn not_started(error: StartError) -> Failure {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let is_taken = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::AddrInUse);
    let flag = match error {
        StartError::BindAdmin { .. } => "another address with --admin, or --admin off",
        _ => "another address with --listen",
    };
    let error = anyhow::Error::new(error);
    Failure::Other(if is_taken { anyhow!("{error:#}\n  choose {flag}") } else { error })
}
