//! `peerstatus top`: pools and peers on the whole terminal, kept up to date by a watch that resumes by itself.
//!
//! [`Model`] is the state; keys, messages and answers change it. [`view`] draws it. [`screen`] owns the terminal and its
//! thread, [`service`] has the watch and the calls.

mod details;
mod keys;
mod model;
mod paint;
mod screen;
mod service;
mod view;

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use clap::{Args, ColorChoice};
use clap_complete::ArgValueCompleter;
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::{model::Model, paint::Look, service::Service};
use super::{
    GlobalArgs, complete,
    exit::Failure,
    names,
    peers::list::live::ask_again,
    pool,
    target::Target,
    watch::{follow_until, output_closed},
};
use crate::api::pb::{ListenerFilter, WatchPeerStatusRequest};
use crate::client::Follower;

/// For the screen's thread to notice the end, and for a slow terminal to take the sequences that restore it.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  peerstatus top
  peerstatus top --server leaf-host:50051
  peerstatus top --node 'worker-1*'      of a fleet, which has a column NODE
  LANG=C peerstatus top --color never     ASCII alone, without colour

Keys:
  arrows, j k, PgUp PgDn, Home End   move
  Enter, Esc                         details and history of a peer, and back
  /                                  only peers with these words: a part of an address, a status, a
                                     reason; Enter keeps the filter, Esc clears it
  w n f F                            order: worst first, by name, by flaps, by failures
  p                                  one pool after the other, then all
  r                                  reset the peer, after a question (role operator)
  ?                                  help
  q, Ctrl-C                          quit

The order and the columns are those of `peers list`. The first line says whether the display
is live. When the connection is lost, it says since when and why; the watch connects again
and resumes by itself. If standard output is no terminal, use `peerstatus peers list --watch`
or `peerstatus watch`.";

/// The options of `top`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TopArgs {
    /// Only nodes whose name matches (* and ? are wildcards), in a fleet; may be repeated
    #[arg(long = "node", value_name = "GLOB", value_parser = names::glob, add = ArgValueCompleter::new(complete::nodes))]
    nodes: Vec<String>,
}

/// How the display ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By `q`, or because the time is over.
    Quit,
    /// By Ctrl-C.
    Interrupted,
    /// By SIGTERM.
    Terminated,
}

/// Runs the command.
pub(crate) async fn run(args: TopArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    require_terminal()?;
    // A wrong address or missing credentials are reported before the screen is taken.
    pool::pools(&globals.connect().await?).await?;
    let display = Display { nodes: args.nodes, ..Display::new(globals.server.clone()) };
    match display.show(globals.color, std::future::pending()).await? {
        End::Quit => Ok(()),
        End::Interrupted => Err(Failure::Interrupted),
        End::Terminated => Err(Failure::Terminated),
    }
}

/// Fails if stdout is no terminal that can be drawn on.
pub(crate) fn require_terminal() -> Result<(), Failure> {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let problem = match io::stdout().is_terminal() {
        true if is_dumb => "TERM is `dumb`",
        true => return Ok(()),
        false => "standard output is not a terminal",
    };
    let instead = "`peerstatus peers list --watch` and `peerstatus watch` print lines instead";
    Err(Failure::Usage(format!("top: {problem}; {instead}")))
}

/// The display of a service on the terminal.
pub(crate) struct Display {
    server: Target,
    /// Globs for the nodes to show.
    nodes: Vec<String>,
    model: Arc<Mutex<Model>>,
}

impl Display {
    pub(crate) fn new(server: Target) -> Self {
        let model = Arc::new(Mutex::new(Model::new(server.to_string())));
        Self { server, nodes: Vec::new(), model }
    }

    /// Shows a line below the peers, until the next one or a key.
    pub(crate) fn messages(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let model = Arc::clone(&self.model);
        move |line| model.lock().tell(line.to_owned())
    }

    /// Takes the terminal until a key, a signal or `until` ends it. It is then as it was.
    pub(crate) async fn show(
        self,
        color: ColorChoice,
        until: impl Future<Output = Result<End, Failure>>,
    ) -> Result<End, Failure> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let Self { server, nodes, model } = self;
        let counters = Arc::new(Mutex::new(Vec::new()));
        let (stop, (ended, end)) = (CancellationToken::new(), oneshot::channel());
        let screen = spawn_blocking({
            let service = Service::new(server.clone(), Arc::clone(&model), Handle::current());
            let (model, counters, stop) = (Arc::clone(&model), Arc::clone(&counters), stop.clone());
            // A thread of its own: a terminal that takes no output must not delay signals.
            move || {
                drop(ended.send(screen::run(&model, &counters, &service, Look::of_terminal(color), &stop)))
            }
        });
        let mut how = End::Quit;
        let until = async {
            how = tokio::select! {
                end = end => end.unwrap_or_else(|_| Err(anyhow!("the display failed").into()))?,
                end = until => end?,
                _ = terminate.recv() => End::Terminated,
                _ = interrupt.recv() => End::Interrupted,
                () = output_closed() => return Err(Failure::OutputClosed),
                () = ask_again("", &server, &counters) => End::Quit,
                () = service::ask_for_nodes(&server, &model) => End::Quit,
            };
            Ok(())
        };
        let filter = (!nodes.is_empty()).then(|| ListenerFilter { nodes, ..Default::default() });
        let follower = Follower::new(WatchPeerStatusRequest { filter, ..Default::default() });
        let followed =
            follow_until(server.clone(), follower, service::Feed::new(Arc::clone(&model)), until).await;
        stop.cancel();
        if timeout(RESTORE_TIMEOUT, screen).await.is_err() {
            screen::leave_raw_mode();
        }
        followed.map(|()| how)
    }
}

#[cfg(test)]
mod tests;
