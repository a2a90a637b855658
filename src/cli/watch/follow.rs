//! The loop around [`Follower`]: connect, read, print, and again.

use std::time::Duration;

use tokio::time::{error::Elapsed, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status, Streaming};

use crate::{
    cli::{
        client::{CALL_TIMEOUT, Client},
        exit::Failure,
        target::Target,
        watch::{
            follower::{End, Follower, Next},
            printer::Printer,
        },
    },
    grpc::pb::{CreateListenerRequest, WatchPeerStatusRequest, WatchPeerStatusResponse},
};

/// The service sends a heartbeat after this long without another message, unless the request says otherwise.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Three heartbeats lost, and 5 s for delays: something in between keeps the connection up and delivers nothing.
const SILENCE_TIMEOUT: Duration = HEARTBEAT_INTERVAL.saturating_mul(3).saturating_add(Duration::from_secs(5));

/// Follows a watch until `stop`, or until there is nothing more to follow. Reconnects and resumes by itself.
///
/// # Errors
/// The first connection failed, the service said something that trying again would not change, or the output is
/// closed.
pub async fn follow(
    server: &Target,
    request: WatchPeerStatusRequest,
    printer: &mut Printer,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut follower = Follower::new(request);
    loop {
        let Some(end) = stop.run_until_cancelled(attend(server, &mut follower, printer)).await else {
            return Ok(());
        };
        match follower.ended(end?, fastrand::f64()) {
            Next::Done => return Ok(()),
            Next::Fail(failure) => return Err(failure),
            Next::Retry { after, notice } => {
                if let Some(notice) = notice {
                    printer.notice(&notice);
                }
                if stop.run_until_cancelled(sleep(after)).await.is_none() {
                    return Ok(());
                }
            }
        }
    }
}

/// One stream, from the connection to its end.
async fn attend(server: &Target, follower: &mut Follower, printer: &mut Printer) -> Result<End, Failure> {
    let mut stream = match open(server, follower).await {
        Ok(stream) => stream,
        Err(end) => return Ok(end),
    };
    loop {
        let message = match timeout(SILENCE_TIMEOUT, stream.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Ok(End::Closed),
            Ok(Err(status)) => return Ok(End::Status(status)),
            Err(_) => return Ok(silence(SILENCE_TIMEOUT)),
        };
        let heard = follower.heard(&message);
        heard.notices.iter().for_each(|notice| printer.notice(notice));
        if heard.show {
            printer.message(&message)?;
        }
    }
}

async fn open(server: &Target, follower: &Follower) -> Result<Streaming<WatchPeerStatusResponse>, End> {
    let client = Client::connect(server).await.map_err(|failure| End::Lost(failure.to_string()))?;
    if let Some(listener) = follower.lost_listener() {
        make_again(&client, listener).await?;
    }
    let mut listeners = client.listeners();
    answered(timeout(CALL_TIMEOUT, listeners.watch_peer_status(follower.request())).await)
}

/// Somebody else may have made the listener meanwhile, with whom it is shared as before.
async fn make_again(client: &Client, listener: CreateListenerRequest) -> Result<(), End> {
    match answered(timeout(CALL_TIMEOUT, client.listeners().create_listener(listener)).await) {
        Err(End::Status(status)) if status.code() == Code::AlreadyExists => Ok(()),
        created => created.map(drop),
    }
}

fn answered<M>(answer: Result<Result<Response<M>, Status>, Elapsed>) -> Result<M, End> {
    match answer {
        Ok(answer) => answer.map(Response::into_inner).map_err(End::Status),
        Err(_) => Err(silence(CALL_TIMEOUT)),
    }
}

fn silence(time: Duration) -> End {
    End::Lost(format!("nothing heard from the service for {} s", time.as_secs()))
}
