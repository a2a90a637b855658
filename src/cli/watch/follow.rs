//! The loop of a watch: read, print, until the end.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    api::pb::WatchPeerStatusResponse,
    cli::{exit::Failure, target::Target},
    client::{Follower, Item, Messages, Notice},
};

/// How often an output may show what the time alone changes: ages are in seconds.
const TICK: Duration = Duration::from_secs(1);

/// Where a watch goes.
pub(crate) trait Sink: Send + 'static {
    /// Takes a message that is news.
    fn message(&mut self, message: &WatchPeerStatusResponse) -> Result<(), Failure>;
    /// Takes something about the watch itself.
    fn notice(&mut self, notice: &Notice);
    /// Called every second while there is a stream, and when it ends.
    fn tick(&mut self, is_end: bool) -> Result<(), Failure>;
}

/// Follows a watch until `stop`, or until there is nothing more to follow. Reconnects and resumes by itself.
pub(crate) async fn follow(
    server: &Target,
    follower: Follower,
    output: &mut impl Sink,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut watch = Messages::new(server.options(), follower);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_open = watch.is_open();
        let next = tokio::select! {
            () = stop.cancelled() => return output.tick(true),
            _ = ticks.tick(), if is_open => {
                output.tick(false)?;
                continue;
            }
            next = watch.next() => next,
        };
        match next {
            Ok(Some(Item::Message(message))) => output.message(&message)?,
            Ok(Some(Item::Notice(notice))) => output.notice(&notice),
            Ok(Some(Item::Ended)) => output.tick(true)?,
            Ok(None) => return output.tick(true),
            Err(error) => {
                output.tick(true)?;
                return Err(error.into());
            }
        }
    }
}
