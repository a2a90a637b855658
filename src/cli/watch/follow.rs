//! The loop around [`Follower`]: connect, read, print, and again.

use std::time::Duration;

use tokio::time::{Instant, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};

use crate::{
    api::pb::WatchPeerStatusResponse,
    cli::{
        client::{CALL_TIMEOUT, Client, promised},
        exit::{self, Failure},
        target::Target,
        watch::{
            follower::{Follower, Next, StreamEnd},
            notice::Notice,
        },
    },
};

/// The service sends a heartbeat after this long without another message, unless the request says otherwise.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Three heartbeats, and 5 s for delays: a proxy can keep a connection open that delivers nothing.
const SILENCE_TIMEOUT: Duration = HEARTBEAT_INTERVAL.saturating_mul(3).saturating_add(Duration::from_secs(5));

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
    mut follower: Follower,
    output: &mut impl Sink,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    loop {
        let Some(end) = stop.run_until_cancelled(watch_once(server, &mut follower, output)).await else {
            return output.tick(true);
        };
        let next = follower.ended(end?);
        output.tick(true)?;
        match next {
            Next::Done => return Ok(()),
            Next::Fail(failure) => return Err(failure),
            Next::Retry { after, notice } => {
                if let Some(notice) = notice {
                    output.notice(&notice);
                }
                if stop.run_until_cancelled(sleep(after)).await.is_none() {
                    return Ok(());
                }
            }
        }
    }
}

/// One stream, from the connection to its end.
async fn watch_once(
    server: &Target,
    follower: &mut Follower,
    output: &mut impl Sink,
) -> Result<StreamEnd, Failure> {
    let mut stream = match open(server, follower).await {
        Ok(stream) => stream,
        Err(end) => return Ok(end),
    };
    let (mut ticks, mut last_message) = (interval(TICK), Instant::now());
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            _ = ticks.tick() => {
                output.tick(false)?;
                match last_message.elapsed() < SILENCE_TIMEOUT {
                    true => continue,
                    false => return Ok(no_message(SILENCE_TIMEOUT)),
                }
            }
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(StreamEnd::Closed),
            Err(status) => return Ok(StreamEnd::Status(status)),
        };
        last_message = Instant::now();
        let (is_news, notices) = follower.apply(&message);
        notices.iter().for_each(|notice| output.notice(notice));
        if is_news {
            output.message(&message)?;
        }
    }
}

async fn open(
    server: &Target,
    follower: &mut Follower,
) -> Result<Streaming<WatchPeerStatusResponse>, StreamEnd> {
    let client = Client::connect(server).await.map_err(|failure| match failure {
        Failure::Unreachable(cause) => StreamEnd::Lost(cause),
        failure => StreamEnd::Failed(failure),
    })?;
    let mut listeners = client.listeners();
    if let Some(request) = follower.cursor_request() {
        let response = answer(listeners.get_listener(request)).await?;
        let listener = promised(response.listener, "listener").map_err(StreamEnd::Failed)?;
        follower.begin_after(listener.cursor);
    }
    if let Some(listener) = follower.lost_listener() {
        match answer(listeners.create_listener(listener)).await {
            Err(StreamEnd::Status(status)) if exit::reason(&status) == "LISTENER_EXISTS" => {} // another client made it
            created => drop(created?),
        }
    }
    answer(listeners.watch_peer_status(follower.request())).await
}

async fn answer<M>(rpc: impl Future<Output = Result<Response<M>, Status>>) -> Result<M, StreamEnd> {
    match timeout(CALL_TIMEOUT, rpc).await {
        Ok(answer) => answer.map(Response::into_inner).map_err(StreamEnd::Status),
        Err(_) => Err(no_message(CALL_TIMEOUT)),
    }
}

fn no_message(time: Duration) -> StreamEnd {
    StreamEnd::Lost(format!("no message from the service for {} s", time.as_secs()))
}
