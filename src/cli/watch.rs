//! `peerstatus watch`: follows the changes of peers, across lost connections.

mod flood;
pub(super) mod follow;
pub(super) mod notice;
pub(super) mod printer;
mod renderer;

use std::{io, time::Duration};

use clap::Args;
use clap_complete::ArgValueCompleter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{runtime::Handle, time::sleep};
use tokio_util::sync::CancellationToken;

use self::{
    follow::{Sink, follow},
    printer::Printer,
};
use crate::{
    api::pb::WatchPeerStatusRequest,
    cli::{
        GlobalArgs, complete, exit::Failure, filter::FilterArgs, listeners::parse_user_data, names,
        target::Target, text,
    },
    client::Follower,
};

/// How long to wait after Ctrl-C for a blocked output.
const OUTPUT_LINGER: Duration = Duration::from_millis(200);

/// For the state of the largest service over a slow network.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// How often to check whether the output was closed: rarely enough to cost nothing.
const OUTPUT_CHECK: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  peerstatus watch                            everything, until Ctrl-C
  peerstatus watch --peer '10.0.0.*'          some peers
  peerstatus watch --status ready             peers that become READY, or stop being it
  peerstatus watch --until-synced             the state now, and done; --timeout bounds it
  peerstatus watch -o json | jq '.change.peer // empty'  for machines
  peerstatus watch --listener noc             as a listener made by `listeners create`
  peerstatus watch --listener noc --resume    the same, beginning with what it missed

A peer that goes through the same changes every few seconds is folded: one line at least
every 10 s says how often, its status now and why it failed: `flapped × 40 in 10s` if READY
was reached and lost, `never READY × 40 in 10s` if not.

A listener has a cursor: the last change that was delivered to it, or its creation. With
--resume the watch begins there. Without, it begins with the present state, and skips the
changes in between.

While the service cannot be reached, or a proxy answers in its place, the watch tries
again until Ctrl-C; stderr says why. Only the service itself can refuse it. With
--until-synced the first attempt must succeed, unless --timeout says how long to try. A
connection that is lost later is made again, and the watch resumes where it was; stderr
reports that, and how many changes were missed if the service no longer has them. A
listener that the service has lost by then, since it was restarted or nobody watched for
too long, is made again as it was; one that somebody destroys ends the watch.";

/// The options of `watch`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    filter: FilterArgs,

    /// Attach to this listener and its filter, instead of one that goes with this command
    #[arg(
        long,
        value_name = "NAME",
        value_parser = names::listener,
        add = ArgValueCompleter::new(complete::listeners),
        conflicts_with_all = ["peers", "pools", "statuses", "origins", "interests", "user_data"]
    )]
    listener: Option<String>,

    /// End the stream that is attached to the listener, and replace it
    #[arg(long, requires = "listener")]
    takeover: bool,

    /// Begin after the last change that was delivered to the listener, and not with the state as it is now
    #[arg(long, requires = "listener")]
    resume: bool,

    /// Text that the service sends back with every change (shown with -o json, in base64)
    #[arg(long, value_name = "TEXT", value_parser = parse_user_data)]
    user_data: Option<String>,

    /// Print the state and exit
    #[arg(long)]
    until_synced: bool,

    /// With --until-synced: how long that may take, attempts to connect included [default: 30s, and one attempt]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, requires = "until_synced")]
    timeout: Option<Duration>,
}

impl WatchArgs {
    fn request(self) -> WatchPeerStatusRequest {
        WatchPeerStatusRequest {
            listener: self.listener.unwrap_or_default(),
            filter: self.filter.into_filter(),
            user_data: self.user_data.unwrap_or_default().into(),
            takeover: self.takeover,
            stop_after_sync: self.until_synced,
            ..WatchPeerStatusRequest::default()
        }
    }
}

/// Watches until Ctrl-C.
pub(crate) async fn run(args: WatchArgs, globals: &GlobalArgs) -> Result<(), Failure> {
    let printer = Printer::new(globals, args.until_synced);
    let keeps_trying = args.timeout.is_some();
    let (is_bounded, timeout) = (args.until_synced, args.timeout.unwrap_or(SYNC_TIMEOUT));
    let until = async {
        Err(tokio::select! {
            _ = tokio::signal::ctrl_c() => Failure::Interrupted,
            () = output_closed() => Failure::OutputClosed,
            () = sleep(timeout), if is_bounded => Failure::Unreachable(format!(
                "the service at {} has not sent all of its state within {}; --timeout allows more",
                globals.server,
                humantime::format_duration(timeout)
            )),
        })
    };
    let id = args.listener.as_deref().map(text::listener_name).unwrap_or_default().to_owned();
    let follower = match args.resume {
        true => Follower::resuming(args.request()),
        false => Follower::new(args.request()),
    };
    // Set by a script that waits for the service, such as `helm test`: what routes to a new pod can be late.
    let follower = if keeps_trying { follower.keep_trying() } else { follower };
    let ended = follow_until(globals.server.clone(), follower, printer, until).await;
    let make = format!(
        "make it with `peerstatus listeners create --id {id}`; `peerstatus listeners list` shows those that there are"
    );
    ended.map_err(|failure| {
        failure
            .advise("LISTENER_NOT_FOUND", &make)
            .advise("LISTENER_ATTACHED", "--takeover replaces the other stream")
    })
}

/// Follows a watch until it ends by itself, or `until` does.
pub(crate) async fn follow_until(
    server: Target,
    follower: Follower,
    mut output: impl Sink,
    until: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // On a thread of its own: an output that does not take what we have (Ctrl-S) blocks it in the middle of a line.
    // On a thread of the runtime, that could block the handling of signals.
    let runtime = Handle::current();
    let mut task = tokio::task::spawn_blocking(move || {
        runtime.block_on(follow(&server, follower, &mut output, &stopped))
    });
    let end = tokio::select! {
        end = &mut task => return end.map_err(|error| Failure::Other(error.into()))?,
        end = until => end,
    };
    stop.cancel();
    let _ = tokio::time::timeout(OUTPUT_LINGER, task).await;
    end
}

/// Returns when the reader has closed the output, so that `peerstatus watch | head -1` ends soon after `head` and not
/// with the next change, which may be hours away. Never for a file.
pub(super) async fn output_closed() {
    let mut ticks = tokio::time::interval(OUTPUT_CHECK);
    loop {
        ticks.tick().await;
        let stdout = io::stdout();
        let mut output = [PollFd::new(&stdout, PollFlags::empty())];
        let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        let asked = poll(&mut output, Some(&Timespec::default()));
        if asked.is_ok() && output.iter().any(|output| output.revents().intersects(gone)) {
            return;
        }
    }
}
